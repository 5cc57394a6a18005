package org.apache.rocketmq.test.base;

import org.apache.rocketmq.test.util.MQAdmin;
import org.junit.Assert;

/** Stands in for the suite's class of this name, which starts servers: this one makes topics, by way of mqadmin. */
public class IntegrationTestBase {
    private static final int QUEUES = 8;

    public static boolean initTopic(String topic, String namesrv, String cluster) {
        return initTopic(topic, namesrv, cluster, QUEUES);
    }

    public static boolean initTopic(String topic, String namesrv, String cluster, int queues) {
        long end = System.currentTimeMillis() + 30_000;
        while (!MQAdmin.createTopic(namesrv, cluster, topic, queues)) {
            if (System.currentTimeMillis() > end) {
                Assert.fail("topic " + topic + " cannot be made");
            }
        }
        return true;
    }
}
