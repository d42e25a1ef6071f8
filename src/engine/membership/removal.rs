//! How a life goes: its node left, was declared down, or came in another run; and what becomes of this
//! node itself where it may declare nobody.
//!
//! Another run may have waited for that ([`Rivals`]): it is met as soon as it is so.

use std::time::Instant;

use super::{
    contact::Contact,
    dialling::Dialling,
    fences::Fences,
    founding::Founder,
    meeting::Meeting,
    outputs::Outputs,
    pace::Pace,
    rivals::Rivals,
    roster::{Forgotten, Roster},
    routes::Routes,
    sight::Sight,
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
    pub(super) founder: &'a mut Founder,
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

    /// Declares down whom this node suspects and all others vote against, one at a time: each verdict
    /// changes who is asked about the next suspect.
    pub(super) fn settle_suspects(&mut self, now: Instant) {
        let (me, contacts) = (self.roster.id(), self.roster.contacts());
        let verdicts = verdict::due(now, self.timing, me, self.roster.view(), contacts);
        let Some(verdict) = verdicts.into_iter().next() else { return };
        self.pace.news();
        if self.founder.is_proven() {
            verdict.tell(me, contacts, self.out);
            self.remove(now, verdict.life.node, Out::Down);
        } else {
            // Who has not settled yet declares nobody: cut off just after it was taken in, it would
            // put healthy members out, or act as a second cluster.
            self.reset(now);
        }
    }

    /// Back to waiting, with everything forgotten that was heard: what is still true is heard again.
    fn reset(&mut self, now: Instant) {
        let me = self.roster.id();
        tracing::warn!(node = %me, "this node was cut off before it had settled, and waits again");
        self.roster.withdraw();
        self.sight().lose_unlinked(now);
        self.roster.contacts_mut().for_each(|(_, contact)| contact.forget_words(now));
        self.founder.reset(now, self.timing.join_timeout);
        self.out.view_changed();
        self.roster.moved(self.voice, self.out, self.pace);
        self.roster.send_to_all(&MemberWord::Ask, self.out);
    }

    fn sight(&mut self) -> Sight<'_> {
        let Self { timing, dialling, routes, roster, out, .. } = self;
        Sight { timing, dialling, routes, roster, out }
    }

    fn meeting(&mut self) -> Meeting<'_> {
        Meeting {
            timing: self.timing,
            is_waiting: self.founder.is_waiting(),
            fences: self.fences,
            dialling: self.dialling,
            roster: self.roster,
            voice: self.voice,
            out: self.out,
            pace: self.pace,
        }
    }
}
