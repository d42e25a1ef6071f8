//! Members that name versions of the logs of runs that are gone, and that nobody has: who waits for them, and
//! what comes of what others have.

use super::{
    waits::{gone, told},
    *,
};
use crate::model::message::{SyncWord, Watermark};

/// How a member says that it has what does not exist. It gives nothing.
fn overstate(message: &mut PeerMessage) {
    let mark = Watermark { log: gone(), version: 1 << 62 };
    match message {
        PeerMessage::Sync(SyncWord::In { gone, .. }) => gone.push(mark),
        PeerMessage::Sync(SyncWord::Digest { watermarks }) => watermarks.push(mark),
        PeerMessage::Sync(SyncWord::Changes { log, from, upto, entries }) if *log == gone() => {
            *upto = *from;
            entries.clear();
        }
        _ => {}
    }
}

/// Another log that does not exist.
fn overstate_another(message: &mut PeerMessage) {
    if let PeerMessage::Sync(SyncWord::In { gone: named, .. }) = message {
        let log = NodeRun { nonce: 9, ..gone() };
        named.push(Watermark { log, version: 1 << 62 });
    }
}

/// So many nodes, without digests: what is lacking is found by what members say when a view is adopted.
fn nodes(seed: u64, count: usize) -> World {
    let mut world = World::new(seed, 0);
    world.digest = 60 * SECOND;
    for _ in 0..count {
        world.join();
    }
    world.run_for(5 * SECOND);
    world.calm = false;
    world
}

/// A run that is gone has told one member of a child, and that one has told nobody yet.
fn told_to_one(world: &mut World, index: usize, by: usize, name: &str, version: u64) -> ChildId {
    let child = ChildId::new(name).expect("a valid id");
    world.mute.insert(index);
    told(world, index, by, &child, version);
    world.run_for(Duration::from_millis(20));
    world.mute.clear();
    world.children.push(child.clone());
    child
}

/// Runs on until these have settled on a view of so many members.
fn settle(world: &mut World, indexes: &[usize], members: usize) {
    let has = |world: &World, index: usize| {
        let engine = &world.nodes[index].engine;
        engine.is_settled() && engine.view().members.len() == members
    };
    for _ in 0..20_000 {
        if indexes.iter().all(|index| has(world, *index)) {
            return;
        }
        world.run_for(Duration::from_millis(1));
    }
    panic!("seed {}: they do not settle", world.seed);
}

fn is_settled(world: &World, index: usize) -> bool {
    world.nodes[index].engine.is_settled()
}

/// A member tells a node that it has what does not exist.
fn claim(world: &mut World, liar: usize, index: usize) {
    let from = world.nodes[liar].me.run();
    let own = world.nodes[index].engine.registry().watermark(from);
    let watermarks = [(from, own), (gone(), 1 << 62)];
    let watermarks = watermarks.map(|(log, version)| Watermark { log, version }).to_vec();
    let message = PeerMessage::Sync(SyncWord::Digest { watermarks });
    world.input(index, Input::Event(Event::Peer { from, message }));
}

/// How often a node has told that it goes on without what another knows.
fn went_on(world: &World, index: usize, without: usize) -> usize {
    let text = format!("goes on without what n{without} knows");
    world.nodes[index].unsettled.iter().filter(|reason| reason.starts_with(&text)).count()
}

fn watermark(world: &World, index: usize) -> u64 {
    world.nodes[index].engine.registry().watermark(gone())
}

#[test]
fn who_overstates_a_dead_nodes_log_is_told_of_once_and_waited_for_once() {
    for seed in seeds(5) {
        let mut world = nodes(seed, 5);
        world.nodes[4].lie = Some(overstate);
        world.crash(3);
        settle(&mut world, &[0, 1, 2], 4);
        let began = world.now;
        world.crash(2);
        settle(&mut world, &[0, 1], 3);
        assert!(world.now - began < 2 * SECOND, "seed {seed}: it is waited for again");
        for index in [0, 1] {
            assert_eq!(went_on(&world, index, 4), 1, "seed {seed}: n{index}");
        }
    }
}

#[test]
fn two_that_overstate_a_dead_nodes_log_do_not_keep_what_a_third_one_has_of_it_from_the_others() {
    for seed in seeds(10) {
        let mut world = nodes(seed, 6);
        for liar in [3, 4] {
            world.nodes[liar].lie = Some(overstate);
        }
        told_to_one(&mut world, 2, 0, "c", 1);
        world.crash(5);
        for index in [0, 1] {
            // They say it over and over: also after each word of the third one.
            while world.nodes[index].engine.view().members.len() > 5 || !is_settled(&world, index) {
                for liar in [3, 4] {
                    claim(&mut world, liar, index);
                }
                world.run_for(Duration::from_millis(1));
            }
            assert_eq!(watermark(&world, index), 1, "seed {seed}: n{index}");
        }
        world.run_for(5 * SECOND);
        world.check_end(true);
        for index in [0, 1] {
            assert_eq!(went_on(&world, index, 2), 0, "seed {seed}: n{index}");
        }
    }
}

#[test]
fn who_overstates_a_dead_nodes_log_and_leaves_is_not_waited_for() {
    for seed in seeds(5) {
        let mut world = nodes(seed, 5);
        world.nodes[4].lie = Some(overstate);
        told_to_one(&mut world, 2, 0, "c", 1);
        world.crash(3);
        let waits = |world: &World| {
            let waits_for = world.nodes[0].engine.waits_for().unwrap_or_default();
            waits_for.contains("what n4 knows of children of nodes that are gone")
        };
        while !waits(&world) {
            world.run_for(Duration::from_millis(1));
        }
        world.crash(4);
        settle(&mut world, &[0, 1, 2], 3);
        for index in 0..3 {
            assert_eq!(watermark(&world, index), 1, "seed {seed}: n{index}");
            assert_eq!(went_on(&world, index, 4), 0, "seed {seed}: n{index}");
        }
        world.run_for(5 * SECOND);
        world.check_end(true);
    }
}

#[test]
fn who_has_named_one_log_that_does_not_exist_is_waited_for_when_it_has_what_another_one_told() {
    for seed in seeds(5) {
        let mut world = nodes(seed, 5);
        let first = ChildId::new("c1").expect("a valid id");
        for index in 0..5 {
            told(&mut world, index, (index + 1) % 5, &first, 1);
        }
        world.children.push(first);
        world.nodes[2].lie = Some(overstate_another);
        world.crash(4);
        settle(&mut world, &[0, 1, 3], 4);
        assert_eq!(went_on(&world, 0, 2), 1, "seed {seed}: it was not found out");
        told_to_one(&mut world, 2, 0, "c2", 2);
        world.crash(3);
        settle(&mut world, &[0, 1], 3);
        for index in [0, 1] {
            assert_eq!(watermark(&world, index), 2, "seed {seed}: n{index}");
        }
        world.run_for(5 * SECOND);
        world.check_end(false);
    }
}
