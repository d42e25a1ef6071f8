//! What members have of the logs of runs that are gone, and others need before they act.
//!
//! A node that crashes may have told a single member what it had answered last. So each member says with
//! its `In` how far it has the logs of those who are gone, and a view is settled when all of that is
//! here. Nobody else than who names them can say that those entries exist: what a member names and does not
//! give for a while counts for nothing, as long as it is in. What else it names counts from the next view on,
//! of logs that are known here: else it could name another one each time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::registry::Registry;
use crate::model::{id::NodeRun, message::Watermark};

/// Logs that one member names.
pub(crate) const MOST_GONE: usize = 1_024;
/// Who has named so many logs and given nothing of them is not waited for in any view, as long as it is in.
const MOST_REFUTED: usize = 64;

/// What each member has of logs of those who are gone.
#[derive(Debug, Default)]
pub(crate) struct GoneLogs {
    named: BTreeMap<NodeRun, Vec<Watermark>>,
    /// Members that give nothing: how far each log is here that they named and this node lacks, and since
    /// when that is so.
    stuck: BTreeMap<NodeRun, (BTreeMap<NodeRun, u64>, Instant)>,
    /// Logs of which each of them has named what it did not give.
    refuted: BTreeMap<NodeRun, BTreeSet<NodeRun>>,
    /// Members that have, since this view was adopted: they are not waited for.
    given_up: BTreeSet<NodeRun>,
}

impl GoneLogs {
    /// A member says what it has.
    pub(crate) fn heard(&mut self, from: NodeRun, mut named: Vec<Watermark>) {
        named.truncate(MOST_GONE);
        self.named.insert(from, named);
    }

    /// Forgets all that was said by who is not in any more.
    pub(crate) fn retain(&mut self, is_live: impl Fn(NodeRun) -> bool) {
        self.named.retain(|run, _| is_live(*run));
        self.stuck.retain(|run, _| is_live(*run));
        self.refuted.retain(|run, _| is_live(*run));
        self.given_up.retain(|run| is_live(*run));
    }

    /// Another view is adopted: who has not given what it had named may have other logs that are needed.
    pub(crate) fn adopted(&mut self) {
        let refuted = &self.refuted;
        self.given_up.retain(|run| refuted.get(run).is_some_and(|logs| logs.len() >= MOST_REFUTED));
    }

