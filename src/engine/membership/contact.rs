//! One other node as this one meets it: its link, its words, and what it says it hears.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    beats::{Beats, Cadence},
    timing::Timing,
};
use crate::model::{
    id::{Incarnation, Life, NodeId, NodeRun},
    member::{Member, MemberState, View, ViewId},
    message::{Heard, Pulse, Status},
};

/// Of a view that a node tells no more lives are kept.
const LIVES_LIMIT: usize = 1_024;

/// Who is in a view, in which life.
pub(super) type Lives = BTreeMap<NodeId, Incarnation>;

/// The link to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Up {
        since: Instant,
    },
    Down {
        since: Instant,
        /// A redial reached the host, and nobody listened there.
        refused: bool,
    },
}

/// A heartbeat without what is for others to see to.
#[derive(Clone, Debug)]
pub(super) struct Beat {
    pub(super) number: u64,
    pub(super) cadence: Cadence,
    pub(super) view: ViewId,
    pub(super) hears: Option<Heard>,
    /// Which status the sender has told this node, with this word or before; 0: not said.
    pub(super) version: u64,
    /// Of its description of itself, that it has told.
    pub(super) revision: u64,
    pub(super) status: Option<Status>,
}

/// What a heartbeat brought that others depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heartbeat {
    /// It is older than one that came before.
    pub(super) is_late: bool,
    /// Something was learned.
    pub(super) is_news: bool,
    /// The sender's status is not known here: it has to be asked.
    pub(super) is_unknown: bool,
    /// The members of its view are not known here.
    pub(super) is_view_unknown: bool,
}

/// One other node, in the life in which it was met last.
#[derive(Clone, Debug)]
pub(super) struct Contact {
    /// As it describes itself.
    member: Member,
    since: Instant,
    link: Link,
    /// When anything of this life last came, by whatever path; `None` while nothing did.
    heard: Option<Instant>,
    /// It heartbeats and does not say what it must.
    is_mute: bool,
    /// When anything last came over the link that stands.
    heard_straight: Option<Instant>,
    /// When it last said that it hears this node's current life, and whether it did with its latest
    /// heartbeat.
    hears_me: Instant,
    says_so: bool,
    /// Whether it said so of the link.
    hears_my_link: bool,
    beats: Beats,
    /// The number of its latest heartbeat.
    number: u64,
    status: Option<Status>,
    /// Which one that is, by the sender's own number; 0: not said.
    version: u64,
    /// The view of its latest heartbeat, and who is in it, if that is known.
    view: Option<(ViewId, Option<Arc<Lives>>)>,
    /// Which status, and which view, it was told over the link that stands.
    told_status: u64,
    told_view: Option<ViewId>,
    asked: Option<Instant>,
    /// It was told of the others that want to come in.
    is_introduced: bool,
    /// The number of the lost node that it was told of last over the link that stands.
    told_lost: u64,
    /// It has asked this node, and was not told a view since.
    has_asked: bool,
    /// Since when there has been no link that works both ways.
    unlinked: Option<Instant>,
    /// When to find out whether a silent link carries anything.
    probe_at: Option<Instant>,
    link_is_missed: bool,
    delay_told: Option<Instant>,
    /// The latest heartbeat's time on its clock, and when it came.
    pulse: Option<(u64, Instant)>,
    /// Smoothed.
    round_trip: Option<Duration>,
}

impl Contact {
    /// A node that was met over a link, or by a relayed word.
    pub(super) fn met(now: Instant, member: Member, is_linked: bool) -> Self {
        let link = if is_linked {
            Link::Up { since: now }
        } else {
            Link::Down { since: now, refused: false }
        };
        Self {
            member,
            since: now,
            link,
            heard: Some(now),
            is_mute: false,
            heard_straight: is_linked.then_some(now),
            hears_me: now,
            says_so: true,
            hears_my_link: true,
            beats: Beats::new(now),
            number: 0,
            status: None,
            version: 0,
            view: None,
            told_status: 0,
            told_view: None,
            asked: None,
            is_introduced: false,
            told_lost: 0,
            has_asked: false,
            unlinked: (!is_linked).then_some(now),
            probe_at: None,
            link_is_missed: false,
            delay_told: None,
            pulse: None,
            round_trip: None,
        }
    }

    pub(super) fn member(&self) -> &Member {
        &self.member
    }

    pub(super) fn incarnation(&self) -> Incarnation {
        self.member.incarnation
    }

