"""The C++ client's suite, through its Python binding: `interop.py NAMESRV PREFIX FEATURE…` prints one line
`RESULT⇥feature⇥ok|FAIL|n/a⇥reason` each. The binding is thin; where it hides what the library offers, the library is
called directly. It has no way to await a route, so topics get a moment after they were created."""

import os
import random
import sys
import threading
import time
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rocketmq.client import Message, Producer, PullConsumer, PushConsumer, RecvMessage, SendStatus, dll
from rocketmq.exceptions import RocketMQException
from rocketmq.ffi import MessageModel, _CConsumeStatus as ConsumeStatus

sys.path.append(str(Path(__file__).resolve().parent.parent))
import raw_wire

LIMIT_S, AT_ONCE = 100, 4
ROUTE_S = 1.0  # an auto-created topic reaches the name server shortly after its first acknowledgement
NOT_APPLICABLE = {
    "from-first": "the binding cannot choose where a group begins", "from-timestamp": "the binding cannot choose where a group begins",
    "transaction-commit": "not in the binding", "transaction-rollback": "not in the binding", "transaction-check": "not in the binding",
    "sql92": "the library filters by tag alone",
    "dead-letter": "the binding cannot set the number of retries",
    "request-reply": "not in this client", "trace": "not in this version", "lite-pull": "not in this client",
    "body-empty": "the client refuses an empty body itself",
    "consume-directly": "the library does not know what it is asked for",
}
QUEUES = 4  # of a topic made by sending
KEEP = []  # clients are never destroyed: the binding's destructor may free what a thread still uses


class Failed(Exception):
    pass


def check(holds, otherwise):
    if not holds:
        raise Failed(otherwise)


def body(name, filler):
    """Carries its own checksum: `name:filler:crc32`."""
    letters = random.Random(name)
    text = name + ":" + "".join(letters.choices("abcdefghijklmnopqrstuvwxyz", k=filler))
    return f"{text}:{zlib.crc32(text.encode()):x}"


def intact(text):
    head, _, crc = text.rpartition(":")
    return f"{zlib.crc32(head.encode()):x}" == crc


class Received:
    """What a message says; its handle is gone when the callback returns."""

    def __init__(self, message):
        self.at = time.time()
        self.body = message.body.decode(errors="replace")
        self.tags, self.keys = message.tags.decode(), message.keys.decode()
        self.queue, self.times, self.topic = message.queue_id, message.reconsume_times, message.topic
        self.property = (message.get_property("属性") or b"").decode()


class Inbox:
    def __init__(self):
        self.messages, self.changed = [], threading.Condition()

    def __call__(self, message):
        self.add(Received(message))

    def add(self, received):
        with self.changed:
            self.messages.append(received)
            self.changed.notify_all()

    def at_least(self, count, patience_s=60):
        with self.changed:
            check(self.changed.wait_for(lambda: len(self.messages) >= count, patience_s),
                  f"after {patience_s} s {len(self.messages)} of {count} messages")

    def exactly(self, bodies):
        """These bodies, intact, each once, and nothing else within a second."""
        self.at_least(len(bodies))
        time.sleep(1)
        seen = {}
        for message in list(self.messages):
            check(intact(message.body), f"a body arrived changed: {message.body[:40]}")
            seen[message.body] = seen.get(message.body, 0) + 1
        for text in bodies:
            check(seen.get(text) == 1, f"arrived {seen.get(text, 0)} times: {text[:40]}")
        check(len(seen) == len(bodies), f"{len(seen)} bodies instead of {len(bodies)}")


