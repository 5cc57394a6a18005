"""Topics, groups, statistics: what tools ask of a broker."""

import json

from rows.row import BROKER, Row, consumer, heartbeat, pull, told_apart, v2, without


def administration():
    yield Row("21: topics", 21, {}, masks=told_apart())
    topic = {"topic": "Admin", "defaultTopic": "TBW102", "readQueueNums": "3", "writeQueueNums": "2", "perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false"}
    yield Row("17: create", 17, topic)
    yield Row("17: again", 17, topic)
    yield Row("17: binary", 17, topic, form="binary")
    yield Row("17: order", 17, {**topic, "order": "true"})
    for name in topic:
        yield Row(f"17: without {name}", 17, without(topic, name))
    for name in ("TBW102", "SELF_TEST_TOPIC", "SCHEDULE_TOPIC_XXXX", "BenchmarkTest", "DefaultCluster", BROKER, "rmq_sys_x", "", "a b", "t" * 128, "%RETRY%x", "OFFSET_MOVED_EVENT", "RMQ_SYS_TRACE_TOPIC"):
        yield Row(f"17: topic {name[:30]!r}", 17, {**topic, "topic": name})
    bad = "what cannot be served is refused"
    yield Row("17: perm 99", 17, {**topic, "topic": "Bad", "perm": "99"}, why=bad, ours={"code": 1})
    yield Row("17: queues negative", 17, {**topic, "topic": "Bad", "readQueueNums": "-1"}, why=bad, ours={"code": 1})
    yield Row("17: filter type X", 17, {**topic, "topicFilterType": "X"})
    yield Row("17: perm x", 17, {**topic, "perm": "x"})
    yield Row("17: read only", 17, {**topic, "topic": "ReadOnly", "perm": "4"})
    yield Row("17: write only", 17, {**topic, "topic": "WriteOnly", "perm": "2"})
    yield Row("17: no write queues", 17, {**topic, "topic": "NoWrite", "writeQueueNums": "0"})
    yield Row("send to a topic that is only read", 310, v2(b="ReadOnly"), b"x")
    yield pull("pull from a topic that is only written", topic="WriteOnly")
    yield Row("send to any queue of none to write", 310, v2(b="NoWrite", e="-1"), b"x")
    yield Row("send to queue 0, none to write", 310, v2(b="NoWrite", e="0"), b"x")
    yield Row("send to read queue 2 of 3/2", 310, v2(b="Admin", e="2"), b"x")
    yield Row("send to queue 3 of 3/2", 310, v2(b="Admin", e="3"), b"x")
    yield Row("route of 3/2", 105, {"topic": "Admin"}, to="namesrv")
    group = {"groupName": "AG", "consumeEnable": True, "consumeFromMinEnable": True, "consumeBroadcastEnable": False, "retryQueueNums": 2, "retryMaxTimes": 3, "brokerId": 0, "whichBrokerWhenConsumeSlowly": 1,
             "notifyConsumerIdsChangedEnable": True}
    encoded = lambda **over: json.dumps({**group, **over}).encode()
    yield Row("200: create", 200, {}, encoded())
    yield Row("200: disabled", 200, {}, encoded(groupName="Off", consumeEnable=False))
    yield Row("200: no body", 200, {})
    yield Row("200: nonsense", 200, {}, b"{nonsense")
    yield Row("200: only a name", 200, {}, b'{"groupName":"Bare"}')
    yield Row("200: no name", 200, {}, b"{}")
    yield pull("pull of a disabled group", topic="Pull", consumerGroup="Off")
    yield Row("34: group that may not broadcast", 34, {}, heartbeat("nb", [consumer("AG", messageModel="BROADCASTING")]))
    yield pull("pull of a group that may not broadcast", topic="Pull", consumerGroup="AG", sysFlag="0")
    yield Row("201: groups", 201, {}, masks=told_apart())
    yield Row("202: stats", 202, {"topic": "Pull"}, masks=told_apart("topicPutTps"))
    yield Row("202: unknown topic", 202, {"topic": "NoSuchTopic"})
    yield Row("202: no topic", 202, {})
    yield Row("203: connections", 203, {"consumerGroup": "HTags"})
    yield Row("203: offline", 203, {"consumerGroup": "NoSuchGroup"})
    yield Row("203: no group", 203, {})
    yield Row("204: unknown", 204, {"producerGroup": "NoSuchGroup"})
    yield Row("34: producer for 204", 34, {}, heartbeat("p204", producers=["P204"]))
    yield Row("204: connections", 204, {"producerGroup": "P204"})
    yield Row("328: producers", 328, {}, masks=told_apart())
    # 5.x tells pullOffset, too.
    yield Row("208: of one topic", 208, {"consumerGroup": "O", "topic": "Pull"}, masks=told_apart("pullOffset"))
    yield Row("208: of all", 208, {"consumerGroup": "O"}, masks=told_apart("pullOffset"))
    yield Row("208: unknown group", 208, {"consumerGroup": "NoSuchGroup"})
    yield Row("208: no group", 208, {})
    yield Row("300: who consumes", 300, {"topic": "Pull"}, masks=told_apart())
    yield Row("300: unknown topic", 300, {"topic": "NoSuchTopic"})
    yield Row("303: time span", 303, {"topic": "Pull", "group": "O"}, masks=told_apart("delayTime", "consumeTimeStampStr", "minTimeStampStr", "maxTimeStampStr"))
    yield Row("303: unknown topic", 303, {"topic": "NoSuchTopic", "group": "O"})
    yield Row("305: system topics", 305, {})
    yield Row("307: offline", 307, {"consumerGroup": "NoSuchGroup", "clientId": "c", "jstackEnable": "false"})
    yield Row("307: old client", 307, {"consumerGroup": "HCpp", "clientId": "cpp", "jstackEnable": "false"}, limit_s=14, why="the time-out in words", ours={"code": 207})
    yield Row("308: correction", 308, {"compareGroup": "O", "topic": "Pull"})
    yield Row("309: unknown message", 309, {"consumerGroup": "HG", "clientId": "c", "msgId": "x", "brokerName": BROKER})
    yield Row("314: clone", 314, {"srcGroup": "O", "destGroup": "O2", "topic": "Pull", "offline": "true"})
    yield Row("314: cloned", 14, {"consumerGroup": "O2", "topic": "Pull", "queueId": "0"})
    yield Row("315: unknown stats", 315, {"statsName": "X", "statsKey": "Y"})
    yield Row("321: queue", 321, {"topic": "Pull", "queueId": "0", "index": "0", "count": "2", "consumerGroup": "HG"}, masks=told_apart("physicOffset"))
    # Of a topic that no other row asks for: Java makes a queue by being asked for its offsets, and finds it then.
    yield Row("321: unknown topic", 321, {"topic": "NeverAskedFor", "queueId": "0", "index": "0", "count": "2"})
    yield Row("321: count 0", 321, {"topic": "Pull", "queueId": "0", "index": "0", "count": "0"})
    yield Row("222: offline", 222, {"topic": "Pull", "group": "O", "timestamp": "0", "isForce": "true"})
    yield Row("222: unknown topic", 222, {"topic": "NoSuchTopic", "group": "O", "timestamp": "0", "isForce": "true"})
    yield Row("223: offline", 223, {"topic": "Pull", "group": "NoSuchGroup"})
    yield Row("306: clean", 306, {})
    yield Row("316: clean topics", 316, {})
    yield Row("25: no body", 25, {})
    yield Row("25: unknown key", 25, {}, b"zzz=1\n")
    yield Row("207: delete", 207, {"groupName": "AG"})
    yield Row("207: unknown", 207, {"groupName": "NoSuchGroup"})
    yield Row("207: no name", 207, {})
    yield Row("215: delete", 215, {"topic": "Admin"})
    yield Row("215: deleted", 30, {"topic": "Admin", "queueId": "2"})
    yield Row("215: unknown", 215, {"topic": "NoSuchTopic"})
    yield Row("215: system", 215, {"topic": "TBW102"})
    yield Row("215: blank", 215, {"topic": ""})
    yield Row("215: no topic", 215, {})
    yield Row("43: all offsets", 43, {}, masks=told_apart())
    yield Row("45: delay offsets", 45, {}, masks=lambda answer: answer if isinstance(answer, str) else {**answer, "body": None})
    yield from dashboards()


