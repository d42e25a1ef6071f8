//! Children that are started, found, refused and stopped: by requests whose answers are late or lost, too, and
//! what is left of those that were answered.

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

#[test]
fn children_start_once_wherever_they_belong() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 3, 20);
        let id = world.start(0, 0..20);
        world.run_for(SECOND);
        match &world.nodes[0].replies[&id] {
            Reply::Started(report) => {
                let exists = |o: &StartOutcome| matches!(o, StartOutcome::Exists { .. });
                assert!(report.outcomes.iter().all(|(_, outcome)| exists(outcome)));
            }
            other => panic!("{other:?}"),
        }
        world.check_end(true);
    }
}

#[test]
fn one_id_started_from_two_nodes_at_once_is_started_once() {
    for seed in seeds(20) {
        let mut world = World::new(seed, 3);
        world.run_for(3 * SECOND);
        let first = world.start(0, 0..10);
        let second = world.start(2, 0..10);
        world.run_for(2 * SECOND);
        let started = world.started(0, first) + world.started(2, second);
        assert_eq!(started, 10, "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn of_two_that_start_one_id_one_is_told_that_it_started_however_often_both_ask() {
    for seed in seeds(40) {
        let mut world = World::new(seed, 3);
        world.run_for(3 * SECOND);
        let (first, second) = (world.start(0, 0..10), world.start(2, 0..10));
        for (a, b) in [(0, 2), (1, 2), (0, 1), (0, 2)] {
            let wait = world.dice.ms(0, 20);
            world.run_for(wait);
            // Each end asks again by the way that is left, and when there is a link again.
            world.unlink(a, b);
        }
        world.run_for(5 * SECOND);
        let started = world.started(0, first) + world.started(2, second);
        assert_eq!(started, 10, "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn who_asked_is_told_that_it_started_though_its_home_died_before_it_answered() {
    for seed in seeds(40) {
        let mut world = World::new(seed, 4);
        world.run_for(3 * SECOND);
        let first = world.start(0, 0..20);
        let wait = world.dice.ms(0, 30);
        world.run_for(wait);
        world.crash(1);
        let second = world.start(2, 0..20);
        world.run_for(10 * SECOND);
        assert_eq!(world.started(0, first) + world.started(2, second), 20, "seed {seed}");
        // What a child had taken in went with its node.
        world.check_end(false);
    }
}

#[test]
fn a_started_child_is_found_at_once_from_every_node_and_a_missing_one_is_not() {
    for seed in seeds(60) {
        let mut world = World::new(seed, 3);
        world.run_for(3 * SECOND);
        let id = world.start(0, 0..10);
        while !world.nodes[0].replies.contains_key(&id) {
            world.run_for(Duration::from_millis(1));
        }
        assert_eq!(world.started(0, id), 10, "seed {seed}");
        let children = world.children.clone();
        let missing = ChildId::new("missing").expect("a valid id");
        for index in 0..3 {
            for child in children.iter().chain([&missing]) {
                locate(&mut world, index, child);
            }
        }
        // A word that is lost with its link is said again.
        if seed % 3 == 0 {
            world.unlink(1, 2);
        }
        let migration = Request::Migrate {
            child: children[0].clone(),
            to: world.nodes[2].me.id,
            forced: false,
            timeout: 5 * SECOND,
        };
        let migration = world.request(1, migration);
        for _ in 0..4_000 {
            for index in 0..3 {
                for child in &children {
                    let node = &world.nodes[index];
                    let answered = !node.locating.contains(child);
                    assert!(!answered || node.routes.contains_key(child), "seed {seed}: {child}");
                }
            }
            world.run_for(Duration::from_millis(1));
        }
        for node in &world.nodes {
            assert!(node.locating.is_empty(), "seed {seed}: nobody answered");
            assert!(!node.routes.contains_key(&missing));
        }
        world.run_for(2 * SECOND);
        let moved = &world.nodes[1].replies[&migration];
        assert!(
            matches!(moved, Reply::Migrated(MigrateOutcome::Moved { .. })),
            "seed {seed}: {moved:?}"
        );
        world.check_end(true);
    }
}

#[test]
fn a_start_that_was_refused_can_be_asked_for_again_at_once() {
    for seed in seeds(20) {
        let mut world = World::new(seed, 3);
        world.run_for(3 * SECOND);
        world.refuse_starts = true;
        let first = world.start(0, 0..10);
        while !world.nodes[0].replies.contains_key(&first) {
            world.run_for(Duration::from_millis(1));
        }
        assert_eq!(world.started(0, first), 0, "seed {seed}");
        world.refuse_starts = false;
        let again = world.start(0, 0..10);
        world.run_for(2 * SECOND);
        assert_eq!(world.started(0, again), 10, "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn what_an_answer_said_is_not_undone_by_a_log_that_is_older() {
    let (mut world, child, at, other, _) = one_child(1);
    let core = &mut world.nodes[other].engine.core;
    let best = core.registry.best(&child).expect("it is known").epoch;
    let newer = Route { owner: core.me, epoch: best.next_attempt() };
    core.hint(&child, newer);
    core.reroute(&child);
    world.drain(other);
    assert_eq!(world.nodes[other].routes[&child], newer);
    // Only when the node that it names is gone is it dropped.
    let core = &mut world.nodes[other].engine.core;
    let gone = NodeRun { nonce: core.me.nonce + 1, ..core.me };
    core.hint(&child, Route { owner: gone, epoch: newer.epoch.next_attempt() });
    let view = core.view.clone();
    core.adopt(view);
    world.drain(other);
    let route = world.nodes[other].routes[&child];
    assert_eq!(route, Route { owner: world.nodes[at].me.run(), epoch: best });
}

#[test]
fn an_answer_to_an_earlier_question_does_not_end_a_later_one() {
    let (mut world, _, _, other, _) = one_child(1);
    let child = ChildId::new("later").expect("a valid id");
    let home = world.nodes[other].engine.core.home(&child).expect("there is one");
    let home = world.index_of(home).expect("it is a node");
    let asker = (home + 1) % 3;
    let from = world.nodes[home].me.run();
    locate(&mut world, asker, &child);
    world.run_for(SECOND);
    assert!(world.nodes[asker].locating.is_empty(), "it was answered");
    let questions = world.nodes[asker].engine.homes.questions();
    assert!(questions > 0);
    locate(&mut world, asker, &child);
    // The first question went twice; its second answer comes only now.
    let word = HomeWord::Located { child: child.clone(), question: questions, route: None };
    let event = Event::Peer { from, message: PeerMessage::Home(word) };
    world.input(asker, Input::Event(event));
    assert!(world.nodes[asker].locating.contains(&child), "a stale answer ended it");
    world.run_for(SECOND);
    assert!(world.nodes[asker].locating.is_empty(), "the right answer ends it");
}

#[test]
fn a_child_that_exists_is_not_taken_for_ones_own_because_some_other_link_came_back() {
    for seed in seeds(20) {
        let (mut world, child, at, other, home) = one_child(seed);
        let home = world.index_of(home.node).expect("it is a node");
        let third = (0..3).find(|n| *n != home && *n != other).unwrap_or(at);
        // Long enough for its own link to seem broken: it is asked by another way, too.
        world.nodes[home].paused_until = Some(world.now + Duration::from_millis(200));
        let id = world.start(other, 0..1);
        world.unlink(other, third);
        world.run_for(3 * SECOND);
        match &world.nodes[other].replies[&id] {
            Reply::Started(report) => assert!(
                matches!(report.outcomes[..], [(_, StartOutcome::Exists { .. })]),
                "seed {seed}: {child}: {report:?}"
            ),
            reply => panic!("seed {seed}: {reply:?}"),
        }
    }
}

#[test]
fn nobody_but_a_childs_home_says_where_it_was_started() {
    let (mut world, child, _, other, home) = one_child(1);
    let before = world.nodes[other].routes[&child];
    let liar = world
        .nodes
        .iter()
        .map(|node| node.me.run())
        .find(|run| *run != home && *run != world.nodes[other].me.run());
    let liar = liar.expect("there are three");
    let epoch = before.epoch.next_term();
    for (from, epoch) in [(liar, epoch), (home, Epoch { term: u64::MAX, attempt: 0 })] {
        let outcome = StartOutcome::Started { node: liar.node, epoch };
        let outcomes = vec![ChildOutcome { child: child.clone(), outcome }];
        let word = HomeWord::Started { request: RequestId(77), outcomes };
        let event = Event::Peer { from, message: PeerMessage::Home(word) };
        world.input(other, Input::Event(event));
        assert_eq!(world.nodes[other].routes[&child], before);
    }
}

#[test]
fn children_run_only_where_their_kind_is_registered() {
    for seed in seeds(30) {
        let mut world = World::new(seed, 2);
        world.kindless.insert(2);
        world.join();
        world.run_for(3 * SECOND);
        let id = world.start(2, 0..20);
        world.run_for(2 * SECOND);
        assert_eq!(world.started(2, id), 20, "seed {seed}");
        world.check_end(true);
        world.crash(1);
        world.run_for(6 * SECOND);
        world.check_end(false);
        assert_eq!(world.nodes[0].runtime.actors.len(), 20, "seed {seed}");
        for node in &world.nodes {
            assert!(node.attempts.is_empty(), "seed {seed}: {:?}", node.attempts);
        }
        // Nobody else takes them: the node stays, and they with it.
        let id = world.request(0, Request::Leave { timeout: 20 * SECOND });
        world.run_for(4 * SECOND);
        let reply = &world.nodes[0].replies[&id];
        assert!(
            matches!(reply, Reply::Left(Err(LeaveFailed::NoSuccessor { children: 20, .. }))),
            "seed {seed}: {reply:?}"
        );
        world.check_end(false);
        // When the only node that has the kind dies they wait for one that has it.
        world.crash(0);
        world.run_for(6 * SECOND);
        let id = world.start(2, 0..21);
        world.run_for(2 * SECOND);
        match &world.nodes[2].replies[&id] {
            Reply::Started(report) => assert_eq!(report.started(), 0, "seed {seed}: {report:?}"),
            reply => panic!("seed {seed}: {reply:?}"),
        }
        world.children.pop();
        world.join();
        world.run_for(6 * SECOND);
        world.check_end(false);
    }
}
