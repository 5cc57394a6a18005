//! Index files on a real disk: Java's read, ours in Java's layout, and every question answered as a plain list would.

// A test stands on the world's side of the doors.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use keelmq::{
    env::{BoxFuture, Clock, Storage},
    model::{LogOffset, Message, QueueOffset, message::sys_flag},
    os,
    store::{
        index::{Index, Trust},
        index_file::{KeyHash, Shape},
        record::Record,
    },
};
use proptest::prelude::*;

const GOLDEN: Shape = Shape { slots: 50, entries: 40 };
const TINY: Shape = Shape { slots: 7, entries: 12 };

/// A clock that stands still: every file of a test is made in one millisecond.
struct Still;

impl Clock for Still {
    fn wall_ms(&self) -> i64 {
        1_700_000_000_999
    }
    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
    fn sleep(&self, _: std::time::Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }
    fn utc_offset_s(&self, _: i64) -> i32 {
        3_600
    }
}

fn storage() -> Arc<dyn Storage> {
    os::env(tokio::runtime::Handle::current()).storage
}

fn open(directory: &Path, shape: Shape, trust: Trust) -> Arc<Index> {
    Index::open(storage(), Arc::new(Still), directory, shape, trust).unwrap()
}

fn put(index: &Index, topic: &str, offset: u64, timestamp: i64, properties: &str, flags: i32) {
    let message = Message {
        topic,
        queue_id: 0,
        flag: 0,
        sys_flag: flags,
        born_timestamp: 1,
        born_host: "127.0.0.1:1".parse().unwrap(),
        store_host: "127.0.0.1:10911".parse().unwrap(),
        reconsume_times: 0,
        prepared_offset: 0,
        body: b"",
        properties: properties.as_bytes(),
    };
    let record = Record {
        size: 100,
        queue_offset: QueueOffset(0),
        log_offset: LogOffset(offset),
        store_timestamp: timestamp,
        message,
    };
    index.put(&record).unwrap();
}

fn keys(keys: &str) -> String {
    format!("KEYS\u{1}{keys}\u{2}TAGS\u{1}TagA\u{2}")
}

fn find(index: &Index, topic: &str, key: &str) -> Vec<u64> {
    offsets(index, topic, key, 0, i64::MAX, 64)
}

fn offsets(index: &Index, topic: &str, key: &str, begin: i64, end: i64, max: usize) -> Vec<u64> {
    index.query(topic, key, begin, end, max).unwrap().offsets.iter().map(|offset| offset.0).collect()
}

/// What Java was sent: log offset, topic, unique id, keys.
fn sent() -> Vec<(u64, String, String, String)> {
    let text = std::fs::read_to_string("tests/golden/index/sent.tsv").unwrap();
    let line = |line: &str| {
        let parts: Vec<&str> = line.split('\t').collect();
        (parts[0].parse().unwrap(), parts[1].to_owned(), parts[2].to_owned(), parts[3].to_owned())
    };
    text.lines().map(line).collect()
}

fn golden(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("tests/golden/index").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".tsv") {
            std::fs::copy(Path::new("tests/golden/index").join(&name), folder.join(&name)).unwrap();
            names.push(name);
        }
    }
    names.sort();
    names
}

/// Every key of every message sent leads to it.
fn check_sent(index: &Index, below: u64) {
    let mut expect: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    for (offset, topic, unique, keys) in sent().into_iter().filter(|line| line.0 < below) {
        for key in std::iter::once(unique.as_str()).chain(keys.split(' ').filter(|key| !key.is_empty())) {
            expect.entry((topic.clone(), key.to_owned())).or_default().insert(0, offset);
        }
    }
    for ((topic, key), expect) in expect {
        assert_eq!(find(index, &topic, &key), expect, "{topic} {key}");
    }
}

