//! How much of the engine's time one peer may take.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::model::id::NodeId;

/// One peer's words get at most a tenth of a core for long.
const SHARE: u32 = 10;
/// Engine time that a peer may take before it is slowed; it is given back as a tenth of the time that
/// passes. It has room for a large registry or the takeover of many children; moves, which were agreed
/// on, are not counted. A hundred nodes that start in one process
/// have less than a hundredth of this for each other, and of ten peers or more that are equally busy
/// none can come above its share at all.
const BURST: Duration = Duration::from_secs(5);
/// Accounts that are kept before those that are even are looked for.
const FEW: usize = 64;

/// What a peer has taken and not been given back.
#[derive(Debug)]
struct Account {
    used: Duration,
    at: Instant,
    /// Whether it was slowed since it was even last.
    slowed: bool,
}

impl Account {
    fn accrue(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        self.used = self.used.saturating_sub(passed / SHARE);
        self.at = now;
        self.slowed &= !self.used.is_zero();
    }
}

/// How much of the engine's time each peer takes, and how long who takes too much has to wait.
///
/// Pure. Counted for each *key*: with a new link a peer gains no more than the words that may wait
/// on one. A peer that is above
/// its burst waits ten times as long as its last words took, and never longer than a quarter of a
/// heartbeat, after which it owes nothing: and the engine
/// knows that it is held, so that it does not look dead for what of it is read late. (Words that take longer than a fortieth of a heartbeat each are the price of
/// that: they get more than a tenth.) Time is as the clock on the wall says: a thread that was kept
/// from running by others counts it, too, which the burst has room for.
#[derive(Debug)]
pub(crate) struct Fair {
    longest: Duration,
    accounts: BTreeMap<NodeId, Account>,
    /// When there are more accounts, those that are even are looked for.
    many: usize,
}

/// A peer has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    /// Before its next word.
    pub(crate) wait: Duration,
    /// Whether it has not had to since it was even last.
    pub(crate) is_first: bool,
}

impl Fair {
    pub(crate) fn new(heartbeat: Duration) -> Self {
        Self { longest: heartbeat / 4, accounts: BTreeMap::new(), many: FEW }
    }

    /// A peer's words have taken so long. How long it waits before its next one, if it has to.
    pub(crate) fn charge(&mut self, now: Instant, peer: NodeId, took: Duration) -> Option<Hold> {
        let account = self.note(now, peer, took);
        let wait = account.used.saturating_sub(BURST) * SHARE;
        (!wait.is_zero())
            .then(|| Hold { wait, is_first: !std::mem::replace(&mut account.slowed, true) })
    }

    /// The same, of what does not wait: it counts when the next word comes.
    pub(crate) fn count(&mut self, now: Instant, peer: NodeId, took: Duration) {
        self.note(now, peer, took);
    }

    fn note(&mut self, now: Instant, peer: NodeId, took: Duration) -> &mut Account {
        if self.accounts.len() > self.many {
            self.accounts.retain(|_, account| {
                account.accrue(now);
                !account.used.is_zero()
            });
            self.many = FEW.max(2 * self.accounts.len());
        }
        let even = Account { used: Duration::ZERO, at: now, slowed: false };
        let account = self.accounts.entry(peer).or_insert(even);
        account.accrue(now);
        account.used = account.used.saturating_add(took).min(BURST + self.longest / SHARE);
        account
    }
}

/// What one batch of events took, by peer.
#[derive(Debug, Default)]
pub(crate) struct Bill {
    events: u32,
    peers: BTreeMap<NodeId, (Duration, u32)>,
}

impl Bill {
    /// An event was handled; `peer` has caused it, if one has.
    pub(crate) fn event(&mut self, peer: Option<NodeId>, took: Duration) {
        self.events += 1;
        if let Some(peer) = peer {
            let (sum, events) = self.peers.entry(peer).or_default();
            *sum += took;
            *events += 1;
        }
    }

    /// A peer's word had taken so long before it came here.
    pub(crate) fn before(&mut self, peer: NodeId, took: Duration) {
        self.peers.entry(peer).or_default().0 += took;
    }

