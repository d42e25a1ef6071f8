//! What a peer can make this node keep or do is bounded.

use super::*;

#[test]
fn what_a_peer_makes_this_node_keep_is_bounded() {
    let mut bench = Bench::with(&[2]);
    let stranger = |block: u8, n: u32| {
        let mut key = [block; 32];
        key[..4].copy_from_slice(&n.to_be_bytes());
        NodeId::from_key(key)
    };
    for block in 0..4_u8 {
        let members: Vec<Member> = (0..2_000_u32)
            .map(|n| {
                let addresses = vec!["/memory/5".to_owned(); 40];
                Member { id: stranger(block, n), addresses, ..member(9) }
            })
            .collect();
        let silent: Vec<Life> = members.iter().map(Member::life).collect();
        let word = MemberWord::View { view: ViewId(9), base: None, members, gone: vec![] };
        bench.views.insert(2, ViewId(9));
        bench.word(2, word);
        bench.says(2, |status| {
            status.joining = silent.iter().copied().collect();
            status.unlinked = silent.iter().map(|life| life.node).collect();
            status.silent = silent;
        });
        assert!(bench.status().silent.len() <= LISTED);
    }
    let named = bench.membership.dialling.named_addresses();
    assert_eq!(named.len(), LISTED);
    assert!(named.iter().all(|addresses| *addresses == 16));
    assert!(bench.membership.votes.len() <= 4_096);
    let contact = &bench.membership.roster.contacts()[&id(2)];
    assert!(contact.view().is_some_and(|lives| lives.len() <= LISTED + 1));
    let told = contact.status().expect("it was told");
    assert!([told.silent.len(), told.joining.len(), told.unlinked.len()] == [LISTED; 3]);
    // Strangers that speak through it.
    for n in 0..1_100_u32 {
        let me = Member { id: stranger(7, n), ..member(9) };
        let mut word = bench.tell(9, |status| status.me = Some(Arc::new(me.clone())));
        if let MemberWord::Heartbeat { view, .. } = &mut word {
            *view = ViewId(u64::from(n));
        }
        bench.membership.handle(bench.now, me.run(), false, word);
        bench.all();
    }
    assert!(
        bench.membership.roster.contacts().len() <= LISTED + 2,
        "{}",
        bench.membership.roster.contacts().len()
    );
    // Differences that only add.
    for n in 0..40_u32 {
        let members = (0..100).map(|m| Member { id: stranger(8, n * 100 + m), ..member(9) });
        let (view, base) = (ViewId(u64::from(n) + 10), Some(ViewId(u64::from(n) + 9)));
        let word = MemberWord::View { view, base, members: members.collect(), gone: vec![] };
        bench.word(2, word);
    }
    let lives = bench.membership.roster.contacts()[&id(2)].view().map_or(0, |lives| lives.len());
    assert!(lives <= LISTED, "{lives} lives of one peer's view are kept");
    bench.pass(40 * SECOND, &[2]);
    assert_eq!(bench.membership.dialling.named_addresses(), [0; 0]);
    assert_eq!(bench.membership.roster.contacts().len(), 1, "who fell silent is forgotten");
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
        let mut bench = match seed % 3 {
            0 => Bench::with(&[2, 3, 4]),
            1 => Bench::waiting(),
            _ => Bench::alone(),
        };
        for _ in 0..300 {
            let about = pick(6) as u8 + 1;
            let nonce = if pick(4) == 0 { 1_000 } else { u64::from(about) };
            let started = [0, 99, 100, 101, 1 << 62, u64::MAX][pick(6) as usize];
            let incarnation = Incarnation { started, nonce };
            let told = Member { incarnation, ..member(about) };
            let number = pick(400);
            let is_one = pick(2) == 0;
            let from = incarnation.run_of(id(about));
            let mut sender = run(pick(5) as u8 + 1);
            let mut some =
                |most: u64| -> Vec<u8> { (0..pick(most)).map(|_| pick(6) as u8 + 1).collect() };
            let (silent, joining, seen) = (lives(&some(4)), lives(&some(6)), some(6));
            let unlinked: Vec<NodeId> = some(3).into_iter().map(id).collect();
            let known = view(&seen);
            let about = id(about);
            let waiting = [None, Some(true), Some(false)][pick(3) as usize];
            let word = match pick(10) {
                0..=3 => {
                    let me = if is_one { told.clone() } else { member(sender.node.key()[0]) };
                    let life = me.incarnation;
                    if is_one {
                        sender = from;
                    }
                    MemberWord::Heartbeat {
                        incarnation: life,
                        number,
                        next: 1_000,
                        wants_all: false,
                        view: if pick(2) == 0 { known.id() } else { ViewId(pick(4)) },
                        pulse: Pulse::default(),
                        hears: (pick(3) > 0).then_some(Heard {
                            incarnation: bench.membership.incarnation(),
                            straight: pick(2) == 0,
                        }),
                        fence: (pick(9) == 0).then_some(incarnation),
                        version: pick(3),
                        revision: pick(2),
                        status: (pick(3) > 0).then(|| {
                            let me = (pick(3) > 0).then(|| Arc::new(me));
                            let joining = joining.into_iter().collect();
                            let unlinked = unlinked.into_iter().collect();
                            Box::new(Status { me, waiting, silent, joining, unlinked })
                        }),
                    }
                }
                4 | 5 => MemberWord::View {
                    view: known.id(),
                    base: (pick(3) == 0).then_some(ViewId(pick(4))),
                    members: known.members.into_values().collect(),
                    gone: vec![about],
                },
                6 if is_one => MemberWord::Ask,
                6 => MemberWord::Confirm { incarnation, question: number },
                7 if is_one => MemberWord::Confirmed { incarnation, question: number },
                7 => MemberWord::Down { about, incarnation, voters: vec![id(1), id(2)] },
                8 => MemberWord::Fenced { incarnation },
                _ => MemberWord::Bye { incarnation },
            };
            match pick(9) {
                0 => bench.membership.linked(bench.now, hello(told, vec![member(4)])),
                1 => bench.membership.unlinked(bench.now, from),
                2 => bench.membership.unreachable(bench.now, about, is_one),
                3 => bench.now += QUARTER * pick(20) as u32,
                4 => bench.membership.settled(bench.now),
                _ => bench.membership.handle(bench.now, sender, pick(2) == 0, word),
            }
            bench.membership.tick(bench.now);
            let m = &bench.membership;
            assert!(m.deadline().is_none_or(|at| at > bench.now), "seed {seed}");
            assert!(m.is_live(m.me().run()), "seed {seed}");
            let others = m.view().members.keys().filter(|node| **node != id(1));
            assert!(others.clone().all(|node| m.roster.contact(*node).is_some()), "seed {seed}");
            let over = |member: &Member| m.fenced(member.id, member.incarnation);
            assert!(!m.view().members.values().any(over), "seed {seed}: one is in that is over");
            assert!(!m.is_waiting() || others.count() == 0, "seed {seed}: it waits in a view");
            bench.all();
        }
    }
}
