"""The rows: every kind of request, right and wrong, in an order that both servers see alike."""

import json
import struct
import zlib
from dataclasses import dataclass
from typing import Any, Callable, Optional

BROKER, CLUSTER = "raw", "DefaultCluster"
BORN = 1_600_000_000_000


@dataclass
class Row:
    name: str
    code: int = 0
    fields: Optional[dict] = None
    body: Any = b""
    to: str = "broker"  # broker, fast, namesrv; "broker-x" is a connection of its own, closed after the row unless kept
    form: str = "json"
    oneway: bool = False
    silent: bool = False  # Java does not answer
    limit_s: Optional[float] = None
    language: str = "JAVA"
    version: int = 407
    raw: Optional[Callable] = None
    kept: bool = False
    listen: Optional[float] = None  # what the server asked of the client meanwhile
    until: Optional[tuple] = None
    masks: Optional[Callable] = None
    why: Optional[str] = None  # ▲ why ours differs
    ours: Any = None  # what ours answers then


def without(fields, *names):
    return {key: value for key, value in fields.items() if key not in names}


def props(*pairs, end=True):
    return "\x02".join(f"{key}\x01{value}" for key, value in pairs) + ("\x02" if end and pairs else "")


V1 = {"producerGroup": "P", "topic": "Raw", "defaultTopic": "TBW102", "defaultTopicQueueNums": "4", "queueId": "0", "sysFlag": "0",
      "bornTimestamp": str(BORN), "flag": "0", "properties": "", "reconsumeTimes": "0", "unitMode": "false", "batch": "false"}
V2 = dict(zip("abcdefghijkm", V1.values()))


def v1(**over):
    return {**V1, **over}


def v2(**over):
    return {**V2, **over}


def await_max(topic, queue, count):
    return Row(f"{topic} queue {queue} reaches {count}", until=(30, {"topic": topic, "queueId": str(queue)}, {"offset": str(count)}))


# What earlier rows left behind that differ on purpose: no groups and topics without a name or with a longer one, at least one queue.
REFUSED = ("", "HModel", "%RETRY%HModel", "g" * 121, "%RETRY%" + "g" * 121, "Queues0", "Queues-1", "Queues-2147483648", "null", "null@O", "Pull@null", "X")


def told_apart(*names):
    """Masks the body's members `names`, versions, and what earlier refusals left out."""
    def mask(value):
        if isinstance(value, dict):
            return {key: mask(item) for key, item in value.items() if key not in REFUSED and key not in names and key != "dataVersion"}
        return [mask(item) for item in value if item not in REFUSED] if isinstance(value, list) else value
    return lambda answer: answer if isinstance(answer, str) else {**answer, "body": mask(answer["body"])}


def frames():
    header = lambda opaque, **more: {"code": 30, "language": "JAVA", "version": 407, "opaque": opaque, "flag": 0,
                                     "extFields": {"topic": "None", "queueId": "0"}, **more}

    def framed(content, body=b"", word=None, total=None):
        word = len(content) if word is None else word
        return struct.pack(">iI", 4 + len(content) + len(body) if total is None else total, word) + content + body

    def members(name, **more):
        return Row(f"frame: {name}", raw=lambda opaque: framed(json.dumps({**header(opaque), **more}).encode()), to="broker-x")

    def lacking(name):
        drop = lambda opaque: framed(json.dumps(without(header(opaque), name)).encode())
        return Row(f"frame: no {name}", raw=drop, to="broker-x")

    yield members("plain")
    yield members("unknown member", more={"deep": [1]})
    yield members("serializeTypeCurrentRPC says ROCKETMQ", serializeTypeCurrentRPC="ROCKETMQ")
    yield members("version as text", version="407")
    yield members("remark", remark="hello")
    yield members("numbers for strings", extFields={"topic": "None", "queueId": 0})
    yield members("booleans for strings", extFields={"topic": "None", "queueId": 0, "x": True})
    yield members("null for a string", extFields={"topic": None, "queueId": 0})
    yield members("extFields null", extFields=None)
    yield members("language GO", language="GO")
    yield members("language CPP", language="CPP")
    yield members("language ordinal", language=9)
    yield members("language unknown", language="COBOL")
    yield members("version 317", version=317)
    yield members("version huge", version=99999)
    yield members("code as text", code="30")
    yield members("flag 4", flag=4)
    yield members("negative opaque is an opaque", flag=0)
    yield lacking("language")
    yield lacking("version")
    yield lacking("flag")
    yield lacking("extFields")
    for name, frame in {
        "total shorter than the header": lambda opaque: framed(b"{}", total=5),
        "header longer than the frame": lambda opaque: framed(json.dumps(header(opaque)).encode(), word=100000),
        "unknown serialization": lambda opaque: framed(json.dumps(header(opaque)).encode(), word=2 << 24 | 120),
        "garbage for JSON": lambda opaque: framed(b"{nonsense"),
        "array for JSON": lambda opaque: framed(b"[]"),
        "empty header": lambda opaque: framed(b""),
        "17 MiB announced": lambda opaque: struct.pack(">iI", 17 << 20, 100) + b"{}",
        "negative length": lambda opaque: struct.pack(">iI", -5, 100) + b"{}",
        "zero length": lambda opaque: struct.pack(">i", 0),
        "binary header cut": lambda opaque: framed(struct.pack(">hbhi", 30, 0, 407, opaque), word=1 << 24 | 9),
        "binary ext length beyond": lambda opaque: framed(struct.pack(">hbhiiii", 30, 0, 407, opaque, 0, 0, 5000), word=1 << 24 | 21),
        "binary remark length beyond": lambda opaque: framed(struct.pack(">hbhiiii", 30, 0, 407, opaque, 0, 9999, 0), word=1 << 24 | 21),
        "binary language unknown": lambda opaque: framed(struct.pack(">hbhiiii", 30, 99, 407, opaque, 0, 0, 0), word=1 << 24 | 21),
        "HTTP": lambda opaque: b"GET / HTTP/1.1\r\n\r\n",
    }.items():
        yield Row(f"frame: {name}", raw=frame, to="broker-x", silent=True, form="binary" if "binary" in name else "json")
    yield Row("frame: binary", 30, {"topic": "None", "queueId": "0"}, form="binary")
    yield Row("frame: binary without fields", 30, {}, form="binary", to="broker-x")
    yield Row("frame: an answer nobody asked for", raw=lambda opaque: framed(json.dumps(header(opaque, flag=1)).encode()), silent=True)
    for code in (0, 1, 9, 13, 16, 22, 23, 27, 47, 99, 209, 214, 301, 302, 326, 500, 32767, -1, 999999):
        yield Row(f"code {code} to the broker", code, {})
    yield Row("unknown code, binary", 999, {}, form="binary")
    yield Row("unknown code, one way", 999, {}, oneway=True, why="a one-way request is never answered", ours="silent")
    yield Row("unknown code on the fast port", 999, {}, to="fast")
    yield Row("pull on the fast port", 11, {}, to="fast")
    yield Row("361 on the fast port", 361, {}, to="fast")
    yield Row("max offset on the fast port", 30, {"topic": "None", "queueId": "0"}, to="fast")


