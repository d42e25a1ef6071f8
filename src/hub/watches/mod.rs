//! Watches: what became of a child is told to all who watch it on this node, wherever it runs.
//!
//! What is to be told is decided by the engine; here is who is told. Who watches is in `table`. A reader
//! (`stream`) takes the newest when it comes to it; a child that watches (`instance`) is given a message.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use actix::prelude::*;

pub(crate) mod instance;
pub(crate) mod stream;
mod table;
pub(crate) mod terminated;

use self::{
    stream::ChildWatch,
    table::{Due, ListenerId, Table},
};
use crate::model::{
    id::ChildId,
    watch::{Sighting, WatchId},
};

/// Children are watched on this node, or are not any more: see [`Watches::news`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WatchesChanged;

/// Who is told of a child, and is no reader.
pub(crate) trait Listener: Send + Sync {
    /// Something else is known of the child. Returns at once, and runs no code of users.
    fn tell(&self, sighting: &Sighting);
}

/// The watches of a hub.
#[derive(Default)]
pub(crate) struct Watches {
    table: Mutex<Table<Arc<dyn Listener>>>,
    listeners: AtomicU64,
    /// Who is told that other children are watched.
    pub(crate) system: OnceLock<Recipient<WatchesChanged>>,
    /// It was told, and has not asked yet.
    told: AtomicBool,
}

impl Watches {
    fn lock(&self) -> MutexGuard<'_, Table<Arc<dyn Listener>>> {
        // A panic under a lock is a defect of ours; the others go on.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The system is told of news, once until it asks for them.
    fn tell(&self, has_news: bool) {
        if has_news
            && !self.told.swap(true, Ordering::AcqRel)
            && let Some(system) = self.system.get()
        {
            // Of a hub that has ended nobody wants to know.
            system.do_send(WatchesChanged);
        }
    }

    /// Watches a child for who reads what becomes of it.
    pub(crate) fn watch(self: &Arc<Self>, child: &ChildId) -> ChildWatch {
        let (read, has_news) = {
            let mut table = self.lock();
            (table.read(child), table.has_news())
        };
        self.tell(has_news);
        ChildWatch::new(child.clone(), self.clone(), read)
    }

    fn release(&self, child: &ChildId, id: WatchId) {
        // Dropped without the lock.
        let (_entry, has_news) = {
            let mut table = self.lock();
            (table.release(child, id), table.has_news())
        };
        self.tell(has_news);
    }

    /// A name for one who is going to listen.
    fn listener(&self) -> ListenerId {
        ListenerId(self.listeners.fetch_add(1, Ordering::Relaxed))
    }

    /// Has somebody told what becomes of a child. Gives what is known already.
    fn listen(
        &self,
        child: &ChildId,
        id: ListenerId,
        listener: Arc<dyn Listener>,
    ) -> Option<Sighting> {
        let (known, has_news) = {
            let mut table = self.lock();
            (table.listen(child, id, listener), table.has_news())
        };
        self.tell(has_news);
        known
    }

    fn unlisten(&self, child: &ChildId, id: ListenerId) {
        // Dropped without the lock.
        let (_removed, has_news) = {
            let mut table = self.lock();
            (table.unlisten(child, id), table.has_news())
        };
        self.tell(has_news);
    }

    /// Which children are watched from now on, and under which number, since this was asked last.
    pub(crate) fn news(&self) -> Vec<(ChildId, Option<WatchId>)> {
        // First: who changes something after this tells again.
        self.told.store(false, Ordering::Release);
        self.lock().take_news()
    }

    /// Something else is known of a child.
    pub(crate) fn sighted(&self, child: &ChildId, id: WatchId, sighting: Sighting) {
        let due = self.lock().sighted(child, id, sighting.clone());
        // Without the lock: who is woken or told may watch others then, or no more.
        let listeners = due.map_or_else(Vec::new, Due::wake);
        listeners.iter().for_each(|listener| listener.tell(&sighting));
    }

    /// The hub has stopped: nothing is told any more.
    pub(crate) fn end(&self) {
        // Dropped without the lock.
        let _entries = self.lock().end();
    }
}
