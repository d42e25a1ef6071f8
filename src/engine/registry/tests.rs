//! The registry as its users see it: several nodes' logs, merged.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::{expiry::KEEP_REMOVAL, log::MOST_LOGS, *};
use crate::model::{
    child::{ChildSpec, Role, TakenIn},
    id::{KindName, Origin},
    message::SyncWord,
};

pub(super) fn run(n: u8) -> NodeRun {
    NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
}

pub(super) fn child(n: usize) -> ChildId {
    ChildId::new(format!("c{n}")).expect("a valid id")
}

pub(in crate::engine) fn owned(n: usize, term: u64) -> Entry {
    let epoch = Epoch { term, attempt: 0 };
    let kind = KindName::new("k").expect("a valid kind");
    let spec = Arc::new(ChildSpec::from_parts(child(n), kind, Bytes::new()));
    let (born, copied, role) = (epoch, epoch, Role::Active);
    Entry::Owned(Ownership {
        epoch,
        born,
        copied,
        role,
        pinned: None,
        origin: Origin::default(),
        taken: TakenIn::default(),
        failure: None,
        spec,
    })
}

pub(super) fn moved(n: usize, term: u64, to: NodeRun) -> Entry {
    match owned(n, term) {
        Entry::Owned(ownership) => Entry::Moved { to, ownership },
        entry => entry,
    }
}

pub(super) fn removed(term: u64) -> Entry {
    Entry::Removed { epoch: Epoch { term, attempt: 0 } }
}

fn feed(registry: &mut Registry, word: SyncWord) -> Applied {
    match word {
        SyncWord::Changes { log, from, upto, entries } => {
            registry.apply_changes(log, from, upto, entries)
        }
        SyncWord::Snapshot { log, upto, entries, more } => {
            registry.apply_snapshot(log, upto, entries, more)
        }
        word => panic!("no entries in {word:?}"),
    }
}

fn since(registry: &Registry, log: NodeRun, from: u64) -> Vec<SyncWord> {
    registry.changes_since(log, from).map(|part| part.word).collect()
}

type Picture = Vec<(usize, Option<(NodeRun, Epoch)>)>;

fn picture(registry: &Registry) -> Picture {
    (0..6).map(|n| (n, registry.best(&child(n)).map(|best| (best.owner, best.epoch)))).collect()
}

#[test]
fn a_successors_entry_supersedes_the_commit() {
    let mut registry = Registry::new(run(1));
    registry.write(child(0), owned(0, 1));
    registry.write(child(0), moved(0, 2, run(2)));
    assert_eq!(registry.owner(&child(0)).map(|(run, _)| run), Some(run(2)));
    let entry = LogEntry { version: 1, child: child(0), entry: owned(0, 2) };
    let applied = registry.apply_changes(run(2), 0, 1, vec![entry]);
    assert_eq!(applied.changed, BTreeSet::from([child(0)]));
    let writers = |registry: &Registry| registry.entries_of(&child(0)).count();
    assert_eq!(writers(&registry), 2);
    let now = Instant::now();
    registry.expire(now, &BTreeSet::from([run(1).node]), Duration::from_secs(60));
    assert_eq!(writers(&registry), 1, "the lower one went when everybody had the higher");
    assert_eq!(registry.owned_by(run(2)).count(), 1);
    assert_eq!(registry.owned_by(run(1)).count(), 0);
}

#[test]
fn a_gap_is_asked_for_and_changes_nothing() {
    let mut registry = Registry::new(run(1));
    let entry = LogEntry { version: 5, child: child(0), entry: owned(0, 1) };
    let applied = registry.apply_changes(run(2), 4, 5, vec![entry]);
    assert_eq!(applied.gap, Some(Watermark { log: run(2), version: 0 }));
    assert!(registry.best(&child(0)).is_none());
}

