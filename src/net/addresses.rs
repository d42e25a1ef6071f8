//! Where this node can be reached, as far as its network knows.

use std::{
    collections::{BTreeSet, VecDeque},
    io::ErrorKind,
    net::{IpAddr, UdpSocket},
};

use tokio::sync::watch;

use super::observed::Observed;
use crate::model::{
    address::{ip_of, is_loopback, is_memory, is_wildcard, multiaddr, port_of},
    id::NodeId,
};

/// At most this many addresses are kept at which others have reached this node, besides those it
/// listens on: the latest.
const REACHED: usize = 4;
/// At most this many addresses are told that nobody has tried: those at which peers see this node.
const OBSERVED: usize = 4;
/// At most this many addresses are told.
const TOLD: usize = 16;
/// The longest address that is believed, in bytes.
const LENGTH: usize = 256;

/// The addresses at which this node listens, those at which others have reached it, and those at which
/// they see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    listening: BTreeSet<String>,
    /// Not among `listening`, by port forwarding for example; the oldest first.
    reached: VecDeque<String>,
    observed: Observed,
}

impl Known {
    /// It listens there. False: that was known.
    fn listens(&mut self, address: String) -> bool {
        self.reached.retain(|reached| *reached != address);
        self.listening.insert(address)
    }

    /// It listens there no more; so nobody reaches it there.
    fn expired(&mut self, address: &str) -> bool {
        self.listening.remove(address)
    }

    /// An admitted peer says that it dialled this address and came here.
    fn reached(&mut self, address: &str) -> bool {
        // What leads one machine here by way of itself leads others elsewhere.
        let is_useless = is_memory(address) || is_loopback(address) || is_wildcard(address);
        if is_useless
            || address.len() > LENGTH
            || ip_of(address).is_none()
            || self.listening.contains(address)
            || self.reached.iter().any(|reached| reached == address)
        {
            return false;
        }
        if self.reached.len() >= REACHED {
            self.reached.pop_front();
        }
        self.reached.push_back(address.to_owned());
        true
    }

    /// Where it listens, best first, loopback last.
    pub(super) fn listening(&self) -> Vec<String> {
        let mut listening: Vec<String> =
            self.listening.iter().filter(|address| rank(address).is_some()).cloned().collect();
        listening.sort_by_key(|address| rank(address));
        listening
    }

    /// What others should be told, best first; what nobody has tried last.
    pub(super) fn told(&self) -> Vec<String> {
        let observed = self.observed();
        // Those at which somebody got through are few, and must not fall to the limit.
        let mut told = self.listening();
        told.truncate(TOLD - self.reached.len() - observed.len());
        let at = told.iter().position(|address| is_loopback(address)).unwrap_or(told.len());
        told.splice(at..at, self.reached.iter().cloned());
        told.extend(observed);
        told
    }

    /// Where peers see this node, with the ports on which it listens: they lead here if those are
    /// forwarded under their own numbers. Not if it has the address itself, nor if it is known under
    /// which port it is reached there.
    fn observed(&self) -> Vec<String> {
        let known = self.listening.iter().chain(&self.reached);
        let known: BTreeSet<IpAddr> = known.filter_map(|address| ip_of(address)).collect();
        let mut observed = Vec::new();
        for ip in self.observed.believed().into_iter().filter(|ip| !known.contains(ip)) {
            let is_fit = |address: &&String| {
                let own = ip_of(address).filter(|own| own.is_ipv4() == ip.is_ipv4());
                own.is_some_and(|own| !own.is_loopback())
            };
            let ports = self.listening.iter().filter(is_fit).filter_map(|address| port_of(address));
            let ports: BTreeSet<u16> = ports.collect();
            observed.extend(ports.into_iter().map(|port| multiaddr(ip, port)));
        }
        observed.truncate(OBSERVED);
        observed
    }
}

/// How good an address is, the best first; `None`: nobody can dial it.
fn rank(address: &str) -> Option<u8> {
    Some(match ip_of(address) {
        _ if is_loopback(address) => 4,
        // Without the name of an interface, which differs from machine to machine.
        Some(IpAddr::V6(ip)) if ip.is_unicast_link_local() => return None,
        Some(IpAddr::V4(ip)) if ip.is_link_local() => 3,
        Some(IpAddr::V6(_)) => 1,
        Some(IpAddr::V4(_)) => 0,
        None => 2,
    })
}

