//! What nodes tell each other when somebody looks at the cluster. Nothing is decided by it.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{
    child::Epoch,
    departed::DepartedNode,
    event::{EventLevel, HandoverPhases},
    id::{ChildId, KindName, NodeId},
    parked::{ApplyAnswer, ParkedInfo, ParkedKey},
    report::ChildLeft,
};

/// The most children or handovers of which one answer tells.
pub const MOST_ASKED: usize = 1_000;
/// The most events that one question asks for.
pub const MOST_EVENTS: usize = 100;
/// The largest state that is shown, in bytes: it travels as a word.
pub const MOST_SHOWN: usize = 2 << 20;

/// A question to one node, or its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ObserveWord {
    /// A question.
    Ask {
        /// The asker's number.
        request: u64,
        /// What is asked.
        question: Question,
    },
    /// The answer.
    Tell {
        /// From the question.
        request: u64,
        /// What is said.
        answer: Answer,
    },
}

/// What can be asked of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// How is it?
    Node {
        /// Whether its links are asked for, too.
        links: bool,
    },
    /// What do these children of it do? At most [`MOST_ASKED`].
    Children {
        /// The children.
        ids: Vec<ChildId>,
    },
    /// Which of its children move, and which moves have ended since?
    Handovers {
        /// The number up to which the asker knows those that have ended; 0: it knows none.
        since: u64,
    },
    /// What is the state of this child of it? Its actor is asked as for a handover, and goes on.
    State {
        /// The child.
        child: ChildId,
    },
    /// Which parked states does it hold?
    Parked,
    /// What is in this parked state of it?
    ParkedState {
        /// Its name.
        key: ParkedKey,
    },
    /// Will it please give this parked state of it to its child?
    ApplyParked {
        /// Its name.
        key: ParkedKey,
        /// Whether the child's own state is replaced, and parked in exchange; else they are merged.
        replace: bool,
        /// How long the child may take.
        wait: Duration,
    },
    /// Will it please discard this parked state of it?
    DiscardParked {
        /// Its name.
        key: ParkedKey,
    },
    /// Will it please leave?
    Leave,
    /// Will it please be drained, or take children again?
    Drain {
        /// Whether it shall be drained.
        on: bool,
    },
    /// Will it please not leave?
    Stay,
    /// What has it seen of this child?
    History {
        /// The child.
        child: ChildId,
        /// At most so many events, and [`MOST_EVENTS`].
        limit: u32,
    },
    /// Which nodes have gone, and what did that cost it?
    Departed,
    /// What has it seen lately?
    Events {
        /// Which events are wanted.
        filter: EventFilter,
        /// Only those before this place, if there is one.
        before: Option<EventPlace>,
        /// At most so many events, and [`MOST_EVENTS`].
        limit: u32,
    },
}

/// Which events are wanted: those that fit all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventFilter {
    /// At least as grave; `None`: any.
    pub level: Option<EventLevel>,
    /// Their words contain this, in whichever case.
    pub text: Option<String>,
    /// About this child.
    pub child: Option<ChildId>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Not before, in milliseconds since 1970.
    pub since: Option<u64>,
    /// Not after, in milliseconds since 1970.
    pub until: Option<u64>,
}

/// Where an event stands among those of all nodes: by the clocks of the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventPlace {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// The node that saw it.
    pub node: NodeId,
    /// Its number there.
    pub number: u64,
}

impl Question {
    /// Whether it matters how often it is heard.
    #[must_use]
    pub fn acts(&self) -> bool {
        matches!(self, Self::ApplyParked { .. } | Self::DiscardParked { .. })
    }
}

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// To `Node`.
    Node(NodeReport),
    /// To `Children`: those that are there.
    Children(Vec<RuntimeReport>),
    /// To `Handovers`.
    Handovers(HandoversReport),
    /// To `State` and `ParkedState`.
    State(Result<StateReport, StateUnknown>),
    /// To `Parked`: by their names.
    Parked(Vec<ParkedReport>),
    /// To `ApplyParked`.
    Applied(ApplyAnswer),
    /// To `DiscardParked`: whether it held it.
    Discarded(bool),
    /// To `Leave`: it begins, or no node would take its children.
    Leave {
        /// How many children it has.
        children: u64,
        /// Whether it begins.
        begins: bool,
    },
    /// To `Drain`: it does, or no node would take its children.
    Drain {
        /// How many children it has.
        children: u64,
        /// Whether it does what it was asked for.
        begins: bool,
    },
    /// To `Stay`: whether it stays. If not, everything is handed over, and it goes.
    Stay(bool),
    /// To `History`: the latest first; `None`: it does not record any.
    History(Option<Vec<EventReport>>),
    /// To `Departed`: the latest first.
    Departed(Vec<DepartedNode>),
    /// To `Events`; `None`: it does not record any.
    Events(Option<EventsReport>),
}

