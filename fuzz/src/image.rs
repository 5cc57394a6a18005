//! Directories as a start may find them: a sound store, and what the fuzzer makes of it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use keelmq::{
    broker,
    env::Env,
    model::{BatchItem, LogOffset, Message, QueueOffset},
    store::{MessageStore, StoreConfig, record},
};
use keelmq_sim::disk::Disk;

use crate::{World, input::Input};

pub const ROOT: &str = "/store";
/// One change more than this teaches nothing.
const CHANGES_MAX: usize = 64;
/// Files do not grow beyond it: the world is in memory.
const FILE_BYTES_MAX: u64 = 200_000;

pub type Image = Vec<(PathBuf, Vec<u8>)>;

/// The smallest store that rolls, with whatever has a bound brought within reach.
pub fn store_config() -> StoreConfig {
    StoreConfig {
        segment_bytes: 36 << 10,
        queue_file_bytes: 20 * 8,
        body_max_bytes: 2 << 10,
        index_slots: 8,
        index_entries: 16,
        queue_files_open_max: 2,
        upkeep_behind_bytes: 24 << 10,
        check_behind_bytes: 20 << 10,
        ..StoreConfig::tiny(Path::new(ROOT))
    }
}

pub fn broker_config() -> broker::config::Config {
    let (store, mut config) = (store_config(), broker::config::Config::tiny());
    config.store_path_root_dir = ROOT.into();
    config.mapped_file_size_commit_log_bytes = store.segment_bytes;
    config.mapped_file_size_consume_queue_bytes = store.queue_file_bytes;
    config.max_message_size_bytes = store.body_max_bytes as u32;
    config.max_hash_slot_num = store.index_slots;
    config.max_index_num = store.index_entries;
    config.check_behind_bytes = store.check_behind_bytes;
    config.upkeep_behind_max_bytes = store.upkeep_behind_bytes;
    config
}

pub fn message<'a>(topic: &'a str, queue_id: u32, body: &'a [u8], properties: &'a [u8]) -> Message<'a> {
    Message {
        topic,
        queue_id,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: "127.0.0.1:1".parse().expect("an address"),
        store_host: "127.0.0.1:10911".parse().expect("an address"),
        reconsume_times: 0,
        prepared_offset: 0,
        body,
        properties,
    }
}

/// A store of three segments with every kind of record, as a kill leaves it and after a stop in order.
static SOUND: LazyLock<[Image; 2]> = LazyLock::new(|| {
    [false, true].map(|stops| {
        let mut world = World::new(1);
        let env = world.boot();
        let tasks = world.tasks.clone();
        tasks.run(fill(env, stops));
        let image = of_disk(&world.disk.lock().expect("nothing panics while it is held"));
        world.kill();
        image
    })
});

async fn fill(env: Env, stops: bool) {
    let broker = broker::start(env, broker_config(), None).await.expect("an empty directory is no obstacle");
    let store = broker.core().store.clone();
    let long_topic = "L".repeat(200);
    for number in 0..60_u32 {
        let body = vec![number as u8; (number * 97 % 2_000) as usize];
        let properties = format!("TAGS\u{1}T{}\u{2}KEYS\u{1}k{number} k\u{2}UNIQ_KEY\u{1}u{number}\u{2}", number % 3);
        let schedule = format!("{properties}DELAY\u{1}3\u{2}REAL_TOPIC\u{1}A\u{2}REAL_QID\u{1}1\u{2}");
        let v6 = Message { born_host: "[2001:db8::1]:9".parse().expect("an address"), ..message("A", 1, &body, b"") };
        let put = match number % 6 {
            0 => message(&long_topic, 0, &body, properties.as_bytes()),
            1 => v6,
            2 => message("SCHEDULE_TOPIC_XXXX", 2, &body, schedule.as_bytes()),
            _ => message("A", number % 2, &body, properties.as_bytes()),
        };
        store.put_kept(&put).await.expect("there is room");
    }
    let items = [
        BatchItem { flag: 0, body: b"one", properties: b"" },
        BatchItem { flag: 1, body: b"two", properties: b"KEYS\x01b" },
    ];
    store.put_batch(&message("A", 0, b"", b""), &items, |_| ()).expect("there is room");
    store.flush_all().await.expect("the disk is sound");
    if stops {
        broker.shutdown(Duration::from_secs(1)).await;
    } else {
        // Upkeep has written what it writes from time to time.
        broker.core().env.clock.sleep(Duration::from_secs(15)).await;
    }
}

