"""mqadmin 4.9.7 and 5.4.0 against our broker and against Java's, side by side: each command's output must read the same
once what differs between any two brokers (addresses, times, ids) is taken out."""

import concurrent.futures
import json
import re
import socket
import struct
import subprocess
import time

import tools
from world import Trouble

SAME_NAME = [("brokerName", "ours"), ("traceTopicEnable", "true")]
VERSIONS = ["4.9.7", "5.4.0"]

# (name, arguments): the first word of the name is the command, {n} the name server, {b} the broker, {t} a topic, {g} a
# group; {key}, {id} (unique), {place} (in the log) and {client} are taken from what was printed before. In this order:
# later ones look at what earlier ones did. A name that begins with @ is played by our own client beside the tool.
COMMANDS = [
    ("updateTopic", "-n {n} -b {b} -t {t} -r 4 -w 4"),
    ("updateTopic of the cluster", "-n {n} -c DefaultCluster -t {t}Second -r 2 -w 2 -o true"),
    ("updateTopic of a system topic", "-n {n} -b {b} -t TBW102 -r 4 -w 4"),
    ("updateTopic for retries", "-n {n} -b {b} -t %RETRY%{g} -r 1 -w 1"),
    ("updateTopicPerm", "-n {n} -b {b} -t {t}Second -p 4"),
    ("updateTopicPerm of the cluster", "-n {n} -c DefaultCluster -t {t}Second -p 6"),
    ("topicRoute", "-n {n} -t {t}"),
    ("topicRoute of an unknown topic", "-n {n} -t Nowhere"),
    ("topicClusterList", "-n {n} -t {t}"),
    ("allocateMQ", "-n {n} -t {t} -i 10.0.0.1,10.0.0.2"),
    ("updateOrderConf", "-n {n} -t {t} -m put -v ours:4"),
    ("updateOrderConf as it is", "-n {n} -t {t} -m get"),
    ("updateOrderConf away", "-n {n} -t {t} -m delete"),
    ("updateSubGroup", "-n {n} -b {b} -g {g} -s true -d false -r 3"),
    ("getConsumerConfig", "-n {n} -g {g}"),
    ("sendMessage", "-n {n} -t {t} -p hello -k key1 -c TagA -b ours -i 1"),
    ("sendMessage again", "-n {n} -t {t} -p world -k key2 -c TagB -b ours -i 1"),
    ("topicStatus", "-n {n} -t {t}"),
    ("topicStatus of an unknown topic", "-n {n} -t Nowhere"),
    ("queryCq", "-n {n} -b {b} -t {t} -q 1 -i 0 -c 10"),
    ("queryCq of an unknown queue", "-n {n} -b {b} -t {t} -q 9 -i 0 -c 10"),
    ("queryMsgByOffset", "-n {n} -t {t} -b ours -i 1 -o 0"),
    ("queryMsgById", "-n {n} {of_topic} -i {place}"),
    ("queryMsgByUniqueKey", "-n {n} -t {t} -i {id}"),
    ("queryMsgByKey", "-n {n} -t {t} -k key1"),
    ("DecodeMessageId", "-i {place}"),
    ("queryMsgTraceById", "-n {n} -i {id}"),
    ("printMsg", "-n {n} -t {t} -d true"),
    ("printMsgByQueue", "-n {n} -t {t} -a ours -i 1 -p true -d true"),
    ("consumeMessage", "-n {n} -t {t} -b ours -i 1 -c 2"),
    ("checkMsgSendRT", "-n {n} -t {t} -a 3 -s 16"),
    ("sendMsgStatus", "-n {n} -b ours -s 16 -c 2"),
    # Nobody is there.
    ("consumerConnection of an unknown group", "-n {n} -g nobody"),
    ("consumerProgress of an unknown group", "-n {n} -g nobody"),
    ("producerConnection of an unknown group", "-n {n} -g nobody -t {t}"),
    ("resetOffsetByTime without a consumer", "-n {n} -g nobody -t {t} -s now"),
    ("getConsumerStatus without a consumer", "-n {n} -g nobody -t {t}"),
    # With live clients.
    ("@produce", "{t}Live {g}_p 12 0"),
    ("producerConnection", "-n {n} -g {g}_p -t {t}Live"),
    ("producer", "-b {b}"),
    ("@consume", "{g} {t}Live"),
    ("@await the first twelve", "{g} 12"),
    ("@settle", "{g} {t}Live 12"),
    ("consumerConnection", "-n {n} -g {g}"),
    ("consumerStatus", "-n {n} -g {g}"),
    ("consumer", "-b {b}"),
    ("consumerProgress", "-n {n} -g {g}"),
    ("consumerProgress of all", "-n {n}"),
    ("getConsumerStatus", "-n {n} -g {g} -t {t}Live"),
    ("queryMsgByOffset of the live topic", "-n {n} -t {t}Live -b ours -i 0 -o 3"),
    ("@client of the group", "{g}"),
    ("consumerStatus of a client with its stacks", "-n {n} -g {g} -i {client}"),
    ("queryMsgById sent to a client", "-n {n} {of_live} -i {place} -g {g} -d {client}"),
    ("@await what was sent directly", "{g} 1"),
    ("resetOffsetByTime to the beginning", "-n {n} -g {g} -t {t}Live -s 0"),
    ("@await all again", "{g} 12"),
    ("@settle", "{g} {t}Live 12"),
    ("skipAccumulatedMessage", "-n {n} -g {g} -t {t}Live"),
    ("cloneGroupOffset", "-n {n} -s {g} -d {g}_copy -t {t}Live"),
    ("brokerConsumeStats", "-n {n} -b {b}"),
    ("statsAll", "-n {n} -t {t}"),
    ("@statistics", "{t}Counted {g}_counted"),
    ("@leave", "{g}"),
    ("consumerProgress offline", "-n {n} -g {g}"),
    ("resetOffsetByTimeOld", "-n {n} -g {g} -t {t}Live -s 0 -f true"),
    # Broker and name server.
    ("brokerStatus", "-n {n} -b {b}"),
    ("brokerStatus of the cluster", "-n {n} -c DefaultCluster"),
    ("getBrokerConfig", "-n {n} -b {b}"),
    ("updateBrokerConfig", "-n {n} -b {b} -k fileReservedTime -v 48"),
    ("cleanExpiredCQ", "-n {n} -b {b}"),
    ("cleanUnusedTopic", "-n {n} -b {b}"),
    ("deleteExpiredCommitLog", "-n {n} -b {b}"),
    ("haStatus", "-n {n} -b {b}"),
    ("clusterList", "-n {n}"),
    ("clusterList with more", "-n {n} -m"),
    ("topicList", "-n {n}"),
    ("topicList of the cluster", "-n {n} -c"),
    ("wipeWritePerm", "-n {n} -b ours"),
    ("addWritePerm", "-n {n} -b ours"),
    ("getNamesrvConfig", "-n {n}"),
    ("updateNamesrvConfig", "-n {n} -k orderMessageEnable -v false"),
    ("updateKvConfig", "-n {n} -s Namespace -k key -v value"),
    ("deleteKvConfig", "-n {n} -s Namespace -k key"),
    ("deleteSubGroup", "-n {n} -b {b} -g {g}"),
    ("deleteTopic", "-n {n} -c DefaultCluster -t {t}"),
]

