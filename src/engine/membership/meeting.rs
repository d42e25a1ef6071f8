//! How this node gets to know others: they are met, describe themselves, and are named by others.

use std::time::Instant;

use super::{
    bounds::{can_have_been, described, is_plausible},
    contact::Contact,
    dialling::{self, Dialling},
    fences::Fences,
    outputs::Outputs,
    pace::{Pace, first_word},
    roster::Roster,
    timing::Timing,
    voice::Voice,
};
use crate::model::{
    id::{Incarnation, Life, NodeId, NodeRun},
    member::{Hello, Member},
    message::LostNode,
    tags::LISTED,
};

/// What it takes to get to know a node.
pub(super) struct Meeting<'a> {
    pub(super) timing: &'a Timing,
    /// Whether this node is in no cluster.
    pub(super) is_waiting: bool,
    pub(super) fences: &'a mut Fences,
    pub(super) dialling: &'a mut Dialling,
    pub(super) roster: &'a mut Roster,
    pub(super) voice: &'a mut Voice,
    pub(super) out: &'a mut Outputs,
    pub(super) pace: &'a mut Pace,
}

impl Meeting<'_> {
    /// The Hello of a node that is no contact: it is met, unless its life is over.
    pub(super) fn welcome(&mut self, now: Instant, hello: Hello) {
        if self.fences.covers(hello.me.id, hello.me.incarnation) {
            self.turn_away(now, &hello.me);
        } else {
            self.meet(now, hello.me, true);
            self.take_hints(now, hello.known);
        }
    }

    /// Refuses a life that is over and says so; it comes back with a higher one.
    pub(super) fn turn_away(&mut self, now: Instant, member: &Member) {
        self.fences.tell(member.id, member.incarnation, self.out);
        self.out.disconnect(member.id, "this life of it is over");
        self.dialling.dial_lost(now, member, self.out);
    }

    /// Meets a node: from now on it is a contact, heard or not.
    fn meet(&mut self, now: Instant, member: Member, is_linked: bool) {
        let node = member.id;
        let contacts = self.roster.contacts().len();
        if contacts >= dialling::LIMIT + self.roster.view().members.len() {
            self.out.refuse(node, "there is no room for so many nodes");
            return;
        }
        if contacts == 0 {
            self.voice.begin(now, self.timing.heartbeat);
        }
        let dialled = self.dialling.met(node);
        if dialled.is_none_or(|addresses| addresses != member.addresses) {
            self.out.connect(node, member.addresses.clone());
        }
        self.roster.meet(now, member, is_linked);
        self.wait_for_link(now, node);
        // Whoever is met next learns of it.
        if !self.is_waiting {
            self.out.announce();
        }
        self.voice.has_news();
        self.pace.news();
    }

    /// The Hello of a run that is known: it is linked anew.
    pub(super) fn meet_again(&mut self, now: Instant, told: &Member) {
        self.learn(told);
        if let Some(contact) = self.roster.contact_mut(told.id) {
            contact.linked(now);
        }
        self.wait_for_link(now, told.id);
        self.pace.news();
        self.voice.has_news();
    }

    /// Of a member nothing may be waited for longer than for others: it would be suspected before words go by
    /// way of others.
    fn wait_for_link(&mut self, now: Instant, node: NodeId) {
        if self.roster.is_member(node) {
            return;
        }
        let patience = first_word(self.timing, self.roster.contacts().len());
        if let Some(contact) = self.roster.contact_mut(node) {
            contact.beats_mut().wait_for_link(now + patience);
        }
    }

    /// Who sends a heartbeat may be met by it; one that came by way of others has to say who it is.
    /// `false`: it is not of the life that is known, or of none, and counts for nothing.
    pub(super) fn introduce(
        &mut self,
        now: Instant,
        from: NodeRun,
        incarnation: Incarnation,
        me: Option<Member>,
    ) -> bool {
        match (self.roster.contact(from.node), &me) {
            (None, None) => return false,
            (None, Some(me)) => self.meet(now, me.clone(), false),
            (Some(contact), _) if contact.run() != from => return false,
            // A word of the life before.
            (Some(contact), _) if incarnation < contact.incarnation() => return false,
            (Some(contact), None) if incarnation > contact.incarnation() => {
                let renewed = Member { incarnation, ..contact.member().clone() };
                self.learn(&renewed);
            }
            (Some(_), _) => {}
        }
        if let Some(me) = me {
            self.learn(&me);
        }
        true
    }

    /// A node describes itself, or somebody tells how it did.
    fn learn(&mut self, told: &Member) {
        let node = told.id;
        let Some(learned) = self.roster.learn(told) else { return };
        self.pace.news();
        if let Some(addresses) = learned.moved_to {
            self.out.connect(node, addresses);
        }
        if learned.is_back {
            tracing::info!(node = %self.roster.id(), peer = %node, "a node came back in a later life");
        }
        if let Some(turn) = learned.turn {
            self.out.event(turn.event(node));
        }
        if learned.is_member {
            self.roster.moved(self.voice, self.out, self.pace);
        }
    }

    /// Somebody names nodes that went down: their lives are over here, too, and they come back in later
    /// ones, as those that know of nothing would not tell them.
    pub(super) fn take_lost(&mut self, now: Instant, nodes: Vec<LostNode>) {
        for mut told in nodes.into_iter().take(LISTED) {
            told.member = described(told.member);
            let Life { node, incarnation } = told.member.life();
            let addresses = told.member.addresses.clone();
            let is_known = node == self.roster.id() || self.roster.contact(node).is_some();
            if is_known || !can_have_been(incarnation, self.roster.incarnation()) {
                continue;
            }
            if self.dialling.hear_of_lost(now, told) {
                if self.fences.hear_of(node, incarnation) {
                    self.out.announce();
                }
                self.out.connect(node, addresses);
            }
        }
    }

    /// Others name nodes: hints to dial, no admission.
    pub(super) fn take_hints(&mut self, now: Instant, members: Vec<Member>) {
        for told in members.into_iter().take(LISTED).map(described) {
            let is_over = self.fences.covers(told.id, told.incarnation);
            if told.id == self.roster.id() || is_over || !is_plausible(told.incarnation) {
                continue;
            }
            match self.roster.contact(told.id).map(Contact::life) {
                // While it has a link of its own it says such things itself; a later life is taken
                // from nobody else.
                Some(life) if life == told.life() => self.learn(&told),
                Some(_) => {}
                None => {
                    if self.dialling.name(now, &told) {
                        self.out.connect(told.id, told.addresses);
                    }
                }
            }
        }
    }
}
