//! The errors of the public operations.

use crate::model::{
    id::{ChildId, InvalidId, KindName, NodeId},
    labels::InvalidLabel,
    parked::{ApplyFailed, ParkedKey},
    report::{ChildLeft, StartFailed, late, named},
    settings::InvalidSetting,
};

/// Why a message got no reply. [`may_have_been_handled`](Self::may_have_been_handled) tells
/// whether it is safe to send it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HubSendError {
    /// The message was certainly not handled and will not be.
    #[error("the message to {child} was not handled: {reason}")]
    NotHandled {
        /// The child it was for.
        child: ChildId,
        /// Why.
        reason: NotHandled,
    },
    /// The message may have been handled, or may still be; its reply is lost.
    #[error("the message to {child} may have been handled: {reason}")]
    MaybeHandled {
        /// The child it was for.
        child: ChildId,
        /// Why nothing more is known.
        reason: MaybeHandled,
    },
}

impl HubSendError {
    /// Whether the child may have handled the message.
    #[must_use]
    pub fn may_have_been_handled(&self) -> bool {
        matches!(self, Self::MaybeHandled { .. })
    }
}

/// Why a message was certainly not handled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotHandled {
    /// The hub knows no such child.
    #[error("there is no such child")]
    NoSuchChild,
    /// The child is of a kind that starts [on demand](crate::KindBuilder::on_demand), and was not started.
    #[error("the child is started on demand, and was not: {reason}")]
    NotStarted {
        /// Why.
        reason: StartFailed,
    },
    /// The child was stopped for good before it came to the message.
    #[error("the child was stopped")]
    Stopped,
    /// The child ended too often and was given up:
    /// [`ChildInfo::failure`](crate::ChildInfo::failure) says why. Start it again with
    /// [`Hub::start_child`](crate::Hub::start_child) once its cause is mended.
    #[error("the child has failed and was given up")]
    GivenUp,
    /// The queue is full. Try again when it has drained.
    #[error("the queue is full")]
    Busy,
    /// The deadline passed before the message was started or sent.
    #[error("the deadline passed first")]
    Timeout,
    /// The message is larger than `Settings::message_limit`.
    #[error("it has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its bytes in CBOR.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The message type was not registered for the child's kind, here or on its node.
    #[error("message {name} is not registered for kind {kind}")]
    NotRegistered {
        /// The message's name.
        name: String,
        /// The kind.
        kind: KindName,
    },
    /// The child is of another kind than the reference says.
    #[error("the child is of another kind than {expected}")]
    WrongKind {
        /// The kind of the reference.
        expected: KindName,
    },
    /// The message could not be encoded, or would be another one on another node.
    #[error("it could not be encoded: {0}")]
    Encode(String),
    /// The message was encoded and would be another one, or none, when it is read. Found where
    /// [`Settings::verify_encoding`](crate::Settings::verify_encoding) is on.
    #[error("message {name} of kind {kind} does not come back as it was sent: {reason}")]
    NotReadBack {
        /// The message's name.
        name: String,
        /// The kind.
        kind: KindName,
        /// What is wrong with it, with the path to that.
        reason: String,
    },
    /// The child's node could not decode the message.
    #[error("the child's node could not decode it: {0}")]
    Decode(String),
    /// This node's hub has stopped, or has handed its last child over and says goodbye.
    #[error("the hub has stopped")]
    HubStopped,
}

impl NotHandled {
    /// Whether no other node could be given the message, whatever has become of its child.
    pub(crate) fn is_unsendable(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Encode(_) | Self::NotReadBack { .. })
    }
}

/// Why nothing is known of a message that was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MaybeHandled {
    /// No reply within the deadline.
    #[error("no reply within the deadline")]
    Timeout,
    /// The child's node went down.
    #[error("the child's node went down")]
    NodeDown,
    /// The handler started and was dropped before it replied: it panicked, or the child ended.
    #[error("the handler ended without a reply")]
    NoReply,
    /// The handler replied and the reply was too large to send, or could not be encoded or decoded.
    #[error("the reply was lost: {0}")]
    ReplyLost(String),
    /// This node's hub stopped while the reply was awaited.
    #[error("the hub stopped")]
    HubStopped,
}