/// The children that are named when a log is told to a run from its beginning.
fn told(registry: &Registry, log: NodeRun, to: Option<NodeRun>) -> Vec<ChildId> {
    let part = registry.part(log, 0, false, changes::PART_BYTES, to).expect("something is newer");
    let (SyncWord::Changes { entries, .. } | SyncWord::Snapshot { entries, .. }) = part.word else {
        panic!("no entries in {:?}", part.word);
    };
    entries.into_iter().map(|entry| entry.child).collect()
}

#[test]
fn a_dominated_entry_is_told_to_whoever_may_not_have_the_higher_one() {
    let mut registry = Registry::new(run(1));
    registry.write(child(0), owned(0, 1));
    registry.apply_changes(run(2), 0, 2, vec![entry(2, 0, owned(0, 2))]);
    let whole = vec![child(0)];
    assert_eq!(told(&registry, run(1), None), whole, "nobody knows what it has");
    registry.acknowledged(run(2), run(3), 1);
    assert_eq!(told(&registry, run(1), Some(run(3))), whole, "it has less of the other log");
    registry.acknowledged(run(2), run(3), 2);
    assert_eq!(told(&registry, run(1), Some(run(3))), [], "it has the higher one");
    let anew = NodeRun { nonce: 99, ..run(3) };
    assert_eq!(told(&registry, run(1), Some(anew)), whole, "a later run has nothing");
    assert_eq!(told(&registry, run(1), Some(run(2))), [], "who wrote the higher one has it");
    // What is removed is not told, nor the life before that of now: where the removal is forgotten it would
    // be back.
    let Entry::Owned(mut later) = owned(0, 2) else { panic!("it is owned") };
    later.origin = Origin(7);
    later.epoch = later.epoch.next_attempt();
    let mut other = Registry::new(run(1));
    other.write(child(0), owned(0, 1));
    other.apply_changes(run(2), 0, 2, vec![entry(2, 0, Entry::Owned(later))]);
    assert_eq!(told(&other, run(1), None), []);
    registry.apply_changes(run(2), 2, 3, vec![entry(3, 0, removed(2))]);
    assert_eq!(told(&registry, run(1), Some(run(4))), []);
}

fn entry(version: u64, n: usize, entry: Entry) -> LogEntry {
    LogEntry { version, child: child(n), entry }
}

#[test]
fn an_epoch_that_jumps_is_skipped_and_its_log_goes_on() {
    let mut registry = Registry::new(run(1));
    registry.apply_changes(run(2), 0, 1, vec![entry(1, 0, owned(0, 3))]);
    let far = 4 + Epoch::JUMP;
    let words = vec![
        entry(1, 0, owned(0, Epoch::LIMIT)),
        entry(2, 0, moved(0, far, run(1))),
        entry(3, 0, removed(u64::MAX)),
        entry(4, 1, owned(1, Epoch::LIMIT)),
        entry(5, 2, owned(3, 1)),
        entry(6, 3, owned(3, 1)),
    ];
    let applied = registry.apply_changes(run(3), 0, 6, words);
    assert_eq!(applied.changed, BTreeSet::from([child(3)]));
    assert_eq!(registry.watermark(run(3)), 6);
    assert_eq!(registry.owner(&child(0)).map(|(run, _)| run), Some(run(2)));
    assert_eq!(registry.take_refused(), BTreeMap::from([(run(3), 5)]));
    assert!(registry.take_refused().is_empty());
    registry.apply_changes(run(3), 6, 7, vec![entry(7, 0, owned(0, far - 1))]);
    assert_eq!(registry.owner(&child(0)).map(|(run, _)| run), Some(run(3)));
}

#[test]
fn a_log_does_not_jump_over_what_it_said_itself() {
    let mut registry = Registry::new(run(1));
    registry.apply_changes(run(2), 0, 1, vec![entry(1, 0, owned(0, 3))]);
    registry.apply_changes(run(2), 1, 2, vec![entry(2, 0, owned(0, Epoch::FIRST))]);
    assert_eq!(registry.highest_epoch(&child(0)).term, 3);
    assert_eq!(registry.watermark(run(2)), 2);
}

