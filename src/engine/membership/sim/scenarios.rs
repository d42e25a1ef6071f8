//! Joining and parting, in exact steps that chance would miss.

use super::*;

/// Two windows and a second.
const LIVE: Duration = Duration::from_secs(7);

/// So many members that have formed, settle with each other, and are linked by what is not cut.
fn members(seed: u64, count: usize) -> World {
    let mut world = World::formed(seed, count);
    world.settling = Settling::Together;
    world.clear_events();
    world
}

#[test]
fn a_joiner_comes_in_by_whatever_links_it_has() {
    for (seed, peers) in [&[0][..], &[2], &[0, 2], &[1, 2], &[0, 1, 2]].into_iter().enumerate() {
        let mut world = members(seed as u64, 3);
        let first = world.add_beside(peers);
        world.run_until("it is not in", LIVE, |world| world.is_in(first));
        world.run_until_good(LIVE);
        // One that is linked with a joiner alone, beside it.
        let second = world.add_beside(&[first]);
        world.run_until("it is not in", LIVE, |world| world.is_in(second));
        world.run_until_good(LIVE);
        world.expect_nobody_down();
    }
}

#[test]
fn joiners_in_a_line_and_at_two_members_come_in_together() {
    for seed in 0..20 {
        let mut world = members(seed, 2);
        // Words come just before and just after what is waited for.
        world.is_mean = seed >= 10;
        let first = world.add_beside(&[0]);
        world.add_beside(&[1]);
        world.add_beside(&[first]);
        world.run(if world.is_mean { 10 * SECOND } else { 2 * SECOND });
        world.is_mean = false;
        world.run_until_good(LIVE);
        world.expect_nobody_down();
        let all = world.nodes[0].membership.view().members.len();
        assert_eq!(all, 5, "seed {seed}");
    }
}

/// So many nodes that are linked by these pairs alone; these of them found clusters.
fn beginning(seed: u64, count: usize, links: &[(usize, usize)], founders: &[usize]) -> World {
    let mut world = World::new(seed, 0);
    world.settling = Settling::Together;
    world.is_mean = seed % 2 == 1;
    for _ in 0..count {
        let index = world.add();
        world.nodes[index].wants.clear();
    }
    for a in 0..count {
        for b in 0..a {
            if links.contains(&(a, b)) || links.contains(&(b, a)) {
                let peer = world.nodes[b].id;
                world.nodes[a].wants.insert(peer);
            } else {
                world.cut(a, b);
            }
        }
    }
    for founder in founders {
        world.tell(*founder, Input::Seed(0, SeedOutcome::Itself));
    }
    world
}

#[test]
fn nodes_that_begin_in_a_line_or_a_star_become_one_cluster() {
    let line: &[(usize, usize)] = &[(0, 1), (1, 2), (2, 3), (3, 4)];
    let star: &[(usize, usize)] = &[(2, 0), (2, 1), (2, 3), (2, 4)];
    for seed in 0..12 {
        let links = [line, star][seed as usize / 2 % 2];
        let founder = seed as usize / 4;
        let mut world = beginning(seed, 5, links, &[founder]);
        world.run_until("nobody founds", LIVE, |world| {
            !world.nodes[founder].membership.is_waiting()
        });
        world.run_until("they are not all in", 4 * LIVE, |world| {
            world.nodes.iter().all(|node| node.membership.view().members.len() == 5)
        });
        world.run_until_good(LIVE);
        world.expect_nobody_down();
    }
}

#[test]
fn two_founders_that_only_a_joiner_between_them_reaches_become_one_cluster_with_it() {
    for seed in 0..20 {
        let mut world = beginning(seed, 3, &[(0, 2), (1, 2)], &[0, 1]);
        if seed % 4 < 2 {
            // It finds the second when it is in with the first.
            world.cut(1, 2);
            world.run_until("it is not in", 2 * LIVE, |world| world.is_in(2));
            world.heal();
            world.cut(0, 1);
        }
        world.run_until("they are not one", 4 * LIVE, |world| {
            world.nodes.iter().all(|node| node.membership.view().members.len() == 3)
        });
        world.run_until_good(LIVE);
        world.expect_nobody_down();
    }
}

