"""What a broker promises beside plain messages: topics, delayed messages, decisions on transactions, positions of groups.
One connection asks for all of them in turn, remembers what was answered, and looks for it afterwards."""

import json
import threading
import time

from wire import Connection, read_back, send_fields

GROUP = "crash-group"
# Level 1, one second.
DELAYED = "DELAY\x011\x02"


class Promises:
    """Keeps asking until told to stop or cut off."""

    def __init__(self, address, topic, name):
        self.address, self.topic, self.name = address, topic, name
        self.lock, self.stopping = threading.Lock(), threading.Event()
        self.made = {"topics": set(), "delayed": set(), "committed": set(), "rolled back": set(), "positions": []}
        # Asked for, perhaps without hearing the answer.
        self.tried = {"positions": [0]}
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            connection, number = Connection(self.address), 0
            while not self.stopping.is_set():
                self.once(connection, f"{self.name}{number}", number)
                number += 1
            connection.close()
        except (OSError, ConnectionError):
            pass

    def keep(self, kind, what):
        with self.lock:
            made = self.made[kind]
            made.append(what) if isinstance(made, list) else made.add(what)

    def once(self, connection, name, number):
        header, _ = connection.call(17, {
            "topic": f"Made-{name}", "defaultTopic": "TBW102", "readQueueNums": "1", "writeQueueNums": "1", "perm": "6",
            "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false"})
        if header["code"] == 0:
            self.keep("topics", f"Made-{name}")
        header, _ = connection.call(310, send_fields("Later", 0, DELAYED), name.encode())
        if header["code"] == 0:
            self.keep("delayed", name.encode())
        self.tried["positions"].append(number)
        header, _ = connection.call(15, {"consumerGroup": GROUP, "topic": self.topic, "queueId": "0",
                                         "commitOffset": str(number)})
        if header["code"] == 0:
            self.keep("positions", number)
        self.transaction(connection, name, number)

    def transaction(self, connection, name, number):
        properties = f"TRAN_MSG\x01true\x02PGROUP\x01crash\x02UNIQ_KEY\x01{name}\x02"
        header, _ = connection.call(310, send_fields("Decided", 0, properties, sys_flag=4), name.encode())
        if header["code"] != 0:
            return
        answer, commits = header["extFields"], number % 2 == 0
        header, _ = connection.call(37, {
            "producerGroup": "crash", "tranStateTableOffset": answer["queueOffset"], "msgId": name, "transactionId": name,
            "commitLogOffset": str(int(answer["msgId"][16:], 16)), "commitOrRollback": "8" if commits else "12",
            "fromTransactionCheck": "false"})
        if header["code"] == 0:
            self.keep("committed" if commits else "rolled back", name.encode())

    def so_far(self):
        with self.lock:
            return {kind: type(made)(made) for kind, made in self.made.items()}

    def stop(self):
        self.stopping.set()
        self.thread.join(15)


def broken(address, topic, made, tried_position_max):
    """What was promised and does not hold: {kind: count}."""
    connection = Connection(address)
    header, body = connection.call(21, {})
    topics = set(json.loads(body)["topicConfigTable"]) if header["code"] == 0 else set()
    # Never further than anybody asked for; how far back a crash may put it is in the README.
    header, _ = connection.call(14, {"consumerGroup": GROUP, "topic": topic, "queueId": "0"})
    position = int(header["extFields"]["offset"]) if header["code"] == 0 else 0
    connection.close()
    late = made["delayed"] - bodies(address, "Later")
    end = time.monotonic() + 20
    while late and time.monotonic() < end:
        time.sleep(0.2)
        late = made["delayed"] - bodies(address, "Later")
    decided = read_back(address, "Decided", 1)
    delivered = set(decided.values())
    return {
        "topics": len(made["topics"] - topics),
        "delayed": len(late),
        "committed": len(made["committed"] - delivered),
        "committed twice": len(decided) - len(delivered),
        "rolled back": len(made["rolled back"] & delivered),
        "positions": int(position > tried_position_max),
    }


def bodies(address, topic):
    return set(read_back(address, topic, 1).values())
