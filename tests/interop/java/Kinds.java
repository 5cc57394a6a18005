// The Java client's second tier: retries, dead letters, delays, transactions, filters, queries, request-reply, trace, reset.

import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.rocketmq.client.QueryResult;
import org.apache.rocketmq.client.consumer.*;
import org.apache.rocketmq.client.consumer.listener.*;
import org.apache.rocketmq.client.producer.*;
import org.apache.rocketmq.client.utils.MessageUtil;
import org.apache.rocketmq.common.message.*;

final class Kinds {
    static void register(Map<String, Interop.Scenario> scenarios) {
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
    }

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

    static void trace(Stage s) throws Exception {
        DefaultMQProducer producer = s.start(new DefaultMQProducer(s.group("p"), true, null));
        SendResult sent = producer.send(new Message(s.topic, "tag", "tracekey", Stage.bytes("traced")));
        String traces = "RMQ_SYS_TRACE_TOPIC";
        s.route(producer, traces);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("c"), traces, "*", inbox);
        for (long end = Stage.now() + 40_000; Stage.now() < end; Thread.sleep(200)) {
            synchronized (inbox) {
                for (MessageExt message : inbox.messages) {
                    String text = Stage.text(message);
                    if (text.contains("Pub") && text.contains(s.topic) && text.contains(sent.getMsgId())) return;
                }
            }
        }
        throw new Exception("none of " + inbox.size() + " trace messages names " + sent.getMsgId());
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
        org.apache.rocketmq.tools.admin.DefaultMQAdminExt admin = new org.apache.rocketmq.tools.admin.DefaultMQAdminExt();
        admin.setNamesrvAddr(s.namesrv);
        admin.setInstanceName(s.group("admin"));
        admin.start();
        try {
            for (long end = Stage.now() + 30_000; ; Thread.sleep(200)) {
                try {
                    admin.resetOffsetByTimestamp(s.topic, s.group("c"), start, true);
                    break;
                } catch (org.apache.rocketmq.client.exception.MQClientException early) {
                    if (Stage.now() > end) throw early;
                }
            }
        } finally {
            admin.shutdown();
        }
        inbox.atLeast(40, 60_000);
        Set<String> again = new HashSet<>();
        for (MessageExt message : inbox.messages.subList(20, 40)) again.add(Stage.text(message));
        Stage.check(again.equals(new HashSet<>(sent)), "read again: " + again.size() + " of 20");
    }
}
