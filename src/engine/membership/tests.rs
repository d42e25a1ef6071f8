//! One rule at a time: what comes in, and all that comes out.

use std::time::{Duration, Instant};

use super::{MEMBERS_LIMIT, MemberOutput, Membership};
use crate::model::{
    event::HubEvent,
    id::{HubName, Incarnation, NodeId, NodeName, NodeRun},
    member::{Hello, Member, MemberState, ViewId, WIRE_VERSION},
    message::{MemberWord, Pulse},
    settings::Settings,
};

const SECOND: Duration = Duration::from_secs(1);
const HALF: Duration = Duration::from_millis(500);
const QUARTER: Duration = Duration::from_millis(250);

fn id(n: u8) -> NodeId {
    NodeId::from_key([n; 32])
}

fn life(n: u8) -> Incarnation {
    Incarnation { started: 100, nonce: u64::from(n) }
}

fn run(n: u8) -> NodeRun {
    life(n).run_of(id(n))
}

fn member(n: u8) -> Member {
    Member {
        id: id(n),
        incarnation: life(n),
        name: NodeName::new(format!("node-{n}")).expect("a plain word"),
        addresses: vec![format!("/memory/{n}")],
        weight: 1,
        state: MemberState::Alive,
    }
}

fn hello(me: Member, known: Vec<Member>) -> Hello {
    let hub = HubName::new("test").expect("a plain word");
    Hello { version: WIRE_VERSION, hub, me, fenced: None, known, dialled: None }
}

fn send(to: u8, word: MemberWord) -> MemberOutput {
    MemberOutput::Send { to: id(to), word }
}

fn connect(n: u8) -> MemberOutput {
    MemberOutput::Connect { node: id(n), addresses: vec![format!("/memory/{n}")] }
}

fn disconnect(n: u8, reason: &str) -> MemberOutput {
    MemberOutput::Disconnect { node: id(n), reason: reason.to_owned() }
}

fn joined(n: u8) -> MemberOutput {
    MemberOutput::Event(HubEvent::NodeJoined { node: id(n), name: member(n).name })
}

fn suspected(n: u8) -> MemberOutput {
    MemberOutput::Event(HubEvent::NodeSuspected { node: id(n) })
}

fn recovered(n: u8) -> MemberOutput {
    MemberOutput::Event(HubEvent::NodeRecovered { node: id(n) })
}

fn ask(about: u8, ballot: u64) -> MemberWord {
    MemberWord::Ask { about: id(about), incarnation: life(about), ballot }
}

fn answer(about: u8, ballot: u64, heard: bool) -> MemberWord {
    MemberWord::Answer { about: id(about), incarnation: life(about), ballot, heard }
}

fn down(about: u8, voters: &[u8]) -> MemberWord {
    let voters = voters.iter().map(|n| id(*n)).collect();
    MemberWord::Down { about: id(about), incarnation: life(about), voters }
}

fn heartbeat(n: u8) -> MemberWord {
    MemberWord::Heartbeat { incarnation: life(n), view: ViewId(0), pulse: Pulse::default() }
}

/// What follows from the verdict on `n`, after the words to others.
fn gone_down(n: u8) -> Vec<MemberOutput> {
    vec![
        MemberOutput::Event(HubEvent::NodeDown { node: id(n) }),
        MemberOutput::Gone { run: run(n), left: false },
        disconnect(n, "it was declared down"),
        connect(n),
        MemberOutput::ViewChanged,
    ]
}

/// Node 1 with the default settings (heartbeat 1 s, window 3 s), and its clock.
struct Bench {
    membership: Membership,
    now: Instant,
}

impl Bench {
    fn alone() -> Self {
        let now = Instant::now();
        let mut membership = Membership::alone(member(1), &Settings::default(), false, now);
        let first = MemberOutput::Announce { me: member(1), known: Vec::new(), fenced: Vec::new() };
        assert_eq!(membership.next_output(), Some(first));
        assert_eq!(membership.next_output(), None);
        Self { membership, now }
    }

