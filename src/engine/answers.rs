//! Answers that rest on entries of this node's log, held until the entries are safe.
//!
//! An answer says what became of a child: it was started, it was stopped, it was moved. Who gets it
//! tells others, so it must stay true when this node, or any one other, crashes at that moment. The log
//! goes to each member a window at a time, and an answer that did not wait for it would be ahead of its
//! entry by all that is left behind the window.
//!
//! - To another node it leaves once the log was sent there up to the entry: the same link carries both,
//!   in order. Then the entry is there when the answer is.
//! - To a user of this node it goes once another member has said that it has the entry. A member that
//!   is suspect, leaves, or is not reached is not waited for; nor is one that takes nothing in for a
//!   while. With nobody else there, this node alone keeps what it has answered.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::model::{
    child::Epoch,
    id::{ChildId, NodeId, NodeRun, RequestId},
    message::{ChildOutcome, HomeWord},
    quota::{OverQuota, Quota},
    report::{MigrateOutcome, StartOutcome, StopOutcome},
};

/// Bytes of outcomes in one word, so that it stays far below the frame limit.
pub(super) const WORD_BYTES: usize = 256 << 10;
/// Bytes of answers that are held for one other node: as many as homes keep of what one has asked for.
/// Further ones are dropped: who asked asks again, or is told by its own deadline.
const HELD: usize = 128 << 20;
/// About what is kept with each answer besides its child's id.
const EACH: usize = 256;

/// What became of one child, for who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Started {
        request: RequestId,
        outcome: StartOutcome,
    },
    Stopped {
        request: RequestId,
        outcome: StopOutcome,
    },
    Migrated {
        request: RequestId,
        outcome: MigrateOutcome,
    },
    /// To the home that ordered a start.
    Ran {
        epoch: Epoch,
        outcome: StartOutcome,
    },
    /// To the home that ordered a stop.
    Halted {
        epoch: Epoch,
        outcome: StopOutcome,
    },
}

/// How far this node's log is safe for who is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Safe {
    /// Answers that rest on it up to here may leave.
    pub(crate) upto: u64,
    /// For how long nothing may become safe before no more is waited for.
    pub(crate) patience: Duration,
    /// Whether they leave then, and are not dropped.
    pub(crate) regardless: bool,
}

/// The answers for one receiver, in the order of the versions on which they rest.
#[derive(Debug)]
struct Receiver {
    held: BTreeMap<(u64, u64), (ChildId, Answer)>,
    /// How far the log was safe when it was looked last, and since when.
    safe: u64,
    since: Instant,
}

impl Receiver {
    /// Up to which version answers leave now. `None`: they are dropped.
    fn upto(&mut self, now: Instant, safe: Safe) -> Option<u64> {
        if safe.upto != self.safe {
            (self.safe, self.since) = (safe.upto, now);
        }
        match now.saturating_duration_since(self.since) >= safe.patience {
            false => Some(safe.upto),
            true if safe.regardless => Some(u64::MAX),
            true => None,
        }
    }

    fn next(&mut self, upto: u64) -> Option<(ChildId, Answer)> {
        let first = self.held.first_entry().filter(|entry| entry.key().0 <= upto)?;
        Some(first.remove())
    }
}

/// Answers by who is to get them.
#[derive(Debug)]
pub(crate) struct Answers {
    receivers: BTreeMap<NodeRun, Receiver>,
    /// What is held for other nodes.
    quota: Quota,
    count: u64,
}

impl Default for Answers {
    fn default() -> Self {
        Self { receivers: BTreeMap::new(), quota: Quota::new(HELD), count: 0 }
    }
}