#[test]
fn a_direction_that_fails_at_any_moment_of_a_join_parts_nobody() {
    // Which of the joiner's links, which direction, and when.
    for case in 0..18_u64 {
        let (peer, to_joiner, moment) = (case as usize % 3, case / 3 % 2 == 0, case / 6);
        let mut world = members(case, 3);
        let joiner = world.add_beside(&[0, 1, 2]);
        let cut = if to_joiner { (peer, joiner) } else { (joiner, peer) };
        match moment {
            0 => {}
            1 => world.run_until("nobody hears it", LIVE, |world| {
                world.alive().iter().any(|index| {
                    world.nodes[*index].membership.joiners().len() == 1 && *index != joiner
                })
            }),
            _ => world.run_until("it is not in", LIVE, |world| world.is_in(joiner)),
        }
        world.cuts.insert(cut);
        world.run(2 * SECOND);
        world.run_until_good(2 * LIVE);
        world.expect_nobody_down();
        world.run(20 * SECOND);
        world.expect_nobody_down();
        world.heal();
        world.run_until_good(2 * LIVE);
    }
}

#[test]
fn a_joiner_that_dies_after_any_word_holds_nobody_up() {
    for words in 0..40 {
        let mut world = members(words as u64, 2);
        world.step = 2 * MS;
        let peers = [&[0][..], &[0, 1]][words % 2];
        let joiner = world.add_beside(peers);
        world.nodes[joiner].words_left = Some(words);
        world.run_until("it says more", 40 * SECOND, |world| !world.nodes[joiner].alive);
        world.step = STEP;
        if words % 3 == 0 {
            world.switch_off(joiner);
        }
        world.run_until_good(LIVE);
        world.restart(joiner);
        let wanted: Vec<NodeId> = peers.iter().map(|peer| world.nodes[*peer].id).collect();
        world.nodes[joiner].wants.extend(wanted);
        world.run_until("it is not in", 2 * LIVE, |world| world.is_in(joiner));
        world.run_until_good(LIVE);
        world.expect_together(&[0, 1]);
    }
}

#[test]
fn a_hundred_lives_that_crash_one_after_the_other_part_nobody_and_leave_nothing_behind() {
    let heartbeat = Settings::default().heartbeat;
    let window = Settings::default().suspicion_window();
    for (seed, latency) in [MS, heartbeat, window - MS, window + MS].into_iter().enumerate() {
        let mut world = members(seed as u64, 3);
        let joiner = world.add_beside(&[0, 1]);
        // The members stay quick; only the joiner is far away.
        world.far.insert(joiner, latency);
        for _ in 0..100 {
            // From before its first word arrives until after the answer to the second.
            let time = world.chance.between(MS, 3 * latency + 400 * MS);
            world.run(time);
            world.kill(joiner);
            if world.pick(3) > 0 {
                let wait = world.chance.between(MS, 300 * MS);
                world.run(wait);
            }
            world.restart(joiner);
        }
        world.expect_together(&[0, 1, 2]);
        world.far.clear();
        world.run_until_good(2 * LIVE);
        world.run(SECOND);
        for node in &world.nodes {
            assert_eq!(node.membership.status_len(), 0, "votes on lives that are over");
        }
    }
}

#[test]
fn latencies_around_every_deadline_bring_no_life_back() {
    let heartbeat = Settings::default().heartbeat;
    let window = Settings::default().suspicion_window();
    let around = [heartbeat, window];
    let latencies = around.into_iter().flat_map(|time| [time - MS, time, time + MS]);
    for (seed, latency) in latencies.enumerate() {
        let mut world = members(seed as u64, 3);
        world.delay = (latency, latency);
        world.run(30 * SECOND);
        if latency < 2 * heartbeat {
            world.expect_nobody_down();
        }
        world.delay = (MS, 30 * MS);
        world.run(10 * SECOND);
        world.run_until_good(4 * LIVE);
    }
}

