//! What `store verify` says of a store that is sound, of one that runs, and of each kind of damage; what `repair` leaves.

// A test stands on the world's side of the doors.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::{Path, PathBuf};

use keelmq::{
    env::Env,
    model::Message,
    os,
    store::{
        Get, GetStatus, MessageStore, StoreConfig,
        index_file::Shape,
        repair::{self, RepairError},
        verify::{self, Kind, Place, Report, VerifyError},
    },
};

fn env() -> Env {
    os::env(tokio::runtime::Handle::current())
}

fn place(root: &Path) -> Place {
    let config = StoreConfig::tiny(root);
    let index = Some(Shape { slots: config.index_slots, entries: config.index_entries });
    Place { root: root.to_owned(), commit_log: config.commit_log, index }
}

fn look(root: &Path) -> Report {
    verify::verify(&*env().storage, &place(root), true, &mut |done, total| assert!(done <= total)).unwrap()
}

async fn fill(root: &Path, count: u32) {
    let store = MessageStore::open(&env(), StoreConfig::tiny(root)).await.unwrap();
    for number in 0..count {
        let properties = format!("TAGS\u{1}TagA\u{2}KEYS\u{1}n{number}");
        let message = Message {
            topic: if number % 2 == 0 { "T" } else { "U" },
            queue_id: number % 3,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: "127.0.0.1:1".parse().unwrap(),
            store_host: "127.0.0.1:10911".parse().unwrap(),
            reconsume_times: 0,
            prepared_offset: 0,
            body: &[number as u8; 500],
            properties: properties.as_bytes(),
        };
        store.put_kept(&message).await.unwrap();
    }
    store.dispatched().reached(store.appended().0).await.unwrap();
    store.shutdown(std::time::Duration::from_secs(5)).await;
}

/// Changes bytes of a file.
fn damage(path: &Path, at: usize, change: impl Fn(&mut [u8])) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes[at..]);
    std::fs::write(path, bytes).unwrap();
}