#[test]
fn a_node_that_comes_late_takes_in_what_has_a_long_history() {
    let mut registry = Registry::new(run(1));
    let old = 1_000 * Epoch::JUMP;
    let words = vec![entry(1, 0, owned(0, old)), entry(2, 0, owned(0, old + 1))];
    registry.apply_changes(run(2), 0, 2, words);
    assert_eq!(registry.highest_epoch(&child(0)).term, old + 1);
}

#[test]
fn what_others_told_of_a_log_above_all_that_it_names_itself_is_dropped() {
    let mut registry = Registry::new(run(1));
    registry.apply_changes(run(2), 0, 1, vec![entry(1, 0, owned(0, 3))]);
    registry.apply_changes(run(2), 1, Epoch::LIMIT, vec![entry(9, 1, owned(1, 3))]);
    let late = |registry: &mut Registry| {
        let words = vec![entry(1, 0, owned(0, 3)), entry(2, 2, owned(2, 3))];
        registry.apply_changes(run(2), 0, 2, words).changed
    };
    assert_eq!(late(&mut registry), BTreeSet::new(), "it is taken for old");
    assert_eq!(registry.correct(run(2), 2), BTreeSet::from([child(0), child(1)]));
    assert_eq!(registry.len(), 0);
    assert_eq!(late(&mut registry), BTreeSet::from([child(0), child(2)]));
    // What it names late is no reason to drop what it has named before.
    registry.told_by(run(2), run(2), 2);
    assert_eq!(registry.correct(run(2), 1), BTreeSet::new());
    assert_eq!(registry.len(), 2);
    assert_eq!(registry.correct(run(1), 0), BTreeSet::new(), "its own is its own");
}

#[test]
fn there_is_room_for_the_log_of_who_names_it_itself() {
    let mut registry = Registry::new(run(1));
    for nonce in 0..10_000 {
        let log = NodeRun { nonce, ..run(2) };
        registry.apply_changes(log, 0, 1, vec![entry(1, 0, owned(0, 1))]);
    }
    assert_eq!(registry.logs.len(), MOST_LOGS);
    registry.apply_changes(run(3), 0, 1, vec![entry(1, 1, owned(1, 1))]);
    assert_eq!(registry.watermark(run(3)), 0);
    registry.told_by(run(3), run(3), 1);
    registry.apply_changes(run(3), 0, 1, vec![entry(1, 1, owned(1, 1))]);
    assert_eq!(registry.watermark(run(3)), 1);
}

#[test]
fn nobody_writes_in_anothers_log() {
    let mut registry = Registry::new(run(1));
    let entry = LogEntry { version: 1, child: child(0), entry: owned(0, 1) };
    assert_eq!(registry.apply_changes(run(1), 0, 1, vec![entry]), Applied::default());
}

#[test]
fn a_removal_is_forgotten_when_all_have_heard_and_then_a_snapshot_tells_the_rest() {
    let now = Instant::now();
    let known = BTreeSet::from([run(1).node, run(2).node]);
    let mut registry = Registry::new(run(1));
    registry.write(child(0), owned(0, 1));
    registry.write(child(1), owned(1, 1));
    registry.write(child(0), removed(2));
    registry.expire(now, &known, Duration::from_secs(3_600));
    assert!(registry.best(&child(0)).is_some(), "nobody has heard");
    registry.acknowledged(run(1), run(2), 3);
    let hour = Duration::from_secs(3_600);
    registry.expire(now + KEEP_REMOVAL / 2, &known, hour);
    assert_eq!(registry.highest_epoch(&child(0)).term, 2, "it is too young");
    registry.expire(now + 2 * KEEP_REMOVAL, &known, hour);
    assert!(registry.best(&child(0)).is_none());
    let mut late = Registry::new(run(3));
    let entry = LogEntry { version: 1, child: child(0), entry: owned(0, 1) };
    late.apply_changes(run(1), 0, 1, vec![entry]);
    for word in since(&registry, run(1), 1) {
        assert!(matches!(word, SyncWord::Snapshot { .. }));
        feed(&mut late, word);
    }
    assert!(late.best(&child(0)).is_none(), "the snapshot replaces");
    assert!(late.best(&child(1)).is_some());
}

