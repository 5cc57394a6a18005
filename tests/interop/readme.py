"""What somebody does who reads README.md: its run command as it stands, then clients that know the default address alone.
In a network namespace of its own, where the default ports are free whatever else runs on the machine."""

import os
import re
import signal

import tools
from servers import Report
from world import ROOT, JavaServers, Namespace, Process, Trouble

FEATURES = ["send-sync", "consume-1000", "tags", "offsets-restart"]
# The command compiles what has changed since the last time.
BUILD_LIMIT_S = 900
LINES_MAX = 12


def run_command():
    """The fenced block under "Run it"."""
    section = (ROOT / "README.md").read_text().split("\n## Run it\n", 1)[-1]
    return re.search(r"^```sh\n(.*?)^```$", section, re.M | re.S)[1].strip()


def printed(process):
    """What the broker has printed, without cargo's lines before and without its log."""
    lines = process.log.read_text(errors="replace").splitlines()
    cargo = r" +(Blocking|Compiling|Downloaded|Downloading|Finished|Locking|Running|Updating) "
    return [line for line in lines if not re.match(cargo + r"|\d{4}-\d\d-\d\dT", line)]


def suite(ours, _java, directory, run_client, _tier):
    if isinstance(ours, JavaServers):
        return {"readme": ("n/a", "it is about our own command", 0)}
    report = Report()
    try:
        space = Namespace(directory / "namespace.log")
    except Trouble as trouble:
        return {"readme": ("n/a", f"no network namespace can be made here: {trouble}", 0)}
    command, found = run_command(), {}

    def starts(_):
        # Cargo finds the tree above this directory, and the broker begins its data here.
        process = Process([*space.enter, "bash", "-euc", command], directory / "output.log", cwd=directory)
        found["ready"] = process.await_line("ready ", BUILD_LIMIT_S)
        found["process"] = process
        if not (directory / "keelmq-data" / "commitlog").is_dir():
            raise Trouble("no store in ./keelmq-data")
        if "broker=127.0.0.1:10911 namesrv=127.0.0.1:9876 store=./keelmq-data flush=SYNC" not in found["ready"]:
            raise Trouble(f"not README's addresses, store and durability: {found['ready']}")

    def played(_, client):
        for feature, (verdict, reason, _) in run_client(client, "127.0.0.1:9876", FEATURES, log=f"readme-{client}",
                                                        inside=space.enter).items():
            if verdict != "ok":
                raise Trouble(f"{feature}: {verdict} {reason}")

    def hint(_):
        """The command that the broker says to try."""
        word = next((line.split("try", 1)[1].strip() for line in printed(found["process"]) if line.startswith("  try ")), None)
        if not word:
            raise Trouble("nothing to try is printed")
        tried = Process([*space.enter, "bash", "-euc", f"{word} --warm-up 0 --seconds 2"], directory / "hint.log", cwd=directory)
        if (code := tried.wait(120)) != 0:
            raise Trouble(f"`{word}` ended with {code}:\n{tried.tail()}")

    def ends(_):
        """Ctrl-C goes to everything in the foreground: the shell, cargo, the broker."""
        process = found["process"]
        os.killpg(process.child.pid, signal.SIGINT)
        code, lines = process.wait(60), printed(process)
        if code != 0 or len(lines) > LINES_MAX or " ERROR " in process.log.read_text(errors="replace"):
            raise Trouble(f"ended with {code}, {len(lines)} lines:\n{process.tail()}")

    report.play(f"`{command}`: on the default ports, data in ./keelmq-data", starts)
    if "ready" in found:
        for client in tools.CLIENTS:
            report.play(f"{client}: {', '.join(FEATURES)}", played, client)
        report.play("what it says to try works", hint)
        report.play(f"Ctrl-C: exit code 0, at most {LINES_MAX} lines but for its log", ends)
    space.end()
    return report
