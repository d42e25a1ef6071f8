//! Who owns what: the merge of all nodes' logs.
//!
//! Each node run writes a log of its own and no other; of each child only the newest entry stands
//! in it. A log is known up to a contiguous version, its watermark. What is known of a child is
//! the highest entry of all logs; lower ones are dominated and need not be passed on. Merging
//! commutes, associates and repeats harmlessly.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque, btree_map},
    iter,
    ops::Bound,
    time::{Duration, Instant},
};

use crate::model::{
    child::{Entry, Epoch, Ownership},
    id::{ChildId, NodeId, NodeRun},
    message::{LogEntry, SyncWord, Watermark},
};

/// Encoded bytes after which a part ends. One entry always goes through.
const PART_BYTES: usize = 200 << 10;
/// Logs that are held at most; words about further ones are refused.
const MOST_LOGS: usize = 4_096;
/// How often it is looked at what can be forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long a removal stays even if everybody knows of it: a child created anew shortly after
/// starts above it, and what is still on its way to the old one does not reach the new one.
const KEEP_REMOVAL: Duration = Duration::from_secs(60);
/// Logs without entries that are kept of one node: of them only the newest can be of a live run.
const EMPTY_LOGS: usize = 4;

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

/// What a word did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The children of which something else is known now.
    pub(crate) changed: BTreeSet<ChildId>,
    /// The word begins after what is held of its log: what lies between must be asked for, from
    /// here.
    pub(crate) gap: Option<Watermark>,
}

/// One word of those that bring a log up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// [`SyncWord::Changes`], or a [`SyncWord::Snapshot`] that `Changes` may follow.
    pub(crate) word: SyncWord,
    /// The version up to which it goes.
    pub(crate) upto: u64,
    /// About how many bytes it has in CBOR; never less than it really has.
    pub(crate) size: usize,
}

/// One run's log, as far as it is known.
#[derive(Debug, Default)]
struct Log {
    /// All versions up to this one are known.
    version: u64,
    /// Below this, removals have been forgotten: who has less needs a snapshot.
    floor: u64,
    /// The highest version that its own node has named.
    named: u64,
    /// The entries that stand.
    order: BTreeMap<u64, ChildId>,
    /// How far a snapshot has replaced what was held.
    replaced: Option<u64>,
    /// When it was last found to have changed; none if that is to be noted.
    touched: Option<Instant>,
    /// How far other nodes have it.
    acks: BTreeMap<NodeId, u64>,
}

/// One entry of a child, in one log.
#[derive(Debug)]
struct Stand {
    writer: NodeRun,
    version: u64,
    entry: Entry,
}

impl Stand {
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
struct Holding {
    stands: Vec<Stand>,
    best: usize,
}

impl Holding {
    fn best(&self) -> &Stand {
        &self.stands[self.best]
    }

    fn find(&self, writer: NodeRun) -> Option<usize> {
        self.stands.iter().position(|stand| stand.writer == writer)
    }

    fn choose(&mut self) {
        let ranked = self.stands.iter().enumerate().max_by_key(|(_, stand)| stand.rank());
        self.best = ranked.map_or(0, |(index, _)| index);
    }
}

/// Where a child's best entry stands.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    child: ChildId,
    writer: NodeRun,
    version: u64,
}

/// Places, in the order in which their logs are acknowledged.
#[derive(Debug, Default)]
struct Places(BTreeMap<NodeRun, BTreeMap<u64, ChildId>>);

impl Places {
    fn insert(&mut self, place: Place) {
        self.0.entry(place.writer).or_default().insert(place.version, place.child);
    }

    fn remove(&mut self, place: &Place) {
        if let btree_map::Entry::Occupied(mut versions) = self.0.entry(place.writer) {
            versions.get_mut().remove(&place.version);
            if versions.get().is_empty() {
                versions.remove();
            }
        }
    }

    /// Takes out the places that stand at or below the version given for their log.
    fn take(&mut self, upto: impl Fn(NodeRun) -> u64) -> Vec<Place> {
        let mut taken = Vec::new();
        self.0.retain(|writer, versions| {
            let kept = upto(*writer).checked_add(1).map(|from| versions.split_off(&from));
            let reached = std::mem::replace(versions, kept.unwrap_or_default());
            taken.extend(reached.into_iter().map(|(version, child)| Place {
                child,
                writer: *writer,
                version,
            }));
            !versions.is_empty()
        });
        taken
    }
}