    pub(super) fn life(&self) -> Life {
        self.member.life()
    }

    pub(super) fn run(&self) -> NodeRun {
        self.member.run()
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn is_linked(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Whether a word of it came by way of others since its link was closed.
    pub(super) fn is_heard_without_link(&self) -> bool {
        match self.link {
            Link::Down { since, .. } => self.heard.is_some_and(|heard| heard > since),
            Link::Up { .. } => false,
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.link, Link::Down { refused: true, .. })
    }

    /// Since when the link is closed and its redial refused.
    pub(super) fn refused_since(&self) -> Option<Instant> {
        match self.link {
            Link::Down { since, refused: true } => Some(since),
            _ => None,
        }
    }

    /// A link stands: what was told over the one before may be lost.
    pub(super) fn linked(&mut self, now: Instant) {
        self.link = Link::Up { since: now };
        self.heard = Some(now);
        self.heard_straight = Some(now);
        (self.hears_me, self.says_so) = (now, true);
        self.hears_my_link = true;
        self.beats.begin_anew(now);
        self.told_status = 0;
        self.told_view = None;
        self.asked = None;
        self.is_introduced = false;
        self.told_lost = 0;
    }

    pub(super) fn unlinked(&mut self, now: Instant) {
        if self.is_linked() {
            self.link = Link::Down { since: now, refused: false };
            self.beats.begin_anew(now);
            self.heard_straight = None;
            self.probe_at = None;
            self.round_trip = None;
            self.pulse = None;
        }
    }

    /// A redial was refused; `false` if the link stands.
    pub(super) fn refused(&mut self) -> bool {
        match &mut self.link {
            Link::Down { refused, .. } => {
                *refused = true;
                true
            }
            Link::Up { .. } => false,
        }
    }

    /// Something came over the link. Tells whether it had been silent for so long that this is news.
    pub(super) fn heard_straight(&mut self, now: Instant, timing: &Timing) -> bool {
        if !self.is_linked() {
            return false;
        }
        let works_again = !self.hears_straight(now, timing);
        let is_news = works_again || !self.is_heard(now, timing);
        self.heard = Some(now);
        self.heard_straight = Some(now);
        if works_again {
            // Until it hears so it says little over it.
            self.beats.owe();
        }
        is_news
    }

    /// From now on this life counts as not heard, whatever comes of it. Whether that is news.
    pub(super) fn mute(&mut self) -> bool {
        !std::mem::replace(&mut self.is_mute, true)
    }

    /// Whether something came within the window, by whatever path.
    pub(super) fn is_heard(&self, now: Instant, timing: &Timing) -> bool {
        !self.is_mute
            && !self.is_refused()
            && self.heard.is_some_and(|at| since(now, self.beats.counts_from(at)) < timing.window)
    }

    /// Whether this node is heard by it, as far as it said so within the window.
    pub(super) fn hears_me(&self, now: Instant, timing: &Timing) -> bool {
        since(now, self.heard_me_at()) < timing.window
    }

    /// From when on it counts that it does not say that it hears this node.
    fn heard_me_at(&self) -> Instant {
        if self.says_so { self.beats.counts_from(self.hears_me) } else { self.hears_me }
    }

    /// Whether words came over the link lately.
    pub(super) fn hears_straight(&self, now: Instant, timing: &Timing) -> bool {
        self.is_linked()
            && self.heard_straight.is_some_and(|at| {
                since(now, self.beats.link_counts_from(at)) < timing.link_patience()
            })
    }

    /// Whether the link carries words in both directions.
    pub(super) fn link_works(&self, now: Instant, timing: &Timing) -> bool {
        self.hears_my_link && self.hears_straight(now, timing)
    }

    /// Who does not hear, or is not heard by, this node within a window is suspect.
    pub(super) fn is_suspicious(&self, now: Instant, timing: &Timing) -> bool {
        !self.is_heard(now, timing) || !self.hears_me(now, timing)
    }

    pub(super) fn heard_at(&self) -> Option<Instant> {
        self.heard
    }

    /// When both directions were last known to work.
    pub(super) fn mutual_at(&self) -> Instant {
        let hears_me = self.heard_me_at();
        self.heard.map_or(hears_me, |heard| self.beats.counts_from(heard).min(hears_me))
    }

    /// Whether its link stands and nothing has come of it for two windows.
    pub(super) fn is_stale(&self, now: Instant, timing: &Timing) -> bool {
        self.is_linked() && now >= self.stale_at(timing)
    }

    fn stale_at(&self, timing: &Timing) -> Instant {
        self.beats.counts_from(self.heard.unwrap_or(self.since)) + timing.window * 2
    }

    /// What a heartbeat to it says that this node hears of it.
    pub(super) fn hearing(&self, now: Instant, timing: &Timing) -> Option<Heard> {
        let straight = self.hears_straight(now, timing);
        self.is_heard(now, timing).then_some(Heard { incarnation: self.incarnation(), straight })
    }

    /// That nothing was heard meanwhile is nobody's fault but this node's.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.heard = Some(now);
        self.heard_straight = self.is_linked().then_some(now);
        self.hears_me = now;
    }

    /// What came meanwhile has not been read yet: it was heard `age` ago, if not later.
    pub(super) fn excuse_lateness(&mut self, now: Instant, age: Duration) {
        let Some(at) = now.checked_sub(age) else { return };
        let raise = |time: &mut Option<Instant>| *time = time.map(|time| time.max(at));
        raise(&mut self.heard);
        raise(&mut self.heard_straight);
        self.hears_me = self.hears_me.max(at);
    }

    /// Everything that was heard of it is void, as if it had never been met; the link stands.
    pub(super) fn forget_words(&mut self, now: Instant) {
        self.since = now;
        (self.heard, self.heard_straight) = (None, None);
        self.beats.begin_anew(now);
        (self.status, self.view) = (None, None);
        (self.told_status, self.told_view, self.asked) = (0, None, None);
    }

    /// A heartbeat of this life came. `mine` is this node's life.
    pub(super) fn take_heartbeat(
        &mut self,
        now: Instant,
        timing: &Timing,
        mine: Incarnation,
        is_straight: bool,
        beat: Beat,
        lives_of: impl FnOnce(ViewId) -> Option<Arc<Lives>>,
    ) -> Heartbeat {
        let Beat { number, cadence, view, hears, version, revision, status } = beat;
        if number <= self.number {
            return Heartbeat { is_late: true, ..Heartbeat::default() };
        }
        let is_first = self.number == 0;
        self.number = number;
        let was = (self.is_suspicious(now, timing), self.link_works(now, timing));
        self.heard = Some(now);
        // A word says that it lives, whatever the host of its old address says.
        if let Link::Down { refused, .. } = &mut self.link {
            *refused = false;
        }
        if let Some(heard) = hears.filter(|heard| heard.incarnation == mine) {
            (self.hears_me, self.says_so) = (now, true);
            self.hears_my_link = heard.straight;
        } else {
            // What it has said counts as long as it was to count, and no longer than from now on.
            (self.hears_me, self.says_so) = (self.heard_me_at().min(now), false);
            self.hears_my_link = false;
            // What was said by way of others may be lost, and the next may be long to come. Who is held to be
            // mute says the same for ever, and whoever is new is told anyway.
            if !self.is_mute && !is_first {
                self.beats.owe_once(now, timing);
            }
        }
        let is_due_earlier = self.beats.came(now, timing, cadence, is_straight);
        if let Link::Up { since: up } = self.link
            && since(now, up) < timing.link_patience()
        {
            // What it says may be older than the link.
            self.hears_my_link = true;
        }
        let mut is_news = is_due_earlier
            || was != (self.is_suspicious(now, timing), self.link_works(now, timing));
        if let Some(status) = status {
            is_news |= self.status.as_ref() != Some(&status);
            (self.status, self.version) = (Some(status), version);
        }
        let known = self.view.as_ref().is_some_and(|(id, lives)| *id == view && lives.is_some());
        let is_same = self.view_id() == Some(view);
        if !known {
            let alone = View { members: BTreeMap::from([(self.member.id, self.member.clone())]) };
            let lives = if alone.id() == view {
                Some(Arc::new(Lives::from([(self.member.id, self.member.incarnation)])))
            } else {
                lives_of(view)
            };
            // Said again, an unknown one is no news: it did not come, and is asked for.
            is_news |= !is_same || lives.is_some();
            self.view = Some((view, lives));
        }
        // What it has told once, and what did not come, it does not tell again of itself.
        let is_lost = version != 0 && version != self.version || revision > self.member.revision;
        let is_unknown = self.status.is_none() || is_lost;
        let is_view_unknown = self.view().is_none();
        Heartbeat { is_late: false, is_news, is_unknown, is_view_unknown }
    }

    /// It says who is in its view, as a difference to `base`.
    pub(super) fn take_view(
        &mut self,
        view: ViewId,
        base: Option<Arc<Lives>>,
        changed: Vec<Life>,
        gone: &[NodeId],
    ) {
        let mut lives = base.as_deref().cloned().unwrap_or_default();
        for node in gone {
            lives.remove(node);
        }
        lives.extend(changed.into_iter().map(|life| (life.node, life.incarnation)));
        while lives.len() > LIVES_LIMIT {
            lives.pop_last();
        }
        self.view = Some((view, Some(Arc::new(lives))));
    }

    /// Whether it may be asked for what is not known; at most once a heartbeat.
    pub(super) fn may_ask(&mut self, now: Instant, timing: &Timing) -> bool {
        let may = self.asked.is_none_or(|at| since(now, at) >= timing.heartbeat / 2);
        if may {
            self.asked = Some(now);
        }
        may
    }

    pub(super) fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    /// Whether it waits to be taken in, as far as is known.
    pub(super) fn waits(&self) -> bool {
        // Who waits is in no view but its own; that it has come in may be said of its view first.
        let is_in = self.view().is_some_and(|lives| lives.len() > 1);
        !is_in && self.status.as_ref().is_none_or(|status| status.waiting.is_some())
    }

    /// Who is in its view, if that is known.
    pub(super) fn view(&self) -> Option<&Arc<Lives>> {
        self.view.as_ref().and_then(|(_, lives)| lives.as_ref())
    }

    pub(super) fn view_id(&self) -> Option<ViewId> {
        self.view.as_ref().map(|(id, _)| *id)
    }

    /// Its view's members by an id, if that is the view it told last.
    pub(super) fn lives_of(&self, id: ViewId) -> Option<&Arc<Lives>> {
        self.view.as_ref().filter(|(known, _)| *known == id)?.1.as_ref()
    }

    /// Whether it says that it hears this life, which is outside its view.
    pub(super) fn lists_joining(&self, life: Life) -> bool {
        self.status.as_ref().is_some_and(|status| status.joining.contains(life))
    }

    /// Whether it says that it does not hear this life.
    pub(super) fn votes_against(&self, life: Life) -> bool {
        self.status.as_ref().is_some_and(|status| status.silent.binary_search(&life).is_ok())
    }

    /// Whom it asks about: members of its view, as far as that is known, that it does not hear. What
    /// it votes on for others' sake is no question of its own: two would repeat each other for ever.
    pub(super) fn asks_about(&self) -> impl Iterator<Item = Life> + '_ {
        let is_member = |life: &Life| {
            self.view().is_none_or(|lives| lives.get(&life.node) == Some(&life.incarnation))
        };
        self.status.iter().flat_map(|status| &status.silent).copied().filter(is_member)
    }

