//! Drives the swarm: dials, listens, and hands connections on. It never waits for anybody.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Swarm,
    allow_block_list::{self, AllowedPeers, BlockedPeers},
    connection_limits,
    core::{
        ConnectedPoint,
        transport::{ListenerId, TransportError},
        upgrade,
    },
    mdns,
    multiaddr::Protocol,
    swarm::{
        self, ConnectionId, DialError, ListenError, NetworkBehaviour, SwarmEvent,
        behaviour::toggle::Toggle,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use socket2::{Domain, Socket, Type};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout, timeout_at},
};

use super::{
    behaviour::RawStreams,
    cause::{failure, rejection},
    inbound::Inbound,
    key::{from_peer_id, to_peer_id},
    key_pair,
    meter::{Meter, Reading},
    own_addresses::OwnAddresses,
    parse_address,
    resolver::Resolver,
    transport::transport,
};
use crate::{
    model::{access::AccessList, address::ip_of, id::NodeId},
    net::{
        NetConfig, NetError,
        addresses::Addresses,
        carrier::{Carrier, CarrierEvent, Connection, DialFailure, Ears},
    },
};

/// How many orders wait for the swarm; whoever orders more waits.
const ORDERS: usize = 64;
/// How many connections may stand, in either direction.
const ESTABLISHED: u32 = 4_096;

/// How long a listener may take to tell its first address.
const INTERFACES: Duration = Duration::from_secs(1);
/// What is told of a stranger who dialled.
const INSECURE: &str = "no secure channel could be agreed: the secrets differ, or it is no node of \
                        a hub";

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    /// Who is admitted, where there is a list.
    allowed: Toggle<allow_block_list::Behaviour<AllowedPeers>>,
    /// Who is not, where there is none.
    blocked: allow_block_list::Behaviour<BlockedPeers>,
    streams: RawStreams,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

enum Order {
    Dial {
        node: Option<NodeId>,
        addresses: Vec<Multiaddr>,
        answer: oneshot::Sender<Result<Connection, DialFailure>>,
    },
    Stop {
        answer: oneshot::Sender<()>,
    },
}

/// The way to the swarm.
struct Handle {
    orders: mpsc::Sender<Order>,
    resolver: Resolver,
    reading: Reading,
}

fn swarm_ended() -> DialFailure {
    DialFailure::Unreachable("the network is shutting down".to_owned())
}

#[async_trait]
impl Carrier for Handle {
    async fn dial(
        &self,
        node: Option<NodeId>,
        addresses: Vec<String>,
    ) -> Result<Connection, DialFailure> {
        let mut node = node;
        let mut parsed = Vec::new();
        let mut wrong = String::new();
        let mut resolved = Vec::new();
        for address in &addresses {
            match self.resolver.resolve(address).await {
                Ok(addresses) => resolved.extend(addresses),
                Err(reason) => wrong = reason,
            }
        }
        for address in resolved {
            match parse_address(&address) {
                // An address that names another node than the one that is looked for is no use.
                Ok((address, named)) if node.is_none() || named.is_none() || named == node => {
                    parsed.push(address);
                    node = node.or(named);
                }
                Ok(_) => wrong = format!("{address} names another node"),
                Err(reason) => wrong = format!("{address}: {reason}"),
            }
        }
        if parsed.is_empty() {
            return Err(DialFailure::Unreachable(wrong));
        }
        let (answer, outcome) = oneshot::channel();
        let order = Order::Dial { node, addresses: parsed, answer };
        self.orders.send(order).await.map_err(|_| swarm_ended())?;
        outcome.await.map_err(|_| swarm_ended())?
    }

    async fn resolve(&self, seed: &str) -> Result<Vec<String>, String> {
        self.resolver.resolve(seed).await
    }

    fn metrics(&self) -> Option<String> {
        self.reading.text()
    }

    async fn stop(&self) {
        let (answer, stopped) = oneshot::channel();
        if self.orders.send(Order::Stop { answer }).await.is_ok() {
            let _ = stopped.await;
        }
    }
}

