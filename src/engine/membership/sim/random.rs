//! All sorts of misfortune, mixed at random.

use super::*;

#[test]
fn after_any_misfortune_the_views_become_equal() {
    for seed in 0..150 {
        let count = 2 + seed as usize % 6;
        let mut world = World::formed(seed, count);
        for _ in 0..12 {
            let (a, b) = (world.pick(count), world.pick(count));
            match world.chance.below(9) {
                0 if a != b => world.cut(a, b),
                1 if a != b => {
                    world.cuts.insert((a, b));
                }
                2 => world.split(&[a, b]),
                3 | 4 => world.heal(),
                5 if world.nodes[a].alive => world.kill(a),
                6 if world.nodes[a].alive => world.switch_off(a),
                7 if !world.nodes[a].alive => world.restart(a),
                8 if world.nodes[a].alive => {
                    let time = world.chance.between(SECOND, 8 * SECOND);
                    world.pause(a, time);
                }
                _ if a != b => world.break_link(a, b),
                _ => {}
            }
            let wait = world.chance.between(STEP, 6 * SECOND);
            world.run(wait);
        }
        world.heal();
        for index in 0..count {
            if !world.nodes[index].alive {
                world.restart(index);
            }
        }
        world.run_until_equal(60 * SECOND);
        world.run(10 * SECOND);
        world.run_until_equal(SECOND);
    }
}

#[test]
fn a_run_replays_from_its_seed() {
    let run = || {
        let mut world = World::formed(7, 5);
        world.split(&[0, 3]);
        world.run(10 * SECOND);
        world.heal();
        world.run_until_equal(30 * SECOND);
        let passed = world.now.duration_since(world.start);
        let events: Vec<_> = world.nodes.iter().map(|node| node.events.clone()).collect();
        (passed, events)
    };
    assert_eq!(run(), run());
}