/// [`Known`], shared by those who learn of addresses, and watched.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    known: watch::Sender<Known>,
}

impl Addresses {
    /// It listens there from now on.
    pub(super) fn listens(&self, address: String) {
        self.known.send_if_modified(|known| known.listens(address));
    }

    /// It listens there no more.
    pub(super) fn expired(&self, address: &str) {
        self.known.send_if_modified(|known| known.expired(address));
    }

    /// An admitted peer says that it dialled this address and came here.
    pub(super) fn reached(&self, address: &str) {
        self.known.send_if_modified(|known| known.reached(address));
    }

    /// A peer to which this node has dialled sees it there. An address of this machine is no news.
    pub(super) fn seen(&self, peer: NodeId, ip: IpAddr) {
        let ip = ip.to_canonical();
        // Any other error says nothing of the address.
        let bound = UdpSocket::bind((ip, 0));
        let is_here = !bound.is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable);
        self.known.send_if_modified(|known| match is_here {
            true => known.observed.sees_no_more(peer),
            false => known.observed.sees(peer, ip),
        });
    }

    /// The link to a peer is over.
    pub(super) fn unseen(&self, peer: NodeId) {
        self.known.send_if_modified(|known| known.observed.sees_no_more(peer));
    }

    /// A node was reached as a seed.
    pub(super) fn seed(&self, node: NodeId) {
        self.known.send_if_modified(|known| known.observed.is_seed(node));
    }

    /// Whether this node listens there: who dials it would meet itself.
    pub(super) fn is_own(&self, address: &str) -> bool {
        self.known.borrow().listening.contains(address)
    }

    /// Sees every change.
    pub(super) fn watch(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(addresses: &[&str]) -> Known {
        let mut known = Known::default();
        for address in addresses {
            assert!(known.listens((*address).to_owned()));
        }
        known
    }

    #[test]
    fn the_best_is_told_first_and_what_nobody_can_dial_not_at_all() {
        let known = listening(&[
            "/ip4/127.0.0.1/tcp/1",
            "/ip6/::1/tcp/1",
            "/ip6/fe80::1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip4/169.254.0.1/tcp/1",
            "/ip4/10.0.0.1/tcp/1",
        ]);
        let expected = [
            "/ip4/10.0.0.1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip4/169.254.0.1/tcp/1",
            "/ip4/127.0.0.1/tcp/1",
            "/ip6/::1/tcp/1",
        ];
        assert_eq!(known.told(), expected);
        assert_eq!(known.listening(), expected);
    }

    #[test]
    fn an_address_at_which_others_came_is_told_before_loopback_and_kept_within_the_limit() {
        let mut known = listening(&["/ip4/127.0.0.1/tcp/1"]);
        assert!(known.reached("/ip4/192.0.2.7/tcp/30001"));
        assert!(!known.reached("/ip4/192.0.2.7/tcp/30001"));
        assert_eq!(known.told(), ["/ip4/192.0.2.7/tcp/30001", "/ip4/127.0.0.1/tcp/1"]);
        for n in 0..100 {
            known.listens(format!("/ip4/10.0.0.{n}/tcp/1"));
            known.reached(&format!("/ip4/192.0.2.{n}/tcp/30001"));
        }
        let told = known.told();
        assert_eq!(told.len(), TOLD);
        assert_eq!(told.iter().filter(|address| address.contains("192.0.2.")).count(), REACHED);
        assert_eq!(told[TOLD - 1], "/ip4/192.0.2.99/tcp/30001");
    }

    #[test]
    fn where_peers_see_this_node_is_told_last_with_its_own_ports_and_four_at_most() {
        let node = |n: u8| NodeId::from_key([n; 32]);
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut known =
            listening(&["/ip4/10.0.0.1/tcp/7", "/ip6/fd00::1/tcp/8", "/ip4/127.0.0.1/tcp/9"]);
        let listened = known.told();
        assert!(!known.observed.sees(node(1), ip("192.0.2.1")));
        assert_eq!(known.told(), listened);
        assert!(known.observed.sees(node(2), ip("192.0.2.1")));
        let told = known.told();
        assert_eq!(
            (&told[..3], &told[3..]),
            (&listened[..], &["/ip4/192.0.2.1/tcp/7".to_owned()][..])
        );
        known.observed.sees(node(3), ip("2001:db8::7"));
        known.observed.is_seed(node(3));
        assert_eq!(known.told()[3..], ["/ip4/192.0.2.1/tcp/7", "/ip6/2001:db8::7/tcp/8"]);
        // Under which port it is reached there is known by now.
        known.reached("/ip4/192.0.2.1/tcp/30001");
        assert_eq!(known.told().last().map(String::as_str), Some("/ip6/2001:db8::7/tcp/8"));
        // It is an interface of this machine after all.
        known.listens("/ip6/2001:db8::7/tcp/8".to_owned());
        assert!(!known.told().iter().any(|address| known.observed().contains(address)));
        for n in 10..30 {
            known.observed.sees(node(n), ip(&format!("198.51.100.{}", n / 2)));
            known.listens(format!("/ip4/10.0.1.{n}/tcp/7"));
        }
        assert_eq!((known.observed().len(), known.told().len()), (OBSERVED, TOLD));
    }

    #[test]
    fn an_address_of_this_machine_is_not_told_because_a_peer_sees_it() {
        let addresses = Addresses::default();
        addresses.listens("/ip4/10.0.0.1/tcp/7".to_owned());
        let node = NodeId::from_key([1; 32]);
        addresses.seed(node);
        addresses.seen(node, IpAddr::from([127, 0, 0, 1]));
        let watch = addresses.watch();
        assert_eq!(watch.borrow().told(), ["/ip4/10.0.0.1/tcp/7"]);
        // No machine has an address of documentation.
        addresses.seen(node, IpAddr::from([192, 0, 2, 1]));
        assert_eq!(watch.borrow().told(), ["/ip4/10.0.0.1/tcp/7", "/ip4/192.0.2.1/tcp/7"]);
        addresses.unseen(node);
        assert_eq!(watch.borrow().told(), ["/ip4/10.0.0.1/tcp/7"]);
    }

    #[test]
    fn what_adds_nothing_is_not_believed() {
        let mut known = listening(&["/ip4/10.0.0.1/tcp/1"]);
        let long = format!("/ip4/10.0.0.2/tcp/1/{}", "x".repeat(LENGTH));
        for address in [
            "/ip4/10.0.0.1/tcp/1",
            "/ip4/127.0.0.1/tcp/8080",
            "/ip4/0.0.0.0/tcp/1",
            "/memory/1",
            "/dns/hub/tcp/1",
            "",
            &long,
        ] {
            assert!(!known.reached(address), "{address}");
        }
        assert!(known.reached("/ip4/192.0.2.7/tcp/1"));
        // It turns out to be an interface of this machine.
        assert!(known.listens("/ip4/192.0.2.7/tcp/1".to_owned()));
        assert_eq!(known.told().len(), 2);
        assert!(known.expired("/ip4/192.0.2.7/tcp/1"));
        assert!(!known.expired("/ip4/192.0.2.7/tcp/1"));
        assert_eq!(known.told(), ["/ip4/10.0.0.1/tcp/1"]);
    }

    #[test]
    fn every_change_is_seen_and_no_more() {
        let addresses = Addresses::default();
        let mut watch = addresses.watch();
        addresses.listens("/ip4/10.0.0.1/tcp/1".to_owned());
        assert!(addresses.is_own("/ip4/10.0.0.1/tcp/1"));
        assert_eq!(watch.borrow_and_update().told(), ["/ip4/10.0.0.1/tcp/1"]);
        addresses.listens("/ip4/10.0.0.1/tcp/1".to_owned());
        addresses.reached("/ip4/10.0.0.1/tcp/1");
        assert!(!watch.has_changed().expect("it is there"));
        addresses.expired("/ip4/10.0.0.1/tcp/1");
        assert!(watch.has_changed().expect("it is there"));
        assert!(!addresses.is_own("/ip4/10.0.0.1/tcp/1"));
    }
}
