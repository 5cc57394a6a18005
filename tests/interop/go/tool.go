// What a tool asks of a broker, as frames of our own: the Go client obeys it and has no tool that asks.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"time"
)

type answer struct {
	Code   int    `json:"code"`
	Remark string `json:"remark"`
	body   []byte
}

// ask sends one request on a connection of its own.
func ask(address string, code int, fields map[string]string) (*answer, error) {
	wire, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer wire.Close()
	wire.SetDeadline(time.Now().Add(30 * time.Second))
	header, err := json.Marshal(map[string]any{"code": code, "language": "GO", "version": 407, "opaque": 1, "flag": 0, "extFields": fields})
	if err != nil {
		return nil, err
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(4+len(header)))
	frame = binary.BigEndian.AppendUint32(frame, uint32(len(header)))
	if _, err := wire.Write(append(frame, header...)); err != nil {
		return nil, err
	}
	lengths := make([]byte, 8)
	if _, err := io.ReadFull(wire, lengths); err != nil {
		return nil, err
	}
	rest := make([]byte, binary.BigEndian.Uint32(lengths)-4)
	if _, err := io.ReadFull(wire, rest); err != nil {
		return nil, err
	}
	end := binary.BigEndian.Uint32(lengths[4:])
	said := &answer{body: rest[end:]}
	return said, json.Unmarshal(rest[:end], said)
}

// broker is the address that the name server tells for the topic.
func (s *stage) broker() (string, error) {
	said, err := ask(s.namesrv, 105, map[string]string{"topic": s.topic, "acceptStandardJsonOnly": "true"})
	if err != nil || said.Code != 0 {
		return "", first(err, fmt.Errorf("no route: %+v", said))
	}
	var route struct {
		BrokerDatas []struct{ BrokerAddrs map[string]string }
	}
	if err := json.Unmarshal(said.body, &route); err != nil || len(route.BrokerDatas) == 0 {
		return "", first(err, fmt.Errorf("a route without a broker: %s", said.body))
	}
	return route.BrokerDatas[0].BrokerAddrs["0"], nil
}

// member is the id of the one client of the group.
func member(broker, group string) (string, error) {
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		said, err := ask(broker, 38, map[string]string{"consumerGroup": group})
		if err != nil {
			return "", err
		}
		var members struct{ ConsumerIdList []string }
		if said.Code == 0 && json.Unmarshal(said.body, &members) == nil && len(members.ConsumerIdList) == 1 {
			return members.ConsumerIdList[0], nil
		}
		if time.Now().After(end) {
			return "", fmt.Errorf("members of %s: %+v %s", group, said, said.body)
		}
	}
}

// consumed sends so many messages and lets the group have them all: the group's inbox, what was sent, the broker.
func (s *stage) consumed(group string, count int) (*inbox, []string, string, error) {
	p, err := s.producer()
	if err != nil {
		return nil, nil, "", err
	}
	sent, err := s.send(p, "n", 0, count)
	if err != nil {
		return nil, nil, "", err
	}
	if _, err := s.route(s.topic); err != nil {
		return nil, nil, "", err
	}
	in := &inbox{}
	if _, err := s.consumer(group, s.topic, all, in); err != nil {
		return nil, nil, "", err
	}
	broker, err := s.broker()
	return in, sent, broker, first(err, in.exactly(sent))
}

// resetOffset: a tool puts a running group back to the beginning (222); the client is told (220) and reads again.
func resetOffset(s *stage) error {
	start := time.Now().Add(-time.Second)
	in, sent, broker, err := s.consumed(s.group("c"), 20)
	if err != nil {
		return err
	}
	fields := map[string]string{"topic": s.topic, "group": s.group("c"), "timestamp": fmt.Sprint(start.UnixMilli()), "isForce": "true"}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		// Refused until the group has stored an offset of every queue.
		said, err := ask(broker, 222, fields)
		if err != nil {
			return err
		}
		if said.Code == 0 {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("reset is refused: %+v", said)
		}
	}
	if err := in.atLeast(40, 60*time.Second); err != nil {
		return err
	}
	again := &inbox{}
	again.add(in.snapshot()[20:40]...)
	return again.exactly(sent)
}

// consumeDirectly: a tool has the broker hand a stored message to one client of the group (309).
func consumeDirectly(s *stage) error {
	in, _, broker, err := s.consumed(s.group("c"), 5)
	if err != nil {
		return err
	}
	client, err := member(broker, s.group("c"))
	if err != nil {
		return err
	}
	chosen := in.snapshot()[2]
	said, err := ask(broker, 309, map[string]string{
		"consumerGroup": s.group("c"), "clientId": client, "msgId": chosen.OffsetMsgId, "brokerName": chosen.Queue.BrokerName,
		"topic": s.topic})
	if err != nil || said.Code != 0 {
		return first(err, fmt.Errorf("handed over: %+v", said))
	}
	if err := in.atLeast(6, 10*time.Second); err != nil {
		return err
	}
	return check(string(in.snapshot()[5].Body) == string(chosen.Body), "another message was handed over")
}
