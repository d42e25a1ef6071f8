//! Members that say what no honest one would. What they can do ends when they are gone.

use super::*;
use crate::model::{
    child::{Entry, Ownership},
    message::{Claim, LogEntry, RollWord, SyncWord},
};

/// All children, each as it is owned.
fn owned(world: &World) -> Vec<(ChildId, NodeRun, Ownership)> {
    let registry = world.nodes[0].engine.registry();
    registry.children().map(|(child, run, owned)| (child.clone(), run, owned.clone())).collect()
}

/// Node `from` says a word to node `to`.
fn say(world: &mut World, from: usize, to: usize, message: PeerMessage) {
    let from = world.nodes[from].me.run();
    world.input(to, Input::Event(Event::Peer { from, message }));
}

#[test]
fn entries_at_the_highest_epoch_leave_no_child_without_an_owner() {
    for (seed, term) in seeds(3).zip([Epoch::LIMIT, Epoch::FIRST, 2 + Epoch::JUMP]) {
        let mut world = cluster(seed, 3, 60);
        let log = world.nodes[2].me.run();
        let from = world.nodes[2].engine.registry().version();
        let entries: Vec<LogEntry> = owned(&world)
            .into_iter()
            .zip(from + 1..)
            .map(|((child, _, ownership), version)| {
                let epoch = Epoch { term, attempt: 0 };
                let entry = Entry::Owned(Ownership { epoch, ..ownership });
                LogEntry { version, child, entry }
            })
            .collect();
        let upto = from + entries.len() as u64;
        for to in 0..2 {
            let entries = entries.clone();
            let word = SyncWord::Changes { log, from, upto, entries };
            say(&mut world, 2, to, PeerMessage::Sync(word));
            assert_eq!(world.nodes[to].faults.len(), 1, "seed {seed}: told once");
        }
        world.crash(2);
        world.run_for(6 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn a_promise_that_cannot_be_outbid_does_not_hold_up_a_takeover() {
    for seed in seeds(3) {
        let mut world = cluster(seed, 4, 40);
        world.nodes[3].lie = Some(|word| {
            if let PeerMessage::Roll(RollWord::Answer { holds, .. }) = word {
                holds.iter_mut().for_each(|held| held.promised = Some(Epoch::LIMIT));
            }
        });
        world.crash(1);
        world.run_for(6 * SECOND);
        world.check_end(false);
    }
}

#[test]
fn a_claim_that_jumps_is_not_obeyed() {
    let (mut world, child, _, other, home) = one_child(1);
    let home = world.index_of(home.node).expect("it is a node");
    let claims = vec![Claim { child: child.clone(), term: Epoch::LIMIT }];
    say(&mut world, home, other, PeerMessage::Roll(RollWord::Call { roll: 9, claims }));
    assert!(world.nodes[other].engine.children.promised.is_empty());
    assert_eq!(world.nodes[other].faults.len(), 1);
}
