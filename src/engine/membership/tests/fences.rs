//! Rule 6: fences.

use super::*;

#[test]
fn a_node_that_is_declared_down_while_it_lives_comes_back_above_that_life() {
    let renewed =
        Member { incarnation: Incarnation { started: 101, nonce: 1 }, revision: 1, ..member(1) };
    let expected = [
        MemberOutput::Announce { me: renewed.clone(), known: vec![member(2)], fenced: vec![] },
        MemberOutput::Renewed,
        MemberOutput::Event(HubEvent::Rejoined),
    ];
    let mut bench = Bench::with(&[2]);
    bench.membership.handle(bench.now, run(2), true, down(1, &[2]));
    let outputs = bench.all();
    assert_eq!(outputs[..3], expected[..]);
    assert_eq!(outputs.last(), Some(&MemberOutput::ViewChanged));
    assert_eq!(bench.members(), [1, 2], "in place");
    assert_eq!(bench.word(2, fenced(1)), [], "told twice");

    let mut bench = Bench::with(&[2]);
    bench.membership.told_fenced(bench.now, life(1));
    assert_eq!(bench.all()[..3], expected[..]);

    // By a third that relays it, and by a word that says it beside other things.
    let mut bench = Bench::with(&[2]);
    bench.membership.handle(bench.now, run(8), false, fenced(1));
    assert_eq!(bench.all()[..3], expected[..]);
    let mut bench = Bench::with(&[2]);
    let mut word = bench.beat(2);
    if let MemberWord::Heartbeat { fence, .. } = &mut word {
        *fence = Some(life(1));
    }
    bench.membership.handle(bench.now, run(2), true, word);
    assert_eq!(bench.all()[..3], expected[..]);
}

#[test]
fn a_restarted_node_whose_clock_went_back_takes_a_higher_life_and_did_not_rejoin() {
    let mut bench = Bench::alone();
    bench.membership.told_fenced(bench.now, Incarnation { started: 500, nonce: 77 });
    assert_eq!(bench.outputs(), [MemberOutput::Renewed, MemberOutput::ViewChanged]);
    assert_eq!(bench.membership.incarnation(), Incarnation { started: 501, nonce: 1 });
}

#[test]
fn an_absurd_incarnation_is_neither_believed_nor_admitted() {
    let mut bench = Bench::with(&[2]);
    let absurd = Incarnation { started: u64::MAX, nonce: 1 };
    assert_eq!(bench.word(2, MemberWord::Fenced { incarnation: absurd }), []);
    let absurd = Member { incarnation: Incarnation { started: u64::MAX, nonce: 3 }, ..member(3) };
    let members = vec![member(1), member(2), absurd.clone()];
    let word = MemberWord::View { view: ViewId(4), base: None, members, gone: vec![] };
    assert_eq!(bench.word(2, word), []);
    let reason = "its incarnation is absurd";
    let refused = HubEvent::PeerRefused { node: Some(id(3)), reason: reason.to_owned() };
    let expected = [MemberOutput::Event(refused), disconnect(3, reason)];
    assert_eq!(bench.link(hello(absurd.clone(), vec![])), expected);
    let mut word = bench.tell(3, |status| status.me = Some(Arc::new(absurd.clone())));
    if let MemberWord::Heartbeat { incarnation, .. } = &mut word {
        *incarnation = absurd.incarnation;
    }
    assert_eq!(bench.handle(absurd.run(), word), []);
    assert_eq!(bench.members(), [1, 2]);
}

#[test]
fn a_life_that_is_over_is_turned_away_and_a_higher_one_is_welcome() {
    let mut bench = Bench::with(&[2]);
    bench.unlink(2);
    bench.refused(2);
    bench.pass(HALF, &[]);
    let told = greet(run(2), fenced(2));
    let expected = [told.clone(), disconnect(2, "this life of it is over"), connect(2)];
    assert_eq!(bench.link(hello(member(2), vec![])), expected);
    let word = bench.beat(2);
    assert_eq!(bench.word(2, word), std::slice::from_ref(&told));
    // By the path it came: the answer to a word that was relayed is relayed.
    let word = bench.tell(2, |_| {});
    bench.membership.handle(bench.now, run(2), false, word);
    assert_eq!(bench.outputs(), std::slice::from_ref(&told));
    let word = MemberWord::Confirm { incarnation: life(2), question: 1 };
    assert_eq!(bench.word(2, word), [told]);
    let renewed = Member { incarnation: Incarnation { started: 101, nonce: 2 }, ..member(2) };
    assert_eq!(bench.link(hello(renewed, vec![])), []);
    assert_eq!(bench.membership.joiners().len(), 1);
}

#[test]
fn a_life_of_ones_own_that_cannot_have_been_is_not_believed_to_be_over() {
    let mut bench = Bench::with(&[2]);
    // A later one of this run than this node knows of, and one from a clock that is wrong by ages.
    for (started, nonce) in [(101, 1), (1 << 62, 1), (1 << 62, 77), (1 << 43, 77)] {
        let incarnation = Incarnation { started, nonce };
        assert_eq!(bench.word(2, MemberWord::Fenced { incarnation }), []);
        bench.membership.told_fenced(bench.now, incarnation);
    }
    assert_eq!(bench.membership.incarnation(), life(1));
    // A century is possible.
    bench.membership.told_fenced(bench.now, Incarnation { started: 3_000_000_000_000, nonce: 77 });
    assert_eq!(bench.membership.incarnation().started, 3_000_000_000_001);
}
