//! Operations on a store, power cuts and starts among them, against a model that remembers what was promised.

#![no_main]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use keelmq::{
    model::{BatchItem, LogOffset, Message},
    store::{AppendError, Appended, FlushMode, Get, GetStatus, MessageStore, StoreConfig, record},
};
use keelmq_fuzz::{World, image, input::Input};
use libfuzzer_sys::fuzz_target;

/// Operations of one run.
const OPERATIONS_MAX: usize = 200;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let mut world = World::new(input.byte().into());
    let mut config = image::store_config();
    config.flush = *input.pick(&[FlushMode::Sync, FlushMode::Async, FlushMode::Pooled]);
    config.segments_ahead = 1 + input.byte() as usize % 2;
    let tasks = world.tasks.clone();
    let mut run = Run { config, queues: BTreeMap::new(), number: 0 };
    let mut store = tasks.run(run.open(&mut world));
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        match input.byte() % 16 {
            0 => {
                tasks.run(async {
                    store.shutdown(Duration::from_secs(1)).await;
                    drop(store);
                });
                for queue in run.queues.values_mut() {
                    queue.safe = queue.messages.len();
                }
                store = tasks.run(run.open(&mut world));
            }
            1 => {
                world.kill();
                drop(store);
                store = tasks.run(run.open_after_crash(&mut world, run_survives_kill(&run.config)));
            }
            2 => {
                world.cut_power();
                drop(store);
                store = tasks.run(run.open_after_crash(&mut world, run.config.flush == FlushMode::Sync));
            }
            3 => {
                // A start that is cut off, and the next one.
                world.kill();
                drop(store);
                let survives = run_survives_kill(&run.config);
                let starting = world.boot();
                let config = run.config.clone();
                let cut_ms = u64::from(input.byte());
                let (clock, cut) = (world.tasks.clone(), Duration::from_micros(cut_ms * 10));
                tasks.run(async move {
                    let opened = keelmq::env::timeout(&clock, cut, MessageStore::open(&starting, config)).await;
                    drop(opened);
                });
                world.kill();
                store = tasks.run(run.open_after_crash(&mut world, survives));
            }
            4 => {
                let pause = Duration::from_millis(u64::from(input.u16()));
                tasks.run(tasks.sleep_for(pause));
            }
            5 => tasks.run(run.wait(&store)),
            6 => tasks.run(async { store.flush_all().await.expect("the disk is sound") }),
            7 => run.look(&store, &mut input),
            8 => tasks.run(run.find(&store, &mut input)),
            9 => tasks.run(run.batch(&store, &mut input)),
            10 => store.turn_end(),
            _ => tasks.run(run.put(&store, &mut input)),
        }
    }
    tasks.run(run.wait(&store));
    tasks.run(run.all_is_there(&store));
    world.kill();
});

/// Whether what was acknowledged outlives the process: not what still waits in the pool.
fn run_survives_kill(config: &StoreConfig) -> bool {
    config.flush != FlushMode::Pooled
}

#[derive(Default)]
struct Queue {
    /// What was appended, in order.
    messages: Vec<Kept>,
    /// So many of them were acknowledged, or made durable by other means.
    safe: usize,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Kept {
    body: Vec<u8>,
    key: Option<String>,
    offset: LogOffset,
    end: LogOffset,
    stored_ms: i64,
}

struct Run {
    config: StoreConfig,
    queues: BTreeMap<(&'static str, u32), Queue>,
    number: u32,
}

const TOPICS: [&str; 3] = ["A", "B", "SCHEDULE_TOPIC_XXXX"];

impl Run {
    async fn open(&mut self, world: &mut World) -> Arc<MessageStore> {
        let store = MessageStore::open(&world.boot(), self.config.clone()).await;
        let store = store.unwrap_or_else(|error| panic!("its own store is refused: {error}"));
        self.all_is_there(&store).await;
        store
    }

    /// What was not safe may be gone, from some message on.
    async fn open_after_crash(&mut self, world: &mut World, keeps_acknowledged: bool) -> Arc<MessageStore> {
        let store = MessageStore::open(&world.boot(), self.config.clone()).await;
        let store = store.unwrap_or_else(|error| panic!("its own store is refused: {error}"));
        let end = store.appended();
        for ((topic, id), queue) in &mut self.queues {
            let survived = store.max_offset(topic, *id).0 as usize;
            if keeps_acknowledged {
                assert!(survived >= queue.safe, "{topic} {id}: {} were acknowledged, {survived} are left", queue.safe);
            }
            assert!(survived <= queue.messages.len(), "{topic} {id}: {survived} of {}", queue.messages.len());
            queue.messages.truncate(survived);
            assert!(queue.messages.last().is_none_or(|last| last.end <= end), "{topic} {id}: beyond the log");
            queue.safe = survived;
        }
        self.all_is_there(&store).await;
        store
    }