/// Who owns what, as one node knows it.
///
/// What is asked about one child, one owner or the orphans costs what it returns, not the number
/// of children.
#[derive(Debug)]
pub(crate) struct Registry {
    me: NodeRun,
    logs: BTreeMap<NodeRun, Log>,
    children: BTreeMap<ChildId, Holding>,
    /// The children that are not removed, by who owns them.
    owners: BTreeMap<NodeRun, BTreeSet<ChildId>>,
    live: usize,
    /// Children with lower entries beside their best, by where the best stands.
    crowded: Places,
    /// Removals that are old enough to be forgotten, by where they stand.
    removals: Places,
    /// Removals that were not given a time yet; that are not old enough; that are.
    unnoticed: Vec<Place>,
    young: VecDeque<(Instant, Place)>,
    old: VecDeque<(Instant, Place)>,
    /// Entries that were skipped, by the log they stand in, and not told of yet.
    refused: BTreeMap<NodeRun, u64>,
    /// Who was in lately, and when last.
    known: BTreeMap<NodeId, Instant>,
    next_sweep: Option<Instant>,
}

impl Registry {
    /// A registry that knows no child; its own log is that of `me`.
    pub(crate) fn new(me: NodeRun) -> Self {
        Self {
            me,
            logs: BTreeMap::from([(me, Log::default())]),
            children: BTreeMap::new(),
            owners: BTreeMap::new(),
            live: 0,
            crowded: Places::default(),
            removals: Places::default(),
            unnoticed: Vec::new(),
            young: VecDeque::new(),
            old: VecDeque::new(),
            refused: BTreeMap::new(),
            known: BTreeMap::new(),
            next_sweep: None,
        }
    }

    /// Whose registry this is.
    pub(crate) fn me(&self) -> NodeRun {
        self.me
    }

    /// Writes into the own log.
    pub(crate) fn write(&mut self, child: ChildId, entry: Entry) {
        let log = self.logs.entry(self.me).or_default();
        log.version += 1;
        let version = log.version;
        self.put(child, Stand { writer: self.me, version, entry });
    }

    /// The version of the own log.
    pub(crate) fn version(&self) -> u64 {
        self.watermark(self.me)
    }

    /// Up to which version a log is known.
    pub(crate) fn watermark(&self, log: NodeRun) -> u64 {
        self.logs.get(&log).map_or(0, |log| log.version)
    }

    /// Below which version a log is passed on as a snapshot only.
    pub(crate) fn floor(&self, log: NodeRun) -> u64 {
        self.logs.get(&log).map_or(0, |log| log.floor)
    }

    /// The watermarks that others need to know: of the own log, which comes first, of those with
    /// entries, and of those that a node which was in lately has written. Of a log in which nothing
    /// was ever written there is nothing to know.
    pub(crate) fn watermarks(&self) -> Vec<Watermark> {
        let others = self.logs.iter().filter(|(run, log)| {
            **run != self.me
                && log.version > 0
                && (!log.order.is_empty() || self.known.contains_key(&run.node))
        });
        let others = others.map(|(run, log)| Watermark { log: *run, version: log.version });
        iter::once(Watermark { log: self.me, version: self.version() }).chain(others).collect()
    }

    /// How far the logs of runs that are gone are known, where entries of theirs stand: `most` at most.
    pub(crate) fn gone_logs(
        &self,
        most: usize,
        is_live: impl Fn(NodeRun) -> bool,
    ) -> Vec<Watermark> {
        let gone = self.logs.iter().filter(|(run, log)| !log.order.is_empty() && !is_live(**run));
        let marks = gone.map(|(run, log)| Watermark { log: *run, version: log.version });
        marks.take(most).collect()
    }

    /// What changed in a log after a version, in parts of about 200 KiB, made as they are asked
    /// for. Dominated entries are left out. Nothing if there is nothing newer.
    ///
    /// Below the floor the first part is a snapshot that replaces what its receiver has up to the
    /// part's end.
    #[cfg(test)]
    pub(crate) fn changes_since(&self, log: NodeRun, from: u64) -> impl Iterator<Item = Part> {
        let mut next = (from, false);
        iter::from_fn(move || {
            let part = self.part(log, next.0, next.1, PART_BYTES)?;
            next = (part.upto, true);
            Some(part)
        })
    }

