//! Each machine alone: what goes in, and all that comes out.

mod attempts;
mod left;
mod lifecycle;
mod lineage;
mod others;
mod pacing;
mod rebalance;
mod registry_says;
mod retire;
mod roll;
mod source;
mod table;
mod target;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Children, Instance,
    phase::Begin,
    roll::hold,
    steps::{Start, Steps},
};
use crate::{
    engine::{
        core::{Core, News, Timer},
        distribution::Distribution,
        handover::{SourceInput, TargetStage},
        io::{ChildOrder, Effect, EngineConfig, KindInfo},
        membership::founding::Founding,
        partition::Divergence,
        redundancy::Singularity,
    },
    model::{
        access::AccessList,
        child::{ChildSpec, Entry, Epoch, Ownership, Role, TakenIn},
        event::HubEvent,
        id::{ChildId, Incarnation, KindName, NodeId, NodeName, NodeRun, Origin},
        member::{Member, MemberState, View},
        message::{Copy, HandoverWord, LogEntry, PeerMessage},
        parked::ParkedKey,
        settings::Settings,
    },
};

/// What tests change and see that nobody else may.
impl Children {
    /// Begins an instance from nothing.
    pub(crate) fn begin(&mut self, core: &mut Core, spec: Arc<ChildSpec>, epoch: Epoch) {
        let (pinned, origin, stops) = (None, Origin::default(), Vec::new());
        let start = Start { spec, epoch, pinned, origin, stops };
        let (table, pacing) = (&mut self.table, &mut self.pacing);
        Steps { table, pacing, core }.begin(start, Begin::Recovered);
    }

    /// Loses an instance, as if it had never been there.
    pub(crate) fn lose(&mut self, child: &ChildId) {
        self.table.remove(child);
    }

    /// What is answered to a roll call.
    pub(crate) fn hold(&self, child: &ChildId) -> (Copy, Epoch, Epoch) {
        hold(&self.table, child)
    }

    /// How far the successor of a child is.
    pub(crate) fn successor_stage(&self, child: &ChildId) -> Option<TargetStage> {
        self.table.successor(child).map(|successor| successor.stage())
    }

    /// The ownership that the successor of a child will have.
    pub(crate) fn successor_ownership(&mut self, child: &ChildId) -> Option<&mut Ownership> {
        self.table.successor_mut(child).map(|successor| successor.ownership_mut())
    }

    /// States of others that are not answered.
    pub(crate) fn merge_count(&self) -> usize {
        self.merges.len()
    }

    /// Drops what would be merged into a child.
    pub(crate) fn forget_merges(&mut self, child: &ChildId) -> Vec<Epoch> {
        self.merges.forget(child)
    }
}

/// Every child belongs on the first of these nodes that takes children.
#[derive(Debug)]
struct Prefers(Vec<NodeId>);

impl Distribution for Prefers {
    fn owners(&self, _: &ChildSpec, members: &[Member], count: usize) -> Vec<NodeId> {
        let is_there = |node: &&NodeId| members.iter().any(|member| member.id == **node);
        let preferred = self.0.iter().filter(is_there).copied();
        let others = members.iter().map(|member| member.id).filter(|id| !self.0.contains(id));
        preferred.chain(others).take(count).collect()
    }
}

fn id(n: u8) -> NodeId {
    NodeId::from_key([n; 32])
}

fn run(n: u8) -> NodeRun {
    NodeRun { node: id(n), nonce: n.into() }
}

fn epoch(term: u64, attempt: u64) -> Epoch {
    Epoch { term, attempt }
}

fn child() -> ChildId {
    child_of(0)
}

fn child_of(n: usize) -> ChildId {
    ChildId::new(format!("c{n}")).expect("a valid id")
}

fn kind() -> KindName {
    KindName::new("kind").expect("a valid name")
}

fn spec() -> Arc<ChildSpec> {
    Arc::new(ChildSpec::from_parts(child(), kind(), Bytes::new()))
}

fn member(n: u8) -> Member {
    Member {
        id: id(n),
        incarnation: Incarnation { started: 100, nonce: n.into() },
        name: NodeName::new(format!("n{n}")).expect("a plain word"),
        addresses: Vec::new(),
        weight: 1,
        state: MemberState::Alive,
        draining: false,
        labels: Default::default(),
        revision: 0,
    }
}

/// An owner that began at this epoch.
fn owned(epoch: Epoch) -> Ownership {
    Ownership {
        epoch,
        born: epoch,
        copied: epoch,
        role: Role::Active,
        pinned: None,
        origin: Origin::default(),
        taken: TakenIn::default(),
        failure: None,
        spec: spec(),
    }
}

fn order(order: ChildOrder) -> Effect {
    Effect::Child(order)
}

