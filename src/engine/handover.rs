//! One child's move, both ends, as two tables of states.
//!
//! The tables are pure: a stage and an input give the next stage and what is to be done. The
//! words on the wire are `Offer`, `Accept`, `Refuse`, `Ready`, `Failed`; the commit and the
//! successor's start are entries in the registry, so that whatever route they come by, they mean
//! the same.
//!
//! | source's stage | holds | until |
//! |---|---|---|
//! | Offered | the running actor | Accept or Refuse |
//! | Freezing | the actor with its gate closed | its started handlers are resolved |
//! | Frozen | the held actor and its state | there is room to send it |
//! | Sent | the same | Ready or Failed |
//! | Committed | the held actor, no longer the owner | the successor's entry |
//!
//! | target's stage | holds | until |
//! |---|---|---|
//! | Accepted | nothing | the state is here |
//! | Building | the bytes | the successor is built |
//! | Ready | the successor, not running | the source's entry: commit or abort |
//! | Opening | the successor, starting | `started()` has returned |
//! | Kept | the state of a successor that could not start | it is tried again, or the source goes on |
//! | Rebuilding | the same | the successor is built once more |

use super::io::{BuildFailure, FreezeFailure};
use crate::model::message::RefuseReason;

/// How far the node that hands a child over has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceStage {
    /// The child runs; the target was asked.
    Offered,
    /// The gate is closed; started handlers are waited for.
    Freezing,
    /// The actor is held, its state encoded, and not yet on its way.
    Frozen,
    /// The state is on its way, or there.
    Sent,
    /// The successor owns the child; the old actor is kept until it runs.
    Committed,
}

/// What happens to a move at its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceInput {
    /// The target will take it.
    Accepted,
    /// The target will not.
    Refused(RefuseReason),
    /// The state is encoded, of so many bytes, or could not be.
    Frozen(Result<u64, FreezeFailure>),
    /// There is room to send the state.
    Room,
    /// The state could not be sent.
    SendFailed(String),
    /// The successor stands.
    Ready,
    /// The successor could not be built, not be started, or is not wanted any more.
    Failed {
        /// Why.
        reason: String,
        /// Whether nothing is left of it.
        gone: bool,
        /// Whether it will be so for as long as the target runs what it runs.
        lasts: bool,
    },
    /// The deadline of the move passed.
    Expired,
    /// The target went down or left.
    TargetGone,
    /// The target takes no children any more.
    TargetLeaving,
    /// The link to the target broke: words of the move may be lost with it.
    LinkLost,
    /// A roll call asked what this node holds: until it has ended, nothing is committed.
    Promised,
    /// The child shall stop, or its actor ended: the move is pointless.
    Overtaken(&'static str),
    /// The successor runs.
    Opened,
}

/// When a move that failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// After a short while.
    Soon,
    /// A few times, then when the view changes.
    Counted,
    /// When the view changes.
    NextView,
    /// To another node.
    Elsewhere,
    /// To another node if there is one; to this one after a while.
    PassOver,
}

/// What the source does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceStep {
    /// Close the gate and freeze.
    Freeze,
    /// Ask for room for the state.
    AskRoom,
    /// Send the state.
    SendState,
    /// Write the commit.
    Commit,
    /// End the old actor: the successor runs.
    Finish,
    /// Give the move up; the child goes on.
    Abort {
        /// Whether the gate was closed: the child needs a new epoch and a thaw.
        thaw: bool,
        /// When it is tried again.
        again: Again,
        /// Why.
        reason: String,
    },
    /// Nothing: the input is late or of no consequence.
    Nothing,
}

/// Why a child does not go to a node that leaves, or is drained.
const EMPTYING: &str = "the node hands its own children over";

