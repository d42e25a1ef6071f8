//! The seeded generator of the simulations: SplitMix64 (Steele, Lea, Flood 2014). A seed gives a run.

use std::time::Duration;

/// A source of chance.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn pick(&mut self, limit: usize) -> usize {
        self.below(limit as u64) as usize
    }

    pub(crate) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        low + Duration::from_micros(self.below((high - low).as_micros() as u64 + 1))
    }

    pub(crate) fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.below(high - low))
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