    /// Whatever was appended is acknowledged now.
    async fn wait(&mut self, store: &MessageStore) {
        store.turn_end();
        let appended = store.appended();
        if self.config.flush == FlushMode::Pooled {
            store.flush_all().await.expect("the disk is sound");
        }
        store.promise().reached(appended.0).await.expect("the disk is sound");
        store.dispatched().reached(appended.0).await.expect("the disk is sound");
        for queue in self.queues.values_mut() {
            queue.safe = queue.messages.len();
        }
    }

    async fn all_is_there(&self, store: &Arc<MessageStore>) {
        let appended = store.appended();
        store.dispatched().reached(appended.0).await.expect("the disk is sound");
        let mut shown: BTreeMap<(String, u32), Vec<(u64, Vec<u8>)>> = BTreeMap::new();
        for one in image::shown(store) {
            let record::Scan::Record(found) = record::scan(&one.bytes, true) else { panic!("not a record: {one:?}") };
            assert_eq!((found.message.topic, found.message.queue_id), (&*one.topic, one.queue_id));
            let of_queue = shown.entry((one.topic, one.queue_id)).or_default();
            assert_eq!(found.queue_offset.0, of_queue.len() as u64, "queue offsets count");
            of_queue.push((one.log_offset, found.message.body.to_vec()));
        }
        for ((topic, id), queue) in &self.queues {
            let found = shown.remove(&(topic.to_string(), *id)).unwrap_or_default();
            let expect: Vec<_> = queue.messages.iter().map(|kept| (kept.offset.0, kept.body.clone())).collect();
            assert!(found == expect, "{topic} {id}: {} found, {} expected", found.len(), expect.len());
        }
        assert!(shown.is_empty(), "queues that nobody filled: {:?}", shown.keys());
    }

    fn keep(&mut self, topic: &'static str, id: u32, body: Vec<u8>, key: Option<String>, put: Appended) {
        let queue = self.queues.entry((topic, id)).or_default();
        assert_eq!(put.queue_offset.0 as usize, queue.messages.len(), "{topic} {id}");
        queue.messages.push(Kept { body, key, offset: put.offset, end: put.end, stored_ms: put.store_timestamp });
    }

    async fn put(&mut self, store: &Arc<MessageStore>, input: &mut Input<'_>) {
        let (topic, id) = (*input.pick(&TOPICS), u32::from(input.byte() % 2));
        self.number += 1;
        let length = match input.byte() % 4 {
            // What is left of the segment, more or less.
            0 => (self.config.segment_bytes - store.appended().0 % self.config.segment_bytes)
                .saturating_sub(91 + u64::from(input.byte() % 32)) as usize,
            1 => self.config.body_max_bytes as usize + usize::from(input.byte() % 3) - 1,
            _ => input.u16() as usize % 2_048,
        };
        let length = length.min(self.config.body_max_bytes as usize + 1);
        let mut body = vec![self.number as u8; length];
        let mark = self.number.to_be_bytes();
        let marked = mark.len().min(length);
        body[..marked].copy_from_slice(&mark[..marked]);
        let key = (input.byte() & 1 == 0).then(|| format!("k{}", input.byte() % 8));
        let properties = key.as_ref().map_or_else(String::new, |key| format!("KEYS\u{1}{key}\u{2}"));
        let message = image::message(topic, id, &body, properties.as_bytes());
        loop {
            match store.put(&message) {
                Ok(put) => return self.keep(topic, id, body, key, put),
                Err(AppendError::SegmentFull) => store.segment_ready().await.expect("there is space"),
                Err(AppendError::PoolExhausted) => store.flush_all().await.expect("the disk is sound"),
                Err(AppendError::BodyTooLarge { .. }) => return assert!(length as u64 > self.config.body_max_bytes),
                Err(error) => panic!("refused: {error}"),
            }
        }
    }

