//! The latest of what happened, kept so that much of one sort pushes out none of another.

use std::collections::{VecDeque, vec_deque};

/// What is kept apart, each with a bound of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ring {
    /// Nodes, and how this one stands among them: at most 2,000.
    Nodes,
    /// Warnings and errors about anything else: at most 2,000.
    Grave,
    /// Everything else: at most 10,000.
    Rest,
}

impl Ring {
    /// In the order of the fields of [`Rings`].
    const ALL: [Self; 3] = [Self::Nodes, Self::Grave, Self::Rest];

    /// How many are kept.
    pub(super) const fn bound(self) -> usize {
        match self {
            Self::Nodes | Self::Grave => 2_000,
            Self::Rest => 10_000,
        }
    }
}

/// What is kept, numbered in the order in which it happened, whichever ring it is in.
#[derive(Debug)]
pub(super) struct Rings<T> {
    next: u64,
    rings: [Kept<T>; 3],
}

#[derive(Debug)]
struct Kept<T> {
    items: VecDeque<(u64, T)>,
    /// The number behind the last one that was pushed out.
    lost_to: u64,
}

impl<T> Default for Rings<T> {
    fn default() -> Self {
        let empty = || Kept { items: VecDeque::new(), lost_to: 0 };
        Self { next: 0, rings: [empty(), empty(), empty()] }
    }
}

impl<T: Clone> Rings<T> {
    /// The number that the next one has.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Keeps one more; the oldest of a full ring goes.
    pub(super) fn push(&mut self, ring: Ring, item: T) {
        let kept = &mut self.rings[ring as usize];
        if kept.items.len() == ring.bound()
            && let Some((number, _)) = kept.items.pop_front()
        {
            kept.lost_to = number + 1;
        }
        kept.items.push_back((self.next, item));
        self.next += 1;
    }

    /// Those from this number on, in order of their numbers.
    pub(super) fn from(&self, number: u64) -> impl DoubleEndedIterator<Item = &T> {
        let mut all: Vec<&(u64, T)> = Vec::new();
        for kept in &self.rings {
            let first = kept.items.partition_point(|(at, _)| *at < number);
            all.extend(kept.items.range(first..));
        }
        // A merge of three runs.
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, item)| item)
    }

    /// The first `most` from this number on, how many between are not kept, and where the next ones begin.
    pub(super) fn read(&self, number: u64, most: usize) -> Part<T> {
        let mut heads = self.rings.each_ref().map(|kept| {
            let first = kept.items.partition_point(|(at, _)| *at < number);
            kept.items.range(first..)
        });
        let mut items = Vec::new();
        let mut next = self.next.max(number);
        while items.len() < most {
            let number_of =
                |head: &vec_deque::Iter<'_, _>| head.clone().next().map_or(u64::MAX, |(at, _)| *at);
            let first = heads.iter_mut().min_by_key(|head| number_of(head));
            let Some((at, item)) = first.and_then(Iterator::next) else { break };
            items.push(item.clone());
            if items.len() == most {
                next = at + 1;
            }
        }
        Part { missed: next - number - items.len() as u64, items, next }
    }

    /// Whether one of these rings has lost some from this number on.
    pub(super) fn has_lost(&self, number: u64, is_wanted: impl Fn(Ring) -> bool) -> bool {
        let mut rings = Ring::ALL.into_iter().zip(&self.rings);
        rings.any(|(ring, kept)| is_wanted(ring) && kept.lost_to > number)
    }
}

/// What was read at a time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<T> {
    /// In order.
    pub(super) items: Vec<T>,
    /// How many from the asked number up to `next` are not kept any more.
    pub(super) missed: u64,
    /// The number behind what was read.
    pub(super) next: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_of_one_sort_pushes_out_none_of_another_and_all_are_read_in_order() {
        let mut rings = Rings::default();
        rings.push(Ring::Nodes, "n2 is down".to_owned());
        for n in 0..20_000 {
            rings.push(Ring::Rest, format!("recovered {n}"));
            if n % 20 == 0 {
                rings.push(Ring::Grave, format!("restarted {n}"));
            }
        }
        rings.push(Ring::Nodes, "n2 came in".to_owned());
        let all: Vec<_> = rings.from(0).collect();
        assert_eq!((all.len(), rings.next()), (2 + 10_000 + 1_000, 21_002));
        assert_eq!((all[0].as_str(), all[1].as_str()), ("n2 is down", "restarted 0"));
        assert_eq!(all.last().map(|last| last.as_str()), Some("n2 came in"));
        assert!(rings.has_lost(0, |ring| ring == Ring::Rest));
        assert!(!rings.has_lost(0, |ring| ring != Ring::Rest), "no other ring was full");
        assert!(!rings.has_lost(rings.next(), |_| true), "nothing that is still to come");
    }

    #[test]
    fn parts_are_in_order_and_what_is_missing_is_counted_once() {
        let mut rings = Rings::default();
        assert_eq!(rings.read(0, 3), Part { items: Vec::new(), missed: 0, next: 0 });
        for number in 0..12_010_u64 {
            let ring = if number.is_multiple_of(1_000) { Ring::Nodes } else { Ring::Rest };
            rings.push(ring, number);
        }
        let (mut from, mut read, mut missed) = (5, Vec::new(), 0);
        loop {
            let part = rings.read(from, 400);
            if part.items.is_empty() {
                break;
            }
            read.extend(part.items);
            missed += part.missed;
            from = part.next;
        }
        let kept: Vec<u64> = rings.from(5).copied().collect();
        assert!(read.is_sorted() && read == kept);
        assert_eq!((read.len() as u64 + missed, from), (12_005, 12_010));
        assert_eq!(rings.read(from, 400), Part { items: Vec::new(), missed: 0, next: from });
        assert_eq!(rings.read(12_004, 2).items, [12_004, 12_005]);
        assert_eq!(rings.read(99_999, 2).next, 99_999, "a number that is still to come");
    }
}
