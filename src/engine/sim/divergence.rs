//! Two owners of one child meet, while one of them is restarted or being started.

use super::*;

/// A cluster whose first node was cut off for so long that both sides run every child.
fn split(seed: u64) -> World {
    let mut world = cluster(seed, 3, 4);
    world.calm = false;
    world.cut(&BTreeSet::from([0]));
    world.run_for(6 * SECOND);
    world
}

/// Who gives way to whom, of which child.
fn yielding(world: &World) -> Option<(ChildId, NodeRun)> {
    let instances = world.nodes.iter().flat_map(|node| &node.engine.children.instances);
    instances.into_iter().find_map(|(child, instance)| match instance.phase {
        Phase::Yielding { to, .. } => Some((child.clone(), to)),
        _ => None,
    })
}

fn is_running(world: &World, index: usize, child: &ChildId) -> bool {
    let instance = world.nodes[index].engine.children.instances.get(child);
    instance.is_some_and(|instance| matches!(instance.phase, Phase::Running))
}

#[test]
fn an_owner_that_yields_goes_on_when_the_other_is_restarted() {
    let mut hit = 0;
    for seed in seeds(20) {
        let mut world = split(seed);
        world.bulk_ms = (20, 60);
        world.heal();
        for _ in 0..20_000 {
            world.run_for(Duration::from_millis(1));
            if let Some((child, to)) = yielding(&world)
                && let Some(winner) = world.index_of(to.node)
                && world.panic_child(winner, &child)
            {
                hit += 1;
                break;
            }
        }
        world.run_for(30 * SECOND);
        world.check_end(false);
    }
    assert!(hit > 0);
}

#[test]
fn owners_that_are_restarted_while_they_meet_come_to_rest() {
    for seed in seeds(20) {
        let mut world = split(seed);
        world.start_ms = (1_000, 1_500);
        world.heal();
        for _ in 0..12 {
            world.run_for(Duration::from_millis(200));
            for index in 0..3 {
                for child in world.children.clone() {
                    if is_running(&world, index, &child) && world.dice.one_in(8) {
                        world.panic_child(index, &child);
                    }
                }
            }
        }
        world.run_for(30 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn an_owner_that_is_being_started_when_it_meets_another_comes_to_run() {
    for seed in seeds(20) {
        let mut world = split(seed);
        world.start_ms = (300, 400);
        world.heal();
        for _ in 0..8_000 {
            world.run_for(Duration::from_millis(1));
            if yielding(&world).is_some() {
                break;
            }
            for index in 1..3 {
                for child in world.children.clone() {
                    if is_running(&world, index, &child) {
                        world.panic_child(index, &child);
                    }
                }
            }
        }
        world.start_ms = (0, 10);
        world.run_for(30 * SECOND);
        world.check_end(false);
    }
}