    /// Whether it has a link to that node that works, as it says.
    pub(super) fn links_to(&self, node: NodeId) -> bool {
        let Some(status) = &self.status else { return false };
        let known = self.view().is_some_and(|lives| lives.contains_key(&node))
            || status.joining.has_life_of(node);
        known
            && !status.unlinked.contains(node)
            && !status.silent.iter().any(|life| life.node == node)
    }

    /// What it describes itself as, if that is newer. Gives what was known before.
    ///
    /// Addresses on loopback are left out of what is told by way of others. So a description without
    /// addresses says nothing of them: a node that was met like that learns them from its Hello,
    /// and they are not lost with a later one.
    pub(super) fn describe(&mut self, told: &Member) -> Option<Member> {
        let same = told.incarnation == self.member.incarnation;
        let newer = if same {
            let adds = self.member.addresses.is_empty() && !told.addresses.is_empty();
            told.revision > self.member.revision || (told.revision == self.member.revision && adds)
        } else {
            told.incarnation > self.member.incarnation
                && told.incarnation.nonce == self.member.incarnation.nonce
        };
        if !newer {
            return None;
        }
        let before = std::mem::replace(&mut self.member, told.clone());
        if told.addresses.is_empty() {
            self.member.addresses.clone_from(&before.addresses);
        }
        if self.member.state != MemberState::Leaving {
            self.member.state = MemberState::Alive;
        }
        if !same {
            // What was said of the life before does not count for this one.
            (self.status, self.view, self.is_mute) = (None, None, false);
        }
        Some(before)
    }

