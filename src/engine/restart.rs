//! Whether a child that ended is started again.

use std::{collections::VecDeque, time::Instant};

use super::io::Exit;
use crate::model::child::{RestartIntensity, RestartRule};

/// What becomes of a child that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It is started again.
    Restart,
    /// It has ended for good, by its rule.
    Leave,
    /// It ended too often.
    GiveUp,
}

/// The restart budget of one child: so many restarts within so long.
#[derive(Debug)]
pub(crate) struct Restarts {
    intensity: RestartIntensity,
    /// When it was restarted, within the window; never longer than the limit.
    recent: VecDeque<Instant>,
}

impl Restarts {
    pub(crate) fn new(intensity: RestartIntensity) -> Self {
        Self { intensity, recent: VecDeque::new() }
    }

    /// The child ended.
    pub(crate) fn ended(&mut self, now: Instant, rule: RestartRule, exit: &Exit) -> Decision {
        let again = match rule {
            RestartRule::Permanent => true,
            RestartRule::Transient => matches!(exit, Exit::Panicked { .. }),
            RestartRule::Temporary => false,
        };
        if again { self.failed(now) } else { Decision::Leave }
    }

    /// The child could not be started again, or not taken over. It has not ended by that, so its rule
    /// does not count: never gives [`Decision::Leave`].
    pub(crate) fn failed(&mut self, now: Instant) -> Decision {
        if self.intensity.restarts > RestartIntensity::MOST {
            return Decision::Restart;
        }
        let within = self.intensity.within;
        while self.recent.front().is_some_and(|at| now.saturating_duration_since(*at) >= within) {
            self.recent.pop_front();
        }
        if self.recent.len() >= self.intensity.restarts as usize {
            return Decision::GiveUp;
        }
        self.recent.push_back(now);
        Decision::Restart
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn panicked() -> Exit {
        Exit::Panicked { message: "boom".to_owned() }
    }

    fn restarts(restarts: u32) -> Restarts {
        Restarts::new(RestartIntensity { restarts, within: Duration::from_secs(4) })
    }

    #[test]
    fn the_rule_says_which_ends_count() {
        let now = Instant::now();
        for (rule, exit, decision) in [
            (RestartRule::Permanent, Exit::Stopped, Decision::Restart),
            (RestartRule::Permanent, panicked(), Decision::Restart),
            (RestartRule::Transient, Exit::Stopped, Decision::Leave),
            (RestartRule::Transient, panicked(), Decision::Restart),
            (RestartRule::Temporary, panicked(), Decision::Leave),
        ] {
            assert_eq!(restarts(3).ended(now, rule, &exit), decision, "{rule:?} {exit:?}");
        }
    }

    #[test]
    fn a_start_that_fails_is_tried_again_whatever_the_rule_and_counts() {
        let mut restarts = restarts(2);
        let now = Instant::now();
        assert_eq!(restarts.failed(now), Decision::Restart);
        assert_eq!(restarts.ended(now, RestartRule::Temporary, &panicked()), Decision::Leave);
        assert_eq!(restarts.failed(now), Decision::Restart);
        assert_eq!(restarts.failed(now), Decision::GiveUp);
    }

    #[test]
    fn above_the_most_that_are_counted_nobody_is_given_up_and_nothing_is_kept() {
        let mut restarts = restarts(RestartIntensity::MOST + 1);
        let now = Instant::now();
        for _ in 0..10_000 {
            assert_eq!(restarts.failed(now), Decision::Restart);
        }
        assert!(restarts.recent.is_empty());
    }

    #[test]
    fn too_many_within_the_window_are_given_up() {
        let mut restarts = restarts(2);
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let rule = RestartRule::Permanent;
        assert_eq!(restarts.ended(at(0), rule, &panicked()), Decision::Restart);
        assert_eq!(restarts.ended(at(100), rule, &panicked()), Decision::Restart);
        assert_eq!(restarts.ended(at(3_999), rule, &panicked()), Decision::GiveUp);
        assert_eq!(restarts.ended(at(4_000), rule, &panicked()), Decision::Restart);
    }
}
