"""Every shape of a message's properties, and what is stored of it."""

from rows.row import Row, await_max, props, pull, v2


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
    # CLUSTER, REAL_TOPIC, REAL_QID are added before the limit counts, and it counts bytes.
    for length in (32700, 32720, 32740, 32750, 32760):
        long = ("a", "v" * length)
        yield Row(f"properties that grow to {length} and more", 310, v2(b="Props2", i=props(long)), b"long")
        yield Row(f"properties that grow to {length} and more by a delay", 310, v2(b="Props2", i=props(("DELAY", "1"), long)), b"long")
        yield Row(f"properties that grow to {length} and more by a transaction", 310, v2(b="Props2", f="4", i=props(("TRAN_MSG", "true"), ("PGROUP", "P"), long)), b"long")
    for letters in (10900, 10920):
        yield Row(f"properties of {letters} letters of three bytes", 310, v2(b="Props2", i=props(("a", "\u4e2d" * letters))), b"long")
    for value in ("x", "", "1.5", "99999999999"):
        yield Row(f"properties: DELAY {value!r}", 310, v2(b="Props3", i=props(("DELAY", value))), b"late")
    yield Row("properties: DELAY 18", 310, v2(b="Props3", i=props(("DELAY", "18"))), b"late")
    yield Row("properties: DELAY 19", 310, v2(b="Props3", i=props(("DELAY", "19"), ("TAGS", "x"), ("WAIT", "false"))), b"late")
    yield Row("properties: DELAY with TRAN_MSG", 310, v2(b="Props3", i=props(("DELAY", "18"), ("TRAN_MSG", "true"), ("PGROUP", "P"))), b"late")
    yield await_max("Props", 0, len(shapes))
    for index, name in enumerate(shapes):
        yield pull(f"pull back: {name}", topic="Props", queueOffset=str(index), maxMsgNums="1")
    yield pull("pull back delayed, level 18", topic="SCHEDULE_TOPIC_XXXX", queueId="17", maxMsgNums="10")