    /// Whether the status of this version has to be told to it; over a link that works it is told
    /// once. If it is due, the version that was told before, 0 for none that counts.
    pub(super) fn tell_status(&mut self, version: u64, works: bool) -> Option<u64> {
        let told = std::mem::replace(&mut self.told_status, version);
        let told = if works { told } else { 0 };
        (told != version).then_some(told)
    }

    /// Which version of this node's status it was told last over the link; 0: none.
    pub(super) fn told_status(&self) -> u64 {
        self.told_status
    }

    /// It is told this view.
    pub(super) fn tell_view(&mut self, view: ViewId) {
        self.told_view = Some(view);
        self.has_asked = false;
    }

    /// It has this node's view, as it says: what it asked for was not that.
    pub(super) fn knows_view(&mut self) {
        self.has_asked = false;
    }

    /// The view that it was told last over the link.
    pub(super) fn told_view(&self) -> Option<ViewId> {
        self.told_view
    }

    /// Whether it has asked for everything and was not told a view since.
    pub(super) fn has_asked(&self) -> bool {
        self.has_asked
    }

    pub(super) fn was_told_view(&self, view: ViewId) -> bool {
        self.told_view == Some(view)
    }

    /// The heartbeats to and from it.
    pub(super) fn beats(&self) -> &Beats {
        &self.beats
    }

