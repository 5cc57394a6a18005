"""Pulls 11: counts, places, expressions, flags, waiting."""

from rows.row import BROKER, Row, await_max, props, pull, v2


def pulls():
    topic = "Pull"
    for number in range(6):
        yield Row(f"pull: message {number}", 310, v2(b=topic, d="2", i=props(("TAGS", "AB"[number % 2]), ("n", str(number)))), f"m{number}".encode())
    yield await_max(topic, 0, 6)
    one = lambda name, more=None, **fields: pull(f"pull: {name}", more, **{"topic": topic, **fields})
    yield one("found")
    yield one("found, binary", {"form": "binary"})
    yield one("found, all", maxMsgNums="32")
    for name in ("consumerGroup", "topic", "queueId", "queueOffset", "maxMsgNums", "sysFlag", "commitOffset", "suspendTimeoutMillis", "subscription", "subVersion", "expressionType"):
        yield one(f"without {name}", **{name: None})
        yield one(f"with empty {name}", **{name: ""})
    yield Row("pull: without fields", 11, None)
    yield Row("pull: empty fields", 11, {})
    for count in ("0", "1", "-1", "32", "33", "1000", "2147483647", "2147483648", "x"):
        yield one(f"maxMsgNums {count}", maxMsgNums=count)
    for offset in ("-1", "1", "5", "6", "7", "100", "-9223372036854775808", "9223372036854775807", "9223372036854775808", "x"):
        yield one(f"offset {offset}", queueOffset=offset)
        if len(offset) < 4:
            yield one(f"empty queue, offset {offset}", queueId="1", queueOffset=offset)
    yield one("empty queue, offset 0", queueId="1")
    for queue in ("2", "7", "8", "-1", "99", "x"):
        yield one(f"queue {queue}", queueId=queue)
    yield one("unknown topic", topic="NoSuchTopic")
    yield one("illegal topic", topic="a b")
    yield one("blank group", consumerGroup=" ")
    yield one("long group", consumerGroup="g" * 300)
    yield one("illegal group", consumerGroup="a b!")
    for name in ("TBW102", "SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "SELF_TEST_TOPIC", "DefaultCluster", BROKER, "BenchmarkTest", "RMQ_SYS_TRACE_TOPIC", "DefaultCluster_REPLY_TOPIC"):
        yield one(f"system topic {name}", topic=name)
    yield one("system topic OFFSET_MOVED_EVENT", {"why": "no event is written: nothing reads them, and each wrong pull would cost a write", "ours": {"code": 19}}, topic="OFFSET_MOVED_EVENT")
    for expression in ("A", "B", "A || B", "A||C", "C", " A ", "||", "A||", "||A", "", " ", "a", "A B", "*", "* ", "A || *", "zażółć"):
        yield one(f"tag {expression!r}", subscription=expression, maxMsgNums="10")
    broken = {"why": "an expression that is not understood is refused, not passed over", "ours": {"code": 23}}
    yield one("kind '' of '*'", expressionType="")
    for kind in ("tag", "NONE", "SQL92", "sql92", "SQL"):
        yield one(f"kind {kind!r} of '*'", broken, expressionType=kind)
    for expression in ("n > 3", "n = '3'", "TAGS = 'A'", "n BETWEEN 1 AND 2", "n IN ('1','5')", "missing IS NULL", "n IS NOT NULL AND n < 2", "NOT (n > 1)", "TRUE", "n > 3 OR TAGS = 'B'",
                       "missing = 1", "n NOT IN ('1')", "missing NOT IN ('1')", "n <> 3"):
        yield one(f"SQL {expression}", expressionType="SQL92", subscription=expression, maxMsgNums="10")
    for expression, said in {"n >": "character 4", "": "is not empty", "n > 'a'": "character 5: only numbers have an order", "n IN (1,5)": "character 7: a text in single quotes",
                             "1": "character 1: a truth is expected", "((": "character 3", "n = = 2": "character 5"}.items():
        yield one(f"SQL broken {expression!r}", {"why": "a broken SQL expression is refused with position and reason, not passed over", "ours": {"code": 23, "remark": said}},
                  expressionType="SQL92", subscription=expression)
    for flag in range(0, 32):
        if flag & 2 == 0:
            yield one(f"sysFlag {flag}", sysFlag=str(flag), commitOffset="3", consumerGroup=f"F{flag}")
            yield Row(f"pull: offset committed by sysFlag {flag}", 14, {"consumerGroup": f"F{flag}", "topic": topic, "queueId": "0"})
    for flag in (6, 7, 22, 3):
        yield one(f"sysFlag {flag}, there are messages", sysFlag=str(flag), suspendTimeoutMillis="500")
    yield one("sysFlag -1, there are messages", sysFlag="-1")
    yield one("sysFlag of 2^31", sysFlag="2147483648")
    yield one("may wait, offset badly beyond", sysFlag="6", queueOffset="60", suspendTimeoutMillis="500")
    yield one("may wait, offset negative", sysFlag="6", queueOffset="-4", suspendTimeoutMillis="500")
    yield one("may wait, filtered out", sysFlag="6", subscription="C", suspendTimeoutMillis="500")
    yield one("held until its time is over", {"limit_s": 14}, sysFlag="6", queueOffset="6", suspendTimeoutMillis="100")
    yield one("held on an empty queue", {"limit_s": 14}, sysFlag="7", queueId="1", suspendTimeoutMillis="100", commitOffset="9", consumerGroup="Held")
    yield Row("pull: a held pull commits at once", 14, {"consumerGroup": "Held", "topic": topic, "queueId": "1"})
    yield one("commits -5", sysFlag="5", commitOffset="-5", consumerGroup="Minus")
    yield Row("pull: -5 committed", 14, {"consumerGroup": "Minus", "topic": topic, "queueId": "0"})
    yield one("commits though nothing is found", sysFlag="5", queueOffset="99", commitOffset="7", consumerGroup="Beyond")
    yield Row("pull: committed though nothing was found", 14, {"consumerGroup": "Beyond", "topic": topic, "queueId": "0"})
    yield one("like C++", {"language": "CPP", "version": 63}, queueId=0, queueOffset=0, maxMsgNums=2, sysFlag=4, commitOffset=0, suspendTimeoutMillis=0, subVersion=0, expressionType=None)
    yield one("of version 5", {"version": 479, "why": "5.x's maxMsgBytes is kept", "ours": {"code": 0, "remark": "FOUND"}}, maxMsgBytes="50", requestSource="-1", bname=BROKER)