def dashboards():
    """What rocketmq-dashboard 1.0 and 2.0 and rocketmq-exporter 0.0.2 ask, where no other row does. They ask 105 106 206
    219 of name servers; 11 12 17 21 25 26 28 29 30 31 32 33 200 201 202 203 204 207 208 215 222 300 307 309 310 315 317
    328, 2.0 also 351 352 and 3001-3010, of brokers. (Runtime, configuration, and what tells of everything that other rows left: in `mqadmin`.)"""
    for name, key in (("TOPIC_PUT_NUMS", "Nowhere"), ("TOPIC_PUT_SIZE", "Nowhere"), ("GROUP_GET_NUMS", "Nowhere@nobody"),
                      ("GROUP_GET_SIZE", "Nowhere@nobody"), ("SNDBCK_PUT_NUMS", "Nowhere@nobody"), ("BROKER_PUT_NUMS", "Nowhere"),
                      ("GROUP_GET_LATENCY", "0@Nowhere@nobody"), ("GROUP_GET_FALL_SIZE", "0@Nowhere@nobody"),
                      ("GROUP_GET_FALL_TIME", "0@Nowhere@nobody"), ("GROUP_GET_NUMS", "no group in it"), ("QUEUE_PUT_NUMS", "a@b@c@d")):
        yield Row(f"315: {name} {key}", 315, {"statsName": name, "statsKey": key})
    yield Row("315: no name", 315, {"statsKey": "Raw"})
    yield Row("315: no key", 315, {"statsName": "TOPIC_PUT_NUMS"})
    yield Row("329: delete expired", 329, {})
    for code in range(3001, 3011):
        yield Row(f"{code}: users and their rights", code, {"username": "u", "subject": "User:u"}, why="which is not served yet, in words", ours={"code": 3})