impl Answers {
    /// Keeps an answer that rests on this `version` of this node's log. `me`: this node, for whose
    /// users there is always room.
    ///
    /// # Errors
    /// [`OverQuota`] when too much is held for that node already. The answer is dropped.
    pub(crate) fn hold(
        &mut self,
        now: Instant,
        me: NodeRun,
        to: NodeRun,
        version: u64,
        child: ChildId,
        answer: Answer,
    ) -> Result<(), OverQuota> {
        if to != me {
            self.quota.take(to.node, bytes(&child))?;
        }
        self.count += 1;
        let receiver = self.receivers.entry(to).or_insert_with(|| Receiver {
            held: BTreeMap::new(),
            safe: 0,
            since: now,
        });
        receiver.held.insert((version, self.count), (child, answer));
        Ok(())
    }

    /// Takes out what may leave now, as words for each receiver. `safe` says how far this node's log is
    /// safe for it; `None`: it is not there any more, and nobody is to be answered.
    pub(crate) fn release(
        &mut self,
        now: Instant,
        me: NodeRun,
        safe: impl Fn(NodeRun) -> Option<Safe>,
    ) -> Vec<(NodeId, HomeWord)> {
        let Self { receivers, quota, .. } = self;
        let mut words = Vec::new();
        receivers.retain(|to, receiver| {
            let upto = safe(*to).and_then(|safe| receiver.upto(now, safe));
            let is_dropped = upto.is_none();
            let mut leaving = Leaving::default();
            while let Some((child, answer)) = receiver.next(upto.unwrap_or(u64::MAX)) {
                if *to != me {
                    quota.give(to.node, bytes(&child));
                }
                if !is_dropped {
                    leaving.add(child, answer);
                }
            }
            words.extend(leaving.words().into_iter().map(|word| (to.node, word)));
            !receiver.held.is_empty()
        });
        words
    }
}

fn bytes(child: &ChildId) -> usize {
    EACH + child.as_str().len()
}

/// Outcomes of children that leave together: those of one request in one word.
#[derive(Default)]
struct Leaving {
    started: BTreeMap<RequestId, Vec<ChildOutcome<StartOutcome>>>,
    stopped: BTreeMap<RequestId, Vec<ChildOutcome<StopOutcome>>>,
    single: Vec<HomeWord>,
}

impl Leaving {
    fn add(&mut self, child: ChildId, answer: Answer) {
        match answer {
            Answer::Started { request, outcome } => {
                self.started.entry(request).or_default().push(ChildOutcome { child, outcome });
            }
            Answer::Stopped { request, outcome } => {
                self.stopped.entry(request).or_default().push(ChildOutcome { child, outcome });
            }
            Answer::Migrated { request, outcome } => {
                self.single.push(HomeWord::Migrated { request, child, outcome });
            }
            Answer::Ran { epoch, outcome } => {
                self.single.push(HomeWord::Ran { child, epoch, outcome });
            }
            Answer::Halted { epoch, outcome } => {
                self.single.push(HomeWord::Halted { child, epoch, outcome });
            }
        }
    }

    fn words(self) -> Vec<HomeWord> {
        let mut words = self.single;
        for (request, outcomes) in self.started {
            let parts = parts(outcomes, |outcome| outcome.child.as_str().len() + 128);
            words.extend(parts.into_iter().map(|outcomes| HomeWord::Started { request, outcomes }));
        }
        for (request, outcomes) in self.stopped {
            let parts = parts(outcomes, |outcome| outcome.child.as_str().len() + 64);
            words.extend(parts.into_iter().map(|outcomes| HomeWord::Stopped { request, outcomes }));
        }
        words
    }
}

