//! Parked states: their copies outlive crashes, what is discarded anywhere is gone everywhere, and a
//! node that leaves hands them over.

use super::{
    divergence::{sent, split},
    *,
};
use crate::{
    engine::{
        handover::TargetStage,
        io::{ApplyOutcome, ParkedOrder},
    },
    model::parked::ApplyFailed,
};

/// The bytes are held; what the engine is told.
pub(super) fn hold(
    runtime: &mut Runtime,
    key: ParkedKey,
    kind: KindName,
    reason: String,
    state: State,
) -> Event {
    let info = ParkedInfo { key: key.clone(), kind, state_version: 1, at: 0, reason };
    runtime.parked.insert(key, (info.clone(), state));
    Event::Parked { info, size: 8 }
}

impl World {
    /// What the hub does with the bytes of parked states.
    pub(super) fn parked(&mut self, index: usize, order: ParkedOrder) {
        let runtime = &mut self.nodes[index].runtime;
        match order {
            ParkedOrder::Keep { key, from } => {
                let (info, state) =
                    runtime.parked_came.remove(&(key.clone(), from)).expect("what is kept came");
                runtime.parked.insert(key, (info, state));
            }
            ParkedOrder::Refuse { key, from } => {
                runtime.parked_came.remove(&(key, from)).expect("what is refused came");
            }
            ParkedOrder::Forget { key } => drop(runtime.parked.remove(&key)),
            ParkedOrder::Send { key, to, purpose } => {
                let (info, state) = runtime.parked[&key].clone();
                self.send_state(index, BulkHeader::Parked { info, purpose }, to, state);
            }
        }
    }

    /// What the runtime does with a parked state that its child is to take in.
    pub(super) fn apply(
        &mut self,
        index: usize,
        key: ParkedKey,
        from: NodeRun,
        exchange: Option<ParkedKey>,
    ) {
        let Node { runtime, me, .. } = &mut self.nodes[index];
        if self.never_applies {
            runtime.parked_came.remove(&(key, from));
            return;
        }
        let other = match from == me.run() {
            true => runtime.parked.get(&key).map(|(_, state)| state.clone()),
            false => runtime.parked_came.remove(&(key.clone(), from)).map(|(_, state)| state),
        };
        let actor = runtime.actors.get_mut(&key.child).filter(|actor| actor.gate == Gate::Open);
        let mut exchanged = None;
        let outcome = match (actor, other, exchange) {
            (Some(actor), Some(other), Some(exchange)) => {
                exchanged = Some((exchange, std::mem::replace(&mut actor.state, other)));
                Ok(())
            }
            (Some(_), Some(_), None) if self.unmerged => Err(ApplyFailed::NotMerged),
            (Some(actor), Some(other), None) => {
                actor.state.extend(other);
                Ok(())
            }
            (None, ..) => Err(ApplyFailed::NotRunning),
            (_, None, _) => Err(ApplyFailed::Gone),
        };
        if let Some((exchange, state)) = exchanged {
            let event = hold(runtime, exchange, kind(), "in exchange".to_owned(), state);
            self.push(Duration::ZERO, index, Input::Event(event));
        }
        self.report(index, ChildReport::Applied { key, outcome });
    }

    /// Parks a state of a child that was this node's.
    fn park(&mut self, index: usize, child: usize) -> ParkedKey {
        let child = ChildId::new(format!("p{child}")).expect("a valid id");
        let run = self.nodes[index].me.run();
        let key = ParkedKey { child, run, epoch: Epoch { term: 1, attempt: 0 } };
        let runtime = &mut self.nodes[index].runtime;
        let event = hold(runtime, key.clone(), kind(), "for a test".to_owned(), State::new());
        self.nodes[index].engine.handle(self.now, event);
        self.drain(index);
        key
    }

    /// The nodes that live and have the bytes.
    fn holders(&self, key: &ParkedKey) -> Vec<usize> {
        let has = |index: &usize| self.nodes[*index].runtime.parked.contains_key(key);
        self.alive().into_iter().filter(has).collect()
    }

    fn discard(&mut self, index: usize, key: &ParkedKey) -> bool {
        let id = self.request(index, Request::DiscardParked { key: key.clone() });
        self.nodes[index].replies.get(&id) == Some(&Reply::Discarded(Ok(())))
    }

