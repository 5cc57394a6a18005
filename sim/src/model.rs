//! What was attempted, what was acknowledged, and what must therefore be found: the oracle of every run. Plain
//! bookkeeping; it is told what happened and says what is wrong.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{
    dice::Dice,
    kinds::{self, Decision, Kind, Kinds, Word},
    log_image::{Found, LogImage},
};

/// A promise that was broken. `invariant` is one of the constants below: shrinking keeps it the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)
    }
}

pub const LOST: &str = "1 what was acknowledged is there, unchanged";
pub const LOST_SUFFIX: &str = "2 ASYNC_FLUSH loses only an unsynced suffix";
pub const ADJACENT: &str = "3 records are adjacent, offsets are never reused";
pub const QUEUE_OFFSETS: &str = "4 queue offsets count without gaps and keep their message";
pub const DERIVED: &str = "5 queues and index equal a rebuild from the log";
pub const RECOVERY: &str = "6 recovery is idempotent and refuses no sound store";
pub const INVENTED: &str = "7 nothing is invented, nothing comes back";
pub const DAMAGE: &str = "8 damage below the durable mark is reported, never cut off";
pub const NOT_DURABLE: &str = "9 an acknowledgement follows its sync, a failed sync is final";
pub const CONSUMED: &str = "10 a consumer sees what survives, in order, at least once";
pub const TIMED: &str = "11 delayed, transactional and retried messages keep their rules";
pub const ANSWERED: &str = "12 one response per request, to the one who asked";
pub const LOCKED: &str = "10 no two members of a group hold one queue";
pub const LIVE: &str = "13 when faults end, everything works again";
pub const PANIC: &str = "14 nothing panics";

/// When a message was born, unless somebody says otherwise: long ago.
pub const BORN_MS: i64 = 1_700_000_000_000;

/// What an acknowledgement promises in this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// It survives a power cut.
    Disk,
    /// It survives the process.
    PageCache,
    /// It is in memory.
    Memory,
}

/// What a record is to the attempt that it stems from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// What was sent, as it was first stored.
    First,
    /// What the broker made of it: delivered, committed, sent back, asked about, given up.
    Copy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    pub end: u64,
    pub queue_offset: u64,
}

/// How it was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// As it says itself.
    pub born_ms: i64,
    /// In the world's time.
    pub at: Duration,
    /// Its body is said to be compressed; nobody looks.
    pub is_compressed: bool,
    /// Its answer promises nothing: WAIT=false.
    pub unwaited: bool,
}

impl Default for Sent {
    fn default() -> Sent {
        Sent { born_ms: BORN_MS, at: Duration::ZERO, is_compressed: false, unwaited: false }
    }
}

#[derive(Clone, Debug)]
pub struct Attempt {
    /// Where consumers are to find it.
    pub topic: String,
    pub queue_id: u32,
    pub kind: Kind,
    pub body_len: usize,
    pub sent: Sent,
    /// What was sent with it: every record that stems from it says the same.
    pub properties: String,
    /// The boot that may have taken it; `None` while it is not on its way yet.
    pub boot: Option<u64>,
    pub place: Option<Place>,
    pub acknowledged: bool,
    /// A consumer got it: under SYNC_FLUSH as good as an acknowledgement.
    pub seen: bool,
    /// A recovery found the log without it: it must never come back.
    gone: bool,
    /// What its producer said about a half message.
    pub word: Word,
}

impl Attempt {
    /// Topic and queue in which it was first stored.
    fn home(&self) -> (&str, u32) {
        match self.kind {
            Kind::Plain => (&self.topic, self.queue_id),
            Kind::Delayed(level) => (kinds::SCHEDULE_TOPIC, level - 1),
            Kind::Half => (kinds::HALF_TOPIC, 0),
        }
    }

    /// Whether every group that wants it must get it.
    pub fn is_owed(&self) -> bool {
        match self.kind {
            Kind::Plain | Kind::Delayed(_) => self.acknowledged,
            Kind::Half => self.word.decided == Some(Decision::Commit),
        }
    }
}

