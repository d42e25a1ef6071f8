//! One rule at a time: what comes in, and all that comes out.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{MemberOutput, Membership, founding::Founding, voice::LISTED};
use crate::model::{
    address::SeedOutcome,
    event::HubEvent,
    id::{HubName, Incarnation, Life, NodeId, NodeName, NodeRun},
    member::{Hello, Member, MemberState, View, ViewId, WIRE_VERSION},
    message::{Heard, MemberWord, Pulse, Status},
    settings::Settings,
};

const SECOND: Duration = Duration::from_secs(1);
const HALF: Duration = Duration::from_millis(500);
const QUARTER: Duration = Duration::from_millis(250);

fn id(n: u8) -> NodeId {
    NodeId::from_key([n; 32])
}

fn life(n: u8) -> Incarnation {
    Incarnation { started: 100, nonce: u64::from(n) }
}

fn lives(nodes: &[u8]) -> Vec<Life> {
    nodes.iter().map(|n| member(*n).life()).collect()
}

fn run(n: u8) -> NodeRun {
    life(n).run_of(id(n))
}

fn member(n: u8) -> Member {
    Member {
        id: id(n),
        incarnation: life(n),
        name: NodeName::new(format!("node-{n}")).expect("a plain word"),
        addresses: vec![format!("/memory/{n}")],
        weight: 1,
        state: MemberState::Alive,
        revision: 0,
    }
}

fn second_run(n: u8) -> Member {
    Member { incarnation: Incarnation { started: 300, nonce: 1_000 }, ..member(n) }
}

fn view(nodes: &[u8]) -> View {
    View { members: nodes.iter().map(|n| (id(*n), member(*n))).collect() }
}

fn hello(me: Member, known: Vec<Member>) -> Hello {
    let hub = HubName::new("test").expect("a plain word");
    Hello { version: WIRE_VERSION, hub, me, fenced: None, known, dialled: None }
}

fn status(me: Member) -> Status {
    Status { me, waiting: None, silent: vec![], joining: vec![], unlinked: vec![] }
}

fn send(to: u8, word: MemberWord) -> MemberOutput {
    MemberOutput::Send { to: id(to), word }
}

fn greet(to: NodeRun, word: MemberWord) -> MemberOutput {
    MemberOutput::Greet { to, word }
}

fn connect(n: u8) -> MemberOutput {
    MemberOutput::Connect { node: id(n), addresses: vec![format!("/memory/{n}")] }
}

fn disconnect(n: u8, reason: &str) -> MemberOutput {
    MemberOutput::Disconnect { node: id(n), reason: reason.to_owned() }
}

fn joined(n: u8) -> MemberOutput {
    MemberOutput::Event(HubEvent::NodeJoined { node: id(n), name: member(n).name })
}

fn suspected(n: u8) -> MemberOutput {
    MemberOutput::Event(HubEvent::NodeSuspected { node: id(n) })
}

fn recovered(n: u8) -> MemberOutput {
    MemberOutput::Event(HubEvent::NodeRecovered { node: id(n) })
}

fn down(about: u8, voters: &[u8]) -> MemberWord {
    let voters = voters.iter().map(|n| id(*n)).collect();
    MemberWord::Down { about: id(about), incarnation: life(about), voters }
}

fn confirm(question: u64) -> MemberWord {
    MemberWord::Confirm { incarnation: life(1), question }
}

fn confirmed(question: u64) -> MemberWord {
    MemberWord::Confirmed { incarnation: life(1), question }
}

/// What follows from the verdict on `n`, after the words to others.
fn gone_down(n: u8) -> Vec<MemberOutput> {
    vec![
        MemberOutput::Event(HubEvent::NodeDown { node: id(n) }),
        MemberOutput::Gone { run: run(n), left: false },
        disconnect(n, "it was declared down"),
        connect(n),
        MemberOutput::ViewChanged,
    ]
}

fn fenced(n: u8) -> MemberWord {
    MemberWord::Fenced { incarnation: life(n) }
}

impl Membership {
    /// Whether this run is in; suspects and leaving ones are.
    pub(crate) fn is_live(&self, run: NodeRun) -> bool {
        self.view().is_live(run)
    }

    /// Whether something came from this member lately, by whatever path.
    pub(crate) fn is_heard(&self, node: NodeId) -> bool {
        let contact = self.roster.contact(node);
        contact.is_some_and(|contact| contact.is_heard(self.now, &self.timing))
    }

    /// Whether this life is over: its words and frames are refused.
    pub(super) fn fenced(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.fences.covers(node, incarnation)
    }

    /// How many lives it votes against.
    pub(super) fn status_len(&self) -> usize {
        self.voice.status().silent.len()
    }
}

/// Node 1 with the default settings (heartbeat 1 s, window 3 s), and its clock.
pub(crate) struct Bench {
    pub(crate) membership: Membership,
    now: Instant,
    /// The number of the latest heartbeat that came from anybody.
    number: u64,
    /// What each of the others said last of its view.
    views: BTreeMap<u8, ViewId>,
}

impl Bench {
    pub(crate) const WINDOW: Duration = Duration::from_secs(3);

    pub(crate) fn run(n: u8) -> NodeRun {
        run(n)
    }

    /// Founded a cluster of one.
    fn alone() -> Self {
        Self::begin(Founding::Found)
    }

    /// Waits to be taken in.
    fn waiting() -> Self {
        Self::begin(Founding::Seeds(vec!["a".to_owned()]))
    }

    fn begin(founding: Founding) -> Self {
        let now = Instant::now();
        let mut membership = Membership::alone(member(1), &Settings::default(), founding, now);
        let first = MemberOutput::Announce { me: member(1), known: Vec::new(), fenced: Vec::new() };
        assert_eq!(membership.next_output(), Some(first));
        while membership.next_output().is_some() {}
        Self { membership, now, number: 0, views: BTreeMap::new() }
    }

    /// Node 1 in one view with `others`, linked with each, and settled.
    pub(crate) fn with(others: &[u8]) -> Self {
        let mut bench = Self::alone();
        bench.join(others);
        bench
    }

    /// All become members: the first tells of the whole view.
    fn join(&mut self, others: &[u8]) {
        let mut all = others.to_vec();
        all.push(1);
        for n in others {
            self.membership.linked(self.now, hello(member(*n), Vec::new()));
        }
        for n in others {
            self.tells_view(*n, &all);
            self.says(*n, |_| {});
        }
        assert_eq!(self.membership.view().members.len(), others.len() + 1, "they are in");
        self.membership.settled(self.now);
        self.all();
    }

    fn all(&mut self) -> Vec<MemberOutput> {
        std::iter::from_fn(|| self.membership.next_output()).collect()
    }

    /// All outputs but heartbeats, views and announcements.
    fn outputs(&mut self) -> Vec<MemberOutput> {
        let mut outputs = self.all();
        let is_voice = |word: &MemberWord| {
            matches!(word, MemberWord::Heartbeat { .. } | MemberWord::View { .. })
        };
        outputs.retain(|output| match output {
            MemberOutput::Send { word, .. }
            | MemberOutput::Probe { word, .. }
            | MemberOutput::Greet { word, .. } => !is_voice(word),
            MemberOutput::Announce { .. } | MemberOutput::Regarded | MemberOutput::Reached => false,
            _ => true,
        });
        outputs
    }

    /// A word that came over the link.
    fn handle(&mut self, from: NodeRun, word: MemberWord) -> Vec<MemberOutput> {
        self.membership.heard(self.now, from);
        self.membership.handle(self.now, from, true, word);
        self.outputs()
    }

    fn word(&mut self, from: u8, word: MemberWord) -> Vec<MemberOutput> {
        self.handle(run(from), word)
    }

    fn view_of(&self, n: u8) -> ViewId {
        self.views.get(&n).copied().unwrap_or_else(|| view(&[n]).id())
    }

    /// A heartbeat of `n` that says that it hears node 1, and nothing new of itself.
    fn beat(&mut self, n: u8) -> MemberWord {
        self.number += 1;
        MemberWord::Heartbeat {
            incarnation: life(n),
            number: self.number,
            view: self.view_of(n),
            pulse: Pulse::default(),
            hears: Some(Heard { incarnation: self.membership.incarnation(), straight: true }),
            fence: None,
            status: None,
        }
    }

    /// A heartbeat of `n` with its status, changed by `change`.
    fn tell(&mut self, n: u8, change: impl FnOnce(&mut Status)) -> MemberWord {
        let mut told = status(member(n));
        change(&mut told);
        let mut word = self.beat(n);
        if let MemberWord::Heartbeat { status, .. } = &mut word {
            *status = Some(Box::new(told));
        }
        word
    }

    fn says(&mut self, n: u8, change: impl FnOnce(&mut Status)) -> Vec<MemberOutput> {
        let word = self.tell(n, change);
        self.word(n, word)
    }

    /// `n` says that it hears these nodes, which are outside its view.
    fn lists(&mut self, n: u8, joining: &[u8]) -> Vec<MemberOutput> {
        self.says(n, |status| status.joining = lives(joining))
    }

