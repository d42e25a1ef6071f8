//! Whoever messages may have gone to is told to be out, also to who was no member meanwhile.

use super::*;

#[test]
fn a_newcomer_is_told_of_members_that_die_before_it_has_settled() {
    let mut cut_off = 0;
    for seed in seeds(30) {
        let mut world = cluster(seed, 2, 6);
        let dies = world.nodes[1].me.run();
        let joiner = world.join();
        for _ in 0..30_000 {
            let engine = &world.nodes[joiner].engine;
            if engine.view().is_live(dies) {
                break;
            }
            world.run_for(Duration::from_micros(100));
        }
        let engine = &world.nodes[joiner].engine;
        assert!(engine.view().is_live(dies), "seed {seed}: it does not come in");
        // It says that it is in, and is not heard.
        let settled = engine.is_settled();
        world.cuts.insert((joiner, 0));
        world.crash(1);
        let wait = world.dice.ms(300, 2_500);
        world.run_for(wait);
        let reset = !world.nodes[joiner].engine.view().is_live(dies);
        cut_off += usize::from(!settled && reset && world.nodes[joiner].gone.is_empty());
        world.calm = false;
        world.heal();
        world.run_for(8 * SECOND);
        let gone = &world.nodes[joiner].gone;
        assert!(gone.contains(&dies), "seed {seed}: the newcomer is told of {gone:?}");
        world.check_end(false);
    }
    assert!(cut_off > 0, "nobody was cut off before it had settled");
}

/// A node restarts while another one reaches its last run by a third: the new run is linked there before
/// the last one is out, and waits until it is. A view that settles meanwhile has neither.
#[test]
fn a_run_that_is_linked_before_the_last_one_of_its_node_is_out_is_not_told_to_be_out() {
    let mut waited = 0;
    for seed in seeds(10) {
        let mut world = cluster(seed, 3, 0);
        // Who has crashed before is not taken in at once.
        world.crash(1);
        world.restart(1);
        world.run_for(3 * SECOND);
        world.cuts.extend([(0, 1), (1, 0)]);
        world.unlink(0, 1);
        world.run_for(SECOND / 2);
        let last = world.nodes[1].me.run();
        world.crash(1);
        world.cuts.clear();
        world.restart(1);
        let next = world.nodes[1].me.run();
        while !world.links.contains_key(&(0, 1)) {
            world.run_for(Duration::from_millis(1));
        }
        world.run_for(Duration::from_millis(10));
        waited += usize::from(world.nodes[0].engine.view().is_live(last));
        world.run_for(8 * SECOND);
        let Node { engine, gone, .. } = &world.nodes[0];
        assert!(engine.view().is_live(next), "seed {seed}: it does not come in");
        assert!(gone.contains(&last) && !gone.contains(&next), "seed {seed}: {gone:?}");
        world.check_end(false);
    }
    assert!(waited > 0, "the last run was out at once");
}
