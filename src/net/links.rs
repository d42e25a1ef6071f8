//! All links of one node: who is dialled and who has connected is greeted and handed to the keeper
//! of its peer.

use std::{sync::Arc, time::Duration};

use tokio::runtime;

use super::{
    addresses::Addresses,
    carrier::{Carrier, Connection, DialFailure},
    greet::GreetFailure,
    keeper::{self, Means},
    peer::Peer,
    peers::Peers,
    teller::Teller,
};
use crate::model::id::NodeId;

/// The links of one node. Each peer has a keeper that runs on its network thread.
#[derive(Clone)]
pub(super) struct Links {
    means: Means,
    carrier: Arc<dyn Carrier>,
    runtime: runtime::Handle,
}

impl Links {
    pub(super) fn new(means: Means, carrier: Arc<dyn Carrier>, runtime: runtime::Handle) -> Self {
        Self { means, carrier, runtime }
    }

    pub(super) fn me(&self) -> NodeId {
        self.means.me
    }

    pub(super) fn peers(&self) -> &Peers {
        &self.means.peers
    }

    pub(super) fn teller(&self) -> &Arc<Teller> {
        &self.means.teller
    }

    pub(super) fn addresses(&self) -> &Addresses {
        &self.means.addresses
    }

    pub(super) fn carrier(&self) -> &dyn Carrier {
        &*self.carrier
    }

    /// How long an answer of a peer's network, or of a name server, may take.
    pub(super) fn deadline(&self) -> Duration {
        self.means.greeter.deadline
    }

    /// Runs a task on the network thread.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Keeps a link to this node from now on.
    pub(super) fn want(&self, node: NodeId, addresses: Vec<String>) {
        self.with_peer(node, |peer| peer.want(addresses));
    }

    /// Dials, whoever answers there if no node is named.
    pub(super) async fn dial(
        &self,
        node: Option<NodeId>,
        addresses: Vec<String>,
    ) -> Result<Connection, DialFailure> {
        self.means.dialler.dial(node, addresses).await
    }

    /// Greets the other end of a connection and hands it to the peer's keeper.
    pub(super) async fn admit(&self, connection: Connection) -> Result<NodeId, GreetFailure> {
        let (node, address) = (connection.peer, connection.address.clone());
        match self.means.greeter.greet(connection).await {
            Ok(greeted) => {
                self.means.teller.greeted(node);
                if let Some(address) = &greeted.hello.dialled
                    && !greeted.connection.dialled
                {
                    self.means.addresses.reached(address);
                }
                self.with_peer(node, |peer| peer.offer(greeted));
                Ok(node)
            }
            Err(GreetFailure::Duplicate) => Ok(node),
            Err(failure) => {
                self.means.teller.failed(node, &address, &failure).await;
                Err(failure)
            }
        }
    }

    /// The peer, with its keeper running.
    fn with_peer(&self, node: NodeId, act: impl FnOnce(&Peer)) {
        let new = || {
            let (peer, offered) = Peer::new(node);
            self.runtime.spawn(keeper::keep(self.means.clone(), Arc::clone(&peer), offered));
            peer
        };
        self.means.peers.with(node, new, act);
    }
}
