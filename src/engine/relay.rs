//! Words by way of others: who is reached how, and what is passed on.
//!
//! A word goes over the link to its node if that works, else to a neighbour that is nearer to it.
//! Each node on the way chooses the next one by what it knows itself; the hops are counted, so that
//! no word goes round for ever. Words may be lost where the way changes: whoever said something over
//! the way before says it again.

use std::collections::BTreeMap;

use super::{
    io::Effect,
    membership::{HOPS, Membership},
};
use crate::model::{
    id::{NodeId, NodeRun},
    member::View,
    message::PeerMessage,
};

/// How words go to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Over the link.
    Link,
    /// By this neighbour.
    By(NodeId),
}

/// How each member is reached, as it was found last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reached {
    ways: BTreeMap<NodeRun, Reach>,
}

impl Reached {
    /// Looks anew. Gives the members that are reached in another way than before: what was said to
    /// them may be lost.
    pub(crate) fn look(
        &mut self,
        membership: &mut Membership,
        view: &View,
        me: NodeId,
    ) -> Vec<(NodeRun, Option<Reach>)> {
        let mut changed = Vec::new();
        let mut ways = BTreeMap::new();
        for run in view.members.values().map(|member| member.run()).filter(|run| run.node != me) {
            let way = if membership.link_works(run.node) {
                Some(Reach::Link)
            } else {
                membership.next_hop(run.node).map(Reach::By)
            };
            if way != self.ways.get(&run).copied() {
                changed.push((run, way));
            }
            if let Some(way) = way {
                ways.insert(run, way);
            }
        }
        self.ways = ways;
        changed
    }

    /// How a member is reached.
    pub(crate) fn way(&self, run: NodeRun) -> Option<Reach> {
        self.ways.get(&run).copied()
    }
}

/// The effect by which a word goes to a node that this one has met. `None`: there is no way now.
pub(crate) fn send(
    membership: &mut Membership,
    me: NodeRun,
    to: NodeId,
    message: PeerMessage,
) -> Option<Effect> {
    if membership.link_works(to) || matches!(message, PeerMessage::Relay { .. }) {
        return Some(Effect::Send { to, message });
    }
    let Some(run) = membership.run_of(to) else {
        return Some(Effect::Send { to, message });
    };
    match membership.next_hop(to) {
        Some(hop) => Some(wrap(me, run, HOPS, hop, message)),
        // It may work all the same.
        None if membership.is_linked(to) => Some(Effect::Send { to, message }),
        None => None,
    }
}

/// The effect by which a word goes to a node that is known by name only.
pub(crate) fn greet(
    membership: &mut Membership,
    me: NodeRun,
    to: NodeRun,
    message: PeerMessage,
) -> Option<Effect> {
    let hop = membership.next_hop(to.node)?;
    Some(wrap(me, to, HOPS, hop, message))
}

/// Passes on what came from `by` for another node.
pub(crate) fn pass_on(
    membership: &mut Membership,
    by: NodeId,
    from: NodeRun,
    to: NodeRun,
    hops: u8,
    message: Box<PeerMessage>,
) -> Option<Effect> {
    let left = hops.min(HOPS).checked_sub(1)?;
    let direct = membership.link_works(to.node);
    let hop = if direct { Some(to.node) } else { membership.next_hop(to.node) };
    // Back is never nearer.
    let hop = hop.filter(|hop| *hop != by && *hop != from.node && (direct || left > 0))?;
    let message = PeerMessage::Relay { from, to, hops: left, message };
    Some(Effect::Send { to: hop, message })
}

fn wrap(me: NodeRun, to: NodeRun, hops: u8, hop: NodeId, message: PeerMessage) -> Effect {
    let message = PeerMessage::Relay { from: me, to, hops, message: Box::new(message) };
    Effect::Send { to: hop, message }
}
