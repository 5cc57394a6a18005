"""Messages sent back, half messages, queries by key, replies, and later versions' codes."""

import json

from rows.row import Row, await_max, heartbeat, item, place, props, pull, v1, v2, without


def kinds():
    message = {"offset": place("36: message"), "group": "BackG", "delayLevel": "0", "originMsgId": "x", "originTopic": "Back", "unitMode": "false"}
    yield Row("36: message", 310, v2(b="Back", i=props(("TAGS", "t"), ("KEYS", "k"), ("UNIQ_KEY", "U1"))), b"back")
    yield Row("33: a message", 33, {"offset": place("36: message")})
    yield Row("33: a message, binary", 33, {"offset": place("36: message")}, form="binary")
    yield Row("33: nothing there", 33, {"offset": "999999999999"})
    yield Row("33: in the middle", 33, {"offset": "7"})
    yield Row("33: negative", 33, {"offset": "-1"})
    yield Row("33: x", 33, {"offset": "x"})
    yield Row("33: no offset", 33, {})
    yield Row("36: back to the queue", 36, {**message, "delayLevel": "18"})
    yield Row("36: back, binary", 36, {**message, "delayLevel": "18"}, form="binary")
    yield Row("36: dead letter", 36, {**message, "delayLevel": "-1"})
    yield Row("36: no retries", 36, {**message, "maxReconsumeTimes": "0"})
    yield Row("36: nothing there", 36, {**message, "offset": "999999999999"})
    yield Row("36: offset negative", 36, {**message, "offset": "-1"})
    for name in without(message, "offset"):
        yield Row(f"36: without {name}", 36, without({**message, "delayLevel": "17"}, name))
    yield Row("36: without offset", 36, without(message, "offset"))
    yield Row("36: without fields", 36, None)
    yield Row("36: blank group", 36, {**message, "group": ""})
    yield Row("36: level 99", 36, {**message, "delayLevel": "99"})
    yield Row("36: one way", 36, {**message, "delayLevel": "-1"}, oneway=True)
    yield await_max("%DLQ%BackG", 0, 3)
    yield pull("36: pull back dead letters", topic="%DLQ%BackG", maxMsgNums="10")
    yield pull("36: pull back level 18", topic="SCHEDULE_TOPIC_XXXX", queueId="17", queueOffset="2", maxMsgNums="10")
    yield Row("send to a retry topic, exhausted", 310, v2(b="%RETRY%BackG", j="16"), b"x")
    yield Row("send to a retry topic, last one", 310, v2(b="%RETRY%BackG", j="15"), b"x")
    yield Row("send to a retry topic, own maximum", 310, v2(b="%RETRY%BackG", j="3", l="3"), b"x")
    yield await_max("%DLQ%BackG", 0, 5)
    yield pull("send to a retry topic: pull back", topic="%DLQ%BackG", queueOffset="3", maxMsgNums="10")

    half = props(("TRAN_MSG", "true"), ("PGROUP", "TP"), ("UNIQ_KEY", "T1"), ("TAGS", "t"))
    yield Row("37: half", 310, v2(a="TP", b="Tran", f="4", i=half), b"half")
    yield Row("37: half again", 310, v2(a="TP", b="Tran", f="4", i=half), b"half 2")
    end = lambda row, offset, decision, **more: {"topic": "Tran", "producerGroup": "TP", "tranStateTableOffset": offset, "commitLogOffset": place(row), "commitOrRollback": decision, "fromTransactionCheck": "false",
                                                 "msgId": "T1", "transactionId": "T1", **more}
    yield Row("37: unknown decision 0", 37, end("37: half", "1", "0"), silent=True)
    yield Row("37: unknown decision 5", 37, end("37: half", "1", "5"))
    yield Row("37: wrong group", 37, end("37: half", "1", "8", producerGroup="X"))
    yield Row("37: wrong queue offset", 37, end("37: half", "7", "8"))
    yield Row("37: nothing there", 37, {**end("37: half", "1", "8"), "commitLogOffset": "99999999999"})
    yield Row("37: not a half", 37, end("36: message", "0", "8"))
    for name in ("producerGroup", "tranStateTableOffset", "commitLogOffset", "commitOrRollback"):
        yield Row(f"37: without {name}", 37, without(end("37: half", "1", "8"), name), silent=True)
    offset = lambda row: lambda side: (side.memory[row]["ext"] or {}).get("queueOffset", "0") if row in side.memory else "0"
    yield Row("37: commit", 37, {**end("37: half", "1", "8"), "tranStateTableOffset": offset("37: half")})
    yield Row("37: rollback", 37, {**end("37: half again", "1", "12"), "tranStateTableOffset": offset("37: half again")})
    yield await_max("Tran", 0, 1)
    yield pull("37: pull back", topic="Tran")
    yield pull("37: pull back halves", topic="RMQ_SYS_TRANS_HALF_TOPIC", maxMsgNums="10")

    yield from halves_refused(end)

    key = {"topic": "Back", "key": "k", "maxNum": "10", "beginTimestamp": "0", "endTimestamp": "4000000000000"}
    found = lambda answer: answer if isinstance(answer, str) else {**answer, "ext": sorted(answer["ext"] or {}), "form": None}
    yield Row("12: found", 12, key, masks=found)
    yield Row("12: found, binary", 12, key, form="binary", masks=found)
    yield Row("12: by unique key", 12, {**key, "key": "U1", "_UNIQUE_KEY_QUERY": "true"}, masks=found)
    yield Row("12: unknown key", 12, {**key, "key": "nokey"})
    yield Row("12: another topic", 12, {**key, "topic": "NoSuchTopic"})
    yield Row("12: no messages wanted", 12, {**key, "maxNum": "0"})
    yield Row("12: before all time", 12, {**key, "endTimestamp": "1"})
    for name in key:
        yield Row(f"12: without {name}", 12, without(key, name))
    for code, fields in ((324, v1), (325, v2)):
        of = (lambda **over: fields(**over)) if code == 325 else (lambda **over: v1(**{{"b": "topic", "i": "properties", "d": "defaultTopicQueueNums"}[name]: value for name, value in over.items()}))
        yield Row(f"{code}: nobody to tell", code, of(b="DefaultCluster_REPLY_TOPIC", d="1", i=props(("REPLY_TO_CLIENT", "nobody"), ("CORRELATION_ID", "1"))), b"reply")
        yield Row(f"{code}: without asker", code, of(b="DefaultCluster_REPLY_TOPIC", i=""), b"reply")
        yield Row(f"{code}: asker is there", code, of(b="DefaultCluster_REPLY_TOPIC", i=props(("REPLY_TO_CLIENT", "p204"), ("CORRELATION_ID", "1"))), b"reply")
        yield Row(f"{code}: unknown topic", code, of(b=f"Reply{code}", i=props(("REPLY_TO_CLIENT", "nobody"))), b"reply")
        yield Row(f"{code}: blank topic", code, of(b="", i=props(("REPLY_TO_CLIENT", "nobody"))), b"reply")
        yield Row(f"{code}: without fields", code, None, b"reply")
    yield from replies_not_kept()
    named = "what is named and what is wrong with it is said"
    for name, fields in (("without fields", None), ("no id", {"topic": "Tran"}), ("no such place", {"msgId": "7F00000100002A9F00000000FFFFFFFF"}), ("nonsense", {"msgId": "x"})):
        yield Row(f"323: {name}", 323, fields, why=named, ours={"code": 1})
    for code in (50, 51, 52, 53, 54):
        yield Row(f"{code}: access lists", code, {}, silent=code in (52, 54), **({"why": "a code is never left unanswered", "ours": {"code": 3}} if code in (52, 54) else {}))
    for code in (60, 61, 370, 400, 401):
        yield Row(f"{code}: later versions' code", code, {})
    for code in (343, 345, 351, 352):
        yield Row(f"{code}: later versions' code", code, {}, why="5.x's code is served, and says which field it lacks", ours={"code": 1})
    yield Row("402: later versions' code", 402, {}, why="5.x's code is served", ours={"code": 0})
    yield Row("18: later versions' list of topics", 18, {}, b'{"topicConfigList":[]}', why="5.x's code is served", ours={"code": 0})
    yield Row("361: lite pull", 361, {**pull("", topic="Pull").fields, "sysFlag": "20"}, why="5.x's lite pull is served", ours={"code": 0, "remark": "FOUND"})


