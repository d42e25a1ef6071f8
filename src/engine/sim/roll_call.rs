//! What is left of the children of a node that went down: executions of roll calls, word by word.

use super::*;
use crate::{
    engine::children::Begin,
    model::{
        child::Ownership,
        message::{Claim, Copy, RollWord},
    },
};

/// Node `from` says a word to node `to`, which hears it at once.
fn say(world: &mut World, from: usize, to: usize, word: RollWord) {
    let from = world.nodes[from].me.run();
    world.input(to, Input::Event(Event::Peer { from, message: PeerMessage::Roll(word) }));
}

fn call(world: &mut World, home: usize, to: usize, child: &ChildId, term: u64) {
    let claims = vec![Claim { child: child.clone(), term }];
    say(world, home, to, RollWord::Call { roll: 1_000 + term, claims });
}

/// Home gives the child to a node, in a term, made of what it holds.
fn give(world: &mut World, home: usize, to: usize, child: &ChildId, term: u64, from: Copy) {
    let (_, owned) = world.nodes[home].engine.registry().owner(child).expect("it is owned");
    let epoch = Epoch { term, attempt: 0 };
    let ownership = Ownership { epoch, ..owned.clone() };
    say(world, home, to, RollWord::Take { ownership, from });
}

fn begins(world: &World, index: usize, child: &ChildId) -> bool {
    let instance = world.nodes[index].engine.children.instances.get(child);
    instance.is_some_and(|instance| {
        matches!(instance.phase, Phase::Starting { why: Begin::Recovered, .. })
    })
}

#[test]
fn a_child_is_taken_in_a_term_alone_that_was_promised() {
    for promised in [None, Some(7), Some(8), Some(9)] {
        let (mut world, child, _, other, home) = one_child(1);
        let home = world.index_of(home.node).expect("it is a node");
        if let Some(term) = promised {
            call(&mut world, home, other, &child, term);
        }
        give(&mut world, home, other, &child, 8, Copy::Nothing);
        assert_eq!(begins(&world, other, &child), promised == Some(8), "{promised:?}");
    }
}
