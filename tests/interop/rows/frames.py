"""Frames and headers, right and wrong, and codes that nobody knows."""

import json
import struct

from rows.row import Row, without


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
