//! What this node tells others: heartbeats, its status, its view.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    beats::Cadence,
    contact::{Contact, Lives},
    fences::Fences,
    pace::{Lag, is_many},
    rhythm::{BY_OTHERS, GREETED, Rhythm, Turns},
    timing::Timing,
};
use crate::model::{
    id::{Incarnation, Life, NodeId},
    member::{Member, View, ViewId},
    message::{MemberWord, Status},
    tags::{LISTED, LifeSet, NodeSet},
};

/// So many views are remembered as a base to tell differences to.
const HISTORY: usize = 32;

/// A word, and how it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) to: NodeId,
    pub(super) word: MemberWord,
    /// Over the link alone, to find out whether it works.
    pub(super) is_probe: bool,
}

/// Who is told when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audience<'a> {
    /// With the heartbeat.
    pub(super) rhythm: Rhythm,
    /// The only ones, with many others, that are told at once that something changed; `None`: all are.
    pub(super) first: Option<&'a [NodeId]>,
}

/// What this node tells, and when.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    began: Instant,
    me: NodeId,
    number: u64,
    /// How many heartbeats there were.
    beats: u64,
    heartbeat_at: Instant,
    /// When all were last told that this node lives.
    heartbeat_sent: Instant,
    lag: Lag,
    /// When the status was last told because it had changed.
    told_at: Option<Instant>,
    /// Counts the changes of the status and of the brief one.
    versions: u64,
    status: Status,
    /// At which change it came to be.
    version: u64,
    /// At which this node's description of itself did.
    me_version: u64,
    /// At which something did that all are to know with the next heartbeat.
    pressing_version: u64,
    /// The status as nodes that wait tell it each other.
    brief: Status,
    brief_version: u64,
    is_news: bool,
    view: (ViewId, Arc<Lives>),
    /// It was taken over from another node, which tells it to all who are in it.
    is_followed: bool,
    /// How many others had no link that works when they were told last.
    unlinked: usize,
    history: VecDeque<(ViewId, Arc<Lives>)>,
}

impl Voice {
    pub(super) fn new(now: Instant, heartbeat: Duration, me: &Member, view: &View) -> Self {
        let status = Status {
            me: Some(Arc::new(me.clone())),
            waiting: None,
            silent: Vec::new(),
            joining: LifeSet::default(),
            unlinked: NodeSet::default(),
        };
        Self {
            began: now,
            me: me.id,
            number: 0,
            beats: 0,
            heartbeat_at: now + heartbeat,
            heartbeat_sent: now,
            lag: Lag::default(),
            told_at: None,
            brief: status.clone(),
            versions: 2,
            brief_version: 1,
            status,
            version: 2,
            me_version: 1,
            pressing_version: 1,
            is_news: true,
            view: (view.id(), Arc::new(lives(view))),
            is_followed: false,
            unlinked: 0,
            history: VecDeque::new(),
        }
    }

    /// This node's current life.
    fn incarnation(&self) -> Incarnation {
        let life = self.view.1.get(&self.me);
        *life.expect("a view holds its own node from the start")
    }

    pub(super) fn view_id(&self) -> ViewId {
        self.view.0
    }

    pub(super) fn lives(&self) -> &Arc<Lives> {
        &self.view.1
    }

    /// Who was in this view of this node, if that is remembered.
    pub(super) fn lives_of(&self, id: ViewId) -> Option<&Arc<Lives>> {
        if self.view.0 == id {
            return Some(&self.view.1);
        }
        self.history.iter().rev().find(|(known, _)| *known == id).map(|(_, lives)| lives)
    }

    /// The view may have changed.
    pub(super) fn set_view(&mut self, view: &View) -> bool {
        let id = view.id();
        if id == self.view.0 {
            return false;
        }
        let before = std::mem::replace(&mut self.view, (id, Arc::new(lives(view))));
        self.history.push_back(before);
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
        (self.is_news, self.is_followed) = (true, false);
        true
    }

    /// The view of now was taken over from another node.
    pub(super) fn follows(&mut self) {
        self.is_followed = true;
    }