    /// `n` says that it does not hear these.
    fn votes_against(&mut self, n: u8, silent: &[u8]) -> Vec<MemberOutput> {
        self.says(n, |status| status.silent = lives(silent))
    }

    /// `n` tells that these are in its view.
    fn tells_view(&mut self, n: u8, nodes: &[u8]) -> Vec<MemberOutput> {
        let view = view(nodes);
        self.views.insert(n, view.id());
        let members = view.members.values().cloned().collect();
        self.word(n, MemberWord::View { view: view.id(), base: None, members, gone: vec![] })
    }

    fn link(&mut self, hello: Hello) -> Vec<MemberOutput> {
        self.membership.linked(self.now, hello);
        self.outputs()
    }

    pub(crate) fn unlink(&mut self, n: u8) -> Vec<MemberOutput> {
        self.membership.unlinked(self.now, run(n));
        self.outputs()
    }

    fn refused(&mut self, n: u8) -> Vec<MemberOutput> {
        self.membership.unreachable(self.now, id(n), true);
        self.outputs()
    }

    /// Time passes in small steps, and in each a heartbeat of these nodes comes.
    pub(crate) fn pass(&mut self, time: Duration, heard: &[u8]) -> Vec<MemberOutput> {
        let end = self.now + time;
        while self.now < end {
            self.now += QUARTER;
            for n in heard {
                self.membership.heard(self.now, run(*n));
                let word = self.beat(*n);
                self.membership.handle(self.now, run(*n), true, word);
            }
            self.membership.tick(self.now);
        }
        self.outputs()
    }

    fn state(&self, n: u8) -> Option<MemberState> {
        self.membership.view().member(id(n)).map(|member| member.state)
    }

    fn members(&self) -> Vec<u8> {
        self.membership.view().members.keys().map(|node| node.key()[0]).collect()
    }

    /// What this node tells all of itself.
    fn status(&self) -> &Status {
        self.membership.voice.status()
    }
}

// ---- Rule 1: hearing is two-way

#[test]
fn a_member_that_is_heard_and_does_not_say_that_it_hears_this_node_is_suspect() {
    let mut bench = Bench::with(&[2, 3]);
    let mut suspected_after = None;
    for quarter in 1..=12 {
        bench.now += QUARTER;
        for n in [2, 3] {
            let mut word = bench.beat(n);
            if let MemberWord::Heartbeat { hears, .. } = &mut word
                && n == 3
            {
                *hears = None;
            }
            if bench.word(n, word).contains(&suspected(3)) {
                suspected_after = Some(quarter);
            }
        }
    }
    assert_eq!(suspected_after, Some(12), "a window");
    let outputs = bench.votes_against(2, &[]);
    assert_eq!(outputs, [], "node 2 hears it");
    assert_eq!(bench.status().silent, [], "nobody votes against whom it hears");
    let word = bench.beat(3);
    assert_eq!(bench.word(3, word), [recovered(3)]);
}

#[test]
fn who_hears_an_earlier_life_of_this_node_does_not_hear_this_one() {
    let mut bench = Bench::with(&[2]);
    bench.word(2, fenced(1));
    for _ in 0..12 {
        bench.now += QUARTER;
        let mut word = bench.beat(2);
        if let MemberWord::Heartbeat { hears, .. } = &mut word {
            *hears = Some(Heard { incarnation: life(1), straight: true });
        }
        bench.word(2, word);
    }
    assert_eq!(bench.state(2), Some(MemberState::Suspect));
}

#[test]
fn words_that_came_by_others_are_heard_too_and_then_each_tells_all_again() {
    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    for _ in 0..20 {
        bench.now += QUARTER;
        let word = bench.beat(2);
        bench.word(2, word);
        let mut word = bench.beat(3);
        if let MemberWord::Heartbeat { hears: Some(heard), .. } = &mut word {
            heard.straight = false;
        }
        bench.membership.handle(bench.now, run(3), false, word);
        assert_eq!(bench.outputs(), []);
    }
    assert_eq!(bench.status().unlinked, [id(3)]);
    bench.now += SECOND;
    bench.membership.tick(bench.now);
    let told: BTreeMap<NodeId, bool> = bench
        .all()
        .into_iter()
        .filter_map(|output| match output {
            MemberOutput::Send { to, word: MemberWord::Heartbeat { status, .. } } => {
                Some((to, status.is_some()))
            }
            _ => None,
        })
        .collect();
    // What was told by others may be lost.
    assert_eq!(told, BTreeMap::from([(id(2), false), (id(3), true)]));
}

#[test]
fn a_heartbeat_that_was_overtaken_is_dropped() {
    let mut bench = Bench::with(&[2, 3]);
    let late = bench.tell(2, |status| status.silent = lives(&[3]));
    bench.says(2, |_| {});
    bench.word(2, late);
    assert!(!bench.membership.roster.contacts()[&id(2)].votes_against(member(3).life()));
}

#[test]
fn a_change_is_told_at_once_and_the_next_one_a_moment_later() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(QUARTER, &[2, 3]);
    let votes = |bench: &mut Bench| {
        let is_vote = |output: &MemberOutput| match output {
            MemberOutput::Send { word: MemberWord::Heartbeat { status, .. }, .. } => {
                status.as_ref().is_some_and(|status| !status.silent.is_empty())
            }
            _ => false,
        };
        bench.all().iter().filter(|output| is_vote(output)).count()
    };
    bench.membership.unlinked(bench.now, run(3));
    bench.all();
    bench.membership.unreachable(bench.now, id(3), true);
    assert_eq!(votes(&mut bench), 0, "something was told in this very moment");
    let pace = Duration::from_millis(4);
    assert_eq!(bench.membership.deadline(), Some(bench.now + pace));
    bench.now += pace;
    bench.membership.tick(bench.now);
    assert_eq!(votes(&mut bench), 2);
}

// ---- Rule 3: concluding

#[test]
fn a_linked_hello_makes_nobody_a_member() {
    let mut bench = Bench::alone();
    assert_eq!(bench.link(hello(member(2), vec![])), [connect(2)]);
    assert_eq!(bench.members(), [1]);
    assert_eq!(bench.status().joining, lives(&[2]));
    assert!(bench.membership.is_linked(id(2)) && !bench.membership.is_live(run(2)));
}

#[test]
fn a_newcomer_comes_in_at_once_when_it_says_that_it_hears_this_node() {
    let mut bench = Bench::alone();
    bench.link(hello(member(2), vec![]));
    assert_eq!(bench.lists(2, &[]), [], "a mute or one-way joiner would become a member");
    bench.now += QUARTER;
    let word = bench.tell(2, |status| status.joining = lives(&[1]));
    bench.membership.handle(bench.now, run(2), true, word);
    let outputs = bench.all();
    let announce = MemberOutput::Announce { me: member(1), known: vec![member(2)], fenced: vec![] };
    assert_eq!(outputs[..2], [announce, joined(2)]);
    // It learns of it at once.
    let told = outputs.iter().any(|output| {
        matches!(output, MemberOutput::Send { to, word: MemberWord::View { members, .. } }
            if *to == id(2) && members.contains(&member(2)))
    });
    assert!(told, "{outputs:?}");
    assert_eq!(outputs.last(), Some(&MemberOutput::ViewChanged));
    assert_eq!(bench.status().joining, []);
}

#[test]
fn a_newcomer_comes_in_when_all_members_say_that_they_hear_it_and_it_them() {
    let mut bench = Bench::with(&[2, 3]);
    bench.link(hello(member(4), vec![]));
    assert_eq!(bench.lists(4, &[1, 2]), []);
    assert_eq!(bench.lists(2, &[4]), []);
    assert_eq!(bench.lists(3, &[4]), [], "it does not hear node 3");
    let missing = &bench.membership.joiners()[0].missing;
    assert_eq!(missing[..], [(id(4), id(3))]);
    assert_eq!(bench.lists(4, &[1, 2, 3]), [joined(4), MemberOutput::ViewChanged]);
}

#[test]
fn nobody_comes_in_while_a_member_is_not_heard() {
    let mut bench = Bench::with(&[2, 3]);
    bench.link(hello(member(4), vec![]));
    bench.lists(3, &[4]);
    bench.pass(3 * SECOND, &[2, 4]);
    assert_eq!(bench.state(3), Some(MemberState::Suspect));
    bench.lists(4, &[1, 2, 3]);
    assert_eq!(bench.lists(2, &[4]), [], "what node 3 said before it fell silent is no consent");
    assert_eq!(bench.members(), [1, 2, 3]);
    // The dead are out first.
    bench.says(2, |status| {
        status.joining = lives(&[4]);
        status.silent = lives(&[3]);
    });
    assert_eq!(bench.members(), [1, 2, 4]);
}

