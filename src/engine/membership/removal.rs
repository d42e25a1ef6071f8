//! How a life goes: its node left, was declared down, or came in another run.
//!
//! Another run may have waited for that ([`Rivals`]): it is met as soon as it is so.

use std::time::Instant;

use super::{
    contact::Contact,
    dialling::Dialling,
    fences::Fences,
    meeting::Meeting,
    outputs::Outputs,
    pace::Pace,
    rivals::Rivals,
    roster::{Forgotten, Roster},
    routes::Routes,
    timing::Timing,
    verdict::{self, Meaning},
    voice::Voice,
    votes::Votes,
};
use crate::model::{
    event::HubEvent,
    id::{Life, NodeId},
    member::Hello,
    message::MemberWord,
};

/// How a member goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Out {
    /// It said `Bye`.
    Left,
    /// It was declared down, and is dialled in case it lives.
    Down,
    /// Another run of its node takes its place.
    Replaced,
}

/// What the end of a life touches.
pub(super) struct Removal<'a> {
    pub(super) timing: &'a Timing,
    /// Whether this node is in no cluster.
    pub(super) is_waiting: bool,
    pub(super) fences: &'a mut Fences,
    pub(super) rivals: &'a mut Rivals,
    pub(super) votes: &'a mut Votes,
    pub(super) dialling: &'a mut Dialling,
    pub(super) routes: &'a mut Routes,
    pub(super) roster: &'a mut Roster,
    pub(super) voice: &'a mut Voice,
    pub(super) out: &'a mut Outputs,
    pub(super) pace: &'a mut Pace,
}

impl Removal<'_> {
    /// Takes a node out and ends its life.
    pub(super) fn remove(&mut self, now: Instant, node: NodeId, how: Out) {
        let Some(Forgotten { member, was_in }) = self.roster.forget(node) else { return };
        self.pace.news();
        self.routes.changed();
        self.votes.forget(node);
        if was_in || how != Out::Replaced {
            self.fences.raise(node, member.incarnation);
        }
        let left = how == Out::Left;
        if was_in {
            self.roster.moved(self.voice, self.out, self.pace);
            self.out.event(if left {
                HubEvent::NodeLeft { node }
            } else {
                HubEvent::NodeDown { node }
            });
            self.out.gone(member.run(), left);
            tracing::debug!(node = %self.roster.id(), peer = %node, left, "a node is out");
        }
        if was_in && !left {
            self.dialling.note_crash(now, node);
        }
        if how == Out::Replaced {
            return;
        }
        if let Some(rival) = self.rivals.take(node) {
            self.meeting().welcome(now, rival);
            return;
        }
        self.out.disconnect(node, if left { "it left" } else { "it was declared down" });
        if how == Out::Down {
            self.dialling.dial_lost(now, &member, self.out);
        }
    }

    /// The run that is known of this node is dead, this one takes its place.
    pub(super) fn replace(&mut self, now: Instant, hello: Hello) {
        self.remove(now, hello.me.id, Out::Replaced);
        self.meeting().welcome(now, hello);
    }

    /// Of two runs of one node the one that is known goes, unless it has shown in time that it lives.
    pub(super) fn settle_rivals(&mut self, now: Instant) {
        for due in self.rivals.due(now) {
            let node = due.hello.me.id;
            let heard = self.roster.contact(node).and_then(Contact::heard_at);
            if heard.is_none_or(|at| at <= due.since) {
                self.replace(now, due.hello);
                continue;
            }
            self.rivals.refuse(due.hello.me.run());
            self.out.refuse(node, "another process with the same key is alive");
            self.out.connect(node, self.roster.addresses_of(node));
        }
    }

    /// Somebody says that the life of another node is over.
    pub(super) fn take_verdict(&mut self, now: Instant, life: Life, voters: &[NodeId]) {
        let Life { node, incarnation } = life;
        let is_over = self.fences.covers(node, incarnation);
        let binds = voters.contains(&self.roster.id()) && self.votes.binds(life);
        let known = self.roster.contact(node);
        match verdict::meaning(now, self.timing, incarnation, is_over, binds, known) {
            Meaning::Nothing => {}
            Meaning::Over { is_known } => {
                self.votes.forget(node);
                if is_known {
                    self.remove(now, node, Out::Down);
                }
                if self.fences.raise(node, incarnation) {
                    self.out.announce();
                }
                self.pace.news();
            }
            Meaning::Wrong => self.out.send(node, MemberWord::Fenced { incarnation }),
        }
    }

    fn meeting(&mut self) -> Meeting<'_> {
        Meeting {
            timing: self.timing,
            is_waiting: self.is_waiting,
            fences: self.fences,
            dialling: self.dialling,
            roster: self.roster,
            voice: self.voice,
            out: self.out,
            pace: self.pace,
        }
    }
}
