//! Absences: runs that were away for longer than removals are remembered.
//!
//! A removal is forgotten once all who were in lately have it. Who comes back later than that, its actors
//! alive, has never heard of it, and would bring the child back. That a child is unknown here does not say
//! that it was stopped: it may have been started over there. But a log is known up to a version, without
//! gaps: a child that first stood in it at or below that version was known here, and is not any more. So the
//! log of who is away is kept, without entries, as a watermark; and what is asked when it is back is
//! answered by that.

use std::collections::BTreeMap;

use crate::model::{id::NodeRun, message::Absence};

/// Runs that are remembered as away. Above that the one that went first is forgotten, and what it brings
/// back lives.
pub(crate) const MOST_AWAY: usize = 1_024;

/// Absences of others that this node has noted, and its own that were named by others.
#[derive(Debug, Default)]
pub(crate) struct Away {
    /// Numbers of the absences, by run.
    noted: BTreeMap<NodeRun, u64>,
    /// How many were noted.
    count: u64,
    /// Up to where the logs were known of members that came in, when they did, until a view with them is
    /// settled.
    back: BTreeMap<NodeRun, u64>,
    /// The same of logs of runs that are not in, of which those tell who come in. `None`: the view is
    /// settled.
    gone: Option<BTreeMap<NodeRun, u64>>,
    /// Absences of this node that are dealt with, by who has named them.
    asked: BTreeMap<NodeRun, u64>,
}

impl Away {
    /// This run has been away for so long that removals may be forgotten which it has not heard of.
    pub(crate) fn note(&mut self, run: NodeRun) {
        if self.noted.contains_key(&run) {
            return;
        }
        self.count += 1;
        self.noted.insert(run, self.count);
        if self.noted.len() > MOST_AWAY
            && let Some(first) = self.noted.iter().min_by_key(|(_, number)| **number)
        {
            let first = *first.0;
            self.noted.remove(&first);
        }
    }

    /// Whether its log is kept for the time when it comes back.
    pub(crate) fn is_noted(&self, run: NodeRun) -> bool {
        self.noted.contains_key(&run)
    }

    /// Whether anybody may come back.
    pub(crate) fn is_anyone_noted(&self) -> bool {
        !self.noted.is_empty()
    }

    /// It comes in; its log is known up to here.
    pub(crate) fn is_back(&mut self, run: NodeRun, version: u64) {
        let before = self.gone.as_mut().and_then(|gone| gone.remove(&run));
        self.back.insert(run, before.unwrap_or(version));
    }

    /// It is not in; its log is known up to here, if nobody has come in since the view was settled.
    pub(crate) fn is_gone(&mut self, run: NodeRun, version: u64) {
        self.gone.get_or_insert_default().entry(run).or_insert(version);
    }

    /// The view is settled: what its members have said by now is known.
    pub(crate) fn settled(&mut self) {
        self.back.clear();
        self.gone = None;
    }

    /// Up to where a log was known before those came in who are new in this view. `None`: all that is known
    /// of it counts, as a member has said it that was in before, or the view is settled.
    pub(crate) fn before(&self, log: NodeRun, is_live: bool) -> Option<u64> {
        let gone = self.gone.as_ref().filter(|_| !is_live);
        let gone = gone.map(|gone| gone.get(&log).copied().unwrap_or(0));
        self.back.get(&log).copied().or(gone)
    }

    /// Whether an entry that is not here was dropped with reason: it was here before its writer was away for
    /// long.
    pub(crate) fn is_dropped(&self, log: NodeRun, version: u64) -> bool {
        self.is_noted(log) && self.back.get(&log).is_some_and(|known| version <= *known)
    }

    /// It has asked what it did not know: that absence is over.
    pub(crate) fn is_over(&mut self, run: NodeRun, number: u64) {
        if self.noted.get(&run) == Some(&number) {
            self.noted.remove(&run);
        }
    }