    /// Each parked state is on two nodes at least that agree on who they are, and nothing that
    /// arrived is left over. How many there are.
    fn check_parked(&self) -> usize {
        let seed = self.seed;
        let alive = self.alive();
        let nodes = || alive.iter().map(|index| &self.nodes[*index]);
        let keys: BTreeSet<&ParkedKey> =
            nodes().flat_map(|node| node.runtime.parked.keys()).collect();
        for key in &keys {
            let holders = self.holders(key);
            assert!(holders.len() >= alive.len().min(2), "seed {seed}: {key} is on {holders:?}");
            let ids: BTreeSet<NodeId> =
                holders.iter().map(|index| self.nodes[*index].me.id).collect();
            for node in nodes() {
                let mut told: BTreeSet<NodeId> =
                    node.engine.parked_holders(key).into_iter().collect();
                if node.runtime.parked.contains_key(*key) {
                    told.insert(node.me.id);
                }
                assert_eq!(told, ids, "seed {seed}: {key} at {:?}", node.me.name);
            }
        }
        for node in nodes() {
            let left: Vec<_> = node.runtime.parked_came.keys().collect();
            assert!(left.is_empty(), "seed {seed}: {left:?} is left over at {:?}", node.me.name);
        }
        keys.len()
    }

    /// No acknowledged update is lost: what the actors do not have, some parked state has.
    fn check_kept(&self) {
        for (child, acked) in &self.acked {
            let mut kept = State::new();
            for index in self.alive() {
                let runtime = &self.nodes[index].runtime;
                kept.extend(runtime.actors.get(child).iter().flat_map(|actor| &actor.state));
                let parked = runtime.parked.iter().filter(|(key, _)| key.child == *child);
                kept.extend(parked.flat_map(|(_, (_, state))| state));
            }
            let lost = acked.difference(&kept).count();
            assert_eq!(lost, 0, "seed {}: {child} lost acknowledged updates", self.seed);
        }
    }
}

#[test]
fn a_parked_state_outlives_the_node_that_parked_it_and_is_copied_again() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 4, 0);
        let key = world.park(1, 0);
        world.run_for(2 * SECOND);
        let first = world.holders(&key);
        assert_eq!(first.len(), 2, "seed {seed}");
        assert!(first.contains(&1), "seed {seed}: {first:?}");
        // One after the other goes; each time the rest have it twice again.
        for expected in [2, 2, 1] {
            let next = world.holders(&key)[0];
            world.crash(next);
            world.run_for(15 * SECOND);
            assert_eq!(world.holders(&key).len(), expected, "seed {seed}");
            world.check_parked();
        }
    }
}

#[test]
fn what_is_discarded_anywhere_is_gone_everywhere() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 3, 0);
        let key = world.park(0, 0);
        world.run_for(2 * SECOND);
        let holder = world.holders(&key)[1];
        assert!(world.discard(holder, &key), "seed {seed}");
        assert!(!world.discard(holder, &key), "seed {seed}: it is gone");
        world.run_for(SECOND);
        assert!(world.holders(&key).is_empty(), "seed {seed}");
    }
}

#[test]
fn a_copy_on_its_way_does_not_bring_back_what_was_discarded() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 3, 0);
        world.bulk_ms = (500, 501);
        let key = world.park(0, 0);
        world.run_for(Duration::from_millis(100));
        assert!(world.discard(0, &key), "seed {seed}");
        world.run_for(10 * SECOND);
        assert_eq!(world.check_parked(), 0, "seed {seed}");
    }
}

#[test]
fn what_one_side_of_a_split_discards_is_gone_when_the_split_heals() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 4, 0);
        world.calm = false;
        let key = world.park(0, 0);
        world.run_for(2 * SECOND);
        let [a, b] = world.holders(&key)[..] else { panic!("seed {seed}") };
        let far: BTreeSet<usize> = (0..4).filter(|index| *index != a).take(2).chain([b]).collect();
        world.cut(&far);
        world.run_for(8 * SECOND);
        assert!(world.discard(a, &key), "seed {seed}");
        world.run_for(5 * SECOND);
        assert!(!world.holders(&key).is_empty(), "seed {seed}: the other side has it still");
        world.heal();
        world.run_for(20 * SECOND);
        assert_eq!(world.check_parked(), 0, "seed {seed}");
    }
}

