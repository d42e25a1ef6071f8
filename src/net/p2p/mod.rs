//! The network over libp2p: TCP, Noise and Yamux, with a pre-shared key where there is a secret.
//!
//! libp2p finds the way and proves who is there. Everything above a connection (Hellos, one link
//! for each pair, redialling) is shared with the in-process transport.

use std::sync::Arc;

use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol};
use tokio::sync::mpsc;

use super::{DataPlane, NetConfig, NetError, NetEvent, Network, thread};
use crate::model::{address::is_service, id::NodeId, member::WIRE_VERSION};

mod behaviour;
mod cause;
mod driver;
mod inbound;
mod key;
mod meter;
mod own_addresses;
mod resolver;
mod same_key;
mod transport;
mod trying;

pub(super) use resolver::Resolver;

pub use key::{KeyFileError, load_or_create_key, node_id};

/// Starts the network on a thread of its own and listens. The thread ends with
/// [`Network::shutdown`], or soon after the handle is dropped.
///
/// No Hello is sent, and nobody is dialled or let in, before [`Network::announce`] was called once.
///
/// # Errors
/// [`NetError`] when an address or the key is not valid or the node cannot listen.
pub async fn start(
    config: NetConfig,
    events: mpsc::Sender<NetEvent>,
    data: Arc<dyn DataPlane>,
) -> Result<Arc<dyn Network>, NetError> {
    start_with(WIRE_VERSION, Resolver::default(), config, events, data).await
}

/// The same, with another wire version or resolver, for tests.
pub(super) async fn start_with(
    version: u16,
    resolver: Resolver,
    config: NetConfig,
    events: mpsc::Sender<NetEvent>,
    data: Arc<dyn DataPlane>,
) -> Result<Arc<dyn Network>, NetError> {
    let invalid = |address: &String, reason| NetError::Address { address: address.clone(), reason };
    for address in &config.listen {
        check_address(address).map_err(|reason| invalid(address, reason))?;
    }
    for seed in &config.seeds {
        check_seed(seed).map_err(|reason| invalid(seed, reason))?;
    }
    let me = node_id(&config.secret_key);
    let start = thread::Start { me, version, config, events, data };
    thread::start(start, |config, ears| driver::start(config, ears, resolver)).await
}

/// Checks a multiaddr to listen on or to dial: `/ip4`, `/ip6`, `/dns`, `/dns4`, `/dns6` with
/// `/tcp/<port>`, or `/dnsaddr`, and a trailing `/p2p/<peer id>` if one is known.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_address(address: &str) -> Result<(), String> {
    parse_address(address).map(drop)
}

/// Checks a seed: such a multiaddr, or the name of an SRV record.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_seed(seed: &str) -> Result<(), String> {
    if is_service(seed) { Ok(()) } else { check_address(seed) }
}

/// The address and the node that is expected there, if the address names one.
fn parse_address(text: &str) -> Result<(Multiaddr, Option<NodeId>), String> {
    let mut address: Multiaddr = text.parse().map_err(|error| format!("{error}"))?;
    let mut node = None;
    if let Some(Protocol::P2p(peer)) = address.iter().last() {
        let named = key::from_peer_id(&peer).ok_or("its peer id is no ed25519 key")?;
        node = Some(named);
        address.pop();
    }
    let parts: Vec<_> = address.iter().collect();
    match &parts[..] {
        [
            Protocol::Ip4(_)
            | Protocol::Ip6(_)
            | Protocol::Dns(_)
            | Protocol::Dns4(_)
            | Protocol::Dns6(_),
            Protocol::Tcp(_),
        ]
        | [Protocol::Dnsaddr(_)] => Ok((address, node)),
        _ => Err("it must be /ip4, /ip6, /dns, /dns4 or /dns6 with /tcp/<port>, or /dnsaddr, \
                  and nothing else but a trailing /p2p/<peer id>"
            .to_owned()),
    }
}

/// The key pair of a secret key.
fn key_pair(secret_key: &[u8; 32]) -> Keypair {
    let mut bytes = *secret_key;
    Keypair::ed25519_from_bytes(&mut bytes).expect("any 32 bytes are an ed25519 secret key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_supported_kinds_are_taken() {
        let id = node_id(&[1; 32]);
        for address in [
            "/ip4/127.0.0.1/tcp/4001".to_owned(),
            "/ip6/::1/tcp/0".to_owned(),
            "/dns4/hub-0.hub/tcp/4001".to_owned(),
            "/dns6/hub-0.hub/tcp/4001".to_owned(),
            "/dnsaddr/hub.example".to_owned(),
            format!("/ip4/10.0.0.1/tcp/4001/p2p/{id}"),
        ] {
            assert_eq!(check_address(&address), Ok(()), "{address}");
        }
        let (_, node) = parse_address(&format!("/ip4/10.0.0.1/tcp/1/p2p/{id}")).expect("valid");
        assert_eq!(node, Some(id));
    }

    #[test]
    fn other_addresses_are_refused_with_a_reason() {
        for address in
            ["", "localhost:4001", "/ip4/127.0.0.1", "/ip4/1.2.3.4/udp/1", "/memory/1", "/tcp/1"]
        {
            assert!(!check_address(address).expect_err(address).is_empty());
        }
    }
}
