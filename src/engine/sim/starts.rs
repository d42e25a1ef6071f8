//! What becomes of requests to start children whose answers are late or lost.

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
