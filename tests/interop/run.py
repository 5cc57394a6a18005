#!/usr/bin/env python3
"""Runs unmodified clients against a broker and prints what each of them could do.

Without addresses it starts our release binary; with --peer Java 4.9.7, which shows that the suite itself is right.
Knows features by name only; what they mean stands in each client's source.
"""

import sys

sys.dont_write_bytecode = True

import argparse
import concurrent.futures
import os
import shutil
import signal
import time
import traceback

import admin_java
import apache
import mqadmin
import readme
import servers
import tools
from world import JavaServers, Keelmq, Process, Server, Trouble, await_registered, end_all, scratch

# In the table's order. A client answers n/a with its reason for what it cannot do.
MAIN = ["send-sync", "send-async", "send-oneway", "send-batch", "consume-1000", "live", "tags", "unicode-tags", "order",
        "order-rebalance", "rebalance", "rebalance-leave", "offsets-restart", "bodies", "body-empty", "unicode", "too-large",
        "auto-topic", "from-first", "broadcast", "pull", "lite-pull", "offset-queries"]
KINDS = ["from-last", "from-timestamp", "suspend", "retry", "dead-letter", "delay", "transaction-commit",
         "transaction-rollback", "transaction-check", "sql92", "query-key", "query-unique-key", "view-message",
         "request-reply", "trace", "reset-offset", "consume-directly"]
TIERS = {"main": MAIN, "kinds": KINDS, "all": MAIN + KINDS}
# Half messages are asked for soon instead of after a minute. Without the trace topic Go's client drops its traces.
KINDS_SETTINGS = [("transactionCheckInterval", 2000), ("transactionTimeOut", 2000), ("traceTopicEnable", "true")]
# A group without an offset begins at 0, whatever its client was told, while the start of the queue is there and counts as
# in memory. So these are played on a broker of their own, to which nothing but the last message is in memory.
ANEW = ["from-last", "from-timestamp"]
ANEW_SETTINGS = [("accessMessageInMemoryMaxRatio", 0)]

# Where 4.9.7 itself does not do what the client asks for; only with --peer, and never a reason to excuse ours.
PEER_FAULTS = {
    ("java540", "lite-pull"): "code 361 does not exist in 4.9.7",
    ("go", "unicode-tags"): "this client hashes a tag's UTF-8 bytes, Java its UTF-16 units, and 4.9.7 compares hashes",
    ("java540", "send-batch"): "4.9.7 gives every item of a 5.x batch the batch's id",
}

CLIENT_LIMIT_S = 420
SUITES = {**servers.SUITES, "readme": readme.suite, "mqadmin": mqadmin.suite, "admin": admin_java.suite,
          "apache": apache.suite}


def run_client(name, namesrv, features, at_once=None, log=None, inside=()):
    """Plays the features with one client; {feature: (verdict, reason, ms)}. `inside` goes before the client's command."""
    directory = scratch(log or name)
    prefix = f"{name}-{directory.parent.name}"
    try:
        argv, env = tools.CLIENTS[name](directory)
    except Trouble as trouble:
        return {feature: ("FAIL", f"cannot prepare the client: {trouble}", 0) for feature in features}
    home = directory / "home"
    home.mkdir(exist_ok=True)
    if at_once:
        env = {**env, "INTEROP_AT_ONCE": str(at_once)}
    process = Process([*inside, *argv, namesrv, prefix, *features], directory / "output.log", {**env, "HOME": str(home)}, cwd=directory)
    code = process.wait(CLIENT_LIMIT_S)
    results = {}
    for line in process.log.read_text(errors="replace").splitlines():
        if line.startswith("RESULT\t"):
            _, feature, verdict, reason, ms = (line.split("\t") + ["", "", "0"])[:5]
            results[feature] = (verdict, reason, int(ms or 0))
    ended = f"ended with {code}" if code is not None else f"was ended after {CLIENT_LIMIT_S} s"
    for feature in features:
        results.setdefault(feature, ("FAIL", f"no result: the client {ended}", 0))
    if any(verdict == "FAIL" for verdict, _, _ in results.values()):
        print(f"--- {name}: the end of its output, all of it in {process.log}\n{process.tail(40)}", flush=True)
    return results


def run_suite(name, arguments, ours, addresses, anew, features):
    start = time.monotonic()
    try:
        if name in tools.CLIENTS:
            usual = [feature for feature in features if feature not in ANEW]
            results = run_client(name, addresses.namesrv, usual) if usual else {}
            beginnings = [feature for feature in features if feature in ANEW]
            if anew:
                results |= run_client(name, anew.namesrv, beginnings, log=f"{name}-anew")
            else:
                results |= {feature: ("n/a", "needs a binary to start", 0) for feature in beginnings}
        elif ours is None:
            results = {name: ("n/a", "needs a binary to start and stop", 0)}
        else:
            directory = scratch(name)
            java = JavaServers(tools.jars("4.9.7"), directory / "java")
            results = SUITES[name](ours(directory / "ours"), java, directory, run_client, arguments.tier)
    except Trouble as trouble:
        results = {name: ("FAIL", str(trouble), 0)}
    except Exception:
        results = {name: ("FAIL", traceback.format_exc(limit=4), 0)}
    if arguments.peer:
        for feature, (verdict, reason, ms) in results.items():
            if verdict == "FAIL" and (name, feature) in PEER_FAULTS:
                results[feature] = ("peer", f"{PEER_FAULTS[name, feature]} ({reason})", ms)
    print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return results


