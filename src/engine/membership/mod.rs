//! Who is in the cluster, at which incarnation: joining, suspicion, verdicts, leaving, pauses.
//!
//! Full mesh, in the spirit of SWIM (Das, Gupta, Motivala 2002) with Lifeguard's care for one's own
//! slowness (Dadgar, Phillips, Currey 2018). The *view* is all that is agreed. Links are transport:
//! a word of a node is heard by whatever path it comes, and a pair without a link of its own is a
//! pair like any other. Each machine here is a type of its own; this file routes between them.
//!
//! | file | what it holds or decides |
//! |---|---|
//! | [`roster`] | whom this node knows: itself, the members, all others that it meets |
//! | [`contact`] | what is known of one other node, and whether it hears and is heard |
//! | [`timing`] | the times by which nodes are judged |
//! | [`greeting`] | what a Hello means |
//! | [`rivals`] | a second run of a node that seems alive |
//! | [`meeting`] | how others become contacts, describe themselves, are named |
//! | [`hearing`] | what a contact's heartbeats and views bring |
//! | [`joining`] | who comes in |
//! | [`gathering`] | how long they wait for others |
//! | [`verdict`], [`votes`] | who goes down |
//! | [`removal`] | how a life goes, or this node back to waiting |
//! | [`fences`] | which lives are over |
//! | [`mute`] | which runs heartbeat and say nothing else |
//! | [`own_life`], [`pause`] | whether this node's own life still counts |
//! | [`founding`] | whether this node waits, founds, may act |
//! | [`telling`], [`voice`] | what is told to whom, and when; what a status says of links: [`lists`] |
//! | [`routes`] | by whom words go where there is no link |
//! | [`turn`] | what a member turns to that leaves, or takes children again |
//! | [`sight`] | who is suspect, whose link is broken, who is forgotten |
//! | [`dialling`] | who is dialled that was not met |
//! | [`rhythm`], [`beats`] | who is told with which heartbeat, and wants each |
//! | [`pace`] | when all is judged |
//! | [`outputs`] | what is to be done, in order |
//! | [`bounds`] | what is taken of what a peer says |
//!
//! Each is a type with private fields, or functions and short-lived types over parts that are named.
//! None of them calls back: what one finds is an outcome that this file carries to the next.

mod beats;
#[cfg(test)]
mod bench;
mod bounds;
mod contact;
mod dialling;
mod fences;
pub mod founding;
mod gathering;
mod greeting;
mod hearing;
mod joining;
mod lists;
mod meeting;
mod mute;
mod outputs;
mod own_life;
mod pace;
mod pause;
mod removal;
mod rhythm;
mod rivals;
mod roster;
mod routes;
mod sight;
#[cfg(test)]
mod sim;
mod telling;
#[cfg(test)]
pub(crate) mod tests;
mod timing;
mod turn;
mod verdict;
mod voice;
mod votes;

use std::time::{Duration, Instant};

pub use self::outputs::MemberOutput;
use self::{
    beats::Cadence,
    bounds::{described, is_plausible, usable},
    contact::{Beat, Contact},
    dialling::Dialling,
    fences::Fences,
    founding::{Founder, Founding},
    gathering::Gathering,
    greeting::{Greeting, KnownRun},
    hearing::Hearing,
    joining::{Joiner, Known},
    lists::Lists,
    meeting::Meeting,
    mute::Mute,
    outputs::Outputs,
    own_life::OwnLife,
    pace::Pace,
    pause::PauseCheck,
    removal::{Out, Removal},
    rivals::Rivals,
    roster::Roster,
    routes::Routes,
    sight::Sight,
    telling::Telling,
    timing::Timing,
    turn::Turn,
    voice::Voice,
    votes::Votes,
};
pub(crate) use self::{pace::is_many, routes::HOPS};
use super::io::EngineConfig;
use crate::model::{
    address::SeedOutcome,
    event::HubEvent,
    id::{Incarnation, Life, NodeId, NodeRun},
    member::{Hello, Member, MemberState, View},
    message::MemberWord,
    settings::Settings,
    tags::LISTED,
};