/// Why a hub did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartHubError {
    /// A name does not have its shape.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// A setting is outside its range.
    #[error(transparent)]
    Setting(#[from] InvalidSetting),
    /// A label does not have its shape, or the node has too many.
    #[error(transparent)]
    Label(#[from] InvalidLabel),
    /// The same kind, or the same message name of a kind, was registered twice.
    #[error("{what} {name} is registered twice")]
    RegisteredTwice {
        /// `kind` or `message`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// An address is no multiaddr of a kind that is supported.
    #[error("address {address:?} is not valid: {reason}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The node cannot listen there.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// As given.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// Nothing says who may join. Set a shared secret, an allow list, or `Admission::Open` on
    /// loopback.
    #[error("{0}")]
    Admission(String),
    /// The key file cannot be read or written.
    #[error("key file {path}: {reason}")]
    KeyFile {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The folder of [`HubBuilder::leave_dir`](crate::HubBuilder::leave_dir) cannot be made, or not
    /// written to.
    #[error("leave_dir {path}: {reason}")]
    LeaveDir {
        /// The folder.
        path: std::path::PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another process runs with this node's key, answers, and was there first. Give each process a
    /// key file of its own; one that is to take the place of another starts when that has ended.
    #[error(
        "another process runs with this node's key, at {address}{}: give each process a key file \
         of its own",
        by.map(|node| format!(", as node {node} says, which has a link to it")).unwrap_or_default()
    )]
    KeyInUse {
        /// Where that process is.
        address: String,
        /// The node that has a link to it and said so; `None`: this one has met it.
        by: Option<NodeId>,
    },
    /// There is no Actix system on this thread. Start the hub inside `#[actix::main]`,
    /// `#[actix_web::main]` or `System::run`.
    #[error("no Actix system runs on this thread")]
    NoSystem,
    /// The network could not be brought up.
    #[error("network: {0}")]
    Network(String),
}

/// Why a wait for the cluster ended without what was waited for. Nothing has changed by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// It was not so within the deadline.
    #[error(
        "it was not so within the deadline{}",
        waits_for.as_ref().map(|reason| format!(": the cluster {reason}")).unwrap_or_default()
    )]
    Timeout {
        /// What the cluster waits for, in words, if it is not settled.
        waits_for: Option<String>,
    },
    /// This node's hub has stopped.
    #[error("the hub has stopped")]
    HubStopped,
}

/// Why a [`ChildSpec`](crate::ChildSpec) could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChildSpecError {
    /// The id or the kind does not have its shape.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The arguments could not be encoded.
    #[error("the arguments could not be encoded: {reason}")]
    Args {
        /// What the encoder said.
        reason: String,
    },
    /// The arguments are larger than a spec may carry.
    #[error("the arguments have {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Their bytes in CBOR.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

/// Why a single child was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartChildError {
    /// A child of this id runs already; it was left as it is.
    #[error("{child} exists already, on node {node}")]
    Exists {
        /// The child.
        child: ChildId,
        /// Where it is.
        node: NodeId,
    },
    /// It does not run.
    #[error("{child} was not started: {reason}")]
    Failed {
        /// The child.
        child: ChildId,
        /// Why.
        #[source]
        reason: StartFailed,
    },
    /// What was to be started is not a child: nothing was asked.
    #[error(transparent)]
    Spec(#[from] ChildSpecError),
    /// This node's hub has stopped.
    #[error("the hub has stopped")]
    HubStopped,
}

/// Why a single child was not stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopChildError {
    /// There is no such child.
    #[error("there is no child {child}")]
    NotFound {
        /// The child.
        child: ChildId,
    },
    /// It could not be reached in time; it may still run.
    #[error("{child} could not be reached in time")]
    Timeout {
        /// The child.
        child: ChildId,
    },
    /// As many requests of this node wait on the child's home as it keeps for one node. The child
    /// runs on; try again when others have been answered.
    #[error("{child} was not stopped: node {node} keeps as many requests of this one as it may")]
    Busy {
        /// The child.
        child: ChildId,
        /// The child's home.
        node: NodeId,
    },
    /// This node's hub has stopped.
    #[error("the hub has stopped")]
    HubStopped,
}

/// Why a child was not moved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// There is no such child.
    #[error("there is no child {child}")]
    NotFound {
        /// The child.
        child: ChildId,
    },
    /// There is no such node in the cluster, or it takes no children.
    #[error("node {node} is not in the cluster, or takes no children")]
    NoSuchNode {
        /// The node.
        node: NodeId,
    },
    /// The move failed; the child goes on where it was, with its whole queue.
    #[error("{child} stays where it is: {reason}")]
    Failed {
        /// The child.
        child: ChildId,
        /// Why.
        reason: String,
    },
    /// No outcome in time; the child may still move.
    #[error("no outcome for {child} within the deadline")]
    Timeout {
        /// The child.
        child: ChildId,
    },
    /// This node's hub has stopped.
    #[error("the hub has stopped")]
    HubStopped,
}

/// Why a node that is drained is not empty.
///
/// If it had begun to hand its children over it goes on draining: it takes no children and hands over
/// what it can. Ask it again, or take it back with [`Hub::undrain`](crate::Hub::undrain).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DrainError {
    /// No other node takes any of the children. If there was none from the beginning, nothing has
    /// changed.
    #[error("no other node can take the {children} children of this one{}", named(*children, left))]
    NoSuccessor {
        /// How many there are.
        children: usize,
        /// The first 16 of them, each with the reason.
        left: Vec<ChildLeft>,
    },
    /// The deadline passed; the children that are left are here.
    #[error("{}", late(*children, left, waits_for.as_deref()))]
    Timeout {
        /// How many are left.
        children: usize,
        /// The first 16 of them, each with the reason.
        left: Vec<ChildLeft>,
        /// What kept the cluster unsettled, if it was.
        waits_for: Option<String>,
    },
    /// It was told to take children again meanwhile.
    #[error("the node was told to take children again")]
    Undrained,
    /// The hub has stopped.
    #[error("the hub has stopped")]
    HubStopped,
}

