//! When all is judged.

use std::time::{Duration, Instant};

use super::timing::Timing;

/// With so few others everything that comes is judged at once.
const FEW: u32 = 16;

/// With many others so many are asked for their views within half a heartbeat.
const ASKED: u32 = 4;

/// Whether there are so many others that what comes is not looked at one by one.
pub(crate) fn is_many(others: usize) -> bool {
    others > FEW as usize
}

/// How many times as many others there are as are few; at least 1.
pub(super) fn crowd(others: usize) -> u32 {
    (u32::try_from(others).unwrap_or(u32::MAX) / FEW).max(1)
}

/// How long the first word over a new link may take, beside what it may always take. In a large mesh that
/// forms every node has many links to look after at once; that the Hellos came shows that it works.
pub(super) fn first_word(timing: &Timing, others: usize) -> Duration {
    if is_many(others) {
        (timing.heartbeat * crowd(others)).min(timing.window)
    } else {
        Duration::ZERO
    }
}

/// How far this node is behind its own time. One whose machine has too much to do falls behind, and
/// would with all that it tells and judges keep the others behind, too: many nodes that start at once
/// on few processors never came to rest. So with many others it does both less often.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lag(Duration);

impl Lag {
    /// What was due at a time was done `late` after it.
    pub(super) fn note(&mut self, late: Duration) {
        self.0 = late.max(self.0 / 2);
    }

    /// How much longer to wait, with so many `others`, with what can wait.
    pub(super) fn patience(self, others: usize) -> Duration {
        if is_many(others) { self.0 * 4 } else { Duration::ZERO }
    }
}

/// When all is judged: at once when something came that judgements depend on, and when one of them
/// changes by time alone. With many others news are gathered first.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    /// Something came that judgements depend on.
    is_news: bool,
    /// When all is to be judged, whatever comes until then.
    judge_at: Option<Instant>,
    judged_at: Instant,
    /// How many were asked for their views lately, and since when.
    asked: (u32, Instant),
}

impl Pace {
    /// Everything is to be judged first of all.
    pub(super) fn new(now: Instant) -> Self {
        Self { is_news: true, judge_at: None, judged_at: now, asked: (0, now) }
    }

    /// Something came, or changed, that judgements depend on.
    pub(super) fn news(&mut self) {
        self.is_news = true;
    }

    /// The same, if it is so.
    pub(super) fn news_if(&mut self, is_news: bool) {
        self.is_news |= is_news;
    }

    /// Whether another one may be asked for its view. Where many are, each answer is long, and the same.
    pub(super) fn may_ask_for_view(
        &mut self,
        now: Instant,
        heartbeat: Duration,
        others: usize,
    ) -> bool {
        if !is_many(others) {
            return true;
        }
        if now.saturating_duration_since(self.asked.1) >= heartbeat / 2 {
            self.asked = (0, now);
        }
        self.asked.0 += 1;
        self.asked.0 <= ASKED
    }

    /// Whether there is news since this was asked before.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }

    /// Whether all is to be judged now, with so many `others`, by a node that is so far behind.
    pub(super) fn is_due(
        &mut self,
        now: Instant,
        heartbeat: Duration,
        others: usize,
        lag: Lag,
    ) -> bool {
        self.is_news |= self.judge_at.is_some_and(|at| at <= now);
        let due = self.earliest(heartbeat, others, lag);
        if self.is_news && due > now {
            // Not before, whatever else is due by time until then: it would be put off again and again.
            self.judge_at = Some(due);
            return false;
        }
        if self.is_news {
            self.judged_at = now;
        }
        self.is_news
    }

    /// From when on all may be judged again. It costs the more the more there are: in a mesh that
    /// forms, where there is news at every moment, most of it can be judged together.
    fn earliest(&self, heartbeat: Duration, others: usize, lag: Lag) -> Instant {
        let many = u32::try_from(others).unwrap_or(u32::MAX);
        if many <= FEW {
            return self.judged_at;
        }
        let pace = Duration::from_micros(500) * many;
        let pace = pace.min(heartbeat / 4) + lag.patience(others);
        self.judged_at + pace.min(heartbeat / 2)
    }

    /// All was judged. `next`: when a judgement changes by time alone.
    pub(super) fn judged(&mut self, next: Option<Instant>) {
        self.judge_at = next;
    }

    /// When all is to be judged, if nothing comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.judge_at
    }
}

#[cfg(test)]
mod tests {
    use super::{super::bench::SECOND, *};

