//! What no crash does: a bit of the log that was durable turns, a file of a consume queue is gone. The first must be
//! reported, the second made good.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
};

use super::Run;
use crate::{
    log_image::LogImage,
    scene::{self, ROOT, lock},
};

/// Bytes of a record that something checks: size and magic, checksum, offset.
const CHECKED: [u64; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 32, 33, 34, 35];

/// A bit that turned.
pub struct Rotten {
    path: PathBuf,
    at: u64,
    bit: u8,
}

impl Rotten {
    pub fn flip(&self, run: &Run) {
        lock(&run.machine.disk).rot(&self.path, self.at, self.bit).expect("the log's files stay");
    }
}

/// Turns a bit of a record that the checkpoint calls durable and a start reads; `None` if there is none.
pub fn rot(run: &Run, value: u64) -> Option<Rotten> {
    let (log, vouched) = {
        let disk = lock(&run.machine.disk);
        (scene::read_log(&disk), scene::vouched(&disk)?)
    };
    let is_read = |offset: u64, end: u64| vouched.check_from <= offset && end <= vouched.flushed;
    let records: Vec<_> = log.records.iter().filter(|record| is_read(record.offset, record.end())).collect();
    let record = records.get(value as usize % records.len().max(1))?;
    let checked = CHECKED.len() as u64;
    let within = match value / 7 % (checked + 5) {
        byte if byte < checked => CHECKED[byte as usize],
        // The body ends before topic and properties, whose lengths take 1 and 2 bytes, 2 and 2 if the topic is long.
        _ if record.body.is_empty() => CHECKED[0],
        _ => {
            let lengths = if record.topic.len() > 127 { 4 } else { 3 };
            let behind = lengths + record.topic.len() as u64 + record.properties.len() as u64;
            u64::from(record.size) - behind - 1 - value % record.body.len() as u64
        }
    };
    let (path, at) = scene::log_file(log_segment_bytes(run), record.offset + within);
    let rotten = Rotten { path, at, bit: (value / 3 % 8) as u8 };
    rotten.flip(run);
    Some(rotten)
}

fn log_segment_bytes(run: &Run) -> u64 {
    run.plan.get("segment_bytes", 64 << 10)
}

/// The units of a queue's files by the first unit's number: log offset and size.
type Files = BTreeMap<u64, Vec<(u64, u32)>>;

/// Takes away a file of a queue that the log shows to be missing.
pub fn lose(run: &Run, value: u64) {
    let mut disk = lock(&run.machine.disk);
    let Some(vouched) = scene::vouched(&disk) else { return };
    let log = scene::read_log(&disk);
    let per_file = run.plan.get("queue_file_units", 64);
    let mut queues: BTreeMap<PathBuf, Files> = BTreeMap::new();
    let root = Path::new(ROOT).join("consumequeue");
    for path in disk.files().filter(|path| path.starts_with(&root)) {
        let (Some(queue), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            continue;
        };
        let units = disk.peek(&path).expect("it was listed");
        let unit = |bytes: &[u8; 20]| {
            let (offset, rest) = bytes.split_first_chunk().expect("twenty bytes");
            (u64::from_be_bytes(*offset), u32::from_be_bytes(*rest.first_chunk().expect("twelve bytes")))
        };
        let units = units.as_chunks::<20>().0.iter().map(unit).collect();
        let start = name.parse::<u64>().expect("a queue's file is named by its position") / 20;
        queues.entry(queue.to_owned()).or_default().insert(start, units);
    }
    let mut missed: Vec<PathBuf> = Vec::new();
    for (queue, files) in &queues {
        let starts = files.keys().filter(|start| is_missed(queue, files, **start, per_file, &log, vouched));
        missed.extend(starts.map(|start| queue.join(format!("{:020}", start * 20))));
    }
    let Some(path) = missed.get(value as usize % missed.len().max(1)) else { return };
    disk.remove(path).expect("it was listed");
    let faults = std::mem::take(&mut disk.faults);
    disk.sync_dir(path.parent().expect("it lies in its queue's directory"));
    disk.faults = faults;
    drop(disk);
    run.is_lacking.store(true, Ordering::SeqCst);
    run.trace.sometimes("files: one of a queue was lost");
}

/// Whether a start can know that the file at `start` belongs there.
fn is_missed(
    queue: &Path,
    files: &Files,
    start: u64,
    per_file: u64,
    log: &LogImage,
    vouched: crate::derived_image::Vouched,
) -> bool {
    let counts = |unit: Option<&(u64, u32)>| {
        unit.is_some_and(|(at, size)| (1..i32::MAX as u32).contains(size) && (log.begin..vouched.derived).contains(at))
    };
    let before = start.checked_sub(per_file).and_then(|before| files.get(&before));
    let next = files.get(&(start + per_file)).and_then(|units| units.first());
    // One in the middle, or the first of all while the log has its head.
    if counts(next) {
        return counts(before.and_then(|units| units.last())) || (start == 0 && log.begin == 0);
    }
    // The last one, if the newest message that it stands for is among those which are read.
    let mut names = queue.iter().rev().filter_map(|name| name.to_str());
    let (Some(id), Some(topic)) = (names.next().and_then(|id| id.parse::<u32>().ok()), names.next()) else {
        return false;
    };
    let is_of = |record: &&crate::log_image::Found| {
        record.topic == topic && record.queue_id == id && record.end() <= vouched.derived
    };
    let last = log.records.iter().rev().find(is_of);
    counts(before.and_then(|units| units.last()))
        && last
            .is_some_and(|last| last.offset >= vouched.check_from && last.queue_offset / per_file * per_file == start)
}
