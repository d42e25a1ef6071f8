//! What is exchanged with one peer on one side over one path: the doors that have something for it,
//! and what is said beside them.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bytes::BytesMut;

use super::{
    peer_lanes::PeerLanes,
    topics::outgoing::{Outgoing, Queued},
    writes::Writes,
};
use crate::{
    delivery::Side,
    model::{
        frame::DataFrame,
        id::{LaneId, NodeRun},
        topic::Publication,
    },
    wire,
};

/// What one door may write before the next one has its turn.
const TURN: usize = 16 << 10;
/// Frames of no door that may wait for one peer.
const OUTBOX: usize = 65_536;
/// Lanes that are used no more, and of which one peer is still to be told.
const CLOSED: usize = 1 << 20;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under a lock is a defect of ours; the others go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the frames of an exchange go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Over the link to the peer.
    Link,
    /// By a member that has links to both.
    By(NodeRun),
}

/// How far the barrier with a peer is: its lanes have all their answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Barrier {
    #[default]
    None,
    Wanted,
    Sent,
    Heard,
}

/// A peer does not keep to a bound; its link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct OutOfBounds(&'static str);

/// What is exchanged with one peer on one side over one path. Another path is another exchange.
pub(crate) struct Exchange<C> {
    /// [`Side::Calls`]: this node's lanes to the peer; [`Side::Answers`]: the peer's lanes here.
    pub(crate) side: Side,
    pub(crate) peer: NodeRun,
    /// The path's number, given by whose lanes use it.
    pub(crate) number: u64,
    pub(crate) way: Way,
    /// Whether all doors know of it. Before that nothing is written: an answer to a door that does not would
    /// be taken for one that is late.
    open: AtomicBool,
    /// Something of lanes or topics was written since this was asked.
    used: AtomicBool,
    /// Doors that have frames for it, each once.
    ready: Mutex<VecDeque<Arc<C>>>,
    /// Frames of no door.
    outbox: Mutex<VecDeque<DataFrame>>,
    /// Lanes of this node that are used no more, to be told.
    closed: Mutex<Vec<LaneId>>,
    /// Published messages; made for the first one, which brings the bound with it.
    published: Mutex<Option<Outgoing>>,
    /// The peer's lanes, on the side of answers.
    pub(crate) lanes: Arc<PeerLanes<C>>,
    last: Mutex<Barrier>,
}

impl<C: Writes> Exchange<C> {
    pub(crate) fn calls(peer: NodeRun, number: u64, way: Way) -> Arc<Self> {
        Self::new(Side::Calls, peer, number, way, Arc::default())
    }

    /// `lanes`: those of the peer, by whatever path they came before.
    pub(crate) fn answers(
        peer: NodeRun,
        number: u64,
        way: Way,
        lanes: Arc<PeerLanes<C>>,
    ) -> Arc<Self> {
        Self::new(Side::Answers, peer, number, way, lanes)
    }

    fn new(
        side: Side,
        peer: NodeRun,
        number: u64,
        way: Way,
        lanes: Arc<PeerLanes<C>>,
    ) -> Arc<Self> {
        let mut outbox = VecDeque::new();
        if side == Side::Calls && way == Way::Link {
            // Before all frames of lanes: the peer answers where it has read this.
            outbox.push_back(DataFrame::Direct { number });
        }
        Arc::new(Self {
            side,
            peer,
            number,
            way,
            open: AtomicBool::new(false),
            used: AtomicBool::new(false),
            ready: Mutex::default(),
            outbox: Mutex::new(outbox),
            closed: Mutex::default(),
            published: Mutex::default(),
            lanes,
            last: Mutex::default(),
        })
    }

    /// The neighbour that its frames are written to.
    pub(crate) fn next_hop(&self) -> NodeRun {
        match self.way {
            Way::Link => self.peer,
            Way::By(member) => member,
        }
    }

    /// All doors know of it: what waits may be written. Said by [`Paths::open`](super::paths::Paths::open)
    /// alone, which knows what must be said first.
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// A door has frames for it.
    pub(crate) fn again(&self, cell: Arc<C>) {
        lock(&self.ready).push_back(cell);
    }

