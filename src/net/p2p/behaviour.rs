//! Hands out the raw streams of each connection, and bounds how many a peer has.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use async_trait::async_trait;
use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse, upgrade::ReadyUpgrade},
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{
    compat::FuturesAsyncReadCompatExt,
    sync::{CancellationToken, WaitForCancellationFutureOwned},
};

use crate::net::carrier::{INCOMING_STREAMS, Stream, Streams};

/// The one protocol. Its version is told on the control stream, where a difference can be named.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/actix-hub");
/// Connections of one peer that were not let go. Not counted by `libp2p::connection_limits`: that
/// counts until a connection is closed, and closing one that is cut off takes its time.
const PER_PEER: usize = 4;
/// Streams of one connection that wait to be opened.
const OPENING: usize = 16;

/// Opens streams of one connection.
struct Opener {
    requests: mpsc::Sender<Request>,
    /// Cancelled when the connection is to be closed.
    let_go: CancellationToken,
}

type Request = oneshot::Sender<io::Result<Stream>>;

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the connection ended")
}

#[async_trait]
impl Streams for Opener {
    async fn open(&self) -> io::Result<Stream> {
        let (request, answer) = oneshot::channel();
        self.requests.send(request).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    fn close(&self) {
        self.let_go.cancel();
    }
}

/// What a connection gives, once it stands.
pub(super) struct Ends {
    pub(super) streams: Box<dyn Streams>,
    pub(super) incoming: mpsc::Receiver<Stream>,
}

/// Gives each connection its channels.
pub(super) struct RawStreams {
    /// Of connections that were made and not taken.
    ends: HashMap<ConnectionId, Ends>,
    /// Until they are closed; those that were let go count no more.
    standing: BTreeMap<PeerId, BTreeMap<ConnectionId, CancellationToken>>,
}

impl RawStreams {
    pub(super) fn new() -> Self {
        Self { ends: HashMap::new(), standing: BTreeMap::new() }
    }

    /// What a connection that was established gives.
    pub(super) fn take(&mut self, connection: ConnectionId) -> Option<Ends> {
        self.ends.remove(&connection)
    }

    /// Lets a connection end at once, whatever is on its way.
    pub(super) fn let_go(&self, peer: PeerId, connection: ConnectionId) {
        let standing = self.standing.get(&peer).and_then(|all| all.get(&connection));
        if let Some(let_go) = standing {
            let_go.cancel();
        }
    }

    fn forget(&mut self, connection: ConnectionId, peer: Option<PeerId>) {
        self.ends.remove(&connection);
        if let Some(peer) = peer
            && let Some(all) = self.standing.get_mut(&peer)
        {
            all.remove(&connection);
            if all.is_empty() {
                self.standing.remove(&peer);
            }
        }
    }

    fn establish(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
    ) -> Result<RawHandler, ConnectionDenied> {
        let all = self.standing.entry(peer).or_default();
        if all.values().filter(|let_go| !let_go.is_cancelled()).count() >= PER_PEER {
            return Err(ConnectionDenied::new(io::Error::other("too many connections of a peer")));
        }
        let let_go = CancellationToken::new();
        all.insert(connection, let_go.clone());
        let (requests, to_open) = mpsc::channel(OPENING);
        let (incoming, opened) = mpsc::channel(INCOMING_STREAMS);
        let opener = Opener { requests, let_go: let_go.clone() };
        self.ends.insert(connection, Ends { streams: Box::new(opener), incoming: opened });
        let let_go = Box::pin(let_go.cancelled_owned());
        Ok(RawHandler { to_open, incoming, is_kept: true, let_go })
    }
}

impl NetworkBehaviour for RawStreams {
    type ConnectionHandler = RawHandler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.establish(connection, peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.establish(connection, peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => {
                self.forget(closed.connection_id, Some(closed.peer_id));
            }
            FromSwarm::ListenFailure(failed) => self.forget(failed.connection_id, failed.peer_id),
            FromSwarm::DialFailure(failed) => self.forget(failed.connection_id, failed.peer_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        _: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// The streams of one connection.
pub(super) struct RawHandler {
    to_open: mpsc::Receiver<Request>,
    incoming: mpsc::Sender<Stream>,
    is_kept: bool,
    let_go: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl ConnectionHandler for RawHandler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Request;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    /// Streams do not keep a connection: it ends when its owner lets go, even if a peer is cut
    /// off and nothing can be flushed.
    fn connection_keep_alive(&self) -> bool {
        self.is_kept
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<
        ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>,
    > {
        if self.is_kept && self.let_go.as_mut().poll(cx).is_ready() {
            // The connection asks next whether it is to be kept.
            self.is_kept = false;
            self.to_open.close();
        }
        if self.is_kept
            && let Poll::Ready(Some(request)) = self.to_open.poll_recv(cx)
        {
            let protocol = SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), request);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: mut stream,
                ..
            }) => {
                stream.ignore_for_keep_alive();
                // Without room it is dropped, which resets it: a peer opens a few at a time.
                let _ = self.incoming.try_send(Box::new(stream.compat()));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: mut stream,
                info: request,
            }) => {
                stream.ignore_for_keep_alive();
                let _ = request.send(Ok(Box::new(stream.compat())));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: request, error }) => {
                let error = match error {
                    StreamUpgradeError::Io(error) => error,
                    StreamUpgradeError::Timeout => io::ErrorKind::TimedOut.into(),
                    other => io::Error::other(other.to_string()),
                };
                let _ = request.send(Err(error));
            }
            _ => {}
        }
    }
}
