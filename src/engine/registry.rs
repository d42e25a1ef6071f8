//! Who owns what: one log for each run of a node, written by that run alone; the table is the
//! merge of all logs.
//!
//! A log holds the newest entry for each child, each at the version at which it was written. What
//! is known of a log is a contiguous watermark. Merging takes the longer of two versions of a
//! log, so that it commutes, associates and repeats harmlessly. An entry below another log's entry
//! for the same child is dropped wherever it is met: what dominates it never sinks again. The log
//! of a run that is gone therefore lasts until each of its entries is superseded.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use crate::model::{
    child::{Entry, Epoch, Ownership},
    id::{ChildId, NodeId, NodeRun},
    message::{LogEntry, SyncWord, Watermark},
};

/// Bytes of entries in one word, about.
const PART_BYTES: usize = 200 << 10;
/// Entries of one snapshot that is put together from parts.
const MOST_ENTRIES: usize = 4 << 20;
/// Versions above this are taken for an attack, not for a history.
const MOST_VERSIONS: u64 = 1 << 62;
/// Logs that are held at most; words about further ones are refused.
const MOST_LOGS: usize = 65_536;

#[derive(Debug, Default)]
struct Log {
    /// Everything up to here is known.
    version: u64,
    /// Entries at or below this may have been forgotten: who knows less gets the whole log.
    floor: u64,
    by_version: BTreeMap<u64, ChildId>,
    /// A snapshot of which more parts are to come.
    parts: Vec<LogEntry>,
}

#[derive(Debug)]
struct Stands {
    version: u64,
    entry: Entry,
}

#[derive(Debug, Default)]
struct Record {
    entries: BTreeMap<NodeRun, Stands>,
}

impl Record {
    fn best(&self) -> Option<(NodeRun, &Stands)> {
        self.entries
            .iter()
            .max_by_key(|(writer, stands)| rank(**writer, &stands.entry))
            .map(|(writer, stands)| (*writer, stands))
    }

    /// The run that owns the child, unless it was removed.
    fn owner(&self) -> Option<NodeRun> {
        let (writer, stands) = self.best()?;
        stands.entry.ownership().map(|_| owner_of(writer, &stands.entry))
    }
}

/// The entry that counts for a child.
#[derive(Debug)]
pub(crate) struct Best<'a> {
    /// The run that owns the child; for a removal, the one that removed it.
    pub(crate) owner: NodeRun,
    /// At which epoch.
    pub(crate) epoch: Epoch,
    /// The entry.
    pub(crate) entry: &'a Entry,
    /// Whose log it stands in.
    pub(crate) writer: NodeRun,
}

/// What taking in a word has done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Children of which something else is known now.
    pub(crate) changed: BTreeSet<ChildId>,
    /// What came before is missing: ask for it from here.
    pub(crate) gap: Option<Watermark>,
}

/// Orders entries for one child: the greatest counts.
fn rank(writer: NodeRun, entry: &Entry) -> (Epoch, u8, NodeRun) {
    match entry {
        Entry::Moved { to, ownership } => (ownership.epoch, 0, *to),
        Entry::Owned(ownership) => (ownership.epoch, 1, writer),
        Entry::Removed { epoch } => (*epoch, 2, writer),
    }
}

fn owner_of(writer: NodeRun, entry: &Entry) -> NodeRun {
    match entry {
        Entry::Moved { to, .. } => *to,
        Entry::Owned(_) | Entry::Removed { .. } => writer,
    }
}

/// About how many bytes an entry takes on the wire.
fn size_of(child: &ChildId, entry: &Entry) -> usize {
    let spec = entry.ownership().map_or(0, |ownership| {
        let spec = &ownership.spec;
        let notes: usize = spec.metadata().iter().map(|(k, v)| k.len() + v.len() + 4).sum();
        let tags: usize = spec.tags().iter().map(|tag| tag.as_str().len() + 2).sum();
        spec.args.len() + notes + tags + 256
    });
    child.as_str().len() * 2 + spec + 64
}

/// Who owns what, as this node knows it.
#[derive(Debug)]
pub(crate) struct Registry {
    me: NodeRun,
    logs: BTreeMap<NodeRun, Log>,
    children: BTreeMap<ChildId, Record>,
    owned: BTreeMap<NodeRun, BTreeSet<ChildId>>,
    /// Removals in the order in which they were met, with the time from which they age.
    removals: VecDeque<(Option<Instant>, NodeRun, u64)>,
    /// Up to which version each node has said that it has each log.
    acked: BTreeMap<(NodeRun, NodeId), u64>,
}

