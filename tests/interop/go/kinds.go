// The Go client's second tier: retries, dead letters, delays, transactions, filters, request-reply, trace.
package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// refusing answers "later" for as many deliveries as asked, then takes the message.
type refusing struct {
	inbox
	refusals int32
	level    int
}

func (r *refusing) receive(context_ context.Context, batch ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	r.add(batch...)
	if concurrent, ok := primitive.GetConcurrentlyCtx(context_); ok {
		concurrent.DelayLevelWhenNextConsume = r.level
	}
	if batch[0].ReconsumeTimes < r.refusals {
		return consumer.ConsumeRetryLater, nil
	}
	return consumer.ConsumeSuccess, nil
}

func retry(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	sent, err := s.send(p, "n", 0, 3)
	if err != nil {
		return err
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	in := &refusing{refusals: 2, level: 1}
	if _, err := s.consumer(s.group("c"), s.topic, all, in); err != nil {
		return err
	}
	if err := in.atLeast(9, 80*time.Second); err != nil {
		return err
	}
	time.Sleep(1500 * time.Millisecond)
	times := map[string]string{}
	for _, message := range in.snapshot() {
		if message.Topic != s.topic {
			return fmt.Errorf("redelivered with topic %s", message.Topic)
		}
		times[string(message.Body)] += fmt.Sprint(message.ReconsumeTimes)
	}
	for _, text := range sent {
		if times[text] != "012" {
			return fmt.Errorf("reconsume times %q", times[text])
		}
	}
	return nil
}

func deadLetter(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	sent, err := s.send(p, "n", 0, 3)
	if err != nil {
		return err
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	never := &refusing{refusals: 1 << 30, level: 1}
	if _, err := s.consumer(s.group("c"), s.topic, all, never, consumer.WithMaxReconsumeTimes(1)); err != nil {
		return err
	}
	if err := never.atLeast(6, 60*time.Second); err != nil {
		return err
	}
	dead := "%DLQ%" + s.group("c")
	if _, err := s.route(dead); err != nil {
		return err
	}
	in := &inbox{}
	if _, err := s.consumer(s.group("dead"), dead, all, in); err != nil {
		return err
	}
	return first(in.exactly(sent), check(len(never.snapshot()) == 6, "%d deliveries of 3 messages with one retry each", len(never.snapshot())))
}

func delay(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	sent, err := s.send(p, "first", 0, 1)
	if err != nil {
		return err
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	in := &inbox{}
	if _, err := s.consumer(s.group("c"), s.topic, all, in); err != nil {
		return err
	}
	if err := in.atLeast(1, 45*time.Second); err != nil {
		return err
	}
	due := map[string]time.Time{}
	for i := 0; i <= 10; i++ {
		text := body(fmt.Sprintf("delayed%d", i), 20)
		level, wait := 1, time.Second
		if i == 0 {
			level, wait = 2, 5*time.Second
		}
		due[text] = time.Now().Add(wait)
		sent = append(sent, text)
		if _, err := p.SendSync(context.Background(), primitive.NewMessage(s.topic, []byte(text)).WithDelayTimeLevel(level)); err != nil {
			return err
		}
	}
	if err := in.exactly(sent); err != nil {
		return err
	}
	for i, message := range in.messages[1:] {
		late := in.arrivals[i+1].Sub(due[string(message.Body)])
		if err := check(late > -2*time.Millisecond && late < 5*time.Second, "late by %v", late); err != nil {
			return err
		}
	}
	return check(strings.HasPrefix(string(in.messages[11].Body), "delayed0:"), "the last is %.20s", in.messages[11].Body)
}

type listener struct {
	said   primitive.LocalTransactionState
	in     *inbox
	early  atomic.Bool
	checks atomic.Int32
}

func (l *listener) ExecuteLocalTransaction(*primitive.Message) primitive.LocalTransactionState {
	time.Sleep(time.Second)
	l.early.Store(len(l.in.snapshot()) > 1)
	return l.said
}

func (l *listener) CheckLocalTransaction(*primitive.MessageExt) primitive.LocalTransactionState {
	l.checks.Add(1)
	return primitive.CommitMessageState
}

func transaction(s *stage, said primitive.LocalTransactionState, visible bool) error {
	in := &inbox{}
	l := &listener{said: said, in: in}
	p, err := rocketmq.NewTransactionProducer(l, producer.WithNsResolver(s.resolver()), producer.WithGroupName(s.group("tx")),
		producer.WithInstanceName(s.instance()))
	if err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	s.closers = append(s.closers, func() { p.Shutdown() })
	plain, err := s.producer()
	if err != nil {
		return err
	}
	sent, err := s.send(plain, "first", 0, 1)
	if err != nil {
		return err
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	if _, err := s.consumer(s.group("c"), s.topic, all, in); err != nil {
		return err
	}
	if err := in.atLeast(1, 45*time.Second); err != nil {
		return err
	}
	text := body("half", 30)
	result, err := p.SendMessageInTransaction(context.Background(), primitive.NewMessage(s.topic, []byte(text)).WithTag("tag"))
	if err != nil {
		return err
	}
	if err := check(result.Status == primitive.SendOK, "half message: %v", result); err != nil {
		return err
	}
	if visible {
		sent = append(sent, text)
	} else {
		time.Sleep(5 * time.Second)
	}
	expected := int32(0)
	if said == primitive.UnknowState {
		expected = 1
	}
	return first(in.exactly(sent), check(!l.early.Load(), "visible before it was committed"),
		check(l.checks.Load() == expected, "%d check-backs instead of %d", l.checks.Load(), expected))
}

func sql92(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	var wanted []string
	for i := 0; i < 40; i++ {
		text := body(fmt.Sprintf("n%d", i), 20)
		message := primitive.NewMessage(s.topic, []byte(text)).WithTag("tag")
		message.WithProperty("n", strconv.Itoa(i))
		message.WithProperty("colour", map[bool]string{true: "red", false: "blue"}[i%4 == 0])
		if _, err := p.SendSync(context.Background(), message); err != nil {
			return err
		}
		if i > 9 && i%4 == 0 {
			wanted = append(wanted, text)
		}
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	in := &inbox{}
	selector := consumer.MessageSelector{Type: consumer.SQL92, Expression: "n > 9 AND colour = 'red' AND TAGS IS NOT NULL"}
	if _, err := s.consumer(s.group("c"), s.topic, selector, in); err != nil {
		return err
	}
	return in.exactly(wanted)
}

type answering struct {
	inbox
	answerer rocketmq.Producer
}

func (a *answering) receive(_ context.Context, batch ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	for _, message := range batch {
		if message.GetTags() != "question" {
			continue
		}
		reply, err := consumer.CreateReplyMessage(message, nil)
		if err == nil {
			reply.Body = append([]byte("re: "), message.Body...) // the client takes the body for properties and drops it
			_, err = a.answerer.SendSync(context.Background(), reply)
		}
		if err != nil {
			fmt.Println("reply:", err)
		}
	}
	return consumer.ConsumeSuccess, nil
}

func requestReply(s *stage) error {
	// A lone producer introduces itself to the broker only every 30 s, and until then answers find no connection.
	// A consumer that starts in the same client says hello for both.
	asker, err := s.producer(producer.WithInstanceName(s.group("asker")))
	if err != nil {
		return err
	}
	answerer, err := s.producer()
	if err != nil {
		return err
	}
	if _, err := s.send(asker, "first", 0, 1); err != nil {
		return err
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	if _, err := s.consumer(s.group("c"), s.topic, all, &answering{answerer: answerer}, consumer.WithInstance(s.group("asker"))); err != nil {
		return err
	}
	for i := 0; i < 5; i++ {
		question := fmt.Sprintf("how %d", i)
		answer, err := asker.Request(context.Background(), 20*time.Second, primitive.NewMessage(s.topic, []byte(question)).WithTag("question"))
		if err != nil {
			return err
		}
		if err := check(string(answer.Body) == "re: "+question, "answer %s", answer.Body); err != nil {
			return err
		}
	}
	return nil
}

func trace(s *stage) error {
	p, err := s.producer(producer.WithTrace(&primitive.TraceConfig{GroupName: s.group("t"), Access: primitive.Local, Resolver: s.resolver()}))
	if err != nil {
		return err
	}
	result, err := p.SendSync(context.Background(), primitive.NewMessage(s.topic, []byte("traced")).WithTag("tag"))
	if err != nil {
		return err
	}
	const traces = "RMQ_SYS_TRACE_TOPIC"
	if _, err := s.route(traces); err != nil {
		return err
	}
	in := &inbox{}
	if _, err := s.consumer(s.group("c"), traces, all, in); err != nil {
		return err
	}
	for end := time.Now().Add(45 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, message := range in.snapshot() {
			if strings.Contains(string(message.Body), result.MsgID) && strings.Contains(string(message.Body), s.topic) {
				return nil
			}
		}
	}
	return fmt.Errorf("none of %d trace messages names %s", len(in.snapshot()), result.MsgID)
}
