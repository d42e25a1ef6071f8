//! What is taken of what a peer says: bounded, and in the order that is relied on here.

use crate::model::{
    child::Epoch,
    id::Incarnation,
    member::{Member, MemberState},
    message::Status,
    tags::LISTED,
};

/// At most this many addresses are kept for a node, each of at most [`ADDRESS_LIMIT`] bytes.
const ADDRESSES_LIMIT: usize = 16;
const ADDRESS_LIMIT: usize = 256;

/// A number that can be the outcome of a history, with room above it to be renewed for ever. Not
/// refused by how far it jumps: it comes from a clock, which may be wrong by years, and is only ever
/// its own node's. Who makes it high harms nobody else.
pub(super) fn is_plausible(incarnation: Incarnation) -> bool {
    incarnation.started <= Epoch::LIMIT
}

/// Whether a life of this node's key that is said to be over can have been: this node would have to
/// come back above it, and one word would take it to where nobody lets it in any more. Of this run
/// nobody knows a later life than it does itself.
pub(super) fn can_be_mine(fenced: Incarnation, mine: Incarnation) -> bool {
    match fenced.nonce == mine.nonce {
        true => fenced <= mine,
        false => can_have_been(fenced, mine),
    }
}

/// A life that another run can have had, by the clock of `mine`: its own may have been ahead, but not by
/// more than a clock can be wrong.
pub(super) fn can_have_been(other: Incarnation, mine: Incarnation) -> bool {
    /// Milliseconds; 139 years.
    const JUMP: u64 = 1 << 42;
    other.started < Epoch::LIMIT && other.started <= mine.started.saturating_add(JUMP)
}

/// A node as it describes itself: what others think of it is not part of that.
pub(super) fn described(mut member: Member) -> Member {
    member.addresses = usable(member.addresses);
    if member.state == MemberState::Suspect {
        member.state = MemberState::Alive;
    }
    member
}

/// A status with lists that can be searched.
pub(super) fn sorted(mut status: Status) -> Status {
    status.silent.truncate(LISTED);
    status.silent.sort_unstable();
    status
}

/// So many addresses as are kept, without those that are too long.
pub(super) fn usable(mut addresses: Vec<String>) -> Vec<String> {
    addresses.retain(|address| address.len() <= ADDRESS_LIMIT);
    addresses.truncate(ADDRESSES_LIMIT);
    addresses
}
