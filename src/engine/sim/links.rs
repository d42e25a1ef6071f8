//! Links that break, carry nothing or never come about.

use super::*;

#[test]
fn links_that_break_while_children_move_lose_nothing_and_hold_nothing_up() {
    for seed in seeds(40) {
        let mut world = cluster(seed, 2, 20);
        world.join();
        for _ in 0..6 {
            let wait = world.dice.ms(0, 300);
            world.run_for(wait);
            let other = world.dice.below(2) as usize;
            world.unlink(other, 2);
        }
        // Far less than the deadline of one move.
        world.run_for(5 * SECOND);
        world.check_end(true);
        assert!(!world.nodes[2].runtime.actors.is_empty(), "seed {seed}: nothing moved");
    }
}

#[test]
fn children_whose_link_to_their_place_is_broken_wait_for_it_and_then_go_at_once() {
    for seed in seeds(40) {
        let mut world = cluster(seed, 2, 20);
        world.join();
        let wait = world.dice.ms(0, 300);
        world.run_for(wait);
        let other = world.dice.below(2) as usize;
        world.cuts.extend([(other, 2), (2, other)]);
        world.unlink(other, 2);
        // Longer than all retries of a move take; the third node keeps both in the view.
        let wait = world.dice.ms(3_000, 6_000);
        world.run_for(wait);
        world.heal();
        world.run_for(2 * SECOND);
        world.check_end(true);
        for child in &world.children {
            let core = &world.nodes[0].engine.core;
            let (owner, ownership) = core.registry.owner(child).expect("somebody owns it");
            let belongs = core.belongs(ownership, &BTreeSet::new());
            assert_eq!(Some(owner.node), belongs, "seed {seed}: {child} did not go");
            assert_eq!(ownership.pinned, None, "seed {seed}: {child}");
        }
        // Once when the link broke, once when it stood again, and a few that were under way.
        for node in &world.nodes {
            for (child, attempts) in &node.attempts {
                assert!(attempts.len() <= 3, "seed {seed}: {child} {attempts:?}");
            }
        }
    }
}

#[test]
fn nobody_takes_a_detour_while_all_links_work_and_a_dead_member_costs_few_tries() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 5, 10);
        world.join();
        world.run_for(10 * SECOND);
        assert!(world.nodes.iter().all(|node| node.detours == 0), "seed {seed}");
        world.crash(1);
        world.run_for(10 * SECOND);
        for node in world.nodes.iter().filter(|node| node.alive) {
            assert!(node.paths.is_empty(), "seed {seed}: a path to nobody");
            assert!(node.detours <= 8, "seed {seed}: {} tries by four others", node.detours);
        }
    }
}

#[test]
fn children_move_and_nodes_leave_by_a_third_member_while_a_link_is_broken() {
    for seed in seeds(30) {
        let mut world = cluster(seed, 3, 6);
        world.cuts.extend([(0, 1), (1, 0)]);
        // Bytes are held or the connection is gone.
        if world.dice.one_in(2) {
            world.unlink(0, 1);
        }
        // Until nothing has come for so long that the link is passed by.
        world.run_for(2 * SECOND);
        let mut asked = Vec::new();
        for n in 0..6 {
            let child = world.children[n].clone();
            let to = world.nodes[n % 2].me.id;
            let timeout = Duration::from_secs(10);
            let from = world.dice.below(2) as usize;
            let id = world.request(from, Request::Migrate { child, to, forced: false, timeout });
            asked.push((from, id));
        }
        world.run_for(3 * SECOND);
        for (from, id) in asked {
            let reply = world.nodes[from].replies.get(&id);
            assert!(
                matches!(reply, Some(Reply::Migrated(MigrateOutcome::Moved { .. }))),
                "seed {seed}: {reply:?}"
            );
        }
        let leave = world.request(0, Request::Leave { timeout: Duration::from_secs(10) });
        world.run_for(8 * SECOND);
        let reply = world.nodes[0].replies.get(&leave);
        assert_eq!(reply, Some(&Reply::Left(Ok(()))), "seed {seed}");
        world.heal();
        world.run_for(3 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn a_link_that_swallows_all_words_is_closed_and_dialled_while_others_hear_the_node() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 3, 20);
        world.cuts.extend([(0, 2), (2, 0)]);
        world.run_for(8 * SECOND);
        for (from, to) in [(0, 2), (2, 0)] {
            let to = world.nodes[to].me.id;
            assert!(!world.nodes[from].engine.is_linked(to), "seed {seed}: n{from}");
            assert!(world.nodes[from].engine.view().member(to).is_some(), "seed {seed}: n{from}");
        }
        assert_eq!(look(&mut world, 0, 2, 1), 1, "seed {seed}");
        world.heal();
        world.run_for(10 * SECOND);
        assert!(world.nodes[0].engine.is_linked(world.nodes[2].me.id), "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn a_link_with_a_long_state_on_its_way_is_not_closed_and_one_that_swallows_everything_is() {
    for seed in seeds(10) {
        for swallows in [false, true] {
            let mut world = cluster(seed, 3, 20);
            let link = world.links[&(0, 2)];
            let takes = 8 * SECOND;
            if swallows {
                world.cuts.insert((0, 2));
            } else {
                world.carry_long_state(0, 2, takes);
            }
            let first = world.nodes[0].me.id;
            world.run_for(takes / 2);
            let works = world.nodes[2].engine.membership.link_works(first);
            assert!(!works, "seed {seed}: its words come all the same");
            world.run_for(takes / 2);
            assert_eq!(world.links.get(&(0, 2)) != Some(&link), swallows, "seed {seed}");
            world.heal();
            world.run_for(10 * SECOND);
            world.check_end(true);
            let is_counted = world.traffic.contains_key(&(link, 2));
            assert_eq!(is_counted, !swallows, "seed {seed}");
        }
    }
}

#[test]
fn two_members_whose_link_never_works_do_everything_by_others() {
    for seed in seeds(20) {
        let mut world = World::new(seed, 0);
        world.never_link(1, 2);
        for _ in 0..4 {
            world.join();
        }
        world.run_for(4 * SECOND);
        expect_start(&mut world, 1, 0..12);
        world.check_end(true);
        world.crash(3);
        world.run_for(4 * SECOND);
        world.check_end(false);
        expect_start(&mut world, 2, 12..15);
        world.request(0, Request::Leave { timeout: 20 * SECOND });
        // The two are left without anybody between them: each goes on as a cluster of its own.
        world.run_for(SECOND);
        world.calm = false;
        world.run_for(8 * SECOND);
        world.heal();
        world.run_for(20 * SECOND);
        world.check_end(false);
    }
}