pub struct Model {
    pub promise: Promise,
    /// Old segments may go.
    pub retires: bool,
    pub kinds: Kinds,
    pub attempts: BTreeMap<u64, Attempt>,
    /// (topic, queue, queue offset) → id, for what must not change.
    kept: BTreeMap<(String, u32, u64), u64>,
    /// The log was synced up to here, by what the store said at the last crash.
    pub flushed: u64,
    /// A power cut happened since the last recovery.
    pub power_was_cut: bool,
    pub violations: Vec<Violation>,
    pub acknowledged: u64,
    pub checked: u64,
    next_id: u64,
}

/// The body of attempt `id`: a function of both arguments, so that it need not be remembered.
pub fn body_of(id: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(id, "body");
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&dice.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The unique key that names attempt `id` in its properties.
pub fn key_of(id: u64) -> String {
    format!("{id:032X}")
}

pub fn id_of(key: &str) -> Option<u64> {
    u128::from_str_radix(key, 16).ok().and_then(|id| u64::try_from(id).ok())
}

impl Model {
    pub fn new(promise: Promise) -> Model {
        Model {
            promise,
            retires: false,
            kinds: Kinds::default(),
            attempts: BTreeMap::new(),
            kept: BTreeMap::new(),
            flushed: 0,
            power_was_cut: false,
            violations: Vec::new(),
            acknowledged: 0,
            checked: 0,
            next_id: 1,
        }
    }

    pub fn violation(&mut self, invariant: &'static str, text: impl Into<String>) {
        // One failing run says enough with its first few.
        if self.violations.len() < 5 {
            self.violations.push(Violation { invariant, text: text.into() });
        }
    }

    pub fn attempt(&mut self, topic: &str, queue_id: u32, body_len: usize, boot: Option<u64>) -> u64 {
        self.attempt_kind(Kind::Plain, topic, queue_id, body_len, boot, |_| String::new())
    }

    /// Something is about to be sent; `properties` are made of the number that it gets.
    pub fn attempt_kind(
        &mut self,
        kind: Kind,
        topic: &str,
        queue_id: u32,
        body_len: usize,
        boot: Option<u64>,
        properties: impl FnOnce(u64) -> String,
    ) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let attempt = Attempt {
            topic: topic.to_owned(),
            queue_id,
            kind,
            body_len,
            sent: Sent::default(),
            properties: properties(id),
            word: Word::default(),
            boot,
            place: None,
            acknowledged: false,
            seen: false,
            gone: false,
        };
        self.attempts.insert(id, attempt);
        id
    }

    /// It goes on its way.
    pub fn sent(&mut self, id: u64, sent: Sent) {
        self.get_mut(id).sent = sent;
    }

    /// The number of the next attempt.
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    fn get_mut(&mut self, id: u64) -> &mut Attempt {
        self.attempts.get_mut(&id).expect("ids are given out by attempt")
    }

    /// The store has given it a place, no more; what a recovery found is better known.
    pub fn placed(&mut self, id: u64, place: Place) {
        self.get_mut(id).place.get_or_insert(place);
    }

    /// Of those that `boot` was given so long before `now`, the first that the log is not synced up to.
    pub fn unsynced(&self, boot: u64, flushed: u64, before: Duration) -> Option<u64> {
        let late = |attempt: &Attempt| {
            attempt.boot == Some(boot)
                && attempt.sent.at < before
                && attempt.place.is_some_and(|place| place.end > flushed)
        };
        self.attempts.iter().find(|(_, attempt)| late(attempt)).map(|(id, _)| *id)
    }

    pub fn acknowledge(&mut self, id: u64, place: Option<Place>) {
        self.acknowledged += 1;
        let attempt = self.get_mut(id);
        attempt.acknowledged = true;
        let known = attempt.place.or(place);
        attempt.place = known;
        let Some(place) = place else { return };
        let attempt = self.attempts[&id].clone();
        if known != Some(place) {
            self.violation(ADJACENT, format!("message {id} was placed at {known:?} and acknowledged at {place:?}"));
        }
        self.keep(id, &attempt, place.queue_offset);
    }

    /// From now on this queue offset belongs to this message.
    fn keep(&mut self, id: u64, attempt: &Attempt, queue_offset: u64) {
        if self.promise != Promise::Disk || kinds::is_recreated(&attempt.topic) {
            return;
        }
        let (topic, queue_id) = attempt.home();
        let slot = (topic.to_owned(), queue_id, queue_offset);
        if let Some(other) = self.kept.insert(slot, id).filter(|other| *other != id) {
            self.violation(
                QUEUE_OFFSETS,
                format!(
                    "{}/{} offset {queue_offset} was message {other}, now it is {id}",
                    attempt.topic, attempt.queue_id
                ),
            );
        }
    }

    /// A consumer got this record.
    pub fn consumed(&mut self, record: &Found, now: Duration) -> Option<u64> {
        // Without SYNC_FLUSH an answer of before the crash may arrive after it.
        let (id, role) = self.known(record, "a consumer got", self.promise == Promise::Disk)?;
        if role == Role::First {
            self.get_mut(id).seen = true;
            let attempt = self.attempts[&id].clone();
            self.keep(id, &attempt, record.queue_offset);
        } else if let Some(text) = self.is_too_soon(id, now) {
            self.violation(TIMED, text);
        } else if self.attempts[&id].kind == Kind::Half && !self.attempts[&id].word.commit_asked {
            self.violation(TIMED, format!("a consumer got message {id}, whose commit nobody has asked for"));
        }
        Some(id)
    }

    /// The attempt that `record` stems from and whether it is what was sent or what the broker made of it, unless it
    /// stems from none.
    fn known(&mut self, record: &Found, who: &str, is_final: bool) -> Option<(u64, Role)> {
        let Some(id) = record.property("UNIQ_KEY").and_then(id_of).filter(|id| self.attempts.contains_key(id)) else {
            self.violation(INVENTED, format!("{who} a record that nobody sent: {}", brief(record)));
            return None;
        };
        let attempt = &self.attempts[&id];
        let is_home = attempt.home() == (&*record.topic, record.queue_id)
            && (attempt.kind == Kind::Plain || kinds::is_first(record));
        let role = if is_home { Role::First } else { Role::Copy };
        let same = record.body == body_of(id, attempt.body_len)
            && record.flag == id as i32
            && record.born_timestamp == attempt.sent.born_ms
            && kinds::flags_kept(attempt, record, is_home)
            && (is_home || kinds::may_be_copy(attempt, record))
            && kinds::properties_kept(&attempt.properties, record);
        if !same {
            let difference = first_difference(record, id, attempt.body_len);
            let text = format!(
                "{who} message {id} of {attempt:?} changed, at log offset {}: flag {}, system flag {}, {}{difference}",
                record.offset,
                record.flag,
                record.sys_flag,
                brief(record),
            );
            self.violation(INVENTED, text);
        } else if is_home && attempt.gone && is_final {
            self.violation(
                INVENTED,
                format!("{who} message {id} again, which a recovery had lost, at log offset {}", record.offset),
            );
        } else if is_home
            && !attempt.gone
            && attempt
                .place
                .is_some_and(|place| place.offset != record.offset || place.queue_offset != record.queue_offset)
        {
            let place = attempt.place;
            self.violation(
                ADJACENT,
                format!("{who} message {id}, placed at {place:?}, at {}/{}", record.offset, record.queue_offset),
            );
        }
        Some((id, role))
    }

    /// The store has recovered and says that its log ends at `end`: compares the files with what must be in them.
    /// `taken` tells of a boot whether its process may still accept what is on its way.
    pub fn recovered(&mut self, log: &LogImage, end: u64, boot: u64) {
        if log.end != end {
            self.violation(
                ADJACENT,
                format!("the store says that its log ends at {end}, its files at {}: {}", log.end, log.stopped),
            );
        }
        if log.dirty_tail {
            self.violation(INVENTED, format!("behind the log's end at {end} there are bytes that were not wiped"));
        }
        if log.begin > 0 && !self.retires {
            self.violation(LOST, format!("the log begins at {}, though nothing may go", log.begin));
        }
        let mut next: BTreeMap<(&str, u32), u64> = BTreeMap::new();
        let mut found: BTreeMap<u64, &Found> = BTreeMap::new();
        if let Some(pair) = log.records.windows(2).find(|pair| pair[1].store_timestamp < pair[0].store_timestamp) {
            let text = format!("the record at {} was stored before the one in front of it", pair[1].offset);
            self.violation(ADJACENT, text);
        }
        for record in &log.records {
            // A log whose head was retired may begin a queue anywhere.
            let first = if log.records[0].offset == 0 { 0 } else { record.queue_offset };
            let expect = next.entry((&record.topic, record.queue_id)).or_insert(first);
            if *expect != record.queue_offset && !kinds::is_recreated(&record.topic) {
                let text = format!(
                    "{}/{} goes on with {} instead of {expect}",
                    record.topic, record.queue_id, record.queue_offset
                );
                self.violation(QUEUE_OFFSETS, text);
            }
            *next.get_mut(&(record.topic.as_str(), record.queue_id)).expect("put there above") =
                record.queue_offset + 1;
            if kinds::is_op(record) {
                continue;
            }
            if let Some((id, Role::First)) = self.known(record, "recovery kept", true)
                && let Some(other) = found.insert(id, record)
            {
                self.violation(
                    INVENTED,
                    format!("message {id} is there twice, at {} and {}", other.offset, record.offset),
                );
            }
        }
        let (promise, flushed, power) = (self.promise, self.flushed, self.power_was_cut);
        let mut broken = Vec::new();
        let mut checked = 0;
        for (id, attempt) in &mut self.attempts {
            if attempt.gone || attempt.boot.is_none_or(|taken| taken >= boot) {
                continue;
            }
            match found.get(id) {
                Some(record) => {
                    attempt.place =
                        Some(Place { offset: record.offset, end: record.end(), queue_offset: record.queue_offset });
                    checked += u64::from(attempt.acknowledged);
                }
                // It went with its segment.
                None if self.retires && attempt.place.is_some_and(|place| place.end <= log.begin) => {}
                None => {
                    attempt.gone = true;
                    let place = attempt.place;
                    let was_flushed = place.is_some_and(|place| place.end <= flushed);
                    let invariant = match promise {
                        Promise::Disk if attempt.acknowledged => LOST,
                        Promise::Disk if attempt.seen => CONSUMED,
                        Promise::PageCache if attempt.acknowledged && !power => LOST,
                        _ if was_flushed => LOST_SUFFIX,
                        _ => continue,
                    };
                    let what = if attempt.acknowledged { "acknowledged" } else { "not acknowledged" };
                    broken.push((
                        invariant,
                        format!(
                            "message {id}, {what} at {place:?}, is gone; the log ends at {end}, known flushed {flushed}"
                        ),
                    ));
                }
            }
        }
        for (invariant, text) in broken {
            self.violation(invariant, text);
        }
        self.check_kinds(log, boot);
        if promise != Promise::Disk {
            // What the crash took is free to be given out anew.
            self.kept.clear();
            self.flushed = end;
        }
        self.checked += checked;
        self.power_was_cut = false;
    }

    /// What a consumer of (topic, queue) must be able to read, by queue offset, given the log.
    pub fn compare_queue(&mut self, log: &LogImage, topic: &str, queue_id: u32, seen: &[Found]) {
        let expect: Vec<&Found> =
            log.records.iter().filter(|record| record.topic == topic && record.queue_id == queue_id).collect();
        let wrong = expect.iter().zip(seen).position(|(expect, seen)| *expect != seen);
        if let Some(at) = wrong {
            let text = format!(
                "{topic}/{queue_id} gives {:?} at place {at}, the log has {:?}",
                brief(&seen[at]),
                brief(expect[at])
            );
            self.violation(DERIVED, text);
        } else if expect.len() != seen.len() {
            self.violation(
                DERIVED,
                format!("{topic}/{queue_id} gives {} messages, the log has {}", seen.len(), expect.len()),
            );
        }
    }
}