impl Registry {
    pub(crate) fn new(me: NodeRun) -> Self {
        Self {
            me,
            logs: BTreeMap::from([(me, Log::default())]),
            children: BTreeMap::new(),
            owned: BTreeMap::new(),
            removals: VecDeque::new(),
            acked: BTreeMap::new(),
        }
    }

    pub(crate) fn me(&self) -> NodeRun {
        self.me
    }

    /// Writes into this run's own log.
    pub(crate) fn write(&mut self, child: ChildId, entry: Entry) {
        let version = self.version() + 1;
        self.logs.entry(self.me).or_default().version = version;
        self.put(self.me, LogEntry { version, child, entry });
    }

    /// The version of this run's own log.
    pub(crate) fn version(&self) -> u64 {
        self.watermark(self.me)
    }

    /// Up to which version a log is known.
    pub(crate) fn watermark(&self, log: NodeRun) -> u64 {
        self.logs.get(&log).map_or(0, |log| log.version)
    }

    /// One watermark for each log.
    pub(crate) fn watermarks(&self) -> Vec<Watermark> {
        self.logs
            .iter()
            .map(|(log, state)| Watermark { log: *log, version: state.version })
            .collect()
    }

    /// What a node that has a log up to `from` lacks, as words.
    pub(crate) fn since(&self, log: NodeRun, from: u64) -> Vec<SyncWord> {
        let Some(state) = self.logs.get(&log) else { return Vec::new() };
        if from >= state.version {
            return Vec::new();
        }
        let whole = from < state.floor;
        let after = if whole { 0 } else { from };
        let mut parts: Vec<Vec<LogEntry>> = Vec::new();
        let mut part = Vec::new();
        let mut bytes = 0;
        for (version, child) in state.by_version.range(after + 1..) {
            let stands = self.children.get(child).and_then(|record| record.entries.get(&log));
            let Some(stands) = stands else { continue };
            let size = size_of(child, &stands.entry);
            if bytes + size > PART_BYTES && !part.is_empty() {
                parts.push(std::mem::take(&mut part));
                bytes = 0;
            }
            bytes += size;
            let entry = stands.entry.clone();
            part.push(LogEntry { version: *version, child: child.clone(), entry });
        }
        parts.push(part);
        let count = parts.len();
        let mut from = from;
        parts
            .into_iter()
            .enumerate()
            .map(|(n, entries)| {
                let last = n + 1 == count;
                if whole {
                    return SyncWord::Snapshot { log, upto: state.version, entries, more: !last };
                }
                let upto = match entries.last() {
                    Some(entry) if !last => entry.version,
                    _ => state.version,
                };
                let word = SyncWord::Changes { log, from, upto, entries };
                from = upto;
                word
            })
            .collect()
    }

    fn is_sound(&self, log: NodeRun, upto: u64, entries: &[LogEntry]) -> bool {
        log != self.me
            && upto <= MOST_VERSIONS
            && (self.logs.contains_key(&log) || self.logs.len() < MOST_LOGS)
            && entries.iter().all(|entry| {
                entry.version > 0 && entry.version <= upto && entry.entry.epoch().is_plausible()
            })
    }

    /// Takes in entries of another run's log. What is not sound changes nothing.
    pub(crate) fn apply_changes(
        &mut self,
        log: NodeRun,
        from: u64,
        upto: u64,
        entries: Vec<LogEntry>,
    ) -> Applied {
        let mut applied = Applied::default();
        if !self.is_sound(log, upto, &entries) {
            return applied;
        }
        let known = self.watermark(log);
        if from > known {
            applied.gap = Some(Watermark { log, version: known });
            return applied;
        }
        if upto <= known {
            return applied;
        }
        self.logs.entry(log).or_default().version = upto;
        for entry in entries.into_iter().filter(|entry| entry.version > known) {
            applied.changed.insert(entry.child.clone());
            self.put(log, entry);
        }
        applied
    }

