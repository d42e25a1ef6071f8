//! Children that somebody on this node watches, and what was told of each.
//!
//! What is told is derived from the registry and the view, which each node has: a watch costs no word to
//! another node, but for a child that nobody here has heard of, whose home is asked. A change of a child
//! costs one look-up, a node that comes or goes what it owns of those that are watched.

use std::collections::{BTreeMap, BTreeSet};

use super::{children::rank, core::Core, homes::Homes, io::Effect};
use crate::model::{
    child::{Entry, Epoch, Ownership, Route},
    id::{ChildId, NodeRun},
    member::View,
    watch::{ChildStatus, Condition, Sighting, WatchId},
};

/// What was told of a child last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    owner: NodeRun,
    epoch: Epoch,
    status: ChildStatus,
}

#[derive(Debug)]
struct Watched {
    id: WatchId,
    /// `None`: nothing is known of it here yet.
    told: Option<Told>,
}

/// What the registry says of a watched child.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Is(Told),
    /// It is over.
    Gone,
    /// Nothing that may be told: what was told stands.
    Undecided,
    /// Nobody here has heard of it, or of nothing later than what is over or was told: its home knows.
    Unknown,
}

/// Children that are watched on this node.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    watched: BTreeMap<ChildId, Watched>,
    /// Those of which something was told, by who owned them then.
    owned: BTreeMap<NodeRun, BTreeSet<ChildId>>,
}

impl Watches {
    /// A child is watched under this number from now on, and no more under one of before. `None`: nobody
    /// watches it any more.
    pub(crate) fn watch(
        &mut self,
        core: &mut Core,
        homes: &mut Homes,
        child: ChildId,
        id: Option<WatchId>,
    ) {
        self.end(homes, &child);
        if let Some(id) = id {
            self.watched.insert(child.clone(), Watched { id, told: None });
            self.changed(core, homes, &child);
        }
    }

    /// What is known of a child changed.
    pub(crate) fn changed(&mut self, core: &mut Core, homes: &mut Homes, child: &ChildId) {
        let Some(watched) = self.watched.get(child) else { return };
        match find(core, child, watched.told.as_ref()) {
            Found::Is(now) => {
                homes.seek_no_more(child);
                self.tell(core, child, now);
            }
            Found::Gone => self.tell_gone(core, homes, child),
            Found::Undecided => homes.seek_no_more(child),
            Found::Unknown => homes.seek(core, child.clone()),
        }
    }

    /// The home of a child has said where it is. If that is news here, the registry says so soon; if it is what
    /// the registry says already, and that is earlier than what was told, the child that was told of is over.
    pub(crate) fn sought(
        &mut self,
        core: &mut Core,
        homes: &mut Homes,
        child: &ChildId,
        route: Option<Route>,
    ) {
        let Some(watched) = self.watched.get(child) else { return };
        let is_known = route.is_none() || route == core.route(child);
        if is_known && find(core, child, watched.told.as_ref()) == Found::Unknown {
            self.tell_gone(core, homes, child);
        }
    }

    /// There is another view: children of those that have come or gone are seen in another way.
    pub(crate) fn viewed(&mut self, core: &mut Core, homes: &mut Homes, before: &View) {
        let differs = |run: &&NodeRun| before.is_live(**run) != core.is_live(**run);
        let runs: Vec<NodeRun> = self.owned.keys().filter(differs).copied().collect();
        let owned = runs.iter().filter_map(|run| self.owned.get(run)).flatten();
        let children: Vec<ChildId> = owned.cloned().collect();
        for child in children {
            self.changed(core, homes, &child);
        }
    }

    fn tell(&mut self, core: &mut Core, child: &ChildId, now: Told) {
        let Some(watched) = self.watched.get_mut(child) else { return };
        let (id, owner) = (watched.id, now.owner);
        let before = watched.told.replace(now.clone());
        if before.as_ref().is_none_or(|before| before.owner != owner) {
            self.disown(child, before.as_ref());
            self.owned.entry(owner).or_default().insert(child.clone());
        }
        if before.is_none_or(|before| before.status != now.status) {
            let (child, sighting) = (child.clone(), Sighting::There(now.status));
            core.effects.push_back(Effect::Sighted { child, id, sighting });
        }
    }

