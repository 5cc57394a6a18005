"""`keelmq admin` and `keelmq doctor` against Java's brokers as against ours: the same commands, the same answers."""

import json
import subprocess
import time

import mqadmin
import tools
from world import JavaServers, Trouble

TOPIC, GROUP = "Looked", "looked_after"
LIMIT_S = 60


class Failed(Exception):
    """A command did not do or say what it should."""


class Looking:
    """Our commands at one cluster."""

    def __init__(self, binary, version, server):
        self.binary, self.version, self.server, self.said = binary, version, server, ""

    def run(self, *words, code=0):
        done = subprocess.run([str(self.binary), *map(str, words), "-n", self.server.namesrv, "--json"], timeout=LIMIT_S,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said = done.stdout + done.stderr
        if done.returncode != code:
            raise Failed(f"{' '.join(map(str, words))} ended with {done.returncode}: {self.said[:600]}")
        return json.loads(done.stdout) if code == 0 else done.stderr

    def admin(self, *words, code=0):
        return self.run("admin", *words, code=code)

    def check(self, found, wanted):
        if found != wanted:
            raise Failed(f"{wanted!r} expected in {self.said[:600]}")

    def until(self, ask, wanted, limit_s=30):
        """Java knows an offset or a registration a moment later."""
        end = time.monotonic() + limit_s
        while (found := ask()) != wanted and time.monotonic() < end:
            time.sleep(0.1)
        self.check(found, wanted)

    def cluster(self):
        def who():
            (row,) = self.admin("cluster")
            return row["cluster"], row["broker"], row["id"], row["address"], row["version"]

        # Until 4.9.7 has measured once it answers 28 with an exception of its own.
        self.until(who, ("DefaultCluster", "ours", 0, self.server.broker, self.version))
        self.until(lambda: isinstance(self.admin("cluster")[0]["sent today"], int), True)
        # Java measures for some seconds first.
        self.until(lambda: all(isinstance(self.admin("cluster")[0][name], str) for name in ("in/s", "out/s")), True)

    def create_topic(self):
        rows = self.admin("create-topic", TOPIC, "--queues", 2)
        self.check(rows, [{"broker": "ours", "address": self.server.broker, "result": "created"}])
        self.until(lambda: {"topic": TOPIC} in self.admin("topics"), True)
        names = lambda *words: [row["topic"] for row in self.admin("topics", *words)]
        self.check([name for name in names() if name.startswith("RMQ_SYS_") or name in ("TBW102", "DefaultCluster")], [])
        self.check("TBW102" in names("--all"), True)
        self.check("TOPIC_NOT_EXIST" in self.admin("topic", "Nowhere", code=1), True)
        self.admin("create-topic", "a b", code=1)

    def counted(self):
        return [row["messages"] for row in self.admin("topic", TOPIC)]

    def send(self):
        for body in ("one", "two", "drei €"):
            (row,) = self.admin("send", TOPIC, body, "--tag", "T", "--key", "key-" + body[:3])
            self.check((row["broker"], len(row["message id"])), ("ours", 32))
        self.until(lambda: sum(self.counted()), 3)

    def browse(self):
        rows = self.admin("browse", TOPIC)
        self.check(sorted((row["body"], row["tags"], row["keys"]) for row in rows),
                   [("drei €", "T", "key-dre"), ("one", "T", "key-one"), ("two", "T", "key-two")])
        of_one = self.admin("browse", TOPIC, "--queue", 0, "--count", 1)
        self.check(len(of_one), min(1, self.counted()[0]))

    def group_offline(self):
        mqadmin.request(self.server.broker, 200, {}, json.dumps({"groupName": GROUP, "retryMaxTimes": 3}).encode())
        (row,) = [row for row in self.admin("groups") if row["group"] == GROUP]
        self.check((row["broker"], row["tries"]), ("ours", 3))
        mqadmin.commit(self.server.broker, GROUP, TOPIC, 2)
        behind = lambda: [row["end"] - row["position"] - row["behind"] for row in self.admin("lag", GROUP)]
        self.check(behind(), [0, 0])
        self.admin("reset", GROUP, TOPIC, "--to", "last")
        self.until(lambda: sum(row["behind"] for row in self.admin("lag", GROUP)), 0)
        rows = self.admin("reset", GROUP, TOPIC, "--to", "first")
        self.check([(row["topic"], row["broker"], row["position"]) for row in rows], [(TOPIC, "ours", 0)] * 2)
        self.until(lambda: sum(row["behind"] for row in self.admin("lag", GROUP)), 3)
        if self.version == "V5_4_0":  # it stores no positions of groups that it does not know
            self.check("SUBSCRIPTION_GROUP_NOT_EXIST" in self.admin("reset", "nobody_yet", TOPIC, "--to", "first", code=1), True)
            return
        self.admin("reset", "nobody_yet", TOPIC, "--to", "first")
        self.until(lambda: sum(row["behind"] for row in self.admin("lag", "nobody_yet")), 3)

    def group_online(self, consumers):
        """The same with a consumer of Java's, which is told by the broker."""
        consumers.run(["@consume", GROUP, TOPIC])
        self.check("consumed 3" in consumers.run(["@await", GROUP, "3"]), True)
        self.until(lambda: sum(row["behind"] for row in self.admin("lag", GROUP)), 0)
        self.admin("reset", GROUP, TOPIC, "--to", "first")
        self.check("consumed 3" in consumers.run(["@await", GROUP, "3"]), True)
        self.until(lambda: sum(row["behind"] for row in self.admin("lag", GROUP)), 0)

    def doctor(self):
        said = self.run("doctor")
        self.check([row for row in said if row["level"] == "wrong"], [])
        of_broker = " ".join(row["text"] for row in said if row["about"] == "broker ours")
        for part in (f"answers at {self.server.broker} as {self.version}", "survives a power cut", "the disk of its commit log is",
                     "a sync of 4 KiB beside its commit log takes", "the members of each group subscribe to the same", "no group is behind"):
            if part not in of_broker:
                raise Failed(f"the doctor does not say {part!r}: {self.said[:1500]}")

    def delete_topic(self):
        self.admin("delete-topic", TOPIC, code=2)
        rows = self.admin("delete-topic", TOPIC, "--yes")
        self.check([row["result"] for row in rows], ["deleted"] * 2)
        self.until(lambda: {"topic": TOPIC} in self.admin("topics", "--all"), False)


def suite(ours, java, directory, run_client, tier):
    """{cluster and command: (verdict, reason, ms)}"""
    binary = tools.keelmq() if isinstance(ours, JavaServers) else ours.binary
    clusters = [("ours", "V4_9_7", ours, [("brokerName", "ours")]), ("java 4.9.7", "V4_9_7", java, []),
                ("java 5.4.0", "V5_4_0", JavaServers(tools.jars("5.4.0"), directory / "java540"), [])]
    results = {}
    for name, version, servers, settings in clusters:
        server = servers.standalone(directory / ("store-" + name.replace(" ", "-")), settings)
        consumers = mqadmin.Tool(java, "4.9.7", server, directory / f"consumers-{name.replace(' ', '-')}.log")
        looking = Looking(binary, version, server)
        try:
            for step, play in [("cluster", looking.cluster), ("create-topic, topics", looking.create_topic),
                               ("send, topic", looking.send), ("browse", looking.browse),
                               ("groups, lag, reset of nobody", looking.group_offline),
                               ("reset of a consumer", lambda: looking.group_online(consumers)),
                               ("doctor", looking.doctor), ("delete-topic", looking.delete_topic)]:
                begun = time.monotonic()
                try:
                    play()
                    verdict = ("ok", "")
                except (Failed, Trouble, ValueError, KeyError, subprocess.TimeoutExpired) as failed:
                    verdict = ("FAIL", f"{failed!r}")
                results[f"{name}: {step}"] = (*verdict, int(1000 * (time.monotonic() - begun)))
        finally:
            consumers.stop()
            server.stop()
    return results