def table(results, features):
    clients = [name for name in tools.CLIENTS if name in results]
    if clients:
        print("\n" + " " * 22 + "".join(f"{name:>9}" for name in clients))
        for feature in features:
            print(f"{feature:22}" + "".join(f"{results[name].get(feature, ('',))[0]:>9}" for name in clients))
    for name in results:
        if name == "raw" and len(results[name]) > 1:  # a thousand rows; the failed ones are told below
            print(f"\n{'raw: rows as expected':48} {sum(row[0] == 'ok' for row in results[name].values())} of {len(results[name])}")
        elif name not in clients:
            print("\n" + "\n".join(f"{name + ': ' + feature:48} {result[0]}" for feature, result in results[name].items()))
    print()
    for verdict in ("n/a", "peer", "FAIL"):
        for name in results:
            for feature, result in results[name].items():
                if result[0] == verdict:
                    print(f"{verdict:4} {name} {feature}: {result[1]}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    suites = [*tools.CLIENTS, *SUITES]
    parser.add_argument("--broker", metavar="ADDR", help="a broker that runs already (with --namesrv)")
    parser.add_argument("--namesrv", metavar="ADDR", help="its name server")
    parser.add_argument("--only", metavar="SUITES", help=f"comma-separated, of {','.join(suites)}")
    parser.add_argument("--features", metavar="NAMES", help="comma-separated; all of the tier unless given")
    parser.add_argument("--tier", choices=TIERS, default="main")
    parser.add_argument("--binary", metavar="PATH", help="instead of target/release/keelmq")
    parser.add_argument("--peer", action="store_true", help="play against Java 4.9.7 instead of ours")
    parser.add_argument("--keep", action="store_true", help="leave stores and logs of a green run, too")
    arguments = parser.parse_args()
    if bool(arguments.broker) != bool(arguments.namesrv):
        parser.error("--broker and --namesrv go together")
    # The longest suites start first.
    usual = [*servers.SUITES, "readme", *tools.CLIENTS] if arguments.tier != "kinds" else ["mixed", *tools.CLIENTS]
    arguments.suites = arguments.only.split(",") if arguments.only else usual
    for name in arguments.suites:
        if name not in suites:
            parser.error(f"no suite {name!r}; there are {', '.join(suites)}")
    arguments.played = TIERS[arguments.tier]
    if arguments.features:
        arguments.played = arguments.features.split(",")
    return arguments


def begin_far_out(store):
    """A store whose log begins at 12 GiB: offsets do not fit 32 bits, for the broker as for the clients."""
    segment = store / "commitlog" / f"{12 << 30:020}"
    segment.parent.mkdir(parents=True)
    with open(segment, "wb") as file:
        file.truncate(128 << 20)


def interrupted(number, _):
    end_all()
    os._exit(128 + number)


def main():
    arguments = parse()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    start = time.monotonic()
    results = {}
    started = {}
    anew = None
    try:
        if "readme" in arguments.suites and not arguments.peer:
            # Its command would build while others start what it builds, and without a network.
            tools.keelmq(fresh=True)
        if arguments.broker:
            ours = (lambda directory: Keelmq(arguments.binary, directory)) if arguments.binary else None
            addresses = Server(arguments.broker, arguments.namesrv, [])
        else:
            if arguments.peer:
                class_path = tools.jars("4.9.7")
                ours = lambda directory: JavaServers(class_path, directory)
            else:
                binary = arguments.binary or tools.keelmq()
                ours = lambda directory: Keelmq(binary, directory)
            directory = scratch("broker")
            if not arguments.peer:
                begin_far_out(directory / "store")
            settings = KINDS_SETTINGS if arguments.tier != "main" else []
            addresses = ours(directory).standalone(directory / "store", settings)
            started["broker"] = addresses
        if ours and any(name in tools.CLIENTS for name in arguments.suites) and any(feature in ANEW for feature in arguments.played):
            directory = scratch("anew")
            anew = started["broker of those who begin anew"] = ours(directory).standalone(directory / "store", ANEW_SETTINGS)
        await_registered(addresses.namesrv, 1)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            plays = {name: pool.submit(run_suite, name, arguments, ours, addresses, anew, arguments.played)
                     for name in arguments.suites}
            results = {name: play.result() for name, play in plays.items()}
        for name, server in started.items():
            complaint = server.stop()
            results[name] = {"starts, serves, stops": ("FAIL", complaint, 0) if complaint else ("ok", "", 0)}
    except Trouble as trouble:
        results["broker"] = {"starts, serves, stops": ("FAIL", str(trouble), 0)}
    table(results, arguments.played)
    verdicts = [result[0] for suite in results.values() for result in suite.values()]
    failed = verdicts.count("FAIL")
    if not failed and not arguments.keep:
        shutil.rmtree(scratch("done").parent, ignore_errors=True)
    print(f"\n{time.monotonic() - start:.0f} s; {verdicts.count('n/a')} n/a; {verdicts.count('peer')} known faults of the peer")
    print(f"{verdicts.count('ok')} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
