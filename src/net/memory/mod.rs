//! The network inside a process: byte pipes with cuts, for tests and examples.
//!
//! Only the pipes differ from the network over libp2p. Hellos, the one link for each pair and
//! redialling are the same code, so that what holds here holds there.

use std::{fmt, sync::Arc};

use tokio::sync::mpsc;

use self::{board::Board, dialler::Dialler};
use super::{
    DataPlane, NetConfig, NetError, NetEvent, Network,
    carrier::{Carrier, Ears},
    p2p, thread,
};
use crate::model::{id::NodeId, member::WIRE_VERSION};

mod board;
mod dialler;
mod wire;

/// A switchboard that joins the nodes of one process. Clones are the same switchboard.
///
/// Addresses are `/memory/<n>`. A cut is like a firewall that drops packets: nothing fails, bytes
/// are held until it is healed, and dials hang.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    board: Arc<Board>,
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryNetwork").field("cuts", &self.board.cuts()).finish_non_exhaustive()
    }
}

impl MemoryNetwork {
    /// A switchboard without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets nothing through between two nodes, in either direction.
    pub fn cut(&self, a: NodeId, b: NodeId) {
        self.board.add_cuts([(a, b), (b, a)]);
    }

    /// Lets nothing through from one node to the other; the other direction is left as it is.
    pub fn cut_one_way(&self, from: NodeId, to: NodeId) {
        self.board.add_cuts([(from, to)]);
    }

    /// Lets everything through again between two nodes: what was held flows, and what was closed
    /// meanwhile is seen to be closed.
    pub fn heal(&self, a: NodeId, b: NodeId) {
        self.board.retain_cuts(|cut| *cut != (a, b) && *cut != (b, a));
    }

    /// Heals all cuts.
    pub fn heal_all(&self) {
        self.board.retain_cuts(|_| false);
    }

    /// Breaks the connections between two nodes; they may dial again.
    pub fn reset(&self, a: NodeId, b: NodeId) {
        self.board.reset(|ends| ends == [a, b] || ends == [b, a]);
    }

    /// What the seed `/memory/<name>` stands for from now on, like a name in the DNS: as many
    /// addresses as one likes, of nodes that are there or not.
    pub fn name(&self, name: &str, addresses: impl IntoIterator<Item = String>) {
        self.board.set_name(format!("/memory/{name}"), addresses.into_iter().collect());
    }

    /// As if the node's process died: its connections break, its addresses refuse, and it reaches
    /// nobody, until a node with its key is started anew.
    pub fn kill(&self, node: NodeId) {
        self.board.kill(node);
    }
}

/// Checks an address of this network: `/memory/<n>`, where 0 asks for a free one to listen on.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_address(address: &str) -> Result<(), String> {
    board::port(address).map(drop)
}

/// Checks a seed on this network: an address, or `/memory/<name>` for
/// [`MemoryNetwork::name`].
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_seed(seed: &str) -> Result<(), String> {
    let name = seed.strip_prefix("/memory/").filter(|name| !name.is_empty());
    name.map(drop).ok_or_else(|| "it must be /memory/<number> or /memory/<name>".to_owned())
}

/// Starts a node on a switchboard, on a thread of its own. Without an address to listen on it
/// listens on a free one.
///
/// # Errors
/// [`NetError`] when an address is not valid or taken.
pub async fn start(
    network: &MemoryNetwork,
    config: NetConfig,
    events: mpsc::Sender<NetEvent>,
    data: Arc<dyn DataPlane>,
) -> Result<Arc<dyn Network>, NetError> {
    start_version(network, WIRE_VERSION, config, events, data).await
}

/// The same, with another wire version, for tests.
pub(super) async fn start_version(
    network: &MemoryNetwork,
    version: u16,
    config: NetConfig,
    events: mpsc::Sender<NetEvent>,
    data: Arc<dyn DataPlane>,
) -> Result<Arc<dyn Network>, NetError> {
    let me = p2p::node_id(&config.secret_key);
    let board = Arc::clone(&network.board);
    let start = thread::Start { me, version, config, events, data };
    thread::start(start, move |config, ears| async move { listen(board, me, &config, &ears) }).await
}

fn listen(
    board: Arc<Board>,
    me: NodeId,
    config: &NetConfig,
    ears: &Ears,
) -> Result<Arc<dyn Carrier>, NetError> {
    for address in &config.seeds {
        check_seed(address).map_err(|reason| {
            let address = address.clone();
            NetError::Address { address, reason }
        })?;
    }
    let life = board::listen(&board, (me, config.birth), config.secrets(), &config.listen, ears)?;
    Ok(Arc::new(Dialler::new(board, life)))
}
