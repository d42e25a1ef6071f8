//! The nodes that went in the last hour, and what that cost: kept whether anybody looks or not.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::model::{
    departed::{DepartedNode, Departure, DepartureCost},
    event::HubEvent,
    id::NodeId,
};

/// For so long each is told.
const KEPT: Duration = Duration::from_secs(60 * 60);
/// So many are told at most; the ones that went first are forgotten.
const MOST: usize = 256;

/// The nodes that went, and those that are about to.
#[derive(Debug, Default)]
pub(super) struct Departed {
    /// What those that hand their children over have cost so far.
    going: BTreeMap<NodeId, DepartureCost>,
    gone: BTreeMap<NodeId, Gone>,
}

#[derive(Debug)]
struct Gone {
    since: Instant,
    told: DepartedNode,
}

impl Departed {
    /// Something happened. `at`: now, in milliseconds since 1970; `name`: how nodes are called.
    pub(super) fn event(
        &mut self,
        now: Instant,
        at: u64,
        name: impl Fn(NodeId) -> String,
        event: &HubEvent,
    ) {
        match event {
            HubEvent::NodeLeaving { node } | HubEvent::NodeDraining { node }
                if self.going.len() < MOST =>
            {
                self.going.entry(*node).or_default();
            }
            HubEvent::NodeResumed { node } => {
                self.going.remove(node);
            }
            HubEvent::NodeJoined { node, .. } => {
                self.going.remove(node);
                if let Some(gone) = self.gone.get_mut(node) {
                    gone.told.came_back = Some(at);
                }
            }
            HubEvent::NodeLeft { node } => self.went(now, at, name, *node, Departure::Left),
            HubEvent::NodeDown { node } => self.went(now, at, name, *node, Departure::Down),
            HubEvent::TakenOver { from, .. } => {
                let gone = self.gone.get_mut(from).filter(|gone| gone.told.came_back.is_none());
                if let Some(cost) =
                    gone.map(|gone| &mut gone.told.cost).or_else(|| self.going.get_mut(from))
                {
                    cost.moved += 1;
                }
            }
            HubEvent::Recovered { from: Some(from), with_state, .. } => {
                if let Some(Gone { told, .. }) = self.gone.get_mut(from) {
                    match with_state {
                        true => told.cost.recovered += 1,
                        false => told.cost.begun_anew += 1,
                    }
                }
            }
            HubEvent::StateParked { key, .. } => {
                if let Some(gone) = self.gone.get_mut(&key.run.node) {
                    gone.told.cost.parked += 1;
                }
            }
            _ => {}
        }
    }

    fn went(
        &mut self,
        now: Instant,
        at: u64,
        name: impl Fn(NodeId) -> String,
        node: NodeId,
        how: Departure,
    ) {
        let cost = self.going.remove(&node).unwrap_or_default();
        let told = DepartedNode { id: node, name: name(node), how, at, came_back: None, cost };
        self.gone.insert(node, Gone { since: now, told });
        self.forget(now);
        if self.gone.len() > MOST
            && let Some(first) = self.gone.iter().min_by_key(|(_, gone)| gone.since)
        {
            let first = *first.0;
            self.gone.remove(&first);
        }
    }

    fn forget(&mut self, now: Instant) {
        self.gone.retain(|_, gone| now.saturating_duration_since(gone.since) < KEPT);
    }