fn refused(reason: &RefuseReason) -> (Again, String) {
    match reason {
        RefuseReason::UnknownKind => {
            (Again::Elsewhere, "the node has not registered the kind".to_owned())
        }
        RefuseReason::StateVersion { oldest, newest } => {
            (Again::Elsewhere, format!("the node reads state versions {oldest} to {newest} only"))
        }
        RefuseReason::Leaving => (Again::NextView, EMPTYING.to_owned()),
        RefuseReason::NotMine => {
            (Again::NextView, "by the node's view the child does not belong there".to_owned())
        }
        RefuseReason::View => (Again::Soon, "the node's view differs".to_owned()),
        RefuseReason::Busy => (Again::Soon, "the node is not ready for the child yet".to_owned()),
        // Each try sends the whole state.
        RefuseReason::NoRoom => (Again::Counted, "the node had no room for the state".to_owned()),
    }
}

/// The source's table.
#[must_use]
pub fn source(stage: SourceStage, input: &SourceInput) -> (SourceStage, SourceStep) {
    use SourceInput as I;
    use SourceStage as S;
    let abort = |thaw, again, reason: String| (stage, SourceStep::Abort { thaw, again, reason });
    let closed = matches!(stage, S::Freezing | S::Frozen | S::Sent);
    match (stage, input) {
        (S::Offered, I::Accepted) => (S::Freezing, SourceStep::Freeze),
        (S::Offered | S::Freezing | S::Frozen | S::Sent, I::Refused(reason)) => {
            let (again, reason) = refused(reason);
            abort(closed, again, reason)
        }
        (S::Freezing, I::Frozen(Ok(_))) => (S::Frozen, SourceStep::AskRoom),
        (S::Freezing, I::Frozen(Err(failure))) => {
            let again = match failure {
                FreezeFailure::Retention { .. } => Again::Counted,
                _ => Again::NextView,
            };
            abort(true, again, failure.to_string())
        }
        (S::Frozen, I::Room) => (S::Sent, SourceStep::SendState),
        (S::Sent, I::Ready) => (S::Committed, SourceStep::Commit),
        (S::Sent, I::SendFailed(reason)) => abort(true, Again::Counted, reason.clone()),
        (S::Offered | S::Freezing | S::Frozen | S::Sent, I::Failed { reason, lasts, .. }) => {
            let again = if *lasts { Again::Elsewhere } else { Again::PassOver };
            abort(closed, again, reason.clone())
        }
        // Nothing is left of the successor: the held actor is the newest copy. A successor that
        // merely warned has seen the commit by now, or will.
        (S::Committed, I::Failed { reason, gone: true, .. }) => {
            abort(true, Again::PassOver, reason.clone())
        }
        (S::Committed, I::Opened) => (S::Committed, SourceStep::Finish),
        // From the commit on only the successor's own word, or a roll call, brings the child back.
        (S::Committed, _) => (stage, SourceStep::Nothing),
        (_, I::Expired) => {
            abort(closed, Again::Counted, "the move took longer than its deadline".to_owned())
        }
        (_, I::TargetGone) => abort(closed, Again::NextView, "the node went away".to_owned()),
        (_, I::Promised) => abort(closed, Again::Soon, "a roll call is under way".to_owned()),
        (_, I::LinkLost) => abort(closed, Again::Soon, "the link to the node broke".to_owned()),
        (_, I::TargetLeaving) => abort(closed, Again::NextView, EMPTYING.to_owned()),
        (_, I::Overtaken(why)) => abort(closed, Again::NextView, (*why).to_owned()),
        _ => (stage, SourceStep::Nothing),
    }
}

/// How far the node that takes a child over has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetStage {
    /// It has said that it takes the child.
    Accepted,
    /// The successor is being built.
    Building,
    /// The successor stands and does not run.
    Ready,
    /// It owns the child; the successor is being started.
    Opening,
    /// It owns the child, the successor could not start, and the state that it was made of is kept.
    Kept,
    /// The successor is being built again.
    Rebuilding,
}

/// Why a successor does not run that was opened, and what else there is of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// It came without a state: nothing is lost with it.
    Stateless(String),
    /// Its source is there, and holds the actor.
    SourceLives(String),
    /// Nobody else is known to have its state; it may be tried again.
    Alone,
    /// The same, and it is not tried again here.
    Hopeless,
}