class Stage:
    """One feature's topic, producers and consumers."""

    def __init__(self, namesrv, topic):
        self.namesrv, self.topic, self.clients, self.closers = namesrv, topic, 0, []

    def group(self, suffix):
        return f"{self.topic}-{suffix}"

    def instance(self):
        self.clients += 1
        return f"{self.topic}-{self.clients}"

    def producer(self, **options):
        producer = Producer(self.group(f"p{self.clients}"), timeout=15_000, **options)
        producer.set_namesrv_addr(self.namesrv)
        dll.SetProducerInstanceName(producer._handle, self.instance().encode())
        producer.start()
        KEEP.append(producer)
        return producer

    def consumer(self, group, callback, expression="*", **options):
        consumer = PushConsumer(group, **options)
        consumer.set_namesrv_addr(self.namesrv)
        consumer.set_instance_name(self.instance())
        consumer.subscribe(self.topic, callback, expression)
        consumer.start()
        KEEP.append(consumer)
        self.closers.append(consumer)
        return consumer

    def raw_consumer(self, group, callback, expression=b"*", **options):
        """The binding's own wrapper can only refuse by raising, which Python prints as an unhandled error."""
        consumer = PushConsumer(group, **options)
        consumer.set_namesrv_addr(self.namesrv)
        consumer.set_instance_name(self.instance())
        dll.Subscribe(consumer._handle, self.topic.encode(), expression)
        consumer._register_callback(callback)
        consumer.start()
        KEEP.append(consumer)
        self.closers.append(consumer)

    def message(self, text, tag=None):
        message = Message(self.topic)
        message.set_body(text)
        if tag:
            message.set_tags(tag)
        return message

    def send(self, producer, tag, start, count):
        sent = []
        for i in range(start, start + count):
            sent.append(body(f"{tag}{i}", 64))
            result = producer.send_sync(self.message(sent[-1], tag))
            check(result.status == SendStatus.OK, f"status {result.status}")
        return sent

    def expect(self, bodies):
        time.sleep(ROUTE_S)
        inbox = Inbox()
        self.consumer(self.group(f"expect{self.clients}"), inbox)
        inbox.exactly(bodies)

    def close(self):
        for consumer in self.closers:
            consumer.shutdown()


# ---- sending


def send_sync(s):
    producer = s.producer()
    sent = []
    for i in range(40):
        sent.append(body(f"sync{i}", 100))
        result = producer.send_sync(s.message(sent[-1]))
        check(result.status == SendStatus.OK and result.msg_id, f"answer {result}")
    s.expect(sent)


def send_async(s):
    producer = s.producer()
    sent = s.send(producer, "first", 0, 1)
    done, failures = threading.Semaphore(0), []
    for i in range(100):
        sent.append(body(f"async{i}", 100))
        # The library reads the message after this returns: it must outlive the call.
        message = s.message(sent[-1])
        KEEP.append(message)
        producer.send_async(message, lambda result: done.release(), lambda e: (failures.append(e), done.release()))
    for i in range(100):
        check(done.acquire(timeout=30), f"{100 - i} callbacks never came")
    check(not failures, f"callback: {failures[:1]}")
    s.expect(sent)


def send_oneway(s):
    producer = s.producer()
    sent = s.send(producer, "first", 0, 1)
    for i in range(50):
        sent.append(body(f"oneway{i}", 100))
        producer.send_oneway(s.message(sent[-1]))
    s.expect(sent)


def send_batch(s):
    """This client says batch="1" with code 10, which Java's broker reads as "no batch": it stores one message whose
    body is the encoded batch. So it is with ours; nothing is lost, and this client's batches were never more."""
    producer = s.producer()
    first = s.send(producer, "first", 0, 1)
    batch = [s.message(body(f"batch{i}", 20)) for i in range(10)]
    check(producer.send_batch(batch).status == SendStatus.OK, "batch not stored")
    time.sleep(ROUTE_S)
    inbox = Inbox()
    s.consumer(s.group("c"), inbox)
    inbox.at_least(2)
    time.sleep(1)
    check(len(inbox.messages) in (2, 11), f"{len(inbox.messages) - 1} messages for one batch of 10")
    check(first[0] in [message.body for message in inbox.messages], "the plain message is missing")


# ---- consuming


def consume_1000(s):
    producer = s.producer()
    sent = s.send(producer, "first", 0, 1)
    time.sleep(ROUTE_S)
    one, other = Inbox(), Inbox()
    s.consumer(s.group("one"), one)
    s.consumer(s.group("other"), other)
    sent += s.send(producer, "n", 0, 999)
    one.exactly(sent)
    other.exactly(sent)


def live(s):
    """A waiting consumer gets a message when it arrives, not when a five-second scan finds it."""
    producer = s.producer()
    s.send(producer, "first", 0, 8)
    time.sleep(ROUTE_S)
    inbox = Inbox()
    s.consumer(s.group("c"), inbox)
    inbox.at_least(8)
    for i in range(8):
        time.sleep(0.3)
        start = time.monotonic()
        s.send(producer, "live", i, 1)
        inbox.at_least(9 + i, 10)
        took = time.monotonic() - start
        check(took < 3, f"a waiting consumer got the message after {took:.1f} s")


def tags(s, one, other, unwanted):
    producer = s.producer()
    wanted = s.send(producer, one, 0, 30)
    s.send(producer, unwanted, 0, 30)
    wanted += s.send(producer, other, 0, 30)
    time.sleep(ROUTE_S)
    inbox = Inbox()
    s.consumer(s.group("c"), inbox, f"{one} || {other}")
    inbox.exactly(wanted)


