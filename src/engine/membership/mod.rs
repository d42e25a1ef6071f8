//! Who is in the cluster, at which incarnation: joining, suspicion, verdicts, leaving, pauses.
//!
//! Full mesh, in the spirit of SWIM (Das, Gupta, Motivala 2002) with Lifeguard's care for one's own
//! slowness (Dadgar, Phillips, Currey 2018). The *view* is all that is agreed. Links are transport:
//! a word of a node is heard by whatever path it comes, and a pair without a link of its own is a
//! pair like any other. Each machine here is a type of its own; this file routes between them.
//!
//! | machine | what it decides |
//! |---|---|
//! | [`contact`] | what is known of one other node, and whether it hears and is heard |
//! | [`greeting`] | what a Hello means |
//! | [`joining`] | who comes in |
//! | [`votes`], [`verdict`] | who goes down |
//! | [`fences`] | which lives are over |
//! | [`mute`] | which runs heartbeat and say nothing else |
//! | [`rivals`] | a second run of a node that seems alive |
//! | [`founding`] | whether this node waits, founds, may act |
//! | [`voice`] | what is told to whom, and when |
//! | [`routes`] | by whom words go where there is no link |
//! | [`dialling`] | who is dialled that was not met |
//! | [`pause`] | whether a node that did not run for a while still counts |

#[cfg(test)]
mod bench;
mod bounds;
mod contact;
mod dialling;
mod fences;
pub mod founding;
mod greeting;
mod joining;
mod mute;
mod outputs;
mod pause;
mod rivals;
mod routes;
#[cfg(test)]
mod sim;
#[cfg(test)]
pub(crate) mod tests;
mod verdict;
mod voice;
mod votes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

pub use self::outputs::MemberOutput;
pub(crate) use self::routes::HOPS;
use self::{
    bounds::{described, is_plausible, sorted, usable},
    contact::{Contact, Timing},
    dialling::Dialling,
    fences::Fences,
    founding::{Founder, Founding},
    greeting::{Greeting, KnownRun},
    joining::Known,
    mute::Mute,
    outputs::Outputs,
    pause::{Due, PauseCheck},
    rivals::Rivals,
    routes::Routes,
    voice::{LISTED, Said, Voice},
    votes::Votes,
};
use super::io::EngineConfig;
use crate::model::{
    address::SeedOutcome,
    event::HubEvent,
    id::{Incarnation, Life, NodeId, NodeRun},
    member::{Hello, Member, MemberState, View, ViewId},
    message::{MemberWord, Status},
    settings::Settings,
};

/// With so few others everything that comes is judged at once.
const FEW: u32 = 16;

/// A node that is heard and not in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joiner {
    /// The node as it describes itself.
    pub(crate) member: Member,
    /// Since when it has been met.
    pub(crate) since: Instant,
    /// Who does not hear whom: the first does not hear the second.
    pub(crate) missing: Vec<(NodeId, NodeId)>,
}

/// The members of the cluster as this node sees them, and what it takes to see them rightly.
///
/// Each call that takes `now` may leave outputs; drain [`next_output`](Self::next_output) after it.
#[derive(Clone, Debug)]
pub struct Membership {
    me: NodeId,
    timing: Timing,
    ended: bool,
    view: View,
    /// Everybody whom this node hears or has a link to; each member of the view, too.
    contacts: BTreeMap<NodeId, Contact>,
    founder: Founder,
    fences: Fences,
    rivals: Rivals,
    mute: Mute,
    votes: Votes,
    dialling: Dialling,
    check: PauseCheck,
    voice: Voice,
    routes: Routes,
    /// The latest `now`.
    now: Instant,
    /// When some judgement changes by time alone, as far as was found when all were judged last.
    judge_at: Option<Instant>,
    /// Something came that judgements depend on.
    is_news: bool,
    out: Outputs,
    /// When all was judged last.
    judged_at: Instant,
}

impl Membership {
    /// This node alone. The first output announces it.
    #[must_use]
    pub fn new(config: &EngineConfig, now: Instant) -> Self {
        let me = Member {
            id: config.node,
            incarnation: config.incarnation,
            name: config.name.clone(),
            addresses: config.addresses.clone(),
            weight: config.settings.weight,
            state: MemberState::Alive,
            revision: 0,
        };
        Self::alone(me, &config.settings, config.founding.clone(), now)
    }

    fn alone(mut me: Member, settings: &Settings, founding: Founding, now: Instant) -> Self {
        me.addresses = usable(me.addresses);
        let timing = Timing {
            heartbeat: settings.heartbeat,
            window: settings.suspicion_window(),
            join_timeout: settings.join_timeout,
        };
        let view = View { members: BTreeMap::from([(me.id, me.clone())]) };
        let mut membership = Self {
            me: me.id,
            timing,
            ended: false,
            contacts: BTreeMap::new(),
            founder: Founder::new(now, founding, settings.found_after),
            fences: Fences::default(),
            rivals: Rivals::default(),
            mute: Mute::default(),
            votes: Votes::default(),
            dialling: Dialling::new(timing.window, settings.forget_after),
            check: PauseCheck::default(),
            voice: Voice::new(now, timing.heartbeat, &me, &view),
            routes: Routes::default(),
            view,
            now,
            judge_at: None,
            is_news: true,
            out: Outputs::default(),
            judged_at: now,
        };
        membership.out.announce();
        membership.finish(now);
        membership
    }

    /// Who is in, this node included.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// This node as it tells others.
    #[must_use]
    pub fn me(&self) -> &Member {
        self.view.members.get(&self.me).expect("a view holds its own node from the start")
    }