#[test]
fn a_node_does_not_leave_before_another_has_its_parked_states() {
    for seed in seeds(10) {
        let mut world = cluster(seed, 3, 3);
        world.bulk_ms = (2_000, 2_001);
        let keys: Vec<ParkedKey> = (0..10).map(|n| world.park(1, n)).collect();
        world.request(1, Request::Leave { timeout: 60 * SECOND });
        for _ in 0..600 {
            world.run_for(Duration::from_millis(100));
            let gone = world.nodes[1].left;
            for key in &keys {
                assert!(!gone || !world.holders(key).is_empty(), "seed {seed}: {key} is lost");
            }
        }
        assert!(world.nodes[1].left, "seed {seed}: it did not leave");
        assert_eq!(world.check_parked(), 10, "seed {seed}");
    }
}

#[test]
fn a_node_whose_parked_states_nobody_takes_says_so_and_stays() {
    let mut world = cluster(1, 2, 0);
    // Nothing gets there.
    world.bulk_ms = (3_600_000, 3_600_001);
    world.park(0, 0);
    let id = world.request(0, Request::Leave { timeout: 5 * SECOND });
    world.run_for(8 * SECOND);
    let Some(Reply::Left(Err(LeaveFailed::Timeout {
        children: 0, waits_for: Some(reason), ..
    }))) = world.nodes[0].replies.get(&id)
    else {
        panic!("{:?}", world.nodes[0].replies);
    };
    assert!(reason.contains("a parked state on this node alone"), "{reason}");
}

#[test]
fn after_a_split_what_nobody_merges_is_parked_on_two_nodes_and_outlives_any_of_them() {
    let mut parked = 0;
    for seed in seeds(20) {
        let mut world = split(seed);
        world.unmerged = true;
        world.heal();
        world.run_for(30 * SECOND);
        world.check_end(false);
        parked += world.check_parked();
        world.check_kept();
        let holds = |index: &usize| !world.nodes[*index].runtime.parked.is_empty();
        let Some(first) = (0..3).find(holds) else { continue };
        let before: Vec<ParkedKey> = world.nodes[first].runtime.parked.keys().cloned().collect();
        world.crash(first);
        world.run_for(20 * SECOND);
        world.check_parked();
        for key in before {
            assert!(!world.holders(&key).is_empty(), "seed {seed}: {key} went with its node");
        }
    }
    assert!(parked > 0);
}

/// What befalls a cluster that holds parked states.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Crash(usize),
    Join,
    CutOff(usize),
    Heal,
}

/// The parked states that must be there still.
struct Kept {
    keys: BTreeSet<ParkedKey>,
    /// Those that one node has alone, and whether nobody was with it who could be given a copy when it came
    /// to that.
    sole: BTreeMap<ParkedKey, bool>,
}

impl Kept {
    fn new(keys: impl IntoIterator<Item = ParkedKey>) -> Self {
        Self { keys: keys.into_iter().collect(), sole: BTreeMap::new() }
    }

    fn look(&mut self, world: &World) {
        for key in &self.keys {
            match world.holders(key)[..] {
                [holder] => {
                    let is_alone = || world.company(holder).is_empty();
                    self.sole.entry(key.clone()).or_insert_with(is_alone);
                }
                _ => drop(self.sole.remove(key)),
            }
        }
    }
}

impl World {
    /// The others in the view of a node that live.
    fn company(&self, index: usize) -> BTreeSet<usize> {
        let members = self.nodes[index].engine.view().members.keys();
        let members: BTreeSet<usize> = members.filter_map(|id| self.index_of(*id)).collect();
        self.alive().into_iter().filter(|at| *at != index && members.contains(at)).collect()
    }

