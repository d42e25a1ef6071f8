//! Rule 7: first settle.

use super::*;

#[test]
fn who_has_not_settled_yet_declares_nobody_and_goes_back_to_waiting_when_it_is_cut_off() {
    let mut bench = Bench::waiting();
    bench.link(hello(member(2), vec![]));
    bench.link(hello(member(3), vec![]));
    for n in [2, 3] {
        bench.tells_view(n, &[1, 2, 3]);
        bench.says(n, |_| {});
    }
    assert_eq!(bench.members(), [1, 2, 3]);
    assert_eq!(bench.pass(3 * SECOND, &[]), [suspected(2), suspected(3)]);
    assert_eq!(bench.status().silent, lives(&[2, 3]), "it votes all the same");
    let outputs = bench.pass(3 * SECOND, &[]);
    assert_eq!(
        outputs,
        [send(2, MemberWord::Ask), send(3, MemberWord::Ask), MemberOutput::ViewChanged]
    );
    assert_eq!(bench.members(), [1]);
    assert!(bench.membership.is_waiting() && !bench.membership.is_proven());
    assert!(!bench.membership.fenced(id(2), life(2)) && !bench.membership.fenced(id(3), life(3)));
    assert_eq!(bench.membership.incarnation(), life(1), "the same life");
    // All that it heard is forgotten: what they said before would take it in again at once.
    let contact = &bench.membership.roster.contacts()[&id(2)];
    assert!(contact.view().is_none() && contact.status().is_none());
    assert_eq!(bench.status().joining, life_set(&[]));
    // What they say now counts.
    let word = bench.tell(2, |_| {});
    bench.word(2, word);
    bench.tells_view(2, &[1, 2, 3]);
    assert_eq!(bench.members(), [1], "it does not hear all of them");
    let word = bench.tell(3, |_| {});
    bench.word(3, word);
    assert_eq!(bench.members(), [1, 2, 3]);
}

#[test]
fn who_has_settled_once_goes_on_alone() {
    let mut bench = Bench::waiting();
    bench.link(hello(member(2), vec![]));
    bench.tells_view(2, &[1, 2]);
    bench.membership.settled(bench.now);
    assert!(bench.membership.is_proven());
    bench.pass(6 * SECOND, &[]);
    assert_eq!(bench.members(), [1]);
    assert!(bench.membership.is_proven() && bench.membership.fenced(id(2), life(2)));
}

#[test]
fn a_node_that_is_alone_does_not_settle_with_others() {
    let mut bench = Bench::waiting();
    bench.membership.settled(bench.now);
    assert!(bench.membership.is_waiting());
}

#[test]
fn a_node_that_was_cut_off_dials_on_whom_it_had_no_link_to_only_for_a_while() {
    let mut bench = Bench::waiting();
    bench.link(hello(member(2), vec![]));
    bench.tells_view(2, &[1, 2]);
    bench.unlink(2);
    bench.pass(6 * SECOND, &[]);
    assert!(bench.membership.is_waiting());
    let outputs = bench.pass(31 * SECOND, &[]);
    assert!(outputs.contains(&disconnect(2, "it was not reached for long")), "{outputs:?}");
}
