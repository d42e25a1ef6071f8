//! Nodes that are passed over for one child: one that refused it, or could not make it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::model::id::NodeId;

/// How often the time doubles for which a node is passed over.
const DOUBLINGS: u32 = 5;

/// Why a node is passed over.
#[derive(Clone, Copy, Debug)]
struct Passed {
    /// Until when; `None`: until the view changes.
    until: Option<Instant>,
    /// How often it failed.
    times: u32,
}

/// The nodes that are passed over for one child.
#[derive(Debug, Default)]
pub(crate) struct PassedOver {
    /// Those that are passed over now.
    nodes: BTreeSet<NodeId>,
    /// Those that ever were, since the view changed.
    passed: BTreeMap<NodeId, Passed>,
    /// When a timer looks again.
    armed: Option<Instant>,
}

impl PassedOver {
    /// The nodes that are passed over now.
    pub(crate) fn nodes(&self) -> &BTreeSet<NodeId> {
        &self.nodes
    }

    /// Those of them that will not take the child as long as the view stays.
    pub(crate) fn lasting(&self) -> BTreeSet<NodeId> {
        let lasting = self.passed.iter().filter(|(_, passed)| passed.until.is_none());
        lasting.map(|(node, _)| *node).collect()
    }

    /// This node refuses the child for a reason that stays while it runs.
    pub(crate) fn refused(&mut self, node: NodeId) {
        self.nodes.insert(node);
        self.passed.entry(node).or_insert(Passed { until: None, times: 0 }).until = None;
    }

    /// This node could not make the child. Gives the time after which it may be tried again: `first`,
    /// and twice as long each time, up to 32 times as long.
    pub(crate) fn failed(&mut self, now: Instant, node: NodeId, first: Duration) -> Duration {
        let passed = self.passed.entry(node).or_insert(Passed { until: Some(now), times: 0 });
        let pause = first.saturating_mul(1 << passed.times.min(DOUBLINGS));
        passed.times = passed.times.saturating_add(1);
        passed.until = passed.until.map(|_| now + pause);
        self.nodes.insert(node);
        pause
    }

    /// After how long to look again, if no timer does that soon enough.
    pub(crate) fn arm(&mut self, now: Instant) -> Option<Duration> {
        let until = |node| self.passed.get(node).and_then(|passed| passed.until);
        let next = self.nodes.iter().filter_map(until).min()?;
        if self.armed.is_some_and(|armed| armed <= next) {
            return None;
        }
        self.armed = Some(next);
        Some(next.saturating_duration_since(now))
    }

    /// A timer looks again: takes those out whose time is over. Tells whether there were any.
    pub(crate) fn try_again(&mut self, now: Instant) -> bool {
        self.armed = None;
        let before = self.nodes.len();
        let passed = &self.passed;
        self.nodes.retain(|node| {
            let until = passed.get(node).and_then(|passed| passed.until);
            until.is_none_or(|until| until > now)
        });
        self.nodes.len() < before
    }

    /// The child runs on this node.
    pub(crate) fn works(&mut self, node: NodeId) {
        self.nodes.remove(&node);
        self.passed.remove(&node);
    }

    /// The view changed: whatever it was may have changed, too.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_key([n; 32])
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_failed_is_tried_again_after_a_while_that_doubles_up_to_a_bound() {
        let mut over = PassedOver::default();
        let mut now = Instant::now();
        for pause in [1, 2, 4, 8, 16, 32, 32] {
            assert_eq!(over.failed(now, node(1), SECOND), SECOND * pause);
            assert!(over.nodes().contains(&node(1)) && over.lasting().is_empty());
            assert!(!over.try_again(now + SECOND * pause - SECOND / 2));
            now += SECOND * pause;
            assert!(over.try_again(now));
            assert!(over.nodes().is_empty());
        }
        // Each has a count of its own.
        assert_eq!(over.failed(now, node(2), SECOND), SECOND);
    }

    #[test]
    fn one_timer_runs_for_all() {
        let (now, mut over) = (Instant::now(), PassedOver::default());
        assert_eq!(over.arm(now), None);
        over.failed(now, node(1), 4 * SECOND);
        assert_eq!(over.arm(now), Some(4 * SECOND));
        over.failed(now, node(1), 4 * SECOND);
        assert_eq!(over.arm(now), None, "it finds that it is too early, and runs on");
        over.failed(now, node(2), SECOND);
        assert_eq!(over.arm(now), Some(SECOND));
        // Also one that was cut short.
        assert!(!over.try_again(now + SECOND / 2));
        assert_eq!(over.arm(now + SECOND / 2), Some(SECOND / 2));
        assert!(over.try_again(now + SECOND));
        assert_eq!(over.arm(now + SECOND), Some(7 * SECOND));
        assert!(over.try_again(now + 8 * SECOND));
        assert_eq!(over.arm(now + 8 * SECOND), None);
        over.refused(node(3));
        assert_eq!(over.arm(now + 8 * SECOND), None, "until the view changes");
    }

    #[test]
    fn who_refused_is_passed_over_until_the_view_changes() {
        let mut over = PassedOver::default();
        let now = Instant::now();
        over.refused(node(1));
        over.failed(now, node(1), SECOND);
        over.failed(now, node(2), SECOND);
        over.refused(node(2));
        assert!(!over.try_again(now + SECOND * 1_000));
        assert_eq!(over.lasting(), BTreeSet::from([node(1), node(2)]));
        over.clear();
        assert!(over.nodes().is_empty() && over.lasting().is_empty());
        assert_eq!(over.failed(now, node(2), SECOND), SECOND, "it begins anew");
    }

    #[test]
    fn where_the_child_runs_it_is_not_passed_over() {
        let mut over = PassedOver::default();
        let now = Instant::now();
        over.failed(now, node(1), SECOND);
        over.failed(now, node(2), SECOND);
        over.works(node(1));
        assert_eq!(over.nodes(), &BTreeSet::from([node(2)]));
        assert_eq!(over.failed(now, node(1), SECOND), SECOND);
    }
}
