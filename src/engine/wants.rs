//! Logs of which this node lacks something, and whom it asks for them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use crate::model::id::{NodeId, NodeRun};

/// Logs that one peer is asked for at the same time.
const MOST: usize = 1_024;
/// How often one peer is asked for a log before it has to be named again.
const MOST_ASKS: u32 = 3;
/// Further peers that may be asked for one log. Who says that it has more of it than they do waits for its turn
/// like everybody.
const MOST_OTHERS: usize = 16;

/// Somebody says that it has a log up to here.
#[derive(Clone, Copy, Debug)]
struct Claim {
    holder: NodeId,
    upto: u64,
}

#[derive(Debug)]
struct Want {
    claim: Claim,
    /// Those who said so, too: they are asked, one after the other, when `claim` is fulfilled, or turns out
    /// to be none.
    others: VecDeque<Claim>,
    due: Instant,
    asks: u32,
    /// When it was asked for last.
    asked: Option<Instant>,
}

/// A question that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) holder: NodeId,
    pub(crate) log: NodeRun,
    /// Up to where it is here.
    pub(crate) from: u64,
}

/// Logs of which this node lacks something, and whom it asks for them.
///
/// Pure. A peer that says that it has what does not exist is asked three times and no more, and keeps
/// nobody else from being asked; of one peer at most 1,024 logs are wanted.
#[derive(Debug)]
pub(crate) struct Wants {
    every: Duration,
    logs: BTreeMap<NodeRun, Want>,
    due: BTreeSet<(Instant, NodeRun)>,
    /// How many logs are wanted of whom.
    held: BTreeMap<NodeId, usize>,
}

