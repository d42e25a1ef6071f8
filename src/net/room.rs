//! How much room a read is given.

use bytes::BytesMut;

/// Most links carry little: the first read is given so many bytes.
const FIRST: usize = 2 * 1024;
/// A buffer that grew above this is given back when nothing is left in it.
const KEPT: usize = 256 * 1024;

/// Room in a buffer for what is read next: twice as much after each read that has filled it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    next: usize,
    most: usize,
}

impl Room {
    /// Of at most so many bytes.
    pub(super) fn up_to(most: usize) -> Self {
        Self { next: FIRST.min(most), most }
    }

    /// Makes it in a buffer.
    pub(super) fn make(self, buffer: &mut BytesMut) {
        if buffer.is_empty() && buffer.capacity() > KEPT {
            *buffer = BytesMut::new();
        }
        buffer.reserve(self.next);
    }

    /// So many bytes came.
    pub(super) fn came(&mut self, bytes: usize) {
        if bytes >= self.next {
            self.next = (self.next * 2).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_with_reads_that_fill_it_up_to_a_bound() {
        let mut room = Room::up_to(5_000);
        let mut buffer = BytesMut::new();
        for (came, next) in [(10, FIRST), (FIRST - 1, FIRST), (FIRST, 4_096), (9_000, 5_000)] {
            room.came(came);
            assert_eq!(room.next, next);
        }
        room.came(5_000);
        room.make(&mut buffer);
        assert!(room.next == 5_000 && buffer.capacity() >= 5_000);
        assert_eq!(Room::up_to(100).next, 100);
    }

    #[test]
    fn a_buffer_that_grew_is_given_back_once_it_is_empty() {
        let room = Room::up_to(5_000);
        let mut buffer = BytesMut::zeroed(KEPT + 1);
        room.make(&mut buffer);
        assert!(buffer.len() == KEPT + 1);
        buffer.clear();
        room.make(&mut buffer);
        assert!((FIRST..KEPT).contains(&buffer.capacity()));
    }
}
