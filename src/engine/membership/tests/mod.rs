//! One rule at a time: what comes in, and all that comes out.

mod adopting;
mod bounds;
mod dialling;
mod fences;
mod first_settle;
mod founding;
mod hearing;
mod heartbeats;
mod joining;
mod leaving;
mod mute;
mod pauses;
mod runs;
mod telling;
mod unsteady;
mod votes;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{MemberOutput, Membership, founding::Founding};
use crate::model::{
    address::SeedOutcome,
    child::Epoch,
    event::HubEvent,
    id::{HubName, Incarnation, Life, NodeId, NodeName, NodeRun},
    member::{Hello, Member, MemberState, View, ViewId, WIRE_VERSION},
    message::{Heard, LostNode, MemberWord, Pulse, Status},
    settings::Settings,
    tags::{LISTED, LifeSet},
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

fn life_set(nodes: &[u8]) -> LifeSet {
    lives(nodes).into_iter().collect()
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
        draining: false,
        labels: Default::default(),
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
    let (version, fenced, dialled) = (WIRE_VERSION, None, None);
    Hello { version, hub, me, fenced, known, dialled, seen: None, up: 0, linked: false }
}

fn status(me: Member) -> Status {
    let (joining, unlinked) = Default::default();
    Status { me: Some(Arc::new(me)), waiting: None, silent: vec![], joining, unlinked }
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
        if super::is_many(others.len()) {
            // Then not every word is judged at once.
            self.pass(HALF, others);
        }
        assert_eq!(self.membership.view().members.len(), others.len() + 1, "they are in");
        self.membership.settled(self.now);
        self.all();
    }

    fn all(&mut self) -> Vec<MemberOutput> {
        std::iter::from_fn(|| self.membership.next_output()).collect()
    }

    /// All outputs but heartbeats, views, lost nodes and announcements.
    fn outputs(&mut self) -> Vec<MemberOutput> {
        let mut outputs = self.all();
        let is_voice = |word: &MemberWord| {
            matches!(
                word,
                MemberWord::Heartbeat { .. } | MemberWord::View { .. } | MemberWord::Lost { .. }
            )
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
            next: 1_000,
            wants_all: false,
            view: self.view_of(n),
            pulse: Pulse::default(),
            hears: Some(Heard { incarnation: self.membership.incarnation(), straight: true }),
            fence: None,
            version: 0,
            revision: 0,
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
        self.says(n, |status| status.joining = life_set(joining))
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
