"""The members of the header itself, in both forms: languages, versions, opaque values, flags, remarks, odd JSON."""

import json
import struct
from dataclasses import replace

from raw_wire import LANGUAGES
from rows.row import Row, v2

ASKED = {"topic": "Odd", "queueId": "0"}


def members():
    for form in ("json", "binary"):
        for language in LANGUAGES:
            yield Row(f"header: language {language}, {form}", 30, ASKED, form=form, language=language)
        for version in (0, 1, 28, 37, 62, 121, 253, 317, 333, 395, 399, 401, 413, 475, 479, 32767, -1, -32768):
            yield Row(f"header: version {version}, {form}", 30, ASKED, form=form, version=version)
            yield Row(f"header: version {version} to the name server, {form}", 105, {"topic": "TBW102"}, to="namesrv", form=form, version=version)
        for opaque in (0, -1, 1, 2 ** 31 - 1, -2 ** 31):
            yield Row(f"header: opaque {opaque}, {form}", 30, ASKED, form=form, opaque=opaque)
            yield Row(f"header: opaque {opaque} to the name server, {form}", 105, {"topic": "TBW102"}, to="namesrv", form=form, opaque=opaque)
        for flag in (4, 8, 16, -4, 2 ** 30, -2 ** 31):
            yield Row(f"header: flag {flag}, {form}", 30, ASKED, form=form, flag=flag)
        for flag in (2, 6, -2, 1, 3, 5, -1):
            yield Row(f"header: flag {flag}, {form}", 30, ASKED, form=form, flag=flag, silent=True)
        for remark in ("", " ", "x" * 10, "ż" * 100, "x" * 70000):
            yield Row(f"header: remark of {len(remark)}, {form}", 30, ASKED, form=form, remark=remark)
        for count in (1, 100, 2000):
            yield Row(f"header: {count} unknown fields, {form}", 30, {**{f"unknown{n}": str(n) for n in range(count)}, **ASKED}, form=form)
        yield Row(f"header: unknown field of 100,000, {form}", 30, {"unknown": "x" * 100_000, **ASKED}, form=form)
        yield Row(f"header: empty name and value, {form}", 30, {"": "", "e": "", **ASKED}, form=form)
        yield Row(f"header: fields of access control, {form}", 30, {"AccessKey": "a", "Signature": "s", "SecurityToken": "t", "OnsChannel": "ALIYUN", **ASKED}, form=form)
        for size in (1, 100, 100_000):
            yield Row(f"header: a body of {size} that is not wanted, {form}", 30, ASKED, b"b" * size, form=form)
        for code in (10, 11, 12, 14, 15, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 41, 42, 46, 310, 320, 324, 325):
            # 37 without a decision is a decision of none.
            yield Row(f"header: {code} without anything, one way, {form}", code, {}, form=form, oneway=True)
        for size in (0, 1, 2, 1000, 1 << 20, (4 << 20) - 1, 4 << 20):
            yield Row(f"body of {size}, {form}", 310, v2(b="Sizes"), b"s" * size, form=form)


def json_forms():
    def framed(text):
        data = text if isinstance(text, bytes) else text.encode()
        return struct.pack(">iI", 4 + len(data), len(data)) + data

    def row(name, make, **more):
        return Row(f"header JSON: {name}", raw=lambda opaque: framed(make(opaque)), to="broker-x", **more)

    def plain(opaque, **more):
        return {"code": 30, "language": "JAVA", "version": 407, "opaque": opaque, "flag": 0, "extFields": ASKED, **more}

    yield row("spaces and lines", lambda opaque: json.dumps(plain(opaque), indent=3))
    yield row("leading blanks", lambda opaque: "  \n" + json.dumps(plain(opaque)))
    yield row("trailing blanks", lambda opaque: json.dumps(plain(opaque)) + " \n ")
    yield row("single quotes", lambda opaque: json.dumps(plain(opaque)).replace('"', "'"))
    yield row("bare names", lambda opaque: "{code:30,language:'JAVA',version:407,opaque:%d,flag:0,extFields:{topic:'Odd',queueId:'0'}}" % opaque)
    yield row("escapes", lambda opaque: json.dumps(plain(opaque)).replace("topic", "\\u0074opic"))
    yield row("other order", lambda opaque: json.dumps(dict(reversed(plain(opaque).items()))))
    yield row("a field twice", lambda opaque: json.dumps(plain(opaque)).replace('"topic": "Odd"', '"topic": "x", "topic": "Odd"'))
    yield row("comma too many", lambda opaque: json.dumps(plain(opaque))[:-1] + ",}")
    yield row("numbers as text", lambda opaque: json.dumps(plain(opaque, code="30", version="407", flag="0")))
    yield row("opaque as text", lambda opaque: json.dumps(plain(str(opaque))))
    yield row("numbers with fractions", lambda opaque: json.dumps(plain(opaque, version=407.0)))
    yield row("language null", lambda opaque: json.dumps(plain(opaque, language=None)))
    yield row("language empty", lambda opaque: json.dumps(plain(opaque, language="")))
    yield row("language in small letters", lambda opaque: json.dumps(plain(opaque, language="java")))
    yield row("version null", lambda opaque: json.dumps(plain(opaque, version=None)))
    yield row("flag null", lambda opaque: json.dumps(plain(opaque, flag=None)))
    yield row("remark null", lambda opaque: json.dumps(plain(opaque, remark=None)))
    yield row("remark number", lambda opaque: json.dumps(plain(opaque, remark=5)))
    yield row("unknown members of every kind", lambda opaque: json.dumps(plain(opaque, a=None, b=[1, [2]], c={"d": {}}, e=1.5e300, f=True, g="x")))
    yield row("fields empty", lambda opaque: json.dumps(plain(opaque, extFields={})))
    yield row("not UTF-8", lambda opaque: json.dumps(plain(opaque)).encode().replace(b"Odd", b"O\xffd"))
    yield row("unicode, not escaped", lambda opaque: json.dumps(plain(opaque, extFields={**ASKED, "x": "zażółć 😀"}), ensure_ascii=False))
    yield row("nothing but a code and an opaque", lambda opaque: json.dumps({"code": 30, "opaque": opaque}))
    for name, text in {"cut": '{"code":30,"opaque":5', "text": '"code"', "number": "30", "nothing": "null", "code is an object": '{"code":{},"opaque":5}', "code is text": '{"code":"x","opaque":5}',
                       "fields are a list": '{"code":30,"opaque":5,"extFields":[1]}', "fields are text": '{"code":30,"opaque":5,"extFields":"x"}', "code too large": '{"code":99999999999,"opaque":5}',
                       "zeros": "\0\0\0\0", "open text": '{"code":"30'}.items():
        yield row(name, lambda opaque, text=text: text, silent=True)


def rows():
    for row in members():
        yield replace(row, to="broker-headers", kept=True) if row.to == "broker" else row
    yield from json_forms()