    /// The first part of [`changes_since`](Self::changes_since); or, `continued`, a further one:
    /// what was sent before has gone past the floor already. It ends after `most` bytes at the latest,
    /// or one entry.
    pub(crate) fn part(
        &self,
        log: NodeRun,
        from: u64,
        continued: bool,
        most: usize,
    ) -> Option<Part> {
        let most = most.min(PART_BYTES);
        let state = self.logs.get(&log)?;
        if from >= state.version {
            return None;
        }
        let snapshot = from < state.floor && !continued;
        let from = if snapshot { 0 } else { from };
        let (mut upto, mut size, mut entries) = (state.version, 0, Vec::new());
        for (version, child) in state.order.range((Bound::Excluded(from), Bound::Unbounded)) {
            let Some(holding) = self.children.get(child) else {
                continue;
            };
            let best = holding.best();
            if best.writer != log {
                continue;
            }
            let more = encoded_size(child, &best.entry);
            if !entries.is_empty() && size + more > most {
                upto = version - 1;
                break;
            }
            size += more;
            let entry = best.entry.clone();
            entries.push(LogEntry { version: *version, child: child.clone(), entry });
        }
        let word = if snapshot {
            SyncWord::Snapshot { log, upto, entries, more: upto < state.version }
        } else {
            SyncWord::Changes { log, from, upto, entries }
        };
        // The word around its entries: two versions, a run, names.
        Some(Part { word, upto, size: size + 160 })
    }

    /// Takes in what changed in another run's log. Words about the own log, about too many logs,
    /// or with versions out of order change nothing.
    ///
    /// An entry that cannot be true is skipped, and its version counts as known: its log goes on
    /// behind it. What the log said of the child before stands. See [`take_refused`](Self::take_refused).
    pub(crate) fn apply_changes(
        &mut self,
        log: NodeRun,
        from: u64,
        upto: u64,
        entries: Vec<LogEntry>,
    ) -> Applied {
        let mut applied = Applied::default();
        if from > upto || !self.is_acceptable(log, from, upto, &entries) {
            return applied;
        }
        let held = self.watermark(log);
        if from > held {
            applied.gap = Some(Watermark { log, version: held });
            return applied;
        }
        let state = self.logs.entry(log).or_default();
        let replaces = state.replaced.filter(|replaced| from <= *replaced && *replaced < upto);
        if replaces.is_none() && upto <= held {
            return applied;
        }
        state.version = held.max(upto);
        state.touched = None;
        if let Some(replaced) = replaces {
            // Once past what was held, the snapshot has replaced everything.
            state.replaced = Some(upto).filter(|upto| *upto < held);
            self.drop_unnamed(log, replaced, upto.min(held), &entries, &mut applied.changed);
        }
        // What is known and not held any more was dropped with reason.
        let known = replaces.unwrap_or(held);
        let fresh = entries.into_iter().filter(|entry| entry.version > known);
        self.merge(log, fresh, &mut applied.changed);
        applied
    }

    /// Takes in the beginning of another run's log, up to `upto`: what is held of it up to there
    /// and not named is dropped. If there is `more`, it comes as changes from there on, which
    /// replace in the same way; a part that is lost shows as a gap.
    pub(crate) fn apply_snapshot(
        &mut self,
        log: NodeRun,
        upto: u64,
        entries: Vec<LogEntry>,
        more: bool,
    ) -> Applied {
        let mut applied = Applied::default();
        // A complete snapshot of less than is known here says nothing new.
        let known = !more && upto <= self.watermark(log);
        if known || !self.is_acceptable(log, 0, upto, &entries) {
            return applied;
        }
        let state = self.logs.entry(log).or_default();
        let held = state.version;
        state.version = held.max(upto);
        // What its writer has forgotten by now is not here to be passed on.
        state.floor = state.floor.max(upto);
        state.replaced = Some(upto).filter(|upto| *upto < held);
        state.touched = None;
        self.drop_unnamed(log, 0, upto.min(held), &entries, &mut applied.changed);
        self.merge(log, entries, &mut applied.changed);
        applied
    }

    /// A run says that a log stands at this version, or above. There is always room for the log of
    /// who says so itself.
    pub(crate) fn told_by(&mut self, run: NodeRun, log: NodeRun, version: u64) {
        if run == log && log != self.me {
            let log = self.logs.entry(log).or_default();
            log.named = log.named.max(version);
        }
    }