    /// Queues a frame of no door.
    pub(crate) fn say(&self, frame: DataFrame) -> Result<(), OutOfBounds> {
        let mut outbox = lock(&self.outbox);
        if outbox.len() >= OUTBOX {
            return Err(OutOfBounds("it asks and does not read the answers"));
        }
        outbox.push_back(frame);
        Ok(())
    }

    /// This node uses a lane no more, which the peer is to be told. If too many wait to be told, it is
    /// told when it answers on the lane again.
    pub(crate) fn close(&self, lane: LaneId) {
        let mut closed = lock(&self.closed);
        if closed.len() < CLOSED {
            closed.push(lane);
        }
    }

    /// Queues a published message, as far as at most `limit` bytes of them wait.
    pub(crate) fn publish(&self, publication: Publication, limit: usize) -> Queued {
        lock(&self.published).get_or_insert_with(|| Outgoing::new(limit)).push(publication)
    }

    /// The path is over: no published message is taken any more. Tells how many were not written.
    pub(crate) fn end_published(&self) -> usize {
        lock(&self.published).get_or_insert_with(|| Outgoing::new(0)).end()
    }

    /// Appends published messages until the buffer holds about `target` bytes. Tells whether there are more.
    fn write_published(&self, buffer: &mut BytesMut, target: usize) -> bool {
        let mut published = lock(&self.published);
        let Some(published) = &mut *published else { return false };
        while buffer.len() < target
            && let Some(publication) = published.pop()
        {
            wire::append_frame(buffer, &DataFrame::Published(publication));
            self.used.store(true, Ordering::Relaxed);
        }
        !published.is_empty()
    }

    /// Wants `Last` said after everything else. Tells whether it was not wanted before.
    pub(crate) fn want_last(&self) -> bool {
        let mut last = lock(&self.last);
        let new = *last == Barrier::None;
        if new {
            *last = Barrier::Wanted;
        }
        new
    }

    /// The peer has read `Last`.
    pub(crate) fn last_heard(&self) {
        let mut last = lock(&self.last);
        if *last == Barrier::Sent {
            *last = Barrier::Heard;
        }
    }

    /// Whether the peer has read everything.
    pub(crate) fn is_drained(&self) -> bool {
        *lock(&self.last) == Barrier::Heard
    }

    fn next_ready(&self) -> Option<Arc<C>> {
        lock(&self.ready).pop_front()
    }

    fn has_ready(&self) -> bool {
        !lock(&self.ready).is_empty()
    }

