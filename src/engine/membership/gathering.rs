//! How long those who can come in wait for others.

use std::time::{Duration, Instant};

use super::pace::is_many;

/// For how many heartbeats others are waited for, at most.
const LONGEST: u32 = 8;

/// Those who can come in wait a little, where there are many, for those who are on the way: each view
/// that all adopt costs words between all pairs.
///
/// They wait while more and more can come in, and for a heartbeat after the last one could. Members
/// that come later in the order of [`seniority`](super::joining::seniority) wait for a heartbeat more
/// each: what many conclude at once would be several views.
#[derive(Clone, Debug, Default)]
pub(super) struct Gathering {
    open: Option<Open>,
    until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    since: Instant,
    /// How many can come in at most, and since when.
    most: usize,
    grown: Instant,
}

impl Gathering {
    /// Whether those who can come in do so now. `concluded`: how many there are, and whether nobody
    /// else is on the way; `others`: how many nodes this one meets; `rank`: how many members come
    /// before it.
    pub(super) fn is_over(
        &mut self,
        now: Instant,
        concluded: Option<(usize, bool)>,
        others: usize,
        rank: u32,
        heartbeat: Duration,
    ) -> bool {
        let Some((count, are_all)) = concluded.filter(|_| is_many(others)) else {
            *self = Self::default();
            return true;
        };
        let open = self.open.get_or_insert(Open { since: now, most: count, grown: now });
        if count > open.most {
            (open.most, open.grown) = (count, now);
        }
        let quiet = (open.grown + heartbeat).min(open.since + heartbeat * LONGEST);
        let until = if are_all { open.since } else { quiet } + heartbeat * rank;
        if now >= until {
            *self = Self::default();
            return true;
        }
        self.until = Some(until);
        false
    }

    /// When it is over, if nothing comes.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::{super::bench::SECOND, *};

    const MANY: usize = 40;

    #[test]
    fn with_few_and_where_another_node_has_concluded_nobody_waits() {
        let now = Instant::now();
        let mut gathering = Gathering::default();
        assert!(gathering.is_over(now, Some((3, false)), 16, 3, SECOND));
        assert!(gathering.is_over(now, None, MANY, 3, SECOND));
        assert_eq!(gathering.deadline(), None);
    }

    #[test]
    fn the_last_who_comes_ends_it_for_the_first_of_the_members() {
        let now = Instant::now();
        let mut gathering = Gathering::default();
        assert!(!gathering.is_over(now, Some((3, false)), MANY, 0, SECOND));
        assert_eq!(gathering.deadline(), Some(now + SECOND));
        let later = now + SECOND / 2;
        assert!(gathering.is_over(later, Some((9, true)), MANY, 0, SECOND));
        assert_eq!(gathering.deadline(), None);
        // The second would do it a heartbeat later.
        assert!(!gathering.is_over(later, Some((9, true)), MANY, 1, SECOND));
        assert_eq!(gathering.deadline(), Some(later + SECOND));
        assert!(gathering.is_over(later + SECOND, Some((9, true)), MANY, 1, SECOND));
    }

    #[test]
    fn others_are_waited_for_while_more_come_and_not_for_ever() {
        let now = Instant::now();
        let mut gathering = Gathering::default();
        let step = SECOND * 3 / 4;
        let over = (1..100).find(|n| {
            let at = now + step * (n - 1);
            gathering.is_over(at, Some((*n as usize, false)), MANY, 0, SECOND)
        });
        // The first time that is eight heartbeats after the first.
        assert_eq!(over, Some(12));
        let mut gathering = Gathering::default();
        assert!(!gathering.is_over(now, Some((5, false)), MANY, 0, SECOND));
        assert!(!gathering.is_over(now + step, Some((6, false)), MANY, 0, SECOND));
        // One of them is not heard any more: that is no reason to wait longer.
        assert!(!gathering.is_over(now + step * 2, Some((5, false)), MANY, 0, SECOND));
        assert!(gathering.is_over(now + step + SECOND, Some((5, false)), MANY, 0, SECOND));
    }

    #[test]
    fn it_begins_anew_when_nobody_can_come_in_any_more() {
        let now = Instant::now();
        let mut gathering = Gathering::default();
        assert!(!gathering.is_over(now, Some((5, false)), MANY, 0, SECOND));
        assert!(gathering.is_over(now + SECOND / 2, None, MANY, 0, SECOND));
        assert!(!gathering.is_over(now + SECOND, Some((5, false)), MANY, 0, SECOND));
        assert_eq!(gathering.deadline(), Some(now + SECOND * 2));
    }
}