#[test]
fn a_node_that_waits_brings_nobody_in_and_follows_who_brings_it_in() {
    let mut bench = Bench::waiting();
    bench.link(hello(member(2), vec![]));
    assert_eq!(bench.lists(2, &[1]), [], "two that wait would found a cluster");
    assert!(bench.membership.is_waiting());
    assert_eq!(bench.tells_view(2, &[1, 2]), [joined(2), MemberOutput::ViewChanged]);
    assert!(!bench.membership.is_waiting() && !bench.membership.is_proven());
}

#[test]
fn clusters_come_in_whole_or_not_at_all() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    bench.tells_view(3, &[3, 4]);
    bench.lists(2, &[3, 4]);
    assert_eq!(bench.lists(3, &[1, 2]), [], "nobody here hears node 4");
    let missing = &bench.membership.joiners()[0].missing;
    assert_eq!(missing[..], [(id(1), id(4))]);
    bench.link(hello(member(4), vec![]));
    bench.tells_view(4, &[3, 4]);
    let outputs = bench.lists(4, &[1, 2]);
    assert_eq!(outputs, [joined(3), joined(4), MemberOutput::ViewChanged]);
}

#[test]
fn a_cluster_that_holds_another_run_of_a_member_waits_until_that_is_clear() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    let other = View { members: BTreeMap::from([(id(2), second_run(2)), (id(3), member(3))]) };
    bench.views.insert(3, other.id());
    let members = other.members.values().cloned().collect();
    bench.word(3, MemberWord::View { view: other.id(), base: None, members, gone: vec![] });
    bench.lists(2, &[3]);
    assert_eq!(bench.lists(3, &[1, 2]), []);
    assert_eq!(bench.members(), [1, 2]);
}

#[test]
fn two_newcomers_at_once_come_in_when_they_hear_each_other() {
    let mut bench = Bench::alone();
    bench.link(hello(member(2), vec![]));
    bench.link(hello(member(3), vec![]));
    assert_eq!(bench.lists(2, &[1]), [joined(2), MemberOutput::ViewChanged]);
    assert_eq!(bench.lists(3, &[1]), [], "it does not hear node 2");
    bench.lists(3, &[1, 2]);
    assert_eq!(bench.members(), [1, 2], "and node 2 does not hear it");
    assert_eq!(bench.lists(2, &[1, 3]), [joined(3), MemberOutput::ViewChanged]);
}

// ---- Rule 4: adopting

#[test]
fn who_has_taken_this_node_in_is_followed_as_far_as_this_node_hears() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    // Node 2 has taken in two, and one of them this node does not hear: it may be dead.
    assert_eq!(
        bench.tells_view(2, &[1, 2, 3, 4]),
        [connect(4), joined(3), MemberOutput::ViewChanged]
    );
    assert_eq!(bench.members(), [1, 2, 3]);
    bench.link(hello(member(4), vec![]));
    assert_eq!(bench.members(), [1, 2, 3, 4], "as soon as it is heard");
}

#[test]
fn a_view_that_holds_another_life_of_this_node_is_not_followed() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    bench.word(2, fenced(1));
    assert_eq!(bench.tells_view(2, &[1, 2, 3]), [], "that life of node 1 is over");
    assert_eq!(bench.members(), [1, 2]);
}

#[test]
fn the_dead_are_not_brought_back_by_a_view_that_is_late() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(3 * SECOND, &[2]);
    bench.votes_against(2, &[3]);
    assert_eq!(bench.members(), [1, 2]);
    assert_eq!(bench.tells_view(2, &[1, 2, 3]), [], "its life is over");
    let word = bench.beat(3);
    assert_eq!(bench.word(3, word), [greet(run(3), fenced(3))]);
    assert_eq!(bench.members(), [1, 2]);
}

#[test]
fn a_member_that_renews_is_the_same_run_in_another_life() {
    let mut bench = Bench::with(&[2]);
    let incarnation = Incarnation { started: 200, nonce: 2 };
    let mut word = bench.beat(2);
    if let MemberWord::Heartbeat { incarnation: told, .. } = &mut word {
        *told = incarnation;
    }
    let outputs = bench.word(2, word);
    assert_eq!(outputs, [send(2, MemberWord::Ask), MemberOutput::ViewChanged]);
    let word = bench.beat(2); // A word of the life before.
    bench.word(2, word);
    let seen = bench.membership.view().member(id(2)).map(|member| member.incarnation);
    assert_eq!(seen, Some(incarnation));
}

#[test]
fn a_view_is_told_as_a_difference_and_asked_for_when_its_base_is_unknown() {
    let mut bench = Bench::with(&[2, 3]);
    let base = view(&[1, 2, 3]).id();
    bench.link(hello(member(4), vec![]));
    let told = view(&[1, 2, 3, 4]).id();
    let word = |base| MemberWord::View { view: told, base, members: vec![member(4)], gone: vec![] };
    assert_eq!(bench.word(2, word(Some(base))), [joined(4), MemberOutput::ViewChanged]);
    assert_eq!(bench.word(3, word(Some(ViewId(7)))), [send(3, MemberWord::Ask)]);
    assert_eq!(bench.word(3, word(Some(ViewId(7)))), [], "once in half a heartbeat");
    // A member that is gone is told too.
    let gone =
        MemberWord::View { view: base, base: Some(told), members: vec![], gone: vec![id(4)] };
    bench.word(2, gone);
    let lives = bench.membership.roster.contacts()[&id(2)].view().cloned().expect("it was told");
    assert_eq!(lives.keys().copied().collect::<Vec<_>>(), [id(1), id(2), id(3)]);
}

#[test]
fn a_heartbeat_with_an_unknown_view_makes_this_node_ask_and_an_ask_is_answered_in_full() {
    let mut bench = Bench::with(&[2]);
    bench.views.insert(2, ViewId(9));
    let word = bench.beat(2);
    assert_eq!(bench.word(2, word), [send(2, MemberWord::Ask)]);
    bench.now += QUARTER;
    bench.membership.handle(bench.now, run(2), true, MemberWord::Ask);
    let outputs = bench.all();
    let full = outputs.iter().any(|output| {
        matches!(output, MemberOutput::Send { word: MemberWord::Heartbeat { status, .. }, .. }
            if status.is_some())
    });
    let whole = outputs.iter().any(|output| {
        matches!(output, MemberOutput::Send { word: MemberWord::View { base: None, .. }, .. })
    });
    assert!(full && whole, "{outputs:?}");
}

// ---- Rule 5: votes

#[test]
fn a_silent_member_against_whom_all_vote_is_down() {
    let mut bench = Bench::with(&[2, 3, 4]);
    assert_eq!(bench.pass(3 * SECOND, &[2, 3]), [suspected(4)]);
    assert_eq!(bench.state(4), Some(MemberState::Suspect));
    assert_eq!(bench.status().silent, lives(&[4]), "that is this node's vote");
    assert_eq!(bench.votes_against(2, &[4]), []);
    let mut expected = vec![send(2, down(4, &[2, 3, 1])), send(3, down(4, &[2, 3, 1]))];
    expected.extend(gone_down(4));
    assert_eq!(bench.votes_against(3, &[4]), expected);
    assert!(bench.membership.fenced(id(4), life(4)) && !bench.membership.is_live(run(4)));
}

#[test]
fn one_who_hears_the_suspect_keeps_it_in_and_its_silent_link_is_closed() {
    let mut bench = Bench::with(&[2, 3, 4]);
    bench.pass(3 * SECOND, &[2, 3]);
    bench.votes_against(2, &[4]);
    // It is suspect, and heard by node 3 alone: that is enough.
    assert_eq!(bench.pass(30 * SECOND, &[2, 3]), []);
    assert_eq!(bench.state(4), Some(MemberState::Suspect));
    // What it says comes by way of node 3, while its link stands and swallows everything.
    let mut silent = 0;
    for _ in 0..8 {
        bench.now += QUARTER;
        let mut word = bench.beat(4);
        if let MemberWord::Heartbeat { hears: Some(heard), .. } = &mut word {
            heard.straight = false;
        }
        bench.membership.handle(bench.now, run(4), false, word);
        let addresses = vec!["/memory/4".to_owned()];
        let said = MemberOutput::Silent { node: id(4), addresses };
        silent += bench.outputs().iter().filter(|output| **output == said).count();
        let outputs = bench.pass(Duration::ZERO, &[]);
        assert_eq!(outputs, []);
    }
    assert_eq!(silent, 1);
}

#[test]
fn a_voter_that_is_suspect_itself_is_not_waited_for() {
    let mut bench = Bench::with(&[2, 3, 4]);
    bench.pass(SECOND, &[2, 3]);
    assert_eq!(bench.pass(2 * SECOND, &[2]), [suspected(4)]);
    assert_eq!(bench.votes_against(2, &[4]), [], "node 3 has not voted");
    let outputs = bench.pass(SECOND, &[2]);
    let down = [send(2, down(4, &[2, 1])), send(3, down(4, &[2, 1]))];
    assert_eq!(outputs[0], suspected(3));
    assert!(down.iter().all(|word| outputs.contains(word)), "{outputs:?}");
    assert_eq!((bench.state(4), bench.state(3)), (None, Some(MemberState::Suspect)));
}

