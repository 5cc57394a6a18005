//! Queues locked by orderly consumers: while one client of a group holds a queue, no other of the group gets it.
//! (RebalanceLockManager; a lock that is not renewed within 60 s, queueLockLifeMs, is free again.)

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use crate::protocol::body::MessageQueue;

pub struct QueueLocks {
    locks: Mutex<BTreeMap<String, BTreeMap<MessageQueue, Lock>>>,
    locks_max: usize,
    /// rocketmq.broker.rebalance.lockMaxLiveTime
    life: Duration,
}

struct Lock {
    client: String,
    renewed: Duration,
}

impl Lock {
    fn is_expired(&self, now: Duration, life: Duration) -> bool {
        now.saturating_sub(self.renewed) > life && !plant!(LockNotExpired)
    }
}

impl QueueLocks {
    pub fn new(locks_max: usize, life: Duration) -> Self {
        QueueLocks { locks: Mutex::default(), locks_max, life }
    }

    /// Locks what is free or the client's already, and returns those.
    pub fn lock(&self, group: &str, client: &str, queues: &[MessageQueue], now: Duration) -> Vec<MessageQueue> {
        let mut groups = self.held();
        let mut free = self.locks_max.saturating_sub(groups.values().map(BTreeMap::len).sum());
        let locks = groups.entry(group.to_owned()).or_default();
        let mut locked = Vec::new();
        for queue in queues {
            match locks.get_mut(queue) {
                Some(lock) if lock.client == client => lock.renewed = now,
                Some(lock) if lock.is_expired(now, self.life) => {
                    *lock = Lock { client: client.to_owned(), renewed: now }
                }
                Some(_) => continue,
                None if free == 0 => continue,
                None => {
                    free -= 1;
                    locks.insert(queue.clone(), Lock { client: client.to_owned(), renewed: now });
                }
            }
            locked.push(queue.clone());
        }
        locked
    }

    pub fn unlock(&self, group: &str, client: &str, queues: &[MessageQueue]) {
        let mut groups = self.held();
        let Some(locks) = groups.get_mut(group) else { return };
        for queue in queues {
            if locks.get(queue).is_some_and(|lock| lock.client == client) && !plant!(LockTableSurvivesOwner) {
                locks.remove(queue);
            }
        }
        if locks.is_empty() {
            groups.remove(group);
        }
    }

    /// Forgets locks that expired long ago, so that the table does not grow with dead clients.
    pub fn sweep(&self, now: Duration) {
        let mut groups = self.held();
        groups.retain(|_, locks| {
            locks.retain(|_, lock| !lock.is_expired(now, self.life));
            !locks.is_empty()
        });
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, BTreeMap<MessageQueue, Lock>>> {
        self.locks.lock().expect("nothing panics while it is held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time_until_it_expires() {
        let locks = QueueLocks::new(100, Duration::from_secs(60));
        let queue = |id| MessageQueue { broker_name: "b".into(), queue_id: id, topic: "t".into() };
        let at = Duration::from_secs;
        assert_eq!(locks.lock("g", "one", &[queue(0), queue(1)], at(0)).len(), 2);
        assert_eq!(locks.lock("g", "two", &[queue(0), queue(2)], at(30)), [queue(2)]);
        assert_eq!(locks.lock("other", "two", &[queue(0)], at(30)), [queue(0)]);
        assert_eq!(locks.lock("g", "one", &[queue(0)], at(50)), [queue(0)]);
        assert_eq!(locks.lock("g", "two", &[queue(0), queue(1)], at(61)), [queue(1)]);
        locks.unlock("g", "two", &[queue(0)]);
        assert_eq!(locks.lock("g", "two", &[queue(0)], at(70)), []);
        locks.unlock("g", "one", &[queue(0)]);
        assert_eq!(locks.lock("g", "two", &[queue(0)], at(70)), [queue(0)]);
        locks.sweep(at(200));
        assert_eq!(locks.lock("g", "three", &[queue(0), queue(1)], at(200)).len(), 2);
    }
}
