"""As much of the remoting protocol as it takes to send, to remember what was acknowledged, and to read it back."""

import json
import socket
import struct
import threading

RECORD_BODY_LENGTH = 84  # position in a record with IPv4 hosts


def frame(code, fields, body=b"", opaque=0):
    header = json.dumps({"code": code, "language": "JAVA", "version": 407, "opaque": opaque, "flag": 0,
                         "extFields": fields}).encode()
    return struct.pack(">II", 4 + len(header) + len(body), len(header)) + header + body


class Connection:
    def __init__(self, address, timeout_s=10):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout_s)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def take(self, count):
        while len(self.buffer) < count:
            more = self.socket.recv(1 << 16)
            if not more:
                raise ConnectionError("closed")
            self.buffer += more
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def answer(self):
        total, word = struct.unpack(">II", self.take(8))
        content = self.take(total - 4)
        length = word & 0xFFFFFF
        return json.loads(content[:length]), content[length:]

    def call(self, code, fields, body=b""):
        self.send(frame(code, fields, body))
        return self.answer()

    def close(self):
        self.socket.close()


def send_fields(topic, queue, properties="", sys_flag=0):
    return {"a": "crash", "b": topic, "c": "TBW102", "d": "4", "e": str(queue), "f": str(sys_flag), "g": "1", "h": "0",
            "i": properties, "j": "0", "k": "false", "l": "16", "m": "false"}


class Load:
    """Connections that each keep some sends outstanding, until told to stop or cut off."""

    def __init__(self, address, topic, connections=8, window=8, name=""):
        self.acknowledged, self.refused, self.errors = {}, {}, []
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(address, topic, f"{name}{index}", window), daemon=True)
                        for index in range(connections)]
        for thread in self.threads:
            thread.start()

    def run(self, address, topic, name, window):
        waiting, number = {}, 0
        try:
            connection = Connection(address)
            while not self.stopping.is_set():
                burst = b""
                while len(waiting) < window:
                    body = f"{name}-{number}:".encode() + bytes([number % 251]) * (number * 37 % 3000)
                    burst += frame(310, send_fields(topic, number % 4), body, number)
                    waiting[number] = body
                    number += 1
                connection.send(burst)
                header, _ = connection.answer()
                body = waiting.pop(header["opaque"])
                with self.lock:
                    if header["code"] == 0:
                        place = int(header["extFields"]["queueId"]), int(header["extFields"]["queueOffset"])
                        self.acknowledged[place] = body
                    else:
                        key = f'{header["code"]} {header.get("remark", "")[:160]}'
                        self.refused[key] = self.refused.get(key, 0) + 1
            connection.close()
        except OSError as error:
            self.errors.append(str(error))

    def so_far(self):
        with self.lock:
            return dict(self.acknowledged)

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(15)
        return self.so_far()


def read_back(address, topic, queues=4):
    """{(queue, offset): body} of everything a consumer is shown; complains about gaps and foreign records."""
    found, connection = {}, Connection(address)
    for queue in range(queues):
        offset = 0
        while True:
            header, records = connection.call(11, {
                "consumerGroup": "crash-reader", "topic": topic, "queueId": str(queue), "queueOffset": str(offset),
                "maxMsgNums": "32", "sysFlag": "4", "commitOffset": "0", "suspendTimeoutMillis": "0",
                "subscription": "*", "subVersion": "0", "expressionType": "TAG"})
            if header["code"] != 0:
                break
            while records:
                size, = struct.unpack_from(">I", records)
                queue_id, = struct.unpack_from(">I", records, 12)
                queue_offset, = struct.unpack_from(">Q", records, 20)
                length, = struct.unpack_from(">I", records, RECORD_BODY_LENGTH)
                body = records[RECORD_BODY_LENGTH + 4:RECORD_BODY_LENGTH + 4 + length]
                if queue_id != queue or queue_offset != offset:
                    raise AssertionError(f"queue {queue} offset {offset} holds a record of {queue_id}/{queue_offset}")
                found[queue, offset] = body
                offset += 1
                records = records[size:]
    connection.close()
    return found


def compare(acknowledged, found):
    """What is wrong: acknowledged messages that are lost, or have another's place; bodies that stand twice."""
    lost = sum(place not in found for place in acknowledged)
    changed = sum(place in found and found[place] != body for place, body in acknowledged.items())
    twice = len(found) - len(set(found.values()))
    return {"lost": lost, "changed": changed, "twice": twice}
