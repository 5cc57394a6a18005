// The Go client's second tier: where a group begins, suspension, retries, dead letters, delays, transactions, filters,
// request-reply, trace.
package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

// early sends forty messages, ten a queue, and waits until the queues know them: one that looks empty begins at 0 whatever
// was asked.
func early(s *stage) (rocketmq.Producer, []*primitive.MessageQueue, error) {
	p, err := s.producer(producer.WithQueueSelector(producer.NewManualQueueSelector()))
	if err != nil {
		return nil, nil, err
	}
	starter, err := s.producer()
	if err != nil {
		return nil, nil, err
	}
	if _, err := s.send(starter, "early", 0, 1); err != nil {
		return nil, nil, err
	}
	queues, err := s.route(s.topic)
	for i := 1; i <= 10 && err == nil; i++ {
		err = round(s, p, queues, fmt.Sprintf("early%d", i))
	}
	in := &inbox{}
	if err == nil {
		_, err = s.consumer(s.group("early"), s.topic, all, in, consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset))
	}
	return p, queues, first(err, in.atLeast(1+10*len(queues), 45*time.Second))
}

// round sends one message to each queue.
func round(s *stage, p rocketmq.Producer, queues []*primitive.MessageQueue, name string) error {
	for _, queue := range queues {
		message := primitive.NewMessage(s.topic, []byte(body(fmt.Sprintf("%s-%d", name, queue.QueueId), 20)))
		message.Queue = queue
		if _, err := p.SendSync(context.Background(), message); err != nil {
			return err
		}
	}
	return nil
}

func (in *inbox) named(start string) *inbox {
	found := &inbox{}
	for _, message := range in.snapshot() {
		if strings.HasPrefix(string(message.Body), start) {
			found.add(message)
		}
	}
	return found
}

func fromLast(s *stage) error {
	p, queues, err := early(s)
	if err != nil {
		return err
	}
	in := &inbox{}
	if _, err := s.consumer(s.group("late"), s.topic, all, in, consumer.WithConsumeFromWhere(consumer.ConsumeFromLastOffset)); err != nil {
		return err
	}
	// What comes before the group looked at a queue is skipped with the rest.
	read := map[int]bool{}
	for end := time.Now().Add(45 * time.Second); len(read) < len(queues); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("read from %v alone", read)
		}
		if err := round(s, p, queues, fmt.Sprintf("hello%d", time.Now().UnixNano())); err != nil {
			return err
		}
		for _, message := range in.snapshot() {
			read[message.Queue.QueueId] = true
		}
	}
	starter, err := s.producer()
	if err != nil {
		return err
	}
	later, err := s.send(starter, "later", 0, 40)
	if err != nil {
		return err
	}
	for end := time.Now().Add(30 * time.Second); len(in.named("later").messages) < len(later) && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(time.Second)
	old := len(in.named("early").messages)
	return first(in.named("later").exactly(later), check(old == 0, "%d messages from before the group was", old))
}

func fromTimestamp(s *stage) error {
	if _, _, err := early(s); err != nil {
		return err
	}
	second := time.Now().Truncate(time.Second).Add(time.Second) // a client names whole seconds
	time.Sleep(time.Until(second.Add(100 * time.Millisecond)))
	p, err := s.producer()
	if err != nil {
		return err
	}
	later, err := s.send(p, "later", 0, 40)
	if err != nil {
		return err
	}
	in := &inbox{}
	// This client reads the time as UTC where Java reads it as local time.
	if _, err := s.consumer(s.group("late"), s.topic, all, in, consumer.WithConsumeFromWhere(consumer.ConsumeFromTimestamp),
		consumer.WithConsumeTimestamp(second.UTC().Format("20060102150405"))); err != nil {
		return err
	}
	return in.exactly(later)
}

// pausing refuses the messages n7 and n8 twice each, and holds the queue up for a moment each time.
type pausing struct {
	inbox
	refused map[string]int
}

const pause = 400 * time.Millisecond

func (r *pausing) receive(context_ context.Context, batch ...*primitive.MessageExt) (consumer.ConsumeResult, error) {
	r.add(batch...)
	text := string(batch[0].Body)
	if !strings.HasPrefix(text, "n7:") && !strings.HasPrefix(text, "n8:") || r.refused[text] == 2 {
		return consumer.ConsumeSuccess, nil
	}
	r.refused[text]++
	if orderly, ok := primitive.GetOrderlyCtx(context_); ok {
		orderly.SuspendCurrentQueueTimeMillis = int(pause.Milliseconds())
	}
	return consumer.SuspendCurrentQueueAMoment, nil
}

func (in *inbox) numbers() []int {
	var numbers []int
	for _, message := range in.snapshot() {
		var number int
		fmt.Sscanf(string(message.Body), "n%d:", &number)
		numbers = append(numbers, number)
	}
	return numbers
}

// suspend: an orderly listener that refuses holds its queue up and gets the same message again.
func suspend(s *stage) error {
	p, queues, err := s.choosing()
	if err != nil {
		return err
	}
	in := &pausing{refused: map[string]int{}}
	if _, err := s.consumer(s.group("c"), s.topic, tag("n"), in, consumer.WithConsumerOrder(true)); err != nil {
		return err
	}
	var expected []int
	for i := 0; i < 20; i++ {
		message := primitive.NewMessage(s.topic, []byte(body(fmt.Sprintf("n%d", i), 20))).WithTag("n")
		message.Queue = queues[0]
		if _, err := p.SendSync(context.Background(), message); err != nil {
			return err
		}
		expected = append(expected, i)
		if i == 7 || i == 8 {
			expected = append(expected, i, i)
		}
	}
	if err := in.atLeast(len(expected), 60*time.Second); err != nil {
		return err
	}
	time.Sleep(time.Second)
	if err := check(slices.Equal(in.numbers(), expected), "came as %v", in.numbers()); err != nil {
		return err
	}
	for _, i := range []int{8, 9, 11, 12} {
		waited := in.arrivals[i].Sub(in.arrivals[i-1])
		if err := check(waited >= pause-50*time.Millisecond, "delivery %d came %v after the refused one", i, waited); err != nil {
			return err
		}
	}
	return nil
}

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

// trace reads what a producer and a consumer with trace on leave: one line each that names the message they sent and got.
func trace(s *stage) error {
	settings := func(group string) *primitive.TraceConfig {
		return &primitive.TraceConfig{GroupName: s.group(group), Access: primitive.Local, Resolver: s.resolver()}
	}
	p, err := s.producer(producer.WithTrace(settings("t")))
	if err != nil {
		return err
	}
	result, err := p.SendSync(context.Background(), primitive.NewMessage(s.topic, []byte("traced")).WithTag("tag"))
	if err != nil {
		return err
	}
	traced := &inbox{}
	if _, err := s.consumer(s.group("s"), s.topic, all, traced, consumer.WithTrace(settings("u"))); err != nil {
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
	missing := map[string]bool{"Pub": true, "SubBefore": true, "SubAfter": true}
	for end := time.Now().Add(45 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		for _, message := range in.snapshot() {
			for _, line := range strings.Split(string(message.Body), "\x02") {
				kind := strings.SplitN(line, "\x01", 2)[0]
				if strings.Contains(line, result.MsgID) && (kind != "Pub" || strings.Contains(line, s.topic)) {
					delete(missing, kind)
				}
			}
		}
		if len(missing) == 0 {
			return nil
		}
	}
	return fmt.Errorf("no %v among %d trace messages names %s", missing, len(in.snapshot()), result.MsgID)
}
