use std::collections::BTreeMap;

use super::*;
use crate::model::{
    id::{Incarnation, NodeName, TopicName},
    member::MemberState,
};

const INTERVAL: Duration = Duration::from_secs(5);

fn run(n: u8) -> NodeRun {
    member(n).run()
}

fn member(n: u8) -> Member {
    Member {
        id: NodeId::from_key([n; 32]),
        incarnation: Incarnation { started: n.into(), nonce: n.into() },
        name: NodeName::new(format!("n{n}")).expect("a valid name"),
        addresses: Vec::new(),
        weight: 1,
        state: MemberState::Alive,
        draining: false,
        labels: Default::default(),
        revision: 0,
    }
}

fn view(members: &[u8]) -> View {
    View { members: members.iter().map(|n| (run(*n).node, member(*n))).collect::<BTreeMap<_, _>>() }
}

fn change(topic: &str, subscribed: bool) -> TopicChange {
    TopicChange { topic: TopicName::new(topic).expect("a valid name"), subscribed }
}

/// A machine on node 1 of some nodes.
struct Bench {
    topics: Topics,
    now: Instant,
    view: View,
}

impl Bench {
    fn with(members: &[u8]) -> Self {
        Self { topics: Topics::new(INTERVAL), now: Instant::now(), view: view(members) }
    }

    fn go_on(&mut self) -> Vec<Output> {
        let around = Around { now: self.now, me: run(1), view: &self.view };
        self.topics.go_on(&around);
        self.drain()
    }