/// Why another node was not asked for something, or has refused it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskNodeError {
    /// It is not in the cluster.
    #[error("node {node} is not in the cluster")]
    NotMember {
        /// The node.
        node: NodeId,
    },
    /// It was not asked: no link leads to it, or too many questions are open. Try again.
    #[error("node {node} was not asked: no link leads to it, or too many questions are open")]
    NotAsked {
        /// The node.
        node: NodeId,
    },
    /// It did not answer within `Settings::request_timeout`. It may have done what it was asked for.
    #[error("node {node} did not answer in time; it may have done what it was asked for")]
    NoAnswer {
        /// The node.
        node: NodeId,
    },
    /// No other node takes any of its children; nothing has changed.
    #[error("no other node can take the {children} children of {node}")]
    NoSuccessor {
        /// The node.
        node: NodeId,
        /// How many it has.
        children: u64,
    },
    /// This node's hub has stopped.
    #[error("the hub has stopped")]
    HubStopped,
}

/// Why a node did not leave.
///
/// It is still in, with the children that are left. If it had begun to leave it goes on as a node
/// that leaves: it takes no children and hands over what it can, so what is out stays out. Ask it
/// again, which goes on where it was; take it back with [`Hub::stay`](crate::Hub::stay); or end it
/// with [`Hub::stop`](crate::Hub::stop), which loses the state of what is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// No other node takes any of the children. If there was none from the beginning, nothing has
    /// changed. `stop` ends this node without handing over.
    #[error("no other node can take the {children} children of this one{}", named(*children, left))]
    NoSuccessor {
        /// How many there are.
        children: usize,
        /// The first 16 of them, each with the reason.
        left: Vec<ChildLeft>,
    },
    /// The deadline passed; the children that are left stay here.
    #[error("{}", late(*children, left, waits_for.as_deref()))]
    Timeout {
        /// How many are left; 0 if all are handed over, and not every member knows yet where they are.
        children: usize,
        /// The first 16 of them, each with the reason.
        left: Vec<ChildLeft>,
        /// What kept the cluster unsettled, if it was.
        waits_for: Option<String>,
    },
    /// The node was told to stay meanwhile.
    #[error("the node was told to stay")]
    Stayed,
    /// The hub has stopped.
    #[error("the hub has stopped")]
    HubStopped,
}

/// Why a parked state was not given to its child.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// This node does not hold it. Ask a node that does.
    #[error("this node does not hold the parked state {key}{}", but_maybe(*holder))]
    NotHeld {
        /// Its name.
        key: ParkedKey,
        /// A node that holds it, if one is known.
        holder: Option<NodeId>,
    },
    /// The child goes on as before, and the state is parked as before, unless it is
    /// [`ApplyFailed::Gone`].
    #[error("the parked state {key} was not applied: {reason}")]
    Failed {
        /// Its name.
        key: ParkedKey,
        /// Why.
        #[source]
        reason: ApplyFailed,
    },
    /// Nothing was heard of it in time, or the child's node went away. If it is still parked after a
    /// while the child has not got it.
    #[error("no outcome for the parked state {key}: the child may have it")]
    NoAnswer {
        /// Its name.
        key: ParkedKey,
    },
    /// This node's hub has stopped.
    #[error("the hub has stopped")]
    HubStopped,
}

/// Why a parked state was not discarded. It is parked as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiscardError {
    /// This node does not hold it. Ask a node that does.
    #[error("this node does not hold the parked state {key}{}", but_maybe(*holder))]
    NotHeld {
        /// Its name.
        key: ParkedKey,
        /// A node that holds it, if one is known.
        holder: Option<NodeId>,
    },
    /// This node's hub has stopped.
    #[error("the hub has stopped")]
    HubStopped,
}

/// Why a message was not published. Nothing was sent to anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The name of the topic, or of the message, does not have its shape.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// The message is larger than `Settings::message_limit`.
    #[error("the message has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its bytes in CBOR.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The message could not be encoded, or would be another one where it is read.
    #[error("the message cannot be published: {reason}")]
    Encode {
        /// What is wrong with it, with the path to that.
        reason: String,
    },
    /// This node's hub has stopped, or has handed its last child over and says goodbye.
    #[error("the hub has stopped")]
    HubStopped,
}

/// Why a topic has no new subscriber.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The name of the topic, or of the message, does not have its shape.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// As many topics as may have subscribers on one node have some: each node tells all others of each.
    /// Let topics be fewer, or end subscriptions.
    #[error("{limit} topics have subscribers on this node, and no more may have")]
    TooManyTopics {
        /// How many may.
        limit: usize,
    },
    /// The calling thread is no Actix arbiter, or one that has stopped: nothing would hand messages over.
    #[error("the calling thread is no Actix arbiter that runs")]
    NoArbiter,
    /// This node's hub has stopped, or has handed its last child over and says goodbye.
    #[error("the hub has stopped")]
    HubStopped,
}

fn but_maybe(holder: Option<NodeId>) -> String {
    holder.map(|node| format!(", node {node} does")).unwrap_or_default()
}
