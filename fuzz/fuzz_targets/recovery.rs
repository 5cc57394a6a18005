//! Any directory as a store: a start either refuses it with a sentence or serves what stands in its log and nothing
//! else, goes on from there, and finds the same again. What it refuses as damaged, the repair makes good.

#![no_main]

use std::{collections::BTreeMap, path::Path, time::Duration};

use keelmq::{
    broker,
    store::{
        MessageStore, OpenError,
        index_file::Shape,
        repair,
        verify::{self, Place},
    },
};
use keelmq_fuzz::{
    World,
    image::{self, Image, ROOT, Shown},
    input::Input,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let is_broker = input.byte() & 1 == 1;
    let image = image::decode(&mut input);
    let mut world = World::new(0);
    image::store(&world, &image);
    let place = place();
    let _ = verify::verify(&*world.boot().storage, &place, true, &mut |_, _| ());
    if is_broker {
        start_broker(&mut world)
    } else {
        start_store(&mut world, &image, &place)
    }
    world.kill();
});

fn place() -> Place {
    let config = image::store_config();
    Place {
        root: ROOT.into(),
        commit_log: Path::new(ROOT).join("commitlog"),
        index: Some(Shape { slots: config.index_slots, entries: config.index_entries }),
    }
}

fn start_broker(world: &mut World) {
    let env = world.boot();
    let tasks = world.tasks.clone();
    tasks.run(async {
        match broker::start(env, image::broker_config(), None).await {
            Ok(broker) => broker.shutdown(Duration::from_secs(1)).await,
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}

fn start_store(world: &mut World, image: &Image, place: &Place) {
    let tasks = world.tasks.clone();
    let env = world.boot();
    match tasks.run(MessageStore::open(&env, image::store_config())) {
        Ok(store) => tasks.run(goes_on(world, store, image)),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            let is_of_log = |error: &OpenError| {
                matches!(
                    error,
                    OpenError::Damaged { .. } | OpenError::SegmentLength { .. } | OpenError::SegmentMissing { .. }
                )
            };
            world.kill();
            let env = world.boot();
            let repaired = tasks.run(repair::set_aside(&*env.storage, &*env.clock, place, &mut |_, _| ()));
            if is_of_log(&error) && repaired.is_ok() {
                let env = world.boot();
                match tasks.run(MessageStore::open(&env, image::store_config())) {
                    Ok(store) => tasks.run(goes_on(world, store, image)),
                    // The log is repaired. Queues of another size, or a single segment whose length says what the length
                    // of all is: those ask for another setting.
                    Err(again) if !is_of_log(&again) => assert!(!again.to_string().is_empty()),
                    Err(again) => panic!("refused: {error}\nrepaired: {repaired:?}\nrefused again: {again}"),
                }
            }
        }
    }
}

async fn goes_on(world: &mut World, store: std::sync::Arc<MessageStore>, image: &Image) {
    let log: BTreeMap<u64, &[u8]> = image
        .iter()
        .filter(|(path, _)| path.parent() == Some(&Path::new(ROOT).join("commitlog")))
        .filter_map(|(path, bytes)| {
            let name = path.file_name()?.to_str().filter(|name| name.len() == 20)?;
            Some((name.parse().ok()?, &bytes[..]))
        })
        .collect();
    let before = image::shown(&store);
    for shown in &before {
        // Some of the files may be none of the log's.
        let stood = log.range(..=shown.log_offset).any(|(base, bytes)| {
            let at = (shown.log_offset - base) as usize;
            bytes.get(at..).is_some_and(|bytes| bytes.starts_with(&shown.bytes))
        });
        let files: Vec<_> = log.iter().map(|(base, bytes)| (base, bytes.len())).collect();
        assert!(stood, "an invention: {shown:?}, the log was {files:?}");
    }
    for key in ["k", "k1", "u3"] {
        let _ = store.query("A", key, 10, 0, i64::MAX);
    }
    for time in [0, 1_700_000_000_010, i64::MAX] {
        let _ = store.offset_by_time("A", 1, time, true);
    }
    let end = store.appended();
    let after = match store.put_kept(&image::message("A", 0, b"new", b"KEYS\x01new")).await {
        Ok(put) => {
            let appended = store.appended().0;
            store.dispatched().reached(appended).await.expect("what was put is derived");
            let record = store.record_at(put.offset).expect("the disk is sound").expect("it was put there");
            assert!(put.offset >= end);
            let after = image::shown(&store);
            let mine = |shown: &&Shown| shown.log_offset == put.offset.0 && shown.bytes == record;
            assert_eq!(after.iter().filter(mine).count(), 1, "it is shown once");
            after
        }
        // A log at the end of its numbers, a segment that cannot be made: said, and nothing is shown that was not.
        Err(_) => image::shown(&store),
    };
    store.shutdown(Duration::from_secs(1)).await;
    drop(store);
    let again = MessageStore::open(&world.boot(), image::store_config()).await;
    let again = again.unwrap_or_else(|error| panic!("the store was served, and is refused: {error}"));
    let found = image::shown(&again);
    if !image::is_whole(image) {
        // Units, and what stands in a record's head, have no checksum: where they are changed, queues are what they are.
    } else if again.recovered().rebuilt {
        // That files of a queue are missing may be known only now: then there is more, never less.
        assert_eq!(lacks(&found, &after), [], "what was made anew lacks these (topic, queue, log offset)");
    } else {
        assert_eq!(lacks(&found, &after), [], "another start does not find these (topic, queue, log offset)");
        assert_eq!(lacks(&after, &found), [], "another start finds these as well (topic, queue, log offset)");
        assert!(found == after, "another start finds the same in another order");
    }
    again.shutdown(Duration::from_secs(1)).await;
}

/// What is among `wanted` and not in `there`.
fn lacks<'a>(there: &[Shown], wanted: &'a [Shown]) -> Vec<(&'a str, u32, u64)> {
    let missing = wanted.iter().filter(|shown| !there.contains(shown));
    missing.map(|shown| (&*shown.topic, shown.queue_id, shown.log_offset)).collect()
}