    fn tell_gone(&mut self, core: &mut Core, homes: &mut Homes, child: &ChildId) {
        if let Some(id) = self.end(homes, child) {
            let (child, sighting) = (child.clone(), Sighting::Gone);
            core.effects.push_back(Effect::Sighted { child, id, sighting });
        }
    }

    /// Nothing is kept of a watch.
    fn end(&mut self, homes: &mut Homes, child: &ChildId) -> Option<WatchId> {
        let watched = self.watched.remove(child)?;
        self.disown(child, watched.told.as_ref());
        homes.seek_no_more(child);
        Some(watched.id)
    }

    fn disown(&mut self, child: &ChildId, told: Option<&Told>) {
        let Some(owner) = told.map(|told| told.owner) else { return };
        if let Some(children) = self.owned.get_mut(&owner) {
            children.remove(child);
            if children.is_empty() {
                self.owned.remove(&owner);
            }
        }
    }
}

/// What is to be told of a child, after what was told of it.
fn find(core: &Core, child: &ChildId, told: Option<&Told>) -> Found {
    let best = core.registry.best(child);
    let Some((best, ownership)) = best.and_then(|best| Some((best, best.entry.ownership()?)))
    else {
        // A removal may be that of an earlier child of this id: that a later one was started may have been
        // answered before it is known here.
        return match (best, told) {
            (Some(best), Some(told)) if best.epoch >= told.epoch => Found::Gone,
            _ => Found::Unknown,
        };
    };
    if let Some(told) = told.filter(|told| told.status.life != ownership.origin) {
        if lives_on(core, child, told, (best.owner, ownership)) {
            return Found::Undecided;
        }
        // One that was given up is started by hand, and is given up until it runs: the same child. Any other
        // has ended before, which was not seen.
        let was_given_up = matches!(told.status.condition, Condition::GivenUp { .. });
        if !was_given_up && !ownership.is_given_up() {
            // What is earlier says nothing of the one that was told: its owner's log may have been dropped.
            return if best.epoch < told.epoch { Found::Unknown } else { Found::Gone };
        }
    }
    let condition = match &ownership.failure {
        _ if !core.is_live(best.owner) => Condition::NodeDown,
        None => Condition::Runs,
        Some(failure) if failure.is_given_up() => {
            Condition::GivenUp { reason: failure.reason().to_owned() }
        }
        Some(failure) => Condition::Waits { reason: failure.reason().to_owned() },
    };
    let (owner, epoch) = (best.owner, best.epoch);
    let (life, node, born) = (ownership.origin, owner.node, ownership.born);
    Found::Is(Told { owner, epoch, status: ChildStatus { life, node, born, condition } })
}

