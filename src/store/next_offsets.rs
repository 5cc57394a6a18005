//! What the next message of each queue gets. Knows no message.

use std::collections::HashMap;

/// Never iterated. The topic asked for last is remembered: messages of one topic follow each other, and a comparison
/// is cheaper than a hash under the append lock.
#[derive(Default)]
pub(super) struct NextOffsets {
    /// By topic, then by queue.
    topics: HashMap<String, Vec<u64>>,
    /// Stands here instead of in `topics`.
    last: Option<(String, Vec<u64>)>,
}

impl NextOffsets {
    /// 0 for a queue never asked for.
    pub fn get(&self, topic: &str, queue_id: u32) -> u64 {
        let queues = match &self.last {
            Some((name, queues)) if name == topic => Some(queues),
            _ => self.topics.get(topic),
        };
        queues.and_then(|queues| queues.get(queue_id as usize)).copied().unwrap_or(0)
    }

    pub fn of(&mut self, topic: &str, queue_id: u32) -> &mut u64 {
        if self.last.as_ref().is_none_or(|(name, _)| name != topic) {
            let (name, queues) = self.topics.remove_entry(topic).unwrap_or_else(|| (topic.to_owned(), Vec::new()));
            if let Some((before, queues)) = self.last.replace((name, queues)) {
                self.topics.insert(before, queues);
            }
        }
        let (_, queues) = self.last.as_mut().expect("just put there");
        let index = queue_id as usize;
        if queues.len() <= index {
            queues.resize(index + 1, 0);
        }
        &mut queues[index]
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
        assert_eq!((next.get("b", 3), next.get("b", 0), next.get("b", 9), next.get("d", 0)), (2, 0, 0, 0));
        next.forget("a");
        next.forget("b");
        assert_eq!((next.get("a", 0), next.get("b", 3), next.get("c", 0)), (0, 0, 1));
    }
}
