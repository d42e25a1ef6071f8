//! The network inside a process: byte pipes with cuts, for tests and examples.
//!
//! Only the pipes differ from the network over libp2p. Hellos, the one link for each pair and
//! redialling are the same code, so that what holds here holds there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures_util::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    sync::{mpsc, watch},
};

use super::{
    Admission, DataPlane, NetConfig, NetError, NetEvent, Network,
    carrier::{Carrier, CarrierEvent, Connection, DialFailure, INCOMING_STREAMS, Stream, Streams},
    links, p2p,
};
use crate::model::{id::NodeId, member::WIRE_VERSION};

/// How many bytes a stream holds that were written and not read.
const PIPE: usize = 256 * 1024;

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
        let state = self.board.state();
        f.debug_struct("MemoryNetwork").field("cuts", &state.cuts).finish_non_exhaustive()
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
        self.board.change(|state| state.cuts.extend([(a, b), (b, a)]));
    }

    /// Lets nothing through from one node to the other; the other direction is left as it is.
    pub fn cut_one_way(&self, from: NodeId, to: NodeId) {
        self.board.change(|state| state.cuts.extend([(from, to)]));
    }

    /// Lets everything through again between two nodes: what was held flows, and what was closed
    /// meanwhile is seen to be closed.
    pub fn heal(&self, a: NodeId, b: NodeId) {
        self.board.change(|state| state.cuts.retain(|cut| *cut != (a, b) && *cut != (b, a)));
    }

    /// Heals all cuts.
    pub fn heal_all(&self) {
        self.board.change(|state| state.cuts.clear());
    }

    /// Breaks the connections between two nodes; they may dial again.
    pub fn reset(&self, a: NodeId, b: NodeId) {
        self.board.change(|state| {
            for wire in state.wires() {
                if wire.ends == [a, b] || wire.ends == [b, a] {
                    wire.reset.store(true, Ordering::Release);
                }
            }
        });
    }

    /// As if the node's process died: its connections break, its addresses refuse, and it reaches
    /// nobody, until a node with its key is started anew.
    pub fn kill(&self, node: NodeId) {
        self.board.change(|state| {
            state.live.retain(|_, live| *live != node);
            for listener in state.listeners.values_mut().filter(|one| one.node == node) {
                listener.events = None;
            }
            for wire in state.wires() {
                if wire.ends.contains(&node) {
                    wire.reset.store(true, Ordering::Release);
                }
            }
        });
    }
}

/// Checks an address of this network: `/memory/<n>`, where 0 asks for a free one to listen on.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_address(address: &str) -> Result<(), String> {
    port(address).map(drop)
}

fn port(address: &str) -> Result<u64, String> {
    let number = address.strip_prefix("/memory/").and_then(|number| number.parse().ok());
    number.ok_or_else(|| "it must be /memory/<number>".to_owned())
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
    let start = links::Start { me, version, config, events, data };
    links::start(start, move |config, events| async move { listen(board, me, &config, events) })
        .await
}

fn listen(
    board: Arc<Board>,
    me: NodeId,
    config: &NetConfig,
    events: mpsc::Sender<CarrierEvent>,
) -> Result<Arc<dyn Carrier>, NetError> {
    let secret = match config.admission {
        Admission::Secret(secret) | Admission::SecretAndAllow(secret, _) => Some(secret),
        Admission::Open | Admission::Allow(_) => None,
    };
    let mut addresses = config.listen.clone();
    if addresses.is_empty() {
        addresses.push("/memory/0".to_owned());
    }
    for address in addresses.iter().chain(&config.seeds) {
        port(address).map_err(|reason| {
            let address = address.clone();
            NetError::Address { address, reason }
        })?;
    }
    let life = board.change(|state| {
        state.lives += 1;
        let life = state.lives;
        let mut taken = Vec::new();
        for address in &addresses {
            let asked = port(address).unwrap_or_default();
            let port = if asked == 0 { state.free_port() } else { asked };
            let is_free = |one: &Listener| one.events.is_none();
            if !state.listeners.get(&port).is_none_or(is_free) {
                for port in taken {
                    state.listeners.remove(&port);
                }
                let reason = "the address is in use".to_owned();
                return Err(NetError::Listen { address: address.clone(), reason });
            }
            let listener = Listener { node: me, life, secret, events: Some(events.clone()) };
            state.listeners.insert(port, listener);
            taken.push(port);
        }
        for port in taken {
            // The channel is new and holds more than a node has addresses.
            let _ = events.try_send(CarrierEvent::Listening(format!("/memory/{port}")));
        }
        state.live.insert(life, me);
        Ok(life)
    })?;
    Ok(Arc::new(Dialler { board, me, life, secret }))
}

