"""Real power cuts, kills and a full disk, against the release binary: what was acknowledged must be there afterwards, at
its place, byte for byte. `--peer` shows what Java loses in its default configuration, by the same cuts."""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "interop")]

import tools
from disks import Disks, missing
from promises import Promises, broken
from wire import Connection, Load, compare, frame, read_back, send_fields
from world import JavaServers, Keelmq, Process, Trouble, end_all, free_port

TOPIC = "Crash"
SEGMENT = {"mappedFileSizeCommitLog": 16 << 20}
# So small that the log rolls many times a second.
ROLLING = {"mappedFileSizeCommitLog": 128 << 10, "maxMessageSize": 64 << 10}


def check(report, what, acknowledged, server):
    found = read_back(server.broker, TOPIC)
    wrong = compare(acknowledged, found)
    print(f"{what}: {len(acknowledged)} acknowledged, {len(found)} found, {wrong}", flush=True)
    report.append((what, len(acknowledged), wrong))


def kill(server):
    for process in server.processes:
        process.child.kill()
        process.child.wait()


def cut_power(servers, disks, number, seed, report, settings):
    """A cut under load; every other time a second one while the first is being recovered from."""
    dice = random.Random(seed)
    name, copies = f"disk{number}", []
    store = disks.make(name, 1024) / "store"
    server = servers.standalone(store, settings)
    load = Load(server.broker, TOPIC, name=f"cut{number}-")
    promises = Promises(server.broker, TOPIC, f"cut{number}-")
    time.sleep(dice.uniform(1.0, 3.0))
    acknowledged, promised = load.so_far(), promises.so_far()
    disks.cut(name, f"{name}-cut")
    load.stop()
    promises.stop()
    kill(server)
    copies.append(f"{name}-cut")
    what = f"power cut {number} (seed {seed}, segments of {settings['mappedFileSizeCommitLog'] >> 10} KiB)"
    if number % 2:
        # The machine comes back, recovery begins, and the power goes again, now or a little later.
        store = disks.power_on(copies[-1]) / "store"
        try:
            process = begin(servers, store, settings)
            time.sleep(dice.uniform(0.0, 0.1))
            again = f"{name}-again"
            disks.cut(copies[-1], again)
            process.stop(0)
            copies.append(again)
            what += ", and again during recovery"
        finally:
            disks.unmount(disks.directory / copies[-2 if len(copies) > 1 else -1])
    server = servers.standalone(disks.power_on(copies[-1]) / "store", settings)
    check(report, what, acknowledged, server)
    wrong = broken(server.broker, TOPIC, promised, max(promises.tried["positions"]))
    counts = {kind: len(made) for kind, made in promised.items()}
    print(f"    promised beside: {counts}, broken: {wrong}", flush=True)
    report.append((f"{what}, promises", sum(counts.values()), {"lost": sum(wrong.values()), "changed": 0, "twice": 0}))
    # It goes on: the next message gets the next place.
    connection = Connection(server.broker)
    header, _ = connection.call(310, send_fields(TOPIC, 0), b"after the cut")
    assert header["code"] == 0, header
    connection.close()
    complaint = server.stop()
    if complaint:
        raise Trouble(complaint)
    sound(servers, disks.directory / copies[-1] / "store")
    for copy in [name, *copies]:
        disks.drop(copy)


def begin(servers, store, settings):
    """Starts our broker and waits for nothing."""
    if not isinstance(servers, Keelmq):
        return servers.standalone(store, settings).processes[0]
    argv = [servers.binary, "--port", free_port(), "--namesrv-port", free_port(), "--store", store, *servers.set(settings)]
    return Process(argv, servers.directory / f"begun-{time.monotonic_ns()}.log")


def sound(servers, store):
    """What is left of it all is in order."""
    if isinstance(servers, Keelmq):
        process = Process([servers.binary, "store", "verify", store, "--json"], servers.directory / "verify.log")
        if process.wait(120) != 0:
            raise Trouble(f"store verify {store}:\n{process.tail()}")


def cut_lazy(servers, disks, seed, report):
    """ASYNC_FLUSH may lose what was acknowledged last: then it loses the end of each queue, and nothing before it."""
    dice = random.Random(seed)
    settings = {**SEGMENT, "flushDiskType": "ASYNC_FLUSH"}
    server = servers.standalone(disks.make("lazy", 1024) / "store", settings)
    load = Load(server.broker, TOPIC, name="lazy-")
    time.sleep(dice.uniform(2.0, 4.0))
    acknowledged = load.so_far()
    disks.cut("lazy", "lazy-cut")
    load.stop()
    kill(server)
    server = servers.standalone(disks.power_on("lazy-cut") / "store", settings)
    # `read_back` complains of gaps.
    found = read_back(server.broker, TOPIC)
    wrong = {**compare(acknowledged, found), "lost": 0}
    lost = sum(place not in found for place in acknowledged)
    print(f"power cut in ASYNC_FLUSH: {len(acknowledged)} acknowledged, the last {lost} lost, which it may, {wrong}", flush=True)
    report.append(("power cut in ASYNC_FLUSH", len(acknowledged), wrong))
    server.stop()
    sound(servers, disks.directory / "lazy-cut" / "store")
    for name in ("lazy", "lazy-cut"):
        disks.drop(name)


