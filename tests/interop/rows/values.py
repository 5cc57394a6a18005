"""Every request with every field and every member of its body absent, empty, at its bounds, beyond them, and of another
type, one at a time."""

import json
from dataclasses import replace

from rows.row import BROKER, CLUSTER, Row, consumer, item, place, props, pull, subscription, told_apart, v1, v2, without

NUMBERS = ["", " ", "x", "-1", "0", "007", "+1", "-0", " 1", "1 ", "1.0", "1e1", "0x1", "1L", "1_000", "null", "NaN", "2147483647",
           "-2147483648", "2147483648", "-2147483649", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "9" * 40]
TRUTHS = ["", " ", "TRUE", "tRuE", "false", "1", "0", "yes", " true", "null"]
TEXTS = ["", " ", "x", "ż", "😀", "a b", " a", "a\n", "a\tb", "null", "a/b", "a.b", "a@b", "a|b", "a%b", "a-b_c", "..", "'", '"', "\\", "%RETRY%", "%DLQ%",
         "%RETRY%x", "n" * 64, "n" * 127, "n" * 128, "n" * 255, "n" * 256, "n" * 300]
# Only JSON can say these.
OTHER = [0, 1, -1, 1.5, True, False, None, [], [1], {}, 2 ** 31, 2 ** 63]
KINDS = {"number": NUMBERS, "truth": TRUTHS, "text": TEXTS}
ABSENT = object()


def shown(value):
    if value is ABSENT:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 44 else f"{text[:12]}… of {len(text) - 2}"


def values_of(kind):
    return [ABSENT, *KINDS[kind], *OTHER]


def over(fields, field, value):
    return without(fields, field) if value is ABSENT else {**fields, field: value}


def swept(name, row, purposes=lambda field, value: None, **kinds):
    """The row with each field in turn what it should not be. `purposes` answers what ours answers on purpose, and why;
    False leaves the value out."""
    for field, kind in kinds.items():
        for index, value in enumerate(values_of(kind)):
            purpose = purposes(field, value)
            if purpose is False:
                continue
            more = dict(zip(("why", "ours"), purpose)) if purpose else {}
            yield replace(row, name=f"{name}: {field} {shown(value)}", fields=over(row.fields, field, value), **more)
            if index % 3 == 0 and isinstance(value, str):
                yield replace(row, name=f"{name}: {field} {shown(value)}, binary", fields=over(row.fields, field, value), form="binary", **more)
    purpose = purposes(None, ABSENT)
    more = dict(zip(("why", "ours"), purpose)) if purpose else {}
    for form in ("json", "binary"):
        yield replace(row, name=f"{name}: no field, {form}", fields={}, form=form, **more)
    yield replace(row, name=f"{name}: no fields", fields=None, **more)


def body_swept(name, row, body, purposes=lambda member, value: None, **kinds):
    """The row with each member of its JSON body in turn what it should not be; `a.b` is member b of a, or of each in a."""
    def put(place, path, value):
        if isinstance(place, list):
            return [put(one, path, value) for one in place]
        return over(place, path[0], value) if len(path) == 1 else {**place, path[0]: put(place[path[0]], path[1:], value)}

    for member, kind in kinds.items():
        path = member.split("__")
        for value in values_of(kind):
            purpose = purposes(member, value)
            if purpose is False:
                continue
            more = dict(zip(("why", "ours"), purpose)) if purpose else {}
            yield replace(row, name=f"{name}: member {'.'.join(path)} {shown(value)}", body=json.dumps(put(body, path, value)).encode(), **more)
    for text in (b"", b"{}", b"1", b'"x"', b"{", b"{nonsense", b"\xff\xfe", b"\0", b"{\"a\":}", json.dumps(body).encode()[:-1], b" \n" + json.dumps(body).encode()):
        yield replace(row, name=f"{name}: body {text[:20]!r}{len(text)}", body=text)


def sends():
    def purposes(field, value):
        # Both address bits belong to the broker; what they do to ids is not compared.
        if field in ("sysFlag", "f") and value in ("-1", -1, "2147483647"):
            return False
        # Which queue of several is not compared.
        if field in ("queueId", "e") and value in ("-1", -1, "-2147483648"):
            return False

    kinds = {"producerGroup": "text", "topic": "text", "defaultTopic": "text", "defaultTopicQueueNums": "number", "queueId": "number", "sysFlag": "number",
             "bornTimestamp": "number", "flag": "number", "reconsumeTimes": "number", "unitMode": "truth", "batch": "truth", "maxReconsumeTimes": "number"}
    letters = dict(zip("abcdefghjkml", kinds.values()))
    yield from swept("10", Row("", 10, v1(topic="Odd"), b"odd"), purposes, **kinds)
    yield from swept("310", Row("", 310, v2(b="Odd"), b"odd"), purposes, **letters)
    yield from swept("320", Row("", 320, v2(b="Odd", m="true"), item(b"odd")), purposes, **letters)
    replies = v2(b="OddReply", i=props(("REPLY_TO_CLIENT", "nobody"), ("CORRELATION_ID", "1")))
    yield from swept("325", Row("", 325, replies, b"reply"), purposes, b="text", e="number", f="number", g="number", h="number", j="number")