/// A node that is behind its own time takes others for silent after so many windows more at most.
const MOST_LENIENT: u32 = 2;

/// The members of the cluster as this node sees them, and what it takes to see them rightly.
///
/// Each call that takes `now` may leave outputs; drain [`next_output`](Self::next_output) after it.
#[derive(Clone, Debug)]
pub struct Membership {
    /// With the window of now.
    timing: Timing,
    /// The window of a node that is not behind its own time.
    window: Duration,
    /// The latest `now`.
    now: Instant,
    ended: bool,
    roster: Roster,
    founder: Founder,
    fences: Fences,
    rivals: Rivals,
    mute: Mute,
    votes: Votes,
    dialling: Dialling,
    check: PauseCheck,
    voice: Voice,
    routes: Routes,
    pace: Pace,
    gathering: Gathering,
    out: Outputs,
}

impl Membership {
    /// This node alone. The first output announces it.
    #[must_use]
    pub fn new(config: &EngineConfig, now: Instant) -> Self {
        Self::alone(config.member(), &config.settings, config.founding.clone(), now)
    }

    fn alone(mut me: Member, settings: &Settings, founding: Founding, now: Instant) -> Self {
        me.addresses = usable(me.addresses);
        let timing = Timing {
            heartbeat: settings.heartbeat,
            window: settings.suspicion_window(),
            join_timeout: settings.join_timeout,
        };
        let roster = Roster::new(me);
        let mut membership = Self {
            timing,
            window: timing.window,
            now,
            ended: false,
            founder: Founder::new(now, founding, settings.found_after),
            fences: Fences::default(),
            rivals: Rivals::default(),
            mute: Mute::default(),
            votes: Votes::default(),
            dialling: Dialling::new(timing.window, settings.forget_after),
            check: PauseCheck::default(),
            voice: Voice::new(now, timing.heartbeat, roster.me(), roster.view()),
            routes: Routes::default(),
            pace: Pace::new(now),
            gathering: Gathering::default(),
            out: Outputs::default(),
            roster,
        };
        membership.out.announce();
        membership.finish(now);
        membership
    }

    /// Who is in, this node included.
    #[must_use]
    pub fn view(&self) -> &View {
        self.roster.view()
    }

    /// This node as it tells others.
    #[must_use]
    pub fn me(&self) -> &Member {
        self.roster.me()
    }

