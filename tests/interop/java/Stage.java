// What every scenario of the Java client stands on: one stage per feature, with its own topic, its producers
// and consumers, and the check that a set of bodies arrived, each once. Knows nothing of any feature.

import java.util.*;
import java.util.concurrent.*;
import java.util.zip.CRC32;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.*;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.*;

final class Stage implements AutoCloseable {
    interface Action { void run() throws Exception; }
    interface Setting { void apply(DefaultMQPushConsumer consumer) throws Exception; }

    final String namesrv, feature, topic;
    final List<String> arguments;
    private final Deque<Action> closers = new ConcurrentLinkedDeque<>();
    private int clients;

    Stage(String namesrv, String prefix, String[] words) {
        this.namesrv = namesrv;
        feature = words[0];
        topic = prefix + "-" + feature;
        arguments = Arrays.asList(words).subList(1, words.length);
    }

    // ---- producers

    DefaultMQProducer producer() throws Exception { return start(new DefaultMQProducer(group("p"))); }

    <P extends DefaultMQProducer> P start(P producer) throws Exception {
        producer.setNamesrvAddr(namesrv);
        producer.setInstanceName(instance());
        producer.setSendMsgTimeout(15_000); // two cores carry several suites at once
        producer.start();
        closers.push(producer::shutdown);
        return producer;
    }

    /** Sends bodies 0..count, one after the other, and answers them. */
    List<String> send(DefaultMQProducer producer, String topic, String tag, int from, int count) throws Exception {
        List<String> sent = new ArrayList<>();
        for (int i = from; i < from + count; i++) {
            String body = body(tag + i, 64);
            producer.send(new Message(topic, tag, bytes(body)));
            sent.add(body);
        }
        return sent;
    }

    /** Waits until the name server knows the topic: a consumer that starts earlier looks again only after 30 s. */
    List<MessageQueue> route(DefaultMQProducer producer, String topic) throws Exception {
        for (long end = now() + 20_000; ; Thread.sleep(50)) {
            try {
                return producer.fetchPublishMessageQueues(topic);
            } catch (Exception e) {
                if (now() > end) throw e;
            }
        }
    }

    // ---- consumers

    DefaultMQPushConsumer consumer(String group, Setting setting) throws Exception {
        return configure(new DefaultMQPushConsumer(group), setting);
    }

    DefaultMQPushConsumer configure(DefaultMQPushConsumer consumer, Setting setting) throws Exception {
        consumer.setNamesrvAddr(namesrv);
        consumer.setInstanceName(instance());
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        setting.apply(consumer);
        consumer.start();
        closers.push(consumer::shutdown);
        return consumer;
    }

    DefaultMQPushConsumer consumer(String group, String topic, String tags, Inbox inbox) throws Exception {
        return consumer(group, c -> {
            c.subscribe(topic, tags);
            c.registerMessageListener(inbox);
        });
    }

    /** A fresh group reads the topic from its beginning and finds exactly these bodies. */
    Inbox expect(String topic, Collection<String> bodies) throws Exception {
        Inbox inbox = new Inbox();
        DefaultMQPushConsumer consumer = consumer(group("expect" + clients), topic, "*", inbox);
        inbox.exactly(bodies);
        consumer.shutdown();
        return inbox;
    }

    /** Messages as they arrive; with a listener's answer that the scenario may replace. */
    static class Inbox implements MessageListenerConcurrently {
        final List<MessageExt> messages = new ArrayList<>();
        final List<Long> arrivals = new ArrayList<>();

        public ConsumeConcurrentlyStatus consumeMessage(List<MessageExt> batch, ConsumeConcurrentlyContext context) {
            add(batch);
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        }

        synchronized void add(List<MessageExt> batch) {
            for (MessageExt message : batch) {
                messages.add(message);
                arrivals.add(now());
            }
            notifyAll();
        }

        synchronized int size() { return messages.size(); }
        synchronized List<MessageExt> all() { return new ArrayList<>(messages); }

        synchronized void atLeast(int count, long patience_ms) throws Exception {
            for (long end = now() + patience_ms; messages.size() < count; ) {
                long left = end - now();
                if (left <= 0) throw new Exception("after " + patience_ms + " ms " + messages.size() + " of " + count + " messages");
                wait(left);
            }
        }

        /** These bodies, intact, each once, and nothing else within a second. */
        List<MessageExt> exactly(Collection<String> bodies) throws Exception {
            atLeast(bodies.size(), 45_000);
            Thread.sleep(1_000); // a second delivery would come now
            synchronized (this) {
                Map<String, Integer> seen = new HashMap<>();
                for (MessageExt message : messages) {
                    String body = text(message);
                    check(intact(body), "a body arrived changed: " + shorten(body));
                    seen.merge(body, 1, Integer::sum);
                }
                for (String body : bodies) check(seen.containsKey(body), "never arrived: " + shorten(body) + " (" + seen.size() + " of " + bodies.size() + " did)");
                for (Map.Entry<String, Integer> one : seen.entrySet()) check(one.getValue() == 1, "arrived " + one.getValue() + " times: " + shorten(one.getKey()));
                check(seen.size() == bodies.size(), seen.size() + " bodies instead of " + bodies.size());
                return new ArrayList<>(messages);
            }
        }
    }

    /** An inbox for one queue at a time. */
    static final class Orderly implements MessageListenerOrderly {
        final Inbox inbox;
        Orderly(Inbox inbox) { this.inbox = inbox; }
        public ConsumeOrderlyStatus consumeMessage(List<MessageExt> batch, ConsumeOrderlyContext context) {
            inbox.add(batch);
            return ConsumeOrderlyStatus.SUCCESS;
        }
    }

    // ---- small things

    String group(String suffix) { return topic + "-" + suffix; }
    String instance() { return topic + "-" + clients++; }
    void closing(Action action) { closers.push(action); }

    public void close() {
        for (Action closer : closers) {
            try { closer.run(); } catch (Exception ignored) { /* a scenario may have closed it already */ }
        }
    }

    /** A body that carries its own checksum: `name:filler:crc32`. */
    static String body(String name, int filler) {
        StringBuilder text = new StringBuilder(name).append(':');
        Random random = new Random(name.hashCode());
        for (int i = 0; i < filler; i++) text.append((char) ('a' + random.nextInt(26)));
        return text + ":" + crc(text.toString());
    }

    static boolean intact(String body) {
        int colon = body.lastIndexOf(':');
        return colon > 0 && crc(body.substring(0, colon)).equals(body.substring(colon + 1));
    }

    static String crc(String text) {
        CRC32 crc = new CRC32();
        crc.update(bytes(text));
        return Long.toHexString(crc.getValue());
    }

    static byte[] bytes(String text) { return text.getBytes(java.nio.charset.StandardCharsets.UTF_8); }
    static String text(Message message) { return new String(message.getBody(), java.nio.charset.StandardCharsets.UTF_8); }
    static String shorten(String text) { return text.length() > 40 ? text.substring(0, 40) + "…" : text; }
    static long now() { return System.currentTimeMillis(); }
    static void check(boolean holds, String otherwise) throws Exception { if (!holds) throw new Exception(otherwise); }
}
