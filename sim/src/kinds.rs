//! The rules of every kind of message but the plain one, as an oracle that reads the log: what was delayed comes in time
//! and in order, a half is delivered if and only if it was committed, what failed is tried again and then a dead letter.

use std::{collections::BTreeMap, time::Duration};

use keelmq::model::OffsetMessageId;

use crate::{
    commits::Commits,
    log_image::{Found, LogImage},
    model::{Attempt, LOST, Model, Promise, TIMED, id_of},
};

pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
pub const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
pub const OP_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
pub const GIVEN_UP_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
pub const RETRY_PREFIX: &str = "%RETRY%";
pub const DEAD_PREFIX: &str = "%DLQ%";
/// Where a half stands that was stored again.
const ROOT: &str = "TRAN_PREPARED_QUEUE_OFFSET";
/// The delay level of the first retry.
const FIRST_RETRY_LEVEL: usize = 3;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// With a delay level, from 1.
    Delayed(u32),
    /// The half of a transaction.
    Half,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Commit,
    RollBack,
}

/// What the producer of a half message said, and what it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Word {
    pub commit_asked: bool,
    pub rollback_asked: bool,
    /// Acknowledged before the opposite was asked for: it stands.
    pub decided: Option<Decision>,
    /// Where the log ended then.
    pub decided_end: u64,
    /// How often the producer was asked.
    pub questions: u32,
}

/// What the oracle knows beside the attempts.
#[derive(Default)]
pub struct Kinds {
    /// Milliseconds of each delay level.
    pub levels_ms: Vec<i64>,
    /// Attempts of a group before a message is a dead letter.
    pub retry_max: i32,
    /// How often a producer may be asked about a half.
    pub check_max: u32,
    /// More transactions may be open than the table holds. Those that a start leaves out are counted anew.
    pub table_is_small: bool,
    /// The broker's clock went back: nothing can be said about what is early.
    pub clock_went_back: bool,
    /// It was set ahead: what is delayed may come sooner than the world's time says.
    pub clock_jumped_ahead: bool,
    /// Its readings may be older by that.
    pub clock_tick: Duration,
    /// How often a reply came to the client that asked.
    pub replies: BTreeMap<u64, u64>,
    /// The broker crashed or ended so often.
    pub ends: u64,
    /// In the log as last read: given up, delayed and delivered, dead, tried again.
    pub seen: [u64; 4],
    /// Positions that consumers committed.
    pub commits: Commits,
    /// Acknowledged to a consumer that sent them back: (group, message, how often it was tried then).
    pub sent_back: BTreeMap<(String, u64, i32), u64>,
}

impl Kinds {
    /// How long a message of this level waits; of a level beyond the last, as one of the last.
    fn delay_ms(&self, level: usize) -> i64 {
        self.levels_ms.get(level.min(self.levels_ms.len()).wrapping_sub(1)).copied().unwrap_or(0)
    }
}

/// Topics with this prefix are deleted and made again: their queues begin anew, and a crash may derive some of what was
/// deleted once more, as in RocketMQ.
pub fn is_recreated(topic: &str) -> bool {
    topic.starts_with('X')
}

pub fn is_op(record: &Found) -> bool {
    record.topic == OP_TOPIC
}

/// Whether it is what a producer sent, of those that stand in the same queue.
pub fn is_first(record: &Found) -> bool {
    record.property(ROOT).is_none() && record.property("RETRY_TOPIC").is_none()
}

/// The tag of a message of the broker's scene: two of them have one hash.
pub fn tag_of(id: u64) -> &'static str {
    ["Aa", "BB", "C#", "tag3", "Aa"][(id % 5) as usize]
}

/// Whether a plain message's answer is to come before its sync.
pub fn is_unwaited(id: u64) -> bool {
    id % 6 == 5
}

/// Its property "own", which filters look at.
pub fn own_of(id: u64) -> u64 {
    id % 10
}

/// How long a consumer asks to wait when it sends a message back: a level, 0 for as long as its attempts say, below that
/// for no more attempts.
pub fn retry_level_asked(id: u64) -> i32 {
    match id % 11 {
        5 => -1,
        6 => 2,
        _ => 0,
    }
}

/// The level that a message waits at for its next attempt.
fn retry_level(id: u64, times: i32) -> usize {
    match retry_level_asked(id) {
        0 => FIRST_RETRY_LEVEL + times as usize - 1,
        level => level.max(0) as usize,
    }
}