    /// One more blow, and the time that it takes to come to rest and copy what has to be copied: then what a
    /// node has that was not alone meanwhile is on another one of its view. Of the states that must be there
    /// still, those go with a crash that its node alone has, if nobody was there who could have had a copy.
    fn befalls(&mut self, blow: Blow, kept: &mut Kept) {
        let seed = self.seed;
        kept.look(self);
        match blow {
            Blow::Crash(index) => {
                let is_last = |key: &ParkedKey| {
                    self.holders(key) == [index] && kept.sole.get(key) == Some(&true)
                };
                kept.keys.retain(|key| !is_last(key));
                self.crash(index);
            }
            Blow::Join => drop(self.join()),
            Blow::CutOff(index) => self.cut(&BTreeSet::from([index])),
            Blow::Heal => self.heal(),
        }
        kept.look(self);
        let end = self.now + self.dice.ms(15_000, 20_000);
        let mut together: BTreeSet<usize> = self.alive().into_iter().collect();
        loop {
            together.retain(|index| !self.company(*index).is_empty());
            if self.now >= end {
                break;
            }
            self.run_for(Duration::from_millis(500).min(end - self.now));
        }
        for index in together {
            let company = self.company(index);
            for key in self.nodes[index].runtime.parked.keys() {
                let holders = self.holders(key);
                let is_twice = holders.iter().any(|holder| company.contains(holder));
                assert!(is_twice, "seed {seed}: after {blow:?} {key} is on {holders:?}");
            }
        }
    }
}

#[test]
fn copies_survive_random_crashes_cuts_and_joins_as_long_as_one_holder_does() {
    for seed in seeds(20) {
        let mut world = cluster(seed, 4, 0);
        world.calm = false;
        let mut kept = Kept::new((0..6).map(|n| world.park(n % 4, n)));
        world.run_for(10 * SECOND);
        for _ in 0..6 {
            let kind = world.dice.below(4);
            let alive = world.alive();
            let some = |dice: &mut Chance| alive[dice.below(alive.len() as u64) as usize];
            let blow = match kind {
                0 => Blow::Crash(some(&mut world.dice)),
                1 => Blow::Join,
                2 => Blow::CutOff(some(&mut world.dice)),
                _ => Blow::Heal,
            };
            if !matches!(blow, Blow::Crash(_)) || alive.len() > 2 {
                world.befalls(blow, &mut kept);
            }
        }
        world.heal();
        world.run_for(40 * SECOND);
        world.check_end(false);
        assert_eq!(world.check_parked(), kept.keys.len(), "seed {seed}");
    }
}

/// Two are on one side of two cuts, and have it; one after the other they go. Nobody on the far sides ever had
/// a copy, and after the first of the two nobody was left to be given one.
#[test]
fn a_state_ends_with_its_last_holder_where_nobody_else_was_in_reach() {
    for seed in seeds(5) {
        let mut world = cluster(seed, 4, 0);
        world.calm = false;
        let key = world.park(0, 0);
        world.run_for(10 * SECOND);
        let [first, last] = world.holders(&key)[..] else { panic!("seed {seed}") };
        let mut kept = Kept::new([key]);
        let others: Vec<usize> = (0..4).filter(|index| ![first, last].contains(index)).collect();
        for index in others {
            world.befalls(Blow::CutOff(index), &mut kept);
        }
        world.befalls(Blow::Crash(first), &mut kept);
        assert_eq!(kept.keys.len(), 1, "seed {seed}: the other one has it");
        world.befalls(Blow::Crash(last), &mut kept);
        world.befalls(Blow::Heal, &mut kept);
        world.run_for(20 * SECOND);
        world.check_end(false);
        assert_eq!((world.check_parked(), kept.keys.len()), (0, 0), "seed {seed}");
    }
}

/// A move whose successor stands ready at the target, and is not committed.
fn ready(seed: u64) -> Option<(World, ChildId, usize, usize)> {
    let (mut world, child, source, target) = sent(seed, 5 * SECOND);
    for _ in 0..20_000 {
        world.run_for(Duration::from_micros(100));
        let stage = world.nodes[target].engine.children.successor_stage(&child);
        if stage == Some(TargetStage::Ready) {
            let old = world.nodes[source].runtime.actors.get(&child);
            let is_held = old.is_some_and(|actor| actor.gate == Gate::Closed);
            return is_held.then_some((world, child, source, target));
        }
    }
    None
}

#[test]
fn a_ready_copy_is_parked_when_its_source_died_and_another_began_anew() {
    let (mut hit, mut parked) = (0, 0);
    for seed in seeds(20) {
        let Some((mut world, child, source, target)) = ready(seed) else { continue };
        if world.acked.get(&child).is_none_or(BTreeSet::is_empty) {
            continue;
        }
        hit += 1;
        world.calm = false;
        // It hears nothing of what happens, and the others give it up.
        world.crash(source);
        world.nodes[target].paused_until = Some(world.now + 8 * SECOND);
        world.run_for(40 * SECOND);
        world.check_end(false);
        parked += world.check_parked();
        world.check_kept();
    }
    assert!(hit > 0 && parked > 0, "{hit} {parked}");
}