#[test]
fn a_vote_that_was_taken_back_counts_no_more() {
    let mut bench = Bench::with(&[2, 3, 4]);
    bench.pass(3 * SECOND, &[2, 3]);
    bench.votes_against(2, &[4]);
    bench.votes_against(2, &[]);
    assert_eq!(bench.votes_against(3, &[4]), []);
    assert_eq!(bench.state(4), Some(MemberState::Suspect));
    // Nor does one against another life.
    let other = Life { node: id(4), incarnation: Incarnation { started: 99, nonce: 4 } };
    assert_eq!(bench.says(2, |status| status.silent = vec![other]), []);
    assert_eq!(bench.state(4), Some(MemberState::Suspect));
}

#[test]
fn this_node_takes_its_vote_back_when_it_hears_the_suspect_again() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(3 * SECOND, &[2]);
    assert_eq!(bench.status().silent, lives(&[3]));
    let word = bench.beat(3);
    assert_eq!(bench.word(3, word), [recovered(3)]);
    assert_eq!(bench.status().silent, []);
}

#[test]
fn asked_about_a_life_that_it_never_met_this_node_votes_at_once() {
    let mut bench = Bench::with(&[2]);
    bench.tells_view(2, &[1, 2, 3]);
    assert_eq!(bench.status().silent, []);
    bench.votes_against(2, &[3]);
    assert_eq!(bench.status().silent, lives(&[3]), "J died between two adoptions");
    // And it is bound by what is made of it.
    bench.word(2, down(3, &[1, 2]));
    assert!(bench.membership.fenced(id(3), life(3)));
}

#[test]
fn asked_about_a_life_that_it_hears_this_node_does_not_vote_against_it() {
    let mut bench = Bench::with(&[2, 3]);
    bench.votes_against(2, &[1, 3]);
    assert_eq!(bench.status().silent, [], "nor against itself");
    bench.link(hello(member(4), vec![]));
    bench.tells_view(2, &[1, 2, 3, 4]);
    bench.votes_against(2, &[4]);
    assert_eq!(bench.status().silent, []);
}

#[test]
fn a_vote_ends_when_nobody_has_the_life_any_more() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(3 * SECOND, &[2]);
    bench.votes_against(2, &[3]);
    assert_eq!(bench.members(), [1, 2]);
    // Node 2 has put it out as well, and still repeats the vote because this node gives it: neither
    // would ever stop.
    bench.tells_view(2, &[1, 2]);
    bench.votes_against(2, &[3]);
    assert_eq!(bench.status().silent, []);
}

#[test]
fn votes_on_members_come_before_all_that_others_ask_about() {
    let mut bench = Bench::with(&[0xfe, 0xff]);
    bench.pass(3 * SECOND, &[0xfe]);
    let strangers: Vec<Member> = (0..LISTED as u32)
        .map(|n| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            Member { id: NodeId::from_key(key), addresses: vec![], ..member(9) }
        })
        .collect();
    let silent: Vec<Life> = strangers.iter().map(Member::life).collect();
    let mut told = view(&[]);
    told.members = strangers.into_iter().map(|member| (member.id, member)).collect();
    bench.views.insert(0xfe, told.id());
    let members = told.members.into_values().collect();
    let word = MemberWord::View { view: bench.view_of(0xfe), base: None, members, gone: vec![] };
    bench.word(0xfe, word);
    bench.says(0xfe, |status| status.silent = silent);
    assert_eq!(bench.status().silent.len(), LISTED);
    assert!(bench.status().silent.contains(&member(0xff).life()));
}

#[test]
fn when_all_are_suspect_at_once_the_window_is_twice_as_long() {
    let mut bench = Bench::with(&[2, 3]);
    assert_eq!(bench.pass(3 * SECOND, &[]), [suspected(2), suspected(3)]);
    assert_eq!(bench.pass(2 * SECOND + 3 * QUARTER, &[]), []);
    let outputs = bench.pass(QUARTER, &[]);
    assert!(outputs.contains(&MemberOutput::Gone { run: run(2), left: false }));
    assert!(outputs.contains(&MemberOutput::Gone { run: run(3), left: false }));
}

#[test]
fn of_two_nodes_the_one_whose_redial_is_refused_is_down_after_half_a_heartbeat() {
    let mut bench = Bench::with(&[2]);
    assert_eq!(bench.unlink(2), []);
    assert_eq!(bench.refused(2), [suspected(2)]);
    assert_eq!(bench.pass(QUARTER, &[]), []);
    assert_eq!(bench.membership.deadline(), Some(bench.now + QUARTER));
    assert_eq!(bench.pass(QUARTER, &[]), gone_down(2));
}

#[test]
fn a_node_that_dials_in_time_is_not_down_though_its_host_refused() {
    let mut bench = Bench::with(&[2]);
    bench.unlink(2);
    bench.refused(2);
    bench.pass(QUARTER, &[]);
    assert_eq!(bench.link(hello(member(2), vec![member(1)])), [recovered(2)]);
    assert_eq!(bench.pass(2 * SECOND, &[2]), []);
}

#[test]
fn a_member_that_is_heard_by_way_of_others_is_not_down_though_its_host_refused() {
    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    assert_eq!(bench.refused(3), [suspected(3)]);
    let word = bench.beat(3);
    bench.membership.handle(bench.now, run(3), false, word);
    assert_eq!(bench.outputs(), [recovered(3)]);
}

#[test]
fn a_dial_that_fails_without_a_refusal_proves_nothing() {
    let mut bench = Bench::with(&[2]);
    bench.unlink(2);
    bench.membership.unreachable(bench.now, id(2), false);
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.pass(2 * SECOND, &[]), []);
}

#[test]
fn a_verdict_binds_who_voted_for_it() {
    let mut bench = Bench::with(&[2, 3, 4]);
    bench.pass(3 * SECOND, &[2, 3]);
    assert_eq!(bench.word(2, down(4, &[1, 2, 3])), gone_down(4));
}

#[test]
fn a_verdict_under_way_binds_a_voter_that_has_heard_the_life_again_since() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(3 * SECOND, &[2]);
    let word = bench.beat(3);
    bench.word(3, word);
    let outputs = bench.word(2, down(3, &[1, 2]));
    assert_eq!(outputs[0], MemberOutput::Event(HubEvent::NodeDown { node: id(3) }));
}

#[test]
fn a_verdict_that_names_a_voter_who_did_not_vote_does_not_bind_it() {
    let mut bench = Bench::with(&[2, 3]);
    assert_eq!(bench.word(2, down(3, &[1, 2])), [send(3, fenced(3))]);
    assert_eq!(bench.state(3), Some(MemberState::Alive));
}

#[test]
fn a_verdict_of_an_outsider_puts_no_healthy_member_out() {
    let mut bench = Bench::with(&[2, 3]);
    bench.link(hello(member(9), vec![]));
    bench.pass(3 * SECOND, &[2, 9]);
    assert_eq!(bench.word(9, down(2, &[9])), [send(2, fenced(2))]);
    assert_eq!(bench.state(2), Some(MemberState::Alive));
}

// ---- Rule 6: fences

#[test]
fn a_node_that_is_declared_down_while_it_lives_comes_back_above_that_life() {
    let renewed =
        Member { incarnation: Incarnation { started: 101, nonce: 1 }, revision: 1, ..member(1) };
    let expected = [
        MemberOutput::Announce { me: renewed.clone(), known: vec![member(2)], fenced: vec![] },
        MemberOutput::Renewed,
        MemberOutput::Event(HubEvent::Rejoined),
    ];
    let mut bench = Bench::with(&[2]);
    bench.membership.handle(bench.now, run(2), true, down(1, &[2]));
    let outputs = bench.all();
    assert_eq!(outputs[..3], expected[..]);
    assert_eq!(outputs.last(), Some(&MemberOutput::ViewChanged));
    assert_eq!(bench.members(), [1, 2], "in place");
    assert_eq!(bench.word(2, fenced(1)), [], "told twice");

    let mut bench = Bench::with(&[2]);
    bench.membership.told_fenced(bench.now, life(1));
    assert_eq!(bench.all()[..3], expected[..]);

    // By a third that relays it, and by a word that says it beside other things.
    let mut bench = Bench::with(&[2]);
    bench.membership.handle(bench.now, run(8), false, fenced(1));
    assert_eq!(bench.all()[..3], expected[..]);
    let mut bench = Bench::with(&[2]);
    let mut word = bench.beat(2);
    if let MemberWord::Heartbeat { fence, .. } = &mut word {
        *fence = Some(life(1));
    }
    bench.membership.handle(bench.now, run(2), true, word);
    assert_eq!(bench.all()[..3], expected[..]);
}

