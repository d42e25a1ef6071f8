//! What members say of themselves and of others.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{Dialled, HINT_WINDOWS, MEMBERS_LIMIT, MemberOutput, Membership, is_plausible, usable};
use crate::model::{
    event::HubEvent,
    id::{Incarnation, NodeId, NodeRun},
    member::{Member, MemberState, ViewId},
    message::MemberWord,
};

impl Membership {
    pub(super) fn take_heartbeat(
        &mut self,
        now: Instant,
        from: NodeRun,
        incarnation: Incarnation,
        view: ViewId,
    ) {
        if incarnation.nonce == from.nonce {
            self.note_incarnation(now, from.node, incarnation);
        }
        let equal = view == self.current_view_id();
        let heartbeat = self.heartbeat;
        let Some(peer) = self.peers.get_mut(&from.node) else {
            return;
        };
        if peer.resync.compare(now, equal, heartbeat) {
            let mut members = self.members_but(from.node);
            members.truncate(MEMBERS_LIMIT);
            self.send(from.node, MemberWord::Members { members });
        }
    }

    /// The member itself, or somebody while it cannot be heard, names a later life of its run.
    pub(super) fn note_incarnation(
        &mut self,
        now: Instant,
        node: NodeId,
        incarnation: Incarnation,
    ) {
        let Some(member) = self.view.members.get_mut(&node) else {
            return;
        };
        if incarnation <= member.incarnation || !is_plausible(incarnation) {
            return;
        }
        member.incarnation = incarnation;
        self.changed();
        self.restart_ballot(now, node);
    }

    pub(super) fn note_state(&mut self, node: NodeId, state: MemberState) {
        let suspected = self.peers.get(&node).is_some_and(|peer| peer.suspicion.is_some());
        let Some(member) = self.view.members.get_mut(&node) else {
            return;
        };
        if state == MemberState::Leaving && member.state != MemberState::Leaving {
            member.state = MemberState::Leaving;
            self.out.push_back(MemberOutput::Event(HubEvent::NodeLeaving { node }));
            self.changed();
        } else if state != MemberState::Leaving && member.state == MemberState::Leaving {
            member.state = if suspected { MemberState::Suspect } else { MemberState::Alive };
            self.changed();
        }
    }

    pub(super) fn take_members(&mut self, now: Instant, from: NodeRun, members: Vec<Member>) {
        let mut hints = Vec::new();
        for told in members.into_iter().take(MEMBERS_LIMIT) {
            if told.id == from.node {
                if told.incarnation.nonce == from.nonce {
                    self.take_self_description(now, told);
                }
            } else {
                hints.push(told);
            }
        }
        self.take_hints(now, hints);
    }

    /// A member is the authority on itself.
    pub(super) fn take_self_description(&mut self, now: Instant, told: Member) {
        let node = told.id;
        let Some(member) = self.view.members.get_mut(&node) else {
            return;
        };
        if told.incarnation < member.incarnation {
            return;
        }
        let addresses = usable(told.addresses);
        if member.name != told.name || member.weight != told.weight {
            (member.name, member.weight) = (told.name, told.weight);
            self.changed();
        }
        if let Some(member) = self.view.members.get_mut(&node)
            && member.addresses != addresses
        {
            member.addresses.clone_from(&addresses);
            self.announce_due = true;
            self.connect(node, addresses);
        }
        self.note_incarnation(now, node, told.incarnation);
        self.note_state(node, told.state);
    }

    pub(super) fn take_hints(&mut self, now: Instant, members: Vec<Member>) {
        for told in members.into_iter().take(MEMBERS_LIMIT) {
            let node = told.id;
            let over = self.fences.covers(node, told.incarnation);
            if node == self.me || over || !is_plausible(told.incarnation) {
                continue;
            }
            if let Some(member) = self.view.members.get(&node) {
                let same_run = member.incarnation.nonce == told.incarnation.nonce;
                // While it has a link of its own it says such things itself.
                if same_run && !self.is_linked(node) {
                    self.note_incarnation(now, node, told.incarnation);
                    if told.state == MemberState::Leaving {
                        self.note_state(node, MemberState::Leaving);
                    }
                }
                continue;
            }
            let addresses = usable(told.addresses);
            let room = self.hints.len() < MEMBERS_LIMIT;
            let known = self.hints.get(&node);
            let news = known.map_or(room, |hint| told.incarnation > hint.incarnation);
            if news && !addresses.is_empty() {
                if known.is_none_or(|hint| hint.addresses != addresses) {
                    self.connect(node, addresses.clone());
                }
                let incarnation = told.incarnation;
                self.hints.insert(node, Dialled { incarnation, addresses, since: now });
            }
        }
    }

    pub(super) fn forget_old(&mut self, now: Instant) {
        let hinted = self.window * HINT_WINDOWS;
        let mut old = take_older(&mut self.hints, now, hinted);
        old.extend(take_older(&mut self.lost, now, self.forget_after));
        old.retain(|node| !self.lost.contains_key(node) && !self.hints.contains_key(node));
        for node in old {
            self.disconnect(node, "it was not reached for long");
        }
    }

    /// This life, or a later one, was declared over: come back above it.
    pub(super) fn renew_above(&mut self, fenced: Incarnation) {
        let incarnation = self.incarnation();
        if fenced < incarnation || !is_plausible(fenced) {
            return;
        }
        tracing::warn!(node = %self.me, "this node was declared down and comes back");
        self.change_me(|me| me.incarnation.started = fenced.started + 1);
        self.out.push_back(MemberOutput::Renewed);
        if fenced.nonce == incarnation.nonce {
            self.out.push_back(MemberOutput::Event(HubEvent::Rejoined));
        }
        self.send_to_all(&MemberWord::Members { members: vec![self.me().clone()] });
        self.end_check();
    }
}

fn take_older(dialled: &mut BTreeMap<NodeId, Dialled>, now: Instant, age: Duration) -> Vec<NodeId> {
    let mut old = Vec::new();
    dialled.retain(|node, dialled| {
        let keep = now.saturating_duration_since(dialled.since) < age;
        if !keep {
            old.push(*node);
        }
        keep
    });
    old
}
