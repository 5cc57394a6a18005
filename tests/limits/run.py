"""The limits of the release binary, held: many idle connections and many queues are measured, and peers that send garbage,
stop within a frame, flood, never read or connect in a loop must cost nobody but themselves. A probe sends all the while:
every send of it must be acknowledged, and soon."""

import argparse
import os
import random
import resource
import shutil
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "crash"), str(HERE.parent / "interop")]

import tools
from wire import Connection, frame, send_fields
from world import Keelmq, Trouble, end_all, route

# Bounds within reach of a test; what is measured does not depend on them.
SETTINGS = {
    "serverChannelMaxIdleTimeSeconds": 20, "writeStallCloseMs": 3000, "connectionsMax": 11000, "topicsMax": 20000,
    "connectionMemoryMaxBytes": 64 << 20, "metricsExporterType": "DISABLE",
}
# A probe's send may wait for this: the machine is shared, and a sync takes what it takes.
PROBE_MS_MAX = 5000
# What misuse may leave behind in the process, all kinds together.
GROWTH_MAX_BYTES = 192 << 20
LOG_LINES_MAX = 400
# Of the topics that are made on the way.
QUEUE_FILES = 24


class Failed(Exception):
    pass


def say(text):
    print(text, flush=True)


class Watched:
    """The broker's process as the kernel sees it."""

    def __init__(self, server):
        self.server, self.pid = server, server.processes[0].child.pid

    def memory(self, key="RssAnon"):
        """Bytes; what is mapped of files is the page cache's."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) << 10
        raise Failed(f"no {key} of the broker: has it ended?")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def maps(self):
        with open(f"/proc/{self.pid}/maps") as maps:
            return sum(1 for _ in maps)

    def settles_to(self, descriptors, limit_s=45):
        """Waits until connections are gone from the process; files of new queues may stay open."""
        end = time.monotonic() + limit_s
        while self.descriptors() > descriptors + QUEUE_FILES:
            if time.monotonic() > end:
                raise Failed(f"{self.descriptors()} descriptors are open after {limit_s} s, {descriptors} were expected")
            time.sleep(0.1)


class Probe:
    """An honest client: one send after the other on one connection, as long as the block runs."""

    def __init__(self, address):
        self.address, self.stopping, self.took_ms, self.wrong = address, threading.Event(), [], None

    def __enter__(self):
        self.connection = Connection(self.address, 30)
        self.send(0)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def send(self, number):
        start = time.monotonic()
        header, _ = self.connection.call(310, send_fields("Probe", number % 4), b"probe")
        self.took_ms.append(1000 * (time.monotonic() - start))
        if header["code"] != 0:
            raise Failed(f"the probe was refused: {header['code']} {header.get('remark')}")

    def run(self):
        number = 1
        try:
            while not self.stopping.is_set():
                self.send(number)
                number += 1
                time.sleep(0.005)
        except (OSError, Failed) as error:
            self.wrong = error

    def __exit__(self, kind, *_):
        self.stopping.set()
        self.thread.join(40)
        self.connection.close()
        if kind is None and self.wrong:
            raise Failed(f"the probe suffered: {self.wrong!r}")
        if kind is None and max(self.took_ms) > PROBE_MS_MAX:
            raise Failed(f"a send of the probe took {max(self.took_ms):.0f} ms, allowed are {PROBE_MS_MAX}")

    def __str__(self):
        took = sorted(self.took_ms)
        return f"the probe sent {len(took)}, p50 {took[len(took) // 2]:.1f} ms, longest {took[-1]:.0f} ms"


def connect(address, timeout_s=20):
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=timeout_s)


def await_close(stream, what):
    """The peer must close this one; answers before that are read and forgotten."""
    try:
        while stream.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    except socket.timeout:
        raise Failed(f"{what} was not cut off") from None
    finally:
        stream.close()


def idle(watched, count):
    """Connections that asked once and then sit there."""
    address, before = watched.server.broker, watched.memory()
    with Probe(address) as probe:
        streams = [connect(address) for _ in range(count)]
        ask = frame(30, {"topic": "Probe", "queueId": "0"})
        for stream in streams:
            stream.sendall(ask)
        for stream in streams:
            length, = struct.unpack(">I", stream.recv(4, socket.MSG_WAITALL))
            stream.recv(length, socket.MSG_WAITALL)
        memory = watched.memory() - before
        say(f"{count} idle connections: {memory / count:.0f} bytes each ({memory >> 20} MiB), {watched.descriptors()} descriptors; {probe}")
        # One more than is allowed is closed at once, and nobody else notices.
        surplus = [connect(address) for _ in range(SETTINGS["connectionsMax"] - count + 50)]
        await_close(surplus[-1], "a connection beyond connectionsMax")
        for stream in streams + surplus[:-1]:
            stream.close()
        if memory > count * 16 << 10:
            raise Failed(f"an idle connection takes {memory // count} bytes")


def topics(watched, count, queues):
    """Topics of some queues with a message in each queue."""
    address, before, root = watched.server.broker, watched.memory(), watched.server.store
    start = time.monotonic()
    connection = Connection(address, 120)

    def pipelined(requests):
        sent = waiting = 0
        requests = iter(requests)
        exhausted = False
        while not exhausted or waiting:
            burst = b""
            while waiting < 512 and not exhausted:
                one = next(requests, None)
                exhausted = one is None
                if one:
                    burst, waiting, sent = burst + one, waiting + 1, sent + 1
            if burst:
                connection.send(burst)
            header, _ = connection.answer()
            waiting -= 1
            if header["code"] != 0:
                raise Failed(f"{header['code']} {header.get('remark')}")
        return sent

    pipelined(frame(17, dict(topic=f"T{n}", defaultTopic="TBW102", readQueueNums=str(queues), writeQueueNums=str(queues), perm="6",
                             topicFilterType="SINGLE_TAG", topicSysFlag="0", order="false"), opaque=n) for n in range(count))
    made_s, empty = time.monotonic() - start, watched.memory() - before
    if not route(watched.server.namesrv, f"T{count - 1}"):
        raise Failed("the name server does not know the last topic")
    start = time.monotonic()
    pipelined(frame(310, send_fields(f"T{n % count}", n // count), b"x", n) for n in range(count * queues))
    connection.close()
    used, each = watched.memory() - before, count * queues
    disk = sum(file.stat().st_blocks * 512 for file in (root / "consumequeue").rglob("*"))
    say(f"{count} topics of {queues} queues: made in {made_s:.1f} s, {empty / count:.0f} bytes a topic; with a message in each queue "
        f"({time.monotonic() - start:.1f} s) {used / each:.0f} bytes a queue ({used >> 20} MiB), {disk / each:.0f} bytes a queue on "
        f"disk, {watched.descriptors()} descriptors, {watched.maps()} maps")
    if used > each * 8 << 10:
        raise Failed(f"a queue takes {used // each} bytes")


def silence(watched, seconds):
    """A healthy broker that nobody asks says nothing."""
    log = watched.server.processes[0].log
    before = log.read_text(errors="replace")
    time.sleep(seconds)
    said = log.read_text(errors="replace")[len(before):]
    if said:
        raise Failed(f"an idle broker said:\n{said}")
    say(f"{seconds} s of idleness: not a line of log")


def garbage(watched):
    """What is no frame closes its connection."""
    dice = random.Random(1)
    address, before = watched.server.broker, watched.descriptors()
    with Probe(address) as probe:
        for number in range(300):
            stream = connect(address)
            kind = number % 4
            bytes_ = [dice.randbytes(dice.randrange(1, 4096)), b"\x16\x03\x01" + dice.randbytes(200),
                      struct.pack(">II", 200, 100) + dice.randbytes(196), struct.pack(">i", -1) * 50][kind]
            try:
                stream.sendall(bytes_)
                stream.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            await_close(stream, f"garbage of kind {kind}")
    watched.settles_to(before)
    say(f"300 connections of garbage: all closed; {probe}")


def half_frames(watched):
    """A frame is announced and never completed."""
    address, before, memory = watched.server.broker, watched.descriptors(), watched.memory()
    with Probe(address) as probe:
        streams = []
        for _ in range(400):
            stream = connect(address, 60)
            stream.sendall(struct.pack(">II", 15 << 20, 100) + b"{" * 60_000)
            streams.append(stream)
        time.sleep(1)
        held = watched.memory() - memory
        for stream in streams:
            await_close(stream, "a half frame")
    watched.settles_to(before)
    say(f"400 half frames of 15 MiB announced and 60 KiB sent: {held >> 20} MiB held, all cut off; {probe}")
    if held > 2 * SETTINGS["connectionMemoryMaxBytes"]:
        raise Failed(f"half frames hold {held >> 20} MiB")


def never_reads(watched):
    """Asks and asks for large answers, and takes none of them."""
    address, before, memory = watched.server.broker, watched.descriptors(), watched.memory()
    filler = Connection(address, 60)
    for _ in range(64):
        header, _ = filler.call(310, send_fields("Large", 0), b"L" * 200_000)
        if header["code"] != 0:
            raise Failed(f"a large message was refused: {header}")
    filler.close()
    pull = frame(11, dict(consumerGroup="greedy", topic="Large", queueId="0", queueOffset="0", maxMsgNums="32", sysFlag="4", commitOffset="0",
                          suspendTimeoutMillis="0", subscription="*", subVersion="0", expressionType="TAG"))
    with Probe(address) as probe:
        streams = []
        for _ in range(20):
            stream = connect(address, 60)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stream.setblocking(False)
            streams.append(stream)
        cut, held, end = set(), 0, time.monotonic() + 40
        while len(cut) < len(streams) and time.monotonic() < end:
            for number, stream in enumerate(streams):
                if number not in cut:
                    try:
                        stream.send(pull * 20)
                    except BlockingIOError:
                        pass
                    except OSError:
                        cut.add(number)
            held = max(held, watched.memory() - memory)
            time.sleep(0.02)
        for stream in streams:
            stream.close()
        if len(cut) < len(streams):
            raise Failed(f"{len(streams) - len(cut)} peers that never read were not cut off")
    watched.settles_to(before)
    say(f"20 peers that ask and never read: at most {held >> 20} MiB held, all cut off; {probe}")


def floods(watched, seconds):
    """Honest frames, far more than can be served, from peers that read what they get."""
    address, before = watched.server.broker, watched.descriptors()
    stop, answered, refused = time.monotonic() + seconds, [0] * 4, [0] * 4

    def flood(number):
        connection = Connection(address, 60)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        burst = b"".join(frame(310, send_fields("Flood", n % 4), b"f" * 1000, n) for n in range(1000))
        while time.monotonic() < stop:
            sender = threading.Thread(target=connection.send, args=(burst,), daemon=True)
            sender.start()
            for _ in range(1000):
                header, _ = connection.answer()
                answered[number] += 1
                refused[number] += header["code"] != 0
            sender.join()
        connection.close()

    with Probe(address) as probe:
        threads = [threading.Thread(target=flood, args=(number,), daemon=True) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds + 90)
            if thread.is_alive():
                raise Failed("a flood was not answered to its end")
    watched.settles_to(before)
    say(f"4 floods of 1,000 sends at once for {seconds} s: {sum(answered)} answered, {sum(refused)} of them busy; {probe}")


def connect_loops(watched, seconds):
    """Connections opened and closed, or reset, as fast as it goes. Those that were reset before they were accepted once made
    the broker pause, in the end for a second before each connection that waited behind them."""
    address, before = watched.server.broker, watched.descriptors()
    stop, opened = time.monotonic() + seconds, [0] * 3

    def loop(number):
        reset = struct.pack("ii", 1, 0)
        while time.monotonic() < stop:
            try:
                stream = connect(address)
            except OSError:
                continue  # this side has run out of ports
            if number:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            if number == 2:
                stream.sendall(frame(34, {}, b'{"clientID":"loop","consumerDataSet":[],"producerDataSet":[{"groupName":"loop"}]}'))
            stream.close()
            opened[number] += 1

    with Probe(address) as probe:
        threads = [threading.Thread(target=loop, args=(number,), daemon=True) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        start = time.monotonic()
        newcomer = Connection(address, 20)
        newcomer.call(30, {"topic": "Probe", "queueId": "0"})
        newcomer.close()
        if time.monotonic() - start > PROBE_MS_MAX / 1000:
            raise Failed(f"a new connection waited for {time.monotonic() - start:.1f} s")
    watched.settles_to(before)
    say(f"connections in a loop for {seconds} s: {sum(opened)} opened; {probe}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", help="instead of target/release/keelmq")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--topics", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=4, help="of each flood")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < 2 * arguments.connections:
        say(f"only {hard} files may be open here: {hard // 2} connections instead of {arguments.connections}")
        arguments.connections = hard // 2
    folder, began, code = Path(tempfile.mkdtemp(prefix="limits-")), time.monotonic(), 1
    try:
        store = folder / "store"
        server = Keelmq(arguments.binary or tools.keelmq(), folder).standalone(store, SETTINGS)
        server.store = store
        watched = Watched(server)
        with Probe(server.broker):
            time.sleep(0.5)
        silence(watched, 12)
        idle(watched, arguments.connections)
        settled = watched.memory()
        garbage(watched)
        half_frames(watched)
        never_reads(watched)
        floods(watched, arguments.seconds)
        connect_loops(watched, arguments.seconds)
        growth = watched.memory() - settled
        say(f"memory after all of that: {growth >> 20} MiB more than before")
        if growth > GROWTH_MAX_BYTES:
            raise Failed(f"misuse left {growth >> 20} MiB behind")
        topics(watched, arguments.topics, 4)
        lines = server.processes[0].log.read_text(errors="replace").count("\n")
        # Killed: an orderly end syncs forty thousand files first, which takes this disk a minute or more.
        for process in server.processes:
            process.stop(0)
        start = time.monotonic()
        again = Keelmq(arguments.binary or tools.keelmq(), folder / "again").standalone(store, SETTINGS)
        say(f"killed and started again in {time.monotonic() - start:.1f} s with {Watched(again).memory() >> 20} MiB")
        for process in again.processes:
            process.stop(0)
        say(f"{lines} lines of log")
        if lines > LOG_LINES_MAX:
            raise Failed(f"{lines} lines of log: repeated ones must be counted instead")
        code = 0
    except (Failed, Trouble, OSError) as failure:
        say(f"FAIL {failure}")
        for log in folder.rglob("keelmq-*.log"):
            say(f"--- the end of {log.name}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-30:]))
    finally:
        end_all()
        shutil.rmtree(folder, ignore_errors=True)
    say(f"limits: {'held' if code == 0 else 'NOT held'}, {time.monotonic() - began:.0f} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