/// Node 0 holds a parked state of the only child, with an update in it that its actor does not have.
fn with_one_more(seed: u64) -> (World, ChildId, ParkedKey, usize) {
    let mut world = cluster(seed, 3, 1);
    world.run_for(SECOND);
    let child = world.children[0].clone();
    let run = NodeRun { nonce: 7, ..world.nodes[0].me.run() };
    let key = ParkedKey { child: child.clone(), run, epoch: Epoch { term: 1, attempt: 0 } };
    world.acked.entry(child.clone()).or_default().insert(1_000_000);
    let runtime = &mut world.nodes[0].runtime;
    let event = hold(runtime, key.clone(), kind(), "a split".to_owned(), [1_000_000].into());
    world.input(0, Input::Event(event));
    world.run_for(2 * SECOND);
    let owner = world.runner(&child).expect("it runs");
    (world, child, key, owner)
}

impl World {
    fn apply_parked(&mut self, index: usize, key: &ParkedKey, replace: bool) -> RequestId {
        let (key, timeout) = (key.clone(), 10 * SECOND);
        self.request(index, Request::ApplyParked { key, replace, timeout })
    }

    fn applied(&self, index: usize, id: RequestId) -> Option<&ApplyOutcome> {
        match self.nodes[index].replies.get(&id) {
            Some(Reply::Applied(outcome)) => Some(outcome),
            _ => None,
        }
    }
}

#[test]
fn a_state_that_is_merged_by_hand_is_merged_once_whoever_asks() {
    for seed in seeds(10) {
        let (mut world, child, key, owner) = with_one_more(seed);
        let holders = world.holders(&key);
        let asked: Vec<(usize, RequestId)> =
            holders.iter().map(|at| (*at, world.apply_parked(*at, &key, false))).collect();
        world.run_for(2 * SECOND);
        let outcomes = asked.iter().filter_map(|(at, id)| world.applied(*at, *id));
        let applied = outcomes.filter(|outcome| **outcome == ApplyOutcome::Applied).count();
        assert_eq!((asked.len(), applied), (2, 1), "seed {seed}");
        assert!(world.nodes[owner].runtime.actors[&child].state.contains(&1_000_000));
        assert_eq!(world.check_parked(), 0, "seed {seed}");
        let id = world.apply_parked(0, &key, false);
        let gone = ApplyOutcome::Failed(ApplyFailed::Gone);
        assert_eq!(world.applied(0, id), Some(&gone), "seed {seed}");
        world.check_end(true);
    }
}

#[test]
fn a_state_that_replaces_another_is_parked_no_more_and_the_other_is() {
    for seed in seeds(10) {
        let (mut world, child, key, owner) = with_one_more(seed);
        world.unmerged = true;
        let at = world.holders(&key)[0];
        let id = world.apply_parked(at, &key, false);
        world.run_for(SECOND);
        let not_merged = ApplyOutcome::Failed(ApplyFailed::NotMerged);
        assert_eq!(world.applied(at, id), Some(&not_merged), "seed {seed}");
        assert_eq!(world.holders(&key).len(), 2, "seed {seed}: it is parked as before");
        let id = world.apply_parked(at, &key, true);
        while world.applied(at, id).is_none() {
            world.run_for(Duration::from_millis(1));
        }
        let is_here = world.nodes[at].runtime.parked.contains_key(&key);
        assert!(!is_here, "seed {seed}: who asked is told when it is gone");
        world.run_for(5 * SECOND);
        assert_eq!(world.applied(at, id), Some(&ApplyOutcome::Applied), "seed {seed}");
        assert!(world.nodes[owner].runtime.actors[&child].state.contains(&1_000_000));
        assert!(world.holders(&key).is_empty(), "seed {seed}");
        assert_eq!(world.check_parked(), 1, "seed {seed}: what it had is parked");
        // Whatever the child's state is called from now on, it is called otherwise.
        let kept: Vec<Epoch> =
            world.nodes[owner].runtime.parked.keys().map(|key| key.epoch).collect();
        assert!(kept.iter().all(|epoch| *epoch < world.nodes[owner].runtime.actors[&child].epoch));
        world.check_kept();
        world.check_end(false);
    }
}

