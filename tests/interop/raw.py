"""Raw requests in one order to our broker and to Java 4.9.7, and every answer compared: code, remark, fields, body. Where
ours differs on purpose the row says why (▲) and what ours answers. Knows the rows, nothing of RocketMQ."""

import concurrent.futures
import json
import re
import time

import raw_wire
from rows import rows
from rows.row import BROKER
from raw_wire import CLOSED, EXCEPTION, SILENT, Side
from world import JavaServers, Trouble, await_registered

ANSWER_LIMIT_S = 10
SILENCE_S = 0.7
SETTINGS = [("brokerName", BROKER), ("brokerClusterName", "DefaultCluster")]


def play(side, row):
    """One row on one side: the answer in comparable form."""
    try:
        connection = side.connection(row.to)
    except OSError:
        return "refused"
    connection.opaque += 1
    opaque = connection.opaque if row.opaque is None else row.opaque
    if row.listen:
        pushed = [side.told(answer) for answer in connection.listen(row.listen)]
        return sorted(pushed, key=json.dumps) or SILENT
    if row.until:  # a server may tell later what it knows already
        return until(side, row, connection)
    if row.raw is not None:
        data = row.raw(opaque)
    else:
        fields = row.fields and {key: value(side) if callable(value) else value for key, value in row.fields.items()}
        body = row.body(side) if callable(row.body) else row.body
        data = raw_wire.encode(row.code, fields, body, opaque, row.form, 2 if row.oneway else row.flag, row.language, row.version, row.remark)
    answer = connection.exchange(data, opaque, SILENCE_S if row.silent or row.oneway else row.limit_s or ANSWER_LIMIT_S)
    if isinstance(answer, dict):
        side.memory[row.name] = answer
    told = side.told(answer)
    if answer == CLOSED or "-" in row.to and not row.kept:
        side.drop(row.to)
    return told


def until(side, row, connection):
    end, code, fields, wanted = time.monotonic() + 5, *row.until
    while True:
        connection.opaque += 1
        data = raw_wire.encode(code, fields, b"", connection.opaque)
        answer = connection.exchange(data, connection.opaque, 5)
        found = (answer["ext"] or None) if isinstance(answer, dict) and answer["code"] == 0 else answer
        if found == wanted or time.monotonic() > end:
            return {"code": 0, "ext": found} if found == wanted else {"code": "never", "ext": found}
        time.sleep(0.01)


def form_asked(row, java, ours):
    """▲ Java answers a failure, 12 and 33 in JSON whatever was asked; ours answers in the request's form."""
    if isinstance(java, dict) and isinstance(ours, dict) and ours.get("form") == row.form:
        return {**java, "form": row.form}
    return java


def worded(java, ours):
    """▲ Where Java names an exception, ours says in words what is wrong; where Java says what, ours may add why; where
    Java forgot to say success in words that deny it, ours says nothing."""
    if not isinstance(java, dict) or not isinstance(ours, dict) or "remark" not in java or java["code"] != ours.get("code"):
        return java
    if java["code"] == 0 and java["remark"] == "not set any response code":
        return {**java, "remark": None}
    if not ours["remark"]:
        return java
    if java["remark"] == EXCEPTION:
        # The answers to sends tell the region whatever happens.
        about = {"MSG_REGION": "DefaultRegion", "TRACE_ON": "true"}
        return {**java, "remark": ours["remark"], "ext": ours["ext"] if ours["ext"] == about else java["ext"]}
    if java["remark"] and ours["remark"].startswith((java["remark"] + ": ", java["remark"] + " (")):
        return {**java, "remark": ours["remark"]}
    return java


def lacking(row, java, ours):
    """▲ Where Java fails for want of a field, or fails later because of it, ours says which field."""
    if not isinstance(java, dict) or not isinstance(ours, dict) or {java["code"], ours["code"]} != {1}:
        return False
    told = re.fullmatch(r"the request's header (?:lacks the )?field (\w+)( is .*)?", ours["remark"] or "", re.S)
    return told is not None and (told[2] is not None or (row.fields or {}).get(told[1]) is None)


def difference(row, java, ours):
    if java == ours:
        return None
    if isinstance(java, dict) and isinstance(ours, dict) and "flag" in java and "flag" in ours:
        parts = [f"{key}: java {java[key]!r} ours {ours[key]!r}" for key in java if java[key] != ours[key]]
        return "; ".join(parts)
    return f"java {java!r} ours {ours!r}"


def fits(wanted, found):
    """Whether ours is what the row says that it is: a word, or members that must be so."""
    if isinstance(wanted, str) or isinstance(found, str):
        return wanted == found
    return all(wanted[key] in found[key] if key == "remark" and wanted[key] else found[key] == wanted[key] for key in wanted)


def judge(row, java, ours, is_peer):
    found = difference(row, worded(form_asked(row, java, ours), ours), ours)
    if row.masks:
        found = difference(row, row.masks(worded(form_asked(row, java, ours), ours)), row.masks(ours))
    if row.why is None or is_peer:
        if found and not is_peer and lacking(row, java, ours):
            return ("ok", "▲ a missing field is named")
        return ("FAIL", found) if found else ("ok", "")
    if not fits(row.ours, ours):
        return ("FAIL", f"▲ {row.why}: ours should be {row.ours!r}, it is {ours!r}")
    return ("ok", f"▲ {row.why}")


def raw(ours, java, directory, run_client, tier):
    is_peer = isinstance(ours, JavaServers)
    servers = []
    try:
        servers.append(java.standalone(directory / "store-java", name=BROKER))
        if is_peer:
            servers.append(ours.standalone(directory / "store-ours", name=BROKER))
        else:
            servers.append(ours.standalone(directory / "store-ours", SETTINGS))
        for server in servers:
            await_registered(server.namesrv, 1)
        report = compare(Side("java", servers[0]), Side("ours", servers[1]), is_peer, directory)
    finally:
        complaints = [complaint for complaint in (server.stop() for server in servers) if complaint]
    if complaints:
        report["both servers stop"] = ("FAIL", "; ".join(complaints), 0)
    return report


def compare(java, ours, is_peer, directory):
    report = {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool, open(directory / "answers.txt", "w") as log:
        for row in rows():
            start = time.monotonic()
            answers = [play.result() for play in [pool.submit(play, side, row) for side in (java, ours)]]
            if row.name in report:
                raise Trouble(f"two rows are called {row.name!r}")
            verdict, reason = judge(row, *answers, is_peer)
            report[row.name] = (verdict, reason, int(1000 * (time.monotonic() - start)))
            log.write(f"{verdict} {row.name}\n  java {answers[0]!r}\n  ours {answers[1]!r}\n")
            log.flush()
            if verdict == "FAIL":
                print(f"raw: {row.name}: {reason}", flush=True)
    told = [row for row in report.values() if row[1].startswith("▲") and row[0] == "ok"]
    print(f"raw: {len(report)} rows, {len(told)} of them different on purpose; answers in {directory}/answers.txt", flush=True)
    return report