def sends():
    body = b"body"
    yield Row("send makes a topic", 10, v1(), body)
    yield Row("the route of a topic just made", 105, {"topic": "Raw"}, to="namesrv")
    yield Row("send again", 10, v1(), body)
    yield Row("send, binary", 10, v1(), body, form="binary")
    yield Row("send V2", 310, v2(), body)
    yield Row("send V2, binary", 310, v2(), body, form="binary")
    yield Row("send V2 on the fast port", 310, v2(), body, to="fast")
    yield Row("send one way", 310, v2(), body, oneway=True)
    yield Row("send 320 that is no batch", 320, v2(), body)
    yield Row("send V1 fields under 310", 310, v1(), body)
    yield Row("send V2 fields under 10", 10, v2(), body)
    for name in V1:
        yield Row(f"send without {name}", 10, without(V1, name), body)
    for letter in V2:
        yield Row(f"send V2 without {letter}", 310, without(V2, letter), body)
    yield Row("send without fields", 10, None, body)
    yield Row("send with empty fields", 10, {}, body)
    yield Row("send V2 with empty fields", 310, {}, body)
    yield Row("send V2 with broker name", 310, v2(n=BROKER), body)
    yield Row("send V2 with maximum", 310, v2(l="3"), body)
    yield Row("send with unknown fields", 10, v1(zzz="1", ns="x", bname="y", AccessKey="", Signature=""), body)
    yield Row("send like C++", 10, v1(queueId=0, sysFlag=0, bornTimestamp=BORN, flag=0, defaultTopicQueueNums=4, reconsumeTimes=0,
                                      unitMode="0", batch="1"), body, language="CPP", version=63)
    yield Row("send with batch TRUE is a batch", 10, v1(batch="TRUE"), b"")
    for topic in ("", " ", "a b", "a.b", "ż", "t" * 127, "t" * 128, "a/b", "%a|b-c_D9", "%RETRY%" + "g" * 100, "%RETRY%" + "g" * 121,
                  "%DLQ%" + "g" * 122, "%DLQ%g", "%RETRY%"):
        name = topic if len(topic) < 20 else f"{topic[:9]}… of {len(topic)}"
        told = {"why": "a retry topic may be longer, as later versions have it", "ours": {"code": 0}} if len(topic) == 128 and topic[0] == "%" else {}
        if topic == "%RETRY%":
            told = {"why": "a group has a name", "ours": {"code": 1}}
        yield Row(f"send to topic {name!r}", 10, v1(topic=topic), body, **told)
    for topic in ("SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "RMQ_SYS_TRANS_OP_HALF_TOPIC", "TRANS_CHECK_MAX_TIME_TOPIC",
                  "SELF_TEST_TOPIC", "OFFSET_MOVED_EVENT", "TBW102", "BenchmarkTest", "RMQ_SYS_TRACE_TOPIC", "DefaultCluster", BROKER,
                  "DefaultCluster_REPLY_TOPIC", "rmq_sys_x", "CHECKPOINT_TOPIC"):
        yield Row(f"send to system topic {topic}", 10, v1(topic=topic), body)
    for queue in ("3", "4", "7", "8", "99", "2147483647", "2147483648", "-2147483649", "x", "", "1.5", "+1", " 1", "0x1"):
        yield Row(f"send to queue {queue!r}", 10, v1(queueId=queue), body)
    yield Row("send to any queue of one", 10, v1(topic="OneQueue", defaultTopicQueueNums="1", queueId="-1"), body)
    yield Row("send to queue -7 of one", 10, v1(topic="OneQueue", queueId="-7"), body)
    for number in ("0", "-1", "-2147483648"):
        yield Row(f"send makes a topic with {number} queues", 10, v1(topic=f"Queues{number}", defaultTopicQueueNums=number), body,
                  why="an auto-created topic has a queue at least", ours={"code": 0})
    yield Row("send makes a topic with 9 queues", 10, v1(topic="Queues9", defaultTopicQueueNums="9", queueId="7"), body)
    yield Row("nine queues wanted, eight are there", 10, v1(topic="Queues9", queueId="8"), body)
    yield Row("send makes a topic from an unknown one", 10, v1(topic="Orphan", defaultTopic="Nobody"), body)
    yield Row("send makes a topic from one that does not pass on", 10, v1(topic="Orphan", defaultTopic="Raw"), body)
    yield Row("send makes a topic from none", 10, v1(topic="Orphan", defaultTopic=""), body)
    yield Row("send makes a topic from BenchmarkTest", 10, v1(topic="Orphan", defaultTopic="BenchmarkTest"), body)
    yield Row("send makes a topic from the cluster's", 10, v1(topic="FromCluster", defaultTopic="DefaultCluster"), body)
    yield Row("send makes a topic in unit mode", 10, v1(topic="Unit", unitMode="true"), body)
    yield Row("send makes a retry topic in unit mode", 10, v1(topic="%RETRY%unit", unitMode="true"), body)
    yield Row("send of nothing", 310, v2(b="Empty"), b"")
    yield Row("send of 4 MiB", 310, v2(), b"x" * (4 << 20))
    yield Row("send of 4 MiB and a byte", 310, v2(), b"x" * ((4 << 20) + 1))
    yield Row("send with sysFlag compressed", 310, v2(b="Flags", f="1"), body)
    yield Row("send with sysFlag multi-tag", 310, v2(b="Flags", f="2"), body)
    yield Row("send with sysFlag prepared, no TRAN_MSG", 310, v2(b="Flags", f="4"), body)
    yield Row("send with sysFlag commit", 310, v2(b="Flags", f="8"), body)
    yield Row("send with sysFlag rollback", 310, v2(b="Flags", f="12"), body)
    yield Row("send with sysFlag of IPv6", 310, v2(b="Flags2", f="16"), body)
    yield Row("send with sysFlag -1", 310, v2(b="Flags3", f="-1"), body, why="the bits for IPv6 addresses are the broker's to set", ours={"code": 0})
    yield Row("send with flag -7", 310, v2(b="Flags", h="-7"), body)
    yield Row("send with born -1", 310, v2(b="Flags", g="-1"), body)
    yield Row("send with born of 2^63-1", 310, v2(b="Flags", g=str(2 ** 63 - 1)), body)
    yield Row("send with born beyond", 310, v2(b="Flags", g=str(2 ** 63)), body)
    yield Row("send with 99 reconsumes", 310, v2(b="Flags", j="99"), body)
    yield Row("send with reconsumes -1", 310, v2(b="Flags", j="-1"), body)
    yield Row("send with reconsumes empty", 310, v2(b="Flags", j=""), body)
    yield Row("send with unitMode 1", 310, v2(b="Flags", k="1"), body)
    yield await_max("Flags", 0, 9)
    yield pull("pull back flags", topic="Flags", maxMsgNums="32")


def pull(name, more=None, **fields):
    base = {"consumerGroup": "G", "topic": "Raw", "queueId": "0", "queueOffset": "0", "maxMsgNums": "2", "sysFlag": "4", "commitOffset": "0",
            "suspendTimeoutMillis": "0", "subscription": "*", "subVersion": "0", "expressionType": "TAG"}
    return Row(name, 11, without({**base, **fields}, *[key for key, value in fields.items() if value is None]), **(more or {}))


def properties():
    shapes = {
        "none": "", "one": props(("a", "1")), "without end": props(("a", "1"), end=False), "tags": props(("TAGS", "t")),
        "doubled end": props(("a", "1")) + "\x02", "leading end": "\x02" + props(("a", "1")), "no value": "a\x01\x02b\x012\x02",
        "no name": "\x011\x02b\x012\x02", "no separator": "abc\x02b\x012\x02", "two separators": "a\x01b\x01c\x02", "duplicate": props(("a", "1"), ("a", "2")),
        "short entry": "a\x011\x02b\x01\x02", "CLUSTER given": props(("CLUSTER", "mine"), ("a", "1")), "WAIT true": props(("WAIT", "true"), ("a", "1")),
        "WAIT false": props(("a", "1"), ("WAIT", "false")), "WAIT x": props(("WAIT", "x")), "unicode": props(("klucz", "zażółć 😀")),
        "KEYS": props(("KEYS", "k1 k2")), "UNIQ_KEY": props(("UNIQ_KEY", "7F0000010000000000000000")), "many": props(*[(f"p{i}", str(i)) for i in range(40)]),
        "MSG_REGION given": props(("MSG_REGION", "x"), ("TRACE_ON", "false")), "TRACE_ON": props(("TRACE_ON", "false")),
        "DELAY 0": props(("DELAY", "0")), "DELAY -1": props(("DELAY", "-1")), "TRAN_MSG false": props(("TRAN_MSG", "false")),
        "TRAN_MSG 1": props(("TRAN_MSG", "1")), "REAL_TOPIC given": props(("REAL_TOPIC", "x"), ("REAL_QID", "7")), "RETRY_TOPIC": props(("RETRY_TOPIC", "x")),
        "INNER_NUM": props(("INNER_NUM", "3")), "transient": props(("__RMQ.TRANSIENT.x", "3")), "control characters": props(("a", "\x03\n\t")),
        "large": props(("a", "v" * 30000)), "blank tag": props(("TAGS", " ")), "usual": props(("UNIQ_KEY", "7F00000100011234"), ("WAIT", "true"), ("TAGS", "A"), ("KEYS", "key")),
        "tag with bars": props(("TAGS", "a||b")), "INSTANCE_ID": props(("INSTANCE_ID", "x")), "MIN_OFFSET": props(("MIN_OFFSET", "9"), ("MAX_OFFSET", "9")),
        "BUYER_ID": props(("BUYER_ID", "1"), ("CONSUME_START_TIME", "2")),
    }
    for name, value in shapes.items():
        yield Row(f"properties: {name}", 310, v2(b="Props", i=value), name.encode())
    yield Row("properties: zero byte", 310, v2(b="Props4", i=props(("a", "\x00"))), b"zero",
              why="a zero byte is how a sector missing from a record is seen", ours={"code": 13})
    for length in (32766, 32767, 32768, 40000):
        yield Row(f"properties of {length} bytes", 310, v2(b="Props2", i="a\x01" + "v" * (length - 2)), b"long")
    yield Row("properties that become too long", 310, v2(b="Props2", i=props(("a", "v" * 32740), end=True)), b"long")
    for value in ("x", "", "1.5", "99999999999"):
        yield Row(f"properties: DELAY {value!r}", 310, v2(b="Props3", i=props(("DELAY", value))), b"late")
    yield Row("properties: DELAY 18", 310, v2(b="Props3", i=props(("DELAY", "18"))), b"late")
    yield Row("properties: DELAY 19", 310, v2(b="Props3", i=props(("DELAY", "19"), ("TAGS", "x"), ("WAIT", "false"))), b"late")
    yield Row("properties: DELAY with TRAN_MSG", 310, v2(b="Props3", i=props(("DELAY", "18"), ("TRAN_MSG", "true"), ("PGROUP", "P"))), b"late")
    yield await_max("Props", 0, len(shapes))
    for index, name in enumerate(shapes):
        yield pull(f"pull back: {name}", topic="Props", queueOffset=str(index), maxMsgNums="1")
    yield pull("pull back delayed, level 18", topic="SCHEDULE_TOPIC_XXXX", queueId="17", maxMsgNums="10")


