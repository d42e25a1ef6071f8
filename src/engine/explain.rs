//! What an engine has to say when somebody asks: who is in, where a child is and why, what moves, how far
//! peers are behind; and how others are asked. Nothing here decides anything.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Engine,
    children::{Instance, Left, Move, Phase},
    io::Way,
    parked::Around,
    registry::Registry,
    relay,
    waits_for::waits_for,
};
use crate::model::{
    address::SeedOutcome,
    child::{ChildFailure, ChildSpec, Entry, Epoch, Ownership, Role, TakenIn},
    id::{ChildId, KindName, NodeId, NodeRun, Origin},
    member::{Member, MemberState, NodePath, NodeState, View},
    message::PeerMessage,
    observe::ObserveWord,
    parked::ParkedKey,
};

/// Which rule a child's place comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Somebody sent it there.
    Pinned,
    /// The distribution put it there.
    Distribution,
    /// Where it belongs it was refused.
    Elsewhere,
    /// It belongs elsewhere and has not moved yet.
    Waiting,
}

/// Where a child is, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Why {
    pub(crate) rule: Rule,
    pub(crate) owner: NodeRun,
    pub(crate) is_live: bool,
    pub(crate) belongs: Option<NodeId>,
    pub(crate) home: Option<NodeId>,
    pub(crate) pinned: Option<NodeId>,
    pub(crate) epoch: Epoch,
    pub(crate) born: Epoch,
    pub(crate) copied: Epoch,
    /// Committed, and its successor is being started.
    pub(crate) is_opening: bool,
    pub(crate) refused_by: BTreeSet<NodeId>,
    /// Why it has no actor.
    pub(crate) failure: Option<ChildFailure>,
    /// The time until its next start, if this node is to start it.
    pub(crate) starts_in: Option<Duration>,
}

/// The strategies, as they describe themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strategies {
    pub(crate) distribution: String,
    pub(crate) redundancy: String,
    pub(crate) partition: String,
}

/// A node that is in, or wants to come in, as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) member: Member,
    pub(crate) state: NodeState,
    pub(crate) path: NodePath,
    /// Members that do not hear it, or are not heard by it, by id.
    pub(crate) suspected_by: Vec<NodeId>,
    /// Of each pair the first does not hear the second.
    pub(crate) missing: Vec<(NodeId, NodeId)>,
}

