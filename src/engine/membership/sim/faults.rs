//! One sort of misfortune at a time, at random moments, in clusters of all sizes.

use super::*;

#[test]
fn a_mesh_forms_from_one_seed_and_breaking_links_bring_nobody_down() {
    for (seed, count) in seeds(60) {
        let mut world = World::formed(seed, count);
        for _ in 0..15 {
            let (a, b) = (world.pick(count), world.pick(count));
            if a != b {
                world.break_link(a, b);
            }
            let wait = world.chance.between(STEP, 2 * SECOND);
            world.run(wait);
        }
        world.run_until_equal(10 * SECOND);
        world.expect_nobody_down();
    }
}

#[test]
fn slow_links_bring_nobody_down() {
    for (seed, count) in seeds(30) {
        let mut world = World::formed(seed, count);
        world.delay = (MS, 900 * MS);
        world.run(30 * SECOND);
        world.expect_nobody_down();
    }
}

#[test]
fn a_killed_process_is_down_everywhere_within_a_second() {
    for (seed, count) in seeds(60) {
        let mut world = World::formed(seed, count);
        let victim = world.pick(count);
        world.kill(victim);
        let alive = world.alive();
        world.run_until_gone(victim, &alive, SECOND);
        world.run_until_equal(SECOND);
    }
}

#[test]
fn two_processes_killed_at_once_are_down_everywhere_within_seconds() {
    for (seed, _) in seeds(40) {
        let count = 3 + seed as usize % 4;
        let mut world = World::formed(seed, count);
        let first = world.pick(count);
        let second = (first + 1) % count;
        world.kill(first);
        world.kill(second);
        let alive = world.alive();
        world.run_until_gone(first, &alive, 4 * SECOND);
        world.run_until_gone(second, &alive, 4 * SECOND);
    }
}

#[test]
fn a_host_that_falls_silent_is_down_everywhere_within_seconds() {
    for (seed, count) in seeds(60) {
        let mut world = World::formed(seed, count);
        let victim = world.pick(count);
        world.switch_off(victim);
        let alive = world.alive();
        // Two nodes wait twice the window: the survivor cannot know that it is not the one cut off.
        let limit = if count == 2 { 7 * SECOND } else { 5 * SECOND };
        world.run_until_gone(victim, &alive, limit);
        world.run_until_equal(SECOND);
    }
}

#[test]
fn a_process_that_restarts_at_once_is_one_that_died_and_one_that_joined() {
    for (seed, count) in seeds(60) {
        let mut world = World::formed(seed, count);
        let victim = world.pick(count);
        world.clear_events();
        world.kill(victim);
        let wait = world.chance.between(STEP, SECOND);
        world.run(wait);
        world.restart(victim);
        world.run_until_equal(20 * SECOND);
        if world.nodes[victim].events.contains(&HubEvent::Founded) {
            world.fail("it founded a cluster beside the one that is there");
        }
        let id = world.nodes[victim].id;
        for index in (0..count).filter(|index| *index != victim) {
            let events = &world.nodes[index].events;
            let died = events.iter().position(|e| *e == HubEvent::NodeDown { node: id });
            let came = |e: &HubEvent| matches!(e, HubEvent::NodeJoined { node, .. } if *node == id);
            let came = events.iter().rposition(came);
            if died.is_none() || died > came {
                world.fail("the old run did not go before the new one came");
            }
        }
    }
}

#[test]
fn a_cut_of_one_link_or_of_one_way_of_it_brings_nobody_down() {
    for (seed, _) in seeds(60) {
        let count = 3 + seed as usize % 3;
        let mut world = World::formed(seed, count);
        let a = world.pick(count);
        let b = (a + 1 + world.pick(count - 1)) % count;
        if seed % 2 == 0 {
            world.cut(a, b);
        } else {
            world.cuts.insert((a, b));
        }
        let break_too = world.pick(2) == 0;
        if break_too {
            world.break_link(a, b);
        }
        world.run(40 * SECOND);
        world.expect_nobody_down();
        world.heal();
        world.run_until_equal(15 * SECOND);
        world.expect_nobody_down();
    }
}

#[test]
fn a_node_that_was_cut_off_heals_and_brings_no_other_down() {
    for (seed, _) in seeds(100) {
        let count = 3 + seed as usize % 4;
        let mut world = World::formed(seed, count);
        world.clear_events();
        let lonely = world.pick(count);
        world.split(&[lonely]);
        let wait = world.chance.between(SECOND, 40 * SECOND);
        world.run(wait);
        world.heal();
        world.run_until_equal(30 * SECOND);
        world.run(5 * SECOND);
        world.run_until_equal(SECOND);
        let id = world.nodes[lonely].id;
        let wronged = |e: &HubEvent| matches!(e, HubEvent::NodeDown { node } if *node != id);
        for index in (0..count).filter(|index| *index != lonely) {
            if world.nodes[index].events.iter().any(wronged) {
                world.fail("the verdict of a lonely node brought another down");
            }
        }
    }
}

