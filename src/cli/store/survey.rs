//! Everything that a store's files say, read from the first byte of the log to the last, and what in them is wrong.

use std::{
    io::{self, IsTerminal},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};

use super::queues::QueueReader;
use crate::{
    env::{Env, File, Open, Storage},
    store::{
        checkpoint::{Checkpoint, CheckpointFile},
        record::{self, Record, Scan},
        segment::offset_of,
    },
};

/// Bytes of the log read at once.
const WINDOW_BYTES: u64 = 8 << 20;

/// No record is larger.
const RECORD_MAX_BYTES: u64 = 17 << 20;

/// Problems that are listed; further ones are only counted.
pub const PROBLEMS_MAX: usize = 1_000;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: String,
    /// In the file.
    pub offset: u64,
    pub kind: ProblemKind,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// Bytes of the log that are no record, below what was known to be durable.
    Damage,
    SegmentMissing,
    SegmentLength,
    /// A message that its queue does not point to.
    Queue,
    /// A table under `config/` that cannot be read, nor its copy.
    Table,
    Unreadable,
}

impl ProblemKind {
    pub fn name(self) -> &'static str {
        match self {
            ProblemKind::Damage => "damage",
            ProblemKind::SegmentMissing => "segment-missing",
            ProblemKind::SegmentLength => "segment-length",
            ProblemKind::Queue => "queue",
            ProblemKind::Table => "table",
            ProblemKind::Unreadable => "unreadable",
        }
    }
}

/// A file of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFile {
    pub base: u64,
    pub len: u64,
    pub path: PathBuf,
}

/// What was found.
pub struct Survey {
    pub root: PathBuf,
    pub segments: Vec<SegmentFile>,
    pub segment_bytes: u64,
    pub checkpoint: Checkpoint,
    /// `abort` is absent: the last stop was in order.
    pub is_clean: bool,
    pub records: u64,
    pub log_end: u64,
    /// First offset of the log at which something is wrong: nothing behind it can be relied upon.
    pub cut: Option<u64>,
    /// Something behind the end, left by a stop that was not in order; the next start wipes it.
    pub has_torn_end: bool,
    pub problems: Vec<Problem>,
    pub problems_more: u64,
}

