// What every scenario of the Go client stands on: a topic of its own, producers and consumers that are closed at the
// end, and the check that a set of bodies arrived, each once. Knows nothing of any feature.
package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/admin"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

type stage struct {
	namesrv, topic string
	clients        int
	closers        []func()
}

func (s *stage) group(suffix string) string { return s.topic + "-" + suffix }

func (s *stage) instance() string {
	s.clients++
	return fmt.Sprintf("%s-%d", s.topic, s.clients)
}

func (s *stage) resolver() primitive.NsResolver {
	return primitive.NewPassthroughResolver([]string{s.namesrv})
}

func (s *stage) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

func (s *stage) producer(options ...producer.Option) (rocketmq.Producer, error) {
	p, err := rocketmq.NewProducer(append([]producer.Option{
		producer.WithNsResolver(s.resolver()),
		producer.WithGroupName(s.group("p")),
		producer.WithInstanceName(s.instance()),
		producer.WithRetry(2),
	}, options...)...)
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() { p.Shutdown() })
	return p, p.Start()
}

// consumer starts one in the group; the topic must have a route by then, or the client refuses to start.
func (s *stage) consumer(group, topic string, selector consumer.MessageSelector, box receiver, options ...consumer.Option) (rocketmq.PushConsumer, error) {
	c, err := rocketmq.NewPushConsumer(append([]consumer.Option{
		consumer.WithNsResolver(s.resolver()),
		consumer.WithGroupName(group),
		consumer.WithInstance(s.instance()),
		consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset),
	}, options...)...)
	if err != nil {
		return nil, err
	}
	if err := c.Subscribe(topic, selector, box.receive); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() { c.Shutdown() })
	return c, c.Start()
}

// route waits until the name server knows the topic.
func (s *stage) route(topic string) ([]*primitive.MessageQueue, error) {
	a, err := admin.NewAdmin(admin.WithResolver(s.resolver()))
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		queues, err := a.FetchPublishMessageQueues(context.Background(), topic)
		if err == nil && len(queues) > 0 || time.Now().After(end) {
			return queues, err
		}
	}
}

// choosing makes the topic with a first message; the producer leaves it to its caller which queue a message goes to.
func (s *stage) choosing() (rocketmq.Producer, []*primitive.MessageQueue, error) {
	p, err := s.producer(producer.WithQueueSelector(producer.NewManualQueueSelector()))
	if err != nil {
		return nil, nil, err
	}
	starter, err := s.producer()
	if err != nil {
		return nil, nil, err
	}
	if _, err := s.send(starter, "first", 0, 1); err != nil {
		return nil, nil, err
	}
	queues, err := s.route(s.topic)
	return p, queues, err
}

func (s *stage) send(p rocketmq.Producer, tag string, from, count int) ([]string, error) {
	var sent []string
	for i := from; i < from+count; i++ {
		text := body(fmt.Sprintf("%s%d", tag, i), 64)
		result, err := p.SendSync(context.Background(), primitive.NewMessage(s.topic, []byte(text)).WithTag(tag))
		if err != nil {
			return sent, err
		}
		if result.Status != primitive.SendOK {
			return sent, fmt.Errorf("status %d", result.Status)
		}
		sent = append(sent, text)
	}
	return sent, nil
}

// expect lets a fresh group read the topic from its beginning: exactly these bodies.
func (s *stage) expect(bodies []string) error {
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	in := &inbox{}
	if _, err := s.consumer(s.group(fmt.Sprintf("expect%d", s.clients)), s.topic, all, in); err != nil {
		return err
	}
	return in.exactly(bodies)
}

var all = tag("*")

func tag(expression string) consumer.MessageSelector {
	return consumer.MessageSelector{Type: consumer.TAG, Expression: expression}
}

type receiver interface {
	receive(context.Context, ...*primitive.MessageExt) (consumer.ConsumeResult, error)
}

type inbox struct {
	lock     sync.Mutex
	messages []*primitive.MessageExt
	arrivals []time.Time
}

func (in *inbox) receive(_ context.Context, batch ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	in.add(batch...)
	return consumer.ConsumeSuccess, nil
}

func (in *inbox) add(batch ...*primitive.MessageExt) {
	in.lock.Lock()
	defer in.lock.Unlock()
	for _, message := range batch {
		in.messages = append(in.messages, message)
		in.arrivals = append(in.arrivals, time.Now())
	}
}

func (in *inbox) snapshot() []*primitive.MessageExt {
	in.lock.Lock()
	defer in.lock.Unlock()
	return append([]*primitive.MessageExt(nil), in.messages...)
}

func (in *inbox) atLeast(count int, patience time.Duration) error {
	for end := time.Now().Add(patience); len(in.snapshot()) < count; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("after %v %d of %d messages", patience, len(in.snapshot()), count)
		}
	}
	return nil
}

// exactly: these bodies, intact, each once, and nothing else within a second.
func (in *inbox) exactly(bodies []string) error {
	if err := in.atLeast(len(bodies), 45*time.Second); err != nil {
		return err
	}
	time.Sleep(time.Second)
	seen := map[string]int{}
	for _, message := range in.snapshot() {
		text := string(message.Body)
		if !intact(text) {
			return fmt.Errorf("a body arrived changed: %.40s", text)
		}
		seen[text]++
	}
	for _, text := range bodies {
		if seen[text] != 1 {
			return fmt.Errorf("arrived %d times: %.40s", seen[text], text)
		}
	}
	if len(seen) != len(bodies) {
		return fmt.Errorf("%d bodies instead of %d", len(seen), len(bodies))
	}
	return nil
}

// body carries its own checksum: `name:filler:crc32`.
func body(name string, filler int) string {
	random := rand.New(rand.NewSource(int64(crc32.ChecksumIEEE([]byte(name)))))
	var text strings.Builder
	text.WriteString(name + ":")
	for i := 0; i < filler; i++ {
		text.WriteByte(byte('a' + random.Intn(26)))
	}
	return fmt.Sprintf("%s:%x", text.String(), crc32.ChecksumIEEE([]byte(text.String())))
}

func intact(text string) bool {
	colon := strings.LastIndex(text, ":")
	return colon > 0 && fmt.Sprintf("%x", crc32.ChecksumIEEE([]byte(text[:colon]))) == text[colon+1:]
}

func check(holds bool, otherwise string, arguments ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(otherwise, arguments...)
}

func first(failures ...error) error { return errors.Join(failures...) }