fn emit(event: HubEvent) -> Effect {
    Effect::Emit(event)
}

fn says(to: u8, word: HandoverWord) -> Effect {
    Effect::Send { to: id(to), message: PeerMessage::Handover(word) }
}

/// Node 1 of a settled cluster of three, and the machines of its children.
struct Node {
    core: Core,
    children: Children,
}

impl Node {
    /// Children belong on the first of these nodes that takes children.
    fn new(prefers: &[u8]) -> Self {
        Self::with(prefers, Settings::default())
    }

    fn with(prefers: &[u8], settings: Settings) -> Self {
        let kinds = [(kind(), KindInfo { state_version: 3, oldest_state_version: 2 })];
        let config = EngineConfig {
            node: id(1),
            incarnation: Incarnation { started: 100, nonce: 1 },
            name: NodeName::new("n1").expect("a plain word"),
            addresses: Vec::new(),
            labels: Default::default(),
            settings,
            kinds: BTreeMap::from(kinds),
            founding: Founding::Found,
            access: AccessList::open(),
            seed: 1,
            distribution: Arc::new(Prefers(prefers.iter().copied().map(id).collect())),
            redundancy: Arc::new(Singularity),
            partition: Arc::new(Divergence),
        };
        let mut node =
            Self { core: Core::new(config, Instant::now()), children: Children::default() };
        node.adopt([1, 2, 3].map(member));
        node.core.reachable = [run(2), run(3)].into();
        node
    }

    /// Another view, in which it is settled.
    fn adopt(&mut self, members: impl IntoIterator<Item = Member>) {
        let members = members.into_iter().map(|member| (member.id, member)).collect();
        self.core.adopt(View { members });
        self.core.settled = true;
        self.core.effects.clear();
    }

    /// A child of this node that runs, at epoch 1.0.
    fn running(prefers: &[u8]) -> Self {
        let mut node = Self::new(prefers);
        node.run_child();
        node
    }

    /// A child that is on its way to node 2, after these inputs.
    fn on_its_way(inputs: &[SourceInput]) -> Self {
        let mut node = Self::running(&[2]);
        node.children.enqueue(&node.core, &child());
        node.children.pump(&mut node.core);
        for input in inputs {
            node.children.source(&mut node.core).step(&child(), input.clone());
        }
        node.forget();
        node
    }

    /// A copy whose successor on node 2 has not said that it runs.
    fn committed() -> Self {
        use SourceInput::*;
        let node = Self::on_its_way(&[Accepted, Frozen(Ok(8)), Ready]);
        assert!(!node.instance().owns());
        node
    }

    fn run_child(&mut self) {
        self.children.begin(&mut self.core, spec(), epoch(1, 0));
        self.children.started(&mut self.core, &child(), epoch(1, 0), Ok(()));
        self.forget();
    }

    fn forget(&mut self) {
        self.core.effects.clear();
        self.core.news.clear();
        self.core.touched.clear();
        self.timers();
    }

    /// All that was done since it was asked last.
    fn effects(&mut self) -> Vec<Effect> {
        self.core.effects.drain(..).collect()
    }

    /// All that was told to other machines, as text: it cannot be compared.
    fn news(&mut self) -> String {
        format!("{:?}", self.core.news.drain(..).collect::<Vec<_>>())
    }

    /// All that a timer runs for, the earliest first.
    fn timers(&mut self) -> Vec<Timer> {
        let now = self.core.now;
        self.core.now = now + Duration::from_secs(1_000_000);
        let timers = std::iter::from_fn(|| self.core.due_timer()).collect();
        self.core.now = now;
        timers
    }

    fn pass(&mut self, time: Duration) {
        self.core.now += time;
    }

    /// Another run's log says this of the child.
    fn log_says(&mut self, n: u8, entry: Entry) {
        let registry = &mut self.core.registry;
        let from = registry.watermark(run(n));
        let entry = LogEntry { version: from + 1, child: child(), entry };
        registry.apply_changes(run(n), from, from + 1, vec![entry]);
    }

    /// This node promises a term of the child to a home.
    fn promise(&mut self, home: u8, term: u64) {
        let given = self.core.promises.give(run(home), &child(), term);
        assert_eq!(given.expect("there is room"), None);
    }

    /// What this node's log says of the child.
    fn entry(&self) -> Option<Entry> {
        let child = child();
        let mut entries = self.core.registry.entries_of(&child);
        entries.find(|(run, _)| *run == self.core.me).map(|(_, entry)| entry.clone())
    }

    fn instance(&self) -> &Instance {
        self.children.instance(&child()).expect("it is here")
    }
}

/// What is compared with [`Node::news`].
fn news(news: &[News]) -> String {
    format!("{news:?}")
}