impl Survey {
    /// Reads the whole store. Changes nothing.
    pub fn take(env: &Env, root: &Path, check_crc: bool, is_quiet: bool) -> Result<Self, String> {
        let storage = &*env.storage;
        let mut survey = Self::look(storage, root)?;
        survey.check_run();
        let bar = (!is_quiet && io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {msg}");
            let total = survey.segments.iter().map(|segment| segment.len).sum();
            ProgressBar::new(total).with_style(style.expect("the template is right"))
        });
        let mut queues = QueueReader::new(env.storage.clone(), root);
        survey.scan(storage, check_crc, &mut queues, bar.as_ref());
        survey.check_end();
        survey.check_tables(storage);
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        Ok(survey)
    }

    /// Names, lengths and the checkpoint; no message is read.
    pub fn look(storage: &dyn Storage, root: &Path) -> Result<Self, String> {
        let directory = root.join("commitlog");
        let entries = storage.list(&directory).map_err(|error| {
            format!("{} is no store: its commit log {} cannot be listed: {error}", root.display(), directory.display())
        })?;
        let segments: Vec<SegmentFile> = entries
            .iter()
            .filter(|entry| !entry.is_dir)
            .filter_map(|entry| {
                Some(SegmentFile { base: offset_of(&entry.name)?, len: entry.len, path: directory.join(&entry.name) })
            })
            .collect();
        let segment_bytes = match segments.as_slice() {
            [first, second, ..] => second.base - first.base,
            [only] => only.len,
            [] => 0,
        };
        let checkpoint = CheckpointFile::peek(storage, &root.join("checkpoint")).unwrap_or_default();
        Ok(Survey {
            root: root.to_owned(),
            log_end: segments.first().map_or(0, |first| first.base),
            segments,
            segment_bytes,
            checkpoint,
            is_clean: !storage.exists(&root.join("abort")),
            records: 0,
            cut: None,
            has_torn_end: false,
            problems: Vec::new(),
            problems_more: 0,
        })
    }

    /// Up to where the log is known to be durable.
    pub fn known(&self) -> u64 {
        self.checkpoint.known.map_or(0, |known| known.flushed.0)
    }

    fn problem(&mut self, path: &Path, offset: u64, kind: ProblemKind, text: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { file: path.display().to_string(), offset, kind, text });
        } else {
            self.problems_more += 1;
        }
    }

    fn cut_at(&mut self, offset: u64) {
        self.cut = Some(self.cut.map_or(offset, |cut| cut.min(offset)));
    }

    /// The files of the log are adjacent and of one length.
    fn check_run(&mut self) {
        let mut next = None;
        for segment in self.segments.clone() {
            if let Some(next) = next
                && segment.base != next
            {
                let text = format!("the log has no file that begins at {next}, though this one follows");
                self.problem(&segment.path, 0, ProblemKind::SegmentMissing, text);
                self.cut_at(next);
            }
            next = Some(segment.base + self.segment_bytes);
            let is_last = self.segments.last() == Some(&segment);
            // The last file may be the remains of a creation that a crash cut short; the scan sees what is in it.
            if segment.len != self.segment_bytes && !is_last {
                let text = format!("{} bytes long, the others {}", segment.len, self.segment_bytes);
                self.problem(&segment.path, 0, ProblemKind::SegmentLength, text);
                self.cut_at(segment.base);
            }
        }
    }

    /// Reads every record. Behind the first bytes that are none, the end or damage, it looks for records that follow.
    fn scan(&mut self, storage: &dyn Storage, check_crc: bool, queues: &mut QueueReader, bar: Option<&ProgressBar>) {
        let derived = self.checkpoint.known.map_or(0, |known| known.derived.0);
        for segment in self.segments.clone() {
            let mut window = match Window::open(storage, &segment) {
                Ok(window) => window,
                Err(error) => {
                    self.problem(&segment.path, 0, ProblemKind::Unreadable, error.to_string());
                    self.cut_at(segment.base);
                    continue;
                }
            };
            let mut at = 0;
            while at < segment.len {
                match window.record(at, check_crc) {
                    Ok(Found::Record(end)) => {
                        let record = window.last(at);
                        if let Some(record) = record
                            && segment.base + at < derived
                            && let Some(text) = queues.check(&record)
                        {
                            self.problem(&segment.path, at, ProblemKind::Queue, text);
                        }
                        self.records += 1;
                        at = end;
                        if self.cut.is_none() {
                            self.log_end = segment.base + at;
                        }
                    }
                    Ok(Found::Filler) => {
                        at = segment.len;
                        if self.cut.is_none() {
                            self.log_end = segment.base + at;
                        }
                    }
                    Ok(Found::Nothing(reason)) => match self.not_a_record(&segment, &mut window, at, reason) {
                        Some(next) => at = next,
                        None => return,
                    },
                    Err(error) => {
                        self.problem(&segment.path, at, ProblemKind::Unreadable, error.to_string());
                        self.cut_at(segment.base + at);
                        // A sector that cannot be read: what stands in the next one may be fine.
                        at = (at / 4_096 + 1) * 4_096;
                        at = window.next_record(at).unwrap_or(segment.len);
                    }
                }
                if let Some(bar) = bar {
                    bar.set_position(segment.base - self.segments[0].base + at);
                    bar.set_message(format!("{} records", self.records));
                }
            }
        }
    }

    /// At `at` of `segment` no record begins: damage, and where to read on; or the end of the log (`None`).
    fn not_a_record(&mut self, segment: &SegmentFile, window: &mut Window, at: u64, reason: String) -> Option<u64> {
        let offset = segment.base + at;
        let next = window.next_record(at + 1);
        let is_known = offset < self.known();
        let is_first = self.cut.is_none() && self.log_end == offset;
        // Written by Java, or before the first checkpoint: after a stop in order, nothing follows the end.
        let is_behind_clean_end = self.checkpoint.known.is_none() && self.is_clean && next.is_some();
        if is_known || is_behind_clean_end {
            let what = match next {
                Some(next) => format!("{reason}; the next record begins {} bytes on", next - at),
                None => format!("{reason}; no record follows in this file"),
            };
            self.problem(&segment.path, at, ProblemKind::Damage, format!("log offset {offset}: {what}"));
            self.cut_at(offset);
        } else if is_first {
            // Whatever follows was never known to be durable: it is part of the torn end.
            self.has_torn_end = next.is_some() || !reason.starts_with("zeros");
            return None;
        }
        Some(next.unwrap_or(segment.len))
    }

    /// The log reaches as far as it was known to be durable.
    fn check_end(&mut self) {
        let (end, known) = (self.log_end, self.known());
        if self.cut.is_none() && end < known {
            let path = self.segments.last().map_or_else(|| self.root.join("commitlog"), |last| last.path.clone());
            let text = format!("the log ends at offset {end}, though it was durable up to {known}: files are missing");
            self.problem(&path, end, ProblemKind::SegmentMissing, text);
            self.cut_at(end);
        }
    }

    /// The tables of the broker, which it cannot start without.
    fn check_tables(&mut self, storage: &dyn Storage) {
        let directory = self.root.join("config");
        let Ok(entries) = storage.list(&directory) else { return };
        for entry in entries.iter().filter(|entry| entry.name.ends_with(".json")) {
            let path = directory.join(&entry.name);
            let copy = directory.join(format!("{}.bak", entry.name));
            let read =
                |path: &Path| storage.read(path).map_err(|error| error.to_string()).and_then(|bytes| whole(&bytes));
            if let (Err(reason), Err(_)) = (read(&path), read(&copy)) {
                self.problem(&path, 0, ProblemKind::Table, format!("{reason}, and its copy .bak does not help"));
            }
        }
    }
}

