// What a producer does: ways of sending, bodies of all sizes, refusals, topics that come to be.
package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"strings"
	"time"

	"github.com/apache/rocketmq-client-go/v2/primitive"
	"github.com/apache/rocketmq-client-go/v2/producer"
)

func sendSync(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	var sent []string
	next := map[int]int64{}
	for i := 0; i < 40; i++ {
		text := body(fmt.Sprintf("sync%d", i), 100)
		result, err := p.SendSync(context.Background(), primitive.NewMessage(s.topic, []byte(text)))
		if err != nil {
			return err
		}
		queue := result.MessageQueue.QueueId
		if err := check(result.Status == primitive.SendOK && len(result.OffsetMsgID) == 32 && result.QueueOffset == next[queue],
			"answer %v, due offset %d", result, next[queue]); err != nil {
			return err
		}
		next[queue]++
		sent = append(sent, text)
	}
	return s.expect(sent)
}

func sendAsync(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	sent, err := s.send(p, "first", 0, 1)
	if err != nil {
		return err
	}
	failures := make(chan error, 200)
	for i := 0; i < 100; i++ {
		text := body(fmt.Sprintf("async%d", i), 100)
		sent = append(sent, text)
		err := p.SendAsync(context.Background(), func(_ context.Context, _ *primitive.SendResult, err error) { failures <- err },
			primitive.NewMessage(s.topic, []byte(text)))
		if err != nil {
			return err
		}
	}
	for i := 0; i < 100; i++ {
		select {
		case err := <-failures:
			if err != nil {
				return err
			}
		case <-time.After(30 * time.Second):
			return fmt.Errorf("%d callbacks never came", 100-i)
		}
	}
	return s.expect(sent)
}

func sendOneway(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	sent, err := s.send(p, "first", 0, 1)
	if err != nil {
		return err
	}
	for i := 0; i < 50; i++ {
		text := body(fmt.Sprintf("oneway%d", i), 100)
		sent = append(sent, text)
		if err := p.SendOneWay(context.Background(), primitive.NewMessage(s.topic, []byte(text))); err != nil {
			return err
		}
	}
	return s.expect(sent)
}

func sendBatch(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	var sent []string
	for round := 0; round < 3; round++ {
		var batch []*primitive.Message
		for i := 0; i < 50; i++ {
			text := body(fmt.Sprintf("batch%d-%d", round, i), 100)
			sent = append(sent, text)
			batch = append(batch, primitive.NewMessage(s.topic, []byte(text)).WithTag("tag"))
		}
		if _, err := p.SendSync(context.Background(), batch...); err != nil {
			return err
		}
	}
	return s.expect(sent)
}

func bodies(s *stage) error {
	p, err := s.producer(producer.WithCompressMsgBodyOverHowmuch(64 << 20))
	if err != nil {
		return err
	}
	compressing, err := s.producer()
	if err != nil {
		return err
	}
	const margin = 4 << 10
	sent := map[int][]byte{}
	for _, size := range []int{1, 1 << 10, 256 << 10, 4<<20 - margin} {
		content := make([]byte, size)
		rand.New(rand.NewSource(int64(size))).Read(content)
		sent[size] = content
		if _, err := p.SendSync(context.Background(), primitive.NewMessage(s.topic, content)); err != nil {
			return fmt.Errorf("%d bytes: %w", size, err)
		}
	}
	zeros := make([]byte, 300_000) // travels compressed
	sent[len(zeros)] = zeros
	if _, err := compressing.SendSync(context.Background(), primitive.NewMessage(s.topic, zeros)); err != nil {
		return err
	}
	if _, err := s.route(s.topic); err != nil {
		return err
	}
	in := &inbox{}
	if _, err := s.consumer(s.group("c"), s.topic, all, in); err != nil {
		return err
	}
	if err := in.atLeast(len(sent), 45*time.Second); err != nil {
		return err
	}
	for _, message := range in.snapshot() {
		if !bytes.Equal(sent[len(message.Body)], message.Body) {
			return fmt.Errorf("a body of %d bytes arrived changed or twice", len(message.Body))
		}
		delete(sent, len(message.Body))
	}
	return nil
}

func bodyEmpty(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	if _, err := p.SendSync(context.Background(), primitive.NewMessage(s.topic, []byte{}).WithTag("empty")); err != nil {
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
	got := in.snapshot()[0]
	return check(len(got.Body) == 0 && got.GetTags() == "empty", "arrived as %v", got)
}

func unicode(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	message := primitive.NewMessage(s.topic, []byte("héllo 消息 😀")).WithTag("тег").WithKeys([]string{"ключ-1", "キー二"})
	message.WithProperty("属性", "значение 😀")
	if _, err := p.SendSync(context.Background(), message); err != nil {
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
	got := in.snapshot()[0]
	return first(check(string(got.Body) == "héllo 消息 😀", "body %s", got.Body), check(got.GetTags() == "тег", "tag %s", got.GetTags()),
		check(got.GetKeys() == "ключ-1 キー二", "keys %s", got.GetKeys()),
		check(got.GetProperty("属性") == "значение 😀", "property %s", got.GetProperty("属性")))
}

func tooLarge(s *stage) error {
	p, err := s.producer(producer.WithCompressMsgBodyOverHowmuch(64 << 20))
	if err != nil {
		return err
	}
	sent, err := s.send(p, "before", 0, 1)
	if err != nil {
		return err
	}
	result, err := p.SendSync(context.Background(), primitive.NewMessage(s.topic, make([]byte, 5<<20)))
	if err == nil {
		return fmt.Errorf("the broker took 5 MiB: %v", result)
	}
	if err := check(strings.Contains(err.Error(), "13"), "the error does not carry code 13: %v", err); err != nil {
		return err
	}
	more, err := s.send(p, "after", 0, 10)
	if err != nil {
		return err
	}
	return s.expect(append(sent, more...))
}

// autoTopic: this client asks for four queues whatever it was told.
func autoTopic(s *stage) error {
	p, err := s.producer()
	if err != nil {
		return err
	}
	sent, err := s.send(p, "n", 0, 12)
	if err != nil {
		return err
	}
	queues, err := s.route(s.topic)
	if err != nil {
		return err
	}
	return first(check(len(queues) == 4, "%d queues instead of the 4 asked for", len(queues)), s.expect(sent))
}