fn first_of(directory: &Path) -> PathBuf {
    let mut names: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names.swap_remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_damage_is_named_and_repaired() {
    let check = async |expect: &[Kind], harm: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fill(root, 600).await;
        std::fs::create_dir_all(root.join("config")).unwrap();
        std::fs::write(root.join("config/topics.json"), r#"{"topicConfigTable":{}}"#).unwrap();
        let sound = look(root);
        assert_eq!(sound.problems, []);
        assert_eq!((sound.stat.records, sound.stat.topics["T"].len(), sound.is_running), (600, 3, false));
        harm(root);
        let report = look(root);
        let mut kinds: Vec<Kind> = report.problems.iter().map(|problem| problem.kind).collect();
        kinds.sort();
        kinds.dedup();
        assert_eq!(kinds, expect, "{:?}", report.problems);

        let repaired = repair::set_aside(&*env().storage, &*env().clock, &place(root), &mut |_, _| ()).await.unwrap();
        assert!(repaired.aside.is_some());
        let store = MessageStore::open(&env(), StoreConfig::tiny(root)).await.unwrap();
        let end = report.damaged_at.map_or(sound.stat.log_end, |(_, at)| at);
        assert_eq!((store.recovered().log_end, repaired.log_end), (end, report.damaged_at.map(|_| end)));
        let get = Get { topic: "T", queue_id: 0, offset: 0, count_max: 1, bytes_max: 1 << 20, filter: None };
        assert_eq!(store.get(&get).unwrap().status, GetStatus::Found);
        assert_eq!(store.query("T", "n0", 9, 0, i64::MAX).unwrap().records.len(), 1);
        store.shutdown(std::time::Duration::from_secs(5)).await;
        assert_eq!(look(root).problems, []);
    };
    let segment = |root: &Path, base: u64| root.join("commitlog").join(format!("{base:020}"));
    check(&[Kind::Record], &|root| damage(&segment(root, 65_536), 10_000, |bytes| bytes[0] ^= 1)).await;
    check(&[Kind::Record], &|root| damage(&segment(root, 65_536), 4, |bytes| bytes[0] ^= 1)).await;
    check(&[Kind::Record], &|root| damage(&segment(root, 0), 1_900, |bytes| bytes.fill(0))).await;
    check(&[Kind::SegmentMissing], &|root| std::fs::remove_file(segment(root, 65_536)).unwrap()).await;
    check(&[Kind::SegmentLength], &|root| {
        let file = std::fs::OpenOptions::new().write(true).open(segment(root, 65_536)).unwrap();
        file.set_len(1_000).unwrap();
    })
    .await;
    check(&[Kind::ConsumeQueue], &|root| {
        damage(&first_of(&root.join("consumequeue/T/0")), 20 * 7 + 11, |bytes| bytes[0] ^= 1);
    })
    .await;
    check(&[Kind::ConsumeQueue], &|root| {
        std::fs::remove_dir_all(root.join("consumequeue")).unwrap();
        std::fs::create_dir(root.join("consumequeue")).unwrap();
    })
    .await;
    check(&[Kind::Index], &|root| {
        damage(&first_of(&root.join("index")), 40 + 4 * 64 + 20 * 9, |bytes| bytes[2] ^= 1);
    })
    .await;
    check(&[Kind::Config], &|root| std::fs::write(root.join("config/topics.json"), "").unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_store_is_looked_at_and_not_repaired() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), 50).await;
    let store = MessageStore::open(&env(), StoreConfig::tiny(folder.path())).await.unwrap();
    let report = look(folder.path());
    assert!(report.is_running && report.is_sound(), "{:?}", report.problems);
    let outcome = repair::set_aside(&*env().storage, &*env().clock, &place(folder.path()), &mut |_, _| ()).await;
    assert!(matches!(outcome, Err(RepairError::Running { .. })), "{outcome:?}");
    store.shutdown(std::time::Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_is_no_store_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = verify::verify(&*env().storage, &place(folder.path()), true, &mut |_, _| ());
    assert!(matches!(outcome, Err(VerifyError::NoStore { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A start refuses a log with a hole even if nothing was written behind it yet; the verification passed such a hole over,
/// so that the repair it recommends had nothing to do, and the store could not be started any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_hole_before_an_unused_segment_is_repaired() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fill(root, 200).await;
    let log = root.join("commitlog");
    let mut names: Vec<_> = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let unused = names.last().unwrap();
    assert!(std::fs::read(unused).unwrap().iter().all(|byte| *byte == 0), "it was prepared ahead");
    let base: u64 = unused.file_name().unwrap().to_str().unwrap().parse().unwrap();
    std::fs::rename(unused, log.join(format!("{:020}", base + 65_536))).unwrap();
    let refused = MessageStore::open(&env(), StoreConfig::tiny(root)).await.err().expect("a hole stops the start");
    assert!(refused.to_string().contains("has no segment"), "{refused}");
    let kinds: Vec<Kind> = look(root).problems.iter().map(|problem| problem.kind).collect();
    assert_eq!(kinds, [Kind::SegmentMissing]);
    repair::set_aside(&*env().storage, &*env().clock, &place(root), &mut |_, _| ()).await.unwrap();
    let store = MessageStore::open(&env(), StoreConfig::tiny(root)).await.unwrap();
    assert_eq!(store.max_offset("T", 0).0 + store.max_offset("T", 1).0 + store.max_offset("T", 2).0, 100);
    store.shutdown(std::time::Duration::from_secs(5)).await;
}

/// A unit of zeros in the middle of a queue was taken for one before its beginning: consumers skipped all that came before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_in_a_queue_hides_nothing_before_it() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path(), 600).await;
    // Each of the six queues has a hundred.
    damage(&folder.path().join("consumequeue/T/0/00000000000000000000"), 50 * 20, |units| units[..20].fill(0));
    let store = MessageStore::open(&env(), StoreConfig::tiny(folder.path())).await.unwrap();
    assert_eq!((store.min_offset("T", 0).0, store.max_offset("T", 0).0), (0, 100));
    store.shutdown(std::time::Duration::from_secs(5)).await;
}