#[test]
fn who_asks_for_a_state_that_cannot_be_applied_is_told_why() {
    let (mut world, child, key, owner) = with_one_more(1);
    let other = (0..3).find(|at| !world.holders(&key).contains(at)).expect("two of three hold it");
    let id = world.apply_parked(other, &key, false);
    let Some(ApplyOutcome::NotHeld { holder: Some(holder) }) = world.applied(other, id) else {
        panic!("{:?}", world.applied(other, id));
    };
    let holder = world.index_of(*holder).expect("it is a node");
    assert!(world.holders(&key).contains(&holder));
    // Nobody answers.
    let at = world.holders(&key).into_iter().find(|at| *at != owner).expect("there are two");
    world.bulk_ms = (60_000, 60_001);
    let id = world.apply_parked(at, &key, false);
    let busy = world.apply_parked(at, &key, false);
    assert_eq!(world.applied(at, busy), Some(&ApplyOutcome::Failed(ApplyFailed::Busy)));
    world.run_for(11 * SECOND);
    assert_eq!(world.applied(at, id), Some(&ApplyOutcome::NoAnswer));
    world.bulk_ms = (1, 30);
    let timeout = 10 * SECOND;
    world.request(at, Request::Stop { children: vec![child], timeout });
    world.run_for(2 * SECOND);
    let id = world.apply_parked(at, &key, false);
    let no_child = ApplyOutcome::Failed(ApplyFailed::NoSuchChild);
    assert_eq!(world.applied(at, id), Some(&no_child));
}

#[test]
fn who_asks_an_owner_that_goes_down_is_told_that_nothing_is_known() {
    let mut asked = 0;
    for seed in seeds(10) {
        let (mut world, _, key, owner) = with_one_more(seed);
        world.calm = false;
        let Some(at) = world.holders(&key).into_iter().find(|at| *at != owner) else { continue };
        world.bulk_ms = (60_000, 60_001);
        let id = world.apply_parked(at, &key, true);
        world.crash(owner);
        world.run_for(9 * SECOND);
        assert_eq!(world.applied(at, id), Some(&ApplyOutcome::NoAnswer), "seed {seed}");
        asked += 1;
    }
    assert!(asked > 0);
}

#[test]
fn a_child_that_never_comes_to_a_parked_state_does_not_keep_it_from_being_applied_later() {
    let (mut world, child, key, owner) = with_one_more(1);
    world.never_applies = true;
    let at = world.holders(&key)[0];
    let id = world.apply_parked(at, &key, false);
    world.run_for(11 * SECOND);
    assert_eq!(world.applied(at, id), Some(&ApplyOutcome::NoAnswer));
    world.never_applies = false;
    let id = world.apply_parked(at, &key, false);
    world.run_for(SECOND);
    let busy = ApplyOutcome::Failed(ApplyFailed::Busy);
    assert_eq!(world.applied(at, id), Some(&busy), "it may come to it still");
    world.run_for(61 * SECOND);
    let id = world.apply_parked(at, &key, false);
    world.run_for(SECOND);
    assert_eq!(world.applied(at, id), Some(&ApplyOutcome::Applied));
    assert!(world.nodes[owner].runtime.actors[&child].state.contains(&1_000_000));
}

/// A split of a kind that does not merge has healed, and the first state is parked: by whom, whose it
/// was, and what is in it.
fn just_parked(seed: u64) -> Option<(World, usize, usize, ParkedKey, State)> {
    let mut world = split(seed);
    world.unmerged = true;
    world.heal();
    for _ in 0..60_000 {
        world.run_for(Duration::from_micros(100));
        let held = world.nodes.iter().enumerate().find_map(|(index, node)| {
            let (key, (_, state)) = node.runtime.parked.first_key_value()?;
            Some((index, key.clone(), state.clone()))
        });
        if let Some((winner, key, state)) = held {
            let loser = world.index_of(key.run.node).expect("it is a node");
            return Some((world, winner, loser, key, state));
        }
    }
    None
}

impl World {
    /// Some node that lives has all of this, in the child's actor or parked.
    fn check_has(&self, child: &ChildId, state: &State) {
        let mut kept = State::new();
        for index in self.alive() {
            let runtime = &self.nodes[index].runtime;
            kept.extend(runtime.actors.get(child).iter().flat_map(|actor| &actor.state));
            let parked = runtime.parked.iter().filter(|(key, _)| key.child == *child);
            kept.extend(parked.flat_map(|(_, (_, state))| state));
        }
        let lost = state.difference(&kept).count();
        assert_eq!(lost, 0, "seed {}: {child} lost {lost} of {}", self.seed, state.len());
    }

