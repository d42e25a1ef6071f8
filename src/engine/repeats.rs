//! How often a log is sent anew to one peer.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::model::id::{NodeId, NodeRun};

/// What stands of one log for one peer.
#[derive(Debug)]
struct Rest {
    until: Instant,
    /// From which version the peer asked for it last, meanwhile.
    asked: Option<u64>,
}

/// How often a log is sent anew to one peer: once in an interval. What is asked for meanwhile is
/// not lost: the latest is answered when the interval is over.
///
/// Pure. It keeps one entry for each peer and log that was sent within an interval.
#[derive(Debug)]
pub(crate) struct Repeats {
    interval: Duration,
    rests: BTreeMap<(NodeId, NodeRun), Rest>,
    /// When each of them ends, in order of time.
    ends: VecDeque<(Instant, NodeId, NodeRun)>,
    /// How many of them have something to answer.
    waiting: usize,
}

impl Repeats {
    /// One time in `interval` for each peer and log.
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, rests: BTreeMap::new(), ends: VecDeque::new(), waiting: 0 }
    }

    /// Whether this log may be sent to this peer from this version now. If so, it rests from now
    /// on; if not, this is what [`next_due`](Self::next_due) gives when it has rested.
    pub(crate) fn may(&mut self, now: Instant, to: NodeId, log: NodeRun, after: u64) -> bool {
        if let Some(rest) = self.rests.get_mut(&(to, log))
            && rest.until > now
        {
            self.waiting += usize::from(rest.asked.is_none());
            rest.asked = Some(after);
            return false;
        }
        let until = now + self.interval;
        let before = self.rests.insert((to, log), Rest { until, asked: None });
        self.waiting -= usize::from(before.is_some_and(|rest| rest.asked.is_some()));
        self.ends.push_back((until, to, log));
        true
    }

    /// The next log that was asked for while it rested, and has rested: for whom, which, and from
    /// where.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<(NodeId, NodeRun, u64)> {
        while self.ends.front().is_some_and(|(end, ..)| *end <= now) {
            let (end, to, log) = self.ends.pop_front()?;
            // Another rest of the same log may have begun since.
            if self.rests.get(&(to, log)).is_none_or(|rest| rest.until != end) {
                continue;
            }
            if let Some(after) = self.rests.remove(&(to, log)).and_then(|rest| rest.asked) {
                self.waiting -= 1;
                return Some((to, log, after));
            }
        }
        None
    }

    /// When [`next_due`](Self::next_due) may have something, if anybody waits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.ends.front().filter(|_| self.waiting > 0).map(|(end, ..)| *end)
    }

    /// Keeps nothing of peers other than these.
    pub(crate) fn retain(&mut self, is_here: impl Fn(NodeId) -> bool) {
        self.rests.retain(|(node, _), _| is_here(*node));
        self.ends.retain(|(_, node, _)| is_here(*node));
        self.waiting = self.rests.values().filter(|rest| rest.asked.is_some()).count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    #[test]
    fn the_latest_of_what_is_asked_meanwhile_is_given_when_the_interval_is_over() {
        let (mut repeats, now) = (Repeats::new(200 * MS), Instant::now());
        let (peer, other) = (run(1).node, run(2).node);
        assert!(repeats.may(now, peer, run(3), 5));
        assert!(repeats.may(now, peer, run(4), 5), "another log");
        assert!(repeats.may(now, other, run(3), 5), "another peer");
        assert_eq!(repeats.deadline(), None);
        for after in 6..1_000 {
            assert!(!repeats.may(now + 100 * MS, peer, run(3), after));
        }
        assert_eq!(repeats.deadline(), Some(now + 200 * MS));
        assert_eq!(repeats.next_due(now + 199 * MS), None);
        assert_eq!(repeats.next_due(now + 200 * MS), Some((peer, run(3), 999)));
        assert_eq!(repeats.next_due(now + 200 * MS), None);
        assert_eq!(repeats.deadline(), None);
        assert!(repeats.rests.is_empty() && repeats.ends.is_empty());
        assert!(repeats.may(now + 200 * MS, peer, run(3), 999));
    }

    #[test]
    fn what_is_asked_just_after_the_interval_begins_another_one() {
        let (mut repeats, now) = (Repeats::new(200 * MS), Instant::now());
        let peer = run(1).node;
        assert!(repeats.may(now, peer, run(3), 1));
        assert!(!repeats.may(now + 10 * MS, peer, run(3), 2));
        assert!(repeats.may(now + 300 * MS, peer, run(3), 3));
        assert_eq!(repeats.deadline(), None, "the later one was answered");
        assert!(!repeats.may(now + 310 * MS, peer, run(3), 4));
        assert_eq!(repeats.next_due(now + 499 * MS), None);
        assert_eq!(repeats.next_due(now + 500 * MS), Some((peer, run(3), 4)));
    }

    #[test]
    fn what_is_kept_of_a_peer_is_given_back_when_it_is_gone() {
        let (mut repeats, now) = (Repeats::new(200 * MS), Instant::now());
        for _ in 0..2 {
            for log in 0..100 {
                repeats.may(now, run(1).node, run(log), 0);
                repeats.may(now, run(2).node, run(log), 0);
            }
        }
        repeats.retain(|node| node == run(2).node);
        assert_eq!((repeats.rests.len(), repeats.ends.len(), repeats.waiting), (100, 100, 100));
        repeats.retain(|_| false);
        assert_eq!(repeats.deadline(), None);
        assert_eq!(repeats.next_due(now + 200 * MS), None);
    }
}
