//! Who is dialled, and where.

use super::*;

#[test]
fn a_node_that_others_name_is_dialled_and_not_admitted() {
    let mut bench = Bench::with(&[2]);
    assert_eq!(bench.tells_view(2, &[1, 2, 3]), [connect(3)]);
    assert_eq!(bench.tells_view(2, &[1, 2, 3]), []);
    assert_eq!(bench.state(3), None);
    assert_eq!(bench.status().silent, [], "and nobody votes against it");
}

#[test]
fn a_node_that_is_never_reached_is_dialled_no_more_until_it_is_named_again() {
    let mut bench = Bench::with(&[2]);
    bench.tells_view(2, &[1, 2, 3]);
    let outputs = bench.pass(31 * SECOND, &[2]);
    assert_eq!(outputs, [disconnect(3, "it was not reached for long")]);
    assert_eq!(bench.tells_view(2, &[1, 2, 3]), [connect(3)]);
}

#[test]
fn a_named_node_that_is_not_met_within_a_heartbeat_is_greeted_by_way_of_others() {
    let mut bench = Bench::with(&[2]);
    bench.tells_view(2, &[1, 2, 3]);
    let mut greeted = Vec::new();
    for step in 1..=12 {
        bench.now += QUARTER;
        let word = bench.beat(2);
        bench.membership.handle(bench.now, run(2), true, word);
        bench.membership.tick(bench.now);
        let is_greeting = |output: &MemberOutput| {
            matches!(output, MemberOutput::Greet { to, word: MemberWord::Heartbeat { .. } }
                if *to == run(3))
        };
        if bench.all().iter().any(is_greeting) {
            greeted.push(step);
        }
    }
    assert_eq!(greeted, [4, 8, 12], "each heartbeat");
    // It answers by the same way.
    let word = bench.tell(3, |status| status.joining = life_set(&[1]));
    bench.membership.handle(bench.now, run(3), false, word);
    assert_eq!(bench.members(), [1, 2, 3], "node 2 had taken it in");
}

#[test]
fn a_stranger_s_first_word_by_way_of_others_has_to_say_who_it_is() {
    let mut bench = Bench::with(&[2]);
    let word = bench.beat(3);
    bench.membership.handle(bench.now, run(3), false, word);
    assert!(bench.membership.run_of(id(3)).is_none());
    let word = bench.tell(3, |_| {});
    bench.membership.handle(bench.now, run(3), false, word);
    assert_eq!(bench.membership.run_of(id(3)), Some(run(3)));
    assert!(!bench.membership.is_linked(id(3)));
    // Of somebody else it cannot speak.
    let word = bench.tell(4, |status| status.me = Some(Arc::new(member(5))));
    bench.membership.handle(bench.now, run(4), false, word);
    assert!(bench.membership.run_of(id(4)).is_none() && bench.membership.run_of(id(5)).is_none());
}

#[test]
fn a_joiner_that_falls_silent_without_a_link_is_forgotten() {
    let mut bench = Bench::with(&[2]);
    let word = bench.tell(3, |_| {});
    bench.membership.handle(bench.now, run(3), false, word);
    bench.pass(3 * SECOND, &[2]);
    assert_eq!(bench.membership.run_of(id(3)), None);
    assert_eq!(bench.status().joining, life_set(&[]));
}

#[test]
fn addresses_that_change_are_announced_and_told_to_all_members_once() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(QUARTER, &[2, 3]);
    let addresses = vec!["/ip4/10.0.0.1/tcp/1".to_owned()];
    let moved = Member { addresses, revision: 1, ..member(1) };
    for told in [true, false] {
        bench.membership.set_addresses(bench.now, moved.addresses.clone());
        bench.now += Duration::from_millis(4);
        bench.membership.tick(bench.now);
        let outputs = bench.all();
        let announce = MemberOutput::Announce {
            me: moved.clone(),
            known: vec![member(2), member(3)],
            fenced: Vec::new(),
        };
        assert_eq!(outputs.contains(&announce), told);
        let tells = |output: &MemberOutput| match output {
            MemberOutput::Send { word: MemberWord::Heartbeat { status, .. }, .. } => {
                status.as_ref().is_some_and(|status| status.me.as_deref() == Some(&moved))
            }
            _ => false,
        };
        let count = outputs.iter().filter(|output| tells(output)).count();
        assert_eq!(count, if told { 2 } else { 0 });
        assert!(!outputs.contains(&MemberOutput::ViewChanged), "the view is the same");
    }
    assert_eq!(bench.membership.me(), &moved);
    // No more than a node may have, and none that is absurd.
    let many = (0..20).map(|n| format!("/memory/{n}")).chain(["x".repeat(1_000)]);
    bench.membership.set_addresses(bench.now, many.collect());
    assert_eq!(bench.membership.me().addresses.len(), 16);
}

#[test]
fn a_member_is_dialled_at_its_new_addresses_when_it_tells_them() {
    let mut bench = Bench::with(&[2]);
    let addresses = vec!["/memory/9".to_owned()];
    let moved = Member { addresses: addresses.clone(), revision: 1, ..member(2) };
    let outputs = bench.says(2, |status| status.me = Some(Arc::new(moved.clone())));
    assert_eq!(outputs, [MemberOutput::Connect { node: id(2), addresses }]);
    assert_eq!(bench.says(2, |status| status.me = Some(Arc::new(moved))), []);
    assert_eq!(bench.says(2, |_| {}), [], "what is older is not believed");
}

