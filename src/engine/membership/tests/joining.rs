//! Rule 3: concluding.

use super::*;

#[test]
fn a_linked_hello_makes_nobody_a_member() {
    let mut bench = Bench::alone();
    assert_eq!(bench.link(hello(member(2), vec![])), [connect(2)]);
    assert_eq!(bench.members(), [1]);
    assert_eq!(bench.status().joining, life_set(&[2]));
    assert!(bench.membership.is_linked(id(2)) && !bench.membership.is_live(run(2)));
}

#[test]
fn a_newcomer_comes_in_at_once_when_it_says_that_it_hears_this_node() {
    let mut bench = Bench::alone();
    bench.link(hello(member(2), vec![]));
    assert_eq!(bench.lists(2, &[]), [], "a mute or one-way joiner would become a member");
    bench.now += QUARTER;
    let word = bench.tell(2, |status| status.joining = life_set(&[1]));
    bench.membership.handle(bench.now, run(2), true, word);
    let outputs = bench.all();
    let announce = MemberOutput::Announce { me: member(1), known: vec![member(2)], fenced: vec![] };
    assert_eq!(outputs[..2], [announce, joined(2)]);
    // It learns of it at once.
    let told = outputs.iter().any(|output| {
        matches!(output, MemberOutput::Send { to, word: MemberWord::View { members, .. } }
            if *to == id(2) && members.contains(&member(2)))
    });
    assert!(told, "{outputs:?}");
    assert_eq!(outputs.last(), Some(&MemberOutput::ViewChanged));
    assert_eq!(bench.status().joining, life_set(&[]));
}

#[test]
fn a_newcomer_comes_in_when_all_members_say_that_they_hear_it_and_it_them() {
    let mut bench = Bench::with(&[2, 3]);
    bench.link(hello(member(4), vec![]));
    assert_eq!(bench.lists(4, &[1, 2]), []);
    assert_eq!(bench.lists(2, &[4]), []);
    assert_eq!(bench.lists(3, &[4]), [], "it does not hear node 3");
    let missing = &bench.membership.joiners()[0].missing;
    assert_eq!(missing[..], [(id(4), id(3))]);
    assert_eq!(bench.lists(4, &[1, 2, 3]), [joined(4), MemberOutput::ViewChanged]);
}

#[test]
fn nobody_comes_in_while_a_member_is_not_heard() {
    let mut bench = Bench::with(&[2, 3]);
    bench.link(hello(member(4), vec![]));
    bench.lists(3, &[4]);
    bench.pass(3 * SECOND, &[2, 4]);
    assert_eq!(bench.state(3), Some(MemberState::Suspect));
    bench.lists(4, &[1, 2, 3]);
    assert_eq!(bench.lists(2, &[4]), [], "what node 3 said before it fell silent is no consent");
    assert_eq!(bench.members(), [1, 2, 3]);
    // The dead are out first.
    bench.says(2, |status| {
        status.joining = life_set(&[4]);
        status.silent = lives(&[3]);
    });
    assert_eq!(bench.members(), [1, 2, 4]);
}

#[test]
fn a_node_that_waits_brings_nobody_in_and_follows_who_brings_it_in() {
    let mut bench = Bench::waiting();
    bench.link(hello(member(2), vec![]));
    assert_eq!(bench.lists(2, &[1]), [], "two that wait would found a cluster");
    assert!(bench.membership.is_waiting());
    assert_eq!(bench.tells_view(2, &[1, 2]), [joined(2), MemberOutput::ViewChanged]);
    assert!(!bench.membership.is_waiting() && !bench.membership.is_proven());
}

#[test]
fn clusters_come_in_whole_or_not_at_all() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    bench.tells_view(3, &[3, 4]);
    bench.lists(2, &[3, 4]);
    assert_eq!(bench.lists(3, &[1, 2]), [], "nobody here hears node 4");
    let missing = &bench.membership.joiners()[0].missing;
    assert_eq!(missing[..], [(id(1), id(4))]);
    bench.link(hello(member(4), vec![]));
    bench.tells_view(4, &[3, 4]);
    let outputs = bench.lists(4, &[1, 2]);
    assert_eq!(outputs, [joined(3), joined(4), MemberOutput::ViewChanged]);
}

