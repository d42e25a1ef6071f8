//! Logs: how far each is known here, and how far others have it. What stands in them is in the
//! [`table`](super::table).

use std::{
    collections::{BTreeMap, btree_map},
    time::Instant,
};

use crate::model::{
    id::{ChildId, NodeId, NodeRun},
    message::Watermark,
};

/// Logs that are held at most; words about further ones are refused.
pub(super) const MOST_LOGS: usize = 4_096;

/// Where a record stands: in whose log, at which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LogPosition {
    pub(super) child: ChildId,
    pub(super) writer: NodeRun,
    pub(super) version: u64,
}

/// Positions, by log and version: the order in which logs are acknowledged.
#[derive(Debug, Default)]
pub(super) struct Positions(BTreeMap<NodeRun, BTreeMap<u64, ChildId>>);

impl Positions {
    pub(super) fn insert(&mut self, position: LogPosition) {
        self.0.entry(position.writer).or_default().insert(position.version, position.child);
    }

    pub(super) fn remove(&mut self, writer: NodeRun, version: u64) {
        if let btree_map::Entry::Occupied(mut versions) = self.0.entry(writer) {
            versions.get_mut().remove(&version);
            if versions.get().is_empty() {
                versions.remove();
            }
        }
    }

    /// Those in one log, by version.
    pub(super) fn of(&self, writer: NodeRun) -> Option<&BTreeMap<u64, ChildId>> {
        self.0.get(&writer)
    }

    /// Takes out `most` positions at most of those that are at or below the version given for their
    /// log.
    pub(super) fn take(&mut self, most: usize, upto: impl Fn(NodeRun) -> u64) -> Vec<LogPosition> {
        let mut taken = Vec::new();
        self.0.retain(|writer, versions| {
            let upto = upto(*writer);
            while taken.len() < most
                && let Some(first) = versions.first_entry()
                && *first.key() <= upto
            {
                let (version, child) = first.remove_entry();
                taken.push(LogPosition { child, writer: *writer, version });
            }
            !versions.is_empty()
        });
        taken
    }
}

/// One run's log, as far as it is known.
#[derive(Debug, Default)]
struct Log {
    /// All versions up to this one are known.
    version: u64,
    /// Below this, removals have been forgotten: who has less needs a snapshot.
    floor: u64,
    /// The highest version that its own node has named.
    named: u64,
    /// How far a snapshot has replaced what was held.
    replaced: Option<u64>,
    /// It is kept for those who are away, who may have more of it: nobody else needs to know of it.
    kept: bool,
    /// When it was last found to have changed; none if that is to be noted.
    touched: Option<Instant>,
    /// How far other nodes have it, and the run that has said so.
    acks: BTreeMap<NodeId, (NodeRun, u64)>,
}

/// What new versions of a log mean for those that were known of it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Advance {
    /// Versions up to this one are known already: what is not held any more was dropped with reason.
    pub(super) known: u64,
    /// What is held above the first and up to the second of these, and not named, is dropped: its
    /// writer has it no more.
    pub(super) replaces: Option<(u64, u64)>,
}

/// All logs that are known of.
#[derive(Debug)]
pub(super) struct Logs {
    me: NodeRun,
    logs: BTreeMap<NodeRun, Log>,
}

impl Logs {
    /// The own log alone.
    pub(super) fn new(me: NodeRun) -> Self {
        Self { me, logs: BTreeMap::from([(me, Log::default())]) }
    }

    /// The next version of the own log.
    pub(super) fn next_own(&mut self) -> u64 {
        let log = self.logs.entry(self.me).or_default();
        log.version += 1;
        log.version
    }

    /// Up to which version a log is known.
    pub(super) fn watermark(&self, log: NodeRun) -> u64 {
        self.logs.get(&log).map_or(0, |log| log.version)
    }

    /// Below which version a log is passed on as a snapshot only.
    pub(super) fn floor(&self, log: NodeRun) -> u64 {
        self.logs.get(&log).map_or(0, |log| log.floor)
    }

    /// How far each log is known, by run.
    pub(super) fn watermarks(&self) -> impl Iterator<Item = Watermark> {
        self.logs.iter().map(|(run, log)| Watermark { log: *run, version: log.version })
    }

    /// Up to which version a log is known by what its own node has told this one.
    pub(super) fn witnessed(&self, log: NodeRun) -> u64 {
        match log == self.me {
            true => self.watermark(log),
            false => self.logs.get(&log).map_or(0, |log| log.version.min(log.named)),
        }
    }

    /// Whether a log is kept for those alone who are away.
    pub(super) fn is_kept(&self, log: NodeRun) -> bool {
        self.logs.get(&log).is_some_and(|log| log.kept)
    }

