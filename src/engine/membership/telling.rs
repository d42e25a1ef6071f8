//! What this node says of itself and of others, and to whom it is said.

use std::{sync::Arc, time::Instant};

use super::{
    contact::{Contact, Timing},
    dialling::Dialling,
    fences::Fences,
    joining::Known,
    outputs::Outputs,
    pace::crowd,
    roster::Roster,
    routes::Routes,
    verdict,
    voice::Voice,
    votes::Votes,
};
use crate::model::{member::Member, message::Status, tags::LifeSet};

/// What `me` says of itself and of others by what it knows. `waiting`: see [`Status::waiting`].
///
/// All whom it does not hear are in `silent`, with votes that it has not given yet.
pub(super) fn status(now: Instant, known: &Known<'_>, me: Member, waiting: Option<bool>) -> Status {
    let joining = known.listed().map(Contact::life).collect();
    let unlinked = known.contacts.iter().filter(|(_, it)| !it.link_works(now, known.timing));
    let unlinked = unlinked.map(|(node, _)| *node).collect();
    let silent = verdict::unheard(now, known.timing, known);
    Status { me: Some(Arc::new(me)), waiting, silent, joining, unlinked }
}

/// Of the lives outside the view that `known` lists, those that do not wait.
pub(super) fn active(known: &Known<'_>) -> LifeSet {
    known.listed().filter(|contact| !contact.waits()).map(Contact::life).collect()
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
    /// This is the status from now on, as far as the votes in it can be given; `active` are those of
    /// its `joining` that do not wait.
    pub(super) fn set_status(&mut self, mut status: Status, active: LifeSet) {
        let roster = &*self.roster;
        self.votes.vote(&mut status.silent, |node| roster.is_member(node));
        let is_waiting = status.waiting.is_some();
        if self.voice.set_status(status, active) {
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
            // In a large mesh that forms links take longer, and need no help.
            let patience = self.timing.heartbeat * crowd(others);
            for to in self.dialling.unmet(now, patience) {
                self.out.greet(to, self.voice.greeting(now, to.node, self.fences));
            }
        }
    }
}
