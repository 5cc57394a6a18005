// The Java client's suite: `Interop NAMESRV PREFIX FEATURE…` prints one line `RESULT⇥feature⇥ok|FAIL|n/a⇥reason` each.
// One source for 4.9.7 and 5.4.0. Knows a name server's address and nothing of who answers there.

import java.lang.reflect.Method;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.consumer.*;
import org.apache.rocketmq.client.consumer.listener.*;
import org.apache.rocketmq.client.exception.*;
import org.apache.rocketmq.client.producer.*;
import org.apache.rocketmq.common.message.*;

public final class Interop {
    interface Scenario { void play(Stage stage) throws Exception; }

    static final Map<String, Scenario> SCENARIOS = new HashMap<>();
    static final Map<String, String> NOT_APPLICABLE = Map.of("body-empty", "the client refuses an empty body itself");
    static final int LIMIT_S = 200, AT_ONCE = Integer.parseInt(System.getenv().getOrDefault("INTEROP_AT_ONCE", "4"));

    static {
        SCENARIOS.put("send-sync", Interop::sendSync);
        SCENARIOS.put("send-async", Interop::sendAsync);
        SCENARIOS.put("send-oneway", Interop::sendOneway);
        SCENARIOS.put("send-batch", Interop::sendBatch);
        SCENARIOS.put("consume-1000", Interop::consume1000);
        SCENARIOS.put("live", Interop::live);
        SCENARIOS.put("tags", s -> tags(s, "a", "b", "c"));
        SCENARIOS.put("unicode-tags", s -> tags(s, "标签", "тег", "étiquette"));
        SCENARIOS.put("order", Interop::order);
        SCENARIOS.put("order-rebalance", Interop::orderRebalance);
        SCENARIOS.put("rebalance", s -> rebalance(s, false));
        SCENARIOS.put("rebalance-leave", s -> rebalance(s, true));
        SCENARIOS.put("offsets-restart", Interop::offsetsRestart);
        SCENARIOS.put("bodies", Interop::bodies);
        SCENARIOS.put("unicode", Interop::unicode);
        SCENARIOS.put("too-large", Interop::tooLarge);
        SCENARIOS.put("auto-topic", Interop::autoTopic);
        SCENARIOS.put("from-first", Interop::fromFirst);
        SCENARIOS.put("broadcast", Interop::broadcast);
        SCENARIOS.put("pull", Interop::pull);
        SCENARIOS.put("lite-pull", Interop::litePull);
        SCENARIOS.put("offset-queries", Interop::offsetQueries);
        // Parts of the driver's own suites: `produce=TOPIC=FROM=COUNT`, `expect=TOPIC=GROUP=FROM=COUNT`, `spread=TOPIC=BROKERS`.
        SCENARIOS.put("produce", s -> s.send(s.producer(), s.arguments.get(0), "n", number(s, 1), number(s, 2)));
        SCENARIOS.put("expect", Interop::expectRange);
        SCENARIOS.put("spread", Interop::spread);
        Kinds.register(SCENARIOS);
    }

    public static void main(String[] args) throws Exception {
        ExecutorService players = Executors.newFixedThreadPool(AT_ONCE);
        ExecutorService stages = Executors.newCachedThreadPool();
        for (String words : Arrays.asList(args).subList(2, args.length)) {
            players.submit(() -> report(words, stages, new Stage(args[0], args[1], words.split("="))));
        }
        players.shutdown();
        players.awaitTermination(15, TimeUnit.MINUTES);
        System.out.flush();
        Runtime.getRuntime().halt(0); // a client's own threads must not keep the process
    }

    static void report(String words, ExecutorService stages, Stage stage) {
        long start = Stage.now();
        String verdict = "ok\t", why = NOT_APPLICABLE.get(stage.feature);
        if (why != null) {
            verdict = "n/a\t" + why;
        } else if (!SCENARIOS.containsKey(stage.feature)) {
            verdict = "n/a\tnot in this client";
        } else {
            Future<?> play = stages.submit(() -> { SCENARIOS.get(stage.feature).play(stage); return null; });
            try {
                play.get(LIMIT_S, TimeUnit.SECONDS);
            } catch (TimeoutException e) {
                play.cancel(true);
                verdict = "FAIL\tnot finished after " + LIMIT_S + " s";
            } catch (Exception e) {
                Throwable cause = e.getCause() == null ? e : e.getCause();
                verdict = "FAIL\t" + (cause.getClass() == Exception.class ? "" : cause.getClass().getSimpleName() + ": ") + cause.getMessage();
                cause.printStackTrace();
            }
            stages.submit(stage::close);
        }
        String line = "RESULT\t" + words + "\t" + verdict.replaceAll("[\r\n]+", " ") + "\t" + (Stage.now() - start);
        synchronized (System.out) { System.out.println(line); }
    }