fn of_disk(disk: &Disk) -> Image {
    disk.files().map(|path| (path.clone(), disk.peek(&path).expect("the disk lists it"))).collect()
}

/// What stands in the directory.
pub fn store(world: &World, image: &Image) {
    let mut disk = world.disk.lock().expect("nothing panics while it is held");
    disk.create_dir_all(Path::new(ROOT)).expect("an empty disk");
    for (path, bytes) in image {
        let parent = path.parent().expect("every file lies in a directory");
        if disk.create_dir_all(parent).is_err() || disk.node(path).is_some() {
            continue;
        }
        if let Ok(inode) = disk.create_sparse(path, bytes.len() as u64, 0) {
            disk.write(inode, 0, &[bytes], 0).expect("the disk is sound");
        }
    }
}

/// Whether log and queues hold nothing but what a store wrote: files may be missing, cut short or end in zeros.
pub fn is_whole(image: &Image) -> bool {
    let is_of_a_store = |path: &Path, bytes: &[u8]| {
        SOUND.iter().flatten().any(|(name, sound)| {
            let (head, rest) = bytes.split_at(bytes.len().min(sound.len()));
            let same = head.iter().zip(sound).take_while(|(one, other)| one == other).count();
            name == path && head[same..].iter().chain(rest).all(|byte| *byte == 0)
        })
    };
    let holds =
        |path: &Path| ["commitlog", "consumequeue"].iter().any(|name| path.starts_with(Path::new(ROOT).join(name)));
    image.iter().filter(|(path, _)| holds(path)).all(|(path, bytes)| is_of_a_store(path, bytes))
}

/// Puts together a directory as the fuzzer wants it.
pub fn decode(input: &mut Input<'_>) -> Image {
    let mut image = match input.byte() % 4 {
        0 => Image::new(),
        1 => SOUND[0].clone(),
        _ => SOUND[1].clone(),
    };
    for _ in 0..CHANGES_MAX {
        if input.is_empty() {
            break;
        }
        change(input, &mut image);
    }
    // A name stands for one file.
    let mut named = BTreeSet::new();
    image.retain(|(path, _)| named.insert(path.clone()));
    image
}

fn change(input: &mut Input<'_>, image: &mut Image) {
    let kind = input.byte() % 12;
    if kind == 0 || image.is_empty() {
        let path = name(input);
        let bytes = input.some().to_vec();
        image.retain(|(other, _)| *other != path);
        image.push((path, bytes));
        return;
    }
    let at = input.below(image.len());
    let (path, bytes) = &mut image[at];
    let place = (input.number() % FILE_BYTES_MAX) as usize;
    match kind {
        1 => overwrite(bytes, place, input.some()),
        2 => bytes.resize(place, 0),
        3 => drop(image.remove(at)),
        4 => *path = name(input),
        5 => {
            let copy = (name(input), bytes.clone());
            image.push(copy);
        }
        6 | 7 => {
            let record = any_record(input, path, place as u64);
            overwrite(bytes, place, &record);
        }
        8 => {
            let count = input.u16() as usize;
            overwrite(bytes, place, &vec![0; count]);
        }
        9 => {
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= 1 << (input.byte() & 7);
            }
        }
        10 => overwrite(bytes, place, &input.number().to_be_bytes()),
        _ => {
            let slot = watermark(input, bytes);
            overwrite(bytes, *input.pick(&[1_024, 2_048]), &slot);
        }
    }
}

fn overwrite(bytes: &mut Vec<u8>, at: usize, with: &[u8]) {
    let end = at + with.len();
    if end as u64 > FILE_BYTES_MAX {
        return;
    }
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(with);
}

/// A name that means something to a store, or none.
fn name(input: &mut Input<'_>) -> PathBuf {
    let root = Path::new(ROOT);
    let base = |input: &mut Input<'_>| match input.byte() % 4 {
        0 => u64::from(input.byte()) * 160,
        1 => u64::from(input.byte()) * (36 << 10),
        2 => input.number(),
        _ => u64::from(input.u16()),
    };
    let plain = |text: String| {
        if text.is_empty() || text.contains(['/', '\0']) || text == "." || text == ".." { "x".into() } else { text }
    };
    match input.byte() % 9 {
        0 => root.join("commitlog").join(format!("{:020}", base(input))),
        1 => {
            let topic = plain(input.text());
            root.join("consumequeue").join(topic).join(input.byte().to_string()).join(format!("{:020}", base(input)))
        }
        2 => root.join("consumequeue/A/0").join(format!("{:020}", base(input))),
        3 => root.join("index").join(format!("{:017}", base(input))),
        4 => root.join("checkpoint"),
        5 => root.join("abort"),
        6 => {
            let names = ["topics", "subscriptionGroup", "consumerOffset", "delayOffset", "consumerFilter"];
            let ending = *input.pick(&[".json", ".json.bak", ".json.tmp"]);
            root.join("config").join(format!("{}{ending}", input.pick(&names)))
        }
        7 => root.join(plain(input.text())),
        _ => root.join("commitlog").join(plain(input.text())),
    }
}

