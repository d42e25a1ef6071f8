//! Orders that come before this node has settled with others for the first time.
//!
//! Until then it hosts nothing: cut off now, it would go back to waiting as if it had never been in.
//! What it is told to run meanwhile waits, and is void if it is cut off.

use std::collections::VecDeque;

use crate::model::{
    id::NodeRun,
    message::{HomeWord, PeerMessage, RollWord},
    quota::Quota,
};

/// Bytes of orders of one peer that wait, counted with what each costs to keep. Further ones of it are
/// dropped: who ordered says it again.
const LIMIT: usize = 16 << 20;
/// What an order costs besides what its child is started from.
const OVERHEAD: usize = 512;

/// Orders that wait.
#[derive(Debug)]
pub(crate) struct Probation {
    held: VecDeque<(NodeRun, PeerMessage)>,
    quota: Quota,
}

impl Default for Probation {
    fn default() -> Self {
        Self { held: VecDeque::new(), quota: Quota::new(LIMIT) }
    }
}

impl Probation {
    /// Whether this is an order to run, or to end, something here.
    pub(crate) fn concerns(message: &PeerMessage) -> bool {
        matches!(
            message,
            PeerMessage::Home(
                HomeWord::Run { .. } | HomeWord::Halt { .. } | HomeWord::Migrate { .. }
            ) | PeerMessage::Handover(_)
                | PeerMessage::Roll(RollWord::Take { .. })
        )
    }

    /// Keeps an order.
    pub(crate) fn hold(&mut self, from: NodeRun, message: PeerMessage) {
        if self.quota.take(from.node, size(&message)).is_ok() {
            self.held.push_back((from, message));
        }
    }

    /// The next of the orders that were kept, once this node `is_proven`.
    pub(crate) fn next(&mut self, is_proven: bool) -> Option<(NodeRun, PeerMessage)> {
        let next = if is_proven { self.held.pop_front() } else { None };
        if let Some((from, message)) = &next {
            self.quota.give(from.node, size(message));
        }
        next
    }

    /// This node was cut off.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn size(message: &PeerMessage) -> usize {
    let spec = match message {
        PeerMessage::Home(HomeWord::Run { spec, .. }) => Some(spec),
        PeerMessage::Roll(RollWord::Take { ownership, .. }) => Some(&ownership.spec),
        PeerMessage::Handover(crate::model::message::HandoverWord::Offer { ownership, .. }) => {
            Some(&ownership.spec)
        }
        _ => None,
    };
    OVERHEAD + spec.map_or(0, |spec| spec.size())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::model::{
        child::{ChildSpec, Epoch},
        id::{ChildId, KindName, NodeId, Origin},
        message::SyncWord,
    };

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: 1 }
    }

    fn order(child: &str, arguments: usize) -> PeerMessage {
        let id = ChildId::new(child).expect("a valid id");
        let kind = KindName::new("kind").expect("a valid name");
        let spec = ChildSpec::from_parts(id, kind, Bytes::from(vec![0; arguments]));
        PeerMessage::Home(HomeWord::Run {
            spec: Arc::new(spec),
            epoch: Epoch { term: 1, attempt: 0 },
            origin: Origin::default(),
        })
    }

    #[test]
    fn orders_wait_and_come_in_their_order_unless_this_node_is_cut_off() {
        let mut probation = Probation::default();
        let orders = [(run(1), order("a", 1)), (run(2), order("b", 2)), (run(1), order("c", 3))];
        for (from, order) in orders.clone() {
            assert!(Probation::concerns(&order));
            probation.hold(from, order);
        }
        assert_eq!(probation.next(false), None, "it has settled with nobody");
        let released: Vec<_> = std::iter::from_fn(|| probation.next(true)).collect();
        assert_eq!(released, orders);
        assert_eq!([1, 2].map(|n| probation.quota.used(run(n).node)), [0, 0]);
        probation.hold(run(1), order("a", 1));
        probation.clear();
        assert!(probation.next(true).is_none() && probation.quota.used(run(1).node) == 0);
    }

    #[test]
    fn what_is_no_order_does_not_wait() {
        let found = HomeWord::Located {
            child: ChildId::new("a").expect("a valid id"),
            question: 1,
            route: None,
        };
        assert!(!Probation::concerns(&PeerMessage::Home(found)));
        let word = SyncWord::In {
            view: crate::model::member::ViewId(1),
            adopted: 1,
            echo: 1,
            version: 1,
            wanted: true,
            kinds: Vec::new(),
            gone: Vec::new(),
            away: Vec::new(),
            asked: Vec::new(),
        };
        assert!(!Probation::concerns(&PeerMessage::Sync(word)));
    }

    #[test]
    fn no_more_bytes_of_one_peer_wait_than_the_limit_and_room_is_given_back() {
        let mut probation = Probation::default();
        let used = |probation: &Probation| probation.quota.used(run(1).node);
        // Started anew, it has no more.
        let again = NodeRun { nonce: 2, ..run(1) };
        for n in 0..40 {
            probation.hold(if n % 2 == 0 { run(1) } else { again }, order("a", 1 << 20));
        }
        assert!(used(&probation) <= LIMIT && probation.held.len() < 16);
        // What costs little still goes in, up to the limit.
        for _ in 0..100_000 {
            probation.hold(run(1), order("b", 0));
        }
        assert!(used(&probation) <= LIMIT && probation.held.len() <= LIMIT / OVERHEAD);
        let before = probation.held.len();
        probation.hold(run(2), order("c", 1 << 20));
        assert_eq!(probation.held.len(), before + 1, "another one's orders have room of their own");
        probation.next(true);
        probation.hold(run(1), order("a", 1 << 20));
        assert_eq!(probation.held.len(), before + 1);
    }
}
