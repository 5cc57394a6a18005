"""Heartbeats 34, members 38, checks 46, locks 41 and 42, leaving 35, and what clients are told: 40 and 326."""

import json

from rows.row import BROKER, Row, consumer, heartbeat, props, pull, subscription, v1, v2, without

REPLY = props(("REPLY_TO_CLIENT", "listener"), ("CORRELATION_ID", "7"), ("TTL", "3000"))


def clients():
    yield Row("34: producer", 34, {}, heartbeat())
    yield Row("34: without extFields", 34, None, heartbeat())
    yield Row("34: consumer", 34, {}, heartbeat(consumers=[consumer()]))
    yield Row("34: the group hears of itself", listen=0.5)
    yield Row("34: same again", 34, {}, heartbeat(consumers=[consumer()]))
    yield Row("34: nothing has changed", listen=0.5)
    yield Row("34: second client", 34, {}, heartbeat("c2", consumers=[consumer()]), to="broker-second", kept=True)
    yield Row("34: the first hears of the second", listen=0.5)
    yield Row("34: retry topic has a route", 105, {"topic": "%RETRY%HG"}, to="namesrv")
    yield Row("38: two clients", 38, {"consumerGroup": "HG"})
    yield Row("38: binary", 38, {"consumerGroup": "HG"}, form="binary")
    yield Row("38: unknown group", 38, {"consumerGroup": "NoSuchGroup"})
    yield Row("38: blank group", 38, {"consumerGroup": ""})
    yield Row("38: without group", 38, {})
    yield Row("38: without fields", 38, None)
    yield Row("38: producers' group", 38, {"consumerGroup": "HP"})
    yield Row("34: Go", 34, {}, heartbeat("go", [consumer("HGo", [{**subscription(expression="a||b"), "codeSet": ["97", "98"], "tagsSet": ["a", "b"]}])]), language="GO", version=317)
    yield Row("38: Go", 38, {"consumerGroup": "HGo"})
    cpp = {"groupName": "HCpp", "consumeType": 1, "messageModel": 1, "consumeFromWhere": 0, "subscriptionDataSet": [{"topic": "Pull", "subString": "*", "subVersion": "1600000000000"}]}
    yield Row("34: C++", 34, {}, heartbeat("cpp", [cpp]), language="CPP", version=63)
    yield Row("38: C++", 38, {"consumerGroup": "HCpp"})
    for name, body in {"no body": b"", "empty object": b"{}", "nonsense": b"{nonsense", "array": b"[]", "no client id": json.dumps({"producerDataSet": [{"groupName": "X"}]}).encode(),
                       "null sets": b'{"clientID":"n","consumerDataSet":null,"producerDataSet":null}', "trailing data": heartbeat() + b"xyz", "single quotes": b"{'clientID':'q','producerDataSet':[{'groupName':'Q'}]}",
                       "unquoted names": b"{clientID:'q',producerDataSet:[{groupName:'Q'}]}", "unknown member": heartbeat(zzz={"a": [1]}),
                       "consumer without group": heartbeat(consumers=[without(consumer(), "groupName")]), "consumer without subscriptions": heartbeat(consumers=[without(consumer("HNoSubs"), "subscriptionDataSet")]),
                       "null subscriptions": heartbeat(consumers=[consumer("HNull", None, subscriptionDataSet=None)]), "unknown model": heartbeat(consumers=[consumer("HModel", messageModel="X")]),
                       "model as ordinal text": heartbeat(consumers=[consumer("HModel2", messageModel="1")]), "broadcast": heartbeat(consumers=[consumer("HBroad", messageModel="BROADCASTING")]),
                       "no model": heartbeat(consumers=[without(consumer("HNoModel"), "messageModel")]), "blank group": heartbeat(consumers=[consumer("")]), "illegal group": heartbeat(consumers=[consumer("a b")]),
                       "bad SQL": heartbeat(consumers=[consumer("HSql", [subscription(kind="SQL92", expression="n >")])]), "fingerprint": heartbeat(heartbeatFingerprint=5, withoutSub=True),
                       "producer without group": b'{"clientID":"c","producerDataSet":[{}]}', "blank producer": heartbeat(producers=[""])}.items():
        told = {}
        if name in ("null sets", "trailing data", "null subscriptions"):
            told = {"why": "what is absent is empty, what is behind is not read", "ours": {"code": 0}}
        yield Row(f"34: {name}", 34, {}, body, to="broker-odd", kept=True, **told)
    for group in ("HNoSubs", "HNull", "HModel", "HModel2", "HBroad", "HNoModel", "HSql", "a b", "NoSuch"):
        yield Row(f"38: after odd heartbeats {group}", 38, {"consumerGroup": group})
    one = lambda name, more=None, **fields: pull(f"pull as subscribed: {name}", more, **{"sysFlag": "0", "consumerGroup": "HG", "topic": "Pull", **fields})
    yield one("found", subVersion="1")
    yield one("older version", subVersion="0")
    yield one("newer version", subVersion="2")
    yield one("another topic", topic="Raw")
    yield one("offline group", consumerGroup="Nobody")
    yield one("broadcast", consumerGroup="HBroad", subVersion="1")
    yield one("bad SQL", {"why": "a broken SQL expression is refused", "ours": {"code": 23}}, consumerGroup="HSql", subVersion="1")
    yield Row("34: SQL", 34, {}, heartbeat("sql", [consumer("HSql2", [subscription(kind="SQL92", expression="n > 3", version=7)])]))
    yield one("SQL", consumerGroup="HSql2", subVersion="7", expressionType="SQL92", subscription="n > 3", maxMsgNums="10")
    yield one("SQL, newer version", consumerGroup="HSql2", subVersion="8", expressionType="SQL92")
    yield one("SQL, told TAG", consumerGroup="HSql2", subVersion="7", expressionType="TAG")
    yield one("TAG, told SQL", consumerGroup="HG", subVersion="1", expressionType="SQL92")
    yield Row("34: tags", 34, {}, heartbeat("tags", [consumer("HTags", [subscription(expression="A || C", codeSet=[65, 67], tagsSet=["A", "C"])])]))
    yield one("tags", consumerGroup="HTags", subVersion="1", maxMsgNums="10")
    yield Row("34: expression without code set", 34, {}, heartbeat("tags2", [consumer("HTags2", [subscription(expression="A")])]))
    yield one("expression without code set", {"why": "the expression counts, not the client's hashes", "ours": {"code": 0, "remark": "FOUND"}}, consumerGroup="HTags2", subVersion="1", maxMsgNums="10")
    for name, body in {"TAG": {"subscriptionData": subscription()}, "broken TAG": {"subscriptionData": subscription(expression="||")}, "SQL": {"subscriptionData": subscription(kind="SQL92", expression="a > 1")},
                       "no subscription": {}, "null kind": {"subscriptionData": subscription(kind=None)}}.items():
        yield Row(f"46: {name}", 46, {}, json.dumps({"clientId": "c", "group": "HG", "namespace": "", **body}).encode())
    yield Row("46: broken SQL", 46, {}, json.dumps({"clientId": "c", "group": "HG", "subscriptionData": subscription(kind="SQL92", expression="a >")}).encode())
    yield Row("46: unknown kind", 46, {}, json.dumps({"clientId": "c", "group": "HG", "subscriptionData": subscription(kind="X", expression="a")}).encode())
    yield Row("46: empty SQL", 46, {}, json.dumps({"clientId": "c", "group": "HG", "subscriptionData": subscription(kind="SQL92", expression="")}).encode())
    yield Row("46: no body", 46, {})
    yield Row("46: nonsense", 46, {}, b"{nonsense")

    queue = lambda topic="Pull", number=0: {"brokerName": BROKER, "queueId": number, "topic": topic}
    lock = lambda client="c1", group="HG", queues=None, **more: json.dumps({"clientId": client, "consumerGroup": group, "mqSet": [queue()] if queues is None else queues, **more}).encode()
    yield Row("41: free queue", 41, {}, lock())
    yield Row("41: same client again", 41, {}, lock())
    yield Row("41: other client", 41, {}, lock("c2"))
    yield Row("41: other group", 41, {}, lock("c2", "HG2"))
    yield Row("41: one taken, one free", 41, {}, lock("c2", queues=[queue(), queue(number=1)]))
    yield Row("41: three at once", 41, {}, lock("c3", "HG3", [queue(), queue(number=1), queue("NoSuchTopic", 9)]))
    yield Row("41: no queues", 41, {}, lock(queues=[]))
    yield Row("41: another broker's queue", 41, {}, lock("c4", "HG4", [{"brokerName": "other", "queueId": 0, "topic": "Pull"}]))
    yield Row("41: without queues", 41, {}, b'{"clientId":"c","consumerGroup":"g"}')
    absent = {"why": "what is absent is empty", "ours": {"code": 0}}
    yield Row("41: null queues", 41, {}, b'{"clientId":"c","consumerGroup":"g","mqSet":null}', **absent)
    yield Row("41: no body", 41, {})
    yield Row("41: empty object", 41, {}, b"{}")
    yield Row("41: nonsense", 41, {}, b"{nonsense")
    yield Row("41: no client", 41, {}, json.dumps({"consumerGroup": "HG5", "mqSet": [queue()]}).encode())
    yield Row("41: binary", 41, {}, lock(), form="binary")
    yield Row("42: not the holder", 42, {}, lock("c2"))
    yield Row("42: still held", 41, {}, lock("c9"))
    yield Row("42: the holder", 42, {}, lock())
    yield Row("42: free for another", 41, {}, lock("c9"))
    yield Row("42: one way", 42, {}, lock("c9"), oneway=True)
    yield Row("42: unknown group", 42, {}, lock(group="NoSuchGroup"))
    yield Row("42: no body", 42, {})
    yield Row("42: empty object", 42, {}, b"{}")

    yield Row("200: a group with three retry queues", 200, {}, json.dumps({"groupName": "HUnit", "retryQueueNums": 3}).encode())
    yield Row("34: in unit mode", 34, {}, heartbeat("unit", [consumer("HUnit", unitMode=True)]), to="broker-unit")
    yield Row("105: its retry topic has a route", until=(105, {"topic": "%RETRY%HUnit"}, None), to="namesrv")
    yield Row("105: its retry topic", 105, {"topic": "%RETRY%HUnit"}, to="namesrv")
    yield Row("200: a group whose members are told nothing", 200, {}, json.dumps({"groupName": "HQuiet", "notifyConsumerIdsChangedEnable": False}).encode())
    for client, to in (("q1", "broker-quiet"), ("q2", "broker-quiet2")):
        yield Row(f"34: {client} of it", 34, {}, heartbeat(client, [consumer("HQuiet")]), to=to, kept=True)
    yield Row("40: those on this connection hear nothing", listen=0.5)

    yield Row("25: SQL92 is switched off", 25, {}, b"enablePropertyFilter=false\n")
    yield Row("46: SQL, switched off", 46, {}, json.dumps({"clientId": "c", "group": "HG", "subscriptionData": subscription(kind="SQL92", expression="a > 1")}).encode())
    yield pull("pull by SQL, switched off", expressionType="SQL92", subscription="a > 1")
    yield one("SQL, switched off", consumerGroup="HSql2", subVersion="7", expressionType="SQL92")
    yield Row("25: and on again", 25, {}, b"enablePropertyFilter=true\n")
    yield Row("25: no sends before 2100", 25, {}, b"startAcceptSendRequestTimeStamp=4102444800123\n")
    yield Row("310: too early", 310, v2())
    yield Row("25: sends at all times", 25, {}, b"startAcceptSendRequestTimeStamp=0\n")
    yield Row("310: not too early", 310, v2())

    yield Row("34: a client that listens", 34, {}, heartbeat("listener", producers=("Listeners",)))
    yield Row("40: what it has heard so far", listen=0.5)
    for code, fields in ((324, v1(topic="DefaultCluster_REPLY_TOPIC", properties=REPLY)), (325, v2(b="DefaultCluster_REPLY_TOPIC", i=REPLY))):
        yield Row(f"{code}: reply to a client that listens", code, fields, b"reply")
        yield Row(f"326: it hears the reply of {code}", listen=0.5)
        yield Row(f"{code}: binary reply to a client that listens", code, fields, b"\x00reply", form="binary")
        yield Row(f"326: it hears the binary reply of {code}", listen=0.5)
    yield Row("35: the client that listens", 35, {"clientID": "listener", "producerGroup": "Listeners"})

    yield Row("35: unknown client", 35, {"clientID": "zzz", "consumerGroup": "HG", "producerGroup": "HP"})
    yield Row("35: second client", 35, {"clientID": "c2", "consumerGroup": "HG"}, to="broker-second", kept=True)
    yield Row("35: the first hears of it", listen=0.5)
    yield Row("38: one client left", 38, {"consumerGroup": "HG"})
    yield Row("35: without client", 35, {"consumerGroup": "HG"})
    yield Row("35: without groups", 35, {"clientID": "c1"})
    yield Row("35: empty groups", 35, {"clientID": "c1", "consumerGroup": "", "producerGroup": ""})
    yield Row("35: without fields", 35, None)
    yield Row("35: first client", 35, {"clientID": "c1", "consumerGroup": "HG", "producerGroup": "HP"})
    yield Row("38: none left", 38, {"consumerGroup": "HG"})
    held = [queue(number=7)]
    yield Row("41: c1 before it leaves", 41, {}, lock("c1", "HG", held))
    yield Row("35: c1 leaves", 35, {"clientID": "c1", "consumerGroup": "HG"})
    yield Row("41: who has left holds its queue until it expires", 41, {}, lock("c2", "HG", held))


def after_a_minute():
    """Much later than `clients`: the lock of the one who left ended by itself, 60 s after it was given."""
    body = {"clientId": "c2", "consumerGroup": "HG", "mqSet": [{"brokerName": BROKER, "queueId": 7, "topic": "Pull"}]}
    yield Row("41: and after a minute it is anybody's", 41, {}, json.dumps(body).encode())