#[test]
fn a_cluster_that_holds_another_run_of_a_member_waits_until_that_is_clear() {
    let mut bench = Bench::with(&[2]);
    bench.link(hello(member(3), vec![]));
    let other = View { members: BTreeMap::from([(id(2), second_run(2)), (id(3), member(3))]) };
    bench.views.insert(3, other.id());
    let members = other.members.values().cloned().collect();
    bench.word(3, MemberWord::View { view: other.id(), base: None, members, gone: vec![] });
    bench.lists(2, &[3]);
    assert_eq!(bench.lists(3, &[1, 2]), []);
    assert_eq!(bench.members(), [1, 2]);
}

#[test]
fn two_newcomers_at_once_come_in_when_they_hear_each_other() {
    let mut bench = Bench::alone();
    bench.link(hello(member(2), vec![]));
    bench.link(hello(member(3), vec![]));
    assert_eq!(bench.lists(2, &[1]), [joined(2), MemberOutput::ViewChanged]);
    assert_eq!(bench.lists(3, &[1]), [], "it does not hear node 2");
    bench.lists(3, &[1, 2]);
    assert_eq!(bench.members(), [1, 2], "and node 2 does not hear it");
    assert_eq!(bench.lists(2, &[1, 3]), [joined(3), MemberOutput::ViewChanged]);
}

/// The nodes to which this one introduces others, and whom.
fn introduced(outputs: &[MemberOutput]) -> BTreeMap<NodeId, Vec<u8>> {
    let introduction = |output: &MemberOutput| match output {
        MemberOutput::Send { to, word: MemberWord::Introduce { members } } => {
            Some((*to, members.iter().map(|member| member.id.key()[0]).collect()))
        }
        _ => None,
    };
    outputs.iter().filter_map(introduction).collect()
}

#[test]
fn newcomers_are_told_of_those_that_were_met_before_them_once_by_the_first_member() {
    let mut bench = Bench::with(&[2]);
    assert_eq!(introduced(&bench.link(hello(member(3), vec![]))), BTreeMap::new());
    bench.now += QUARTER;
    let outputs = bench.link(hello(member(4), vec![]));
    assert_eq!(introduced(&outputs), BTreeMap::from([(id(4), vec![3])]));
    let outputs = bench.pass(2 * SECOND, &[2, 3, 4]);
    assert_eq!(introduced(&outputs), BTreeMap::new(), "each is told once");
    // A link that is lost may have lost it, too.
    bench.unlink(4);
    bench.now += QUARTER;
    let outputs = bench.link(hello(member(4), vec![]));
    assert_eq!(introduced(&outputs), BTreeMap::from([(id(4), vec![3])]));
    // Node 0 has been there for longer: it does that.
    let mut bench = Bench::with(&[0, 2]);
    bench.link(hello(member(3), vec![]));
    bench.now += QUARTER;
    let outputs = bench.link(hello(member(4), vec![]));
    assert_eq!(introduced(&outputs), BTreeMap::new());
}

#[test]
fn who_is_introduced_is_dialled() {
    let mut bench = Bench::waiting();
    bench.link(hello(member(2), vec![]));
    let word = MemberWord::Introduce { members: vec![member(3), member(1), member(2)] };
    assert_eq!(bench.word(2, word), [connect(3)]);
}

#[test]
fn where_many_come_they_come_in_together() {
    let newcomers: Vec<u8> = (2..30).collect();
    let everybody: Vec<u8> = (1..30).collect();
    let mut bench = Bench::alone();
    for n in &newcomers {
        bench.link(hello(member(*n), vec![]));
    }
    // All but the last hear each other.
    for n in &newcomers[..newcomers.len() - 1] {
        bench.now += Duration::from_millis(1);
        bench.lists(*n, &everybody[..everybody.len() - 1]);
    }
    bench.pass(HALF, &newcomers);
    assert_eq!(bench.members(), [1], "the last one is on its way");
    bench.lists(29, &everybody);
    for n in &newcomers {
        bench.lists(*n, &everybody);
    }
    bench.pass(HALF, &newcomers);
    assert_eq!(bench.members(), everybody);
    // One more, which the last of the members does not hear, holds nobody up for long.
    bench.membership.settled(bench.now);
    bench.link(hello(member(30), vec![]));
    bench.link(hello(member(31), vec![]));
    let all: Vec<u8> = (1..31).collect();
    bench.lists(30, &all);
    for n in &newcomers {
        bench.tells_view(*n, &everybody);
        bench.lists(*n, &[30]);
    }
    let heard: Vec<u8> = (2..32).collect();
    bench.pass(SECOND * 3 / 2, &heard);
    assert_eq!(bench.members(), all);
}
