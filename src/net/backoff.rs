//! Waits between dials.

use std::time::Duration;

/// How long the node with the higher id waits for the other to dial.
pub(super) const HIGHER_WAITS: Duration = Duration::from_millis(300);

/// Waits between dials: 100 ms at first, twice as long each time, 5 s at most, each up to a
/// quarter shorter or longer.
pub(super) struct Backoff {
    wait: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(5);

    pub(super) fn new() -> Self {
        Self { wait: Self::FIRST }
    }

    /// How long to wait before the next dial.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(Self::LAST);
        // Without a source of chance, nodes dial in step: no harm.
        let chance = getrandom::u32().unwrap_or(u32::MAX / 2);
        wait.mul_f64(0.75 + 0.5 * f64::from(chance) / f64::from(u32::MAX))
    }
}