    /// Takes in a part of a whole log. The last part replaces what is known of it.
    pub(crate) fn apply_snapshot(
        &mut self,
        log: NodeRun,
        upto: u64,
        entries: Vec<LogEntry>,
        more: bool,
    ) -> Applied {
        let mut applied = Applied::default();
        if !self.is_sound(log, upto, &entries) || upto <= self.watermark(log) {
            return applied;
        }
        let state = self.logs.entry(log).or_default();
        let begins_anew = match (entries.first(), state.parts.last()) {
            (Some(first), Some(last)) => first.version <= last.version,
            _ => false,
        };
        if begins_anew || state.parts.len() + entries.len() > MOST_ENTRIES {
            state.parts.clear();
        }
        state.parts.extend(entries);
        if more {
            return applied;
        }
        let parts = std::mem::take(&mut state.parts);
        state.version = upto;
        state.floor = upto;
        for (_, child) in std::mem::take(&mut state.by_version) {
            self.drop_entry(log, &child);
            applied.changed.insert(child);
        }
        for entry in parts {
            applied.changed.insert(entry.child.clone());
            self.put(log, entry);
        }
        applied
    }

    fn put(&mut self, log: NodeRun, entry: LogEntry) {
        let LogEntry { version, child, entry } = entry;
        let record = self.children.entry(child.clone()).or_default();
        let before = record.owner();
        if let Some(old) = record.entries.remove(&log)
            && let Some(state) = self.logs.get_mut(&log)
        {
            state.by_version.remove(&old.version);
        }
        if matches!(entry, Entry::Removed { .. }) {
            self.removals.push_back((None, log, version));
        }
        record.entries.insert(log, Stands { version, entry });
        if let Some(state) = self.logs.get_mut(&log) {
            state.by_version.insert(version, child.clone());
        }
        // What stands below another log's entry is of no use to anybody.
        let best = record.best().map(|(writer, stands)| rank(writer, &stands.entry));
        let dominated: Vec<(NodeRun, u64)> = record
            .entries
            .iter()
            .filter(|(writer, stands)| {
                best.is_some_and(|best| rank(**writer, &stands.entry) < best)
            })
            .map(|(writer, stands)| (*writer, stands.version))
            .collect();
        for (writer, version) in dominated {
            record.entries.remove(&writer);
            if let Some(state) = self.logs.get_mut(&writer) {
                state.by_version.remove(&version);
            }
        }
        self.reindex(&child, before);
    }

    /// Takes an entry out of its record; its place in the log is the caller's concern.
    fn drop_entry(&mut self, log: NodeRun, child: &ChildId) {
        let Some(record) = self.children.get_mut(child) else { return };
        let before = record.owner();
        record.entries.remove(&log);
        self.reindex(child, before);
    }

    fn reindex(&mut self, child: &ChildId, before: Option<NodeRun>) {
        let record = self.children.get(child);
        let after = record.and_then(Record::owner);
        if record.is_some_and(|record| record.entries.is_empty()) {
            self.children.remove(child);
        }
        if before == after {
            return;
        }
        if let Some(before) = before
            && let Some(children) = self.owned.get_mut(&before)
        {
            children.remove(child);
            if children.is_empty() {
                self.owned.remove(&before);
            }
        }
        if let Some(after) = after {
            self.owned.entry(after).or_default().insert(child.clone());
        }
    }

