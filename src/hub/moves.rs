//! What becomes of many children, told at once: a rebalance of ten thousand is one event, not ten thousand.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::model::{
    event::{HubEvent, Moved},
    id::NodeId,
};

/// It is over when nothing has moved for so long.
const QUIET: Duration = Duration::from_secs(1);
/// One that lasts is told of each time so much has passed.
const LONGEST: Duration = Duration::from_secs(10);

/// The children that have moved since it was told last.
#[derive(Debug, Default)]
pub(super) struct Moves {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    since: Instant,
    latest: Instant,
    moved: Moved,
}

impl Moves {
    /// Something happened.
    pub(super) fn event(&mut self, now: Instant, event: &HubEvent) {
        match event {
            HubEvent::HandedOver { to, bytes, .. } => {
                let moved = self.moved(now);
                add(&mut moved.sent, *to);
                moved.bytes = moved.bytes.saturating_add(*bytes);
            }
            HubEvent::TakenOver { from, .. } => add(&mut self.moved(now).received, *from),
            HubEvent::HandoverFailed { .. } => self.moved(now).failed += 1,
            HubEvent::Recovered { with_state: true, .. } => self.moved(now).recovered += 1,
            HubEvent::Recovered { with_state: false, .. } => self.moved(now).begun_anew += 1,
            _ => {}
        }
    }

    /// What is to be told now, if anything is.
    pub(super) fn due(&mut self, now: Instant) -> Option<HubEvent> {
        let is_due = |open: &mut Open| now >= open.latest + QUIET || now >= open.since + LONGEST;
        self.open.take_if(is_due).map(Open::told)
    }

    /// What has not been told yet, as nothing follows.
    pub(super) fn rest(&mut self) -> Option<HubEvent> {
        self.open.take().map(Open::told)
    }

    fn moved(&mut self, now: Instant) -> &mut Moved {
        let begun = Open { since: now, latest: now, moved: Moved::default() };
        let open = self.open.get_or_insert(begun);
        open.latest = now;
        &mut open.moved
    }
}

impl Open {
    fn told(self) -> HubEvent {
        HubEvent::ChildrenMoved { moved: self.moved, took: self.latest - self.since }
    }
}

fn add(nodes: &mut BTreeMap<NodeId, usize>, node: NodeId) {
    *nodes.entry(node).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        child::Epoch,
        event::HandoverPhases,
        id::{ChildId, KindName},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn node(n: u8) -> NodeId {
        NodeId::from_key([n; 32])
    }

    fn child() -> ChildId {
        ChildId::new("c").expect("a valid id")
    }

    fn handed_over(to: u8) -> HubEvent {
        HubEvent::HandedOver {
            child: child(),
            kind: KindName::new("k").expect("a valid kind"),
            to: node(to),
            epoch: Epoch::ZERO,
            bytes: 10,
            took: SECOND,
            phases: HandoverPhases::default(),
        }
    }

    fn recovered(with_state: bool) -> HubEvent {
        HubEvent::Recovered { child: child(), from: None, epoch: Epoch::ZERO, with_state }
    }

    #[test]
    fn moves_are_told_together_when_none_has_followed_for_a_second() {
        let (mut moves, now) = (Moves::default(), Instant::now());
        moves.event(now, &HubEvent::Founded);
        assert_eq!(moves.due(now + 9 * SECOND), None, "nothing has moved");
        moves.event(now, &handed_over(2));
        moves.event(now, &handed_over(3));
        moves.event(now + SECOND / 2, &handed_over(2));
        moves.event(now + SECOND / 2, &recovered(true));
        moves.event(now + SECOND / 2, &recovered(false));
        assert_eq!(moves.due(now + SECOND), None);
        let moved = Moved {
            sent: [(node(2), 2), (node(3), 1)].into(),
            bytes: 30,
            recovered: 1,
            begun_anew: 1,
            ..Moved::default()
        };
        let told = HubEvent::ChildrenMoved { moved, took: SECOND / 2 };
        assert_eq!(moves.due(now + SECOND * 3 / 2), Some(told));
        assert_eq!((moves.due(now + 9 * SECOND), moves.rest()), (None, None));
    }

    #[test]
    fn a_rebalance_that_lasts_is_told_of_meanwhile_and_the_rest_at_the_end() {
        let (mut moves, now) = (Moves::default(), Instant::now());
        let told = (0_u32..24).filter(|half| {
            let now = now + SECOND / 2 * *half;
            moves.event(now, &handed_over(2));
            moves.due(now).is_some()
        });
        assert_eq!(told.collect::<Vec<_>>(), [20]);
        let Some(HubEvent::ChildrenMoved { moved, took }) = moves.rest() else {
            panic!("something is left")
        };
        assert_eq!((moved.sent[&node(2)], took), (3, SECOND));
    }
}