#[derive(Default)]
struct Board {
    state: Mutex<BoardState>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct BoardState {
    listeners: BTreeMap<u64, Listener>,
    /// From, to.
    cuts: BTreeSet<(NodeId, NodeId)>,
    wires: Vec<Weak<Wire>>,
    /// Starts of nodes that were neither killed nor stopped. A node may be started anew before
    /// what is left of its last life has stopped.
    live: BTreeMap<u64, NodeId>,
    /// How many lives there were.
    lives: u64,
}

/// Who has an address. Stays when it listens no more, so that a cut hides that as well.
struct Listener {
    node: NodeId,
    life: u64,
    secret: Option<[u8; 32]>,
    events: Option<mpsc::Sender<CarrierEvent>>,
}

impl BoardState {
    fn free_port(&self) -> u64 {
        self.listeners.last_key_value().map_or(1, |(port, _)| port.saturating_add(1))
    }

    fn wires(&mut self) -> Vec<Arc<Wire>> {
        self.wires.retain(|wire| wire.strong_count() > 0);
        self.wires.iter().filter_map(Weak::upgrade).collect()
    }

    fn is_cut(&self, a: NodeId, b: NodeId) -> bool {
        self.cuts.contains(&(a, b)) || self.cuts.contains(&(b, a))
    }
}

impl Board {
    fn state(&self) -> MutexGuard<'_, BoardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and lets all connections and waiting dials see it.
    fn change<T>(&self, change: impl FnOnce(&mut BoardState) -> T) -> T {
        let mut state = self.state();
        let outcome = change(&mut state);
        for wire in state.wires() {
            let [a, b] = wire.ends;
            wire.cut[0].store(state.cuts.contains(&(a, b)), Ordering::Release);
            wire.cut[1].store(state.cuts.contains(&(b, a)), Ordering::Release);
            wire.settle();
        }
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
        outcome
    }
}

struct Dialler {
    board: Arc<Board>,
    me: NodeId,
    life: u64,
    secret: Option<[u8; 32]>,
}

/// What one attempt found.
enum Attempt {
    Connected(Connection),
    Failed(DialFailure),
    /// A cut is in the way.
    Held,
}

impl Dialler {
    fn attempt(&self, node: Option<NodeId>, address: &str) -> Attempt {
        let port = match port(address) {
            Ok(port) => port,
            Err(reason) => return Attempt::Failed(DialFailure::Unreachable(reason)),
        };
        let mut state = self.board.state();
        if !state.live.contains_key(&self.life) {
            let reason = "this node was stopped".to_owned();
            return Attempt::Failed(DialFailure::Unreachable(reason));
        }
        let Some(listener) = state.listeners.get(&port) else {
            return Attempt::Failed(DialFailure::Refused);
        };
        let peer = listener.node;
        if peer == self.me {
            return Attempt::Failed(DialFailure::Itself);
        }
        if state.is_cut(self.me, peer) {
            return Attempt::Held;
        }
        let Some(events) = listener.events.clone() else {
            return Attempt::Failed(DialFailure::Refused);
        };
        if listener.secret != self.secret {
            return Attempt::Failed(DialFailure::Insecure("the secrets differ".to_owned()));
        }
        if node.is_some_and(|node| node != peer) {
            let reason = format!("{address} is another node");
            return Attempt::Failed(DialFailure::Unreachable(reason));
        }
        let (wire, [mine, theirs]) = Wire::new([self.me, peer], [self.life, listener.life]);
        state.wires.push(Arc::downgrade(&wire));
        let end = |side: usize, peer, address: String, incoming| Connection {
            peer,
            address,
            dialled: side == 0,
            streams: Arc::new(End { wire: Arc::clone(&wire), side }),
            incoming,
        };
        let accepted = end(1, self.me, "/memory".to_owned(), theirs);
        let dialled = end(0, peer, address.to_owned(), mine);
        // Closing a connection takes no lock of the board.
        if events.try_send(CarrierEvent::Incoming(accepted)).is_err() {
            let reason = "the other end is overloaded".to_owned();
            return Attempt::Failed(DialFailure::Unreachable(reason));
        }
        Attempt::Connected(dialled)
    }
}

#[async_trait]
impl Carrier for Dialler {
    async fn dial(
        &self,
        node: Option<NodeId>,
        addresses: Vec<String>,
    ) -> Result<Connection, DialFailure> {
        let mut changes = self.board.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let mut failure = None;
            let mut is_held = false;
            for address in &addresses {
                match self.attempt(node, address) {
                    Attempt::Connected(connection) => return Ok(connection),
                    Attempt::Held => is_held = true,
                    // One address that did not refuse is enough to say no more than that.
                    Attempt::Failed(DialFailure::Refused) if failure.is_some() => {}
                    Attempt::Failed(other) => failure = Some(other),
                }
            }
            if !is_held || changes.changed().await.is_err() {
                let none = || DialFailure::Unreachable("no address".to_owned());
                return Err(failure.unwrap_or_else(none));
            }
        }
    }

    async fn stop(&self) {
        let me = self.life;
        self.board.change(|state| {
            state.live.remove(&me);
            for listener in state.listeners.values_mut().filter(|one| one.life == me) {
                listener.events = None;
            }
            for wire in state.wires() {
                for (side, life) in wire.lives.iter().enumerate() {
                    if *life == me {
                        wire.closed[side].store(true, Ordering::Release);
                    }
                }
            }
        });
    }
}