/// Whether the child that was told of has met another one of its id, and is the one that goes on: both
/// sides of a split may have started one.
fn lives_on(core: &Core, child: &ChildId, told: &Told, other: (NodeRun, &Ownership)) -> bool {
    let mut entries = core.registry.entries_of(child);
    entries.any(|(owner, entry)| match entry {
        Entry::Owned(own) => {
            own.origin == told.status.life
                && own.epoch >= told.epoch
                && core.is_live(owner)
                && rank(owner, own) < rank(other.0, other.1)
        }
        Entry::Moved { .. } | Entry::Removed { .. } => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{
            core::News,
            tests::{child, core, member, spec},
        },
        model::{
            child::{ChildFailure, Role, TakenIn},
            id::Origin,
            message::{HomeWord, LogEntry, PeerMessage},
        },
    };

    fn run(n: u8) -> NodeRun {
        member(n).run()
    }

    fn at(term: u64) -> Epoch {
        Epoch { term, attempt: 0 }
    }

    /// A child that began at `born`, by the start of that number.
    fn own(term: u64, born: u64, life: u64) -> Ownership {
        Ownership {
            epoch: at(term),
            born: at(born),
            copied: at(born),
            role: Role::Active,
            pinned: None,
            origin: Origin(life),
            taken: TakenIn::default(),
            failure: None,
            spec: spec(0),
        }
    }

    fn failed(term: u64, given_up: bool, life: u64) -> Entry {
        let failure = Some(ChildFailure::new("it panicked", 1, given_up));
        Entry::Owned(Ownership { failure, ..own(term, term, life) })
    }

    /// Node 1 among these, and who watches there.
    struct Bench {
        core: Core,
        homes: Homes,
        watches: Watches,
        versions: BTreeMap<NodeRun, u64>,
        /// The number of the last question to a home.
        asked: u64,
    }

    impl Bench {
        fn new() -> Self {
            let core = core(&[1, 2, 3]);
            let (homes, watches) = (Homes::default(), Watches::default());
            Self { core, homes, watches, versions: BTreeMap::new(), asked: 0 }
        }

        fn watch(&mut self, id: u64) {
            let id = Some(WatchId(id));
            self.watches.watch(&mut self.core, &mut self.homes, child(0), id);
        }

        /// A node says something of the child.
        fn says(&mut self, n: u8, entry: Entry) {
            let log = run(n);
            if log == self.core.me {
                self.core.write(&child(0), entry);
            } else {
                let from = self.versions.entry(log).or_default();
                let (after, version) = (*from, *from + 1);
                *from = version;
                let entries = vec![LogEntry { version, child: child(0), entry }];
                let applied = self.core.registry.apply_changes(log, after, version, entries);
                assert!(applied.gap.is_none());
            }
            self.watches.changed(&mut self.core, &mut self.homes, &child(0));
        }

        fn adopts(&mut self, members: &[u8]) {
            let before = self.core.view.clone();
            let members = members.iter().map(|n| (member(*n).id, member(*n))).collect();
            self.core.adopt(View { members });
            self.watches.viewed(&mut self.core, &mut self.homes, &before);
        }

        /// The home answers that the child is there, at the epoch of this term, or that there is none.
        fn sought(&mut self, found: Option<(u8, u64)>) {
            let route = found.map(|(n, term)| Route { owner: run(n), epoch: at(term) });
            let word = HomeWord::Located { child: child(0), question: self.asked, route };
            let home = self.core.home(&child(0)).expect("there are nodes");
            let home = self.core.view.members[&home].run();
            self.homes.handle(&mut self.core, home, word);
            for news in std::mem::take(&mut self.core.news) {
                if let News::Sought { child, route } = news {
                    self.watches.sought(&mut self.core, &mut self.homes, &child, route);
                }
            }
        }

        /// What was told since this was asked last.
        fn told(&mut self) -> Vec<(u64, Option<(u8, Condition)>)> {
            let effects = self.core.effects.drain(..).filter_map(|effect| match effect {
                Effect::Sighted { id, sighting, .. } => Some((id.0, sighting)),
                _ => None,
            });
            let number = |status: &ChildStatus| {
                (1..=9).find(|n| member(*n).id == status.node).expect("one of them")
            };
            let told = effects.map(|(id, sighting)| match sighting {
                Sighting::Gone => (id, None),
                Sighting::There(status) => (id, Some((number(&status), status.condition))),
            });
            told.collect()
        }

        fn runs_at(id: u64, n: u8) -> (u64, Option<(u8, Condition)>) {
            (id, Some((n, Condition::Runs)))
        }

        /// How often a home was asked since this was asked last.
        fn questions(&mut self) -> usize {
            let loopback = self.core.loopback.drain(..);
            let sent = self.core.effects.extract_sent();
            let questions = loopback.chain(sent).filter_map(|word| match word {
                PeerMessage::Home(HomeWord::Locate { question, .. }) => Some(question),
                _ => None,
            });
            let questions: Vec<u64> = questions.collect();
            self.asked = questions.last().copied().unwrap_or(self.asked);
            questions.len()
        }

        /// The time to ask again has come: gives how often a home is asked.
        fn asks_again(&mut self) -> usize {
            self.homes.locate_again(&mut self.core);
            self.questions()
        }

        /// A node says that it has written nothing of what it is known for.
        fn drops(&mut self, n: u8) {
            let version = self.versions[&run(n)] + 1;
            self.versions.insert(run(n), version);
            self.core.registry.apply_snapshot(run(n), version, Vec::new(), false);
            self.watches.changed(&mut self.core, &mut self.homes, &child(0));
        }

        fn is_empty(&self) -> bool {
            self.watches.watched.is_empty() && self.watches.owned.is_empty()
        }
    }

    trait ExtractSent {
        fn extract_sent(&mut self) -> Vec<PeerMessage>;
    }

    impl ExtractSent for std::collections::VecDeque<Effect> {
        fn extract_sent(&mut self) -> Vec<PeerMessage> {
            let (sent, rest) = std::mem::take(self)
                .into_iter()
                .partition::<Vec<Effect>, _>(|effect| matches!(effect, Effect::Send { .. }));
            self.extend(rest);
            let words = sent.into_iter().filter_map(|effect| match effect {
                Effect::Send { message, .. } => Some(message),
                _ => None,
            });
            words.collect()
        }
    }

    #[test]
    fn a_life_is_followed_from_its_start_to_its_stop() {
        let mut bench = Bench::new();
        bench.says(2, Entry::Owned(own(1, 1, 1)));
        assert_eq!(bench.told(), [], "nobody watches");
        bench.watch(5);
        assert_eq!(bench.told(), [Bench::runs_at(5, 2)]);
        bench.says(2, Entry::Owned(Ownership { epoch: at(1).next_attempt(), ..own(1, 1, 1) }));
        assert_eq!(bench.told(), [], "a move that failed raises the epoch and is not told");
        let ownership = own(2, 1, 1);
        bench.says(2, Entry::Moved { to: run(3), ownership });
        assert_eq!(bench.told(), [Bench::runs_at(5, 3)]);
        bench.says(3, Entry::Owned(own(2, 1, 1)));
        assert_eq!(bench.told(), [], "it is known");
        let reason = || "it panicked".to_owned();
        bench.says(3, failed(3, false, 1));
        assert_eq!(bench.told(), [(5, Some((3, Condition::Waits { reason: reason() })))]);
        bench.says(3, failed(4, true, 1));
        assert_eq!(bench.told(), [(5, Some((3, Condition::GivenUp { reason: reason() })))]);
        bench.says(3, Entry::Owned(own(5, 5, 2)));
        assert_eq!(bench.told(), [Bench::runs_at(5, 3)], "started by hand it is the same child");
        bench.says(3, Entry::Removed { epoch: at(6) });
        assert_eq!(bench.told(), [(5, None)]);
        assert!(bench.is_empty());
        bench.says(1, Entry::Owned(own(7, 7, 3)));
        assert_eq!(bench.told(), [], "it is another child");
    }

    #[test]
    fn a_node_that_goes_and_comes_back_tells_of_its_own_alone() {
        let mut bench = Bench::new();
        bench.says(2, Entry::Owned(own(1, 1, 1)));
        bench.watch(5);
        bench.told();
        bench.adopts(&[1, 2]);
        assert_eq!(bench.told(), [], "another one has gone");
        bench.adopts(&[1]);
        assert_eq!(bench.told(), [(5, Some((2, Condition::NodeDown)))]);
        bench.adopts(&[1, 2]);
        assert_eq!(bench.told(), [Bench::runs_at(5, 2)]);
        bench.adopts(&[1]);
        bench.told();
        bench.says(1, Entry::Owned(own(2, 2, 1)));
        assert_eq!(bench.told(), [Bench::runs_at(5, 1)]);
        bench.adopts(&[1, 2]);
        assert_eq!(bench.told(), [], "it owns it no more");
    }

    #[test]
    fn a_child_that_was_started_anew_unseen_is_another_one() {
        let mut bench = Bench::new();
        bench.says(2, Entry::Owned(own(1, 1, 1)));
        bench.watch(5);
        bench.told();
        bench.says(2, Entry::Owned(own(3, 3, 2)));
        assert_eq!(bench.told(), [(5, None)]);
    }

    #[test]
    fn one_that_was_given_up_unseen_and_is_started_by_hand_is_the_same_child() {
        let mut bench = Bench::new();
        bench.says(2, Entry::Owned(own(1, 1, 1)));
        bench.watch(5);
        bench.told();
        // As its owner writes before it runs.
        bench.says(2, failed(3, true, 2));
        assert!(matches!(bench.told()[..], [(5, Some((2, Condition::GivenUp { .. })))]));
        bench.says(2, Entry::Owned(own(3, 3, 2)));
        assert_eq!(bench.told(), [Bench::runs_at(5, 2)]);
    }

    #[test]
    fn of_two_that_meet_the_one_that_goes_on_is_not_said_to_be_over() {
        let mut bench = Bench::new();
        bench.says(1, Entry::Owned(own(1, 1, 1)));
        bench.watch(5);
        bench.told();
        // The other side has started one later, and its epoch is above.
        bench.says(2, Entry::Owned(own(3, 3, 2)));
        assert_eq!(bench.told(), []);
        bench.says(1, Entry::Owned(own(4, 1, 1)));
        assert_eq!(bench.told(), []);
        // Now the one that is watched is the one that gives way.
        bench.says(3, Entry::Owned(own(5, 0, 3)));
        assert_eq!(bench.told(), [(5, None)]);
    }

    #[test]
    fn who_watches_what_nobody_has_heard_of_is_told_when_its_home_has_answered() {
        for found in [None, Some((3, 1))] {
            let mut bench = Bench::new();
            bench.watch(5);
            assert_eq!((bench.questions(), bench.told()), (1, vec![]));
            bench.sought(found);
            if found.is_none() {
                assert_eq!(bench.told(), [(5, None)]);
                assert!(bench.is_empty());
                continue;
            }
            assert_eq!(bench.told(), []);
            bench.says(3, Entry::Owned(own(1, 1, 1)));
            assert_eq!(bench.told(), [Bench::runs_at(5, 3)]);
            assert_eq!(bench.asks_again(), 0);
        }
    }

    #[test]
    fn a_home_that_has_not_heard_of_the_stop_is_asked_again_until_it_has() {
        let mut bench = Bench::new();
        bench.says(2, Entry::Removed { epoch: at(2) });
        bench.watch(5);
        assert_eq!(bench.questions(), 1);
        for _ in 0..2 {
            bench.sought(Some((2, 1)));
            assert_eq!((bench.asks_again(), bench.told()), (1, vec![]));
        }
        bench.sought(None);
        assert_eq!(bench.told(), [(5, None)]);
        assert_eq!(bench.asks_again(), 0);
        assert!(bench.is_empty());
    }

    #[test]
    fn what_is_earlier_than_what_was_told_is_no_end_until_its_home_knows_of_nothing_later() {
        for earlier in [Entry::Removed { epoch: at(2) }, Entry::Owned(own(2, 2, 1))] {
            for home_knows in [false, true] {
                let mut bench = Bench::new();
                bench.says(2, earlier.clone());
                bench.says(3, Entry::Owned(own(5, 5, 2)));
                bench.watch(5);
                assert_eq!((bench.told(), bench.questions()), (vec![Bench::runs_at(5, 3)], 0));
                bench.drops(3);
                assert_eq!((bench.questions(), bench.told()), (1, vec![]));
                if home_knows {
                    bench.sought(Some((3, 5)));
                    assert_eq!((bench.asks_again(), bench.told()), (1, vec![]));
                    bench.says(3, Entry::Owned(own(5, 5, 2)));
                    assert_eq!((bench.asks_again(), bench.told()), (0, vec![]), "as it was told");
                } else {
                    bench.sought(matches!(earlier, Entry::Owned(_)).then_some((2, 2)));
                    assert_eq!(bench.told(), [(5, None)]);
                    assert!(bench.is_empty());
                }
            }
        }
    }

    #[test]
    fn a_removal_from_before_the_watch_may_be_of_an_earlier_child() {
        let mut bench = Bench::new();
        bench.says(2, Entry::Removed { epoch: at(2) });
        bench.watch(5);
        assert_eq!((bench.questions(), bench.told()), (1, vec![]));
        bench.says(3, Entry::Owned(own(3, 3, 2)));
        assert_eq!(bench.told(), [Bench::runs_at(5, 3)]);
        bench.sought(None);
        assert_eq!(bench.told(), [], "the answer is of an earlier time");
    }

    #[test]
    fn what_ended_under_an_earlier_number_says_nothing_to_the_next() {
        let mut bench = Bench::new();
        bench.says(2, Entry::Owned(own(1, 1, 1)));
        bench.watch(5);
        bench.watch(6);
        assert_eq!(bench.told(), [Bench::runs_at(5, 2), Bench::runs_at(6, 2)]);
        bench.watches.watch(&mut bench.core, &mut bench.homes, child(0), None);
        assert!(bench.is_empty());
        bench.says(2, Entry::Removed { epoch: at(2) });
        assert_eq!(bench.told(), []);
    }
}
