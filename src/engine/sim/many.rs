//! Many children of one node at a time.

use super::*;

impl World {
    fn moving(&self, index: usize) -> BTreeSet<ChildId> {
        self.nodes[index].engine.moves().map(|(child, _)| child.clone()).collect()
    }
}

#[test]
fn migrations_of_many_take_their_turns_in_the_order_asked() {
    for seed in seeds(4) {
        let mut world = cluster(seed, 2, 100);
        let to = world.nodes[1].me.id;
        // Against the order of their ids.
        let children: Vec<ChildId> = world.nodes[0].runtime.actors.keys().rev().cloned().collect();
        assert!(children.len() > 32, "seed {seed}");
        let forced = seed % 2 == 0;
        let timeout = 30 * SECOND;
        let asked: Vec<RequestId> = children
            .iter()
            .map(|child| {
                let child = child.clone();
                world.request(0, Request::Migrate { child, to, forced, timeout })
            })
            .collect();
        let first: BTreeSet<ChildId> = children[..16].iter().cloned().collect();
        assert_eq!(world.moving(0), first, "seed {seed}");
        world.run_for(10 * SECOND);
        for id in asked {
            let reply = world.nodes[0].replies.get(&id);
            let moved = matches!(reply, Some(Reply::Migrated(MigrateOutcome::Moved { .. })));
            assert!(moved, "seed {seed}: {reply:?}");
        }
        assert!(world.nodes[0].runtime.actors.is_empty(), "seed {seed}");
        world.check_end(true);
    }
}
