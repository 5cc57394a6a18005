//! Long polling: pulls that found nothing wait here for an arrival. Bookkeeping and a thin task; what a pull means and
//! how it is answered is the pull processor's.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    env::Clock,
    model::filter::Filter,
    protocol::command::Serialization,
    remoting::Channel,
    store::{Arrival, stop::Stopping},
};

/// Waiting pulls are looked through at least this often, for arrivals that no filter noticed.
pub const SCAN_INTERVAL: Duration = Duration::from_secs(5);

/// A pull that waits.
pub struct Held {
    pub channel: Arc<Channel>,
    pub opaque: i32,
    pub serialization: Serialization,
    pub code: i32,
    /// Monotonic time at which it was read.
    pub received: Duration,
    pub group: String,
    pub topic: String,
    pub queue_id: u32,
    pub offset: i64,
    pub count_max: u32,
    pub bytes_max: u64,
    pub filter: Option<Arc<Filter>>,
    /// Monotonic time at which it is answered, whatever there is.
    pub deadline: Duration,
}

pub struct Hold {
    held_max: usize,
    count: AtomicUsize,
    table: Mutex<Table>,
    changed: Notify,
}

#[derive(Default)]
struct Table {
    /// By topic, queue and the order of coming.
    waiting: BTreeMap<String, BTreeMap<u32, BTreeMap<u64, Held>>>,
    deadlines: BTreeMap<(Duration, u64), (String, u32)>,
    ready: Vec<Held>,
    next: u64,
}

