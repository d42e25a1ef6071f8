//! The topics that have subscribers on other nodes, as those said.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    id::{NodeRun, TopicName},
    topic::{MOST_TOPICS, PART, TopicChange},
};

/// What became of a word about a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Learned {
    /// The set stands at this version now, with these changes.
    Changed { version: u64, changes: Vec<TopicChange> },
    /// It says nothing new.
    Known,
    /// Part of a set, and more is to come.
    Part,
    /// Something is missing before it.
    Gap,
    /// More than a node may have, or than a word may hold: nothing was taken in.
    TooMany,
}

/// The set of one run.
#[derive(Debug, Default)]
struct Set {
    version: u64,
    topics: BTreeSet<TopicName>,
    /// A whole set of which parts are missing.
    parts: Option<Parts>,
}

/// The first parts of a whole set.
#[derive(Debug)]
struct Parts {
    version: u64,
    /// The part that comes next.
    next: u32,
    topics: BTreeSet<TopicName>,
}

impl Parts {
    fn none_of(version: u64) -> Self {
        Self { version, next: 0, topics: BTreeSet::new() }
    }
}

/// The sets of other runs: at most [`MOST_TOPICS`] each, and as many more while a whole one comes.
#[derive(Debug, Default)]
pub(super) struct Others {
    sets: BTreeMap<NodeRun, Set>,
}

impl Others {
    /// The version at which the set of a run is known; 0: it is not.
    pub(super) fn version(&self, run: NodeRun) -> u64 {
        self.sets.get(&run).map_or(0, |set| set.version)
    }

    /// The version to ask for what came after it: 0, which is for everything, while parts are missing.
    pub(super) fn asks_from(&self, run: NodeRun) -> u64 {
        self.sets.get(&run).filter(|set| set.parts.is_none()).map_or(0, |set| set.version)
    }

    /// Changes of the set of a run between two versions.
    pub(super) fn change(
        &mut self,
        run: NodeRun,
        from: u64,
        upto: u64,
        changes: Vec<TopicChange>,
    ) -> Learned {
        let known = self.version(run);
        if upto <= known {
            return Learned::Known;
        }
        // What overlaps with what is known is said again: each topic ends as its last change says.
        if from > known {
            return Learned::Gap;
        }
        let set = self.sets.entry(run).or_default();
        let added = changes.iter().filter(|change| change.subscribed).count();
        if changes.len() > PART || set.topics.len() + added > MOST_TOPICS + PART {
            return Learned::TooMany;
        }
        let mut told = Vec::new();
        for change in changes {
            let differs = match change.subscribed {
                true => set.topics.insert(change.topic.clone()),
                false => set.topics.remove(&change.topic),
            };
            if differs {
                told.push(change);
            }
        }
        set.version = upto;
        // A whole set that is no newer says nothing more.
        set.parts.take_if(|parts| parts.version <= upto);
        Learned::Changed { version: upto, changes: told }
    }

    /// Part of the whole set of a run.
    pub(super) fn part(
        &mut self,
        run: NodeRun,
        version: u64,
        topics: Vec<TopicName>,
        (at, more): (u32, bool),
    ) -> Learned {
        let known = self.version(run);
        if version <= known {
            return Learned::Known;
        }
        let set = self.sets.entry(run).or_default();
        let mut parts = set.parts.take().unwrap_or_else(|| Parts::none_of(version));
        if version < parts.version {
            set.parts = Some(parts);
            return Learned::Known;
        }
        if at == 0 || version > parts.version {
            parts = Parts::none_of(version);
        }
        if at != parts.next {
            // One was lost, or overtaken: they have to come again, from the first one on.
            set.parts = Some(Parts::none_of(version));
            return Learned::Gap;
        }
        if topics.len() > PART || parts.topics.len() + topics.len() > MOST_TOPICS + PART {
            return Learned::TooMany;
        }
        parts.topics.extend(topics);
        parts.next += 1;
        if more {
            set.parts = Some(parts);
            return Learned::Part;
        }
        let whole = parts.topics;
        let before = std::mem::replace(&mut set.topics, whole);
        let gone = before.difference(&set.topics).map(|topic| (topic, false));
        let new = set.topics.difference(&before).map(|topic| (topic, true));
        let change = |(topic, subscribed): (&TopicName, bool)| TopicChange {
            topic: topic.clone(),
            subscribed,
        };
        let changes = gone.chain(new).map(change).collect();
        set.version = version;
        Learned::Changed { version, changes }
    }