def item(body=b"item", flag=0, properties="", size=None, body_length=None, property_length=None, magic=0, crc=0):
    text = properties.encode()
    length = 22 + len(body) + len(text) if size is None else size
    return (struct.pack(">iiiii", length, magic, crc, flag, len(body) if body_length is None else body_length) + body
            + struct.pack(">h", len(text) if property_length is None else property_length) + text)


def batches():
    usual = v2(b="Batch", m="true")
    shapes = {
        "one item": item(), "two items": item(b"1") + item(b"2"), "ten items": b"".join(item(str(n).encode(), n) for n in range(10)),
        "properties of items": item(properties=props(("a", "1"), ("TAGS", "t"))) + item(properties=props(("b", "2"), end=False)),
        "magic and CRC are not read": item(magic=77, crc=88),
        "item without body": item(b""), "unicode": item("zażółć".encode(), properties=props(("k", "ż"))),
        "WAIT in an item": item(properties=props(("WAIT", "true"), ("a", "1"))),
        "bad entries in an item": item(properties="x\x02a\x011\x02"),
        "duplicates in an item": item(properties=props(("a", "1"), ("a", "2"))),
        "DELAY in an item": item(properties=props(("DELAY", "3"))),
    }
    for name, body in shapes.items():
        yield Row(f"batch: {name}", 320, usual, body)
    yield Row("batch: under 310", 310, usual, item(b"310"))
    yield Row("batch: under 10", 10, v1(topic="Batch", batch="true"), item(b"10"))
    yield Row("batch: binary", 320, usual, item(b"binary"), form="binary")
    yield Row("batch: one way", 320, usual, item(b"one way"), oneway=True)
    yield Row("batch: outer WAIT", 320, v2(b="Batch", m="true", i=props(("WAIT", "false"))), item(b"w"))
    yield await_max("Batch", 0, 27)
    for index in range(27):
        yield pull(f"batch: pull back {index}", topic="Batch", queueOffset=str(index), maxMsgNums="1")
    yield Row("batch: outer UNIQ_KEY", 320, v2(b="Batch2", m="true", i=props(("UNIQ_KEY", "OUTER"))), item(properties=props(("UNIQ_KEY", "A"))) + item(b"none"))
    yield Row("batch: outer properties", 320, v2(b="Batch3", m="true", i=props(("x", "1"), ("a", "outer"))), item(properties=props(("a", "own"))) + item(b"none"))
    yield Row("batch: outer TRAN_MSG", 320, v2(b="Batch4", m="true", i=props(("TRAN_MSG", "true"))), item())
    yield Row("batch: outer DELAY", 320, v2(b="Batch5", m="true", i=props(("DELAY", "1"))), item())
    yield Row("batch: sysFlag prepared", 320, v2(b="Batch5", m="true", f="4"), item())
    yield Row("batch: to a retry topic", 320, v2(b="%RETRY%batch", m="true"), item())
    yield Row("batch: empty", 320, usual, b"")
    for name, body in {
        "cut in the length": b"\0\0", "cut in the item": item()[:-3], "item size too large": item(size=1000), "item size 0": item(size=0),
        "item size negative": item(size=-1), "body length too large": item(body_length=1000), "body length negative": item(body_length=-1),
        "property length too large": item(property_length=1000), "property length negative": item(property_length=-1),
        "second item cut": item(b"good") + item()[:10], "trailing bytes": item(b"good") + b"\0", "garbage": b"garbage that is no batch",
        "item size smaller than its parts": item(size=20),
    }.items():
        told = {"why": "an item whose size contradicts its parts is refused; Java does not read it", "ours": {"code": 1}} if name.startswith("item size") else {}
        yield Row(f"batch: {name}", 320, v2(b="BatchBad", m="true"), body, **told)
    yield Row("batch: 4 MiB and some", 320, usual, item(b"x" * (4 << 20)))
    yield Row("batch: 3 MiB", 320, v2(b="BatchLarge", m="true"), item(b"x" * (3 << 20)) + item(b"y"))
    yield Row("batch: to any queue", 320, v2(b="BatchAny", m="true", d="1", e="-1"), item())
    yield Row("batch: nothing of the refused is there", 30, {"topic": "BatchBad", "queueId": "0"}, why="see the items refused above", ours={"code": 0, "ext": {"offset": "0"}})


