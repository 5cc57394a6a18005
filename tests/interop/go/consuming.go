// What consumers do: alone, in groups, in order, after a restart, by pulling.
package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	rocketmq "github.com/apache/rocketmq-client-go/v2"
	"github.com/apache/rocketmq-client-go/v2/consumer"
	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

func consume1000(s *stage) error {
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
	one, other := &inbox{}, &inbox{}
	if _, err := s.consumer(s.group("one"), s.topic, all, one); err != nil {
		return err
	}
	if _, err := s.consumer(s.group("other"), s.topic, all, other); err != nil {
		return err
	}
	var lock sync.Mutex
	var parts sync.WaitGroup
	failures := make([]error, 4)
	for part := range failures {
		parts.Add(1)
		go func() {
			defer parts.Done()
			some, err := s.send(p, fmt.Sprintf("part%d-", part), 0, 250)
			lock.Lock()
			defer lock.Unlock()
			sent, failures[part] = append(sent, some...), err
		}()
	}
	parts.Wait()
	if err := first(failures...); err != nil {
		return err
	}
	return first(one.exactly(sent), other.exactly(sent))
}

// live: a waiting consumer gets a message when it arrives, not when a five-second scan finds it.
func live(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	if _, err := s.send(p, "first", 0, 8); err != nil {
		return err
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	in := &inbox{}
	if _, err := s.consumer(s.group("c"), s.topic, all, in); err != nil {
		return err
	}
	if err := in.atLeast(8, 45*time.Second); err != nil {
		return err
	}
	for i := 0; i < 8; i++ {
		time.Sleep(300 * time.Millisecond)
		start := time.Now()
		if _, err := s.send(p, "live", i, 1); err != nil {
			return err
		}
		if err := in.atLeast(9+i, 10*time.Second); err != nil {
			return err
		}
		if err := check(time.Since(start) < 3*time.Second, "a waiting consumer got the message after %v", time.Since(start)); err != nil {
			return err
		}
	}
	return nil
}

// tags: this client hashes a tag's UTF-8 bytes where Java hashes UTF-16 units, so that 4.9.7 delivers nothing for
// tags beyond ASCII.
func tags(s *stage, one, other, unwanted string) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	wanted, err := s.send(p, one, 0, 30)
	if err != nil {
		return err
	}
	if _, err := s.send(p, unwanted, 0, 30); err != nil {
		return err
	}
	more, err := s.send(p, other, 0, 30)
	if err != nil {
		return err
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	in := &inbox{}
	if _, err := s.consumer(s.group("c"), s.topic, tag(one+" || "+other), in); err != nil {
		return err
	}
	return in.exactly(append(wanted, more...))
}

func order(s *stage) error {
	p, err := s.producer(producer.WithQueueSelector(producer.NewHashQueueSelector()))
	if err != nil {
		return err
	}
	var sent []string
	for i := 0; i < 50; i++ {
		for key := 0; key < 8; key++ {
			text := body(fmt.Sprintf("%d/%d", key, i), 20)
			sent = append(sent, text)
			message := primitive.NewMessage(s.topic, []byte(text)).WithShardingKey(strconv.Itoa(key))
			if _, err := p.SendSync(context.Background(), message); err != nil {
				return err
			}
		}
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	in := &inbox{}
	if _, err := s.consumer(s.group("c"), s.topic, all, in, consumer.WithConsumerOrder(true)); err != nil {
		return err
	}
	if err := in.exactly(sent); err != nil {
		return err
	}
	next, queue := map[int]int{}, map[int]int{}
	for _, message := range in.snapshot() {
		var key, i int
		if _, err := fmt.Sscanf(string(message.Body), "%d/%d:", &key, &i); err != nil {
			return err
		}
		if err := check(next[key] == i, "key %d: message %d came when %d was due", key, i, next[key]); err != nil {
			return err
		}
		if err := check(i == 0 || queue[key] == message.Queue.QueueId, "key %d came from two queues", key); err != nil {
			return err
		}
		next[key], queue[key] = i+1, message.Queue.QueueId
	}
	return nil
}

func rebalance(s *stage, leave bool) error {
	p, queues, err := s.choosing()
	if err != nil {
		return err
	}
	put := func(name string, queue *primitive.MessageQueue) (string, error) {
		text := body(name, 20)
		message := primitive.NewMessage(s.topic, []byte(text))
		message.Queue = queue
		_, err := p.SendSync(context.Background(), message)
		return text, err
	}
	inboxes := []*inbox{{}, {}}
	var consumers []rocketmq.PushConsumer
	for _, in := range inboxes {
		c, err := s.consumer(s.group("c"), s.topic, all, in)
		if err != nil {
			return err
		}
		consumers = append(consumers, c)
	}
	// Rounds of one message a queue until a whole round arrived and everyone got a part of it.
	spread := func(name string) error {
		for end := time.Now().Add(70 * time.Second); time.Now().Before(end); {
			round := map[string]bool{}
			for _, queue := range queues {
				text, err := put(fmt.Sprintf("%s%d-%d", name, time.Now().UnixNano(), queue.QueueId), queue)
				if err != nil {
					return err
				}
				round[text] = true
			}
			time.Sleep(700 * time.Millisecond)
			busy := 0
			for _, in := range inboxes {
				before := len(round)
				for _, message := range in.snapshot() {
					delete(round, string(message.Body))
				}
				if len(round) < before {
					busy++
				}
			}
			if len(round) == 0 && busy == len(inboxes) {
				return nil
			}
		}
		return fmt.Errorf("after 70 s the queues are not spread over %d consumers", len(inboxes))
	}
	if err := spread("settle"); err != nil {
		return err
	}
	if leave {
		if err := consumers[0].Shutdown(); err != nil {
			return err
		}
		inboxes = inboxes[1:]
		if err := spread("left"); err != nil {
			return err
		}
	}
	// From here on nobody comes or goes: each message exactly once.
	var sent []string
	for i := 0; i < 200; i++ {
		text, err := put(fmt.Sprintf("steady%d", i), queues[i%len(queues)])
		if err != nil {
			return err
		}
		sent = append(sent, text)
	}
	together := &inbox{}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(1500 * time.Millisecond) {
		var steady []*primitive.MessageExt
		for _, in := range inboxes {
			for _, message := range in.snapshot() {
				if strings.HasPrefix(string(message.Body), "steady") {
					steady = append(steady, message)
				}
			}
		}
		if together.messages = steady; len(steady) >= len(sent) || time.Now().After(end) {
			break
		}
	}
	covered := map[int]bool{}
	for _, message := range together.messages {
		covered[message.Queue.QueueId] = true
	}
	return first(together.exactly(sent), check(len(covered) == len(queues), "%d of %d queues covered", len(covered), len(queues)))
}

func offsetsRestart(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	before, err := s.send(p, "first", 0, 100)
	if err != nil {
		return err
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	in := &inbox{}
	c, err := s.consumer(s.group("c"), s.topic, all, in)
	if err != nil {
		return err
	}
	if err := in.exactly(before); err != nil {
		return err
	}
	if err := c.Shutdown(); err != nil {
		return err
	}
	after, err := s.send(p, "second", 0, 100)
	if err != nil {
		return err
	}
	in = &inbox{}
	if _, err := s.consumer(s.group("c"), s.topic, all, in); err != nil {
		return err
	}
	return in.exactly(after)
}

func fromFirst(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	sent, err := s.send(p, "early", 0, 50)
	if err != nil {
		return err
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	in := &inbox{}
	if _, err := s.consumer(s.group("late"), s.topic, all, in); err != nil {
		return err
	}
	if err := in.atLeast(50, 45*time.Second); err != nil {
		return err
	}
	more, err := s.send(p, "later", 0, 50)
	return first(err, in.exactly(append(sent, more...)))
}

func broadcast(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	sent, err := s.send(p, "n", 0, 50)
	if err != nil {
		return err
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	one, other := &inbox{}, &inbox{}
	for _, in := range []*inbox{one, other} {
		if _, err := s.consumer(s.group("c"), s.topic, all, in, consumer.WithConsumerModel(consumer.BroadCasting)); err != nil {
			return err
		}
	}
	return first(one.exactly(sent), other.exactly(sent))
}

func (s *stage) puller(group string) (rocketmq.PullConsumer, error) {
	c, err := rocketmq.NewPullConsumer(consumer.WithNsResolver(s.resolver()), consumer.WithGroupName(group),
		consumer.WithInstance(s.instance()), consumer.WithConsumeFromWhere(consumer.ConsumeFromFirstOffset), consumer.WithPullBatchSize(32))
	if err != nil {
		return nil, err
	}
	if err := c.Subscribe(s.topic, all); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() { c.Shutdown() })
	return c, c.Start()
}

func pull(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	sent, err := s.send(p, "n", 0, 100)
	if err != nil {
		return err
	}
	queues, err := s.route(s.topic)
	if err != nil {
		return err
	}
	c, err := s.puller(s.group("pull"))
	if err != nil {
		return err
	}
	in := &inbox{}
	for _, queue := range queues {
		for at, end := int64(0), int64(1); at < end; { // at the end it would be held for 20 s
			result, err := c.PullFrom(context.Background(), queue, at, 10)
			if err != nil {
				return err
			}
			if err := check(result.Status == primitive.PullFound, "status %d at %d of %d", result.Status, at, end); err != nil {
				return err
			}
			in.add(result.GetMessageExts()...)
			at, end = result.NextBeginOffset, result.MaxOffset
		}
	}
	return in.exactly(sent)
}

func poll(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	sent, err := s.send(p, "n", 0, 100)
	if err != nil {
		return err
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	c, err := s.puller(s.group("poll"))
	if err != nil {
		return err
	}
	in := &inbox{}
	for end := time.Now().Add(45 * time.Second); len(in.messages) < len(sent) && time.Now().Before(end); {
		request, err := c.Poll(context.Background(), time.Second)
		if err == nil {
			in.add(request.GetMsgList()...)
			c.ACK(context.Background(), request, consumer.ConsumeSuccess)
		}
	}
	return in.exactly(sent)
}