    /// Node 1 linked with each of `others`.
    fn with(others: &[u8]) -> Self {
        let mut bench = Self::alone();
        for n in others {
            bench.membership.linked(bench.now, hello(member(*n), Vec::new()));
        }
        bench.all();
        bench
    }

    fn all(&mut self) -> Vec<MemberOutput> {
        std::iter::from_fn(|| self.membership.next_output()).collect()
    }

    /// All outputs but heartbeats and announcements.
    fn outputs(&mut self) -> Vec<MemberOutput> {
        let mut outputs = self.all();
        outputs.retain(|output| {
            !matches!(
                output,
                MemberOutput::Announce { .. }
                    | MemberOutput::Send { word: MemberWord::Heartbeat { .. }, .. }
            )
        });
        outputs
    }

    fn word(&mut self, from: u8, word: MemberWord) -> Vec<MemberOutput> {
        self.membership.handle(self.now, run(from), word);
        self.outputs()
    }

    fn link(&mut self, hello: Hello) -> Vec<MemberOutput> {
        self.membership.linked(self.now, hello);
        self.outputs()
    }

    fn unlink(&mut self, n: u8) -> Vec<MemberOutput> {
        self.membership.unlinked(self.now, run(n));
        self.outputs()
    }

    fn refused(&mut self, n: u8) -> Vec<MemberOutput> {
        self.membership.unreachable(self.now, id(n), true);
        self.outputs()
    }

    /// Time passes in small steps, and of these nodes something is heard in each.
    fn pass(&mut self, time: Duration, heard: &[u8]) -> Vec<MemberOutput> {
        let end = self.now + time;
        while self.now < end {
            self.now += QUARTER;
            for n in heard {
                self.membership.heard(self.now, run(*n));
            }
            self.membership.tick(self.now);
        }
        self.outputs()
    }

    fn state(&self, n: u8) -> Option<MemberState> {
        self.membership.view().member(id(n)).map(|member| member.state)
    }
}

#[test]
fn a_linked_hello_makes_a_member_at_once() {
    let mut bench = Bench::alone();
    bench.membership.linked(bench.now, hello(member(2), vec![]));
    let announce = MemberOutput::Announce { me: member(1), known: vec![member(2)], fenced: vec![] };
    assert_eq!(bench.all(), [announce, connect(2), joined(2), MemberOutput::ViewChanged]);
    assert!(bench.membership.is_live(run(2)) && bench.membership.is_linked(id(2)));
}

#[test]
fn news_of_a_member_go_to_those_whom_it_does_not_know() {
    let mut bench = Bench::with(&[2, 3]);
    let outputs = bench.link(hello(member(4), vec![member(1), member(2)]));
    let news = MemberWord::Members { members: vec![member(4)] };
    assert_eq!(outputs, [connect(4), joined(4), send(3, news), MemberOutput::ViewChanged]);
}

#[test]
fn a_node_that_others_name_is_dialled_and_not_admitted() {
    let mut bench = Bench::with(&[2]);
    let members = vec![member(1), member(3)];
    assert_eq!(bench.word(2, MemberWord::Members { members: members.clone() }), [connect(3)]);
    assert_eq!(bench.word(2, MemberWord::Members { members }), []);
    assert_eq!(bench.state(3), None);
    let outputs = bench.link(hello(member(3), vec![member(2)]));
    assert_eq!(outputs, [joined(3), MemberOutput::ViewChanged]);
}

#[test]
fn a_node_that_is_never_reached_is_dialled_no_more_until_it_is_named_again() {
    let mut bench = Bench::with(&[2]);
    let word = MemberWord::Members { members: vec![member(3)] };
    bench.word(2, word.clone());
    let outputs = bench.pass(31 * SECOND, &[2]);
    assert_eq!(outputs, [disconnect(3, "it was not reached for long")]);
    assert_eq!(bench.word(2, word), [connect(3)]);
}

