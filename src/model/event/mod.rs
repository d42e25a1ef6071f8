//! What happens in a hub, as it is told to whoever listens.

use std::{collections::BTreeMap, time::Duration};

mod words;

use serde::{Deserialize, Serialize};

#[cfg(feature = "admin")]
pub(crate) use self::words::EVENT_NAMES;
pub use self::words::EventLevel;
use super::{
    address::SeedOutcome,
    child::Epoch,
    id::{ChildId, KindName, NodeId, NodeName},
    parked::ParkedKey,
    report::ChildLeft,
    words::brief,
};

/// How long each phase of a handover took; `None` for a phase that it did not come to. The last
/// one of a handover that failed is counted until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HandoverPhases {
    /// The target was asked whether it takes the child.
    pub offer: Option<Duration>,
    /// The gate was closed, started handlers finished, the state was encoded.
    pub freeze: Option<Duration>,
    /// The state waited until there was room to send it.
    pub wait: Option<Duration>,
    /// The state travelled and the successor was built.
    pub transfer: Option<Duration>,
    /// The move was committed and the successor started.
    pub open: Option<Duration>,
}

impl HandoverPhases {
    /// The phases with their names, in order.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Option<Duration>); 5] {
        [
            ("offer", self.offer),
            ("freeze", self.freeze),
            ("wait", self.wait),
            ("transfer", self.transfer),
            ("open", self.open),
        ]
    }
}

/// Which children moved, in a while in which many did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Moved {
    /// How many children this node handed over, to each node.
    pub sent: BTreeMap<NodeId, usize>,
    /// Bytes of state that went along with those.
    pub bytes: u64,
    /// How many came to this node with their states, from each node.
    pub received: BTreeMap<NodeId, usize>,
    /// How many this node started as their owners went down, with copies of their states.
    pub recovered: usize,
    /// How many it started as their owners went down, from their arguments.
    pub begun_anew: usize,
    /// How many times a handover from this node failed: the child goes on here.
    pub failed: usize,
}