def order(s):
    producer = s.producer()
    sent = []
    for i in range(50):
        for key in range(8):
            sent.append(body(f"{key}/{i}", 20))
            producer.send_orderly(s.message(sent[-1]), key)
    time.sleep(ROUTE_S)
    inbox = Inbox()
    s.consumer(s.group("c"), inbox, orderly=True)
    inbox.exactly(sent)
    due, queue = {}, {}
    for message in inbox.messages:
        key, i = map(int, message.body.split(":")[0].split("/"))
        check(due.get(key, 0) == i, f"key {key}: message {i} came when {due.get(key, 0)} was due")
        check(queue.setdefault(key, message.queue) == message.queue, f"key {key} came from two queues")
        due[key] = i + 1


def rebalance(s, leave):
    producer = s.producer()
    s.send(producer, "first", 0, 1)
    time.sleep(ROUTE_S)
    inboxes = [Inbox(), Inbox()]
    consumers = [s.consumer(s.group("c"), inbox) for inbox in inboxes]

    def put(name, queue):
        text = body(name, 20)
        producer.send_orderly(s.message(text), queue)
        return text

    def spread(name):
        """Rounds of one message a queue until a whole round arrived and everyone got a part of it."""
        end = time.monotonic() + 80
        while time.monotonic() < end:
            sent = {put(f"{name}{time.time_ns()}", queue) for queue in range(QUEUES)}
            time.sleep(1)
            shares = [sent & {message.body for message in list(inbox.messages)} for inbox in inboxes]
            if set().union(*shares) == sent and all(shares):
                return
        raise Failed(f"after 80 s the queues are not spread over {len(inboxes)} consumers")

    spread("settle")
    if leave:
        consumers.pop(0).shutdown()
        s.closers.pop(0)
        inboxes.pop(0)
        spread("left")
    # From here on nobody comes or goes: each message exactly once.
    sent = [put(f"steady{i}", i % QUEUES) for i in range(200)]
    steady = lambda: [message for inbox in inboxes for message in list(inbox.messages) if message.body.startswith("steady")]
    end = time.monotonic() + 30
    while len(steady()) < len(sent) and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(1)
    together = Inbox()
    together.messages = steady()
    together.exactly(sent)
    check(len({message.queue for message in together.messages}) == QUEUES, "not all queues covered")


def offsets_restart(s):
    producer = s.producer()
    before = s.send(producer, "first", 0, 100)
    time.sleep(ROUTE_S)
    inbox = Inbox()
    consumer = s.consumer(s.group("c"), inbox)
    inbox.exactly(before)
    time.sleep(6)  # this client persists its offsets every five seconds and not when it ends
    consumer.shutdown()
    s.closers.remove(consumer)
    after = s.send(producer, "second", 0, 100)
    inbox = Inbox()
    s.consumer(s.group("c"), inbox)
    inbox.exactly(after)


def bodies(s):
    producer = s.producer(compress_level=0, max_message_size=8 << 20)
    margin = 8 << 10  # level 0 still wraps the body into zlib's blocks
    sent = {}
    for size in (1, 1 << 10, 256 << 10, (4 << 20) - margin):
        text = "".join(random.Random(size).choices("0123456789abcdef", k=size))
        sent[size] = text
        check(producer.send_sync(s.message(text)).status == SendStatus.OK, f"{size} bytes not stored")
    time.sleep(ROUTE_S)
    inbox = Inbox()
    s.consumer(s.group("c"), inbox)
    inbox.at_least(len(sent))
    for message in inbox.messages:
        check(sent.pop(len(message.body), None) == message.body, f"a body of {len(message.body)} bytes arrived changed or twice")


def unicode(s):
    producer = s.producer()
    message = s.message("héllo 消息 😀", "тег")
    message.set_keys("ключ-1 キー二")
    message.set_property("属性", "значение 😀")
    producer.send_sync(message)
    time.sleep(ROUTE_S)
    inbox = Inbox()
    s.consumer(s.group("c"), inbox)
    inbox.at_least(1)
    got = inbox.messages[0]
    check((got.body, got.tags, got.keys, got.property) == ("héllo 消息 😀", "тег", "ключ-1 キー二", "значение 😀"), str(vars(got)))


def too_large(s):
    """The client sends a refused message five times and then says, whatever the reason was, that there is no route;
    the connection must stay usable all along. A refusal that it did not understand would show as a time-out."""
    producer = s.producer(compress_level=0, max_message_size=16 << 20)
    sent = s.send(producer, "before", 0, 1)
    start = time.monotonic()
    try:
        result = producer.send_sync(s.message("x" * (5 << 20)))
    except RocketMQException as refused:
        check("No route info" in str(refused) and time.monotonic() - start < 10, f"refused with {refused!r}")
    else:
        raise Failed(f"the broker took 5 MiB: {result}")
    s.expect(sent + s.send(producer, "after", 0, 10))


