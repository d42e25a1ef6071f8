//! Whole nodes on a seeded network: real engines, doors, peers and paths, fake actors that count, and
//! clients that keep what they were told.
//!
//! A node is put together in [`node`], [`doors`], [`worker`] and [`seat`], which play the glue of
//! `hub/` that is bound to Actix, threads and the clock; each method there is named like the one that
//! it plays, and changes with it. Everything else of a node is the real thing.
//!
//! A run is a [`Plan`]: a seed, and a list of faults. One that fails is shown with the command that
//! replays it and with the faults without which it would not fail. `SIM_SEED=number` plays one seed,
//! `SIM_SEEDS=1000` so many, `SIM_GO_ON=1` goes on after one that fails, and `SIM_TRACE=1` prints what
//! comes to every node.

mod actor;
mod call;
mod checks;
mod doors;
mod faults;
mod ledger;
mod network;
mod node;
mod seat;
mod troubles;
mod worker;
mod world;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use faults::{Plan, Played, play, settled};
use node::ON_DEMAND;
use worker::Kind;

use crate::{delivery::How, engine::io::Request, model::id::ChildId};

/// The seeds of a test: those that are asked for, or so many.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let replayed = number("SIM_SEED");
    let count = if replayed.is_some() { 0 } else { number("SIM_SEEDS").unwrap_or(count) };
    replayed.into_iter().chain((0..count).map(|n| n.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ n))
}

/// Plays a plan; a panic of what is played is a violation.
fn try_out(plan: &Plan) -> Played {
    catch_unwind(AssertUnwindSafe(|| play(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violations = vec![format!("it panicked: {}", text.unwrap_or_default())];
        Played { violations, ..Played::default() }
    })
}

/// The plan without the faults that it fails without.
fn shrink(mut plan: Plan) -> (Plan, Vec<String>) {
    let mut violations = try_out(&plan).violations;
    let mut at = 0;
    while at < plan.faults.len() {
        let mut less = plan.clone();
        less.faults.remove(at);
        let played = try_out(&less);
        if played.violations.is_empty() {
            at += 1;
        } else {
            // What was needed with it may not be needed without it.
            (plan, violations, at) = (less, played.violations, 0);
        }
    }
    (plan, violations)
}

/// Plays a plan of each seed, and fails when one does. Tells how often each thing was seen.
fn play_all(name: &str, count: u64, plan: impl Fn(u64) -> Plan) -> BTreeMap<&'static str, u64> {
    let mut seen = BTreeMap::<_, u64>::new();
    let mut failed = 0;
    for seed in seeds(count) {
        let plan = plan(seed);
        let played = try_out(&plan);
        if !played.violations.is_empty() {
            failed += 1;
            let (plan, violations) = shrink(plan);
            let replay = format!("SIM_SEED={seed} cargo test --lib sim::{name}");
            eprintln!("{violations:#?}\nin the shortest run that fails, of\n  {replay}\n{plan:#?}");
            if std::env::var_os("SIM_GO_ON").is_none() {
                break;
            }
        }
        for (what, times) in played.seen {
            *seen.entry(what).or_default() += times;
        }
    }
    assert_eq!(failed, 0, "so many runs failed, see above");
    seen
}

/// A test in which nothing happens finds nothing.
fn expect_seen(seen: &BTreeMap<&'static str, u64>, whats: &[&str]) {
    let all = seeds(0).next().is_none();
    for what in whats.iter().filter(|_| all) {
        assert!(seen.contains_key(what), "nothing was {what}: {seen:?}");
    }
}

#[test]
fn orderly_moves_lose_nothing() {
    let seen = play_all("orderly_moves_lose_nothing", 100, Plan::orderly);
    expect_seen(&seen, &["acknowledged", "not handled", "handed over"]);
}

#[test]
fn moves_over_links_that_break_lose_nothing() {
    let seen = play_all("moves_over_links_that_break_lose_nothing", 100, Plan::hindered);
    expect_seen(&seen, &["acknowledged", "handed over", "handover failed"]);
}

#[test]
fn whatever_happens_at_once_is_survived() {
    let seen = play_all("whatever_happens_at_once_is_survived", 150, Plan::rough);
    let whats = ["acknowledged", "maybe handled", "handed over", "handover failed", "recovered"];
    expect_seen(&seen, &whats);
    expect_seen(&seen, &["merged", "parked", "restarted"]);
}

