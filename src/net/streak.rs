//! Counts what fails in a row, so that only what goes on failing is told.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// For how many keys it is counted; when there are more, all begin anew.
const COUNTED: usize = 1_024;
/// So many in a row are told.
const TOLD: u32 = 3;

/// Failures in a row, by key.
pub(super) struct Streak<K> {
    failures: Mutex<BTreeMap<K, u32>>,
}

impl<K: Ord> Streak<K> {
    pub(super) fn new() -> Self {
        Self { failures: Mutex::new(BTreeMap::new()) }
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<K, u32>> {
        // The map is whole after every statement.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another failure. True: it is one of several in a row.
    pub(super) fn failed(&self, key: K) -> bool {
        let mut failures = self.failures();
        if failures.len() >= COUNTED && !failures.contains_key(&key) {
            failures.clear();
        }
        let count = failures.entry(key).or_default();
        *count = count.saturating_add(1);
        *count >= TOLD
    }

    /// It did not fail.
    pub(super) fn broken<Q: Ord + ?Sized>(&self, key: &Q)
    where
        K: std::borrow::Borrow<Q>,
    {
        self.failures().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_failure_in_a_row_is_told_and_those_after_it() {
        let streak = Streak::new();
        let fail = |key: u32| streak.failed(key);
        assert_eq!([fail(1), fail(1), fail(2)], [false; 3]);
        assert!(fail(1) && fail(1));
        streak.broken(&1);
        assert_eq!([fail(1), fail(1), fail(2)], [false; 3]);
        assert!(fail(1) && fail(2));
    }

    #[test]
    fn no_more_keys_are_counted_than_there_is_room_for() {
        let streak = Streak::new();
        assert!((0..10 * COUNTED).all(|key| !streak.failed(key)));
        assert!(streak.failures().len() <= COUNTED);
    }
}
