//! What waits has an end: messages for children that nobody has heard of, questions that are lost, owners that
//! cannot give way.

use super::{divergence::split, *};
use crate::engine::handover::SourceStage;
use crate::model::{
    child::{Entry, Ownership, Role, TakenIn},
    id::Origin,
    message::{LogEntry, SyncWord},
};

/// A run that is gone.
pub(super) fn gone() -> NodeRun {
    NodeRun { node: node_id(7, 0), nonce: 7 }
}

/// What it has said of a child.
fn entry_of(child: &ChildId) -> Entry {
    let epoch = Epoch { term: 1, attempt: 0 };
    let spec = ChildSpec::from_parts(child.clone(), kind(), Bytes::new());
    Entry::Owned(Ownership {
        epoch,
        born: epoch,
        copied: epoch,
        role: Role::Active,
        pinned: None,
        origin: Origin::default(),
        taken: TakenIn::default(),
        failure: None,
        spec: Arc::new(spec),
    })
}

/// A node is told by a member what a run that is gone has said of a child, at this version.
pub(super) fn told(world: &mut World, index: usize, by: usize, child: &ChildId, version: u64) {
    let (log, entry) = (gone(), entry_of(child));
    let entries = vec![LogEntry { version, child: child.clone(), entry }];
    let (from, upto) = (version - 1, version);
    let message = PeerMessage::Sync(SyncWord::Changes { log, from, upto, entries });
    let from = world.nodes[by].me.run();
    world.input(index, Input::Event(Event::Peer { from, message }));
}

