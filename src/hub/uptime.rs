//! Time that goes on while the machine is suspended.

use std::time::{Duration, Instant};

/// A clock that runs on through a suspend, as [`Instant`] does not on Linux: what others have concluded
/// of this node meanwhile is judged by it.
#[derive(Debug)]
pub(crate) struct Uptime {
    began: Instant,
    /// What the system's clock showed then.
    at: Duration,
    /// So long was the machine suspended, for tests.
    #[cfg(test)]
    suspended: std::sync::atomic::AtomicU64,
}

impl Uptime {
    pub(crate) fn new() -> Self {
        let began = Instant::now();
        Self {
            began,
            at: system(began),
            #[cfg(test)]
            suspended: Default::default(),
        }
    }

    /// How long it has run, suspends included.
    pub(crate) fn elapsed(&self) -> Duration {
        let elapsed = system(self.began).saturating_sub(self.at);
        #[cfg(test)]
        let elapsed = elapsed
            + Duration::from_millis(self.suspended.load(std::sync::atomic::Ordering::Acquire));
        elapsed
    }

    /// Now, as if [`Instant`] had gone on during suspends. Not to be compared with others than those
    /// that this has given.
    pub(crate) fn now(&self) -> Instant {
        self.began + self.elapsed()
    }

    /// The machine was suspended for so long, and has just gone on.
    #[cfg(test)]
    pub(crate) fn suspend(&self, millis: u64) {
        self.suspended.fetch_add(millis, std::sync::atomic::Ordering::AcqRel);
    }
}

/// `CLOCK_BOOTTIME`.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn system(_: Instant) -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Neither is ever negative.
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Elsewhere there is none that the standard library does not use itself.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn system(began: Instant) -> Duration {
    began.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_with_the_clock_of_the_standard_library_and_through_a_suspend() {
        let uptime = Uptime::new();
        let (before, now, after) = (Instant::now(), uptime.now(), Instant::now());
        // The two are read one after the other.
        let slack = Duration::from_millis(50);
        assert!(now + slack >= before && now <= after + slack);
        uptime.suspend(3_600_000);
        assert!(uptime.now() >= now + Duration::from_secs(3_600));
        assert!(uptime.elapsed() >= Duration::from_secs(3_600));
    }
}
