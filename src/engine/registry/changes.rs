//! What changed in a log: in parts for others, and as it is taken in from them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::away::Away,
    log::{Advance, Logs},
    table::{Record, Table},
};
use crate::model::{
    child::{Entry, Epoch},
    id::{ChildId, NodeRun},
    message::{LogEntry, SyncWord, Watermark},
};

/// Encoded bytes after which a part ends. One entry always goes through.
pub(super) const PART_BYTES: usize = 200 << 10;

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

/// The part of a log behind `from`, of `most` bytes at most, or one entry: a snapshot if `from` is
/// below the floor, unless it was passed already and this is a further part (`continued`). `None`: there
/// is nothing newer.
///
/// An entry that is dominated is left out only if its receiver `to` has what dominates it, or that is a
/// removal: the receiver believes that it has all of this log, and if the other log is lost before it
/// comes, nobody would tell it of the child.
pub(super) fn part(
    table: &Table,
    logs: &Logs,
    log: NodeRun,
    from: u64,
    continued: bool,
    most: usize,
    to: Option<NodeRun>,
) -> Option<Part> {
    let most = most.min(PART_BYTES);
    let version = logs.watermark(log);
    if from >= version {
        return None;
    }
    let snapshot = from < logs.floor(log) && !continued;
    let from = if snapshot { 0 } else { from };
    let (mut upto, mut size, mut entries) = (version, 0, Vec::new());
    let is_there = |at: Watermark| {
        to.is_some_and(|to| to == at.log || logs.acked_by_run(to, at.log) >= at.version)
    };
    for (version, child) in table.standing(log, from, u64::MAX) {
        let Some(entry) = table.entry_to_tell(child, log, is_there) else {
            continue;
        };
        let more = encoded_size(child, entry);
        if !entries.is_empty() && size + more > most {
            upto = version - 1;
            break;
        }
        size += more;
        entries.push(LogEntry { version, child: child.clone(), entry: entry.clone() });
    }
    let word = if snapshot {
        SyncWord::Snapshot { log, upto, entries, more: upto < version }
    } else {
        SyncWord::Changes { log, from, upto, entries }
    };
    // The word around its entries: two versions, a run, names.
    Some(Part { word, upto, size: size + 160 })
}

/// Takes in what others say of logs.
#[derive(Debug)]
pub(super) struct Intake<'a> {
    pub(super) me: NodeRun,
    pub(super) table: &'a mut Table,
    pub(super) logs: &'a mut Logs,
    /// Entries that were skipped, by log.
    pub(super) refused: &'a mut BTreeMap<NodeRun, u64>,
    /// Who has come back.
    pub(super) away: &'a Away,
}

impl Intake<'_> {
    /// What changed between two versions of a log.
    pub(super) fn changes(
        mut self,
        log: NodeRun,
        from: u64,
        upto: u64,
        entries: Vec<LogEntry>,
    ) -> Applied {
        let mut applied = Applied::default();
        if from > upto || !self.is_acceptable(log, from, upto, &entries) {
            return applied;
        }
        let version = self.logs.watermark(log);
        if from > version {
            applied.gap = Some(Watermark { log, version });
            return applied;
        }
        if let Some(advance) = self.logs.advance(log, from, upto) {
            self.replace(log, advance, entries, &mut applied.changed);
        }
        applied
    }

    /// The beginning of a log, up to `upto`.
    pub(super) fn snapshot(
        mut self,
        log: NodeRun,
        upto: u64,
        entries: Vec<LogEntry>,
        more: bool,
    ) -> Applied {
        let mut applied = Applied::default();
        // A complete snapshot of less than is known here says nothing new.
        let is_known = !more && upto <= self.logs.watermark(log);
        if !is_known && self.is_acceptable(log, 0, upto, &entries) {
            let advance = self.logs.begin_snapshot(log, upto);
            self.replace(log, advance, entries, &mut applied.changed);
        }
        applied
    }

    /// The beginning of a log, up to `upto`, from somebody else than its writer.
    pub(super) fn passed_on(mut self, log: NodeRun, upto: u64, entries: Vec<LogEntry>) -> Applied {
        let mut applied = Applied::default();
        if self.is_acceptable(log, 0, upto, &entries)
            && let Some(advance) = self.logs.advance(log, 0, upto)
        {
            self.logs.raise_floor(log, upto);
            self.replace(log, advance, entries, &mut applied.changed);
        }
        applied
    }

    fn is_acceptable(&self, log: NodeRun, from: u64, upto: u64, entries: &[LogEntry]) -> bool {
        let mut last = from;
        let ascending = entries.iter().all(|entry| {
            let next = entry.version > last && entry.version <= upto;
            last = entry.version;
            next
        });
        log != self.me && self.logs.has_room(log) && upto <= Epoch::LIMIT && ascending
    }

    fn replace(
        &mut self,
        log: NodeRun,
        advance: Advance,
        entries: Vec<LogEntry>,
        changed: &mut BTreeSet<ChildId>,
    ) {
        if let Some((from, upto)) = advance.replaces {
            self.drop_unnamed(log, from, upto, &entries, changed);
        }
        for entry in entries.into_iter().filter(|entry| entry.version > advance.known) {
            self.merge(log, entry, changed);
        }
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
        let held = self.table.standing(log, from, upto);
        let gone = held.filter(|(version, _)| !named.contains(version));
        let gone: Vec<ChildId> = gone.map(|(_, child)| child.clone()).collect();
        for child in gone {
            self.table.take(&child, log);
            changed.insert(child);
        }
    }

    fn merge(&mut self, log: NodeRun, entry: LogEntry, changed: &mut BTreeSet<ChildId>) {
        if !self.is_possible(&entry) {
            *self.refused.entry(log).or_default() += 1;
            return;
        }
        let LogEntry { version, child, entry } = entry;
        let held = self.table.version_of(&child, log);
        // What was known before its writer went away for long, and is here no more, was dropped with
        // reason: the removal itself may be forgotten.
        if held.is_none() && self.away.is_dropped(log, version) {
            return;
        }
        if held.is_none_or(|held| held < version) {
            changed.insert(child.clone());
            self.table.put(child, Record::new(log, version, entry));
        }
    }

    /// Whether an entry can be what became of its child: its epoch is not far above the highest
    /// that is known of it.
    fn is_possible(&self, entry: &LogEntry) -> bool {
        entry.entry.epoch().can_follow(self.table.highest_epoch(&entry.child))
            && entry.entry.ownership().is_none_or(|ownership| {
                ownership.born.is_plausible()
                    && ownership.copied.is_plausible()
                    && *ownership.spec.id() == entry.child
            })
    }
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