/// Cuts a list into parts of about [`WORD_BYTES`].
pub(super) fn parts<T>(items: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    let mut bytes = 0;
    for item in items {
        bytes += size(&item);
        part.push(item);
        if bytes >= WORD_BYTES {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    fn child(n: usize) -> ChildId {
        ChildId::new(format!("c{n}")).expect("a valid id")
    }

    fn stopped(request: u64) -> Answer {
        let outcome = StopOutcome::Stopped { node: run(1).node };
        Answer::Stopped { request: RequestId(request), outcome }
    }

    /// Node 1, and the answers of it that wait.
    struct Bench {
        answers: Answers,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { answers: Answers::default(), now: Instant::now() }
        }

        fn hold(&mut self, to: u8, version: u64, n: usize) {
            let (now, me, to) = (self.now, run(1), run(to));
            let held = self.answers.hold(now, me, to, version, child(n), stopped(7));
            assert_eq!(held, Ok(()));
        }

        /// The children of which is told, by receiver, if the log is safe for all up to here.
        fn release(&mut self, upto: u64) -> Vec<(NodeId, Vec<ChildId>)> {
            self.release_if(|to| {
                let safe = Safe { upto, patience: 6 * SECOND, regardless: to == run(1) };
                Some(safe)
            })
        }

        fn release_if(
            &mut self,
            safe: impl Fn(NodeRun) -> Option<Safe>,
        ) -> Vec<(NodeId, Vec<ChildId>)> {
            let words = self.answers.release(self.now, run(1), safe);
            let children = |word| match word {
                HomeWord::Stopped { outcomes, .. } => {
                    outcomes.into_iter().map(|outcome| outcome.child).collect()
                }
                word => panic!("{word:?}"),
            };
            words.into_iter().map(|(to, word)| (to, children(word))).collect()
        }
    }

    #[test]
    fn an_answer_leaves_when_its_version_is_safe_and_those_of_one_request_share_a_word() {
        let mut bench = Bench::new();
        for (version, n) in [(0, 0), (5, 5), (3, 3), (9, 9)] {
            bench.hold(2, version, n);
        }
        bench.hold(1, 4, 4);
        assert_eq!(bench.release(0), [(run(2).node, vec![child(0)])]);
        assert_eq!(bench.release(2), []);
        let (one, two) = (run(1).node, run(2).node);
        let mut words = bench.release(8);
        words.sort();
        let mut expected = vec![(two, vec![child(3), child(5)]), (one, vec![child(4)])];
        expected.sort();
        assert_eq!(words, expected);
        assert_eq!(bench.release(9), [(two, vec![child(9)])]);
        assert!(bench.answers.receivers.is_empty(), "nothing is kept");
        assert_eq!(bench.answers.quota.used(two), 0);
    }

    #[test]
    fn who_is_gone_gets_nothing_and_nothing_is_kept_of_it() {
        let mut bench = Bench::new();
        bench.hold(2, 0, 0);
        bench.hold(2, 5, 1);
        assert_eq!(bench.release_if(|_| None), []);
        assert_eq!(bench.answers.quota.used(run(2).node), 0);
        assert!(bench.answers.receivers.is_empty());
    }

    #[test]
    fn users_of_this_node_are_answered_when_nobody_takes_its_log_in_for_long_and_others_are_not() {
        let mut bench = Bench::new();
        bench.hold(1, 5, 1);
        bench.hold(2, 5, 2);
        bench.now += 5 * SECOND;
        assert_eq!(bench.release(3), [], "something has become safe");
        bench.now += 5 * SECOND;
        assert_eq!(bench.release(3), []);
        bench.now += SECOND;
        assert_eq!(bench.release(3), [(run(1).node, vec![child(1)])]);
        assert!(bench.answers.receivers.is_empty(), "the other one is dropped");
        assert_eq!(bench.answers.quota.used(run(2).node), 0);
    }

    #[test]
    fn what_is_held_for_another_node_has_a_bound() {
        let (mut answers, now) = (Answers::default(), Instant::now());
        answers.quota = Quota::new(1_000);
        let mut hold = |to: u8, n| answers.hold(now, run(1), run(to), 5, child(n), stopped(7));
        let held = (0..9).filter(|n| hold(2, *n).is_ok()).count();
        assert_eq!(held, 3);
        assert!((0..9).all(|n| hold(1, n).is_ok()), "this node's users are bounded by themselves");
        assert_eq!(hold(3, 0), Ok(()), "each node has its own");
    }
}
