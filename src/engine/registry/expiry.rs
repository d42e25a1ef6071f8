//! What is forgotten, and when: entries that do not count, removals, logs in which nothing stands.
//!
//! It is swept once a second, and in slices: a node that hears of 100,000 moved children at once has as
//! many lower entries to forget, and must hear its peers meanwhile. Each slice is a sweep of its own, of
//! less.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    super::away::Away,
    log::{LogPosition, Logs, Positions},
    table::Table,
};
use crate::model::id::{NodeId, NodeRun};

/// How often it is looked at what can be forgotten.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// So many entries, and as many removals, are looked at between two events: some milliseconds.
pub(super) const AT_ONCE: usize = 1_024;
/// How long a removal stays even if everybody knows of it: a child created anew shortly after
/// starts above it, and what is still on its way to the old one does not reach the new one.
pub(super) const KEEP_REMOVAL: Duration = Duration::from_secs(60);
/// Logs without entries that are kept of one node: of them only the newest can be of a live run.
const EMPTY_LOGS: usize = 4;
/// Logs without entries that are kept besides while somebody is away: who comes back may have more of them.
pub(super) const KEPT_LOGS: usize = 512;

/// What waits to be forgotten.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    /// Removals that are old enough to be forgotten, by where they stand.
    removals: Positions,
    /// Removals with the time at which they were found: that are not old enough, and that are.
    young: VecDeque<(Instant, LogPosition)>,
    old: VecDeque<(Instant, LogPosition)>,
    /// Who was in lately, and when last.
    known: BTreeMap<NodeId, Instant>,
    next_sweep: Option<Instant>,
    /// More was found than a slice takes.
    is_unfinished: bool,
}

impl Expiry {
    /// Whether this node was in lately.
    pub(super) fn knows(&self, node: NodeId) -> bool {
        self.known.contains_key(&node)
    }

    /// A node has ended and forgotten everything: no removal is kept for its sake.
    pub(super) fn gone(&mut self, node: NodeId) {
        self.known.remove(&node);
    }

    /// Whether a sweep goes on: [`sweep`](Self::sweep) is wanted at once.
    pub(super) fn is_under_way(&self) -> bool {
        self.is_unfinished
    }

    /// Forgets what nobody needs any more, if it is time to look or a sweep goes on. `known` is who is
    /// in now.
    pub(super) fn sweep(
        &mut self,
        now: Instant,
        known: &BTreeSet<NodeId>,
        forget_after: Duration,
        table: &mut Table,
        logs: &mut Logs,
        away: &mut Away,
    ) {
        let is_due = self.next_sweep.is_none_or(|at| now >= at);
        if !is_due && !self.is_unfinished {
            return;
        }
        // Also of a slice: who has come in since the last one does not have what was acknowledged.
        self.known.extend(known.iter().map(|node| (*node, now)));
        let before = self.known.len();
        if is_due {
            self.next_sweep = Some(now + SWEEP_EVERY);
            self.known.retain(|_, last| now.saturating_duration_since(*last) < forget_after);
        }
        self.is_unfinished = false;
        let is_forgotten = self.age(now, forget_after, table, logs);
        // A removal may be forgotten a moment before the node that has not heard of it.
        if is_forgotten || self.known.len() < before {
            logs.written_by_others()
                .filter(|run| !known.contains(&run.node))
                .for_each(|run| away.note(run));
        }
        self.drop_acknowledged(table, logs);
        if is_due {
            let is_anyone_away = away.is_anyone_noted() || self.known.len() > known.len();
            self.drop_logs(now, forget_after, is_anyone_away, table, logs, away);
        }
    }

    /// A slice of this length may have left something.
    fn looked_at(&mut self, entries: usize) {
        self.is_unfinished |= entries == AT_ONCE;
    }

    /// Forgets removals by their age. Whether there were any.
    fn age(
        &mut self,
        now: Instant,
        forget_after: Duration,
        table: &mut Table,
        logs: &mut Logs,
    ) -> bool {
        let before = self.young.len();
        self.young.extend(table.take_removed(AT_ONCE).map(|position| (now, position)));
        self.looked_at(self.young.len() - before);
        let grown = take_older(&mut self.young, now, KEEP_REMOVAL.min(forget_after));
        self.looked_at(grown.len());
        for (since, position) in grown {
            if table.is_removed_by(&position) {
                self.removals.insert(position.clone());
                self.old.push_back((since, position));
            }
        }
        let over = take_older(&mut self.old, now, forget_after);
        self.looked_at(over.len());
        let forgotten = over.iter().filter(|(_, position)| table.forget_removed(position)).count();
        if forgotten > 0 {
            // Somebody may not know of the removals and come back.
            logs.raise_floors(|logs, run| logs.watermark(run));
        }
        forgotten > 0
    }

    /// Up to which version everybody who counts has a log.
    fn acknowledged_by_all(&self, logs: &Logs, run: NodeRun) -> u64 {
        logs.acknowledged_by(self.known.keys().copied(), run)
    }