def consumers():
    unknown = ("an expression that is not understood is refused, not passed over", {"code": 23})

    def purposes(field, value):
        if field == "expressionType" and value is not ABSENT and value not in ("", None):
            return unknown

    yield from swept("11", pull("", topic="Pull", consumerGroup="OddG"), purposes, consumerGroup="text", topic="text", queueId="number", queueOffset="number", maxMsgNums="number",
                     sysFlag="number", commitOffset="number", suspendTimeoutMillis="number", subscription="text", subVersion="number", expressionType="text")
    at = {"consumerGroup": "OddO", "topic": "Pull", "queueId": "0"}
    yield from swept("14", Row("", 14, at), consumerGroup="text", topic="text", queueId="number")
    yield from swept("15", Row("", 15, {**at, "commitOffset": "3"}), consumerGroup="text", topic="text", queueId="number", commitOffset="number")
    yield Row("15: what is left of it all", 14, at)
    place = {"topic": "Pull", "queueId": "0"}
    ends = ("as 5.x: behind the last message is the end", {"code": 0})
    yield from swept("29", Row("", 29, {**place, "timestamp": "0"}), lambda field, value: ends if value == "9223372036854775807" and field == "timestamp" else None, topic="text", queueId="number", timestamp="number")
    for code in (30, 31):
        yield from swept(str(code), Row("", code, place), topic="text", queueId="number")
    yield from swept("32", Row("", 32, {**place, "queueId": "1"}), topic="text", queueId="number")
    yield from swept("38", Row("", 38, {"consumerGroup": "OddG"}), consumerGroup="text")
    yield from swept("204", Row("", 204, {"producerGroup": "NoSuchGroup"}), producerGroup="text")
    yield from swept("35", Row("", 35, {"clientID": "odd", "consumerGroup": "OddG", "producerGroup": "OddP"}), clientID="text", consumerGroup="text", producerGroup="text")
    # How far an index is depends on the log, which differs by now.
    found = lambda answer: answer if isinstance(answer, str) else {**answer, "ext": sorted(answer["ext"] or {}), "form": None}
    yield from swept("12", Row("", 12, {"topic": "NoSuchTopic", "key": "k", "maxNum": "10", "beginTimestamp": "0", "endTimestamp": "4000000000000"}, masks=found),
                     topic="text", key="text", maxNum="number", beginTimestamp="number", endTimestamp="number")
    yield from swept("33", Row("", 33, {"offset": "999999999999"}), lambda field, value: False if value in ("0", "-0", 0, "+1", 1) else None, offset="number")


def endings():
    yield Row("values 36: message", 310, v2(b="OddBack"), b"back")
    back = {"offset": place("values 36: message"), "group": "OddBackG", "delayLevel": "18", "originMsgId": "x", "originTopic": "OddBack", "unitMode": "false", "maxReconsumeTimes": "16"}
    longer = ("a retry topic may be longer, as later versions have it", {"code": 0})

    def purposes(field, value):
        if field == "offset" and value in ("0", "-0", 0):
            return False
        return longer if field == "group" and isinstance(value, str) and 120 < len(value) < 249 else None

    yield from swept("36", Row("", 36, back), purposes, offset="number", group="text", delayLevel="number", originMsgId="text", originTopic="text", unitMode="truth", maxReconsumeTimes="number")
    end = {"topic": "OddTran", "producerGroup": "P", "tranStateTableOffset": "0", "commitLogOffset": "99999999999", "commitOrRollback": "8", "fromTransactionCheck": "false", "msgId": "x", "transactionId": "x"}
    silent = lambda field, value: False if field == "commitOrRollback" and value in ("0", "-0", 0) else None
    yield from swept("37", Row("", 37, end), silent, producerGroup="text", tranStateTableOffset="number", commitLogOffset="number", commitOrRollback="number", fromTransactionCheck="truth",
                     msgId="text", transactionId="text")


