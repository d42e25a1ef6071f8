use std::time::Instant;

use super::{child_of, owned, run};
use crate::{
    engine::{
        children::{
            moving::{Move, Plan},
            pacing::Pacing,
        },
        handover::SourceStage,
    },
    model::{child::Epoch, id::ChildId},
};

fn moving(bytes: u64, stage: SourceStage) -> Move {
    let now = Instant::now();
    let ownership = owned(Epoch { term: 1, attempt: 1 });
    let (with_state, forced, waiters, waits) = (true, false, Vec::new(), None);
    let plan = Plan { to: run(2), ownership, with_state, forced, waiters, waits };
    let mut moving = Move::new(plan, now);
    moving.set_bytes(bytes);
    moving.enter(stage, now);
    moving
}

#[test]
fn so_many_moves_are_allowed_as_have_ended_well_and_never_more_than_the_settings_say() {
    for (ended, most, expected) in
        [(0, 512, 16), (0, 4, 4), (1, 512, 17), (100, 512, 116), (1_000, 512, 512), (9, 20, 20)]
    {
        let mut pacing = Pacing::default();
        (0..ended).for_each(|_| pacing.succeeded(most));
        (0..2_000).for_each(|n| pacing.belongs_elsewhere(&child_of(n)));
        let begun = (0..).take_while(|moves| pacing.next(*moves, most).is_some()).count();
        assert_eq!(begun, expected, "after {ended} of at most {most}");
    }
}

#[test]
fn who_was_asked_for_goes_first() {
    let mut pacing = Pacing::default();
    pacing.belongs_elsewhere(&child_of(1));
    pacing.ask(&child_of(2));
    assert_eq!(pacing.next(0, 1), Some(child_of(2)));
    assert_eq!(pacing.next(0, 1), Some(child_of(1)));
    assert_eq!(pacing.next(0, 1), None);
}

#[test]
fn states_go_in_the_order_in_which_they_were_frozen_while_there_is_room() {
    let sizes = [40, 50, 60, 5, 0, 1];
    let size = |child: &ChildId| {
        sizes.iter().enumerate().find(|(n, _)| child_of(*n) == *child).map(|(_, size)| *size)
    };
    let mut pacing = Pacing::default();
    (0..sizes.len()).for_each(|n| pacing.wait_for_room(&child_of(n)));
    let sent = |pacing: &mut Pacing| -> Vec<ChildId> {
        std::iter::from_fn(|| pacing.next_to_send(100, size)).collect()
    };
    // The third would be too much, and small ones behind it do not overtake it.
    assert_eq!(sent(&mut pacing), [0, 1].map(child_of));
    assert_eq!(pacing.bytes(), 90);
    pacing.ended(&child_of(1), &moving(50, SourceStage::Committed));
    assert_eq!(sent(&mut pacing), [child_of(2)]);
    pacing.ended(&child_of(0), &moving(40, SourceStage::Sent));
    assert_eq!(sent(&mut pacing), [3, 4, 5].map(child_of));
    assert_eq!(pacing.bytes(), 66);
}

#[test]
fn a_state_that_is_larger_than_all_room_goes_alone() {
    let mut pacing = Pacing::default();
    pacing.wait_for_room(&child_of(1));
    pacing.wait_for_room(&child_of(2));
    assert_eq!(pacing.next_to_send(100, |_| Some(1_000)), Some(child_of(1)));
    assert_eq!(pacing.next_to_send(100, |_| Some(1_000)), None);
    pacing.ended(&child_of(1), &moving(1_000, SourceStage::Sent));
    assert_eq!(pacing.bytes(), 0);
    assert_eq!(pacing.next_to_send(100, |_| Some(1_000)), Some(child_of(2)));
}

#[test]
fn a_move_that_is_over_before_it_was_sent_gives_its_place_back_and_no_bytes() {
    let mut pacing = Pacing::default();
    for n in 0..3 {
        pacing.wait_for_room(&child_of(n));
    }
    assert_eq!(pacing.next_to_send(100, |_| Some(60)), Some(child_of(0)));
    pacing.ended(&child_of(1), &moving(60, SourceStage::Frozen));
    assert_eq!(pacing.bytes(), 60);
    pacing.ended(&child_of(0), &moving(60, SourceStage::Sent));
    assert_eq!(pacing.next_to_send(100, |_| Some(60)), Some(child_of(2)));
    // One whose move is gone keeps nobody waiting.
    pacing.ended(&child_of(2), &moving(60, SourceStage::Sent));
    pacing.wait_for_room(&child_of(3));
    pacing.wait_for_room(&child_of(4));
    let size = |child: &ChildId| (*child == child_of(4)).then_some(7);
    assert_eq!(pacing.next_to_send(100, size), Some(child_of(4)));
    assert_eq!(pacing.bytes(), 7);
}

#[test]
fn who_waits_for_a_way_has_its_turn_when_there_is_one_or_every_way_is_asked_anew() {
    let mut pacing = Pacing::default();
    pacing.waits_for_way(run(2), &child_of(1));
    pacing.waits_for_way(run(2), &child_of(2));
    pacing.waits_for_way(run(3), &child_of(3));
    assert_eq!(pacing.way_found(run(2)), [1, 2].map(child_of).into());
    assert!(pacing.way_found(run(2)).is_empty(), "they were given");
    pacing.forget_ways();
    assert!(pacing.way_found(run(3)).is_empty());
}