    /// A run says that its own log stands at this version, now that it is in. If more of it is here
    /// than it ever named, others have told what it never wrote: it is all dropped, to be told anew.
    /// Else what it writes next would be taken for old. Gives the children of which it said something.
    pub(crate) fn correct(&mut self, run: NodeRun, version: u64) -> BTreeSet<ChildId> {
        self.told_by(run, run, version);
        let Some(log) = self.logs.get(&run).filter(|log| run != self.me && log.version > log.named)
        else {
            return BTreeSet::new();
        };
        let children: BTreeSet<ChildId> = log.order.values().cloned().collect();
        for child in &children {
            self.take(child, run);
        }
        let named = self.logs.get(&run).map_or(0, |log| log.named);
        self.logs.insert(run, Log { named, ..Log::default() });
        children
    }

    fn is_acceptable(&self, log: NodeRun, from: u64, upto: u64, entries: &[LogEntry]) -> bool {
        let mut last = from;
        let ascending = entries.iter().all(|entry| {
            let next = entry.version > last && entry.version <= upto;
            last = entry.version;
            next
        });
        log != self.me
            && (self.logs.contains_key(&log) || self.logs.len() < MOST_LOGS)
            && upto <= Epoch::LIMIT
            && ascending
    }

    /// Whether an entry can be what became of its child: its epoch is not far above the highest
    /// that is known of it.
    fn is_possible(&self, entry: &LogEntry) -> bool {
        entry.entry.epoch().can_follow(self.highest_epoch(&entry.child))
            && entry.entry.ownership().is_none_or(|ownership| {
                ownership.born.is_plausible()
                    && ownership.copied.is_plausible()
                    && *ownership.spec.id() == entry.child
            })
    }

    /// How many entries of which logs were skipped since this was asked last.
    pub(crate) fn take_refused(&mut self) -> BTreeMap<NodeRun, u64> {
        std::mem::take(&mut self.refused)
    }

    /// Drops the entries of a log with `from < version <= upto` that are not among those named.
    fn drop_unnamed(
        &mut self,
        log: NodeRun,
        from: u64,
        upto: u64,
        named: &[LogEntry],
        changed: &mut BTreeSet<ChildId>,
    ) {
        let named: BTreeSet<u64> = named.iter().map(|entry| entry.version).collect();
        let Some(state) = self.logs.get(&log) else {
            return;
        };
        if from >= upto {
            return;
        }
        let range = (Bound::Excluded(from), Bound::Included(upto));
        let gone: Vec<ChildId> = state
            .order
            .range(range)
            .filter(|(version, _)| !named.contains(version))
            .map(|(_, child)| child.clone())
            .collect();
        for child in gone {
            self.take(&child, log);
            changed.insert(child);
        }
    }

    fn merge(
        &mut self,
        log: NodeRun,
        entries: impl IntoIterator<Item = LogEntry>,
        changed: &mut BTreeSet<ChildId>,
    ) {
        for entry in entries {
            if !self.is_possible(&entry) {
                *self.refused.entry(log).or_default() += 1;
                continue;
            }
            let LogEntry { version, child, entry } = entry;
            let held = self
                .children
                .get(&child)
                .and_then(|holding| holding.find(log).map(|index| holding.stands[index].version));
            if held.is_none_or(|held| held < version) {
                changed.insert(child.clone());
                self.put(child, Stand { writer: log, version, entry });
            }
        }
    }

