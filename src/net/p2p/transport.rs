//! The transport that the swarm drives: TCP, a pre-shared key where there is a secret, Noise, Yamux.

use std::time::Duration;

use futures_util::future::Either;
use libp2p::{
    PeerId, Transport,
    core::{
        ConnectedPoint,
        muxing::StreamMuxerBox,
        transport::{
            Boxed,
            timeout::{TransportTimeout, TransportTimeoutError},
        },
        upgrade,
    },
    identity::Keypair,
    noise,
    pnet::{PnetConfig, PnetError, PreSharedKey},
    tcp,
};

use super::{
    cause::{Unreached, Unsecured, Unshielded, cause, io_of},
    inbound::{Inbound, Placed},
    meter::Meter,
    own_addresses::OwnAddresses,
    same_key::Multiplexing,
    trying::Trying,
};
use crate::{
    model::secret::Secret,
    net::{Birth, NetError, carrier::DialFailure},
};

/// TCP, the pre-shared key if there is one, Noise and Yamux. Whoever connects must hold the first of
/// the secrets, and has a place of `inbound` until it is secured.
pub(super) fn transport(
    meter: &Meter,
    keys: &Keypair,
    birth: Birth,
    secrets: &[Secret],
    inbound: Inbound,
    own: &OwnAddresses,
    deadline: Duration,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetError> {
    let failed = |error: &dyn std::fmt::Display| NetError::Start(error.to_string());
    let me = keys.public().to_peer_id();
    let secured = |secret: Option<&Secret>| {
        let tcp = tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
        let tcp = TransportTimeout::new(tcp, deadline / 2);
        let tcp = tcp.map_err(|error| Unreached::new(io_of(&error)));
        let noise = noise::Config::new(keys).map_err(|error| failed(&error))?;
        let secret = secret.map(|secret| PnetConfig::new(PreSharedKey::new(*secret.bytes())));
        let (waiting, own) = (inbound.clone(), own.clone());
        let shielded = tcp.and_then(move |socket, point| async move {
            let socket = own.bind(socket).map_err(PnetError::IoError)?;
            let Some(secret) = secret else {
                return Ok::<_, Unshielded>(Either::Right(socket));
            };
            let socket = secret.handshake(socket).await?;
            if let ConnectedPoint::Listener { send_back_addr, .. } = point {
                waiting.spoke(&send_back_addr);
            }
            Ok(Either::Left(socket))
        });
        let secured = shielded
            .upgrade(upgrade::Version::V1Lazy)
            .authenticate(noise)
            .multiplex_ext(move |peer, _| Multiplexing::new(*peer == me, birth))
            .timeout(deadline * 4 / 5);
        // TCP has given up well before that: what is out of time was accepted and not agreed on.
        Ok::<_, NetError>(Transport::map_err(secured, |error| match &error {
            TransportTimeoutError::Timeout => Unsecured(DialFailure::Silent),
            error => Unsecured(cause(error)),
        }))
    };
    let first = secured(secrets.first())?;
    let others: Result<Vec<_>, NetError> =
        secrets.iter().skip(1).map(|secret| secured(Some(secret))).collect();
    let trying = Trying::new(first, others?);
    Ok(meter.boxed(Placed::new(trying, inbound.clone())))
}
