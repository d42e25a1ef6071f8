//! What a transport gives to the links above it: authenticated connections that carry streams.

use std::{io, sync::Arc};

use async_trait::async_trait;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
};

use super::addresses::Addresses;
use crate::model::{access::AccessList, address, id::NodeId};

/// An ordered byte stream in both directions.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// One stream of a connection.
pub(super) type Stream = Box<dyn ByteStream>;

/// To so many addresses a name is resolved; further ones are not dialled.
pub(super) const RESOLVED: usize = 64;
/// How many streams of one connection may wait to be taken; further ones are dropped.
pub(super) const INCOMING_STREAMS: usize = 16;

/// What a carrier tells and whom; it is made with it.
pub(super) struct Ears {
    /// What happens besides the outcome of dials.
    pub(super) events: mpsc::Sender<CarrierEvent>,
    /// Where it listens: all that is known by then before it is made, and every change after.
    pub(super) addresses: Arc<Addresses>,
    /// Who is admitted, whenever that changes. The connections of others are closed before a stream
    /// of theirs is handed on, and they are not dialled.
    pub(super) access: watch::Receiver<AccessList>,
}

/// Dials. One for each node, on its network thread.
#[async_trait]
pub(super) trait Carrier: Send + Sync + 'static {
    /// The addresses that a seed stands for, without names, at most [`RESOLVED`]. A text that
    /// says why there are none.
    async fn resolve(&self, seed: &str) -> Result<Vec<String>, String>;
    /// Dials all addresses; the first that answers, with the identity `node` if one is given,
    /// wins. The caller bounds the time; a dropped future gives the attempt up or leaves a
    /// connection that closes itself.
    async fn dial(
        &self,
        node: Option<NodeId>,
        addresses: Vec<String>,
    ) -> Result<Connection, DialFailure>;
    /// Stops listening and closes what is left.
    async fn stop(&self);
    /// Metrics of its own in the text format of OpenMetrics, without its end.
    fn metrics(&self) -> Option<String> {
        None
    }
}

/// Opens further streams of one connection, and closes it.
#[async_trait]
pub(super) trait Streams: Send + Sync + 'static {
    /// Opens a stream; the peer finds it among its incoming ones.
    async fn open(&self) -> io::Result<Stream>;
    /// Closes the connection without waiting for what is on its way.
    fn close(&self);
}

/// A connection whose other end has proven who it is. Dropping it closes it.
pub(super) struct Connection {
    /// The other end.
    pub(super) peer: NodeId,
    /// Its address, for the log.
    pub(super) address: String,
    /// Whether this node dialled.
    pub(super) dialled: bool,
    /// Opens streams.
    pub(super) streams: Arc<dyn Streams>,
    /// Streams that the peer opened; ends with the connection.
    pub(super) incoming: mpsc::Receiver<Stream>,
}

impl Connection {
    /// Whether the other end is on this machine's loopback, or in this process.
    pub(super) fn is_local(&self) -> bool {
        address::is_memory(&self.address) || address::is_loopback(&self.address)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.streams.close();
    }
}

/// Why a dial failed.
#[derive(Clone, Debug)]
pub(super) enum DialFailure {
    /// Every address was refused by its host: nobody listens there.
    Refused,
    /// It is this node itself.
    Itself,
    /// It is another process with this node's key.
    Twin {
        /// Whether that was there first.
        is_second: bool,
    },
    /// Somebody listens there, but no secure channel could be agreed.
    Insecure(String),
    /// Somebody accepted, and cut it off or agreed on nothing in time: another secret, or a node
    /// that hangs or stops.
    Silent,
    /// This node does not admit it, for this reason.
    NotAdmitted(&'static str),
    /// Anything else.
    Unreachable(String),
}

impl std::fmt::Display for DialFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused => f.write_str("refused by the host"),
            Self::Itself => f.write_str("it is this node itself"),
            Self::Twin { .. } => f.write_str("it is another process with this node's own key"),
            Self::Insecure(error) => write!(
                f,
                "no secure channel could be agreed: the secrets differ, or it is no node of a hub \
                 ({error})",
            ),
            Self::Silent => f.write_str(
                "it accepts connections and agrees on no secure channel: the secrets differ, or it \
                 hangs",
            ),
            Self::NotAdmitted(reason) => write!(f, "it is not admitted by this node: {reason}"),
            Self::Unreachable(error) => f.write_str(error),
        }
    }
}

/// What a carrier tells besides the outcome of dials.
pub(super) enum CarrierEvent {
    /// A connection from there came to nothing, for this reason.
    Rejected {
        /// Who it was, if it has proven that.
        node: Option<NodeId>,
        /// The IP address of the other end.
        from: String,
        /// Why, in words.
        reason: String,
    },
    /// Another process with this node's key has dialled.
    Twin {
        /// Its IP address.
        from: String,
        /// Whether it was there first.
        is_second: bool,
    },
    /// A peer has connected.
    Incoming(Connection),
    /// A node was seen on the LAN.
    Found(NodeId, String),
    /// It is no longer seen there.
    Lost(NodeId, String),
}
