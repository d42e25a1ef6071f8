//! Members that heartbeat and do not say what they must.

use super::*;

/// Node 3 is found mute: this node votes against it.
fn found_mute() -> Bench {
    let mut bench = Bench::with(&[2, 3]);
    bench.membership.is_mute(bench.now, run(3));
    assert_eq!(bench.outputs(), [suspected(3)]);
    assert_eq!(bench.status().silent, lives(&[3]));
    bench
}

/// Node 3 in its next life.
fn renewed() -> Member {
    Member { incarnation: Incarnation { started: 101, nonce: 3 }, revision: 1, ..member(3) }
}

#[test]
fn a_mute_member_that_is_back_before_the_verdict_on_it_is_out_and_held_off() {
    let mut bench = found_mute();
    // Node 2 has declared it down, and it has heard so before this node.
    let mut word = bench.tell(3, |status| status.me = Some(Arc::new(renewed())));
    if let MemberWord::Heartbeat { incarnation, .. } = &mut word {
        *incarnation = renewed().incarnation;
    }
    assert_eq!(bench.word(3, word), gone_down(3));
    assert!(bench.membership.fenced(id(3), life(3)));
    assert!(!bench.membership.fenced(id(3), renewed().incarnation), "nobody voted on that");
    assert_eq!(bench.word(2, down(3, &[1, 2])), [], "it is carried out");
    // It comes in like any other that was mute: when its time is over.
    bench.unlink(3);
    bench.link(hello(renewed(), vec![]));
    bench.tells_view(2, &[1, 2]);
    bench.lists(2, &[3]);
    assert_eq!(bench.members(), [1, 2]);
    assert_eq!(bench.status().joining, LifeSet::default());
    bench.pass(6 * SECOND, &[2]);
    bench.link(hello(renewed(), vec![]));
    assert_eq!(bench.status().joining, [renewed().life()].into_iter().collect());
}

#[test]
fn a_mute_member_whose_hello_comes_before_the_verdict_on_it_is_out_with_its_link() {
    let mut bench = found_mute();
    assert_eq!(bench.link(hello(renewed(), vec![])), gone_down(3));
    assert_eq!(bench.members(), [1, 2]);
    assert!(bench.membership.fenced(id(3), life(3)));
    assert!(!bench.membership.fenced(id(3), renewed().incarnation), "nobody voted on that");
    bench.unlink(3);
    // The next link is one to an outsider.
    bench.link(hello(renewed(), vec![]));
    assert!(bench.membership.is_linked(id(3)));
    assert_eq!(bench.members(), [1, 2]);
    assert_eq!(bench.status().joining, LifeSet::default());
}

#[test]
fn a_member_that_was_forgiven_comes_back_in_its_place() {
    let mut bench = found_mute();
    bench.membership.is_not_mute(run(3));
    assert_eq!(bench.link(hello(renewed(), vec![])), [recovered(3), MemberOutput::ViewChanged]);
    assert_eq!(bench.members(), [1, 2, 3]);
}

#[test]
fn asked_about_a_run_that_it_holds_off_this_node_votes_against_it() {
    let mut bench = found_mute();
    bench.word(2, down(3, &[1, 2]));
    bench.unlink(3);
    bench.link(hello(renewed(), vec![]));
    assert_eq!(bench.status().silent, []);
    // Node 2 had not found it mute before, and has it in.
    let mut told = view(&[1, 2, 3]);
    told.members.insert(id(3), renewed());
    bench.views.insert(2, told.id());
    let members = told.members.into_values().collect();
    let view = bench.view_of(2);
    bench.word(2, MemberWord::View { view, base: None, members, gone: vec![] });
    assert_eq!(bench.members(), [1, 2]);
    bench.says(2, |status| status.silent = vec![renewed().life()]);
    assert_eq!(bench.status().silent, [renewed().life()]);
}
