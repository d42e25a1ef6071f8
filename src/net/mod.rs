//! The network: one authenticated link to each peer, over libp2p or inside a process.
//!
//! A transport dials, listens, admits, keeps one link for each pair of nodes and moves bytes.
//! Who is in the cluster is decided elsewhere.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};

pub(crate) use self::intake::Place;
use crate::model::{
    access::AccessList,
    address::SeedOutcome,
    id::{HubName, Incarnation, NodeId, NodeRun},
    member::{Hello, Member},
    message::{BulkHeader, PeerMessage},
    secret::Secret,
};

mod addresses;
mod backoff;
mod birth;
mod bulk;
mod carrier;
mod control;
mod dialler;
mod greet;
mod intake;
mod keeper;
mod lan;
mod link;
mod links;
pub mod memory;
mod observed;
mod outbox;
pub mod p2p;
mod peer;
mod peers;
mod pending;
mod room;
mod seeds;
mod streak;
mod teller;
mod thread;

#[cfg(test)]
mod suite;

pub use birth::Birth;

/// Who may join. Lists of nodes can be changed while a hub runs: [`Hub::allow`](crate::Hub::allow),
/// [`Hub::block`](crate::Hub::block).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Admission {
    /// Whoever knows the hub's name. For loopback, examples and tests.
    Open,
    /// Whoever holds the same secret of 32 bytes (libp2p's pre-shared key).
    Secret(Secret),
    /// Only these nodes. Connections of others are closed before anything is said.
    Allow(BTreeSet<NodeId>),
    /// Only these nodes, and only with the secret.
    SecretAndAllow(Secret, BTreeSet<NodeId>),
}

impl Admission {
    fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Secret(secret) | Self::SecretAndAllow(secret, _) => Some(secret),
            Self::Open | Self::Allow(_) => None,
        }
    }

    /// Who is admitted of those that hold the secret.
    pub(crate) fn access(&self) -> AccessList {
        match self {
            Self::Open | Self::Secret(_) => AccessList::open(),
            Self::Allow(nodes) | Self::SecretAndAllow(_, nodes) => AccessList::of(nodes.clone()),
        }
    }
}

/// What a transport is started with.
#[derive(Clone)]
pub struct NetConfig {
    /// The ed25519 secret key (32 bytes).
    pub secret_key: [u8; 32],
    /// Tells this run from another one with the same key, and which of them came second.
    pub birth: Birth,
    /// The hub; nodes of another are refused.
    pub hub: HubName,
    /// Multiaddrs to listen on.
    pub listen: Vec<String>,
    /// Multiaddrs, or names of SRV records, whose nodes are dialled for ever, with backoff. One
    /// that is a name is resolved again each time, to at most 64 addresses, and all are dialled
    /// but this node's own.
    pub seeds: Vec<String>,
    /// Who may join.
    pub admission: Admission,
    /// Secrets that are tried besides the admission's own where that one is not taken; none without
    /// one.
    pub also_secrets: Vec<Secret>,
    /// Whether nodes of the same LAN are looked for.
    pub mdns: bool,
    /// The heartbeat, from which backoff and handshake deadlines are taken.
    pub heartbeat: Duration,
    /// The largest data frame in bytes; a larger one closes the link.
    pub frame_limit: usize,
    /// The largest bulk transfer in bytes; a larger one is refused before it is read.
    pub bulk_limit: usize,
}

impl NetConfig {
    /// The secrets to dial with, in order. Who dials in must hold the first.
    fn secrets(&self) -> Vec<Secret> {
        let first = self.admission.secret().into_iter();
        first.flat_map(|first| std::iter::once(first).chain(&self.also_secrets)).cloned().collect()
    }

    /// How long a dial, a Hello and other answers of a peer's network may take.
    fn answer_deadline(&self) -> Duration {
        (self.heartbeat * 5).clamp(Duration::from_secs(2), Duration::from_secs(10))
    }
}

/// What this node tells of itself when a link opens.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// Itself.
    pub me: Member,
    /// The members it knows.
    pub known: Vec<Member>,
    /// Lives that are fenced: a peer that comes with one of them, or an earlier one, is told so
    /// in the Hello and not linked.
    pub fenced: Vec<(NodeId, Incarnation)>,
}

