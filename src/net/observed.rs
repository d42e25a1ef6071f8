//! IP addresses at which peers see this node, where a translator stands between.
//!
//! Who accepts a connection sees where it comes from. Its port says nothing, as each connection is
//! dialled from another one; but where the node's port is forwarded under its own number, as that of a
//! container often is, the address with the node's own port leads to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::model::id::NodeId;

/// So many peers must see an address before it is believed.
const SIGHTS: usize = 2;
/// So many nodes are kept that were reached as seeds.
const SEEDS: usize = 64;

/// Who sees this node where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// What each peer sees, while the link stands by which it does: one for each link at most.
    sights: BTreeMap<NodeId, IpAddr>,
    /// Nodes that were reached as seeds: one that this node was told to trust is believed alone.
    seeds: BTreeSet<NodeId>,
    /// What is believed: seen by two, or by a seed, and still by one.
    believed: BTreeSet<IpAddr>,
}

impl Observed {
    /// A peer sees this node there, over a link that this node has dialled. Tells whether that changes
    /// what is believed.
    pub(super) fn sees(&mut self, peer: NodeId, ip: IpAddr) -> bool {
        match can_lead_here(ip) {
            true => self.sights.insert(peer, ip),
            false => self.sights.remove(&peer),
        };
        self.judge()
    }

    /// The link is over by which it has.
    pub(super) fn sees_no_more(&mut self, peer: NodeId) -> bool {
        self.sights.remove(&peer).is_some() && self.judge()
    }

    /// This node was reached as a seed.
    pub(super) fn is_seed(&mut self, node: NodeId) -> bool {
        if self.seeds.len() >= SEEDS {
            // A seed that has no key file comes with another id each time.
            let Self { seeds, sights, .. } = self;
            seeds.retain(|seed| sights.contains_key(seed));
        }
        self.seeds.len() < SEEDS && self.seeds.insert(node) && self.judge()
    }

    fn judge(&mut self) -> bool {
        let count = |ip: &IpAddr| self.sights.values().filter(|seen| *seen == ip).count();
        let by_seed =
            |ip: &IpAddr| self.sights.iter().any(|s| s.1 == ip && self.seeds.contains(s.0));
        // One that was believed stays while anybody sees it: a peer that restarts must not take it away.
        let is_believed =
            |ip: &&IpAddr| self.believed.contains(*ip) || count(ip) >= SIGHTS || by_seed(ip);
        let believed: BTreeSet<IpAddr> =
            self.sights.values().filter(is_believed).copied().collect();
        let is_new = believed != self.believed;
        self.believed = believed;
        is_new
    }

    /// What is believed, that which most peers see first.
    pub(super) fn believed(&self) -> Vec<IpAddr> {
        let count = |ip: &IpAddr| self.sights.values().filter(|seen| *seen == ip).count();
        let mut believed: Vec<IpAddr> = self.believed.iter().copied().collect();
        believed.sort_by_key(|ip| std::cmp::Reverse(count(ip)));
        believed
    }
}

/// Whether others may get here by it, as far as can be seen from it.
fn can_lead_here(ip: IpAddr) -> bool {
    let is_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() && !is_local
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn node(n: u8) -> NodeId {
        NodeId::from_key([n; 32])
    }

    #[test]
    fn two_peers_or_one_seed_are_believed_and_one_peer_is_not() {
        let mut observed = Observed::default();
        assert!(!observed.sees(node(1), ip("192.0.2.1")));
        assert!(!observed.sees(node(2), ip("192.0.2.2")), "each sees another one");
        assert!(observed.sees(node(2), ip("192.0.2.1")));
        assert_eq!(observed.believed(), [ip("192.0.2.1")]);
        assert!(!observed.sees(node(3), ip("192.0.2.3")));
        assert!(observed.is_seed(node(3)));
        assert!(!observed.is_seed(node(3)));
        assert_eq!(observed.believed(), [ip("192.0.2.1"), ip("192.0.2.3")], "most sights first");
        assert!(observed.sees(node(3), ip("192.0.2.4")), "a seed sees it elsewhere now");
        assert_eq!(observed.believed(), [ip("192.0.2.1"), ip("192.0.2.4")]);
    }

    #[test]
    fn what_was_believed_stays_while_one_sees_it_and_not_longer() {
        let mut observed = Observed::default();
        observed.sees(node(1), ip("192.0.2.1"));
        observed.sees(node(2), ip("192.0.2.1"));
        assert!(!observed.sees_no_more(node(1)));
        assert_eq!(observed.believed(), [ip("192.0.2.1")]);
        assert!(observed.sees_no_more(node(2)));
        assert!(!observed.sees_no_more(node(2)));
        assert_eq!(observed.believed(), [] as [IpAddr; 0]);
        assert!(!observed.sees(node(1), ip("192.0.2.1")), "it is one peer again");
    }

    #[test]
    fn what_leads_nobody_here_is_not_believed() {
        let mut observed = Observed::default();
        observed.is_seed(node(1));
        for text in ["127.0.0.1", "::1", "0.0.0.0", "::", "169.254.0.1", "fe80::1", "224.0.0.1"] {
            assert!(!observed.sees(node(1), ip(text)), "{text}");
        }
        assert!(observed.sees(node(1), ip("2001:db8::1")));
        assert!(observed.sees(node(1), ip("127.0.0.1")), "it sees the other one no more");
        assert_eq!(observed.sights.len(), 0);
    }

    #[test]
    fn no_more_seeds_are_kept_than_there_is_room_for() {
        let mut observed = Observed::default();
        for n in 0..=255 {
            observed.is_seed(node(n));
        }
        assert_eq!(observed.seeds.len(), SEEDS);
    }
}