    pub(super) fn beats_mut(&mut self) -> &mut Beats {
        &mut self.beats
    }

    /// Whether it has to be told of the others that want to come in, which is then done.
    pub(super) fn introduce(&mut self) -> bool {
        self.waits() && !std::mem::replace(&mut self.is_introduced, true)
    }

    /// It is told of all that were lost up to the one with this number; up to which it was before.
    pub(super) fn tell_lost(&mut self, latest: u64) -> u64 {
        std::mem::replace(&mut self.told_lost, latest)
    }

    /// It asked for everything.
    pub(super) fn tell_anew(&mut self) {
        (self.told_status, self.told_view, self.has_asked) = (0, None, true);
        self.told_lost = 0;
    }

    /// What there is to do about its link now.
    pub(super) fn look_at_link(&mut self, now: Instant, timing: &Timing) -> LinkNews {
        let mut news = LinkNews::default();
        if self.link_works(now, timing) {
            self.unlinked = None;
            self.probe_at = None;
            news.is_restored = std::mem::take(&mut self.link_is_missed);
            return news;
        }
        let broken = *self.unlinked.get_or_insert_with(|| {
            // By way of others it is to hear so before it is suspected, or suspects.
            self.beats.owe();
            now
        });
        if !self.is_heard(now, timing) {
            return news;
        }
        if self.is_linked() {
            let at = *self.probe_at.get_or_insert(now + timing.window / 3);
            if now >= at {
                news.is_silent = true;
                self.probe_at = Some(now + timing.window);
            }
        }
        if !self.link_is_missed && since(now, broken) >= timing.join_timeout {
            self.link_is_missed = true;
            news.is_missing = true;
        }
        news
    }

    /// Whether it is time to say that it is not in yet.
    pub(super) fn is_delayed(&mut self, now: Instant, timing: &Timing) -> bool {
        let due = now >= self.delay_told_at(timing);
        if due {
            self.delay_told = Some(now);
        }
        due
    }

    /// When it is said next that it is not in.
    pub(super) fn delay_told_at(&self, timing: &Timing) -> Instant {
        self.delay_told.unwrap_or(self.since) + timing.join_timeout
    }

    /// When one of the judgements above changes by time alone.
    pub(super) fn deadline(&self, now: Instant, timing: &Timing) -> Option<Instant> {
        let straight = self.heard_straight.filter(|_| self.is_linked());
        let probe = self.probe_at.filter(|_| self.is_linked());
        let missing = self.unlinked.filter(|_| !self.link_is_missed);
        [
            self.heard.map(|at| self.beats.counts_from(at) + timing.window),
            Some(self.heard_me_at() + timing.window),
            Some(self.stale_at(timing)),
            straight.map(|at| self.beats.link_counts_from(at) + timing.link_patience()),
            probe,
            missing.map(|at| at + timing.join_timeout),
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at > now)
        .min()
    }

