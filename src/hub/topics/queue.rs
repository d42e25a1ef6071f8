//! A queue that is bounded in bytes.

use std::collections::VecDeque;

/// First in, first out. One item is always let through, however large.
#[derive(Debug)]
pub(crate) struct ByteQueue<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    limit: usize,
}

impl<T> ByteQueue<T> {
    /// Holds at most so many bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, limit }
    }

    /// Takes an item of so many bytes in. `false`: there is no room for it.
    pub(crate) fn push(&mut self, item: T, size: usize) -> bool {
        let fits = self.items.is_empty() || self.bytes.saturating_add(size) <= self.limit;
        if fits {
            self.bytes += size;
            self.items.push_back((item, size));
        }
        fits
    }

    /// The oldest item.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let (item, size) = self.items.pop_front()?;
        self.bytes -= size;
        Some(item)
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_so_many_bytes_and_always_one_item() {
        let mut queue = ByteQueue::new(10);
        assert!(queue.push('a', 50), "it was empty");
        assert!(!queue.push('b', 1));
        assert_eq!(queue.pop(), Some('a'));
        assert!(queue.push('c', 6) && queue.push('d', 4));
        assert!(!queue.push('e', 1));
        assert_eq!(queue.pop(), Some('c'));
        assert!(queue.push('f', 6), "there is room again");
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some('d'), Some('f'), None));
        assert!(queue.is_empty() && queue.bytes == 0);
    }
}