#[test]
fn a_restarted_node_whose_clock_went_back_takes_a_higher_life_and_did_not_rejoin() {
    let mut bench = Bench::alone();
    bench.membership.told_fenced(bench.now, Incarnation { started: 500, nonce: 77 });
    assert_eq!(bench.outputs(), [MemberOutput::Renewed, MemberOutput::ViewChanged]);
    assert_eq!(bench.membership.incarnation(), Incarnation { started: 501, nonce: 1 });
}

#[test]
fn an_absurd_incarnation_is_neither_believed_nor_admitted() {
    let mut bench = Bench::with(&[2]);
    let absurd = Incarnation { started: u64::MAX, nonce: 1 };
    assert_eq!(bench.word(2, MemberWord::Fenced { incarnation: absurd }), []);
    let absurd = Member { incarnation: Incarnation { started: u64::MAX, nonce: 3 }, ..member(3) };
    let members = vec![member(1), member(2), absurd.clone()];
    let word = MemberWord::View { view: ViewId(4), base: None, members, gone: vec![] };
    assert_eq!(bench.word(2, word), []);
    let reason = "its incarnation is absurd";
    let refused = HubEvent::PeerRefused { node: Some(id(3)), reason: reason.to_owned() };
    let expected = [MemberOutput::Event(refused), disconnect(3, reason)];
    assert_eq!(bench.link(hello(absurd.clone(), vec![])), expected);
    let mut word = bench.tell(3, |status| status.me = absurd.clone());
    if let MemberWord::Heartbeat { incarnation, .. } = &mut word {
        *incarnation = absurd.incarnation;
    }
    assert_eq!(bench.handle(absurd.run(), word), []);
    assert_eq!(bench.members(), [1, 2]);
}

#[test]
fn a_life_that_is_over_is_turned_away_and_a_higher_one_is_welcome() {
    let mut bench = Bench::with(&[2]);
    bench.unlink(2);
    bench.refused(2);
    bench.pass(HALF, &[]);
    let told = greet(run(2), fenced(2));
    let expected = [told.clone(), disconnect(2, "this life of it is over"), connect(2)];
    assert_eq!(bench.link(hello(member(2), vec![])), expected);
    let word = bench.beat(2);
    assert_eq!(bench.word(2, word), std::slice::from_ref(&told));
    // By the path it came: the answer to a word that was relayed is relayed.
    let word = bench.tell(2, |_| {});
    bench.membership.handle(bench.now, run(2), false, word);
    assert_eq!(bench.outputs(), std::slice::from_ref(&told));
    let word = MemberWord::Confirm { incarnation: life(2), question: 1 };
    assert_eq!(bench.word(2, word), [told]);
    let renewed = Member { incarnation: Incarnation { started: 101, nonce: 2 }, ..member(2) };
    assert_eq!(bench.link(hello(renewed, vec![])), []);
    assert_eq!(bench.membership.joiners().len(), 1);
}

// ---- Rule 7: first settle

#[test]
fn who_has_not_settled_yet_declares_nobody_and_goes_back_to_waiting_when_it_is_cut_off() {
    let mut bench = Bench::waiting();
    bench.link(hello(member(2), vec![]));
    bench.link(hello(member(3), vec![]));
    for n in [2, 3] {
        bench.tells_view(n, &[1, 2, 3]);
        bench.says(n, |_| {});
    }
    assert_eq!(bench.members(), [1, 2, 3]);
    assert_eq!(bench.pass(3 * SECOND, &[]), [suspected(2), suspected(3)]);
    assert_eq!(bench.status().silent, lives(&[2, 3]), "it votes all the same");
    let outputs = bench.pass(3 * SECOND, &[]);
    assert_eq!(
        outputs,
        [send(2, MemberWord::Ask), send(3, MemberWord::Ask), MemberOutput::ViewChanged]
    );
    assert_eq!(bench.members(), [1]);
    assert!(bench.membership.is_waiting() && !bench.membership.is_proven());
    assert!(!bench.membership.fenced(id(2), life(2)) && !bench.membership.fenced(id(3), life(3)));
    assert_eq!(bench.membership.incarnation(), life(1), "the same life");
    // All that it heard is forgotten: what they said before would take it in again at once.
    let contact = &bench.membership.roster.contacts()[&id(2)];
    assert!(contact.view().is_none() && contact.status().is_none());
    assert_eq!(bench.status().joining, []);
    // What they say now counts.
    let word = bench.tell(2, |_| {});
    bench.word(2, word);
    bench.tells_view(2, &[1, 2, 3]);
    assert_eq!(bench.members(), [1], "it does not hear all of them");
    let word = bench.tell(3, |_| {});
    bench.word(3, word);
    assert_eq!(bench.members(), [1, 2, 3]);
}

#[test]
fn who_has_settled_once_goes_on_alone() {
    let mut bench = Bench::waiting();
    bench.link(hello(member(2), vec![]));
    bench.tells_view(2, &[1, 2]);
    bench.membership.settled(bench.now);
    assert!(bench.membership.is_proven());
    bench.pass(6 * SECOND, &[]);
    assert_eq!(bench.members(), [1]);
    assert!(bench.membership.is_proven() && bench.membership.fenced(id(2), life(2)));
}

#[test]
fn a_node_that_is_alone_does_not_settle_with_others() {
    let mut bench = Bench::waiting();
    bench.membership.settled(bench.now);
    assert!(bench.membership.is_waiting());
}

#[test]
fn a_node_that_was_cut_off_dials_on_whom_it_had_no_link_to_only_for_a_while() {
    let mut bench = Bench::waiting();
    bench.link(hello(member(2), vec![]));
    bench.tells_view(2, &[1, 2]);
    bench.unlink(2);
    bench.pass(6 * SECOND, &[]);
    assert!(bench.membership.is_waiting());
    let outputs = bench.pass(31 * SECOND, &[]);
    assert!(outputs.contains(&disconnect(2, "it was not reached for long")), "{outputs:?}");
}

// ---- Rule 9: what is told

#[test]
fn a_node_that_cannot_come_in_is_told_of_with_the_pairs_that_do_not_hear_each_other() {
    let mut bench = Bench::with(&[2, 3]);
    bench.link(hello(member(4), vec![]));
    bench.lists(4, &[1, 2]);
    bench.lists(2, &[4]);
    let outputs = bench.pass(15 * SECOND, &[2, 3, 4]);
    let missing = vec![(id(3), id(4)), (id(4), id(3))];
    let delayed = MemberOutput::Event(HubEvent::JoinDelayed { node: id(4), missing });
    assert_eq!(outputs, std::slice::from_ref(&delayed));
    assert_eq!(bench.pass(15 * SECOND, &[2, 3, 4]), [delayed], "again each time");
    bench.lists(3, &[4]);
    assert_eq!(bench.lists(4, &[1, 2, 3]), [joined(4), MemberOutput::ViewChanged], "all the same");
}

#[test]
fn one_joiner_that_fell_silent_does_not_hide_that_another_is_delayed() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    bench.pass(10 * SECOND, &[2]);
    bench.link(hello(member(4), vec![]));
    // No word but this one comes: nothing else makes the node look.
    bench.pass(14 * SECOND + 3 * QUARTER, &[2, 4]);
    let due = bench.membership.deadline().expect("it has members");
    assert!(due <= bench.now + QUARTER, "{:?}", due - bench.now);
    bench.now += QUARTER;
    bench.membership.tick(bench.now);
    let is_delay = |output: &MemberOutput| matches!(output, MemberOutput::Event(HubEvent::JoinDelayed { node, .. }) if *node == id(4));
    assert!(bench.outputs().iter().any(is_delay));
}

#[test]
fn a_pair_that_hears_each_other_by_others_only_is_told_of_and_when_its_link_is_back() {
    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    let mut told = Vec::new();
    for _ in 0..64 {
        bench.now += QUARTER;
        let word = bench.beat(2);
        told.extend(bench.word(2, word));
        let mut word = bench.beat(3);
        if let MemberWord::Heartbeat { hears: Some(heard), .. } = &mut word {
            heard.straight = false;
        }
        bench.membership.handle(bench.now, run(3), false, word);
        bench.membership.tick(bench.now);
        told.extend(bench.outputs());
    }
    let addresses = vec!["/memory/3".to_owned()];
    let missing = HubEvent::LinkMissing { node: id(3), addresses };
    assert_eq!(told, [MemberOutput::Event(missing)]);
    let restored = HubEvent::LinkRestored { node: id(3) };
    assert_eq!(bench.link(hello(member(3), vec![])), [MemberOutput::Event(restored)]);
}

// ---- Rule 10: who crashes again and again