/// Whether what was sent as `attempt` may stand as this record.
pub fn may_be_copy(attempt: &Attempt, record: &Found) -> bool {
    let is_real = record.topic == attempt.topic && record.queue_id == attempt.queue_id;
    let real_place = || {
        let queue = record.property("REAL_QID").and_then(|queue| queue.parse().ok());
        (record.property("REAL_TOPIC").unwrap_or_default(), queue)
    };
    match attempt.kind {
        Kind::Delayed(_) if is_real => true,
        Kind::Half if is_real => record.sys_flag & 0xC == 8,
        Kind::Half if record.topic == HALF_TOPIC || record.topic == GIVEN_UP_TOPIC => {
            record.queue_id == 0 && real_place() == (&attempt.topic, Some(attempt.queue_id))
        }
        // Sent back: on its way to a retry topic, there, or dead.
        _ => {
            let is_waiting = record.topic == SCHEDULE_TOPIC && real_place().0.starts_with(RETRY_PREFIX);
            let is_back = is_waiting || record.topic.starts_with(RETRY_PREFIX) || record.topic.starts_with(DEAD_PREFIX);
            is_back
                && record.property("RETRY_TOPIC") == Some(&attempt.topic)
                && record.property("ORIGIN_MESSAGE_ID").and_then(OffsetMessageId::parse).is_some()
        }
    }
}

/// COMPRESSED of a record's system flag; its bits of a transaction.
const COMPRESSED: i32 = 1;
const TRANSACTION: i32 = 0xC;

/// Whether the record's system flag says what was sent, and of a transaction what is right where it stands.
pub fn flags_kept(attempt: &Attempt, record: &Found, is_home: bool) -> bool {
    let is_right = match attempt.kind {
        // While it waits it is none; what its commit delivers says so, and so does what comes back of that.
        Kind::Half if !is_home => true,
        _ => record.sys_flag & TRANSACTION == 0,
    };
    is_right && (record.sys_flag & COMPRESSED != 0) == attempt.sent.is_compressed
}

/// Whether the record says all that was sent; how long it is to wait is the broker's to change.
pub fn properties_kept(sent: &str, record: &Found) -> bool {
    let pairs = sent.split('\u{2}').filter_map(|pair| pair.split_once('\u{1}'));
    let mut kept = pairs.filter(|(name, _)| !matches!(*name, "DELAY" | "WAIT"));
    kept.all(|(name, value)| record.property(name) == Some(value))
}

/// What of one message stands in the log.
#[derive(Default)]
struct Traces<'l> {
    first: Option<&'l Found>,
    /// In its real topic, made by the broker.
    delivered: Vec<&'l Found>,
    given_up: u64,
    /// (group, attempts) → on its way to the retry topic, there, dead.
    waiting: BTreeMap<(&'l str, i32), &'l Found>,
    retried: Vec<(&'l str, &'l Found)>,
    dead: Vec<(&'l str, &'l Found)>,
}

impl Model {
    /// What was acknowledged into a topic has a topic after every crash, before anybody makes it anew.
    pub fn check_topics(&mut self, boot: u64, is_there: impl Fn(&str) -> bool) {
        let mut owed = self.attempts.values().filter(|attempt| {
            attempt.acknowledged && attempt.boot.is_some_and(|taken| taken < boot) && !is_recreated(&attempt.topic)
        });
        let homeless = owed.find(|attempt| !is_there(&attempt.topic)).map(|attempt| attempt.topic.clone());
        if let Some(topic) = homeless.filter(|_| self.promise == Promise::Disk) {
            self.violation(
                LOST,
                format!("boot {boot} does not know the topic {topic}, which has acknowledged messages"),
            );
        }
    }

