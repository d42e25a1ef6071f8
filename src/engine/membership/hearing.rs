//! What a contact says: its heartbeats and its view.

use std::{sync::Arc, time::Instant};

use super::{
    bounds::{described, sorted},
    contact::{Beat, Contact},
    outputs::Outputs,
    pace::{Pace, is_many},
    roster::Roster,
    timing::Timing,
    voice::Voice,
};
use crate::model::{
    id::{Incarnation, NodeId, NodeRun},
    member::{Member, ViewId},
    message::{MemberWord, Pulse, Status},
};

/// How the sender of a heartbeat of this life describes itself, and the rest of its status; neither
/// if it describes another.
pub(super) fn own_status(
    from: NodeRun,
    incarnation: Incarnation,
    status: Option<Box<Status>>,
) -> (Option<Member>, Option<Status>) {
    let is_its_own = |me: &Arc<Member>| me.id == from.node && me.incarnation == incarnation;
    let status = status.filter(|status| status.me.as_ref().is_none_or(is_its_own));
    let mut status = status.map(|status| sorted(*status));
    let me = status.as_mut().and_then(|status| status.me.take());
    (me.map(|me| described(Arc::unwrap_or_clone(me))), status)
}

/// What it takes to hear what a contact says.
pub(super) struct Hearing<'a> {
    pub(super) timing: &'a Timing,
    pub(super) roster: &'a mut Roster,
    pub(super) voice: &'a mut Voice,
    pub(super) out: &'a mut Outputs,
    pub(super) pace: &'a mut Pace,
}

impl Hearing<'_> {
    /// Something came over the link of this run.
    pub(super) fn heard_straight(&mut self, now: Instant, from: NodeRun) {
        if self.roster.contact_of(from).is_some()
            && let Some(contact) = self.roster.contact_mut(from.node)
        {
            self.pace.news_if(contact.heard_straight(now, self.timing));
            if contact.beats().is_pressing(now, self.timing) {
                self.voice.has_news();
            }
        }
    }

    /// A heartbeat, over the link if it `is_straight`. Asks for what it names and is not known here.
    pub(super) fn take_heartbeat(
        &mut self,
        now: Instant,
        from: NodeId,
        is_straight: bool,
        pulse: Pulse,
        beat: Beat,
    ) {
        let (mine, others) = (self.roster.incarnation(), self.roster.contacts().len());
        let voice = &*self.voice;
        let Some(contact) = self.roster.contact_mut(from) else { return };
        if is_straight && contact.is_linked() {
            contact.take_pulse(now, voice.clock(now), pulse);
        }
        let lives_of = |id: ViewId| voice.lives_of(id).cloned();
        let news = contact.take_heartbeat(now, self.timing, mine, is_straight, beat, lives_of);
        if news.is_late {
            return;
        }
        if contact.beats().is_pressing(now, self.timing) {
            self.voice.has_news();
        }
        self.pace.news_if(news.is_news);
        // In a large mesh what is not known is mostly on its way: asked with the next heartbeat. And of a view
        // that many have one of them says who is in it for all, mostly.
        let (timing, pace) = (self.timing, &mut *self.pace);
        let may_wait = is_many(others) && news.is_news;
        let is_asked = |contact: &mut Contact, pace: &mut Pace| {
            let has_turn = news.is_unknown || pace.may_ask_for_view(now, timing.heartbeat, others);
            has_turn && contact.may_ask(now, timing)
        };
        let is_unknown = news.is_unknown || news.is_view_unknown;
        if is_unknown && !may_wait && is_asked(contact, pace) {
            self.out.send(from, MemberWord::Ask);
        }
    }

    /// It says who is in its view, as a difference to `base`. Asks for the whole if that is not known.
    pub(super) fn take_view(
        &mut self,
        now: Instant,
        from: NodeId,
        view: ViewId,
        base: Option<ViewId>,
        members: &[Member],
        gone: &[NodeId],
    ) {
        let Some(contact) = self.roster.contact_mut(from) else { return };
        let before = match base {
            None => Some(Arc::default()),
            Some(base) => contact.lives_of(base).or_else(|| self.voice.lives_of(base)).cloned(),
        };
        match before {
            Some(before) => {
                let changed = members.iter().map(Member::life).collect();
                contact.take_view(view, Some(before), changed, gone);
                self.pace.news();
            }
            None if contact.may_ask(now, self.timing) => self.out.send(from, MemberWord::Ask),
            None => {}
        }
    }

    /// It asks for everything.
    pub(super) fn take_question(&mut self, from: NodeId) {
        if let Some(contact) = self.roster.contact_mut(from) {
            contact.tell_anew();
            self.voice.has_news();
        }
    }
}