#[test]
fn a_link_to_a_stranger_over_which_nothing_comes_is_dialled_anew() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    let outputs = bench.pass(6 * SECOND, &[2]);
    assert!(
        outputs.ends_with(&[disconnect(3, "nothing comes over it"), connect(3)]),
        "{outputs:?}"
    );
    assert!(!bench.membership.is_linked(id(3)));
}

/// To whom this node tells of which nodes that went down.
fn told_of_lost(outputs: &[MemberOutput]) -> Vec<(NodeId, Vec<NodeId>)> {
    let told = |output: &MemberOutput| match output {
        MemberOutput::Send { to, word: MemberWord::Lost { nodes } } => {
            Some((*to, nodes.iter().map(|lost| lost.member.id).collect()))
        }
        _ => None,
    };
    outputs.iter().filter_map(told).collect()
}

impl Bench {
    /// Lost nodes of which it has told, and tells while these are heard.
    fn tells_of_lost(&mut self, time: Duration, heard: &[u8]) -> Vec<(NodeId, Vec<NodeId>)> {
        let end = self.now + time;
        let mut told = told_of_lost(&self.all());
        while self.now < end {
            self.now += QUARTER;
            for n in heard {
                let word = self.beat(*n);
                self.membership.heard(self.now, run(*n));
                self.membership.handle(self.now, run(*n), true, word);
            }
            self.membership.tick(self.now);
            told.extend(told_of_lost(&self.all()));
        }
        told
    }
}

#[test]
fn the_first_member_tells_all_others_of_a_node_that_went_down_once_over_each_link() {
    let mut bench = Bench::with(&[2, 3]);
    bench.votes_against(2, &[3]);
    assert_eq!(bench.tells_of_lost(4 * SECOND, &[2]), [(id(2), vec![id(3)])]);
    assert_eq!(bench.state(3), None, "it is down");
    // Who comes later is told, too; and who has a new link, over which nothing was told yet.
    bench.membership.linked(bench.now, hello(member(4), vec![]));
    assert_eq!(bench.tells_of_lost(SECOND, &[2, 4]), [(id(4), vec![id(3)])]);
    assert_eq!(bench.tells_of_lost(SECOND, &[2, 4]), []);
    bench.unlink(4);
    bench.membership.linked(bench.now, hello(member(4), vec![]));
    assert_eq!(bench.tells_of_lost(SECOND, &[2, 4]), [(id(4), vec![id(3)])]);
    // What is met is lost no more.
    let back = Member { incarnation: Incarnation { started: 200, nonce: 3 }, ..member(3) };
    bench.membership.linked(bench.now, hello(back, vec![]));
    bench.unlink(4);
    bench.membership.linked(bench.now, hello(member(4), vec![]));
    assert_eq!(bench.tells_of_lost(SECOND, &[2, 4]), []);
}

#[test]
fn who_is_not_the_first_of_the_members_tells_nobody_of_lost_nodes() {
    let mut bench = Bench::with(&[0, 2, 3]);
    bench.votes_against(0, &[3]);
    bench.votes_against(2, &[3]);
    assert_eq!(bench.tells_of_lost(4 * SECOND, &[0, 2]), []);
    assert_eq!(bench.state(3), None, "it is down");
    bench.membership.linked(bench.now, hello(member(4), vec![]));
    assert_eq!(bench.tells_of_lost(SECOND, &[0, 2, 4]), []);
}

#[test]
fn a_lost_node_that_is_told_of_is_dialled_until_it_is_met_or_was_lost_for_long() {
    let lost = |n: u8, ago: u64| LostNode { member: member(n), ago };
    let mut bench = Bench::with(&[2]);
    let nodes = vec![lost(1, 0), lost(2, 0), lost(3, 5_000)];
    assert_eq!(bench.word(2, MemberWord::Lost { nodes: nodes.clone() }), [connect(3)]);
    assert_eq!(bench.word(2, MemberWord::Lost { nodes }), []);
    assert!(bench.membership.fenced(id(3), life(3)), "it comes back in a later life");
    assert!(!bench.membership.fenced(id(2), life(2)) && !bench.membership.fenced(id(1), life(1)));
    let forget_after = Settings::default().forget_after;
    let rest = forget_after - 5 * SECOND;
    assert_eq!(bench.pass(rest - HALF, &[2]), []);
    assert_eq!(bench.pass(SECOND, &[2]), [disconnect(3, "it was not reached for long")]);
    // No clock is so far ahead: it could never come back above that.
    let mut absurd = lost(3, 0);
    absurd.member.incarnation.started = Epoch::LIMIT;
    assert_eq!(bench.word(2, MemberWord::Lost { nodes: vec![absurd.clone()] }), []);
    assert!(!bench.membership.fenced(id(3), absurd.member.incarnation));
    // A life that is over here may have been followed by another.
    bench.word(2, down(4, &[2]));
    assert_eq!(bench.word(2, MemberWord::Lost { nodes: vec![lost(4, 0)] }), [connect(4)]);
    // Strangers name nobody.
    let nodes = vec![lost(5, 0)];
    assert_eq!(bench.word(9, MemberWord::Lost { nodes }), []);
}
