//! Topics: which of them have subscribers on a node, and the words in which nodes tell each other.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{id::TopicName, trace::TraceContext};

/// Topics that may have subscribers on one node.
pub const MOST_TOPICS: usize = 65_536;

/// Topics in one word, at most: 256 KiB of names.
pub const PART: usize = 1_024;

/// A message that was published, as it goes to a node with subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The topic.
    pub topic: TopicName,
    /// The version at which its sender knew the topics of the node that it goes to. A child that has begun
    /// to listen there since is not given it: it may have had it where it was before.
    pub known: u64,
    /// Where it belongs in a distributed trace.
    pub trace: Option<TraceContext>,
    /// The message's registered name, 1 to 255 bytes.
    pub name: Arc<str>,
    /// CBOR of the message.
    pub body: Bytes,
}

impl Publication {
    /// Bytes that it takes while it waits, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        const OVERHEAD: usize = 128;
        OVERHEAD + self.topic.as_str().len() + self.name.len() + self.body.len()
    }
}

/// A topic has its first subscriber on a node, or has lost its last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicChange {
    /// The topic.
    pub topic: TopicName,
    /// Whether it has subscribers from now on.
    pub subscribed: bool,
}

/// Words about the topics that have subscribers on the sender.
///
/// The set has a version, which rises with each change, and with each child that has begun to listen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TopicWord {
    /// The set stands at this version. Who has it at an earlier one asks.
    Digest {
        /// The version.
        version: u64,
    },
    /// What changed between two versions, in order. The receiver can use it only if it has the set at
    /// `from`, or later.
    Changes {
        /// The version before.
        from: u64,
        /// The version afterwards.
        upto: u64,
        /// At most [`PART`].
        changes: Vec<TopicChange>,
    },
    /// Part of the whole set. The receiver can use it only behind the part before; what it has is replaced
    /// when the last one has come.
    All {
        /// The version.
        version: u64,
        /// At most [`PART`].
        topics: Vec<TopicName>,
        /// Which part it is; 0: the first.
        at: u32,
        /// Whether more parts follow.
        more: bool,
    },
    /// The sender has the receiver's set at this version; what came after it? 0: it has nothing.
    Ask {
        /// The version.
        from: u64,
    },
}