    /// The current life of this node.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.roster.incarnation()
    }

    /// Whether a link to this node stands, working or not.
    #[must_use]
    pub fn is_linked(&self, node: NodeId) -> bool {
        self.roster.contact(node).is_some_and(Contact::is_linked)
    }

    /// Whether the link to this node carries words in both directions.
    #[must_use]
    pub fn link_works(&self, node: NodeId) -> bool {
        let contact = self.roster.contact(node);
        contact.is_some_and(|contact| contact.link_works(self.now, &self.timing))
    }

    /// The run of a node that this one has met.
    #[must_use]
    pub fn run_of(&self, node: NodeId) -> Option<NodeRun> {
        self.roster.contact(node).map(Contact::run)
    }

    /// The neighbour by which words for this node go.
    pub fn next_hop(&mut self, to: NodeId) -> Option<NodeId> {
        self.routes.next_hop(self.now, &self.timing, self.roster.contacts(), to)
    }

    /// Nodes with a link that works to this one and, as they say, to that one; those come first that
    /// it shares out as the target's hash says, so that not all pairs take the same.
    pub(crate) fn go_betweens(&self, to: NodeId) -> impl Iterator<Item = NodeRun> + '_ {
        routes::go_betweens(self.now, &self.timing, self.roster.contacts(), to)
    }

    /// Whether this run is one of them.
    pub(crate) fn is_between(&self, run: NodeRun, to: NodeId) -> bool {
        let contact = self.roster.contact_of(run);
        contact.is_some_and(|other| routes::passes_on(self.now, &self.timing, other, to))
    }

    /// How long a word takes to this member and back, smoothed; `None` before the second heartbeat
    /// of a link.
    #[must_use]
    pub fn round_trip(&self, node: NodeId) -> Option<Duration> {
        self.roster.contact(node)?.round_trip()
    }

    /// Whether this node is in no cluster: it acts on nothing.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.founder.is_waiting()
    }

    /// Whether this node has founded a cluster or settled in one: it hosts children and obeys
    /// orders. One that was taken in and has not settled yet does neither.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.founder.is_proven()
    }

    /// The seeds with what came of the latest attempt to reach each.
    pub fn seeds(&self) -> impl Iterator<Item = (&String, &SeedOutcome)> {
        self.founder.seeds()
    }

    /// Nodes that are heard and not in.
    pub(crate) fn joiners(&self) -> Vec<Joiner> {
        self.known().joiners()
    }

    /// Who says that it does not hear this member.
    pub(crate) fn deaf_to(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.roster.deaf_to(self.now, &self.timing, node)
    }

    /// The next thing to be done.
    pub fn next_output(&mut self) -> Option<MemberOutput> {
        self.out.next()
    }

    /// How much longer than usual to wait with what can wait, as this node is behind its own time.
    pub(crate) fn patience(&self) -> Duration {
        self.voice.lag().patience(self.roster.contacts().len())
    }

    /// When [`tick`](Self::tick) is due; always after the latest `now` once it was called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let others = self.roster.contacts().len();
        let voice = (others > 0).then(|| self.voice.due(&self.timing, others));
        [voice, self.pace.deadline()].into_iter().flatten().min()
    }

    // ---- What comes in

    /// A link stands; both Hellos were exchanged.
    pub fn linked(&mut self, now: Instant, hello: Hello) {
        self.call(now, |this| this.take_hello(now, hello));
    }

    /// The link of this run broke.
    pub fn unlinked(&mut self, now: Instant, run: NodeRun) {
        self.call(now, |this| {
            if this.roster.contact_of(run).is_none() {
                this.rivals.unlinked(run);
                return;
            }
            if let Some(contact) = this.roster.contact_mut(run.node) {
                contact.unlinked(now);
            }
            this.pace.news();
            if let Some(rival) = this.rivals.take(run.node) {
                this.removal().replace(now, rival);
            }
        });
    }

    /// A dial failed. `refused`: its host says that nobody listens there any more.
    pub fn unreachable(&mut self, now: Instant, node: NodeId, refused: bool) {
        self.call(now, |this| {
            if refused && let Some(contact) = this.roster.contact_mut(node) {
                this.pace.news_if(contact.refused());
            }
        });
    }

    /// A peer did not admit this node because this life of it, or a later one, is over there.
    pub fn told_fenced(&mut self, now: Instant, incarnation: Incarnation) {
        self.call(now, |this| this.own_life().renew_above(incarnation));
    }

    /// What came of the latest attempt to reach a seed.
    pub fn seed(&mut self, now: Instant, seed: String, outcome: SeedOutcome) {
        self.call(now, |this| this.pace.news_if(this.founder.seed(seed, outcome)));
    }

    /// Where this node can be reached changed.
    pub fn set_addresses(&mut self, now: Instant, addresses: Vec<String>) {
        self.call(now, |this| {
            let addresses = usable(addresses);
            if this.me().addresses != addresses {
                this.change_me(|me| me.addresses = addresses);
            }
        });
    }

    /// This node has settled with others.
    pub fn settled(&mut self, now: Instant) {
        if self.view().members.len() > 1 {
            self.call(now, |this| this.founder.settled());
        }
    }

    /// This member heartbeats and has not said for long what it must: it counts as not heard.
    pub(crate) fn is_mute(&mut self, now: Instant, run: NodeRun) {
        let view = self.roster.contact_of(run).and_then(Contact::view_id);
        // One with another view is late, or has not heard of this one.
        if view != Some(self.voice.view_id()) {
            return;
        }
        self.call(now, |this| {
            if this.roster.contact_mut(run.node).is_some_and(Contact::mute) {
                let me = this.roster.id();
                tracing::warn!(node = %me, peer = %run.node, "a node heartbeats and says nothing else");
                this.mute.note(now, this.timing.window, run);
                this.pace.news();
            }
        });
    }

    /// This contact is heard, and what it says is read later than it came.
    pub(crate) fn held(&mut self, now: Instant, node: NodeId) {
        if let Some(contact) = self.roster.contact_mut(node) {
            let worked = contact.link_works(now, &self.timing);
            contact.excuse(now);
            // Judged with the next thing that comes: this is no turn of its own.
            self.pace.news_if(worked != contact.link_works(now, &self.timing));
        }
    }

    /// Something of this node goes to these members, and is waited for: a link to one of them that carries
    /// nothing is to be found out as soon as in a small mesh.
    pub(crate) fn in_use(&mut self, now: Instant, members: impl IntoIterator<Item = NodeId>) {
        members.into_iter().for_each(|node| self.doubt(now, node));
    }

    /// This member says what it must.
    pub(crate) fn is_not_mute(&mut self, run: NodeRun) {
        self.mute.forgive(run);
    }

    /// Something came over the link of this run. Call it for each word of every kind that was not
    /// relayed, before the word is handled.
    pub fn heard(&mut self, now: Instant, from: NodeRun) {
        self.call(now, |this| this.hearing().heard_straight(now, from));
    }

    /// A word came from this run, by its link or relayed.
    pub fn handle(&mut self, now: Instant, from: NodeRun, is_straight: bool, word: MemberWord) {
        if from.node != self.roster.id() {
            self.call(now, |this| this.take_word(now, from, is_straight, word));
        }
    }

    /// Time has passed. If the latest heartbeat is long overdue, this node was paused.
    pub fn tick(&mut self, now: Instant) {
        self.call(now, |_| {});
    }

    /// Announces that this node takes no new children; it stays in.
    pub fn start_leaving(&mut self, now: Instant) {
        self.set_state(now, MemberState::Leaving);
    }

    /// Takes [`start_leaving`](Self::start_leaving) back.
    pub fn cancel_leaving(&mut self, now: Instant) {
        self.set_state(now, MemberState::Alive);
    }

    /// Announces whether this node is drained: it takes no children and stays in.
    pub fn set_draining(&mut self, now: Instant, draining: bool) {
        self.turn(now, |me| me.draining = draining);
    }

    fn set_state(&mut self, now: Instant, state: MemberState) {
        self.turn(now, |me| me.state = state);
    }

    /// This node takes children, or takes none, from now on.
    fn turn(&mut self, now: Instant, change: impl FnOnce(&mut Member)) {
        self.call(now, |this| {
            let (before, mut after) = (this.me().clone(), this.me().clone());
            change(&mut after);
            if before == after {
                return;
            }
            if let Some(turn) = Turn::between(&before, &after) {
                this.out.event(turn.event(after.id));
            }
            this.change_me(|me| *me = after);
        });
    }

    /// Says `Bye` to everybody; from then on this node is alone and every input is ignored. The
    /// links stand, also for [`is_linked`](Self::is_linked), until the transport ends: it sends
    /// first what is queued.
    pub fn bye(&mut self, now: Instant) {
        if !self.begin(now) {
            return;
        }
        let incarnation = self.incarnation();
        self.roster.send_to_all(&MemberWord::Bye { incarnation }, &mut self.out);
        self.roster.withdraw();
        self.check.end();
        self.view_moved();
        self.close();
        self.ended = true;
    }

    // ---- A call

    fn call(&mut self, now: Instant, handle: impl FnOnce(&mut Self)) {
        if self.begin(now) {
            handle(self);
            self.finish(now);
        }
    }

    /// Opens a call; `false` after [`bye`](Self::bye).
    fn begin(&mut self, now: Instant) -> bool {
        self.out.begin();
        if self.ended {
            return false;
        }
        let before = self.now;
        self.now = before.max(now);
        let window = self.window + self.leniency();
        // What was to be judged by the longer window is due earlier.
        self.pace.news_if(window < self.timing.window);
        self.timing.window = window;
        self.own_life().look_back(now, before);
        true
    }

    /// How much longer than usual others may be silent. What they say waits here, too, where this node
    /// is behind its own time (the *local health* of Lifeguard); with few others it has no such lag.
    fn leniency(&self) -> Duration {
        self.patience().min(self.window * MOST_LENIENT)
    }

    /// Closes a call: judges, if there is reason to, and tells what is due.
    fn finish(&mut self, now: Instant) {
        let (others, lag) = (self.roster.contacts().len(), self.voice.lag());
        if self.pace.is_due(now, self.timing.heartbeat, others, lag) {
            // What one judgement changes may change the next; each step ends lives or brings some
            // in, so this ends.
            while self.pace.take_news() {
                self.judge(now);
            }
            self.pace.judged(self.next_judgement(now));
        }
        self.telling().speak(now);
        self.own_life().ask_first();
        self.close();
    }

    fn close(&mut self) {
        let Self { roster, fences, founder, routes, out, .. } = self;
        if routes.take_changed() {
            out.reached();
        }
        out.close(|| MemberOutput::Announce {
            me: roster.me().clone(),
            known: roster.others(founder.is_waiting()),
            fenced: fences.list(),
        });
    }

    /// Everything that follows from what is known now.
    fn judge(&mut self, now: Instant) {
        self.removal().settle_rivals(now);
        if self.sight().look_at_questions(now) {
            self.voice.has_news();
        }
        self.sight().regard(now);
        self.removal().settle_suspects(now);
        self.take_in();
        let Self { timing, founder, roster, out, pace, .. } = self;
        founder.found_or_wait(now, timing, roster, out, pace);
        self.tell_delays(now);
        self.own_life().settle_check(now);
        self.sight().look_at_links(now);
        self.sight().forget_old(now);
        let waiting = self.founder.waiting();
        let status = telling::status(now, &self.known(), self.me().clone(), waiting);
        let brief = Lists::brief(now, &self.known());
        self.telling().set_status(status, brief);
    }

    fn next_judgement(&self, now: Instant) -> Option<Instant> {
        let Self { timing, roster, .. } = self;
        [
            roster.deadline(now, timing),
            verdict::lonely_deadline(now, timing, roster.view(), roster.contacts()),
            self.rivals.deadline(),
            self.mute.deadline(now),
            self.dialling.deadline(),
            self.founder.deadline(now),
            self.check.deadline(timing.heartbeat),
            self.gathering.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    // ---- Who takes part in what

    fn known(&self) -> Known<'_> {
        Known {
            now: self.now,
            timing: &self.timing,
            me: self.me().life(),
            view: self.voice.lives(),
            contacts: self.roster.contacts(),
            fences: &self.fences,
            dialling: &self.dialling,
            mute: &self.mute,
        }
    }

    fn meeting(&mut self) -> Meeting<'_> {
        let Self { timing, founder, fences, dialling, roster, voice, out, pace, .. } = self;
        let is_waiting = founder.is_waiting();
        Meeting { timing, is_waiting, fences, dialling, roster, voice, out, pace }
    }

    fn hearing(&mut self) -> Hearing<'_> {
        let Self { timing, roster, voice, out, pace, .. } = self;
        Hearing { timing, roster, voice, out, pace }
    }

    fn removal(&mut self) -> Removal<'_> {
        let Self { timing, founder, fences, rivals, votes, dialling, routes, .. } = self;
        let Self { roster, voice, out, pace, .. } = self;
        Removal {
            timing,
            founder,
            fences,
            rivals,
            votes,
            dialling,
            routes,
            roster,
            voice,
            out,
            pace,
        }
    }

    fn own_life(&mut self) -> OwnLife<'_> {
        let Self { timing, check, rivals, roster, voice, out, pace, .. } = self;
        OwnLife { timing, check, rivals, roster, voice, out, pace }
    }

    fn sight(&mut self) -> Sight<'_> {
        let Self { timing, dialling, routes, roster, out, .. } = self;
        Sight { timing, dialling, routes, roster, out }
    }

    fn telling(&mut self) -> Telling<'_> {
        let Self { timing, fences, dialling, roster, votes, voice, routes, out, .. } = self;
        Telling { timing, fences, dialling, roster, votes, voice, routes, out }
    }

    // ---- What a word or a Hello means, and what follows from it

    fn take_word(&mut self, now: Instant, from: NodeRun, is_straight: bool, word: MemberWord) {
        match word {
            MemberWord::Heartbeat {
                incarnation,
                number,
                next,
                wants_all,
                view,
                pulse,
                hears,
                fence,
                version,
                revision,
                status,
            } => {
                if incarnation.nonce != from.nonce || !is_plausible(incarnation) {
                    return;
                }
                if let Some(fence) = fence {
                    self.own_life().renew_above(fence);
                }
                if self.fences.covers(from.node, incarnation) {
                    self.fences.tell(from.node, incarnation, &mut self.out);
                    return;
                }
                if self.is_mute_one_back(now, from, incarnation) {
                    // Its link ends with the life before: it is met when it is dialled.
                    self.removal().remove(now, from.node, Out::Down);
                    return;
                }
                let (me, status) = hearing::own_status(from, incarnation, status);
                if self.meeting().introduce(now, from, incarnation, me) {
                    let next = Duration::from_millis(next.into());
                    let cadence = Cadence { next, wants_all };
                    let beat = Beat { number, cadence, view, hears, version, revision, status };
                    self.hearing().take_heartbeat(now, from.node, is_straight, pulse, beat);
                }
            }
            MemberWord::Confirm { incarnation, question } => {
                if self.fences.covers(from.node, incarnation) {
                    self.fences.tell(from.node, incarnation, &mut self.out);
                } else if self.counts(now, from) {
                    self.out.send(from.node, MemberWord::Confirmed { incarnation, question });
                }
            }
            MemberWord::Fenced { incarnation } => self.own_life().renew_above(incarnation),
            _ if self.roster.contact_of(from).is_none() => {}
            MemberWord::View { view, base, members, gone } => {
                let members: Vec<Member> =
                    members.into_iter().take(LISTED).map(described).collect();
                self.hearing().take_view(now, from.node, view, base, &members, &gone);
                self.meeting().take_hints(now, members);
            }
            MemberWord::Introduce { members } => self.meeting().take_hints(now, members),
            MemberWord::Lost { nodes } => self.meeting().take_lost(now, nodes),
            MemberWord::Ask => self.hearing().take_question(from.node),
            MemberWord::Confirmed { incarnation, question } => {
                self.own_life().confirmed(from.node, incarnation, question);
            }
            MemberWord::Down { about, incarnation, voters } => {
                let life = Life { node: about, incarnation };
                if about != self.roster.id() {
                    self.removal().take_verdict(now, life, &voters);
                } else if incarnation.nonce == self.incarnation().nonce {
                    self.own_life().renew_above(incarnation);
                }
            }
            MemberWord::Bye { incarnation } if incarnation.nonce == from.nonce => {
                self.removal().remove(now, from.node, Out::Left);
            }
            MemberWord::Bye { .. } => {}
        }
    }

    fn take_hello(&mut self, now: Instant, mut hello: Hello) {
        let (node, run) = (hello.me.id, hello.me.run());
        let is_over = self.fences.covers(node, hello.me.incarnation);
        let known = self.roster.contact(node);
        let known = known.map(|contact| KnownRun::of(now, &self.timing, contact));
        let was_refused = self.rivals.was_refused(run);
        let greeting = Greeting::of(self.roster.id(), &hello.me, is_over, known, was_refused);
        hello.me = described(hello.me);
        if greeting.is_believed()
            && let Some(fenced) = hello.fenced
        {
            self.own_life().renew_above(fenced);
        }
        match greeting {
            Greeting::Own => self.out.disconnect(node, "it has this node's own key"),
            Greeting::Absurd => self.out.refuse(node, "its incarnation is absurd"),
            Greeting::Over | Greeting::New => self.meeting().welcome(now, hello),
            // Its link goes with its life: of a run that is told to be out nobody expects to hear over a link
            // that stands, also when it comes in again.
            Greeting::Again if self.is_mute_one_back(now, run, hello.me.incarnation) => {
                self.removal().remove(now, node, Out::Down);
            }
            Greeting::Again => {
                self.meeting().meet_again(now, &hello.me);
                self.rivals.forgive(node);
                self.own_life().linked(node);
                self.meeting().take_hints(now, hello.known);
            }
            Greeting::Successor => self.removal().replace(now, hello),
            Greeting::Rival => {
                let patience = self.timing.heartbeat + self.timing.heartbeat / 2;
                self.rivals.hold(now, hello, patience);
                self.doubt(now, node);
                self.pace.news();
            }
            Greeting::Twin => self.out.refuse(node, "another process with the same key is alive"),
        }
    }

    /// Whether this run is in, and not suspect: that one may be declared down the next moment, with votes that
    /// were given before its question came.
    fn counts(&self, now: Instant, run: NodeRun) -> bool {
        let contact = self.roster.contact_of(run);
        let is_suspect = contact.is_none_or(|contact| contact.is_suspicious(now, &self.timing));
        !is_suspect && self.view().is_live(run)
    }

    /// Whether this is a later life of a member that this node holds off as mute.
    fn is_mute_one_back(&self, now: Instant, run: NodeRun, incarnation: Incarnation) -> bool {
        let member = self.roster.contact_of(run).filter(|_| self.roster.is_member(run.node));
        let known = member.map(Contact::incarnation);
        known.is_some_and(|known| self.mute.is_back(now, run, known, incarnation))
    }

    // ---- Judgements

    fn take_in(&mut self) {
        let known = self.known();
        let (comers, rank) = (known.comers(self.founder.is_waiting()), known.rank());
        let (others, heartbeat) = (self.roster.contacts().len(), self.timing.heartbeat);
        if !self.gathering.is_over(self.now, comers.concluded(), others, rank, heartbeat) {
            return;
        }
        let Self { roster, founder, voice, out, pace, .. } = self;
        comers.come_in(roster, founder, voice, out, pace);
    }

    /// Who is heard and not in for long is told, with the reason.
    fn tell_delays(&mut self, now: Instant) {
        for life in self.roster.take_delayed(now, &self.timing) {
            let (me, node) = (self.roster.id(), life.node);
            let missing = self.known().missing(life);
            tracing::debug!(node = %me, peer = %node, ?missing, "a node cannot come in");
            self.out.event(HubEvent::JoinDelayed { node, missing });
        }
    }

    /// For a window every heartbeat of this contact is wanted.
    fn doubt(&mut self, now: Instant, node: NodeId) {
        let Some(contact) = self.roster.contact_mut(node) else { return };
        if contact.beats_mut().doubt(now, &self.timing) {
            self.pace.news();
            self.voice.has_news();
        }
    }

    fn change_me(&mut self, change: impl FnOnce(&mut Member)) {
        self.roster.change_me(change);
        self.view_moved();
    }

    fn view_moved(&mut self) {
        self.roster.moved(&mut self.voice, &mut self.out, &mut self.pace);
    }
}