#[test]
fn a_node_that_crashed_twice_has_to_live_for_a_heartbeat_before_it_is_taken_in() {
    let mut bench = Bench::alone();
    for nonce in 10..13 {
        let incarnation = Incarnation { started: 100 + nonce, nonce };
        let me = Member { incarnation, ..member(2) };
        bench.link(hello(me.clone(), vec![]));
        let mut word = bench.tell(2, |status| {
            status.me = me.clone();
            status.joining = lives(&[1]);
        });
        if let MemberWord::Heartbeat { incarnation: life, view, .. } = &mut word {
            *life = incarnation;
            *view = View { members: BTreeMap::from([(me.id, me.clone())]) }.id();
        }
        bench.handle(me.run(), word.clone());
        if nonce < 12 {
            assert_eq!(bench.members(), [1, 2], "life {nonce}");
        } else {
            assert_eq!(bench.members(), [1], "it crashed twice");
            bench.now += SECOND - QUARTER;
            bench.membership.tick(bench.now);
            assert_eq!(bench.members(), [1]);
            bench.now += QUARTER;
            bench.membership.tick(bench.now);
            assert_eq!(bench.members(), [1, 2]);
        }
        bench.membership.unlinked(bench.now, me.run());
        bench.refused(2);
        bench.pass(HALF, &[]);
        assert_eq!(bench.members(), [1], "life {nonce} is down");
    }
}

// ---- Other runs

#[test]
fn a_new_run_takes_the_place_of_one_whose_link_is_closed() {
    let mut bench = Bench::with(&[2]);
    bench.unlink(2);
    let expected = [
        MemberOutput::Event(HubEvent::NodeDown { node: id(2) }),
        MemberOutput::Gone { run: run(2), left: false },
        connect(2),
        MemberOutput::ViewChanged,
    ];
    assert_eq!(bench.link(hello(second_run(2), vec![])), expected);
    assert!(bench.membership.fenced(id(2), life(2)));
    assert_eq!(bench.unlink(2), [], "the old link is nothing to the new run");
    assert!(bench.membership.is_linked(id(2)));
}

#[test]
fn a_new_run_waits_until_the_old_one_was_silent_when_probed() {
    let mut bench = Bench::with(&[2]);
    assert_eq!(bench.link(hello(second_run(2), vec![])), []);
    assert_eq!(bench.pass(SECOND + QUARTER, &[]), []);
    let outputs = bench.pass(QUARTER, &[]);
    assert_eq!(outputs[1], MemberOutput::Gone { run: run(2), left: false });
    assert_eq!(bench.membership.run_of(id(2)), Some(second_run(2).run()));
}

#[test]
fn a_second_process_with_the_key_of_one_that_answers_is_refused() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(second_run(2), vec![]));
    let reason = "another process with the same key is alive";
    let refused = HubEvent::PeerRefused { node: Some(id(2)), reason: reason.to_owned() };
    let refused = [MemberOutput::Event(refused), disconnect(2, reason)];
    let mut expected = refused.to_vec();
    expected.push(connect(2));
    assert_eq!(bench.pass(2 * SECOND, &[2]), expected);
    // The link that was closed for its sake is no proof against the old one.
    bench.unlink(2);
    assert_eq!(bench.link(hello(second_run(2), vec![])), refused);
    assert!(bench.membership.is_live(run(2)));
}

#[test]
fn words_of_another_run_are_nothing_to_the_one_that_is_known() {
    let mut bench = Bench::with(&[2]);
    let me = second_run(2);
    let mut word = bench.tell(2, |status| status.me = me.clone());
    if let MemberWord::Heartbeat { incarnation, .. } = &mut word {
        *incarnation = me.incarnation;
    }
    assert_eq!(bench.handle(me.run(), word), []);
    assert_eq!(bench.handle(me.run(), MemberWord::Bye { incarnation: me.incarnation }), []);
    assert_eq!(bench.word(2, MemberWord::Bye { incarnation: me.incarnation }), []);
    assert!(bench.membership.is_live(run(2)));
}

// ---- Leaving

#[test]
fn who_leaves_is_told_of_takes_no_children_and_stays_in_until_its_bye() {
    let mut bench = Bench::with(&[2]);
    bench.membership.start_leaving(bench.now);
    assert_eq!(bench.outputs(), [MemberOutput::ViewChanged]);
    assert_eq!(bench.status().me.state, MemberState::Leaving);
    bench.membership.start_leaving(bench.now);
    assert_eq!(bench.outputs(), []);
    bench.membership.cancel_leaving(bench.now);
    assert_eq!(bench.outputs(), [MemberOutput::ViewChanged]);
    assert_eq!(bench.status().me.state, MemberState::Alive);
    bench.membership.bye(bench.now);
    let word = MemberWord::Bye { incarnation: life(1) };
    assert_eq!(bench.outputs(), [send(2, word), MemberOutput::ViewChanged]);
    assert_eq!(bench.members(), [1]);
    assert!(bench.membership.is_linked(id(2)), "its Bye is still to be sent");
    assert_eq!(bench.membership.deadline(), None);
    assert_eq!(bench.link(hello(member(3), vec![])), []);
}

#[test]
fn a_node_that_says_bye_is_gone_without_suspicion() {
    let mut bench = Bench::with(&[2]);
    let leaving = Member { state: MemberState::Leaving, revision: 1, ..member(2) };
    let event = MemberOutput::Event(HubEvent::NodeLeaving { node: id(2) });
    let outputs = bench.says(2, |status| status.me = leaving.clone());
    assert_eq!(outputs, [event, MemberOutput::ViewChanged]);
    assert_eq!(bench.says(2, |status| status.me = leaving.clone()), []);
    assert!(bench.membership.is_live(run(2)));
    let expected = [
        MemberOutput::Event(HubEvent::NodeLeft { node: id(2) }),
        MemberOutput::Gone { run: run(2), left: true },
        disconnect(2, "it left"),
        MemberOutput::ViewChanged,
    ];
    assert_eq!(bench.word(2, MemberWord::Bye { incarnation: life(2) }), expected);
    assert_eq!(bench.unlink(2), []);
    bench.link(hello(member(3), vec![]));
    assert_eq!(bench.tells_view(3, &[2, 3]), [], "nobody dials it");
}

#[test]
fn a_joiner_that_goes_again_does_not_come_in() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    assert_eq!(bench.word(3, MemberWord::Bye { incarnation: life(3) }), [disconnect(3, "it left")]);
    // Node 2 had taken it in, and has not heard of it yet.
    assert_eq!(bench.tells_view(2, &[1, 2, 3]), []);
    let word = bench.beat(3);
    bench.word(3, word);
    assert_eq!(bench.members(), [1, 2]);
}

#[test]
fn a_member_that_stays_after_all_says_so_itself() {
    let mut bench = Bench::with(&[2, 3]);
    let leaving = Member { state: MemberState::Leaving, revision: 1, ..member(2) };
    bench.says(2, |status| status.me = leaving);
    bench.tells_view(3, &[1, 2, 3]);
    assert_eq!(bench.state(2), Some(MemberState::Leaving), "what another says is older");
    let stays = Member { revision: 2, ..member(2) };
    assert_eq!(bench.says(2, |status| status.me = stays), [MemberOutput::ViewChanged]);
    assert_eq!(bench.state(2), Some(MemberState::Alive));
}

#[test]
fn what_a_member_became_is_learned_from_others_too_but_a_later_life_is_not() {
    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    let told = Member { state: MemberState::Leaving, revision: 1, ..member(3) };
    let event = MemberOutput::Event(HubEvent::NodeLeaving { node: id(3) });
    let word = |members| MemberWord::View { view: ViewId(1), base: None, members, gone: vec![] };
    assert_eq!(bench.word(2, word(vec![told.clone()])), [event, MemberOutput::ViewChanged]);
    let later = Member { incarnation: Incarnation { started: 150, nonce: 3 }, ..told };
    assert_eq!(bench.word(2, word(vec![later])), []);
    assert_eq!(bench.membership.view().member(id(3)).map(|m| m.incarnation), Some(life(3)));
}

// ---- Who is dialled

#[test]
fn a_node_that_others_name_is_dialled_and_not_admitted() {
    let mut bench = Bench::with(&[2]);
    assert_eq!(bench.tells_view(2, &[1, 2, 3]), [connect(3)]);
    assert_eq!(bench.tells_view(2, &[1, 2, 3]), []);
    assert_eq!(bench.state(3), None);
    assert_eq!(bench.status().silent, [], "and nobody votes against it");
}

#[test]
fn a_node_that_is_never_reached_is_dialled_no_more_until_it_is_named_again() {
    let mut bench = Bench::with(&[2]);
    bench.tells_view(2, &[1, 2, 3]);
    let outputs = bench.pass(31 * SECOND, &[2]);
    assert_eq!(outputs, [disconnect(3, "it was not reached for long")]);
    assert_eq!(bench.tells_view(2, &[1, 2, 3]), [connect(3)]);
}

