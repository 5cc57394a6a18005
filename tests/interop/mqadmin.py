"""mqadmin 4.9.7 against our broker and against Java's, side by side: each command's output must read the same once what
differs between any two brokers (addresses, times, ids) is taken out."""

import json
import re
import socket
import struct
import time

from world import Trouble

SAME_NAME = [("brokerName", "ours")]

# (name, arguments); {n} is the name server, {b} the broker. In this order: later ones look at what earlier ones did.
COMMANDS = [
    ("updateTopic", "-n {n} -b {b} -t MqadminTopic -r 4 -w 4"),
    ("updateTopic of the cluster", "-n {n} -c DefaultCluster -t MqadminSecond -r 2 -w 2 -o true"),
    ("updateTopic of a system topic", "-n {n} -b {b} -t TBW102 -r 4 -w 4"),
    ("updateTopicPerm", "-n {n} -b {b} -t MqadminSecond -p 4"),
    ("topicRoute", "-n {n} -t MqadminTopic"),
    ("topicClusterList", "-n {n} -t MqadminTopic"),
    ("updateSubGroup", "-n {n} -b {b} -g mqadmin_group -s true -d false -r 3"),
    ("sendMessage", "-n {n} -t MqadminTopic -p hello -k key1 -c TagA -b ours -i 1"),
    ("sendMessage again", "-n {n} -t MqadminTopic -p world -k key2 -c TagB -b ours -i 1"),
    ("topicStatus", "-n {n} -t MqadminTopic"),
    ("topicStatus of an unknown topic", "-n {n} -t Nowhere"),
    ("updateTopic for retries", "-n {n} -b {b} -t %RETRY%mqadmin_group -r 1 -w 1"),
    ("resetOffsetByTime", "-n {n} -g mqadmin_group -t MqadminTopic -s now"),
    ("consumerProgress", "-n {n} -g mqadmin_group"),
    ("consumerProgress of an unknown group", "-n {n} -g nobody"),
    ("cloneGroupOffset", "-n {n} -s mqadmin_group -d mqadmin_copy -t MqadminTopic"),
    ("brokerConsumeStats", "-n {n} -b {b}"),
    ("consumerConnection", "-n {n} -g mqadmin_group"),
    ("producerConnection", "-n {n} -g nobody -t MqadminTopic"),
    ("queryCq", "-n {n} -b {b} -t MqadminTopic -q 1 -i 0 -c 10"),
    ("queryCq of an unknown queue", "-n {n} -b {b} -t MqadminTopic -q 9 -i 0 -c 10"),
    ("queryMsgByOffset", "-n {n} -t MqadminTopic -b ours -i 1 -o 0"),
    ("queryMsgByKey", "-n {n} -t MqadminTopic -k key1"),
    ("printMsgByQueue", "-n {n} -t MqadminTopic -a ours -i 1 -d true"),
    ("statsAll", "-n {n} -t MqadminTopic"),
    ("brokerStatus", "-n {n} -b {b}"),
    ("getBrokerConfig", "-n {n} -b {b}"),
    ("updateBrokerConfig", "-n {n} -b {b} -k fileReservedTime -v 48"),
    ("clusterList", "-n {n}"),
    ("topicList", "-n {n}"),
    ("cleanExpiredCQ", "-n {n} -b {b}"),
    ("cleanUnusedTopic", "-n {n} -b {b}"),
    ("deleteExpiredCommitLog", "-n {n} -b {b}"),
    ("deleteSubGroup", "-n {n} -b {b} -g mqadmin_group"),
    ("deleteTopic", "-n {n} -c DefaultCluster -t MqadminTopic"),
]

# What two brokers never have in common.
PLAIN = [
    (r"\b[0-9A-F]{32,}\b", "ID"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[,.]\d{3}", "TIME"),
    (r"\d{4}-\d\d-\d\d[ #]\d\d:\d\d:\d\d", "TIME"),
    (r"\d{14,17}", "TIME"),
    (r"\b\d{13}\b", "TIME"),
    (r"(127\.0\.0\.1|\d+\.\d+\.\d+\.\d+):\d+", "ADDRESS"),
    (r"\d+\.\d+", "FRACTION"),
    (r"\d+(ms|min)\b", "SPAN"),
    (r"\s+", " "),
]
# Their columns are figures of a moment: only the keys can be compared, and more of them harm nobody.
KEYS_ONLY = {"brokerStatus", "getBrokerConfig"}
# A line that says more on one side by design. (Java lists isEnableBatchPush and reads enableBatchPush, which we list.)
LEFT_OUT = re.compile(r"WARN|RocketMQLog|^\s*at |bodyCRC|storeSize|Message Body Path|STORE|SLF4J|isEnableBatchPush|BenchmarkTest.*%$")


def plain(name, text):
    lines = []
    for line in text.splitlines():
        if LEFT_OUT.search(line) or not line.strip():
            continue
        if name in KEYS_ONLY:
            key = re.split(r"\s*[:=]\s*", line.strip(), maxsplit=1)[0]
            lines.append(re.sub(r"_/.*", "", key))
            continue
        for pattern, word in PLAIN:
            line = re.sub(pattern, word, line)
        lines.append(line.strip())
    return sorted(set(lines))


def difference(name, ours, theirs):
    ours, theirs = plain(name, ours), plain(name, theirs)
    missing = [line for line in theirs if line not in ours]
    extra = [] if name in KEYS_ONLY else [line for line in ours if line not in theirs]
    if missing or extra:
        return "; ".join(["only theirs: " + line for line in missing[:4]] + ["only ours: " + line for line in extra[:4]])
    return None


def commit(broker, queues=4):
    """A group's first offsets (request 15): no command of mqadmin makes any."""
    host, port = broker.split(":")
    with socket.create_connection((host, int(port)), 5) as stream:
        for queue in range(queues):
            fields = dict(consumerGroup="mqadmin_group", topic="MqadminTopic", queueId=str(queue), commitOffset=str(queue % 2))
            header = json.dumps({"code": 15, "language": "JAVA", "version": 407, "opaque": queue, "flag": 0,
                                 "extFields": fields, "serializeTypeCurrentRPC": "JSON"}).encode()
            stream.sendall(struct.pack(">II", 4 + len(header), len(header)) + header)
            reader = stream.makefile("rb")
            answer = reader.read(struct.unpack(">I", reader.read(4))[0])
            if b'"code":0' not in answer:
                raise Trouble(f"an offset was not stored: {answer}")


def suite(ours, java, directory, run_client, tier):
    """{command: (verdict, how it differs, ms)}"""
    servers = [ours.standalone(directory / "store-ours", SAME_NAME), java.standalone(directory / "store-theirs")]
    results = {}

    def run(name, server, arguments):
        words = arguments.format(n=server.namesrv, b=server.broker).split()
        process = java.java("tools.command.MQAdminStartup", name.split()[0], *words, log=directory / "mqadmin.log")
        if process.wait(60) is None:
            raise Trouble(f"mqadmin {name} did not end")
        return process.log.read_text(errors="replace")

    try:
        for name, arguments in COMMANDS:
            start = time.monotonic()
            if name == "topicStatus":
                for server in servers:
                    commit(server.broker)
            outputs = [run(name, server, arguments) for server in servers]
            (directory / f"{name.replace(' ', '-')}.txt").write_text("\n=== theirs\n".join(outputs))
            differs = difference(name, *outputs)
            results[name] = ("FAIL" if differs else "ok", differs or "", int(1000 * (time.monotonic() - start)))
    finally:
        for server in servers:
            server.stop()
    return results