    /// Forgets the sets of runs that are not in; gives those of which something was known.
    pub(super) fn retain(&mut self, is_live: impl Fn(NodeRun) -> bool) -> Vec<NodeRun> {
        let gone: Vec<NodeRun> = self.sets.keys().copied().filter(|run| !is_live(*run)).collect();
        gone.iter().for_each(|run| drop(self.sets.remove(run)));
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::NodeId;

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    fn topic(n: usize) -> TopicName {
        TopicName::new(format!("t{n}")).expect("a valid name")
    }

    fn change(n: usize, subscribed: bool) -> TopicChange {
        TopicChange { topic: topic(n), subscribed }
    }

    fn changed(version: u64, changes: &[TopicChange]) -> Learned {
        Learned::Changed { version, changes: changes.to_vec() }
    }

    #[test]
    fn changes_are_taken_in_order_and_a_gap_is_found() {
        let mut others = Others::default();
        let both = vec![change(1, true), change(2, true)];
        assert_eq!(others.change(run(2), 3, 5, both.clone()), Learned::Gap);
        assert_eq!(others.change(run(2), 0, 2, both.clone()), changed(2, &both));
        assert_eq!(others.change(run(2), 0, 2, both.clone()), Learned::Known);
        // Said again, with one more.
        let all = [both, vec![change(1, false)]].concat();
        assert_eq!(others.change(run(2), 0, 3, all), changed(3, &[change(1, false)]));
        assert_eq!(others.change(run(2), 3, 9, Vec::new()), changed(9, &[]));
        assert_eq!((others.version(run(2)), others.version(run(3))), (9, 0));
    }

    #[test]
    fn a_whole_set_replaces_what_is_known_when_its_last_part_has_come() {
        let mut others = Others::default();
        others.change(run(2), 0, 2, vec![change(1, true), change(2, true)]);
        let part =
            |others: &mut Others, n: usize, ends| others.part(run(2), 7, vec![topic(n)], ends);
        assert_eq!(part(&mut others, 3, (1, false)), Learned::Gap, "its first part is missing");
        assert_eq!(part(&mut others, 2, (0, true)), Learned::Part);
        assert_eq!(others.version(run(2)), 2);
        let news = [change(1, false), change(3, true)];
        assert_eq!(part(&mut others, 3, (1, false)), changed(7, &news));
        assert_eq!(others.part(run(2), 6, Vec::new(), (0, false)), Learned::Known);
    }

    #[test]
    fn a_part_that_is_not_the_next_one_is_a_gap_and_what_was_gathered_is_dropped() {
        for order in [[0, 2, 2], [0, 2, 1], [1, 0, 2]] {
            let mut others = Others::default();
            others.change(run(2), 0, 1, vec![change(9, true)]);
            let part = |others: &mut Others, at: u32| {
                others.part(run(2), 7, vec![topic(at as usize)], (at, at < 2))
            };
            let learned = order.map(|at| part(&mut others, at));
            assert!(learned.contains(&Learned::Gap), "{order:?}");
            assert_eq!((others.version(run(2)), others.asks_from(run(2))), (1, 0), "{order:?}");
            assert_eq!([0, 1].map(|at| part(&mut others, at)), [Learned::Part, Learned::Part]);
            let news = [change(9, false), change(0, true), change(1, true), change(2, true)];
            assert_eq!(part(&mut others, 2), changed(7, &news));
            assert_eq!(part(&mut others, 1), Learned::Known, "it comes late");
            assert_eq!(others.asks_from(run(2)), 7);
        }
    }

    #[test]
    fn a_run_that_says_more_than_it_may_have_is_found_out_and_nothing_is_kept_of_it() {
        let mut others = Others::default();
        let many: Vec<TopicName> = (0..=PART).map(topic).collect();
        assert_eq!(others.part(run(2), 1, many.clone(), (0, false)), Learned::TooMany);
        let changes =
            many.iter().map(|topic| TopicChange { topic: topic.clone(), subscribed: true });
        assert_eq!(others.change(run(2), 0, 1, changes.collect()), Learned::TooMany);
        let mut learned = Learned::Part;
        for (number, at) in (0..MOST_TOPICS * 2).step_by(PART).zip(0..) {
            let topics = (number..number + PART).map(topic).collect();
            learned = others.part(run(2), 1, topics, (at, true));
            if learned != Learned::Part {
                break;
            }
        }
        assert_eq!(learned, Learned::TooMany);
        assert_eq!(others.part(run(2), 1, Vec::new(), (1, false)), Learned::Gap);
        assert_eq!(others.version(run(2)), 0);
    }

    #[test]
    fn what_a_run_has_goes_with_it() {
        let mut others = Others::default();
        others.change(run(2), 0, 1, vec![change(1, true)]);
        others.change(run(3), 0, 1, vec![change(1, true)]);
        assert_eq!(others.retain(|live| live == run(3)), [run(2)]);
        assert_eq!((others.version(run(2)), others.version(run(3))), (0, 1));
    }
}
