//! Copies of parked states that are on their way, and nodes that are passed over for them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    engine::core::Core,
    model::{id::NodeRun, parked::ParkedKey},
};

/// Copies that are on their way at a time.
pub(super) const AT_ONCE: usize = 4;
/// How long a copy may take, with time for its size, and how long a node is passed over that did
/// not get one.
pub(super) const AGAIN: Duration = Duration::from_secs(5);
/// How long a node is passed over that had no room.
pub(super) const NO_ROOM: Duration = Duration::from_secs(60);

/// A copy that is on its way.
#[derive(Clone, Copy, Debug)]
struct Sending {
    to: NodeRun,
    until: Instant,
}

/// Copies that are on their way.
#[derive(Debug, Default)]
pub(super) struct Copies {
    sending: BTreeMap<ParkedKey, Sending>,
    /// Until when no copy goes to a node.
    passed: BTreeMap<NodeRun, Instant>,
    /// When a copy that found nobody is tried again.
    next: Option<Instant>,
}

impl Copies {
    /// When anything is over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let sending = self.sending.values().map(|sending| sending.until).min();
        [sending, self.next].into_iter().flatten().min()
    }

    /// Whether another one may be sent now.
    pub(super) fn has_room(&self) -> bool {
        self.sending.len() < AT_ONCE
    }

    /// Whether a copy of this one is on its way.
    pub(super) fn is_sent(&self, key: &ParkedKey) -> bool {
        self.sending.contains_key(key)
    }

    /// A copy goes there, or is awaited there; so many bytes, with time for them.
    pub(super) fn begin(&mut self, now: Instant, key: ParkedKey, to: NodeRun, size: u64) {
        let until = now + AGAIN + Core::time_for(size) * 4;
        self.sending.insert(key, Sending { to, until });
    }

    /// Ends what is on its way there. `false`: nothing was.
    pub(super) fn end(&mut self, key: &ParkedKey, to: NodeRun) -> bool {
        let is_there = self.sending.get(key).is_some_and(|sending| sending.to == to);
        if is_there {
            self.sending.remove(key);
        }
        is_there
    }

    /// Nothing is sent of it any more.
    pub(super) fn forget(&mut self, key: &ParkedKey) {
        self.sending.remove(key);
    }

    /// No copy goes to a node for a while.
    pub(super) fn pass_over(&mut self, now: Instant, run: NodeRun, wait: Duration) {
        self.passed.insert(run, now + wait);
    }

    /// What has not got there in time.
    pub(super) fn late(&self, now: Instant) -> Vec<(ParkedKey, NodeRun)> {
        let late = self.sending.iter().filter(|(_, sending)| sending.until <= now);
        late.map(|(key, sending)| (key.clone(), sending.to)).collect()
    }

    /// It is looked anew: nobody waits but who is passed over still.
    pub(super) fn give_up_late(&mut self, now: Instant) {
        self.next = None;
        self.passed.retain(|_, until| *until > now);
    }

    /// Of nodes that could take a copy the one that should, if not all are passed over; then they are
    /// tried when the first of them is passed over no longer.
    pub(super) fn choose<K: Ord>(
        &mut self,
        fit: impl Iterator<Item = NodeRun>,
        rank: impl Fn(NodeRun) -> K,
    ) -> Option<NodeRun> {
        let (mut best, mut waits) = (None, self.next);
        for run in fit {
            match self.passed.get(&run) {
                Some(until) => waits = Some(waits.map_or(*until, |at| at.min(*until))),
                None => best = best.into_iter().chain([run]).max_by_key(|run| rank(*run)),
            }
        }
        if best.is_none() {
            self.next = waits;
        }
        best
    }

    /// Forgets nodes that are not in.
    pub(super) fn retain(&mut self, is_live: impl Fn(NodeRun) -> bool) {
        self.passed.retain(|run, _| is_live(*run));
        self.sending.retain(|_, sending| is_live(sending.to));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{key, run},
        *,
    };

    #[test]
    fn who_is_passed_over_is_tried_when_that_is_over_and_nobody_else_fits() {
        let (now, mut copies) = (Instant::now(), Copies::default());
        let choose = |copies: &mut Copies, nodes: &[u8]| {
            copies.choose(nodes.iter().map(|n| run(*n)), |run| run.nonce)
        };
        assert_eq!(choose(&mut copies, &[]), None);
        assert_eq!(copies.deadline(), None, "nobody could ever take it");
        assert_eq!(choose(&mut copies, &[2, 3]), Some(run(3)));
        copies.pass_over(now, run(3), NO_ROOM);
        assert_eq!(choose(&mut copies, &[2, 3]), Some(run(2)));
        assert_eq!(copies.deadline(), None);
        copies.pass_over(now, run(2), AGAIN);
        assert_eq!(choose(&mut copies, &[2, 3]), None);
        assert_eq!(copies.deadline(), Some(now + AGAIN));
        copies.give_up_late(now + AGAIN);
        assert_eq!(copies.deadline(), None);
        assert_eq!(choose(&mut copies, &[2, 3]), Some(run(2)));
    }

    #[test]
    fn a_copy_ends_where_it_was_sent_in_time_or_late_or_with_its_node() {
        let (now, mut copies) = (Instant::now(), Copies::default());
        copies.begin(now, key(0), run(2), 0);
        copies.begin(now, key(1), run(2), 80 << 20);
        assert!(!copies.end(&key(0), run(3)), "it does not go there");
        assert_eq!(copies.late(now + AGAIN), [(key(0), run(2))], "a large one takes its time");
        assert!(copies.end(&key(0), run(2)) && !copies.is_sent(&key(0)));
        copies.retain(|live| live != run(2));
        assert!(!copies.is_sent(&key(1)) && copies.deadline().is_none());
    }
}
