//! Rule 9: what is told.

use super::*;

#[test]
fn a_node_that_cannot_come_in_is_told_of_with_the_pairs_that_do_not_hear_each_other() {
    let mut bench = Bench::with(&[2, 3]);
    bench.link(hello(member(4), vec![]));
    bench.lists(4, &[1, 2]);
    bench.lists(2, &[4]);
    let outputs = bench.pass(15 * SECOND, &[2, 3, 4]);
    let missing = vec![(id(3), id(4)), (id(4), id(3))];
    let delayed = MemberOutput::Event(HubEvent::JoinDelayed { node: id(4), missing });
    assert_eq!(outputs, std::slice::from_ref(&delayed));
    assert_eq!(bench.pass(15 * SECOND, &[2, 3, 4]), [delayed], "again each time");
    bench.lists(3, &[4]);
    assert_eq!(bench.lists(4, &[1, 2, 3]), [joined(4), MemberOutput::ViewChanged], "all the same");
}

#[test]
fn one_joiner_that_fell_silent_does_not_hide_that_another_is_delayed() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    bench.pass(10 * SECOND, &[2]);
    bench.link(hello(member(4), vec![]));
    // No word but this one comes: nothing else makes the node look.
    bench.pass(14 * SECOND + 3 * QUARTER, &[2, 4]);
    let due = bench.membership.deadline().expect("it has members");
    assert!(due <= bench.now + QUARTER, "{:?}", due - bench.now);
    bench.now += QUARTER;
    bench.membership.tick(bench.now);
    let is_delay = |output: &MemberOutput| matches!(output, MemberOutput::Event(HubEvent::JoinDelayed { node, .. }) if *node == id(4));
    assert!(bench.outputs().iter().any(is_delay));
}

#[test]
fn of_many_that_name_a_view_which_did_not_come_some_are_asked_for_it() {
    let others: Vec<u8> = (2..=20).collect();
    let mut bench = Bench::with(&others);
    let unknown = view(&[1, 2, 3, 99]).id();
    let round = |bench: &mut Bench| {
        bench.now += HALF;
        let hears = |bench: &mut Bench, n: u8| {
            bench.views.insert(n, unknown);
            let word = bench.beat(n);
            bench.word(n, word)
        };
        let told: Vec<MemberOutput> = others.iter().flat_map(|n| hears(bench, *n)).collect();
        let is_ask = |output: &&MemberOutput| {
            matches!(output, MemberOutput::Send { word: MemberWord::Ask, .. })
        };
        told.iter().filter(is_ask).count()
    };
    assert_eq!(round(&mut bench), 0, "it may be on its way");
    assert_eq!(round(&mut bench), 4);
    assert_eq!(round(&mut bench), 4);
}

#[test]
fn what_another_says_of_its_links_is_told_as_something_that_ways_depend_on() {
    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    let mut says = |unlinked: &[u8]| {
        let unlinked = unlinked.iter().map(|n| id(*n)).collect();
        let word = bench.tell(2, |status| status.unlinked = unlinked);
        bench.membership.handle(bench.now, run(2), true, word);
        let is_told = bench.all().contains(&MemberOutput::Reached);
        (is_told, bench.membership.go_betweens(id(3)).collect::<Vec<_>>())
    };
    // Nothing of its own changes for node 1 with that.
    assert_eq!(says(&[3]), (true, vec![]));
    assert_eq!(says(&[3]), (false, vec![]));
    assert_eq!(says(&[]), (true, vec![run(2)]));
}

#[test]
fn a_pair_that_hears_each_other_by_others_only_is_told_of_and_when_its_link_is_back() {
    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    let mut told = Vec::new();
    for _ in 0..64 {
        bench.now += QUARTER;
        let word = bench.beat(2);
        told.extend(bench.word(2, word));
        let mut word = bench.beat(3);
        if let MemberWord::Heartbeat { hears: Some(heard), .. } = &mut word {
            heard.straight = false;
        }
        bench.membership.handle(bench.now, run(3), false, word);
        bench.membership.tick(bench.now);
        told.extend(bench.outputs());
    }
    let addresses = vec!["/memory/3".to_owned()];
    let missing = HubEvent::LinkMissing { node: id(3), addresses };
    assert_eq!(told, [MemberOutput::Event(missing)]);
    let restored = HubEvent::LinkRestored { node: id(3) };
    assert_eq!(bench.link(hello(member(3), vec![])), [MemberOutput::Event(restored)]);
}
