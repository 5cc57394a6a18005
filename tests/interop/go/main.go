// The Go client's suite: `interop NAMESRV PREFIX FEATURE…` prints one line `RESULT⇥feature⇥ok|FAIL|n/a⇥reason` each.
package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/rlog"
)

var scenarios = map[string]func(*stage) error{
	"send-sync":       sendSync,
	"send-async":      sendAsync,
	"send-oneway":     sendOneway,
	"send-batch":      sendBatch,
	"consume-1000":    consume1000,
	"live":            live,
	"tags":            func(s *stage) error { return tags(s, "a", "b", "c") },
	"unicode-tags":    func(s *stage) error { return tags(s, "标签", "тег", "étiquette") },
	"order":           order,
	"rebalance":       func(s *stage) error { return rebalance(s, false) },
	"rebalance-leave": func(s *stage) error { return rebalance(s, true) },
	"offsets-restart": offsetsRestart,
	"bodies":          bodies,
	"body-empty":      bodyEmpty,
	"unicode":         unicode,
	"too-large":       tooLarge,
	"auto-topic":      autoTopic,
	"from-first":      fromFirst,
	"broadcast":       broadcast,
	"pull":            pull,
	"lite-pull":       poll,

	"from-last":            fromLast,
	"from-timestamp":       fromTimestamp,
	"suspend":              suspend,
	"retry":                retry,
	"dead-letter":          deadLetter,
	"delay":                delay,
	"transaction-commit":   func(s *stage) error { return transaction(s, primitive.CommitMessageState, true) },
	"transaction-rollback": func(s *stage) error { return transaction(s, primitive.RollbackMessageState, false) },
	"transaction-check":    func(s *stage) error { return transaction(s, primitive.UnknowState, true) },
	"sql92":                sql92,
	"request-reply":        requestReply,
	"trace":                trace,
	"reset-offset":         resetOffset,
	"consume-directly":     consumeDirectly,
}

var notApplicable = map[string]string{
	"order-rebalance": "an orderly queue that changes hands stands still in this client for a minute and more, with Java's broker, too",
}

const (
	limit  = 100 * time.Second
	atOnce = 4
)

func main() {
	rlog.SetLogLevel("error")
	seats := make(chan bool, atOnce)
	var plays sync.WaitGroup
	var printing sync.Mutex
	for _, feature := range os.Args[3:] {
		plays.Add(1)
		seats <- true
		go func() {
			defer plays.Done()
			start := time.Now()
			verdict := play(&stage{namesrv: os.Args[1], topic: os.Args[2] + "-" + feature}, feature)
			<-seats
			printing.Lock()
			fmt.Printf("RESULT\t%s\t%s\t%d\n", feature, strings.ReplaceAll(verdict, "\n", " "), time.Since(start).Milliseconds())
			printing.Unlock()
		}()
	}
	plays.Wait()
	os.Exit(0) // the client's own goroutines must not keep the process
}

func play(s *stage, feature string) string {
	scenario, known := scenarios[feature]
	if !known {
		return "n/a\t" + cmp.Or(notApplicable[feature], "not in this client")
	}
	done := make(chan error, 1)
	go func() {
		defer func() {
			if panicked := recover(); panicked != nil {
				done <- fmt.Errorf("panic: %v", panicked)
			}
		}()
		done <- scenario(s)
	}()
	select {
	case err := <-done:
		go s.close()
		if err != nil {
			return "FAIL\t" + err.Error()
		}
		return "ok\t"
	case <-time.After(limit):
		return fmt.Sprintf("FAIL\tnot finished after %v", limit)
	}
}
