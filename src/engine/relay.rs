//! Words, messages and states by way of others: who is reached how, and what is passed on.
//!
//! A word goes over the link to its node if that works, else to a neighbour that is nearer to it.
//! Each node on the way chooses the next one by what it knows itself; the hops are counted, so that
//! no word goes round for ever. Words may be lost where the way changes: whoever said something over
//! the way before says it again. Messages and states have one member between, with a link that works
//! to both: they are many, and their path is one of acknowledged order.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    io::{Effect, Way},
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
    pub(crate) fn refresh(
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

    /// By which neighbour words go to this member, if not over its link.
    pub(crate) fn by(&self, run: NodeRun) -> Option<NodeId> {
        match self.ways.get(&run) {
            Some(Reach::By(by)) => Some(*by),
            _ => None,
        }
    }

    /// Members whose link works.
    pub(crate) fn linked(&self) -> impl Iterator<Item = NodeRun> + '_ {
        self.ways.iter().filter(|(_, way)| **way == Reach::Link).map(|(run, _)| *run)
    }
}

/// For how many heartbeats a member is passed over by whom another could not be reached.
const PASSED_OVER: u32 = 2;

/// By whom messages and states go to members without a link that works.
#[derive(Clone, Debug)]
pub(crate) struct Detours {
    heartbeat: Duration,
    /// As it was told last; `None`: nobody, as the last one could not.
    by: BTreeMap<NodeRun, Option<NodeRun>>,
    /// Who could not reach whom, and until when it is passed over.
    lost: BTreeMap<(NodeRun, NodeRun), Instant>,
}

impl Detours {
    pub(crate) fn new(heartbeat: Duration) -> Self {
        Self { heartbeat, by: BTreeMap::new(), lost: BTreeMap::new() }
    }

    /// By whom this member is reached.
    pub(crate) fn by(&self, to: NodeRun) -> Option<NodeRun> {
        self.by.get(&to).copied().flatten()
    }