    /// The entry that counts for a child.
    pub(crate) fn best(&self, child: &ChildId) -> Option<Best<'_>> {
        let (writer, stands) = self.children.get(child)?.best()?;
        Some(Best {
            owner: owner_of(writer, &stands.entry),
            epoch: stands.entry.epoch(),
            entry: &stands.entry,
            writer,
        })
    }

    /// The run that owns a child, unless it was removed.
    pub(crate) fn owner(&self, child: &ChildId) -> Option<(NodeRun, &Ownership)> {
        let best = self.best(child)?;
        Some((best.owner, best.entry.ownership()?))
    }

    /// What each log says of a child.
    pub(crate) fn entries_of(&self, child: &ChildId) -> impl Iterator<Item = (NodeRun, &Entry)> {
        self.children
            .get(child)
            .into_iter()
            .flat_map(|record| record.entries.iter().map(|(run, stands)| (*run, &stands.entry)))
    }

    /// The highest epoch that any log names for a child; removals count.
    pub(crate) fn highest_epoch(&self, child: &ChildId) -> Epoch {
        self.best(child).map_or(Epoch::ZERO, |best| best.epoch)
    }

    /// The children that a run owns.
    pub(crate) fn owned_by(&self, run: NodeRun) -> impl Iterator<Item = (&ChildId, &Ownership)> {
        self.owned
            .get(&run)
            .into_iter()
            .flatten()
            .filter_map(|child| self.owner(child).map(|(_, ownership)| (child, ownership)))
    }

    /// All children with their owners.
    pub(crate) fn children(&self) -> impl Iterator<Item = (&ChildId, NodeRun, &Ownership)> {
        self.children
            .keys()
            .filter_map(|child| self.owner(child).map(|(run, ownership)| (child, run, ownership)))
    }

    /// How many children there are.
    pub(crate) fn len(&self) -> usize {
        self.owned.values().map(BTreeSet::len).sum()
    }

    /// Children whose owner's run is not live.
    pub(crate) fn orphans(&self, is_live: impl Fn(NodeRun) -> bool) -> Vec<ChildId> {
        self.owned
            .iter()
            .filter(|(run, _)| !is_live(**run))
            .flat_map(|(_, children)| children.iter().cloned())
            .collect()
    }

    /// A node says that it has a log up to this version.
    pub(crate) fn acknowledged(&mut self, log: NodeRun, by: NodeId, version: u64) {
        if self.logs.contains_key(&log) {
            let acked = self.acked.entry((log, by)).or_default();
            *acked = (*acked).max(version);
        }
    }

    /// Up to which version a node has said that it has a log.
    pub(crate) fn acked(&self, by: NodeId, log: NodeRun) -> u64 {
        self.acked.get(&(log, by)).copied().unwrap_or(0)
    }

    /// Forgets removals that all known nodes have heard of, or that are older than `forget_after`.
    pub(crate) fn expire(
        &mut self,
        now: Instant,
        known: &BTreeSet<NodeId>,
        forget_after: Duration,
    ) {
        while let Some((met, log, version)) = self.removals.front_mut() {
            let (log, version) = (*log, *version);
            let met = *met.get_or_insert(now);
            let mut others =
                known.iter().filter(|node| **node != self.me.node && **node != log.node).peekable();
            // While this node is alone, somebody may be away who has not heard.
            let alone = others.peek().is_none();
            let heard = !alone
                && others
                    .all(|node| self.acked.get(&(log, *node)).is_some_and(|up| *up >= version));
            if !heard && now.saturating_duration_since(met) < forget_after {
                return;
            }
            self.removals.pop_front();
            let Some(state) = self.logs.get_mut(&log) else { continue };
            // Another entry of the child may have taken its place meanwhile.
            let Some(child) = state.by_version.remove(&version) else { continue };
            state.floor = state.floor.max(version);
            self.drop_entry(log, &child);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        child::{ChildSpec, Role},
        id::KindName,
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
        Entry::Owned(Ownership { epoch, born, copied, role, pinned: None, spec })
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
        let writers: Vec<NodeRun> = registry.entries_of(&child(0)).map(|(run, _)| run).collect();
        assert_eq!(writers, [run(2)]);
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

    #[test]
    fn an_absurd_epoch_is_refused_whole() {
        let mut registry = Registry::new(run(1));
        let entry = LogEntry { version: 1, child: child(0), entry: owned(0, u64::MAX) };
        assert_eq!(registry.apply_changes(run(2), 0, 1, vec![entry]), Applied::default());
        assert_eq!(registry.watermark(run(2)), 0);
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
        registry.expire(now, &known, Duration::from_secs(60));
        assert!(registry.best(&child(0)).is_some(), "nobody has heard");
        registry.acknowledged(run(1), run(2).node, 3);
        registry.expire(now, &known, Duration::from_secs(60));
        assert!(registry.best(&child(0)).is_none());
        let mut late = Registry::new(run(2));
        let entry = LogEntry { version: 1, child: child(0), entry: owned(0, 1) };
        late.apply_changes(run(1), 0, 1, vec![entry]);
        for word in registry.since(run(1), 1) {
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
            registry.write(id, owned(0, 1));
        }
        let words = registry.since(run(1), 0);
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
                let words = nodes[at].since(run(at as u8 + 1), from);
                if let Some(word) = words.get(part % words.len().max(1)).cloned() {
                    feed(&mut shuffled, word);
                }
            }
            for at in [0, 1, 2, 0, 2, 1] {
                for word in nodes[at].since(run(at as u8 + 1), 0) {
                    feed(&mut straight, word);
                }
            }
            for at in [2, 1, 0] {
                let log = run(at as u8 + 1);
                for word in nodes[at].since(log, shuffled.watermark(log)) {
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
