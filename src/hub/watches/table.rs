//! Who watches which child on this node. All who watch one child share one entry, which keeps the latest of
//! what is known and no more: who reads slowly is given the newest, and nothing waits for it.
//!
//! To wake a reader, and to drop what it reads from, runs code of users: neither is done in here, where the
//! lock of the table is held. What is to be woken or dropped is given to the caller.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio::sync::watch;

use crate::model::{
    id::ChildId,
    watch::{Sighting, WatchId},
};

/// Names one who listens to what is told, and is no reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListenerId(pub(super) u64);

/// The latest that is known of a child.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Latest {
    /// How often something was told.
    pub(super) count: u64,
    /// `None`: nothing yet.
    pub(super) sighting: Option<Sighting>,
}

/// Those who watch one child.
#[derive(Debug)]
pub(super) struct Entry<L> {
    id: WatchId,
    latest: watch::Sender<Latest>,
    readers: usize,
    listeners: BTreeMap<ListenerId, L>,
}

impl<L> Entry<L> {
    fn is_idle(&self) -> bool {
        self.readers == 0 && self.listeners.is_empty()
    }
}

/// Who is to be told something, once the table is not locked any more.
#[must_use]
#[derive(Debug)]
pub(super) struct Due<L> {
    latest: watch::Sender<Latest>,
    listeners: Vec<L>,
    /// The entry, if nothing more is told through it.
    _over: Option<Entry<L>>,
}

impl<L> Due<L> {
    /// Wakes the readers. Gives those who listen and are to be told.
    pub(super) fn wake(self) -> Vec<L> {
        // It is written already.
        self.latest.send_modify(|_| ());
        self.listeners
    }
}

/// Who watches which child.
#[derive(Debug)]
pub(super) struct Table<L> {
    entries: HashMap<ChildId, Entry<L>>,
    /// Under which number the engine knows that a child is watched.
    known: HashMap<ChildId, WatchId>,
    /// Children of which the engine may know something else than is so.
    changed: BTreeSet<ChildId>,
    watches: u64,
    ended: bool,
}

impl<L> Default for Table<L> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            known: HashMap::new(),
            changed: BTreeSet::new(),
            watches: 0,
            ended: false,
        }
    }
}

impl<L: Clone> Table<L> {
    fn entry(&mut self, child: &ChildId) -> Option<&mut Entry<L>> {
        if self.ended {
            return None;
        }
        if !self.entries.contains_key(child) {
            self.watches += 1;
            self.changed.insert(child.clone());
        }
        let id = WatchId(self.watches);
        let entry = self.entries.entry(child.clone()).or_insert_with(|| Entry {
            id,
            latest: watch::Sender::default(),
            readers: 0,
            listeners: BTreeMap::new(),
        });
        Some(entry)
    }

    /// One more reads what is known of a child, until it is [released](Self::release). `None`: the hub has
    /// stopped.
    pub(super) fn read(&mut self, child: &ChildId) -> Option<(WatchId, watch::Receiver<Latest>)> {
        let entry = self.entry(child)?;
        entry.readers += 1;
        let mut latest = entry.latest.subscribe();
        // What is known already is news for it.
        latest.mark_changed();
        Some((entry.id, latest))
    }

    /// A reader of this watch has gone. Gives what is not needed any more.
    #[must_use]
    pub(super) fn release(&mut self, child: &ChildId, id: WatchId) -> Option<Entry<L>> {
        let entry = self.entries.get_mut(child).filter(|entry| entry.id == id)?;
        entry.readers -= 1;
        self.tidy(child)
    }

    /// One more listens, under an id of its own, until it is told that the child is gone, or listens no more.
    /// Gives what is known already.
    pub(super) fn listen(
        &mut self,
        child: &ChildId,
        id: ListenerId,
        listener: L,
    ) -> Option<Sighting> {
        let entry = self.entry(child)?;
        entry.listeners.insert(id, listener);
        entry.latest.borrow().sighting.clone()
    }