impl Engine {
    /// Who is in, as this node sees it.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.core.view
    }

    /// Who owns what, as this node knows it.
    #[must_use]
    pub(crate) fn registry(&self) -> &Registry {
        &self.core.registry
    }

    /// This node's run.
    #[must_use]
    pub fn me(&self) -> NodeRun {
        self.core.me
    }

    /// Whether all members have adopted this node's view and their logs are here.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.core.settled
    }

    /// Whether this node has come in and had the registry since it began, or came back.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.core.synced || self.core.settled
    }

    /// The ways on which a member can be asked by who looks at the cluster.
    pub(crate) fn ways_to(&mut self, to: NodeId) -> Vec<Way> {
        self.ways.for_question(&self.membership, &self.core.view, self.core.me.node, to)
    }

    /// Says a word of who looks at the cluster to a member.
    pub(crate) fn observe(&mut self, to: NodeRun, way: Way, word: ObserveWord) {
        let (to, message) = relay::on_way(self.core.me, to, way, PeerMessage::Observe(word));
        self.core.send(to, message);
    }

    /// Parked states that end with this node if it ends now.
    pub(crate) fn last_parked(&self) -> Vec<ParkedKey> {
        self.parked.last(&Around::of(&self.core))
    }

    /// The other nodes that hold a parked state, as far as this one knows; the lowest first.
    pub(crate) fn parked_holders(&self, key: &ParkedKey) -> Vec<NodeId> {
        self.parked.holders(key).collect()
    }

    /// The nodes that are in, and those that are heard and are not, by id.
    pub(crate) fn nodes(&self) -> Vec<Seen> {
        let members = self.core.view.members.values().map(|member| self.seen(member));
        let joiners = self.membership.joiners().into_iter().map(|joiner| Seen {
            path: self.path_to(joiner.member.run()),
            state: NodeState::Joining,
            suspected_by: Vec::new(),
            missing: joiner.missing,
            member: joiner.member,
        });
        let mut nodes: Vec<Seen> = members.chain(joiners).collect();
        nodes.sort_by_key(|seen| seen.member.id);
        nodes
    }

    fn seen(&self, member: &Member) -> Seen {
        let me = self.core.me.node;
        let is_member = |node: &NodeId| self.core.view.member(*node).is_some();
        let mut suspected_by: BTreeSet<NodeId> =
            self.membership.deaf_to(member.id).filter(is_member).collect();
        // That it does not hear this node is this node's suspicion, too.
        if member.state == MemberState::Suspect {
            suspected_by.insert(me);
        }
        suspected_by.remove(&member.id);
        let waits = member.id == me && self.membership.is_waiting();
        Seen {
            state: if waits { NodeState::Joining } else { member.state.into() },
            path: self.path_to(member.run()),
            suspected_by: suspected_by.into_iter().collect(),
            missing: Vec::new(),
            member: member.clone(),
        }
    }

    /// How messages go to a node, or words if no messages can.
    pub(crate) fn path_to(&self, run: NodeRun) -> NodePath {
        match run.node == self.core.me.node {
            true => NodePath::Itself,
            false => self.ways.path_to(&self.membership, run),
        }
    }

    /// What keeps this node from acting, if it may not act.
    pub(crate) fn waits_for(&self) -> Option<String> {
        waits_for(&self.core, &self.membership, &self.settle, &self.returns)
    }

    /// How many nodes are heard and not in.
    pub(crate) fn joiner_count(&self) -> usize {
        self.membership.joiners().len()
    }

    /// Whether this node waits to be taken into a cluster.
    pub(crate) fn is_waiting(&self) -> bool {
        self.membership.is_waiting()
    }

    /// The seeds with what came of the latest attempt to reach each.
    pub(crate) fn seeds(&self) -> impl Iterator<Item = (&String, &SeedOutcome)> {
        self.membership.seeds()
    }

    /// Where a child is, and why.
    pub(crate) fn why(&self, now: Instant, child: &ChildId) -> Option<Why> {
        let core = &self.core;
        let best = core.registry.best(child)?;
        let (ownership, is_opening): (&Ownership, bool) = match best.entry {
            Entry::Owned(ownership) => (ownership, false),
            Entry::Moved { ownership, .. } => (ownership, true),
            Entry::Removed { .. } => return None,
        };
        let instance = self.children.instance(child);
        let starts_in = instance.and_then(|instance| match *instance.phase() {
            Phase::Waiting(wait) => Some(wait.until?.saturating_duration_since(now)),
            _ => None,
        });
        let refused_by =
            instance.map(|i| i.attempts().passed_over().nodes().clone()).unwrap_or_default();
        let pinned = ownership.pinned;
        let belongs = core.belongs(ownership, &BTreeSet::new());
        let here = Some(best.owner.node);
        let rule = if pinned.is_some() && pinned == here && belongs == here {
            Rule::Pinned
        } else if belongs == here {
            Rule::Distribution
        } else if belongs.is_some_and(|node| refused_by.contains(&node)) {
            Rule::Elsewhere
        } else {
            Rule::Waiting
        };
        Some(Why {
            rule,
            owner: best.owner,
            is_live: core.is_live(best.owner),
            belongs,
            home: core.home(child),
            pinned,
            epoch: best.epoch,
            born: ownership.born,
            copied: ownership.copied,
            is_opening,
            refused_by,
            failure: ownership.failure.clone(),
            starts_in,
        })
    }

    /// Where a child would belong if it were bound to no node; `None`: there is none, or nobody takes it.
    pub(crate) fn would_belong(&self, child: &ChildId) -> Option<NodeId> {
        let (_, ownership) = self.core.registry.owner(child)?;
        let free = Ownership { pinned: None, ..ownership.clone() };
        self.core.belongs(&free, &BTreeSet::new())
    }

    /// Where this child would be started now.
    pub(crate) fn would_start(&self, spec: ChildSpec) -> Option<NodeId> {
        let epoch = Epoch::ZERO;
        let (role, spec) = (Role::Active, Arc::new(spec));
        let ownership = Ownership {
            epoch,
            born: epoch,
            copied: epoch,
            role,
            pinned: None,
            origin: Origin::default(),
            taken: TakenIn::default(),
            failure: None,
            spec,
        };
        self.core.belongs(&ownership, &BTreeSet::new())
    }

    /// Whether children of this kind may be on this node.
    pub(crate) fn takes(&self, kind: &KindName, node: NodeId) -> bool {
        self.core.takers(kind).iter().any(|member| member.id == node)
    }

    /// Whether a child is being handed over, as far as this node knows.
    pub(crate) fn is_moving(&self, child: &ChildId) -> bool {
        let here = self.children.instance(child);
        here.is_some_and(|instance| instance.moving().is_some())
            || self
                .core
                .registry
                .best(child)
                .is_some_and(|best| matches!(best.entry, Entry::Moved { .. }))
    }

    /// The moves of this node's children that are under way.
    pub(crate) fn moves(&self) -> impl Iterator<Item = (&ChildId, &Move)> {
        self.children.moves()
    }

    /// A child of this node.
    pub(crate) fn instance(&self, child: &ChildId) -> Option<&Instance> {
        self.children.instance(child)
    }

    /// The children of this node whose state cannot go, by id, and why.
    pub(crate) fn immovable(&self) -> impl Iterator<Item = (&ChildId, &str)> {
        let instances = self.children.instances();
        instances.filter_map(|(child, instance)| Some((child, instance.immovable()?)))
    }

    /// The actors that end with this node if it ends now, each with the epoch of its owner and why it
    /// is here; and how many others own that have not said that they run them. Those that are being
    /// stopped are not among them.
    pub(crate) fn leftover(&self) -> (Vec<(Arc<ChildSpec>, Epoch, String)>, u64) {
        let (mut left, mut committed) = (Vec::new(), 0);
        let waits_for = self.waits_for();
        for (child, instance) in self.children.instances() {
            if instance.is_to_go() && !instance.is_stopping() {
                let why = self.children.why_left(&self.core, child, instance, waits_for.as_deref());
                left.push((instance.spec().clone(), instance.epoch(), why));
            } else if instance.has_actor() && !instance.owns() {
                committed += 1;
            }
        }
        (left, committed)
    }

    /// What this node still has to hand over; `None`: it neither leaves nor is drained.
    pub(crate) fn left(&self) -> Option<Left> {
        let is_emptying = self.core.view.member(self.core.me.node).is_some_and(Member::is_emptying);
        is_emptying.then(|| self.children.left(&self.core, self.waits_for().as_deref()))
    }

    /// How long a word takes to this member and back.
    pub(crate) fn round_trip(&self, node: NodeId) -> Option<Duration> {
        self.membership.round_trip(node)
    }

    /// Whether a link to this member stands, working or not.
    #[cfg(test)]
    pub(crate) fn is_linked(&self, node: NodeId) -> bool {
        self.membership.is_linked(node)
    }

    /// Whether messages to somebody would go another way if it was looked at now.
    #[cfg(test)]
    pub(crate) fn has_stale_ways(&self) -> bool {
        let core = &self.core;
        self.ways.are_stale(core.now, &self.membership, &core.view, core.me.node)
    }

    /// Entries of this node's log that a member has not acknowledged.
    pub(crate) fn lag(&self, node: NodeId) -> u64 {
        let version = self.core.registry.version();
        version.saturating_sub(self.core.registry.acked(node, self.core.me))
    }

    /// Whether this node hands its children over to go, or has.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leave.is_under_way()
    }

    /// Whether some other node takes any of the children of this one.
    pub(crate) fn has_successors(&self, run: NodeRun) -> bool {
        let core = &self.core;
        let itself = BTreeSet::from([run.node]);
        let mut owned = core.registry.owned_by(run);
        owned.any(|(_, ownership)| core.belongs(ownership, &itself).is_some())
    }

    /// Whether this side of a split may act.
    pub(crate) fn may_act(&self) -> bool {
        self.core.config.partition.may_act(&self.core.view)
    }

    /// The strategies, as they describe themselves.
    pub(crate) fn strategies(&self) -> Strategies {
        let config = &self.core.config;
        Strategies {
            distribution: format!("{:?}", config.distribution),
            redundancy: format!("{:?}", config.redundancy),
            partition: format!("{:?}", config.partition),
        }
    }
}
