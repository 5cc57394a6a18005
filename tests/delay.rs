//! Delayed messages over a real store: each comes once its time has come, in order, and a crash loses none.

// A test stands on the world's side of the doors.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use keelmq::{
    broker::{delay::Delay, topics::SCHEDULE_TOPIC},
    env::{BoxFuture, Clock, Env, Task},
    model::{LogOffset, Message, QueueOffset},
    os,
    store::{
        MessageStore, StoreConfig,
        config_file::ConfigWriter,
        record::{self, Scan},
        stop::Stop,
    },
};

/// The second level is never due in a test.
const DELAYS_MS: [i64; 2] = [100, 3_600_000];

struct World {
    store: Arc<MessageStore>,
    delay: Arc<Delay>,
    stop: Stop,
    tasks: Vec<Task>,
}

/// Everything that a broker starts for delayed messages.
async fn start(env: &Env, root: &Path) -> World {
    let config = StoreConfig { delay_levels_ms: DELAYS_MS.to_vec(), ..StoreConfig::tiny(root) };
    let store = MessageStore::open(env, config).await.unwrap();
    let writer = ConfigWriter::new(env.storage.clone(), env.clock.clone());
    let path = root.join("delayOffset.json");
    let level_max = |queue| store.max_offset(SCHEDULE_TOPIC, queue).0;
    let delay = Delay::load(&*env.storage, &env.clock, &writer, &path, &DELAYS_MS, level_max).unwrap();
    let told = delay.clone();
    store.on_arrival(Box::new(move |arrival| told.arrived(arrival)));
    let (stop, stopping) = Stop::new();
    let run = delay.clone().run(store.clone(), 1_000, stopping.clone());
    let tasks = vec![env.spawner.task("delay", run), env.spawner.task("writer", writer.run(stopping))];
    World { store, delay, stop, tasks }
}

impl World {
    /// As a broker stores what is sent with a delay.
    async fn put(&self, level: u32, number: usize) {
        let body = number.to_string();
        let properties = format!("DELAY\u{1}{level}\u{2}REAL_TOPIC\u{1}T\u{2}REAL_QID\u{1}3");
        let message = Message {
            topic: SCHEDULE_TOPIC,
            queue_id: level - 1,
            flag: 7,
            sys_flag: 1,
            born_timestamp: 5,
            born_host: "127.0.0.1:1".parse().unwrap(),
            store_host: "192.0.2.1:10911".parse().unwrap(),
            reconsume_times: 2,
            prepared_offset: 0,
            body: body.as_bytes(),
            properties: properties.as_bytes(),
        };
        self.store.put_kept(&message).await.unwrap();
    }