#[test]
fn a_silent_member_on_whom_all_agree_is_down() {
    let mut bench = Bench::with(&[2, 3, 4]);
    let outputs = bench.pass(3 * SECOND, &[2, 3]);
    assert_eq!(outputs, [suspected(4), send(2, ask(4, 1)), send(3, ask(4, 1))]);
    assert_eq!(bench.state(4), Some(MemberState::Suspect));
    assert_eq!(bench.word(2, answer(4, 1, false)), []);
    let mut expected = vec![send(2, down(4, &[2, 3, 1])), send(3, down(4, &[2, 3, 1]))];
    expected.extend(gone_down(4));
    assert_eq!(bench.word(3, answer(4, 1, false)), expected);
    assert!(bench.membership.fenced(id(4), life(4)) && !bench.membership.is_live(run(4)));
}

#[test]
fn one_who_hears_the_suspect_vetoes_and_is_asked_again_after_a_window() {
    let mut bench = Bench::with(&[2, 3, 4]);
    bench.pass(3 * SECOND, &[2, 3]);
    assert_eq!(bench.word(2, answer(4, 1, false)), []);
    // Its link stands, and swallows what it says.
    let silent = MemberOutput::Silent { node: id(4), addresses: vec!["/memory/4".to_owned()] };
    assert_eq!(bench.word(3, answer(4, 1, true)), [silent]);
    assert_eq!(bench.word(3, answer(4, 1, false)), []);
    assert_eq!(bench.pass(2 * SECOND + 3 * QUARTER, &[2, 3]), []);
    assert_eq!(bench.pass(QUARTER, &[2, 3]), [send(2, ask(4, 2)), send(3, ask(4, 2))]);
    assert_eq!(bench.state(4), Some(MemberState::Suspect));
}

#[test]
fn an_answer_to_an_earlier_ballot_or_from_a_stranger_is_no_vote() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(3 * SECOND, &[2]);
    bench.word(2, answer(3, 1, true));
    bench.pass(3 * SECOND, &[2]);
    assert_eq!(bench.word(2, answer(3, 1, false)), []);
    assert_eq!(bench.word(9, answer(3, 2, false)), []);
    assert!(!bench.word(2, answer(3, 2, false)).is_empty());
}

#[test]
fn silence_is_no_vote_until_the_voter_is_suspect_itself() {
    let mut bench = Bench::with(&[2, 3, 4]);
    bench.pass(SECOND, &[2, 3]);
    let asked = bench.pass(2 * SECOND, &[2]);
    assert_eq!(asked, [suspected(4), send(2, ask(4, 1)), send(3, ask(4, 1))]);
    assert_eq!(bench.word(2, answer(4, 1, false)), []);
    let outputs = bench.pass(SECOND, &[2]);
    let down = [send(2, down(4, &[2, 1])), send(3, down(4, &[2, 1]))];
    assert_eq!(outputs[0], suspected(3));
    assert!(down.iter().all(|word| outputs.contains(word)), "{outputs:?}");
    assert_eq!((bench.state(4), bench.state(3)), (None, Some(MemberState::Suspect)));
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
fn a_dial_that_fails_without_a_refusal_proves_nothing() {
    let mut bench = Bench::with(&[2]);
    bench.unlink(2);
    bench.membership.unreachable(bench.now, id(2), false);
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.pass(2 * SECOND, &[]), []);
}

#[test]
fn a_voter_answers_by_what_it_hears_itself() {
    let mut bench = Bench::with(&[2, 3]);
    assert_eq!(bench.word(2, ask(3, 7)), [send(2, answer(3, 7, true))]);
    assert_eq!(bench.word(2, ask(1, 8)), [send(2, answer(1, 8, true))]);
    bench.pass(3 * SECOND, &[2]);
    assert_eq!(bench.word(2, ask(3, 9)), [send(2, answer(3, 9, false))]);
}

#[test]
fn a_voter_whose_link_to_the_suspect_has_just_closed_waits_for_its_redial() {
    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    assert_eq!(bench.word(2, ask(3, 7)), []);
    let outputs = bench.refused(3);
    assert_eq!(outputs, [suspected(3), send(2, ask(3, 1)), send(2, answer(3, 7, false))]);

    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    assert_eq!(bench.word(2, ask(3, 7)), []);
    assert_eq!(bench.link(hello(member(3), vec![])), [send(2, answer(3, 7, true))]);
}