    /// One listens no more. Gives it, and what is not needed any more.
    #[must_use]
    pub(super) fn unlisten(
        &mut self,
        child: &ChildId,
        id: ListenerId,
    ) -> (Option<L>, Option<Entry<L>>) {
        let Some(entry) = self.entries.get_mut(child) else { return (None, None) };
        let removed = entry.listeners.remove(&id);
        (removed, self.tidy(child))
    }

    fn tidy(&mut self, child: &ChildId) -> Option<Entry<L>> {
        if !self.entries.get(child)?.is_idle() {
            return None;
        }
        match self.known.contains_key(child) {
            true => drop(self.changed.insert(child.clone())),
            false => drop(self.changed.remove(child)),
        }
        self.entries.remove(child)
    }

    /// Something else is known of a child. Gives those who are to be told, if anybody watches it.
    pub(super) fn sighted(
        &mut self,
        child: &ChildId,
        id: WatchId,
        sighting: Sighting,
    ) -> Option<Due<L>> {
        let is_gone = sighting == Sighting::Gone;
        if is_gone && self.known.get(child) == Some(&id) {
            // The engine knows it no more.
            self.known.remove(child);
            if !self.entries.contains_key(child) {
                self.changed.remove(child);
            }
        }
        let entry = self.entries.get_mut(child).filter(|entry| entry.id == id)?;
        // Written here, so that who listens or reads from now on has it; nobody is woken yet.
        entry.latest.send_if_modified(|latest| {
            latest.count += 1;
            latest.sighting = Some(sighting);
            false
        });
        let latest = entry.latest.clone();
        let listeners = entry.listeners.values().cloned().collect();
        // Who reads has what was told; who watches from now on watches another child of this id.
        let over = if is_gone { self.entries.remove(child) } else { None };
        Some(Due { latest, listeners, _over: over })
    }

    /// Whether the engine is to be told something.
    pub(super) fn has_news(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What the engine is to be told: under which number each child is watched from now on, if it is.
    pub(super) fn take_news(&mut self) -> Vec<(ChildId, Option<WatchId>)> {
        let mut news = Vec::new();
        for child in std::mem::take(&mut self.changed) {
            let id = self.entries.get(&child).map(|entry| entry.id);
            let known = match id {
                Some(id) => self.known.insert(child.clone(), id),
                None => self.known.remove(&child),
            };
            if known != id {
                news.push((child, id));
            }
        }
        news
    }

    /// Nobody is told anything any more. Gives all that there was.
    #[must_use]
    pub(super) fn end(&mut self) -> Vec<Entry<L>> {
        self.ended = true;
        self.known.clear();
        self.changed.clear();
        std::mem::take(&mut self.entries).into_values().collect()
    }

    /// Children that are watched.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What is kept of children besides.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.known.len() + self.changed.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        child::Epoch,
        id::{NodeId, Origin},
        watch::{ChildStatus, Condition},
    };

    /// Something else is known of a child, and those who read are woken. Gives those who listen.
    fn sighted(
        table: &mut Table<char>,
        child: &ChildId,
        id: WatchId,
        sighting: Sighting,
    ) -> Vec<char> {
        table.sighted(child, id, sighting).map_or_else(Vec::new, Due::wake)
    }

    fn child(n: usize) -> ChildId {
        ChildId::new(format!("c{n}")).expect("a valid id")
    }

    fn at(n: u8) -> Sighting {
        Sighting::There(ChildStatus {
            life: Origin(1),
            node: NodeId::from_key([n; 32]),
            born: Epoch::ZERO,
            condition: Condition::Runs,
        })
    }

