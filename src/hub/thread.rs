//! Whose code the thread of a worker runs, to name who holds it.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use xxhash_rust::xxh3::xxh3_64;

use super::Shared;
use crate::model::id::ChildId;

/// The thread of a worker as other threads see it.
#[derive(Debug, Default)]
pub(crate) struct WorkerThread {
    name: OnceLock<String>,
    /// The tag of the child whose code it runs; 0: of none.
    runs: AtomicU64,
}

/// A child by a number: writing it down costs nothing for each turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u64);

impl Tag {
    pub(crate) fn of(child: &ChildId) -> Self {
        Self(xxh3_64(child.as_str().as_bytes()).max(1))
    }
}

impl WorkerThread {
    /// This thread is the worker's.
    pub(crate) fn begin(&self) {
        let name = std::thread::current().name().unwrap_or("a thread without a name").to_owned();
        // A worker begins once.
        let _ = self.name.set(name);
    }

    /// Runs code of a child.
    pub(crate) fn run<T>(&self, child: Tag, act: impl FnOnce() -> T) -> T {
        // Put back when the code panics, too.
        let _before = Before { runs: &self.runs, tag: self.runs.swap(child.0, Ordering::Relaxed) };
        act()
    }

    /// The name that the system shows for it.
    pub(crate) fn name(&self) -> &str {
        self.name.get().map_or("a thread that has not begun", String::as_str)
    }

    /// The child whose code it runs.
    pub(crate) fn runs(&self) -> Option<Tag> {
        let tag = self.runs.load(Ordering::Relaxed);
        (tag != 0).then_some(Tag(tag))
    }
}

/// What a thread ran before; runs it again when this is dropped.
struct Before<'a> {
    runs: &'a AtomicU64,
    tag: u64,
}

impl Drop for Before<'_> {
    fn drop(&mut self) {
        self.runs.store(self.tag, Ordering::Relaxed);
    }
}

impl Shared {
    /// Threads that run code of a child now: each with the child, if its door is still known.
    pub(crate) fn held_threads(&self) -> Vec<(&str, Option<ChildId>)> {
        let runs = self.threads().iter().map(|thread| (thread.name(), thread.runs()));
        runs.filter_map(|(name, runs)| runs.map(|tag| (name, self.child_of(tag)))).collect()
    }

    /// The child with this tag.
    pub(crate) fn child_of(&self, tag: Tag) -> Option<ChildId> {
        let cells = self.doors.all();
        cells.iter().map(|cell| &cell.child).find(|child| Tag::of(child) == tag).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_names_the_child_whose_code_it_runs_and_none_afterwards() {
        let tag = |name: &str| Tag::of(&ChildId::new(name).expect("an id"));
        let thread = WorkerThread::default();
        assert_eq!((thread.runs(), thread.name()), (None, "a thread that has not begun"));
        thread.begin();
        assert_eq!(thread.name(), std::thread::current().name().expect("a test has a name"));
        thread.run(tag("outer"), || {
            assert_eq!(thread.runs(), Some(tag("outer")));
            thread.run(tag("inner"), || assert_eq!(thread.runs(), Some(tag("inner"))));
            assert_eq!(thread.runs(), Some(tag("outer")));
        });
        assert_eq!(thread.runs(), None);
    }

    #[test]
    fn a_thread_does_not_run_a_child_any_more_whose_code_panicked() {
        let thread = WorkerThread::default();
        let tag = Tag::of(&ChildId::new("c").expect("an id"));
        let act = || thread.run(tag, || panic!("on purpose"));
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).expect_err("it panics");
        assert_eq!(thread.runs(), None);
    }
}