#[test]
fn a_named_node_that_is_not_met_within_a_heartbeat_is_greeted_by_way_of_others() {
    let mut bench = Bench::with(&[2]);
    bench.tells_view(2, &[1, 2, 3]);
    let mut greeted = Vec::new();
    for step in 1..=12 {
        bench.now += QUARTER;
        let word = bench.beat(2);
        bench.membership.handle(bench.now, run(2), true, word);
        bench.membership.tick(bench.now);
        let is_greeting = |output: &MemberOutput| {
            matches!(output, MemberOutput::Greet { to, word: MemberWord::Heartbeat { .. } }
                if *to == run(3))
        };
        if bench.all().iter().any(is_greeting) {
            greeted.push(step);
        }
    }
    assert_eq!(greeted, [4, 8, 12], "each heartbeat");
    // It answers by the same way.
    let word = bench.tell(3, |status| status.joining = lives(&[1]));
    bench.membership.handle(bench.now, run(3), false, word);
    assert_eq!(bench.members(), [1, 2, 3], "node 2 had taken it in");
}

#[test]
fn a_stranger_s_first_word_by_way_of_others_has_to_say_who_it_is() {
    let mut bench = Bench::with(&[2]);
    let word = bench.beat(3);
    bench.membership.handle(bench.now, run(3), false, word);
    assert!(bench.membership.run_of(id(3)).is_none());
    let word = bench.tell(3, |_| {});
    bench.membership.handle(bench.now, run(3), false, word);
    assert_eq!(bench.membership.run_of(id(3)), Some(run(3)));
    assert!(!bench.membership.is_linked(id(3)));
    // Of somebody else it cannot speak.
    let word = bench.tell(4, |status| status.me = member(5));
    bench.membership.handle(bench.now, run(4), false, word);
    assert!(bench.membership.run_of(id(4)).is_none() && bench.membership.run_of(id(5)).is_none());
}

#[test]
fn a_joiner_that_falls_silent_without_a_link_is_forgotten() {
    let mut bench = Bench::with(&[2]);
    let word = bench.tell(3, |_| {});
    bench.membership.handle(bench.now, run(3), false, word);
    bench.pass(3 * SECOND, &[2]);
    assert_eq!(bench.membership.run_of(id(3)), None);
    assert_eq!(bench.status().joining, []);
}

// ---- Pauses

#[test]
fn a_pause_closes_the_gates_until_each_peer_has_said_that_this_life_counts() {
    let mut bench = Bench::with(&[2, 3]);
    bench.now += 10 * SECOND;
    bench.membership.tick(bench.now);
    let closed = MemberOutput::Gates { valid: false };
    assert_eq!(bench.outputs(), [closed, send(2, confirm(1)), send(3, confirm(1))]);
    assert_eq!(bench.says(2, |_| {}), [], "it may have waited in a buffer");
    assert_eq!(bench.word(2, confirmed(1)), []);
    assert_eq!(bench.word(3, confirmed(1)), [MemberOutput::Gates { valid: true }]);
}

#[test]
fn a_pause_that_others_took_for_death_ends_in_a_new_life() {
    let mut bench = Bench::with(&[2, 3]);
    bench.now += 10 * SECOND;
    bench.membership.tick(bench.now);
    bench.outputs();
    let outputs = bench.word(2, fenced(1));
    assert_eq!(outputs[0], MemberOutput::Renewed);
    assert!(outputs.contains(&MemberOutput::Gates { valid: true }));
}

#[test]
fn a_peer_confirms_a_life_that_counts_and_no_other() {
    let mut bench = Bench::with(&[2]);
    let question = MemberWord::Confirm { incarnation: life(2), question: 7 };
    let answer = MemberWord::Confirmed { incarnation: life(2), question: 7 };
    assert_eq!(bench.word(2, question.clone()), [send(2, answer)]);
    assert_eq!(bench.word(9, question), [], "who is not in has no life here that counts");
}

#[test]
fn after_a_pause_with_nobody_left_to_ask_the_gates_open_after_a_window() {
    let mut bench = Bench::with(&[2]);
    bench.now += 10 * SECOND;
    bench.membership.tick(bench.now);
    bench.unlink(2);
    assert_eq!(bench.pass(SECOND, &[]), [send(2, confirm(1))], "asked again");
    let outputs = bench.pass(2 * SECOND, &[]);
    assert_eq!(outputs[outputs.len() - 2..], [suspected(2), MemberOutput::Gates { valid: true }]);
}

#[test]
fn a_peer_that_lives_and_never_confirms_does_not_close_the_gates_for_ever() {
    let mut bench = Bench::with(&[2]);
    bench.now += 10 * SECOND;
    bench.membership.tick(bench.now);
    let outputs = bench.pass(6 * SECOND, &[2]);
    assert_eq!(outputs.last(), Some(&MemberOutput::Gates { valid: true }));
}

#[test]
fn a_node_that_knows_nobody_cannot_be_late() {
    let mut bench = Bench::alone();
    bench.now += 3_600 * SECOND;
    bench.membership.tick(bench.now);
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.membership.deadline(), None);
}

#[test]
fn a_short_stall_of_this_node_makes_nobody_suspect_before_its_backlog_is_read() {
    let mut bench = Bench::with(&[2]);
    bench.pass(SECOND + QUARTER, &[]);
    bench.now += SECOND + 3 * QUARTER;
    bench.membership.tick(bench.now);
    assert_eq!(bench.pass(SECOND - QUARTER, &[]), []);
    assert_eq!(bench.pass(QUARTER, &[]), [suspected(2)]);
}

// ---- Founding

#[test]
fn a_node_that_is_its_own_seed_founds_when_nobody_else_is_there() {
    let mut bench = Bench::waiting();
    bench.membership.seed(bench.now, "a".to_owned(), SeedOutcome::Itself);
    let founded = MemberOutput::Event(HubEvent::Founded);
    assert_eq!(bench.outputs(), [founded, MemberOutput::ViewChanged]);
    assert!(bench.membership.is_proven());
}

#[test]
fn a_node_that_waits_says_so_and_says_whether_it_may_found() {
    let mut bench = Bench::waiting();
    bench.link(hello(member(2), vec![]));
    assert_eq!(bench.status().waiting, Some(false));
    bench.says(2, |_| {});
    let outputs = bench.pass(10 * SECOND, &[2]);
    let seeds = vec![("a".to_owned(), SeedOutcome::Untried)];
    assert_eq!(outputs, [MemberOutput::Event(HubEvent::WaitingForSeeds { seeds })]);
}

// ---- Heartbeats

#[test]
fn heartbeats_go_to_every_member_linked_or_not_and_try_a_link_that_does_not_work() {
    let mut bench = Bench::with(&[2, 3, 4]);
    bench.unlink(3);
    bench.pass(2 * SECOND, &[2]);
    bench.pass(SECOND - QUARTER, &[2, 3]);
    bench.all();
    bench.now += QUARTER;
    bench.membership.tick(bench.now);
    let mut told = Vec::new();
    for output in bench.all() {
        match output {
            MemberOutput::Send { to, word: MemberWord::Heartbeat { incarnation, hears, .. } } => {
                assert_eq!(incarnation, life(1));
                told.push((to.key()[0], false, hears.is_some()));
            }
            MemberOutput::Probe { to, word: MemberWord::Heartbeat { hears, .. } } => {
                told.push((to.key()[0], true, hears.is_some()));
            }
            _ => {}
        }
    }
    told.sort_unstable();
    told.dedup();
    assert_eq!(told, [(2, false, true), (3, false, true), (4, false, false), (4, true, false)]);
}

#[test]
fn heartbeats_measure_the_round_trip_by_each_end_s_own_clock() {
    let mut bench = Bench::with(&[2]);
    assert_eq!(bench.membership.round_trip(id(2)), None);
    bench.now += SECOND;
    bench.membership.tick(bench.now);
    let pulse = bench.all().into_iter().find_map(|output| match output {
        MemberOutput::Send { word: MemberWord::Heartbeat { pulse, .. }, .. } => Some(pulse),
        _ => None,
    });
    assert_eq!(pulse.map(|pulse| pulse.sent), Some(1_000_000));
    // The peer kept it for 300 ms, and its own heartbeat comes 400 ms after this node's left.
    bench.now += Duration::from_millis(400);
    let say = |bench: &mut Bench, is_straight, pulse| {
        let mut word = bench.beat(2);
        if let MemberWord::Heartbeat { pulse: told, .. } = &mut word {
            *told = pulse;
        }
        bench.membership.handle(bench.now, run(2), is_straight, word);
        bench.membership.round_trip(id(2))
    };
    let taken = Some(Duration::from_millis(100));
    let pulse = Pulse { sent: 77, echo: Some(1_000_000), held: 300_000 };
    assert_eq!(say(&mut bench, false, pulse), None, "it came by others");
    assert_eq!(say(&mut bench, true, pulse), taken);
    // Nonsense of a peer is no measurement.
    let pulse = Pulse { sent: 78, echo: Some(u64::MAX), held: u64::MAX };
    assert_eq!(say(&mut bench, true, pulse), taken);
    bench.unlink(2);
    assert_eq!(bench.membership.round_trip(id(2)), None, "a link that is gone has none");
}

// ---- Bounds