    /// The log, at a recovery or at the end, against the rules of all kinds.
    pub fn check_kinds(&mut self, log: &LogImage, boot: u64) {
        if log.records.first().is_some_and(|record| record.offset > 0) {
            return;
        }
        let mut traces: BTreeMap<u64, Traces<'_>> = BTreeMap::new();
        for record in &log.records {
            let Some(id) = record.property("UNIQ_KEY").and_then(id_of) else { continue };
            let Some(attempt) = self.attempts.get(&id) else { continue };
            let entry = traces.entry(id).or_default();
            let real_topic = record.property("REAL_TOPIC").unwrap_or_default();
            if record.topic == GIVEN_UP_TOPIC {
                entry.given_up += 1;
            } else if let Some(group) = record.topic.strip_prefix(RETRY_PREFIX) {
                entry.retried.push((group, record));
            } else if let Some(group) = record.topic.strip_prefix(DEAD_PREFIX) {
                entry.dead.push((group, record));
            } else if let Some(group) = real_topic.strip_prefix(RETRY_PREFIX).filter(|_| record.topic == SCHEDULE_TOPIC)
            {
                entry.waiting.entry((group, record.reconsume_times)).or_insert(record);
            } else if record.topic == attempt.topic && attempt.kind != Kind::Plain {
                entry.delivered.push(record);
            } else if entry.first.is_none() {
                entry.first = Some(record);
            }
        }
        let mut seen = [0; 4];
        for traces in traces.values() {
            let is_delayed = traces.first.is_some_and(|first| first.topic == SCHEDULE_TOPIC);
            seen[0] += traces.given_up;
            seen[1] += u64::from(is_delayed && !traces.delivered.is_empty());
            seen[2] += traces.dead.len() as u64;
            seen[3] += traces.retried.len() as u64;
        }
        self.kinds.seen = seen;
        let mut wrong = Vec::new();
        for (id, traces) in &traces {
            let attempt = &self.attempts[id];
            match attempt.kind {
                Kind::Plain => {}
                Kind::Delayed(level) => self.check_delayed(*id, level, traces, &mut wrong),
                Kind::Half => self.check_half(*id, attempt, traces, boot, &mut wrong),
            }
            self.check_retried(*id, traces, &mut wrong);
        }
        for (id, attempt) in &self.attempts {
            let is_owed = attempt.boot.is_some_and(|taken| taken < boot) && self.promise == Promise::Disk;
            let is_committed = attempt.kind == Kind::Half && attempt.word.decided == Some(Decision::Commit);
            if is_owed && is_committed && traces.get(id).is_none_or(|traces| traces.delivered.is_empty()) {
                wrong.push((LOST, format!("the commit of message {id} was acknowledged, and it is not in its topic")));
            }
        }
        self.check_levels(log, &mut wrong);
        self.check_sent_back(&traces, boot, &mut wrong);
        for (invariant, text) in wrong {
            self.violation(invariant, text);
        }
    }

    /// Of a delayed message that a consumer gets at `now`: by the world's time, which no clock that is set back changes.
    pub fn is_too_soon(&self, id: u64, now: Duration) -> Option<String> {
        let attempt = &self.attempts[&id];
        let Kind::Delayed(level) = attempt.kind else { return None };
        let delay = Duration::from_millis(self.kinds.delay_ms(level as usize) as u64);
        let waited = now.saturating_sub(attempt.sent.at);
        // Its clock may be a little fast, or tick coarsely.
        let is_soon = !self.kinds.clock_jumped_ahead && waited + delay / 8 + self.kinds.clock_tick < delay;
        is_soon.then(|| format!("a consumer got message {id} of level {level} {waited:?} after it was sent"))
    }

    fn is_early(&self, stored: &Found, delivered: &Found, level: usize) -> bool {
        !self.kinds.clock_went_back && delivered.store_timestamp < stored.store_timestamp + self.kinds.delay_ms(level)
    }

    fn check_delayed(&self, id: u64, level: u32, traces: &Traces<'_>, wrong: &mut Vec<(&'static str, String)>) {
        let Some(delivered) = traces.delivered.first() else { return };
        let Some(first) = traces.first.filter(|first| first.offset < delivered.offset) else {
            wrong.push((TIMED, format!("delayed message {id} stands in its topic and not in the schedule topic")));
            return;
        };
        if self.is_early(first, delivered, level as usize) {
            let waited = delivered.store_timestamp - first.store_timestamp;
            wrong.push((TIMED, format!("message {id} of level {level} was delivered after {waited} ms")));
        }
        // Again only after a crash.
        if traces.delivered.len() as u64 > 1 + self.kinds.ends {
            let text = format!("message {id} was delivered {} times", traces.delivered.len());
            wrong.push((TIMED, format!("{text}, the broker began {} times", 1 + self.kinds.ends)));
        }
    }

    fn check_half(
        &self,
        id: u64,
        attempt: &Attempt,
        traces: &Traces<'_>,
        boot: u64,
        wrong: &mut Vec<(&'static str, String)>,
    ) {
        let (count, word) = (traces.delivered.len(), attempt.word);
        if count > 1 {
            wrong.push((TIMED, format!("the transaction of message {id} was delivered {count} times")));
        }
        if count > 0 && !word.commit_asked {
            wrong.push((TIMED, format!("message {id} was delivered, and nobody asked for its commit")));
        }
        // What was acknowledged without a sync may be lost, and asked about once more.
        let lasts = self.promise == Promise::Disk;
        if lasts && count > 0 && word.decided == Some(Decision::RollBack) {
            wrong.push((TIMED, format!("message {id} was delivered after its rollback was acknowledged")));
        }
        if lasts && !self.kinds.table_is_small && word.questions > self.kinds.check_max {
            let text =
                format!("message {id} was asked about {} times, {} are the most", word.questions, self.kinds.check_max);
            wrong.push((TIMED, text));
        }
        if traces.given_up > 1 + self.kinds.ends {
            wrong.push((TIMED, format!("message {id} was given up {} times by boot {boot}", traces.given_up)));
        }
    }

    fn check_retried(&self, id: u64, traces: &Traces<'_>, wrong: &mut Vec<(&'static str, String)>) {
        let most = if retry_level_asked(id) < 0 { 0 } else { self.kinds.retry_max };
        for (group, record) in &traces.retried {
            let times = record.reconsume_times;
            if !(1..=most).contains(&times) {
                wrong
                    .push((TIMED, format!("{group} retries message {id} for the {times}th time, {most} are the most")));
            }
            match traces.waiting.get(&(*group, times)) {
                None => wrong.push((TIMED, format!("{group} retries message {id} ({times}), which was not sent back"))),
                Some(waiting) => {
                    let level = retry_level(id, times);
                    let queue = level.min(self.kinds.levels_ms.len()).wrapping_sub(1) as u32;
                    if waiting.queue_id != queue {
                        let text = format!("{group} waits for message {id} ({times}) in queue {}", waiting.queue_id);
                        wrong.push((TIMED, format!("{text} and not in {queue}")));
                    }
                    if self.is_early(waiting, record, level) || waiting.offset > record.offset {
                        let waited = record.store_timestamp - waiting.store_timestamp;
                        wrong.push((TIMED, format!("{group} retries message {id} ({times}) after {waited} ms")));
                    }
                }
            }
        }
        for (group, record) in &traces.dead {
            let times = record.reconsume_times;
            if times != most + 1 {
                let text =
                    format!("message {id} is a dead letter of {group} after {times} attempts instead of {}", most + 1);
                wrong.push((TIMED, text));
            }
        }
    }

    /// Within a level messages come in the order in which they were stored.
    fn check_levels(&self, log: &LogImage, wrong: &mut Vec<(&'static str, String)>) {
        let mut stored: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        for record in &log.records {
            let Some(id) = record.property("UNIQ_KEY").and_then(id_of) else { continue };
            let Some(attempt) = self.attempts.get(&id) else { continue };
            if !matches!(attempt.kind, Kind::Delayed(_)) {
                continue;
            }
            if record.topic == SCHEDULE_TOPIC && is_first(record) {
                stored.insert(id, (record.queue_id, record.queue_offset));
            } else if record.topic == attempt.topic
                && let Some((level, offset)) = stored.remove(&id)
            {
                let expect = last.insert(level, offset);
                if expect.is_some_and(|before| before > offset) {
                    wrong.push((TIMED, format!("message {id} of level {} was overtaken by a later one", level + 1)));
                }
            }
        }
    }

    /// What a consumer was told is kept for it must be there.
    fn check_sent_back(&self, traces: &BTreeMap<u64, Traces<'_>>, boot: u64, wrong: &mut Vec<(&'static str, String)>) {
        if self.promise != Promise::Disk {
            return;
        }
        for ((group, id, times), taken) in &self.kinds.sent_back {
            if *taken >= boot {
                continue;
            }
            let is_there = traces.get(id).is_some_and(|traces| {
                let next = times + 1;
                let is_dead =
                    traces.dead.iter().any(|(whose, record)| whose == group && record.reconsume_times == next);
                traces.waiting.contains_key(&(group, next)) || is_dead
            });
            if !is_there {
                wrong.push((LOST, format!("{group} sent message {id} ({times}) back, and it is nowhere")));
            }
        }
    }
}
