//! Other runs of a node that is known.

use super::*;

#[test]
fn a_new_run_takes_the_place_of_one_whose_link_is_closed() {
    let mut bench = Bench::with(&[2]);
    bench.unlink(2);
    let expected = [
        MemberOutput::Event(HubEvent::NodeDown { node: id(2) }),
        MemberOutput::Gone { run: run(2), left: false },
        connect(2),
        MemberOutput::ViewChanged,
    ];
    assert_eq!(bench.link(hello(second_run(2), vec![])), expected);
    assert!(bench.membership.fenced(id(2), life(2)));
    assert_eq!(bench.unlink(2), [], "the old link is nothing to the new run");
    assert!(bench.membership.is_linked(id(2)));
}

#[test]
fn a_new_run_waits_until_the_old_one_was_silent_when_probed() {
    let mut bench = Bench::with(&[2]);
    assert_eq!(bench.link(hello(second_run(2), vec![])), []);
    assert_eq!(bench.pass(SECOND + QUARTER, &[]), []);
    let outputs = bench.pass(QUARTER, &[]);
    assert_eq!(outputs[1], MemberOutput::Gone { run: run(2), left: false });
    assert_eq!(bench.membership.run_of(id(2)), Some(second_run(2).run()));
}

#[test]
fn a_second_process_with_the_key_of_one_that_answers_is_refused() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(second_run(2), vec![]));
    let reason = "another process with the same key is alive";
    let refused = HubEvent::PeerRefused { node: Some(id(2)), reason: reason.to_owned() };
    let refused = [MemberOutput::Event(refused), disconnect(2, reason)];
    let mut expected = refused.to_vec();
    expected.push(connect(2));
    assert_eq!(bench.pass(2 * SECOND, &[2]), expected);
    // The link that was closed for its sake is no proof against the old one.
    bench.unlink(2);
    assert_eq!(bench.link(hello(second_run(2), vec![])), refused);
    assert!(bench.membership.is_live(run(2)));
}

#[test]
fn words_of_another_run_are_nothing_to_the_one_that_is_known() {
    let mut bench = Bench::with(&[2]);
    let me = second_run(2);
    let mut word = bench.tell(2, |status| status.me = Some(Arc::new(me.clone())));
    if let MemberWord::Heartbeat { incarnation, .. } = &mut word {
        *incarnation = me.incarnation;
    }
    assert_eq!(bench.handle(me.run(), word), []);
    assert_eq!(bench.handle(me.run(), MemberWord::Bye { incarnation: me.incarnation }), []);
    assert_eq!(bench.word(2, MemberWord::Bye { incarnation: me.incarnation }), []);
    assert!(bench.membership.is_live(run(2)));
}

#[test]
fn a_run_that_is_heard_by_way_of_others_is_not_replaced_before_it_was_silent() {
    for lives in [true, false] {
        let mut bench = Bench::with(&[2, 3]);
        bench.unlink(2);
        let relayed = |bench: &mut Bench| {
            bench.now += QUARTER;
            let word = bench.beat(2);
            bench.membership.handle(bench.now, run(2), false, word);
            bench.outputs();
        };
        relayed(&mut bench);
        assert_eq!(bench.link(hello(second_run(2), vec![])), []);
        for _ in 0..6 {
            if lives {
                relayed(&mut bench);
            }
            bench.pass(if lives { Duration::ZERO } else { QUARTER }, &[3]);
        }
        assert_eq!(bench.membership.is_live(run(2)), lives);
        let expected = if lives { run(2) } else { second_run(2).run() };
        assert_eq!(bench.membership.run_of(id(2)), Some(expected));
    }
}
