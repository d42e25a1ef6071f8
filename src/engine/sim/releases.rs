//! Children that are bound to a node and released: they go where they belong, and keep their state.

use super::*;

#[test]
fn children_that_are_released_go_where_the_distribution_has_them_and_lose_nothing() {
    for seed in seeds(40) {
        let mut world = cluster(seed, 4, 8);
        world.run_for(2 * SECOND);
        let timeout = 20 * SECOND;
        for child in world.children.clone() {
            let (from, to) = (world.dice.below(4) as usize, world.dice.below(4) as usize);
            let to = world.nodes[to].me.id;
            world.request(from, Request::Migrate { child, to, forced: false, timeout });
        }
        world.run_for(10 * SECOND);
        let pinned = |world: &World, child: &ChildId| {
            let owner = world.nodes[0].engine.registry().owner(child);
            owner.and_then(|(_, ownership)| ownership.pinned)
        };
        let children = world.children.clone();
        assert!(children.iter().all(|child| pinned(&world, child).is_some()), "seed {seed}");
        // Others are on the move while they are released: a node comes in.
        world.join();
        let mut asked = Vec::new();
        for child in children.clone() {
            let wait = world.dice.ms(0, 400);
            world.run_for(wait);
            let from = world.dice.below(4) as usize;
            asked.push((from, world.request(from, Request::Release { child, timeout })));
        }
        world.run_for(25 * SECOND);
        for (from, id) in asked {
            let reply = world.nodes[from].replies.get(&id);
            let is_done = matches!(reply, Some(Reply::Migrated(MigrateOutcome::Moved { .. })));
            assert!(is_done, "seed {seed}: {reply:?}");
        }
        for child in &children {
            assert_eq!(pinned(&world, child), None, "seed {seed}: {child}");
            let belongs = world.nodes[0].engine.would_belong(child);
            let runner = world.runner(child).map(|index| world.nodes[index].me.id);
            assert_eq!(runner, belongs, "seed {seed}: {child}");
        }
        world.check_end(true);
    }
}
