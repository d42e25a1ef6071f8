//! What each log says of each child, and which of that counts.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map},
    ops::Bound,
};

use super::{
    log::{LogPosition, Positions},
    search::Among,
};
use crate::model::{
    child::{Entry, Epoch, Ownership},
    id::{ChildId, NodeId, NodeRun, Tag},
    message::{Doubtful, Watermark},
};

/// What several iterators give, each in order, in one order.
fn merged<'a, I>(several: impl Iterator<Item = I>) -> Box<dyn Iterator<Item = &'a ChildId> + 'a>
where
    I: Iterator<Item = &'a ChildId> + 'a,
{
    let mut rests: Vec<I> = several.collect();
    let firsts = rests.iter_mut().enumerate();
    let mut next: BTreeSet<(&ChildId, usize)> =
        firsts.filter_map(|(at, rest)| Some((rest.next()?, at))).collect();
    Box::new(std::iter::from_fn(move || {
        let (first, at) = next.pop_first()?;
        next.extend(rests[at].next().map(|id| (id, at)));
        Some(first)
    }))
}

/// The highest entry of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Best<'a> {
    /// Who owns the child by it; of a removal, who wrote it.
    pub(crate) owner: NodeRun,
    /// The epoch it speaks of.
    pub(crate) epoch: Epoch,
    /// The entry.
    pub(crate) entry: &'a Entry,
    /// In whose log it stands.
    pub(crate) writer: NodeRun,
}

/// One entry of a child, in one log.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) writer: NodeRun,
    pub(super) version: u64,
    pub(super) entry: Entry,
    /// The version at which its log first spoke of this life of the child.
    since: u64,
}

impl Record {
    /// What a log says of a child for the first time.
    pub(super) fn new(writer: NodeRun, version: u64, entry: Entry) -> Self {
        Self { writer, version, entry, since: version }
    }

    fn owner(&self) -> NodeRun {
        match &self.entry {
            Entry::Moved { to, .. } => *to,
            Entry::Owned(_) | Entry::Removed { .. } => self.writer,
        }
    }

    /// The order of a child's entries. A successor's own entry is above the one by which it was
    /// made the successor; a removal is above both.
    fn rank(&self) -> (Epoch, u8, NodeRun, NodeRun) {
        let kind = match &self.entry {
            Entry::Moved { .. } => 0,
            Entry::Owned(_) => 1,
            Entry::Removed { .. } => 2,
        };
        (self.entry.epoch(), kind, self.owner(), self.writer)
    }
}

/// What all logs say of one child: at least one entry, at most one of each log.
#[derive(Debug)]
struct Records {
    records: Vec<Record>,
    best: usize,
    /// Where the record stood by which this life of the child was first known here.
    first: Watermark,
}

impl Records {
    fn best(&self) -> &Record {
        &self.records[self.best]
    }

    fn find(&self, writer: NodeRun) -> Option<usize> {
        self.records.iter().position(|record| record.writer == writer)
    }

    fn of(&self, writer: NodeRun) -> Option<&Record> {
        self.find(writer).map(|index| &self.records[index])
    }

    fn choose(&mut self) {
        let ranked = self.records.iter().enumerate().max_by_key(|(_, record)| record.rank());
        self.best = ranked.map_or(0, |(index, _)| index);
    }
}

/// What all logs say of all children.
///
/// What is asked about one child, one owner or the orphans costs what it returns, not the number
/// of children.
#[derive(Debug, Default)]
pub(super) struct Table {
    children: BTreeMap<ChildId, Records>,
    /// Where every record stands.
    standing: Positions,
    /// The children that are not removed, by who owns them.
    owners: BTreeMap<NodeRun, BTreeSet<ChildId>>,
    /// The children that are not removed, by their tags.
    tagged: BTreeMap<Tag, BTreeSet<ChildId>>,
    live: usize,
    /// Children with lower entries beside their best, by where the best stands.
    crowded: Positions,
    /// Where children were removed, and nobody has asked for it yet.
    removed: VecDeque<LogPosition>,
}

