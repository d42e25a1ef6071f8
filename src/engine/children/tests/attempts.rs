use super::{Node, child, id};
use crate::{
    engine::{
        children::attempts::{Attempts, MoveBackoff, Wanted},
        core::Timer,
    },
    model::id::{NodeId, RequestId},
};

fn waiter(n: u64) -> (NodeId, RequestId) {
    (id(1), RequestId(n))
}

#[test]
fn a_migration_that_is_asked_for_again_is_the_same_and_another_one_ends_it() {
    let mut attempts = Attempts::default();
    assert_eq!(attempts.want(Some(id(2)), false, waiter(1)), None);
    assert_eq!(attempts.want(Some(id(2)), false, waiter(2)), None);
    assert_eq!(attempts.want(Some(id(2)), false, waiter(1)), None, "a request is repeated");
    let (to, forced) = (Some(id(2)), false);
    let before = Wanted { to, forced, waiters: vec![waiter(1), waiter(2)] };
    assert_eq!(attempts.want(Some(id(3)), true, waiter(3)), Some(before));
    let (to, forced) = (Some(id(3)), true);
    let wanted = Wanted { to, forced, waiters: vec![waiter(3)] };
    assert_eq!(attempts.take_wanted(), Some(wanted));
    assert_eq!(attempts.wanted(), None);
}

#[test]
fn what_was_found_out_under_an_earlier_view_is_void() {
    let mut node = Node::new(&[2]);
    let mut attempts = Attempts::default();
    attempts.count_failure();
    attempts.back_off(MoveBackoff::View);
    attempts.refused_by(id(2));
    attempts.pass_over(&mut node.core, &child(), id(3));
    assert_eq!(node.timers(), [Timer::PassedOver(child())]);
    // A timer ends a backoff of its own kind alone.
    attempts.retry();
    assert_eq!(attempts.backoff(), Some(MoveBackoff::View));
    attempts.view_settled();
    assert_eq!((attempts.failures(), attempts.backoff()), (0, None));
    assert!(attempts.passed_over().nodes().is_empty());
}

#[test]
fn a_node_that_could_not_make_it_may_be_tried_again_and_one_that_refused_it_may_not() {
    let mut node = Node::new(&[2]);
    let mut attempts = Attempts::default();
    attempts.refused_by(id(2));
    attempts.pass_over(&mut node.core, &child(), id(3));
    node.pass(node.core.config.settings.pass_over);
    assert!(attempts.try_passed_over(&mut node.core, &child()));
    assert_eq!(attempts.passed_over().nodes(), &[id(2)].into());
    assert!(!attempts.try_passed_over(&mut node.core, &child()));
}