    /// What the next heartbeat to it says of the round trip, `clock` after this node began.
    pub(super) fn pulse(&self, now: Instant, clock: Duration) -> Pulse {
        let (echo, came) = self.pulse.unzip();
        let held = came.map_or(Duration::ZERO, |came| since(now, came));
        Pulse { sent: micros(clock), echo, held: micros(held) }
    }

    /// The pulse of a heartbeat that came over the link.
    pub(super) fn take_pulse(&mut self, now: Instant, clock: Duration, pulse: Pulse) {
        self.pulse = Some((pulse.sent, now));
        let Some(echo) = pulse.echo else { return };
        let Some(taken) = micros(clock).checked_sub(echo.saturating_add(pulse.held)) else {
            return;
        };
        let taken = Duration::from_micros(taken);
        // As TCP smooths it (RFC 6298): an eighth of each new one.
        self.round_trip = Some(self.round_trip.map_or(taken, |known| (known * 7 + taken) / 8));
    }

    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.filter(|_| self.is_linked())
    }
}

/// What there is to do about a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkNews {
    /// It stands and carries nothing, though the node is heard by way of others.
    pub(super) is_silent: bool,
    /// It has been missing for so long that it is told.
    pub(super) is_missing: bool,
    /// It works again after that.
    pub(super) is_restored: bool,
}

