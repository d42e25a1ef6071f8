//! How long a child waits for its next start.

use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::model::{child::RestartPauses, id::ChildId};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// The pauses of one child: each twice as long as the one before, the first again after a while of
/// health.
///
/// Each is shortened by up to a quarter. There is no chance in it: the child's id and the count of its
/// pauses say by how much, so that two children differ and a run can be repeated.
#[derive(Debug)]
pub(crate) struct Backoff {
    pauses: RestartPauses,
    /// Pauses since it was healthy.
    tries: u32,
    /// All pauses.
    count: u64,
    /// Since when it runs.
    since: Option<Instant>,
}

impl Backoff {
    /// The pauses may come from a peer: they are brought within their ranges.
    pub(crate) fn new(pauses: RestartPauses) -> Self {
        let first = pauses.first.clamp(MS, HOUR);
        let pauses = RestartPauses {
            first,
            longest: pauses.longest.clamp(first, DAY),
            healthy_after: pauses.healthy_after.min(DAY),
        };
        Self { pauses, tries: 0, count: 0, since: None }
    }

    /// The child runs.
    pub(crate) fn runs(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// The child has ended, or could not start. Gives the time until its next start.
    pub(crate) fn ended(&mut self, now: Instant, child: &ChildId) -> Duration {
        let ran = self.since.take().map(|since| now.saturating_duration_since(since));
        if ran.is_some_and(|ran| ran >= self.pauses.healthy_after) {
            self.tries = 0;
        }
        let factor = 1_u32.checked_shl(self.tries).unwrap_or(u32::MAX);
        let pause = self.pauses.first.saturating_mul(factor).min(self.pauses.longest);
        self.tries = self.tries.saturating_add(1);
        self.count = self.count.wrapping_add(1);
        let chance = xxh3_64_with_seed(child.as_str().as_bytes(), self.count) % 1_024;
        pause - pause / 4 * u32::try_from(chance).unwrap_or_default() / 1_024
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(n: u32) -> ChildId {
        ChildId::new(format!("c{n}")).expect("a valid id")
    }

    fn pauses(first: u64, longest: u64, healthy: u64) -> RestartPauses {
        let ms = Duration::from_millis;
        RestartPauses { first: ms(first), longest: ms(longest), healthy_after: ms(healthy) }
    }

    fn is_about(pause: Duration, ms: u64) -> bool {
        pause <= MS * ms as u32 && pause >= MS * (ms * 3 / 4) as u32
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(RestartPauses::default());
        let now = Instant::now();
        for ms in [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000] {
            let pause = backoff.ended(now, &child(1));
            assert!(is_about(pause, ms), "{pause:?} instead of {ms} ms");
        }
        for _ in 0..100 {
            backoff.ended(now, &child(1));
        }
        assert!(is_about(backoff.ended(now, &child(1)), 30_000));
    }

    #[test]
    fn a_while_of_health_begins_again_and_less_does_not() {
        let mut backoff = Backoff::new(pauses(100, 10_000, 5_000));
        let now = Instant::now();
        backoff.ended(now, &child(1));
        backoff.ended(now, &child(1));
        backoff.runs(now);
        assert!(is_about(backoff.ended(now + MS * 4_999, &child(1)), 400));
        // It could not start: it is not healthy for the time since it ran last.
        assert!(is_about(backoff.ended(now + MS * 20_000, &child(1)), 800));
        backoff.runs(now + MS * 20_000);
        assert!(is_about(backoff.ended(now + MS * 25_000, &child(1)), 100));
    }

    #[test]
    fn children_that_end_together_do_not_start_together_and_each_run_is_the_same() {
        let now = Instant::now();
        let first = |n| Backoff::new(RestartPauses::default()).ended(now, &child(n));
        let some: std::collections::BTreeSet<Duration> = (0..100).map(first).collect();
        assert!(some.len() > 80, "{}", some.len());
        assert!((0..100).all(|n| is_about(first(n), 100)));
        assert_eq!(first(1), first(1));
    }

    #[test]
    fn what_a_peer_tells_is_brought_within_its_range() {
        let now = Instant::now();
        let wild = RestartPauses {
            first: Duration::ZERO,
            longest: Duration::ZERO,
            healthy_after: Duration::MAX,
        };
        let mut backoff = Backoff::new(wild);
        for _ in 0..100 {
            assert!(is_about(backoff.ended(now, &child(1)), 1));
        }
        let wild = RestartPauses { first: Duration::MAX, longest: Duration::MAX, ..wild };
        let mut backoff = Backoff::new(wild);
        assert!(is_about(backoff.ended(now, &child(1)), 3_600_000));
        for _ in 0..100 {
            backoff.ended(now, &child(1));
        }
        assert!(is_about(backoff.ended(now, &child(1)), 86_400_000));
    }
}