impl Hold {
    pub fn new(held_max: usize) -> Self {
        Hold { held_max, count: AtomicUsize::new(0), table: Mutex::default(), changed: Notify::new() }
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Parks a pull. It is given back where there is no place, to be answered at once. The caller looks at the queue
    /// once more afterwards (`recheck`): a message may have come between its look and the parking.
    pub fn park(&self, held: Held) -> Result<(), Box<Held>> {
        let mut table = self.lock();
        if self.count() >= self.held_max {
            return Err(Box::new(held));
        }
        self.count.fetch_add(1, Ordering::SeqCst);
        table.next += 1;
        let id = table.next;
        let first = table.deadlines.first_key_value().map(|((deadline, _), _)| *deadline);
        table.deadlines.insert((held.deadline, id), (held.topic.clone(), held.queue_id));
        if first.is_none_or(|first| held.deadline < first) {
            self.changed.notify_one();
        }
        if !table.waiting.contains_key(&held.topic) {
            table.waiting.insert(held.topic.clone(), BTreeMap::new());
        }
        let queues = table.waiting.get_mut(&held.topic).expect("just put there");
        queues.entry(held.queue_id).or_default().insert(id, held);
        Ok(())
    }

    /// The queue's end is `max`: pulls below it are ready, whatever their filter.
    pub fn recheck(&self, topic: &str, queue_id: u32, max: i64) {
        self.release(topic, queue_id, |held| held.offset < max);
    }

    /// A message arrived: pulls that wait at or below it and want it are ready.
    pub fn arrived(&self, arrival: &Arrival<'_>) {
        if self.count.load(Ordering::SeqCst) == 0 || plant!(LongPollWakeUpLost) {
            return;
        }
        self.release(arrival.topic, arrival.queue_id, |held| {
            held.offset <= arrival.queue_offset.0 as i64
                && held.filter.as_ref().is_none_or(|filter| {
                    filter.may_match_tags_code(arrival.tags_code)
                        && (!filter.reads_properties() || filter.matches(arrival.properties))
                })
        });
    }

    /// The channel is gone and so are its pulls.
    pub fn channel_closed(&self, channel: u64) {
        if self.count() == 0 {
            return;
        }
        let mut table = self.lock();
        let topics: Vec<(String, u32)> = table
            .waiting
            .iter()
            .flat_map(|(topic, queues)| queues.keys().map(|queue| (topic.clone(), *queue)))
            .collect();
        for (topic, queue) in topics {
            drop(self.take(&mut table, &topic, queue, |held| held.channel.id() == channel));
        }
    }

    /// The task: hands pulls that are ready or overdue to `answer` until stopped. `max_of` tells a queue's end.
    pub async fn run(
        self: Arc<Self>,
        clock: Arc<dyn Clock>,
        mut stopping: Stopping,
        max_of: impl Fn(&str, u32) -> i64 + Send,
        answer: impl Fn(Held) + Send,
    ) {
        let mut scan_at = clock.monotonic() + SCAN_INTERVAL;
        loop {
            let now = clock.monotonic();
            if now >= scan_at {
                self.scan(&max_of);
                scan_at = now + SCAN_INTERVAL;
            }
            let (ready, next) = self.take_ready(now);
            ready.into_iter().for_each(&answer);
            // Nobody waits: no timer.
            let sleep = async {
                match next {
                    Some(next) => clock.sleep(next.min(scan_at).saturating_sub(now)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stopping.stopped() => break,
                () = self.changed.notified() => {}
                () = sleep => {}
            }
        }
        // What still waits is answered: a client that gets no answer waits for its time-out.
        let (rest, _) = self.take_ready(Duration::MAX);
        rest.into_iter().for_each(answer);
    }

    fn scan(&self, max_of: &impl Fn(&str, u32) -> i64) {
        let queues: Vec<(String, u32)> = {
            let table = self.lock();
            let topics = table.waiting.iter();
            topics.flat_map(|(topic, queues)| queues.keys().map(|queue| (topic.clone(), *queue))).collect()
        };
        for (topic, queue) in queues {
            self.recheck(&topic, queue, max_of(&topic, queue));
        }
    }

    fn take_ready(&self, now: Duration) -> (Vec<Held>, Option<Duration>) {
        let mut table = self.lock();
        let mut ready = std::mem::take(&mut table.ready);
        while let Some(((deadline, id), (topic, queue))) = table.deadlines.first_key_value() {
            if *deadline > now {
                break;
            }
            let (deadline, id, topic, queue) = (*deadline, *id, topic.clone(), *queue);
            table.deadlines.remove(&(deadline, id));
            let held = table.remove(&topic, queue, id).expect("whoever has a deadline waits");
            self.count.fetch_sub(1, Ordering::SeqCst);
            ready.push(held);
        }
        (ready, table.deadlines.first_key_value().map(|((deadline, _), _)| *deadline))
    }

    fn release(&self, topic: &str, queue_id: u32, is_ready: impl Fn(&Held) -> bool) {
        let mut table = self.lock();
        let ready = self.take(&mut table, topic, queue_id, is_ready);
        if !ready.is_empty() {
            table.ready.extend(ready);
            self.changed.notify_one();
        }
    }

    fn take(&self, table: &mut Table, topic: &str, queue_id: u32, is_taken: impl Fn(&Held) -> bool) -> Vec<Held> {
        let Some(waiting) = table.waiting.get(topic).and_then(|queues| queues.get(&queue_id)) else {
            return Vec::new();
        };
        let ids: Vec<u64> = waiting.iter().filter(|(_, held)| is_taken(held)).map(|(id, _)| *id).collect();
        let mut taken = Vec::with_capacity(ids.len());
        for id in ids {
            let held = table.remove(topic, queue_id, id).expect("just seen");
            table.deadlines.remove(&(held.deadline, id));
            self.count.fetch_sub(1, Ordering::SeqCst);
            taken.push(held);
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics while it is held")
    }
}

impl Table {
    fn remove(&mut self, topic: &str, queue_id: u32, id: u64) -> Option<Held> {
        let queues = self.waiting.get_mut(topic)?;
        let waiting = queues.get_mut(&queue_id)?;
        let held = waiting.remove(&id)?;
        if waiting.is_empty() {
            queues.remove(&queue_id);
            if queues.is_empty() {
                self.waiting.remove(topic);
            }
        }
        Some(held)
    }
}
