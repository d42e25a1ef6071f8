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

/// A number that can be the outcome of a history, with room above it to be renewed for ever.
pub(super) fn is_plausible(incarnation: Incarnation) -> bool {
    incarnation.started <= Epoch::LIMIT
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
