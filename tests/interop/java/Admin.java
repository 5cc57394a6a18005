// One JVM that plays many mqadmin commands and, for those that concern live clients, a consumer. Lines of tab-separated
// words come on stdin; what a command prints comes back, closed by a line that begins with "=== ". Knows no broker.

import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageQueue;
import org.apache.rocketmq.tools.command.MQAdminStartup;

public final class Admin {
    static final long COMMAND_LIMIT_S = 60;
    static final PrintStream OUT = System.out;
    static final Map<String, DefaultMQPushConsumer> CONSUMERS = new ConcurrentHashMap<>();
    static final Map<String, AtomicInteger> CONSUMED = new ConcurrentHashMap<>();
    static DefaultMQProducer producer;

    public static void main(String[] arguments) throws Exception {
        String namesrv = arguments[0];
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        ExecutorService pool = Executors.newCachedThreadPool(task -> {
            Thread thread = new Thread(task);
            thread.setDaemon(true);
            return thread;
        });
        for (String line; (line = lines.readLine()) != null; ) {
            String[] words = line.split("\t");
            ByteArrayOutputStream said = new ByteArrayOutputStream();
            PrintStream capture = new PrintStream(said, true, "UTF-8");
            System.setOut(capture);
            System.setErr(capture);
            String end = "done";
            try {
                pool.submit(() -> { play(namesrv, words); return null; }).get(COMMAND_LIMIT_S, TimeUnit.SECONDS);
            } catch (TimeoutException e) {
                end = "not done after " + COMMAND_LIMIT_S + " s";
            } catch (ExecutionException e) {
                e.getCause().printStackTrace(capture);
            }
            OUT.print(said.toString("UTF-8"));
            OUT.println("\n=== " + end);
            OUT.flush();
        }
        System.exit(0);
    }

    static void play(String namesrv, String[] words) throws Exception {
        switch (words[0]) {
            case "@produce": // TOPIC GROUP COUNT QUEUE; the producer stays
                if (producer == null) {
                    producer = new DefaultMQProducer(words[2]);
                    producer.setNamesrvAddr(namesrv);
                    producer.setInstanceName("mqadmin-producer");
                    producer.setSendMsgTimeout(15_000);
                    producer.start();
                }
                for (int i = 0; i < Integer.parseInt(words[3]); i++) {
                    Message message = new Message(words[1], "TagP", "produced-" + i, ("body " + i).getBytes(StandardCharsets.UTF_8));
                    producer.send(message, (queues, m, id) -> {
                        for (MessageQueue queue : queues) if (queue.getQueueId() == (Integer) id) return queue;
                        return queues.get(0);
                    }, Integer.parseInt(words[4]));
                }
                System.out.println("sent");
                break;
            case "@consume": { // GROUP TOPIC
                DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(words[1]);
                consumer.setNamesrvAddr(namesrv);
                consumer.setInstanceName("mqadmin-consumer");
                consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
                consumer.setPersistConsumerOffsetInterval(500);
                consumer.subscribe(words[2], "*");
                AtomicInteger consumed = CONSUMED.computeIfAbsent(words[1], group -> new AtomicInteger());
                consumer.registerMessageListener((org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently) (messages, context) -> {
                    consumed.addAndGet(messages.size());
                    return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
                });
                consumer.start();
                CONSUMERS.put(words[1], consumer);
                System.out.println("consumes");
                break;
            }
            case "@await": { // GROUP COUNT: waits until that many messages came since the last time
                AtomicInteger consumed = CONSUMED.get(words[1]);
                int count = Integer.parseInt(words[2]);
                for (long end = System.nanoTime() + 50_000_000_000L; consumed.get() < count && System.nanoTime() < end; ) Thread.sleep(50);
                System.out.println("consumed " + consumed.getAndSet(0));
                break;
            }
            case "@client": // GROUP: the id of its consumer
                System.out.println("client " + CONSUMERS.get(words[1]).getDefaultMQPushConsumerImpl().getmQClientFactory().getClientId());
                break;
            case "@leave": // GROUP
                CONSUMERS.remove(words[1]).shutdown();
                System.out.println("left");
                break;
            default:
                MQAdminStartup.main0(words, null);
        }
    }
}
