//! What this node says of itself and of others, and to whom it is said.

use std::{sync::Arc, time::Instant};

use super::{
    contact::Contact,
    dialling::Dialling,
    fences::Fences,
    joining::{Known, seniority},
    lists::Lists,
    outputs::Outputs,
    pace::{crowd, is_many},
    roster::Roster,
    routes::Routes,
    timing::Timing,
    verdict,
    voice::{Audience, Voice},
    votes::Votes,
};
use crate::model::{
    id::{Life, NodeId, NodeRun},
    member::Member,
    message::{LostNode, MemberWord, Status},
    tags::LISTED,
};

/// So many are told everything at once in a large mesh.
const FIRST: usize = 3;

/// What `me` says of itself and of others by what it knows. `waiting`: see [`Status::waiting`].
///
/// All whom it does not hear are in `silent`, with votes that it has not given yet.
pub(super) fn status(now: Instant, known: &Known<'_>, me: Member, waiting: Option<bool>) -> Status {
    let silent = verdict::unheard(now, known.timing, known);
    Lists::full(now, known).status(Some(Arc::new(me)), waiting, silent)
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
    pub(super) fn set_status(&mut self, mut status: Status, brief: Lists) {
        let roster = &*self.roster;
        self.votes.vote(&mut status.silent, |node| roster.is_member(node));
        let is_waiting = status.waiting.is_some();
        // Nobody who waits decides whose life is over.
        let brief = brief.status(status.me.clone(), status.waiting, Vec::new());
        self.voice.set_status(status, brief);
        if is_waiting {
            // Some contact may wait no longer, and is to be told the whole.
            self.voice.has_news();
        }
        self.routes.changed();
    }

    /// Who is told at once, with many others, what all are told with the next heartbeat: the first few
    /// members, who conclude for all who comes in and who is out.
    fn first_to_know(&self, now: Instant) -> Vec<NodeId> {
        let members = &self.roster.view().members;
        let is_in = |contact: &&Contact| {
            let is_member = members.contains_key(&contact.life().node) || !contact.waits();
            is_member && contact.is_heard(now, self.timing)
        };
        let members = self.roster.contacts().values().filter(is_in).map(Contact::life);
        let mut members: Vec<Life> = members.collect();
        members.sort_unstable_by_key(seniority);
        members.into_iter().take(FIRST).map(|life| life.node).collect()
    }

    /// Newcomers that come at once do not find each other in Hellos, which were written before: the
    /// first of the members tells each who was met before it.
    fn introduce(&mut self, now: Instant) {
        let works = |(_, it): &(NodeId, &Contact)| it.link_works(now, self.timing);
        let newcomers = self.roster.outsiders().filter(works);
        let newcomers: Vec<_> = newcomers.map(|(node, it)| (node, it.since())).collect();
        for (to, since) in newcomers {
            if !self.roster.contact_mut(to).is_some_and(Contact::introduce) {
                continue;
            }
            let before = |(node, it): &(NodeId, &Contact)| *node != to && it.since() <= since;
            let others = self.roster.outsiders().filter(before).take(LISTED);
            let members: Vec<Member> = others.map(|(_, it)| it.member().clone()).collect();
            if !members.is_empty() {
                self.out.send(to, MemberWord::Introduce { members });
            }
        }
    }

    /// Members that went down are known to those who were in with them, and they to it. When these are
    /// gone, too, nobody would dial it whom it does not know: the first of the members tells all others.
    fn tell_lost(&mut self, now: Instant) {
        let latest = self.dialling.lost_last();
        for (to, contact) in self.roster.contacts_mut() {
            if !contact.is_heard(now, self.timing) {
                continue;
            }
            let before = contact.tell_lost(latest);
            if before < latest {
                let nodes = self.dialling.lost_after(now, before);
                let others = nodes.into_iter().filter(|lost| lost.member.id != to);
                let nodes: Vec<LostNode> = others.collect();
                if !nodes.is_empty() {
                    self.out.send(to, MemberWord::Lost { nodes });
                }
            }
        }
    }

    /// Whether no member that is heard has been there for longer.
    fn is_first(&self, now: Instant) -> bool {
        let mine = seniority(&self.roster.me().life());
        !self.voice.lives().iter().any(|(node, incarnation)| {
            let life = Life { node: *node, incarnation: *incarnation };
            let contact = self.roster.contact(*node);
            seniority(&life) < mine && contact.is_some_and(|it| it.is_heard(now, self.timing))
        })
    }

    /// Tells what is due.
    pub(super) fn speak(&mut self, now: Instant) {
        let others = self.roster.contacts().len();
        let is_waiting = self.voice.is_waiting();
        if others == 0 || self.voice.due(self.timing, others) > now {
            return;
        }
        let is_beat = self.voice.is_beat(now);
        let first = is_many(others).then(|| self.first_to_know(now));
        let rhythm = self.voice.rhythm(now, self.roster.contacts().keys());
        let (members, contacts) = self.roster.telling();
        let audience = Audience { rhythm, first: first.as_deref() };
        let said = self.voice.speak(now, self.timing, members, contacts, audience, self.fences);
        if !is_waiting && self.is_first(now) {
            self.introduce(now);
            self.tell_lost(now);
        }
        for said in said {
            if said.is_probe {
                self.out.probe(said.to, said.word);
            } else {
                self.out.send(said.to, said.word);
            }
        }
        if is_beat {
            // In a large mesh that forms links take longer, and need no help.
            let patience = self.timing.heartbeat * crowd(others);
            let unmet: Vec<NodeRun> = self.dialling.unmet(now, patience).collect();
            for to in self.voice.in_turns(unmet) {
                let word = self.voice.greeting(now, self.timing, to.node, self.fences);
                self.out.greet(to, word);
            }
        }
    }
}
