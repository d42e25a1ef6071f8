//! Whether a copy that this node holds for a successor is in what has become of its child elsewhere.
//!
//! That an owner is of the same life says that its state began where this one did, not that it went on from
//! it: a roll call gives the child to the best copy of those that were told to it. A node that was away then
//! may hold a later one, and what it holds was acknowledged.

use super::{instance::Instance, phase::Answered, successor::Successor, table::Table};
use crate::{
    engine::core::{Core, News, OtherHolder},
    engine::io::ChildOrder,
    model::{child::Ownership, id::ChildId, message::Copy, parked::ParkedKey},
};

/// Why a successor that stands ready is parked.
const SUPERSEDED: &str = "the child was started anew while it moved here";

/// Whether another owner of this life was made of a copy by a roll call that was not told of this one.
/// `answered`: the term of the latest that was.
fn is_passed(own: &Ownership, answered: u64, theirs: &Ownership) -> bool {
    theirs.born == own.born && theirs.copied > own.copied && theirs.copied.term > answered
}

/// Whether an owner went on from a copy without having heard of the one that is held here.
pub(super) fn passes_instance(core: &Core, held: &Instance, theirs: &Ownership) -> bool {
    is_passed(held.ownership(), held.answered(core.view_id), theirs)
}

/// Whether the child's owner went on from a copy without having heard of the one that stands here.
pub(super) fn passes_successor(core: &Core, child: &ChildId, successor: &Successor) -> bool {
    let answered = successor.answered(core.view_id);
    let owner = core.registry.owner(child);
    successor.holds_state()
        && owner.is_some_and(|(_, theirs)| is_passed(successor.ownership(), answered, theirs))
}

/// A roll call is told what is held of a child.
pub(super) fn note_answer(core: &Core, table: &mut Table, child: &ChildId, copy: Copy, term: u64) {
    let answered = Answered { view: core.view_id, term };
    if copy == Copy::Frozen
        && let Some(instance) = table.instance_mut(child)
    {
        instance.note_answer(answered);
    }
    if let Some(successor) = table.successor_mut(child) {
        successor.note_answer(answered);
    }
}

/// A child is started from nothing: a successor in the making is dropped, and the state of one that stands
/// is parked.
pub(super) fn supersede(core: &mut Core, child: ChildId, successor: &Successor) {
    let built = successor.attempt();
    if !(successor.holds_state() && successor.with_state()) {
        return core.order(ChildOrder::Discard { child, epoch: built });
    }
    let key = ParkedKey { child, run: successor.from(), epoch: successor.state() };
    let (kind, reason) = (successor.ownership().spec.kind().clone(), SUPERSEDED.to_owned());
    core.news.push_back(News::Parks { key: key.clone(), other: OtherHolder::None });
    core.order(ChildOrder::ParkBuilt { key, kind, built, reason });
}