    /// Those that went in the last hour, the latest first.
    pub(super) fn list(&mut self, now: Instant) -> Vec<DepartedNode> {
        self.forget(now);
        let mut gone: Vec<&Gone> = self.gone.values().collect();
        gone.sort_by_key(|gone| std::cmp::Reverse(gone.since));
        gone.into_iter().map(|gone| gone.told.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        child::Epoch,
        id::{ChildId, KindName, NodeName, NodeRun},
        parked::ParkedKey,
    };

    fn node(n: usize) -> NodeId {
        let mut key = [7; 32];
        (key[0], key[1]) = ((n >> 8) as u8, n as u8);
        NodeId::from_key(key)
    }

    fn child() -> ChildId {
        ChildId::new("c").expect("a valid id")
    }

    fn taken_over(from: usize) -> HubEvent {
        let kind = KindName::new("k").expect("a valid kind");
        HubEvent::TakenOver { child: child(), kind, from: node(from), epoch: Epoch::ZERO }
    }

    fn recovered(from: Option<usize>, with_state: bool) -> HubEvent {
        let from = from.map(node);
        HubEvent::Recovered { child: child(), from, epoch: Epoch::ZERO, with_state }
    }

    fn parked(of: usize) -> HubEvent {
        let run = NodeRun { node: node(of), nonce: 1 };
        let key = ParkedKey { child: child(), run, epoch: Epoch::ZERO };
        HubEvent::StateParked { child: child(), key, reason: "x".into() }
    }

    /// The nodes that went after these events, one each second, and as many seconds later.
    fn after(events: &[HubEvent], later: Duration) -> Vec<DepartedNode> {
        let (mut departed, start) = (Departed::default(), Instant::now());
        for (second, event) in (0..).zip(events) {
            let now = start + Duration::from_secs(second);
            departed.event(now, 1_000 * second, |node| node.short(), event);
        }
        departed.list(start + Duration::from_secs(events.len() as u64) + later)
    }

    #[test]
    fn a_node_that_died_is_told_with_what_began_anew_went_on_and_was_parked() {
        let down = HubEvent::NodeDown { node: node(2) };
        let joined =
            HubEvent::NodeJoined { node: node(2), name: NodeName::new("n2").expect("a name") };
        let told = after(
            &[
                // Of before, and of another one.
                taken_over(2),
                recovered(Some(2), false),
                down,
                recovered(Some(2), false),
                recovered(Some(2), false),
                recovered(Some(2), true),
                recovered(Some(3), true),
                recovered(None, true),
                joined,
                parked(2),
                taken_over(2),
            ],
            Duration::ZERO,
        );
        let cost = DepartureCost { begun_anew: 2, recovered: 1, parked: 1, moved: 0 };
        let expected = DepartedNode {
            id: node(2),
            name: node(2).short(),
            how: Departure::Down,
            at: 2_000,
            came_back: Some(8_000),
            cost,
        };
        assert_eq!(told, [expected]);
    }

    #[test]
    fn a_node_that_left_is_told_with_what_it_handed_over_since_it_began_to() {
        let leaving = || HubEvent::NodeLeaving { node: node(2) };
        let resumed = HubEvent::NodeResumed { node: node(2) };
        let left = HubEvent::NodeLeft { node: node(2) };
        let told = after(
            &[leaving(), taken_over(2), resumed, leaving(), taken_over(2), left, taken_over(2)],
            Duration::ZERO,
        );
        assert_eq!((told[0].how, told[0].cost.moved), (Departure::Left, 2));
    }

    #[test]
    fn each_is_told_for_an_hour_and_they_have_a_bound() {
        let down: Vec<_> = (0..=MOST).map(|n| HubEvent::NodeDown { node: node(n) }).collect();
        let told = after(&down, Duration::ZERO);
        assert_eq!((told.len(), told[0].id), (MOST, node(MOST)));
        assert_eq!(told.last().map(|last| last.id), Some(node(1)), "the first was forgotten");
        let hour = Duration::from_secs(3_600);
        assert_eq!(after(&down[..1], hour - Duration::from_secs(2)).len(), 1);
        assert_eq!(after(&down[..1], hour).len(), 0);
        // Those that are about to go have one, too.
        let (mut departed, now) = (Departed::default(), Instant::now());
        for n in 0..2 * MOST {
            let event = HubEvent::NodeLeaving { node: node(n) };
            departed.event(now, 0, |node| node.short(), &event);
        }
        assert_eq!(departed.going.len(), MOST);
    }
}