impl Table {
    /// The highest entry of a child, removals included.
    pub(super) fn best(&self, child: &ChildId) -> Option<Best<'_>> {
        let best = self.children.get(child)?.best();
        Some(Best {
            owner: best.owner(),
            epoch: best.entry.epoch(),
            entry: &best.entry,
            writer: best.writer,
        })
    }

    /// The highest epoch that is known of a child, removals included.
    pub(super) fn highest_epoch(&self, child: &ChildId) -> Epoch {
        self.best(child).map_or(Epoch::ZERO, |best| best.epoch)
    }

    /// Who owns a child. A child that was handed over is its successor's at once.
    pub(super) fn owner(&self, child: &ChildId) -> Option<(NodeRun, &Ownership)> {
        let best = self.children.get(child)?.best();
        Some((best.owner(), best.entry.ownership()?))
    }

    /// The version at which a log says something of a child.
    pub(super) fn version_of(&self, child: &ChildId, writer: NodeRun) -> Option<u64> {
        self.children.get(child)?.of(writer).map(|record| record.version)
    }

    /// What a log says of a child, unless that is dominated by an entry that `is_there` where it would be
    /// told, or by one of another life or a removal: a lower entry that comes where the removal is forgotten
    /// would bring the life back that it ended.
    pub(super) fn entry_to_tell(
        &self,
        child: &ChildId,
        writer: NodeRun,
        is_there: impl Fn(Watermark) -> bool,
    ) -> Option<&Entry> {
        let records = self.children.get(child)?;
        let best = records.best();
        let record = records.of(writer)?;
        let origin = |record: &Record| record.entry.ownership().map(|it| it.origin);
        let is_of_this_life = origin(best).is_some() && origin(best) == origin(record);
        let is_left_out = best.writer != writer
            && (!is_of_this_life
                || is_there(Watermark { log: best.writer, version: best.version }));
        Some(&record.entry).filter(|_| !is_left_out)
    }

    /// What each log says of a child.
    pub(super) fn entries_of(&self, child: &ChildId) -> impl Iterator<Item = (NodeRun, &Entry)> {
        let records = self.children.get(child).into_iter().flat_map(|known| &known.records);
        records.map(|record| (record.writer, &record.entry))
    }

    /// What each log says of a child, by writer and version.
    pub(super) fn positions_of(&self, child: &ChildId) -> impl Iterator<Item = (NodeRun, u64)> {
        let records = self.children.get(child).into_iter().flat_map(|known| &known.records);
        records.map(|record| (record.writer, record.version))
    }

    /// Where the record stood by which this life of a child was first known here.
    pub(super) fn first_of(&self, child: &ChildId) -> Option<Watermark> {
        self.children.get(child).map(|records| records.first)
    }

    /// The children that are not removed and whose latest word stands where `counts` says.
    pub(super) fn last_said(
        &self,
        counts: impl Fn(NodeRun, u64) -> bool,
    ) -> impl Iterator<Item = Doubtful> {
        let said = self.children.iter().map(|(child, records)| (child, records, records.best()));
        let said = said.filter(move |(_, _, best)| {
            best.entry.ownership().is_some() && counts(best.writer, best.version)
        });
        said.map(|(child, records, best)| Doubtful {
            child: child.clone(),
            first: records.first,
            since: Watermark { log: best.writer, version: best.since },
        })
    }

    /// The children that a run owns, with ids behind this one.
    pub(super) fn owned_behind(
        &self,
        run: NodeRun,
        id: Option<&ChildId>,
    ) -> impl Iterator<Item = (&ChildId, &Ownership)> {
        let behind = (id.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let children = self.owners.get(&run).into_iter();
        let children = children.flat_map(move |owned| owned.range::<ChildId, _>(behind));
        children.filter_map(|child| Some((child, self.owner(child)?.1)))
    }

    /// The children with ids behind this one that are not removed.
    pub(super) fn children_behind(
        &self,
        id: Option<&ChildId>,
    ) -> impl Iterator<Item = (&ChildId, NodeRun, &Ownership)> {
        let behind = id.map_or(Bound::Unbounded, Bound::Excluded);
        let children = self.children.range::<ChildId, _>((behind, Bound::Unbounded));
        children.filter_map(|(child, records)| {
            let best = records.best();
            Some((child, best.owner(), best.entry.ownership()?))
        })
    }

    /// The ids of these children that are behind this one; among all, those of removed ones, too.
    pub(super) fn ids_behind(
        &self,
        among: Among<'_>,
        id: Option<&ChildId>,
    ) -> Box<dyn Iterator<Item = &ChildId> + '_> {
        let behind = (id.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        match among {
            Among::All => Box::new(self.children.range::<ChildId, _>(behind).map(|(id, _)| id)),
            Among::Tagged(tag) => {
                let tagged = self.tagged.get(tag).map(|some| some.range::<ChildId, _>(behind));
                Box::new(tagged.into_iter().flatten())
            }
            Among::OwnedBy(runs) => {
                let owned = runs.iter().filter_map(|run| self.owners.get(run));
                merged(owned.map(|some| some.range::<ChildId, _>(behind)))
            }
        }
    }

    /// How many children have a tag.
    pub(super) fn count_tagged(&self, tag: &Tag) -> usize {
        self.tagged.get(tag).map_or(0, BTreeSet::len)
    }

    /// The runs of a node that own children.
    pub(super) fn runs_of(&self, node: NodeId) -> impl Iterator<Item = NodeRun> {
        let [first, last] = [u64::MIN, u64::MAX].map(|nonce| NodeRun { node, nonce });
        self.owners.range(first..=last).map(|(run, _)| *run)
    }

    /// How many children there are, removed ones not counted.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// How many children a run owns.
    pub(super) fn count_of(&self, run: NodeRun) -> usize {
        self.owners.get(&run).map_or(0, BTreeSet::len)
    }

    /// Those who own children, from this run on.
    pub(super) fn owners_from(&self, run: Option<NodeRun>) -> impl Iterator<Item = NodeRun> {
        let from = run.map_or(Bound::Unbounded, Bound::Included);
        self.owners.range((from, Bound::Unbounded)).map(|(run, _)| *run)
    }

    /// Whether anything stands in a log.
    pub(super) fn stands_in(&self, writer: NodeRun) -> bool {
        self.standing.of(writer).is_some()
    }

    /// What stands in a log above one version and up to another, by version.
    pub(super) fn standing(
        &self,
        writer: NodeRun,
        from: u64,
        upto: u64,
    ) -> impl Iterator<Item = (u64, &ChildId)> {
        let range = (Bound::Excluded(from), Bound::Included(upto));
        let versions = self.standing.of(writer).filter(|_| from < upto);
        let versions = versions.into_iter().flat_map(move |versions| versions.range(range));
        versions.map(|(version, child)| (*version, child))
    }

    /// Lets a record stand in the place of the one that its log had of the child.
    pub(super) fn put(&mut self, child: ChildId, mut record: Record) {
        let before = self.unindex(&child);
        let position =
            LogPosition { child: child.clone(), writer: record.writer, version: record.version };
        let first = Watermark { log: record.writer, version: record.version };
        let records = self.children.entry(child.clone()).or_insert_with(|| Records {
            records: Vec::with_capacity(1),
            best: 0,
            first,
        });
        let begins_anew =
            records.records.get(records.best).is_some_and(|it| it.entry.ownership().is_none());
        if begins_anew {
            records.first = first;
        }
        match records.find(record.writer) {
            Some(index) => {
                if !begins_anew {
                    record.since = records.records[index].since;
                }
                let old = std::mem::replace(&mut records.records[index], record);
                self.standing.remove(old.writer, old.version);
            }
            None => records.records.push(record),
        }
        records.choose();
        self.standing.insert(position);
        self.index(&child, before.as_ref());
    }

    /// Takes away what a log says of a child.
    pub(super) fn take(&mut self, child: &ChildId, writer: NodeRun) {
        let before = self.unindex(child);
        if let Some(records) = self.children.get_mut(child) {
            if let Some(index) = records.find(writer) {
                let record = records.records.swap_remove(index);
                self.standing.remove(writer, record.version);
            }
            records.choose();
            if records.records.is_empty() {
                self.children.remove(child);
            }
        }
        self.index(child, before.as_ref());
    }

    /// Takes away what is below a child's best entry, if that stands here.
    pub(super) fn drop_lower(&mut self, position: &LogPosition) {
        if self.best_position(&position.child).as_ref() != Some(position) {
            return;
        }
        let writers: Vec<NodeRun> =
            self.entries_of(&position.child).map(|(writer, _)| writer).collect();
        for writer in writers.into_iter().filter(|writer| *writer != position.writer) {
            self.take(&position.child, writer);
        }
    }

    /// Whether the child is removed by what stands here.
    pub(super) fn is_removed_by(&self, position: &LogPosition) -> bool {
        let is_removal = |best: Best<'_>| matches!(best.entry, Entry::Removed { .. });
        self.best_position(&position.child).as_ref() == Some(position)
            && self.best(&position.child).is_some_and(is_removal)
    }

    /// Forgets a child if it is still removed by what stands here.
    pub(super) fn forget_removed(&mut self, position: &LogPosition) -> bool {
        let is_removed = self.is_removed_by(position);
        if is_removed {
            self.drop_lower(position);
            self.take(&position.child, position.writer);
        }
        is_removed
    }

    /// Takes out where `most` children stand at most that have lower entries beside their best, which
    /// is at or below the version given for its log. They come again only if their entries change.
    pub(super) fn take_crowded(
        &mut self,
        most: usize,
        upto: impl Fn(NodeRun) -> u64,
    ) -> Vec<LogPosition> {
        self.crowded.take(most, upto)
    }

    /// Where `most` children at most were removed, each once, in the order of their removals.
    pub(super) fn take_removed(&mut self, most: usize) -> impl Iterator<Item = LogPosition> {
        self.removed.drain(..most.min(self.removed.len()))
    }

    fn best_position(&self, child: &ChildId) -> Option<LogPosition> {
        let best = self.children.get(child)?.best();
        Some(LogPosition { child: child.clone(), writer: best.writer, version: best.version })
    }

    /// Before a child's records change: takes it out of what is derived from them.
    fn unindex(&mut self, child: &ChildId) -> Option<LogPosition> {
        let best = self.children.get(child)?.best();
        let position =
            LogPosition { child: child.clone(), writer: best.writer, version: best.version };
        if let Some(ownership) = best.entry.ownership() {
            self.live -= 1;
            take_out(&mut self.owners, best.owner(), child);
            for tag in ownership.spec.tags() {
                take_out(&mut self.tagged, tag.clone(), child);
            }
        }
        self.crowded.remove(position.writer, position.version);
        Some(position)
    }

    /// After a child's records have changed; `before` is where the best one stood.
    fn index(&mut self, child: &ChildId, before: Option<&LogPosition>) {
        let Some(records) = self.children.get(child) else {
            return;
        };
        let best = records.best();
        let position =
            LogPosition { child: child.clone(), writer: best.writer, version: best.version };
        if let Some(ownership) = best.entry.ownership() {
            self.live += 1;
            self.owners.entry(best.owner()).or_default().insert(child.clone());
            for tag in ownership.spec.tags() {
                self.tagged.entry(tag.clone()).or_default().insert(child.clone());
            }
        } else if before != Some(&position) {
            self.removed.push_back(position.clone());
        }
        if records.records.len() > 1 {
            self.crowded.insert(position);
        }
    }
}

