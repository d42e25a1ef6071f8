//! Rule 1: hearing is two-way.

use super::*;

#[test]
fn a_member_that_is_heard_and_does_not_say_that_it_hears_this_node_is_suspect() {
    let mut bench = Bench::with(&[2, 3]);
    let mut suspected_after = None;
    for quarter in 1..=12 {
        bench.now += QUARTER;
        for n in [2, 3] {
            let mut word = bench.beat(n);
            if let MemberWord::Heartbeat { hears, .. } = &mut word
                && n == 3
            {
                *hears = None;
            }
            if bench.word(n, word).contains(&suspected(3)) {
                suspected_after = Some(quarter);
            }
        }
    }
    assert_eq!(suspected_after, Some(12), "a window");
    let outputs = bench.votes_against(2, &[]);
    assert_eq!(outputs, [], "node 2 hears it");
    assert_eq!(bench.status().silent, [], "nobody votes against whom it hears");
    let word = bench.beat(3);
    assert_eq!(bench.word(3, word), [recovered(3)]);
}

#[test]
fn who_hears_an_earlier_life_of_this_node_does_not_hear_this_one() {
    let mut bench = Bench::with(&[2]);
    bench.word(2, fenced(1));
    for _ in 0..12 {
        bench.now += QUARTER;
        let mut word = bench.beat(2);
        if let MemberWord::Heartbeat { hears, .. } = &mut word {
            *hears = Some(Heard { incarnation: life(1), straight: true });
        }
        bench.word(2, word);
    }
    assert_eq!(bench.state(2), Some(MemberState::Suspect));
}

#[test]
fn words_that_came_by_others_are_heard_too_and_then_each_tells_all_again() {
    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    for _ in 0..20 {
        bench.now += QUARTER;
        let word = bench.beat(2);
        bench.word(2, word);
        let mut word = bench.beat(3);
        if let MemberWord::Heartbeat { hears: Some(heard), .. } = &mut word {
            heard.straight = false;
        }
        bench.membership.handle(bench.now, run(3), false, word);
        assert_eq!(bench.outputs(), []);
    }
    assert_eq!(bench.status().unlinked, [id(3)].into_iter().collect());
    bench.now += SECOND;
    bench.membership.tick(bench.now);
    let told: BTreeMap<NodeId, bool> = bench
        .all()
        .into_iter()
        .filter_map(|output| match output {
            MemberOutput::Send { to, word: MemberWord::Heartbeat { status, .. } } => {
                Some((to, status.is_some()))
            }
            _ => None,
        })
        .collect();
    // What was told by others may be lost.
    assert_eq!(told, BTreeMap::from([(id(2), false), (id(3), true)]));
}

#[test]
fn a_heartbeat_that_was_overtaken_is_dropped() {
    let mut bench = Bench::with(&[2, 3]);
    let late = bench.tell(2, |status| status.silent = lives(&[3]));
    bench.says(2, |_| {});
    bench.word(2, late);
    assert!(!bench.membership.roster.contacts()[&id(2)].votes_against(member(3).life()));
}

#[test]
fn a_change_is_told_at_once_and_the_next_one_a_moment_later() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(QUARTER, &[2, 3]);
    let votes = |bench: &mut Bench| {
        let is_vote = |output: &MemberOutput| match output {
            MemberOutput::Send { word: MemberWord::Heartbeat { status, .. }, .. } => {
                status.as_ref().is_some_and(|status| !status.silent.is_empty())
            }
            _ => false,
        };
        bench.all().iter().filter(|output| is_vote(output)).count()
    };
    bench.membership.unlinked(bench.now, run(3));
    bench.all();
    bench.membership.unreachable(bench.now, id(3), true);
    assert_eq!(votes(&mut bench), 0, "something was told in this very moment");
    let pace = Duration::from_millis(4);
    assert_eq!(bench.membership.deadline(), Some(bench.now + pace));
    bench.now += pace;
    bench.membership.tick(bench.now);
    assert_eq!(votes(&mut bench), 2);
}

#[test]
fn who_is_held_by_this_node_is_not_suspect_for_what_is_read_late() {
    for is_held in [true, false] {
        let mut bench = Bench::with(&[2, 3]);
        // What node 2 said last that it hears node 1 is old, as what came after is not read yet.
        for _ in 0..4 {
            bench.pass(SECOND, &[3]);
            let word = bench.beat(2);
            if let MemberWord::Heartbeat { hears, number, .. } = word {
                let late = MemberWord::Heartbeat {
                    incarnation: life(2),
                    number,
                    next: 1_000,
                    wants_all: false,
                    view: bench.view_of(2),
                    pulse: Pulse::default(),
                    hears: hears.filter(|_| false),
                    fence: None,
                    version: 0,
                    revision: 0,
                    status: None,
                };
                bench.word(2, late);
            }
            if is_held {
                bench.membership.held(bench.now, id(2));
            }
        }
        let state = bench.membership.view().members[&id(2)].state;
        assert_eq!(state == MemberState::Suspect, !is_held);
    }
}
