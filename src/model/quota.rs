//! Bytes that are kept for others, each with a limit of its own.

use std::collections::BTreeMap;

use super::id::NodeId;

/// What a node keeps for its peers. Counted for each *key*, so that a peer gains nothing by starting
/// anew, and given back with what was kept.
///
/// Pure: whoever keeps something takes its bytes before and gives them afterwards.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: usize,
    used: BTreeMap<NodeId, usize>,
}

/// A peer asks for more than is kept for one peer. Nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{used} of {limit} bytes are kept for it, and it asks for {asked} more")]
pub(crate) struct OverQuota {
    pub(crate) used: usize,
    pub(crate) limit: usize,
    pub(crate) asked: usize,
}

impl Quota {
    /// At most `limit` bytes for each peer.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: BTreeMap::new() }
    }

    /// How many bytes are kept for this peer.
    pub(crate) fn used(&self, peer: NodeId) -> usize {
        self.used.get(&peer).copied().unwrap_or(0)
    }

    /// How many bytes are kept for all, and for how many peers.
    pub(crate) fn total(&self) -> (usize, usize) {
        (self.used.values().sum(), self.used.len())
    }

    /// Keeps so many bytes more for this peer.
    ///
    /// # Errors
    /// [`OverQuota`] when there is no room for them.
    pub(crate) fn take(&mut self, peer: NodeId, bytes: usize) -> Result<(), OverQuota> {
        let used = self.used(peer);
        match used.checked_add(bytes).filter(|sum| *sum <= self.limit) {
            Some(0) => {}
            Some(sum) => {
                self.used.insert(peer, sum);
            }
            None => return Err(OverQuota { used, limit: self.limit, asked: bytes }),
        }
        Ok(())
    }

    /// So many bytes are kept no more.
    pub(crate) fn give(&mut self, peer: NodeId, bytes: usize) {
        if let Some(used) = self.used.get_mut(&peer) {
            *used = used.saturating_sub(bytes);
            if *used == 0 {
                self.used.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> NodeId {
        NodeId::from_key([n; 32])
    }

    #[test]
    fn each_peer_has_its_own_limit() {
        let mut quota = Quota::new(10);
        assert_eq!(quota.take(peer(1), 10), Ok(()));
        let over = OverQuota { used: 10, limit: 10, asked: 1 };
        assert_eq!(quota.take(peer(1), 1), Err(over));
        assert_eq!(quota.take(peer(2), 10), Ok(()));
        assert_eq!(quota.total(), (20, 2));
        quota.give(peer(1), 4);
        assert_eq!(quota.take(peer(1), 4), Ok(()));
        assert_eq!(quota.take(peer(1), usize::MAX).map_err(|over| over.used), Err(10));
    }

    #[test]
    fn nothing_is_kept_of_a_peer_that_uses_nothing() {
        let mut quota = Quota::new(10);
        for n in 0..200 {
            quota.take(peer(n), 7).expect("it has room");
            quota.take(peer(n), 0).expect("nothing always fits");
            quota.give(peer(n), if n % 2 == 0 { 9 } else { 7 });
        }
        quota.take(peer(1), 0).expect("nothing always fits");
        assert!(quota.used.is_empty());
    }
}
