//! Connections in the making: bounded for each origin and in all.
//!
//! Where there is no room, one gives way: the oldest of those that have said nothing yet, or the
//! oldest of all. Whoever takes part in earnest speaks at once and is done within some round trips;
//! whoever only holds a place loses it, so that nobody is locked out by those.

use std::collections::{BTreeMap, BTreeSet};

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingLimits {
    /// Of one origin.
    pub(super) per_origin: usize,
    /// Of all origins that are not known.
    pub(super) strangers: usize,
}

/// Names one connection in the making. A later one is higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

struct Place<O, H> {
    origin: O,
    has_spoken: bool,
    handle: H,
}

/// Tickets in the order in which they give way: first those of connections that have said nothing.
type Order = BTreeSet<(bool, Ticket)>;

/// Connections in the making, by the origin that they come from; `H` ends one.
pub(super) struct Pending<O, H> {
    limits: PendingLimits,
    tickets: u64,
    places: BTreeMap<Ticket, Place<O, H>>,
    origins: BTreeMap<O, Order>,
    strangers: Order,
}

impl<O: Ord + Clone, H> Pending<O, H> {
    pub(super) fn new(limits: PendingLimits) -> Self {
        Self {
            limits,
            tickets: 0,
            places: BTreeMap::new(),
            origins: BTreeMap::new(),
            strangers: Order::new(),
        }
    }

    /// A connection comes in. Who is known takes no place of a stranger. Gives the handle of the
    /// one that must end for it.
    pub(super) fn enter(&mut self, origin: O, is_known: bool, handle: H) -> (Ticket, Option<H>) {
        let of_origin = self.origins.get(&origin);
        let gives_way = match of_origin.filter(|all| all.len() >= self.limits.per_origin) {
            Some(all) => all.first().copied(),
            None if !is_known && self.strangers.len() >= self.limits.strangers => {
                self.strangers.first().copied()
            }
            None => None,
        };
        let gone = gives_way.and_then(|(_, ticket)| self.leave(ticket));
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.origins.entry(origin.clone()).or_default().insert((false, ticket));
        if !is_known {
            self.strangers.insert((false, ticket));
        }
        self.places.insert(ticket, Place { origin, has_spoken: false, handle });
        (ticket, gone)
    }

    /// A connection has said something.
    pub(super) fn spoke(&mut self, ticket: Ticket) {
        let Some(place) = self.places.get_mut(&ticket) else {
            return;
        };
        place.has_spoken = true;
        for order in self.origins.get_mut(&place.origin).into_iter().chain([&mut self.strangers]) {
            if order.remove(&(false, ticket)) {
                order.insert((true, ticket));
            }
        }
    }

    /// Whether nobody is there.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty() && self.origins.is_empty() && self.strangers.is_empty()
    }

    /// A connection is made, or has come to nothing. Gives its handle, if it still had a place.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<H> {
        let Place { origin, has_spoken, handle } = self.places.remove(&ticket)?;
        self.strangers.remove(&(has_spoken, ticket));
        if let Some(all) = self.origins.get_mut(&origin) {
            all.remove(&(has_spoken, ticket));
            if all.is_empty() {
                self.origins.remove(&origin);
            }
        }
        Some(handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Pending<char, u32> {
        Pending::new(PendingLimits { per_origin: 2, strangers: 3 })
    }

    #[test]
    fn the_oldest_of_an_origin_gives_way_to_its_next() {
        let mut room = room();
        assert_eq!(room.enter('a', false, 1).1, None);
        assert_eq!(room.enter('b', false, 2).1, None);
        let (third, _) = room.enter('a', false, 3);
        assert_eq!(room.enter('a', false, 4).1, Some(1));
        assert_eq!(room.leave(third), Some(3));
        assert_eq!(room.enter('a', false, 5).1, None);
    }

    #[test]
    fn the_oldest_stranger_gives_way_and_never_one_that_is_known() {
        let mut room = room();
        assert_eq!(room.enter('m', true, 0).1, None);
        for (number, origin) in (1..).zip(['a', 'b', 'c']) {
            assert_eq!(room.enter(origin, false, number).1, None);
        }
        assert_eq!(room.enter('d', false, 4).1, Some(1));
        assert_eq!(room.enter('m', true, 5).1, None, "it takes no place of a stranger");
        assert_eq!(room.enter('m', true, 6).1, Some(0), "and has its own bound");
    }

    #[test]
    fn who_has_spoken_gives_way_after_those_who_have_not() {
        let mut room = room();
        let (first, _) = room.enter('a', false, 1);
        room.spoke(first);
        assert_eq!(room.enter('a', false, 2).1, None);
        let (third, gone) = room.enter('a', false, 3);
        assert_eq!(gone, Some(2));
        room.spoke(third);
        assert_eq!(room.enter('a', false, 4).1, Some(1), "the oldest where all have spoken");
        for (number, origin) in (5..).zip(['b', 'c', 'd']) {
            let expected = (number > 5).then_some([4, 5][number as usize % 2]);
            assert_eq!(room.enter(origin, false, number).1, expected, "{origin}");
        }
        assert_eq!(room.leave(third), Some(3));
    }

    #[test]
    fn nothing_is_kept_of_who_has_left() {
        let mut room = room();
        let tickets: Vec<Ticket> = (0..100).map(|n| room.enter('a', n % 2 == 0, n).0).collect();
        for ticket in tickets {
            room.spoke(ticket);
            room.leave(ticket);
        }
        assert!(room.is_empty());
    }
}
