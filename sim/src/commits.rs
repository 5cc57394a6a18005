//! Positions that groups committed: after a crash a group may be put back by as much as was not written yet, never further,
//! and never beyond what it committed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A write of the file may take so long, beside its interval.
const SLACK: Duration = Duration::from_secs(3);

/// A queue as a group sees it: group, topic, queue.
pub type Key = (String, String, u64);

#[derive(Default)]
pub struct Commits {
    /// How often the broker writes its file.
    pub interval: Duration,
    /// (when, in which boot, offset), acknowledged.
    acknowledged: BTreeMap<Key, Vec<(Duration, u64, i64)>>,
    /// The furthest that was asked for.
    asked: BTreeMap<Key, i64>,
    /// Groups and boots in which requests of an earlier connection may still arrive: nothing is certain there.
    unsure: BTreeSet<(String, u64)>,
    /// When a boot ended, and whether in order.
    ended: BTreeMap<u64, (Duration, bool)>,
}

impl Commits {
    pub fn ask(&mut self, key: &Key, offset: i64) {
        let furthest = self.asked.entry(key.clone()).or_insert(offset);
        *furthest = offset.max(*furthest);
    }

    pub fn acknowledge(&mut self, key: &Key, now: Duration, boot: u64, offset: i64) {
        if !self.is_sure(&key.0, boot) {
            return;
        }
        self.acknowledged.entry(key.clone()).or_default().push((now, boot, offset));
    }

    /// The group is about to go back: what it committed before binds nobody any more, whatever becomes of that.
    pub fn goes_back(&mut self, key: &Key) {
        self.acknowledged.remove(key);
    }

    /// A client of the group connects once more while the broker lives: requests of its earlier connection may still
    /// arrive, and put it back.
    pub fn reconnected(&mut self, group: &str, boot: u64) {
        self.unsure.insert((group.to_owned(), boot));
        for (_, commits) in self.acknowledged.iter_mut().filter(|((whose, ..), _)| whose == group) {
            commits.retain(|(_, when, _)| *when != boot);
        }
    }

    /// Whether nobody else may be committing for the group in this boot.
    pub fn is_sure(&self, group: &str, boot: u64) -> bool {
        !self.unsure.contains(&(group.to_owned(), boot))
    }

    pub fn boot_ended(&mut self, boot: u64, now: Duration, in_order: bool) {
        self.ended.entry(boot).or_insert((now, in_order));
    }

    /// What is wrong with a position that the broker says is the group's.
    pub fn check(&self, key: &Key, found: i64) -> Option<String> {
        let furthest = self.asked.get(key).copied().unwrap_or(0);
        if found > furthest {
            return Some(format!("{key:?} is at {found}, and {furthest} is the furthest that was committed"));
        }
        let mut lasting = self.acknowledged.get(key)?.iter().filter(|(at, boot, _)| {
            let ended = self.ended.get(boot);
            ended.is_some_and(|(end, in_order)| *in_order || *at + self.interval + SLACK < *end)
        });
        // The last of them counts: a group may go back on purpose.
        let (at, boot, least) = *lasting.next_back()?;
        (found < least).then(|| format!("{key:?} is at {found}, after {least} was committed at {at:?} in boot {boot}"))
    }
}
