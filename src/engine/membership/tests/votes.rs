//! Rule 5: votes.

use super::*;

#[test]
fn a_silent_member_against_whom_all_vote_is_down() {
    let mut bench = Bench::with(&[2, 3, 4]);
    assert_eq!(bench.pass(3 * SECOND, &[2, 3]), [suspected(4)]);
    assert_eq!(bench.state(4), Some(MemberState::Suspect));
    assert_eq!(bench.status().silent, lives(&[4]), "that is this node's vote");
    assert_eq!(bench.votes_against(2, &[4]), []);
    let mut expected = vec![send(2, down(4, &[2, 3, 1])), send(3, down(4, &[2, 3, 1]))];
    expected.extend(gone_down(4));
    assert_eq!(bench.votes_against(3, &[4]), expected);
    assert!(bench.membership.fenced(id(4), life(4)) && !bench.membership.is_live(run(4)));
}

#[test]
fn one_who_hears_the_suspect_keeps_it_in_and_its_silent_link_is_closed() {
    let mut bench = Bench::with(&[2, 3, 4]);
    bench.pass(3 * SECOND, &[2, 3]);
    bench.votes_against(2, &[4]);
    // It is suspect, and heard by node 3 alone: that is enough.
    assert_eq!(bench.pass(30 * SECOND, &[2, 3]), []);
    assert_eq!(bench.state(4), Some(MemberState::Suspect));
    // What it says comes by way of node 3, while its link stands and swallows everything.
    let mut silent = 0;
    for _ in 0..8 {
        bench.now += QUARTER;
        let mut word = bench.beat(4);
        if let MemberWord::Heartbeat { hears: Some(heard), .. } = &mut word {
            heard.straight = false;
        }
        bench.membership.handle(bench.now, run(4), false, word);
        let addresses = vec!["/memory/4".to_owned()];
        let said = MemberOutput::Silent { node: id(4), addresses };
        silent += bench.outputs().iter().filter(|output| **output == said).count();
        let outputs = bench.pass(Duration::ZERO, &[]);
        assert_eq!(outputs, []);
    }
    assert_eq!(silent, 1);
}

#[test]
fn a_voter_that_is_suspect_itself_is_not_waited_for() {
    let mut bench = Bench::with(&[2, 3, 4]);
    bench.pass(SECOND, &[2, 3]);
    assert_eq!(bench.pass(2 * SECOND, &[2]), [suspected(4)]);
    assert_eq!(bench.votes_against(2, &[4]), [], "node 3 has not voted");
    let outputs = bench.pass(SECOND, &[2]);
    let down = [send(2, down(4, &[2, 1])), send(3, down(4, &[2, 1]))];
    assert_eq!(outputs[0], suspected(3));
    assert!(down.iter().all(|word| outputs.contains(word)), "{outputs:?}");
    assert_eq!((bench.state(4), bench.state(3)), (None, Some(MemberState::Suspect)));
}

#[test]
fn a_vote_that_was_taken_back_counts_no_more() {
    let mut bench = Bench::with(&[2, 3, 4]);
    bench.pass(3 * SECOND, &[2, 3]);
    bench.votes_against(2, &[4]);
    bench.votes_against(2, &[]);
    assert_eq!(bench.votes_against(3, &[4]), []);
    assert_eq!(bench.state(4), Some(MemberState::Suspect));
    // Nor does one against another life.
    let other = Life { node: id(4), incarnation: Incarnation { started: 99, nonce: 4 } };
    assert_eq!(bench.says(2, |status| status.silent = vec![other]), []);
    assert_eq!(bench.state(4), Some(MemberState::Suspect));
}

#[test]
fn this_node_takes_its_vote_back_when_it_hears_the_suspect_again() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(3 * SECOND, &[2]);
    assert_eq!(bench.status().silent, lives(&[3]));
    let word = bench.beat(3);
    assert_eq!(bench.word(3, word), [recovered(3)]);
    assert_eq!(bench.status().silent, []);
}

#[test]
fn asked_about_a_life_that_it_never_met_this_node_votes_at_once() {
    let mut bench = Bench::with(&[2]);
    bench.tells_view(2, &[1, 2, 3]);
    assert_eq!(bench.status().silent, []);
    bench.votes_against(2, &[3]);
    assert_eq!(bench.status().silent, lives(&[3]), "J died between two adoptions");
    // And it is bound by what is made of it.
    bench.word(2, down(3, &[1, 2]));
    assert!(bench.membership.fenced(id(3), life(3)));
}

#[test]
fn asked_about_a_life_that_it_hears_this_node_does_not_vote_against_it() {
    let mut bench = Bench::with(&[2, 3]);
    bench.votes_against(2, &[1, 3]);
    assert_eq!(bench.status().silent, [], "nor against itself");
    bench.link(hello(member(4), vec![]));
    bench.tells_view(2, &[1, 2, 3, 4]);
    bench.votes_against(2, &[4]);
    assert_eq!(bench.status().silent, []);
}

