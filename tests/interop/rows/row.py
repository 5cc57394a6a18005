"""What a row is, and what rows are made of: fields, properties, items of a batch, bodies of clients."""

import json
import struct
from dataclasses import dataclass
from typing import Any, Callable, Optional

BROKER, CLUSTER = "raw", "DefaultCluster"
BORN = 1_600_000_000_000


@dataclass
class Row:
    name: str
    code: int = 0
    fields: Optional[dict] = None
    body: Any = b""
    to: str = "broker"  # broker, fast, namesrv; "broker-x" is a connection of its own, closed after the row unless kept
    form: str = "json"
    oneway: bool = False
    silent: bool = False  # Java does not answer
    limit_s: Optional[float] = None
    language: str = "JAVA"
    version: int = 407
    flag: int = 0
    opaque: Optional[int] = None  # the next one unless given
    remark: Optional[str] = None
    raw: Optional[Callable] = None
    kept: bool = False
    listen: Optional[float] = None  # what the server asked of the client meanwhile
    until: Optional[tuple] = None
    masks: Optional[Callable] = None
    why: Optional[str] = None  # ▲ why ours differs
    ours: Any = None  # what ours answers then


def without(fields, *names):
    return {key: value for key, value in fields.items() if key not in names}


def props(*pairs, end=True):
    return "\x02".join(f"{key}\x01{value}" for key, value in pairs) + ("\x02" if end and pairs else "")


V1 = {"producerGroup": "P", "topic": "Raw", "defaultTopic": "TBW102", "defaultTopicQueueNums": "4", "queueId": "0", "sysFlag": "0",
      "bornTimestamp": str(BORN), "flag": "0", "properties": "", "reconsumeTimes": "0", "unitMode": "false", "batch": "false"}
V2 = dict(zip("abcdefghijkm", V1.values()))


def v1(**over):
    return {**V1, **over}


def v2(**over):
    return {**V2, **over}


def await_max(topic, queue, count):
    return Row(f"{topic} queue {queue} reaches {count}", until=(30, {"topic": topic, "queueId": str(queue)}, {"offset": str(count)}))


# What earlier rows left behind that differ on purpose: topics with a longer name, at least one queue; no
# producer without an id.
REFUSED = ("g" * 121, "%RETRY%" + "g" * 121, "Queues0", "Queues-1", "Queues-2147483648", "X")


def told_apart(*names):
    """Masks the body's members `names`, versions, and what earlier refusals left out."""
    def mask(value):
        if isinstance(value, dict):
            return {key: mask(item) for key, item in value.items() if key not in REFUSED and key not in names and key != "dataVersion"}
        return [mask(item) for item in value if item not in REFUSED] if isinstance(value, list) else value
    return lambda answer: answer if isinstance(answer, str) else {**answer, "body": mask(answer["body"])}


def pull(name, more=None, **fields):
    base = {"consumerGroup": "G", "topic": "Raw", "queueId": "0", "queueOffset": "0", "maxMsgNums": "2", "sysFlag": "4", "commitOffset": "0",
            "suspendTimeoutMillis": "0", "subscription": "*", "subVersion": "0", "expressionType": "TAG"}
    return Row(name, 11, without({**base, **fields}, *[key for key, value in fields.items() if value is None]), **(more or {}))


def item(body=b"item", flag=0, properties="", size=None, body_length=None, property_length=None, magic=0, crc=0):
    text = properties.encode()
    length = 22 + len(body) + len(text) if size is None else size
    return (struct.pack(">iiiii", length, magic, crc, flag, len(body) if body_length is None else body_length) + body
            + struct.pack(">h", len(text) if property_length is None else property_length) + text)


def subscription(topic="Pull", expression="*", kind="TAG", version=1, **more):
    return {"topic": topic, "subString": expression, "expressionType": kind, "subVersion": version, "classFilterMode": False, "codeSet": [], "tagsSet": [], **more}


def heartbeat(client="c1", consumers=(), producers=("HP",), **more):
    return json.dumps({"clientID": client, "consumerDataSet": list(consumers), "producerDataSet": [{"groupName": name} for name in producers], **more}).encode()


def consumer(group="HG", subscriptions=None, **more):
    return {"groupName": group, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING", "consumeFromWhere": "CONSUME_FROM_LAST_OFFSET",
            "subscriptionDataSet": [subscription()] if subscriptions is None else subscriptions, "unitMode": False, **more}


def place(row):
    """Where the message of an earlier row lies, from its id."""
    return lambda side: str(int(side.memory[row]["ext"]["msgId"][16:32], 16)) if row in side.memory and (side.memory[row]["ext"] or {}).get("msgId") else "0"
