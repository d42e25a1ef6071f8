//! Successors that could not start though the child is theirs. The state that came is kept until the source
//! goes on with its actor, or the successor has started. With a source that is gone nobody else may have it: it
//! is tried again, and parked when that was of no use.

use std::time::Duration;

use super::{
    successor::Successor,
    target::{Target, call_again},
};
use crate::{
    engine::{
        core::{Core, News, OtherHolder, Timer},
        handover::{NotOpened, TargetInput, TargetStage},
        io::{BuildFailure, ChildOrder},
    },
    model::{child::Epoch, id::ChildId, parked::ParkedKey},
};

/// How often a successor is opened before its state is parked. Each time the actor is made twice if its
/// `started` panics.
const TRIES: u32 = 5;
/// How long the first of them is waited for; each further one twice as long as the one before.
const AFTER: Duration = Duration::from_secs(1);

/// Why the state is parked.
const CANNOT_START: &str = "its owner went down while it moved here, and it could not be started";

/// What a failure to start it means.
fn not_opened(core: &Core, successor: &Successor, reason: String) -> NotOpened {
    match () {
        () if !successor.with_state() => NotOpened::Stateless(reason),
        () if successor.source_lives(core) => NotOpened::SourceLives(reason),
        // On a node that is to be empty nothing stays that could be kept elsewhere.
        () if successor.tries() >= TRIES || core.emptying => NotOpened::Hopeless,
        () => NotOpened::Alone,
    }
}

impl Target<'_> {
    /// A successor runs, or could not be started: reported at the epoch at which it was opened, which is
    /// the attempt's or that of a takeover.
    pub(super) fn opened(&mut self, child: &ChildId, epoch: Epoch, outcome: Result<(), String>) {
        let is_it = |successor: &&mut Successor| {
            successor.ownership().epoch == epoch || successor.attempt() == epoch
        };
        let Some(successor) = self.table.successor_mut(child).filter(is_it) else { return };
        let outcome = outcome.map_err(|reason| {
            successor.could_not_start();
            not_opened(self.core, successor, reason)
        });
        self.step(child, &TargetInput::Opened(outcome));
    }

    /// A successor was built, or could not be.
    pub(super) fn built(
        &mut self,
        child: &ChildId,
        attempt: Epoch,
        outcome: Result<(), BuildFailure>,
    ) {
        let is_again = |successor: &Successor| {
            successor.attempt() == attempt && successor.stage() == TargetStage::Rebuilding
        };
        match outcome {
            Err(failure) if self.table.successor(child).is_some_and(is_again) => {
                self.opened(child, attempt, Err(failure.reason));
            }
            outcome => {
                self.input(child, attempt, &TargetInput::Built(outcome));
            }
        }
    }

    /// The time is over for a state to come, or for one that is kept to be tried again.
    pub(super) fn expired(&mut self, child: &ChildId, attempt: Epoch) {
        let successor = self.table.successor(child).filter(|it| it.attempt() == attempt);
        let Some(successor) = successor else { return };
        let source_lives = successor.source_lives(self.core);
        let input = match successor.stage() {
            // It has not heard that it is to go on, or may not yet.
            TargetStage::Kept if source_lives => {
                let reason = "the successor could not be started".to_owned();
                TargetInput::Opened(Err(NotOpened::SourceLives(reason)))
            }
            TargetStage::Kept if self.core.emptying => TargetInput::Leaving,
            _ => TargetInput::Expired,
        };
        self.step(child, &input);
    }

    /// A state that is kept is looked at again.
    pub(super) fn try_later(&mut self, child: &ChildId) {
        let Some(successor) = self.table.successor(child) else { return };
        let after = AFTER * (1 << successor.tries().saturating_sub(1).min(TRIES));
        self.core.timer(after, Timer::Target(child.clone(), successor.attempt()));
        // The entry that ends it may have come before it was kept.
        self.core.news.push_back(News::Changed { child: child.clone() });
    }

    /// The child begins without the state that is here, and that is parked.
    pub(super) fn park_and_begin(&mut self, child: &ChildId) {
        let Some(successor) = self.table.remove_successor(child) else { return };
        let (run, epoch) = (successor.from(), successor.state());
        let key = ParkedKey { child: child.clone(), run, epoch };
        let (kind, built) = (successor.ownership().spec.kind().clone(), successor.attempt());
        let reason = CANNOT_START.to_owned();
        self.core.news.push_back(News::Parks { key: key.clone(), other: OtherHolder::None });
        self.core.order(ChildOrder::ParkBuilt { key, kind, built, reason });
        self.begin_again(successor);
    }

    /// Nothing is left of a successor here.
    pub(super) fn begin_again(&mut self, successor: Successor) {
        let recovered = successor.is_recovered();
        let (ownership, stops) = successor.into_owner();
        if recovered {
            // Another node may hold an older copy: the home calls the roll again.
            call_again(self.core, ownership.spec.id(), ownership.epoch.term);
        } else {
            // It is this node's child and there is no other copy.
            self.revive(ownership, stops);
        }
    }
}
