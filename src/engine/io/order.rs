//! What is to be done to children, and with the bytes of parked states.

use std::{sync::Arc, time::Duration};

#[cfg(doc)]
use super::{ChildReport, Event};
use crate::model::{
    child::{ChildOrigin, ChildSpec, Epoch},
    id::{ChildId, KindName, NodeRun},
    parked::{ParkedKey, ParkedUse},
};

/// Something to be done with the bytes of a parked state. Of those that arrived each is kept or
/// refused, or given to its child with [`ChildOrder::Apply`].
#[derive(Clone, Debug, PartialEq)]
pub enum ParkedOrder {
    /// Hold the bytes that arrived from there.
    Keep {
        /// The state's name.
        key: ParkedKey,
        /// Who sent them.
        from: NodeRun,
    },
    /// Drop the bytes that arrived from there.
    Refuse {
        /// The state's name.
        key: ParkedKey,
        /// Who sent them.
        from: NodeRun,
    },
    /// Hold it no more.
    Forget {
        /// The state's name.
        key: ParkedKey,
    },
    /// Send it. Silent on success, [`Event::ParkedNotSent`] otherwise.
    Send {
        /// The state's name.
        key: ParkedKey,
        /// To whom.
        to: NodeRun,
        /// What for.
        purpose: ParkedUse,
    },
}

/// Something to be done to a child on this node.
#[derive(Clone, Debug, PartialEq)]
pub enum ChildOrder {
    /// Start it from its arguments and open its gate at `epoch`. A queue that an instance before
    /// it left behind is kept and goes on.
    Start {
        /// What to start.
        spec: Arc<ChildSpec>,
        /// At which epoch.
        epoch: Epoch,
        /// Why, as the actor is told.
        origin: ChildOrigin,
    },
    /// Close its gate, wait for started handlers, prepare and encode its state, hold it.
    Freeze {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
        /// How long started handlers are waited for.
        retention: Duration,
        /// Whether handlers that are not resolved by then are cut off: no reply of theirs leaves.
        forced: bool,
        /// Whether a state is wanted.
        with_state: bool,
    },
    /// Give up a freeze, at whatever stage it is, and go on at this epoch with the whole queue.
    Thaw {
        /// The child.
        child: ChildId,
        /// The new epoch.
        epoch: Epoch,
    },
    /// There is no actor, and there will be: its gate is this epoch's and keeps what comes. A start
    /// that still goes on is cut short.
    Wait {
        /// The child.
        child: ChildId,
        /// The epoch of its next start, or a lower one.
        epoch: Epoch,
    },
    /// There is no actor, and none is started by itself: what waits, and what comes for this epoch, is
    /// answered as not handled. A start that still goes on is cut short.
    GiveUp {
        /// The child.
        child: ChildId,
        /// The epoch of the ownership.
        epoch: Epoch,
    },
    /// Send the frozen state. Silent on success, [`Event::BulkFailed`] otherwise.
    SendState {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
        /// To whom.
        to: NodeRun,
    },
    /// Build a successor and do not run it; from the state that arrived, or from its arguments.
    Build {
        /// What to build.
        spec: Arc<ChildSpec>,
        /// The attempt.
        epoch: Epoch,
        /// Who sent it.
        from: NodeRun,
        /// Whether a state arrived.
        with_state: bool,
    },
    /// Drop what was built, and bytes that arrived, for this attempt.
    Discard {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
    },
    /// Run what was built and open its gate.
    Open {
        /// The child.
        child: ChildId,
        /// The attempt it was built for.
        built: Epoch,
        /// The epoch at which it runs: the same, or that of a takeover.
        epoch: Epoch,
    },
    /// The commit: answer and redirect everything to the successor.
    MovedAway {
        /// The child.
        child: ChildId,
        /// The successor's run.
        to: NodeRun,
        /// The successor's epoch.
        epoch: Epoch,
    },
    /// End the old actor that is held.
    End {
        /// The child.
        child: ChildId,
    },
    /// Stop it for good, whatever it is doing: what is queued is answered as not handled.
    Stop {
        /// The child.
        child: ChildId,
        /// Echoed in the report.
        epoch: Epoch,
    },
    /// Freeze it, send its state to the owner that goes on. It is ended or thawed afterwards.
    SendDiverged {
        /// The child.
        child: ChildId,
        /// Its own epoch.
        epoch: Epoch,
        /// The owner that goes on.
        to: NodeRun,
        /// When its life began; for the header.
        life: Epoch,
    },
    /// Close its gate, wait for started handlers, encode its state, hold it: it is to be parked, and ended
    /// then. Answered with [`ChildReport::Tried`].
    Rest {
        /// The child.
        child: ChildId,
        /// Echoed in the report.
        epoch: Epoch,
    },
    /// Give a state that arrived to the running child's `merge_diverged_state`.
    Merge {
        /// The child.
        child: ChildId,
        /// The epoch under which the state arrived.
        epoch: Epoch,
    },
    /// Keep a state that arrived under the epoch of its name where it can be fetched. Answered with
    /// [`Event::Parked`] or [`Event::NotParked`].
    Park {
        /// The state's name.
        key: ParkedKey,
        /// The child's kind.
        kind: KindName,
        /// Why it was not merged.
        reason: String,
    },
    /// Keep the state of which a successor was built, and drop that. Answered with [`Event::Parked`] or
    /// [`Event::NotParked`].
    ParkBuilt {
        /// The state's name.
        key: ParkedKey,
        /// The child's kind.
        kind: KindName,
        /// The attempt it was built for.
        built: Epoch,
        /// Why it is not wanted as it is.
        reason: String,
    },
    /// Keep the state of a frozen actor, which stays as it is. Answered with
    /// [`Event::Parked`] or [`Event::NotParked`].
    ParkFrozen {
        /// The state's name.
        key: ParkedKey,
        /// The child's kind.
        kind: KindName,
        /// Why it was not merged.
        reason: String,
        /// When that node did, by its clock: milliseconds since 1970. `None`: nobody has, and it is now.
        at: Option<u64>,
    },
    /// Give a parked state to the running child, between two handlers. Answered with
    /// [`ChildReport::Applied`].
    Apply {
        /// The state's name.
        key: ParkedKey,
        /// The child's kind.
        kind: KindName,
        /// Who sent its bytes; this node, if they are those that it holds.
        from: NodeRun,
        /// The child's own state is replaced, and parked under this name. `None`: they are merged.
        exchange: Option<ParkedKey>,
        /// How long the child may take to come to it.
        wait: Duration,
    },
}