def pulls():
    topic = "Pull"
    for number in range(6):
        yield Row(f"pull: message {number}", 310, v2(b=topic, d="2", i=props(("TAGS", "AB"[number % 2]), ("n", str(number)))), f"m{number}".encode())
    yield await_max(topic, 0, 6)
    one = lambda name, more=None, **fields: pull(f"pull: {name}", more, **{"topic": topic, **fields})
    yield one("found")
    yield one("found, binary", {"form": "binary"})
    yield one("found, all", maxMsgNums="32")
    unnamed = {"why": "a group has a name", "ours": {"code": 1}}
    for name in ("consumerGroup", "topic", "queueId", "queueOffset", "maxMsgNums", "sysFlag", "commitOffset", "suspendTimeoutMillis", "subscription", "subVersion", "expressionType"):
        yield one(f"without {name}", **{name: None})
        yield one(f"with empty {name}", unnamed if name == "consumerGroup" else None, **{name: ""})
    yield Row("pull: without fields", 11, None)
    yield Row("pull: empty fields", 11, {})
    for count in ("0", "1", "-1", "32", "33", "1000", "2147483647", "2147483648", "x"):
        told = {"why": "Java's sum overflows; a count is a bound", "ours": {"code": 0, "remark": "FOUND"}} if count == "2147483647" else {}
        yield one(f"maxMsgNums {count}", told, maxMsgNums=count)
    for offset in ("-1", "1", "5", "6", "7", "100", "-9223372036854775808", "9223372036854775807", "9223372036854775808", "x"):
        yield one(f"offset {offset}", queueOffset=offset)
        if len(offset) < 4:
            yield one(f"empty queue, offset {offset}", queueId="1", queueOffset=offset)
    yield one("empty queue, offset 0", queueId="1")
    for queue in ("2", "7", "8", "-1", "99", "x"):
        yield one(f"queue {queue}", queueId=queue)
    yield one("unknown topic", topic="NoSuchTopic")
    yield one("illegal topic", topic="a b")
    yield one("blank group", consumerGroup=" ")
    yield one("long group", consumerGroup="g" * 300)
    yield one("illegal group", consumerGroup="a b!")
    for name in ("TBW102", "SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "SELF_TEST_TOPIC", "DefaultCluster", BROKER, "BenchmarkTest", "RMQ_SYS_TRACE_TOPIC", "DefaultCluster_REPLY_TOPIC"):
        yield one(f"system topic {name}", topic=name)
    yield one("system topic OFFSET_MOVED_EVENT", {"why": "no event is written: nothing reads them, and each wrong pull would cost a write", "ours": {"code": 19}}, topic="OFFSET_MOVED_EVENT")
    for expression in ("A", "B", "A || B", "A||C", "C", " A ", "||", "A||", "||A", "", " ", "a", "A B", "*", "* ", "A || *", "zażółć"):
        yield one(f"tag {expression!r}", subscription=expression, maxMsgNums="10")
    broken = {"why": "an expression that is not understood is refused, not passed over", "ours": {"code": 23}}
    yield one("kind '' of '*'", expressionType="")
    for kind in ("tag", "NONE", "SQL92", "sql92", "SQL"):
        yield one(f"kind {kind!r} of '*'", broken, expressionType=kind)
    for expression in ("n > 3", "n = '3'", "TAGS = 'A'", "n BETWEEN 1 AND 2", "n IN ('1','5')", "missing IS NULL", "n IS NOT NULL AND n < 2", "NOT (n > 1)", "TRUE", "n > 3 OR TAGS = 'B'",
                       "missing = 1", "n NOT IN ('1')", "missing NOT IN ('1')", "n <> 3"):
        yield one(f"SQL {expression}", expressionType="SQL92", subscription=expression, maxMsgNums="10")
    for expression in ("n >", "", "n > 'a'", "n IN (1,5)", "1", "((", "n = = 2"):
        yield one(f"SQL broken {expression!r}", {"why": "a broken SQL expression is refused, not passed over", "ours": {"code": 23}}, expressionType="SQL92", subscription=expression)
    for flag in range(0, 32):
        if flag & 2 == 0:
            yield one(f"sysFlag {flag}", sysFlag=str(flag), commitOffset="3", consumerGroup=f"F{flag}")
            yield Row(f"pull: offset committed by sysFlag {flag}", 14, {"consumerGroup": f"F{flag}", "topic": topic, "queueId": "0"})
    for flag in (6, 7, 22, 3):
        yield one(f"sysFlag {flag}, there are messages", sysFlag=str(flag), suspendTimeoutMillis="500")
    yield one("sysFlag -1, there are messages", sysFlag="-1")
    yield one("sysFlag of 2^31", sysFlag="2147483648")
    yield one("held one way", {"oneway": True}, sysFlag="6", queueOffset="6", suspendTimeoutMillis="100")
    yield one("may wait, offset badly beyond", sysFlag="6", queueOffset="60", suspendTimeoutMillis="500")
    yield one("may wait, offset negative", sysFlag="6", queueOffset="-4", suspendTimeoutMillis="500")
    yield one("may wait, filtered out", sysFlag="6", subscription="C", suspendTimeoutMillis="500")
    yield one("held until its time is over", {"limit_s": 14}, sysFlag="6", queueOffset="6", suspendTimeoutMillis="100")
    yield one("held on an empty queue", {"limit_s": 14}, sysFlag="7", queueId="1", suspendTimeoutMillis="100", commitOffset="9", consumerGroup="Held")
    yield Row("pull: a held pull commits at once", 14, {"consumerGroup": "Held", "topic": topic, "queueId": "1"})
    yield one("commits -5", sysFlag="5", commitOffset="-5", consumerGroup="Minus")
    yield Row("pull: -5 committed", 14, {"consumerGroup": "Minus", "topic": topic, "queueId": "0"})
    yield one("commits though nothing is found", sysFlag="5", queueOffset="99", commitOffset="7", consumerGroup="Beyond")
    yield Row("pull: committed though nothing was found", 14, {"consumerGroup": "Beyond", "topic": topic, "queueId": "0"})
    yield one("like C++", {"language": "CPP", "version": 63}, queueId=0, queueOffset=0, maxMsgNums=2, sysFlag=4, commitOffset=0, suspendTimeoutMillis=0, subVersion=0, expressionType=None)
    yield one("of version 5", {"version": 479, "why": "5.x's maxMsgBytes is kept", "ours": {"code": 0, "remark": "FOUND"}}, maxMsgBytes="50", requestSource="-1", bname=BROKER)


def offsets():
    group = {"consumerGroup": "O", "topic": "Pull", "queueId": "0"}
    for name, over in {"known queue": {}, "empty queue": {"queueId": "1"}, "unknown queue": {"queueId": "77"}, "negative queue": {"queueId": "-1"}, "unknown topic": {"topic": "NoSuchTopic"},
                       "unknown group": {"consumerGroup": "NoSuchGroup"}, "blank topic": {"topic": ""}, "blank group": {"consumerGroup": ""}, "queue x": {"queueId": "x"}, "setZeroIfNotFound false": {"setZeroIfNotFound": "false"},
                       "setZeroIfNotFound true": {"setZeroIfNotFound": "true", "queueId": "1"}, "retry topic": {"topic": "%RETRY%O"}, "at sign": {"topic": "a@b"}}.items():
        yield Row(f"14: {name}", 14, {**group, **over})
    for name in group:
        yield Row(f"14: without {name}", 14, without(group, name))
    yield Row("14: without fields", 14, None)
    yield Row("14: binary", 14, group, form="binary")
    for name, over in {"known queue": {}, "again smaller": {"commitOffset": "1"}, "empty queue": {"queueId": "1"}, "unknown queue": {"queueId": "77"}, "negative queue": {"queueId": "-1"}, "unknown topic": {"topic": "NoSuchTopic"},
                       "unknown group": {"consumerGroup": "NoSuchGroup2"}, "blank topic": {"topic": ""}, "blank group": {"consumerGroup": ""}, "queue x": {"queueId": "x"}, "offset -1": {"commitOffset": "-1", "queueId": "2"},
                       "offset huge": {"commitOffset": "9223372036854775807", "queueId": "3"}, "offset beyond": {"commitOffset": "9223372036854775808"}, "offset x": {"commitOffset": "x"}, "at sign": {"topic": "a@b"}}.items():
        yield Row(f"15: {name}", 15, {**group, "commitOffset": "5", **over})
        yield Row(f"15: {name}, read back", 14, {**group, **over})
    for name in {**group, "commitOffset": "5"}:
        yield Row(f"15: without {name}", 15, without({**group, "commitOffset": "5"}, name))
    yield Row("15: without fields", 15, None)
    yield Row("15: one way", 15, {**group, "commitOffset": "4"}, oneway=True)
    yield Row("15: one way, read back", 14, group)
    yield Row("15: binary", 15, {**group, "commitOffset": "4"}, form="binary")
    for code in (29, 30, 31, 32):
        base = {"topic": "Pull", "queueId": "0", **({"timestamp": "0"} if code == 29 else {})}
        mask = (lambda answer: {**answer, "ext": {"timestamp": "<time>"}} if isinstance(answer, dict) and answer["ext"] and (answer["ext"].get("timestamp") or "-1") != "-1" else answer) if code == 32 else None
        for name, over in {"known queue": {}, "empty queue": {"queueId": "1"}, "unknown queue": {"queueId": "77"}, "negative queue": {"queueId": "-1"}, "unknown topic": {"topic": "NoSuchTopic"}, "blank topic": {"topic": ""},
                           "queue x": {"queueId": "x"}, "queue empty": {"queueId": ""}}.items():
            yield Row(f"{code}: {name}", code, {**base, **over}, masks=mask if name == "known queue" else None)
        for name in base:
            yield Row(f"{code}: without {name}", code, without(base, name))
        yield Row(f"{code}: without fields", code, None)
        yield Row(f"{code}: binary", code, base, form="binary", masks=mask)
    for time in ("-1", "1", "1600000000000", "4000000000000", "9223372036854775807", "x", "-9223372036854775808"):
        told = {"why": "as 5.x: behind the last message is the end", "ours": {"code": 0, "ext": {"offset": "6"}}} if time[0] in "49" else {}
        yield Row(f"29: at {time}", 29, {"topic": "Pull", "queueId": "0", "timestamp": time}, **told)
    yield Row("29: empty queue at the end of time", 29, {"topic": "Pull", "queueId": "1", "timestamp": "4000000000000"})
    yield Row("29: boundary upper", 29, {"topic": "Pull", "queueId": "0", "timestamp": "0", "boundaryType": "upper"})
    yield Row("29: boundary x", 29, {"topic": "Pull", "queueId": "0", "timestamp": "0", "boundaryType": "x"})
    yield Row("30: committed false", 30, {"topic": "Pull", "queueId": "0", "committed": "false"})


def subscription(topic="Pull", expression="*", kind="TAG", version=1, **more):
    return {"topic": topic, "subString": expression, "expressionType": kind, "subVersion": version, "classFilterMode": False, "codeSet": [], "tagsSet": [], **more}


def heartbeat(client="c1", consumers=(), producers=("HP",), **more):
    return json.dumps({"clientID": client, "consumerDataSet": list(consumers), "producerDataSet": [{"groupName": name} for name in producers], **more}).encode()


def consumer(group="HG", subscriptions=None, **more):
    return {"groupName": group, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING", "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET",
            "subscriptionDataSet": [subscription()] if subscriptions is None else subscriptions, "unitMode": False, **more}


def clients():
    yield Row("34: producer", 34, {}, heartbeat())
    yield Row("34: without extFields", 34, None, heartbeat())
    yield Row("34: consumer", 34, {}, heartbeat(consumers=[consumer()]))
    yield Row("34: the group hears of itself", listen=0.5)
    yield Row("34: same again", 34, {}, heartbeat(consumers=[consumer()]))
    yield Row("34: nothing has changed", listen=0.5)
    yield Row("34: second client", 34, {}, heartbeat("c2", consumers=[consumer()]), to="broker-second", kept=True)
    yield Row("34: the first hears of the second", listen=0.5)
    yield Row("34: retry topic has a route", 105, {"topic": "%RETRY%HG"}, to="namesrv")
    yield Row("38: two clients", 38, {"consumerGroup": "HG"})
    yield Row("38: binary", 38, {"consumerGroup": "HG"}, form="binary")
    yield Row("38: unknown group", 38, {"consumerGroup": "NoSuchGroup"})
    yield Row("38: blank group", 38, {"consumerGroup": ""})
    yield Row("38: without group", 38, {})
    yield Row("38: without fields", 38, None)
    yield Row("38: producers' group", 38, {"consumerGroup": "HP"})
    yield Row("34: Go", 34, {}, heartbeat("go", [consumer("HGo", [{**subscription(expression="a||b"), "codeSet": ["97", "98"], "tagsSet": ["a", "b"]}])]), language="GO", version=317)
    yield Row("38: Go", 38, {"consumerGroup": "HGo"})
    cpp = {"groupName": "HCpp", "consumeType": 1, "messageModel": 1, "consumeFromWhere": 0, "subscriptionDataSet": [{"topic": "Pull", "subString": "*", "subVersion": "1600000000000"}]}
    yield Row("34: C++", 34, {}, heartbeat("cpp", [cpp]), language="CPP", version=63)
    yield Row("38: C++", 38, {"consumerGroup": "HCpp"})
    for name, body in {"no body": b"", "empty object": b"{}", "nonsense": b"{nonsense", "array": b"[]", "no client id": json.dumps({"producerDataSet": [{"groupName": "X"}]}).encode(),
                       "null sets": b'{"clientID":"n","consumerDataSet":null,"producerDataSet":null}', "trailing data": heartbeat() + b"xyz", "single quotes": b"{'clientID':'q','producerDataSet':[{'groupName':'Q'}]}",
                       "unquoted names": b"{clientID:'q',producerDataSet:[{groupName:'Q'}]}", "unknown member": heartbeat(zzz={"a": [1]}),
                       "consumer without group": heartbeat(consumers=[without(consumer(), "groupName")]), "consumer without subscriptions": heartbeat(consumers=[without(consumer("HNoSubs"), "subscriptionDataSet")]),
                       "null subscriptions": heartbeat(consumers=[consumer("HNull", None, subscriptionDataSet=None)]), "unknown model": heartbeat(consumers=[consumer("HModel", messageModel="X")]),
                       "model as ordinal text": heartbeat(consumers=[consumer("HModel2", messageModel="1")]), "broadcast": heartbeat(consumers=[consumer("HBroad", messageModel="BROADCASTING")]),
                       "no model": heartbeat(consumers=[without(consumer("HNoModel"), "messageModel")]), "blank group": heartbeat(consumers=[consumer("")]), "illegal group": heartbeat(consumers=[consumer("a b")]),
                       "bad SQL": heartbeat(consumers=[consumer("HSql", [subscription(kind="SQL92", expression="n >")])]), "fingerprint": heartbeat(heartbeatFingerprint=5, withoutSub=True),
                       "producer without group": b'{"clientID":"c","producerDataSet":[{}]}', "blank producer": heartbeat(producers=[""])}.items():
        told = {}
        if name in ("no client id", "null sets", "trailing data", "null subscriptions", "producer without group"):
            told = {"why": "what is absent is empty, what is behind is not read", "ours": {"code": 0}}
        if name in ("unknown model", "blank group"):
            told = {"why": "what cannot be is refused", "ours": {"code": 1}}
        yield Row(f"34: {name}", 34, {}, body, to="broker-odd", kept=True, **told)
    for group in ("HNoSubs", "HNull", "HModel", "HModel2", "HBroad", "HNoModel", "HSql", "a b", "NoSuch"):
        told = {"why": "its heartbeat was refused", "ours": {"code": 1}} if group == "HModel" else {}
        yield Row(f"38: after odd heartbeats {group}", 38, {"consumerGroup": group}, **told)
    one = lambda name, more=None, **fields: pull(f"pull as subscribed: {name}", more, **{"sysFlag": "0", "consumerGroup": "HG", "topic": "Pull", **fields})
    yield one("found", subVersion="1")
    yield one("older version", subVersion="0")
    yield one("newer version", subVersion="2")
    yield one("another topic", topic="Raw")
    yield one("offline group", consumerGroup="Nobody")
    yield one("broadcast", consumerGroup="HBroad", subVersion="1")
    yield one("bad SQL", {"why": "a broken SQL expression is refused", "ours": {"code": 23}}, consumerGroup="HSql", subVersion="1")
    yield Row("34: SQL", 34, {}, heartbeat("sql", [consumer("HSql2", [subscription(kind="SQL92", expression="n > 3", version=7)])]))
    yield one("SQL", consumerGroup="HSql2", subVersion="7", expressionType="SQL92", subscription="n > 3", maxMsgNums="10")
    yield one("SQL, newer version", consumerGroup="HSql2", subVersion="8", expressionType="SQL92")
    yield one("SQL, told TAG", consumerGroup="HSql2", subVersion="7", expressionType="TAG")
    yield one("TAG, told SQL", consumerGroup="HG", subVersion="1", expressionType="SQL92")
    yield Row("34: tags", 34, {}, heartbeat("tags", [consumer("HTags", [subscription(expression="A || C", codeSet=[65, 67], tagsSet=["A", "C"])])]))
    yield one("tags", consumerGroup="HTags", subVersion="1", maxMsgNums="10")
    yield Row("34: expression without code set", 34, {}, heartbeat("tags2", [consumer("HTags2", [subscription(expression="A")])]))
    yield one("expression without code set", {"why": "the expression counts, not the client's hashes", "ours": {"code": 0, "remark": "FOUND"}}, consumerGroup="HTags2", subVersion="1", maxMsgNums="10")
    for name, body in {"TAG": {"subscriptionData": subscription()}, "broken TAG": {"subscriptionData": subscription(expression="||")}, "SQL": {"subscriptionData": subscription(kind="SQL92", expression="a > 1")},
                       "no subscription": {}, "null kind": {"subscriptionData": subscription(kind=None)}}.items():
        yield Row(f"46: {name}", 46, {}, json.dumps({"clientId": "c", "group": "HG", "namespace": "", **body}).encode())
    yield Row("46: broken SQL", 46, {}, json.dumps({"clientId": "c", "group": "HG", "subscriptionData": subscription(kind="SQL92", expression="a >")}).encode())
    yield Row("46: unknown kind", 46, {}, json.dumps({"clientId": "c", "group": "HG", "subscriptionData": subscription(kind="X", expression="a")}).encode())
    yield Row("46: empty SQL", 46, {}, json.dumps({"clientId": "c", "group": "HG", "subscriptionData": subscription(kind="SQL92", expression="")}).encode())
    yield Row("46: no body", 46, {})
    yield Row("46: nonsense", 46, {}, b"{nonsense")

    queue = lambda topic="Pull", number=0: {"brokerName": BROKER, "queueId": number, "topic": topic}
    lock = lambda client="c1", group="HG", queues=None, **more: json.dumps({"clientId": client, "consumerGroup": group, "mqSet": [queue()] if queues is None else queues, **more}).encode()
    yield Row("41: free queue", 41, {}, lock())
    yield Row("41: same client again", 41, {}, lock())
    yield Row("41: other client", 41, {}, lock("c2"))
    yield Row("41: other group", 41, {}, lock("c2", "HG2"))
    yield Row("41: one taken, one free", 41, {}, lock("c2", queues=[queue(), queue(number=1)]))
    yield Row("41: three at once", 41, {}, lock("c3", "HG3", [queue(), queue(number=1), queue("NoSuchTopic", 9)]))
    yield Row("41: no queues", 41, {}, lock(queues=[]))
    yield Row("41: another broker's queue", 41, {}, lock("c4", "HG4", [{"brokerName": "other", "queueId": 0, "topic": "Pull"}]))
    yield Row("41: without queues", 41, {}, b'{"clientId":"c","consumerGroup":"g"}')
    absent = {"why": "what is absent is empty", "ours": {"code": 0}}
    yield Row("41: null queues", 41, {}, b'{"clientId":"c","consumerGroup":"g","mqSet":null}', **absent)
    yield Row("41: no body", 41, {})
    yield Row("41: empty object", 41, {}, b"{}")
    yield Row("41: nonsense", 41, {}, b"{nonsense")
    yield Row("41: no client", 41, {}, json.dumps({"consumerGroup": "HG5", "mqSet": [queue()]}).encode(), **absent)
    yield Row("41: binary", 41, {}, lock(), form="binary")
    yield Row("42: not the holder", 42, {}, lock("c2"))
    yield Row("42: still held", 41, {}, lock("c9"))
    yield Row("42: the holder", 42, {}, lock())
    yield Row("42: free for another", 41, {}, lock("c9"))
    yield Row("42: one way", 42, {}, lock("c9"), oneway=True)
    yield Row("42: unknown group", 42, {}, lock(group="NoSuchGroup"))
    yield Row("42: no body", 42, {})
    yield Row("42: empty object", 42, {}, b"{}", **absent)

    yield Row("35: unknown client", 35, {"clientID": "zzz", "consumerGroup": "HG", "producerGroup": "HP"})
    yield Row("35: second client", 35, {"clientID": "c2", "consumerGroup": "HG"}, to="broker-second", kept=True)
    yield Row("35: the first hears of it", listen=0.5)
    yield Row("38: one client left", 38, {"consumerGroup": "HG"})
    yield Row("35: without client", 35, {"consumerGroup": "HG"})
    yield Row("35: without groups", 35, {"clientID": "c1"})
    yield Row("35: empty groups", 35, {"clientID": "c1", "consumerGroup": "", "producerGroup": ""})
    yield Row("35: without fields", 35, None)
    yield Row("35: first client", 35, {"clientID": "c1", "consumerGroup": "HG", "producerGroup": "HP"})
    yield Row("38: none left", 38, {"consumerGroup": "HG"})


def name_server():
    ns = lambda name, code, fields=None, body=b"", **more: Row(f"ns {code}: {name}", code, fields, body, to="namesrv", **more)
    for number in (0, 1, 34, 99, 110, 999, -1):
        yield ns("unknown code", number, {}, silent=True, why="an unknown code is answered, not passed over in silence", ours={"code": 3})
    yield ns("unknown code, binary", 998, {}, form="binary", silent=True, why="an unknown code is answered", ours={"code": 3, "form": "binary"})
    yield ns("known topic", 105, {"topic": "Pull"})
    yield ns("known topic, binary", 105, {"topic": "Pull"}, form="binary")
    yield ns("known topic, version 317", 105, {"topic": "Pull"}, version=317)
    yield ns("known topic, standard JSON", 105, {"topic": "Pull", "acceptStandardJsonOnly": "true"}, version=317)
    yield ns("unknown topic", 105, {"topic": "NoSuchTopic"})
    yield ns("unknown topic, binary", 105, {"topic": "NoSuchTopic"}, form="binary")
    yield ns("blank topic", 105, {"topic": ""})
    yield ns("no topic", 105, {})
    yield ns("no fields", 105, None)
    yield ns("TBW102", 105, {"topic": "TBW102"})
    yield ns("cluster's topic", 105, {"topic": CLUSTER})
    yield ns("schedule topic", 105, {"topic": "SCHEDULE_TOPIC_XXXX"})
    yield ns("one way", 105, {"topic": "Pull"}, oneway=True)
    yield ns("cluster info", 106, {})
    yield ns("cluster info without fields", 106, None)
    yield ns("get what is not there", 101, {"namespace": "N", "key": "K"})
    yield ns("put", 100, {"namespace": "N", "key": "K", "value": "V"})
    yield ns("get", 101, {"namespace": "N", "key": "K"})
    yield ns("get, binary", 101, {"namespace": "N", "key": "K"}, form="binary")
    yield ns("put again", 100, {"namespace": "N", "key": "K", "value": "ż"})
    yield ns("get again", 101, {"namespace": "N", "key": "K"})
    yield ns("get another key", 101, {"namespace": "N", "key": "X"})
    yield ns("list", 219, {"namespace": "N"})
    yield ns("list of nothing", 219, {"namespace": "Nothing"})
    yield ns("delete what is not there", 102, {"namespace": "Nothing", "key": "K"})
    yield ns("delete", 102, {"namespace": "N", "key": "K"})
    yield ns("list what is left", 219, {"namespace": "N"}, why="a namespace is gone with its last key", ours={"code": 22})
    yield ns("put without value", 100, {"namespace": "N", "key": "K"})
    yield ns("put without key", 100, {"namespace": "N", "value": "V"})
    yield ns("put without namespace", 100, {"key": "K", "value": "V"})
    yield ns("put nothing", 100, {})
    yield ns("put empty value", 100, {"namespace": "N2", "key": "K", "value": ""})
    yield ns("get empty value", 101, {"namespace": "N2", "key": "K"})
    yield ns("get without key", 101, {"namespace": "N"})
    yield ns("get nothing", 101, {})
    yield ns("delete nothing", 102, {})
    yield ns("list without namespace", 219, {})

    version = {"timestamp": 1_600_000_000_000, "counter": 1}
    config = lambda name, queues=2, perm=6: {"topicName": name, "readQueueNums": queues, "writeQueueNums": queues, "perm": perm, "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": False}
    wrapper = lambda names, counter=1: {"dataVersion": {**version, "counter": counter}, "topicConfigTable": {name: config(name) for name in names}}
    body = lambda names=("NsA", "NsB"), counter=1: json.dumps({"filterServerList": [], "topicConfigSerializeWrapper": wrapper(names, counter)}).encode()
    register = {"brokerName": "other", "brokerAddr": "127.0.0.1:1", "clusterName": "C2", "haServerAddr": "127.0.0.1:2", "brokerId": "0", "compressed": "false", "bodyCrc32": "0"}
    yield ns("register", 103, register, body())
    yield ns("route of what was registered", 105, {"topic": "NsA"})
    yield ns("register, nothing new", 103, register, body())
    yield ns("register with more topics", 103, register, body(("NsA", "NsC"), 2))
    yield ns("route of the topic left out", 105, {"topic": "NsB"})
    yield ns("route of the topic added", 105, {"topic": "NsC"})
    yield ns("register a slave", 103, {**register, "brokerId": "1", "brokerAddr": "127.0.0.1:3"}, body())
    yield ns("route with a slave", 105, {"topic": "NsA"})
    yield ns("register CRC right", 103, {**register, "bodyCrc32": str(zlib.crc32(body(counter=3)) & 0x7FFFFFFF)}, body(counter=3))
    yield ns("register CRC wrong", 103, {**register, "bodyCrc32": "77"}, body(counter=4))
    yield ns("register without body", 103, {**register, "brokerId": "2", "brokerAddr": "127.0.0.1:4"})
    yield ns("register nonsense", 103, register, b"{nonsense")
    yield ns("register empty object", 103, {**register, "brokerId": "3", "brokerAddr": "127.0.0.1:5"}, b"{}")
    yield ns("version known, same", 322, without(register, "haServerAddr"), json.dumps({**version, "counter": 3}).encode())
    yield ns("version known, other", 322, without(register, "haServerAddr"), json.dumps({**version, "counter": 99}).encode())
    yield ns("version of an unknown broker", 322, {**register, "brokerAddr": "127.0.0.1:99"}, json.dumps(version).encode())
    yield ns("version without body", 322, register, why="no version is another version", ours={"code": 0})
    yield ns("version nonsense", 322, register, b"{nonsense")
    yield ns("topics of cluster", 224, {"cluster": "C2"})
    yield ns("topics of unknown cluster", 224, {"cluster": "C3"})
    yield ns("topics of no cluster", 224, {})
    # Any broker's address.
    yield ns("system topics", 304, {}, masks=lambda answer: {**answer, "body": without(answer["body"], "brokerAddr")})
    yield ns("unit topics", 311, {})
    yield ns("unit subscribed topics", 312, {})
    yield ns("unit subscribed others", 313, {})
    yield ns("wipe", 205, {"brokerName": "other"})
    yield ns("route after wipe", 105, {"topic": "NsA"})
    yield ns("wipe again", 205, {"brokerName": "other"})
    yield ns("add", 327, {"brokerName": "other"})
    yield ns("route after add", 105, {"topic": "NsA"})
    yield ns("wipe unknown", 205, {"brokerName": "nobody"})
    yield ns("add unknown", 327, {"brokerName": "nobody"})
    yield ns("wipe nothing", 205, {})
    yield ns("delete topic of another cluster", 216, {"topic": "NsB", "clusterName": "C9"})
    yield ns("still there", 105, {"topic": "NsB"})
    yield ns("delete topic of its cluster", 216, {"topic": "NsB", "clusterName": "C2"})
    yield ns("gone", 105, {"topic": "NsB"})
    yield ns("delete topic", 216, {"topic": "NsC"})
    yield ns("delete unknown topic", 216, {"topic": "NoSuchTopic"})
    yield ns("delete no topic", 216, {})
    yield ns("unregister the slave", 104, {**register, "brokerId": "1", "brokerAddr": "127.0.0.1:3"})
    yield ns("route without the slave", 105, {"topic": "NsA"})
    yield ns("unregister", 104, register)
    yield ns("route without anyone", 105, {"topic": "NsA"})
    yield ns("unregister again", 104, register)
    yield ns("unregister nothing", 104, {})
    yield ns("refused key", 318, {}, b"kvConfigPath=/x\n")
    yield ns("refused key 2", 318, {}, b"configStorePath=/x\n")
    yield ns("no body", 318, {})
    yield ns("a key", 318, {}, b"clusterTest=false\n")
    for name in ("brokerName", "brokerAddr", "clusterName"):
        yield ns(f"register without {name}", 103, without({**register, "brokerAddr": "127.0.0.1:77"}, name), body(("NsX", "NsY")), why="a registration without a name is refused", ours={"code": 1})
    yield ns("code 217", 217, {"topic": "T"}, b'{"queueDatas":[]}', silent=True, why="5.x's code", ours={"code": 0})


def administration():
    yield Row("21: topics", 21, {}, masks=told_apart())
    topic = {"topic": "Admin", "defaultTopic": "TBW102", "readQueueNums": "3", "writeQueueNums": "2", "perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false"}
    yield Row("17: create", 17, topic)
    yield Row("17: again", 17, topic)
    yield Row("17: binary", 17, topic, form="binary")
    yield Row("17: order", 17, {**topic, "order": "true"})
    for name in topic:
        yield Row(f"17: without {name}", 17, without(topic, name))
    for name in ("TBW102", "SELF_TEST_TOPIC", "SCHEDULE_TOPIC_XXXX", "BenchmarkTest", "DefaultCluster", BROKER, "rmq_sys_x", "", "a b", "t" * 128, "%RETRY%x", "OFFSET_MOVED_EVENT", "RMQ_SYS_TRACE_TOPIC"):
        yield Row(f"17: topic {name[:30]!r}", 17, {**topic, "topic": name})
    bad = "what cannot be served is refused"
    yield Row("17: perm 99", 17, {**topic, "topic": "Bad", "perm": "99"}, why=bad, ours={"code": 1})
    yield Row("17: queues negative", 17, {**topic, "topic": "Bad", "readQueueNums": "-1"}, why=bad, ours={"code": 1})
    yield Row("17: filter type X", 17, {**topic, "topicFilterType": "X"})
    yield Row("17: perm x", 17, {**topic, "perm": "x"})
    yield Row("17: read only", 17, {**topic, "topic": "ReadOnly", "perm": "4"})
    yield Row("17: write only", 17, {**topic, "topic": "WriteOnly", "perm": "2"})
    yield Row("17: no write queues", 17, {**topic, "topic": "NoWrite", "writeQueueNums": "0"})
    yield Row("send to a topic that is only read", 310, v2(b="ReadOnly"), b"x")
    yield pull("pull from a topic that is only written", topic="WriteOnly")
    yield Row("send to any queue of none to write", 310, v2(b="NoWrite", e="-1"), b"x")
    yield Row("send to queue 0, none to write", 310, v2(b="NoWrite", e="0"), b"x")
    yield Row("send to read queue 2 of 3/2", 310, v2(b="Admin", e="2"), b"x")
    yield Row("send to queue 3 of 3/2", 310, v2(b="Admin", e="3"), b"x")
    yield Row("route of 3/2", 105, {"topic": "Admin"}, to="namesrv")
    group = {"groupName": "AG", "consumeEnable": True, "consumeFromMinEnable": True, "consumeBroadcastEnable": False, "retryQueueNums": 2, "retryMaxTimes": 3, "brokerId": 0, "whichBrokerWhenConsumeSlowly": 1,
             "notifyConsumerIdsChangedEnable": True}
    encoded = lambda **over: json.dumps({**group, **over}).encode()
    yield Row("200: create", 200, {}, encoded())
    yield Row("200: disabled", 200, {}, encoded(groupName="Off", consumeEnable=False))
    yield Row("200: no body", 200, {})
    yield Row("200: nonsense", 200, {}, b"{nonsense")
    yield Row("200: only a name", 200, {}, b'{"groupName":"Bare"}')
    yield Row("200: no name", 200, {}, b"{}")
    yield pull("pull of a disabled group", topic="Pull", consumerGroup="Off")
    yield Row("34: group that may not broadcast", 34, {}, heartbeat("nb", [consumer("AG", messageModel="BROADCASTING")]))
    yield pull("pull of a group that may not broadcast", topic="Pull", consumerGroup="AG", sysFlag="0")
    yield Row("201: groups", 201, {}, masks=told_apart())
    yield Row("202: stats", 202, {"topic": "Pull"}, masks=told_apart("topicPutTps"))
    yield Row("202: unknown topic", 202, {"topic": "NoSuchTopic"})
    yield Row("202: no topic", 202, {})
    yield Row("203: connections", 203, {"consumerGroup": "HTags"})
    yield Row("203: offline", 203, {"consumerGroup": "NoSuchGroup"})
    yield Row("203: no group", 203, {})
    yield Row("204: unknown", 204, {"producerGroup": "NoSuchGroup"})
    yield Row("34: producer for 204", 34, {}, heartbeat("p204", producers=["P204"]))
    yield Row("204: connections", 204, {"producerGroup": "P204"})
    yield Row("328: producers", 328, {}, masks=told_apart())
    yield Row("208: of one topic", 208, {"consumerGroup": "O", "topic": "Pull"})
    yield Row("208: of all", 208, {"consumerGroup": "O"})
    yield Row("208: unknown group", 208, {"consumerGroup": "NoSuchGroup"})
    yield Row("208: no group", 208, {})
    yield Row("300: who consumes", 300, {"topic": "Pull"}, masks=told_apart())
    yield Row("300: unknown topic", 300, {"topic": "NoSuchTopic"})
    yield Row("303: time span", 303, {"topic": "Pull", "group": "O"}, masks=told_apart("delayTime", "consumeTimeStampStr", "minTimeStampStr", "maxTimeStampStr"))
    yield Row("303: unknown topic", 303, {"topic": "NoSuchTopic", "group": "O"})
    yield Row("305: system topics", 305, {})
    yield Row("307: offline", 307, {"consumerGroup": "NoSuchGroup", "clientId": "c", "jstackEnable": "false"})
    yield Row("307: old client", 307, {"consumerGroup": "HCpp", "clientId": "cpp", "jstackEnable": "false"}, limit_s=14, why="the time-out in words", ours={"code": 207})
    yield Row("308: correction", 308, {"compareGroup": "O", "topic": "Pull"})
    yield Row("309: unknown message", 309, {"consumerGroup": "HG", "clientId": "c", "msgId": "x", "brokerName": BROKER})
    yield Row("314: clone", 314, {"srcGroup": "O", "destGroup": "O2", "topic": "Pull", "offline": "true"})
    yield Row("314: cloned", 14, {"consumerGroup": "O2", "topic": "Pull", "queueId": "0"})
    yield Row("315: unknown stats", 315, {"statsName": "X", "statsKey": "Y"})
    yield Row("321: queue", 321, {"topic": "Pull", "queueId": "0", "index": "0", "count": "2", "consumerGroup": "HG"}, masks=told_apart("physicOffset"))
    yield Row("321: unknown topic", 321, {"topic": "NoSuchTopic", "queueId": "0", "index": "0", "count": "2"}, why="an unknown queue is refused, not made", ours={"code": 1})
    yield Row("321: count 0", 321, {"topic": "Pull", "queueId": "0", "index": "0", "count": "0"})
    yield Row("222: offline", 222, {"topic": "Pull", "group": "O", "timestamp": "0", "isForce": "true"})
    yield Row("222: unknown topic", 222, {"topic": "NoSuchTopic", "group": "O", "timestamp": "0", "isForce": "true"})
    yield Row("223: offline", 223, {"topic": "Pull", "group": "NoSuchGroup"})
    yield Row("306: clean", 306, {})
    yield Row("316: clean topics", 316, {})
    yield Row("25: no body", 25, {})
    yield Row("25: unknown key", 25, {}, b"zzz=1\n")
    yield Row("207: delete", 207, {"groupName": "AG"})
    yield Row("207: unknown", 207, {"groupName": "NoSuchGroup"})
    yield Row("207: no name", 207, {})
    yield Row("215: delete", 215, {"topic": "Admin"})
    yield Row("215: deleted", 30, {"topic": "Admin", "queueId": "2"})
    yield Row("215: unknown", 215, {"topic": "NoSuchTopic"})
    yield Row("215: system", 215, {"topic": "TBW102"})
    yield Row("215: blank", 215, {"topic": ""})
    yield Row("215: no topic", 215, {})
    yield Row("43: all offsets", 43, {}, masks=told_apart())
    yield Row("45: delay offsets", 45, {}, masks=lambda answer: answer if isinstance(answer, str) else {**answer, "body": None})


def place(row):
    """Where the message of an earlier row lies, from its id."""
    return lambda side: str(int(side.memory[row]["ext"]["msgId"][16:32], 16)) if row in side.memory and (side.memory[row]["ext"] or {}).get("msgId") else "0"


def kinds():
    message = {"offset": place("36: message"), "group": "BackG", "delayLevel": "0", "originMsgId": "x", "originTopic": "Back", "unitMode": "false"}
    yield Row("36: message", 310, v2(b="Back", i=props(("TAGS", "t"), ("KEYS", "k"), ("UNIQ_KEY", "U1"))), b"back")
    yield Row("33: a message", 33, {"offset": place("36: message")})
    yield Row("33: a message, binary", 33, {"offset": place("36: message")}, form="binary")
    yield Row("33: nothing there", 33, {"offset": "999999999999"})
    yield Row("33: in the middle", 33, {"offset": "7"})
    yield Row("33: negative", 33, {"offset": "-1"})
    yield Row("33: x", 33, {"offset": "x"})
    yield Row("33: no offset", 33, {})
    yield Row("36: back to the queue", 36, {**message, "delayLevel": "18"})
    yield Row("36: back, binary", 36, {**message, "delayLevel": "18"}, form="binary")
    yield Row("36: dead letter", 36, {**message, "delayLevel": "-1"})
    yield Row("36: no retries", 36, {**message, "maxReconsumeTimes": "0"})
    yield Row("36: nothing there", 36, {**message, "offset": "999999999999"})
    yield Row("36: offset negative", 36, {**message, "offset": "-1"})
    for name in without(message, "offset"):
        yield Row(f"36: without {name}", 36, without({**message, "delayLevel": "17"}, name))
    yield Row("36: without offset", 36, without(message, "offset"))
    yield Row("36: without fields", 36, None)
    yield Row("36: blank group", 36, {**message, "group": ""}, why="a group has a name", ours={"code": 1})
    yield Row("36: level 99", 36, {**message, "delayLevel": "99"})
    yield Row("36: one way", 36, {**message, "delayLevel": "-1"}, oneway=True)
    yield await_max("%DLQ%BackG", 0, 3)
    yield pull("36: pull back dead letters", topic="%DLQ%BackG", maxMsgNums="10")
    yield pull("36: pull back level 18", topic="SCHEDULE_TOPIC_XXXX", queueId="17", queueOffset="2", maxMsgNums="10")
    yield Row("send to a retry topic, exhausted", 310, v2(b="%RETRY%BackG", j="16"), b"x")
    yield Row("send to a retry topic, last one", 310, v2(b="%RETRY%BackG", j="15"), b"x")
    yield Row("send to a retry topic, own maximum", 310, v2(b="%RETRY%BackG", j="3", l="3"), b"x")
    yield await_max("%DLQ%BackG", 0, 5)
    yield pull("send to a retry topic: pull back", topic="%DLQ%BackG", queueOffset="3", maxMsgNums="10")

    half = props(("TRAN_MSG", "true"), ("PGROUP", "TP"), ("UNIQ_KEY", "T1"), ("TAGS", "t"))
    yield Row("37: half", 310, v2(a="TP", b="Tran", f="4", i=half), b"half")
    yield Row("37: half again", 310, v2(a="TP", b="Tran", f="4", i=half), b"half 2")
    end = lambda row, offset, decision, **more: {"topic": "Tran", "producerGroup": "TP", "tranStateTableOffset": offset, "commitLogOffset": place(row), "commitOrRollback": decision, "fromTransactionCheck": "false",
                                                 "msgId": "T1", "transactionId": "T1", **more}
    yield Row("37: unknown decision 0", 37, end("37: half", "1", "0"), silent=True)
    yield Row("37: unknown decision 5", 37, end("37: half", "1", "5"))
    yield Row("37: wrong group", 37, end("37: half", "1", "8", producerGroup="X"))
    yield Row("37: wrong queue offset", 37, end("37: half", "7", "8"))
    yield Row("37: nothing there", 37, {**end("37: half", "1", "8"), "commitLogOffset": "99999999999"})
    yield Row("37: not a half", 37, end("36: message", "0", "8"))
    for name in ("producerGroup", "tranStateTableOffset", "commitLogOffset", "commitOrRollback"):
        yield Row(f"37: without {name}", 37, without(end("37: half", "1", "8"), name), silent=True)
    offset = lambda row: lambda side: (side.memory[row]["ext"] or {}).get("queueOffset", "0") if row in side.memory else "0"
    yield Row("37: commit", 37, {**end("37: half", "1", "8"), "tranStateTableOffset": offset("37: half")})
    yield Row("37: rollback", 37, {**end("37: half again", "1", "12"), "tranStateTableOffset": offset("37: half again")})
    yield await_max("Tran", 0, 1)
    yield pull("37: pull back", topic="Tran")
    yield pull("37: pull back halves", topic="RMQ_SYS_TRANS_HALF_TOPIC", maxMsgNums="10")

    key = {"topic": "Back", "key": "k", "maxNum": "10", "beginTimestamp": "0", "endTimestamp": "4000000000000"}
    found = lambda answer: answer if isinstance(answer, str) else {**answer, "ext": sorted(answer["ext"] or {}), "form": None}
    yield Row("12: found", 12, key, masks=found)
    yield Row("12: found, binary", 12, key, form="binary", masks=found)
    yield Row("12: by unique key", 12, {**key, "key": "U1", "_UNIQUE_KEY_QUERY": "true"}, masks=found)
    yield Row("12: unknown key", 12, {**key, "key": "nokey"})
    yield Row("12: another topic", 12, {**key, "topic": "NoSuchTopic"})
    yield Row("12: no messages wanted", 12, {**key, "maxNum": "0"})
    yield Row("12: before all time", 12, {**key, "endTimestamp": "1"})
    for name in key:
        yield Row(f"12: without {name}", 12, without(key, name))
    for code, fields in ((324, v1), (325, v2)):
        of = (lambda **over: fields(**over)) if code == 325 else (lambda **over: v1(**{{"b": "topic", "i": "properties", "d": "defaultTopicQueueNums"}[name]: value for name, value in over.items()}))
        yield Row(f"{code}: nobody to tell", code, of(b="DefaultCluster_REPLY_TOPIC", d="1", i=props(("REPLY_TO_CLIENT", "nobody"), ("CORRELATION_ID", "1"))), b"reply")
        yield Row(f"{code}: without asker", code, of(b="DefaultCluster_REPLY_TOPIC", i=""), b"reply")
        yield Row(f"{code}: asker is there", code, of(b="DefaultCluster_REPLY_TOPIC", i=props(("REPLY_TO_CLIENT", "p204"), ("CORRELATION_ID", "1"))), b"reply")
        yield Row(f"{code}: unknown topic", code, of(b=f"Reply{code}", i=props(("REPLY_TO_CLIENT", "nobody"))), b"reply")
        yield Row(f"{code}: blank topic", code, of(b="", i=props(("REPLY_TO_CLIENT", "nobody"))), b"reply")
        yield Row(f"{code}: without fields", code, None, b"reply")
    for code in (50, 51, 52, 53, 54):
        yield Row(f"{code}: access lists", code, {}, silent=code in (52, 54), **({"why": "a code is never left unanswered", "ours": {"code": 3}} if code in (52, 54) else {}))
    for code in (60, 61, 351, 352, 343, 345, 370, 400, 401, 402):
        yield Row(f"{code}: later versions' code", code, {})
    yield Row("18: later versions' list of topics", 18, {}, b'{"topicConfigList":[]}', why="5.x's code is served", ours={"code": 0})
    yield Row("361: lite pull", 361, {**pull("", topic="Pull").fields, "sysFlag": "20"}, why="5.x's lite pull is served", ours={"code": 0, "remark": "FOUND"})


def poison():
    """Last: such a record stops the dispatch of 4.9.7 for good, so that it sees no later message."""
    yield Row("batch: item properties that become too long", 320, v2(b="BatchLong", m="true"), item(properties="a\x01" + "v" * 32764),
              why="a record whose properties' length does not fit its field is refused, not stored as poison", ours={"code": 13})


def rows():
    for group in (frames, sends, properties, batches, pulls, offsets, clients, name_server, kinds, administration, poison):
        yield from group()
