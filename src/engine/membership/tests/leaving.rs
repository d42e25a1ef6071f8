//! Leaving, and what a member is told to have become.

use super::*;

#[test]
fn who_leaves_is_told_of_takes_no_children_and_stays_in_until_its_bye() {
    let mut bench = Bench::with(&[2]);
    bench.membership.start_leaving(bench.now);
    let told = |event| [MemberOutput::Event(event), MemberOutput::ViewChanged];
    assert_eq!(bench.outputs(), told(HubEvent::NodeLeaving { node: id(1) }));
    assert_eq!(bench.membership.me().state, MemberState::Leaving);
    bench.membership.start_leaving(bench.now);
    assert_eq!(bench.outputs(), []);
    bench.membership.cancel_leaving(bench.now);
    assert_eq!(bench.outputs(), told(HubEvent::NodeResumed { node: id(1) }));
    assert_eq!(bench.membership.me().state, MemberState::Alive);
    bench.membership.bye(bench.now);
    let word = MemberWord::Bye { incarnation: life(1) };
    assert_eq!(bench.outputs(), [send(2, word), MemberOutput::ViewChanged]);
    assert_eq!(bench.members(), [1]);
    assert!(bench.membership.is_linked(id(2)), "its Bye is still to be sent");
    assert_eq!(bench.membership.deadline(), None);
    assert_eq!(bench.link(hello(member(3), vec![])), []);
}

#[test]
fn who_is_drained_says_so_takes_no_children_and_is_a_member_like_any_other() {
    let mut bench = Bench::with(&[2]);
    let told = |event| [MemberOutput::Event(event), MemberOutput::ViewChanged];
    bench.membership.set_draining(bench.now, true);
    assert_eq!(bench.outputs(), told(HubEvent::NodeDraining { node: id(1) }));
    bench.membership.set_draining(bench.now, true);
    assert_eq!(bench.outputs(), []);
    assert!(!bench.membership.me().takes_children());
    // Another one is, too; that it falls silent changes nothing about it.
    let drained = Member { draining: true, revision: 1, ..member(2) };
    let outputs = bench.says(2, |status| status.me = Some(Arc::new(drained)));
    assert_eq!(outputs, told(HubEvent::NodeDraining { node: id(2) }));
    assert_eq!(bench.state(2), Some(MemberState::Alive));
    // In a later life of the run it is drained as before.
    bench.membership.told_fenced(bench.now, life(1));
    bench.outputs();
    assert!(bench.membership.me().draining && bench.membership.incarnation() > life(1));
    bench.membership.set_draining(bench.now, false);
    assert_eq!(bench.outputs(), told(HubEvent::NodeResumed { node: id(1) }));
}

#[test]
fn a_node_that_says_bye_is_gone_without_suspicion() {
    let mut bench = Bench::with(&[2]);
    let leaving = Member { state: MemberState::Leaving, revision: 1, ..member(2) };
    let event = MemberOutput::Event(HubEvent::NodeLeaving { node: id(2) });
    let outputs = bench.says(2, |status| status.me = Some(Arc::new(leaving.clone())));
    assert_eq!(outputs, [event, MemberOutput::ViewChanged]);
    assert_eq!(bench.says(2, |status| status.me = Some(Arc::new(leaving.clone()))), []);
    assert!(bench.membership.is_live(run(2)));
    let expected = [
        MemberOutput::Event(HubEvent::NodeLeft { node: id(2) }),
        MemberOutput::Gone { run: run(2), left: true },
        disconnect(2, "it left"),
        MemberOutput::ViewChanged,
    ];
    assert_eq!(bench.word(2, MemberWord::Bye { incarnation: life(2) }), expected);
    assert_eq!(bench.unlink(2), []);
    bench.link(hello(member(3), vec![]));
    assert_eq!(bench.tells_view(3, &[2, 3]), [], "nobody dials it");
}

#[test]
fn a_joiner_that_goes_again_does_not_come_in() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    assert_eq!(bench.word(3, MemberWord::Bye { incarnation: life(3) }), [disconnect(3, "it left")]);
    // Node 2 had taken it in, and has not heard of it yet.
    assert_eq!(bench.tells_view(2, &[1, 2, 3]), []);
    let word = bench.beat(3);
    bench.word(3, word);
    assert_eq!(bench.members(), [1, 2]);
}

#[test]
fn a_member_that_stays_after_all_says_so_itself() {
    let mut bench = Bench::with(&[2, 3]);
    let leaving = Member { state: MemberState::Leaving, revision: 1, ..member(2) };
    bench.says(2, |status| status.me = Some(Arc::new(leaving)));
    bench.tells_view(3, &[1, 2, 3]);
    assert_eq!(bench.state(2), Some(MemberState::Leaving), "what another says is older");
    let stays = Member { revision: 2, ..member(2) };
    let event = MemberOutput::Event(HubEvent::NodeResumed { node: id(2) });
    assert_eq!(
        bench.says(2, |status| status.me = Some(Arc::new(stays))),
        [event, MemberOutput::ViewChanged]
    );
    assert_eq!(bench.state(2), Some(MemberState::Alive));
}

#[test]
fn what_a_member_became_is_learned_from_others_too_but_a_later_life_is_not() {
    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    let told = Member { state: MemberState::Leaving, revision: 1, ..member(3) };
    let event = MemberOutput::Event(HubEvent::NodeLeaving { node: id(3) });
    let word = |members| MemberWord::View { view: ViewId(1), base: None, members, gone: vec![] };
    assert_eq!(bench.word(2, word(vec![told.clone()])), [event, MemberOutput::ViewChanged]);
    let later = Member { incarnation: Incarnation { started: 150, nonce: 3 }, ..told };
    assert_eq!(bench.word(2, word(vec![later])), []);
    assert_eq!(bench.membership.view().member(id(3)).map(|m| m.incarnation), Some(life(3)));
}
