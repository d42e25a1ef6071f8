//! Rule 10: who crashes again and again.

use super::*;

#[test]
fn a_node_that_crashed_twice_has_to_live_for_a_heartbeat_before_it_is_taken_in() {
    let mut bench = Bench::alone();
    for nonce in 10..13 {
        let incarnation = Incarnation { started: 100 + nonce, nonce };
        let me = Member { incarnation, ..member(2) };
        bench.link(hello(me.clone(), vec![]));
        let mut word = bench.tell(2, |status| {
            status.me = Some(Arc::new(me.clone()));
            status.joining = life_set(&[1]);
        });
        if let MemberWord::Heartbeat { incarnation: life, view, .. } = &mut word {
            *life = incarnation;
            *view = View { members: BTreeMap::from([(me.id, me.clone())]) }.id();
        }
        bench.handle(me.run(), word.clone());
        if nonce < 12 {
            assert_eq!(bench.members(), [1, 2], "life {nonce}");
        } else {
            assert_eq!(bench.members(), [1], "it crashed twice");
            bench.now += SECOND - QUARTER;
            bench.membership.tick(bench.now);
            assert_eq!(bench.members(), [1]);
            bench.now += QUARTER;
            bench.membership.tick(bench.now);
            assert_eq!(bench.members(), [1, 2]);
        }
        bench.membership.unlinked(bench.now, me.run());
        bench.refused(2);
        bench.pass(HALF, &[]);
        assert_eq!(bench.members(), [1], "life {nonce} is down");
    }
}
