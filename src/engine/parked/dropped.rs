//! Names of parked states that were disposed of: they must not come back by another way.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use crate::model::parked::ParkedKey;

/// Parked states that were disposed of and are remembered; the oldest is forgotten first.
const MOST_DROPPED: usize = 4_096;

/// What was disposed of, for a while.
#[derive(Debug)]
pub(super) struct Dropped {
    keep: Duration,
    known: BTreeSet<ParkedKey>,
    /// The oldest first.
    order: VecDeque<(Instant, ParkedKey)>,
}

impl Dropped {
    /// Remembers each for so long.
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, known: BTreeSet::new(), order: VecDeque::new() }
    }

    pub(super) fn contains(&self, key: &ParkedKey) -> bool {
        self.known.contains(key)
    }

    pub(super) fn add(&mut self, now: Instant, key: ParkedKey) {
        if self.known.insert(key.clone()) {
            self.order.push_back((now, key));
        }
        let old = |at: Instant| now.saturating_duration_since(at) > self.keep;
        while self.order.len() > MOST_DROPPED || self.order.front().is_some_and(|(at, _)| old(*at))
        {
            let Some((_, key)) = self.order.pop_front() else { break };
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::key, *};

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_time() {
        let (keep, mut now) = (Duration::from_secs(100), Instant::now());
        let mut dropped = Dropped::new(keep);
        for n in 0..MOST_DROPPED + 10 {
            dropped.add(now, key(n));
            dropped.add(now, key(n));
        }
        assert_eq!((dropped.known.len(), dropped.order.len()), (MOST_DROPPED, MOST_DROPPED));
        assert!(!dropped.contains(&key(9)) && dropped.contains(&key(10)));
        now += keep + Duration::from_secs(1);
        dropped.add(now, key(0));
        assert_eq!((dropped.known.len(), dropped.order.len()), (1, 1));
        assert!(dropped.contains(&key(0)) && !dropped.contains(&key(10)));
    }
}