    /// The status may have changed. `brief`: as those who wait tell it each other.
    pub(super) fn set_status(&mut self, mut status: Status, brief: Status) -> bool {
        status.silent.truncate(LISTED);
        let changed = status != self.status;
        if !changed && brief == self.brief {
            return false;
        }
        let is_described_anew = status.me != self.status.me;
        // Votes, and who has come in; in a large view that is seen by the view. Of links and of who wants to
        // come in those hear at once who decide.
        let has_come_in = status.waiting != self.status.waiting && !is_many(self.view.1.len());
        let is_pressing = is_described_anew || has_come_in || status.silent != self.status.silent;
        let before = self.versions;
        // Each gets a number of its own: who has been told the one has not been told the other.
        if brief != self.brief {
            self.versions += 1;
            self.brief = brief;
            self.brief_version = self.versions;
        }
        if changed {
            self.versions += 1;
            self.status = status;
            self.version = self.versions;
            self.is_news = true;
        }
        if is_described_anew {
            self.me_version = before + 1;
        }
        if is_pressing {
            self.pressing_version = before + 1;
        }
        changed
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// Whether this node waits to be taken in, as it tells.
    pub(super) fn is_waiting(&self) -> bool {
        self.status.waiting.is_some()
    }

    /// How long ago all were told that this node lives.
    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heartbeat_sent)
    }

    /// How far this node is behind its own time.
    pub(super) fn lag(&self) -> Lag {
        self.lag
    }

    /// Somebody has something to be told, now or later.
    pub(super) fn has_news(&mut self) {
        self.is_news = true;
    }

    /// The first of others is met: heartbeats begin.
    pub(super) fn begin(&mut self, now: Instant, heartbeat: Duration) {
        (self.heartbeat_sent, self.heartbeat_at) = (now, now + heartbeat);
    }

    /// All are told at once that this node lives.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.lag.note(now.saturating_duration_since(self.heartbeat_at));
        self.heartbeat_at = now;
    }

    /// When there is something to be told. A change is told at once, the next ones so much later
    /// as it takes to tell `others`: a mesh that forms must not drown in its own news.
    pub(super) fn due(&self, timing: &Timing, others: usize) -> Instant {
        let pace = Duration::from_millis(2) * u32::try_from(others).unwrap_or(u32::MAX);
        let pace = pace.min(timing.heartbeat / 2) + self.lag.patience(others);
        let pace = pace.min(timing.heartbeat);
        match self.told_at {
            _ if !self.is_news => self.heartbeat_at,
            Some(at) => self.heartbeat_at.min(at + pace),
            None => self.began,
        }
    }

    /// Whether all are to be told that this node lives.
    pub(super) fn is_beat(&self, now: Instant) -> bool {
        now >= self.heartbeat_at
    }

    /// Who is told with the heartbeat that is due, or with the latest one.
    pub(super) fn rhythm<'a>(
        &self,
        now: Instant,
        others: impl ExactSizeIterator<Item = &'a NodeId>,
    ) -> Rhythm {
        Rhythm::of(self.me, others, self.beats + u64::from(self.is_beat(now)))
    }

    /// Tells what is due, to these in the order of the `audience`.
    pub(super) fn speak<'a>(
        &mut self,
        now: Instant,
        timing: &Timing,
        members: &BTreeMap<NodeId, Member>,
        contacts: impl IntoIterator<Item = (&'a NodeId, &'a mut Contact)>,
        audience: Audience<'_>,
        fences: &Fences,
    ) -> Vec<Said> {
        let mut out = Vec::new();
        let Audience { rhythm, first } = audience;
        let all = self.is_beat(now);
        if all {
            self.beats += 1;
            self.lag.note(now.saturating_duration_since(self.heartbeat_at));
            (self.heartbeat_sent, self.heartbeat_at) = (now, now + timing.heartbeat);
        }
        if self.is_news {
            self.told_at = Some(now);
        }
        self.is_news = false;
        self.number += 1;
        let view_id = self.view.0;
        let is_alone = self.view.1.len() == 1;
        let turns = Turns::of(self.unlinked, BY_OTHERS, self.beats);
        self.unlinked = 0;
        let mut differences: BTreeMap<Option<ViewId>, MemberWord> = BTreeMap::new();
        for (place, (to, contact)) in contacts.into_iter().enumerate() {
            let (to, works) = (*to, contact.link_works(now, timing));
            // Over a link that works a word costs little; others pass it on where there is none.
            let (is_turn, is_turn_for_news, pause) = if works {
                (rhythm.is_turn(place), rhythm.is_turn_for_news(place), rhythm.pause(place))
            } else {
                let at = self.unlinked;
                self.unlinked += 1;
                (turns.is_turn(at), turns.is_turn(at), turns.pause(at))
            };
            let is_pressing = contact.beats().is_pressing(now, timing);
            let lacks_pressing = contact.told_status() < self.pressing_version;
            let is_soon = is_pressing
                || all && (lacks_pressing || is_turn_for_news)
                || first.is_none_or(|first| first.contains(&to))
                || (works && contact.told_status() == 0);
            // Of a view without others its name says all.
            let is_known = is_alone || contact.view_id() == Some(view_id);
            let base = contact.told_view().filter(|_| works);
            let base = base.filter(|base| self.lives_of(*base).is_some());
            // A large view is not told whole by all to all: who does not have it yet asks.
            let is_left = self.is_followed
                && is_many(self.view.1.len())
                && base.is_none()
                && !contact.has_asked();
            if is_known {
                contact.knows_view();
            }
            // A view is told at once to all with a link: what they wait for.
            let is_told = all || is_soon || works;
            if is_told && !is_known && !is_left && !contact.was_told_view(view_id) {
                contact.tell_view(view_id);
                let word = differences
                    .entry(base)
                    .or_insert_with(|| self.difference(base, members))
                    .clone();
                out.push(Said { to, word, is_probe: false });
            }
            let (status, version) = self.status_for(&to, contact, first);
            let is_due = all && contact.beats().is_due(now, timing, is_turn);
            if is_due || is_pressing || is_soon && contact.told_status() != version {
                let cadence = contact.beats_mut().say(now, timing, pause);
                let told = contact.tell_status(version, works);
                // Who has been told who this node is need not be told it each time.
                let me = |told| status.me.clone().filter(|_| told < self.me_version);
                let status = told.map(|told| Box::new(Status { me: me(told), ..status.clone() }));
                let word = self.heartbeat(now, timing, contact, cadence, fences, (version, status));
                if contact.is_linked() && !works {
                    out.push(Said { to, word: word.clone(), is_probe: true });
                }
                out.push(Said { to, word, is_probe: false });
            }
        }
        out
    }

    /// The status as this contact is told it, and a number for it. Who waits need tell the whole to those
    /// alone who may conclude, and with many others to the `first` of them alone; its votes to all who may
    /// count them.
    fn status_for(
        &self,
        to: &NodeId,
        contact: &Contact,
        first: Option<&[NodeId]>,
    ) -> (&Status, u64) {
        let is_first = first.is_none_or(|first| first.contains(to));
        let is_brief = contact.waits() || !is_first && self.status.silent.is_empty();
        if self.status.waiting.is_some() && is_brief {
            (&self.brief, self.brief_version)
        } else {
            (&self.status, self.version)
        }
    }

    /// A first word to a node that was not met, by way of others.
    pub(super) fn greeting(
        &mut self,
        now: Instant,
        timing: &Timing,
        to: NodeId,
        fences: &Fences,
    ) -> MemberWord {
        self.number += 1;
        let cadence = Cadence::each(timing);
        MemberWord::Heartbeat {
            incarnation: self.incarnation(),
            number: self.number,
            next: cadence.millis(),
            wants_all: cadence.wants_all,
            view: self.view.0,
            pulse: crate::model::message::Pulse {
                sent: u64::try_from(self.clock(now).as_micros()).unwrap_or(u64::MAX),
                ..Default::default()
            },
            hears: None,
            fence: fences.of(to),
            version: self.version,
            revision: self.revision(),
            status: Some(Box::new(self.status.clone())),
        }
    }

    /// Of nodes that are greeted by way of others those whose turn it is with the heartbeat of now.
    pub(super) fn in_turns<T>(&self, all: Vec<T>) -> Vec<T> {
        let turns = Turns::of(all.len(), GREETED, self.beats);
        let all = all.into_iter().enumerate();
        all.filter(|(at, _)| turns.is_turn(*at)).map(|(_, one)| one).collect()
    }

    /// The time on this node's own clock.
    pub(super) fn clock(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// Of this node's description of itself.
    fn revision(&self) -> u64 {
        self.status.me.as_ref().map_or(0, |me| me.revision)
    }

    fn heartbeat(
        &self,
        now: Instant,
        timing: &Timing,
        contact: &Contact,
        cadence: Cadence,
        fences: &Fences,
        (version, status): (u64, Option<Box<Status>>),
    ) -> MemberWord {
        MemberWord::Heartbeat {
            incarnation: self.incarnation(),
            number: self.number,
            next: cadence.millis(),
            wants_all: cadence.wants_all,
            view: self.view.0,
            pulse: contact.pulse(now, self.clock(now)),
            hears: contact.hearing(now, timing),
            fence: fences.of(contact.life().node),
            version,
            revision: self.revision(),
            status,
        }
    }

    /// The view as a difference to an earlier one.
    fn difference(&self, base: Option<ViewId>, members: &BTreeMap<NodeId, Member>) -> MemberWord {
        let (view, lives) = &self.view;
        let before = base.and_then(|base| self.lives_of(base));
        let is_new = |life: Life| {
            before.is_none_or(|before| before.get(&life.node) != Some(&life.incarnation))
        };
        let members =
            members.values().filter(|member| is_new(member.life())).take(LISTED).cloned().collect();
        let gone = before.into_iter().flat_map(|before| before.keys());
        let gone = gone.filter(|node| !lives.contains_key(*node)).copied().collect();
        MemberWord::View { view: *view, base, members, gone }
    }
}

