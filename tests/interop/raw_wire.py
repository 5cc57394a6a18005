"""Frames as any client could write them, right and wrong, and answers made comparable: whatever two equal servers may
say differently (ports, times, places in the log) is masked. Knows nothing of what a request means."""

import json
import re
import socket
import struct
import time
import zlib

LANGUAGES = ["JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST"]
CLOSED, SILENT = "closed", "silent"
EXCEPTION = "<a failure, in words>"


def text(value):
    return value if isinstance(value, str) else json.dumps(value)


def encode(code, fields, body, opaque, form="json", flag=0, language="JAVA", version=407, remark=None):
    if form == "binary":
        pairs = b"".join(struct.pack(">H", len(key.encode())) + key.encode() + struct.pack(">i", len(text(value).encode()))
                         + text(value).encode() for key, value in (fields or {}).items())
        noted = (remark or "").encode()
        header = struct.pack(">hbhiii", code, LANGUAGES.index(language), version, opaque, flag, len(noted)) + noted
        header += struct.pack(">i", len(pairs)) + pairs
        word = 1 << 24 | len(header)
    else:
        members = {"code": code, "language": language, "version": version, "opaque": opaque, "flag": flag}
        if fields is not None:
            members["extFields"] = fields
        if remark is not None:
            members["remark"] = remark
        header = json.dumps(members).encode()
        word = len(header)
    return struct.pack(">iI", 4 + len(header) + len(body), word) + header + body


def decode(word, header):
    """code, flag, opaque, language, version, remark, ext, form"""
    if word >> 24 == 0:
        found = json.loads(header)
        return {"code": found["code"], "flag": found["flag"], "opaque": found["opaque"], "language": found["language"],
                "version": found["version"], "remark": found.get("remark"), "ext": found.get("extFields"), "form": "json"}
    code, language, version, opaque, flag, noted = struct.unpack_from(">hbhiii", header)
    at = 17 + noted
    remark = header[17:at].decode() if noted else None
    (left,) = struct.unpack_from(">i", header, at)
    at, ext = at + 4, {}
    end = at + left
    while at < end:
        (size,) = struct.unpack_from(">H", header, at)
        key = header[at + 2:at + 2 + size].decode()
        at += 2 + size
        (size,) = struct.unpack_from(">i", header, at)
        ext[key] = header[at + 4:at + 4 + size].decode()
        at += 4 + size
    return {"code": code, "flag": flag, "opaque": opaque, "language": LANGUAGES[language], "version": version,
            "remark": remark, "ext": ext or None, "form": "binary"}


class Connection:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=5)
        self.local, self.buffer, self.pushed, self.opaque = self.socket.getsockname()[1], b"", [], 1000
        self.used = time.monotonic()

    def take(self, end):
        """One frame before `end`; None when it does not come."""
        while True:
            if len(self.buffer) >= 4:
                (total,) = struct.unpack_from(">I", self.buffer)
                if len(self.buffer) >= 4 + total:
                    (word,) = struct.unpack_from(">I", self.buffer, 4)
                    length = word & 0xFFFFFF
                    header, body = self.buffer[8:8 + length], self.buffer[8 + length:4 + total]
                    self.buffer = self.buffer[4 + total:]
                    return {**decode(word, header), "body": body}
            left = end - time.monotonic()
            if left <= 0:
                return None
            self.socket.settimeout(left)
            try:
                more = self.socket.recv(1 << 18)
            except TimeoutError:
                return None
            if not more:
                raise ConnectionError
            self.buffer += more

    def exchange(self, data, opaque, limit_s):
        """What answers `opaque`; what the server asks meanwhile is kept in `pushed`."""
        try:
            self.socket.settimeout(10)  # not what the last wait for silence has left
            self.socket.sendall(data)
            end = time.monotonic() + limit_s
            while True:
                found = self.take(end)
                if found is None:
                    return SILENT
                if found["flag"] & 1 == 0:
                    self.pushed.append(found)
                    if found["code"] == 326:  # a reply is taken
                        answer = json.dumps({"code": 0, "language": "JAVA", "version": 407, "opaque": found["opaque"], "flag": 1})
                        self.socket.sendall(struct.pack(">ii", 4 + len(answer), len(answer)) + answer.encode())
                elif found["opaque"] == opaque:
                    return found
        except OSError:
            return CLOSED

    def listen(self, limit_s):
        self.exchange(b"", None, limit_s)
        pushed, self.pushed = self.pushed, []
        return pushed

    def close(self):
        self.socket.close()