    /// The current life of this node.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.me().incarnation
    }

    /// Whether this run is in; suspects and leaving ones are.
    #[must_use]
    #[cfg(test)]
    pub fn is_live(&self, run: NodeRun) -> bool {
        self.view.is_live(run)
    }

    /// Whether a link to this node stands, working or not.
    #[must_use]
    pub fn is_linked(&self, node: NodeId) -> bool {
        self.contacts.get(&node).is_some_and(Contact::is_linked)
    }

    /// Whether the link to this node carries words in both directions.
    #[must_use]
    pub fn link_works(&self, node: NodeId) -> bool {
        let contact = self.contacts.get(&node);
        contact.is_some_and(|contact| contact.link_works(self.now, &self.timing))
    }

    /// The run of a node that this one has met.
    #[must_use]
    pub fn run_of(&self, node: NodeId) -> Option<NodeRun> {
        self.contacts.get(&node).map(Contact::run)
    }

    /// The neighbour by which words for this node go.
    pub fn next_hop(&mut self, to: NodeId) -> Option<NodeId> {
        self.routes.next_hop(self.now, &self.timing, &self.contacts, to)
    }

    /// Nodes with a link that works to this one and, as they say, to that one; those come first that
    /// it shares out as the target's hash says, so that not all pairs take the same.
    pub(crate) fn go_betweens(&self, to: NodeId) -> impl Iterator<Item = NodeRun> + '_ {
        let mut others: Vec<&Contact> = self
            .contacts
            .values()
            .filter(|other| other.life().node != to && other.links_to(to))
            .filter(|other| other.link_works(self.now, &self.timing))
            .collect();
        others.sort_by_key(|other| std::cmp::Reverse(routes::rank(other.life().node, to)));
        others.into_iter().map(Contact::run)
    }

    /// Whether something came from this member lately, by whatever path.
    #[must_use]
    pub fn is_heard(&self, node: NodeId) -> bool {
        self.contacts.get(&node).is_some_and(|contact| contact.is_heard(self.now, &self.timing))
    }

    /// How long a word takes to this member and back, smoothed; `None` before the second heartbeat
    /// of a link.
    #[must_use]
    pub fn round_trip(&self, node: NodeId) -> Option<Duration> {
        self.contacts.get(&node)?.round_trip()
    }

    /// Whether this life is over: its words and frames are refused.
    #[must_use]
    #[cfg(test)]
    pub fn fenced(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.fences.covers(node, incarnation)
    }

    /// How many lives it votes against.
    #[cfg(test)]
    pub(crate) fn status_len(&self) -> usize {
        self.voice.status().silent.len()
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
        let known = self.known();
        let joiner = |contact: &Contact| Joiner {
            member: contact.member().clone(),
            since: contact.since(),
            missing: known.missing(contact.life()),
        };
        known.joining().map(joiner).collect()
    }

    /// Who says that it does not hear this member.
    pub(crate) fn deaf_to(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let life = self.view.members.get(&node).map(Member::life);
        let deaf = move |contact: &&Contact| {
            life.is_some_and(|life| contact.votes_against(life)) && contact.life().node != node
        };
        let me = (life.is_some() && !self.is_heard(node)).then_some(self.me);
        self.contacts.values().filter(deaf).map(|contact| contact.life().node).chain(me)
    }

    /// The next thing to be done.
    pub fn next_output(&mut self) -> Option<MemberOutput> {
        self.out.next()
    }

    /// When [`tick`](Self::tick) is due; always after the latest `now` once it was called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let voice =
            (!self.contacts.is_empty()).then(|| self.voice.due(&self.timing, self.contacts.len()));
        [voice, self.judge_at].into_iter().flatten().min()
    }

    /// A link stands; both Hellos were exchanged.
    pub fn linked(&mut self, now: Instant, hello: Hello) {
        if !self.begin(now) {
            return;
        }
        self.take_hello(now, hello);
        self.finish(now);
    }

    /// The link of this run broke.
    pub fn unlinked(&mut self, now: Instant, run: NodeRun) {
        if !self.begin(now) {
            return;
        }
        if self.contact_of(run).is_some() {
            if let Some(contact) = self.contacts.get_mut(&run.node) {
                contact.unlinked(now);
            }
            self.is_news = true;
            if let Some(hello) = self.rivals.take(run.node) {
                self.replace(now, hello);
            }
        } else {
            self.rivals.unlinked(run);
        }
        self.finish(now);
    }

    /// A dial failed. `refused`: its host says that nobody listens there any more.
    pub fn unreachable(&mut self, now: Instant, node: NodeId, refused: bool) {
        if !self.begin(now) {
            return;
        }
        if refused && let Some(contact) = self.contacts.get_mut(&node) {
            self.is_news |= contact.refused();
        }
        self.finish(now);
    }

    /// A peer did not admit this node because this life of it, or a later one, is over there.
    pub fn told_fenced(&mut self, now: Instant, incarnation: Incarnation) {
        if !self.begin(now) {
            return;
        }
        self.renew_above(incarnation);
        self.finish(now);
    }

    /// What came of the latest attempt to reach a seed.
    pub fn seed(&mut self, now: Instant, seed: String, outcome: SeedOutcome) {
        if !self.begin(now) {
            return;
        }
        self.is_news |= self.founder.seed(seed, outcome);
        self.finish(now);
    }

    /// Where this node can be reached changed.
    pub fn set_addresses(&mut self, now: Instant, addresses: Vec<String>) {
        if !self.begin(now) {
            return;
        }
        let addresses = usable(addresses);
        if self.me().addresses != addresses {
            self.change_me(|me| me.addresses = addresses);
        }
        self.finish(now);
    }

    /// This node has settled with others.
    pub fn settled(&mut self, now: Instant) {
        if self.view.members.len() > 1 && self.begin(now) {
            self.founder.settled();
            self.finish(now);
        }
    }

    /// This member heartbeats and has not said for long what it must: it counts as not heard.
    pub(crate) fn is_mute(&mut self, now: Instant, run: NodeRun) {
        let agrees = self.contact_of(run).and_then(Contact::view_id) == Some(self.voice.view_id());
        // One with another view is late, or has not heard of this one.
        if !agrees || !self.begin(now) {
            return;
        }
        if let Some(contact) = self.contacts.get_mut(&run.node)
            && contact.mute()
        {
            tracing::warn!(node = %self.me, peer = %run.node, "a node heartbeats and says nothing else");
            self.mute.note(now, self.timing.window, run);
            self.is_news = true;
        }
        self.finish(now);
    }

    /// This member says what it must.
    pub(crate) fn is_not_mute(&mut self, run: NodeRun) {
        self.mute.forgive(run);
    }

    /// Something came over the link of this run. Call it for each word of every kind that was not
    /// relayed, before the word is handled.
    pub fn heard(&mut self, now: Instant, from: NodeRun) {
        if !self.begin(now) {
            return;
        }
        if self.contact_of(from).is_some()
            && let Some(contact) = self.contacts.get_mut(&from.node)
        {
            self.is_news |= contact.heard_straight(now, &self.timing);
        }
        self.finish(now);
    }

    /// A word came from this run, by its link or relayed.
    pub fn handle(&mut self, now: Instant, from: NodeRun, is_straight: bool, word: MemberWord) {
        if from.node == self.me || !self.begin(now) {
            return;
        }
        match word {
            MemberWord::Heartbeat { .. } => self.take_heartbeat(now, from, is_straight, word),
            MemberWord::Confirm { incarnation, question } => {
                if self.fences.covers(from.node, incarnation) {
                    self.tell_fenced(from.node, incarnation);
                } else if self.view.is_live(from) {
                    self.out.send(from.node, MemberWord::Confirmed { incarnation, question });
                }
            }
            MemberWord::Fenced { incarnation } => self.renew_above(incarnation),
            _ if self.contact_of(from).is_none() => {}
            MemberWord::View { view, base, members, gone } => {
                self.take_view(now, from.node, view, base, members, &gone);
            }
            MemberWord::Ask => {
                if let Some(contact) = self.contacts.get_mut(&from.node) {
                    contact.tell_anew();
                    self.voice.has_news();
                }
            }
            MemberWord::Confirmed { incarnation, question } => {
                if incarnation == self.incarnation() {
                    self.check.confirmed(from.node, question);
                    self.is_news = true;
                }
            }
            MemberWord::Down { about, incarnation, voters } => {
                self.take_verdict(now, Life { node: about, incarnation }, &voters);
            }
            MemberWord::Bye { incarnation } if incarnation.nonce == from.nonce => {
                self.remove(now, from.node, Out::Left);
            }
            MemberWord::Bye { .. } => {}
        }
        self.finish(now);
    }

    /// Time has passed. If the latest heartbeat is long overdue, this node was paused.
    pub fn tick(&mut self, now: Instant) {
        if self.begin(now) {
            self.finish(now);
        }
    }

    /// Announces that this node takes no new children; it stays in.
    pub fn start_leaving(&mut self, now: Instant) {
        self.set_state(now, MemberState::Leaving);
    }

    /// Takes [`start_leaving`](Self::start_leaving) back.
    pub fn cancel_leaving(&mut self, now: Instant) {
        self.set_state(now, MemberState::Alive);
    }

    fn set_state(&mut self, now: Instant, state: MemberState) {
        if !self.begin(now) {
            return;
        }
        if self.me().state != state {
            self.change_me(|me| me.state = state);
        }
        self.finish(now);
    }

    /// Says `Bye` to everybody; from then on this node is alone and every input is ignored. The
    /// links stand, also for [`is_linked`](Self::is_linked), until the transport ends: it sends
    /// first what is queued.
    pub fn bye(&mut self, now: Instant) {
        if !self.begin(now) {
            return;
        }
        let incarnation = self.incarnation();
        self.send_to_all(&MemberWord::Bye { incarnation });
        let me = self.me;
        self.view.members.retain(|node, _| *node == me);
        self.check.end();
        self.view_moved();
        self.close_call();
        self.ended = true;
    }

    /// Opens a call; `false` after [`bye`](Self::bye).
    fn begin(&mut self, now: Instant) -> bool {
        self.out.begin();
        if self.ended {
            return false;
        }
        let gap = now.saturating_duration_since(self.now);
        self.now = self.now.max(now);
        // Without contacts there is no heartbeat to be late for, and nobody who declares us down.
        if !self.contacts.is_empty() {
            let Timing { heartbeat, window, .. } = self.timing;
            // What counts is how long the peers may not have heard us, and that began before the
            // pause; the latest heartbeat may have been cut short by it.
            if self.voice.silent_for(now) >= window - heartbeat / 2 {
                self.start_check(now);
            } else if gap > heartbeat + heartbeat / 2 {
                let age = window.saturating_sub(heartbeat);
                self.contacts.values_mut().for_each(|contact| contact.excuse_lateness(now, age));
                self.is_news = true;
            }
        }
        true
    }

    /// Closes a call: judges, if there is reason to, and tells what is due.
    fn finish(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        self.is_news |= self.judge_at.is_some_and(|at| at <= now);
        let due = self.judgement_due();
        if self.is_news && due > now {
            self.judge_at = Some(self.judge_at.map_or(due, |at| at.min(due)));
        } else if self.is_news {
            self.judged_at = now;
            // What one judgement changes may change the next; each step ends lives or brings some
            // in, so this ends.
            while std::mem::take(&mut self.is_news) {
                self.judge(now);
            }
            self.judge_at = self.next_judgement(now);
        }
        if !self.contacts.is_empty() && self.voice.due(&self.timing, self.contacts.len()) <= now {
            self.speak(now);
        }
        self.close_call();
    }

    /// From when on all may be judged again. It costs the more the more there are: in a mesh that
    /// forms, where there is news at every moment, most of it can be judged together.
    fn judgement_due(&self) -> Instant {
        let many = u32::try_from(self.contacts.len()).unwrap_or(u32::MAX);
        if many <= FEW {
            return self.judged_at;
        }
        let pace = Duration::from_micros(500) * many;
        self.judged_at + pace.min(self.timing.heartbeat / 4)
    }

    fn close_call(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        out.close(|| MemberOutput::Announce {
            me: self.me().clone(),
            known: self.others(),
            fenced: self.fences.list(),
        });
        self.out = out;
    }

    fn known(&self) -> Known<'_> {
        Known {
            now: self.now,
            timing: &self.timing,
            me: self.me().life(),
            view: self.voice.lives(),
            contacts: &self.contacts,
            fences: &self.fences,
            dialling: &self.dialling,
            mute: &self.mute,
        }
    }

    fn contact_of(&self, run: NodeRun) -> Option<&Contact> {
        self.contacts.get(&run.node).filter(|contact| contact.run() == run)
    }

    /// Everything that follows from what is known now.
    fn judge(&mut self, now: Instant) {
        self.settle_rivals(now);
        self.regard(now);
        self.settle_suspects(now);
        self.take_in();
        self.settle_founding(now);
        self.settle_check(now);
        self.look_at_links(now);
        self.forget_old(now);
        self.update_status(now);
    }

    fn next_judgement(&self, now: Instant) -> Option<Instant> {
        let contacts = self.contacts.values().filter_map(|c| c.deadline(now, &self.timing)).min();
        let verdict = verdict::lonely_deadline(now, &self.timing, &self.view, &self.contacts);
        let joining =
            || self.contacts.values().filter(|c| !self.view.members.contains_key(&c.life().node));
        let delayed = joining().map(|contact| contact.delay_told_at(&self.timing));
        let steady = joining().map(|contact| contact.since() + self.timing.heartbeat);
        [
            contacts,
            verdict,
            delayed.filter(|at| *at > now).min(),
            steady.filter(|at| *at > now).min(),
            self.rivals.deadline(),
            self.mute.deadline(now),
            self.dialling.deadline(),
            self.founder.deadline(now),
            self.check.deadline(self.timing.heartbeat),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    // ---- Links and Hellos

    fn take_hello(&mut self, now: Instant, mut hello: Hello) {
        let (node, run) = (hello.me.id, hello.me.run());
        let is_over = self.fences.covers(node, hello.me.incarnation);
        let known = self.contacts.get(&node).map(|contact| KnownRun {
            nonce: contact.incarnation().nonce,
            is_heard: contact.is_heard(now, &self.timing),
            is_linked: contact.is_linked(),
        });
        let was_refused = self.rivals.was_refused(run);
        let greeting = Greeting::of(self.me, &hello.me, is_over, known, was_refused);
        hello.me = described(hello.me);
        if greeting.is_believed()
            && let Some(fenced) = hello.fenced
        {
            self.renew_above(fenced);
        }
        match greeting {
            Greeting::Own => self.out.disconnect(node, "it has this node's own key"),
            Greeting::Absurd => self.out.refuse(node, "its incarnation is absurd"),
            Greeting::Over => self.turn_away(now, &hello.me),
            Greeting::New => {
                self.meet(now, hello.me, true);
                self.take_hints(now, hello.known);
            }
            Greeting::Again => {
                self.meet_again(now, &hello.me);
                self.take_hints(now, hello.known);
            }
            Greeting::Successor => self.replace(now, hello),
            Greeting::Rival => {
                let patience = self.timing.heartbeat + self.timing.heartbeat / 2;
                self.rivals.hold(now, hello, patience);
                self.is_news = true;
            }
            Greeting::Twin => self.out.refuse(node, "another process with the same key is alive"),
        }
    }

    /// The run that is known is linked anew.
    fn meet_again(&mut self, now: Instant, told: &Member) {
        let node = told.id;
        self.learn(told);
        if let Some(contact) = self.contacts.get_mut(&node) {
            contact.linked(now);
        }
        self.rivals.forgive(node);
        self.is_news = true;
        self.voice.has_news();
        if self.check.is_waiting_for(node) {
            self.ask_whether_this_life_counts(node);
        }
    }

    /// Takes a node that is not known any more, in a new run, unless its life is over.
    fn welcome(&mut self, now: Instant, hello: Hello) {
        if self.fences.covers(hello.me.id, hello.me.incarnation) {
            self.turn_away(now, &hello.me);
        } else {
            self.meet(now, hello.me, true);
            self.take_hints(now, hello.known);
        }
    }

    /// Refuses a life that is over and says so; it comes back with a higher one.
    fn turn_away(&mut self, now: Instant, member: &Member) {
        self.tell_fenced(member.id, member.incarnation);
        self.out.disconnect(member.id, "this life of it is over");
        self.dial_lost(now, member);
    }

    /// Meets a node: from now on it is a contact, heard or not.
    fn meet(&mut self, now: Instant, member: Member, is_linked: bool) {
        let node = member.id;
        if self.contacts.len() >= dialling::LIMIT + self.view.members.len() {
            self.out.refuse(node, "there is no room for so many nodes");
            return;
        }
        if self.contacts.is_empty() {
            self.voice.begin(now, self.timing.heartbeat);
        }
        let dialled = self.dialling.met(node);
        if dialled.is_none_or(|addresses| addresses != member.addresses) {
            self.out.connect(node, member.addresses.clone());
        }
        self.contacts.insert(node, Contact::met(now, member, is_linked));
        // Whoever is met next learns of it.
        if !self.founder.is_waiting() {
            self.out.announce();
        }
        self.voice.has_news();
        self.is_news = true;
    }

    fn settle_rivals(&mut self, now: Instant) {
        for due in self.rivals.due(now) {
            let node = due.hello.me.id;
            let contact = self.contacts.get(&node);
            let answered = contact.and_then(Contact::heard_at).is_some_and(|at| at > due.since);
            if !answered {
                self.replace(now, due.hello);
                continue;
            }
            self.rivals.refuse(due.hello.me.run());
            self.out.refuse(node, "another process with the same key is alive");
            let addresses = contact_addresses(&self.contacts, node);
            self.out.connect(node, addresses);
        }
    }

    /// The known run of this node is dead, the new one takes its place.
    fn replace(&mut self, now: Instant, hello: Hello) {
        self.remove(now, hello.me.id, Out::Replaced);
        self.welcome(now, hello);
    }

    fn look_at_links(&mut self, now: Instant) {
        for (node, contact) in &mut self.contacts {
            let news = contact.look_at_link(now, &self.timing);
            let (node, addresses) = (*node, contact.member().addresses.clone());
            if news.is_silent {
                self.out.silent(node, addresses.clone());
            }
            if news.is_missing {
                tracing::warn!(node = %self.me, peer = %node, ?addresses, "there is no working link");
                self.out.event(HubEvent::LinkMissing { node, addresses });
            }
            if news.is_restored {
                self.out.event(HubEvent::LinkRestored { node });
            }
        }
    }

    // ---- What others say

    fn take_heartbeat(&mut self, now: Instant, from: NodeRun, is_straight: bool, word: MemberWord) {
        let MemberWord::Heartbeat { incarnation, number, view, pulse, hears, fence, status } = word
        else {
            return;
        };
        if incarnation.nonce != from.nonce || !is_plausible(incarnation) {
            return;
        }
        if let Some(fence) = fence {
            self.renew_above(fence);
        }
        if self.fences.covers(from.node, incarnation) {
            self.tell_fenced(from.node, incarnation);
            return;
        }
        let status = status.filter(|s| s.me.id == from.node && s.me.incarnation == incarnation);
        let status = status.map(|status| sorted(*status));
        match self.contacts.get(&from.node) {
            // By way of others: it has to say who it is.
            None => match &status {
                Some(status) => self.meet(now, status.me.clone(), false),
                None => return,
            },
            Some(contact) if contact.run() != from => return,
            // A word of the life before.
            Some(contact) if incarnation < contact.incarnation() => return,
            Some(contact) if incarnation > contact.incarnation() && status.is_none() => {
                let renewed = Member { incarnation, ..contact.member().clone() };
                self.learn(&renewed);
            }
            Some(_) => {}
        }
        if let Some(status) = &status {
            self.learn(&status.me);
        }
        let mine = self.incarnation();
        let voice = &self.voice;
        let Some(contact) = self.contacts.get_mut(&from.node) else { return };
        if is_straight && contact.is_linked() {
            contact.take_pulse(now, voice.clock(now), pulse);
        }
        let lives_of = |id: ViewId| voice.lives_of(id).cloned();
        let news =
            contact.take_heartbeat(now, &self.timing, mine, number, view, hears, status, lives_of);
        if news.is_late {
            return;
        }
        self.is_news |= news.is_news;
        // In a large mesh what is not known is mostly on its way: asked with the next heartbeat.
        let may_wait = self.contacts.len() > FEW as usize && news.is_news;
        let Some(contact) = self.contacts.get_mut(&from.node) else { return };
        if news.is_unknown && !may_wait && contact.may_ask(now, &self.timing) {
            self.out.send(from.node, MemberWord::Ask);
        }
    }

    fn take_view(
        &mut self,
        now: Instant,
        from: NodeId,
        view: ViewId,
        base: Option<ViewId>,
        members: Vec<Member>,
        gone: &[NodeId],
    ) {
        let Some(contact) = self.contacts.get_mut(&from) else { return };
        let members: Vec<Member> = members.into_iter().take(LISTED).map(described).collect();
        let before = match base {
            None => Some(Arc::default()),
            Some(base) => contact.lives_of(base).or_else(|| self.voice.lives_of(base)).cloned(),
        };
        match before {
            Some(before) => {
                let changed = members.iter().map(Member::life).collect();
                contact.take_view(view, Some(before), changed, gone);
                self.is_news = true;
            }
            None if contact.may_ask(now, &self.timing) => self.out.send(from, MemberWord::Ask),
            None => {}
        }
        self.take_hints(now, members);
    }

    /// A node describes itself, or somebody tells how it did.
    fn learn(&mut self, told: &Member) {
        let node = told.id;
        let Some(contact) = self.contacts.get_mut(&node) else { return };
        let Some(before) = contact.describe(told) else { return };
        let told = &contact.member().clone();
        self.is_news = true;
        if before.addresses != told.addresses {
            self.out.connect(node, told.addresses.clone());
        }
        if before.incarnation != told.incarnation {
            tracing::info!(node = %self.me, peer = %node, "a node came back in a later life");
        }
        let Some(member) = self.view.members.get_mut(&node) else { return };
        let was_leaving = member.state == MemberState::Leaving;
        let is_leaving = told.state == MemberState::Leaving;
        let state = match (is_leaving, member.state) {
            (true, _) => MemberState::Leaving,
            (false, MemberState::Suspect) => MemberState::Suspect,
            (false, _) => MemberState::Alive,
        };
        *member = Member { state, ..told.clone() };
        if is_leaving && !was_leaving {
            self.out.event(HubEvent::NodeLeaving { node });
        }
        self.view_moved();
    }

    /// Others name nodes: hints to dial, no admission.
    fn take_hints(&mut self, now: Instant, members: Vec<Member>) {
        for told in members.into_iter().take(LISTED).map(described) {
            let over = self.fences.covers(told.id, told.incarnation);
            if told.id == self.me || over || !is_plausible(told.incarnation) {
                continue;
            }
            match self.contacts.get(&told.id).map(Contact::run) {
                // While it has a link of its own it says such things itself; a later life is taken
                // from nobody else.
                Some(run) if run == told.run() => {
                    let known = self.contacts.get(&told.id).map(Contact::incarnation);
                    if known == Some(told.incarnation) {
                        self.learn(&told);
                    }
                }
                Some(_) => {}
                None => {
                    if self.dialling.name(now, &told) {
                        self.out.connect(told.id, told.addresses);
                    }
                }
            }
        }
    }

    /// This life, or a later one, was declared over: come back above it.
    fn renew_above(&mut self, fenced: Incarnation) {
        let incarnation = self.incarnation();
        if fenced < incarnation || !is_plausible(fenced) {
            return;
        }
        tracing::warn!(node = %self.me, "this node was declared down and comes back");
        self.change_me(|me| me.incarnation.started = fenced.started + 1);
        self.out.renewed();
        if fenced.nonce == incarnation.nonce {
            self.out.event(HubEvent::Rejoined);
        }
        if self.check.end() {
            self.out.gates(true);
        }
    }

    // ---- Who comes in

    fn take_in(&mut self) {
        let known = self.known();
        let mut lives = known.follow(self.founder.is_waiting());
        let follows = lives != *known.view;
        if !self.founder.is_waiting() && !follows {
            lives = known.conclude();
        }
        let new: Vec<NodeId> =
            lives.keys().filter(|node| !self.view.members.contains_key(*node)).copied().collect();
        let mut moved = false;
        for node in new {
            let Some(contact) = self.contacts.get(&node) else { continue };
            let member = contact.member().clone();
            let (name, is_leaving) = (member.name.clone(), member.state == MemberState::Leaving);
            tracing::info!(node = %self.me, peer = %node, "a node joined");
            self.view.members.insert(node, member);
            self.out.event(HubEvent::NodeJoined { node, name });
            if is_leaving {
                self.out.event(HubEvent::NodeLeaving { node });
            }
            self.founder.taken_in();
            moved = true;
        }
        if moved {
            self.view_moved();
            if follows {
                self.voice.follows();
            }
        }
    }

    fn settle_founding(&mut self, now: Instant) {
        let heard =
            self.contacts.values().filter(|contact| contact.is_heard(now, &self.timing)).map(
                |contact| founding::Heard {
                    node: contact.life().node,
                    waiting: contact.status().map(|status| status.waiting),
                },
            );
        if self.founder.found(now, self.me, heard) {
            tracing::info!(node = %self.me, "this node founds a cluster");
            self.out.event(HubEvent::Founded);
            self.out.view_changed();
            self.is_news = true;
        }
        if self.founder.is_told(now) {
            let seeds: Vec<(String, SeedOutcome)> = self
                .founder
                .seeds()
                .map(|(seed, outcome)| (seed.clone(), outcome.clone()))
                .collect();
            let told: Vec<String> =
                seeds.iter().map(|(seed, outcome)| format!("{seed}: {outcome}")).collect();
            tracing::warn!(node = %self.me, seeds = told.join(", "), "waiting for a seed");
            self.out.event(HubEvent::WaitingForSeeds { seeds });
        }
        self.tell_delays(now);
    }

    /// Who is heard and not in for long is told, with the reason.
    fn tell_delays(&mut self, now: Instant) {
        let mut delayed = Vec::new();
        for (node, contact) in &mut self.contacts {
            if !self.view.members.contains_key(node)
                && contact.is_heard(now, &self.timing)
                && contact.is_delayed(now, &self.timing)
            {
                delayed.push(*node);
            }
        }
        for node in delayed {
            let life = self.contacts.get(&node).map(Contact::life);
            let missing = life.map(|life| self.known().missing(life)).unwrap_or_default();
            tracing::warn!(node = %self.me, peer = %node, ?missing, "a node cannot come in");
            self.out.event(HubEvent::JoinDelayed { node, missing });
        }
    }

    // ---- Who is suspected, and goes

    /// Who does not hear, or is not heard, is suspect.
    fn regard(&mut self, now: Instant) {
        for (node, member) in &mut self.view.members {
            let Some(contact) = self.contacts.get(node) else { continue };
            let is_suspicious = contact.is_suspicious(now, &self.timing);
            let node = *node;
            match (is_suspicious, member.state) {
                (true, MemberState::Alive) => member.state = MemberState::Suspect,
                (false, MemberState::Suspect) => member.state = MemberState::Alive,
                _ => continue,
            }
            let event = if is_suspicious {
                HubEvent::NodeSuspected { node }
            } else {
                HubEvent::NodeRecovered { node }
            };
            tracing::debug!(node = %self.me, peer = %node, is_suspicious, "regarded otherwise");
            self.out.event(event);
            self.out.regarded();
        }
    }

    fn settle_suspects(&mut self, now: Instant) {
        let verdicts = verdict::due(now, &self.timing, self.me, &self.view, &self.contacts);
        let Some(verdict) = verdicts.into_iter().next() else { return };
        // Each verdict changes who is asked about the next suspect.
        self.is_news = true;
        if !self.founder.is_proven() {
            // Who has not settled yet declares nobody: cut off just after it was taken in, it would
            // put healthy members out, or act as a second cluster.
            self.reset(now);
            return;
        }
        let Life { node, incarnation } = verdict.life;
        let mut voters = verdict.voters;
        voters.push(self.me);
        let others: Vec<NodeId> =
            self.contacts.keys().copied().filter(|peer| *peer != node).collect();
        for to in others {
            let voters = voters.clone();
            self.out.send(to, MemberWord::Down { about: node, incarnation, voters });
        }
        self.remove(now, node, Out::Down);
    }

    /// Back to waiting, with everything forgotten that was heard: what is still true is heard again.
    fn reset(&mut self, now: Instant) {
        tracing::warn!(node = %self.me, "this node was cut off before it had settled, and waits again");
        let me = self.me;
        self.view.members.retain(|node, _| *node == me);
        let unlinked = self.contacts.iter().filter(|(_, contact)| !contact.is_linked());
        for node in unlinked.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.lose_sight(now, node);
        }
        self.contacts.values_mut().for_each(|contact| contact.forget_words(now));
        self.founder.reset(now, self.timing.join_timeout);
        self.out.view_changed();
        self.view_moved();
        for node in self.contacts.keys().copied().collect::<Vec<_>>() {
            self.out.send(node, MemberWord::Ask);
        }
    }

    /// Somebody says that a life is over.
    fn take_verdict(&mut self, now: Instant, life: Life, voters: &[NodeId]) {
        let Life { node, incarnation } = life;
        if node == self.me {
            if incarnation.nonce == self.incarnation().nonce {
                self.renew_above(incarnation);
            }
            return;
        }
        if self.fences.covers(node, incarnation) {
            return;
        }
        let known = self.contacts.get(&node);
        if voters.contains(&self.me) && self.votes.binds(life) {
            self.votes.forget(node);
            if known.is_some_and(|contact| contact.incarnation() <= incarnation) {
                self.remove(now, node, Out::Down);
            }
            if self.fences.raise(node, incarnation) {
                self.out.announce();
            }
            self.is_news = true;
        } else if known.is_some_and(|contact| {
            contact.incarnation() <= incarnation && contact.is_heard(now, &self.timing)
        }) {
            // It lives, and is refused wherever the verdict binds until it knows of it.
            self.out.send(node, MemberWord::Fenced { incarnation });
        }
    }

    /// Takes a node out and ends its life.
    fn remove(&mut self, now: Instant, node: NodeId, out: Out) {
        let Some(contact) = self.contacts.remove(&node) else { return };
        let member = contact.member().clone();
        let was_in = self.view.members.remove(&node).is_some();
        self.is_news = true;
        self.routes.changed();
        self.votes.forget(node);
        if was_in || out != Out::Replaced {
            self.fences.raise(node, member.incarnation);
        }
        let left = out == Out::Left;
        if was_in {
            self.view_moved();
            let event =
                if left { HubEvent::NodeLeft { node } } else { HubEvent::NodeDown { node } };
            self.out.event(event);
            self.out.gone(member.run(), left);
            tracing::info!(node = %self.me, peer = %node, left, "a node is out");
        }
        if was_in && !left {
            self.dialling.note_crash(now, node);
        }
        if out == Out::Replaced {
            return;
        }
        if let Some(hello) = self.rivals.take(node) {
            self.welcome(now, hello);
            return;
        }
        self.out.disconnect(node, if left { "it left" } else { "it was declared down" });
        if out == Out::Down {
            self.dial_lost(now, &member);
        }
    }

    fn dial_lost(&mut self, now: Instant, member: &Member) {
        let addresses = member.addresses.clone();
        if self.dialling.lose(now, member.id, member.incarnation, addresses.clone()) {
            self.out.connect(member.id, addresses);
        }
    }

    fn forget_old(&mut self, now: Instant) {
        for node in self.dialling.forget_old(now) {
            if !self.contacts.contains_key(&node) {
                self.out.disconnect(node, "it was not reached for long");
            }
        }
        let silent: Vec<NodeId> = self
            .contacts
            .iter()
            .filter(|(node, contact)| {
                !self.view.members.contains_key(*node)
                    && !contact.is_linked()
                    && !contact.is_heard(now, &self.timing)
            })
            .map(|(node, _)| *node)
            .collect();
        silent.into_iter().for_each(|node| self.lose_sight(now, node));
        // A link to a host that was switched off and is back carries nothing, and nobody but a member
        // is suspected: without a new one neither end would learn of the other.
        let stale: Vec<NodeId> = self
            .contacts
            .iter()
            .filter(|(node, contact)| {
                !self.view.members.contains_key(*node) && contact.is_stale(now, &self.timing)
            })
            .map(|(node, _)| *node)
            .collect();
        for node in stale {
            let addresses = contact_addresses(&self.contacts, node);
            self.out.disconnect(node, "nothing comes over it");
            self.lose_sight(now, node);
            if self.dialling.holds(node) {
                self.out.connect(node, addresses);
            }
        }
    }

    /// It is no contact any more, is dialled on for a while, and met again when it answers.
    fn lose_sight(&mut self, now: Instant, node: NodeId) {
        let Some(contact) = self.contacts.remove(&node) else { return };
        self.routes.changed();
        self.dialling.name(now, contact.member());
        if !self.dialling.holds(node) {
            self.out.disconnect(node, "there is no room for so many nodes");
        }
    }

    // ---- Pauses

    /// Peers may not have heard this node for the suspicion window: they may have declared it down.
    fn start_check(&mut self, now: Instant) {
        let silent_for = self.voice.silent_for(now);
        tracing::warn!(node = %self.me, ?silent_for, "this node did not run for long");
        let mut waiting = BTreeSet::new();
        for (node, contact) in &mut self.contacts {
            let was_suspect =
                self.view.members.get(node).is_some_and(|m| m.state == MemberState::Suspect);
            contact.excuse(now);
            if self.view.members.contains_key(node) && !was_suspect {
                waiting.insert(*node);
            }
        }
        self.rivals.excuse(now, self.timing.heartbeat + self.timing.heartbeat / 2);
        self.voice.hurry(now);
        self.is_news = true;
        if waiting.is_empty() && self.view.members.len() == 1 {
            return;
        }
        if self.check.begin(now, self.timing.window, waiting) {
            self.out.gates(false);
        }
        for node in self.check.waiting() {
            self.ask_whether_this_life_counts(node);
        }
    }

    fn ask_whether_this_life_counts(&mut self, node: NodeId) {
        let (incarnation, question) = (self.incarnation(), self.check.question());
        self.out.send(node, MemberWord::Confirm { incarnation, question });
    }

    fn settle_check(&mut self, now: Instant) {
        let (contacts, members, timing) = (&self.contacts, &self.view.members, &self.timing);
        let counts = |node: NodeId| {
            members.contains_key(&node)
                && contacts.get(&node).is_some_and(|contact| !contact.is_suspicious(now, timing))
        };
        match self.check.go_on(now, timing.heartbeat, counts) {
            Due::Nothing => {}
            Due::Ask(nodes) => {
                nodes.into_iter().for_each(|node| self.ask_whether_this_life_counts(node));
            }
            Due::Over => {
                self.check.end();
                self.out.gates(true);
            }
        }
    }

    // ---- What is told

    fn update_status(&mut self, now: Instant) {
        let known = self.known();
        let mut joining: Vec<Life> = known.listed().map(Contact::life).collect();
        joining.sort_unstable();
        let unlinked: Vec<NodeId> = self
            .contacts
            .iter()
            .filter(|(_, contact)| !contact.link_works(now, &self.timing))
            .map(|(node, _)| *node)
            .take(LISTED)
            .collect();
        let mut silent = verdict::unheard(now, &self.timing, &known);
        let votes = &mut self.votes;
        silent.retain(|life| votes.give(*life));
        let view = &self.view;
        let about: BTreeSet<NodeId> = silent.iter().map(|life| life.node).collect();
        self.votes.keep(|node| view.members.contains_key(&node) || about.contains(&node));
        let me = self.me().clone();
        let waiting = self.founder.waiting();
        let contacts = &self.contacts;
        let waits = |life: &Life| {
            contacts
                .get(&life.node)
                .is_some_and(|c| c.status().is_none_or(|status| status.waiting.is_some()))
        };
        let status = Status { me, waiting, silent, joining, unlinked };
        if self.voice.set_status(status, waits) {
            self.out.reached();
        }
        if waiting.is_some() {
            // Some contact may wait no longer, and is to be told the whole.
            self.voice.has_news();
        }
        self.routes.changed();
    }

    fn speak(&mut self, now: Instant) {
        let timing = self.timing;
        let is_beat = self.voice.is_beat(now);
        let said =
            self.voice.speak(now, &timing, &self.view.members, &mut self.contacts, &self.fences);
        for Said { to, word, is_probe } in said {
            if is_probe {
                self.out.probe(to, word);
            } else {
                self.out.send(to, word);
            }
        }
        if !is_beat {
            return;
        }
        let unmet: Vec<NodeRun> = self.dialling.unmet(now, timing.heartbeat).collect();
        for to in unmet {
            let word = self.voice.greeting(now, to.node, &self.fences);
            self.out.greet(to, word);
        }
    }

    /// Tells a life that it is over. It is no contact any more, so it is named by its run.
    fn tell_fenced(&mut self, node: NodeId, incarnation: Incarnation) {
        if let Some(fenced) = self.fences.of(node).filter(|fenced| incarnation <= *fenced) {
            let word = MemberWord::Fenced { incarnation: fenced };
            self.out.greet(incarnation.run_of(node), word);
        }
    }

    fn change_me(&mut self, change: impl FnOnce(&mut Member)) {
        if let Some(me) = self.view.members.get_mut(&self.me) {
            change(me);
            me.revision += 1;
        }
        self.is_news = true;
        self.view_moved();
    }

    /// What is in the view changed: judgements that follow in this call go by the new one.
    fn view_moved(&mut self) {
        self.out.announce();
        self.is_news = true;
        self.voice.has_news();
        // How a member describes itself may have changed without a change of the view.
        self.out.regarded();
        if self.voice.set_view(&self.view) {
            self.out.view_changed();
        }
    }

    fn others(&self) -> Vec<Member> {
        let others = self.view.members.values().filter(|member| member.id != self.me);
        // Newcomers learn of each other where they come in, so that they need not do so one by one.
        let joining = self.contacts.values().map(Contact::member).filter(|member| {
            !self.founder.is_waiting() && !self.view.members.contains_key(&member.id)
        });
        others.chain(joining).take(LISTED).cloned().map(described).collect()
    }

    fn send_to_all(&mut self, word: &MemberWord) {
        for to in self.contacts.keys().copied().collect::<Vec<_>>() {
            self.out.send(to, word.clone());
        }
    }
}

/// How a member goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    /// It said `Bye`.
    Left,
    /// It was declared down, and is dialled in case it lives.
    Down,
    /// Another run of its node took its place.
    Replaced,
}

fn contact_addresses(contacts: &BTreeMap<NodeId, Contact>, node: NodeId) -> Vec<String> {
    contacts.get(&node).map(|contact| contact.member().addresses.clone()).unwrap_or_default()
}