#[tokio::test]
async fn an_index_of_javas_is_read_and_continued() {
    for trust in [Trust::All, Trust::Perhaps(LogOffset(u64::MAX))] {
        let folder = tempfile::tempdir().unwrap();
        let names = golden(folder.path());
        let index = open(folder.path(), GOLDEN, trust);
        check_sent(&index, u64::MAX);
        assert_eq!(index.query("IndexA", "x", 0, i64::MAX, 1).unwrap().last_update_offset, LogOffset(5_607));
        assert_eq!(find(&index, "IndexA", "order-1"), [0u64; 0], "of another topic");
        assert_eq!(offsets(&index, "IndexA", "shared", 0, i64::MAX, 2), [5_374, 5_374]);
        assert_eq!(offsets(&index, "IndexA", "shared", 0, 1_000, 64), [0u64; 0]);
        // A record that is there already is not entered again; the next one is.
        let (offset, topic, _, text) = sent().pop().unwrap();
        put(&index, &topic, offset, 1, &keys(&text), 0);
        put(&index, "IndexA", 6_000, 1_795_258_600_000, &keys("fresh"), 0);
        check_sent(&index, u64::MAX);
        index.sync(true, LogOffset(7_000)).await.unwrap();
        drop(index);
        let again = open(folder.path(), GOLDEN, Trust::All);
        assert_eq!(find(&again, "IndexA", "fresh"), [6_000]);
        check_sent(&again, u64::MAX);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), names.len());
    }
}

#[tokio::test]
async fn what_we_write_is_what_java_writes() {
    // The golden messages entered by us, with the times of Java's entries, give Java's files byte for byte.
    let (java, ours) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let names = golden(java.path());
    let mut times = BTreeMap::new();
    for name in &names {
        let bytes = std::fs::read(java.path().join(name)).unwrap();
        let long = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        let count = i32::from_be_bytes(bytes[36..40].try_into().unwrap()) as usize;
        for entry in 1..count {
            let at = 40 + 4 * 50 + 20 * entry;
            let seconds = i32::from_be_bytes(bytes[at + 12..at + 16].try_into().unwrap());
            // The first file ends within a message: its time is that of the first entry of the second.
            times.entry(long(at + 4) as u64).or_insert(long(0) + i64::from(seconds) * 1_000);
        }
        times.insert(long(16) as u64, long(0));
        times.insert(long(24) as u64, long(8));
    }
    let index = open(ours.path(), GOLDEN, Trust::All);
    for (offset, topic, unique, keys) in sent() {
        let properties = format!("KEYS\u{1}{keys}\u{2}UNIQ_KEY\u{1}{unique}\u{2}CLUSTER\u{1}DefaultCluster");
        put(&index, &topic, offset, times[&offset], &properties, 0);
    }
    index.sync(true, LogOffset(7_000)).await.unwrap();
    let mut mine: Vec<_> = std::fs::read_dir(ours.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    mine.sort();
    assert_eq!(mine.len(), names.len());
    for (name, mine) in names.iter().zip(mine) {
        let (mut java, ours) = (std::fs::read(java.path().join(name)).unwrap(), std::fs::read(mine).unwrap());
        // Of the last message of the first file only Java knows the millisecond.
        java[8..16].copy_from_slice(&ours[8..16]);
        assert_eq!(java, ours, "{name}");
    }
}

#[tokio::test]
async fn files_are_named_in_order_by_local_time() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path(), TINY, Trust::All);
    for number in 0..40 {
        put(&index, "T", number * 100, number as i64, &keys("k"), 0);
    }
    let mut names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["20231114231320999", "20231114231321000", "20231114231321001", "20231114231321002"]);
}

#[tokio::test]
async fn which_keys_are_entered() {
    let check = |properties: &str, flags: i32, expect: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let index = open(folder.path(), Shape { slots: 1_000, entries: 100 }, Trust::All);
        put(&index, "T", 5, 1, properties, flags);
        for key in ["a", "b", "ab", "a b", "TagA", "u", ""] {
            let expect: &[u64] = if expect.contains(&key) { &[5] } else { &[] };
            assert_eq!(find(&index, "T", key), expect, "{properties:?}: {key:?}");
        }
    };
    check("", 0, &[]);
    check("TAGS\u{1}TagA\u{2}", 0, &[]);
    check("KEYS\u{1}a\u{2}", 0, &["a"]);
    check("KEYS\u{1}a  b \u{2}UNIQ_KEY\u{1}u", 0, &["a", "b", "u"]);
    check("KEYS\u{1}b\u{2}KEYS\u{1}a", 0, &["a"]);
    check("KEYS\u{1}\u{2}MYKEYS\u{1}a\u{2}", 0, &[]);
    check("KEYS\u{1}a", sys_flag::TRANSACTION_PREPARED, &["a"]);
    check("KEYS\u{1}a", sys_flag::TRANSACTION_COMMIT, &["a"]);
    check("KEYS\u{1}a", sys_flag::TRANSACTION_ROLLBACK, &[]);
}

