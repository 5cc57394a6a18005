// The Java client's second tier: where a group begins, suspension, retries, dead letters, delays, transactions, filters,
// queries, request-reply, trace, reset, messages that a tool hands over.

import java.text.SimpleDateFormat;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.*;
import org.apache.rocketmq.client.consumer.listener.*;
import org.apache.rocketmq.client.producer.*;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.*;
import org.apache.rocketmq.tools.admin.DefaultMQAdminExt;

final class Kinds {
    static void register(Map<String, Interop.Scenario> scenarios) {
        scenarios.put("from-last", Kinds::fromLast);
        scenarios.put("from-timestamp", Kinds::fromTimestamp);
        scenarios.put("suspend", Kinds::suspend);
        scenarios.put("retry", Kinds::retry);
        scenarios.put("dead-letter", Kinds::deadLetter);
        scenarios.put("delay", Kinds::delay);
        scenarios.put("transaction-commit", s -> transaction(s, LocalTransactionState.COMMIT_MESSAGE, true));
        scenarios.put("transaction-rollback", s -> transaction(s, LocalTransactionState.ROLLBACK_MESSAGE, false));
        scenarios.put("transaction-check", s -> transaction(s, LocalTransactionState.UNKNOW, true));
        scenarios.put("sql92", Kinds::sql92);
        scenarios.put("query-key", Kinds::queryKey);
        scenarios.put("query-unique-key", s -> view(s, true));
        scenarios.put("view-message", s -> view(s, false));
        scenarios.put("request-reply", Kinds::requestReply);
        scenarios.put("trace", Kinds::trace);
        scenarios.put("reset-offset", Kinds::resetOffset);
        scenarios.put("consume-directly", Kinds::consumeDirectly);
    }

    // ---- where a group begins that has no offset yet

    /** Forty messages, ten a queue, that the queues know of: one that looks empty begins at 0 whatever was asked. */
    static List<MessageQueue> early(Stage s, DefaultMQProducer producer) throws Exception {
        s.send(producer, s.topic, "early", 0, 1);
        List<MessageQueue> queues = s.route(producer, s.topic);
        for (MessageQueue queue : queues) {
            for (int i = 1; i <= 10; i++) producer.send(new Message(s.topic, Stage.bytes(Stage.body("early" + i, 20))), queue);
            for (long end = Stage.now() + 20_000; producer.maxOffset(queue) < 10; Thread.sleep(20)) {
                Stage.check(Stage.now() < end, queue + " does not know its messages");
            }
        }
        return queues;
    }

