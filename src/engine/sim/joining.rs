//! Nodes that come in, and what they know then.

use super::*;

#[test]
fn a_join_loses_nothing() {
    for seed in seeds(40) {
        let mut world = cluster(seed, 2, 20);
        world.faulty = seed % 2 == 0;
        world.join();
        world.run_for(4 * SECOND);
        world.faulty = false;
        world.run_for(3 * SECOND);
        world.check_end(true);
        if seed % 2 != 0 {
            assert!(!world.nodes[2].runtime.actors.is_empty(), "seed {seed}: nothing moved");
        }
    }
}

#[test]
fn a_newcomer_has_the_registry_at_once() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 3, 24);
        let joiner = world.join();
        // Less than the digests would need that find what was not sent.
        world.run_for(Duration::from_millis(200));
        assert!(world.nodes[joiner].engine.is_settled(), "seed {seed}");
    }
}

#[test]
fn a_node_is_synced_once_it_is_settled_and_stays_so_while_others_come_and_go() {
    let mut changing = 0;
    for seed in seeds(10) {
        let mut world = cluster(seed, 2, 20);
        let come = world.join();
        for step in 0..4_000 {
            if step == 1_000 {
                world.crash(1);
            }
            world.run_for(Duration::from_millis(2));
            let new = &world.nodes[come].engine;
            assert!(new.is_synced() || !new.is_settled(), "seed {seed}");
            assert!(step > 0 || !new.is_synced(), "seed {seed}: it has not come in yet");
            assert!(world.nodes[0].engine.is_synced(), "seed {seed}");
            changing += usize::from(!world.nodes[0].engine.is_settled());
        }
        assert!(world.nodes[come].engine.is_synced(), "seed {seed}");
    }
    // For a moment that is often shorter than a look.
    assert!(changing > 0, "no view was ever seen to change");
}

#[test]
fn a_first_node_that_comes_back_alone_is_not_synced_before_it_has_the_registry() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 3, 20);
        // Without seeds of its own it settles alone, until the others find it.
        world.crash(0);
        world.run_for(10 * SECOND);
        world.restart(0);
        let all = world.nodes[1].engine.registry().len();
        let mut joined = false;
        for _ in 0..3_000 {
            world.run_for(Duration::from_millis(1));
            let engine = &world.nodes[0].engine;
            joined |= engine.view().members.len() > 1;
            let is_complete = engine.registry().len() >= all;
            assert!(!joined || !engine.is_synced() || is_complete, "seed {seed}");
            assert!(world.nodes[1].engine.is_synced(), "seed {seed}: it was there all the time");
        }
        assert!(joined && world.nodes[0].engine.is_synced(), "seed {seed}");
    }
}

#[test]
fn a_node_that_was_declared_down_is_synced_again_when_it_has_settled() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 3, 20);
        let fenced = world.nodes[0].me.incarnation;
        let now = world.now;
        world.nodes[0].engine.handle(now, Event::Fenced { incarnation: fenced });
        assert!(!world.nodes[0].engine.is_synced(), "seed {seed}");
        world.drain(0);
        world.run_for(10 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn a_newcomer_that_reaches_one_member_only_is_in_and_holds_nothing_up() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 3, 9);
        world.never_link(1, 3);
        world.never_link(2, 3);
        world.join();
        let wait = world.dice.ms(0, 400);
        world.run_for(wait);
        expect_start(&mut world, 2, 9..12);
        world.run_for(2 * SECOND);
        world.check_end(true);
        expect_start(&mut world, 3, 12..15);
        world.crash(1);
        // A window, the verdict, the roll call.
        world.run_for(4 * SECOND);
        world.check_end(false);
        let leave = world.request(2, Request::Leave { timeout: 20 * SECOND });
        world.run_for(6 * SECOND);
        assert!(world.nodes[2].replies.contains_key(&leave), "seed {seed}: no answer");
        assert!(world.nodes[2].left, "seed {seed}: {:?}", world.nodes[2].replies[&leave]);
        world.check_end(false);
    }
}