    /// Members that are reached by another one.
    pub(crate) fn runs(&self) -> impl Iterator<Item = NodeRun> + '_ {
        self.by.iter().filter(|(_, by)| by.is_some()).map(|(to, _)| *to)
    }

    /// A member could not be reached by that one. Of a way that is not used any more this is no news.
    pub(crate) fn lost(&mut self, now: Instant, to: NodeRun, by: NodeRun) {
        if self.by(to) == Some(by) {
            self.by.insert(to, None);
            self.lost.insert((to, by), now + self.heartbeat * PASSED_OVER);
        }
    }

    /// When somebody is passed over no longer.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.lost.values().min().copied()
    }

    /// Decides anew. Gives whose messages go otherwise from now on: by whom, or over its link again.
    pub(crate) fn refresh(
        &mut self,
        now: Instant,
        membership: &Membership,
        view: &View,
        me: NodeId,
    ) -> Vec<(NodeRun, Option<NodeRun>)> {
        self.lost.retain(|(to, _), until| *until > now && view.is_live(*to));
        let mut by = BTreeMap::new();
        for to in view.members.values().map(|member| member.run()).filter(|to| to.node != me) {
            if membership.link_works(to.node) {
                continue;
            }
            let can = |by: &NodeRun| view.is_live(*by) && !self.lost.contains_key(&(to, *by));
            // One that works is not changed for another.
            let kept = self.by(to).filter(|by| can(by) && membership.is_between(*by, to.node));
            if let Some(run) = kept.or_else(|| membership.go_betweens(to.node).find(can)) {
                by.insert(to, Some(run));
            }
        }
        let before = std::mem::replace(&mut self.by, by);
        let gone = before.keys().filter(|to| !self.by.contains_key(*to)).map(|to| (*to, None));
        let new = self.by.iter().filter(|(to, by)| before.get(*to) != Some(*by));
        gone.chain(new.map(|(to, by)| (*to, *by))).collect()
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

/// The word as it goes to a node on this way, and to whom first: by one node between, so that the answer
/// can come back by the same one.
pub(crate) fn on_way(
    me: NodeRun,
    to: NodeRun,
    way: Way,
    message: PeerMessage,
) -> (NodeId, PeerMessage) {
    match way {
        Way::Straight => (to.node, message),
        Way::By(node) => {
            let message = Box::new(message);
            (node, PeerMessage::Relay { from: me, to, hops: 1, message })
        }
    }
}

fn wrap(me: NodeRun, to: NodeRun, hops: u8, hop: NodeId, message: PeerMessage) -> Effect {
    let message = PeerMessage::Relay { from: me, to, hops, message: Box::new(message) };
    Effect::Send { to: hop, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::membership::tests::Bench, model::message::MemberWord};

    fn word() -> PeerMessage {
        PeerMessage::Member(MemberWord::Ask)
    }

    fn relayed(from: u8, to: u8, hops: u8) -> PeerMessage {
        let (from, to) = (Bench::run(from), Bench::run(to));
        PeerMessage::Relay { from, to, hops, message: Box::new(word()) }
    }

    fn sent(to: u8, message: PeerMessage) -> Option<Effect> {
        Some(Effect::Send { to: Bench::run(to).node, message })
    }

    /// Node 1 in a view of four, with a link to node 2 alone, which has links to all.
    fn at_the_end() -> Membership {
        let mut bench = Bench::with(&[2, 3, 4]);
        bench.unlink(3);
        bench.unlink(4);
        bench.membership
    }

    #[test]
    fn a_word_goes_over_its_link_or_by_a_neighbour_that_is_nearer() {
        let mut membership = at_the_end();
        let me = Bench::run(1);
        let node = |n: u8| Bench::run(n).node;
        assert_eq!(send(&mut membership, me, node(2), word()), sent(2, word()));
        let expected = sent(2, relayed(1, 3, HOPS));
        assert_eq!(send(&mut membership, me, node(3), word()), expected);
        assert_eq!(greet(&mut membership, me, Bench::run(4), word()), sent(2, relayed(1, 4, HOPS)));
        // What is relayed already goes as it is.
        let message = relayed(1, 4, 1);
        assert_eq!(send(&mut membership, me, node(2), message.clone()), sent(2, message));
        assert_eq!(greet(&mut membership, me, Bench::run(9), word()), None, "nobody knows it");
    }

    #[test]
    fn without_any_way_a_word_is_tried_over_a_link_that_seems_not_to_work_or_lost() {
        let mut bench = Bench::with(&[2, 3]);
        bench.unlink(3);
        bench.pass(Bench::WINDOW, &[]);
        let (me, second, third) = (Bench::run(1), Bench::run(2).node, Bench::run(3).node);
        let membership = &mut bench.membership;
        assert_eq!(send(membership, me, second, word()), sent(2, word()));
        assert_eq!(send(membership, me, third, word()), None);
    }

    #[test]
    fn what_is_passed_on_goes_nearer_and_never_back_nor_further_than_it_may() {
        let mut bench = Bench::with(&[2, 3, 4]);
        bench.unlink(4);
        let membership = &mut bench.membership;
        let node = |n: u8| Bench::run(n).node;
        let mut pass = |by: u8, from: u8, to: u8, hops: u8| {
            let message = Box::new(word());
            pass_on(membership, node(by), Bench::run(from), Bench::run(to), hops, message)
        };
        assert_eq!(pass(2, 2, 3, 4), sent(3, relayed(2, 3, 3)));
        assert_eq!(pass(2, 2, 3, 1), sent(3, relayed(2, 3, 0)), "the last one");
        assert_eq!(pass(2, 2, 3, 0), None);
        assert_eq!(pass(2, 2, 3, 255), sent(3, relayed(2, 3, HOPS - 1)), "whatever it claims");
        let hop = pass(9, 9, 4, 4);
        assert!(matches!(hop, Some(Effect::Send { .. })), "{hop:?}");
        assert_eq!(pass(9, 9, 4, 1), None, "the next one could not pass it on");
        let Some(Effect::Send { to, .. }) = hop else { return };
        let by = to.key()[0];
        assert_eq!(pass(by, by, 4, 4), None, "it came from there");
        assert_eq!(pass(9, by, 4, 4), None, "and so did this");
    }

    #[test]
    fn a_word_on_a_way_of_its_own_goes_by_that_node_and_by_no_other_after_it() {
        let (me, to) = (Bench::run(1), Bench::run(3));
        assert_eq!(on_way(me, to, Way::Straight, word()), (to.node, word()));
        let second = Bench::run(2).node;
        assert_eq!(on_way(me, to, Way::By(second), word()), (second, relayed(1, 3, 1)));
    }

    #[test]
    fn a_member_that_is_reached_in_another_way_is_told_again() {
        let mut bench = Bench::with(&[2, 3]);
        let (view, me) = (bench.membership.view().clone(), Bench::run(1).node);
        let (second, third) = (Bench::run(2), Bench::run(3));
        let mut reached = Reached::default();
        let first = reached.refresh(&mut bench.membership, &view, me);
        assert_eq!(first, [(second, Some(Reach::Link)), (third, Some(Reach::Link))]);
        assert_eq!(reached.refresh(&mut bench.membership, &view, me), []);
        bench.unlink(3);
        let by = Some(Reach::By(second.node));
        assert_eq!(reached.refresh(&mut bench.membership, &view, me), [(third, by)]);
        bench.unlink(2);
        let lost = reached.refresh(&mut bench.membership, &view, me);
        assert_eq!(lost, [(second, None), (third, None)]);
    }
}
