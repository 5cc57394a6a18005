"""Batches, right and wrong, item by item."""

from rows.row import Row, await_max, item, props, pull, v1, v2


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
        yield Row(f"batch: {name}", 320, v2(b="BatchBad", m="true"), body)
    yield Row("batch: 4 MiB and some", 320, usual, item(b"x" * (4 << 20)))
    yield Row("batch: 3 MiB", 320, v2(b="BatchLarge", m="true"), item(b"x" * (3 << 20)) + item(b"y"))
    yield Row("batch: to any queue", 320, v2(b="BatchAny", m="true", d="1", e="-1"), item())
    yield await_max("BatchBad", 0, 4)
    yield pull("batch: pull back what was not refused", topic="BatchBad", maxMsgNums="32")