/// What happens to a move at its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetInput {
    /// The state is here, or none is needed.
    State,
    /// The state came and there was no room for it.
    NoRoom,
    /// The successor is built, or could not be.
    Built(Result<(), BuildFailure>),
    /// The source's entry names this node at this attempt's epoch.
    Committed,
    /// The source's entry is above this attempt's epoch, or the child was removed.
    Aborted,
    /// The same, while the source is gone and the child has a live owner of another life: nobody else
    /// may have the state that came.
    BegunAnew,
    /// The deadline for the state passed.
    Expired,
    /// The source went down or left.
    SourceGone,
    /// This node takes no children any more.
    Leaving,
    /// The home gave the child to this node by a roll call.
    Taken,
    /// The successor runs, or could not be started, or not be built again.
    Opened(Result<(), NotOpened>),
}

/// What the target does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetStep {
    /// Build the successor.
    Build,
    /// Say Ready.
    SayReady,
    /// Drop everything and say Failed.
    Fail(BuildFailure),
    /// Drop everything and say Refuse.
    Refuse(RefuseReason),
    /// Say Failed, and keep what there is until the source's entry decides.
    WarnFailed(String),
    /// Drop everything.
    Drop,
    /// Drop the successor, and park the state that it was made of.
    Park,
    /// The same, and begin the child from nothing, or have the roll called.
    ParkAndBegin,
    /// Say Failed, keep the state, and look again after a while.
    SayFailed(String),
    /// Keep the state, and try again after a while.
    TryLater,
    /// Review whether it may be opened.
    Review,
    /// Start the successor.
    Open,
    /// Write one's own entry: it runs.
    Own,
    /// Nothing: the input is late or of no consequence.
    Nothing,
}

