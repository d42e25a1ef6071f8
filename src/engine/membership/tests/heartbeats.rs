//! Heartbeats.

use super::*;

#[test]
fn heartbeats_go_to_every_member_linked_or_not_and_try_a_link_that_does_not_work() {
    let mut bench = Bench::with(&[2, 3, 4]);
    bench.unlink(3);
    bench.pass(2 * SECOND, &[2]);
    bench.pass(SECOND - QUARTER, &[2, 3]);
    bench.all();
    bench.now += QUARTER;
    bench.membership.tick(bench.now);
    let mut told = Vec::new();
    for output in bench.all() {
        match output {
            MemberOutput::Send { to, word: MemberWord::Heartbeat { incarnation, hears, .. } } => {
                assert_eq!(incarnation, life(1));
                told.push((to.key()[0], false, hears.is_some()));
            }
            MemberOutput::Probe { to, word: MemberWord::Heartbeat { hears, .. } } => {
                told.push((to.key()[0], true, hears.is_some()));
            }
            _ => {}
        }
    }
    told.sort_unstable();
    told.dedup();
    assert_eq!(told, [(2, false, true), (3, false, true), (4, false, false), (4, true, false)]);
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
    assert_eq!(pulse.map(|pulse| pulse.sent), Some(1_000_000));
    // The peer kept it for 300 ms, and its own heartbeat comes 400 ms after this node's left.
    bench.now += Duration::from_millis(400);
    let say = |bench: &mut Bench, is_straight, pulse| {
        let mut word = bench.beat(2);
        if let MemberWord::Heartbeat { pulse: told, .. } = &mut word {
            *told = pulse;
        }
        bench.membership.handle(bench.now, run(2), is_straight, word);
        bench.membership.round_trip(id(2))
    };
    let taken = Some(Duration::from_millis(100));
    let pulse = Pulse { sent: 77, echo: Some(1_000_000), held: 300_000 };
    assert_eq!(say(&mut bench, false, pulse), None, "it came by others");
    assert_eq!(say(&mut bench, true, pulse), taken);
    // Nonsense of a peer is no measurement.
    let pulse = Pulse { sent: 78, echo: Some(u64::MAX), held: u64::MAX };
    assert_eq!(say(&mut bench, true, pulse), taken);
    bench.unlink(2);
    assert_eq!(bench.membership.round_trip(id(2)), None, "a link that is gone has none");
}