/// Something that happened, as this node saw it. Reasons have at most about 1,000 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HubEvent {
    /// A node came in.
    NodeJoined {
        /// The node.
        node: NodeId,
        /// Its name for people.
        name: NodeName,
    },
    /// This node has founded a cluster of its own.
    Founded,
    /// This node is in no cluster and waits for one of its seeds; told again every 10 s.
    WaitingForSeeds {
        /// Each seed with its latest outcome.
        seeds: Vec<(String, SeedOutcome)>,
    },
    /// A node that wants to come in is not heard by all members, or does not hear them, for longer
    /// than `Settings::join_timeout`; told again each time that has passed.
    JoinDelayed {
        /// The node.
        node: NodeId,
        /// Who does not hear whom: the first does not hear the second.
        missing: Vec<(NodeId, NodeId)>,
    },
    /// There has been no working link to a node for longer than `Settings::join_timeout`, though
    /// others hear it. Messages go by way of others; it is dialled on.
    LinkMissing {
        /// The node.
        node: NodeId,
        /// Where it was dialled.
        addresses: Vec<String>,
    },
    /// The link to such a node works.
    LinkRestored {
        /// The node.
        node: NodeId,
    },
    /// The members have not agreed on the view for three suspicion windows: starts and moves wait. Or this
    /// node goes on without what a member knows of one that is gone, as that says that it has it and gives
    /// nothing for two.
    Unsettled {
        /// What is waited for, or is not any more.
        reason: String,
    },
    /// A node is silent, or its link broke.
    NodeSuspected {
        /// The node.
        node: NodeId,
    },
    /// A suspected node was heard again.
    NodeRecovered {
        /// The node.
        node: NodeId,
    },
    /// A node hands its children over and will go.
    NodeLeaving {
        /// The node.
        node: NodeId,
    },
    /// A node went: after it had handed everything over, or by a shutdown that was forced. What it still
    /// owned then is started elsewhere.
    NodeLeft {
        /// The node.
        node: NodeId,
    },
    /// This node was asked to leave, and has not within the deadline, or cannot. It takes no children
    /// and goes on handing over what it can, until it is asked again or told to stay.
    LeaveFailed {
        /// Why.
        reason: String,
        /// How many children are left here.
        children: usize,
        /// The first 16 of them, each with the reason.
        left: Vec<ChildLeft>,
    },
    /// A node is drained: it hands its children over, takes none, and stays in.
    NodeDraining {
        /// The node.
        node: NodeId,
    },
    /// This node is drained, and nothing is left on it that would be lost.
    Drained,
    /// This node is drained, and is not empty within the deadline, or cannot be. It goes on draining.
    DrainFailed {
        /// Why.
        reason: String,
        /// How many children are left here.
        children: usize,
        /// The first 16 of them, each with the reason.
        left: Vec<ChildLeft>,
    },
    /// A node that handed its children over takes children again.
    NodeResumed {
        /// The node.
        node: NodeId,
    },
    /// A node was declared down; its children are started elsewhere.
    NodeDown {
        /// The node.
        node: NodeId,
    },
    /// This node was declared down by others while it lived, and came back.
    Rejoined,
    /// A peer was not admitted.
    PeerRefused {
        /// The peer, if it is known.
        node: Option<NodeId>,
        /// Why.
        reason: String,
    },
    /// Another process runs with this node's key, answers, and was there first: this hub stops by
    /// itself, as after [`Hub::stop`](crate::Hub::stop). Give each process a key file of its own.
    KeyInUse {
        /// Where that process is.
        address: String,
        /// The node that has a link to it and said so; `None`: this one has met it.
        by: Option<NodeId>,
    },
    /// A member said something that cannot be true, or asked for more than its share. Only that part
    /// was refused; it stays in, and its other words count. Told once for each run of a node and
    /// kind of fault.
    WordsRefused {
        /// The member.
        node: NodeId,
        /// What was refused.
        reason: String,
    },
    /// A child was started on this node, from nothing.
    ChildStarted {
        /// The child.
        child: ChildId,
        /// Its kind.
        kind: KindName,
        /// The epoch at which it runs.
        epoch: Epoch,
    },
    /// A child was stopped on this node, for good.
    ChildStopped {
        /// The child.
        child: ChildId,
    },
    /// A child ended on this node, or could not start again, and is started after a pause.
    ChildRestarted {
        /// The child.
        child: ChildId,
        /// Why it ended.
        reason: String,
        /// How often it was restarted since it came to this node, this time included.
        restarts: u64,
        /// How long it waits for its next start. Messages wait meanwhile.
        after: Duration,
    },
    /// A child ended more often than its intensity allows. It stays, without an actor, as one that has
    /// failed; what is sent to it is answered as [`NotHandled::GivenUp`](crate::NotHandled::GivenUp).
    /// It is started again when somebody starts a child of its id, when somebody migrates it, and when
    /// a node comes or goes.
    ChildGivenUp {
        /// The child.
        child: ChildId,
        /// Why.
        reason: String,
    },
    /// The state of a child on this node cannot be encoded, or does not come back as it was: the child
    /// cannot move, and is lost when this node goes. Told once, when that was seen: at the first move
    /// that failed for it, when it was to give way after a split, or under `Settings::verify_encoding` when the child has started, if its kind
    /// is one of [`HotSwap::PREPARE_ONLY_READS`](crate::HotSwap::PREPARE_ONLY_READS). Told again only
    /// after its state could be encoded meanwhile. [`Inspection::immovable`](crate::Inspection) lists
    /// such children.
    ChildCannotMove {
        /// The child.
        child: ChildId,
        /// What is wrong with its state, with the path to that.
        reason: String,
    },
    /// This node begins to hand a child over.
    HandoverStarted {
        /// The child.
        child: ChildId,
        /// Its kind.
        kind: KindName,
        /// Where it goes.
        to: NodeId,
        /// The attempt's epoch.
        epoch: Epoch,
    },
    /// This node handed a child over; the successor runs.
    HandedOver {
        /// The child.
        child: ChildId,
        /// Its kind.
        kind: KindName,
        /// Where it went.
        to: NodeId,
        /// The successor's epoch.
        epoch: Epoch,
        /// Bytes of state that went along.
        bytes: u64,
        /// From the offer to the successor's start.
        took: Duration,
        /// How long each phase took.
        phases: HandoverPhases,
    },
    /// A handover failed; the child goes on here, with its whole queue.
    HandoverFailed {
        /// The child.
        child: ChildId,
        /// Its kind.
        kind: KindName,
        /// Where it should have gone.
        to: NodeId,
        /// The attempt's epoch.
        epoch: Epoch,
        /// Why.
        reason: String,
        /// Whether the successor may have run before its node was lost. What it did then is lost
        /// with it, and callers that wrote to it are told
        /// [`HubSendError::MaybeHandled`](crate::HubSendError::MaybeHandled).
        may_have_run: bool,
        /// Bytes of state, if it was encoded.
        bytes: u64,
        /// How long each phase took that it came to.
        phases: HandoverPhases,
    },
    /// A child came to this node with its state and runs.
    TakenOver {
        /// The child.
        child: ChildId,
        /// Its kind.
        kind: KindName,
        /// Where it came from.
        from: NodeId,
        /// Its epoch here.
        epoch: Epoch,
    },
    /// The owner of a child went down; this node started it again.
    Recovered {
        /// The child.
        child: ChildId,
        /// Which node owned it, if that is known.
        from: Option<NodeId>,
        /// Its epoch here.
        epoch: Epoch,
        /// Whether a copy of its state was at hand; if not, it began from its arguments.
        with_state: bool,
    },
    /// Somebody has acted by the admin endpoint of this node, and was answered. Dry runs and what was refused
    /// before it was looked at are not told.
    AdminAction {
        /// What was asked: method and path, without the query.
        action: String,
        /// From which IP address; a proxy's, behind one.
        address: Option<String>,
        /// How clients are told apart there: `loopback`, `token` or `guard`.
        access: String,
        /// The HTTP status of the answer; 499: the client did not wait for it, and the action may go on.
        status: u16,
    },
    /// What many events of single children come to: told when none of them has moved for a second, and every
    /// ten seconds while they do.
    ChildrenMoved {
        /// Which children.
        moved: Moved,
        /// From the first to the last of them.
        took: Duration,
    },
    /// A message without a caller that waits was taken in while its child was on this node, and is lost:
    /// it is larger than `Settings::message_limit`, or cannot be encoded, and the child moved before it
    /// was handled. Of a `send` the caller is told.
    MessageDropped {
        /// The child.
        child: ChildId,
        /// The message's name.
        message: String,
        /// Why it could not go along.
        reason: String,
    },
    /// Two live owners of a child met; this node's actor goes on and was given the other's state.
    DivergenceMerged {
        /// The child.
        child: ChildId,
        /// Whose state was offered.
        from: NodeId,
    },
    /// Two live owners of a child met; this node's actor gave way, and its state was taken.
    DivergenceYielded {
        /// The child.
        child: ChildId,
        /// Whose actor goes on.
        to: NodeId,
    },
    /// The state of an owner that gave way was not merged and is kept on this node: its kind does not
    /// say how, or could not.
    StateParked {
        /// The child.
        child: ChildId,
        /// The state's name.
        key: ParkedKey,
        /// Why it was not merged.
        reason: String,
    },
    /// A parked state was given to its child, which runs on this node; nobody keeps it any more.
    ParkedStateApplied {
        /// The child.
        child: ChildId,
        /// The state's name.
        key: ParkedKey,
        /// Whether it took the place of the child's own, which is parked now; else they were merged.
        replaced: bool,
    },
    /// A parked state was discarded on this node; no other one keeps it either.
    ParkedStateDiscarded {
        /// The child.
        child: ChildId,
        /// The state's name.
        key: ParkedKey,
    },
    /// A parked state is lost: there was no room for it on this node, and no other one is known to
    /// hold it. Fetch or apply parked states in time.
    ParkedStateDropped {
        /// The child.
        child: ChildId,
        /// Why.
        reason: String,
    },
}

impl HubEvent {
    /// The same with a reason that is not too long to be kept.
    pub(crate) fn brief(mut self) -> Self {
        match &mut self {
            Self::PeerRefused { reason, .. }
            | Self::WordsRefused { reason, .. }
            | Self::LeaveFailed { reason, .. }
            | Self::DrainFailed { reason, .. }
            | Self::Unsettled { reason }
            | Self::ChildRestarted { reason, .. }
            | Self::ChildGivenUp { reason, .. }
            | Self::ChildCannotMove { reason, .. }
            | Self::HandoverFailed { reason, .. }
            | Self::MessageDropped { reason, .. }
            | Self::ParkedStateDropped { reason, .. }
            | Self::StateParked { reason, .. }
            | Self::AdminAction { action: reason, .. } => *reason = brief(std::mem::take(reason)),
            _ => {}
        }
        self
    }
}