/// Listens, and drives the swarm on a task of its own.
pub(super) async fn start(
    config: NetConfig,
    ears: Ears,
    resolver: Resolver,
) -> Result<Arc<dyn Carrier>, NetError> {
    let deadline = config.answer_deadline();
    let keys = key_pair(&config.secret_key);
    let meter = Meter::new();
    let reading = meter.reading();
    let inbound = Inbound::new();
    let secrets = config.secrets();
    let own = OwnAddresses::default();
    let waiting = inbound.clone();
    let transport = transport(&meter, &keys, config.birth, &secrets, waiting, &own, deadline)?;
    let me = keys.public().to_peer_id();
    let mdns = config.mdns.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), me));
    let mdns = mdns.and_then(|made| {
        made.inspect_err(|error| tracing::warn!(%error, "no discovery on the LAN")).ok()
    });
    let Ears { events, addresses, access } = ears;
    let limits =
        connection_limits::ConnectionLimits::default().with_max_established(Some(ESTABLISHED));
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        allowed: access.borrow().listed().map(|_| Default::default()).into(),
        blocked: Default::default(),
        streams: RawStreams::new(),
        mdns: mdns.into(),
    };
    let swarm_config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(Duration::ZERO)
        .with_substream_upgrade_protocol_override(upgrade::Version::V1Lazy);
    let mut swarm = Swarm::new(transport, behaviour, me, swarm_config);
    let mut listeners = HashSet::new();
    for address in &config.listen {
        let refused = |reason| NetError::Listen { address: address.clone(), reason };
        for resolved in listen_addresses(&resolver, address, deadline).await? {
            is_free(&resolved).map_err(|error| refused(error.to_string()))?;
            let listener = swarm.listen_on(resolved).map_err(|error| match error {
                TransportError::Other(error) => refused(error.to_string()),
                error => refused(error.to_string()),
            })?;
            listeners.insert(listener);
        }
    }
    let (orders, taken) = mpsc::channel(ORDERS);
    let dials = HashMap::new();
    let applied = AccessList::open();
    let mut driver =
        Driver { swarm, events, addresses, access, applied, dials, inbound, own, meter };
    driver.apply_access();
    driver.find_interfaces(listeners).await;
    tokio::spawn(driver.run(taken));
    Ok(Arc::new(Handle { orders, resolver, reading }))
}

/// The addresses to listen on: a name stands for all that it resolves to.
async fn listen_addresses(
    resolver: &Resolver,
    address: &str,
    deadline: Duration,
) -> Result<Vec<Multiaddr>, NetError> {
    let refused = |reason| NetError::Listen { address: address.to_owned(), reason };
    let late = |_| refused("its name was not resolved within the deadline".to_owned());
    let resolved = timeout(deadline, resolver.resolve(address)).await.map_err(late)?;
    let parse = |text: String| match parse_address(&text) {
        Ok((address, _)) => Ok(address),
        Err(reason) => Err(NetError::Address { address: address.to_owned(), reason }),
    };
    resolved.map_err(refused)?.into_iter().map(parse).collect()
}

/// Whether nobody listens there. libp2p shares a port (`SO_REUSEPORT`), so that a second process
/// on it would not fail, and would silently get half of the connections.
fn is_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    let Some(Protocol::Tcp(port @ 1..)) = parts.next() else {
        return Ok(());
    };
    let address = SocketAddr::new(ip, port);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if ip.is_ipv6() {
        // As libp2p listens: without it `::` would stand for all addresses of IPv4 as well, and a
        // node that listens on both could listen on one only.
        socket.set_only_v6(true)?;
    }
    // What is left of connections that ended is no listener. Elsewhere it means something else.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

struct Driver {
    swarm: Swarm<Behaviour>,
    events: mpsc::Sender<CarrierEvent>,
    addresses: Arc<Addresses>,
    access: watch::Receiver<AccessList>,
    /// Who is admitted as the swarm knows it.
    applied: AccessList,
    dials: HashMap<ConnectionId, oneshot::Sender<Result<Connection, DialFailure>>>,
    inbound: Inbound,
    own: OwnAddresses,
    meter: Meter,
}