#[test]
fn a_voter_that_never_met_the_suspect_waits_a_window_for_it() {
    let mut bench = Bench::with(&[2]);
    assert_eq!(bench.word(2, ask(3, 7)), []);
    assert_eq!(bench.pass(2 * SECOND + 3 * QUARTER, &[2]), []);
    assert_eq!(bench.pass(QUARTER, &[2]), [send(2, answer(3, 7, false))]);
}

#[test]
fn a_later_ballot_does_not_begin_the_wait_for_a_stranger_anew() {
    let mut bench = Bench::with(&[2]);
    assert_eq!(bench.word(2, ask(3, 7)), []);
    assert_eq!(bench.pass(2 * SECOND + 3 * QUARTER, &[2]), []);
    assert_eq!(bench.word(2, ask(3, 8)), []);
    assert_eq!(bench.pass(QUARTER, &[2]), [send(2, answer(3, 8, false))]);
}

#[test]
fn a_voter_that_hears_the_suspect_again_takes_its_vote_back() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(3 * SECOND, &[2]);
    bench.word(2, ask(3, 7));
    bench.membership.heard(bench.now, run(3));
    assert_eq!(bench.outputs(), [send(2, answer(3, 7, true)), recovered(3)]);
}

#[test]
fn a_verdict_binds_who_voted_for_it() {
    let mut bench = Bench::with(&[2, 3]);
    bench.pass(3 * SECOND, &[2]);
    bench.word(2, ask(3, 7));
    assert_eq!(bench.word(2, down(3, &[1, 2])), gone_down(3));
}

#[test]
fn a_verdict_that_names_a_voter_who_did_not_vote_does_not_bind_it() {
    let mut bench = Bench::with(&[2, 3]);
    let told = MemberWord::Fenced { incarnation: life(3) };
    assert_eq!(bench.word(2, down(3, &[1, 2])), [send(3, told)]);
    assert_eq!(bench.state(3), Some(MemberState::Alive));
}

#[test]
fn a_verdict_on_a_node_whose_link_is_closed_is_a_reason_to_ask() {
    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    let outputs = bench.word(2, down(3, &[2]));
    assert_eq!(outputs, [suspected(3), send(2, ask(3, 1))]);
}

#[test]
fn a_node_that_is_declared_down_while_it_lives_comes_back_above_that_life() {
    let renewed = Member { incarnation: Incarnation { started: 101, nonce: 1 }, ..member(1) };
    let expected = |known: u8| {
        vec![
            MemberOutput::Announce {
                me: renewed.clone(),
                known: vec![member(known)],
                fenced: vec![],
            },
            MemberOutput::Renewed,
            MemberOutput::Event(HubEvent::Rejoined),
            send(2, MemberWord::Members { members: vec![renewed.clone()] }),
            MemberOutput::ViewChanged,
        ]
    };
    let mut bench = Bench::with(&[2]);
    bench.membership.handle(bench.now, run(2), down(1, &[2]));
    assert_eq!(bench.all(), expected(2));
    assert_eq!(bench.word(2, MemberWord::Fenced { incarnation: life(1) }), [], "told twice");

    let mut bench = Bench::with(&[2]);
    bench.membership.told_fenced(bench.now, life(1));
    assert_eq!(bench.all(), expected(2));
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
    assert_eq!(bench.word(2, MemberWord::Members { members: vec![absurd.clone()] }), []);
    let reason = "its incarnation is absurd";
    let refused = HubEvent::PeerRefused { node: Some(id(3)), reason: reason.to_owned() };
    let expected = [MemberOutput::Event(refused), disconnect(3, reason)];
    assert_eq!(bench.link(hello(absurd, vec![])), expected);
}