#[tokio::test]
async fn an_index_of_another_shape_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    golden(folder.path());
    let error = Index::open(storage(), Arc::new(Still), folder.path(), TINY, Trust::All).err().unwrap();
    assert!(error.to_string().contains("maxHashSlotNum=7"), "{error}");
}

#[tokio::test]
async fn a_query_keeps_to_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path(), TINY, Trust::All);
    for number in 0..30u64 {
        put(&index, "T", number * 10, 10_000 + number as i64 * 1_000, &keys("k"), 0);
    }
    let check = |begin: i64, end: i64, max: usize, expect: &[u64]| {
        assert_eq!(offsets(&index, "T", "k", begin, end, max), expect, "{begin}..={end}, {max}");
    };
    check(0, i64::MAX, 3, &[290, 280, 270]);
    check(12_000, 14_000, 64, &[40, 30, 20]);
    check(12_001, 13_999, 64, &[30]);
    check(0, 9_999, 64, &[]);
    check(50_000, i64::MAX, 64, &[]);
    check(0, 11_000, 1, &[10]);
    check(0, i64::MAX, 0, &[]);
    index.log_begins_at(LogOffset(200)).unwrap();
}

proptest! {
    #[test]
    fn hashes_are_javas(parts in proptest::collection::vec(".{0,9}", 0..4)) {
        let hash = parts.iter().fold(KeyHash::default(), |hash, part| hash.and(part)).finish();
        let java = keelmq::model::properties::java_hash(&parts.concat());
        prop_assert_eq!(hash, if java == i32::MIN { 0 } else { java.unsigned_abs() });
    }
}

/// What may happen to an index.
#[derive(Debug, Clone)]
enum Step {
    Put {
        keys: Vec<u8>,
        gap: u8,
    },
    Sync,
    /// The checkpoint moves to what the index says.
    Upkeep {
        thorough: bool,
    },
    Reopen,
    /// A kill: what was entered behind the checkpoint is entered again, if the log still has it.
    Kill {
        lost: u8,
    },
    Truncate {
        lost: u8,
    },
    Begin {
        at: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (proptest::collection::vec(0..20u8, 0..4), 1..40u8).prop_map(|(keys, gap)| Step::Put { keys, gap }),
        1 => Just(Step::Sync),
        2 => any::<bool>().prop_map(|thorough| Step::Upkeep { thorough }),
        1 => Just(Step::Reopen),
        2 => (0..6u8).prop_map(|lost| Step::Kill { lost }),
        1 => (0..6u8).prop_map(|lost| Step::Truncate { lost }),
        1 => any::<u8>().prop_map(|at| Step::Begin { at }),
    ]
}

/// A plain list of what the log has: offset, time, keys.
type Log = Vec<(u64, i64, Vec<u8>)>;

fn enter(index: &Index, (offset, timestamp, names): &(u64, i64, Vec<u8>)) {
    let names: Vec<String> = names.iter().map(|name| format!("k{name}")).collect();
    put(index, "T", *offset, *timestamp, &keys(&names.join(" ")), 0);
}

/// With so many slots and such keys no two hashes are equal, so the answers are exact.
fn check_all(index: &Index, log: &Log, begin: u64, when: &str) {
    for key in 0..20u8 {
        let expect: Vec<u64> = log
            .iter()
            .rev()
            .filter(|line| line.0 >= begin)
            .flat_map(|(offset, _, keys)| keys.iter().filter(|name| **name == key).map(|_| *offset))
            .collect();
        let mut found = offsets(index, "T", &format!("k{key}"), 0, i64::MAX, 10_000);
        found.retain(|offset| *offset >= begin);
        assert_eq!(found, expect, "k{key} {when}");
    }
}

