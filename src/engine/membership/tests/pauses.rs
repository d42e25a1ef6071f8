//! Pauses.

use super::*;

#[test]
fn a_pause_closes_the_gates_until_each_peer_has_said_that_this_life_counts() {
    let mut bench = Bench::with(&[2, 3]);
    bench.now += 10 * SECOND;
    bench.membership.tick(bench.now);
    let closed = MemberOutput::Gates { valid: false };
    assert_eq!(bench.outputs(), [closed, send(2, confirm(1)), send(3, confirm(1))]);
    assert_eq!(bench.says(2, |_| {}), [], "it may have waited in a buffer");
    assert_eq!(bench.word(2, confirmed(1)), []);
    assert_eq!(bench.word(3, confirmed(1)), [MemberOutput::Gates { valid: true }]);
}

#[test]
fn a_pause_that_others_took_for_death_ends_in_a_new_life() {
    let mut bench = Bench::with(&[2, 3]);
    bench.now += 10 * SECOND;
    bench.membership.tick(bench.now);
    bench.outputs();
    let outputs = bench.word(2, fenced(1));
    assert_eq!(outputs[0], MemberOutput::Renewed);
    assert!(outputs.contains(&MemberOutput::Gates { valid: true }));
}

#[test]
fn a_peer_confirms_a_life_that_counts_and_no_other() {
    let mut bench = Bench::with(&[2]);
    let question = MemberWord::Confirm { incarnation: life(2), question: 7 };
    let answer = MemberWord::Confirmed { incarnation: life(2), question: 7 };
    assert_eq!(bench.word(2, question.clone()), [send(2, answer)]);
    assert_eq!(bench.word(9, question), [], "who is not in has no life here that counts");
}

#[test]
fn after_a_pause_with_nobody_left_to_ask_the_gates_open_after_a_window() {
    let mut bench = Bench::with(&[2]);
    bench.now += 10 * SECOND;
    bench.membership.tick(bench.now);
    bench.unlink(2);
    assert_eq!(bench.pass(SECOND, &[]), [send(2, confirm(1))], "asked again");
    let outputs = bench.pass(2 * SECOND, &[]);
    assert_eq!(outputs[outputs.len() - 2..], [suspected(2), MemberOutput::Gates { valid: true }]);
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
fn a_node_that_knows_nobody_cannot_be_late() {
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
fn who_is_behind_its_own_time_is_patient_with_many_others() {
    // When the others are suspected, in quarters of a second, by a node that looks so often.
    let suspected_after = |others: &[u8], look: u32| {
        let mut bench = Bench::with(others);
        bench.pass(2 * SECOND, others);
        // It looks at the clock too late for each heartbeat.
        let mut silent = 0;
        for n in 0..60 {
            bench.now += QUARTER;
            if n < 12 {
                for other in others {
                    bench.membership.heard(bench.now, run(*other));
                    let word = bench.beat(*other);
                    bench.membership.handle(bench.now, run(*other), true, word);
                }
            } else {
                silent += 1;
                if silent % look == 0 {
                    bench.membership.tick(bench.now);
                }
            }
            if bench.outputs().contains(&suspected(2)) {
                return silent;
            }
        }
        silent
    };
    let many: Vec<u8> = (2..30).collect();
    assert_eq!([suspected_after(&[2, 3], 1), suspected_after(&many, 1)], [12, 12]);
    assert_eq!(suspected_after(&[2, 3], 5), 15, "with few there is little that could wait");
    assert_eq!(suspected_after(&many, 5), 20, "a quarter of a second behind, a second more");
}
