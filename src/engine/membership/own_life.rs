//! Whether the life of this node itself still counts: pauses, and coming back in a higher life.

use std::{collections::BTreeSet, time::Instant};

use super::{
    bounds::can_be_mine,
    outputs::Outputs,
    pace::Pace,
    pause::{Due, PauseCheck},
    rivals::Rivals,
    roster::Roster,
    timing::Timing,
    voice::Voice,
};
use crate::model::{
    event::HubEvent,
    id::{Incarnation, NodeId},
    member::MemberState,
    message::MemberWord,
};

/// What this node's own life touches.
pub(super) struct OwnLife<'a> {
    pub(super) timing: &'a Timing,
    pub(super) check: &'a mut PauseCheck,
    pub(super) rivals: &'a mut Rivals,
    pub(super) roster: &'a mut Roster,
    pub(super) voice: &'a mut Voice,
    pub(super) out: &'a mut Outputs,
    pub(super) pace: &'a mut Pace,
}

impl OwnLife<'_> {
    /// This node may not have run for a while; `before` is when it ran last.
    pub(super) fn look_back(&mut self, now: Instant, before: Instant) {
        // Without contacts there is no heartbeat to be late for, and nobody who declares us down.
        if self.roster.contacts().is_empty() {
            return;
        }
        let Timing { heartbeat, window, .. } = *self.timing;
        // What counts is how long the peers may not have heard us, and that began before the
        // pause; the latest heartbeat may have been cut short by it.
        if self.voice.silent_for(now) >= window - heartbeat / 2 {
            self.start_check(now);
        } else if now.saturating_duration_since(before) > heartbeat + heartbeat / 2 {
            let age = window.saturating_sub(heartbeat);
            self.roster.contacts_mut().for_each(|(_, contact)| contact.excuse_lateness(now, age));
            self.pace.news();
        }
    }

    /// Peers may not have heard this node for the suspicion window: they may have declared it down.
    fn start_check(&mut self, now: Instant) {
        let silent_for = self.voice.silent_for(now);
        tracing::warn!(node = %self.roster.id(), ?silent_for, "this node did not run for long");
        for (_, contact) in self.roster.contacts_mut() {
            contact.excuse(now);
            // Each is asked, and says nothing as long as it suspects this node.
            contact.beats_mut().owe();
        }
        self.rivals.excuse(now, self.timing.heartbeat + self.timing.heartbeat / 2);
        self.voice.hurry(now);
        self.pace.news();
        let members = &self.roster.view().members;
        let waiting: BTreeSet<NodeId> = members
            .values()
            .filter(|member| member.state != MemberState::Suspect)
            .map(|member| member.id)
            .filter(|node| self.roster.contact(*node).is_some())
            .collect();
        if waiting.is_empty() && members.len() == 1 {
            return;
        }
        if self.check.begin(now, self.timing.window, waiting) {
            self.out.gates(false);
        }
    }

    /// Asks what nobody was asked yet: after all were told that this node lives, as who suspects it says
    /// nothing to its question.
    pub(super) fn ask_first(&mut self) {
        let first = self.check.first();
        self.ask(first);
    }

    /// Asks these whether this life counts with them.
    fn ask(&mut self, nodes: Vec<NodeId>) {
        let (incarnation, question) = (self.roster.incarnation(), self.check.question());
        for node in nodes {
            self.out.send(node, MemberWord::Confirm { incarnation, question });
        }
    }

    /// A node is linked anew: what it was asked before may be lost.
    pub(super) fn linked(&mut self, node: NodeId) {
        if self.check.is_waiting_for(node) {
            self.ask(vec![node]);
        }
    }

    /// A peer says that this life counts with it.
    pub(super) fn confirmed(&mut self, by: NodeId, incarnation: Incarnation, question: u64) {
        if incarnation == self.roster.incarnation() {
            self.check.confirmed(by, question);
            self.pace.news();
        }
    }

    /// Goes on with a check, if there is one.
    pub(super) fn settle_check(&mut self, now: Instant) {
        let (roster, timing) = (&*self.roster, self.timing);
        let counts = |node: NodeId| {
            let contact = roster.contact(node);
            roster.is_member(node) && contact.is_some_and(|c| !c.is_suspicious(now, timing))
        };
        match self.check.go_on(now, timing.heartbeat, counts) {
            Due::Nothing => {}
            Due::Ask(nodes) => self.ask(nodes),
            Due::Over => {
                self.check.end();
                self.out.gates(true);
            }
        }
    }

    /// This life, or a later one, was declared over: come back above it.
    pub(super) fn renew_above(&mut self, fenced: Incarnation) {
        let incarnation = self.roster.incarnation();
        if fenced < incarnation || !can_be_mine(fenced, incarnation) {
            return;
        }
        tracing::debug!(node = %self.roster.id(), "this node was declared down and comes back");
        self.roster.change_me(|me| me.incarnation.started = fenced.started + 1);
        self.roster.moved(self.voice, self.out, self.pace);
        self.out.renewed();
        if fenced.nonce == incarnation.nonce {
            self.out.event(HubEvent::Rejoined);
        }
        if self.check.end() {
            self.out.gates(true);
        }
    }
}