#[test]
fn what_a_peer_makes_this_node_keep_is_bounded() {
    let mut bench = Bench::with(&[2]);
    let stranger = |block: u8, n: u32| {
        let mut key = [block; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        NodeId::from_key(key)
    };
    for block in 0..4_u8 {
        let members: Vec<Member> = (0..2_000_u32)
            .map(|n| {
                let addresses = vec!["/memory/5".to_owned(); 40];
                Member { id: stranger(block, n), addresses, ..member(9) }
            })
            .collect();
        let silent: Vec<Life> = members.iter().map(Member::life).collect();
        let word = MemberWord::View { view: ViewId(9), base: None, members, gone: vec![] };
        bench.views.insert(2, ViewId(9));
        bench.word(2, word);
        bench.says(2, |status| {
            status.joining.clone_from(&silent);
            status.unlinked = silent.iter().map(|life| life.node).collect();
            status.silent = silent;
        });
        assert!(bench.status().silent.len() <= LISTED);
    }
    let named = bench.membership.dialling.named_addresses();
    assert_eq!(named.len(), LISTED);
    assert!(named.iter().all(|addresses| *addresses == 16));
    assert!(bench.membership.votes.len() <= 4_096);
    let contact = &bench.membership.roster.contacts()[&id(2)];
    assert!(contact.view().is_some_and(|lives| lives.len() <= LISTED + 1));
    let told = contact.status().expect("it was told");
    assert!([told.silent.len(), told.joining.len(), told.unlinked.len()] == [LISTED; 3]);
    // Strangers that speak through it.
    for n in 0..1_100_u32 {
        let me = Member { id: stranger(7, n), ..member(9) };
        let mut word = bench.tell(9, |status| status.me = me.clone());
        if let MemberWord::Heartbeat { view, .. } = &mut word {
            *view = ViewId(u64::from(n));
        }
        bench.membership.handle(bench.now, me.run(), false, word);
        bench.all();
    }
    assert!(
        bench.membership.roster.contacts().len() <= LISTED + 2,
        "{}",
        bench.membership.roster.contacts().len()
    );
    // Differences that only add.
    for n in 0..40_u32 {
        let members = (0..100).map(|m| Member { id: stranger(8, n * 100 + m), ..member(9) });
        let (view, base) = (ViewId(u64::from(n) + 10), Some(ViewId(u64::from(n) + 9)));
        let word = MemberWord::View { view, base, members: members.collect(), gone: vec![] };
        bench.word(2, word);
    }
    let lives = bench.membership.roster.contacts()[&id(2)].view().map_or(0, |lives| lives.len());
    assert!(lives <= LISTED, "{lives} lives of one peer's view are kept");
    bench.pass(40 * SECOND, &[2]);
    assert_eq!(bench.membership.dialling.named_addresses(), [0; 0]);
    assert_eq!(bench.membership.roster.contacts().len(), 1, "who fell silent is forgotten");
}

#[test]
fn no_word_of_a_member_and_no_order_of_events_makes_this_node_panic_or_spin() {
    for seed in 0..300_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut pick = |limit: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % limit
        };
        let mut bench = match seed % 3 {
            0 => Bench::with(&[2, 3, 4]),
            1 => Bench::waiting(),
            _ => Bench::alone(),
        };
        for _ in 0..300 {
            let about = pick(6) as u8 + 1;
            let nonce = if pick(4) == 0 { 1_000 } else { u64::from(about) };
            let started = [0, 99, 100, 101, 1 << 62, u64::MAX][pick(6) as usize];
            let incarnation = Incarnation { started, nonce };
            let told = Member { incarnation, ..member(about) };
            let number = pick(400);
            let is_one = pick(2) == 0;
            let from = incarnation.run_of(id(about));
            let mut sender = run(pick(5) as u8 + 1);
            let mut some =
                |most: u64| -> Vec<u8> { (0..pick(most)).map(|_| pick(6) as u8 + 1).collect() };
            let (silent, joining, seen) = (lives(&some(4)), lives(&some(6)), some(6));
            let unlinked = some(3).into_iter().map(id).collect();
            let known = view(&seen);
            let about = id(about);
            let waiting = [None, Some(true), Some(false)][pick(3) as usize];
            let word = match pick(10) {
                0..=3 => {
                    let me = if is_one { told.clone() } else { member(sender.node.key()[0]) };
                    let life = me.incarnation;
                    if is_one {
                        sender = from;
                    }
                    MemberWord::Heartbeat {
                        incarnation: life,
                        number,
                        view: if pick(2) == 0 { known.id() } else { ViewId(pick(4)) },
                        pulse: Pulse::default(),
                        hears: (pick(3) > 0).then_some(Heard {
                            incarnation: bench.membership.incarnation(),
                            straight: pick(2) == 0,
                        }),
                        fence: (pick(9) == 0).then_some(incarnation),
                        status: (pick(3) > 0)
                            .then(|| Box::new(Status { me, waiting, silent, joining, unlinked })),
                    }
                }
                4 | 5 => MemberWord::View {
                    view: known.id(),
                    base: (pick(3) == 0).then_some(ViewId(pick(4))),
                    members: known.members.into_values().collect(),
                    gone: vec![about],
                },
                6 if is_one => MemberWord::Ask,
                6 => MemberWord::Confirm { incarnation, question: number },
                7 if is_one => MemberWord::Confirmed { incarnation, question: number },
                7 => MemberWord::Down { about, incarnation, voters: vec![id(1), id(2)] },
                8 => MemberWord::Fenced { incarnation },
                _ => MemberWord::Bye { incarnation },
            };
            match pick(9) {
                0 => bench.membership.linked(bench.now, hello(told, vec![member(4)])),
                1 => bench.membership.unlinked(bench.now, from),
                2 => bench.membership.unreachable(bench.now, about, is_one),
                3 => bench.now += QUARTER * pick(20) as u32,
                4 => bench.membership.settled(bench.now),
                _ => bench.membership.handle(bench.now, sender, pick(2) == 0, word),
            }
            bench.membership.tick(bench.now);
            let m = &bench.membership;
            assert!(m.deadline().is_none_or(|at| at > bench.now), "seed {seed}");
            assert!(m.is_live(m.me().run()), "seed {seed}");
            let others = m.view().members.keys().filter(|node| **node != id(1));
            assert!(others.clone().all(|node| m.roster.contact(*node).is_some()), "seed {seed}");
            let over = |member: &Member| m.fenced(member.id, member.incarnation);
            assert!(!m.view().members.values().any(over), "seed {seed}: one is in that is over");
            assert!(!m.is_waiting() || others.count() == 0, "seed {seed}: it waits in a view");
            bench.all();
        }
    }
}

#[test]
fn addresses_that_change_are_announced_and_told_to_all_members_once() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(QUARTER, &[2, 3]);
    let addresses = vec!["/ip4/10.0.0.1/tcp/1".to_owned()];
    let moved = Member { addresses, revision: 1, ..member(1) };
    for told in [true, false] {
        bench.membership.set_addresses(bench.now, moved.addresses.clone());
        bench.now += Duration::from_millis(4);
        bench.membership.tick(bench.now);
        let outputs = bench.all();
        let announce = MemberOutput::Announce {
            me: moved.clone(),
            known: vec![member(2), member(3)],
            fenced: Vec::new(),
        };
        assert_eq!(outputs.contains(&announce), told);
        let tells = |output: &MemberOutput| match output {
            MemberOutput::Send { word: MemberWord::Heartbeat { status, .. }, .. } => {
                status.as_ref().is_some_and(|status| status.me == moved)
            }
            _ => false,
        };
        let count = outputs.iter().filter(|output| tells(output)).count();
        assert_eq!(count, if told { 2 } else { 0 });
        assert!(!outputs.contains(&MemberOutput::ViewChanged), "the view is the same");
    }
    assert_eq!(bench.membership.me(), &moved);
    // No more than a node may have, and none that is absurd.
    let many = (0..20).map(|n| format!("/memory/{n}")).chain(["x".repeat(1_000)]);
    bench.membership.set_addresses(bench.now, many.collect());
    assert_eq!(bench.membership.me().addresses.len(), 16);
}

#[test]
fn a_member_is_dialled_at_its_new_addresses_when_it_tells_them() {
    let mut bench = Bench::with(&[2]);
    let addresses = vec!["/memory/9".to_owned()];
    let moved = Member { addresses: addresses.clone(), revision: 1, ..member(2) };
    let outputs = bench.says(2, |status| status.me = moved.clone());
    assert_eq!(outputs, [MemberOutput::Connect { node: id(2), addresses }]);
    assert_eq!(bench.says(2, |status| status.me = moved), []);
    assert_eq!(bench.says(2, |_| {}), [], "what is older is not believed");
}

#[test]
fn a_link_to_a_stranger_over_which_nothing_comes_is_dialled_anew() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    let outputs = bench.pass(6 * SECOND, &[2]);
    assert!(
        outputs.ends_with(&[disconnect(3, "nothing comes over it"), connect(3)]),
        "{outputs:?}"
    );
    assert!(!bench.membership.is_linked(id(3)));
}
