//! Drives the swarm: dials, listens, and hands connections on. It never waits for anybody.

use std::{collections::HashMap, io, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::{ConnectedPoint, transport::TransportError, upgrade},
    mdns,
    multiaddr::Protocol,
    swarm::{
        self, ConnectionId, NetworkBehaviour, SwarmEvent,
        behaviour::toggle::Toggle,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::{mpsc, oneshot};

use super::{
    behaviour::RawStreams,
    cause::failure,
    key::{from_peer_id, to_peer_id},
    key_pair,
    meter::{Meter, Reading},
    parse_address,
    transport::transport,
};
use crate::{
    model::id::NodeId,
    net::{
        Admission, NetConfig, NetError,
        carrier::{Carrier, CarrierEvent, Connection, DialFailure},
    },
};

/// How many orders wait for the swarm; whoever orders more waits.
const ORDERS: usize = 64;

#[derive(NetworkBehaviour)]
struct Behaviour {
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
        for address in addresses {
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
    events: mpsc::Sender<CarrierEvent>,
) -> Result<Arc<dyn Carrier>, NetError> {
    let keys = key_pair(&config.secret_key);
    let secret = match config.admission {
        Admission::Secret(secret) | Admission::SecretAndAllow(secret, _) => Some(secret),
        Admission::Open | Admission::Allow(_) => None,
    };
    let meter = Meter::new();
    let reading = meter.reading();
    let transport = transport(&meter, &keys, secret, config.answer_deadline())?;
    let me = keys.public().to_peer_id();
    let (close, closed) = mpsc::unbounded_channel();
    let mdns = config.mdns.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), me));
    let mdns = mdns.and_then(|made| {
        made.inspect_err(|error| tracing::warn!(%error, "no discovery on the LAN")).ok()
    });
    let behaviour = Behaviour { streams: RawStreams::new(close), mdns: mdns.into() };
    let swarm_config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(Duration::ZERO)
        .with_substream_upgrade_protocol_override(upgrade::Version::V1Lazy);
    let mut swarm = Swarm::new(transport, behaviour, me, swarm_config);
    for address in &config.listen {
        let (parsed, _) = parse_address(address)
            .map_err(|reason| NetError::Address { address: address.clone(), reason })?;
        let refused = |reason| NetError::Listen { address: address.clone(), reason };
        is_free(&parsed).map_err(|error| refused(error.to_string()))?;
        swarm.listen_on(parsed).map_err(|error| match error {
            TransportError::Other(error) => refused(error.to_string()),
            error => refused(error.to_string()),
        })?;
    }
    let (orders, taken) = mpsc::channel(ORDERS);
    let driver = Driver { swarm, events, dials: HashMap::new(), meter };
    tokio::spawn(driver.run(taken, closed));
    Ok(Arc::new(Handle { orders, reading }))
}

/// Whether nobody listens there. libp2p shares a port (`SO_REUSEPORT`), so that a second process
/// on it would not fail, and would silently get half of the connections.
fn is_free(address: &Multiaddr) -> io::Result<()> {
    let mut parts = address.iter();
    let address: Option<IpAddr> = match parts.next() {
        Some(Protocol::Ip4(address)) => Some(address.into()),
        Some(Protocol::Ip6(address)) => Some(address.into()),
        _ => None,
    };
    match (address, parts.next()) {
        (Some(address), Some(Protocol::Tcp(port))) if port != 0 => {
            std::net::TcpListener::bind((address, port)).map(drop)
        }
        _ => Ok(()),
    }
}

struct Driver {
    swarm: Swarm<Behaviour>,
    events: mpsc::Sender<CarrierEvent>,
    dials: HashMap<ConnectionId, oneshot::Sender<Result<Connection, DialFailure>>>,
    meter: Meter,
}

impl Driver {
    async fn run(
        mut self,
        mut orders: mpsc::Receiver<Order>,
        mut closed: mpsc::UnboundedReceiver<ConnectionId>,
    ) {
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
                Some(connection) = closed.recv() => {
                    self.swarm.behaviour_mut().streams.drop_connection(connection);
                }
                event = self.swarm.select_next_some() => {
                    self.meter.record(&event);
                    self.handle(event);
                }
            }
        }
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
            Err(error) => drop(answer.send(Err(failure(error)))),
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
                self.tell(CarrierEvent::Listening(address.to_string()));
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.established(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(answer) = self.dials.remove(&connection_id) {
                    let _ = answer.send(Err(failure(error)));
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(address = %send_back_addr, %error, "a connection was not accepted");
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::warn!(%error, "a listener failed");
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "a listener ended");
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

    fn established(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let ends = self.swarm.behaviour_mut().streams.take(connection);
        let (Some(ends), Some(node)) = (ends, from_peer_id(&peer)) else {
            // Its key is of another kind than ours.
            self.swarm.behaviour_mut().streams.drop_connection(connection);
            return;
        };
        let connected = Connection {
            peer: node,
            address: endpoint.get_remote_address().to_string(),
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