def bodies():
    # Without a client Java keeps a null that spoils the group for all later requests: those rows stand elsewhere, for groups of their own.
    spoils = lambda *members: lambda member, value: False if member in members and (value is ABSENT or value is None) or value == 2 ** 63 else None
    # Numbers of another make than Java's are not all compared: fastjson has a way with each.
    numbers = lambda member, value: False if isinstance(value, (bool, list, dict, float)) or value in ("1.0", 2 ** 63) else None

    def each(*purposes):
        return lambda member, value: next((found for found in (purpose(member, value) for purpose in purposes) if found is not None), None)

    beat = {"clientID": "odd", "producerDataSet": [{"groupName": "OddP"}], "consumerDataSet": [consumer("OddG", [subscription()])]}
    to = {"to": "broker-values", "kept": True}
    kinds = {"clientID": "text", "producerDataSet__groupName": "text", "consumerDataSet__groupName": "text", "consumerDataSet__consumeType": "text",
             "consumerDataSet__messageModel": "text", "consumerDataSet__consumeFromWhere": "text", "consumerDataSet__unitMode": "truth"}
    enums = lambda member, value: False if member.endswith(("consumeType", "messageModel", "consumeFromWhere", "unitMode")) and not isinstance(value, str) else None
    yield from body_swept("34", Row("", 34, {}, **to), beat, each(spoils("clientID", "producerDataSet__groupName", "consumerDataSet__groupName"), enums), **kinds)
    kinds = {"topic": "text", "subString": "text", "expressionType": "text", "subVersion": "number"}
    yield from body_swept("34, subscription", Row("", 34, {}, **to), beat, each(spoils("consumerDataSet__subscriptionDataSet__topic"), lambda member, value: numbers(member, value) if member.endswith("subVersion") else None),
                          **{f"consumerDataSet__subscriptionDataSet__{member}": kind for member, kind in kinds.items()})
    yield Row("34: leaves", 35, {"clientID": "odd", "consumerGroup": "OddG", "producerGroup": "OddP"}, to="broker-values")
    lock = {"clientId": "odd", "consumerGroup": "OddLock", "mqSet": [{"brokerName": BROKER, "queueId": 0, "topic": "Pull"}], "onlyThisBroker": False}
    for code in (41, 42):
        yield from body_swept(str(code), Row("", code, {}), lock, spoils("clientId", "mqSet__brokerName", "mqSet__topic"), clientId="text", consumerGroup="text", mqSet__brokerName="text", mqSet__topic="text")
        yield from body_swept(f"{code}, queues", Row("", code, {}), lock, numbers, mqSet__queueId="number")
    check = {"clientId": "odd", "group": "OddG", "namespace": "", "subscriptionData": subscription(kind="SQL92", expression="a > 1")}
    refused = lambda member, value: ("what stands behind an expression is refused", {"code": 23}) if member.endswith("subString") and value in ("a b", "a\tb", "a-b_c") else None
    says = lambda member, value: ("what is wrong is said", {"code": 23}) if member.endswith("subString") and (value is ABSENT or value is None) else None
    yield from body_swept("46", Row("", 46, {}), check, each(refused, says), clientId="text", group="text", namespace="text", subscriptionData__topic="text", subscriptionData__subString="text",
                          subscriptionData__expressionType="text")
    yield from body_swept("46, version", Row("", 46, {}), check, numbers, subscriptionData__subVersion="number")