    /// A log in which nothing stands is kept for those who are away.
    pub(super) fn keep(&mut self, log: NodeRun) {
        if let Some(log) = self.logs.get_mut(&log) {
            log.kept = true;
        }
    }

    /// Whether there is room for words about this log.
    pub(super) fn has_room(&self, log: NodeRun) -> bool {
        self.logs.contains_key(&log) || self.logs.len() < MOST_LOGS
    }

    /// The versions of a log above `from` and up to `upto` are here. `None`: nothing of that is new.
    pub(super) fn advance(&mut self, log: NodeRun, from: u64, upto: u64) -> Option<Advance> {
        let log = self.logs.entry(log).or_default();
        let held = log.version;
        let replaced = log.replaced.filter(|replaced| from <= *replaced && *replaced < upto);
        if replaced.is_none() && upto <= held {
            return None;
        }
        log.version = held.max(upto);
        (log.touched, log.kept) = (None, false);
        if replaced.is_some() {
            // Once past what was held, the snapshot has replaced everything.
            log.replaced = Some(upto).filter(|upto| *upto < held);
        }
        let known = replaced.unwrap_or(held);
        Some(Advance { known, replaces: replaced.map(|replaced| (replaced, upto.min(held))) })
    }

    /// The beginning of a log up to `upto` is here, and replaces what was held of it.
    pub(super) fn begin_snapshot(&mut self, log: NodeRun, upto: u64) -> Advance {
        let log = self.logs.entry(log).or_default();
        let held = log.version;
        log.version = held.max(upto);
        // What its writer has forgotten by now is not here to be passed on.
        log.floor = log.floor.max(upto);
        log.replaced = Some(upto).filter(|upto| *upto < held);
        (log.touched, log.kept) = (None, false);
        Advance { known: 0, replaces: Some((0, upto.min(held))) }
    }

    /// Removals were forgotten by who has told of a log, up to here.
    pub(super) fn raise_floor(&mut self, log: NodeRun, to: u64) {
        if let Some(log) = self.logs.get_mut(&log) {
            log.floor = log.floor.max(to);
        }
    }

    /// The node that writes a log says that it stands at this version, or above.
    pub(super) fn named(&mut self, log: NodeRun, version: u64) {
        let log = self.logs.entry(log).or_default();
        log.named = log.named.max(version);
    }

    /// Whether more of a log is known than its own node ever named.
    pub(super) fn is_beyond_named(&self, log: NodeRun) -> bool {
        self.logs.get(&log).is_some_and(|log| log.version > log.named)
    }

    /// Nothing is known of this log any more, but what its own node has named.
    pub(super) fn restart(&mut self, log: NodeRun) {
        let log = self.logs.entry(log).or_default();
        *log = Log { named: log.named, ..Log::default() };
    }

    /// Another node has this log up to this version.
    pub(super) fn acknowledged(&mut self, log: NodeRun, by: NodeRun, version: u64) {
        if let Some(log) = self.logs.get_mut(&log) {
            log.acks.insert(by.node, (by, version.min(log.version)));
        }
    }

    /// Up to which version a node has said that it has a log.
    pub(super) fn acked(&self, by: NodeId, log: NodeRun) -> u64 {
        self.ack(by, log).map_or(0, |(_, version)| version)
    }

    /// Up to which version this run of a node has said that it has a log: what the one before had is lost.
    pub(super) fn acked_by_run(&self, by: NodeRun, log: NodeRun) -> u64 {
        self.ack(by.node, log).filter(|(run, _)| *run == by).map_or(0, |(_, version)| version)
    }

    fn ack(&self, by: NodeId, log: NodeRun) -> Option<(NodeRun, u64)> {
        self.logs.get(&log)?.acks.get(&by).copied()
    }

    /// Up to which version all of these nodes have a log, its writer and this node left out.
    pub(super) fn acknowledged_by(&self, nodes: impl Iterator<Item = NodeId>, run: NodeRun) -> u64 {
        let Some(log) = self.logs.get(&run) else {
            return 0;
        };
        let others = nodes.filter(|node| *node != self.me.node && *node != run.node);
        let acks = others.map(|node| log.acks.get(&node).map_or(0, |(_, version)| *version));
        acks.min().unwrap_or(u64::MAX).min(log.version)
    }

    /// Who has less of a log than this needs a snapshot from now on: removals were forgotten.
    pub(super) fn raise_floors(&mut self, to: impl Fn(&Self, NodeRun) -> u64) {
        let floors: Vec<u64> = self.logs.keys().map(|run| to(self, *run)).collect();
        for (log, floor) in self.logs.values_mut().zip(floors) {
            log.floor = log.floor.max(floor);
        }
    }

    /// Forgets what nodes have acknowledged that do not count any more.
    pub(super) fn retain_acks(&mut self, counts: impl Fn(NodeId) -> bool) {
        for log in self.logs.values_mut() {
            log.acks.retain(|node, _| counts(*node));
        }
    }

