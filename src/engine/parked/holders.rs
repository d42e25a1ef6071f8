//! Which other nodes hold which parked states, as they said.

use std::collections::{BTreeMap, BTreeSet};

use super::store::MOST_PARKED;
use crate::model::{id::NodeRun, parked::ParkedKey};

/// What others hold, as they said: at most [`MOST_PARKED`] each.
#[derive(Debug, Default)]
pub(super) struct Holders {
    elsewhere: BTreeMap<NodeRun, BTreeSet<ParkedKey>>,
}

impl Holders {
    /// The runs that hold it; the lowest first.
    pub(super) fn of<'a>(&'a self, key: &'a ParkedKey) -> impl Iterator<Item = NodeRun> + 'a {
        self.elsewhere.iter().filter(|(_, keys)| keys.contains(key)).map(|(run, _)| *run)
    }

    /// Whether anybody holds it.
    pub(super) fn any(&self, key: &ParkedKey) -> bool {
        self.of(key).next().is_some()
    }

    /// Whether this run holds it.
    pub(super) fn has(&self, run: NodeRun, key: &ParkedKey) -> bool {
        self.elsewhere.get(&run).is_some_and(|keys| keys.contains(key))
    }

    /// A run holds these. `false`: it says that it holds more than anybody may.
    pub(super) fn know(&mut self, run: NodeRun, keys: impl IntoIterator<Item = ParkedKey>) -> bool {
        let known = self.elsewhere.entry(run).or_default();
        for key in keys {
            if known.len() >= MOST_PARKED && !known.contains(&key) {
                return false;
            }
            known.insert(key);
        }
        true
    }

    /// A run holds this one no more.
    pub(super) fn unknow(&mut self, run: NodeRun, key: &ParkedKey) {
        if let Some(keys) = self.elsewhere.get_mut(&run) {
            keys.remove(key);
            if keys.is_empty() {
                self.elsewhere.remove(&run);
            }
        }
    }

    /// Nobody holds it any more.
    pub(super) fn forget(&mut self, key: &ParkedKey) {
        self.elsewhere.retain(|_, keys| {
            keys.remove(key);
            !keys.is_empty()
        });
    }

    /// A run tells anew all that it holds.
    pub(super) fn forget_run(&mut self, run: NodeRun) {
        self.elsewhere.remove(&run);
    }

    /// Forgets what runs hold that are not in.
    pub(super) fn retain(&mut self, is_live: impl Fn(NodeRun) -> bool) {
        self.elsewhere.retain(|run, _| is_live(*run));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{key, run},
        *,
    };

    #[test]
    fn of_each_run_no_more_is_kept_than_it_may_hold() {
        let mut holders = Holders::default();
        assert!(holders.know(run(2), (0..MOST_PARKED).map(key)));
        assert!(holders.know(run(2), [key(0)]), "that is known");
        assert!(!holders.know(run(2), [key(MOST_PARKED)]));
        assert!(holders.know(run(3), [key(MOST_PARKED)]));
        assert_eq!(holders.elsewhere[&run(2)].len(), MOST_PARKED);
        holders.retain(|live| live == run(3));
        assert_eq!(holders.elsewhere.len(), 1, "what it holds goes with its member");
    }

    #[test]
    fn nothing_is_kept_of_who_holds_nothing() {
        let mut holders = Holders::default();
        for n in [2, 3] {
            holders.know(run(n), [key(0)]);
        }
        assert_eq!(holders.of(&key(0)).collect::<Vec<_>>(), [2, 3].map(run));
        holders.unknow(run(2), &key(0));
        assert!(!holders.has(run(2), &key(0)) && holders.any(&key(0)));
        holders.forget(&key(0));
        assert!(holders.elsewhere.is_empty());
    }
}