def names():
    ns = lambda code, fields, **more: Row("", code, fields, to="namesrv", **more)
    yield from swept("values ns 105", ns(105, {"topic": "Pull", "acceptStandardJsonOnly": "true"}), topic="text", acceptStandardJsonOnly="truth")
    yield from swept("values ns 101", ns(101, {"namespace": "Odd", "key": "none"}), namespace="text", key="text")
    yield from swept("values ns 100", ns(100, {"namespace": "Odd", "key": "k", "value": "v"}), namespace="text", key="text", value="text")
    yield from swept("values ns 219", ns(219, {"namespace": "Odd"}), namespace="text")
    yield from swept("values ns 102", ns(102, {"namespace": "Odd", "key": "k"}), namespace="text", key="text")
    yield Row("ns 219: what is left of it all", 219, {"namespace": "Odd"}, to="namesrv")
    nameless = lambda field, value: ("a broker without a name is not there", {"code": 0}) if value is ABSENT or value is None else None
    yield from swept("values ns 224", ns(224, {"cluster": "NoCluster"}), nameless, cluster="text")
    yield from swept("values ns 205", ns(205, {"brokerName": "nobody"}), nameless, brokerName="text")
    yield from swept("values ns 327", ns(327, {"brokerName": "nobody"}), nameless, brokerName="text")
    yield from swept("values ns 216", ns(216, {"topic": "NoSuchTopic", "clusterName": CLUSTER}), topic="text", clusterName="text")
    broker = {"brokerName": "odd", "brokerAddr": "127.0.0.1:9", "clusterName": "OddC", "haServerAddr": "127.0.0.1:8", "brokerId": "0", "compressed": "false", "bodyCrc32": "0"}
    yield from swept("values ns 104", ns(104, without(broker, "haServerAddr", "compressed", "bodyCrc32")), brokerName="text", brokerAddr="text", clusterName="text", brokerId="number")
    version = json.dumps({"timestamp": 1_600_000_000_000, "counter": 1}).encode()
    yield from swept("values ns 322", ns(322, broker, body=version), brokerName="text", brokerAddr="text", clusterName="text", brokerId="number")
    wrapper = {"filterServerList": [], "topicConfigSerializeWrapper": {"dataVersion": {"timestamp": 1_600_000_000_000, "counter": 1}, "topicConfigTable":
               {"OddNs": {"topicName": "OddNs", "readQueueNums": 1, "writeQueueNums": 1, "perm": 6, "topicFilterType": "SINGLE_TAG", "topicSysFlag": 0, "order": False}}}}
    unnamed = ("a registration without a name is refused", {"code": 1})

    def refused(field, value):
        if field in ("brokerName", "brokerAddr", "clusterName") and (value is ABSENT or value in ("", " ", None)):
            # A blank name is none, but Java keeps it.
            return False if value == " " else unnamed

    yield from swept("values ns 103", ns(103, broker, body=json.dumps(wrapper).encode(), version=407), refused, brokerName="text", brokerAddr="text", clusterName="text", haServerAddr="text", brokerId="number",
                     compressed="truth", bodyCrc32="number")
    numbers = lambda member, value: False if isinstance(value, (bool, list, dict, float)) or value == "1.0" else None
    table = "topicConfigSerializeWrapper__topicConfigTable__OddNs__"
    yield from body_swept("values ns 103", ns(103, broker, version=407), wrapper, numbers,
                          **{"topicConfigSerializeWrapper__dataVersion__counter": "number", f"{table}topicName": "text", f"{table}perm": "number", f"{table}readQueueNums": "number"})
    yield from body_swept("values ns 322", ns(322, broker), json.loads(version), numbers, timestamp="number", counter="number")
    yield Row("ns 105: what is left of it all", 105, {"topic": "OddNs"}, to="namesrv", why="who comes back under another name has left the old one", ours={"code": 0})


def tools():
    topic = {"topic": "OddAdmin", "defaultTopic": "TBW102", "readQueueNums": "3", "writeQueueNums": "2", "perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false"}
    refused = ("what cannot be served is refused", {"code": 1})

    def purposes(field, value):
        if field == "perm" and value in ("0", "-0", "2", 0):
            return None
        if field in ("readQueueNums", "writeQueueNums", "perm"):
            number = str(value).lstrip("+")
            if number.lstrip("-").isascii() and number.lstrip("-").isdigit() and -2 ** 31 <= int(number) < 2 ** 31 and number not in ("007", "1", "0", "-0") :
                return refused

    yield from swept("17", Row("", 17, topic), purposes, topic="text", defaultTopic="text", readQueueNums="number", writeQueueNums="number", perm="number", topicFilterType="text",
                     topicSysFlag="number", order="truth")
    group = {"groupName": "OddAG", "consumeEnable": True, "consumeFromMinEnable": True, "consumeBroadcastEnable": True, "retryQueueNums": 1, "retryMaxTimes": 3, "brokerId": 0,
             "whichBrokerWhenConsumeSlowly": 1, "notifyConsumerIdsChangedEnable": True}
    numbers = lambda member, value: False if member != "groupName" and isinstance(value, (bool, list, dict, float)) or value in ("1.0", 2 ** 31, 2 ** 63) else None
    yield from body_swept("200", Row("", 200, {}), group, numbers, groupName="text", consumeEnable="truth", retryQueueNums="number", retryMaxTimes="number", brokerId="number")
    yield from swept("202", Row("", 202, {"topic": "NoSuchTopic"}, masks=told_apart("topicPutTps")), topic="text")
    yield from swept("203", Row("", 203, {"consumerGroup": "NoSuchGroup"}), consumerGroup="text")
    yield from swept("207", Row("", 207, {"groupName": "NoSuchGroup", "removeOffset": "false"}), groupName="text", removeOffset="truth")
    yield from swept("208", Row("", 208, {"consumerGroup": "NoSuchGroup", "topic": "NoSuchTopic"}, masks=told_apart("pullOffset")), consumerGroup="text", topic="text")
    yield from swept("215", Row("", 215, {"topic": "NoSuchTopic"}), topic="text")


def rows():
    # Each group has a connection of its own: a broker closes one whose client sent no heartbeat for two minutes, and one
    # that was idle so long.
    for group in (sends, consumers, endings, bodies, names, tools):
        for row in group():
            yield replace(row, to=f"broker-{group.__name__}", kept=True) if row.to == "broker" else row
