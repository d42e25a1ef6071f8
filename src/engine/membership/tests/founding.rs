//! Founding a cluster, or waiting for one.

use super::*;

#[test]
fn a_node_that_is_its_own_seed_founds_when_nobody_else_is_there() {
    let mut bench = Bench::waiting();
    bench.membership.seed(bench.now, "a".to_owned(), SeedOutcome::Itself);
    let founded = MemberOutput::Event(HubEvent::Founded);
    assert_eq!(bench.outputs(), [founded, MemberOutput::ViewChanged]);
    assert!(bench.membership.is_proven());
}

#[test]
fn a_node_that_waits_says_so_and_says_whether_it_may_found() {
    let mut bench = Bench::waiting();
    bench.link(hello(member(2), vec![]));
    assert_eq!(bench.status().waiting, Some(false));
    bench.says(2, |_| {});
    let outputs = bench.pass(10 * SECOND, &[2]);
    let seeds = vec![("a".to_owned(), SeedOutcome::Untried)];
    assert_eq!(outputs, [MemberOutput::Event(HubEvent::WaitingForSeeds { seeds })]);
}