    #[test]
    fn all_who_watch_one_child_share_what_the_engine_is_asked_for() {
        let mut table = Table::<char>::default();
        let (first, one) = table.read(&child(0)).expect("it has not ended");
        let (second, other) = table.read(&child(0)).expect("it has not ended");
        table.listen(&child(0), ListenerId(1), 'a');
        assert_eq!((first, table.len()), (second, 1));
        assert_eq!(table.take_news(), [(child(0), Some(first))]);
        assert!(!table.has_news());
        assert_eq!(sighted(&mut table, &child(0), first, at(1)), ['a']);
        assert_eq!(*one.borrow(), *other.borrow());
        assert_eq!(table.listen(&child(0), ListenerId(2), 'b'), Some(at(1)), "it is known");
        let (_, third) = table.read(&child(0)).expect("it has not ended");
        assert!(third.has_changed().expect("it is there"), "what is known is news");
        for _ in 0..3 {
            assert!(!table.has_news());
            drop(table.release(&child(0), first));
        }
        assert_eq!(table.unlisten(&child(0), ListenerId(1)).0, Some('a'));
        assert_eq!(table.unlisten(&child(0), ListenerId(1)).0, None);
        drop(table.unlisten(&child(0), ListenerId(2)));
        assert_eq!(table.take_news(), [(child(0), None)]);
        assert_eq!((table.len(), table.kept()), (0, 0));
    }

    #[test]
    fn the_newest_is_kept_and_how_much_was_told() {
        let mut table = Table::<char>::default();
        let (id, mut latest) = table.read(&child(0)).expect("it has not ended");
        for n in 1..=100 {
            sighted(&mut table, &child(0), id, at(n));
        }
        let read = latest.borrow_and_update().clone();
        assert_eq!(read, Latest { count: 100, sighting: Some(at(100)) });
    }

    #[test]
    fn who_watches_after_the_end_of_a_child_watches_another_one() {
        let mut table = Table::<char>::default();
        let (first, latest) = table.read(&child(0)).expect("it has not ended");
        table.listen(&child(0), ListenerId(1), 'a');
        table.take_news();
        assert_eq!(sighted(&mut table, &child(0), first, Sighting::Gone), ['a']);
        assert_eq!((table.len(), table.kept(), table.has_news()), (0, 0, false));
        assert_eq!(latest.borrow().sighting, Some(Sighting::Gone), "it can still be read");
        let (second, _latest) = table.read(&child(0)).expect("it has not ended");
        assert_ne!(first, second);
        drop(table.release(&child(0), first));
        assert_eq!(table.take_news(), [(child(0), Some(second))], "the first reader was another's");
        assert_eq!(sighted(&mut table, &child(0), first, at(1)), [] as [char; 0]);
        assert_eq!(sighted(&mut table, &child(0), first, Sighting::Gone), [] as [char; 0]);
        assert_eq!((table.len(), table.kept()), (1, 1));
    }

    #[test]
    fn watches_that_come_and_go_leave_nothing_though_the_engine_never_asks() {
        let mut table = Table::<char>::default();
        for n in 0..1_000 {
            let (id, _latest) = table.read(&child(n)).expect("it has not ended");
            drop(table.release(&child(n), id));
        }
        assert_eq!((table.len(), table.kept()), (0, 0));
        // One that the engine knows is kept until it has been told.
        let (first, _latest) = table.read(&child(0)).expect("it has not ended");
        table.take_news();
        drop(table.release(&child(0), first));
        let (second, _latest) = table.read(&child(0)).expect("it has not ended");
        drop(table.release(&child(0), second));
        assert_eq!(table.take_news(), [(child(0), None)]);
        assert_eq!((table.len(), table.kept()), (0, 0));
    }

    #[test]
    fn a_hub_that_has_stopped_keeps_nobody() {
        let mut table = Table::<char>::default();
        let (_, mut latest) = table.read(&child(0)).expect("it has not ended");
        table.listen(&child(1), ListenerId(1), 'a');
        assert_eq!(table.end().len(), 2);
        latest.mark_unchanged();
        assert!(latest.has_changed().is_err(), "nothing comes any more");
        assert!(table.read(&child(0)).is_none());
        assert_eq!(table.listen(&child(0), ListenerId(1), 'a'), None);
        assert_eq!((table.len(), table.kept()), (0, 0));
    }
}