    fn drop_acknowledged(&mut self, table: &mut Table, logs: &mut Logs) {
        let crowded = table.take_crowded(AT_ONCE, |run| self.acknowledged_by_all(logs, run));
        self.looked_at(crowded.len());
        crowded.iter().for_each(|position| table.drop_lower(position));
        let mut removals = std::mem::take(&mut self.removals);
        let removed = removals.take(AT_ONCE, |run| self.acknowledged_by_all(logs, run));
        self.removals = removals;
        self.looked_at(removed.len());
        let forgotten = removed.iter().filter(|position| table.forget_removed(position)).count();
        if forgotten > 0 {
            logs.raise_floors(|logs, run| self.acknowledged_by_all(logs, run));
        }
    }

    /// Logs without entries of nodes that are long gone, and of too many runs of one node. While somebody
    /// is away the latest of them are kept.
    fn drop_logs(
        &mut self,
        now: Instant,
        forget_after: Duration,
        is_anyone_away: bool,
        table: &Table,
        logs: &mut Logs,
        away: &Away,
    ) {
        logs.retain_acks(|node| self.known.contains_key(&node));
        let mut empty: BTreeMap<NodeId, Vec<(Instant, NodeRun)>> = BTreeMap::new();
        let mut gone = Vec::new();
        let is_empty = |run: NodeRun| !table.stands_in(run) && !away.is_noted(run);
        for (run, touched) in logs.touched(now).filter(|(run, _)| is_empty(*run)) {
            if self.known.contains_key(&run.node) {
                empty.entry(run.node).or_default().push((touched, run));
            } else if now.saturating_duration_since(touched) >= forget_after {
                gone.push((touched, run));
            }
        }
        for (_, mut runs) in empty {
            runs.sort_unstable();
            let many = runs.len().saturating_sub(EMPTY_LOGS);
            gone.extend(runs.into_iter().take(many));
        }
        gone.sort_unstable();
        let kept = if is_anyone_away { gone.len().min(KEPT_LOGS) } else { 0 };
        let (dropped, kept) = gone.split_at(gone.len() - kept);
        dropped.iter().for_each(|(_, run)| logs.remove(*run));
        kept.iter().for_each(|(_, run)| logs.keep(*run));
    }
}