/// A record whose checksum and lengths are right, wherever it claims to be.
fn any_record(input: &mut Input<'_>, path: &Path, place: u64) -> Vec<u8> {
    let segment: u64 = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok()).unwrap_or(0);
    let flags = input.byte();
    let topic = match flags % 4 {
        0 => "A".to_owned(),
        1 => "SCHEDULE_TOPIC_XXXX".to_owned(),
        _ => input.text(),
    };
    let topic = if topic.is_empty() { "T".to_owned() } else { topic.chars().take(60).collect() };
    let offset = if flags & 4 == 0 { segment.wrapping_add(place) } else { input.number() };
    let queue_offset = if flags & 8 == 0 { u64::from(input.byte()) } else { input.number() };
    let queue_id = if flags & 16 == 0 { u32::from(input.byte() % 4) } else { input.number() as u32 };
    let timestamp = if flags & 32 == 0 { 1_700_000_000_000 } else { input.number() as i64 };
    let properties = input.some();
    let body = input.some();
    let mut message = message(&topic, queue_id, body, properties);
    if flags & 64 != 0 {
        message.born_host = "[::1]:1".parse().expect("an address");
        message.sys_flag = input.byte().into();
    }
    let mut bytes = Vec::new();
    record::encode(
        &message,
        record::body_crc(body),
        QueueOffset(queue_offset),
        LogOffset(offset),
        timestamp,
        &mut bytes,
    );
    bytes
}

/// One of the two places in which the checkpoint keeps our watermark, with a checksum that is right.
fn watermark(input: &mut Input<'_>, checkpoint: &[u8]) -> Vec<u8> {
    let mut slot = b"KEEL".to_vec();
    for _ in 0..4 {
        slot.extend_from_slice(&input.number().to_be_bytes());
    }
    slot.extend_from_slice(checkpoint.first_chunk::<8>().unwrap_or(&[0; 8]));
    slot.extend_from_slice(&crc(&slot).to_be_bytes());
    slot
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 0 { crc >> 1 } else { crc >> 1 ^ 0xEDB8_8320 })
    })
}

/// Everything that consumers of the store are shown.
pub fn shown(store: &Arc<MessageStore>) -> Vec<Shown> {
    let mut all = Vec::new();
    for queue in store.queues().all() {
        let mut offset = queue.min().0 as i64;
        // A queue may be damaged and still be served: what is wrong with it is an error, not an answer.
        while (offset as u64) < queue.max().0 {
            let get = keelmq::store::Get {
                topic: &queue.topic,
                queue_id: queue.id,
                offset,
                count_max: 32,
                bytes_max: u64::MAX,
                filter: None,
            };
            let Ok(got) = store.get(&get) else {
                offset += 1;
                continue;
            };
            assert!(
                got.next > offset || got.records.is_empty(),
                "no way on from {offset} of {} {}",
                queue.topic,
                queue.id
            );
            for slice in &got.records {
                let mut rest = &slice[..];
                while !rest.is_empty() {
                    let (size, _) = record::peek(rest).expect("whole records");
                    let (bytes, behind) = rest.split_at(size as usize);
                    let log_offset = record::peek_log_offset(bytes).expect("a record").0;
                    rest = behind;
                    all.push(Shown {
                        topic: queue.topic.to_string(),
                        queue_id: queue.id,
                        log_offset,
                        bytes: bytes.to_vec(),
                    });
                }
            }
            offset = got.next.max(offset + 1);
        }
    }
    all
}

#[derive(Clone, PartialEq, Eq)]
pub struct Shown {
    pub topic: String,
    pub queue_id: u32,
    pub log_offset: u64,
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {} in {}/{}", self.bytes.len(), self.log_offset, self.topic, self.queue_id)
    }
}
