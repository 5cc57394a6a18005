"""What a group has consumed, 14 and 15, and where a queue begins, ends and was at a time, 29 to 32."""

from rows.row import Row, without


def offsets():
    group = {"consumerGroup": "O", "topic": "Pull", "queueId": "0"}
    for name, over in {"known queue": {}, "empty queue": {"queueId": "1"}, "unknown queue": {"queueId": "77"}, "negative queue": {"queueId": "-1"}, "unknown topic": {"topic": "NoSuchTopic"},
                       "unknown group": {"consumerGroup": "NoSuchGroup"}, "blank topic": {"topic": ""}, "blank group": {"consumerGroup": ""}, "queue x": {"queueId": "x"}, "setZeroIfNotFound false": {"setZeroIfNotFound": "false"},
                       "setZeroIfNotFound true": {"setZeroIfNotFound": "true", "queueId": "1"}, "retry topic": {"topic": "%RETRY%O"}, "at sign": {"topic": "a@b"}}.items():
        yield Row(f"14: {name}", 14, {**group, **over})
    for name in group:
        yield Row(f"14: without {name}", 14, without(group, name))
    yield Row("14: without fields", 14, None)
    yield Row("14: binary", 14, group, form="binary")
    for name, over in {"known queue": {}, "again smaller": {"commitOffset": "1"}, "empty queue": {"queueId": "1"}, "unknown queue": {"queueId": "77"}, "negative queue": {"queueId": "-1"}, "unknown topic": {"topic": "NoSuchTopic"},
                       "unknown group": {"consumerGroup": "NoSuchGroup2"}, "blank topic": {"topic": ""}, "blank group": {"consumerGroup": ""}, "queue x": {"queueId": "x"}, "offset -1": {"commitOffset": "-1", "queueId": "2"},
                       "offset huge": {"commitOffset": "9223372036854775807", "queueId": "3"}, "offset beyond": {"commitOffset": "9223372036854775808"}, "offset x": {"commitOffset": "x"}, "at sign": {"topic": "a@b"}}.items():
        yield Row(f"15: {name}", 15, {**group, "commitOffset": "5", **over})
        yield Row(f"15: {name}, read back", 14, {**group, **over})
    for name in {**group, "commitOffset": "5"}:
        yield Row(f"15: without {name}", 15, without({**group, "commitOffset": "5"}, name))
    yield Row("15: without fields", 15, None)
    yield Row("15: one way", 15, {**group, "commitOffset": "4"}, oneway=True)
    yield Row("15: one way, read back", 14, group)
    yield Row("15: binary", 15, {**group, "commitOffset": "4"}, form="binary")
    for code in (29, 30, 31, 32):
        base = {"topic": "Pull", "queueId": "0", **({"timestamp": "0"} if code == 29 else {})}
        mask = (lambda answer: {**answer, "ext": {"timestamp": "<time>"}} if isinstance(answer, dict) and answer["ext"] and (answer["ext"].get("timestamp") or "-1") != "-1" else answer) if code == 32 else None
        for name, over in {"known queue": {}, "empty queue": {"queueId": "1"}, "unknown queue": {"queueId": "77"}, "negative queue": {"queueId": "-1"}, "unknown topic": {"topic": "NoSuchTopic"}, "blank topic": {"topic": ""},
                           "queue x": {"queueId": "x"}, "queue empty": {"queueId": ""}}.items():
            yield Row(f"{code}: {name}", code, {**base, **over}, masks=mask if name == "known queue" else None)
        for name in base:
            yield Row(f"{code}: without {name}", code, without(base, name))
        yield Row(f"{code}: without fields", code, None)
        yield Row(f"{code}: binary", code, base, form="binary", masks=mask)
    for time in ("-1", "1", "1600000000000", "4000000000000", "9223372036854775807", "x", "-9223372036854775808"):
        told = {"why": "as 5.x: behind the last message is the end", "ours": {"code": 0, "ext": {"offset": "6"}}} if time[0] in "49" else {}
        yield Row(f"29: at {time}", 29, {"topic": "Pull", "queueId": "0", "timestamp": time}, **told)
    yield Row("29: empty queue at the end of time", 29, {"topic": "Pull", "queueId": "1", "timestamp": "4000000000000"})
    yield Row("29: boundary upper", 29, {"topic": "Pull", "queueId": "0", "timestamp": "0", "boundaryType": "upper"})
    yield Row("29: boundary x", 29, {"topic": "Pull", "queueId": "0", "timestamp": "0", "boundaryType": "x"})
    yield Row("30: committed false", 30, {"topic": "Pull", "queueId": "0", "committed": "false"})