#[test]
fn words_just_before_and_just_after_each_deadline_part_nobody() {
    for seed in 0..20 {
        let mut world = members(seed, 3);
        world.is_mean = true;
        for round in 0..6 {
            let peers = [&[0][..], &[0, 1], &[2]][round % 3];
            let joiner = world.add_beside(peers);
            let wait = world.chance.between(STEP, 5 * SECOND);
            world.run(wait);
            match world.pick(3) {
                0 => world.kill(joiner),
                1 => world.leave(joiner),
                _ => world.nodes[joiner].mute = true,
            }
            let wait = world.chance.between(STEP, 5 * SECOND);
            world.run(wait);
        }
        world.expect_together(&[0, 1, 2]);
        world.is_mean = false;
        world.run(SECOND);
        world.run_until_good(LIVE);
    }
}

#[test]
fn a_mute_joiner_never_comes_in_and_one_that_falls_mute_is_out_again() {
    for seed in 0..6 {
        let mut world = members(seed, 3);
        let joiner = world.add_beside(&[0, 1]);
        world.nodes[joiner].mute = true;
        for _ in 0..400 {
            world.step();
            if world.is_in(joiner) {
                world.fail("a node that says nothing is a member");
            }
        }
        world.nodes[joiner].mute = false;
        world.run_until("it is not in", 2 * LIVE, |world| world.is_in(joiner));
        // Between conclude and adopt, or after all have it.
        if seed % 2 == 0 {
            world.run_until_good(LIVE);
        }
        world.nodes[joiner].mute = true;
        world.run_until_good(LIVE);
        world.expect_together(&[0, 1, 2]);
    }
}

#[test]
fn a_mute_member_holds_up_a_join_for_two_windows_at_most() {
    for seed in 0..6 {
        let mut world = members(seed, 3);
        world.nodes[2].mute = true;
        let wait = world.chance.between(STEP, 2 * SECOND);
        world.run(wait);
        let joiner = world.add_beside(&[0, 1]);
        world.run_until("it is not in", LIVE, |world| world.is_in(joiner));
        world.run_until_good(LIVE);
        world.expect_together(&[0, 1]);
        world.nodes[2].mute = false;
        world.run(SECOND);
        world.run_until_good(2 * LIVE);
        assert_eq!(world.nodes[0].membership.view().members.len(), 4, "seed {seed}");
    }
}

#[test]
fn two_members_that_hold_each_other_mute_do_not_answer_each_other_for_ever() {
    let mut world = members(1, 3);
    let now = world.now;
    for (index, other) in [(0, 1), (1, 0)] {
        let run = world.nodes[other].membership.me().run();
        world.nodes[index].membership.is_mute(now, run);
        world.drain(index);
    }
    world.nodes.iter_mut().for_each(|node| node.said = 0);
    world.run(20 * SECOND);
    for node in &world.nodes {
        // Over the link, to try it, and by the third, which passes it on.
        assert!(node.said <= 21 * 8, "{} words in 20 heartbeats", node.said);
    }
}

#[test]
fn a_member_or_the_concluder_that_dies_in_the_middle_of_a_join_holds_nobody_up() {
    for seed in 0..24 {
        let mut world = members(seed, 3);
        world.step = MS;
        let joiner = world.add_beside(&[0, 1, 2]);
        world.run_until("it is not in", LIVE, |world| world.is_in(joiner));
        let id = world.nodes[joiner].id;
        let has = |index: &usize| world.nodes[*index].membership.view().member(id).is_some();
        let (have, lack): (Vec<usize>, Vec<usize>) = (0..3).partition(has);
        let victim = if seed % 2 == 0 { have[0] } else { lack.first().copied().unwrap_or(2) };
        if seed % 4 < 2 {
            world.kill(victim);
        } else {
            world.switch_off(victim);
        }
        world.step = STEP;
        world.run_until_good(LIVE);
        let healthy: Vec<usize> = (0..4).filter(|index| *index != victim).collect();
        world.expect_together(&healthy);
    }
}