#[test]
fn those_who_came_later_find_who_was_cut_off_when_all_who_knew_it_have_crashed() {
    for (seed, _) in seeds(40) {
        let count = 3 + seed as usize % 3;
        let lonely = count - 1;
        let mut world = World::formed(seed, count);
        world.split(&[lonely]);
        let others: Vec<usize> = (0..lonely).collect();
        world.run_until_gone(lonely, &others, 20 * SECOND);
        // Some come before the last that knew it has gone, and are told by those who were told.
        let mut later = Vec::new();
        for crashes in [world.pick(2), lonely] {
            let index = world.add();
            world.cut(index, lonely);
            world.seek_a_seed(index);
            world.run_until("it is not in", 20 * SECOND, |world| world.is_in(index));
            world.run(2 * SECOND);
            later.push(index);
            (0..crashes).for_each(|index| world.kill(index));
            world.run(10 * SECOND);
            if crashes < lonely && world.pick(2) == 0 {
                break;
            }
        }
        (0..lonely).for_each(|index| world.kill(index));
        world.run(20 * SECOND);
        world.heal();
        world.run_until_equal(30 * SECOND);
        let found = world.nodes[lonely].membership.view().members.len();
        assert_eq!(found, 1 + later.len(), "seed {seed}");
    }
}

#[test]
fn two_nodes_that_lose_sight_of_each_other_for_less_than_two_windows_stay_together() {
    for seed in 0..40 {
        let mut world = World::formed(seed, 2);
        world.cut(0, 1);
        let wait = world.chance.between(3 * SECOND, 4 * SECOND);
        world.run(wait);
        world.heal();
        world.run_until_equal(5 * SECOND);
        world.expect_nobody_down();
    }
}

#[test]
fn a_node_that_leaves_is_neither_suspected_nor_down() {
    for (seed, count) in seeds(40) {
        let mut world = World::formed(seed, count);
        world.clear_events();
        let leaver = world.pick(count);
        let id = world.nodes[leaver].id;
        let now = world.now;
        world.nodes[leaver].membership.start_leaving(now);
        world.drain(leaver);
        world.run(2 * SECOND);
        let now = world.now;
        world.nodes[leaver].membership.bye(now);
        world.drain(leaver);
        world.run(SECOND / 2);
        world.kill(leaver);
        world.run(5 * SECOND);
        world.run_until_equal(SECOND);
        let expected = [HubEvent::NodeLeaving { node: id }, HubEvent::NodeLeft { node: id }];
        for index in (0..count).filter(|index| *index != leaver) {
            if world.nodes[index].events != expected {
                world.fail("a leave looked like something else");
            }
        }
        world.restart(leaver);
        world.run_until_equal(10 * SECOND);
    }
}

#[test]
fn both_sides_of_a_split_go_on_and_become_one_again() {
    for (seed, _) in seeds(100) {
        let count = 4 + seed as usize % 4;
        let mut world = World::formed(seed, count);
        let side: Vec<usize> = (0..count).filter(|_| world.chance.below(2) == 0).collect();
        world.split(&side);
        let wait = world.chance.between(SECOND, 30 * SECOND);
        world.run(wait);
        world.heal();
        world.run_until_equal(30 * SECOND);
    }
}

#[test]
fn a_paused_node_comes_back_and_opens_its_gates_only_as_a_life_that_counts() {
    for (seed, count) in seeds(150) {
        let mut world = World::formed(seed, count);
        let wait = world.chance.between(STEP, 2 * SECOND);
        world.run(wait);
        let sleeper = world.pick(count);
        let longest = if seed % 2 == 0 { 4 * SECOND } else { 12 * SECOND };
        let time = world.chance.between(SECOND, longest);
        world.pause(sleeper, time);
        let end = world.now + time + 30 * SECOND;
        let id = world.nodes[sleeper].id;
        let mut woke = None;
        while world.now < end {
            world.step();
            let awake = world.nodes[sleeper].paused_until.is_none();
            // One step of life tells it that it slept.
            let slept_well = woke.is_some_and(|at| world.now > at);
            if awake && woke.is_none() {
                woke = Some(world.now);
            }
            let node = &world.nodes[sleeper];
            let life = node.membership.incarnation();
            let others = (0..count).filter(|index| *index != sleeper);
            let mut fenced = others.map(|i| world.nodes[i].membership.fenced(id, life));
            if awake && slept_well && node.gates && fenced.any(|fenced| fenced) {
                world.fail("gates are open in a life that is over");
            }
        }
        world.run_until_equal(SECOND);
    }
}