    /// Waits until `count` messages were delivered; their numbers in order of delivery.
    async fn delivered(&self, count: u64) -> Vec<usize> {
        let began = tokio::time::Instant::now();
        while self.store.max_offset("T", 3).0 < count {
            assert!(began.elapsed() < Duration::from_secs(30), "{} of {count}", self.store.max_offset("T", 3));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (waiting, real) = (self.records(SCHEDULE_TOPIC, 0), self.records("T", 3));
        for (number, stored_ms) in &real {
            let (_, taken_ms) = waiting.iter().find(|(waiting, _)| waiting == number).expect("it waited");
            assert!(
                stored_ms - taken_ms >= DELAYS_MS[0],
                "{number} came {} ms early",
                taken_ms + DELAYS_MS[0] - stored_ms
            );
        }
        real.into_iter().map(|(number, _)| number).collect()
    }

    /// Number and store time of each message of a queue.
    fn records(&self, topic: &str, queue_id: u32) -> Vec<(usize, i64)> {
        let Some(queue) = self.store.queues().find(topic, queue_id) else { return Vec::new() };
        let (mut at, mut all) = (queue.min(), Vec::new());
        while at < queue.max() {
            for unit in queue.units(at, 1_000).unwrap() {
                let bytes = self.store.record_at(LogOffset(unit.offset.0)).unwrap().expect("it is in the log");
                let Scan::Record(record) = record::scan(&bytes, true) else { panic!("no record") };
                let message = &record.message;
                assert_eq!((message.flag, message.sys_flag, message.reconsume_times), (7, 1, 2));
                assert_eq!((message.born_timestamp, message.store_host.to_string()), (5, "192.0.2.1:10911".into()));
                let number = str::from_utf8(message.body).unwrap().parse().unwrap();
                all.push((number, record.store_timestamp));
                at = QueueOffset(at.0 + 1);
            }
        }
        all
    }

    async fn keep_progress(&self) {
        assert!(self.delay.take_snapshot());
        self.store.flush_all().await.unwrap();
        self.delay.persist().await.unwrap();
        assert!(!self.delay.take_snapshot(), "nothing was delivered since");
    }

    async fn end(self) {
        self.stop.stop();
        for task in self.tasks {
            task.finished().await.unwrap();
        }
        self.store.shutdown(Duration::from_secs(5)).await;
    }
}

/// The system's clock, set back when told to.
struct SetBack {
    clock: Arc<dyn Clock>,
    by_ms: AtomicI64,
}

impl Clock for SetBack {
    fn wall_ms(&self) -> i64 {
        self.clock.wall_ms() - self.by_ms.load(Ordering::SeqCst)
    }

    fn utc_offset_s(&self, wall_ms: i64) -> i32 {
        self.clock.utc_offset_s(wall_ms)
    }

    fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }
}

/// After the wall clock was set back by an hour, every delayed message was delivered at once until it had caught up: the
/// log's time does not go back, so each seemed to be due an hour later than its delay allows.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_back_delivers_nothing_early_and_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let system = os::env(tokio::runtime::Handle::current());
    let clock = Arc::new(SetBack { clock: system.clock.clone(), by_ms: AtomicI64::new(0) });
    let env = Env { clock: clock.clone(), ..system };
    let world = start(&env, folder.path()).await;
    for (number, back_ms) in [(0, 0), (1, 3_600_000), (2, 7_200_000)] {
        world.put(1, number).await;
        let began = env.clock.monotonic();
        clock.by_ms.store(back_ms, Ordering::SeqCst);
        while world.store.max_offset("T", 3).0 <= number as u64 {
            assert!(env.clock.monotonic() - began < Duration::from_secs(10), "message {number} is held up");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waited = env.clock.monotonic() - began;
        assert!(waited > Duration::from_millis(DELAYS_MS[0] as u64 - 20), "message {number} came after {waited:?}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_in_time_in_order_and_again_after_lost_progress() {
    let folder = tempfile::tempdir().unwrap();
    let env = os::env(tokio::runtime::Handle::current());
    let world = start(&env, folder.path()).await;
    for number in 0..300 {
        world.put(1, number).await;
    }
    world.put(2, 1_000).await;
    assert_eq!(world.delivered(300).await, (0..300).collect::<Vec<_>>());
    assert_eq!(world.delay.offsets(), [(1, 300)].into());
    world.keep_progress().await;
    let file = std::fs::read_to_string(folder.path().join("delayOffset.json")).unwrap();
    assert_eq!(file.split_whitespace().collect::<String>(), r#"{"offsetTable":{1:300}}"#);
    for number in 300..320 {
        world.put(1, number).await;
    }
    world.delivered(320).await;
    // The progress of the last twenty is not kept: they come again.
    world.end().await;

    let world = start(&env, folder.path()).await;
    let all = world.delivered(340).await;
    assert_eq!(all, (0..320).chain(300..320).collect::<Vec<_>>());
    world.keep_progress().await;
    world.end().await;

    let world = start(&env, folder.path()).await;
    world.put(1, 320).await;
    assert_eq!(world.delivered(341).await.last(), Some(&320));
    assert_eq!(world.store.max_offset("T", 3), QueueOffset(341));
    world.end().await;
}