/// Takes what has waited at least this long from a queue in order of time, [`AT_ONCE`] at most.
fn take_older(
    queue: &mut VecDeque<(Instant, LogPosition)>,
    now: Instant,
    age: Duration,
) -> Vec<(Instant, LogPosition)> {
    let older = queue.partition_point(|(since, _)| now.saturating_duration_since(*since) >= age);
    queue.drain(..older.min(AT_ONCE)).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            table::Record,
            tests::{child, owned, removed, run},
        },
        *,
    };
    use crate::model::child::Entry;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn record(writer: u8, version: u64, entry: Entry) -> Record {
        Record::new(run(writer), version, entry)
    }

    /// What node 1 knows, and who is in.
    struct Bench {
        now: Instant,
        known: BTreeSet<NodeId>,
        table: Table,
        logs: Logs,
        expiry: Expiry,
        away: Away,
    }

    impl Bench {
        fn new(known: &[u8]) -> Self {
            Self {
                now: Instant::now(),
                known: known.iter().map(|n| run(*n).node).collect(),
                table: Table::default(),
                logs: Logs::new(run(1)),
                expiry: Expiry::default(),
                away: Away::default(),
            }
        }

        /// Node 1 writes that so many children moved to it, or were removed.
        fn write(&mut self, count: usize, is_removal: bool) {
            for n in 0..count {
                let version = self.logs.next_own();
                let entry = if is_removal { removed(9) } else { owned(n, 9) };
                self.table.put(child(n), record(1, version, entry));
            }
        }

        /// They were node 2's before.
        fn owned_before(&mut self, count: usize) {
            self.logs.advance(run(2), 0, count as u64);
            for n in 0..count {
                self.table.put(child(n), record(2, n as u64 + 1, owned(n, 1)));
            }
        }

        fn sweep(&mut self) {
            let Self { now, known, table, logs, expiry, away } = self;
            expiry.sweep(*now, known, HOUR, table, logs, away);
        }

        /// How many entries stand in the two logs.
        fn entries(&self) -> (usize, usize) {
            let of = |n| self.table.standing(run(n), 0, u64::MAX).count();
            (of(1), of(2))
        }
    }

    #[test]
    fn no_step_forgets_more_than_a_slice_and_all_is_forgotten_without_waiting() {
        for count in [1, AT_ONCE - 1, AT_ONCE, AT_ONCE + 1, 5 * AT_ONCE + 7] {
            let mut bench = Bench::new(&[1]);
            bench.owned_before(count);
            bench.write(count, false);
            let (mut left, mut steps) = (count, 0);
            loop {
                bench.sweep();
                steps += 1;
                let (own, now_left) = bench.entries();
                assert_eq!(own, count, "what counts stays");
                assert!(left - now_left <= AT_ONCE, "{left} to {now_left}");
                left = now_left;
                if !bench.expiry.is_under_way() {
                    break;
                }
            }
            assert_eq!((left, steps), (0, count / AT_ONCE + 1));
        }
    }

    #[test]
    fn removals_are_forgotten_in_slices_and_below_the_floor_all_of_them_are() {
        let count = 2 * AT_ONCE + 5;
        let mut bench = Bench::new(&[1, 3]);
        bench.write(count, true);
        let sweep = |bench: &mut Bench| {
            bench.sweep();
            while bench.expiry.is_under_way() {
                let (before, _) = bench.entries();
                bench.sweep();
                assert!(before - bench.entries().0 <= 2 * AT_ONCE);
            }
        };
        sweep(&mut bench);
        bench.now += KEEP_REMOVAL;
        sweep(&mut bench);
        assert_eq!(bench.entries().0, count, "node 3 has not heard");
        assert_eq!(bench.logs.floor(run(1)), 0);
        bench.logs.acknowledged(run(1), run(3), 7);
        bench.now += SWEEP_EVERY;
        sweep(&mut bench);
        assert_eq!((bench.entries().0, bench.logs.floor(run(1))), (count - 7, 7));
        bench.logs.acknowledged(run(1), run(3), u64::MAX);
        bench.now += SWEEP_EVERY;
        sweep(&mut bench);
        assert_eq!((bench.entries().0, bench.logs.floor(run(1))), (0, count as u64));
    }

    #[test]
    fn who_comes_in_while_a_sweep_goes_on_is_waited_for_from_then_on() {
        let mut bench = Bench::new(&[1]);
        bench.write(3 * AT_ONCE, true);
        bench.sweep();
        while bench.expiry.is_under_way() {
            bench.sweep();
        }
        bench.now += KEEP_REMOVAL;
        bench.sweep();
        let (left, _) = bench.entries();
        assert!(bench.expiry.is_under_way() && left > 0);
        bench.known.insert(run(3).node);
        while bench.expiry.is_under_way() {
            bench.sweep();
        }
        assert_eq!(bench.entries().0, left);
        bench.known.remove(&run(3).node);
        bench.now += HOUR;
        bench.sweep();
        assert!(bench.entries().0 < left, "it was in too long ago");
    }

    #[test]
    fn while_somebody_is_away_the_latest_logs_in_which_nothing_stands_are_kept() {
        let mut bench = Bench::new(&[1, 2]);
        bench.away.note(run(9));
        let life = |nonce| NodeRun { nonce, ..run(2) };
        let count = (KEPT_LOGS + EMPTY_LOGS + 3) as u64;
        for nonce in 0..count {
            bench.logs.advance(life(nonce), 0, 1);
            bench.sweep();
            bench.now += SWEEP_EVERY;
        }
        bench.sweep();
        let lives = |bench: &Bench, which: fn(&Logs, NodeRun) -> bool| {
            (0..count).filter(|nonce| which(&bench.logs, life(*nonce))).count()
        };
        let is_known = |logs: &Logs, run| logs.watermark(run) > 0;
        assert_eq!(lives(&bench, is_known), KEPT_LOGS + EMPTY_LOGS);
        assert_eq!(lives(&bench, Logs::is_kept), KEPT_LOGS);
        assert!(!is_known(&bench.logs, life(2)), "the oldest goes first");
        bench.away.forget(run(9));
        bench.now += SWEEP_EVERY;
        bench.sweep();
        assert_eq!(lives(&bench, is_known), EMPTY_LOGS, "they are given back");
    }

    #[test]
    fn of_the_logs_in_which_nothing_stands_the_latest_of_each_node_are_kept() {
        let mut bench = Bench::new(&[1, 2]);
        let life = |nonce| NodeRun { nonce, ..run(2) };
        for nonce in 0..EMPTY_LOGS as u64 + 3 {
            bench.logs.advance(life(nonce), 0, 1);
            bench.sweep();
            bench.now += SWEEP_EVERY;
        }
        let lives = |bench: &Bench| (0..9).filter(|n| bench.logs.watermark(life(*n)) > 0).count();
        bench.sweep();
        assert_eq!(lives(&bench), EMPTY_LOGS);
        assert_eq!(bench.logs.watermark(life(2)), 0, "the oldest goes first");
        bench.table.put(child(0), record(2, 1, owned(0, 1)));
        bench.logs.advance(run(2), 0, 1);
        bench.known.remove(&run(2).node);
        bench.now += HOUR + SWEEP_EVERY;
        bench.sweep();
        bench.now += HOUR + SWEEP_EVERY;
        bench.sweep();
        assert_eq!(lives(&bench), EMPTY_LOGS + 1, "each may come back, and ask what was stopped");
        bench.away.viewed(|_| true, |_| true);
        bench.now += HOUR + SWEEP_EVERY;
        bench.sweep();
        assert_eq!(lives(&bench), 1, "none comes back any more, and something stands in this one");
        assert_eq!(bench.table.best(&child(0)).map(|best| best.writer), Some(run(2)));
    }
}