    fn is_offered(&self, loser: usize, child: &ChildId) -> bool {
        let instance = self.nodes[loser].engine.children.instance(child);
        instance.is_some_and(|instance| matches!(instance.phase(), Phase::Yielding { .. }))
    }
}

#[test]
fn what_gave_way_outlives_the_node_that_has_just_parked_it() {
    let mut hit = 0;
    for seed in seeds(20) {
        let Some((mut world, winner, loser, key, state)) = just_parked(seed) else { continue };
        if state.is_empty() {
            continue;
        }
        hit += 1;
        // No copy gets anywhere in time.
        world.bulk_ms = (2_000, 2_001);
        let wait = world.dice.ms(0, 200);
        world.run_for(wait);
        world.crash(winner);
        assert_ne!(winner, loser, "seed {seed}");
        world.run_for(40 * SECOND);
        world.check_end(false);
        world.check_has(&key.child, &state);
        // Its owner goes on with it: then nobody has it a second time.
        if world.nodes[loser].runtime.actors.contains_key(&key.child) {
            let goes_on = &world.nodes[loser].runtime.actors[&key.child].state;
            let holders = world.holders(&key);
            let is_twice = state.is_subset(goes_on) && !holders.is_empty();
            assert!(!is_twice, "seed {seed}: {key} goes on and is parked on {holders:?}");
        }
    }
    assert!(hit > 0);
}

#[test]
fn an_owner_that_gives_way_ends_when_its_state_is_parked_on_two_nodes() {
    let mut ended = 0;
    for seed in seeds(10) {
        let Some((mut world, winner, loser, key, _)) = just_parked(seed) else { continue };
        // It is told nothing, nor is anybody else.
        world.cut(&BTreeSet::from([winner]));
        let wait = world.dice.ms(0, 300);
        world.run_for(wait);
        if !world.is_offered(loser, &key.child) {
            // It had heard enough.
            assert!(world.holders(&key).len() >= 2, "seed {seed}: {:?}", world.holders(&key));
        }
        world.heal();
        for _ in 0..20_000 {
            world.run_for(Duration::from_millis(1));
            if !world.is_offered(loser, &key.child) {
                ended += 1;
                let runs = world.nodes[loser].runtime.actors.contains_key(&key.child);
                let holders = world.holders(&key);
                assert!(runs || holders.len() >= 2, "seed {seed}: {key} is on {holders:?}");
                break;
            }
        }
        world.run_for(30 * SECOND);
        world.check_end(false);
        world.check_parked();
    }
    assert!(ended > 0);
}

#[test]
fn who_gave_way_keeps_its_state_itself_and_nothing_is_sent_twice() {
    let mut kept = 0;
    for seed in seeds(10) {
        let Some((mut world, winner, loser, key, _)) = just_parked(seed) else { continue };
        // A copy would take longer than all of this.
        world.bulk_ms = (3_000, 3_001);
        world.run_for(SECOND);
        let mut holders = vec![winner, loser];
        holders.sort_unstable();
        assert_eq!(world.holders(&key), holders, "seed {seed}");
        assert!(!world.is_offered(loser, &key.child), "seed {seed}: it has not ended");
        world.run_for(20 * SECOND);
        assert_eq!(world.holders(&key), holders, "seed {seed}");
        kept += 1;
    }
    assert!(kept > 0);
}

#[test]
fn what_is_parked_for_its_owner_is_answered_by_every_node() {
    for seed in seeds(20) {
        let mut world = split(seed);
        world.unmerged = true;
        world.bulk_ms = (20, 1_000);
        world.heal();
        for _ in 0..20 {
            world.run_for(Duration::from_millis(100));
            let (a, b) = (world.dice.below(3) as usize, world.dice.below(3) as usize);
            if a != b {
                world.unlink(a, b);
            }
        }
        world.run_for(30 * SECOND);
        world.check_end(false);
        world.check_parked();
        world.check_kept();
        for node in &world.nodes {
            assert_eq!(node.engine.children.merge_count(), 0, "seed {seed}");
        }
    }
}