#[test]
fn a_life_that_is_over_is_turned_away_and_a_higher_one_is_welcome() {
    let mut bench = Bench::with(&[2]);
    bench.unlink(2);
    bench.refused(2);
    bench.pass(HALF, &[]);
    let expected = [
        send(2, MemberWord::Fenced { incarnation: life(2) }),
        disconnect(2, "this life of it is over"),
        connect(2),
    ];
    assert_eq!(bench.link(hello(member(2), vec![])), expected);
    assert_eq!(bench.word(2, heartbeat(2)), [send(2, MemberWord::Fenced { incarnation: life(2) })]);
    let renewed = Member { incarnation: Incarnation { started: 101, nonce: 2 }, ..member(2) };
    let expected = [connect(2), joined(2), MemberOutput::ViewChanged];
    assert_eq!(bench.link(hello(renewed, vec![])), expected);
}

#[test]
fn a_member_that_renews_is_the_same_run_in_another_life() {
    let mut bench = Bench::with(&[2]);
    let incarnation = Incarnation { started: 200, nonce: 2 };
    let word = MemberWord::Heartbeat { incarnation, view: ViewId(0), pulse: Pulse::default() };
    assert_eq!(bench.word(2, word), [MemberOutput::ViewChanged]);
    bench.word(2, heartbeat(2)); // A word of the life before.
    let seen = bench.membership.view().member(id(2)).map(|member| member.incarnation);
    assert_eq!(seen, Some(incarnation));
}

fn second_run(n: u8) -> Member {
    let incarnation = Incarnation { started: 300, nonce: 1_000 };
    Member { incarnation, ..member(n) }
}

#[test]
fn a_new_run_takes_the_place_of_one_whose_link_is_closed() {
    let mut bench = Bench::with(&[2]);
    bench.unlink(2);
    let expected = [
        MemberOutput::Event(HubEvent::NodeDown { node: id(2) }),
        MemberOutput::Gone { run: run(2), left: false },
        connect(2),
        joined(2),
        MemberOutput::ViewChanged,
    ];
    assert_eq!(bench.link(hello(second_run(2), vec![])), expected);
    assert!(bench.membership.fenced(id(2), life(2)));
    assert_eq!(bench.unlink(2), [], "the old link is nothing to the new run");
}

