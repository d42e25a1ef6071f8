//! Who may be in the middle of connecting to this node.
//!
//! A connection costs a socket before it has proved anything, and a stranger can open many and say
//! nothing. They are bounded for each address and in all, and silent ones give way, oldest first. The
//! addresses of members and seeds are known: their connections take no place of strangers.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    multiaddr::Protocol,
};
use tokio_util::sync::CancellationToken;

use super::cause::Unsecured;
use crate::net::{
    carrier::DialFailure,
    pending::{Pending, PendingLimits, Ticket},
};

/// Accepted connections that have not proved who they are. Twice as many sockets as a second of a
/// lively flood leaves time for a handshake, and a quarter of what a process may usually open.
const LIMITS: PendingLimits = PendingLimits { per_origin: 128, strangers: 256 };
/// How many addresses are known; the one that was used longest ago is forgotten.
const KNOWN: usize = 1_024;

/// Where a connection comes from: an IPv4 address, or the first half of an IPv6 one, of which a
/// single machine can have the whole rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Origin(u128);

impl Origin {
    fn of(address: &Multiaddr) -> Option<Self> {
        let address: IpAddr = match address.iter().next()? {
            Protocol::Ip4(address) => address.into(),
            Protocol::Ip6(address) => IpAddr::V6(address).to_canonical(),
            _ => return None,
        };
        Some(match address {
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().into()),
            IpAddr::V6(address) => Self(u128::from(address) >> 64 << 64),
        })
    }
}

struct State {
    pending: Pending<Option<Origin>, CancellationToken>,
    /// The connections by their other ends, which differ.
    ends: HashMap<Multiaddr, Ticket>,
    /// When each address was used last, as a count of uses.
    known: BTreeMap<Origin, u64>,
    uses: u64,
}

/// The connections that are being made to this node. Clones are the same.
#[derive(Clone)]
pub(super) struct Inbound {
    state: Arc<Mutex<State>>,
}

impl Inbound {
    pub(super) fn new() -> Self {
        let pending = Pending::new(LIMITS);
        let state = State { pending, ends: HashMap::new(), known: BTreeMap::new(), uses: 0 };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is in there is whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node of the cluster, or a seed, is there.
    pub(super) fn know(&self, address: &Multiaddr) {
        let Some(origin) = Origin::of(address) else {
            return;
        };
        let mut state = self.state();
        state.uses += 1;
        let use_of_it = state.uses;
        state.known.insert(origin, use_of_it);
        if state.known.len() > KNOWN {
            let oldest = state.known.iter().min_by_key(|(_, used)| **used).map(|(one, _)| *one);
            if let Some(oldest) = oldest {
                state.known.remove(&oldest);
            }
        }
    }

    fn enter(&self, address: &Multiaddr) -> Place {
        let origin = Origin::of(address);
        let end = CancellationToken::new();
        let mut state = self.state();
        let is_known = origin.is_some_and(|origin| state.known.contains_key(&origin));
        let (ticket, gives_way) = state.pending.enter(origin, is_known, end.clone());
        state.ends.insert(address.clone(), ticket);
        drop(state);
        if let Some(oldest) = gives_way {
            oldest.cancel();
        }
        Place { inbound: self.clone(), address: address.clone(), ticket, end }
    }

    /// A connection from there has said something.
    pub(super) fn spoke(&self, address: &Multiaddr) {
        let mut state = self.state();
        if let Some(ticket) = state.ends.get(address).copied() {
            state.pending.spoke(ticket);
        }
    }
}

/// The place of one connection; it is free when this is dropped.
struct Place {
    inbound: Inbound,
    address: Multiaddr,
    ticket: Ticket,
    end: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.inbound.state();
        state.pending.leave(self.ticket);
        if state.ends.get(&self.address) == Some(&self.ticket) {
            state.ends.remove(&self.address);
        }
    }
}

/// A transport whose incoming connections each have a place until they are secured.
pub(super) struct Placed<T> {
    inner: T,
    inbound: Inbound,
}

impl<T> Placed<T> {
    pub(super) fn new(inner: T, inbound: Inbound) -> Self {
        Self { inner, inbound }
    }
}

impl<T> Transport for Placed<T>
where
    T: Transport<Error = Unsecured> + Unpin,
    T::Output: 'static,
    T::ListenerUpgrade: Send + 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = BoxFuture<'static, Result<T::Output, T::Error>>;
    type Dial = T::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = std::task::ready!(Pin::new(&mut self.inner).poll(context));
        let place = match &event {
            TransportEvent::Incoming { send_back_addr, .. } => {
                Some(self.inbound.enter(send_back_addr))
            }
            _ => None,
        };
        Poll::Ready(event.map_upgrade(|upgrade| Box::pin(in_place(upgrade, place)) as _))
    }
}

/// The upgrade, unless it must give way before it is done.
async fn in_place<T>(
    upgrade: impl Future<Output = Result<T, Unsecured>>,
    place: Option<Place>,
) -> Result<T, Unsecured> {
    let gives_way = async {
        match &place {
            Some(place) => place.end.cancelled().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        outcome = upgrade => outcome,
        () = gives_way => {
            let reason = "it gave way to newer connections".to_owned();
            Err(Unsecured(DialFailure::Unreachable(reason)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_origin_is_an_address_or_a_net_of_ipv6() {
        let of = |text: &str| Origin::of(&address(text));
        assert_eq!(of("/ip4/10.0.0.1/tcp/1"), of("/ip4/10.0.0.1/tcp/2"));
        assert_ne!(of("/ip4/10.0.0.1/tcp/1"), of("/ip4/10.0.0.2/tcp/1"));
        assert_eq!(of("/ip4/10.0.0.1/tcp/1"), of("/ip6/::ffff:10.0.0.1/tcp/1"));
        assert_eq!(of("/ip6/2001:db8::1/tcp/1"), of("/ip6/2001:db8::ffff:1/tcp/1"));
        assert_ne!(of("/ip6/2001:db8::1/tcp/1"), of("/ip6/2001:db8:0:1::1/tcp/1"));
        assert_eq!(of("/dns4/localhost/tcp/1"), None);
    }

    #[test]
    fn a_known_address_keeps_its_place_while_strangers_come() {
        let inbound = Inbound::new();
        inbound.know(&address("/ip4/10.0.0.1/tcp/4001"));
        let member = inbound.enter(&address("/ip4/10.0.0.1/tcp/50000"));
        let stranger = inbound.enter(&address("/ip4/10.9.9.9/tcp/1"));
        let flood: Vec<Place> = (0..LIMITS.strangers)
            .map(|n| inbound.enter(&address(&format!("/ip4/10.1.{}.{}/tcp/1", n / 256, n % 256))))
            .collect();
        assert!(!member.end.is_cancelled());
        assert!(stranger.end.is_cancelled(), "the oldest gives way");
        assert!(flood.iter().all(|place| !place.end.is_cancelled()));
        drop((member, stranger, flood));
        let state = inbound.state();
        assert!(state.pending.is_empty() && state.ends.is_empty());
    }

    #[test]
    fn no_more_addresses_are_known_than_there_is_room_for() {
        let inbound = Inbound::new();
        for n in 0..2 * KNOWN {
            inbound.know(&address(&format!("/ip4/10.1.{}.{}/tcp/1", n / 256, n % 256)));
            inbound.know(&address("/ip4/10.0.0.1/tcp/4001"));
        }
        let state = inbound.state();
        assert_eq!(state.known.len(), KNOWN);
        let used = Origin::of(&address("/ip4/10.0.0.1/tcp/1")).expect("an origin");
        assert!(state.known.contains_key(&used));
    }
}