def halves_refused(end):
    """A broker that rejects transactions refuses what says TRAN_MSG=true, whatever its flag says, and still ends what it has."""
    half = lambda value="true": props(("TRAN_MSG", value), ("PGROUP", "TP"), ("UNIQ_KEY", "T2"))
    yield Row("37: half before they are refused", 310, v2(a="TP", b="Tran", e="1", f="4", i=half()), b"half 3")
    yield Row("halves are refused", 25, {}, b"rejectTransactionMessage=true\n")
    yield Row("half refused", 310, v2(a="TP", b="Tran", e="1", f="4", i=half()), b"half")
    yield Row("half refused, binary", 310, v2(a="TP", b="Tran", e="1", f="4", i=half()), b"half", form="binary")
    yield Row("half refused, long names", 10, v1(producerGroup="TP", topic="Tran", queueId="1", sysFlag="4", properties=half()), b"half")
    yield Row("half refused, to a topic that is not there", 310, v2(a="TP", b="TranRefused", e="1", f="4", i=half()), b"half")
    yield Row("half refused, without its flag", 310, v2(a="TP", b="Tran", e="1", i=half()), b"half")
    yield Row("half refused, delayed", 310, v2(a="TP", b="Tran", e="1", f="4", i=half() + props(("DELAY", "18"))), b"half")
    for value in ("TRUE", "false", "1", ""):
        yield Row(f"half that says {value!r}", 310, v2(a="TP", b="Tran", e="1", f="4", i=half(value)), b"half")
    # Not of a transaction, and yet no queue is told of it: the flag says that it waits.
    yield Row("no half, its flag alone", 310, v2(a="TP", b="Tran", e="1", f="4"), b"plain")
    yield Row("no half", 310, v2(a="TP", b="Tran", e="1"), b"plain")
    yield Row("a batch is no half", 320, v2(a="TP", b="Tran", e="1", f="4", i=half(), m="true"), item())
    offset = lambda side: (side.memory["37: half before they are refused"]["ext"] or {}).get("queueOffset", "0")
    yield Row("37: commit while they are refused", 37, {**end("37: half before they are refused", "0", "8"), "tranStateTableOffset": offset})
    yield Row("halves are taken", 25, {}, b"rejectTransactionMessage=false\n")
    yield Row("half taken", 310, v2(a="TP", b="Tran", e="1", f="4", i=half()), b"half")
    yield await_max("Tran", 1, 2)
    yield pull("what became of halves", topic="Tran", queueId="1", maxMsgNums="32")