/// The latest events of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsReport {
    /// The latest first.
    pub events: Vec<EventReport>,
    /// How many further ones fit and are before those.
    pub more: u64,
    /// How many the node remembers that fit, whatever their place.
    pub total: u64,
}

/// An event, as the node remembers it that saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventReport {
    /// Names it on its node.
    pub id: String,
    /// Its number there, in that life of the node.
    pub number: u64,
    /// The child that it is about, if it is about one.
    pub child: Option<ChildId>,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// What kind of event.
    pub kind: String,
    /// `info`, `warn` or `error`.
    pub level: String,
    /// What happened, in words.
    pub text: String,
    /// The same for programs, as an object in JSON.
    pub fields: String,
}

/// How a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The version of its crate.
    pub version: String,
    /// How long its hub has run.
    pub uptime: Duration,
    /// Messages that wait, at its children and on their way from it.
    pub queued: u64,
    /// Handlers that it has started.
    pub handled: u64,
    /// Children that it hands over now.
    pub handovers: u64,
    /// Its links to the other members, if they were asked for.
    pub links: Vec<LinkReport>,
    /// What it still has to hand over, if it leaves or is drained.
    pub left: Option<LeftReport>,
}

/// What a node that hands its children over still has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftReport {
    /// How many children.
    pub children: u64,
    /// The first [`MOST_LEFT`](super::report::MOST_LEFT) of them, each with the reason.
    pub first: Vec<ChildLeft>,
}

/// A link, as one end of it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// The member at the other end.
    pub to: NodeId,
    /// Whether it works in both directions.
    pub up: bool,
    /// Who takes messages for that member instead, if somebody does.
    pub by: Option<NodeId>,
    /// How long a word takes there and back, if that was measured.
    pub round_trip: Option<Duration>,
}

/// What a child does, as the node that runs it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeReport {
    /// The child.
    pub child: ChildId,
    /// What it is doing.
    pub phase: ChildPhase,
    /// How often it was restarted since it came to the node.
    pub restarts: u64,
    /// Messages that wait for it there.
    pub mailbox: u64,
    /// Handlers that were started there since its door was made.
    pub handled: u64,
    /// Since when it has been there, in milliseconds since 1970.
    pub since: u64,
    /// Who handed it over to the node, and at which epoch, if it came by a handover.
    pub came: Option<(NodeId, Epoch)>,
    /// Why its state cannot go, as far as that was seen.
    #[serde(default)]
    pub immovable: Option<String>,
}

/// What a child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChildPhase {
    /// It is being started.
    Starting,
    /// It runs.
    Running,
    /// It ended, or could not start, and is started again after a pause.
    Waiting,
    /// It ended too often and was given up.
    Failed,
    /// It is being handed over.
    Moving,
    /// It is being stopped.
    Stopping,
    /// It gives way to another owner after a split.
    Yielding,
}

/// The handovers from a node and to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoversReport {
    /// Those from it that are under way, at most [`MOST_ASKED`].
    pub running: Vec<HandoverReport>,
    /// Those that have ended since, the latest first, at most [`MOST_ASKED`].
    pub ended: Vec<HandoverReport>,
    /// How many have ended in this life of the node.
    pub count: u64,
}

/// One handover, as its source knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandoverReport {
    /// The child.
    pub child: ChildId,
    /// Its kind.
    pub kind: KindName,
    /// The source.
    pub from: NodeId,
    /// The target.
    pub to: NodeId,
    /// The attempt.
    pub epoch: Epoch,
    /// How it stands.
    pub status: HandoverStatus,
    /// Bytes of state; `None`: not known (yet).
    pub bytes: Option<u64>,
    /// When it began, in milliseconds since 1970.
    pub began: u64,
    /// How long it took, or has taken.
    pub took: Duration,
    /// How long each phase took.
    pub phases: HandoverPhases,
}

/// How a handover stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandoverStatus {
    /// It is under way.
    Running,
    /// The successor runs.
    Done,
    /// The child goes on where it was.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A parked state, as a node that holds it knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedReport {
    /// What is known of it. The reason has 256 bytes at most.
    pub info: ParkedInfo,
    /// Its bytes.
    pub bytes: u64,
}

/// The state of a child, as a handover would carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateReport {
    /// The epoch at which the child runs.
    pub epoch: Epoch,
    /// The version of the state.
    pub state_version: u32,
    /// Its CBOR, at most [`MOST_SHOWN`] bytes.
    pub state: Bytes,
}

/// Why a state cannot be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum StateUnknown {
    /// The child does not run there, or is moving.
    #[error("the child does not run there now")]
    NotHere,
    /// It is too large.
    #[error("the state has {size} bytes, at most {limit} are shown")]
    TooLarge {
        /// Its bytes.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Its handlers did not come to rest in time, or too many ask already.
    #[error("the child did not come to rest in time; ask again")]
    Busy,
    /// It could not be prepared or encoded.
    #[error("{0}")]
    Failed(String),
}
