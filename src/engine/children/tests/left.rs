use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Node, child, child_of, epoch, id, kind, member, owned, run};
use crate::{
    engine::{
        children::{Left, Offer},
        handover::SourceInput,
        io::Exit,
    },
    model::{
        child::{ChildSpec, Entry, Ownership},
        member::Member,
        report::MOST_LEFT,
    },
};

impl Node {
    /// This node is drained, beside these members.
    fn drained(mut self, others: &[u8]) -> Self {
        let me = Member { draining: true, ..member(1) };
        self.adopt([me].into_iter().chain(others.iter().copied().map(member)));
        self
    }

    /// Why the child is left here.
    fn why(&self, waits_for: Option<&str>) -> String {
        let left = self.children.left(&self.core, waits_for);
        assert_eq!((left.children, left.first.len()), (1, 1));
        assert_eq!(left.first[0].child, child());
        left.first[0].reason.clone()
    }
}

#[test]
fn a_child_that_could_go_and_has_not_is_left_for_a_reason_that_somebody_can_act_on() {
    let node = || Node::running(&[2]).drained(&[2, 3]);
    assert_eq!(node().why(None), "it was not its turn yet");
    assert_eq!(node().why(Some("waits for n2")), "the cluster waits for n2");
    let mut bound = node();
    bound.promise(3, 5);
    assert_eq!(bound.why(None), "a roll call is under way");
    let mut merging = node();
    assert!(merging.children.merges.begin(&child(), epoch(1, 7), run(3)));
    let reason = "the state of another owner is being merged into it, or parked";
    assert_eq!(merging.why(None), reason);
    let mut cut_off = node();
    cut_off.core.reachable.clear();
    assert_eq!(cut_off.why(None), "no link leads to n2");
    let mut failed = node();
    let instance = failed.children.instance_mut(&child()).expect("it is here");
    instance.attempts_mut().note_trouble(id(3), "boom".to_owned());
    assert_eq!(failed.why(None), "n3 did not take it: boom");
}

#[test]
fn a_child_that_nobody_takes_is_left_with_what_was_said_last() {
    let alone = Node::running(&[1]).drained(&[]);
    assert_eq!(alone.why(None), "no other node takes children");
    let mut unknown = Node::running(&[1]).drained(&[2]);
    unknown.core.learn_kinds(run(2), Vec::new());
    let reason = "no other node that takes children has registered the kind kind";
    assert_eq!(unknown.why(None), reason);
    let mut refused = Node::running(&[1]).drained(&[2]);
    let instance = refused.children.instance_mut(&child()).expect("it is here");
    instance.attempts_mut().refused_by(id(2));
    assert_eq!(refused.why(None), "no other node takes it");
    let instance = refused.children.instance_mut(&child()).expect("it is here");
    instance.attempts_mut().note_trouble(id(2), "boom".to_owned());
    assert_eq!(refused.why(None), "no other node takes it; n2, for one: boom");
}

#[test]
fn a_child_on_its_way_is_left_for_whom_it_waits_and_since_when() {
    use SourceInput::*;
    for (inputs, reason) in [
        (vec![], "n2 has not said whether it takes it, for 1.5 s"),
        (vec![Accepted], "a handler that it has started has not ended, for 1.5 s"),
        (vec![Accepted, Frozen(Ok(8))], "n2 has not said that it has its state, for 1.5 s"),
        (
            vec![Accepted, Frozen(Ok(8)), Ready],
            "n2 owns it and has not said that it runs, for 1.5 s",
        ),
    ] {
        let mut node = Node::on_its_way(&inputs);
        node.pass(Duration::from_millis(1_500));
        assert_eq!(node.why(None), reason);
    }
}

#[test]
fn a_successor_in_the_making_is_left_until_it_is_known_whose_it_is() {
    let mut node = Node::new(&[1]);
    node.log_says(2, Entry::Owned(owned(epoch(1, 0))));
    let ownership = Ownership { epoch: epoch(1, 1), ..owned(epoch(1, 0)) };
    let (state, state_version, with_state) = (epoch(1, 0), 3, true);
    let offer = Offer { ownership, state, state_version, with_state, view: node.core.view_id };
    node.children.offered(&mut node.core, run(2), offer);
    assert_eq!(node.why(None), "n2 has not said whether this node has it");
}

#[test]
fn what_has_no_actor_is_not_left_and_of_many_the_first_are_named() {
    let mut node = Node::running(&[1]);
    let exit = Exit::Stopped;
    node.children.exited(&mut node.core, &child(), epoch(1, 0), &exit);
    assert_eq!(node.children.left(&node.core, None), Left::default());
    let many = MOST_LEFT + 3;
    for n in 0..many {
        let spec = Arc::new(ChildSpec::from_parts(child_of(n), kind(), Bytes::new()));
        node.children.begin(&mut node.core, spec, epoch(2, 0));
    }
    let left = node.children.left(&node.core, None);
    assert_eq!((left.children, left.first.len()), (many, MOST_LEFT));
    assert!(left.first.iter().all(|left| left.reason == "it is being started"));
}
