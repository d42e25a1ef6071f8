//! The lanes of one peer to children of this node, by the doors they lead to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::writes::Writes;
use crate::model::id::{ChildId, LaneId};

/// Bytes that are kept for the lanes of one peer, here and at their doors.
const KEPT: usize = 128 << 20;
/// What a lane costs to keep besides the id of its child.
const COST: usize = 1 << 10;

/// The lanes of one peer, one to each door. They outlive the path by which they come: on the next one
/// the peer may say that it has all replies of a lane, or uses it no more, and opens no session first.
///
/// A lane does not keep its door: a child that was stopped, or has moved on, would be remembered here
/// for as long as the peer has a reference to it.
pub(crate) struct PeerLanes<C>(Mutex<Lanes<C>>);

struct Lanes<C> {
    doors: HashMap<LaneId, (ChildId, Weak<C>)>,
    by_child: HashMap<ChildId, LaneId>,
    bytes: usize,
}

/// What the lane to a child costs to keep.
fn cost(child: &ChildId) -> usize {
    COST + child.as_str().len()
}

impl<C> Default for PeerLanes<C> {
    fn default() -> Self {
        Self(Mutex::new(Lanes { doors: HashMap::new(), by_child: HashMap::new(), bytes: 0 }))
    }
}

impl<C> PeerLanes<C> {
    fn lock(&self) -> MutexGuard<'_, Lanes<C>> {
        // A panic under a lock is a defect of ours; the others go on.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The door that a lane leads to. `None`: its `Open` was refused, or the door was forgotten, and
    /// what was not handled there refused; the lane says `Open` again when it knows better.
    pub(crate) fn door(&self, lane: LaneId) -> Option<Arc<C>> {
        self.lock().doors.get(&lane)?.1.upgrade()
    }

    /// The peer uses a lane no more. Gives the door that it led to.
    pub(crate) fn forget(&self, lane: LaneId) -> Option<Arc<C>> {
        let mut lanes = self.lock();
        let (child, cell) = lanes.doors.remove(&lane)?;
        lanes.by_child.remove(&child);
        lanes.bytes -= cost(&child);
        cell.upgrade()
    }

    /// The door of a child is forgotten: the peer's lane to it leads nowhere.
    pub(crate) fn lead_nowhere(&self, child: &ChildId) {
        let mut lanes = self.lock();
        if let Some(lane) = lanes.by_child.remove(child) {
            lanes.doors.remove(&lane);
            lanes.bytes -= cost(child);
        }
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().doors.is_empty()
    }
}

impl<C: Writes> PeerLanes<C> {
    /// A lane leads to this door from now on, and none of the peer's earlier ones does. `false`: there
    /// is no room for one more.
    pub(crate) fn lead(&self, lane: LaneId, cell: &Arc<C>) -> bool {
        let mut lanes = self.lock();
        let bytes = lanes.bytes + cost(cell.child());
        match lanes.by_child.get(cell.child()).copied() {
            None if bytes > KEPT => return false,
            None => lanes.bytes = bytes,
            // It comes late, by a path that is not used any more.
            Some(before) if before > lane => return true,
            Some(before) if before < lane => drop(lanes.doors.remove(&before)),
            _ => {}
        }
        lanes.by_child.insert(cell.child().clone(), lane);
        lanes.doors.insert(lane, (cell.child().clone(), Arc::downgrade(cell)));
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        delivery::Side,
        model::{frame::DataFrame, id::NodeRun},
    };

    struct Cell(ChildId);

    impl Writes for Cell {
        fn child(&self) -> &ChildId {
            &self.0
        }

        fn write(
            self: &Arc<Self>,
            _: Instant,
            _: Side,
            _: (NodeRun, u64),
            _: usize,
            _: &mut dyn FnMut(DataFrame),
        ) -> bool {
            false
        }
    }

    fn cell(child: usize) -> Arc<Cell> {
        Arc::new(Cell(ChildId::new(format!("c{child}")).expect("an id")))
    }

    #[test]
    fn lanes_are_bounded_by_the_doors_they_lead_to_and_given_back() {
        let lanes = PeerLanes::default();
        let first = cell(0);
        // A million lanes to one child are one.
        for lane in 0..1_000_000 {
            assert!(lanes.lead(LaneId(lane), &first));
        }
        assert!(lanes.door(LaneId(0)).is_none());
        let mut n = 0;
        let one_more = loop {
            n += 1;
            let next = cell(n);
            if !lanes.lead(LaneId(1_000_000 + n as u64), &next) {
                break next;
            }
        };
        assert!((KEPT / (COST + 8)..KEPT / COST).contains(&n), "{n}");
        assert!(!lanes.lead(LaneId(9_000_000), &one_more), "there is no room");
        assert!(lanes.lead(LaneId(9_000_001), &first), "a later lane takes the earlier one's");
        assert!(lanes.forget(LaneId(9_000_001)).is_some());
        assert!(lanes.forget(LaneId(9_000_001)).is_none());
        assert!(lanes.lead(LaneId(9_000_002), &one_more));
        assert!(!lanes.lead(LaneId(9_000_003), &first));
        lanes.lead_nowhere(&one_more.0);
        assert!(lanes.door(LaneId(9_000_002)).is_none());
        assert!(lanes.lead(LaneId(9_000_003), &first));
    }

    #[test]
    fn an_earlier_lane_that_opens_late_does_not_take_the_place_of_a_later_one() {
        let (lanes, door) = (PeerLanes::default(), cell(0));
        assert!(lanes.lead(LaneId(2), &door));
        assert!(lanes.lead(LaneId(1), &door), "it is for its door to refuse");
        assert!(lanes.door(LaneId(2)).is_some() && lanes.door(LaneId(1)).is_none());
    }

    #[test]
    fn a_lane_does_not_keep_its_door() {
        let (lanes, door) = (PeerLanes::default(), cell(0));
        assert!(lanes.lead(LaneId(1), &door));
        assert_eq!(Arc::strong_count(&door), 1);
        drop(door);
        assert!(lanes.door(LaneId(1)).is_none());
        lanes.forget(LaneId(1));
        assert!(lanes.is_empty());
    }
}
