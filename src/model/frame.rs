//! The frames of user messages between two nodes.
//!
//! A *lane* is one node's ordered way to one child; its numbers start at 1 and rise for ever. A
//! *session* is the lane's use of one link to one owner: it begins with `Open`, and a later one
//! voids the frames of those before it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    child::{Epoch, Route},
    id::{ChildId, KindName, LaneId},
    trace::TraceContext,
};

/// One frame of the user-message stream.
#[derive(Clone, Debug, PartialEq)]
pub enum DataFrame {
    /// From a lane: a session begins.
    Open {
        /// The lane.
        lane: LaneId,
        /// Above every earlier one of the lane.
        session: u64,
        /// The child the lane leads to.
        child: ChildId,
        /// The ownership the lane believes in.
        epoch: Epoch,
    },
    /// From a lane: a message.
    Message {
        /// The lane.
        lane: LaneId,
        /// Its current session.
        session: u64,
        /// Its number in the lane.
        number: u64,
        /// All numbers below this have their reply, or are no longer waited for.
        settled: u64,
        /// Whether a reply is waited for.
        wants_reply: bool,
        /// How long the sender still waits; `None` for a tell.
        budget: Option<Duration>,
        /// Where it belongs in a distributed trace.
        trace: Option<TraceContext>,
        /// The message's registered name, at most 255 bytes.
        name: Arc<str>,
        /// CBOR of the message.
        body: Bytes,
    },
    /// From a lane: the sender of a message waits this long from now, not as long as was said.
    Budget {
        /// The lane.
        lane: LaneId,
        /// Its current session.
        session: u64,
        /// The message's number.
        number: u64,
        /// How long.
        budget: Duration,
    },
    /// From a lane: all replies to numbers below this have arrived.
    Settled {
        /// The lane.
        lane: LaneId,
        /// The lowest number that is still waited for, or the next one.
        upto: u64,
    },
    /// From a gate: the handlers of all numbers up to this one have started.
    Accepted {
        /// The lane.
        lane: LaneId,
        /// The highest accepted number.
        upto: u64,
    },
    /// From a gate: a reply. Implies that its number, and all before it, were accepted.
    Reply {
        /// The lane.
        lane: LaneId,
        /// The message's number.
        number: u64,
        /// CBOR of the result, or why there is none.
        outcome: Result<Bytes, ReplyFailure>,
    },
    /// From a gate: nothing of this session that was not accepted has been handled, or will be.
    Refused {
        /// The lane.
        lane: LaneId,
        /// The session.
        session: u64,
        /// Why.
        why: Refusal,
    },
    /// The sender has answered everything and will answer nothing more.
    Last,
    /// `Last` was received, and with it everything before it.
    LastHeard,
}

/// Why a gate does not take a lane's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The child was handed over.
    Moved(Route),
    /// The session's epoch is older than the ownership; open another one with this epoch.
    Stale(Epoch),
    /// The child is not here, or not yet.
    NotHere,
    /// The child was stopped for good.
    Stopped,
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyFailure {
    /// The message's name is not registered for the child's kind. Not handled.
    NotRegistered(KindName),
    /// The message could not be decoded. Not handled.
    Decode(String),
    /// The sender's time was over before the handler could start. Not handled.
    Expired,
    /// The handler was dropped before it replied.
    Dropped,
    /// The handler replied, and the reply was lost.
    Lost(String),
}