    /// The runs of others that have written something.
    pub(super) fn written_by_others(&self) -> impl Iterator<Item = NodeRun> {
        let written = self.logs.iter().filter(|(run, log)| **run != self.me && log.version > 0);
        written.map(|(run, _)| *run)
    }

    /// The logs of others, each with the time at which it was last found to have changed: now, if it
    /// has since it was looked at last.
    pub(super) fn touched(&mut self, now: Instant) -> impl Iterator<Item = (NodeRun, Instant)> {
        let me = self.me;
        let logs = self.logs.iter_mut().filter(move |(run, _)| **run != me);
        logs.map(move |(run, log)| (*run, *log.touched.get_or_insert(now)))
    }

    /// Forgets a log in which nothing stands.
    pub(super) fn remove(&mut self, log: NodeRun) {
        self.logs.remove(&log);
    }

    /// How many logs are known of.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.logs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    fn node(n: u8) -> NodeId {
        run(n).node
    }

    fn position(writer: u8, version: u64) -> LogPosition {
        let child = ChildId::new(format!("c{version}")).expect("a valid id");
        LogPosition { child, writer: run(writer), version }
    }

    #[test]
    fn positions_are_taken_in_the_order_of_their_versions_and_never_more_than_asked_for() {
        let mut positions = Positions::default();
        for (writer, version) in [(1, 3), (1, 1), (1, 2), (2, 7), (2, 9)] {
            positions.insert(position(writer, version));
        }
        positions.remove(run(1), 2);
        let upto = |writer| if writer == run(1) { u64::MAX } else { 8 };
        assert_eq!(positions.take(1, upto), [position(1, 1)]);
        assert_eq!(positions.take(9, upto), [position(1, 3), position(2, 7)]);
        assert_eq!(positions.take(9, upto), []);
        assert!(positions.of(run(1)).is_none(), "nothing is kept of a log without positions");
        assert_eq!(positions.of(run(2)).map(BTreeMap::len), Some(1));
    }

    #[test]
    fn what_all_have_of_a_log_is_what_the_slowest_has_its_writer_and_this_node_left_out() {
        let mut logs = Logs::new(run(1));
        assert_eq!((0..5).map(|_| logs.next_own()).last(), Some(5));
        let upto = |logs: &Logs, nodes: &[u8]| {
            logs.acknowledged_by(nodes.iter().map(|n| node(*n)), run(1))
        };
        assert_eq!(upto(&logs, &[1]), 5, "there is nobody else");
        logs.acknowledged(run(1), run(2), 9);
        assert_eq!(upto(&logs, &[1, 2]), 5, "nobody has more than there is");
        assert_eq!(upto(&logs, &[1, 2, 3]), 0);
        logs.acknowledged(run(1), run(3), 2);
        assert_eq!(upto(&logs, &[1, 2, 3]), 2);
        logs.retain_acks(|n| n != node(3));
        assert_eq!(upto(&logs, &[1, 2, 3]), 0);
        assert_eq!(logs.acknowledged_by([node(2)].into_iter(), run(2)), 0, "it is not known");
        logs.advance(run(2), 0, 4);
        assert_eq!(logs.acknowledged_by([node(2)].into_iter(), run(2)), 4);
    }

    #[test]
    fn a_snapshot_in_parts_replaces_what_was_held_and_then_its_log_goes_on() {
        let mut logs = Logs::new(run(1));
        let advance = |known, replaces| Advance { known, replaces };
        assert_eq!(logs.advance(run(2), 0, 10), Some(advance(0, None)));
        assert_eq!(logs.advance(run(2), 0, 10), None, "nothing of it is new");
        assert_eq!(logs.begin_snapshot(run(2), 4), advance(0, Some((0, 4))));
        assert_eq!((logs.watermark(run(2)), logs.floor(run(2))), (10, 4));
        assert_eq!(logs.advance(run(2), 4, 7), Some(advance(4, Some((4, 7)))));
        assert_eq!(logs.advance(run(2), 7, 12), Some(advance(7, Some((7, 10)))));
        assert_eq!(logs.advance(run(2), 7, 12), None, "the snapshot is through");
        assert_eq!(logs.advance(run(2), 12, 13), Some(advance(12, None)));
    }

    #[test]
    fn a_log_that_is_begun_anew_keeps_what_its_own_node_has_named() {
        let mut logs = Logs::new(run(1));
        logs.named(run(2), 3);
        logs.advance(run(2), 0, 9);
        assert!(logs.is_beyond_named(run(2)));
        logs.restart(run(2));
        assert_eq!(logs.watermark(run(2)), 0);
        logs.advance(run(2), 0, 3);
        assert!(!logs.is_beyond_named(run(2)));
    }
}