async fn live(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let mut index = open(folder.path(), TINY, Trust::All);
    let (mut log, mut end, mut begin, mut derived): (Log, u64, u64, u64) = (Vec::new(), 0, 0, 0);
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Put { keys, gap } => {
                log.push((end, end as i64 * 100, keys.clone()));
                enter(&index, log.last().unwrap());
                end += u64::from(*gap);
            }
            Step::Sync => drop(index.sync(true, LogOffset(end)).await.unwrap()),
            Step::Upkeep { thorough } => {
                derived = derived.max(index.sync(*thorough, LogOffset(end)).await.unwrap().0);
                assert!(!thorough || derived == end);
            }
            Step::Reopen => {
                derived = index.sync(true, LogOffset(end)).await.unwrap().0;
                index = open(folder.path(), TINY, Trust::All);
            }
            Step::Kill { lost } => {
                for _ in 0..*lost {
                    if log.last().is_some_and(|last| last.0 >= derived) {
                        end = log.pop().unwrap().0;
                    }
                }
                index = open(folder.path(), TINY, Trust::Below(LogOffset(derived)));
                log.iter().filter(|line| line.0 >= derived).for_each(|line| enter(&index, line));
                index.truncate(LogOffset(end)).unwrap();
            }
            Step::Truncate { lost } => {
                for _ in 0..*lost {
                    end = log.pop().map_or(end, |line| line.0);
                }
                derived = derived.min(end);
                index.truncate(LogOffset(end)).unwrap();
            }
            Step::Begin { at } => {
                begin = begin.max(end * u64::from(*at) / 255);
                index.log_begins_at(LogOffset(begin)).unwrap();
            }
        }
        check_all(&index, &log, begin, &format!("after step {number} {step:?}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn an_index_answers_as_a_list_would(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(live(steps));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_finds_messages_by_key_after_any_end() {
    use keelmq::store::{MessageStore, StoreConfig, record};

    let (folder, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let world = os::env(tokio::runtime::Handle::current());
    let mut root = folder.path().to_owned();
    for round in 0..4u32 {
        let store = MessageStore::open(&world, StoreConfig::tiny(&root)).await.unwrap();
        for number in 0..300u32 {
            let properties = keys(&format!("n{} r{round}", round * 300 + number));
            let message = Message {
                topic: "T",
                queue_id: 0,
                flag: 0,
                sys_flag: 0,
                born_timestamp: 1,
                born_host: "127.0.0.1:1".parse().unwrap(),
                store_host: "127.0.0.1:10911".parse().unwrap(),
                reconsume_times: 0,
                prepared_offset: 0,
                body: &[7; 300],
                properties: properties.as_bytes(),
            };
            store.put_kept(&message).await.unwrap();
        }
        store.dispatched().reached(store.appended().0).await.unwrap();
        for number in 0..(round + 1) * 300 {
            let key = format!("n{number}");
            let queried = store.query("T", &key, 64, 0, i64::MAX).unwrap();
            // Strangers of the same hash may come along, never twice the same.
            let with_key = |bytes: &&bytes::Bytes| match record::scan(bytes, true) {
                record::Scan::Record(record) => {
                    keys(&format!("{key} r{}", number / 300)).as_bytes() == record.message.properties
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(queried.records.iter().filter(with_key).count(), 1, "{key} in round {round}");
        }
        let queried = store.query("T", &format!("r{round}"), 10, 0, i64::MAX).unwrap();
        assert_eq!(queried.records.len(), 10);
        assert!(queried.last_update_offset.0 > 0 && queried.last_update_timestamp > 0);
        if round % 2 == 0 {
            store.shutdown(std::time::Duration::from_secs(5)).await;
        } else {
            let image = copies.path().join(round.to_string());
            copy(&root, &image);
            store.shutdown(std::time::Duration::from_secs(5)).await;
            root = image;
        }
    }
}

/// Copies a store as a process that was killed leaves it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