    /// The highest entry of a child, removals included.
    pub(crate) fn best(&self, child: &ChildId) -> Option<Best<'_>> {
        let best = self.children.get(child)?.best();
        Some(Best {
            owner: best.owner(),
            epoch: best.entry.epoch(),
            entry: &best.entry,
            writer: best.writer,
        })
    }

    /// Who owns a child. A child that was handed over is its successor's at once.
    pub(crate) fn owner(&self, child: &ChildId) -> Option<(NodeRun, &Ownership)> {
        let best = self.children.get(child)?.best();
        Some((best.owner(), best.entry.ownership()?))
    }

    /// The version of the own log at which it says something of a child. 0: it says nothing that
    /// counts.
    pub(crate) fn own_version(&self, child: &ChildId) -> u64 {
        let holding = self.children.get(child);
        let own = holding.and_then(|holding| Some(&holding.stands[holding.find(self.me)?]));
        own.map_or(0, |stand| stand.version)
    }

    /// What each log says of a child.
    pub(crate) fn entries_of(&self, child: &ChildId) -> impl Iterator<Item = (NodeRun, &Entry)> {
        let holding = self.children.get(child);
        holding
            .into_iter()
            .flat_map(|holding| holding.stands.iter().map(|stand| (stand.writer, &stand.entry)))
    }

    /// The highest epoch that is known of a child, removals included.
    pub(crate) fn highest_epoch(&self, child: &ChildId) -> Epoch {
        self.best(child).map_or(Epoch::ZERO, |best| best.epoch)
    }

    /// The children that a run owns.
    pub(crate) fn owned_by(&self, run: NodeRun) -> impl Iterator<Item = (&ChildId, &Ownership)> {
        self.owned_behind(run, None)
    }

    /// The children that a run owns, with ids behind this one.
    pub(crate) fn owned_behind(
        &self,
        run: NodeRun,
        id: Option<&ChildId>,
    ) -> impl Iterator<Item = (&ChildId, &Ownership)> {
        let behind = (id.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let children = self.owners.get(&run).into_iter();
        let children = children.flat_map(move |owned| owned.range::<ChildId, _>(behind));
        children.filter_map(|child| Some((child, self.owner(child)?.1)))
    }

    /// All children that are not removed.
    pub(crate) fn children(&self) -> impl Iterator<Item = (&ChildId, NodeRun, &Ownership)> {
        self.children.iter().filter_map(|(child, holding)| {
            let best = holding.best();
            Some((child, best.owner(), best.entry.ownership()?))
        })
    }

    /// How many children there are, removed ones not counted.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// How many children a run owns.
    pub(crate) fn count_of(&self, run: NodeRun) -> usize {
        self.owners.get(&run).map_or(0, BTreeSet::len)
    }

    /// The children with ids behind this one that are not removed.
    pub(crate) fn children_behind(
        &self,
        id: Option<&ChildId>,
    ) -> impl Iterator<Item = (&ChildId, NodeRun, &Ownership)> {
        let behind = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.children.range::<ChildId, _>((behind, Bound::Unbounded)).filter_map(
            |(child, holding)| {
                let best = holding.best();
                Some((child, best.owner(), best.entry.ownership()?))
            },
        )
    }

    /// The children whose owner is not live, in the order of their ids.
    pub(crate) fn orphans(&self, is_live: impl Fn(NodeRun) -> bool) -> Vec<ChildId> {
        let dead = self.owners.iter().filter(|(run, _)| !is_live(**run));
        let orphans: BTreeSet<&ChildId> = dead.flat_map(|(_, children)| children).collect();
        orphans.into_iter().cloned().collect()
    }

    /// Another node has this log up to this version.
    pub(crate) fn acknowledged(&mut self, log: NodeRun, by: NodeId, version: u64) {
        if let Some(log) = self.logs.get_mut(&log) {
            log.acks.insert(by, version.min(log.version));
        }
    }

    /// Up to which version a node has said that it has a log.
    pub(crate) fn acked(&self, by: NodeId, log: NodeRun) -> u64 {
        self.logs.get(&log).and_then(|log| log.acks.get(&by)).copied().unwrap_or(0)
    }

    /// A node has ended and forgotten everything: no removal is kept for its sake.
    pub(crate) fn gone(&mut self, node: NodeId) {
        self.known.remove(&node);
    }

    /// Forgets what nobody needs any more. Cheap if called often.
    ///
    /// Dominated entries go once every node that was in within `forget_after` has the higher one.
    /// Removals go when those nodes have them, a minute after they were written at the earliest;
    /// or after `forget_after`. `known` is who is in now.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        known: &BTreeSet<NodeId>,
        forget_after: Duration,
    ) {
        if self.next_sweep.is_some_and(|at| now < at) {
            return;
        }
        self.next_sweep = Some(now + SWEEP_EVERY);
        self.known.extend(known.iter().map(|node| (*node, now)));
        self.known.retain(|_, last| now.saturating_duration_since(*last) < forget_after);
        self.age(now, forget_after);
        self.drop_acknowledged();
        self.drop_logs(now, forget_after);
    }

    fn age(&mut self, now: Instant, forget_after: Duration) {
        let noticed = std::mem::take(&mut self.unnoticed);
        self.young.extend(noticed.into_iter().map(|place| (now, place)));
        for (since, place) in take_older(&mut self.young, now, KEEP_REMOVAL.min(forget_after)) {
            if self.is_removed_by(&place) {
                self.removals.insert(place.clone());
                self.old.push_back((since, place));
            }
        }
        let over = take_older(&mut self.old, now, forget_after);
        let forgotten = over.into_iter().filter(|(_, place)| self.forget(place)).count();
        if forgotten > 0 {
            // Somebody may not know of the removals and come back.
            for log in self.logs.values_mut() {
                log.floor = log.version;
            }
        }
    }

    /// Up to which version everybody who counts has a log.
    fn acknowledged_by_all(&self, run: NodeRun) -> u64 {
        let Some(log) = self.logs.get(&run) else {
            return 0;
        };
        let others = self.known.keys().filter(|node| **node != self.me.node && **node != run.node);
        let acks = others.map(|node| log.acks.get(node).copied().unwrap_or(0));
        acks.min().unwrap_or(u64::MAX).min(log.version)
    }

    fn drop_acknowledged(&mut self) {
        let (mut crowded, mut removals) =
            (std::mem::take(&mut self.crowded), std::mem::take(&mut self.removals));
        let settled = crowded.take(|run| self.acknowledged_by_all(run));
        let removed = removals.take(|run| self.acknowledged_by_all(run));
        (self.crowded, self.removals) = (crowded, removals);
        for place in settled {
            self.drop_lower(&place);
        }
        let forgotten = removed.into_iter().filter(|place| self.forget(place)).count();
        if forgotten > 0 {
            let upto: Vec<u64> =
                self.logs.keys().map(|run| self.acknowledged_by_all(*run)).collect();
            for (log, upto) in self.logs.values_mut().zip(upto) {
                log.floor = log.floor.max(upto);
            }
        }
    }

    fn drop_lower(&mut self, place: &Place) {
        let writers: Vec<NodeRun> = self.entries_of(&place.child).map(|(run, _)| run).collect();
        for writer in writers.into_iter().filter(|writer| *writer != place.writer) {
            self.take(&place.child, writer);
        }
    }

    fn is_removed_by(&self, place: &Place) -> bool {
        self.children.get(&place.child).is_some_and(|holding| {
            let best = holding.best();
            let stands = best.writer == place.writer && best.version == place.version;
            stands && matches!(best.entry, Entry::Removed { .. })
        })
    }

    /// Forgets a child if it is still removed by this entry.
    fn forget(&mut self, place: &Place) -> bool {
        let removed = self.is_removed_by(place);
        if removed {
            self.drop_lower(place);
            self.take(&place.child, place.writer);
        }
        removed
    }

    /// Logs without entries of nodes that are long gone, and of too many runs of one node.
    fn drop_logs(&mut self, now: Instant, forget_after: Duration) {
        let mut empty: BTreeMap<NodeId, Vec<(Instant, NodeRun)>> = BTreeMap::new();
        let mut gone = Vec::new();
        for (run, log) in &mut self.logs {
            let touched = *log.touched.get_or_insert(now);
            log.acks.retain(|node, _| self.known.contains_key(node));
            if *run == self.me || !log.order.is_empty() {
                continue;
            }
            if self.known.contains_key(&run.node) {
                empty.entry(run.node).or_default().push((touched, *run));
            } else if now.saturating_duration_since(touched) >= forget_after {
                gone.push(*run);
            }
        }
        for (_, mut runs) in empty {
            runs.sort_unstable();
            let many = runs.len().saturating_sub(EMPTY_LOGS);
            gone.extend(runs.into_iter().take(many).map(|(_, run)| run));
        }
        for run in gone {
            self.logs.remove(&run);
        }
    }

    /// Lets an entry stand in the place of the one that its log had of the child.
    fn put(&mut self, child: ChildId, stand: Stand) {
        let before = self.unindex(&child);
        let log = self.logs.entry(stand.writer).or_default();
        log.order.insert(stand.version, child.clone());
        let holding = self
            .children
            .entry(child.clone())
            .or_insert_with(|| Holding { stands: Vec::with_capacity(1), best: 0 });
        match holding.find(stand.writer) {
            Some(index) => {
                let old = std::mem::replace(&mut holding.stands[index], stand);
                if old.version != holding.stands[index].version {
                    log.order.remove(&old.version);
                }
            }
            None => holding.stands.push(stand),
        }
        holding.choose();
        self.index(&child, before.as_ref());
    }

    /// Takes away what a log says of a child.
    fn take(&mut self, child: &ChildId, writer: NodeRun) {
        let before = self.unindex(child);
        if let Some(holding) = self.children.get_mut(child) {
            if let Some(index) = holding.find(writer) {
                let stand = holding.stands.swap_remove(index);
                if let Some(log) = self.logs.get_mut(&writer) {
                    log.order.remove(&stand.version);
                }
            }
            holding.choose();
            if holding.stands.is_empty() {
                self.children.remove(child);
            }
        }
        self.index(child, before.as_ref());
    }

    /// Before a child's entries change: takes it out of what is derived from them.
    fn unindex(&mut self, child: &ChildId) -> Option<Place> {
        let best = self.children.get(child)?.best();
        let place = Place { child: child.clone(), writer: best.writer, version: best.version };
        if best.entry.ownership().is_some() {
            self.live -= 1;
            if let btree_map::Entry::Occupied(mut owned) = self.owners.entry(best.owner()) {
                owned.get_mut().remove(child);
                if owned.get().is_empty() {
                    owned.remove();
                }
            }
        }
        self.crowded.remove(&place);
        Some(place)
    }

    /// After a child's entries have changed; `before` is where its best entry stood.
    fn index(&mut self, child: &ChildId, before: Option<&Place>) {
        let Some(holding) = self.children.get(child) else {
            return;
        };
        let best = holding.best();
        let place = Place { child: child.clone(), writer: best.writer, version: best.version };
        if best.entry.ownership().is_some() {
            self.live += 1;
            self.owners.entry(best.owner()).or_default().insert(child.clone());
        } else if before != Some(&place) {
            self.unnoticed.push(place.clone());
        }
        if holding.stands.len() > 1 {
            self.crowded.insert(place);
        }
    }
}