    // ---- sending

    static void sendSync(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = new ArrayList<>();
        Map<MessageQueue, Long> next = new HashMap<>();
        for (int i = 0; i < 40; i++) {
            String body = Stage.body("sync" + i, 100);
            SendResult result = producer.send(new Message(s.topic, Stage.bytes(body)));
            Stage.check(result.getSendStatus() == SendStatus.SEND_OK, "status " + result.getSendStatus());
            Stage.check(result.getOffsetMsgId().length() == 32, "offset id " + result.getOffsetMsgId());
            long expected = next.getOrDefault(result.getMessageQueue(), 0L);
            Stage.check(result.getQueueOffset() == expected, "queue offset " + result.getQueueOffset() + " instead of " + expected);
            next.put(result.getMessageQueue(), expected + 1);
            sent.add(body);
        }
        s.route(producer, s.topic);
        s.expect(s.topic, sent);
    }

    static void sendAsync(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = s.send(producer, s.topic, "first", 0, 1);
        int count = 100;
        CountDownLatch left = new CountDownLatch(count);
        AtomicReference<Throwable> failure = new AtomicReference<>();
        for (int i = 0; i < count; i++) {
            String body = Stage.body("async" + i, 100);
            sent.add(body);
            producer.send(new Message(s.topic, Stage.bytes(body)), new SendCallback() {
                public void onSuccess(SendResult result) { left.countDown(); }
                public void onException(Throwable e) { failure.set(e); left.countDown(); }
            });
        }
        Stage.check(left.await(30, TimeUnit.SECONDS), left.getCount() + " callbacks never came");
        if (failure.get() != null) throw new Exception("callback: " + failure.get());
        s.expect(s.topic, sent);
    }

    static void sendOneway(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = s.send(producer, s.topic, "first", 0, 1);
        for (int i = 0; i < 50; i++) {
            String body = Stage.body("oneway" + i, 100);
            producer.sendOneway(new Message(s.topic, Stage.bytes(body)));
            sent.add(body);
        }
        s.route(producer, s.topic);
        s.expect(s.topic, sent);
    }

    static void sendBatch(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = new ArrayList<>();
        for (int round = 0; round < 3; round++) {
            List<Message> batch = new ArrayList<>();
            for (int i = 0; i < 50; i++) {
                String body = Stage.body("batch" + round + "-" + i, 100);
                batch.add(new Message(s.topic, "tag", "key" + i, Stage.bytes(body)));
                sent.add(body);
            }
            Stage.check(producer.send(batch).getSendStatus() == SendStatus.SEND_OK, "batch not stored");
        }
        s.route(producer, s.topic);
        Set<String> ids = new HashSet<>();
        for (MessageExt message : s.expect(s.topic, sent).messages) ids.add(message.getMsgId());
        // 4.9.7 as broker appends the batch's own id to every item when the client is 5.4.0, so all arrive with one id.
        Stage.check(ids.size() == sent.size(), ids.size() + " distinct message ids for " + sent.size() + " messages");
    }

    // ---- consuming

    static void consume1000(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = Collections.synchronizedList(new ArrayList<>(s.send(producer, s.topic, "first", 0, 1)));
        s.route(producer, s.topic);
        Stage.Inbox one = new Stage.Inbox(), other = new Stage.Inbox();
        s.consumer(s.group("one"), s.topic, "*", one);
        s.consumer(s.group("other"), s.topic, "*", other);
        ExecutorService senders = Executors.newFixedThreadPool(4);
        List<Future<List<String>>> parts = new ArrayList<>();
        for (int part = 0; part < 4; part++) {
            String name = "part" + part + "-";
            parts.add(senders.submit(() -> s.send(producer, s.topic, name, 0, 250)));
        }
        for (Future<List<String>> part : parts) sent.addAll(part.get());
        senders.shutdown();
        one.exactly(sent);
        other.exactly(sent);
    }