def auto_topic(s):
    producer = s.producer()
    s.expect(s.send(producer, "n", 0, 12))


def broadcast(s):
    producer = s.producer()
    s.send(producer, "first", 0, 1)
    time.sleep(ROUTE_S)
    inboxes = [Inbox(), Inbox()]
    for inbox in inboxes:
        s.consumer(s.group("c"), inbox, message_model=MessageModel.BROADCASTING)
    # A broadcast group begins at the end, and the binding cannot change that: wait until both listen.
    producer_rounds = time.monotonic() + 60
    while not all(inbox.messages for inbox in inboxes) and time.monotonic() < producer_rounds:
        s.send(producer, f"warm{time.time_ns()}", 0, 4)
        time.sleep(0.5)
    sent = s.send(producer, "n", 0, 50)
    end = time.monotonic() + 30
    mine = lambda inbox: [message for message in list(inbox.messages) if message.body.startswith("n")]
    while any(len(mine(inbox)) < 50 for inbox in inboxes) and time.monotonic() < end:
        time.sleep(0.1)
    for inbox in inboxes:
        only = Inbox()
        only.messages = mine(inbox)
        only.exactly(sent)


def pull(s):
    producer = s.producer()
    sent = s.send(producer, "n", 0, 100)
    time.sleep(ROUTE_S)
    consumer = PullConsumer(s.group("pull"))
    consumer.set_namesrv_addr(s.namesrv)
    consumer.start()
    KEEP.append(consumer)
    inbox = Inbox()
    for message in consumer.pull(s.topic):
        inbox(message)
    inbox.exactly(sent)
    consumer.shutdown()


# ---- second tier


def from_last(s):
    """Where this library's groups begin unless it is told otherwise."""
    producer = s.producer()
    s.send(producer, "early", 0, 40)
    time.sleep(ROUTE_S)
    inbox = Inbox()
    s.consumer(s.group("late"), inbox)
    named = lambda start: [message for message in list(inbox.messages) if message.body.startswith(start)]
    # What comes before the group looked at a queue is skipped with the rest.
    end = time.monotonic() + 60
    while len({message.queue for message in list(inbox.messages)}) < QUEUES:
        check(time.monotonic() < end, f"read from {({message.queue for message in list(inbox.messages)})} alone")
        for queue in range(QUEUES):
            producer.send_orderly(s.message(body(f"hello{time.time_ns()}", 20)), queue)
        time.sleep(0.2)
    later = s.send(producer, "later", 0, 40)
    end = time.monotonic() + 30
    while len(named("later")) < len(later) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1)
    counted = Inbox()
    counted.messages = named("later")
    counted.exactly(later)
    check(not named("early"), f"{len(named('early'))} messages from before the group was")


def suspend(s):
    """An orderly listener that refuses holds its queue up and gets the same message again; this library always for a second."""
    producer = s.producer()
    s.send(producer, "first", 0, 1)
    time.sleep(ROUTE_S)
    inbox, refused = Inbox(), {}

    def refusing(_, handle):
        received = Received(RecvMessage(handle))
        inbox.add(received)
        if received.body.startswith(("n7:", "n8:")) and refused.setdefault(received.body, 0) < 2:
            refused[received.body] += 1
            return ConsumeStatus.RECONSUME_LATER.value
        return ConsumeStatus.CONSUME_SUCCESS.value

    s.raw_consumer(s.group("c"), refusing, b"n", orderly=True)
    for i in range(20):
        producer.send_orderly(s.message(body(f"n{i}", 20), "n"), 0)
    expected = sorted([*range(20), 7, 7, 8, 8])
    inbox.at_least(len(expected))
    time.sleep(1)
    numbers = [int(message.body[1:].split(":")[0]) for message in inbox.messages]
    check(numbers == expected, f"came as {numbers}")