def kills(servers, directory, count, report):
    """One store, killed again and again under load."""
    store, acknowledged, dice = directory / "killed", {}, random.Random(count)
    for number in range(count):
        server = servers.standalone(store, SEGMENT)
        check(report, f"kill {number}", acknowledged, server)
        load = Load(server.broker, TOPIC, name=f"kill{number}-")
        time.sleep(dice.uniform(0.3, 1.2))
        kill(server)
        acknowledged |= load.stop()
        # And killed in the first moments of a start, wherever recovery is then.
        for _ in range(3 if isinstance(servers, Keelmq) else 0):
            process = begin(servers, store, SEGMENT)
            time.sleep(dice.uniform(0.0, 0.08))
            process.stop(0)
    server = servers.standalone(store, SEGMENT)
    check(report, f"kill {count}", acknowledged, server)
    server.stop()


def full_disk(servers, disks, report):
    """A disk filled to the last byte: sends are refused with a reason, pulls go on, it accepts again when space returns."""
    mount = disks.make("small", 160)
    ballast = mount / "ballast"
    with open(ballast, "wb") as file:
        file.write(b"\0" * (48 << 20))
    server = servers.standalone(mount / "store", {**SEGMENT, "diskFreeMinBytes": 0})
    acknowledged, refused = {}, None
    end = time.monotonic() + 60
    connection, body = Connection(server.broker, 20), b"x" * 200_000
    number = 0
    while refused is None and time.monotonic() < end:
        text = f"{number}:".encode() + body
        connection.send(frame(310, send_fields(TOPIC, number % 4), text, number))
        header, _ = connection.answer()
        if header["code"] == 0:
            place = int(header["extFields"]["queueId"]), int(header["extFields"]["queueOffset"])
            acknowledged[place] = text
        else:
            refused = header
        number += 1
    if refused is None or refused["code"] != 14:
        raise Trouble(f"a full disk was answered {refused}")
    print(f"full disk: refused with {refused['code']} {refused.get('remark', '')[:200]}")
    check(report, "full disk, pulls", acknowledged, server)
    connection.close()
    # Whoever starts it again while the disk is full is served what is there.
    kill(server)
    server = servers.standalone(mount / "store", {**SEGMENT, "diskFreeMinBytes": 0})
    check(report, "full disk, started again", acknowledged, server)
    connection = Connection(server.broker, 20)
    ballast.unlink()
    end, accepted = time.monotonic() + 30, False
    while not accepted and time.monotonic() < end:
        time.sleep(0.5)
        header, _ = connection.call(310, send_fields(TOPIC, 0), b"space again")
        accepted = header["code"] == 0
    if not accepted:
        raise Trouble(f"space returned, sends are still answered {header}")
    connection.close()
    check(report, "full disk, after space returned", acknowledged, server)
    complaint = server.stop()
    if complaint:
        raise Trouble(complaint)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--binary", type=Path, help="instead of target/release/keelmq")
    arguments.add_argument("--cuts", type=int, default=5)
    arguments.add_argument("--kills", type=int, default=10)
    arguments.add_argument("--full", type=int, default=1)
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    arguments.add_argument("--must", action="store_true", help="fail where it cannot be done, instead of saying so")
    arguments.add_argument("--peer", action="store_true", help="Java 4.9.7 as it comes (ASYNC_FLUSH)")
    given = arguments.parse_args()
    reason = missing()
    if reason:
        print(f"tests/crash is skipped: {reason}")
        return 1 if given.must else 0
    report, began = [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="keelmq-crash-") as scratch:
        scratch = Path(scratch)
        if given.peer:
            servers = JavaServers(tools.jars("4.9.7"), scratch / "java")
            SEGMENT["flushDiskType"] = "ASYNC_FLUSH"
        else:
            servers = Keelmq((given.binary or tools.keelmq()).resolve(), scratch)
        disks = Disks(scratch / "disks")
        try:
            print(f"seed {given.seed}")
            for number in range(given.cuts):
                settings = ROLLING if number % 3 == 1 and not given.peer else SEGMENT
                cut_power(servers, disks, number, given.seed + number, report, settings)
            if given.cuts and not given.peer:
                cut_lazy(servers, disks, given.seed, report)
            kills(servers, scratch, given.kills, report)
            for _ in range(given.full if not given.peer else 0):
                full_disk(servers, disks, report)
        finally:
            end_all()
            disks.close()
    total = {kind: sum(wrong[kind] for _, _, wrong in report) for kind in ("lost", "changed", "twice")}
    checked = sum(count for _, count, _ in report)
    print(f"{given.cuts} power cuts, {given.kills} kills: {checked} acknowledged messages checked, {total}, "
          f"{time.monotonic() - began:.0f} s")
    bad = sum(any(wrong.values()) for _, _, wrong in report)
    print(f"{len(report) - bad} passed, {bad} failed")
    return 1 if bad and not given.peer else 0


if __name__ == "__main__":
    sys.exit(main())
