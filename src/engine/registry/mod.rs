//! Who owns what: the merge of all nodes' logs.
//!
//! Each node run writes a log of its own and no other; of each child only the newest entry stands
//! in it. A log is known up to a contiguous version, its watermark. What is known of a child is
//! the highest entry of all logs; lower ones are dominated and are passed on only to who does not have
//! the highest. Merging commutes, associates and repeats harmlessly.
//!
//! What the logs say of each child is in `table`, and is looked through by `search`; how far each log is known, here and elsewhere, in
//! `log`; `changes` takes in what others say and makes what they are told; `expiry` forgets.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    time::{Duration, Instant},
};

mod changes;
mod expiry;
mod log;
mod search;
mod table;
#[cfg(test)]
pub(super) mod tests;

pub(crate) use self::{
    changes::{Applied, Part},
    search::{Among, Searched},
    table::Best,
};
use self::{
    changes::{Intake, part},
    expiry::Expiry,
    log::Logs,
    table::{Record, Table},
};
use super::away::Away;
use crate::model::{
    child::{Entry, Epoch, Ownership},
    id::{ChildId, NodeId, NodeRun, Tag},
    member::{Member, View},
    message::{Doubtful, LogEntry, Recall, Watermark},
};

/// Who owns what, as one node knows it.
///
/// What is asked about one child, one owner or the orphans costs what it returns, not the number
/// of children.
#[derive(Debug)]
pub(crate) struct Registry {
    me: NodeRun,
    logs: Logs,
    table: Table,
    expiry: Expiry,
    /// Entries that were skipped, by the log they stand in, and not told of yet.
    refused: BTreeMap<NodeRun, u64>,
    /// Who is not in, and may come back.
    pub(crate) away: Away,
}

impl Registry {
    /// A registry that knows no child; its own log is that of `me`.
    pub(crate) fn new(me: NodeRun) -> Self {
        Self {
            me,
            logs: Logs::new(me),
            table: Table::default(),
            expiry: Expiry::default(),
            refused: BTreeMap::new(),
            away: Away::default(),
        }
    }

    /// What is known here of a child that a member has and doubts. What members that have just come in have
    /// said since, of themselves and of runs that are gone, does not count.
    pub(crate) fn recall(
        &self,
        asker: NodeRun,
        Doubtful { child, first, since }: &Doubtful,
        is_live: impl Fn(NodeRun) -> bool,
    ) -> Recall {
        let is_old = |Watermark { log, version }| version <= self.before(log, &is_live);
        let is_known =
            |(log, version)| log != asker && is_live(log) || is_old(Watermark { log, version });
        let stood =
            |mark: &Watermark| is_old(*mark) && mark.version <= self.logs.witnessed(mark.log);
        if self.table.first_of(child).is_some_and(is_old)
            || self.table.positions_of(child).any(is_known)
        {
            Recall::Known
        } else if stood(first) || stood(since) {
            Recall::Forgotten
        } else if self.table.first_of(child).is_some() {
            Recall::Heard
        } else {
            Recall::Never
        }
    }

    /// Up to which version a log was known before those came in who are new in this view.
    fn before(&self, log: NodeRun, is_live: impl Fn(NodeRun) -> bool) -> u64 {
        let before = if log == self.me { None } else { self.away.before(log, is_live(log)) };
        before.unwrap_or(u64::MAX).min(self.watermark(log))
    }

    /// The children of which this node's own word is the latest, and those of which a run's is that is gone,
    /// if it was here before those came in who are new in this view.
    pub(crate) fn doubtful(
        &self,
        is_live: impl Fn(NodeRun) -> bool,
    ) -> impl Iterator<Item = Doubtful> {
        self.table.last_said(move |writer, version| {
            writer == self.me || !is_live(writer) && version <= self.before(writer, &is_live)
        })
    }

    /// Says anew what this node, or a run that is gone, has said of a child last: somebody has forgotten it.
    /// `None`: that is the word of a member.
    pub(crate) fn say_anew(
        &mut self,
        child: &ChildId,
        is_live: impl Fn(NodeRun) -> bool,
    ) -> Option<()> {
        let best = self.table.best(child)?;
        let entry = match best.entry {
            entry if best.writer == self.me => entry.clone(),
            _ if is_live(best.writer) => return None,
            // The child stays whose it was: it is begun elsewhere like every other whose owner is gone. Above
            // what is known, as lower entries are not passed on.
            entry => {
                let epoch = best.epoch.next_attempt();
                let ownership = Ownership { epoch, ..entry.ownership()?.clone() };
                Entry::Moved { to: best.owner, ownership }
            }
        };
        self.write(child.clone(), entry);
        Some(())
    }