/// What a transport tells, in order for each link.
#[derive(Debug)]
pub enum NetEvent {
    /// Where this node can be reached now, whenever that changes; the first thing that is told.
    Addresses {
        /// The multiaddrs on which it listens, best first, loopback last.
        listening: Vec<String>,
        /// What others should be told: these, and those at which others have reached it; best
        /// first, at most 16. What is on loopback among them is told over loopback alone.
        told: Vec<String>,
    },
    /// The one link to a peer stands. Comes before anything else of it.
    Linked {
        /// The peer's Hello.
        hello: Hello,
        /// Whether the other end is on this machine's loopback, or in this process.
        local: bool,
    },
    /// The link is closed. Comes after everything else of it.
    Unlinked {
        /// The peer.
        run: NodeRun,
        /// Why, for the log.
        reason: String,
    },
    /// A peer was not admitted: wrong hub, version, secret or not on the list. Told once for each
    /// peer and reason.
    Refused {
        /// The peer, if it is known.
        node: Option<NodeId>,
        /// Its address, if it is known.
        address: Option<String>,
        /// Why.
        reason: String,
    },
    /// What came of a seed; told when it changes.
    Seed {
        /// As in [`NetConfig::seeds`].
        seed: String,
        /// What came of it.
        outcome: SeedOutcome,
    },
    /// Another process runs with this node's key, and answers now. Told once for each address.
    Twin {
        /// Where it is: the address that was dialled, the IP address it dialled from, or what the
        /// node says that has a link to it.
        address: String,
        /// The node that has a link to it and says so; `None`: this one has met it.
        by: Option<NodeId>,
        /// Whether it was there first, so that this run is to end.
        is_second: bool,
    },
    /// This node's incarnation is fenced at a peer: it must come with a higher one.
    Fenced {
        /// The fenced life.
        incarnation: Incarnation,
    },
    /// A dial to a node of [`Network::connect`] failed; it will be tried again.
    Unreachable {
        /// The node.
        node: NodeId,
        /// Whether its host refused the connection.
        refused: bool,
    },
    /// A word arrived.
    Control {
        /// The peer.
        from: NodeRun,
        /// The word.
        message: PeerMessage,
        /// Its place; the peer may send more when it is dropped.
        place: Place,
    },
    /// A bulk transfer arrived, whole and with the right checksum.
    Bulk {
        /// The peer.
        from: NodeRun,
        /// What it is.
        header: BulkHeader,
        /// Its bytes.
        body: Bytes,
        /// Its place; the peer may send more when it is dropped.
        place: Place,
    },
}

/// The user messages' side of links, called on the network's thread; must not block.
pub trait DataPlane: Send + Sync + 'static {
    /// A link stands; frames may come and will be asked for.
    fn linked(&self, run: NodeRun);
    /// The link is closed.
    fn unlinked(&self, run: NodeRun);
    /// A data frame arrived. An error closes the link.
    fn frame(&self, from: NodeRun, frame: Bytes) -> Result<(), crate::wire::WireError>;
    /// Appends framed data for this peer to `buffer` until it holds about `target` bytes; tells
    /// whether there is more. Each frame is length-prefixed as in [`crate::wire`].
    fn fill(&self, to: NodeRun, buffer: &mut BytesMut, target: usize) -> bool;
}

/// Why a transport did not start. Nothing of it is left running.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
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
    /// The network's thread, its runtime or its transport could not be made.
    #[error("cannot start the network: {0}")]
    Start(String),
}

/// What went over a link since it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkTraffic {
    /// The peer.
    pub peer: NodeRun,
    /// Bytes that were written: words, messages and states.
    pub sent: u64,
    /// Bytes that were read.
    pub received: u64,
    /// Bytes of words that wait to be written.
    pub queued: u64,
}

/// Why a word could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendRefused {
    /// There is no link.
    #[error("no link")]
    NoLink,
    /// The link's control queue is full (64 MiB): the peer does not read; the link is closed.
    #[error("the control queue is full")]
    Full,
    /// Too much waits (1 MiB) for a word of another node to be passed on; it was not queued.
    #[error("too much waits for a word to be passed on")]
    Busy,
    /// The word is larger than a control frame may be, or cannot be encoded; it was not queued.
    #[error("the word cannot be framed")]
    Unframed,
}

/// Called exactly once, when a bulk transfer was written and acknowledged, or could not be; usually
/// on the network's thread, never from inside [`Network::send_bulk`] while the network runs.
pub type BulkDone = Box<dyn FnOnce(Result<(), String>) + Send>;

/// A running transport. Its methods return at once.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Keeps dialling this node, with backoff, until a link stands or it is disconnected; and again
    /// whenever the link breaks.
    fn connect(&self, node: NodeId, addresses: Vec<String>);
    /// Closes the link to this node and dials it no more. It may still dial us.
    fn disconnect(&self, node: NodeId, reason: &str);
    /// No word comes over the link to this node, though others hear it: closes the link and dials at
    /// these addresses, unless a byte has come over it since this was said before. So the first time
    /// it is only noted how much has come: a long state may be on its way, with words behind it.
    /// Does nothing without a link.
    fn renew_if_silent(&self, node: NodeId, addresses: Vec<String>);
    /// Admits this node from now on, and dials it at once if it is wanted.
    fn allow(&self, node: NodeId);
    /// Admits this node no more: its link is closed, its connections are, before anything is said,
    /// and it is not dialled, not even if it is wanted. It is not told why; a node that is dialled
    /// and dropped like that several times in a row tells so as [`NetEvent::Refused`].
    fn block(&self, node: NodeId);
    /// What Hellos tell from now on.
    fn announce(&self, announcement: Announcement);
    /// Queues a word, in order.
    fn send(&self, to: NodeId, message: &PeerMessage) -> Result<(), SendRefused>;
    /// Sends a bulk transfer beside the words; several may be under way to one peer.
    fn send_bulk(&self, to: NodeRun, header: BulkHeader, body: Bytes, done: BulkDone);
    /// [`DataPlane::fill`] has something for this peer.
    fn data_ready(&self, to: NodeRun);
    /// What went over the links that stand.
    fn traffic(&self) -> Vec<LinkTraffic>;
    /// The transport's own metrics in the text format of OpenMetrics, without its end; `None` if
    /// it has none.
    fn metrics(&self) -> Option<String>;
    /// Flushes what is queued, closes all links and stops the network's thread.
    async fn shutdown(&self, deadline: Duration);
    /// Closes all links and stops the network's thread, without a flush and without waiting for it.
    fn abort(&self);
}