    /// Whether something of lanes or topics was written since this was asked before. What an exchange says of
    /// itself, as the first word of each, is no use: nobody waits for it.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Appends frames, each behind its length, until the buffer holds about `target` bytes. Tells
    /// whether there is more.
    pub(crate) fn write(&self, now: Instant, buffer: &mut BytesMut, target: usize) -> bool {
        if !self.is_open() {
            // Whoever opens it asks for it again.
            return false;
        }
        {
            let mut outbox = lock(&self.outbox);
            while let Some(frame) = outbox.pop_front() {
                wire::append_frame(buffer, &frame);
                if buffer.len() >= target {
                    return true;
                }
            }
        }
        {
            let mut closed = lock(&self.closed);
            while let Some(lane) = closed.pop() {
                wire::append_frame(buffer, &DataFrame::Closed { lane });
                if buffer.len() >= target {
                    return true;
                }
            }
        }
        // A turn as that of each door, so that neither waits for the other.
        let is_published = self.write_published(buffer, target.min(buffer.len() + TURN));
        while let Some(cell) = self.next_ready() {
            let before = buffer.len();
            let budget = TURN.min(target.saturating_sub(before)).max(1);
            let to = (self.peer, self.number);
            let more = cell.write(now, self.side, to, budget, &mut |frame| {
                wire::append_frame(buffer, &frame);
            });
            if buffer.len() > before {
                self.used.store(true, Ordering::Relaxed);
            }
            if more {
                self.again(cell);
            }
            if buffer.len() >= target || more && buffer.len() == before {
                return self.has_ready() || is_published || *lock(&self.last) == Barrier::Wanted;
            }
        }
        if self.write_published(buffer, target) {
            return true;
        }
        let mut last = lock(&self.last);
        if *last == Barrier::Wanted {
            *last = Barrier::Sent;
            wire::append_frame(buffer, &DataFrame::Last);
            // Its answer is waited for.
            self.used.store(true, Ordering::Relaxed);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::{ChildId, NodeId};

    /// A door with so many frames, each of 100 bytes or so.
    struct Cell(Mutex<usize>, ChildId);

    fn cell(frames: usize, child: usize) -> Arc<Cell> {
        let child = ChildId::new(format!("c{child}")).expect("an id");
        Arc::new(Cell(Mutex::new(frames), child))
    }

    impl Writes for Cell {
        fn child(&self) -> &ChildId {
            &self.1
        }

        fn write(
            self: &Arc<Self>,
            _: Instant,
            _: Side,
            _: (NodeRun, u64),
            budget: usize,
            out: &mut dyn FnMut(DataFrame),
        ) -> bool {
            let mut left = lock(&self.0);
            for _ in 0..budget.div_ceil(100) {
                if *left == 0 {
                    return false;
                }
                *left -= 1;
                out(DataFrame::Direct { number: 9 });
            }
            *left > 0
        }
    }

    fn frames(mut bytes: &[u8]) -> Vec<DataFrame> {
        let mut frames = Vec::new();
        while let Some((head, rest)) = bytes.split_first_chunk::<4>() {
            let (frame, rest) = rest.split_at(u32::from_le_bytes(*head) as usize);
            frames.push(wire::decode_frame(frame.to_vec().into()).expect("it decodes"));
            bytes = rest;
        }
        frames
    }

    fn exchange(side: Side, way: Way) -> Arc<Exchange<Cell>> {
        let peer = NodeRun { node: NodeId::from_key([1; 32]), nonce: 1 };
        let exchange = Exchange::new(side, peer, 7, way, Arc::default());
        exchange.open();
        exchange
    }

    #[test]
    fn nothing_is_written_before_all_doors_know_of_it() {
        let peer = NodeRun { node: NodeId::from_key([1; 32]), nonce: 1 };
        let exchange: Arc<Exchange<Cell>> = Exchange::calls(peer, 7, Way::Link);
        exchange.close(LaneId(5));
        let mut buffer = BytesMut::new();
        assert!(!exchange.write(Instant::now(), &mut buffer, 1_000) && buffer.is_empty());
        exchange.open();
        exchange.write(Instant::now(), &mut buffer, 1_000);
        assert_eq!(frames(&buffer).len(), 2, "nothing is lost");
    }

    #[test]
    fn what_lanes_and_topics_write_is_use_and_what_an_exchange_says_of_itself_is_not() {
        let exchange = exchange(Side::Calls, Way::Link);
        let used = |exchange: &Exchange<Cell>| {
            exchange.write(Instant::now(), &mut BytesMut::new(), 1_000);
            exchange.take_used()
        };
        exchange.close(LaneId(5));
        assert!(!used(&exchange), "its first word, and of a lane that is used no more");
        exchange.again(cell(1, 1));
        assert!(used(&exchange) && !used(&exchange));
        exchange.publish(publication(0, 600), 2_000);
        assert!(used(&exchange) && !used(&exchange));
    }

    #[test]
    fn a_link_begins_with_its_number_and_a_path_by_a_member_does_not() {
        let by = Way::By(NodeRun { node: NodeId::from_key([2; 32]), nonce: 2 });
        for (side, way, first) in [
            (Side::Calls, Way::Link, Some(DataFrame::Direct { number: 7 })),
            (Side::Answers, Way::Link, None),
            (Side::Calls, by, None),
        ] {
            let mut buffer = BytesMut::new();
            exchange(side, way).write(Instant::now(), &mut buffer, 1_000);
            assert_eq!(frames(&buffer).first(), first.as_ref());
        }
    }

    #[test]
    fn the_barrier_comes_after_everything_that_is_ready_and_is_said_once() {
        let exchange = exchange(Side::Answers, Way::Link);
        exchange.again(cell(500, 0));
        assert!(exchange.want_last());
        exchange.last_heard();
        assert!(!exchange.is_drained(), "it was not said yet");
        let (mut buffer, mut turns) = (BytesMut::new(), 0);
        loop {
            let before = buffer.len();
            turns += 1;
            if !exchange.write(Instant::now(), &mut buffer, before + 1_000) {
                break;
            }
        }
        assert!(turns > 1);
        assert!(!exchange.want_last());
        exchange.write(Instant::now(), &mut buffer, usize::MAX);
        let frames = frames(&buffer);
        assert_eq!(frames.len(), 501);
        assert_eq!(frames.last(), Some(&DataFrame::Last));
        exchange.last_heard();
        assert!(exchange.is_drained());
    }

    #[test]
    fn who_asks_without_reading_is_found_out() {
        let exchange = exchange(Side::Answers, Way::Link);
        for _ in 0..OUTBOX {
            exchange.say(DataFrame::LastHeard).expect("there is room");
        }
        exchange.say(DataFrame::LastHeard).expect_err("it does not read");
    }

    #[test]
    fn what_is_said_last_is_still_to_come_when_the_answers_have_filled_the_buffer() {
        let exchange = exchange(Side::Answers, Way::Link);
        exchange.again(cell(3, 0));
        assert!(exchange.want_last());
        let mut writes = 0;
        let mut buffer = BytesMut::new();
        let mut more = true;
        while more {
            let target = buffer.len() + 1;
            more = exchange.write(Instant::now(), &mut buffer, target);
            writes += 1;
            assert!(writes < 100, "it ends");
        }
        assert_eq!(frames(&buffer).last(), Some(&DataFrame::Last));
    }

    fn publication(number: u64, size: usize) -> Publication {
        Publication {
            topic: crate::model::id::TopicName::new("t").expect("a valid name"),
            known: number,
            trace: None,
            name: "m".into(),
            body: vec![0; size].into(),
        }
    }

    #[test]
    fn published_messages_and_doors_take_turns_and_each_keeps_its_order() {
        let exchange = exchange(Side::Calls, Way::Link);
        for number in 0..1_000 {
            assert_eq!(exchange.publish(publication(number, 100), 1 << 20), Queued::Yes);
        }
        exchange.again(cell(10_000, 0));
        let mut buffer = BytesMut::new();
        assert!(exchange.write(Instant::now(), &mut buffer, 64 << 10));
        let first = frames(&buffer);
        let published = first.iter().filter(|frame| matches!(frame, DataFrame::Published(_)));
        let published = published.count();
        assert!((50..200).contains(&published), "a turn, not everything: {published}");
        assert!(first.len() > published + 100, "the door has had its turns");
        while exchange.write(Instant::now(), &mut buffer, 64 << 10) {
            let target = buffer.len() + (64 << 10);
            exchange.write(Instant::now(), &mut buffer, target);
        }
        let numbers = frames(&buffer).into_iter().filter_map(|frame| match frame {
            DataFrame::Published(publication) => Some(publication.known),
            _ => None,
        });
        assert!(numbers.eq(0..1_000));
    }

    #[test]
    fn what_is_published_on_a_path_that_is_over_goes_nowhere() {
        let exchange = exchange(Side::Calls, Way::Link);
        let publish = || exchange.publish(publication(0, 600), 2_000);
        assert_eq!([publish(), publish(), publish()], [Queued::Yes, Queued::Yes, Queued::Full]);
        assert_eq!((exchange.end_published(), exchange.end_published()), (2, 0));
        assert_eq!(publish(), Queued::Over);
        let mut buffer = BytesMut::new();
        exchange.write(Instant::now(), &mut buffer, 1_000);
        assert_eq!(frames(&buffer), [DataFrame::Direct { number: 7 }]);
    }

    #[test]
    fn a_lane_that_is_used_no_more_is_told() {
        let exchange = exchange(Side::Calls, Way::Link);
        exchange.close(LaneId(5));
        let mut buffer = BytesMut::new();
        exchange.write(Instant::now(), &mut buffer, 1_000);
        assert_eq!(frames(&buffer).last(), Some(&DataFrame::Closed { lane: LaneId(5) }));
    }
}