/// A child goes while a link is broken, and its old owner forgets its door: nobody there can say what it has
/// accepted. What the state says of the client's lane is all that keeps it from being handled again.
#[test]
fn what_was_accepted_and_not_told_before_a_move_is_handled_once() {
    for seed in seeds(30) {
        let kind = Kind { merges: true, blocking: false };
        let (unlinked, faults) = (Vec::new(), Vec::new());
        let mut world = settled(&Plan { seed, nodes: 3, children: 1, kind, unlinked, faults });
        let child = world.children[0].clone();
        let runs = |at: &usize| world.runs(*at, &child);
        let owner = (0..3).find(runs).expect("somebody runs it");
        let (client, target) = ((owner + 1) % 3, (owner + 2) % 3);
        let sent = 20 + world.dice.below(20);
        for n in 0..sent {
            if n == sent - 4 {
                world.break_link(client, owner);
                world.break_link(client, target);
            }
            world.client(client, &child, None, How::Try);
            let wait = world.dice.ms(1, 12);
            world.run_for(wait);
        }
        // Nor does the third node pass anything on.
        for other in [owner, target] {
            world.cut(client, other);
            world.cut(other, client);
        }
        let to = world.run_of(target).node;
        let timeout = Duration::from_secs(5);
        world.request(owner, Request::Migrate { child, to, forced: false, timeout });
        world.run_for(Duration::from_millis(400));
        for other in [owner, target] {
            world.mend(client, other);
            world.mend(other, client);
        }
        world.check_end();
        let violations = &world.ledger.violations;
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    }
}

/// The links of a node break while it leaves, and that to a client does not stand again in time: its calls were
/// handled, and their replies are lost with the link. They go by the third node, which the client learns of with
/// the next heartbeat.
#[test]
fn a_leave_waits_for_a_member_that_has_no_path_to_hear_the_last_replies() {
    for seed in seeds(30) {
        let kind = Kind { merges: true, blocking: false };
        let (unlinked, faults) = (Vec::new(), Vec::new());
        let mut world = settled(&Plan { seed, nodes: 3, children: 1, kind, unlinked, faults });
        let child = world.children[0].clone();
        let runs = |at: &usize| world.runs(*at, &child);
        let owner = (0..3).find(runs).expect("somebody runs it");
        let (client, third) = ((owner + 1) % 3, (owner + 2) % 3);
        let timeout = Duration::from_secs(20);
        world.request(owner, Request::Leave { timeout });
        for _ in 0..4 {
            world.client(client, &child, Some(Duration::from_secs(4)), How::Send);
            let wait = world.dice.ms(1, 6);
            world.run_for(wait);
        }
        world.cut(client, owner);
        world.cut(owner, client);
        world.break_link(client, owner);
        world.break_link(owner, third);
        world.run_for(Duration::from_millis(600));
        world.mend(client, owner);
        world.mend(owner, client);
        world.check_end();
        let violations = &world.ledger.violations;
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    }
}

/// Messages come for children that are not there, from all nodes at once, while their homes crash, leave and
/// come, and links break: each is started once, and what was said to be handled was.
#[test]
fn children_start_on_demand_once_though_homes_change() {
    let mut handled = 0;
    for seed in seeds(40) {
        let kind = Kind { merges: true, blocking: false };
        let (unlinked, faults) = (Vec::new(), Vec::new());
        let mut world = settled(&Plan { seed, nodes: 4, children: 0, kind, unlinked, faults });
        world.children =
            (0..8).map(|n| ChildId::new(format!("{ON_DEMAND}{n}")).expect("a valid id")).collect();
        let fault = world.dice.below(5);
        let (at, other) = (world.dice.below(4) as usize, world.dice.below(4) as usize);
        for round in 0..20 {
            for client in world.alive() {
                let child = world.dice.below(8) as usize;
                let child = world.children[child].clone();
                world.client(client, &child, Some(Duration::from_secs(4)), How::Send);
            }
            match (round, fault) {
                (2, 0) => world.crash(at),
                (2, 1) => {
                    let timeout = Duration::from_secs(20);
                    world.request(at, Request::Leave { timeout });
                }
                (2, 2) if at != other => world.break_link(at, other),
                (2, 3) if at != other => world.cut(at, other),
                (18, 3) if at != other => world.mend(at, other),
                (19, 0) => world.begin(at),
                _ => {}
            }
            let wait = world.dice.ms(1, 60);
            world.run_for(wait);
        }
        for at in world.alive() {
            world.request(at, Request::Stay);
            // Of some nobody may have heard but who has crashed.
            for child in world.children.clone() {
                world.client(at, &child, Some(Duration::from_secs(20)), How::Send);
            }
        }
        world.check_end();
        let violations = &world.ledger.violations;
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
        let done = |slot: &&ledger::Sent| matches!(slot.slot.outcome(), Some(Ok(())));
        handled += world.ledger.sent.values().filter(done).count();
    }
    assert!(handled > 0, "nobody started");
}

/// One node dies while the other restarts: nobody is left who could take it in, and it must not found a
/// cluster by itself.
#[test]
fn a_cluster_of_which_nobody_is_left_waits_to_be_founded_by_hand() {
    for seed in seeds(10) {
        let kind = Kind { merges: true, blocking: false };
        let (unlinked, faults) = (Vec::new(), Vec::new());
        let mut world = settled(&Plan { seed, nodes: 2, children: 1, kind, unlinked, faults });
        world.crash(1);
        world.crash(0);
        world.begin(0);
        world.run_for(Duration::from_secs(30));
        let waits = world.nodes().all(|(_, node)| node.engine.is_waiting());
        assert!(waits, "seed {seed}: it has founded a cluster beside one that may be there");
        world.check_end();
        let violations = &world.ledger.violations;
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
        let child = world.children[0].clone();
        assert!(world.runs(0, &child), "seed {seed}: {child} does not run");
    }
}