    /// What is known of this run's log is void.
    pub(crate) fn forget(&mut self, run: NodeRun) {
        self.noted.remove(&run);
        self.back.remove(&run);
        if let Some(gone) = &mut self.gone {
            gone.remove(&run);
        }
    }

    /// Absences of runs that are in, and that have not asked yet.
    pub(crate) fn of(&self, is_live: impl Fn(NodeRun) -> bool) -> Vec<Absence> {
        let noted = self.noted.iter().filter(|(run, _)| is_live(**run));
        noted.map(|(run, number)| Absence { run: *run, number: *number }).collect()
    }

    /// An absence of this node that `by` has named is dealt with.
    pub(crate) fn ask_over(&mut self, by: NodeRun, number: u64) {
        self.asked.insert(by, number);
    }

    /// Absences of this node that are dealt with, by who has named them.
    pub(crate) fn asked(&self) -> Vec<Absence> {
        self.asked.iter().map(|(run, number)| Absence { run: *run, number: *number }).collect()
    }

    /// Whether this absence of this node is dealt with.
    pub(crate) fn is_asked(&self, by: NodeRun, number: u64) -> bool {
        self.asked.get(&by) == Some(&number)
    }

    /// There is another view. Of a node that is in with another run, this one never comes back.
    pub(crate) fn viewed(
        &mut self,
        is_live: impl Fn(NodeRun) -> bool,
        is_replaced: impl Fn(NodeRun) -> bool,
    ) {
        let gone = self.gone.get_or_insert_default();
        self.back.retain(|run, version| {
            let stays = is_live(*run);
            if !stays {
                gone.insert(*run, *version);
            }
            stays
        });
        self.asked.retain(|run, _| is_live(*run));
        self.noted.retain(|run, _| !is_replaced(*run));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::NodeId;

    fn run(n: u64) -> NodeRun {
        NodeRun { node: NodeId::from_key([(n % 251) as u8; 32]), nonce: n }
    }

    #[test]
    fn an_absence_is_named_until_its_run_has_asked_and_the_next_one_is_another() {
        let mut away = Away::default();
        away.note(run(1));
        away.note(run(2));
        away.note(run(1));
        let of_1 = |away: &Away| away.of(|it| it == run(1));
        let [first] = of_1(&away)[..] else { panic!("it is noted once") };
        away.is_over(run(1), first.number + 9);
        assert_eq!(of_1(&away), [first], "another one is over");
        away.is_over(run(1), first.number);
        assert_eq!(of_1(&away), []);
        away.note(run(1));
        assert_ne!(of_1(&away)[0].number, first.number);
    }

    #[test]
    fn so_many_are_remembered_and_the_first_is_forgotten_first() {
        let mut away = Away::default();
        for n in 0..MOST_AWAY as u64 + 2 {
            away.note(run(n));
        }
        assert_eq!(away.noted.len(), MOST_AWAY);
        assert!(!away.is_noted(run(0)) && !away.is_noted(run(1)) && away.is_noted(run(2)));
    }

    #[test]
    fn what_is_kept_of_a_member_goes_with_it_and_an_absence_with_the_next_run() {
        let mut away = Away::default();
        away.note(run(1));
        away.is_back(run(2), 7);
        away.ask_over(run(2), 3);
        away.viewed(|it| it == run(2), |_| false);
        assert_eq!((away.before(run(2), true), away.is_asked(run(2), 3)), (Some(7), true));
        assert!(away.is_noted(run(1)), "it may come back");
        away.viewed(|_| false, |it| it == run(1));
        assert_eq!((away.before(run(2), true), away.asked()), (None, Vec::new()));
        assert_eq!(away.before(run(2), false), Some(7), "what others tell of it came later");
        assert!(!away.is_noted(run(1)));
        away.is_back(run(3), 7);
        away.settled();
        assert_eq!(away.before(run(3), true), None, "all that it says from now on counts");
    }
}