def replies_not_kept():
    """A reply goes to whoever asked all the same; whether it is stored says the broker's setting."""
    topic = "DefaultCluster_REPLY_TOPIC"
    rows = lambda when: [
        Row(f"reply {when}: {code}, asker {asker}", code, (v1 if code == 324 else v2)(**{
            "topic" if code == 324 else "b": topic,
            "properties" if code == 324 else "i": props(("REPLY_TO_CLIENT", asker), ("CORRELATION_ID", "9"))}), b"reply")
        for code in (324, 325) for asker in ("nobody", "asker9")]
    yield Row("34: the asker", 34, {}, heartbeat("asker9", producers=["Askers"]))
    yield Row("replies are not kept", 25, {}, b"storeReplyMessageEnable=false\n")
    yield from rows("not kept")
    yield Row("replies are kept", 25, {}, b"storeReplyMessageEnable=true\n")
    yield from rows("kept")
    yield Row("what the asker was told", listen=0.5)
    yield await_max(topic, 0, 10)
    yield pull("replies that were kept", topic=topic, maxMsgNums="32")
    yield Row("35: the asker", 35, {"clientID": "asker9", "producerGroup": "Askers"})


def tried_again():
    """What decides whether a message is tried again, where, and when it is dead: the group, the client's version, its level."""
    group = lambda name, **more: json.dumps({"groupName": name, "consumeEnable": True, "consumeFromMinEnable": True, "consumeBroadcastEnable": True,
                                             "retryQueueNums": 1, "retryMaxTimes": 16, "brokerId": 0, "whichBrokerWhenConsumeSlowly": 1, "notifyConsumerIdsChangedEnable": True, **more}).encode()
    waiting = lambda level, count: await_max("SCHEDULE_TOPIC_XXXX", level - 1, count)
    yield Row("again: message", 310, v2(b="Again", i=props(("TAGS", "t"), ("UNIQ_KEY", "A1"))), b"again")
    back = {"offset": place("again: message"), "group": "AgainG", "delayLevel": "16", "originMsgId": "x", "originTopic": "Again", "unitMode": "false"}
    # From client version 121 on the request says how often.
    for version, limit in ((120, "0"), (121, "0"), (122, "0"), (121, "1"), (121, "-1")):
        yield Row(f"again: client {version}, at most {limit}", 36, {**back, "maxReconsumeTimes": limit}, version=version)
    yield waiting(16, 2)
    yield await_max("%DLQ%AgainG", 0, 3)
    for version in (120, 121):
        yield Row(f"again: producer {version} exhausted", 310, v2(b="%RETRY%AgainG", j="3", l="3"), b"x", version=version)
    yield await_max("%DLQ%AgainG", 0, 4)
    # Level 0 is 3 and the times it was tried.
    yield Row("again: level by the broker", 36, {**back, "group": "AgainZero", "delayLevel": "0"})
    yield waiting(3, 1)
    yield Row("again: a group that is never tried again", 200, {}, group("AgainNever", retryQueueNums=0))
    yield Row("again: never", 36, {**back, "group": "AgainNever"})
    yield Row("again: never, dead letters", 36, {**back, "group": "AgainNever", "delayLevel": "-1"})
    yield Row("again: never, producer", 310, v2(b="%RETRY%AgainNever", j="16"), b"x")
    yield Row("again: a group that is tried once", 200, {}, group("AgainOnce", retryQueueNums=3, retryMaxTimes=1))
    yield Row("again: once", 36, {**back, "group": "AgainOnce"}, version=100)
    yield Row("again: once, producer not yet", 310, v2(b="%RETRY%AgainOnce", j="0", e="2"), b"x")
    yield Row("again: once, producer exhausted", 310, v2(b="%RETRY%AgainOnce", j="1", e="2"), b"x")
    yield Row("again: once, queue that is not there", 310, v2(b="%RETRY%AgainOnce", j="0", e="3"), b"x")
    yield await_max("%DLQ%AgainOnce", 0, 1)
    yield Row("again: disabled group", 200, {}, group("AgainOff", consumeEnable=False))
    yield Row("again: disabled", 36, {**back, "group": "AgainOff"})
    # What the broker may do at all.
    yield Row("again: groups are not made", 25, {}, b"autoCreateSubscriptionGroup=false\n")
    yield Row("again: unknown group", 36, {**back, "group": "AgainUnknown"})
    yield Row("again: unknown group, producer", 310, v2(b="%RETRY%AgainUnknown", j="16"), b"x")
    yield Row("again: groups are made", 25, {}, b"autoCreateSubscriptionGroup=true\n")
    yield Row("again: the broker may not be written to", 25, {}, b"brokerPermission=4\n")
    yield Row("again: forbidden", 36, back)
    yield Row("again: forbidden, producer", 310, v2(b="Again"), b"x")
    yield Row("again: forbidden, dead letters", 36, {**back, "delayLevel": "-1"})
    yield Row("again: the broker may not be read", 25, {}, b"brokerPermission=2\n")
    yield pull("again: forbidden, pull", topic="Again")
    yield Row("again: all is allowed", 25, {}, b"brokerPermission=6\n")
    yield Row("again: allowed", 36, {**back, "group": "AgainLast"})


def poison():
    """Last: such a record stops the dispatch of 4.9.7 for good, so that it sees no later message."""
    yield Row("batch: item properties that become too long", 320, v2(b="BatchLong", m="true"), item(properties="a\x01" + "v" * 32764),
              why="a record whose properties' length does not fit its field is refused, not stored as poison", ours={"code": 13})