#[test]
fn a_vote_ends_when_nobody_has_the_life_any_more() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(3 * SECOND, &[2]);
    bench.votes_against(2, &[3]);
    assert_eq!(bench.members(), [1, 2]);
    // Node 2 has put it out as well, and still repeats the vote because this node gives it: neither
    // would ever stop.
    bench.tells_view(2, &[1, 2]);
    bench.votes_against(2, &[3]);
    assert_eq!(bench.status().silent, []);
}

#[test]
fn votes_on_members_come_before_all_that_others_ask_about() {
    let mut bench = Bench::with(&[0xfe, 0xff]);
    bench.pass(3 * SECOND, &[0xfe]);
    let strangers: Vec<Member> = (0..LISTED as u32)
        .map(|n| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            Member { id: NodeId::from_key(key), addresses: vec![], ..member(9) }
        })
        .collect();
    let silent: Vec<Life> = strangers.iter().map(Member::life).collect();
    let mut told = view(&[]);
    told.members = strangers.into_iter().map(|member| (member.id, member)).collect();
    bench.views.insert(0xfe, told.id());
    let members = told.members.into_values().collect();
    let word = MemberWord::View { view: bench.view_of(0xfe), base: None, members, gone: vec![] };
    bench.word(0xfe, word);
    bench.says(0xfe, |status| status.silent = silent);
    assert_eq!(bench.status().silent.len(), LISTED);
    assert!(bench.status().silent.contains(&member(0xff).life()));
}

#[test]
fn when_all_are_suspect_at_once_the_window_is_twice_as_long() {
    let mut bench = Bench::with(&[2, 3]);
    assert_eq!(bench.pass(3 * SECOND, &[]), [suspected(2), suspected(3)]);
    assert_eq!(bench.pass(2 * SECOND + 3 * QUARTER, &[]), []);
    let outputs = bench.pass(QUARTER, &[]);
    assert!(outputs.contains(&MemberOutput::Gone { run: run(2), left: false }));
    assert!(outputs.contains(&MemberOutput::Gone { run: run(3), left: false }));
}

#[test]
fn of_two_nodes_the_one_whose_redial_is_refused_is_down_after_half_a_heartbeat() {
    let mut bench = Bench::with(&[2]);
    assert_eq!(bench.unlink(2), []);
    assert_eq!(bench.refused(2), [suspected(2)]);
    assert_eq!(bench.pass(QUARTER, &[]), []);
    assert_eq!(bench.membership.deadline(), Some(bench.now + QUARTER));
    assert_eq!(bench.pass(QUARTER, &[]), gone_down(2));
}

#[test]
fn a_node_that_dials_in_time_is_not_down_though_its_host_refused() {
    let mut bench = Bench::with(&[2]);
    bench.unlink(2);
    bench.refused(2);
    bench.pass(QUARTER, &[]);
    assert_eq!(bench.link(hello(member(2), vec![member(1)])), [recovered(2)]);
    assert_eq!(bench.pass(2 * SECOND, &[2]), []);
}

#[test]
fn a_member_that_is_heard_by_way_of_others_is_not_down_though_its_host_refused() {
    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    assert_eq!(bench.refused(3), [suspected(3)]);
    let word = bench.beat(3);
    bench.membership.handle(bench.now, run(3), false, word);
    assert_eq!(bench.outputs(), [recovered(3)]);
}

#[test]
fn a_dial_that_fails_without_a_refusal_proves_nothing() {
    let mut bench = Bench::with(&[2]);
    bench.unlink(2);
    bench.membership.unreachable(bench.now, id(2), false);
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.pass(2 * SECOND, &[]), []);
}

#[test]
fn a_verdict_binds_who_voted_for_it() {
    let mut bench = Bench::with(&[2, 3, 4]);
    bench.pass(3 * SECOND, &[2, 3]);
    assert_eq!(bench.word(2, down(4, &[1, 2, 3])), gone_down(4));
}

#[test]
fn a_verdict_under_way_binds_a_voter_that_has_heard_the_life_again_since() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(3 * SECOND, &[2]);
    let word = bench.beat(3);
    bench.word(3, word);
    let outputs = bench.word(2, down(3, &[1, 2]));
    assert_eq!(outputs[0], MemberOutput::Event(HubEvent::NodeDown { node: id(3) }));
}

#[test]
fn a_verdict_that_names_a_voter_who_did_not_vote_does_not_bind_it() {
    let mut bench = Bench::with(&[2, 3]);
    assert_eq!(bench.word(2, down(3, &[1, 2])), [send(3, fenced(3))]);
    assert_eq!(bench.state(3), Some(MemberState::Alive));
}

#[test]
fn a_verdict_of_an_outsider_puts_no_healthy_member_out() {
    let mut bench = Bench::with(&[2, 3]);
    bench.link(hello(member(9), vec![]));
    bench.pass(3 * SECOND, &[2, 9]);
    assert_eq!(bench.word(9, down(2, &[9])), [send(2, fenced(2))]);
    assert_eq!(bench.state(2), Some(MemberState::Alive));
}