/// Takes what has waited at least this long from a queue in order of time.
fn take_older(
    queue: &mut VecDeque<(Instant, Place)>,
    now: Instant,
    age: Duration,
) -> Vec<(Instant, Place)> {
    let older = queue.partition_point(|(since, _)| now.saturating_duration_since(*since) >= age);
    queue.drain(..older).collect()
}

/// At most how many bytes an entry has in CBOR.
fn encoded_size(child: &ChildId, entry: &Entry) -> usize {
    /// What a text or a byte string has before its bytes.
    const HEAD: usize = 9;
    /// One state that was taken in.
    const TAKEN: usize = 128;
    /// The pauses of a spec.
    const PAUSES: usize = 192;
    /// A failure, besides its reason.
    const FAILURE: usize = 96;
    // Names of fields, numbers at their longest, runs and pins.
    let fixed = if entry.ownership().is_some() { 672 } else { 128 };
    let spec = entry.ownership().map_or(0, |ownership| {
        let spec = &ownership.spec;
        let tags = spec.tags().iter().map(|tag| tag.as_str().len() + HEAD);
        let notes = spec.metadata().iter().map(|(key, value)| key.len() + value.len() + 2 * HEAD);
        let failure = ownership.failure.as_ref();
        ownership.taken.len() * TAKEN
            + failure.map_or(0, |failure| FAILURE + failure.reason().len())
            + spec.restart_pauses().map_or(0, |_| PAUSES)
            + spec.id().as_str().len()
            + spec.kind().as_str().len()
            + spec.args.len()
            + tags.sum::<usize>()
            + notes.sum::<usize>()
    });
    fixed + child.as_str().len() + spec
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        child::{ChildSpec, Role, TakenIn},
        id::{KindName, Origin},
    };

    fn run(n: u8) -> NodeRun {
        NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() }
    }

    fn child(n: u8) -> ChildId {
        ChildId::new(format!("c{n}")).expect("a valid id")
    }

    fn owned(n: u8, term: u64) -> Entry {
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

    fn moved(n: u8, term: u64, to: NodeRun) -> Entry {
        match owned(n, term) {
            Entry::Owned(ownership) => Entry::Moved { to, ownership },
            entry => entry,
        }
    }

    fn removed(term: u64) -> Entry {
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

    type Picture = Vec<(u8, Option<(NodeRun, Epoch)>)>;

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

    fn entry(version: u64, n: u8, entry: Entry) -> LogEntry {
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
        registry.acknowledged(run(1), run(2).node, 3);
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

    fn writes() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
        proptest::collection::vec((1_u8..4, 0_u8..6, 0_u8..4), 1..40)
    }

    /// Three nodes write; nobody ever goes below what it wrote before.
    fn histories(writes: &[(u8, u8, u8)]) -> Vec<Registry> {
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
}