    /// All was judged at `now`, and nothing comes of it by time alone.
    fn judged(now: Instant) -> Pace {
        let mut pace = Pace::new(now);
        assert!(
            pace.is_due(now, SECOND, 0, Lag::default()) && pace.take_news() && !pace.take_news()
        );
        pace.judged(None);
        pace
    }

    #[test]
    fn with_few_others_news_are_judged_at_once() {
        let now = Instant::now();
        let mut pace = judged(now);
        assert!(
            !pace.is_due(now + SECOND, SECOND, 16, Lag::default()) && pace.deadline().is_none()
        );
        pace.news_if(false);
        assert!(!pace.is_due(now, SECOND, 16, Lag::default()));
        pace.news_if(true);
        assert!(pace.is_due(now, SECOND, 16, Lag::default()));
    }

    #[test]
    fn with_many_others_news_are_gathered_for_a_while_that_has_a_limit() {
        let now = Instant::now();
        for (others, gathered) in [(17, 8_500), (100, 50_000), (500, 250_000), (9_999, 250_000)] {
            let mut pace = judged(now);
            pace.news();
            assert!(!pace.is_due(now, SECOND, others, Lag::default()));
            let at = now + Duration::from_micros(gathered);
            assert_eq!(pace.deadline(), Some(at));
            assert!(!pace.is_due(at - Duration::from_micros(1), SECOND, others, Lag::default()));
            assert!(pace.is_due(at, SECOND, others, Lag::default()));
        }
        assert!(is_many(17) && !is_many(16));
        assert_eq!([0, 1, 16, 31, 32, 320].map(crowd), [1, 1, 1, 1, 2, 20]);
    }

    #[test]
    fn with_many_others_what_changes_by_time_alone_is_judged_when_all_may_be_and_nobody_is_woken_before()
     {
        let now = Instant::now();
        let mut pace = judged(now);
        let (changes, may) = (now + SECOND / 100, now + SECOND / 20);
        pace.judged(Some(changes));
        assert!(!pace.is_due(changes, SECOND, 100, Lag::default()));
        assert_eq!(pace.deadline(), Some(may));
        assert!(pace.is_due(may, SECOND, 100, Lag::default()));
    }

    #[test]
    fn of_many_only_some_are_asked_for_their_views_at_a_time() {
        let now = Instant::now();
        let mut pace = judged(now);
        let mut asks =
            |now, others| (0..20).filter(|_| pace.may_ask_for_view(now, SECOND, others)).count();
        assert_eq!(asks(now, 16), 20);
        assert_eq!(asks(now, 17), 4);
        assert_eq!(asks(now + SECOND / 3, 17), 0);
        assert_eq!(asks(now + SECOND / 2, 17), 4);
    }

    #[test]
    fn who_is_behind_waits_longer_with_many_others_and_catches_up() {
        let now = Instant::now();
        let mut lag = Lag::default();
        lag.note(SECOND / 20);
        let waits = |others: usize, lag: Lag| {
            let mut pace = judged(now);
            pace.news();
            if pace.is_due(now, SECOND, others, lag) {
                return Duration::ZERO;
            }
            pace.deadline().map_or(Duration::MAX, |at| at - now)
        };
        assert_eq!(waits(16, lag), Duration::ZERO);
        assert_eq!(waits(100, lag), SECOND / 4);
        lag.note(SECOND);
        assert_eq!(waits(100, lag), SECOND / 2);
        for _ in 0..20 {
            lag.note(Duration::ZERO);
        }
        assert!(waits(100, lag) < SECOND / 19);
    }

    #[test]
    fn what_changes_by_time_alone_is_judged_at_that_time() {
        let now = Instant::now();
        let mut pace = judged(now);
        pace.judged(Some(now + SECOND));
        assert!(!pace.is_due(now + SECOND / 2, SECOND, 1, Lag::default()));
        assert!(pace.is_due(now + SECOND, SECOND, 1, Lag::default()));
    }

    #[test]
    fn the_first_word_over_a_link_may_take_longer_the_more_others_there_are_up_to_a_window() {
        let timing = super::super::bench::TIMING;
        let first_word = |others| first_word(&timing, others);
        assert_eq!([0, 16].map(first_word), [Duration::ZERO; 2]);
        assert_eq!([17, 32].map(first_word), [timing.heartbeat, timing.heartbeat * 2]);
        assert_eq!([100, 1_000].map(first_word), [timing.window; 2]);
    }
}