fn lives(view: &View) -> Lives {
    view.members.values().map(|member| (member.id, member.incarnation)).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::bench::{SECOND, TIMING, Told, beat, contacts, id, member, status, view},
        *,
    };

    fn voice(now: Instant) -> Voice {
        Voice::new(now, TIMING.heartbeat, &member(1), &view(&[1]))
    }

    /// A status as those who wait tell it each other.
    fn brief(status: &Status) -> Status {
        let (joining, unlinked) = Default::default();
        Status { silent: Vec::new(), joining, unlinked, ..status.clone() }
    }

    fn speak(
        voice: &mut Voice,
        now: Instant,
        members: &View,
        contacts: &mut BTreeMap<NodeId, Contact>,
    ) -> Vec<Said> {
        let rhythm = voice.rhythm(now, contacts.keys());
        let audience = Audience { rhythm, first: None };
        voice.speak(now, &TIMING, &members.members, contacts, audience, &Fences::default())
    }

    fn views(said: &[Said]) -> Vec<(NodeId, Option<ViewId>, usize, usize)> {
        let view = |said: &Said| match &said.word {
            MemberWord::View { base, members, gone, .. } => {
                Some((said.to, *base, members.len(), gone.len()))
            }
            _ => None,
        };
        said.iter().filter_map(view).collect()
    }

    #[test]
    fn a_view_is_told_whole_first_and_then_as_what_changed() {
        let now = Instant::now();
        let mut voice = voice(now);
        let mut contacts = contacts(now, &[Told::of(2, &[2])]);
        let (first, second) = (view(&[1, 2, 3]), view(&[1, 2, 4]));
        assert!(voice.set_view(&first) && !voice.set_view(&first));
        let said = speak(&mut voice, now, &first, &mut contacts);
        assert_eq!(views(&said), [(id(2), None, 3, 0)]);
        assert_eq!(views(&speak(&mut voice, now, &first, &mut contacts)), [], "it was told");
        assert!(voice.set_view(&second));
        let said = speak(&mut voice, now, &second, &mut contacts);
        assert_eq!(views(&said), [(id(2), Some(first.id()), 1, 1)]);
        // It asks: the base may be lost.
        contacts.get_mut(&id(2)).expect("it is there").tell_anew();
        let said = speak(&mut voice, now, &second, &mut contacts);
        assert_eq!(views(&said), [(id(2), None, 3, 0)]);
    }

    #[test]
    fn by_others_a_view_is_told_whole_and_to_who_has_the_same_it_is_not_told() {
        let now = Instant::now();
        let mut voice = voice(now);
        let told = [Told { is_linked: false, ..Told::of(2, &[1, 2]) }];
        let mut contacts = contacts(now, &told);
        for members in [view(&[1, 2]), view(&[1, 2, 3])] {
            voice.set_view(&members);
            let said = speak(&mut voice, now, &members, &mut contacts);
            assert_eq!(views(&said), [(id(2), None, members.members.len(), 0)]);
        }
        let contact = contacts.get_mut(&id(2)).expect("it is there");
        contact.take_view(view(&[1]).id(), None, vec![], &[]);
        voice.set_view(&view(&[1]));
        assert_eq!(views(&speak(&mut voice, now, &view(&[1]), &mut contacts)), []);
    }

    #[test]
    fn who_waits_no_longer_is_told_the_whole_that_it_was_not_told_before() {
        let now = Instant::now();
        let mut voice = voice(now);
        let mut contacts = contacts(now, &[Told::of(2, &[2])]);
        let contact = |waiting| {
            let hears = None;
            let told = Some(Status { me: None, waiting, ..status(member(2)) });
            (hears, told)
        };
        let mut number = 1;
        let mut says = |contacts: &mut BTreeMap<NodeId, Contact>, waiting| {
            number += 1;
            let (hears, told) = contact(waiting);
            let it = contacts.get_mut(&id(2)).expect("it is there");
            let (mine, view) = (member(1).incarnation, ViewId(u64::MAX));
            let beat = beat(number, view, hears, told);
            it.take_heartbeat(now, &TIMING, mine, true, beat, |_| None);
        };
        let listed = |said: Vec<Said>| -> Vec<bool> {
            let told = |said: Said| match said.word {
                MemberWord::Heartbeat { status, .. } => {
                    status.map(|status| status.joining.contains(member(2).life()))
                }
                _ => None,
            };
            said.into_iter().filter_map(told).collect()
        };
        says(&mut contacts, Some(false));
        // Both change at once: that it can be taken in is not told while it waits itself.
        let joining: LifeSet = [member(2).life()].into_iter().collect();
        let waits = Status { waiting: Some(true), joining, ..status(member(1)) };
        assert!(voice.set_status(waits.clone(), brief(&waits)));
        assert_eq!(listed(speak(&mut voice, now, &view(&[1]), &mut contacts)), [false]);
        // It founds.
        says(&mut contacts, None);
        voice.set_status(waits.clone(), waits.clone());
        voice.has_news();
        assert_eq!(listed(speak(&mut voice, now, &view(&[1]), &mut contacts)), [true]);
    }

    #[test]
    fn who_waits_tells_whom_it_hears_to_those_who_may_conclude_and_its_votes_to_who_may_count_them()
    {
        let now = Instant::now();
        let mut voice = voice(now);
        let mut contacts =
            contacts(now, &[Told::of(2, &[2]), Told::of(3, &[3]), Told::of(4, &[4])]);
        let waits = Status { waiting: Some(true), ..status(member(4)) };
        let contact = contacts.get_mut(&id(4)).expect("it is there");
        let said = beat(2, ViewId(u64::MAX), None, Some(waits));
        contact.take_heartbeat(now, &TIMING, member(1).incarnation, true, said, |_| None);
        let joining: LifeSet = [member(4).life()].into_iter().collect();
        let mine = Status { waiting: Some(true), joining, ..status(member(1)) };
        let mut tell = |voice: &mut Voice,
                        first: Option<&[NodeId]>|
         -> Vec<(NodeId, bool, usize)> {
            let rhythm = voice.rhythm(now, contacts.keys());
            let audience = Audience { rhythm, first };
            let (alone, fences) = (view(&[1]), Fences::default());
            let said = voice.speak(now, &TIMING, &alone.members, &mut contacts, audience, &fences);
            let told = said.into_iter().filter_map(|Said { to, word, .. }| match word {
                MemberWord::Heartbeat { status: Some(status), .. } => {
                    Some((to, status.joining.contains(member(4).life()), status.silent.len()))
                }
                _ => None,
            });
            told.collect()
        };
        voice.set_status(mine.clone(), brief(&mine));
        // With many others, of whom node 2 concludes first.
        let few = tell(&mut voice, Some(&[id(2)]));
        assert_eq!(few, [(id(2), true, 0), (id(3), false, 0), (id(4), false, 0)]);
        let votes = Status { silent: vec![member(9).life()], ..mine };
        voice.set_status(votes.clone(), brief(&votes));
        // Each of those who are in may have to count the vote.
        let all = tell(&mut voice, None);
        assert_eq!(all, [(id(2), true, 1), (id(3), true, 1)]);
    }

    #[test]
    fn a_base_that_is_forgotten_here_is_no_base() {
        let now = Instant::now();
        let mut voice = voice(now);
        let mut contacts = contacts(now, &[Told::of(2, &[2])]);
        voice.set_view(&view(&[1, 2]));
        speak(&mut voice, now, &view(&[1, 2]), &mut contacts);
        for n in 3..3 + HISTORY as u8 + 1 {
            voice.set_view(&view(&[1, 2, n]));
        }
        assert!(voice.lives_of(view(&[1, 2]).id()).is_none());
        assert!(voice.lives_of(view(&[1, 2, 4]).id()).is_some());
        let members = view(&[1, 2, 3 + HISTORY as u8]);
        let said = speak(&mut voice, now, &members, &mut contacts);
        assert_eq!(views(&said), [(id(2), None, 3, 0)]);
    }

    #[test]
    fn the_status_goes_with_each_change_and_by_others_each_time() {
        let now = Instant::now();
        let mut voice = voice(now);
        let told = [Told::of(2, &[2]), Told { is_linked: false, ..Told::of(3, &[3]) }];
        let mut contacts = contacts(now, &told);
        let told = |said: Vec<Said>| -> Vec<(NodeId, bool, bool)> {
            let beat = |said: Said| match said.word {
                MemberWord::Heartbeat { status, .. } => {
                    Some((said.to, said.is_probe, status.is_some()))
                }
                _ => None,
            };
            said.into_iter().filter_map(beat).collect()
        };
        let first = told(speak(&mut voice, now, &view(&[1]), &mut contacts));
        assert_eq!(first, [(id(2), false, true), (id(3), false, true)]);
        let now = now + TIMING.heartbeat;
        contacts.get_mut(&id(2)).expect("it is there").heard_straight(now, &TIMING);
        let second = told(speak(&mut voice, now, &view(&[1]), &mut contacts));
        assert_eq!(second, [(id(2), false, false), (id(3), false, true)]);
        let same = status(member(1));
        assert!(!voice.set_status(same.clone(), brief(&same)), "nothing has changed");
        let waits = Status { waiting: Some(true), ..status(member(1)) };
        assert!(voice.set_status(waits.clone(), brief(&waits)));
        let third = told(speak(&mut voice, now, &view(&[1]), &mut contacts));
        assert_eq!(third, [(id(2), false, true), (id(3), false, true)]);
        // Over a link that does not work, to try it, and by others.
        let now = now + TIMING.window;
        let fourth = told(speak(&mut voice, now, &view(&[1]), &mut contacts));
        assert_eq!(fourth, [(id(2), true, true), (id(2), false, true), (id(3), false, true)]);
    }

    #[test]
    fn with_many_others_a_change_is_told_to_the_first_members_at_once_and_to_all_with_the_heartbeat()
     {
        let now = Instant::now();
        let mut voice = voice(now);
        let told = [Told::of(2, &[2]), Told::of(3, &[3])];
        let mut contacts = contacts(now, &told);
        let mut tell = |voice: &mut Voice, now, members: &View| -> Vec<(NodeId, bool)> {
            let first = [id(3)];
            let members = &members.members;
            let fences = Fences::default();
            let rhythm = voice.rhythm(now, contacts.keys());
            let audience = Audience { rhythm, first: Some(&first) };
            let said = voice.speak(now, &TIMING, members, &mut contacts, audience, &fences);
            said.into_iter()
                .map(|said| (said.to, matches!(said.word, MemberWord::View { .. })))
                .collect()
        };
        let alone = view(&[1]);
        // The first words to each go at once: it knows nothing of this node.
        assert_eq!(tell(&mut voice, now, &alone), [(id(2), false), (id(3), false)]);
        let waits = Status { waiting: Some(true), ..status(member(1)) };
        assert!(voice.set_status(waits.clone(), brief(&waits)));
        assert_eq!(tell(&mut voice, now, &alone), [(id(3), false)]);
        assert_eq!(tell(&mut voice, now, &alone), []);
        // A view is what they wait for.
        voice.set_view(&view(&[1, 4]));
        assert_eq!(tell(&mut voice, now, &view(&[1, 4])), [(id(2), true), (id(3), true)]);
        let beat = now + TIMING.heartbeat;
        assert_eq!(tell(&mut voice, beat, &view(&[1, 4])), [(id(2), false), (id(3), false)]);
    }

    #[test]
    fn in_a_large_mesh_links_and_newcomers_are_told_in_turns_and_votes_with_the_heartbeat() {
        let mut now = Instant::now();
        let mut voice = voice(now);
        let nodes: Vec<u8> = (2..=60).collect();
        let told: Vec<Told<'_>> = nodes.iter().map(|n| Told::of(*n, &[1])).collect();
        let mut contacts = contacts(now, &told);
        let alone = view(&[1]);
        // Those who are told a status in a heartbeat.
        let mut beat = |voice: &mut Voice, contacts: &mut BTreeMap<NodeId, Contact>| -> usize {
            now += TIMING.heartbeat;
            for contact in contacts.values_mut() {
                contact.heard_straight(now, &TIMING);
            }
            let rhythm = voice.rhythm(now, contacts.keys());
            let audience = Audience { rhythm, first: Some(&[]) };
            let fences = Fences::default();
            let said = voice.speak(now, &TIMING, &alone.members, contacts, audience, &fences);
            let status = |said: &Said| match &said.word {
                MemberWord::Heartbeat { status, .. } => status.is_some(),
                _ => false,
            };
            said.iter().filter(|said| status(said)).count()
        };
        assert_eq!(beat(&mut voice, &mut contacts), nodes.len(), "they know nothing yet");
        assert_eq!(beat(&mut voice, &mut contacts), 0);
        let joining: LifeSet = [member(70).life()].into_iter().collect();
        let hears = Status { joining: joining.clone(), ..status(member(1)) };
        assert!(voice.set_status(hears.clone(), brief(&hears)));
        let told: Vec<usize> = (0..4).map(|_| beat(&mut voice, &mut contacts)).collect();
        assert!(told.iter().all(|told| *told < 30), "{told:?}");
        assert_eq!(told.iter().sum::<usize>(), nodes.len());
        let votes = Status { silent: vec![member(9).life()], ..hears };
        assert!(voice.set_status(votes.clone(), brief(&votes)));
        assert_eq!(beat(&mut voice, &mut contacts), nodes.len());
        assert_eq!(beat(&mut voice, &mut contacts), 0);
    }

    #[test]
    fn news_are_told_at_once_and_the_next_ones_later_the_more_there_are_to_be_told() {
        let now = Instant::now();
        let mut voice = voice(now);
        let mut contacts = contacts(now, &[Told::of(2, &[2])]);
        assert_eq!(voice.due(&TIMING, 1), now);
        speak(&mut voice, now, &view(&[1]), &mut contacts);
        assert_eq!(voice.due(&TIMING, 1), now + TIMING.heartbeat, "there is no news");
        voice.has_news();
        assert_eq!(voice.due(&TIMING, 1), now + SECOND / 500);
        assert_eq!(voice.due(&TIMING, 100), now + SECOND / 5);
        assert_eq!(voice.due(&TIMING, 100_000), now + TIMING.heartbeat / 2);
        // The heartbeat comes late: from then on news wait, as long as few are not many.
        let late = now + TIMING.heartbeat + SECOND / 10;
        speak(&mut voice, late, &view(&[1]), &mut contacts);
        voice.has_news();
        assert_eq!(voice.due(&TIMING, 1), late + SECOND / 500);
        assert_eq!(voice.due(&TIMING, 100), late + SECOND * 6 / 10);
        assert_eq!(voice.due(&TIMING, 100_000), late + SECOND * 9 / 10);
    }
}
