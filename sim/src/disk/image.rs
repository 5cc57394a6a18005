//! The bytes of one file as a sparse map of pages, and sets of page numbers. Knows nothing of faults.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

/// Bytes of one page of the page cache.
pub const PAGE: u64 = 4096;
/// Bytes the device writes as one: old or new, never half.
pub const SECTOR: usize = 512;

pub type Page = [u8; PAGE as usize];

/// Content by page number; an absent page reads as zeros. Copies share their pages until one is written.
#[derive(Clone, Default, Debug)]
pub struct Image {
    pages: BTreeMap<u64, Arc<Page>>,
    pub len: u64,
}

/// The page numbers that `range` touches.
pub fn pages_of(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() { 0..0 } else { range.start / PAGE..(range.end - 1) / PAGE + 1 }
}

impl Image {
    pub fn page(&self, number: u64) -> Option<&Arc<Page>> {
        self.pages.get(&number)
    }

    pub fn set_page(&mut self, number: u64, page: Option<Arc<Page>>) {
        match page {
            Some(page) => self.pages.insert(number, page),
            None => self.pages.remove(&number),
        };
    }

    pub fn page_mut(&mut self, number: u64) -> &mut Page {
        Arc::make_mut(self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE as usize])))
    }

    /// Appends the bytes of `range` to `out`. The caller has checked it against `len`.
    pub fn read(&self, range: Range<u64>, out: &mut Vec<u8>) {
        let mut at = range.start;
        while at < range.end {
            let (number, within) = (at / PAGE, (at % PAGE) as usize);
            let take = (range.end - at).min(PAGE - within as u64) as usize;
            match self.pages.get(&number) {
                Some(page) => out.extend_from_slice(&page[within..within + take]),
                None => out.resize(out.len() + take, 0),
            }
            at += take as u64;
        }
    }

    /// Whether `range` reads the same in both. Shared pages are not looked at.
    pub fn is_same(&self, other: &Image, range: &Range<u64>) -> bool {
        pages_of(range).all(|number| {
            let (ours, theirs) = (self.pages.get(&number), other.pages.get(&number));
            let is_shared = match (ours, theirs) {
                (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
                (ours, theirs) => ours.is_none() && theirs.is_none(),
            };
            let start = number * PAGE;
            let within = (range.start.max(start) - start) as usize..(range.end.min(start + PAGE) - start) as usize;
            let bytes = |page: Option<&Arc<Page>>| page.map_or([0; PAGE as usize], |page| **page);
            is_shared || bytes(ours)[within.clone()] == bytes(theirs)[within]
        })
    }

    /// Extends `len` where needed.
    pub fn write(&mut self, at: u64, mut bytes: &[u8]) {
        let mut position = at;
        while !bytes.is_empty() {
            let (number, within) = (position / PAGE, (position % PAGE) as usize);
            let take = bytes.len().min(PAGE as usize - within);
            self.page_mut(number)[within..within + take].copy_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            position += take as u64;
        }
        self.len = self.len.max(position);
    }

    pub fn zero(&mut self, range: Range<u64>) {
        for number in pages_of(&range) {
            let start = number * PAGE;
            let (from, to) = (range.start.max(start) - start, range.end.min(start + PAGE) - start);
            if from == 0 && to == PAGE {
                self.pages.remove(&number);
            } else if self.pages.contains_key(&number) {
                self.page_mut(number)[from as usize..to as usize].fill(0);
            }
        }
        self.len = self.len.max(range.end);
    }

    /// Sets the length; what lies beyond is gone, also for a later extension.
    pub fn truncate(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE));
            if !len.is_multiple_of(PAGE) && self.pages.contains_key(&(len / PAGE)) {
                self.page_mut(len / PAGE)[(len % PAGE) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    pub fn page_numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.pages.keys().copied()
    }
}

/// A set of page numbers as disjoint ranges, so that a reserved gigabyte is one entry.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct PageSet {
    /// start → end
    ranges: BTreeMap<u64, u64>,
}

impl PageSet {
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&from, &to)) = self.ranges.range(..=end).next_back() {
            if to < start {
                break;
            }
            (start, end) = (start.min(from), end.max(to));
            self.ranges.remove(&from);
        }
        self.ranges.insert(start, end);
    }

    pub fn truncate(&mut self, end: u64) {
        self.ranges.split_off(&end);
        if let Some(mut last) = self.ranges.last_entry() {
            let cut = (*last.get()).min(end);
            *last.get_mut() = cut;
        }
    }

    /// How many pages of `range` are in the set.
    pub fn count_in(&self, range: &Range<u64>) -> u64 {
        self.ranges.range(..range.end).map(|(&from, &to)| to.min(range.end).saturating_sub(from.max(range.start))).sum()
    }

    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|(from, to)| to - from).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_behaves_like_a_vector() {
        let mut dice = crate::dice::Dice::new(3, "image");
        let (mut image, mut model) = (Image::default(), Vec::<u8>::new());
        for step in 0..3000u32 {
            let at = dice.below(40_000);
            let len = dice.below(9_000);
            match dice.below(8) {
                0 => {
                    model.resize(model.len().max((at + len) as usize), 0);
                    model[at as usize..(at + len) as usize].fill(0);
                    image.zero(at..at + len);
                }
                1 if dice.below(10) == 0 => {
                    model.resize(at as usize, 0);
                    image.truncate(at);
                }
                _ => {
                    if len > 0 {
                        model.resize(model.len().max((at + len) as usize), 0);
                        model[at as usize..(at + len) as usize].fill(step as u8);
                    }
                    image.write(at, &vec![step as u8; len as usize]);
                }
            }
            // A write or wipe of nothing may leave the lengths apart.
            model.resize(model.len().max(image.len as usize), 0);
            image.len = model.len() as u64;
            let mut seen = Vec::new();
            image.read(0..image.len, &mut seen);
            assert!(seen == model, "step {step}");
            let mut other = image.clone();
            assert!(other.is_same(&image, &(0..image.len)), "step {step}");
            if image.len > 0 {
                let changed = dice.below(image.len);
                other.write(changed, &[!seen[changed as usize]]);
                assert!(!other.is_same(&image, &(changed..changed + 1)), "step {step}");
                assert!(other.is_same(&image, &(0..changed)), "step {step}");
            }
        }
    }

    #[test]
    fn page_sets_merge() {
        let mut set = PageSet::default();
        for (from, to, count) in [(5, 7, 2), (9, 12, 5), (7, 9, 7), (0, 1, 8), (0, 20, 20), (3, 4, 20), (30, 31, 21)] {
            set.insert(from..to);
            assert_eq!(set.count(), count, "after {from}..{to}: {set:?}");
        }
        assert_eq!(set.count_in(&(18..40)), 3);
        set.truncate(10);
        assert_eq!(set.count(), 10);
    }
}