# Served by nobody here; mqadmin prints our sentence instead. 4.9.7 does not know the command.
NOT_YET = {("5.4.0", "haStatus"): "replication is not served yet"}
# 5.4.0's commands ask 4.9.7 for what it does not have (code 351, brokerActive), so there is nothing to compare with: ours
# must do what is asked, and say this.
BEYOND_THE_PEER = {("5.4.0", name): says for name, says in {
    "topicStatus": "Topic Put TPS", "consumerProgress": "Consume Diff Total: 0", "consumerProgress offline": "Consume Inflight Total: 0",
    "cloneGroupOffset": "clone group offset success", "queryMsgByOffset of the live topic": "trackType=CONSUMED",
    "clusterList": "true", "topicList of the cluster": "group_540_copy",
}.items()}

# What two brokers never have in common.
PLAIN = [
    (r"\b[0-9A-F]{32,}\b", "ID"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[,.]\d{3}", "TIME"),
    (r"\d{4}-\d\d-\d\d[ #]\d\d:\d\d:\d\d", "TIME"),
    (r"\d{14,17}", "TIME"),
    (r"\b\d{13}\b", "TIME"),
    (r"(127\.0\.0\.1|\d+\.\d+\.\d+\.\d+):\d+", "ADDRESS"),
    (r"\d+\.\d+\.\d+\.\d+@\d+(@\S+|#\d+)?", "CLIENT"),
    (r"\d+\.\d+(E-?\d+)?", "FRACTION"),
    (r"\d+(ms|min)\b", "SPAN"),
    (r"(\$\$Lambda\$\d+)?(/0x[0-9a-f]+)?@[0-9a-f]{5,8}\b", "OBJECT"),
    (r"\s+", " "),
    (r"CLUSTERING \d+", "CLUSTERING TPS"),
]
# Their columns are figures of a moment: only the keys can be compared, and more of them harm nobody.
KEYS_ONLY = {"brokerStatus", "brokerStatus of the cluster", "getBrokerConfig", "getNamesrvConfig"}
# Printed numbers are spans of time.
NO_NUMBERS = {"checkMsgSendRT", "sendMsgStatus", "consumerStatus", "statsAll", "clusterList", "clusterList with more",
              "consumerStatus of a client with its stacks", "queryMsgById sent to a client", "wipeWritePerm", "addWritePerm"}
# A line that says more on one side by design. (Java lists isEnableBatchPush and reads enableBatchPush, which we list.)
LEFT_OUT = re.compile(r"WARN|RocketMQLog|^\s*at |^\s*TID:|^\s*java\.|^\s*sun\.|^\s*jdk\.|bodyCRC|storeSize|Message Body Path|STORE"
                      r"|SLF4J|isEnableBatchPush|BenchmarkTest.*%$|RMQ_SYS_TRANS_HALF_TOPIC|INFO in org.apache")


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
        if name in NO_NUMBERS:
            line = re.sub(r"\b\d+\b", "N", line)
        lines.append(line.strip())
    return sorted(set(lines))


def difference(name, ours, theirs):
    ours, theirs = plain(name, ours), plain(name, theirs)
    missing = [line for line in theirs if line not in ours]
    extra = [] if name in KEYS_ONLY else [line for line in ours if line not in theirs]
    if missing or extra:
        return "; ".join(["only theirs: " + line for line in missing[:4]] + ["only ours: " + line for line in extra[:4]])
    return None


def exchange(address, code, fields, body=b""):
    """One request; (code, fields of the answer, remark, body)."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), 5) as stream:
        header = json.dumps({"code": code, "language": "JAVA", "version": 407, "opaque": 1, "flag": 0,
                             "extFields": fields, "serializeTypeCurrentRPC": "JSON"}).encode()
        stream.sendall(struct.pack(">II", 4 + len(header) + len(body), len(header)) + header + body)
        reader = stream.makefile("rb")
        length, header_length = struct.unpack(">II", reader.read(8))
        header_length &= 0xFFFFFF
        answer = json.loads(reader.read(header_length))
        body = reader.read(length - 4 - header_length)
    return answer["code"], answer.get("extFields") or {}, answer.get("remark"), body


def request(address, code, fields, body=b""):
    """One request; (code, fields of the answer, remark)."""
    return exchange(address, code, fields, body)[:3]


def commit(broker, group, topic, queues=4):
    """A group's first offsets (request 15): no command of mqadmin makes any."""
    for queue in range(queues):
        fields = dict(consumerGroup=group, topic=topic, queueId=str(queue), commitOffset=str(queue % 2))
        code, _, remark = request(broker, 15, fields)
        if code != 0:
            raise Trouble(f"an offset was not stored: {code} {remark}")


def settle(broker, group, topic, offset, limit_s=30):
    """Waits until the group's offset of the first queue is stored as that: consumers commit now and then."""
    found, end = None, time.monotonic() + limit_s
    while time.monotonic() < end:
        code, fields, _ = request(broker, 14, dict(consumerGroup=group, topic=topic, queueId="0"))
        found = fields.get("offset") if code == 0 else None
        if found == str(offset):
            return
        time.sleep(0.05)
    raise Trouble(f"{group} stands at {found} of {topic}, not at {offset}, after {limit_s} s")


# What request 315 is asked for, as (name, key); {t} and {g} are topic and group.
STATISTICS = [
    ("TOPIC_PUT_NUMS", "{t}"), ("TOPIC_PUT_SIZE", "{t}"), ("GROUP_GET_NUMS", "{t}@{g}"), ("GROUP_GET_SIZE", "{t}@{g}"),
    ("SNDBCK_PUT_NUMS", "{t}@{g}"), ("GROUP_GET_LATENCY", "1@{t}@{g}"), ("BROKER_PUT_NUMS", "DefaultCluster"),
    ("BROKER_GET_NUMS", "DefaultCluster"), ("QUEUE_PUT_NUMS", "SCHEDULE_TOPIC_XXXX@17"),
    # Nothing has a figure before something happened.
    ("TOPIC_PUT_NUMS", "Nowhere"), ("TOPIC_PUT_NUMS", "{t}@{g}"), ("QUEUE_PUT_NUMS", "{t}@0"), ("QUEUE_GET_NUMS", "{t}@0@{g}"),
    ("GROUP_GET_NUMS", "{t}@nobody"), ("SNDBCK_PUT_NUMS", "{t}@nobody"), ("SNDBCK_PUT_NUMS", "{t}"), ("BROKER_PUT_NUMS", "Nowhere"),
    ("GROUP_GET_LATENCY", "0@{t}@{g}"), ("GROUP_GET_FALL_SIZE", "1@{t}@{g}"), ("GROUP_GET_FALL_TIME", "1@{t}@{g}"),
    ("GROUP_GET_FROM_DISK_NUMS", "{t}@{g}"), ("COMMERCIAL_SEND_TIMES", "{t}"), ("NO_SUCH_NAME", "{t}"), ("", ""),
]
# Figures of a moment, or of everything else that happens.
MEASURED = {"GROUP_GET_LATENCY", "BROKER_PUT_NUMS", "BROKER_GET_NUMS"}


def statistics(broker, topic, group, limit_s=40):
    """Three messages are sent, pulled, and one is sent back; what the broker says of it, a line a name."""
    places = []
    for body in (b"x", b"yy", b"zzz"):
        sent = dict(a="P", b=topic, c="TBW102", d="4", e="1", f="0", g="1600000000000", h="0", i="", j="0", k="false", m="false")
        code, fields, remark = request(broker, 310, sent, body)
        if code != 0:
            raise Trouble(f"a message to {topic} is refused with {code} {remark}")
        places.append(int(fields["msgId"][16:], 16))
    end, found = time.monotonic() + limit_s, None
    while found != "3" and time.monotonic() < end:
        found = request(broker, 30, dict(topic=topic, queueId="1"))[1].get("offset")
    request(broker, 11, dict(consumerGroup=group, topic=topic, queueId="1", queueOffset="0", maxMsgNums="32", sysFlag="4",
                             commitOffset="0", suspendTimeoutMillis="0", subscription="*", subVersion="0", expressionType="TAG"))
    request(broker, 36, dict(offset=str(places[0]), group=group, delayLevel="18", originMsgId="", originTopic=topic,
                             unitMode="false", maxReconsumeTimes="16"))
    # Java tells what it has sampled, every ten seconds.
    sampled = lambda: all(figure(broker, name, topic, group)[1] == count for name, count in (("TOPIC_PUT_NUMS", 3), ("SNDBCK_PUT_NUMS", 1)))
    while not sampled() and time.monotonic() < end:
        time.sleep(0.2)
    return "".join(f"{name} of {key}: {figure(broker, name, topic, group, key)[0]}\n" for name, key in STATISTICS)


def figure(broker, name, topic, group, key=None):
    """(as a line, sum of the last minute)"""
    key = dict(STATISTICS[::-1])[name] if key is None else key
    key = key.format(t=topic, g=group)
    code, _, remark, body = exchange(broker, 315, dict(statsName=name, statsKey=key))
    if code != 0:
        return f"{code} {remark}", None
    minute = json.loads(body)["statsMinute"]
    told = "measured" if name in MEASURED else f"{minute['sum']} in all, {round(minute['avgpt'] * 100)} hundredths each time"
    return told, minute["sum"]


class Tool:
    """One JVM with an mqadmin, for one server."""

    def __init__(self, java, version, server, log):
        self.version, self.server, self.found = version, server, {}
        argv, env = tools.admin(version, java)
        self.lines = open(log, "w")
        # Some commands write files where they stand.
        self.child = subprocess.Popen([*map(str, argv), server.namesrv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=self.lines, text=True, errors="replace", env=env, cwd=log.parent)

    def run(self, words):
        self.child.stdin.write("\t".join(words) + "\n")
        self.child.stdin.flush()
        said = []
        for line in self.child.stdout:
            if line.startswith("=== "):
                if "not done" in line:
                    said.append(line)
                return "".join(said)
            said.append(line)
        raise Trouble(f"the tool ended at {' '.join(words)}: {''.join(said)[-600:]}")

    def play(self, name, arguments, topic, group):
        # 5.4.0 wants to know a message's topic, 4.9.7 does not take it.
        of = f"-t {topic}" if self.version != "4.9.7" else ""
        names = dict(n=self.server.namesrv, b=self.server.broker, t=topic, g=group, of_topic=of, of_live=of and of + "Live", **self.found)
        words = arguments.format(**names).split()
        if name == "@settle":
            settle(self.server.broker, words[0], words[1], words[2])
            return ""
        if name == "@statistics":
            return statistics(self.server.broker, words[0], words[1])
        if name == "topicStatus":
            commit(self.server.broker, group, topic)
        said = self.run([name.split()[0], *words])
        for key, pattern in (("id", r"SEND_OK\s+([0-9A-F]{32})"), ("place", r"(?:OffsetID|Offset ID):\s+([0-9A-F]{32})"),
                             ("client", r"^client (\S+)")):
            match = re.search(pattern, said, re.MULTILINE)
            if match:
                self.found[key] = match[1]
        return said

    def stop(self):
        try:
            self.child.stdin.close()
            self.child.wait(20)
        except (OSError, subprocess.TimeoutExpired):
            self.child.kill()
            self.child.wait()
        self.lines.close()


def compare(version, java, servers, directory, results):
    """Each command on both sides at once."""
    digits = version.replace(".", "")
    # By whole names: a bare 540 also stands in the random numbers of half the lines.
    others = [word + other.replace(".", "") for other in VERSIONS if other != version for word in ("Topic", "group_")]
    topic, group = f"Topic{digits}", f"group_{digits}"
    both = [Tool(java, version, server, directory / f"tool-{digits}-{side}.log")
            for side, server in zip(("ours", "theirs"), servers)]
    try:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for name, arguments in COMMANDS:
                start = time.monotonic()
                ours, theirs = pool.map(lambda tool: tool.play(name, arguments, topic, group), both)
                (directory / f"{digits}-{name.replace(' ', '-')}.txt").write_text(ours + "\n=== theirs\n" + theirs)
                verdict = ("ok", "")
                says = NOT_YET.get((version, name)) or BEYOND_THE_PEER.get((version, name))
                if says:
                    if says not in ours:
                        verdict = ("FAIL", f"does not say {says!r}: {ours[:600]}")
                else:
                    # What the other version left behind is not this one's concern.
                    only = lambda text: "\n".join(line for line in text.splitlines() if not any(o in line for o in others))
                    differs = difference(name, only(ours), only(theirs))
                    verdict = ("FAIL", differs) if differs else verdict
                results[f"{version} {name}"] = (*verdict, int(1000 * (time.monotonic() - start)))
    finally:
        for tool in both:
            tool.stop()


def suite(ours, java, directory, run_client, tier):
    """{version and command: (verdict, how it differs, ms)}"""
    servers, results = [], {}
    try:
        servers = [ours.standalone(directory / "store-ours", SAME_NAME),
                   java.standalone(directory / "store-theirs", SAME_NAME[1:])]
        for version in VERSIONS:
            compare(version, java, servers, directory, results)
    finally:
        for server in servers:
            server.stop()
    return results
