"""Suites in which our server and Java's stand beside each other or take turns. Our server comes as a factory with
`standalone` and `broker`; with --peer it is a second Java, so that the suites themselves can be shown to be right."""

import time
from pathlib import Path

import raw
import tools
from world import LOOPBACK, JavaServers, Trouble, await_registered, free_port


class Report(dict):
    """{feature: (verdict, reason, ms)}, filled by `play`."""

    def play(self, feature, scenario, *arguments):
        start = time.monotonic()
        servers = []
        try:
            scenario(servers, *arguments)
            verdict = ("ok", "")
        except Trouble as trouble:
            verdict = ("FAIL", str(trouble))
        for server in servers:
            complaint = server.stop()
            if complaint and verdict[0] == "ok":
                verdict = ("FAIL", complaint)
        self[feature] = (*verdict, int(1000 * (time.monotonic() - start)))


def mixed(ours, java, directory, run_client, tier):
    def played(client, namesrv, features, log, at_once=None):
        for feature, (verdict, reason, _) in run_client(client, namesrv, features, at_once, log).items():
            if verdict != "ok":
                raise Trouble(f"{client} {feature}: {verdict} {reason}")

    def java_namesrv(servers):
        """Our broker registers with a Java name server; clients ask only that one."""
        servers.insert(0, java.namesrv())
        namesrv = servers[0].namesrv
        servers.insert(0, ours.broker(namesrv, directory / "store-java-namesrv"))
        await_registered(namesrv, 1)
        played("java497", namesrv, ["auto-topic", "consume-1000", "rebalance"], "mixed-namesrv-java497")
        played("go", namesrv, ["consume-1000"], "mixed-namesrv-go")

    def one_namesrv_down(servers):
        """Of two name servers one never answers: the broker serves all the same. The other one takes compressed
        registrations, and says whether it needs one."""
        sparing = {"compressedRegister": "true", "forceRegister": "false"}
        servers.insert(0, java.namesrv("namesrv-up"))
        namesrv = servers[0].namesrv
        servers.insert(0, ours.broker(f"{LOOPBACK}:{free_port()};{namesrv}", directory / "store-one-down", "half", sparing))
        await_registered(namesrv, 1)
        played("java497", namesrv, ["auto-topic"], "mixed-one-down")

    def java_broker(servers):
        """A Java broker registers with our name server, in one cluster with ours; a topic lives on both."""
        servers.insert(0, ours.standalone(directory / "store-beside"))
        namesrv = servers[0].namesrv
        servers.insert(0, java.broker(namesrv, directory / "store-java", "java-b"))
        await_registered(namesrv, 2)
        played("java497", namesrv, ["spread=OnBoth=2"], "mixed-spread")
        played("java497", namesrv, ["consume-1000"], "mixed-consume")

    def admin_topic(servers):
        """mqadmin creates a topic on every broker of the cluster, ours and Java's."""
        servers.insert(0, ours.standalone(directory / "store-admin"))
        namesrv = servers[0].namesrv
        servers.insert(0, java.broker(namesrv, directory / "store-admin-java", "java-c"))
        await_registered(namesrv, 2)
        java.admin("updateTopic", "-n", namesrv, "-c", "DefaultCluster", "-t", "Made", "-r", "4", "-w", "4")
        played("java497", namesrv, ["spread=Made=2"], "mixed-admin")

    report = Report()
    if tier in ("main", "all"):
        report.play("java name server, our broker", java_namesrv)
        report.play("java name server, another one down", one_namesrv_down)
        report.play("our name server, java broker beside ours", java_broker)
    if tier in ("kinds", "all"):
        report.play("mqadmin makes a topic on ours and java's", admin_topic)
    return report


def takeover(ours, java, directory, run_client, tier):
    """Stores that ours and Java's take turns on, cleanly stopped and killed: a group carries on through clean stops, and
    after a kill a fresh group reads every message that was acknowledged, each once."""
    java540 = JavaServers(tools.jars("5.4.0"), directory / "java540")

    def turn(servers, server, killed, *features):
        servers.append(server)
        await_registered(server.namesrv, 1)
        log = f"takeover-{Path(directory).name}-{features[0].replace('=', '-')}"
        for feature, (verdict, reason, _) in run_client("java497", server.namesrv, features, at_once=1, log=log).items():
            if verdict != "ok":
                raise Trouble(f"{feature}: {reason}")
        if killed:
            servers.remove(server)
            for process in server.processes:
                process.stop(0)

    def stop(servers, start, store, *features):
        turn(servers, start(directory / store), False, *features)

    def kill(servers, start, store, *features):
        turn(servers, start(directory / store), True, *features)

    report, we, old, new = Report(), ours.standalone, java.standalone, java540.standalone
    report.play("ours writes 100", stop, we, "store", "produce=Turns=0=100", "expect=Turns=follower=0=100")
    report.play("4.9.7 reads 100, appends 100, reads 200", stop, old, "store", "produce=Turns=100=100",
                "expect=Turns=follower=100=100", "expect=Turns=fresh-java=0=200")
    report.play("ours reads 200, appends 10, is killed", kill, we, "store", "expect=Turns=fresh-ours=0=200",
                "produce=Turns=200=10")
    report.play("4.9.7 reads 210, appends 10, is killed", kill, old, "store", "expect=Turns=fresh-java-2=0=210",
                "produce=Turns=210=10")
    report.play("ours reads 220", stop, we, "store", "expect=Turns=fresh-ours-2=0=220")
    report.play("5.4.0 writes 100", stop, new, "store540", "produce=Turns=0=100", "expect=Turns=follower=0=100")
    report.play("ours reads 100 of 5.4.0, appends 10, is killed", kill, we, "store540", "expect=Turns=fresh-ours=0=100",
                "produce=Turns=100=10")
    report.play("5.4.0 reads 110, appends 10, is killed", kill, new, "store540", "expect=Turns=fresh-java=0=110",
                "produce=Turns=110=10")
    report.play("ours reads 120 of 5.4.0", stop, we, "store540", "expect=Turns=fresh-ours-2=0=120")
    return report


SUITES = {"mixed": mixed, "takeover": takeover, "raw": raw.raw}