/// Where the body differs from what was sent.
fn first_difference(record: &Found, id: u64, len: usize) -> String {
    let sent = body_of(id, len);
    let differ = |at: &usize| record.body.get(*at) != sent.get(*at);
    let (first, last) = ((0..len).find(differ), (0..len).rev().find(differ));
    match (first, last) {
        (Some(first), Some(last)) => {
            let zeros = record.body.get(first..=last).is_some_and(|part| part.iter().all(|byte| *byte == 0));
            format!(", body differs from byte {first} to {last}{}", if zeros { ", which are zeros" } else { "" })
        }
        _ => String::new(),
    }
}

/// A record without its body.
fn brief(record: &Found) -> String {
    format!(
        "{}/{} #{} at {} of {} bytes, body {}, properties {:?}",
        record.topic,
        record.queue_id,
        record.queue_offset,
        record.offset,
        record.size,
        record.body.len(),
        String::from_utf8_lossy(&record.properties)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64, offset: u64, queue_offset: u64) -> Found {
        Found {
            offset,
            size: 100,
            topic: "T".to_owned(),
            queue_id: 0,
            queue_offset,
            flag: id as i32,
            sys_flag: 0,
            born_timestamp: BORN_MS,
            store_timestamp: 0,
            reconsume_times: 0,
            body: body_of(id, 10),
            properties: format!("UNIQ_KEY\u{1}{}\u{2}", key_of(id)).into_bytes(),
        }
    }

    fn log(records: &[(u64, u64, u64)]) -> LogImage {
        let records: Vec<Found> =
            records.iter().map(|(id, offset, queue_offset)| record(*id, *offset, *queue_offset)).collect();
        LogImage { end: records.last().map_or(0, Found::end), records, ..LogImage::default() }
    }

    fn place(offset: u64, queue_offset: u64) -> Place {
        Place { offset, end: offset + 100, queue_offset }
    }

    /// Two messages of boot 1, the first acknowledged; then recoveries that find what the rows say.
    fn check(promise: Promise, power: bool, rounds: &[&[(u64, u64, u64)]], expect: Option<&str>) {
        let mut model = Model::new(promise);
        let (first, second) = (model.attempt("T", 0, 10, Some(1)), model.attempt("T", 0, 10, Some(1)));
        model.acknowledge(first, Some(place(0, 0)));
        model.placed(second, place(100, 1));
        model.power_was_cut = power;
        for (round, found) in rounds.iter().enumerate() {
            let log = log(found);
            model.recovered(&log, log.end, 2 + round as u64);
        }
        assert_eq!(model.violations.first().map(|violation| violation.invariant), expect, "{rounds:?}");
    }

    #[test]
    fn what_recoveries_may_and_may_not_find() {
        let (one, two) = ((1, 0, 0), (2, 100, 1));
        check(Promise::Disk, true, &[&[one, two]], None);
        check(Promise::Disk, true, &[&[one]], None);
        check(Promise::Disk, true, &[&[]], Some(LOST));
        check(Promise::PageCache, true, &[&[]], None);
        check(Promise::PageCache, false, &[&[]], Some(LOST));
        check(Promise::Memory, false, &[&[]], None);
        check(Promise::Disk, true, &[&[one], &[one, two]], Some(INVENTED));
        check(Promise::Disk, true, &[&[one, (3, 100, 1)]], Some(INVENTED));
        check(Promise::Disk, true, &[&[one, (2, 100, 2)]], Some(QUEUE_OFFSETS));
        check(Promise::Disk, true, &[&[one, (2, 200, 1)]], Some(ADJACENT));
        check(Promise::Disk, true, &[&[one, two, (1, 200, 2)]], Some(ADJACENT));
    }
}
