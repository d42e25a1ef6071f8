//! Which of two runs with one key came second.

use std::time::{Duration, Instant};

/// When a run began, and its random number.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    at: Instant,
    nonce: u64,
}

impl Birth {
    /// A run that begins now.
    #[must_use]
    pub fn now(nonce: u64) -> Self {
        Self { at: Instant::now(), nonce }
    }

    /// A run that began so long ago.
    #[cfg(test)]
    pub(super) fn ago(nonce: u64, up: Duration) -> Self {
        let at = Instant::now().checked_sub(up).expect("the machine has been up for as long");
        Self { at, nonce }
    }

    /// How old this run is now.
    pub(super) fn age(&self) -> Age {
        Age::new(0, self.nonce).after(self.at.elapsed())
    }
}

/// How long a run has been up, and its random number. No clock of two machines is compared: each
/// tells how long it has been up by its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Age {
    /// In milliseconds.
    up: u64,
    nonce: u64,
}

impl Age {
    pub(super) fn new(up: u64, nonce: u64) -> Self {
        Self { up, nonce }
    }

    /// In milliseconds.
    pub(super) fn up(&self) -> u64 {
        self.up
    }

    pub(super) fn is_of_same_run(&self, other: &Self) -> bool {
        self.nonce == other.nonce
    }

    /// So much later.
    pub(super) fn after(self, time: Duration) -> Self {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self { up: self.up.saturating_add(time), ..self }
    }

    /// Whether this run came second: it has been up for less long, or as long and has the higher
    /// number. Of two different runs one is the second, never both.
    pub(super) fn is_second_to(&self, other: &Self) -> bool {
        (other.up, self.nonce) > (self.up, other.nonce)
    }

    /// Whether this run came second beyond doubt: ages that others tell are short by as long as their
    /// words took.
    pub(super) fn is_certainly_second_to(&self, other: &Self, doubt: Duration) -> bool {
        self.after(doubt).up < other.up
    }

    /// Both numbers, little endian.
    pub(super) fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.nonce) << 64) | u128::from(self.up)).to_le_bytes()
    }

    pub(super) fn from_bytes(bytes: [u8; 16]) -> Self {
        let both = u128::from_le_bytes(bytes);
        Self { up: both as u64, nonce: (both >> 64) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_runs_the_one_that_has_been_up_for_less_long_is_the_second_and_never_both() {
        for (one, other, is_second) in [
            (Age::new(10, 1), Age::new(11, 2), true),
            (Age::new(11, 1), Age::new(10, 2), false),
            (Age::new(10, 2), Age::new(10, 1), true),
            (Age::new(0, u64::MAX), Age::new(u64::MAX, 0), true),
        ] {
            assert_eq!(one.is_second_to(&other), is_second, "{one:?} {other:?}");
            assert_eq!(other.is_second_to(&one), !is_second, "{one:?} {other:?}");
        }
        let one = Age::new(7, 3);
        let (young, old) = (Age::new(1_000, 1), Age::new(2_001, 2));
        assert!(young.is_certainly_second_to(&old, Duration::from_secs(1)));
        assert!(!young.is_certainly_second_to(&old, Duration::from_millis(1_001)));
        assert!(!old.is_certainly_second_to(&young, Duration::ZERO));
        assert!(one.is_of_same_run(&Age::new(8, 3)) && !one.is_second_to(&one));
    }

    #[test]
    fn ages_go_on_and_come_through_as_bytes() {
        let age = Age::new(5, 0x0102_0304_0506_0708).after(Duration::from_millis(250));
        assert_eq!(age.up(), 255);
        assert_eq!(Age::from_bytes(age.to_bytes()), age);
        assert_eq!(Age::new(u64::MAX, 1).after(Duration::from_secs(1)).up(), u64::MAX);
    }
}
