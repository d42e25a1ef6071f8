//! The heartbeats between this node and one other: what each end has said of its next one, and who
//! wants every one.
//!
//! A heartbeat says by when the next one comes. Until then silence says nothing, and after it the
//! suspicion window counts as ever. Where one end has a reason to doubt the other (somebody does not
//! hear it; messages go to it; another process has its key) that is too long: it asks for every
//! heartbeat, has the next one at once, and judges by the window from then on.

use std::time::{Duration, Instant};

use super::{rhythm::LONGEST, timing::Timing};

/// What a heartbeat says of the next ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cadence {
    /// The next one comes within this time.
    pub(super) next: Duration,
    /// The sender wants every one of the receiver's.
    pub(super) wants_all: bool,
}

impl Cadence {
    /// Every heartbeat of both.
    pub(super) fn each(timing: &Timing) -> Self {
        Self { next: timing.heartbeat, wants_all: false }
    }

    /// `next` in milliseconds.
    pub(super) fn millis(self) -> u32 {
        u32::try_from(self.next.as_millis()).unwrap_or(u32::MAX)
    }
}

/// The heartbeats between this node and one other.
#[derive(Clone, Debug)]
pub(super) struct Beats {
    /// Until when its silence says nothing, and that of its link.
    quiet_until: Instant,
    link_quiet_until: Instant,
    /// By when this node's next one was said to come.
    said: Instant,
    /// It wants every one of this node's.
    is_wanted: bool,
    /// It is to have one at once: it has asked for all, or the link does not work any more.
    is_owed: bool,
    /// When one was owed last of those that are at most twice a heartbeat.
    owed_once: Option<Instant>,
    /// Somebody does not hear it.
    is_asked_about: bool,
    /// When there was another reason last to want every one of its.
    doubted: Option<Instant>,
    /// Whether it was told that every one is wanted.
    told: bool,
    /// Whether it has said that its next one comes later than with the next heartbeat.
    is_seldom: bool,
}