class Tolerant:
    """fastjson's output: members named by numbers and objects. Answers plain values; objects as sorted pairs."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def peek(self):
        while self.data[self.at] in " \n\t\r":
            self.at += 1
        return self.data[self.at]

    def value(self):
        first = self.peek()
        if first == "{":
            self.at += 1
            members = []
            while self.peek() != "}":
                key = self.value()
                assert self.peek() == ":"
                self.at += 1
                members.append((json.dumps(key, sort_keys=True, default=str) if not isinstance(key, str) else key, self.value()))
                if self.peek() == ",":
                    self.at += 1
            self.at += 1
            return dict(sorted(members))
        if first == "[":
            self.at += 1
            items = []
            while self.peek() != "]":
                items.append(self.value())
                if self.peek() == ",":
                    self.at += 1
            self.at += 1
            return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
        found, self.at = json.JSONDecoder().raw_decode(self.data, self.at)
        return found


RECORD = struct.Struct(">iIIiiqqiq")
MAGIC_V1 = 0xDAA320A7


def records(data, port_hex):
    """A body of stored records as text, byte for byte except for places, times and ports; None if it is none."""
    at, told = 0, []
    while at < len(data):
        if len(data) - at < 91:
            return None
        size, magic, crc, queue, flag, queue_offset, place, sys_flag, born = RECORD.unpack_from(data, at)
        if magic != MAGIC_V1 or size > len(data) - at or size < 91:
            return None
        rest = at + RECORD.size
        born_host, born_port = data[rest:rest + 4].hex(), "<port>"
        _, _, _, times, prepared = struct.unpack_from(">q4siiq", data, rest + 8)
        (length,) = struct.unpack_from(">i", data, rest + 36)
        body = data[rest + 40:rest + 40 + length]
        end = rest + 40 + length
        topic_length = data[end]
        topic = data[end + 1:end + 1 + topic_length]
        (property_length,) = struct.unpack_from(">h", data, end + 1 + topic_length)
        properties = data[end + 3 + topic_length:at + size]
        assert len(properties) == property_length
        # An id holds the store's port and a place in the log.
        properties = re.sub(port_hex + b"[0-9A-F]{16}", b"<id>" + b"." * 28, properties)
        shown = body if len(body) < 200 else f"{len(body)} bytes crc {zlib.crc32(body)}"
        told.append(f"size {size} crc {crc} queue {queue} flag {flag} at {queue_offset} sys {sys_flag} born {born} {born_host} "
                    f"{born_port} times {times} prepared {'some' if prepared else 0} topic {topic} "
                    f"body {shown} properties {properties if len(properties) < 3000 else (len(properties), zlib.crc32(properties))}")
        at += size
    return told


class Side:
    """One server: its addresses, its connections, and what of its answers is its own."""

    def __init__(self, name, server):
        self.name, self.server, self.connections, self.memory = name, server, {}, {}
        self.addresses = {"broker": server.broker, "namesrv": server.namesrv}
        host, port = server.broker.rsplit(":", 1)
        self.addresses["fast"] = f"{host}:{int(port) - 2}"
        self.port_hex = f"7F000001{int(port):08X}"

    def connection(self, to):
        place = to.split("-")[0]
        # A server closes what is idle for two minutes.
        if place != "broker" and to in self.connections and time.monotonic() - self.connections[to].used > 60:
            self.drop(to)
        if to not in self.connections:
            self.connections[to] = Connection(self.addresses[place])
        self.connections[to].used = time.monotonic()
        return self.connections[to]

    def drop(self, to):
        if to in self.connections:
            self.connections.pop(to).close()

    def mask(self, value):
        """A string without what differs between two equal servers."""
        for place, address in self.addresses.items():
            value = value.replace(address, f"<{place}>")
        for connection in self.connections.values():
            value = value.replace(f"127.0.0.1:{connection.local}", "<client>")
        value = re.sub(self.port_hex + "[0-9A-F]{16}", "<id>", value)
        value = re.sub(r"(?<![0-9])1[78][0-9]{11}(?![0-9])", "<now>", value)
        return value

    def masked(self, value):
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, dict):
            return {self.mask(key): self.masked(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.masked(item) for item in value]
        if isinstance(value, int) and not isinstance(value, bool) and 1_750_000_000_000 < value < 1_900_000_000_000:
            return "<now>"
        return value

    def body(self, data):
        if not data:
            return None
        found = records(data, self.port_hex.encode())
        if found is not None:
            return found
        try:
            decoded = data.decode()
        except UnicodeDecodeError:
            return data.hex()
        if decoded[:1] in "{[":
            try:
                return self.masked(Tolerant(decoded).value())
            except (ValueError, IndexError, AssertionError):
                pass
        return self.mask(decoded)

    def told(self, answer):
        if isinstance(answer, str):
            return answer
        remark = answer["remark"]
        if remark is not None:
            remark = self.mask(remark)
            if re.match(r"^(java|javax|org|com|io)\.[\w.$]+|^Cannot invoke ", remark):
                remark = EXCEPTION
        ext = {key: self.mask(value) for key, value in sorted((answer["ext"] or {}).items())} or None
        return {"code": answer["code"], "remark": remark, "ext": ext, "body": self.body(answer["body"]), "form": answer["form"],
                "flag": answer["flag"], "language": answer["language"], "version": answer["version"]}