#[test]
fn a_long_log_goes_in_parts() {
    let mut registry = Registry::new(run(1));
    for n in 0..2_000_u32 {
        let id = ChildId::new(format!("child-{n}")).expect("a valid id");
        let Entry::Owned(mut ownership) = owned(0, 1) else { unreachable!() };
        let kind = KindName::new("k").expect("a valid kind");
        ownership.spec = Arc::new(ChildSpec::from_parts(id.clone(), kind, Bytes::new()));
        registry.write(id, Entry::Owned(ownership));
    }
    let words = since(&registry, run(1), 0);
    assert!(words.len() > 1);
    let mut other = Registry::new(run(2));
    for word in words {
        assert_eq!(feed(&mut other, word).gap, None);
    }
    assert_eq!(other.len(), 2_000);
    assert_eq!(other.watermark(run(1)), 2_000);
}

fn writes() -> impl Strategy<Value = Vec<(u8, usize, u8)>> {
    proptest::collection::vec((1_u8..4, 0_usize..6, 0_u8..4), 1..40)
}

/// Three nodes write; nobody ever goes below what it wrote before.
fn histories(writes: &[(u8, usize, u8)]) -> Vec<Registry> {
    let mut nodes: Vec<Registry> = (1..4).map(|n| Registry::new(run(n))).collect();
    for (term, (node, n, what)) in writes.iter().enumerate() {
        let term = term as u64 + 1;
        let entry = match what {
            0 => removed(term),
            1 => moved(*n, term, run(node % 3 + 1)),
            _ => owned(*n, term),
        };
        nodes[usize::from(*node) - 1].write(child(*n), entry);
    }
    nodes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn merging_commutes_and_repeats_harmlessly(
        writes in writes(),
        order in proptest::collection::vec((0_usize..3, 0_u64..12, 0_usize..8), 0..60)
    ) {
        let nodes = histories(&writes);
        let mut straight = Registry::new(run(9));
        let mut shuffled = Registry::new(run(9));
        for (at, from, part) in order {
            let words = since(&nodes[at], run(at as u8 + 1), from);
            if let Some(word) = words.get(part % words.len().max(1)).cloned() {
                feed(&mut shuffled, word);
            }
        }
        for at in [0, 1, 2, 0, 2, 1] {
            for word in since(&nodes[at], run(at as u8 + 1), 0) {
                feed(&mut straight, word);
            }
        }
        for at in [2, 1, 0] {
            let log = run(at as u8 + 1);
            for word in since(&nodes[at], log, shuffled.watermark(log)) {
                prop_assert_eq!(feed(&mut shuffled, word).gap, None);
            }
        }
        prop_assert_eq!(picture(&straight), picture(&shuffled));
        for n in 1..4 {
            let owned = |r: &Registry| {
                r.owned_by(run(n)).map(|(child, _)| child.clone()).collect::<Vec<_>>()
            };
            prop_assert_eq!(owned(&straight), owned(&shuffled));
            let named: Vec<ChildId> = straight
                .children()
                .filter(|(_, owner, _)| *owner == run(n))
                .map(|(child, _, _)| child.clone())
                .collect();
            prop_assert_eq!(owned(&straight), named, "the index says what the table says");
        }
    }
}

/// What node 2 is asked: whether it knows this child, which first stood here.
fn doubtful(n: usize, log: NodeRun, version: u64) -> Doubtful {
    let first = Watermark { log, version };
    Doubtful { child: child(n), first, since: first }
}