#[test]
fn a_question_for_what_one_member_has_of_a_dead_nodes_log_is_asked_again_before_that_is_given_up() {
    for seed in seeds(5) {
        let mut world = World::new(seed, 0);
        world.digest = 60 * SECOND;
        for _ in 0..4 {
            world.join();
        }
        world.run_for(5 * SECOND);
        world.calm = false;
        // One member alone has heard of it, and cannot tell who asks.
        let child = ChildId::new("c").expect("a valid id");
        for index in [0, 1] {
            world.nodes[index].lie = Some(|message| {
                if let PeerMessage::Sync(SyncWord::Ask { from, .. }) = message {
                    *from = u64::MAX;
                }
            });
        }
        world.mute.insert(2);
        told(&mut world, 2, 0, &child, 1);
        world.run_for(Duration::from_millis(20));
        world.mute.clear();
        world.crash(3);
        for _ in 0..20_000 {
            world.run_for(Duration::from_millis(1));
            let waits = |index: &usize| {
                let waits_for = world.nodes[*index].engine.waits_for().unwrap_or_default();
                waits_for.contains("knows of children of nodes that are gone")
            };
            if (0..2).any(|index| waits(&index)) {
                break;
            }
        }
        world.run_for(Duration::from_millis(300));
        for index in [0, 1] {
            world.nodes[index].lie = None;
        }
        world.children.push(child.clone());
        for _ in 0..20_000 {
            world.run_for(Duration::from_millis(1));
            if world.nodes[0].engine.is_settled() {
                break;
            }
        }
        assert_eq!(world.nodes[0].engine.registry().watermark(gone()), 1, "seed {seed}");
        world.run_for(10 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn a_question_that_no_home_answers_is_over_in_time_and_asked_again() {
    for seed in seeds(5) {
        let mut world = World::new(seed, 1);
        world.run_for(SECOND);
        // It is never taken in.
        world.nodes[0].alive = false;
        let index = world.join();
        world.run_for(SECOND);
        let child = ChildId::new("nobody").expect("a valid id");
        locate(&mut world, index, &child);
        world.run_for(Settings::default().send_timeout - SECOND);
        assert!(world.nodes[index].locating.contains(&child), "seed {seed}");
        world.run_for(2 * SECOND);
        assert_eq!(world.nodes[index].unanswered, 1, "seed {seed}");
        locate(&mut world, index, &child);
        world.run_for(Settings::default().send_timeout + SECOND);
        assert_eq!(world.nodes[index].unanswered, 2, "seed {seed}");
    }
}

#[test]
fn a_question_that_is_answered_is_not_over_again() {
    let mut world = cluster(1, 3, 1);
    let child = ChildId::new("nobody").expect("a valid id");
    for _ in 0..3 {
        locate(&mut world, 1, &child);
        world.run_for(SECOND);
        assert!(!world.nodes[1].locating.contains(&child));
    }
    locate(&mut world, 1, &child);
    world.run_for(2 * Settings::default().send_timeout);
    assert_eq!(world.nodes[1].unanswered, 0);
}

#[test]
fn a_roll_call_that_nobody_heard_is_said_again() {
    for seed in seeds(5) {
        let mut world = cluster(seed, 3, 3);
        // Nothing is under way.
        world.run_for(5 * SECOND);
        let core = &world.nodes[0].engine.core;
        let mut ids = (100..).map(|n| ChildId::new(format!("c{n}")).expect("a valid id"));
        let child = ids.find(|child| core.is_home(child)).expect("there is one");
        world.mute.insert(0);
        told(&mut world, 0, 1, &child, 1);
        world.run_for(Duration::from_millis(20));
        assert!(!world.nodes[0].engine.rolls.is_idle(), "seed {seed}: it is called");
        world.mute.clear();
        world.children.push(child);
        world.run_for(5 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn a_move_goes_on_when_states_find_a_way_again_and_words_have_gone_the_same_way_all_along() {
    for seed in seeds(5) {
        let mut world = World::new(seed, 0);
        for _ in 0..3 {
            world.join();
        }
        world.never_link(0, 1);
        world.run_for(6 * SECOND);
        let id = world.start(2, 0..9);
        world.run_for(2 * SECOND);
        assert_eq!(world.started(2, id), 9, "seed {seed}");
        let of_0 = |child: &&ChildId| world.runner(child) == Some(0);
        let child = world.children.iter().find(of_0).expect("it has one").clone();
        let (to, by) = (world.nodes[1].me.run(), world.nodes[2].me.run());
        assert!(world.nodes[0].engine.core.reaches(to), "seed {seed}");
        world.input(0, Input::Event(Event::PathLost { to, by }));
        assert!(!world.nodes[0].engine.core.reaches(to), "seed {seed}");
        let (id, timeout) = (child.clone(), 20 * SECOND);
        let request = Request::Migrate { child: id, to: to.node, forced: false, timeout };
        let id = world.request(0, request);
        world.run_for(15 * SECOND);
        let reply = world.nodes[0].replies.get(&id);
        let is_moved = matches!(reply, Some(Reply::Migrated(MigrateOutcome::Moved { .. })));
        assert!(is_moved, "seed {seed}: {reply:?}");
        world.check_end(true);
    }
}

#[test]
fn an_owner_that_can_never_give_way_is_named_by_a_leave_and_ends_when_its_child_is_stopped() {
    for seed in seeds(5) {
        let mut world = split(seed);
        let why = FreezeFailure::Encode { message: "on purpose".to_owned() };
        world.unfreezable = Some(why);
        world.heal();
        world.run_for(10 * SECOND);
        let mut stuck = BTreeMap::new();
        for (index, node) in world.nodes.iter().enumerate() {
            for (child, instance) in node.engine.children.instances() {
                if matches!(instance.phase(), Phase::Yielding { .. }) {
                    stuck.insert(child.clone(), index);
                }
            }
        }
        let index = *stuck.values().next().expect("somebody gives way");
        let stuck: Vec<ChildId> =
            stuck.into_iter().filter(|(_, at)| *at == index).map(|(child, _)| child).collect();
        let listed: Vec<ChildId> =
            world.nodes[index].engine.immovable().map(|(child, _)| child.clone()).collect();
        assert!(stuck.iter().all(|child| listed.contains(child)), "seed {seed}: {listed:?}");
        let id = world.request(index, Request::Leave { timeout: 5 * SECOND });
        world.run_for(6 * SECOND);
        match &world.nodes[index].replies[&id] {
            Reply::Left(Err(LeaveFailed::Timeout { left, .. })) => {
                for child in &stuck {
                    let named = left.iter().find(|left| left.child == *child);
                    let named = named.unwrap_or_else(|| panic!("seed {seed}: {left:?}"));
                    assert!(named.reason.contains("on purpose"), "seed {seed}: {}", named.reason);
                }
            }
            reply => panic!("seed {seed}: {reply:?}"),
        }
        let other = (index + 1) % 3;
        let (children, timeout) = (stuck.clone(), 10 * SECOND);
        world.request(other, Request::Stop { children, timeout });
        world.run_for(5 * SECOND);
        for child in &stuck {
            assert_eq!(world.runner(child), None, "seed {seed}: {child}");
        }
        world.unfreezable = None;
        world.request(index, Request::Leave { timeout: 30 * SECOND });
        world.run_for(20 * SECOND);
        assert!(world.nodes[index].left, "seed {seed}");
    }
}

#[test]
fn a_child_that_was_given_up_is_started_by_hand_while_it_is_handed_over() {
    let (mut hit, mut started) = (BTreeSet::new(), 0);
    for seed in seeds(60) {
        let (mut world, child, at) = World::given_up_away(seed);
        let other = (at + 1) % 3;
        // A successor is never started, or only begins to be.
        let is_late = world.dice.one_in(2);
        world.cannot.insert(other, if is_late { Cannot::Start } else { Cannot::Make });
        world.start_ms = (40, 60);
        let (to, timeout) = (world.nodes[other].me.id, 10 * SECOND);
        let request = Request::Migrate { child: child.clone(), to, forced: false, timeout };
        world.request(at, request);
        let moving = |world: &World| {
            let instance = world.nodes[at].engine.children.instance(&child)?;
            Some((instance.moving()?.stage(), instance.starts_later()))
        };
        for _ in 0..2_000 {
            if moving(&world).is_some() {
                break;
            }
            world.run_for(Duration::from_micros(100));
        }
        let id = world.start_with(at, "c", restarts::few());
        for _ in 0..300 {
            hit.extend(moving(&world));
            world.run_for(Duration::from_micros(100));
        }
        world.run_for(10 * SECOND);
        let Reply::Started(report) = &world.nodes[at].replies[&id] else { panic!("seed {seed}") };
        match &report.outcomes[..] {
            [(_, StartOutcome::Started { .. })] => {
                started += 1;
                assert_eq!(world.runner(&child), Some(at), "seed {seed}");
                assert!(world.failures(&child).iter().all(Option::is_none), "seed {seed}");
                world.check_end(true);
            }
            // Its home had heard that it is the other node's by then, and is started there.
            [(_, StartOutcome::Exists { node, .. })] => {
                assert!(is_late && *node == world.nodes[other].me.id, "seed {seed}: {report:?}");
            }
            outcomes => panic!("seed {seed}: {outcomes:?}"),
        }
    }
    assert!(started > 30, "{started}");
    assert!(hit.contains(&(SourceStage::Committed, true)), "{hit:?}");
    assert!(hit.iter().any(|(stage, _)| *stage < SourceStage::Committed), "{hit:?}");
}