/// Takes a child out of one of these sets, and the set if it is empty then.
fn take_out<K: Ord>(sets: &mut BTreeMap<K, BTreeSet<ChildId>>, key: K, child: &ChildId) {
    if let btree_map::Entry::Occupied(mut set) = sets.entry(key) {
        set.get_mut().remove(child);
        if set.get().is_empty() {
            set.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            search::{LOOKED_AT, step},
            tests::{child, moved, owned, removed, run},
        },
        *,
    };

    fn record(writer: u8, version: u64, entry: Entry) -> Record {
        Record::new(run(writer), version, entry)
    }

    fn at(n: usize, writer: u8, version: u64) -> LogPosition {
        LogPosition { child: child(n), writer: run(writer), version }
    }

    fn owner(table: &Table, n: usize) -> Option<NodeRun> {
        table.owner(&child(n)).map(|(run, _)| run)
    }

    #[test]
    fn of_one_epoch_a_removal_is_above_the_owner_and_the_owner_above_its_commit() {
        let mut table = Table::default();
        table.put(child(0), record(1, 1, moved(0, 2, run(2))));
        assert_eq!(owner(&table, 0), Some(run(2)), "it is the successor's at once");
        table.put(child(0), record(2, 1, owned(0, 2)));
        assert_eq!(table.best(&child(0)).map(|best| best.writer), Some(run(2)));
        table.put(child(0), record(3, 1, removed(2)));
        assert_eq!((owner(&table, 0), table.len()), (None, 0));
        table.put(child(0), record(1, 2, owned(0, 3)));
        assert_eq!((owner(&table, 0), table.len()), (Some(run(1)), 1));
    }

    #[test]
    fn what_is_lower_is_dropped_only_while_the_best_stands_where_it_did() {
        let mut table = Table::default();
        table.put(child(0), record(1, 1, owned(0, 1)));
        table.put(child(0), record(2, 1, owned(0, 2)));
        let [position] = &table.take_crowded(9, |_| 1)[..] else { panic!("one is crowded") };
        assert_eq!(*position, at(0, 2, 1));
        table.put(child(0), record(1, 2, owned(0, 3)));
        table.drop_lower(position);
        assert_eq!(table.entries_of(&child(0)).count(), 2);
        table.drop_lower(&at(0, 1, 2));
        assert_eq!(table.entries_of(&child(0)).count(), 1);
        assert_eq!(owner(&table, 0), Some(run(1)));
    }

    #[test]
    fn a_child_that_began_anew_is_not_forgotten_for_its_earlier_removal() {
        let mut table = Table::default();
        table.put(child(0), record(1, 1, removed(1)));
        assert_eq!(table.take_removed(9).collect::<Vec<_>>(), [at(0, 1, 1)]);
        assert_eq!(table.take_removed(9).count(), 0, "each is told once");
        table.put(child(0), record(2, 1, owned(0, 2)));
        assert!(!table.forget_removed(&at(0, 1, 1)));
        table.put(child(0), record(1, 2, removed(3)));
        assert!(!table.forget_removed(&at(0, 1, 1)));
        assert!(table.forget_removed(&at(0, 1, 2)));
        assert!(table.best(&child(0)).is_none() && !table.stands_in(run(2)));
    }

    /// The same with tags that say of which term it is.
    fn tagged(entry: Entry, term: u64) -> Entry {
        let tag = |mut ownership: Ownership| {
            let spec = (*ownership.spec).clone();
            let spec = spec.tag("all").and_then(|spec| spec.tag(format!("{}", term % 3)));
            ownership.spec = spec.expect("valid tags").into();
            ownership
        };
        match entry {
            Entry::Owned(ownership) => Entry::Owned(tag(ownership)),
            Entry::Moved { to, ownership } => Entry::Moved { to, ownership: tag(ownership) },
            removed @ Entry::Removed { .. } => removed,
        }
    }

    #[test]
    fn children_are_found_by_tag_and_by_owner_in_steps_that_are_bounded() {
        let mut table = Table::default();
        let count = 2 * LOOKED_AT + 5;
        for n in 0..count {
            table.put(
                child(n),
                record(1, n as u64 + 1, tagged(owned(n, 1 + n as u64 % 3), n as u64)),
            );
        }
        let search = |table: &Table, among: Among<'_>, most: usize| {
            let (mut found, mut steps, mut behind) = (Vec::new(), 0, None);
            loop {
                let ids = table.ids_behind(among, behind.as_ref());
                let left = most - found.len();
                let searched = step(
                    ids,
                    |id| table.owner(id),
                    left,
                    |id, _, ownership| ownership.spec.tags().contains("0").then(|| id.clone()),
                );
                steps += 1;
                found.extend(searched.found);
                behind = searched.next;
                if behind.is_none() || found.len() == most {
                    return (found, steps);
                }
            }
        };
        let zero = Tag::new("0").expect("a valid tag");
        let expected: Vec<ChildId> =
            table.ids_behind(Among::Tagged(&zero), None).cloned().collect();
        assert_eq!(expected.len(), table.count_tagged(&zero));
        assert_eq!(expected.len(), count.div_ceil(3));
        assert!(expected.is_sorted(), "by id");
        assert_eq!(search(&table, Among::All, usize::MAX), (expected.clone(), 3));
        let (one, other) = (BTreeSet::from([run(1)]), BTreeSet::from([run(2)]));
        assert_eq!(search(&table, Among::OwnedBy(&one), usize::MAX), (expected.clone(), 3));
        assert_eq!(search(&table, Among::Tagged(&zero), usize::MAX), (expected.clone(), 1));
        assert_eq!(search(&table, Among::All, 5), (expected[..5].to_vec(), 1));
        assert_eq!(search(&table, Among::OwnedBy(&other), 5), (Vec::new(), 1));
        assert_eq!(search(&table, Among::OwnedBy(&BTreeSet::new()), 5), (Vec::new(), 1));
        assert_eq!(table.runs_of(run(1).node).collect::<Vec<_>>(), [run(1)]);
        assert_eq!(table.runs_of(run(2).node).count(), 0);
        for n in 0..count {
            table.put(child(n), record(1, (count + n) as u64 + 1, removed(9)));
        }
        assert_eq!(table.count_tagged(&zero), 0);
        assert_eq!(search(&table, Among::All, 5), (Vec::new(), 3), "removed ones are looked at");
    }

    #[test]
    fn children_of_several_runs_are_found_in_one_order() {
        let mut table = Table::default();
        for n in 0..30 {
            table.put(child(n), record(1 + n as u8 % 4, n as u64 + 1, owned(n, 1)));
        }
        let behind = child(1);
        let of = |runs: &BTreeSet<NodeRun>, behind| -> Vec<ChildId> {
            table.ids_behind(Among::OwnedBy(runs), behind).cloned().collect()
        };
        let runs = [1, 3, 9].map(run);
        let mut expected: Vec<ChildId> =
            runs.iter().flat_map(|run| of(&BTreeSet::from([*run]), Some(&behind))).collect();
        expected.sort_unstable();
        assert!(expected.len() > 10);
        assert_eq!(of(&BTreeSet::from(runs), Some(&behind)), expected);
    }

    /// What is derived from the records, counted anew.
    fn check(table: &Table) {
        let mut owners: BTreeMap<NodeRun, BTreeSet<ChildId>> = BTreeMap::new();
        let mut tagged: BTreeMap<Tag, BTreeSet<ChildId>> = BTreeMap::new();
        let (mut standing, mut crowded) = (BTreeSet::new(), BTreeSet::new());
        for (child, records) in &table.children {
            let ranks = records.records.iter().map(Record::rank);
            assert_eq!(Some(records.best().rank()), ranks.max(), "the best is the highest");
            for record in &records.records {
                standing.insert((record.writer, record.version, child.clone()));
            }
            let best = records.best();
            if records.records.len() > 1 {
                crowded.insert((best.writer, best.version, child.clone()));
            }
            if let Some(ownership) = best.entry.ownership() {
                owners.entry(best.owner()).or_default().insert(child.clone());
                for tag in ownership.spec.tags() {
                    tagged.entry(tag.clone()).or_default().insert(child.clone());
                }
            }
        }
        let all = |positions: &Positions| {
            let of = |n: u8| positions.of(run(n)).into_iter().flatten().map(move |p| (run(n), p));
            let all = (1..4).flat_map(of);
            all.map(|(run, (version, child))| (run, *version, child.clone()))
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(all(&table.standing), standing);
        assert_eq!(all(&table.crowded), crowded);
        assert_eq!(table.len(), owners.values().map(BTreeSet::len).sum::<usize>());
        assert_eq!(table.owners, owners);
        assert_eq!(table.tagged, tagged);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn what_is_derived_says_what_the_records_say(
            steps in proptest::collection::vec((1_u8..4, 0_usize..5, 0_u64..9, 0_u8..6), 1..60)
        ) {
            let mut table = Table::default();
            let mut versions = [0; 4];
            for (writer, n, term, what) in steps {
                let entry = match what {
                    0 | 1 => tagged(owned(n, term), term),
                    2 => tagged(moved(n, term, run(writer % 3 + 1)), term),
                    3 => removed(term),
                    4 => {
                        table.take(&child(n), run(writer));
                        check(&table);
                        continue;
                    }
                    _ => {
                        let version = table.version_of(&child(n), run(writer)).unwrap_or(0);
                        table.drop_lower(&at(n, writer, version));
                        check(&table);
                        continue;
                    }
                };
                let version = &mut versions[usize::from(writer)];
                *version += 1;
                table.put(child(n), record(writer, *version, entry));
                check(&table);
            }
        }
    }
}