    /// Who takes how long, with what followed from all of them shared out by their number: what one
    /// event of many has led to is not known.
    pub(crate) fn shared(self, rest: Duration) -> impl Iterator<Item = (NodeId, Duration)> {
        let each = rest / self.events.max(1);
        self.peers.into_iter().map(move |(peer, (sum, events))| (peer, sum + each * events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn peer(n: u16) -> NodeId {
        let mut key = [0; 32];
        key[..2].copy_from_slice(&n.to_le_bytes());
        NodeId::from_key(key)
    }

    /// The engine time that a peer gets in so many seconds whose words take so long each and come
    /// as fast as they are let in.
    fn taken(heartbeat: Duration, word: Duration, seconds: u32) -> Duration {
        let (mut fair, begin) = (Fair::new(heartbeat), Instant::now());
        let (mut now, mut taken) = (begin, Duration::ZERO);
        while now < begin + SECOND * seconds {
            now += word;
            taken += word;
            let hold = fair.charge(now, peer(1), word);
            now += hold.map_or(Duration::ZERO, |hold| hold.wait);
        }
        taken
    }

    #[test]
    fn a_flood_gets_its_burst_and_then_a_tenth_of_the_time_whatever_a_word_takes() {
        for word in [MS / 100, MS, 20 * MS] {
            let first = taken(SECOND, word, 20);
            let second = taken(SECOND, word, 120);
            assert!(first >= BURST && first <= BURST + 2 * SECOND, "{first:?} at first");
            let tenth = (second - first) / 10;
            assert!(tenth <= SECOND, "{tenth:?} of ten seconds, {word:?} each");
            assert!(tenth >= SECOND * 8 / 10, "{tenth:?} of ten seconds, {word:?} each");
        }
    }

    #[test]
    fn a_hold_is_at_most_a_quarter_of_a_heartbeat_and_then_nothing_is_owed() {
        for heartbeat in [50 * MS, SECOND, 60 * SECOND] {
            let (mut fair, now) = (Fair::new(heartbeat), Instant::now());
            for word in [SECOND, 3_600 * SECOND, MS, Duration::MAX / 20] {
                let wait = fair.charge(now, peer(1), word).map_or(Duration::ZERO, |hold| hold.wait);
                assert!(wait <= heartbeat / 4, "{wait:?} for {word:?}");
            }
            let next = fair.charge(now + heartbeat / 4, peer(1), MS).expect("it is at its share");
            assert_eq!(next.wait, (10 * MS).min(heartbeat / 4));
        }
    }

    #[test]
    fn what_does_not_wait_counts_and_the_first_that_waits_is_told() {
        let (mut fair, now) = (Fair::new(SECOND), Instant::now());
        fair.count(now, peer(1), 60 * SECOND);
        let first = fair.charge(now, peer(1), MS).expect("it has taken too much");
        let second = fair.charge(now, peer(1), MS).expect("it has");
        assert!(first.is_first && !second.is_first);
    }

    #[test]
    fn one_peers_flood_costs_no_other_one_anything() {
        let (mut fair, now) = (Fair::new(SECOND), Instant::now());
        assert!(fair.charge(now, peer(1), 60 * SECOND).is_some());
        assert_eq!(fair.charge(now, peer(2), 4 * SECOND), None);
    }

    #[test]
    fn ten_peers_that_are_equally_busy_are_never_slowed() {
        let (mut fair, mut now) = (Fair::new(SECOND), Instant::now());
        for n in 0..1_000_000_u32 {
            now += MS;
            assert_eq!(fair.charge(now, peer((n % 10) as u16), MS), None);
        }
    }

    #[test]
    fn a_peer_has_its_burst_again_when_it_was_quiet_and_nothing_is_kept_of_it() {
        let (mut fair, now) = (Fair::new(SECOND), Instant::now());
        assert!(fair.charge(now, peer(0), 6 * SECOND).is_some());
        let later = now + 51 * SECOND;
        assert_eq!(fair.charge(later, peer(0), 4 * SECOND), None);
        for n in 1..10_000 {
            fair.charge(later + SECOND * n, peer(n as u16), MS);
        }
        assert!(fair.accounts.len() <= FEW + 1, "{} accounts", fair.accounts.len());
    }

    #[test]
    fn what_follows_from_a_batch_is_shared_out_by_the_number_of_events() {
        let mut bill = Bill::default();
        bill.event(None, 9 * MS);
        bill.event(Some(peer(1)), MS);
        bill.event(Some(peer(1)), MS);
        bill.event(Some(peer(2)), 5 * MS);
        bill.before(peer(2), 3 * MS);
        let shared: Vec<_> = bill.shared(40 * MS).collect();
        assert_eq!(shared, [(peer(1), 22 * MS), (peer(2), 18 * MS)]);
    }
}