/// The target's table.
#[must_use]
pub fn target(stage: TargetStage, input: &TargetInput) -> (TargetStage, TargetStep) {
    use TargetInput as I;
    use TargetStage as T;
    let fail = |reason: &str| TargetStep::Fail(BuildFailure::passing(reason));
    match (stage, input) {
        (T::Accepted, I::State) => (T::Building, TargetStep::Build),
        (T::Accepted, I::NoRoom) => (stage, TargetStep::Refuse(RefuseReason::NoRoom)),
        (T::Building, I::Built(Ok(()))) => (T::Ready, TargetStep::SayReady),
        (T::Building, I::Built(Err(failure))) => (stage, TargetStep::Fail(failure.clone())),
        (T::Ready, I::Committed | I::Taken) => (T::Opening, TargetStep::Open),
        (T::Opening, I::Opened(Ok(()))) => (T::Opening, TargetStep::Own),
        // Until the source's entry says that it goes on, what came is kept: the source may die before it
        // hears that its copy is wanted.
        (T::Opening | T::Kept | T::Rebuilding, I::Opened(Err(why))) => match why {
            NotOpened::Stateless(reason) => (stage, fail(reason)),
            NotOpened::SourceLives(reason) => (T::Kept, TargetStep::SayFailed(reason.clone())),
            NotOpened::Alone => (T::Kept, TargetStep::TryLater),
            NotOpened::Hopeless => (stage, TargetStep::ParkAndBegin),
        },
        (T::Kept, I::Expired) => (T::Rebuilding, TargetStep::Build),
        // It is opened like one that was never tried: a roll call may want it meanwhile.
        (T::Rebuilding, I::Built(Ok(()))) => (T::Ready, TargetStep::Review),
        (T::Kept | T::Rebuilding, I::Aborted) => (stage, TargetStep::Drop),
        (T::Kept | T::Rebuilding, I::BegunAnew) => (stage, TargetStep::Park),
        (T::Kept | T::Rebuilding, I::Leaving) => (stage, TargetStep::ParkAndBegin),
        (T::Accepted | T::Building, I::Expired) => {
            (stage, fail("the state did not arrive in time"))
        }
        (T::Accepted | T::Building, I::Leaving) => (stage, fail("the node is leaving")),
        // Ready was said: only the source's entry may decide now.
        (T::Ready, I::Leaving) => (stage, TargetStep::WarnFailed("the node is leaving".to_owned())),
        (T::Accepted | T::Building | T::Ready, I::Aborted) => (stage, TargetStep::Drop),
        (T::Accepted | T::Building, I::SourceGone | I::BegunAnew) => (stage, TargetStep::Drop),
        (T::Ready, I::BegunAnew) => (stage, TargetStep::Park),
        // A Ready copy of a source that is gone is what the roll call asks for; an opening one
        // is committed.
        _ => (stage, TargetStep::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages() -> [SourceStage; 5] {
        use SourceStage::*;
        [Offered, Freezing, Frozen, Sent, Committed]
    }

    #[test]
    fn a_move_goes_through_its_stages_in_order() {
        let mut stage = SourceStage::Offered;
        let mut steps = Vec::new();
        for input in [
            SourceInput::Accepted,
            SourceInput::Frozen(Ok(8)),
            SourceInput::Room,
            SourceInput::Ready,
            SourceInput::Opened,
        ] {
            let (next, step) = source(stage, &input);
            stage = next;
            steps.push(step);
        }
        assert_eq!(
            steps,
            [
                SourceStep::Freeze,
                SourceStep::AskRoom,
                SourceStep::SendState,
                SourceStep::Commit,
                SourceStep::Finish
            ]
        );
    }

    #[test]
    fn every_failure_before_the_commit_leaves_the_child_here() {
        for stage in stages().into_iter().filter(|stage| *stage < SourceStage::Committed) {
            for input in
                [SourceInput::Expired, SourceInput::TargetGone, SourceInput::Overtaken("x")]
            {
                let (_, step) = source(stage, &input);
                let closed = stage > SourceStage::Offered;
                assert!(
                    matches!(&step, SourceStep::Abort { thaw, .. } if *thaw == closed),
                    "{stage:?} {input:?} {step:?}"
                );
            }
        }
    }

    #[test]
    fn after_the_commit_only_the_successors_own_word_brings_the_child_back() {
        for input in [
            SourceInput::Expired,
            SourceInput::TargetGone,
            SourceInput::TargetLeaving,
            SourceInput::Overtaken("x"),
            SourceInput::Promised,
            SourceInput::Ready,
        ] {
            assert_eq!(source(SourceStage::Committed, &input).1, SourceStep::Nothing);
        }
        let failed =
            |gone| SourceInput::Failed { reason: "it panicked".into(), gone, lasts: false };
        assert!(matches!(
            source(SourceStage::Committed, &failed(true)).1,
            SourceStep::Abort { thaw: true, .. }
        ));
        assert_eq!(source(SourceStage::Committed, &failed(false)).1, SourceStep::Nothing);
    }

    #[test]
    fn a_target_that_could_not_make_the_successor_is_passed_over() {
        let failed = |lasts| SourceInput::Failed { reason: "x".into(), gone: true, lasts };
        for stage in stages() {
            let (_, step) = source(stage, &failed(false));
            assert!(
                matches!(step, SourceStep::Abort { again: Again::PassOver, .. }),
                "{stage:?} {step:?}"
            );
        }
        // Who cannot read a state will not a while later: until the view changes. Once it has taken the
        // child it has read the state.
        for stage in stages().into_iter().filter(|stage| *stage != SourceStage::Committed) {
            let (_, step) = source(stage, &failed(true));
            assert!(
                matches!(step, SourceStep::Abort { again: Again::Elsewhere, .. }),
                "{stage:?} {step:?}"
            );
        }
    }

    #[test]
    fn a_target_without_room_for_the_state_says_so_and_the_child_goes_on_here() {
        let (_, step) = target(TargetStage::Accepted, &TargetInput::NoRoom);
        let TargetStep::Refuse(reason) = step else { panic!("{step:?}") };
        for stage in stages() {
            let (_, step) = source(stage, &SourceInput::Refused(reason.clone()));
            let closed = stage > SourceStage::Offered;
            let expected = match stage {
                SourceStage::Committed => false,
                _ => {
                    matches!(&step, SourceStep::Abort { thaw, again: Again::Counted, .. } if *thaw == closed)
                }
            };
            assert_eq!(expected, stage < SourceStage::Committed, "{stage:?} {step:?}");
        }
        for stage in [TargetStage::Building, TargetStage::Ready, TargetStage::Opening] {
            assert_eq!(target(stage, &TargetInput::NoRoom).1, TargetStep::Nothing, "{stage:?}");
        }
    }

    #[test]
    fn only_ready_commits() {
        for stage in stages() {
            let committed = source(stage, &SourceInput::Ready).1 == SourceStep::Commit;
            assert_eq!(committed, stage == SourceStage::Sent);
        }
    }

    #[test]
    fn only_a_successor_that_stands_is_parked_when_its_source_is_gone_and_another_began_anew() {
        use TargetStage as T;
        for (stage, expected) in [
            (T::Accepted, TargetStep::Drop),
            (T::Building, TargetStep::Drop),
            (T::Ready, TargetStep::Park),
            (T::Opening, TargetStep::Nothing),
            (T::Kept, TargetStep::Park),
            (T::Rebuilding, TargetStep::Park),
        ] {
            assert_eq!(target(stage, &TargetInput::BegunAnew), (stage, expected));
        }
    }

    #[test]
    fn the_state_of_a_successor_that_could_not_start_is_dropped_only_when_its_source_goes_on() {
        use TargetStage as T;
        let not_opened =
            [NotOpened::SourceLives("x".to_owned()), NotOpened::Alone, NotOpened::Hopeless];
        let inputs = not_opened.map(|why| TargetInput::Opened(Err(why))).into_iter().chain([
            TargetInput::State,
            TargetInput::NoRoom,
            TargetInput::Built(Ok(())),
            TargetInput::Committed,
            TargetInput::Aborted,
            TargetInput::BegunAnew,
            TargetInput::Expired,
            TargetInput::SourceGone,
            TargetInput::Leaving,
            TargetInput::Taken,
        ]);
        for input in inputs {
            for stage in [T::Opening, T::Kept, T::Rebuilding] {
                let (_, step) = target(stage, &input);
                let drops = matches!(step, TargetStep::Drop | TargetStep::Fail(_));
                let goes_on = stage != T::Opening && input == TargetInput::Aborted;
                assert_eq!(drops, goes_on, "{stage:?} {input:?} {step:?}");
            }
        }
    }

    #[test]
    fn a_successor_that_could_not_start_is_built_again_and_started() {
        let mut stage = TargetStage::Opening;
        let mut steps = Vec::new();
        for input in [
            TargetInput::Opened(Err(NotOpened::Alone)),
            TargetInput::Expired,
            TargetInput::Built(Ok(())),
            TargetInput::Committed,
            TargetInput::Opened(Ok(())),
        ] {
            let (next, step) = target(stage, &input);
            stage = next;
            steps.push(step);
        }
        use TargetStep::*;
        assert_eq!(steps, [TryLater, Build, Review, Open, Own]);
    }

    #[test]
    fn a_successor_that_said_ready_waits_for_the_sources_entry() {
        for input in [TargetInput::Expired, TargetInput::SourceGone] {
            assert_eq!(target(TargetStage::Ready, &input).1, TargetStep::Nothing);
        }
        assert!(matches!(
            target(TargetStage::Ready, &TargetInput::Leaving).1,
            TargetStep::WarnFailed(_)
        ));
        assert_eq!(target(TargetStage::Ready, &TargetInput::Aborted).1, TargetStep::Drop);
    }

    #[test]
    fn a_successor_runs_only_after_the_commit() {
        for stage in [TargetStage::Accepted, TargetStage::Building] {
            assert_eq!(target(stage, &TargetInput::Committed).1, TargetStep::Nothing);
        }
        assert_eq!(target(TargetStage::Ready, &TargetInput::Committed).1, TargetStep::Open);
    }
}
