//! What becomes of requests to start and stop children: whose answers are late or lost, and what is
//! left of those that were answered.

use super::*;

#[test]
fn a_rollback_stops_nothing_that_was_there_before() {
    for seed in seeds(60) {
        let mut world = cluster(seed, 3, 6);
        world.run_for(2 * SECOND);
        let before = world.children.clone();
        let spec = |id: &ChildId, kind: KindName| {
            Arc::new(ChildSpec::from_parts(id.clone(), kind, Bytes::new()))
        };
        let mut specs: Vec<_> = before.iter().map(|id| spec(id, kind())).collect();
        let new = ChildId::new("new").expect("a plain word");
        specs.push(spec(&new, kind()));
        let bad = ChildId::new("bad").expect("a plain word");
        specs.push(spec(&bad, KindName::new("unknown").expect("a plain word")));
        let asker = world.dice.below(3) as usize;
        let timeout = 10 * SECOND;
        let on_failure = OnFailure::Rollback;
        let id = world.request(asker, Request::Start { specs, on_failure, timeout });
        // A link breaks while the request, or its answer, is on its way: it is asked again.
        let wait = world.dice.ms(0, 6);
        world.run_for(wait);
        world.unlink(asker, (asker + 1) % 3);
        world.run_for(15 * SECOND);
        let reply = world.nodes[asker].replies.get(&id);
        assert!(reply.is_some(), "seed {seed}: it is answered");
        let runs = |child: &ChildId| {
            world.nodes.iter().filter(|node| node.runtime.actors.contains_key(child)).count()
        };
        for child in &before {
            assert_eq!(runs(child), 1, "seed {seed}: {child} was there before; {reply:?}");
        }
        assert_eq!(runs(&new), 0, "seed {seed}: what it had started is stopped; {reply:?}");
    }
}

#[test]
fn starts_that_are_under_way_while_nodes_join_are_answered_by_their_new_homes() {
    for seed in seeds(60) {
        let mut world = World::new(seed, 2);
        world.run_for(3 * SECOND);
        world.start_ms = (0, 300);
        // The view with the second is told a little later, and a question for it goes at once.
        world.join();
        world.join();
        let wait = world.dice.ms(0, 60);
        world.run_for(wait);
        let asker = world.dice.below(2) as usize;
        let id = world.start(asker, 0..30);
        world.run_for(4 * SECOND);
        assert!(world.nodes[asker].replies.contains_key(&id), "seed {seed}: it is not answered");
        assert_eq!(world.started(asker, id), 30, "seed {seed}");
        world.check_end(true);
    }
}

/// A cluster whose nodes tell each other their logs a few entries at a time.
fn narrow(seed: u64, nodes: usize) -> World {
    let mut world = World::new(seed, nodes);
    world.log_window = Some(600);
    for node in &mut world.nodes {
        node.engine.sync.window = 600;
    }
    world.run_for(3 * SECOND);
    world
}

/// Lets time pass until a request is answered.
fn await_answer(world: &mut World, index: usize, id: RequestId) {
    let end = world.now + 30 * SECOND;
    while !world.nodes[index].replies.contains_key(&id) {
        assert!(world.now < end, "seed {}: it is not answered", world.seed);
        world.run_for(Duration::from_micros(100));
    }
}

#[test]
fn children_that_are_said_to_be_started_survive_the_crash_of_any_node_at_that_moment() {
    for seed in seeds(60) {
        let nodes = 2 + seed as usize % 3;
        let mut world = narrow(seed, nodes);
        let asker = world.dice.below(nodes as u64) as usize;
        let id = world.start(asker, 0..120);
        await_answer(&mut world, asker, id);
        assert_eq!(world.started(asker, id), 120, "seed {seed}");
        // Whoever asked may have told somebody, and be the one that dies.
        let dies = world.dice.below(nodes as u64) as usize;
        world.calm = false;
        world.crash(dies);
        world.run_for(30 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn children_that_are_said_to_be_stopped_stay_so_whichever_node_crashes_at_that_moment() {
    for seed in seeds(60) {
        let nodes = 2 + seed as usize % 3;
        let mut world = narrow(seed, nodes);
        let asker = world.dice.below(nodes as u64) as usize;
        world.start(asker, 0..120);
        world.run_for(5 * SECOND);
        let children = world.children.clone();
        let request = Request::Stop { children: children.clone(), timeout: 30 * SECOND };
        let id = world.request(asker, request);
        world.removed.extend(children);
        await_answer(&mut world, asker, id);
        let dies = world.dice.below(nodes as u64) as usize;
        world.calm = false;
        world.crash(dies);
        world.run_for(30 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn a_migration_of_a_child_that_is_stopped_and_started_anew_meanwhile_is_answered() {
    for seed in seeds(60) {
        let mut world = cluster(seed, 3, 8);
        world.start_ms = (0, 200);
        let mut asked = Vec::new();
        for n in 0..8 {
            let child = world.children[n].clone();
            world.acked.remove(&child);
            let (asker, other) = (world.dice.below(3) as usize, world.dice.below(3) as usize);
            let stop = Request::Stop { children: vec![child.clone()], timeout: 30 * SECOND };
            world.request(other, stop);
            world.start(other, n..n + 1);
            let wait = world.dice.ms(0, 150);
            world.run_for(wait);
            let to = world.nodes[world.dice.below(3) as usize].me.id;
            let timeout = 30 * SECOND;
            let migrate = Request::Migrate { child: child.clone(), to, forced: false, timeout };
            asked.push((asker, world.request(asker, migrate)));
            let wait = world.dice.ms(0, 20);
            world.run_for(wait);
            let stop = Request::Stop { children: vec![child], timeout: 30 * SECOND };
            world.request(other, stop);
            world.start(other, n..n + 1);
        }
        world.run_for(4 * SECOND);
        for (asker, id) in asked {
            let reply = world.nodes[asker].replies.get(&id);
            assert!(reply.is_some(), "seed {seed}: n{asker} waits for {id:?}");
        }
    }
}