impl Driver {
    /// Waits until each listener has told where it listens, and one on all interfaces all of them;
    /// on no more than [`INTERFACES`], as there may be none of its family. Those that come later
    /// are told when they come.
    async fn find_interfaces(&mut self, mut listeners: HashSet<ListenerId>) {
        let until = Instant::now() + INTERFACES;
        while !listeners.is_empty() {
            match timeout_at(until, self.swarm.select_next_some()).await {
                Ok(event) => {
                    if let SwarmEvent::NewListenAddr { listener_id, .. } = &event {
                        listeners.remove(listener_id);
                    }
                    self.meter.record(&event);
                    self.handle(event);
                }
                Err(_) => {
                    tracing::warn!("a listener has no address yet; others are told when it has");
                    return;
                }
            }
        }
        // The kernel has handed out the list as a whole: what follows the first is there already,
        // unless this task has had its share of the runtime. Then it has a second turn.
        for _ in 0..2 {
            while let Some(event) = self.swarm.select_next_some().now_or_never() {
                self.meter.record(&event);
                self.handle(event);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Dial { node, addresses, answer }) => {
                        self.dial(node, addresses, answer);
                    }
                    Some(Order::Stop { answer }) => {
                        // The swarm is dropped first: sockets and listeners end with it.
                        drop(self);
                        let _ = answer.send(());
                        return;
                    }
                    None => return,
                },
                Ok(()) = self.access.changed() => self.apply_access(),
                event = self.swarm.select_next_some() => {
                    self.meter.record(&event);
                    self.handle(event);
                }
            }
        }
    }

    /// Lets the swarm admit whom this node admits now.
    fn apply_access(&mut self) {
        let now = self.access.borrow_and_update().clone();
        let Behaviour { allowed, blocked, .. } = self.swarm.behaviour_mut();
        if let Some(allowed) = allowed.as_mut() {
            let before = self.applied.listed().into_iter().flatten();
            let (before, listed): (HashSet<_>, HashSet<_>) =
                (before.copied().collect(), now.listed().into_iter().flatten().copied().collect());
            for node in before.difference(&listed) {
                allowed.disallow_peer(to_peer_id(*node));
            }
            for node in listed.difference(&before) {
                allowed.allow_peer(to_peer_id(*node));
            }
        }
        for node in self.applied.blocked().difference(now.blocked()) {
            blocked.unblock_peer(to_peer_id(*node));
        }
        for node in now.blocked().difference(self.applied.blocked()) {
            blocked.block_peer(to_peer_id(*node));
        }
        self.applied = now;
    }

    /// What a failed dial means.
    fn failure(&self, peer: Option<PeerId>, error: DialError) -> DialFailure {
        match (&error, self.refusal(peer)) {
            (DialError::Denied { .. }, Some(reason)) => DialFailure::NotAdmitted(reason),
            _ => failure(error),
        }
    }

    /// Why this peer is not admitted, if it is known who it is.
    fn refusal(&self, peer: Option<PeerId>) -> Option<&'static str> {
        self.applied.refusal(from_peer_id(&peer?)?)
    }

    fn dial(
        &mut self,
        node: Option<NodeId>,
        addresses: Vec<Multiaddr>,
        answer: oneshot::Sender<Result<Connection, DialFailure>>,
    ) {
        if answer.is_closed() {
            return;
        }
        addresses.iter().for_each(|address| self.inbound.know(address));
        // Not from the port that is listened on, which is libp2p's default: two nodes that dial each
        // other's port from their own can end up with one TCP connection that both have opened.
        let options = match node {
            Some(node) => DialOpts::peer_id(to_peer_id(node))
                .condition(PeerCondition::Always)
                .addresses(addresses)
                .allocate_new_port()
                .build(),
            None => match addresses.into_iter().next() {
                Some(address) => {
                    DialOpts::unknown_peer_id().address(address).allocate_new_port().build()
                }
                None => return,
            },
        };
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.dials.insert(connection, answer)),
            Err(error) => {
                let failure = self.failure(node.map(to_peer_id), error);
                drop(answer.send(Err(failure)));
            }
        }
    }

    /// An event that finds no room is dropped with what it carries.
    fn tell(&self, event: CarrierEvent) {
        if self.events.try_send(event).is_err() {
            tracing::warn!("the network is overloaded: an event of it was dropped");
        }
    }

    fn handle(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "listening");
                self.addresses.listens(address.to_string());
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                tracing::info!(%address, "no longer listening");
                let address = address.to_string();
                if let Some(own) = ip_of(&address) {
                    self.own.expired(own);
                }
                self.addresses.expired(&address);
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                if let Some(answer) = self.dials.remove(&connection_id) {
                    let _ = answer.send(Err(self.failure(peer_id, error)));
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, peer_id, error, .. } => {
                tracing::debug!(address = %send_back_addr, %error, "a connection was not accepted");
                self.rejected(&send_back_addr, peer_id, &error);
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener failed");
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "a listener ended");
                addresses.iter().for_each(|address| self.addresses.expired(&address.to_string()));
            }
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) => {
                let (nodes, is_found) = match event {
                    mdns::Event::Discovered(nodes) => (nodes, true),
                    mdns::Event::Expired(nodes) => (nodes, false),
                };
                for (peer, address) in nodes {
                    let address = address.to_string();
                    let Some(node) = from_peer_id(&peer) else {
                        continue;
                    };
                    if parse_address(&address).is_ok() {
                        self.tell(if is_found {
                            CarrierEvent::Found(node, address)
                        } else {
                            CarrierEvent::Lost(node, address)
                        });
                    }
                }
            }
            _ => {}
        }
    }

    /// Tells of a connection that was not accepted, if that says something of who dialled: a port
    /// that is only looked at is none of that.
    fn rejected(&self, from: &Multiaddr, peer: Option<PeerId>, error: &ListenError) {
        let ip = ip_of(&from.to_string()).map_or_else(|| from.to_string(), |ip| ip.to_string());
        if let (ListenError::Denied { .. }, Some(reason)) = (error, self.refusal(peer)) {
            let (node, reason) = (peer.as_ref().and_then(from_peer_id), reason.to_owned());
            self.tell(CarrierEvent::Rejected { node, from: ip, reason });
            return;
        }
        match rejection(error) {
            Some(DialFailure::Twin { is_second }) => {
                self.tell(CarrierEvent::Twin { from: ip, is_second });
            }
            Some(DialFailure::Insecure(_)) => {
                let reason = INSECURE.to_owned();
                self.tell(CarrierEvent::Rejected { node: None, from: ip, reason });
            }
            _ => {}
        }
    }

    fn established(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let ends = self.swarm.behaviour_mut().streams.take(connection);
        let (Some(ends), Some(node)) = (ends, from_peer_id(&peer)) else {
            // Its key is of another kind than ours.
            self.swarm.behaviour_mut().streams.let_go(peer, connection);
            return;
        };
        let mut address = endpoint.get_remote_address().clone();
        if let Some(Protocol::P2p(_)) = address.iter().last() {
            address.pop();
        }
        // Another address of a member, as it may be behind a name or a translation.
        self.inbound.know(&address);
        let connected = Connection {
            peer: node,
            address: address.to_string(),
            dialled: endpoint.is_dialer(),
            streams: ends.streams.into(),
            incoming: ends.incoming,
        };
        if endpoint.is_dialer() {
            // If nobody waits for it any more, it is dropped, which closes it.
            if let Some(answer) = self.dials.remove(&connection) {
                let _ = answer.send(Ok(connected));
            }
        } else {
            self.tell(CarrierEvent::Incoming(connected));
        }
    }
}
