//! What a node does when it finds that it did not run for a while.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::model::id::NodeId;

/// The question of this node whether its life still counts.
///
/// A heartbeat that is read after a pause proves nothing, it may have waited in a buffer since
/// before the peer gave this node up. So each peer is asked about this node itself, and only the
/// answer to that question counts.
#[derive(Clone, Debug, Default)]
pub(super) struct PauseCheck {
    questions: u64,
    open: Option<Open>,
    /// The question that is open was not asked yet.
    is_new: bool,
}

#[derive(Clone, Debug)]
struct Open {
    /// Who has not answered.
    waiting: BTreeSet<NodeId>,
    /// Whether anybody has.
    confirmed: bool,
    asked_at: Instant,
    /// If nobody confirms and nobody is left to ask, this node goes on from then on.
    alone_at: Instant,
    /// Whoever has been heard, is not suspect by then and still gives no answer is not waited for:
    /// had it closed the link before, that would have been read by now.
    ends_at: Instant,
}

/// What there is to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// These are asked, once more.
    Ask(Vec<NodeId>),
    /// The gates may open.
    Over,
}

impl PauseCheck {
    /// Begins, or begins anew. Whether the gates have to be closed for it.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        window: Duration,
        waiting: BTreeSet<NodeId>,
    ) -> bool {
        self.questions += 1;
        self.is_new = true;
        let open = Open {
            waiting,
            confirmed: false,
            asked_at: now,
            alone_at: now + window,
            ends_at: now + window * 2,
        };
        self.open.replace(open).is_none()
    }

    /// The question that is open.
    pub(super) fn question(&self) -> u64 {
        self.questions
    }

    /// Who is to be asked what nobody was asked yet.
    pub(super) fn first(&mut self) -> Vec<NodeId> {
        if std::mem::take(&mut self.is_new) { self.waiting() } else { Vec::new() }
    }

    /// Who still has to answer.
    fn waiting(&self) -> Vec<NodeId> {
        self.open.iter().flat_map(|open| open.waiting.iter().copied()).collect()
    }

    pub(super) fn is_waiting_for(&self, node: NodeId) -> bool {
        self.open.as_ref().is_some_and(|open| open.waiting.contains(&node))
    }

    /// A peer confirms this life.
    pub(super) fn confirmed(&mut self, by: NodeId, question: u64) {
        if question == self.questions
            && let Some(open) = &mut self.open
            && open.waiting.remove(&by)
        {
            open.confirmed = true;
        }
    }

    /// Goes on; `counts` tells whose answer is still to be expected.
    pub(super) fn go_on(
        &mut self,
        now: Instant,
        heartbeat: Duration,
        counts: impl Fn(NodeId) -> bool,
    ) -> Due {
        let Some(open) = &mut self.open else { return Due::Nothing };
        open.waiting.retain(|node| counts(*node));
        let done = open.waiting.is_empty() && (open.confirmed || now >= open.alone_at);
        if done || now >= open.ends_at {
            return Due::Over;
        }
        if now >= open.asked_at + heartbeat {
            open.asked_at = now;
            return Due::Ask(open.waiting.iter().copied().collect());
        }
        Due::Nothing
    }

    /// Ends it. Whether it was open.
    pub(super) fn end(&mut self) -> bool {
        self.open.take().is_some()
    }

    pub(super) fn deadline(&self, heartbeat: Duration) -> Option<Instant> {
        let open = self.open.as_ref()?;
        Some(if open.waiting.is_empty() {
            open.alone_at
        } else {
            open.ends_at.min(open.asked_at + heartbeat)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(n: u8) -> NodeId {
        NodeId::from_key([n; 32])
    }

    #[test]
    fn only_the_answer_to_the_open_question_counts() {
        let now = Instant::now();
        let mut check = PauseCheck::default();
        assert!(check.begin(now, 3 * SECOND, BTreeSet::from([id(1), id(2)])));
        assert!(!check.begin(now, 3 * SECOND, BTreeSet::from([id(1), id(2)])), "they are closed");
        check.confirmed(id(1), 1);
        assert!(check.is_waiting_for(id(1)));
        check.confirmed(id(1), 2);
        assert_eq!(check.waiting(), [id(2)]);
        assert_eq!(check.go_on(now, SECOND, |_| true), Due::Nothing);
        assert_eq!(check.go_on(now + SECOND, SECOND, |_| true), Due::Ask(vec![id(2)]));
        assert_eq!(check.go_on(now + SECOND, SECOND, |node| node != id(2)), Due::Over);
        assert!(check.end() && !check.end());
    }

    #[test]
    fn with_nobody_to_ask_a_window_passes_and_with_a_mute_one_two() {
        let now = Instant::now();
        let mut check = PauseCheck::default();
        check.begin(now, 3 * SECOND, BTreeSet::new());
        assert_eq!(check.deadline(SECOND), Some(now + 3 * SECOND));
        assert_eq!(check.go_on(now + 3 * SECOND, SECOND, |_| true), Due::Over);
        check.begin(now, 3 * SECOND, BTreeSet::from([id(1)]));
        assert_eq!(check.go_on(now + 6 * SECOND, SECOND, |_| true), Due::Over);
    }
}