/// One connection; side 0 has dialled.
struct Wire {
    ends: [NodeId; 2],
    lives: [u64; 2],
    /// Whether what this side sends is held.
    cut: [AtomicBool; 2],
    /// Whether this side has closed it.
    closed: [AtomicBool; 2],
    reset: AtomicBool,
    state: Mutex<WireState>,
}

#[derive(Default)]
struct WireState {
    /// To each side, until it sees the end.
    incoming: [Option<mpsc::Sender<Stream>>; 2],
    /// Streams that a cut keeps from a side.
    held: [Vec<Stream>; 2],
    sleepers: Vec<Weak<Sleeper>>,
}

/// Who waits on one end of a stream.
#[derive(Default)]
struct Sleeper {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wire {
    fn new(ends: [NodeId; 2], lives: [u64; 2]) -> (Arc<Self>, [mpsc::Receiver<Stream>; 2]) {
        let (to_dialler, of_dialler) = mpsc::channel(INCOMING_STREAMS);
        let (to_listener, of_listener) = mpsc::channel(INCOMING_STREAMS);
        let incoming = [Some(to_dialler), Some(to_listener)];
        let wire = Self {
            ends,
            lives,
            cut: Default::default(),
            closed: Default::default(),
            reset: AtomicBool::new(false),
            state: Mutex::new(WireState { incoming, ..WireState::default() }),
        };
        (Arc::new(wire), [of_dialler, of_listener])
    }

    fn state(&self) -> MutexGuard<'_, WireState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing arrives at this side.
    fn is_deaf(&self, side: usize) -> bool {
        self.cut[1 - side].load(Ordering::Acquire)
    }

    fn is_closed(&self, side: usize) -> bool {
        self.closed[side].load(Ordering::Acquire)
    }

    /// How this side sees that the connection is over, if it does.
    fn end(&self, side: usize) -> Option<io::ErrorKind> {
        if self.is_closed(side) {
            return Some(io::ErrorKind::NotConnected);
        }
        let is_over = self.reset.load(Ordering::Acquire) || self.is_closed(1 - side);
        (is_over && !self.is_deaf(side)).then_some(io::ErrorKind::ConnectionReset)
    }

    /// Brings about what a change means for the streams.
    fn settle(&self) {
        let mut state = self.state();
        let mut dropped = Vec::new();
        for side in 0..2 {
            if !self.is_deaf(side) {
                for stream in std::mem::take(&mut state.held[side]) {
                    if let Some(incoming) = &state.incoming[side] {
                        // Without room it is dropped, like one too many over libp2p.
                        dropped.extend(incoming.try_send(stream).err());
                    }
                }
            }
            if self.end(side).is_some() {
                state.incoming[side] = None;
            }
        }
        state.sleepers.retain(|sleeper| sleeper.strong_count() > 0);
        let sleepers: Vec<_> = state.sleepers.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        for sleeper in sleepers {
            sleeper.reader.wake();
            sleeper.writer.wake();
        }
    }

    fn pipe(self: &Arc<Self>, side: usize, inner: DuplexStream) -> Stream {
        let sleeper = Arc::new(Sleeper::default());
        self.state().sleepers.push(Arc::downgrade(&sleeper));
        Box::new(Pipe { wire: Arc::clone(self), side, inner, sleeper })
    }
}

/// One end of a connection.
struct End {
    wire: Arc<Wire>,
    side: usize,
}

#[async_trait]
impl Streams for End {
    async fn open(&self) -> io::Result<Stream> {
        if let Some(end) = self.wire.end(self.side) {
            return Err(end.into());
        }
        let (mine, theirs) = tokio::io::duplex(PIPE);
        let mine = self.wire.pipe(self.side, mine);
        let theirs = self.wire.pipe(1 - self.side, theirs);
        self.wire.state().held[1 - self.side].push(theirs);
        self.wire.settle();
        Ok(mine)
    }

    fn close(&self) {
        self.wire.closed[self.side].store(true, Ordering::Release);
        self.wire.settle();
    }
}

/// One end of a stream.
struct Pipe {
    wire: Arc<Wire>,
    side: usize,
    inner: DuplexStream,
    sleeper: Arc<Sleeper>,
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Before the look, so that a change after it wakes.
        self.sleeper.reader.register(cx.waker());
        if self.wire.is_closed(self.side) {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        if self.wire.is_deaf(self.side) {
            return Poll::Pending;
        }
        if self.wire.reset.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        match Pin::new(&mut self.inner).poll_read(cx, buffer) {
            // What was written before the other end closed is still read.
            Poll::Pending => match self.wire.end(self.side) {
                Some(end) => Poll::Ready(Err(end.into())),
                None => Poll::Pending,
            },
            ready => ready,
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sleeper.writer.register(cx.waker());
        if let Some(end) = self.wire.end(self.side) {
            return Poll::Ready(Err(end.into()));
        }
        match Pin::new(&mut self.inner).poll_write(cx, bytes) {
            // The other end dropped the stream; across a cut that is not to be seen.
            Poll::Ready(Err(_)) if self.wire.is_deaf(self.side) => Poll::Pending,
            written => written,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