#[test]
fn what_a_member_passes_on_of_a_log_takes_nothing_away_and_brings_nothing_back() {
    let mut registry = Registry::new(run(1));
    let entry = |n: usize| LogEntry { version: n as u64, child: child(n), entry: owned(n, 1) };
    registry.apply_changes(run(9), 0, 2, vec![entry(1)]);
    let applied = registry.apply_passed_on(run(9), 3, vec![entry(2), entry(3)]);
    assert_eq!(applied.changed, BTreeSet::from([child(3)]));
    let known: Vec<&ChildId> = registry.children().map(|(child, ..)| child).collect();
    assert_eq!(known, [&child(1), &child(3)], "the second was dropped with reason");
    assert_eq!((registry.watermark(run(9)), registry.floor(run(9))), (3, 3));
    registry.apply_passed_on(run(9), 2, vec![entry(2)]);
    assert_eq!(registry.len(), 2);
}

#[test]
fn a_child_is_forgotten_by_who_was_told_of_it_by_its_writer_and_by_nobody_else() {
    let asker = run(3);
    let is_live = |log: NodeRun| log != run(9);
    for (is_witness, expected) in [(true, Recall::Forgotten), (false, Recall::Never)] {
        let mut registry = Registry::new(run(2));
        registry.apply_changes(run(9), 0, 7, Vec::new());
        if is_witness {
            registry.told_by(run(9), run(9), 5);
        }
        let recall = |version| registry.recall(asker, &doubtful(0, run(9), version), is_live);
        assert_eq!(recall(5), expected);
        assert_eq!(recall(6), Recall::Never, "that was told by others, and may not be true");
        // It stood in another log that nobody knows here; in the one whose word is the latest it did, too.
        let first = Watermark { log: run(8), version: 1 };
        let moved = Doubtful { first, ..doubtful(0, run(9), 5) };
        assert_eq!(registry.recall(asker, &moved, is_live), expected);
    }
}

#[test]
fn what_was_told_of_runs_that_are_gone_since_somebody_came_in_does_not_count() {
    let mut registry = Registry::new(run(2));
    registry.told_by(run(9), run(9), 9);
    let entry = |version: u64, n: usize| LogEntry { version, child: child(n), entry: owned(n, 1) };
    registry.apply_changes(run(9), 0, 4, vec![entry(1, 1)]);
    registry.viewed(&View::default(), &View::default());
    let is_live = |log: NodeRun| log != run(9);
    // The first was known and is told of again, the second was stopped, the third was never known.
    registry.apply_changes(run(9), 4, 7, vec![entry(5, 1), entry(6, 2), entry(7, 3)]);
    let recall = |registry: &Registry, n, version| {
        registry.recall(run(3), &doubtful(n, run(9), version), is_live)
    };
    assert_eq!(recall(&registry, 1, 1), Recall::Known);
    assert_eq!(recall(&registry, 2, 2), Recall::Forgotten);
    assert_eq!(recall(&registry, 3, 7), Recall::Heard);
    assert_eq!(recall(&registry, 4, 8), Recall::Never);
    let doubted: Vec<ChildId> = registry.doubtful(is_live).map(|it| it.child).collect();
    assert_eq!(doubted, [], "who came in has told of all three as they are");
    registry.away.settled();
    assert_eq!(recall(&registry, 3, 7), Recall::Known, "all that is known counts");
    assert_eq!(registry.doubtful(is_live).count(), 3);
}

#[test]
fn a_child_of_a_run_that_is_gone_is_told_anew_and_stays_its_own() {
    let mut registry = Registry::new(run(1));
    let entry = LogEntry { version: 1, child: child(0), entry: owned(0, 3) };
    registry.apply_changes(run(9), 0, 1, vec![entry]);
    assert_eq!(registry.say_anew(&child(0), |_| true), None, "its writer speaks for itself");
    assert_eq!(registry.say_anew(&child(0), |_| false), Some(()));
    let mut other = Registry::new(run(2));
    for word in since(&registry, run(1), 0) {
        feed(&mut other, word);
    }
    assert_eq!(other.owner(&child(0)).map(|(owner, _)| owner), Some(run(9)));
    assert!(other.highest_epoch(&child(0)) > Epoch { term: 3, attempt: 0 });
}
