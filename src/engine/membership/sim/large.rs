//! Meshes so large that a node does not say to all with each heartbeat that it lives.

use super::*;

/// So many nodes say to a neighbour once a heartbeat that they live, to others once in eleven.
const MANY: usize = 50;
/// On the other side of the ring from the first node.
const FAR: usize = 25;

fn formed(seed: u64, count: usize) -> World {
    let mut world = World::formed(seed, count);
    world.run(2 * SECOND);
    world.clear_events();
    world
}

fn link_works(world: &World, from: usize, to: usize) -> bool {
    world.nodes[from].membership.link_works(world.nodes[to].id)
}

#[test]
fn a_large_mesh_says_little_while_nothing_happens_and_suspects_nobody() {
    let mut world = formed(1, MANY);
    world.nodes.iter_mut().for_each(|node| node.said = 0);
    world.run(20 * SECOND);
    for node in &world.nodes {
        assert!(node.events.is_empty(), "{:?}", node.events);
        assert!(node.said <= 21 * 11, "{} words in 20 heartbeats", node.said);
    }
}

#[test]
fn a_host_that_falls_silent_in_a_large_mesh_is_down_everywhere_after_two_windows() {
    let mut world = formed(2, MANY);
    world.switch_off(7);
    let alive = world.alive();
    // A window until its neighbours do not hear it, another one for those who had no word to expect,
    // and heartbeats in which they tell.
    world.run_until_gone(7, &alive, 9 * SECOND);
    world.run_until_equal(SECOND);
    let id = world.nodes[7].id;
    let other = |event: &HubEvent| matches!(event, HubEvent::NodeDown { node } if *node != id);
    assert!(!world.nodes.iter().any(|node| node.events.iter().any(other)));
}

#[test]
fn a_silent_link_of_a_large_mesh_is_found_out_at_once_if_it_is_used_and_brings_nobody_down() {
    for is_used in [true, false] {
        for both in [true, false] {
            let mut world = formed(3, MANY);
            // Just after each has told the other.
            world.run(world.settings.heartbeat / 4);
            world.cuts.insert((FAR, 0));
            if both {
                world.cuts.insert((0, FAR));
            }
            let far = world.nodes[FAR].id;
            let mut found = None;
            for step in 0..(12 * SECOND.as_millis() / STEP.as_millis()) {
                if is_used && step % 25 == 0 {
                    let now = world.now;
                    world.nodes[0].membership.in_use(now, [far]);
                }
                world.step();
                let suspects = |event: &HubEvent| matches!(event, HubEvent::NodeSuspected { .. });
                if world.nodes.iter().any(|node| node.events.iter().any(suspects)) {
                    let after = STEP * step as u32;
                    world.fail(&format!("suspects, used {is_used}, both {both}, {after:?}"));
                }
                if !link_works(&world, 0, FAR) {
                    found = found.or(Some(STEP * step as u32));
                }
            }
            // Two thirds of a window after what was to come next.
            let limit = if is_used { 4 * SECOND } else { 9 * SECOND };
            assert!(found.is_some_and(|after| after <= limit), "{is_used} {both}: {found:?}");
            world.expect_nobody_down();
            world.heal();
            world.run_until("the link does not work again", 20 * SECOND, |world| {
                link_works(world, 0, FAR) && link_works(world, FAR, 0)
            });
        }
    }
}

#[test]
fn nodes_of_a_large_mesh_crash_restart_pause_and_leave_as_in_a_small_one() {
    for seed in 0..2 {
        let mut world = formed(seed, 40);
        world.kill(5);
        let alive = world.alive();
        world.run_until_gone(5, &alive, 3 * SECOND);
        world.restart(5);
        world.run_until_equal(10 * SECOND);
        world.pause(9, 2 * SECOND);
        world.run(4 * SECOND);
        world.run_until_equal(10 * SECOND);
        world.pause(20, 12 * SECOND);
        world.run(13 * SECOND);
        world.run_until_equal(20 * SECOND);
        let side: Vec<usize> = (0..40).filter(|_| world.chance.below(2) == 0).collect();
        world.split(&side);
        let wait = world.chance.between(SECOND, 15 * SECOND);
        world.run(wait);
        world.heal();
        world.run_until_equal(40 * SECOND);
    }
}

#[test]
fn a_node_that_reaches_a_large_mesh_by_one_other_alone_is_heard_though_words_are_lost_on_the_way() {
    for seed in 0..4 {
        let mut world = formed(seed, 40);
        for other in 2..40 {
            world.cut(0, other);
            world.break_link(0, other);
        }
        world.run(20 * SECOND);
        world.run_until_equal(10 * SECOND);
        world.clear_events();
        for _ in 0..8 {
            // What is on its way over it is lost, and it stands again after a moment.
            world.break_link(0, 1);
            let wait = world.chance.between(SECOND, 5 * SECOND);
            world.run(wait);
        }
        world.expect_nobody_down();
        // Who missed a word hears the next one soon.
        world.run_until_equal(5 * SECOND);
        world.run(20 * SECOND);
        world.run_until_equal(SECOND);
        world.heal();
        world.run_until("a link does not work again", 20 * SECOND, |world| {
            (1..40).all(|other| link_works(world, 0, other) && link_works(world, other, 0))
        });
    }
}