    static void fromLast(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<MessageQueue> queues = early(s, producer);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("late"), c -> {
            c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_LAST_OFFSET);
            c.subscribe(s.topic, "*");
            c.registerMessageListener(inbox);
        });
        // What comes before the group looked at a queue is skipped with the rest.
        Set<Integer> read = new HashSet<>();
        for (long end = Stage.now() + 45_000; read.size() < queues.size(); Thread.sleep(200)) {
            Stage.check(Stage.now() < end, "read from " + read + " alone");
            for (MessageQueue queue : queues) producer.send(new Message(s.topic, Stage.bytes(Stage.body("hello" + Stage.now(), 20))), queue);
            for (MessageExt message : inbox.all()) read.add(message.getQueueId());
        }
        List<String> later = s.send(producer, s.topic, "later", 0, 40);
        Stage.Inbox counted = new Stage.Inbox();
        for (long end = Stage.now() + 30_000; named(inbox, "later").size() < later.size() && Stage.now() < end; ) Thread.sleep(50);
        Thread.sleep(1_000);
        counted.add(named(inbox, "later"));
        counted.exactly(later);
        Stage.check(named(inbox, "early").isEmpty(), named(inbox, "early").size() + " messages from before the group was");
    }

    static List<MessageExt> named(Stage.Inbox inbox, String start) {
        List<MessageExt> found = inbox.all();
        found.removeIf(message -> !Stage.text(message).startsWith(start));
        return found;
    }

    static void fromTimestamp(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        early(s, producer);
        long second = (Stage.now() / 1000 + 1) * 1000; // a client names whole seconds
        Thread.sleep(second + 100 - Stage.now());
        List<String> later = s.send(producer, s.topic, "later", 0, 40);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("late"), c -> {
            c.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_TIMESTAMP);
            c.setConsumeTimestamp(new SimpleDateFormat("yyyyMMddHHmmss").format(new Date(second)));
            c.subscribe(s.topic, "*");
            c.registerMessageListener(inbox);
        });
        inbox.exactly(later);
    }

    // ---- suspension

    /** An orderly listener that refuses holds its queue up and gets the same message again; a suspended client pulls nothing. */
    static void suspend(Stage s) throws Exception {
        final int pause_ms = 400;
        DefaultMQProducer producer = s.producer();
        s.send(producer, s.topic, "first", 0, 1);
        MessageQueue queue = s.route(producer, s.topic).get(0);
        Stage.Inbox inbox = new Stage.Inbox();
        Map<String, Integer> refused = new HashMap<>();
        DefaultMQPushConsumer consumer = s.consumer(s.group("c"), c -> {
            c.subscribe(s.topic, "n");
            c.registerMessageListener((MessageListenerOrderly) (batch, context) -> {
                inbox.add(batch);
                String text = Stage.text(batch.get(0));
                boolean refuse = text.startsWith("n7:") || text.startsWith("n8:");
                if (!refuse || refused.merge(text, 1, Integer::sum) > 2) return ConsumeOrderlyStatus.SUCCESS;
                context.setSuspendCurrentQueueTimeMillis(pause_ms);
                return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            });
        });
        List<Integer> expected = new ArrayList<>();
        for (int i = 0; i < 20; i++) {
            producer.send(new Message(s.topic, "n", Stage.bytes(Stage.body("n" + i, 20))), queue);
            expected.addAll(i == 7 || i == 8 ? List.of(i, i, i) : List.of(i));
        }
        inbox.atLeast(expected.size(), 60_000);
        Stage.check(numbers(inbox).equals(expected), "came as " + numbers(inbox));
        for (int i : new int[] {8, 9, 11, 12}) {
            long waited = inbox.arrivals.get(i) - inbox.arrivals.get(i - 1);
            Stage.check(waited >= pause_ms - 50, "delivery " + i + " came " + waited + " ms after the refused one");
        }
        consumer.suspend();
        // The pull that waits at the broker already may still bring one.
        producer.send(new Message(s.topic, "n", Stage.bytes(Stage.body("n20", 20))), queue);
        Thread.sleep(2_000);
        for (int i = 21; i < 25; i++) producer.send(new Message(s.topic, "n", Stage.bytes(Stage.body("n" + i, 20))), queue);
        Thread.sleep(2_000);
        Stage.check(inbox.size() <= expected.size() + 1, "a suspended client got " + numbers(inbox));
        consumer.resume();
        for (int i = 20; i < 25; i++) expected.add(i);
        inbox.atLeast(expected.size(), 30_000);
        Stage.check(numbers(inbox).equals(expected), "then came " + numbers(inbox));
    }

    static List<Integer> numbers(Stage.Inbox inbox) {
        List<Integer> numbers = new ArrayList<>();
        for (MessageExt message : inbox.all()) numbers.add(Integer.parseInt(Stage.text(message).split("[n:]")[1]));
        return numbers;
    }

    // ---- refusing

    /** Answers "later" for as many deliveries as asked, then takes the message. */
    static final class Refusing extends Stage.Inbox {
        final int refusals, delay_level;
        Refusing(int refusals, int delay_level) { this.refusals = refusals; this.delay_level = delay_level; }
        @Override public ConsumeConcurrentlyStatus consumeMessage(List<MessageExt> batch, ConsumeConcurrentlyContext context) {
            add(batch);
            context.setDelayLevelWhenNextConsume(delay_level);
            return batch.get(0).getReconsumeTimes() < refusals ? ConsumeConcurrentlyStatus.RECONSUME_LATER : ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        }
    }

    static void retry(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = s.send(producer, s.topic, "n", 0, 3);
        s.route(producer, s.topic);
        Refusing quick = new Refusing(2, 1), plain = new Refusing(1, 0);
        s.consumer(s.group("quick"), s.topic, "*", quick);
        s.consumer(s.group("plain"), s.topic, "*", plain);
        quick.atLeast(9, 40_000);
        plain.atLeast(6, 60_000);
        Thread.sleep(1_500);
        for (Refusing inbox : List.of(quick, plain)) {
            Map<String, List<Integer>> times = new TreeMap<>();
            for (MessageExt message : inbox.messages) {
                Stage.check(message.getTopic().equals(s.topic), "redelivered with topic " + message.getTopic());
                times.computeIfAbsent(Stage.text(message), body -> new ArrayList<>()).add(message.getReconsumeTimes());
            }
            Stage.check(times.keySet().equals(new TreeSet<>(sent)), "bodies " + times.keySet());
            List<Integer> expected = inbox.refusals == 2 ? List.of(0, 1, 2) : List.of(0, 1);
            for (List<Integer> one : times.values()) Stage.check(one.equals(expected), "reconsume times " + one);
        }
        for (int i = 3; i < 6; i++) { // the first retry without a level of its own waits for level 3: ten seconds
            long waited = plain.arrivals.get(i) - plain.arrivals.get(0);
            Stage.check(waited > 9_000, "redelivered after " + waited + " ms");
        }
    }

    static void deadLetter(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = s.send(producer, s.topic, "n", 0, 3);
        s.route(producer, s.topic);
        Refusing never = new Refusing(Integer.MAX_VALUE, 1);
        s.consumer(s.group("c"), c -> {
            c.subscribe(s.topic, "*");
            c.setMaxReconsumeTimes(1);
            c.registerMessageListener(never);
        });
        never.atLeast(6, 40_000);
        String dead = "%DLQ%" + s.group("c");
        s.route(producer, dead);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("dead"), dead, "*", inbox);
        inbox.exactly(sent);
        Stage.check(never.size() == 6, never.size() + " deliveries of 3 messages with one retry each");
    }

    static void delay(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = s.send(producer, s.topic, "first", 0, 1);
        MessageQueue queue = s.route(producer, s.topic).get(0);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("c"), c -> {
            c.subscribe(s.topic, "*");
            c.registerMessageListener(new Stage.Orderly(inbox));
        });
        inbox.atLeast(1, 30_000);
        Map<String, Long> due = new HashMap<>();
        for (int i = 0; i <= 10; i++) {
            Message message = new Message(s.topic, Stage.bytes(Stage.body("delayed" + i, 20)));
            message.setDelayTimeLevel(i == 0 ? 2 : 1); // the first is due last
            due.put(Stage.text(message), Stage.now() + (i == 0 ? 5_000 : 1_000));
            producer.send(message, queue);
            sent.add(Stage.text(message));
        }
        int next = 1;
        inbox.exactly(sent);
        for (int i = 1; i < inbox.messages.size(); i++) {
            String body = Stage.text(inbox.messages.get(i));
            Stage.check(inbox.arrivals.get(i) >= due.get(body), "early by " + (due.get(body) - inbox.arrivals.get(i)) + " ms");
            Stage.check(inbox.arrivals.get(i) < due.get(body) + 5_000, "late by " + (inbox.arrivals.get(i) - due.get(body)) + " ms");
            Stage.check(body.startsWith("delayed" + next + ":"), "message " + body + " came when " + next + " was due");
            Stage.check(s.topic.equals(inbox.messages.get(i).getTopic()), "topic " + inbox.messages.get(i).getTopic());
            next = next == 10 ? 0 : next + 1;
        }
    }

    static void transaction(Stage s, LocalTransactionState said, boolean visible) throws Exception {
        AtomicInteger checks = new AtomicInteger();
        AtomicReference<String> seen_by_check = new AtomicReference<>();
        TransactionMQProducer producer = new TransactionMQProducer(s.group("p"));
        Stage.Inbox inbox = new Stage.Inbox();
        producer.setTransactionListener(new TransactionListener() {
            public LocalTransactionState executeLocalTransaction(Message message, Object argument) {
                try { Thread.sleep(1_000); } catch (InterruptedException e) { return LocalTransactionState.UNKNOW; }
                checks.addAndGet(inbox.size() > 1 ? 1000 : 0); // seen before it was committed
                return said;
            }
            public LocalTransactionState checkLocalTransaction(MessageExt message) {
                checks.incrementAndGet();
                seen_by_check.set(Stage.text(message));
                return LocalTransactionState.COMMIT_MESSAGE;
            }
        });
        s.start(producer);
        List<String> sent = s.send(producer, s.topic, "first", 0, 1);
        s.route(producer, s.topic);
        s.consumer(s.group("c"), s.topic, "*", inbox);
        inbox.atLeast(1, 30_000);
        String body = Stage.body("half", 30);
        Message message = new Message(s.topic, "tag", "key", Stage.bytes(body));
        TransactionSendResult result = producer.sendMessageInTransaction(message, null);
        Stage.check(result.getSendStatus() == SendStatus.SEND_OK, "half message: " + result.getSendStatus());
        if (visible) sent.add(body); else Thread.sleep(5_000);
        inbox.exactly(sent);
        int expected = said == LocalTransactionState.UNKNOW ? 1 : 0;
        Stage.check(checks.get() < 1000, "visible before it was committed");
        Stage.check(checks.get() == expected, checks + " check-backs instead of " + expected);
        Stage.check(expected == 0 || body.equals(seen_by_check.get()), "checked with body " + seen_by_check);
    }

    static void sql92(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> wanted = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            String body = Stage.body("n" + i, 20);
            Message message = new Message(s.topic, i % 2 == 0 ? "even" : "odd", Stage.bytes(body));
            message.putUserProperty("n", "" + i);
            message.putUserProperty("colour", i % 4 == 0 ? "red" : "blue");
            producer.send(message);
            if (i > 9 && i % 4 == 0) wanted.add(body);
        }
        s.route(producer, s.topic);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("c"), c -> {
            c.subscribe(s.topic, MessageSelector.bySql("n > 9 AND colour = 'red' AND TAGS IS NOT NULL"));
            c.registerMessageListener(inbox);
        });
        inbox.exactly(wanted);
    }

    // ---- queries: Java's index trails the acknowledgement by milliseconds, so the first answers may be empty

    static void queryKey(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        for (int i = 0; i < 10; i++) producer.send(new Message(s.topic, "tag", i % 2 == 0 ? "even number" + i : "odd", Stage.bytes(Stage.body("n" + i, 20))));
        s.route(producer, s.topic);
        for (Map.Entry<String, Integer> one : Map.of("even", 5, "odd", 5, "number4", 1).entrySet()) {
            List<MessageExt> found = List.of();
            for (long end = Stage.now() + 10_000; found.size() != one.getValue() && Stage.now() < end; Thread.sleep(100)) {
                try {
                    QueryResult result = producer.queryMessage(s.topic, one.getKey(), 32, 0, Long.MAX_VALUE);
                    found = result.getMessageList();
                } catch (org.apache.rocketmq.client.exception.MQClientException e) {
                    if (Stage.now() > end - 1_000) throw e;
                }
            }
            Stage.check(found.size() == one.getValue(), found.size() + " messages with key " + one.getKey());
        }
    }

    static void view(Stage s, boolean unique) throws Exception {
        DefaultMQProducer producer = s.producer();
        String body = Stage.body("seen", 50);
        SendResult sent = producer.send(new Message(s.topic, "tag", "key", Stage.bytes(body)));
        s.route(producer, s.topic);
        MessageExt found = null;
        for (long end = Stage.now() + 10_000; found == null && Stage.now() < end; Thread.sleep(100)) {
            try {
                found = producer.viewMessage(s.topic, unique ? sent.getMsgId() : sent.getOffsetMsgId());
            } catch (org.apache.rocketmq.client.exception.MQClientException e) {
                if (Stage.now() > end - 1_000) throw e;
            }
        }
        Stage.check(found != null, "no message for the id " + (unique ? sent.getMsgId() : sent.getOffsetMsgId()));
        Stage.check(Stage.text(found).equals(body), "body " + Stage.text(found));
        Stage.check(found.getQueueOffset() == sent.getQueueOffset() && found.getStoreSize() > 0, "another message: " + found);
    }

    static void requestReply(Stage s) throws Exception {
        DefaultMQProducer asker = s.producer(), answerer = s.producer();
        // The asker must not know the topic yet: then its request begins with a heartbeat, without which the broker
        // knows no connection to answer on; else the next one may be 30 s away.
        s.send(answerer, s.topic, "first", 0, 1);
        s.route(answerer, s.topic);
        Stage.Inbox failures = new Stage.Inbox();
        s.consumer(s.group("c"), c -> {
            c.subscribe(s.topic, "question");
            c.registerMessageListener((MessageListenerConcurrently) (batch, context) -> {
                for (MessageExt message : batch) {
                    try {
                        answerer.send(MessageUtil.createReplyMessage(message, Stage.bytes("re: " + Stage.text(message))));
                    } catch (Exception e) {
                        e.printStackTrace();
                        failures.add(batch);
                    }
                }
                return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
            });
        });
        for (int i = 0; i < 5; i++) {
            Message answer = asker.request(new Message(s.topic, "question", Stage.bytes("how " + i)), 20_000);
            Stage.check(Stage.text(answer).equals("re: how " + i), "answer " + Stage.text(answer));
        }
        Stage.check(failures.size() == 0, "replies failed");
    }

    /** What a producer and a consumer with trace on leave: who sent the message, who got it and how that ended. */
    static void trace(Stage s) throws Exception {
        DefaultMQProducer producer = s.start(new DefaultMQProducer(s.group("p"), true, null));
        String traces = "RMQ_SYS_TRACE_TOPIC";
        s.route(producer, traces);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("c"), traces, "*", inbox);
        producer.send(new Message(s.topic, Stage.bytes("first")));
        Stage.Inbox consumed = new Stage.Inbox();
        s.configure(new DefaultMQPushConsumer(s.group("traced"), true, null), c -> {
            c.subscribe(s.topic, "*");
            c.registerMessageListener(consumed);
        });
        consumed.atLeast(1, 45_000);
        SendResult sent = producer.send(new Message(s.topic, "tag", "tracekey", Stage.bytes("traced")));
        // The consumer of 5.4.0 leaves no trace with Java's broker either.
        boolean isTraced = MQVersion.CURRENT_VERSION < MQVersion.Version.V5_0_0.ordinal();
        Set<String> missing = new TreeSet<>(isTraced ? List.of("Pub", "SubBefore", "SubAfter") : List.of("Pub"));
        for (long end = Stage.now() + 40_000; Stage.now() < end; Thread.sleep(200)) {
            for (MessageExt message : inbox.all()) {
                for (String line : Stage.text(message).split("\\x02")) {
                    if (line.contains(sent.getMsgId())) missing.remove(line.split("\\x01")[0]);
                }
            }
            if (missing.isEmpty()) return;
        }
        throw new Exception("no " + missing + " among " + inbox.size() + " trace messages names " + sent.getMsgId());
    }

    /** A tool puts a running group back to the beginning: the client is told (220) and reads again. */
    static void resetOffset(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        long start = Stage.now() - 1_000;
        List<String> sent = s.send(producer, s.topic, "n", 0, 20);
        s.route(producer, s.topic);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("c"), s.topic, "*", inbox);
        inbox.exactly(sent);
        // What mqadmin's resetOffsetByTime does. Refused until the group has stored an offset of every queue, which the
        // client does every 5 s.
        DefaultMQAdminExt admin = admin(s);
        for (long end = Stage.now() + 30_000; ; Thread.sleep(200)) {
            try {
                admin.resetOffsetByTimestamp(s.topic, s.group("c"), start, true);
                break;
            } catch (org.apache.rocketmq.client.exception.MQClientException early) {
                if (Stage.now() > end) throw early;
            }
        }
        inbox.atLeast(40, 60_000);
        Set<String> again = new HashSet<>();
        for (MessageExt message : inbox.messages.subList(20, 40)) again.add(Stage.text(message));
        Stage.check(again.equals(new HashSet<>(sent)), "read again: " + again.size() + " of 20");
    }

    static DefaultMQAdminExt admin(Stage s) throws Exception {
        DefaultMQAdminExt admin = new DefaultMQAdminExt();
        admin.setNamesrvAddr(s.namesrv);
        admin.setInstanceName(s.group("admin"));
        admin.start();
        s.closing(admin::shutdown);
        return admin;
    }

    /** A tool has the broker hand a stored message to one client of the group (309), which says how it took it. */
    static void consumeDirectly(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = s.send(producer, s.topic, "n", 0, 5);
        s.route(producer, s.topic);
        Refusing inbox = new Refusing(0, 0);
        DefaultMQPushConsumer consumer = s.consumer(s.group("c"), s.topic, "*", inbox);
        inbox.exactly(sent);
        MessageExt chosen = inbox.messages.get(2);
        String client = consumer.getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId();
        String taken = admin(s).consumeMessageDirectly(s.group("c"), client, s.topic, chosen.getMsgId()).getConsumeResult().name();
        Stage.check(taken.equals("CR_SUCCESS"), "taken as " + taken);
        Stage.check(inbox.size() == 6 && Stage.text(inbox.all().get(5)).equals(Stage.text(chosen)), "handed over: " + inbox.size() + " deliveries");
    }
}