fn since(now: Instant, at: Instant) -> Duration {
    now.saturating_duration_since(at)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{
        super::bench::{beat as beat_of, *},
        *,
    };

    fn met(now: Instant) -> Contact {
        Contact::met(now, member(2), true)
    }

    fn beat(
        contact: &mut Contact,
        now: Instant,
        number: u64,
        hears: Option<Heard>,
        status: Option<Status>,
    ) -> Heartbeat {
        let view = contact.view_id().unwrap_or(ViewId(1));
        let mine = member(1).incarnation;
        let is_straight = contact.is_linked();
        let beat = beat_of(number, view, hears, status);
        contact.take_heartbeat(now, &TIMING, mine, is_straight, beat, |_| None)
    }

    fn heard(straight: bool) -> Option<Heard> {
        Some(Heard { incarnation: member(1).incarnation, straight })
    }

    #[test]
    fn hearing_and_being_heard_each_last_for_a_window() {
        let now = Instant::now();
        let (window, moment) = (TIMING.window, Duration::from_millis(1));
        let mut contact = met(now);
        assert!(contact.is_heard(now + window - moment, &TIMING));
        assert!(!contact.is_heard(now + window, &TIMING));
        assert_eq!(contact.deadline(now, &TIMING), Some(now + window * 2 / 3));
        // Its words come on, and none says that it hears this node.
        beat(&mut contact, now + SECOND, 1, None, None);
        assert!(contact.is_heard(now + window, &TIMING));
        assert!(!contact.is_suspicious(now + window - moment, &TIMING));
        assert!(contact.is_suspicious(now + window, &TIMING));
        assert_eq!(contact.mutual_at(), now);
        // Or that it hears an earlier life.
        let earlier = Incarnation { started: 99, nonce: 1 };
        let hears = Some(Heard { incarnation: earlier, straight: true });
        beat(&mut contact, now + window, 2, hears, None);
        assert!(contact.is_suspicious(now + window, &TIMING));
        beat(&mut contact, now + window, 3, heard(false), None);
        assert!(!contact.is_suspicious(now + window, &TIMING));
    }

    #[test]
    fn a_link_works_while_both_ends_hear_each_other_over_it() {
        let now = Instant::now();
        let mut contact = met(now);
        assert!(contact.link_works(now, &TIMING));
        // What the other says may be older than the link.
        beat(&mut contact, now + SECOND, 1, heard(false), None);
        contact.heard_straight(now + SECOND, &TIMING);
        assert!(contact.link_works(now + SECOND, &TIMING));
        let later = now + 2 * SECOND;
        assert!(!contact.heard_straight(later, &TIMING), "that is no news");
        beat(&mut contact, later, 2, heard(false), None);
        assert!(!contact.link_works(later, &TIMING), "it hears nothing over it");
        beat(&mut contact, later, 3, heard(true), None);
        assert!(contact.link_works(later, &TIMING));
        contact.unlinked(later);
        assert!(!contact.link_works(later, &TIMING) && !contact.is_suspicious(later, &TIMING));
        assert!(!contact.heard_straight(later, &TIMING), "nothing comes over a link that is gone");
    }

    #[test]
    fn what_comes_by_way_of_others_makes_no_silent_link_work() {
        let now = Instant::now();
        for cadence in [SECOND, 18 * SECOND].map(|next| Cadence { next, wants_all: false }) {
            let mut contact = met(now);
            for second in 1..=4_u32 {
                let now = now + SECOND * second;
                let (mine, view, number) = (member(1).incarnation, ViewId(1), second.into());
                let beat = beat_of(number, view, heard(true), None);
                let beat = Beat { cadence, ..beat };
                contact.take_heartbeat(now, &TIMING, mine, false, beat, |_| None);
                assert_eq!(contact.hears_straight(now, &TIMING), second < 2, "{second}");
                assert!(contact.is_heard(now, &TIMING));
            }
        }
    }

    #[test]
    fn a_refused_redial_silences_a_node_until_a_word_of_it_comes() {
        let now = Instant::now();
        let mut contact = met(now);
        assert!(!contact.refused(), "its link stands");
        contact.unlinked(now);
        assert!(contact.refused() && !contact.is_heard(now, &TIMING));
        assert_eq!(contact.refused_since(), Some(now));
        beat(&mut contact, now, 1, heard(false), None);
        assert!(contact.is_heard(now, &TIMING) && contact.refused_since().is_none());
    }

    #[test]
    fn what_is_not_known_is_asked_for_twice_a_heartbeat_at_most() {
        let now = Instant::now();
        let mut contact = met(now);
        let first = beat(&mut contact, now, 1, None, None);
        assert!(first.is_unknown && first.is_view_unknown);
        assert!(contact.may_ask(now, &TIMING) && !contact.may_ask(now, &TIMING));
        assert!(contact.may_ask(now + TIMING.heartbeat / 2, &TIMING));
        contact.take_view(ViewId(1), None, vec![], &[]);
        let told = status(member(2));
        let first = beat(&mut contact, now, 2, None, Some(told.clone()));
        assert!(first.is_news && !first.is_unknown);
        assert_eq!(beat(&mut contact, now, 3, None, Some(told)), Heartbeat::default());
        assert!(beat(&mut contact, now, 3, None, None).is_late);
    }

    #[test]
    fn a_status_that_was_told_once_and_did_not_come_is_asked_for() {
        let now = Instant::now();
        let mut contact = met(now);
        contact.take_view(ViewId(1), None, vec![], &[]);
        let mut number = 0;
        let mut hear = |version, revision, status: Option<Status>| {
            number += 1;
            let beat = beat_of(number, ViewId(1), heard(true), status);
            let beat = Beat { version, revision, ..beat };
            contact.take_heartbeat(now, &TIMING, member(1).incarnation, true, beat, |_| None)
        };
        let told = || Some(Status { me: None, ..status(member(2)) });
        assert!(!hear(4, 0, told()).is_unknown);
        assert!(!hear(4, 0, None).is_unknown);
        assert!(hear(5, 0, None).is_unknown, "another one was told");
        assert!(hear(4, 1, None).is_unknown, "it described itself anew");
        assert!(!hear(0, 0, None).is_unknown, "of an earlier release");
        assert!(!hear(5, 0, told()).is_unknown);
        assert!(hear(6, 1, told()).is_unknown, "with what was told in the one that did not come");
    }

    #[test]
    fn what_was_told_over_a_link_is_told_again_over_the_next_one_and_by_others_each_time() {
        let now = Instant::now();
        let mut contact = met(now);
        assert_eq!(contact.tell_status(1, true), Some(0));
        assert_eq!(contact.tell_status(1, true), None);
        assert_eq!(contact.tell_status(2, true), Some(1));
        assert_eq!(contact.tell_status(1, false), Some(0));
        assert_eq!(contact.tell_status(1, false), Some(0));
        contact.tell_view(ViewId(5));
        contact.linked(now);
        assert!(contact.tell_status(1, true).is_some() && contact.told_view().is_none());
        contact.tell_view(ViewId(6));
        assert_eq!(contact.told_view(), Some(ViewId(6)));
        contact.tell_anew();
        assert!(contact.tell_status(1, true).is_some() && contact.told_view().is_none());
        assert!(contact.has_asked());
        contact.tell_view(ViewId(7));
        assert!(!contact.has_asked());
    }

    #[test]
    fn a_later_life_voids_what_the_one_before_said_and_an_earlier_one_is_not_believed() {
        let now = Instant::now();
        let mut contact = met(now);
        let told = Status { silent: lives(&[3]), ..status(member(2)) };
        beat(&mut contact, now, 1, None, Some(told));
        assert!(contact.votes_against(member(3).life()));
        let renewed = Incarnation { started: 101, nonce: 2 };
        let later = Member { incarnation: renewed, ..member(2) };
        assert!(contact.describe(&later).is_some());
        assert!(!contact.votes_against(member(3).life()) && contact.view().is_none());
        assert!(contact.describe(&member(2)).is_none());
        let other = Member { incarnation: Incarnation { started: 200, nonce: 9 }, ..member(2) };
        assert!(contact.describe(&other).is_none(), "another run is another contact");
        let revised = Member { revision: 1, weight: 7, ..later };
        assert!(contact.describe(&revised).is_some() && contact.describe(&revised).is_none());
    }

    #[test]
    fn a_description_that_came_by_way_of_others_says_nothing_of_addresses_on_loopback() {
        let now = Instant::now();
        let stripped = Member { addresses: vec![], ..member(2) };
        let mut contact = Contact::met(now, stripped.clone(), false);
        assert!(contact.describe(&member(2)).is_some(), "its Hello says where it is");
        assert_eq!(contact.member().addresses, member(2).addresses);
        assert!(contact.describe(&stripped).is_none() && contact.describe(&member(2)).is_none());
        let later = Member { revision: 1, weight: 7, ..stripped };
        assert!(contact.describe(&later).is_some());
        assert_eq!(contact.member(), &Member { addresses: member(2).addresses, ..later });
    }

    #[test]
    fn forgotten_words_are_void_and_the_link_stands() {
        let now = Instant::now();
        let mut contact = met(now);
        contact.take_view(ViewId(1), None, lives(&[1, 2]), &[]);
        beat(&mut contact, now, 1, heard(true), Some(status(member(2))));
        contact.forget_words(now);
        assert!(!contact.is_heard(now, &TIMING) && contact.is_linked());
        assert!(contact.view().is_none() && contact.status().is_none());
        assert!(contact.tell_status(1, true).is_some());
    }

    #[test]
    fn a_silent_link_is_probed_and_a_missing_one_told_only_of_who_is_heard() {
        let now = Instant::now();
        let mut contact = met(now);
        let (mut silent, mut missing) = (vec![], vec![]);
        for second in 1..=40_u32 {
            let now = now + SECOND * second;
            if second < 30 {
                beat(&mut contact, now, u64::from(second), heard(false), None);
            }
            let news = contact.look_at_link(now, &TIMING);
            silent.extend(news.is_silent.then_some(second));
            missing.extend(news.is_missing.then_some(second));
        }
        assert_eq!(silent[..3], [3, 6, 9], "once a window");
        assert!(silent.iter().all(|second| *second < 33), "then it is dead: {silent:?}");
        assert_eq!(missing, [17], "once, after the time to join");
        contact.linked(now + 41 * SECOND);
        assert!(contact.look_at_link(now + 41 * SECOND, &TIMING).is_restored);
    }

    #[test]
    fn only_members_of_its_own_view_are_asked_about() {
        let now = Instant::now();
        let mut contact = met(now);
        let told = Status { silent: lives(&[3, 4]), ..status(member(2)) };
        beat(&mut contact, now, 1, None, Some(told));
        assert_eq!(contact.asks_about().count(), 2, "its view is not known yet");
        contact.take_view(ViewId(1), None, lives(&[1, 2, 3]), &[]);
        assert_eq!(contact.asks_about().collect::<Vec<_>>(), lives(&[3]));
        assert!(contact.votes_against(member(4).life()), "it votes on both");
    }

    #[test]
    fn of_a_view_so_many_lives_are_kept_and_no_more() {
        let mut contact = met(Instant::now());
        for block in 0..4_u8 {
            let many = (0..=255_u8).flat_map(|n| {
                (0..2_u8).map(move |m| {
                    let mut key = [block; 32];
                    (key[0], key[1]) = (n, m);
                    let node = NodeId::from_key(key);
                    Life { node, incarnation: member(1).incarnation }
                })
            });
            let base = contact.view().cloned();
            contact.take_view(ViewId(u64::from(block)), base, many.collect(), &[]);
        }
        assert_eq!(contact.view().map(|lives| lives.len()), Some(LIVES_LIMIT));
    }
}
