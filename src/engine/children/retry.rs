//! The table of what becomes of a child whose move failed.
//!
//! The table is pure: how the move failed, and how it is with the child and its node, give when it is
//! tried again.

use std::time::Duration;

use crate::engine::handover::Again;

/// The time that a move which failed for a passing reason waits before it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How often that doubles on a node that is emptying, for a reason that lasts: up to 51 s.
const DOUBLINGS: u32 = 8;

/// A move that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// When it may be tried again, as the table of the move says.
    pub(super) again: Again,
    /// A home has ordered the child to stop.
    pub(super) is_to_stop: bool,
    /// Somebody asks for a move of it.
    pub(super) is_wanted: bool,
    /// Whoever asked for the move that failed was told so.
    pub(super) is_told: bool,
    /// Its node is to be empty.
    pub(super) is_emptying: bool,
    /// Its moves that failed since the view last changed, for a reason that does not pass by itself.
    pub(super) failures: u32,
    /// So many of them are tried again by themselves.
    pub(super) most: u32,
}

/// What becomes of the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is stopped.
    Stop,
    /// It moves when it is its turn, as somebody asked.
    Ask,
    /// It is left alone for so long.
    Retry(Duration),
    /// It is left alone until the view changes.
    View,
    /// It stays, unless it belongs elsewhere.
    Stay,
}

/// The table.
pub(super) fn next(failed: &Failed) -> Next {
    let Failed { again, is_to_stop, is_wanted, is_told, is_emptying, failures, most } = *failed;
    if is_to_stop {
        return Next::Stop;
    }
    if is_wanted && again != Again::Soon {
        return Next::Ask;
    }
    match again {
        Again::Soon => Next::Retry(RETRY_AFTER),
        // The child did not ask to go.
        Again::Elsewhere | Again::PassOver if is_told && !is_emptying => Next::Stay,
        Again::Elsewhere | Again::PassOver => Next::Retry(RETRY_AFTER),
        // A node may be emptying for as long as one child cannot go, which each try freezes.
        Again::Counted | Again::NextView if is_emptying => {
            Next::Retry(RETRY_AFTER * (1 << failures.saturating_sub(1).min(DOUBLINGS)))
        }
        Again::Counted if failures <= most => Next::Retry(RETRY_AFTER),
        Again::Counted | Again::NextView => Next::View,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Failed> {
        let all = [Again::Soon, Again::Counted, Again::NextView, Again::Elsewhere, Again::PassOver];
        all.into_iter().flat_map(|again| {
            (0..16_u32).flat_map(move |bits| {
                (0..12).map(move |failures| Failed {
                    again,
                    is_to_stop: bits & 1 > 0,
                    is_wanted: bits & 2 > 0,
                    is_told: bits & 4 > 0,
                    is_emptying: bits & 8 > 0,
                    failures,
                    most: 2,
                })
            })
        })
    }

    /// Those that nobody has ordered anything of.
    fn left_to_itself() -> impl Iterator<Item = Failed> {
        all().filter(|failed| !failed.is_to_stop && !failed.is_wanted)
    }

    #[test]
    fn a_child_that_is_to_stop_stops_and_is_not_moved_any_more() {
        for failed in all() {
            assert_eq!(next(&failed) == Next::Stop, failed.is_to_stop, "{failed:?}");
        }
    }

    #[test]
    fn a_child_that_somebody_asks_for_waits_only_for_what_passes() {
        for failed in all().filter(|failed| failed.is_wanted && !failed.is_to_stop) {
            let expected = match failed.again {
                Again::Soon => Next::Retry(RETRY_AFTER),
                _ => Next::Ask,
            };
            assert_eq!(next(&failed), expected, "{failed:?}");
        }
    }

    #[test]
    fn on_a_node_that_is_emptying_every_child_is_tried_again() {
        for failed in left_to_itself().filter(|failed| failed.is_emptying) {
            let Next::Retry(after) = next(&failed) else { panic!("{failed:?}") };
            assert!(after <= RETRY_AFTER * 256, "{failed:?}");
        }
    }

    #[test]
    fn on_a_node_that_stays_what_does_not_pass_is_tried_a_few_times() {
        for failed in left_to_itself().filter(|failed| !failed.is_emptying) {
            let expected = match failed.again {
                Again::Soon => Next::Retry(RETRY_AFTER),
                Again::Counted if failed.failures <= 2 => Next::Retry(RETRY_AFTER),
                Again::Counted | Again::NextView => Next::View,
                Again::Elsewhere | Again::PassOver if failed.is_told => Next::Stay,
                Again::Elsewhere | Again::PassOver => Next::Retry(RETRY_AFTER),
            };
            assert_eq!(next(&failed), expected, "{failed:?}");
        }
    }
}
