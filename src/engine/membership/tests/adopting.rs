//! Rule 4: adopting.

use super::*;

#[test]
fn who_has_taken_this_node_in_is_followed_as_far_as_this_node_hears() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    // Node 2 has taken in two, and one of them this node does not hear: it may be dead.
    assert_eq!(
        bench.tells_view(2, &[1, 2, 3, 4]),
        [connect(4), joined(3), MemberOutput::ViewChanged]
    );
    assert_eq!(bench.members(), [1, 2, 3]);
    bench.link(hello(member(4), vec![]));
    assert_eq!(bench.members(), [1, 2, 3, 4], "as soon as it is heard");
}

#[test]
fn a_view_that_holds_another_life_of_this_node_is_not_followed() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    bench.word(2, fenced(1));
    assert_eq!(bench.tells_view(2, &[1, 2, 3]), [], "that life of node 1 is over");
    assert_eq!(bench.members(), [1, 2]);
}

#[test]
fn the_dead_are_not_brought_back_by_a_view_that_is_late() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(3 * SECOND, &[2]);
    bench.votes_against(2, &[3]);
    assert_eq!(bench.members(), [1, 2]);
    assert_eq!(bench.tells_view(2, &[1, 2, 3]), [], "its life is over");
    let word = bench.beat(3);
    assert_eq!(bench.word(3, word), [greet(run(3), fenced(3))]);
    assert_eq!(bench.members(), [1, 2]);
}

#[test]
fn a_member_that_renews_is_the_same_run_in_another_life() {
    let mut bench = Bench::with(&[2]);
    let incarnation = Incarnation { started: 200, nonce: 2 };
    let mut word = bench.beat(2);
    if let MemberWord::Heartbeat { incarnation: told, .. } = &mut word {
        *told = incarnation;
    }
    let outputs = bench.word(2, word);
    assert_eq!(outputs, [send(2, MemberWord::Ask), MemberOutput::ViewChanged]);
    let word = bench.beat(2); // A word of the life before.
    bench.word(2, word);
    let seen = bench.membership.view().member(id(2)).map(|member| member.incarnation);
    assert_eq!(seen, Some(incarnation));
}

#[test]
fn a_view_is_told_as_a_difference_and_asked_for_when_its_base_is_unknown() {
    let mut bench = Bench::with(&[2, 3]);
    let base = view(&[1, 2, 3]).id();
    bench.link(hello(member(4), vec![]));
    let told = view(&[1, 2, 3, 4]).id();
    let word = |base| MemberWord::View { view: told, base, members: vec![member(4)], gone: vec![] };
    assert_eq!(bench.word(2, word(Some(base))), [joined(4), MemberOutput::ViewChanged]);
    assert_eq!(bench.word(3, word(Some(ViewId(7)))), [send(3, MemberWord::Ask)]);
    assert_eq!(bench.word(3, word(Some(ViewId(7)))), [], "once in half a heartbeat");
    // A member that is gone is told too.
    let gone =
        MemberWord::View { view: base, base: Some(told), members: vec![], gone: vec![id(4)] };
    bench.word(2, gone);
    let lives = bench.membership.roster.contacts()[&id(2)].view().cloned().expect("it was told");
    assert_eq!(lives.keys().copied().collect::<Vec<_>>(), [id(1), id(2), id(3)]);
}

#[test]
fn a_heartbeat_with_an_unknown_view_makes_this_node_ask_and_an_ask_is_answered_in_full() {
    let mut bench = Bench::with(&[2]);
    bench.views.insert(2, ViewId(9));
    let word = bench.beat(2);
    assert_eq!(bench.word(2, word), [send(2, MemberWord::Ask)]);
    bench.now += QUARTER;
    bench.membership.handle(bench.now, run(2), true, MemberWord::Ask);
    let outputs = bench.all();
    let full = outputs.iter().any(|output| {
        matches!(output, MemberOutput::Send { word: MemberWord::Heartbeat { status, .. }, .. }
            if status.is_some())
    });
    let whole = outputs.iter().any(|output| {
        matches!(output, MemberOutput::Send { word: MemberWord::View { base: None, .. }, .. })
    });
    assert!(full && whole, "{outputs:?}");
}
