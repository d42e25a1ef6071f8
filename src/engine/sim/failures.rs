//! Nodes that die, restart, pause, crash over and over, or say nothing.

use super::*;

#[test]
fn a_member_that_says_nothing_but_that_it_lives_holds_the_others_up_for_two_windows_at_most() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 3, 12);
        world.calm = false;
        // It is taken in, and never says that it is: from then on it holds the others up.
        world.mute.insert(3);
        world.join();
        let (mut unsettled, mut longest) = (Duration::ZERO, Duration::ZERO);
        let step = Duration::from_millis(50);
        for _ in 0..600 {
            world.run_for(step);
            let settled = (0..3).all(|index| world.nodes[index].engine.is_settled());
            unsettled = if settled { Duration::ZERO } else { unsettled + step };
            longest = longest.max(unsettled);
        }
        // Windows of 600 ms, and a heartbeat each until it is looked at by all, voted on, and taken in
        // again by all.
        assert!(longest > Duration::ZERO, "seed {seed}: it was never in");
        assert!(longest <= Duration::from_millis(1_800), "seed {seed}: {longest:?}");
        world.mute.clear();
        world.run_for(45 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn children_of_a_killed_node_start_again_once_each() {
    for seed in seeds(40) {
        let mut world = cluster(seed, 3, 20);
        world.crash(1);
        world.run_for(6 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn a_node_that_restarts_at_once_is_a_new_run() {
    for seed in seeds(40) {
        let mut world = cluster(seed, 3, 20);
        world.crash(1);
        let wait = world.dice.ms(1, 900);
        world.run_for(wait);
        world.restart(1);
        world.run_for(10 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn after_a_split_both_states_are_in_the_one_that_goes_on() {
    for seed in seeds(60) {
        let mut world = cluster(seed, 3, 12);
        world.calm = false;
        let side = BTreeSet::from([world.dice.below(3) as usize]);
        world.cut(&side);
        let wait = world.dice.ms(500, 12_000);
        world.run_for(wait);
        world.heal();
        world.run_for(25 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn a_pause_longer_than_the_window_destroys_nothing() {
    for seed in seeds(40) {
        let mut world = cluster(seed, 3, 12);
        world.calm = false;
        let index = world.dice.below(3) as usize;
        world.nodes[index].paused_until = Some(world.now + 5 * SECOND);
        world.run_for(30 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn a_node_that_crashes_over_and_over_leaves_the_others_their_children() {
    for seed in seeds(12) {
        let mut world = cluster(seed, 3, 12);
        for life in 0..12 {
            world.crash(2);
            let wait = world.dice.ms(1, 300);
            world.run_for(wait);
            world.restart(2);
            let wait = world.dice.ms(1, 900);
            world.run_for(wait);
            if life % 4 == 3 {
                expect_start(&mut world, life % 2, 12 + life / 4..13 + life / 4);
            }
        }
        world.run_for(6 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn a_mute_member_is_given_up_and_its_children_run_elsewhere() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 4, 12);
        world.calm = false;
        let mute = 1 + world.dice.below(3) as usize;
        for other in (0..4).filter(|other| *other != mute) {
            world.cuts.insert((mute, other));
        }
        // A newcomer comes meanwhile.
        let wait = world.dice.ms(0, 900);
        world.run_for(wait);
        let joiner = world.join();
        world.cuts.insert((mute, joiner));
        world.run_for(4 * SECOND);
        let id = world.nodes[mute].me.id;
        let healthy: Vec<usize> = (0..5).filter(|index| *index != mute).collect();
        for index in &healthy {
            let engine = &world.nodes[*index].engine;
            assert!(engine.view().member(id).is_none(), "seed {seed}: n{index} waits for it");
            assert_eq!(engine.view().members.len(), 4, "seed {seed}: n{index}");
            assert!(engine.is_settled(), "seed {seed}: n{index}");
        }
        for child in &world.children {
            let runs = |index: &&usize| world.nodes[**index].runtime.actors.contains_key(child);
            assert_eq!(healthy.iter().filter(runs).count(), 1, "seed {seed}: {child}");
        }
        world.heal();
        world.run_for(25 * SECOND);
        world.check_end(false);
    }
}