    fn drain(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.topics.next_output()).collect()
    }

    fn hear(&mut self, from: u8, word: TopicWord) -> Vec<Output> {
        self.topics.word(self.now, run(from), word);
        self.drain()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

fn send(to: u8, word: TopicWord) -> Output {
    Output::Send { to: run(to).node, word }
}

#[test]
fn all_members_are_told_what_changes_once() {
    let mut bench = Bench::with(&[1, 2, 3]);
    assert_eq!(bench.go_on(), []);
    assert_eq!(bench.topics.deadline(), None, "who has no subscribers has nothing to say");
    bench.topics.change(1, vec![change("a", true)]);
    bench.topics.change(3, vec![change("b", true)]);
    let changes = vec![change("a", true), change("b", true)];
    let word = TopicWord::Changes { from: 0, upto: 3, changes };
    assert_eq!(bench.go_on(), [send(2, word.clone()), send(3, word)]);
    assert_eq!(bench.go_on(), []);
    bench.topics.change(4, vec![change("a", false)]);
    let word = TopicWord::Changes { from: 3, upto: 4, changes: vec![change("a", false)] };
    assert_eq!(bench.go_on(), [send(2, word.clone()), send(3, word)]);
}

#[test]
fn the_version_is_told_again_in_each_interval() {
    let mut bench = Bench::with(&[1, 2]);
    bench.topics.change(1, vec![change("a", true)]);
    bench.go_on();
    for _ in 0..2 {
        assert_eq!(bench.topics.deadline(), Some(bench.now + INTERVAL));
        bench.pass(INTERVAL);
        assert_eq!(bench.go_on(), [send(2, TopicWord::Digest { version: 1 })]);
    }
}

#[test]
fn who_has_missed_something_asks_and_is_told_the_rest() {
    let mut bench = Bench::with(&[1, 2]);
    let changes = vec![change("a", true)];
    let first = TopicWord::Changes { from: 0, upto: 1, changes: changes.clone() };
    let told = Output::Changed { run: run(2), version: 1, changes: changes.clone() };
    assert_eq!(bench.hear(2, first), [told]);
    let ask = [send(2, TopicWord::Ask { from: 1 })];
    assert_eq!(bench.hear(2, TopicWord::Changes { from: 2, upto: 3, changes }), ask);
    assert_eq!(bench.hear(2, TopicWord::Digest { version: 3 }), ask);
    assert_eq!(bench.hear(2, TopicWord::Digest { version: 1 }), []);
    bench.topics.change(1, vec![change("b", true)]);
    bench.go_on();
    let rest = TopicWord::Changes { from: 0, upto: 1, changes: vec![change("b", true)] };
    assert_eq!(bench.hear(2, TopicWord::Ask { from: 0 }), [send(2, rest)]);
    assert_eq!(bench.hear(2, TopicWord::Ask { from: 1 }), []);
}

#[test]
fn a_member_that_is_reached_again_is_told_the_version_and_so_is_a_newcomer() {
    let mut bench = Bench::with(&[1, 2]);
    bench.topics.reached(run(2));
    assert_eq!(bench.drain(), [], "there never was a subscriber");
    bench.topics.change(1, vec![change("a", true)]);
    bench.go_on();
    let digest = |to| send(to, TopicWord::Digest { version: 1 });
    bench.topics.reached(run(2));
    assert_eq!(bench.drain(), [digest(2)]);
    bench.view = view(&[1, 2, 3]);
    bench.topics.settled(&Around { now: bench.now, me: run(1), view: &bench.view });
    assert_eq!(bench.drain(), [digest(2), digest(3)]);
}

#[test]
fn what_a_member_has_is_forgotten_with_it_and_learned_anew_when_it_is_back() {
    let mut bench = Bench::with(&[1, 2]);
    let word = TopicWord::Changes { from: 0, upto: 1, changes: vec![change("a", true)] };
    bench.hear(2, word.clone());
    bench.view = view(&[1]);
    bench.topics.viewed(&Around { now: bench.now, me: run(1), view: &bench.view });
    assert_eq!(bench.drain(), [Output::Forgotten { run: run(2) }]);
    let digest = TopicWord::Digest { version: 1 };
    assert_eq!(bench.hear(2, digest), [send(2, TopicWord::Ask { from: 0 })]);
    assert!(matches!(&bench.hear(2, word)[..], [Output::Changed { .. }]));
}

#[test]
fn a_member_that_names_too_many_topics_is_told_of() {
    let mut bench = Bench::with(&[1, 2]);
    let topics = (0..5_000).map(|n| change(&n.to_string(), true).topic).collect();
    let word = TopicWord::All { version: 1, topics, at: 0, more: false };
    assert_eq!(bench.hear(2, word), [Output::TooMany { node: run(2).node }]);
}

#[test]
fn what_is_missing_is_asked_for_once_until_it_is_told_of_again_or_an_interval_has_passed() {
    let mut bench = Bench::with(&[1, 2]);
    let behind = |n| TopicWord::Changes { from: n, upto: n + 1, changes: Vec::new() };
    let ask = [send(2, TopicWord::Ask { from: 0 })];
    let said: Vec<_> = (1..=10).flat_map(|n| bench.hear(2, behind(n))).collect();
    assert_eq!(said, ask);
    assert_eq!(bench.hear(2, TopicWord::Digest { version: 11 }), ask);
    assert_eq!(bench.hear(2, behind(11)), []);
    bench.pass(INTERVAL);
    assert_eq!(bench.hear(2, behind(12)), ask);
    // Part of the answer, and the rest of it.
    let answer = |from, upto| TopicWord::Changes { from, upto, changes: Vec::new() };
    bench.hear(2, answer(0, 5));
    assert_eq!(bench.hear(2, behind(12)), []);
    bench.hear(2, answer(5, 13));
    assert_eq!(bench.hear(2, behind(14)), [send(2, TopicWord::Ask { from: 13 })]);
}

#[test]
fn a_whole_set_of_which_a_part_was_lost_or_overtaken_is_asked_for_again() {
    let part = |at: u32| TopicWord::All {
        version: 9,
        topics: vec![change(&at.to_string(), true).topic],
        at,
        more: at < 2,
    };
    for order in [vec![0, 2], vec![0, 1], vec![0, 2, 1], vec![2, 0, 1], vec![1, 2, 0]] {
        let mut bench = Bench::with(&[1, 2]);
        let first = TopicWord::Changes { from: 0, upto: 1, changes: Vec::new() };
        bench.hear(2, first);
        for at in &order {
            let said = bench.hear(2, part(*at));
            assert!(!said.iter().any(|out| matches!(out, Output::Changed { .. })), "{order:?}");
        }
        let ask = [send(2, TopicWord::Ask { from: 0 })];
        assert_eq!(bench.hear(2, TopicWord::Digest { version: 9 }), ask, "{order:?}");
        let said: Vec<_> = (0..3).flat_map(|at| bench.hear(2, part(at))).collect();
        let changes = ["0", "1", "2"].map(|topic| change(topic, true)).to_vec();
        assert_eq!(said, [Output::Changed { run: run(2), version: 9, changes }], "{order:?}");
        assert_eq!(bench.hear(2, TopicWord::Digest { version: 9 }), [], "{order:?}");
    }
}