    /** A waiting consumer gets a message when it arrives, not when a five-second scan finds it. */
    static void live(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        s.send(producer, s.topic, "first", 0, 8);
        s.route(producer, s.topic);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("c"), s.topic, "*", inbox);
        inbox.atLeast(8, 30_000);
        for (int i = 0; i < 8; i++) {
            Thread.sleep(300);
            long start = Stage.now();
            s.send(producer, s.topic, "live", i, 1);
            inbox.atLeast(9 + i, 10_000);
            Stage.check(Stage.now() - start < 3_000, "a waiting consumer got the message after " + (Stage.now() - start) + " ms");
        }
    }

    static void tags(Stage s, String first, String second, String unwanted) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> wanted = s.send(producer, s.topic, first, 0, 30);
        s.send(producer, s.topic, unwanted, 0, 30);
        wanted.addAll(s.send(producer, s.topic, second, 0, 30));
        s.route(producer, s.topic);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("c"), s.topic, first + " || " + second, inbox);
        inbox.exactly(wanted);
    }

    static void order(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = new ArrayList<>();
        for (int i = 0; i < 50; i++) {
            for (int key = 0; key < 8; key++) {
                String body = Stage.body(key + "/" + i, 20);
                producer.send(new Message(s.topic, Stage.bytes(body)), (queues, m, k) -> queues.get((int) k % queues.size()), key);
                sent.add(body);
            }
        }
        s.route(producer, s.topic);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("c"), c -> {
            c.subscribe(s.topic, "*");
            c.registerMessageListener(new Stage.Orderly(inbox));
        });
        int[] next = new int[8];
        int[] queue = new int[8];
        for (MessageExt message : inbox.exactly(sent)) {
            String[] name = Stage.text(message).split("[/:]");
            int key = Integer.parseInt(name[0]), i = Integer.parseInt(name[1]);
            Stage.check(next[key] == i, "key " + key + ": message " + i + " came when " + next[key] + " was due");
            Stage.check(i == 0 || queue[key] == message.getQueueId(), "key " + key + " came from two queues");
            next[key]++;
            queue[key] = message.getQueueId();
        }
    }

    /** What is known of a queue whose messages are numbered from 0. */
    static final class Line {
        int next;
        Object holder, last;
    }

    /** Queues go from consumer to consumer while messages flow: never two at a time, never one message ahead of another. */
    static void orderRebalance(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        s.send(producer, s.topic, "first", 0, 1);
        List<MessageQueue> queues = s.route(producer, s.topic);
        Map<Integer, Line> lines = new HashMap<>();
        for (MessageQueue queue : queues) lines.put(queue.getQueueId(), new Line());
        AtomicReference<String> wrong = new AtomicReference<>();
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (int i = 0; i < 2; i++) consumers.add(numbered(s, lines, wrong, i));
        AtomicReference<Boolean> flows = new AtomicReference<>(true);
        AtomicReference<Throwable> failure = new AtomicReference<>();
        int[] sent = new int[1];
        Thread sender = new Thread(() -> {
            try {
                for (; flows.get(); sent[0]++) {
                    for (MessageQueue queue : queues) producer.send(new Message(s.topic, Stage.bytes("n/" + sent[0] + "/")), queue);
                    Thread.sleep(20);
                }
            } catch (Exception e) {
                failure.set(e);
            }
        });
        sender.start();
        heldBy(lines, wrong, Set.of(0, 1));
        consumers.add(numbered(s, lines, wrong, 2));
        heldBy(lines, wrong, Set.of(0, 1, 2));
        consumers.get(0).shutdown();
        heldBy(lines, wrong, Set.of(1, 2));
        flows.set(false);
        sender.join();
        if (failure.get() != null) throw new Exception("sending: " + failure.get());
        // A queue may still be on its way: 4.9.7's client gives one up 20 s late and looks for it every 20 s.
        for (long end = Stage.now() + 60_000; ; Thread.sleep(50)) {
            synchronized (lines) {
                if (lines.values().stream().allMatch(line -> line.next == sent[0])) break;
                Stage.check(Stage.now() < end, "the last messages did not come");
            }
        }
        Stage.check(wrong.get() == null, wrong.get());
    }

    static DefaultMQPushConsumer numbered(Stage s, Map<Integer, Line> lines, AtomicReference<String> wrong, Integer me) throws Exception {
        return s.consumer(s.group("c"), c -> {
            c.subscribe(s.topic, "*");
            c.registerMessageListener((MessageListenerOrderly) (batch, context) -> {
                for (MessageExt message : batch) {
                    String[] name = Stage.text(message).split("/");
                    if (!name[0].equals("n")) continue;
                    int number = Integer.parseInt(name[1]), queue = message.getQueueId();
                    synchronized (lines) {
                        Line line = lines.get(queue);
                        if (line.holder != null) wrong.compareAndSet(null, "queue " + queue + " is with " + line.holder + " and with " + me);
                        if (number > line.next) wrong.compareAndSet(null, "queue " + queue + ": " + number + " came when " + line.next + " was due");
                        line.holder = me;
                    }
                    try {
                        Thread.sleep(2);
                    } catch (InterruptedException e) {
                        return ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
                    } finally {
                        synchronized (lines) { lines.get(queue).holder = null; }
                    }
                    synchronized (lines) {
                        Line line = lines.get(queue);
                        line.next = Math.max(line.next, number + 1);
                        line.last = me;
                    }
                }
                return ConsumeOrderlyStatus.SUCCESS;
            });
        });
    }

    /** Waits until the queues are with exactly these consumers. */
    static void heldBy(Map<Integer, Line> lines, AtomicReference<String> wrong, Set<Integer> expected) throws Exception {
        for (long end = Stage.now() + 60_000; ; Thread.sleep(50)) {
            synchronized (lines) {
                Set<Object> holders = new HashSet<>();
                for (Line line : lines.values()) holders.add(line.last);
                if (holders.equals(expected)) break;
                Stage.check(Stage.now() < end, "after 60 s the queues are with " + holders + " instead of " + expected);
            }
            Stage.check(wrong.get() == null, wrong.get());
        }
    }

    static void rebalance(Stage s, boolean leave) throws Exception {
        DefaultMQProducer producer = s.producer();
        s.send(producer, s.topic, "first", 0, 1);
        List<MessageQueue> queues = s.route(producer, s.topic);
        List<Stage.Inbox> inboxes = new ArrayList<>();
        List<DefaultMQPushConsumer> consumers = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            inboxes.add(new Stage.Inbox());
            consumers.add(s.consumer(s.group("c"), s.topic, "*", inboxes.get(i)));
        }
        spreadOver(s, producer, queues, inboxes, "settle");
        if (leave) {
            consumers.remove(0).shutdown();
            inboxes.remove(0);
            spreadOver(s, producer, queues, inboxes, "left");
        }
        // From here on nobody comes or goes: each message exactly once.
        List<String> sent = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            String body = Stage.body("steady" + i, 20);
            producer.send(new Message(s.topic, Stage.bytes(body)), queues.get(i % queues.size()));
            sent.add(body);
        }
        Stage.Inbox together = new Stage.Inbox();
        for (long end = Stage.now() + 30_000; steady(inboxes).size() < sent.size() && Stage.now() < end; ) Thread.sleep(100);
        Thread.sleep(1_000);
        together.add(steady(inboxes));
        Set<Integer> covered = new HashSet<>();
        for (MessageExt message : together.exactly(sent)) covered.add(message.getQueueId());
        Stage.check(covered.size() == queues.size(), covered.size() + " of " + queues.size() + " queues covered");
    }

    static List<MessageExt> steady(List<Stage.Inbox> inboxes) {
        List<MessageExt> all = new ArrayList<>();
        for (Stage.Inbox inbox : inboxes) {
            synchronized (inbox) {
                for (MessageExt message : inbox.messages) if (Stage.text(message).startsWith("steady")) all.add(message);
            }
        }
        return all;
    }

    /** Sends rounds of one message a queue until a whole round arrived and everyone got a part of it. */
    static void spreadOver(Stage s, DefaultMQProducer producer, List<MessageQueue> queues, List<Stage.Inbox> inboxes, String name) throws Exception {
        for (long end = Stage.now() + 60_000; Stage.now() < end; Thread.sleep(200)) {
            Set<String> round = new HashSet<>();
            for (MessageQueue queue : queues) {
                String body = Stage.body(name + Stage.now() + "-" + queue.getQueueId(), 20);
                producer.send(new Message(s.topic, Stage.bytes(body)), queue);
                round.add(body);
            }
            Thread.sleep(500);
            int busy = 0;
            for (Stage.Inbox inbox : inboxes) {
                synchronized (inbox) {
                    boolean any = false;
                    for (MessageExt message : inbox.messages) any |= round.remove(Stage.text(message));
                    if (any) busy++;
                }
            }
            if (round.isEmpty() && busy == inboxes.size()) return;
        }
        throw new Exception("after 60 s the queues are not spread over " + inboxes.size() + " consumers");
    }

    static void offsetsRestart(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> first = s.send(producer, s.topic, "first", 0, 100);
        s.route(producer, s.topic);
        Stage.Inbox before = new Stage.Inbox(), after = new Stage.Inbox();
        DefaultMQPushConsumer consumer = s.consumer(s.group("c"), s.topic, "*", before);
        before.exactly(first);
        consumer.shutdown();
        List<String> second = s.send(producer, s.topic, "second", 0, 100);
        s.consumer(s.group("c"), s.topic, "*", after);
        after.exactly(second);
    }

    static void bodies(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        Map<Integer, byte[]> sent = new HashMap<>();
        int margin = 4 * 1024;
        for (int size : new int[] {1, 1024, 256 * 1024, 4 * 1024 * 1024 - margin}) {
            byte[] body = new byte[size];
            new Random(size).nextBytes(body);
            producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
            producer.send(new Message(s.topic, body));
            sent.put(size, body);
        }
        byte[] zeros = new byte[300_000]; // travels compressed
        producer.setCompressMsgBodyOverHowmuch(4096);
        producer.send(new Message(s.topic, zeros));
        sent.put(zeros.length, zeros);
        s.route(producer, s.topic);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("c"), s.topic, "*", inbox);
        inbox.atLeast(sent.size(), 45_000);
        for (MessageExt message : inbox.messages) {
            Stage.check(Arrays.equals(sent.remove(message.getBody().length), message.getBody()), "a body of " + message.getBody().length + " bytes arrived changed");
        }
        Stage.check(sent.isEmpty(), "never arrived: " + sent.keySet());
    }

    static void unicode(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        Message message = new Message(s.topic, "тег", "ключ-1 キー二", Stage.bytes("héllo 消息 😀"));
        message.putUserProperty("属性", "значение 😀");
        producer.send(message);
        s.route(producer, s.topic);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("c"), s.topic, "*", inbox);
        inbox.atLeast(1, 45_000);
        MessageExt got = inbox.messages.get(0);
        Stage.check(Stage.text(got).equals("héllo 消息 😀"), "body " + Stage.text(got));
        Stage.check("тег".equals(got.getTags()), "tag " + got.getTags());
        Stage.check("ключ-1 キー二".equals(got.getKeys()), "keys " + got.getKeys());
        Stage.check("значение 😀".equals(got.getUserProperty("属性")), "property " + got.getUserProperty("属性"));
    }

    static void tooLarge(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = s.send(producer, s.topic, "before", 0, 1);
        producer.setCompressMsgBodyOverHowmuch(Integer.MAX_VALUE);
        byte[] body = new byte[5 * 1024 * 1024];
        try {
            producer.send(new Message(s.topic, body));
            throw new Exception("the client sent 5 MiB");
        } catch (MQClientException e) {
            Stage.check(e.getResponseCode() == 13, "the client's own code is " + e.getResponseCode());
        }
        producer.setMaxMessageSize(16 * 1024 * 1024);
        try {
            producer.send(new Message(s.topic, body));
            throw new Exception("the broker took 5 MiB");
        } catch (MQBrokerException e) {
            Stage.check(e.getResponseCode() == 13, "the broker's code is " + e.getResponseCode() + ": " + e.getErrorMessage());
        }
        sent.addAll(s.send(producer, s.topic, "after", 0, 10));
        s.expect(s.topic, sent);
    }

    static void autoTopic(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        producer.setDefaultTopicQueueNums(3);
        List<String> sent = s.send(producer, s.topic, "n", 0, 12);
        List<MessageQueue> queues = s.route(producer, s.topic);
        Stage.check(queues.size() == 3, queues.size() + " queues instead of the 3 asked for");
        s.expect(s.topic, sent);
    }

    static void fromFirst(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = s.send(producer, s.topic, "early", 0, 50);
        s.route(producer, s.topic);
        Stage.Inbox inbox = new Stage.Inbox();
        s.consumer(s.group("late"), s.topic, "*", inbox);
        inbox.atLeast(50, 30_000);
        sent.addAll(s.send(producer, s.topic, "later", 0, 50));
        inbox.exactly(sent);
    }

    static void broadcast(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = s.send(producer, s.topic, "n", 0, 50);
        s.route(producer, s.topic);
        List<Stage.Inbox> inboxes = List.of(new Stage.Inbox(), new Stage.Inbox());
        for (Stage.Inbox inbox : inboxes) {
            s.consumer(s.group("c"), c -> {
                c.subscribe(s.topic, "*");
                c.registerMessageListener(inbox);
                // MessageModel moved to another package in 5.x.
                for (Method method : c.getClass().getMethods()) {
                    if (method.getName().equals("setMessageModel")) {
                        for (Object model : method.getParameterTypes()[0].getEnumConstants()) {
                            if (model.toString().equals("BROADCASTING")) method.invoke(c, model);
                        }
                    }
                }
            });
        }
        for (Stage.Inbox inbox : inboxes) inbox.exactly(sent);
    }

    // ---- pulling

    @SuppressWarnings("deprecation")
    static DefaultMQPullConsumer puller(Stage s) throws Exception {
        DefaultMQPullConsumer puller = new DefaultMQPullConsumer(s.group("pull"));
        puller.setNamesrvAddr(s.namesrv);
        puller.setInstanceName(s.instance());
        puller.start();
        s.closing(puller::shutdown);
        return puller;
    }

    @SuppressWarnings("deprecation")
    static void pull(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        List<String> sent = s.send(producer, s.topic, "n", 0, 100);
        s.route(producer, s.topic);
        DefaultMQPullConsumer puller = puller(s);
        Stage.Inbox inbox = new Stage.Inbox();
        for (MessageQueue queue : puller.fetchSubscribeMessageQueues(s.topic)) {
            for (long at = 0; ; ) {
                PullResult result = puller.pull(queue, "*", at, 10);
                if (result.getPullStatus() != PullStatus.FOUND) {
                    Stage.check(result.getPullStatus() == PullStatus.NO_NEW_MSG, "at the end: " + result.getPullStatus());
                    break;
                }
                Stage.check(result.getMsgFoundList().get(0).getQueueOffset() == at, "the first message is not the one asked for");
                inbox.add(result.getMsgFoundList());
                at = result.getNextBeginOffset();
            }
            PullResult beyond = puller.pull(queue, "*", 10_000, 10);
            Stage.check(beyond.getPullStatus() == PullStatus.OFFSET_ILLEGAL && beyond.getNextBeginOffset() == beyond.getMaxOffset(), "far beyond the end: " + beyond);
            PullResult unmatched = puller.pull(queue, "nobody", 0, 10);
            Stage.check(unmatched.getPullStatus() == PullStatus.NO_MATCHED_MSG, "a tag nobody sent: " + unmatched);
        }
        inbox.exactly(sent);
    }

    static void litePull(Stage s) throws Exception {
        // Code 361, which the 5.4.0 client sends for this, does not exist in 4.9.7: that pair fails.
        DefaultMQProducer producer = s.producer();
        List<String> first = s.send(producer, s.topic, "first", 0, 100);
        s.route(producer, s.topic);
        poll(s, first);
        poll(s, s.send(producer, s.topic, "second", 0, 50));
    }

    static void poll(Stage s, List<String> expected) throws Exception {
        DefaultLitePullConsumer lite = new DefaultLitePullConsumer(s.group("lite"));
        lite.setNamesrvAddr(s.namesrv);
        lite.setInstanceName(s.instance());
        lite.setConsumeFromWhere(org.apache.rocketmq.common.consumer.ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        lite.setAutoCommit(false);
        lite.subscribe(s.topic, "*");
        lite.start();
        s.closing(lite::shutdown);
        Stage.Inbox inbox = new Stage.Inbox();
        for (long end = Stage.now() + 30_000; inbox.size() < expected.size() && Stage.now() < end; ) inbox.add(lite.poll(500));
        Stage.check(inbox.size() > 0, "nothing polled in 30 s");
        inbox.add(lite.poll(1_000));
        lite.commitSync();
        inbox.exactly(expected);
        lite.shutdown();
    }

    @SuppressWarnings("deprecation")
    static void offsetQueries(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        s.send(producer, s.topic, "first", 0, 1);
        MessageQueue queue = s.route(producer, s.topic).get(0);
        long start = Stage.now();
        DefaultMQPullConsumer puller = puller(s);
        long base = puller.maxOffset(queue);
        for (int i = 0; i < 10; i++) producer.send(new Message(s.topic, Stage.bytes("n" + i)), queue);
        // Java's maximum trails the acknowledgement by some milliseconds.
        for (long end = Stage.now() + 2_000; puller.maxOffset(queue) != base + 10 && Stage.now() < end; ) Thread.sleep(20);
        Stage.check(puller.maxOffset(queue) == base + 10, "maximum " + puller.maxOffset(queue));
        Stage.check(puller.minOffset(queue) == 0, "minimum " + puller.minOffset(queue));
        Stage.check(puller.searchOffset(queue, 0) == 0, "offset at time 0: " + puller.searchOffset(queue, 0));
        long future = puller.searchOffset(queue, Stage.now() + 3_600_000);
        Stage.check(future == base + 10 || future == base + 9, "offset in an hour: " + future); // 5.x the end, 4.9 the last message
        long earliest = puller.earliestMsgStoreTime(queue);
        Stage.check(earliest > start - 600_000 && earliest <= Stage.now(), "earliest store time " + earliest);
        puller.updateConsumeOffset(queue, 7);
        puller.getDefaultMQPullConsumerImpl().updateConsumeOffsetToBroker(queue, 7, false);
        Stage.check(puller.fetchConsumeOffset(queue, true) == 7, "committed offset " + puller.fetchConsumeOffset(queue, true));
    }

    // ---- parts of the driver's own suites

    static int number(Stage s, int index) { return Integer.parseInt(s.arguments.get(index)); }

    /** `expect=TOPIC=GROUP=FROM=COUNT`: the group's next messages are exactly those. */
    static void expectRange(Stage s) throws Exception {
        List<String> bodies = new ArrayList<>();
        for (int i = number(s, 2); i < number(s, 2) + number(s, 3); i++) bodies.add(Stage.body("n" + i, 64));
        Stage.Inbox inbox = new Stage.Inbox();
        DefaultMQPushConsumer consumer = s.consumer(s.arguments.get(1), s.arguments.get(0), "*", inbox);
        inbox.exactly(bodies);
        consumer.shutdown();
    }

    /** `spread=TOPIC=BROKERS`: a topic that lives on several brokers is written on each and read from all. */
    static void spread(Stage s) throws Exception {
        DefaultMQProducer producer = s.producer();
        String topic = s.arguments.get(0);
        // Unless it exists already it is created on each by sending: the template topic's route names all brokers.
        List<String> sent = s.send(producer, topic, "early", 0, 16);
        Set<String> brokers = new HashSet<>();
        for (long end = Stage.now() + 30_000; brokers.size() < number(s, 1) && Stage.now() < end; Thread.sleep(200)) {
            for (MessageQueue queue : s.route(producer, topic)) brokers.add(queue.getBrokerName());
        }
        Stage.check(brokers.size() == number(s, 1), "the topic lives on " + brokers);
        Set<String> used = new HashSet<>();
        for (int i = 0; i < 400; i++) {
            String body = Stage.body("n" + i, 64);
            used.add(producer.send(new Message(topic, Stage.bytes(body))).getMessageQueue().getBrokerName());
            sent.add(body);
        }
        Stage.check(used.equals(brokers), "sent to " + used + " of " + brokers);
        s.expect(topic, sent);
    }
}