#[test]
fn a_joiner_that_is_cut_off_right_after_it_was_taken_in_waits_again_and_fences_nobody() {
    for seed in 0..20 {
        let mut world = members(seed, 3);
        world.step = MS;
        let mut joiners = vec![world.add_beside(&[0, 1, 2])];
        if seed % 2 == 1 {
            joiners.push(world.add_beside(&[0, 1, 2, 3]));
        }
        // It knows that it is in, and has not settled.
        let first = joiners[0];
        world.run_until("it is not in", LIVE, |world| !world.nodes[first].membership.is_waiting());
        let mut all = joiners.iter();
        let was_proven = all.any(|index| world.nodes[*index].membership.is_proven());
        world.split(&joiners);
        world.step = STEP;
        world.run(LIVE);
        for joiner in joiners.iter().filter(|_| !was_proven) {
            let node = &world.nodes[*joiner].membership;
            if !node.is_waiting() {
                world.fail("it acts alone");
            }
            let lives = (0..3).map(|member| world.nodes[member].membership.me());
            if lives.into_iter().any(|member| node.fenced(member.id, member.incarnation)) {
                world.fail("it fenced a healthy member");
            }
        }
        world.run_until_good(LIVE);
        world.heal();
        world.run(SECOND);
        world.run_until_good(3 * LIVE);
        assert_eq!(world.nodes[0].membership.view().members.len(), 3 + joiners.len());
        world.expect_together(&[0, 1, 2]);
    }
}

#[test]
fn members_that_cuts_left_in_a_line_or_a_star_go_on_with_everything() {
    let line: &[(usize, usize)] = &[(0, 2), (0, 3), (1, 3)];
    let star: &[(usize, usize)] = &[(0, 1), (0, 3), (1, 3)];
    for (seed, cuts) in [line, star, line, star].into_iter().enumerate() {
        let mut world = members(seed as u64, 4);
        for (a, b) in cuts {
            world.cut(*a, *b);
            if seed >= 2 {
                world.break_link(*a, *b);
            }
        }
        world.run(10 * SECOND);
        world.run_until_good(SECOND);
        world.expect_nobody_down();
        // A joiner at an end, and one beside it.
        let joiner = world.add_beside(&[0]);
        world.run_until("it is not in", 2 * LIVE, |world| world.is_in(joiner));
        world.run_until_good(LIVE);
        world.expect_nobody_down();
        // It dies, and an end leaves.
        world.switch_off(joiner);
        world.run_until("it is still in", LIVE, |world| !world.is_in(joiner));
        world.run_until_good(LIVE);
        world.leave(3);
        world.run(SECOND);
        world.run_until_good(SECOND);
        world.expect_together(&[0, 1, 2]);
    }
}

#[test]
fn two_clusters_meet_over_one_link_that_may_go_again_and_past_the_dead() {
    for seed in 0..18_u64 {
        let (left, right) = (2 + seed as usize / 9, 2);
        let count = left + right;
        let mut world = members(seed, count);
        let side: Vec<usize> = (left..count).collect();
        world.split(&side);
        world.run(2 * LIVE);
        world.run_until_good(LIVE);
        world.clear_events();
        if seed % 3 == 1 {
            // Dead, and not declared yet when they meet.
            world.switch_off(count - 1);
        }
        let (a, b) = (1, left);
        world.cuts.remove(&(a, b));
        world.cuts.remove(&(b, a));
        let wait = world.chance.between(STEP, 3 * SECOND);
        world.run(wait);
        if seed % 3 == 2 {
            world.cut(a, b);
            world.break_link(a, b);
            world.run_until_good(2 * LIVE);
            world.cuts.remove(&(a, b));
            world.cuts.remove(&(b, a));
        }
        world.run(SECOND);
        // Dials of who was lost come every few seconds.
        world.run_until_good(3 * LIVE);
    }
}

#[test]
fn a_life_that_was_declared_wrongly_comes_back_though_only_a_third_can_tell_it() {
    for seed in 0..12 {
        let mut world = members(seed, 4);
        let victims: &[usize] = if seed % 3 == 0 { &[3] } else { &[2, 3] };
        world.split(victims);
        world.run(LIVE);
        // Of those who have put it out only node 1 has a link to it.
        world.heal();
        world.cut(0, 3);
        world.cut(2, 3);
        world.run(SECOND);
        world.run_until_good(3 * LIVE);
        assert_eq!(world.nodes[0].membership.view().members.len(), 4, "seed {seed}");
    }
}

