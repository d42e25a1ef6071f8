//! One message's decisions, sans-io, generic over what they hold.
//!
//! A [`Door`](door::Door) is one child as one node sees it: its [`gate`] if the child is here, the
//! node's [`lane`] to it if it is elsewhere. The hub wraps each door in a lock; what happens under
//! one call of it is one step for everybody, so that order and no-loss can be tested without a
//! network.

pub(crate) mod door;
pub(crate) mod forward;
pub(crate) mod gate;
pub(crate) mod lane;
#[cfg(test)]
mod model_test;
pub(crate) mod path;
#[cfg(test)]
mod rules_test;
#[cfg(test)]
mod tests;
pub(crate) mod transfer;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    error::{MaybeHandled, NotHandled},
    model::{
        frame::{DataFrame, ReplyFailure},
        trace::TraceContext,
    },
};

/// A message as a lane holds it.
pub(crate) trait Payload: Send + 'static {
    /// Its name and CBOR. Asked for again when it is sent again; cheap after the first time.
    ///
    /// # Errors
    /// It cannot be sent, now or ever.
    fn body(&mut self) -> Result<Body, NotHandled>;

    /// Until when its caller waits; `None` if nobody does. May change while it is on its way.
    fn deadline(&self) -> Option<Instant>;

    /// Whether it is for the child on this node alone: it ends when the child goes, and is sent to nobody.
    fn stays(&self) -> bool {
        false
    }
}

/// A message on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    /// Its registered name.
    pub(crate) name: Arc<str>,
    /// Its CBOR.
    pub(crate) bytes: Bytes,
    /// Where it belongs in a distributed trace.
    pub(crate) trace: Option<TraceContext>,
}

/// How a caller takes a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It waits for one: `send`.
    Send,
    /// It does not: `do_send`, `try_send`.
    Try,
}

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    /// It said Bye: its lanes do not come again.
    pub(crate) left: bool,
    /// All its answers have been read: what they do not accept it has not handled.
    pub(crate) answered: bool,
}

/// Which frames of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// Those of its lanes to another's children.
    Calls,
    /// Those of its gates to another's lanes.
    Answers,
}

impl Side {
    /// The side of a frame, unless it is about the path itself.
    pub(crate) fn of(frame: &DataFrame) -> Option<Self> {
        match frame {
            DataFrame::Open { .. }
            | DataFrame::Message { .. }
            | DataFrame::Budget { .. }
            | DataFrame::Closed { .. }
            | DataFrame::Acknowledged { .. }
            | DataFrame::Published(_) => Some(Self::Calls),
            DataFrame::Accepted { .. } | DataFrame::Reply { .. } | DataFrame::Refused { .. } => {
                Some(Self::Answers)
            }
            DataFrame::Last
            | DataFrame::LastHeard
            | DataFrame::Direct { .. }
            | DataFrame::Path { .. } => None,
        }
    }
}

/// The bounds of one door.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Messages in the queue before `Try` is refused.
    pub(crate) mailbox: usize,
    /// Messages above that before `Send` is refused too.
    pub(crate) waiting: usize,
    /// Messages of one lane that are sent and not accepted.
    pub(crate) window_messages: usize,
    /// Their bytes; one message is always let through.
    pub(crate) window_bytes: usize,
    /// Replies of one lane that are kept until the lane has them.
    pub(crate) reply_cache: usize,
    /// Their bytes.
    pub(crate) reply_cache_bytes: usize,
}

/// Why a message has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SendFailure {
    /// It was certainly not handled.
    NotHandled(NotHandled),
    /// It may have been.
    MaybeHandled(MaybeHandled),
}

impl SendFailure {
    /// What the owner's answer means to the caller of the message with this name.
    pub(crate) fn from_reply(failure: ReplyFailure, name: &str) -> Self {
        match failure {
            ReplyFailure::NotRegistered(kind) => {
                Self::NotHandled(NotHandled::NotRegistered { name: name.to_owned(), kind })
            }
            ReplyFailure::Decode(reason) => Self::NotHandled(NotHandled::Decode(reason)),
            ReplyFailure::Expired => Self::NotHandled(NotHandled::Timeout),
            ReplyFailure::Dropped => Self::MaybeHandled(MaybeHandled::NoReply),
            ReplyFailure::Lost(reason) => Self::MaybeHandled(MaybeHandled::ReplyLost(reason)),
        }
    }
}

/// A peer sent frames that the protocol does not allow; its link is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Violation(pub(crate) String);
