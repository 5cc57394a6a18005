"""Processes and servers: starts, awaits and ends them by pid. Knows RocketMQ's launch rituals, nothing of features."""

import atexit
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "target" / "interop"
LOOPBACK = "127.0.0.1"
# Every broker's. Segments are ours as `standalone` has them; Java is told, since it does not look into the store. A send
# may wait longer than 200 ms before it is refused: the machine is shared with several suites.
SETTINGS = {"mappedFileSizeCommitLog": 128 * 1024 * 1024, "waitTimeMillsInSendQueue": 5000}

PORTS = range(21002, 21998)
PORTS_LOCK = threading.Lock()
PORTS_TAKEN = set()  # a server may not listen yet when the next one looks for a port

# A broker written for JDK 8 needs these doors opened on JDK 17.
JAVA_OPENS = [
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in ("java.lang", "java.nio", "java.util", "sun.nio.ch", "jdk.internal.ref")
] + [f"--add-exports=java.base/{package}=ALL-UNNAMED" for package in ("jdk.internal.ref", "sun.nio.ch")]

LOGBACK = (
    '<configuration><appender name="out" class="ch.qos.logback.core.ConsoleAppender"><target>System.err</target>'
    "<encoder><pattern>%d %p %m%n</pattern></encoder></appender>"
    '<root level="WARN"><appender-ref ref="out"/></root></configuration>'
)


class Trouble(Exception):
    """Something went wrong outside of a client's feature; the text says what."""


class Process:
    """A child in a session of its own, so that its whole family ends with it. Output goes to `log`."""

    running = set()

    def __init__(self, argv, log, env=None, cwd=None):
        self.log = Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.started = time.monotonic()
        with open(self.log, "wb") as out:
            self.child = subprocess.Popen(
                [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})}, cwd=cwd, start_new_session=True,
            )
        self.name = Path(str(argv[0])).name
        Process.running.add(self)

    def wait(self, limit_s):
        """The exit code, or None when the limit passed and the process was ended."""
        try:
            return self.child.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.stop(0)

    def stop(self, grace_s=15):
        """SIGTERM, after the grace SIGKILL; answers the exit code."""
        if self.child.poll() is None and grace_s:
            self.child.terminate()
            try:
                self.child.wait(grace_s)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()
        Process.running.discard(self)
        return self.child.returncode

    def tail(self, lines=25):
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join("    | " + line[:240] for line in text[-lines:])

    def await_line(self, start, limit_s):
        """The first line of output that begins so."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            for line in self.log.read_text(errors="replace").splitlines():
                if line.startswith(start):
                    return line
            if self.child.poll() is not None:
                break
            time.sleep(0.02)
        raise Trouble(f"{self.name} never printed a line starting with {start!r}:\n{self.tail()}")

    def await_port(self, port, limit_s):
        end = time.monotonic() + limit_s
        while time.monotonic() < end and self.child.poll() is None:
            try:
                socket.create_connection((LOOPBACK, port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise Trouble(f"{self.name} does not listen on {port}:\n{self.tail()}")


# Runs inside: `lo` is there but down. What is asked of the kernel is SIOCGIFFLAGS and SIOCSIFFLAGS with IFF_UP.
HOLD = """
import fcntl, signal, socket, struct
with socket.socket() as any_socket:
    flags, = struct.unpack_from("H", fcntl.ioctl(any_socket, 0x8913, struct.pack("16s24x", b"lo")), 16)
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH22x", b"lo", flags | 1))
print("up", flush=True)
signal.pause()
"""


class Namespace:
    """A loopback network of its own, for as long as its holder lives. `enter` goes before a command that runs inside."""

    def __init__(self, log):
        user = ["-r"] if os.geteuid() else []
        for program in ("unshare", "nsenter"):
            if not shutil.which(program):
                raise Trouble(f"there is no {program}")
        self.holder = Process(["unshare", *user, "-n", sys.executable, "-c", HOLD], log)
        try:
            self.holder.await_line("up", 30)
        except Trouble:
            self.holder.stop(0)
            raise
        kept = ["-U", "--preserve-credentials"] if user else []
        self.enter = ["nsenter", "-t", str(self.holder.child.pid), *kept, "-n"]

    def end(self):
        self.holder.stop(0)


@atexit.register
def end_all():
    for process in list(Process.running):
        process.stop(5)


def free_port():
    """A port whose neighbours are free as well: a broker takes p-2 (fast port) and, Java's, p+1 (replication)."""
    with PORTS_LOCK:
        for _ in range(1000):
            port = random.choice(PORTS)
            family = range(port - 2, port + 2)
            try:
                for neighbour in family:
                    if neighbour in PORTS_TAKEN:
                        raise OSError("given to another server of this run")
                    with socket.socket() as probe:
                        probe.bind((LOOPBACK, neighbour))
            except OSError:
                continue
            PORTS_TAKEN.update(family)
            return port
    raise Trouble(f"no free port in {PORTS}")


def route(namesrv, topic):
    """The topic's route as the name server tells it (request 105), or None."""
    header = json.dumps({"code": 105, "language": "JAVA", "version": 407, "opaque": 1, "flag": 0,
                         "extFields": {"topic": topic}, "serializeTypeCurrentRPC": "JSON"}).encode()
    host, port = namesrv.split(":")
    with socket.create_connection((host, int(port)), 5) as stream:
        stream.sendall(struct.pack(">II", 4 + len(header), len(header)) + header)
        reader = stream.makefile("rb")
        length, header_length = struct.unpack(">II", reader.read(8))
        header_length &= 0xFFFFFF
        answer = json.loads(reader.read(header_length))
        body = reader.read(length - 4 - header_length)
    return body.decode() if answer["code"] == 0 else None