    /// There is another view: up to where logs are known now is what was known before its members that are
    /// new came in.
    pub(crate) fn viewed(&mut self, before: &View, view: &View) {
        let Self { me, logs, away, .. } = self;
        let came = |run: NodeRun| run != *me && view.is_live(run) && !before.is_live(run);
        let may_bring = away.is_anyone_noted();
        away.viewed(
            |run| view.is_live(run),
            |run| view.member(run.node).is_some_and(|member| member.run() != run),
        );
        for run in view.members.values().map(Member::run).filter(|run| came(*run)) {
            let version = logs.watermark(run);
            away.is_back(run, version);
            // It may have been with one that is away, or be the next run of its node.
            if may_bring && version == 0 {
                away.note(run);
            }
        }
        logs.watermarks()
            .filter(|Watermark { log, .. }| log != me && !view.is_live(*log))
            .for_each(|Watermark { log, version }| away.is_gone(log, version));
    }

    /// Whose registry this is.
    pub(crate) fn me(&self) -> NodeRun {
        self.me
    }

    /// Writes into the own log.
    pub(crate) fn write(&mut self, child: ChildId, entry: Entry) {
        let version = self.logs.next_own();
        self.table.put(child, Record::new(self.me, version, entry));
    }

    /// The version of the own log.
    pub(crate) fn version(&self) -> u64 {
        self.watermark(self.me)
    }

    /// Up to which version a log is known.
    pub(crate) fn watermark(&self, log: NodeRun) -> u64 {
        self.logs.watermark(log)
    }

    /// Below which version a log is passed on as a snapshot only.
    pub(crate) fn floor(&self, log: NodeRun) -> u64 {
        self.logs.floor(log)
    }

    /// The watermarks that others need to know: of the own log, which comes first, of those with
    /// entries, and of those that a node which was in lately has written. Of a log in which nothing
    /// was ever written there is nothing to know.
    pub(crate) fn watermarks(&self) -> Vec<Watermark> {
        let others = self.logs.watermarks().filter(|Watermark { log, version }| {
            *log != self.me
                && *version > 0
                && (self.table.stands_in(*log)
                    || self.expiry.knows(log.node) && !self.logs.is_kept(*log))
        });
        iter::once(Watermark { log: self.me, version: self.version() }).chain(others).collect()
    }

    /// How far the logs of runs that are gone are known, where entries of theirs stand: `most` at most.
    pub(crate) fn gone_logs(
        &self,
        most: usize,
        is_live: impl Fn(NodeRun) -> bool,
    ) -> Vec<Watermark> {
        let gone = self
            .logs
            .watermarks()
            .filter(|Watermark { log, .. }| self.table.stands_in(*log) && !is_live(*log));
        gone.take(most).collect()
    }

    /// What changed in a log after a version, in parts of about 200 KiB, made as they are asked
    /// for. Nothing if there is nothing newer.
    ///
    /// Below the floor the first part is a snapshot that replaces what its receiver has up to the
    /// part's end.
    #[cfg(test)]
    pub(crate) fn changes_since(&self, log: NodeRun, from: u64) -> impl Iterator<Item = Part> {
        let mut next = (from, false);
        iter::from_fn(move || {
            let part = self.part(log, next.0, next.1, changes::PART_BYTES, None)?;
            next = (part.upto, true);
            Some(part)
        })
    }

    /// What changed in a log after a version: one part of it, of about 200 KiB, or of `most` bytes, or
    /// one entry. Below the floor that is a snapshot, which replaces what its receiver has up to the
    /// part's end; `continued` says that the floor was passed already, by an earlier part. What the run
    /// `to` which it is told has said that it has is not told again by lower entries.
    pub(crate) fn part(
        &self,
        log: NodeRun,
        from: u64,
        continued: bool,
        most: usize,
        to: Option<NodeRun>,
    ) -> Option<Part> {
        part(&self.table, &self.logs, log, from, continued, most, to)
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
        self.intake().changes(log, from, upto, entries)
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
        self.intake().snapshot(log, upto, entries, more)
    }

    /// Takes in the beginning of a log whose writer is gone, up to `upto`, as a member passes it on. What is
    /// held of it stays: that the member has it no more does not say that it ever had it. Whether it was
    /// stopped is asked, see [`recall`](Self::recall).
    pub(crate) fn apply_passed_on(
        &mut self,
        log: NodeRun,
        upto: u64,
        entries: Vec<LogEntry>,
    ) -> Applied {
        self.intake().passed_on(log, upto, entries)
    }

