//! What this node says of itself and of others, and to whom it is said.

use std::time::Instant;

use super::{
    contact::{Contact, Timing},
    dialling::Dialling,
    fences::Fences,
    joining::Known,
    outputs::Outputs,
    roster::Roster,
    routes::Routes,
    verdict,
    voice::{LISTED, Voice},
    votes::Votes,
};
use crate::model::{
    id::{Life, NodeId},
    member::Member,
    message::Status,
};

/// What `me` says of itself and of others by what it knows. `waiting`: see [`Status::waiting`].
///
/// All whom it does not hear are in `silent`, with votes that it has not given yet.
pub(super) fn status(now: Instant, known: &Known<'_>, me: Member, waiting: Option<bool>) -> Status {
    let mut joining: Vec<Life> = known.listed().map(Contact::life).collect();
    joining.sort_unstable();
    let unlinked: Vec<NodeId> = known
        .contacts
        .iter()
        .filter(|(_, contact)| !contact.link_works(now, known.timing))
        .map(|(node, _)| *node)
        .take(LISTED)
        .collect();
    let silent = verdict::unheard(now, known.timing, known);
    Status { me, waiting, silent, joining, unlinked }
}

/// What it takes to tell others.
pub(super) struct Telling<'a> {
    pub(super) timing: &'a Timing,
    pub(super) fences: &'a Fences,
    pub(super) dialling: &'a Dialling,
    pub(super) roster: &'a mut Roster,
    pub(super) votes: &'a mut Votes,
    pub(super) voice: &'a mut Voice,
    pub(super) routes: &'a mut Routes,
    pub(super) out: &'a mut Outputs,
}

impl Telling<'_> {
    /// This is the status from now on, as far as the votes in it can be given.
    pub(super) fn set_status(&mut self, mut status: Status) {
        let roster = &*self.roster;
        self.votes.vote(&mut status.silent, |node| roster.is_member(node));
        let is_waiting = status.waiting.is_some();
        let waits = |life: &Life| {
            let contact = roster.contact(life.node);
            contact.is_some_and(|c| c.status().is_none_or(|status| status.waiting.is_some()))
        };
        if self.voice.set_status(status, waits) {
            self.out.reached();
        }
        if is_waiting {
            // Some contact may wait no longer, and is to be told the whole.
            self.voice.has_news();
        }
        self.routes.changed();
    }

    /// Tells what is due.
    pub(super) fn speak(&mut self, now: Instant) {
        let others = self.roster.contacts().len();
        if others == 0 || self.voice.due(self.timing, others) > now {
            return;
        }
        let is_beat = self.voice.is_beat(now);
        let (members, contacts) = self.roster.telling();
        for said in self.voice.speak(now, self.timing, members, contacts, self.fences) {
            if said.is_probe {
                self.out.probe(said.to, said.word);
            } else {
                self.out.send(said.to, said.word);
            }
        }
        if is_beat {
            for to in self.dialling.unmet(now, self.timing.heartbeat) {
                self.out.greet(to, self.voice.greeting(now, to.node, self.fences));
            }
        }
    }
}
