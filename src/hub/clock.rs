//! Moments as people read them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::uptime::Uptime;

/// A wall clock that was set by more than this is read anew.
const SET: Duration = Duration::from_secs(1);

/// Tells when a moment of the uptime was; the same for the same moment, unless the wall clock is set.
pub(crate) struct Clock {
    mark: Mutex<(Instant, SystemTime)>,
    uptime: Arc<Uptime>,
}

impl Clock {
    pub(crate) fn new(uptime: Arc<Uptime>) -> Self {
        Self { mark: Mutex::new((uptime.now(), SystemTime::now())), uptime }
    }

    /// Milliseconds from 1970 to this moment.
    pub(crate) fn at(&self, moment: Instant) -> u64 {
        self.read(moment, (self.uptime.now(), SystemTime::now()))
    }

    fn read(&self, moment: Instant, now: (Instant, SystemTime)) -> u64 {
        let mut mark = self.mark.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = mark.1 + now.0.saturating_duration_since(mark.0);
        let ahead = now.1.duration_since(expected).unwrap_or_default();
        let behind = expected.duration_since(now.1).unwrap_or_default();
        if ahead.max(behind) > SET {
            *mark = now;
        }
        let at = match moment.checked_duration_since(mark.0) {
            Some(after) => mark.1.checked_add(after),
            None => mark.1.checked_sub(mark.0.saturating_duration_since(moment)),
        };
        unix_millis(at.unwrap_or(UNIX_EPOCH))
    }
}

/// Milliseconds from 1970 until now.
pub(crate) fn unix_now() -> u64 {
    unix_millis(SystemTime::now())
}

fn unix_millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_the_same_until_the_wall_clock_is_set() {
        let (start, wall) = (Instant::now(), UNIX_EPOCH + Duration::from_secs(1_000));
        let mark = Mutex::new((start, wall));
        let clock = Clock { mark, uptime: Arc::new(Uptime::new()) };
        let later = |millis| start + Duration::from_millis(millis);
        let shows = |millis| wall + Duration::from_millis(millis);
        let moment = later(500);
        assert_eq!(clock.read(moment, (later(700), shows(700))), 1_000_500);
        assert_eq!(clock.read(moment, (later(900), shows(1_400))), 1_000_500, "it drifts a little");
        assert_eq!(clock.read(moment, (later(1_000), shows(61_000))), 1_060_500, "it was set");
        assert_eq!(clock.read(moment, (later(2_000), shows(62_000))), 1_060_500);
        assert_eq!(clock.read(later(3_000), (later(2_000), shows(62_000))), 1_063_000, "to come");
    }
}
