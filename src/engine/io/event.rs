//! What happens outside, as an engine takes it in.

use std::sync::Arc;

#[cfg(doc)]
use super::{ChildOrder, Effect, ParkedOrder};
use super::{report::ChildReport, request::Request};
use crate::model::{
    address::SeedOutcome,
    child::{ChildSpec, Epoch},
    id::{ChildId, Incarnation, NodeId, NodeRun, RequestId},
    member::Hello,
    message::{BulkHeader, PeerMessage},
    parked::{ParkedInfo, ParkedKey, ParkedUse},
    topic::TopicChange,
    watch::WatchId,
};

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The deadline came, or nothing in particular.
    Tick,
    /// A link to a peer stands; both Hellos were exchanged.
    Linked {
        /// The peer's.
        hello: Hello,
        /// Whether the other end is on this machine's loopback, or in this process: it alone is
        /// told addresses on loopback.
        local: bool,
    },
    /// Where this node can be reached changed.
    Addresses {
        /// All multiaddrs that should be told, best first.
        addresses: Vec<String>,
    },
    /// What came of a seed changed.
    Seed {
        /// The seed.
        seed: String,
        /// What came of it.
        outcome: SeedOutcome,
    },
    /// The link of that run broke.
    Unlinked {
        /// The peer.
        run: NodeRun,
    },
    /// A peer did not admit this node: this life of it, or a later one, is over there.
    Fenced {
        /// The life that is over.
        incarnation: Incarnation,
    },
    /// Words of this node count again.
    Allowed {
        /// The node.
        node: NodeId,
    },
    /// Words of this node count no more, those that come by others included, and none of its are
    /// passed on. If all members do so it goes down like one that is silent.
    Blocked {
        /// The node.
        node: NodeId,
    },
    /// A dial to a known node failed.
    Unreachable {
        /// The node that was dialled.
        node: NodeId,
        /// Whether its host refused the connection: nobody listens there any more.
        refused: bool,
    },
    /// A word came from a linked peer.
    Peer {
        /// The peer.
        from: NodeRun,
        /// The word.
        message: PeerMessage,
    },
    /// A bulk transfer arrived whole; the hub holds its bytes under (child, epoch).
    Bulk {
        /// The peer.
        from: NodeRun,
        /// What it is.
        header: BulkHeader,
        /// Bytes.
        size: u64,
    },
    /// A bulk transfer arrived and the hub had no room for it.
    NoRoom {
        /// The peer.
        from: NodeRun,
        /// What it was.
        header: BulkHeader,
    },
    /// A bulk transfer of ours was not delivered.
    BulkFailed {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
        /// Why.
        reason: String,
    },
    /// Answers [`ChildOrder::Park`], [`ChildOrder::ParkBuilt`] and [`ChildOrder::ParkFrozen`]: the bytes are
    /// held. Also told of the state that a child had before [`ChildOrder::Apply`] replaced it.
    Parked {
        /// What is known of the state.
        info: ParkedInfo,
        /// Bytes.
        size: u64,
    },
    /// Answers the three as well: there are no bytes.
    NotParked {
        /// The state's name.
        key: ParkedKey,
        /// Why.
        reason: String,
    },
    /// A parked state of [`ParkedOrder::Send`] was not delivered.
    ParkedNotSent {
        /// The state's name.
        key: ParkedKey,
        /// To whom it was sent.
        to: NodeRun,
        /// What it was for.
        purpose: ParkedUse,
    },
    /// Somebody on this node asks for something.
    Request {
        /// Echoed in [`Effect::Reply`].
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// Messages and states for that run cannot go by the member that [`Effect::Path`] named: it
    /// refused, or a link on the way broke. They go nowhere until another `Path` says how.
    PathLost {
        /// The run that they are for.
        to: NodeRun,
        /// The member between.
        by: NodeRun,
    },
    /// Messages of this node wait for a child that it has not heard of: answered with
    /// [`Effect::Located`], [`Effect::NotStarted`] or [`Effect::LocateOver`].
    Locate {
        /// The child.
        child: ChildId,
        /// The start of it, if there is none.
        start: Option<Arc<ChildSpec>>,
    },
    /// Topics have subscribers on this node, or have none any more; or a child has begun to listen to one
    /// that had. Each change, and each child, makes a version of its own.
    Topics {
        /// The version afterwards.
        version: u64,
        /// What changed, in order.
        changes: Vec<TopicChange>,
    },
    /// A child is watched on this node from now on: [`Effect::Sighted`] tells what is known of it, and whatever
    /// changes. A watch that it had under an earlier number is over.
    Watch {
        /// The child.
        child: ChildId,
        /// The number of the watch; `None`: nobody watches it any more.
        id: Option<WatchId>,
    },
    /// A child's runtime reports.
    Child(ChildReport),
    /// [`Effect::DrainLinks`] is done: every answer to a peer's message has been received by it.
    LinksDrained,
}