    async fn batch(&mut self, store: &Arc<MessageStore>, input: &mut Input<'_>) {
        let (topic, id) = ("B", u32::from(input.byte() % 2));
        let count = 1 + input.byte() % 8;
        let bodies: Vec<Vec<u8>> = (0..count).map(|at| vec![at; usize::from(input.byte())]).collect();
        let items: Vec<_> = bodies.iter().map(|body| BatchItem { flag: 0, body, properties: b"" }).collect();
        let shared: Message<'_> = image::message(topic, id, b"", b"");
        loop {
            let mut put = Vec::new();
            match store.put_batch(&shared, &items, |appended| put.push(appended)) {
                Ok(()) => {
                    assert_eq!(put.len(), items.len());
                    for (body, put) in bodies.iter().zip(put) {
                        self.keep(topic, id, body.clone(), None, put);
                    }
                    return;
                }
                Err(AppendError::SegmentFull) => store.segment_ready().await.expect("there is space"),
                Err(AppendError::PoolExhausted) => store.flush_all().await.expect("the disk is sound"),
                Err(AppendError::BodyTooLarge { .. }) => return,
                Err(error) => panic!("refused: {error}"),
            }
        }
    }

    /// One pull, from anywhere.
    fn look(&self, store: &MessageStore, input: &mut Input<'_>) {
        let (topic, id) = (*input.pick(&TOPICS), u32::from(input.byte() % 3));
        let offset = if input.byte() & 1 == 0 { i64::from(input.byte()) } else { input.number() as i64 };
        let (count_max, bytes_max) = (u32::from(input.byte()), input.number());
        let get = Get { topic, queue_id: id, offset, count_max, bytes_max, filter: None };
        let got = store.get(&get).expect("the disk is sound");
        let expect = match (got.max.0 as i64, offset) {
            (0, _) => GetStatus::NoMessageInQueue,
            (_, ..0) => GetStatus::OffsetTooSmall,
            (max, at) if at == max => GetStatus::OffsetOverflowOne,
            (max, at) if at > max => GetStatus::OffsetOverflowBadly,
            _ => GetStatus::Found,
        };
        assert_eq!(got.status, expect, "{get:?}");
        if expect != GetStatus::Found {
            return;
        }
        let queue = &self.queues[&(topic, id)];
        let mut at = offset as usize;
        for slice in &got.records {
            let mut rest = &slice[..];
            while let record::Scan::Record(found) = record::scan(rest, true) {
                assert_eq!(found.message.body, queue.messages[at].body);
                rest = &rest[found.size as usize..];
                at += 1;
            }
            assert!(rest.is_empty());
        }
        assert_eq!(got.next, at as i64);
        assert_eq!(got.count as i64, got.next - offset);
        assert!(got.count >= 1);
    }

    /// By key and by time.
    async fn find(&mut self, store: &MessageStore, input: &mut Input<'_>) {
        self.wait(store).await;
        let (topic, id) = (*input.pick(&TOPICS), u32::from(input.byte() % 2));
        let key = format!("k{}", input.byte() % 8);
        let max = 1 + input.byte() as usize;
        let found = store.query(topic, &key, max, 0, i64::MAX).expect("the disk is sound");
        let mut expect: Vec<_> = self
            .queues
            .iter()
            .filter(|((of, _), _)| *of == topic)
            .flat_map(|(_, queue)| &queue.messages)
            .filter(|kept| kept.key.as_ref() == Some(&key))
            .map(|kept| kept.offset)
            .collect();
        expect.sort();
        let found: Vec<_> = found
            .records
            .iter()
            .map(|bytes| match record::scan(bytes, true) {
                record::Scan::Record(found) => found.log_offset,
                other => panic!("no record: {other:?}"),
            })
            .collect();
        assert_eq!(found, expect[expect.len().saturating_sub(max)..], "key {key} of {topic}");

        let Some(queue) = self.queues.get(&(topic, id)) else { return };
        let times: Vec<i64> = queue.messages.iter().map(|kept| kept.stored_ms).collect();
        let Some(middle) = times.get(input.byte() as usize % times.len().max(1)) else { return };
        for time in [middle - 1, *middle, middle + 1, 0, i64::MAX] {
            let lower = store.offset_by_time(topic, id, time, true).expect("the disk is sound").0 as usize;
            assert_eq!(lower, times.iter().filter(|stored| **stored < time).count(), "first at or after {time}");
            let upper = store.offset_by_time(topic, id, time, false).expect("the disk is sound").0 as usize;
            assert_eq!(upper, times.iter().filter(|stored| **stored <= time).count().saturating_sub(1), "{time}");
        }
    }
}