impl Wants {
    /// One peer is asked again once in `every`.
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, logs: BTreeMap::new(), due: BTreeSet::new(), held: BTreeMap::new() }
    }

    /// A peer has more of a log than this node. It is asked at `due`, unless it comes before.
    pub(crate) fn note(&mut self, log: NodeRun, upto: u64, holder: NodeId, due: Instant) {
        let claim = Claim { holder, upto };
        let Some(mut want) = self.take(log) else {
            if self.held.get(&holder).is_none_or(|count| *count < MOST) {
                self.put(log, Want { claim, others: VecDeque::new(), due, asks: 0, asked: None });
            }
            return;
        };
        let is_sooner = want.asks == 0 && due < want.due;
        if want.claim.holder == holder {
            want.claim.upto = want.claim.upto.max(upto);
        } else if is_sooner {
            want.others.retain(|other| other.holder != holder);
            want.others.push_front(std::mem::replace(&mut want.claim, claim));
        } else if let Some(other) = want.others.iter_mut().find(|it| it.holder == holder) {
            // It keeps its place, however often it says so.
            other.upto = other.upto.max(upto);
        } else {
            want.others.push_back(claim);
        }
        want.others.truncate(MOST_OTHERS);
        if is_sooner {
            want.due = due;
        }
        self.put(log, want);
    }

    /// A log is waited for: it is asked for again once in `every`, if nothing of it came since.
    pub(crate) fn hurry(&mut self, log: NodeRun, now: Instant, every: Duration) {
        let Some(mut want) = self.take(log) else { return };
        if let Some(asked) = want.asked {
            want.due = want.due.min((asked + every).max(now));
        }
        self.put(log, want);
    }

    /// Something of a log came from this peer: what follows is on its way.
    pub(crate) fn came(&mut self, now: Instant, log: NodeRun, from: NodeId, version: u64) {
        let Some(mut want) = self.take(log) else { return };
        if want.claim.holder == from {
            (want.due, want.asked) = (now + self.every, Some(now));
        }
        if want.claim.upto > version {
            self.put(log, want);
        } else {
            self.turn(now, log, want, version);
        }
    }

    /// The next question that is due; `version` says up to where a log is here.
    pub(crate) fn next_due(
        &mut self,
        now: Instant,
        version: impl Fn(NodeRun) -> u64,
    ) -> Option<Ask> {
        loop {
            let (_, log) = *self.due.first().filter(|(due, _)| *due <= now)?;
            let (mut want, from) = (self.take(log)?, version(log));
            want.others.retain(|other| other.upto > from);
            if want.claim.upto <= from || want.asks > 0 && !want.others.is_empty() {
                self.turn(now, log, want, from);
            } else if want.asks < MOST_ASKS {
                let holder = want.claim.holder;
                (want.asks, want.due, want.asked) = (want.asks + 1, now + self.every, Some(now));
                self.put(log, want);
                return Some(Ask { holder, log, from });
            }
        }
    }

    /// Asks who else has a log, if anybody has more than `version` of it.
    fn turn(&mut self, now: Instant, log: NodeRun, want: Want, version: u64) {
        let mut others = want.others;
        others.retain(|claim| claim.upto > version);
        if let Some(claim) = others.pop_front() {
            self.put(log, Want { claim, others, due: now, asks: 0, asked: None });
        }
    }

    /// When [`next_due`](Self::next_due) may have something.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Asks nobody but these.
    pub(crate) fn retain(&mut self, now: Instant, is_here: impl Fn(NodeId) -> bool) {
        let logs: Vec<NodeRun> = self.logs.keys().copied().collect();
        for log in logs {
            let Some(mut want) = self.take(log) else { continue };
            want.others.retain(|claim| is_here(claim.holder));
            if is_here(want.claim.holder) {
                self.put(log, want);
            } else {
                self.turn(now, log, want, 0);
            }
        }
    }

    fn take(&mut self, log: NodeRun) -> Option<Want> {
        let want = self.logs.remove(&log)?;
        self.due.remove(&(want.due, log));
        if let Some(count) = self.held.get_mut(&want.claim.holder) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&want.claim.holder);
            }
        }
        Some(want)
    }

    fn put(&mut self, log: NodeRun, want: Want) {
        self.due.insert((want.due, log));
        *self.held.entry(want.claim.holder).or_default() += 1;
        self.logs.insert(log, want);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    fn node(n: u8) -> NodeId {
        run(n).node
    }

    fn wants() -> (Wants, Instant) {
        (Wants::new(5 * SECOND), Instant::now())
    }

    /// Whom it asks now for log 9, of which it has so much.
    fn asks(wants: &mut Wants, now: Instant, version: u64) -> Vec<NodeId> {
        let asks = std::iter::from_fn(|| wants.next_due(now, |_| version));
        asks.map(|ask| ask.holder).collect()
    }

    #[test]
    fn who_does_not_answer_is_asked_three_times() {
        let (mut wants, now) = wants();
        wants.note(run(9), 1 << 62, node(1), now);
        let asked: Vec<_> = (0..60).map(|n| asks(&mut wants, now + SECOND * n, 0).len()).collect();
        assert_eq!(asked.iter().sum::<usize>(), 3);
        assert_eq!((asked[0], asked[5], asked[10]), (1, 1, 1));
        assert!(wants.logs.is_empty() && wants.due.is_empty() && wants.held.is_empty());
    }

    #[test]
    fn what_is_waited_for_is_asked_for_again_soon_and_not_while_it_comes() {
        let (mut wants, now) = wants();
        wants.note(run(9), 20, node(1), now);
        assert_eq!(asks(&mut wants, now, 0), [node(1)]);
        wants.hurry(run(9), now + SECOND / 2, SECOND);
        assert_eq!(asks(&mut wants, now + SECOND / 2, 0), []);
        assert_eq!(asks(&mut wants, now + SECOND, 0), [node(1)]);
        wants.came(now + 3 * SECOND / 2, run(9), node(1), 10);
        wants.hurry(run(9), now + 2 * SECOND, SECOND);
        assert_eq!(asks(&mut wants, now + 2 * SECOND, 10), []);
        assert_eq!(asks(&mut wants, now + 3 * SECOND, 10), [node(1)]);
    }

    #[test]
    fn a_claim_to_what_does_not_exist_keeps_nobody_else_from_being_asked() {
        let (mut wants, now) = wants();
        wants.note(run(9), 1 << 62, node(1), now);
        assert_eq!(asks(&mut wants, now, 0), [node(1)]);
        wants.note(run(9), 150, node(2), now);
        for _ in 0..100 {
            wants.note(run(9), 1 << 62, node(1), now);
        }
        assert_eq!(asks(&mut wants, now + 5 * SECOND, 0), [node(2)]);
        wants.came(now + 5 * SECOND, run(9), node(2), 150);
        assert_eq!(wants.deadline(), None, "it has what there is");
    }

    #[test]
    fn two_that_claim_what_does_not_exist_over_and_over_keep_nobody_else_from_being_asked() {
        let (mut wants, now) = wants();
        let mut asked = Vec::new();
        for beat in 0..6 {
            let now = now + SECOND * beat;
            // The one that has something speaks between them, each time.
            for (holder, upto) in [(1, 1 << 62), (3, 150), (2, 1 << 62)] {
                wants.note(run(9), upto, node(holder), now);
                wants.hurry(run(9), now, SECOND);
                asked.extend(asks(&mut wants, now, 0));
            }
        }
        assert!(asked.contains(&node(3)), "{asked:?}");
        wants.retain(now, |holder| holder == node(2));
        assert!(
            wants.held.keys().all(|holder| *holder == node(2)),
            "what others claimed is given back"
        );
    }

    #[test]
    fn of_those_who_claim_one_log_so_many_wait_and_no_more() {
        let (mut wants, now) = wants();
        for holder in 0..=u8::MAX {
            wants.note(run(9), 1 << 62, node(holder), now);
        }
        let waiting: Vec<usize> = wants.logs.values().map(|want| want.others.len()).collect();
        assert_eq!(waiting, [MOST_OTHERS]);
    }

    #[test]
    fn what_has_come_is_not_asked_for_and_what_comes_puts_it_off() {
        let (mut wants, now) = wants();
        wants.note(run(9), 20, node(1), now + SECOND);
        wants.came(now, run(9), node(1), 10);
        assert_eq!(asks(&mut wants, now + 4 * SECOND, 10), []);
        wants.came(now + 4 * SECOND, run(9), node(2), 12);
        assert_eq!(
            asks(&mut wants, now + 5 * SECOND, 12),
            [node(1)],
            "another one puts nothing off"
        );
        wants.came(now + 5 * SECOND, run(9), node(2), 20);
        assert_eq!(wants.deadline(), None);
    }

    #[test]
    fn who_can_be_asked_sooner_is_asked_and_the_other_one_after_it() {
        let (mut wants, now) = wants();
        wants.note(run(9), 20, node(1), now + 2 * SECOND);
        wants.note(run(9), 30, node(2), now);
        assert_eq!(asks(&mut wants, now, 0), [node(2)]);
        wants.retain(now, |holder| holder != node(2));
        assert_eq!(asks(&mut wants, now, 0), [node(1)]);
        wants.retain(now, |_| false);
        assert_eq!(wants.deadline(), None);
    }

    #[test]
    fn one_peer_names_so_many_logs_and_no_more() {
        let (mut wants, now) = wants();
        for nonce in 0..10_000 {
            wants.note(NodeRun { nonce, ..run(9) }, 1, node(1), now);
        }
        assert_eq!(wants.logs.len(), MOST);
        wants.note(run(8), 1, node(2), now);
        assert_eq!(wants.logs.len(), MOST + 1);
    }
}
