"""Sends 10, 310 and 320 of single messages: topics, queues, flags, sizes."""

from rows.row import BORN, BROKER, V1, V2, Row, await_max, pull, v1, v2, without


def sends():
    body = b"body"
    yield Row("send makes a topic", 10, v1(), body)
    yield Row("the route of a topic just made", 105, {"topic": "Raw"}, to="namesrv")
    yield Row("send again", 10, v1(), body)
    yield Row("send, binary", 10, v1(), body, form="binary")
    yield Row("send V2", 310, v2(), body)
    yield Row("send V2, binary", 310, v2(), body, form="binary")
    yield Row("send V2 on the fast port", 310, v2(), body, to="fast")
    yield Row("send one way", 310, v2(), body, oneway=True)
    yield Row("send 320 that is no batch", 320, v2(), body)
    yield Row("send V1 fields under 310", 310, v1(), body)
    yield Row("send V2 fields under 10", 10, v2(), body)
    for name in V1:
        yield Row(f"send without {name}", 10, without(V1, name), body)
    for letter in V2:
        yield Row(f"send V2 without {letter}", 310, without(V2, letter), body)
    yield Row("send without fields", 10, None, body)
    yield Row("send with empty fields", 10, {}, body)
    yield Row("send V2 with empty fields", 310, {}, body)
    yield Row("send V2 with broker name", 310, v2(n=BROKER), body)
    yield Row("send V2 with maximum", 310, v2(l="3"), body)
    yield Row("send with unknown fields", 10, v1(zzz="1", ns="x", bname="y", AccessKey="", Signature=""), body)
    yield Row("send like C++", 10, v1(queueId=0, sysFlag=0, bornTimestamp=BORN, flag=0, defaultTopicQueueNums=4, reconsumeTimes=0,
                                      unitMode="0", batch="1"), body, language="CPP", version=63)
    yield Row("send with batch TRUE is a batch", 10, v1(batch="TRUE"), b"")
    for topic in ("", " ", "a b", "a.b", "ż", "t" * 127, "t" * 128, "a/b", "%a|b-c_D9", "%RETRY%" + "g" * 100, "%RETRY%" + "g" * 121,
                  "%DLQ%" + "g" * 122, "%DLQ%g", "%RETRY%"):
        name = topic if len(topic) < 20 else f"{topic[:9]}… of {len(topic)}"
        told = {"why": "a retry topic may be longer, as later versions have it", "ours": {"code": 0}} if len(topic) == 128 and topic[0] == "%" else {}
        yield Row(f"send to topic {name!r}", 10, v1(topic=topic), body, **told)
    for topic in ("SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "RMQ_SYS_TRANS_OP_HALF_TOPIC", "TRANS_CHECK_MAX_TIME_TOPIC",
                  "SELF_TEST_TOPIC", "OFFSET_MOVED_EVENT", "TBW102", "BenchmarkTest", "RMQ_SYS_TRACE_TOPIC", "DefaultCluster", BROKER,
                  "DefaultCluster_REPLY_TOPIC", "rmq_sys_x", "CHECKPOINT_TOPIC"):
        yield Row(f"send to system topic {topic}", 10, v1(topic=topic), body)
    for queue in ("3", "4", "7", "8", "99", "2147483647", "2147483648", "-2147483649", "x", "", "1.5", "+1", " 1", "0x1"):
        yield Row(f"send to queue {queue!r}", 10, v1(queueId=queue), body)
    yield Row("send to any queue of one", 10, v1(topic="OneQueue", defaultTopicQueueNums="1", queueId="-1"), body)
    yield Row("send to queue -7 of one", 10, v1(topic="OneQueue", queueId="-7"), body)
    for number in ("0", "-1", "-2147483648"):
        yield Row(f"send makes a topic with {number} queues", 10, v1(topic=f"Queues{number}", defaultTopicQueueNums=number), body,
                  why="an auto-created topic has a queue at least", ours={"code": 0})
    yield Row("send makes a topic with 9 queues", 10, v1(topic="Queues9", defaultTopicQueueNums="9", queueId="7"), body)
    yield Row("nine queues wanted, eight are there", 10, v1(topic="Queues9", queueId="8"), body)
    yield Row("send makes a topic from an unknown one", 10, v1(topic="Orphan", defaultTopic="Nobody"), body)
    yield Row("send makes a topic from one that does not pass on", 10, v1(topic="Orphan", defaultTopic="Raw"), body)
    yield Row("send makes a topic from none", 10, v1(topic="Orphan", defaultTopic=""), body)
    yield Row("send makes a topic from BenchmarkTest", 10, v1(topic="Orphan", defaultTopic="BenchmarkTest"), body)
    yield Row("send makes a topic from the cluster's", 10, v1(topic="FromCluster", defaultTopic="DefaultCluster"), body)
    yield Row("send makes a topic in unit mode", 10, v1(topic="Unit", unitMode="true"), body)
    yield Row("send makes a retry topic in unit mode", 10, v1(topic="%RETRY%unit", unitMode="true"), body)
    yield Row("send of nothing", 310, v2(b="Empty"), b"")
    yield Row("send of 4 MiB", 310, v2(), b"x" * (4 << 20))
    yield Row("send of 4 MiB and a byte", 310, v2(), b"x" * ((4 << 20) + 1))
    yield Row("send with sysFlag compressed", 310, v2(b="Flags", f="1"), body)
    yield Row("send with sysFlag multi-tag", 310, v2(b="Flags", f="2"), body)
    yield Row("send with sysFlag prepared, no TRAN_MSG", 310, v2(b="Flags", f="4"), body)
    yield Row("send with sysFlag commit", 310, v2(b="Flags", f="8"), body)
    yield Row("send with sysFlag rollback", 310, v2(b="Flags", f="12"), body)
    yield Row("send with sysFlag of IPv6", 310, v2(b="Flags2", f="16"), body)
    yield Row("send with sysFlag -1", 310, v2(b="Flags3", f="-1"), body, why="the bits for IPv6 addresses are the broker's to set", ours={"code": 0})
    yield Row("send with flag -7", 310, v2(b="Flags", h="-7"), body)
    yield Row("send with born -1", 310, v2(b="Flags", g="-1"), body)
    yield Row("send with born of 2^63-1", 310, v2(b="Flags", g=str(2 ** 63 - 1)), body)
    yield Row("send with born beyond", 310, v2(b="Flags", g=str(2 ** 63)), body)
    yield Row("send with 99 reconsumes", 310, v2(b="Flags", j="99"), body)
    yield Row("send with reconsumes -1", 310, v2(b="Flags", j="-1"), body)
    yield Row("send with reconsumes empty", 310, v2(b="Flags", j=""), body)
    yield Row("send with unitMode 1", 310, v2(b="Flags", k="1"), body)
    yield await_max("Flags", 0, 9)
    yield pull("pull back flags", topic="Flags", maxMsgNums="32")
