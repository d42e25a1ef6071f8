//! The topics that have subscribers on this node, and what changed lately.

use std::collections::{BTreeSet, VecDeque};

use crate::model::{
    id::TopicName,
    topic::{PART, TopicChange, TopicWord},
};

/// Changes that are remembered. Who has missed more is told the whole set.
const REMEMBERED: usize = 4_096;

/// The set of this node.
#[derive(Debug, Default)]
pub(super) struct Own {
    version: u64,
    topics: BTreeSet<TopicName>,
    /// The latest changes, each with the version that it made.
    changes: VecDeque<(u64, TopicChange)>,
    /// The version up to which changes are forgotten.
    forgotten: u64,
}

impl Own {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The set has changed, in this order. Each change makes a version of its own; `version` is that of
    /// the last one, or above it where a child has begun to listen to a topic that had subscribers.
    pub(super) fn change(&mut self, version: u64, changes: Vec<TopicChange>) {
        for (change, version) in changes.into_iter().zip(self.version + 1..) {
            match change.subscribed {
                true => drop(self.topics.insert(change.topic.clone())),
                false => drop(self.topics.remove(&change.topic)),
            }
            self.changes.push_back((version, change));
            self.version = version;
        }
        self.version = self.version.max(version);
        while self.changes.len() > REMEMBERED {
            if let Some((version, _)) = self.changes.pop_front() {
                self.forgotten = version;
            }
        }
    }

    /// The words that bring who has the set at `from` to this version: the changes since, or the whole.
    pub(super) fn since(&self, from: u64) -> Vec<TopicWord> {
        if from < self.forgotten || from > self.version {
            return self.whole();
        }
        let later = self.changes.partition_point(|(version, _)| *version <= from);
        let later: Vec<&(u64, TopicChange)> = self.changes.range(later..).collect();
        let mut words = Vec::new();
        let mut from = from;
        let mut parts = later.chunks(PART).peekable();
        while let Some(part) = parts.next() {
            // The last part ends at the version of now, which may be above that of its last change.
            let last = part.last().map_or(from, |(version, _)| *version);
            let upto = if parts.peek().is_some() { last } else { self.version };
            let changes = part.iter().map(|(_, change)| change.clone()).collect();
            words.push(TopicWord::Changes { from, upto, changes });
            from = upto;
        }
        if words.is_empty() && from < self.version {
            words.push(TopicWord::Changes { from, upto: self.version, changes: Vec::new() });
        }
        words
    }

    fn whole(&self) -> Vec<TopicWord> {
        let topics: Vec<TopicName> = self.topics.iter().cloned().collect();
        let empty: &[TopicName] = &[];
        let parts = topics.chunks(PART).chain(topics.is_empty().then_some(empty));
        let count = parts.clone().count();
        let word = |(at, (number, part)): (u32, (usize, &[TopicName]))| TopicWord::All {
            version: self.version,
            topics: part.to_vec(),
            at,
            more: number + 1 < count,
        };
        (0..).zip(parts.enumerate()).map(word).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(n: usize) -> TopicName {
        TopicName::new(format!("t{n}")).expect("a valid name")
    }

    fn change(n: usize, subscribed: bool) -> TopicChange {
        TopicChange { topic: topic(n), subscribed }
    }

    #[test]
    fn who_has_an_earlier_version_is_told_the_changes_since() {
        let mut own = Own::default();
        own.change(2, vec![change(1, true), change(2, true)]);
        own.change(3, vec![change(1, false)]);
        let told = |from, changes| vec![TopicWord::Changes { from, upto: 3, changes }];
        assert_eq!(own.since(0), told(0, vec![change(1, true), change(2, true), change(1, false)]));
        assert_eq!(own.since(2), told(2, vec![change(1, false)]));
        assert_eq!(own.since(3), []);
    }

    #[test]
    fn a_child_that_begins_to_listen_makes_a_version_without_a_change() {
        let mut own = Own::default();
        own.change(2, vec![change(1, true)]);
        assert_eq!(own.version(), 2);
        own.change(5, Vec::new());
        let word = TopicWord::Changes { from: 2, upto: 5, changes: Vec::new() };
        assert_eq!(own.since(2), [word]);
        assert_eq!(own.since(5), []);
    }

    #[test]
    fn many_changes_are_told_in_parts_that_follow_each_other() {
        let mut own = Own::default();
        own.change(3_000, (0..2_500).map(|n| change(n, true)).collect());
        let mut at = 0;
        let mut told = 0;
        for word in own.since(0) {
            let TopicWord::Changes { from, upto, changes } = word else { panic!("{word:?}") };
            assert_eq!(from, at);
            assert!(changes.len() <= PART);
            (at, told) = (upto, told + changes.len());
        }
        assert_eq!((at, told), (3_000, 2_500));
    }

    #[test]
    fn who_has_missed_more_than_is_remembered_or_says_nonsense_is_told_everything() {
        let mut own = Own::default();
        for n in 0..=REMEMBERED {
            own.change(n as u64 + 1, vec![change(n, true)]);
        }
        let all = own.since(0);
        assert_eq!(own.since(u64::MAX), all);
        let TopicWord::Changes { .. } = &own.since(1)[0] else { panic!("that is remembered") };
        let mut told = 0;
        for (number, word) in all.iter().enumerate() {
            let TopicWord::All { version, topics, at, more } = word else { panic!("{word:?}") };
            assert_eq!(*version, REMEMBERED as u64 + 1);
            assert_eq!((*at as usize, *more), (number, number + 1 < all.len()));
            told += topics.len();
        }
        assert_eq!(told, REMEMBERED + 1);
    }

    #[test]
    fn the_whole_of_nothing_is_one_empty_part() {
        let whole = TopicWord::All { version: 0, topics: Vec::new(), at: 0, more: false };
        assert_eq!(Own::default().since(7), [whole]);
    }
}