def await_registered(namesrv, brokers, limit_s=60):
    """Waits until the name server routes the template topic to that many brokers."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            found = route(namesrv, "TBW102") or ""
        except OSError:
            found = ""
        # Java's body has numbers as map keys, which a strict parser refuses: count instead.
        if found.count('"brokerAddrs"') >= brokers:
            return
        time.sleep(0.1)
    raise Trouble(f"name server {namesrv} does not route to {brokers} brokers after {limit_s} s: {found[:300]}")


class JavaServers:
    """Java 4.9.7's name server and broker, from Maven's jars."""

    def __init__(self, class_path, directory):
        self.class_path, self.directory = class_path, Path(directory)
        conf = self.directory / "home" / "conf"
        conf.mkdir(parents=True, exist_ok=True)
        for part in ("namesrv", "broker", "tools"):
            (conf / f"logback_{part}.xml").write_text(LOGBACK)
        self.env = {"ROCKETMQ_HOME": str(self.directory / "home")}

    def java(self, main, *arguments, heap="256m", log):
        home = f"-Duser.home={self.directory}"
        return Process(["java", *JAVA_OPENS, "-Xms" + heap, "-Xmx" + heap, "-XX:MaxDirectMemorySize=4g", home,
                        "-cp", self.class_path, "org.apache.rocketmq." + main, *arguments], log, self.env)

    def namesrv(self, name="namesrv"):
        port = free_port()
        conf = self.directory / f"{name}.conf"
        # Without paths of its own it would keep its files under the user's home.
        conf.write_text(f"listenPort={port}\nkvConfigPath={self.directory}/{name}-kv.json\n"
                        f"configStorePath={self.directory}/{name}.properties\n")
        process = self.java("namesrv.NamesrvStartup", "-c", conf, log=self.directory / f"{name}.log")
        process.await_port(port, 60)
        return Server(None, f"{LOOPBACK}:{port}", [process])

    def broker(self, namesrvs, store, name="java-a", settings=(), port=None):
        port = port or free_port()
        conf = self.directory / f"{name}.conf"
        keys = dict(brokerClusterName="DefaultCluster", brokerName=name, brokerId=0, brokerIP1=LOOPBACK,
                    listenPort=port, haListenPort=port + 1, namesrvAddr=namesrvs, storePathRootDir=store,
                    storePathCommitLog=f"{store}/commitlog", enablePropertyFilter="true", flushDiskType="SYNC_FLUSH")
        keys |= {**SETTINGS, **dict(settings)}
        conf.write_text("".join(f"{key}={value}\n" for key, value in keys.items()))
        process = self.java("broker.BrokerStartup", "-c", conf, heap="1g", log=self.directory / f"{name}.log")
        process.await_port(port, 90)
        return Server(f"{LOOPBACK}:{port}", namesrvs, [process])

    def standalone(self, store, settings=(), name="ours", port=None):
        """Both, as `keelmq` alone would be."""
        namesrv = self.namesrv("namesrv-beside-" + Path(store).name)
        broker = self.broker(namesrv.namesrv, store, name, settings, port)
        await_registered(namesrv.namesrv, 1)
        return Server(broker.broker, namesrv.namesrv, broker.processes + namesrv.processes)

    def admin(self, *arguments):
        process = self.java("tools.command.MQAdminStartup", *arguments, log=self.directory / "mqadmin.log")
        # mqadmin ends with 0 whatever happened.
        if process.wait(60) != 0 or "Exception" in process.log.read_text(errors="replace"):
            raise Trouble(f"mqadmin {' '.join(arguments)} failed:\n{process.tail()}")


class Keelmq:
    """Our release binary, with the same methods."""

    def __init__(self, binary, directory):
        self.binary, self.directory, self.runs = binary, Path(directory), 0

    def start(self, *arguments):
        self.runs += 1
        process = Process([self.binary, *arguments], self.directory / f"keelmq-{self.runs}.log")
        process.await_line("ready ", 30)
        return process

    def standalone(self, store, settings=(), port=None):
        port, namesrv = port or free_port(), free_port()
        process = self.start("--port", port, "--namesrv-port", namesrv, "--store", store, *self.set(settings))
        return Server(f"{LOOPBACK}:{port}", f"{LOOPBACK}:{namesrv}", [process])

    def broker(self, namesrvs, store, name="ours", settings=()):
        port = free_port()
        process = self.start("broker", "-n", namesrvs, "--listen", LOOPBACK, "--advertise", LOOPBACK, "--port", port,
                             "--store", store, *self.set([("brokerName", name), *dict(settings).items()]))
        return Server(f"{LOOPBACK}:{port}", namesrvs, [process])

    @staticmethod
    def set(settings):
        return [word for key, value in {**SETTINGS, **dict(settings)}.items() for word in ("--set", f"{key}={value}")]


class Server:
    """Something that runs: its addresses and its processes, the broker's first."""

    def __init__(self, broker, namesrv, processes):
        self.broker, self.namesrv, self.processes = broker, namesrv, processes

    def stop(self):
        """Ends it gently; a message when it did not go well, else None."""
        complaints = []
        for process in self.processes:
            gone = process.child.poll()
            code = process.stop(30)
            if gone is not None:
                complaints.append(f"had ended before, with {gone}:\n{process.tail()}")
            elif code not in (0, 143):  # a JVM says 143 for SIGTERM
                complaints.append(f"ended with {code}:\n{process.tail()}")
        return "\n".join(complaints) or None


def scratch(name):
    """A fresh directory for this run's stores, homes and logs."""
    directory = BUILD / "runs" / f"{os.getpid()}" / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory
