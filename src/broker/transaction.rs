//! Which half messages wait for their producer's word. Bookkeeping only: told what was stored and what was decided, asked
//! what is to be done. Knows neither log nor clients.
//!
//! A half message that is asked about is stored once more, so a transaction may have several *places* in the queue of half
//! messages; its *root* is the first of them and names it. Everything below the *horizon* has been seen, and of what was
//! seen only the open transactions are remembered: what is below the horizon and not among them is finished. That keeps
//! the memory to the open ones, and answers for a transaction that was finished years ago.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::sync::Notify;

use crate::model::{LogOffset, QueueOffset};

/// Late commits of transactions that were given up; the index of messages knows them a moment later.
const REOPENED_MAX: usize = 1_024;
/// Points of progress that are remembered; between two of them the op queue is read again after a start.
const ERAS_MAX: usize = 1_024;

/// A half message as it stands in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Half {
    pub root: QueueOffset,
    /// Where it stands now: the last of its places.
    pub place: QueueOffset,
    pub log: LogOffset,
    /// Wall milliseconds, the producer's.
    pub born_ms: i64,
    /// CHECK_IMMUNITY_TIME_IN_SECONDS: not asked about before that age.
    pub immune_ms: Option<i64>,
    /// It was there when the broker started: its commit may be in the log already, without its op message.
    pub is_restored: bool,
}

/// What may be done about a transaction that somebody wants to finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// It is the caller's until `finish` or `release`.
    Open(Claim),
    /// The first decision stands.
    Finished,
    /// Somebody else has it: wait for `freed`.
    Taken,
    /// Too many are finished before they could be looked through.
    TooMany,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub root: QueueOffset,
    /// What the op message names; `None`: no place is known but the one that the caller has.
    pub place: Option<QueueOffset>,
    pub is_restored: bool,
    /// The committed message is in the log, only the op message is missing.
    pub is_delivered: bool,
}

/// What is to be done about an open half message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub half: Half,
    /// False: it is only stored again, for it stands so far behind that a start would read too much.
    pub is_asked: bool,
}

pub struct Transactions {
    table: Mutex<Table>,
    /// Open transactions remembered; further halves are looked at when others are finished.
    pending_max: usize,
    freed: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    /// By root.
    open: BTreeMap<u64, Half>,
    /// Place → root, of `open`.
    places: BTreeMap<u64, u64>,
    /// Roots at or above the horizon that are finished.
    finished_ahead: BTreeSet<u64>,
    /// Roots in somebody's hands.
    taken: BTreeSet<u64>,
    /// Roots whose committed message is in the log while their op message is not.
    delivered: BTreeSet<u64>,
    /// Roots below the horizon that were opened once more, oldest first.
    reopened: VecDeque<u64>,
    /// Halves below it have been seen.
    horizon: u64,
    /// Halves below it were there at the start: a process before this one may have delivered them.
    began: u64,
    /// A start found more open ones than are remembered: it left the rest to `discover`.
    is_cut: bool,
    /// Op messages below the second number concern only halves below the first.
    eras: VecDeque<(u64, u64)>,
}

/// How far both queues are done with: what a start need not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub halves: QueueOffset,
    pub ops: QueueOffset,
}

impl Transactions {
    /// Nothing is open; halves before `from.halves` and op messages before `from.ops` are done with.
    pub fn new(pending_max: usize, from: Progress) -> Self {
        let (horizon, eras) = (from.halves.0, VecDeque::from([(from.halves.0, from.ops.0)]));
        let table = Table { horizon, eras, ..Table::default() };
        Transactions { table: Mutex::new(table), pending_max, freed: Arc::new(Notify::new()) }
    }

    /// Notified whenever a transaction leaves somebody's hands. Take the future before `begin` is asked.
    pub fn freed(&self) -> &Arc<Notify> {
        &self.freed
    }

    pub fn horizon(&self) -> QueueOffset {
        QueueOffset(self.lock().horizon)
    }

    /// Behind every half that is known. Those that were stored again stand behind the horizon while a full table keeps it
    /// back.
    pub fn end(&self) -> QueueOffset {
        let table = self.lock();
        let last = table.places.keys().next_back().map_or(0, |place| place + 1);
        QueueOffset(table.horizon.max(last))
    }

    pub fn open_count(&self) -> usize {
        self.lock().open.len()
    }

    pub fn is_full(&self) -> bool {
        self.lock().open.len() >= self.pending_max
    }

    /// At a start: a half that the queue holds behind the progress. `is_done`: an op message names its transaction.
    pub fn restore(&self, half: Half, is_done: bool) {
        let mut table = self.lock();
        table.is_cut |= !is_done && half.root == half.place && table.open.len() >= self.pending_max;
        if !table.is_cut {
            table.horizon = table.horizon.max(half.place.0 + 1);
        }
        if is_done {
            table.close(half.root.0);
            if half.root.0 >= table.horizon {
                table.finished_ahead.insert(half.root.0);
            }
        } else if half.root.0 < table.horizon {
            table.open(Half { is_restored: true, ..half });
        }
    }

    /// At a start: the queue has been shown up to here.
    pub fn restored(&self, end: QueueOffset) {
        let mut table = self.lock();
        table.began = end.0;
        // Those that were left out are still to be seen.
        if !table.is_cut {
            table.horizon = table.horizon.max(end.0);
        }
    }

    /// Takes in the next half of the queue. Places that `moved` told are no news.
    pub fn discover(&self, half: Half) {
        let mut table = self.lock();
        if half.place.0 < table.horizon {
            return;
        }
        table.horizon = half.place.0 + 1;
        let (root, is_first) = (half.root.0, half.root == half.place);
        if table.finished_ahead.remove(&root) {
            return;
        }
        // A later place of a transaction that is not open was stored while it was being finished.
        if is_first || table.open.get(&root).is_some_and(|known| known.place < half.place) {
            let is_restored = root < table.began;
            table.open(Half { is_restored, ..half });
        }
    }

    /// The queue has nothing to read up to here: its beginning was removed, or what stood there is no half message.
    pub fn skip_to(&self, offset: QueueOffset) {
        let mut table = self.lock();
        table.horizon = table.horizon.max(offset.0);
        let ahead = table.finished_ahead.split_off(&offset.0);
        table.finished_ahead = ahead;
    }

    /// Takes a transaction into the caller's hands.
    pub fn begin(&self, root: QueueOffset) -> Begin {
        let mut table = self.lock();
        if table.taken.contains(&root.0) {
            return Begin::Taken;
        }
        let known = table.open.get(&root.0).copied();
        if known.is_none() {
            if root.0 < table.horizon || table.finished_ahead.contains(&root.0) {
                return Begin::Finished;
            }
            if table.finished_ahead.len() + table.taken.len() >= self.pending_max {
                return Begin::TooMany;
            }
        }
        table.taken.insert(root.0);
        Begin::Open(Claim {
            root,
            place: known.map(|half| half.place),
            is_restored: known.map_or(root.0 < table.began, |half| half.is_restored),
            is_delivered: table.delivered.contains(&root.0),
        })
    }

    /// Takes a finished transaction that was given up into the caller's hands, once.
    pub fn reopen(&self, root: QueueOffset) -> Begin {
        let mut table = self.lock();
        if table.reopened.contains(&root.0) {
            return Begin::Finished;
        }
        if !table.taken.insert(root.0) {
            return Begin::Taken;
        }
        Begin::Open(Claim { root, place: None, is_restored: true, is_delivered: table.delivered.contains(&root.0) })
    }

    /// Decided, and the op message that says so is in the log.
    pub fn finish(&self, root: QueueOffset) {
        {
            let mut table = self.lock();
            assert!(table.taken.remove(&root.0), "transaction {root} was finished by who did not hold it");
            table.delivered.remove(&root.0);
            let was_open = table.close(root.0);
            if root.0 >= table.horizon {
                table.finished_ahead.insert(root.0);
            } else if !was_open {
                table.reopened.push_back(root.0);
                if table.reopened.len() > REOPENED_MAX {
                    table.reopened.pop_front();
                }
            }
        }
        self.freed.notify_waiters();
    }

    /// Given back undecided. `is_delivered`: its committed message is in the log, and only the op message is missing.
    pub fn release(&self, root: QueueOffset, is_delivered: bool) {
        {
            let mut table = self.lock();
            assert!(table.taken.remove(&root.0), "transaction {root} was released by who did not hold it");
            if is_delivered {
                table.delivered.insert(root.0);
            }
        }
        self.freed.notify_waiters();
    }

    /// The half was stored once more; the caller still holds it. What a crash may have left was looked for.
    pub fn moved(&self, root: QueueOffset, place: QueueOffset, log: LogOffset) {
        let mut table = self.lock();
        if let Some(known) = table.open.get(&root.0).copied() {
            table.open(Half { place, log, is_restored: false, ..known });
        }
    }

    /// The first open half at `from` or behind it, before `until`, about which something is to be done at `now_ms`, and
    /// where to go on. Those in somebody's hands are left to them.
    pub fn next_due(&self, from: QueueOffset, until: QueueOffset, now_ms: i64, timeout_ms: i64) -> Option<Due> {
        let table = self.lock();
        if from >= until {
            return None;
        }
        table.places.range(from.0..until.0).find_map(|(place, root)| {
            let half = table.open.get(root).copied().expect("every place is an open half's");
            if table.taken.contains(root) {
                return None;
            }
            let is_asked = is_due(&half, now_ms, timeout_ms) || table.delivered.contains(root);
            let is_far_behind = place + (self.pending_max as u64) < table.horizon;
            (is_asked || is_far_behind).then_some(Due { half, is_asked })
        })
    }

    /// Notes that op messages below `ops` concern halves below `halves`: `ops` must have been read first.
    pub fn mark_era(&self, halves: QueueOffset, ops: QueueOffset) {
        let mut table = self.lock();
        if table.eras.back() == Some(&(halves.0, ops.0)) {
            return;
        }
        if table.eras.len() >= ERAS_MAX {
            // Every other one: progress is told a little later.
            let mut keep = false;
            table.eras.retain(|_| {
                keep = !keep;
                keep
            });
        }
        table.eras.push_back((halves.0, ops.0));
    }

    /// What is done with. The half queue's is to be stored before the op queue's: op messages that are read once too
    /// often change nothing.
    pub fn progress(&self) -> Progress {
        let mut table = self.lock();
        let halves = table.places.keys().next().map_or(table.horizon, |first| table.horizon.min(*first));
        while table.eras.get(1).is_some_and(|(needs, _)| *needs <= halves) {
            table.eras.pop_front();
        }
        let ops = table.eras.front().filter(|(needs, _)| *needs <= halves).map_or(0, |(_, ops)| *ops);
        Progress { halves: QueueOffset(halves), ops: QueueOffset(ops) }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nothing panics while it is held")
    }
}

impl Table {
    fn open(&mut self, half: Half) {
        if let Some(known) = self.open.insert(half.root.0, half) {
            self.places.remove(&known.place.0);
        }
        self.places.insert(half.place.0, half.root.0);
    }

    fn close(&mut self, root: u64) -> bool {
        let known = self.open.remove(&root);
        if let Some(known) = known {
            self.places.remove(&known.place.0);
        }
        known.is_some()
    }
}

/// RocketMQ's rule: old enough, or born after now, which only a producer whose clock is wrong can be.
fn is_due(half: &Half, now_ms: i64, timeout_ms: i64) -> bool {
    let age = now_ms.saturating_sub(half.born_ms);
    match half.immune_ms {
        Some(immune_ms) => age >= immune_ms,
        None => age < 0 || age >= timeout_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM: Progress = Progress { halves: QueueOffset(0), ops: QueueOffset(0) };

    fn half(place: u64, root: u64, born_ms: i64) -> Half {
        let (root, place, log) = (QueueOffset(root), QueueOffset(place), LogOffset(1_000 + place));
        Half { root, place, log, born_ms, immune_ms: None, is_restored: false }
    }

    fn is_open(begin: Begin) -> bool {
        matches!(begin, Begin::Open(_))
    }

    fn finish(table: &Transactions, root: u64) {
        assert!(is_open(table.begin(QueueOffset(root))), "transaction {root}");
        table.finish(QueueOffset(root));
    }

    #[test]
    fn the_first_decision_stands() {
        let table = Transactions::new(16, FROM);
        // Decided before it was seen, and after.
        finish(&table, 0);
        assert_eq!(table.begin(QueueOffset(0)), Begin::Finished);
        table.discover(half(0, 0, 0));
        table.discover(half(1, 1, 0));
        assert_eq!((table.begin(QueueOffset(0)), table.open_count()), (Begin::Finished, 1));
        finish(&table, 1);
        assert_eq!((table.begin(QueueOffset(1)), table.open_count()), (Begin::Finished, 0));
        assert_eq!(table.progress().halves, QueueOffset(2));
    }

    #[test]
    fn one_at_a_time() {
        let table = Transactions::new(16, FROM);
        table.discover(half(0, 0, 0));
        assert!(is_open(table.begin(QueueOffset(0))));
        assert_eq!(table.begin(QueueOffset(0)), Begin::Taken);
        assert_eq!(table.next_due(QueueOffset(0), QueueOffset(9), 1 << 40, 0), None, "it is in somebody's hands");
        table.release(QueueOffset(0), true);
        let Begin::Open(claim) = table.begin(QueueOffset(0)) else { panic!("it was given back") };
        assert!(claim.is_delivered, "or it would be delivered twice");
    }

    #[test]
    fn a_half_that_was_stored_again_is_one_transaction() {
        let table = Transactions::new(16, FROM);
        table.discover(half(0, 0, 0));
        table.discover(half(1, 1, 0));
        assert!(is_open(table.begin(QueueOffset(0))));
        table.moved(QueueOffset(0), QueueOffset(2), LogOffset(7));
        table.release(QueueOffset(0), false);
        table.discover(half(2, 0, 0));
        assert_eq!((table.open_count(), table.progress().halves), (2, QueueOffset(1)));
        finish(&table, 0);
        finish(&table, 1);
        assert_eq!(table.progress().halves, QueueOffset(3));
        // Stored again while it was being finished by somebody else's hand: no news.
        table.discover(half(3, 0, 0));
        assert_eq!(table.open_count(), 0);
    }

    #[test]
    fn when_a_half_is_asked_about() {
        let check = |born_ms: i64, immune_ms: Option<i64>, now_ms: i64, expect: bool| {
            let table = Transactions::new(16, FROM);
            table.discover(Half { immune_ms, ..half(0, 0, born_ms) });
            let due = table.next_due(QueueOffset(0), QueueOffset(1), now_ms, 6_000);
            assert_eq!(due.is_some(), expect, "born {born_ms}, immune {immune_ms:?}, now {now_ms}");
        };
        check(0, None, 5_999, false);
        check(0, None, 6_000, true);
        check(10_000, None, 9_999, true);
        check(0, Some(60_000), 59_999, false);
        check(0, Some(60_000), 60_000, true);
        check(0, Some(1_000), 1_000, true);
        check(10_000, Some(60_000), 9_999, false);
        check(i64::MIN, None, i64::MAX, true);
    }

    #[test]
    fn a_round_ends_where_it_began() {
        let table = Transactions::new(16, FROM);
        table.discover(half(0, 0, 0));
        table.discover(half(1, 1, 0));
        let until = table.horizon();
        let mut from = QueueOffset(0);
        let mut asked = Vec::new();
        while let Some(due) = table.next_due(from, until, 10_000, 0) {
            from = due.half.place + 1;
            asked.push(due.half.root.0);
            assert!(is_open(table.begin(due.half.root)));
            table.moved(due.half.root, QueueOffset(10 + due.half.place.0), LogOffset(0));
            table.release(due.half.root, false);
        }
        assert_eq!(asked, [0, 1]);
    }

    #[test]
    fn memory_is_bounded() {
        let table = Transactions::new(2, FROM);
        finish(&table, 5);
        finish(&table, 6);
        assert_eq!(table.begin(QueueOffset(7)), Begin::TooMany);
        for place in 0..2 {
            table.discover(half(place, place, 0));
        }
        assert!(table.is_full());
        // One that stands far behind is stored again, though its time has not come.
        for place in 2..5 {
            table.skip_to(QueueOffset(place));
        }
        let due = table.next_due(QueueOffset(0), QueueOffset(9), 0, 6_000).unwrap();
        assert_eq!((due.half.place, due.is_asked), (QueueOffset(0), false));
        for number in 0..5_000 {
            table.mark_era(QueueOffset(number), QueueOffset(number));
        }
        assert!(table.lock().eras.len() <= ERAS_MAX);
    }

    /// What a killed process had delivered was delivered again: the next one was stopped in order before it looked, and
    /// the one after that believed an orderly stop; nor did anybody look for those that a full table left for later.
    #[test]
    fn what_was_there_at_the_start_is_looked_for() {
        let table = Transactions::new(2, FROM);
        for place in 0..4 {
            table.restore(half(place, place, 0), false);
        }
        table.restored(QueueOffset(4));
        let looks = |root: u64| match table.begin(QueueOffset(root)) {
            Begin::Open(claim) => claim.is_restored,
            other => panic!("{other:?}"),
        };
        assert!(looks(0), "restored");
        assert!(looks(3), "left out, and decided before it is seen");
        table.finish(QueueOffset(0));
        table.discover(half(2, 2, 0));
        assert!(looks(2), "left out, and seen later");
        table.discover(half(4, 4, 0));
        assert!(!looks(4), "new");
    }

    /// A table that a start found full kept the horizon back for ever: what it held had been stored again behind the
    /// horizon, where no round looked, so nobody was asked and nothing made room.
    #[test]
    fn a_full_table_looks_behind_its_horizon() {
        let table = Transactions::new(2, FROM);
        for (place, root) in [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1)] {
            table.restore(half(place, root, 0), false);
        }
        table.restored(QueueOffset(5));
        assert_eq!((table.horizon(), table.end(), table.is_full()), (QueueOffset(2), QueueOffset(5), true));
        let due = table.next_due(QueueOffset(0), table.end(), 1 << 40, 0).expect("the first is due");
        assert_eq!((due.half.root, due.half.place), (QueueOffset(0), QueueOffset(3)));
    }

    #[test]
    fn op_messages_are_read_as_long_as_their_half_is() {
        let table = Transactions::new(16, FROM);
        for place in 0..3 {
            table.discover(half(place, place, 0));
        }
        finish(&table, 1);
        finish(&table, 2);
        table.mark_era(QueueOffset(3), QueueOffset(2));
        assert_eq!(table.progress(), Progress { halves: QueueOffset(0), ops: QueueOffset(0) });
        finish(&table, 0);
        assert_eq!(table.progress(), Progress { halves: QueueOffset(3), ops: QueueOffset(2) });
        table.mark_era(QueueOffset(3), QueueOffset(3));
        assert_eq!(table.progress(), Progress { halves: QueueOffset(3), ops: QueueOffset(3) });
    }

    #[test]
    fn a_start_finds_what_was_open() {
        let table = Transactions::new(16, Progress { halves: QueueOffset(4), ops: QueueOffset(1) });
        // Root 2 stands below the progress; it was asked about and stored again at 5.
        for (place, root, is_done) in [(4, 4, true), (5, 2, false), (6, 6, false), (7, 7, true), (8, 2, false)] {
            table.restore(Half { is_restored: true, ..half(place, root, 0) }, is_done);
        }
        let outcome = |root| table.begin(QueueOffset(root));
        assert_eq!([outcome(1), outcome(4), outcome(7)], [Begin::Finished; 3]);
        let Begin::Open(claim) = outcome(2) else { panic!("it was open") };
        assert_eq!((claim.place, claim.is_restored), (Some(QueueOffset(8)), true));
        assert_eq!((table.open_count(), table.progress().halves), (2, QueueOffset(6)));
        assert!(is_open(outcome(9)), "it is new");
    }

    /// What a start left out for want of room must not count as finished, also when room came later.
    #[test]
    fn a_start_with_too_many_open_ones_leaves_the_rest_for_later() {
        let table = Transactions::new(2, FROM);
        let halves = [(0, 0, false), (1, 1, false), (2, 2, false), (3, 3, true), (4, 0, true), (5, 2, false)];
        for (place, root, is_done) in halves {
            table.restore(half(place, root, 0), is_done);
        }
        table.restored(QueueOffset(6));
        assert_eq!((table.open_count(), table.horizon()), (1, QueueOffset(2)));
        assert_eq!([0, 3].map(|root| table.begin(QueueOffset(root))), [Begin::Finished; 2]);
        for (place, root, _) in &halves[2..] {
            table.discover(half(*place, *root, 0));
        }
        table.skip_to(QueueOffset(6));
        assert_eq!((table.open_count(), table.progress().halves), (2, QueueOffset(1)));
        let Begin::Open(claim) = table.begin(QueueOffset(2)) else { panic!("it was left out, not finished") };
        assert_eq!(claim.place, Some(QueueOffset(5)));
        assert_eq!(table.begin(QueueOffset(3)), Begin::Finished);
    }
}