def retry(s):
    producer = s.producer()
    s.send(producer, "first", 0, 1)
    time.sleep(ROUTE_S)
    inbox = Inbox()

    def refusing(_, handle):
        received = Received(RecvMessage(handle))
        inbox.add(received)
        return (ConsumeStatus.RECONSUME_LATER if received.times < 1 else ConsumeStatus.CONSUME_SUCCESS).value

    s.raw_consumer(s.group("c"), refusing)
    # Not into its start: a client whose connection is still being made gives a message up that it cannot send back
    # ("GetTransport get timed_mutex timeout", and no second try), so this one may come once only.
    inbox.at_least(1, 90)
    time.sleep(ROUTE_S)
    sent = s.send(producer, "n", 0, 3)
    patience = time.monotonic() + 90
    while sum(message.body in sent for message in inbox.messages) < 6 and time.monotonic() < patience:
        time.sleep(0.2)
    time.sleep(1)
    for text in sent:
        times = [message.times for message in inbox.messages if message.body == text]
        check(times == [0, 1], f"reconsume times {times}")
    check({message.topic for message in inbox.messages} == {s.topic}, "redelivered with another topic")


def delay(s):
    producer = s.producer()
    first = s.send(producer, "first", 0, 1)
    time.sleep(ROUTE_S)
    inbox = Inbox()
    s.consumer(s.group("c"), inbox)
    inbox.at_least(1)
    due = {}
    for i in range(10):
        text = body(f"delayed{i}", 20)
        message = s.message(text)
        message.set_delay_time_level(1)
        due[text] = time.time() + 1
        producer.send_sync(message)
    inbox.exactly(first + list(due))
    for message in inbox.messages[1:]:
        late = message.at - due[message.body]
        check(-0.002 < late < 5, f"late by {late:.3f} s")


def asked(address, code, fields):
    """What a tool is answered that asks in the name of a C++ client, whose offsets come in a form of their own."""
    wire = raw_wire.Connection(address)
    answer = wire.exchange(raw_wire.encode(code, fields, b"", 1, language="CPP"), 1, 30)
    wire.close()
    return answer


def reset_offset(s):
    """A tool puts a running group back to the beginning (222): the client is told (220) and reads again."""
    start = int(1000 * time.time()) - 1000
    sent = s.send(s.producer(), "n", 0, 20)
    time.sleep(ROUTE_S)
    inbox = Inbox()
    s.consumer(s.group("c"), inbox)
    inbox.exactly(sent)
    route = asked(s.namesrv, 105, {"topic": s.topic, "acceptStandardJsonOnly": "true"})
    broker = raw_wire.json.loads(route["body"])["brokerDatas"][0]["brokerAddrs"]["0"]
    fields = {"topic": s.topic, "group": s.group("c"), "timestamp": str(start), "isForce": "true"}
    for _ in range(60):
        answer = asked(broker, 222, fields)
        if answer["code"] == 0:
            break
        time.sleep(0.5)  # refused until the group has stored an offset of every queue
    check(answer["code"] == 0, f"refused: {answer}")
    inbox.at_least(40)
    again = Inbox()
    again.messages = inbox.messages[20:40]
    again.exactly(sent)


SCENARIOS = {
    "send-sync": send_sync, "send-async": send_async, "send-oneway": send_oneway, "send-batch": send_batch,
    "consume-1000": consume_1000, "live": live, "order": order,
    "tags": lambda s: tags(s, "a", "b", "c"), "unicode-tags": lambda s: tags(s, "标签", "тег", "étiquette"),
    "rebalance": lambda s: rebalance(s, False), "rebalance-leave": lambda s: rebalance(s, True),
    "offsets-restart": offsets_restart, "bodies": bodies, "unicode": unicode, "too-large": too_large,
    "auto-topic": auto_topic, "broadcast": broadcast, "pull": pull, "from-last": from_last,
    "suspend": suspend, "retry": retry, "delay": delay,
    "reset-offset": reset_offset,
}


def play(namesrv, prefix, feature):
    start = time.monotonic()
    if feature not in SCENARIOS:
        verdict = "n/a\t" + NOT_APPLICABLE.get(feature, "not in this client")
    else:
        stage = Stage(namesrv, f"{prefix}-{feature}")
        outcome = []

        def scenario():
            try:
                SCENARIOS[feature](stage)
                outcome.append("ok\t")
            except Exception as failure:
                traceback.print_exc()
                outcome.append(f"FAIL\t{failure}")

        thread = threading.Thread(target=scenario, daemon=True)
        thread.start()
        thread.join(LIMIT_S)
        verdict = (outcome or [f"FAIL\tnot finished after {LIMIT_S} s"])[0].replace("\n", " ")
        threading.Thread(target=stage.close, daemon=True).start()
    print(f"RESULT\t{feature}\t{verdict}\t{int(1000 * (time.monotonic() - start))}\n", end="", flush=True)


def main():
    namesrv, prefix, *features = sys.argv[1:]
    with ThreadPoolExecutor(AT_ONCE) as players:
        for feature in features:
            players.submit(play, namesrv, prefix, feature)
    os._exit(0)  # the library's threads must not keep the process


main()
