//! What the next message of each queue gets. Knows no message.

use std::collections::HashMap;

/// Queues of a topic with a number below this stand in a row. A directory may have any number for a name, and must not
/// cost memory by it.
const ROW_MAX: usize = 4_096;

#[derive(Default)]
struct OfTopic {
    row: Vec<u64>,
    others: HashMap<u32, u64>,
}

impl OfTopic {
    fn get(&self, queue_id: u32) -> u64 {
        self.row.get(queue_id as usize).or_else(|| self.others.get(&queue_id)).copied().unwrap_or(0)
    }

    fn of(&mut self, queue_id: u32) -> &mut u64 {
        let index = queue_id as usize;
        if index >= ROW_MAX {
            return self.others.entry(queue_id).or_default();
        }
        if self.row.len() <= index {
            self.row.resize(index + 1, 0);
        }
        &mut self.row[index]
    }
}

/// Never iterated. The topic asked for last is remembered: messages of one topic follow each other, and a comparison
/// is cheaper than a hash under the append lock.
#[derive(Default)]
pub(super) struct NextOffsets {
    topics: HashMap<String, OfTopic>,
    /// Stands here instead of in `topics`.
    last: Option<(String, OfTopic)>,
}

impl NextOffsets {
    /// 0 for a queue never asked for.
    pub fn get(&self, topic: &str, queue_id: u32) -> u64 {
        let queues = match &self.last {
            Some((name, queues)) if name == topic => Some(queues),
            _ => self.topics.get(topic),
        };
        queues.map_or(0, |queues| queues.get(queue_id))
    }

    pub fn of(&mut self, topic: &str, queue_id: u32) -> &mut u64 {
        if self.last.as_ref().is_none_or(|(name, _)| name != topic) {
            let (name, queues) =
                self.topics.remove_entry(topic).unwrap_or_else(|| (topic.to_owned(), OfTopic::default()));
            if let Some((before, queues)) = self.last.replace((name, queues)) {
                self.topics.insert(before, queues);
            }
        }
        let (_, queues) = self.last.as_mut().expect("just put there");
        queues.of(queue_id)
    }

    pub fn forget(&mut self, topic: &str) {
        self.last.take_if(|(name, _)| name == topic);
        self.topics.remove(topic);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_count_on_whatever_was_asked_before() {
        let mut next = NextOffsets::default();
        for (topic, queue, expect) in
            [("a", 0, 0), ("a", 0, 1), ("b", 3, 0), ("a", 0, 2), ("a", 1, 0), ("c", 0, 0), ("b", 3, 1), ("a", 1, 1)]
        {
            let slot = next.of(topic, queue);
            assert_eq!(*slot, expect, "{topic} {queue}");
            *slot += 1;
            assert_eq!(next.get(topic, queue), expect + 1);
        }
        // A stray directory named 400000000 once cost 3 GB at the start.
        *next.of("c", 400_000_000) += 7;
        assert_eq!((next.get("c", 400_000_000), next.get("c", 4_096), next.get("c", 0)), (7, 0, 1));
        assert_eq!((next.get("b", 3), next.get("b", 0), next.get("b", 9), next.get("d", 0)), (2, 0, 0, 0));
        next.forget("a");
        next.forget("b");
        assert_eq!((next.get("a", 0), next.get("b", 3), next.get("c", 0)), (0, 0, 1));
    }
}