    /// What a member has and this node lacks. Of the logs of live runs nobody else says anything.
    pub(crate) fn lacking<'a>(
        &'a self,
        from: NodeRun,
        registry: &'a Registry,
        is_live: impl Fn(NodeRun) -> bool + 'a,
    ) -> impl Iterator<Item = Watermark> + 'a {
        let named = self.named.get(&from).filter(|_| !self.given_up.contains(&from));
        let refuted = self.refuted.get(&from);
        named.into_iter().flatten().copied().filter(move |Watermark { log, version }| {
            let here = registry.watermark(*log);
            let counts = refuted.is_none_or(|refuted| here > 0 && !refuted.contains(log));
            counts && !is_live(*log) && here < *version
        })
    }

    /// What members named and have given nothing of for so long does not count any more. Gives the members,
    /// each with one of the logs.
    pub(crate) fn tick(
        &mut self,
        now: Instant,
        patience: Duration,
        registry: &Registry,
        is_live: impl Fn(NodeRun) -> bool,
    ) -> Vec<(NodeRun, Watermark)> {
        let mut refuted = Vec::new();
        let lacking: BTreeSet<NodeRun> = self
            .named
            .keys()
            .copied()
            .filter(|run| self.lacking(*run, registry, &is_live).next().is_some())
            .collect();
        self.stuck.retain(|run, _| lacking.contains(run));
        for run in lacking {
            let lacks: Vec<Watermark> = self.lacking(run, registry, &is_live).collect();
            let here: BTreeMap<NodeRun, u64> =
                lacks.iter().map(|mark| (mark.log, registry.watermark(mark.log))).collect();
            let stuck = self.stuck.entry(run).or_insert_with(|| (here.clone(), now));
            // That it names other logs is no progress.
            let goes_on = stuck.0.iter().any(|(log, before)| registry.watermark(*log) > *before);
            stuck.0 = here;
            if goes_on {
                stuck.1 = now;
            } else if now.saturating_duration_since(stuck.1) >= patience {
                self.stuck.remove(&run);
                self.given_up.insert(run);
                let logs = self.refuted.entry(run).or_default();
                logs.extend(lacks.iter().map(|mark| mark.log));
                refuted.extend(lacks.first().map(|mark| (run, *mark)));
            }
        }
        refuted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        child::{Entry, Epoch},
        id::{ChildId, NodeId},
        message::LogEntry,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    fn tell(registry: &mut Registry, log: NodeRun, upto: u64) {
        let entries = (registry.watermark(log) + 1..=upto).map(|version| LogEntry {
            version,
            child: ChildId::new(format!("c{version}")).expect("a valid id"),
            entry: Entry::Removed { epoch: Epoch { term: 1, attempt: 0 } },
        });
        let (from, entries) = (registry.watermark(log), entries.collect());
        registry.apply_changes(log, from, upto, entries);
    }

    #[test]
    fn of_what_a_member_names_that_counts_which_is_not_here_and_whose_writer_is_gone() {
        let (mut logs, mut registry) = (GoneLogs::default(), Registry::new(run(1)));
        let mark = |n, version| Watermark { log: run(n), version };
        logs.heard(run(2), vec![mark(3, 5), mark(4, 5), mark(5, 5)]);
        tell(&mut registry, run(5), 5);
        let lacking = |logs: &GoneLogs, registry: &Registry| -> Vec<Watermark> {
            logs.lacking(run(2), registry, |log| log == run(4)).collect()
        };
        assert_eq!(lacking(&logs, &registry), [mark(3, 5)]);
        tell(&mut registry, run(3), 4);
        assert_eq!(lacking(&logs, &registry), [mark(3, 5)]);
        tell(&mut registry, run(3), 5);
        assert_eq!(lacking(&logs, &registry), []);
    }

    #[test]
    fn a_member_that_gives_nothing_for_a_while_is_not_waited_for_until_it_comes_back() {
        let (mut logs, mut registry) = (GoneLogs::default(), Registry::new(run(1)));
        let mark = |n, version| Watermark { log: run(n), version };
        logs.heard(run(2), vec![mark(3, 1 << 40)]);
        let begun = Instant::now();
        let lacks = |logs: &GoneLogs, registry: &Registry| {
            logs.lacking(run(2), registry, |_| false).next().is_some()
        };
        logs.tick(begun, 6 * SECOND, &registry, |_| false);
        logs.tick(begun + 5 * SECOND, 6 * SECOND, &registry, |_| false);
        tell(&mut registry, run(3), 1);
        logs.tick(begun + 6 * SECOND, 6 * SECOND, &registry, |_| false);
        assert!(lacks(&logs, &registry), "something came");
        // It names others, of which some are here.
        logs.heard(run(2), vec![mark(3, 1 << 40), mark(5, 9), mark(6, 1)]);
        tell(&mut registry, run(6), 1);
        logs.tick(begun + 9 * SECOND, 6 * SECOND, &registry, |_| false);
        assert!(lacks(&logs, &registry));
        logs.tick(begun + 12 * SECOND, 6 * SECOND, &registry, |_| false);
        assert!(!lacks(&logs, &registry));
        logs.heard(run(2), vec![Watermark { log: run(3), version: 1 << 41 }]);
        assert!(!lacks(&logs, &registry), "nor when it says more");
        logs.adopted();
        assert!(!lacks(&logs, &registry), "nor in another view");
        logs.retain(|_| false);
        logs.heard(run(2), vec![Watermark { log: run(3), version: 7 }]);
        assert!(lacks(&logs, &registry));
        logs.retain(|_| false);
        assert!(logs.named.is_empty() && logs.stuck.is_empty());
        assert!(logs.refuted.is_empty() && logs.given_up.is_empty(), "all is given back");
    }

    #[test]
    fn who_has_not_given_one_log_is_waited_for_in_the_next_view_for_others_that_are_known_here() {
        let (mut logs, mut registry) = (GoneLogs::default(), Registry::new(run(1)));
        let mark = |n, version| Watermark { log: run(n), version };
        tell(&mut registry, run(4), 1);
        tell(&mut registry, run(5), 1);
        let begun = Instant::now();
        let lacking = |logs: &GoneLogs, registry: &Registry| -> Vec<Watermark> {
            logs.lacking(run(2), registry, |_| false).collect()
        };
        logs.heard(run(2), vec![mark(3, 9), mark(4, 9)]);
        assert_eq!(logs.tick(begun, 6 * SECOND, &registry, |_| false), []);
        let told = logs.tick(begun + 6 * SECOND, 6 * SECOND, &registry, |_| false);
        assert_eq!(told, [(run(2), mark(3, 9))], "it is told once");
        assert_eq!(logs.tick(begun + 7 * SECOND, 6 * SECOND, &registry, |_| false), []);
        logs.heard(run(2), vec![mark(3, 9), mark(4, 10), mark(5, 2), mark(6, 1)]);
        assert_eq!(
            lacking(&logs, &registry),
            [],
            "one after the other it would hold up a view for ever"
        );
        logs.adopted();
        assert_eq!(lacking(&logs, &registry), [mark(5, 2)]);
        tell(&mut registry, run(5), 2);
        assert_eq!(lacking(&logs, &registry), []);
    }

    #[test]
    fn who_names_many_logs_and_gives_nothing_is_waited_for_once() {
        let (mut logs, mut registry) = (GoneLogs::default(), Registry::new(run(1)));
        let log = |nonce| NodeRun { nonce, ..run(3) };
        let named = (0..MOST_REFUTED as u64).map(|n| Watermark { log: log(n), version: 9 });
        logs.heard(run(2), named.collect());
        let begun = Instant::now();
        for wait in [0, 6] {
            logs.tick(begun + wait * SECOND, 6 * SECOND, &registry, |_| false);
        }
        tell(&mut registry, run(5), 1);
        logs.heard(run(2), vec![Watermark { log: run(5), version: 9 }]);
        logs.adopted();
        assert_eq!(logs.lacking(run(2), &registry, |_| false).next(), None);
    }
}
