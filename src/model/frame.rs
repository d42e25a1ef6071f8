//! The frames of user messages between two nodes.
//!
//! A *lane* is one node's ordered way to one child; its numbers start at 1 and rise for ever. A
//! *session* is the lane's use of one path to one owner: it begins with `Open`, and a later one
//! voids the frames of those before it. A node has one lane to a child at a time: a session of a
//! later lane ends those before it, too.
//!
//! A *path* is the ordered way of the frames of one node's lanes to another node, and of the answers
//! back: the link between the two, or two links with a member between that forwards. Each node
//! numbers the paths of its own lanes; the other end answers on the highest number that it has heard
//! of, and takes frames from that one alone.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    child::{Epoch, Route},
    id::{ChildId, KindName, LaneId, NodeRun},
    topic::Publication,
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
        acknowledged: u64,
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
    /// From a lane: that numbers below this were accepted, and the replies to them, have arrived.
    Acknowledged {
        /// The lane.
        lane: LaneId,
        /// The lowest number that is still waited for, or the next one.
        upto: u64,
    },
    /// From a lane: it is used no more, and nothing of it is waited for.
    Closed {
        /// The lane.
        lane: LaneId,
    },
    /// A published message for a node on which its topic has subscribers. Goes with the frames of lanes,
    /// is answered by nobody, and is lost with its path.
    Published(Publication),
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
    /// The frames of the sender's lanes come by this link from here on.
    Direct {
        /// The number of the path that this begins.
        number: u64,
    },
    /// Part of a path by a third member; never inside another path.
    Path {
        /// The path.
        path: PathId,
        /// What is said on it.
        word: PathWord,
    },
}

/// The name of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathId {
    /// The node whose lanes use it.
    pub origin: NodeRun,
    /// Above that of every earlier path of that node.
    pub number: u64,
}

/// What is said on a path. Both ends may send at once: [`PathStream::window`] bytes of each stream,
/// then as many as the other end gives credit for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathWord {
    /// From the origin: the path begins. It is used at once; who does not take it says `Closed`.
    Open {
        /// The other end.
        to: NodeRun,
    },
    /// The next bytes of a stream, at most [`PathWord::LONGEST`].
    Bytes {
        /// The stream.
        stream: PathStream,
        /// The bytes.
        bytes: Bytes,
    },
    /// So many more bytes may be sent.
    Credit {
        /// The stream.
        stream: PathStream,
        /// How many.
        bytes: u32,
    },
    /// The path is over; what is still on it is lost.
    Closed {
        /// Why.
        why: PathClosed,
    },
}

impl PathWord {
    /// The most bytes in one `Bytes`.
    pub const LONGEST: usize = 16 << 10;
}

/// The streams of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathStream {
    /// Data frames, each behind its length.
    Messages,
    /// From the origin: bulk transfers. From the other end: their answers.
    States,
}

impl PathStream {
    /// The bytes that may be on their way in one direction: 512 KiB of messages, 256 KiB of states.
    #[must_use]
    pub const fn window(self) -> usize {
        match self {
            Self::Messages => 512 << 10,
            Self::States => 256 << 10,
        }
    }
}

/// Why a path is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathClosed {
    /// Its origin has another one.
    #[error("another path is used")]
    Replaced,
    /// One of its ends, or the member between, is no member where this was said.
    #[error("not all three are members there")]
    Stranger,
    /// The member between has no fit link to the other end, or has lost one.
    #[error("a link on the way is missing")]
    NoLink,
    /// The member between forwards as many paths of this origin as it may, or the other end takes
    /// no more so soon.
    #[error("there are too many paths of this origin")]
    TooMany,
    /// An end sent what it must not.
    #[error("an end broke the protocol")]
    Protocol,
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
    /// The child ended too often and was given up.
    GivenUp,
    /// As much as is kept for one peer is kept for the lane's node already.
    Full,
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
