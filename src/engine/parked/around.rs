//! What parked states must know of their surroundings.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use crate::{
    engine::core::Core,
    model::{
        id::{NodeId, NodeRun},
        member::{MemberState, View},
    },
};

/// What the machine must know of its surroundings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    pub(crate) now: Instant,
    pub(crate) me: NodeRun,
    /// Whether this node leaves.
    pub(crate) leaving: bool,
    pub(crate) view: &'a View,
    /// Members to which states can go.
    pub(crate) reachable: &'a BTreeSet<NodeRun>,
}

impl<'a> Around<'a> {
    pub(crate) fn of(core: &'a Core) -> Self {
        let (now, me) = (core.now, core.me);
        let own = core.view.member(me.node);
        let leaving = own.is_some_and(|own| own.state == MemberState::Leaving);
        Self { now, me, leaving, view: &core.view, reachable: &core.reachable }
    }

    /// The other members.
    pub(super) fn others(&self) -> impl Iterator<Item = NodeId> + 'a {
        let me = self.me.node;
        self.view.members.keys().copied().filter(move |node| *node != me)
    }

    /// The members that do not leave, this node included if it does not.
    pub(super) fn staying(&self) -> BTreeMap<NodeRun, MemberState> {
        let stays = |run: NodeRun, state| match run == self.me {
            true => !self.leaving,
            false => state != MemberState::Leaving,
        };
        let members = self.view.members.values().map(|member| (member.run(), member.state));
        members.filter(|(run, state)| stays(*run, *state)).collect()
    }

    /// Whether this run is in, and not suspect.
    pub(super) fn is_heard(&self, run: NodeRun) -> bool {
        let member = self.view.member(run.node);
        member.is_some_and(|m| m.run() == run && m.state != MemberState::Suspect)
    }
}
