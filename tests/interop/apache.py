"""Apache RocketMQ's own integration tests (rocketmq-test 4.9.7) against two brokers of one cluster. Their base class, which
would start Java's servers inside the test, is replaced by one that finds those which run already."""

import concurrent.futures
import re
import time
import zipfile
from pathlib import Path

import tools
from world import JAVA_OPENS, LOGBACK, Process, Trouble, await_registered, scratch

VERSION = "4.9.7"
# What the suite's own base gives its brokers.
SETTINGS = [("enablePropertyFilter", "true"), ("mappedFileSizeCommitLog", 100 << 20), ("maxIndexNum", 1000), ("maxHashSlotNum", 4000)]
# Other storage and TLS are no part of this broker; the last is a base class in spite of its name.
LEFT_OUT = re.compile(r"/(dledger|lmq|tls)/|BaseBroadCastIT")
CLASS_LIMIT_S = 300
# Most of a class's time is a client waiting for its next rebalance.
AT_ONCE = 4


def classes(jars):
    """The names of all test classes."""
    with zipfile.ZipFile(Path(jars) / f"rocketmq-test-{VERSION}-tests.jar") as jar:
        names = sorted(name for name in jar.namelist() if name.endswith("IT.class") and not LEFT_OUT.search(name))
    return [name.removesuffix(".class").replace("/", ".") for name in names]


def play(name, class_path, namesrv):
    """(verdict, reason, ms) of one class in a JVM of its own."""
    short = name.rsplit(".", 1)[1]
    directory = scratch(f"apache/{short}")
    home = directory / "home"
    (home / "conf").mkdir(parents=True)
    (home / "conf" / "logback.xml").write_text(LOGBACK)
    argv = ["java", *JAVA_OPENS, "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Duser.home={home}",
            f"-Dlogback.configurationFile={home}/conf/logback.xml", f"-Drocketmq.client.logRoot={home}", f"-Dnamesrv={namesrv}",
            "-cp", class_path, "OneClass", name]
    start = time.monotonic()
    process = Process(argv, directory / "output.log", {"ROCKETMQ_HOME": str(home)}, cwd=directory)
    code = process.wait(CLASS_LIMIT_S)
    ms = round((time.monotonic() - start) * 1000)
    text = process.log.read_text(errors="replace")
    ran = re.search(r"^CLASS ran (\d+) failed (\d+) ignored (\d+)$", text, re.M)
    if code == 0 and ran:
        return ("ok", "", ms) if int(ran[1]) else ("n/a", "the suite itself ignores it", ms)
    failed = re.findall(r"^FAILED (.*)$", text, re.M)
    ended = f"ended with {code}" if code is not None else f"was ended after {CLASS_LIMIT_S} s"
    return ("FAIL", f"{ended}; {'; '.join(failed) or 'no test says why'}; all of it in {process.log}", ms)


def suite(ours, _java, directory, _run_client, _tier):
    """{class: (verdict, reason, ms)}"""
    jars, class_path = tools.apache(VERSION)
    servers = []
    try:
        first = ours.standalone(directory / "store-0", [*SETTINGS, ("brokerName", "broker-0")])
        servers = [first, ours.broker(first.namesrv, directory / "store-1", "broker-1", SETTINGS)]
        await_registered(first.namesrv, 2)
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            plays = {name.rsplit(".", 1)[1]: pool.submit(play, name, class_path, first.namesrv) for name in classes(jars)}
            results = {short: verdict.result() for short, verdict in plays.items()}
        if not results:
            raise Trouble("the suite's jar has no tests")
        return results
    finally:
        for server in servers:
            server.stop()