impl Beats {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            quiet_until: now,
            link_quiet_until: now,
            said: now,
            is_wanted: false,
            is_owed: false,
            owed_once: None,
            is_asked_about: false,
            doubted: None,
            told: false,
            is_seldom: false,
        }
    }

    /// Nothing that was said of the next one counts any more: a link stands, or is gone.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        (self.quiet_until, self.link_quiet_until, self.said) = (now, now, now);
        (self.is_wanted, self.is_owed) = (false, false);
        (self.told, self.is_seldom) = (false, false);
    }

    /// One of its came, over the link if it `is_straight`. Whether its silence counts from earlier on than
    /// before.
    pub(super) fn came(
        &mut self,
        now: Instant,
        timing: &Timing,
        cadence: Cadence,
        is_straight: bool,
    ) -> bool {
        let before = self.quiet_until;
        let most = timing.heartbeat * LONGEST;
        let later = cadence.next.min(most).saturating_sub(timing.heartbeat);
        self.is_seldom = !later.is_zero();
        self.quiet_until = if self.wants_all(now, timing) { now } else { now + later };
        if is_straight {
            self.link_quiet_until = self.quiet_until;
        }
        self.is_owed |= cadence.wants_all && !self.is_wanted;
        self.is_wanted = cadence.wants_all;
        self.quiet_until < before
    }

    /// From when on its silence counts, if something of it came at `heard`.
    pub(super) fn counts_from(&self, heard: Instant) -> Instant {
        heard.max(self.quiet_until)
    }

    /// The same of its link, over which something came at `heard`.
    pub(super) fn link_counts_from(&self, heard: Instant) -> Instant {
        heard.max(self.link_quiet_until)
    }

    /// Nothing need come over the link that stands now before this time.
    pub(super) fn wait_for_link(&mut self, until: Instant) {
        self.link_quiet_until = self.link_quiet_until.max(until);
    }

    /// It is to have one at once.
    pub(super) fn owe(&mut self) {
        self.is_owed = true;
    }

    /// The same, at most twice a heartbeat: what it answers may be what this was said for again.
    pub(super) fn owe_once(&mut self, now: Instant, timing: &Timing) {
        let is_late = |at| now.saturating_duration_since(at) >= timing.heartbeat / 2;
        if self.owed_once.is_none_or(is_late) {
            self.owed_once = Some(now);
            self.is_owed = true;
        }
    }

    /// Somebody does not hear it, or nobody does not. Whether it has to be told so.
    pub(super) fn ask_about(&mut self, now: Instant, is_asked_about: bool) -> bool {
        let is_new = is_asked_about && !self.is_asked_about;
        if is_new {
            self.count_from(now);
        }
        self.is_asked_about = is_asked_about;
        is_new && self.is_seldom
    }

    /// For a window every one of its is wanted. Whether it has to be told so.
    pub(super) fn doubt(&mut self, now: Instant, timing: &Timing) -> bool {
        let is_new = !self.wants_all(now, timing);
        if is_new {
            self.count_from(now);
        }
        self.doubted = Some(now);
        is_new && self.is_seldom
    }

    /// Its silence counts from now on, whatever it has said.
    fn count_from(&mut self, now: Instant) {
        self.quiet_until = self.quiet_until.min(now);
        self.link_quiet_until = self.link_quiet_until.min(now);
    }

    /// Whether every one of its is wanted.
    fn wants_all(&self, now: Instant, timing: &Timing) -> bool {
        let lately = |at: Instant| now.saturating_duration_since(at) < timing.window;
        self.is_asked_about || self.doubted.is_some_and(lately)
    }

    /// Whether it is to be told, now, that every one is wanted. Who says every one anyway need not be, but
    /// who was asked for them says them for that alone.
    fn asks_for_all(&self, now: Instant, timing: &Timing) -> bool {
        (self.is_seldom || self.told) && self.wants_all(now, timing)
    }

    /// Whether one is to be said at once.
    pub(super) fn is_pressing(&self, now: Instant, timing: &Timing) -> bool {
        self.is_owed || self.asks_for_all(now, timing) != self.told
    }

    /// Whether one is due with the heartbeat of now, whose turn it may be.
    pub(super) fn is_due(&self, now: Instant, timing: &Timing, is_turn: bool) -> bool {
        is_turn || self.is_wanted || self.said < now + timing.heartbeat / 2
    }

    /// One is said now, and the next one after so many heartbeats.
    pub(super) fn say(&mut self, now: Instant, timing: &Timing, pause: u32) -> Cadence {
        let pause = if self.is_wanted { 1 } else { pause };
        let (next, wants_all) = (timing.heartbeat * pause, self.asks_for_all(now, timing));
        (self.said, self.is_owed, self.told) = (now + next, false, wants_all);
        // So much later than it was to be said it may be, as heartbeats come late by and by.
        let late = if pause > 1 { timing.heartbeat / 2 } else { Duration::ZERO };
        Cadence { next: next + late, wants_all }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::bench::{SECOND, TIMING},
        *,
    };

    fn cadence(seconds: u32, wants_all: bool) -> Cadence {
        Cadence { next: SECOND * seconds, wants_all }
    }

    #[test]
    fn silence_counts_from_when_the_next_one_was_to_come_and_no_promise_is_too_long() {
        let now = Instant::now();
        let mut beats = Beats::new(now);
        assert_eq!(beats.counts_from(now), now);
        beats.came(now, &TIMING, cadence(1, false), true);
        assert_eq!(beats.counts_from(now), now);
        beats.came(now, &TIMING, cadence(18, false), true);
        assert_eq!(beats.counts_from(now), now + 17 * SECOND);
        assert_eq!(beats.counts_from(now + 20 * SECOND), now + 20 * SECOND);
        beats.came(now, &TIMING, cadence(100_000, false), true);
        assert_eq!(beats.counts_from(now), now + SECOND * (LONGEST - 1));
        beats.came(now, &TIMING, Cadence { next: Duration::ZERO, wants_all: false }, true);
        assert_eq!(beats.counts_from(now), now);
        beats.came(now, &TIMING, cadence(18, false), true);
        beats.begin_anew(now);
        assert_eq!(beats.counts_from(now), now, "of another link");
        beats.came(now, &TIMING, cadence(18, false), false);
        assert_eq!(beats.counts_from(now), now + 17 * SECOND);
        let before = now - SECOND;
        assert_eq!(beats.link_counts_from(before), now, "it came by way of others");
        beats.came(now + SECOND, &TIMING, cadence(18, false), true);
        assert_eq!(beats.link_counts_from(now), now + 18 * SECOND);
    }

    #[test]
    fn who_is_doubted_is_judged_from_now_on_and_asked_for_every_one() {
        let now = Instant::now();
        let later = now + 5 * SECOND;
        for doubt in [
            (|beats: &mut Beats, now| beats.ask_about(now, true))
                as fn(&mut Beats, Instant) -> bool,
            |beats, now| beats.doubt(now, &TIMING),
        ] {
            let mut beats = Beats::new(now);
            beats.say(now, &TIMING, 18);
            beats.came(now, &TIMING, cadence(18, false), true);
            assert!(!beats.is_pressing(now, &TIMING));
            assert!(doubt(&mut beats, later) && !doubt(&mut beats, later));
            assert_eq!(beats.counts_from(now), later);
            assert!(beats.is_pressing(later, &TIMING));
            assert!(beats.say(later, &TIMING, 18).wants_all);
            assert!(!beats.is_pressing(later, &TIMING));
            // What it promised before it had heard of that is no promise.
            beats.came(later, &TIMING, cadence(18, false), true);
            assert_eq!(beats.counts_from(later), later);
            // It does what it was asked for, and is asked for it on.
            beats.came(later, &TIMING, cadence(1, false), true);
            assert!(!beats.is_pressing(later, &TIMING));
            assert!(beats.say(later, &TIMING, 18).wants_all);
        }
    }

    #[test]
    fn a_doubt_passes_after_a_window_and_a_question_when_nobody_asks() {
        let now = Instant::now();
        let mut beats = Beats::new(now);
        beats.came(now, &TIMING, cadence(18, false), true);
        beats.doubt(now, &TIMING);
        assert!(beats.say(now, &TIMING, 18).wants_all);
        let over = now + TIMING.window;
        assert!(beats.is_pressing(over, &TIMING), "it need not go on");
        assert!(!beats.say(over, &TIMING, 18).wants_all);
        beats.ask_about(over, true);
        assert!(beats.say(over + 9 * SECOND, &TIMING, 18).wants_all);
        beats.ask_about(over, false);
        assert!(!beats.say(over, &TIMING, 18).wants_all);
    }

    #[test]
    fn who_says_every_one_is_not_asked_for_it() {
        let now = Instant::now();
        let mut beats = Beats::new(now);
        beats.came(now, &TIMING, cadence(1, false), true);
        assert!(!beats.ask_about(now, true) && !beats.doubt(now, &TIMING));
        assert!(!beats.is_pressing(now, &TIMING) && !beats.say(now, &TIMING, 1).wants_all);
        // It says fewer from now on.
        beats.came(now, &TIMING, cadence(18, false), true);
        assert!(beats.is_pressing(now, &TIMING));
        assert_eq!(beats.counts_from(now), now);
    }

    #[test]
    fn a_promise_that_is_shorter_than_the_one_before_is_news() {
        let now = Instant::now();
        let mut beats = Beats::new(now);
        assert!(!beats.came(now, &TIMING, cadence(18, false), true));
        assert!(beats.came(now, &TIMING, cadence(2, false), true));
        assert!(!beats.came(now, &TIMING, cadence(2, false), true));
    }

    #[test]
    fn who_asks_has_one_at_once_and_then_every_one() {
        let now = Instant::now();
        let mut beats = Beats::new(now);
        beats.say(now, &TIMING, 18);
        assert!(!beats.is_due(now + SECOND, &TIMING, false));
        assert!(beats.is_due(now + SECOND, &TIMING, true));
        assert!(beats.is_due(now + 18 * SECOND, &TIMING, false), "as it was said");
        assert!(beats.is_due(now + 18 * SECOND - SECOND / 4, &TIMING, false));
        beats.came(now, &TIMING, cadence(18, true), true);
        assert!(beats.is_pressing(now, &TIMING));
        assert_eq!(beats.say(now, &TIMING, 18), cadence(1, false));
        assert!(!beats.is_pressing(now, &TIMING) && beats.is_due(now + SECOND, &TIMING, false));
        beats.came(now, &TIMING, cadence(18, true), true);
        assert!(!beats.is_pressing(now, &TIMING), "once");
        beats.came(now, &TIMING, cadence(18, false), true);
        let late = SECOND / 2;
        let seldom = Cadence { next: 18 * SECOND + late, wants_all: false };
        assert_eq!(beats.say(now, &TIMING, 18), seldom, "with room for lateness");
    }

    #[test]
    fn a_new_link_may_be_silent_until_its_first_word_and_its_node_may_not() {
        let now = Instant::now();
        let mut beats = Beats::new(now);
        beats.wait_for_link(now + 3 * SECOND);
        assert_eq!(beats.counts_from(now), now);
        assert_eq!(beats.link_counts_from(now), now + 3 * SECOND);
        beats.came(now + SECOND, &TIMING, cadence(1, false), true);
        assert_eq!(beats.link_counts_from(now + SECOND), now + SECOND, "it has come");
        beats.wait_for_link(now + 3 * SECOND);
        beats.doubt(now + SECOND, &TIMING);
        assert_eq!(beats.link_counts_from(now), now + SECOND, "somebody waits for it");
    }

    #[test]
    fn what_may_be_answered_by_its_own_reason_is_owed_at_most_twice_a_heartbeat() {
        let now = Instant::now();
        let mut beats = Beats::new(now);
        let owed = (0..40).filter(|step| {
            let now = now + SECOND / 10 * *step;
            beats.owe_once(now, &TIMING);
            let is_owed = beats.is_pressing(now, &TIMING);
            beats.say(now, &TIMING, 1);
            is_owed
        });
        assert_eq!(owed.count(), 8);
    }
}