#[test]
fn a_life_that_was_declared_wrongly_comes_back_while_another_node_comes_in() {
    for seed in 0..24 {
        let mut world = members(seed, 4);
        world.split(&[3]);
        world.run_until("it is still in", 2 * LIVE, |world| !world.is_in(3));
        let before = world.chance.between(Duration::ZERO, SECOND);
        let joiner = world.add_beside(&[seed as usize % 3]);
        world.run(before);
        // Of those who have put it out only node 1 has a link to it, and the newcomer that knows of nothing.
        for other in [1, joiner] {
            world.cuts.remove(&(other, 3));
            world.cuts.remove(&(3, other));
        }
        let lost = world.nodes[3].id;
        world.nodes[joiner].wants.insert(lost);
        world.run(SECOND);
        world.run_until_good(3 * LIVE);
        assert_eq!(world.nodes[0].membership.view().members.len(), 5, "seed {seed}");
        world.expect_together(&[0, 1, 2]);
    }
}

#[test]
fn a_joiner_that_says_bye_to_one_while_another_still_adopts_it_is_out_everywhere() {
    for seed in 0..40 {
        let mut world = members(seed, 3);
        world.step = MS;
        let joiner = world.add_beside(&[0, 1]);
        world.run_until("it is not in", LIVE, |world| world.is_in(joiner));
        let wait = world.chance.between(Duration::ZERO, 40 * MS);
        world.run(wait);
        // Of its words one only arrives.
        world.nodes[joiner].words_left = Some(1 + seed as usize % 2);
        world.leave(joiner);
        world.nodes[joiner].mute = true;
        world.step = STEP;
        world.run(SECOND / 2);
        world.switch_off(joiner);
        world.run_until_good(LIVE);
        world.expect_together(&[0, 1, 2]);
    }
}

#[test]
fn nodes_that_all_wait_found_nothing_and_come_in_with_the_first_that_does() {
    for seed in 0..5 {
        let mut world = World::new(seed, 0);
        world.settling = Settling::Together;
        for _ in 0..2 {
            let index = world.add();
            world.nodes[index].wants.clear();
        }
        let (first, second) = (world.nodes[0].id, world.nodes[1].id);
        world.nodes[0].wants.insert(second);
        world.nodes[1].wants.insert(first);
        world.run(40 * SECOND);
        for node in &world.nodes {
            assert!(node.membership.is_waiting() && !node.membership.is_proven(), "seed {seed}");
        }
        world.seed(0, 0, SeedOutcome::Itself);
        world.seed(0, 1, SeedOutcome::Reached(second));
        world.run_until("nobody founds", LIVE, |world| world.nodes[0].membership.is_proven());
        world.run_until("it is not in", LIVE, |world| world.is_in(1));
        world.run_until_good(LIVE);
    }
}

#[test]
fn two_joiners_that_are_cut_off_together_are_no_cluster() {
    for seed in 0..20 {
        let mut world = members(seed, 1 + seed as usize % 3);
        let first = world.add_beside(&[0]);
        let second = world.add_beside(&[0, first]);
        world.settling = Settling::Never;
        world.run_until("they are not in", 2 * LIVE, |world| {
            let all = |index: usize| world.nodes[index].membership.view().members.len();
            all(first) == second + 1 && all(second) == second + 1
        });
        let wait = world.chance.between(Duration::ZERO, 2 * SECOND);
        world.run(wait);
        world.split(&[first, second]);
        world.settling = Settling::Together;
        world.run(2 * LIVE);
        for joiner in [first, second] {
            let node = &world.nodes[joiner].membership;
            if !node.is_waiting() || node.view().members.len() > 1 {
                world.fail("two that nobody holds in act as a cluster");
            }
        }
        world.heal();
        world.run(SECOND);
        world.run_until_good(3 * LIVE);
        assert_eq!(world.nodes[0].membership.view().members.len(), second + 1);
    }
}