#[test]
fn a_new_run_waits_until_the_old_one_was_silent_when_probed() {
    let mut bench = Bench::with(&[2]);
    assert_eq!(bench.link(hello(second_run(2), vec![])), []);
    assert_eq!(bench.pass(SECOND + QUARTER, &[]), []);
    let outputs = bench.pass(QUARTER, &[]);
    assert_eq!(outputs[1], MemberOutput::Gone { run: run(2), left: false });
    assert!(bench.membership.is_live(second_run(2).run()));
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
fn who_leaves_is_told_of_takes_no_children_and_stays_in_until_its_bye() {
    let mut bench = Bench::with(&[2]);
    bench.membership.start_leaving(bench.now);
    let word = MemberWord::Leaving { incarnation: life(1) };
    assert_eq!(bench.outputs(), [send(2, word), MemberOutput::ViewChanged]);
    bench.membership.cancel_leaving(bench.now);
    let word = MemberWord::Members { members: vec![member(1)] };
    assert_eq!(bench.outputs(), [send(2, word), MemberOutput::ViewChanged]);
    bench.membership.bye(bench.now);
    let word = MemberWord::Bye { incarnation: life(1) };
    assert_eq!(bench.outputs(), [send(2, word), MemberOutput::ViewChanged]);
    assert_eq!(bench.membership.view().members.len(), 1);
    assert!(bench.membership.is_linked(id(2)), "its Bye is still to be sent");
    assert_eq!(bench.membership.deadline(), None);
    assert_eq!(bench.link(hello(member(3), vec![])), []);
}

#[test]
fn a_node_that_says_bye_is_gone_without_suspicion() {
    let mut bench = Bench::with(&[2]);
    let leaving = MemberWord::Leaving { incarnation: life(2) };
    let event = MemberOutput::Event(HubEvent::NodeLeaving { node: id(2) });
    assert_eq!(bench.word(2, leaving.clone()), [event, MemberOutput::ViewChanged]);
    assert_eq!(bench.word(2, leaving), []);
    assert!(bench.membership.is_live(run(2)));
    let expected = [
        MemberOutput::Event(HubEvent::NodeLeft { node: id(2) }),
        MemberOutput::Gone { run: run(2), left: true },
        disconnect(2, "it left"),
        MemberOutput::ViewChanged,
    ];
    assert_eq!(bench.word(2, MemberWord::Bye { incarnation: life(2) }), expected);
    assert_eq!(bench.unlink(2), []);
    let hearsay = MemberWord::Members { members: vec![member(2)] };
    bench.link(hello(member(3), vec![]));
    assert_eq!(bench.word(3, hearsay), []);
}

#[test]
fn a_member_that_stays_after_all_says_so_itself() {
    let mut bench = Bench::with(&[2, 3]);
    bench.word(2, MemberWord::Leaving { incarnation: life(2) });
    let members = vec![member(2)];
    assert_eq!(bench.word(3, MemberWord::Members { members: members.clone() }), []);
    let outputs = bench.word(2, MemberWord::Members { members });
    assert_eq!(outputs, [MemberOutput::ViewChanged]);
    assert_eq!(bench.state(2), Some(MemberState::Alive));
}

#[test]
fn what_an_unlinked_member_became_is_learned_from_others() {
    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    let incarnation = Incarnation { started: 150, nonce: 3 };
    let told = Member { incarnation, state: MemberState::Leaving, ..member(3) };
    let event = MemberOutput::Event(HubEvent::NodeLeaving { node: id(3) });
    let outputs = bench.word(2, MemberWord::Members { members: vec![told] });
    assert_eq!(outputs, [event, MemberOutput::ViewChanged]);
}

#[test]
fn a_pause_closes_the_gates_until_each_peer_has_said_that_this_life_counts() {
    let mut bench = Bench::with(&[2, 3]);
    bench.now += 10 * SECOND;
    bench.membership.tick(bench.now);
    let closed = MemberOutput::Gates { valid: false };
    assert_eq!(bench.outputs(), [closed, send(2, ask(1, 1)), send(3, ask(1, 1))]);
    assert_eq!(bench.word(2, heartbeat(2)), [], "it may have waited in a buffer");
    assert_eq!(bench.word(2, answer(1, 1, true)), []);
    assert_eq!(bench.word(3, answer(1, 1, true)), [MemberOutput::Gates { valid: true }]);
}

#[test]
fn a_pause_that_others_took_for_death_ends_in_a_new_life() {
    let mut bench = Bench::with(&[2, 3]);
    bench.now += 10 * SECOND;
    bench.membership.tick(bench.now);
    bench.outputs();
    let outputs = bench.word(2, MemberWord::Fenced { incarnation: life(1) });
    assert_eq!(outputs[0], MemberOutput::Renewed);
    assert!(outputs.contains(&MemberOutput::Gates { valid: true }));
}

#[test]
fn after_a_pause_with_nobody_left_to_ask_the_gates_open_after_a_window() {
    let mut bench = Bench::with(&[2]);
    bench.now += 10 * SECOND;
    bench.membership.tick(bench.now);
    bench.unlink(2);
    assert_eq!(bench.pass(2 * SECOND + 3 * QUARTER, &[]), []);
    let outputs = bench.pass(QUARTER, &[]);
    assert_eq!(outputs, [suspected(2), MemberOutput::Gates { valid: true }]);
}

#[test]
fn a_peer_that_lives_and_never_confirms_does_not_close_the_gates_for_ever() {
    let mut bench = Bench::with(&[2]);
    bench.now += 10 * SECOND;
    bench.membership.tick(bench.now);
    let outputs = bench.pass(6 * SECOND, &[2]);
    assert_eq!(outputs.last(), Some(&MemberOutput::Gates { valid: true }));
}

#[test]
fn a_node_without_members_cannot_be_late() {
    let mut bench = Bench::alone();
    bench.now += 3_600 * SECOND;
    bench.membership.tick(bench.now);
    assert_eq!(bench.outputs(), []);
    assert_eq!(bench.membership.deadline(), None);
}

#[test]
fn a_short_stall_of_this_node_makes_nobody_suspect_before_its_backlog_is_read() {
    let mut bench = Bench::with(&[2]);
    bench.pass(SECOND + QUARTER, &[]);
    bench.now += SECOND + 3 * QUARTER;
    bench.membership.tick(bench.now);
    assert_eq!(bench.pass(SECOND - QUARTER, &[]), []);
    assert_eq!(bench.pass(QUARTER, &[]), [suspected(2)]);
}

#[test]
fn with_seeds_a_node_acts_when_one_has_answered_or_after_a_while() {
    let now = Instant::now();
    let settings = Settings::default();
    let mut membership = Membership::alone(member(1), &settings, true, now);
    membership.next_output();
    assert!(!membership.settled_enough());
    assert_eq!(membership.deadline(), Some(now + settings.alone_after));
    membership.tick(now + settings.alone_after);
    assert_eq!(membership.next_output(), Some(MemberOutput::ViewChanged));
    assert!(membership.settled_enough() && !membership.has_heard_a_seed());

    let mut membership = Membership::alone(member(1), &settings, true, now);
    membership.linked(now, hello(member(2), vec![]));
    assert!(membership.settled_enough() && membership.has_heard_a_seed());
}

#[test]
fn heartbeats_go_to_every_linked_member_and_tell_the_life_and_the_view() {
    let mut bench = Bench::with(&[2, 3]);
    bench.unlink(3);
    assert_eq!(bench.membership.deadline(), Some(bench.now + SECOND));
    bench.now += SECOND;
    bench.membership.tick(bench.now);
    let view = bench.membership.view().id();
    let pulse = Pulse { sent: 1_000_000, echo: None, held: 0 };
    let word = MemberWord::Heartbeat { incarnation: life(1), view, pulse };
    assert_eq!(bench.all(), [send(2, word)]);
}

#[test]
fn a_peer_whose_view_stays_different_is_told_the_members_ever_more_rarely() {
    let mut bench = Bench::with(&[2, 3]);
    let list = send(2, MemberWord::Members { members: vec![member(1), member(3)] });
    assert_eq!(bench.word(2, heartbeat(2)), [], "it may be about to change");
    let mut told = Vec::new();
    for second in 0..16 {
        if bench.word(2, heartbeat(2)).contains(&list) {
            told.push(second);
        }
        bench.pass(SECOND, &[2, 3]);
    }
    assert_eq!(told, [0, 1, 3, 7, 15]);
}

#[test]
fn what_a_peer_makes_this_node_keep_is_bounded() {
    let mut bench = Bench::with(&[2]);
    for block in 0..4_u8 {
        let members = (0..2_000_u32).map(|n| {
            let mut key = [block; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            let addresses = vec!["/memory/5".to_owned(); 40];
            Member { id: NodeId::from_key(key), addresses, ..member(9) }
        });
        bench.word(2, MemberWord::Members { members: members.collect() });
    }
    assert_eq!(bench.membership.hints.len(), MEMBERS_LIMIT);
    assert!(bench.membership.hints.values().all(|hint| hint.addresses.len() == 16));
    for n in 0..10_000_u32 {
        let mut key = [7; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        let about = NodeId::from_key(key);
        bench.word(2, MemberWord::Ask { about, incarnation: life(9), ballot: u64::MAX });
    }
    assert!(bench.membership.deferred.len() <= 4_096);
    bench.pass(4 * SECOND, &[2]);
    assert!(bench.membership.votes.len() <= 4_096 && bench.membership.deferred.is_empty());
}

#[test]
fn no_word_of_a_member_and_no_order_of_events_makes_this_node_panic_or_spin() {
    for seed in 0..300_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut pick = |limit: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % limit
        };
        let mut bench = Bench::with(&[2, 3, 4]);
        for _ in 0..300 {
            let about = pick(6) as u8 + 1;
            let nonce = if pick(4) == 0 { 1_000 } else { u64::from(about) };
            let started = [0, 99, 100, 101, 1 << 62, u64::MAX][pick(6) as usize];
            let incarnation = Incarnation { started, nonce };
            let told = Member { incarnation, ..member(about) };
            let ballot = pick(8);
            let heard = pick(2) == 0;
            let from = incarnation.run_of(id(about));
            let sender = run(pick(4) as u8 + 1);
            let about = id(about);
            let word = match pick(8) {
                0 => MemberWord::Heartbeat {
                    incarnation,
                    view: ViewId(ballot),
                    pulse: Pulse::default(),
                },
                1 => MemberWord::Members { members: vec![told.clone(), member(2)] },
                2 => MemberWord::Ask { about, incarnation, ballot },
                3 => MemberWord::Answer { about, incarnation, ballot, heard },
                4 => MemberWord::Down { about, incarnation, voters: vec![id(1), id(2)] },
                5 => MemberWord::Fenced { incarnation },
                6 => MemberWord::Leaving { incarnation },
                _ => MemberWord::Bye { incarnation },
            };
            match pick(8) {
                0 => bench.membership.linked(bench.now, hello(told, vec![member(4)])),
                1 => bench.membership.unlinked(bench.now, from),
                2 => bench.membership.unreachable(bench.now, about, heard),
                3 => bench.now += QUARTER * pick(20) as u32,
                _ => bench.membership.handle(bench.now, sender, word),
            }
            bench.membership.tick(bench.now);
            assert!(bench.membership.deadline().is_none_or(|at| at > bench.now), "seed {seed}");
            assert!(bench.membership.is_live(run(1)), "seed {seed}");
            let linked = bench.membership.peers.keys();
            let seen = bench.membership.view().members.keys().filter(|node| **node != id(1));
            assert!(linked.eq(seen), "seed {seed}");
            bench.all();
        }
    }
}

#[test]
fn heartbeats_measure_the_round_trip_by_each_end_s_own_clock() {
    let mut bench = Bench::with(&[2]);
    assert_eq!(bench.membership.round_trip(id(2)), None);
    bench.now += SECOND;
    bench.membership.tick(bench.now);
    let pulse = bench.all().into_iter().find_map(|output| match output {
        MemberOutput::Send { word: MemberWord::Heartbeat { pulse, .. }, .. } => Some(pulse),
        _ => None,
    });
    assert_eq!(pulse, Some(Pulse { sent: 1_000_000, echo: None, held: 0 }));
    // The peer kept it for 300 ms, and its own heartbeat comes 400 ms after this node's left.
    bench.now += Duration::from_millis(400);
    let heartbeat = |pulse| MemberWord::Heartbeat { incarnation: life(2), view: ViewId(0), pulse };
    bench.word(2, heartbeat(Pulse { sent: 77, echo: Some(1_000_000), held: 300_000 }));
    assert_eq!(bench.membership.round_trip(id(2)), Some(Duration::from_millis(100)));
    // Nonsense of a peer is no measurement.
    bench.word(2, heartbeat(Pulse { sent: 78, echo: Some(u64::MAX), held: u64::MAX }));
    assert_eq!(bench.membership.round_trip(id(2)), Some(Duration::from_millis(100)));
    bench.unlink(2);
    assert_eq!(bench.membership.round_trip(id(2)), None, "a link that is gone has none");
}

#[test]
fn addresses_that_change_are_announced_and_told_to_all_members_once() {
    let mut bench = Bench::with(&[2, 3]);
    let moved = Member { addresses: vec!["/ip4/10.0.0.1/tcp/1".to_owned()], ..member(1) };
    for told in [true, false] {
        bench.membership.set_addresses(bench.now, moved.addresses.clone());
        let announce = MemberOutput::Announce {
            me: moved.clone(),
            known: vec![member(2), member(3)],
            fenced: Vec::new(),
        };
        let word = MemberWord::Members { members: vec![moved.clone()] };
        let expected = [announce, send(2, word.clone()), send(3, word)];
        assert_eq!(bench.all(), if told { &expected[..] } else { &[] });
    }
    assert_eq!(bench.membership.me(), &moved);
    // No more than a node may have, and none that is absurd.
    let many = (0..20).map(|n| format!("/memory/{n}")).chain(["x".repeat(1_000)]);
    bench.membership.set_addresses(bench.now, many.collect());
    assert_eq!(bench.membership.me().addresses.len(), 16);
}
