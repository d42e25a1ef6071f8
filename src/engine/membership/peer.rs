//! What is known of one other member besides what it says of itself.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::model::{id::NodeId, member::Hello, message::Pulse};

/// The link to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Up,
    Down {
        since: Instant,
        /// A redial reached the host and nobody listened there.
        refused: bool,
    },
}

/// Another member.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) link: Link,
    /// When anything last came over a link of its run.
    pub(super) heard: Instant,
    pub(super) suspicion: Option<Suspicion>,
    /// Another run of the same node that wants to be admitted while this one seems alive.
    pub(super) rival: Option<Rival>,
    /// The nonce of the rival that was turned away: this run had answered the probe, so a link
    /// that closes later is no proof against it.
    pub(super) refused_rival: Option<u64>,
    pub(super) resync: Resync,
    /// The latest heartbeat's time on the peer's clock, and when it came.
    pub(super) pulse: Option<(u64, Instant)>,
    /// Smoothed.
    pub(super) round_trip: Option<Duration>,
}

impl Peer {
    pub(super) fn linked(now: Instant, heartbeat: Duration) -> Self {
        Self {
            link: Link::Up,
            heard: now,
            suspicion: None,
            rival: None,
            refused_rival: None,
            resync: Resync::new(now, heartbeat),
            pulse: None,
            round_trip: None,
        }
    }

    pub(super) fn is_linked(&self) -> bool {
        self.link == Link::Up
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(self.link, Link::Down { refused: true, .. })
    }

    /// What the next heartbeat to the peer says, `clock` after this node began.
    pub(super) fn pulse(&self, now: Instant, clock: Duration) -> Pulse {
        let (echo, came) = self.pulse.unzip();
        let held = came.map_or(Duration::ZERO, |came| now.saturating_duration_since(came));
        Pulse { sent: micros(clock), echo, held: micros(held) }
    }

    /// A heartbeat of the peer.
    pub(super) fn take_pulse(&mut self, now: Instant, clock: Duration, pulse: Pulse) {
        self.pulse = Some((pulse.sent, now));
        let Some(echo) = pulse.echo else { return };
        let Some(taken) = micros(clock).checked_sub(echo.saturating_add(pulse.held)) else {
            return;
        };
        let taken = Duration::from_micros(taken);
        // As TCP smooths it (RFC 6298): an eighth of each new one.
        self.round_trip = Some(self.round_trip.map_or(taken, |known| (known * 7 + taken) / 8));
    }

    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The ballot on a suspect.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    /// 0 until somebody was asked.
    pub(super) ballot: u64,
    pub(super) opened: Instant,
    pub(super) asked_at: Instant,
    pub(super) asked: BTreeSet<NodeId>,
    /// Who said that it was not heard.
    pub(super) against: BTreeSet<NodeId>,
    /// Somebody hears it; nobody is asked again before then.
    pub(super) vetoed_until: Option<Instant>,
}

impl Suspicion {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            ballot: 0,
            opened: now,
            asked_at: now,
            asked: BTreeSet::new(),
            against: BTreeSet::new(),
            vetoed_until: None,
        }
    }

    /// What was answered does not count any more.
    pub(super) fn restart(&mut self, now: Instant, ballot: u64) {
        *self = Self { ballot, ..Self::new(now) };
    }

    pub(super) fn veto(&mut self, until: Instant) {
        self.against.clear();
        self.vetoed_until = Some(until);
    }

    pub(super) fn forget(&mut self, voter: NodeId) {
        self.asked.remove(&voter);
        self.against.remove(&voter);
    }

    /// When the ballot has something to do again.
    pub(super) fn deadline(&self, heartbeat: Duration, window: Duration) -> Instant {
        self.vetoed_until.unwrap_or_else(|| (self.asked_at + heartbeat).min(self.opened + window))
    }
}

/// Another run of a member's node, linked and not admitted yet.
#[derive(Clone, Debug)]
pub(super) struct Rival {
    pub(super) hello: Hello,
    pub(super) since: Instant,
    /// Who is silent from `since` to here is gone.
    pub(super) until: Instant,
}

/// How often a peer with another view is told the members: a cut that stays must not cost a full
/// list each heartbeat.
#[derive(Clone, Debug)]
pub(super) struct Resync {
    mismatches: u32,
    at: Instant,
    pause: Duration,
}

/// The longest pause between two lists of members to one peer.
const RESYNC_LIMIT: Duration = Duration::from_secs(30);

impl Resync {
    fn new(now: Instant, heartbeat: Duration) -> Self {
        Self { mismatches: 0, at: now, pause: heartbeat }
    }

    /// A heartbeat came; tells whether the peer should be sent the members now. One heartbeat that
    /// differs may have crossed a word that levels the views.
    pub(super) fn compare(&mut self, now: Instant, equal: bool, heartbeat: Duration) -> bool {
        if equal {
            *self = Self::new(now, heartbeat);
            return false;
        }
        self.mismatches = self.mismatches.saturating_add(1);
        if self.mismatches < 2 || now < self.at {
            return false;
        }
        self.at = now + self.pause;
        self.pause = (self.pause * 2).min(RESYNC_LIMIT.max(heartbeat));
        true
    }
}