/// Whether a table's text is whole: one JSON object from its first brace to its last.
fn whole(bytes: &[u8]) -> Result<(), String> {
    let text = str::from_utf8(bytes).map_err(|_| "not text in UTF-8".to_owned())?;
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err("empty".to_owned());
    }
    let (mut depth, mut is_text, mut is_escaped) = (0i64, false, false);
    for c in trimmed.chars() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_text => is_escaped = true,
            '"' => is_text = !is_text,
            '{' | '[' if !is_text => depth += 1,
            '}' | ']' if !is_text => depth -= 1,
            _ => {}
        }
    }
    if depth == 0 && !is_text && trimmed.starts_with('{') { Ok(()) } else { Err("cut off".to_owned()) }
}

enum Found {
    /// Ends at this position of the file.
    Record(u64),
    Filler,
    Nothing(String),
}

/// A file of the log, read in pieces.
struct Window {
    file: Arc<dyn File>,
    base: u64,
    len: u64,
    bytes: Bytes,
    range: Range<u64>,
}

impl Window {
    fn open(storage: &dyn Storage, segment: &SegmentFile) -> io::Result<Self> {
        let file = storage.open(&segment.path, Open::ReadOnly)?;
        let len = segment.len.min(file.len());
        Ok(Window { file, base: segment.base, len, bytes: Bytes::new(), range: 0..0 })
    }

    /// The bytes from `at`, at least `wanted` of them unless the file ends.
    fn from(&mut self, at: u64, wanted: u64) -> io::Result<&[u8]> {
        let end = self.len.min(at + wanted);
        if at < self.range.start || end > self.range.end {
            let until = self.len.min(at + wanted.max(WINDOW_BYTES));
            self.bytes = self.file.read_cold(at..until)?;
            self.range = at..until;
        }
        Ok(&self.bytes[(at - self.range.start) as usize..])
    }

    fn record(&mut self, at: u64, check_crc: bool) -> io::Result<Found> {
        let (base, len) = (self.base, self.len);
        let Some((size, _)) = record::peek(self.from(at, 8)?) else {
            return Ok(Found::Nothing("zeros, and less than a record's head".to_owned()));
        };
        let wanted = u64::from(size).clamp(8, RECORD_MAX_BYTES).min(len - at);
        let bytes = self.from(at, wanted)?;
        Ok(match record::scan(&bytes[..wanted as usize], check_crc) {
            Scan::Record(record) if record.log_offset.0 == base + at => {
                if record::is_text(record.message.topic.as_bytes(), record.message.properties) {
                    Found::Record(at + u64::from(record.size))
                } else {
                    Found::Nothing("a record without all of its properties".to_owned())
                }
            }
            Scan::Record(record) => Found::Nothing(format!("a record of log offset {}", record.log_offset.0)),
            Scan::Filler => Found::Filler,
            Scan::Nothing => Found::Nothing("zeros where a record should begin".to_owned()),
            Scan::Invalid(what) => Found::Nothing(what.to_owned()),
        })
    }

    /// The record that `record` has just found at `at`.
    fn last(&self, at: u64) -> Option<Record<'_>> {
        match record::scan(&self.bytes[(at.checked_sub(self.range.start)?) as usize..], false) {
            Scan::Record(record) => Some(record),
            _ => None,
        }
    }

    /// The next position from `at` on where a record of the right offset begins.
    fn next_record(&mut self, mut at: u64) -> Option<u64> {
        let magics = [record::MAGIC_V1.to_be_bytes(), record::MAGIC_V2.to_be_bytes()];
        while at + record::RECORD_MIN <= self.len {
            let bytes = match self.from(at, WINDOW_BYTES) {
                Ok(bytes) => bytes,
                Err(_) => {
                    at = (at / 4_096 + 1) * 4_096;
                    continue;
                }
            };
            let candidates: Vec<u64> = bytes
                .windows(8)
                .enumerate()
                .filter(|(_, head)| magics.iter().any(|magic| head[4..] == *magic))
                .map(|(index, _)| at + index as u64)
                .collect();
            let looked = bytes.len() as u64;
            for candidate in candidates {
                if let Ok(Found::Record(_)) = self.record(candidate, true) {
                    return Some(candidate);
                }
            }
            at += looked.saturating_sub(7).max(1);
        }
        None
    }
}
