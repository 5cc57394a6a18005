//! Index files held against the log.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Kind, Place, Report};
use crate::{
    env::{File, Open, Storage},
    model::LogOffset,
    store::{
        index::keys_of,
        index_file::{Entry, HEADER_BYTES, Header, KeyHash, Shape},
        record::{self, Scan},
        segment::name_of,
    },
};

/// Entries of records below `derived` lead to a record that has such a key; none leads behind the log's end.
pub fn check(storage: &dyn Storage, place: &Place, derived: LogOffset, report: &mut Report) -> io::Result<()> {
    let directory = place.root.join("index");
    let names = match storage.list(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    let log = Log::new(storage, place, report);
    for entry in names.iter().filter(|entry| !entry.is_dir && entry.name.len() == 17) {
        let path = directory.join(&entry.name);
        let shape = place.index.unwrap_or(Shape { slots: 5_000_000, entries: 20_000_000 });
        if entry.len != shape.file_bytes() && place.index.is_none() {
            continue;
        }
        if entry.len != shape.file_bytes() {
            let text = format!(
                "it has {} bytes; with {} slots and {} entries it would have {}",
                entry.len,
                shape.slots,
                shape.entries,
                shape.file_bytes()
            );
            report.add(&path, entry.len, Kind::Index, text);
            continue;
        }
        let file = storage.open(&path, Open::ReadOnly)?;
        check_index_file(&log, &path, &*file, shape, derived, report)?;
    }
    Ok(())
}

fn check_index_file(
    log: &Log<'_>,
    path: &Path,
    file: &dyn File,
    shape: Shape,
    derived: LogOffset,
    report: &mut Report,
) -> io::Result<()> {
    const READ_ENTRIES: u32 = 10_000;
    let header = Header::decode(&file.read_cold(0..HEADER_BYTES)?);
    if header.count > shape.entries {
        let text = format!("its header counts {} of {} entries", header.count, shape.entries);
        report.add(path, 36, Kind::Index, text);
        return Ok(());
    }
    let mut next = 1;
    while next < header.count {
        let until = header.count.min(next + READ_ENTRIES);
        let from = shape.entry_at(next);
        let bytes = file.read_cold(from..shape.entry_at(until))?;
        for (number, bytes) in bytes.as_chunks::<20>().0.iter().enumerate() {
            let entry = Entry::decode(bytes);
            let at = from + 20 * number as u64;
            if entry.offset >= derived || entry.offset < log.begin {
                continue;
            }
            if entry.offset >= log.end {
                if !report.is_running && report.damaged_at.is_none() {
                    let text = format!("entry {} points at {}, behind the log", next as usize + number, entry.offset);
                    report.add(path, at, Kind::Index, text);
                }
            } else if !log.has_key(entry.offset, entry.hash)? {
                let text = format!(
                    "entry {} points at {}, where no record has such a key",
                    next as usize + number,
                    entry.offset
                );
                report.add(path, at, Kind::Index, text);
            }
        }
        next = until;
    }
    Ok(())
}

/// Single records of the log.
struct Log<'s> {
    storage: &'s dyn Storage,
    directory: PathBuf,
    size: u64,
    begin: LogOffset,
    end: LogOffset,
    is_damaged: bool,
    open: std::cell::RefCell<Option<(u64, Arc<dyn File>)>>,
}

impl<'s> Log<'s> {
    fn new(storage: &'s dyn Storage, place: &Place, report: &Report) -> Self {
        Log {
            storage,
            directory: place.commit_log.clone(),
            size: report.stat.segment_bytes,
            begin: report.stat.log_begin,
            end: report.stat.log_end,
            is_damaged: report.damaged_at.is_some(),
            open: std::cell::RefCell::new(None),
        }
    }

    fn has_key(&self, at: LogOffset, hash: u32) -> io::Result<bool> {
        let base = self.begin.0 + (at - self.begin) / self.size * self.size;
        let mut open = self.open.borrow_mut();
        if open.as_ref().is_none_or(|(of, _)| *of != base) {
            match self.storage.open(&self.directory.join(name_of(base)), Open::ReadOnly) {
                // Said of the log already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                file => *open = Some((base, file?)),
            }
        }
        let (_, file) = open.as_ref().expect("just opened");
        let within = at.0 - base;
        if within + 8 > file.len() {
            return Ok(self.is_damaged);
        }
        let head = file.read_cold(within..within + 8)?;
        let size = record::peek(&head).map_or(0, |(size, _)| u64::from(size));
        if within + size > file.len() {
            return Ok(self.is_damaged);
        }
        let bytes = file.read_cold(within..within + size)?;
        // Of damage the log's own check speaks.
        let Scan::Record(record) = record::scan(&bytes, false) else { return Ok(self.is_damaged) };
        let (unique, keys) = keys_of(record.message.properties);
        let topic = KeyHash::of_topic(record.message.topic);
        let keys = keys.into_iter().flat_map(|keys| keys.split(' ')).filter(|key| !key.is_empty());
        Ok(unique.into_iter().chain(keys).any(|key| topic.and(key).finish() == hash))
    }
}
