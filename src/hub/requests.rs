//! What can be asked of a [`HubSystem`](super::system::HubSystem): ordinary Actix messages.

use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use actix::prelude::*;

use super::topics::tally::TopicCounts;
use crate::{
    error::{DrainError, LeaveError, MigrateError},
    model::{
        address::SeedOutcome,
        child::{ChildFailure, ChildSpec, Epoch},
        departed::DepartedNode,
        id::{ChildId, Incarnation, KindName, NodeId, NodeName, Tag},
        labels::Labels,
        member::{NodePath, NodeState},
        report::{StartReport, StopReport},
        settings::OnFailure,
    },
};

/// This node's hub has stopped, or is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the hub has stopped")]
pub struct HubStopped;

/// Starts children, each on the node where it belongs.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<StartReport, HubStopped>")]
pub struct StartChildren {
    /// The children.
    pub specs: Vec<ChildSpec>,
    /// What becomes of the others when one fails.
    pub on_failure: OnFailure,
    /// How long to wait; `None`: `Settings::request_timeout`.
    pub timeout: Option<Duration>,
}

/// Stops children for good, wherever they run.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<StopReport, HubStopped>")]
pub struct StopChildren {
    /// The children.
    pub children: Vec<ChildId>,
    /// How long to wait; `None`: `Settings::request_timeout`.
    pub timeout: Option<Duration>,
}

/// Moves a child to a node and binds it there.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Epoch, MigrateError>")]
pub struct Migrate {
    /// The child.
    pub child: ChildId,
    /// Where to.
    pub to: NodeId,
    /// Whether handlers that run on after `retention` are cut off; their callers are told that
    /// their message may have been handled.
    pub forced: bool,
    /// How long to wait; `None`: `Settings::request_timeout`.
    pub timeout: Option<Duration>,
}

/// Binds a child to no node any more: it goes where the distribution has it.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), MigrateError>")]
pub struct Release {
    /// The child.
    pub child: ChildId,
    /// How long to wait; `None`: `Settings::request_timeout`.
    pub timeout: Option<Duration>,
}

/// Hands every child of this node over and leaves the cluster. The hub itself still has to be
/// stopped afterwards; `Hub::leave` does both.
#[derive(Clone, Debug, Default, Message)]
#[rtype(result = "Result<(), LeaveError>")]
pub struct Leave {
    /// How long it may take; `None`: `Settings::leave_timeout`.
    pub timeout: Option<Duration>,
}

/// Takes a leave back: this node takes children again. Refused as `HubStopped` once everything is
/// handed over, as the node goes then.
#[derive(Clone, Debug, Default, Message)]
#[rtype(result = "Result<(), HubStopped>")]
pub struct Stay;

/// Empties this node, which stays in and takes no children.
#[derive(Clone, Debug, Default, Message)]
#[rtype(result = "Result<(), DrainError>")]
pub struct Drain {
    /// How long to wait; `None`: `Settings::leave_timeout`.
    pub timeout: Option<Duration>,
}

/// Takes a drain back: this node takes children again, unless it leaves.
#[derive(Clone, Debug, Default, Message)]
#[rtype(result = "Result<(), HubStopped>")]
pub struct Undrain;

/// What this node knows of the cluster.
#[derive(Clone, Debug, Default, Message)]
#[rtype(result = "Result<Inspection, HubStopped>")]
pub struct Inspect;

/// The answer to [`Inspect`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The nodes that are in, this one included, and those that want to come in; by id.
    pub nodes: Vec<NodeInfo>,
    /// The nodes that went in the last hour, the latest first, at most 256.
    pub departed: Vec<DepartedNode>,
    /// All children, by id.
    pub children: Vec<ChildInfo>,
    /// Whether all members agree on who is in, and this node has the registry of each. While it
    /// has not, starts, stops and moves wait.
    pub is_settled: bool,
    /// What this node waits for, in words: a seed, or what keeps the members from agreeing. `None`
    /// when it is settled.
    pub waits_for: Option<String>,
    /// The children of this node whose state cannot go to another one, by id, and why: a node that
    /// leaves would lose them. Known of those that were to move, and under
    /// `Settings::verify_encoding` of those that were started from nothing and are of a kind of
    /// [`HotSwap::PREPARE_ONLY_READS`](crate::HotSwap::PREPARE_ONLY_READS).
    pub immovable: Vec<(ChildId, String)>,
    /// The seeds, while this node waits to be taken into a cluster by one of them; else none.
    pub seeds: Vec<SeedInfo>,
    /// What became of published messages on this node.
    pub topics: TopicCounts,
}

/// A seed that a node waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeedInfo {
    /// Its multiaddr, or the name of its SRV record.
    pub seed: String,
    /// What came of the latest attempt to reach it.
    pub outcome: SeedOutcome,
}

/// Which children are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// Those of this node.
    Local,
    /// Those of all nodes.
    Global,
}

/// A node that is in the cluster, or wants to come in, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its identity.
    pub id: NodeId,
    /// Its name for people.
    pub name: NodeName,
    /// How it is seen.
    pub state: NodeState,
    /// Whether it is drained: it hands its children over, takes none, and stays in
    /// ([`Hub::drain`](crate::Hub::drain)).
    pub is_draining: bool,
    /// Multiaddrs at which it can be reached.
    pub addresses: Vec<String>,
    /// Labels that say where it is and what it has ([`HubBuilder::label`](crate::HubBuilder::label)).
    pub labels: Labels,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Whether it is this node.
    pub is_self: bool,
    /// How this node reaches it.
    pub path: NodePath,
    /// The members that do not hear it, or are not heard by it, as far as this node knows; by id.
    /// Up to date within a heartbeat.
    pub suspected_by: Vec<NodeId>,
    /// Why it is not in: of each pair the first does not hear the second. At most 16; none for a
    /// member, and for one that comes in at this moment.
    pub missing: Vec<(NodeId, NodeId)>,
}

impl NodeInfo {
    /// Whether it is in the cluster, suspect or leaving ones included.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.state != NodeState::Joining
    }
}

/// A child, as this node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChildInfo {
    /// Its identity.
    pub id: ChildId,
    /// Its kind.
    pub kind: KindName,
    /// The node it belongs to.
    pub node: NodeId,
    /// The epoch of that ownership.
    pub epoch: Epoch,
    /// Why it has no actor now, if it failed: it waits for its next start, or was given up.
    pub failure: Option<ChildFailure>,
    /// The words by which it can be found.
    pub tags: BTreeSet<Tag>,
    /// What its starter noted about it.
    pub metadata: BTreeMap<String, String>,
}

/// A node is admitted from now on, or no more.
#[derive(Message)]
#[rtype(result = "Result<(), HubStopped>")]
pub(crate) struct Admit {
    pub(crate) node: NodeId,
    pub(crate) is_admitted: bool,
}

#[derive(Message)]
#[rtype(result = "Result<Vec<NodeInfo>, HubStopped>")]
pub(crate) struct Nodes;

#[derive(Message)]
#[rtype(result = "Result<Vec<ChildInfo>, HubStopped>")]
pub(crate) struct Children(pub(crate) Scope);

#[derive(Message)]
#[rtype(result = "Result<Option<ChildInfo>, HubStopped>")]
pub(crate) struct Lookup(pub(crate) ChildId);