    fn intake(&mut self) -> Intake<'_> {
        let Self { me, logs, table, refused, away, .. } = self;
        Intake { me: *me, table, logs, refused, away }
    }

    /// A run says that a log stands at this version, or above. There is always room for the log of
    /// who says so itself.
    pub(crate) fn told_by(&mut self, run: NodeRun, log: NodeRun, version: u64) {
        if run == log && log != self.me {
            self.logs.named(log, version);
        }
    }

    /// A run says that its own log stands at this version, now that it is in. If more of it is here
    /// than it ever named, others have told what it never wrote: it is all dropped, to be told anew.
    /// Else what it writes next would be taken for old. Gives the children of which it said something.
    pub(crate) fn correct(&mut self, run: NodeRun, version: u64) -> BTreeSet<ChildId> {
        self.told_by(run, run, version);
        if run == self.me || !self.logs.is_beyond_named(run) {
            return BTreeSet::new();
        }
        let standing = self.table.standing(run, 0, u64::MAX);
        let children: BTreeSet<ChildId> = standing.map(|(_, child)| child.clone()).collect();
        for child in &children {
            self.table.take(child, run);
        }
        self.logs.restart(run);
        self.away.forget(run);
        children
    }

    /// How many entries of which logs were skipped since this was asked last.
    pub(crate) fn take_refused(&mut self) -> BTreeMap<NodeRun, u64> {
        std::mem::take(&mut self.refused)
    }

    /// The highest entry of a child, removals included.
    pub(crate) fn best(&self, child: &ChildId) -> Option<Best<'_>> {
        self.table.best(child)
    }

    /// Who owns a child. A child that was handed over is its successor's at once.
    pub(crate) fn owner(&self, child: &ChildId) -> Option<(NodeRun, &Ownership)> {
        self.table.owner(child)
    }

    /// The version of the own log at which it says something of a child. 0: it says nothing that
    /// counts.
    pub(crate) fn own_version(&self, child: &ChildId) -> u64 {
        self.table.version_of(child, self.me).unwrap_or(0)
    }

    /// What each log says of a child.
    pub(crate) fn entries_of(&self, child: &ChildId) -> impl Iterator<Item = (NodeRun, &Entry)> {
        self.table.entries_of(child)
    }

    /// The highest epoch that is known of a child, removals included.
    pub(crate) fn highest_epoch(&self, child: &ChildId) -> Epoch {
        self.table.highest_epoch(child)
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
        self.table.owned_behind(run, id)
    }

    /// All children that are not removed.
    pub(crate) fn children(&self) -> impl Iterator<Item = (&ChildId, NodeRun, &Ownership)> {
        self.children_behind(None)
    }

    /// How many children there are, removed ones not counted.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// How many children a run owns.
    pub(crate) fn count_of(&self, run: NodeRun) -> usize {
        self.table.count_of(run)
    }

    /// The children with ids behind this one that are not removed.
    pub(crate) fn children_behind(
        &self,
        id: Option<&ChildId>,
    ) -> impl Iterator<Item = (&ChildId, NodeRun, &Ownership)> {
        self.table.children_behind(id)
    }

    /// One step of a search among these children, from behind this id on: what `take` makes of them, `most`
    /// of it at most. A step looks at no more than 1,000.
    pub(crate) fn search<'a, T>(
        &'a self,
        among: Among<'_>,
        behind: Option<&ChildId>,
        most: usize,
        take: impl FnMut(&'a ChildId, NodeRun, &'a Ownership) -> Option<T>,
    ) -> Searched<T> {
        let ids = self.table.ids_behind(among, behind);
        search::step(ids, |child| self.table.owner(child), most, take)
    }

    /// How many children have a tag.
    pub(crate) fn count_tagged(&self, tag: &Tag) -> usize {
        self.table.count_tagged(tag)
    }

    /// The runs of a node that own children.
    pub(crate) fn runs_of(&self, node: NodeId) -> impl Iterator<Item = NodeRun> {
        self.table.runs_of(node)
    }

    /// The children whose owners are not live, by owner and id, behind this one.
    pub(crate) fn orphans_behind<'a>(
        &'a self,
        is_live: impl Fn(NodeRun) -> bool + 'a,
        last: Option<&'a (NodeRun, ChildId)>,
    ) -> impl Iterator<Item = (NodeRun, &'a ChildId)> {
        let owners = self.table.owners_from(last.map(|(owner, _)| *owner));
        owners.filter(move |owner| !is_live(*owner)).flat_map(move |owner| {
            let behind = last.filter(|(last, _)| *last == owner).map(|(_, child)| child);
            self.table.owned_behind(owner, behind).map(move |(child, _)| (owner, child))
        })
    }

    /// A run of another node has this log up to this version.
    pub(crate) fn acknowledged(&mut self, log: NodeRun, by: NodeRun, version: u64) {
        self.logs.acknowledged(log, by, version);
    }

    /// Up to which version a node has said that it has a log.
    pub(crate) fn acked(&self, by: NodeId, log: NodeRun) -> u64 {
        self.logs.acked(by, log)
    }

    /// A node has ended and forgotten everything: no removal is kept for its sake.
    pub(crate) fn gone(&mut self, node: NodeId) {
        self.expiry.gone(node);
    }

    /// Forgets what nobody needs any more. Cheap if called often: it looks once a second, and goes on
    /// while it [`is_expiring`](Self::is_expiring).
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
        let Self { expiry, table, logs, away, .. } = self;
        expiry.sweep(now, known, forget_after, table, logs, away);
    }

    /// Whether more can be forgotten than one step does: [`expire`](Self::expire) is wanted at once.
    pub(crate) fn is_expiring(&self) -> bool {
        self.expiry.is_under_way()
    }
}
