//! What becomes of a child, for who reads it.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use tokio::sync::watch::{Receiver, error::RecvError};
use tokio_util::sync::ReusableBoxFuture;

use super::{Watches, table::Latest};
use crate::model::{
    id::ChildId,
    watch::{ChildChange, ChildStatus, Sighting, WatchId},
};

/// What becomes of a child, from when [`ChildRef::watch`](crate::ChildRef::watch) was called; a [`Stream`],
/// too.
///
/// The first item is what this node knows of the child, as soon as it knows anything. After
/// [`ChildChange::Stopped`] it ends; it ends without that when the hub stops. Dropping it gives everything
/// back.
///
/// It keeps the newest and no queue: a reader that comes late is told of what is, not of all that was
/// between, and [`missed`](Self::missed) counts that. That the child was stopped is never missed. The hub
/// never waits for a reader.
#[must_use = "what becomes of the child is told to who reads this"]
pub struct ChildWatch {
    child: ChildId,
    watches: Arc<Watches>,
    /// `None`: nothing comes any more.
    reading: Option<Reading>,
    /// What was read last.
    seen: Option<ChildStatus>,
    count: u64,
    missed: u64,
    /// [`ChildChange::Stopped`] is still to be told, of a text that is no id.
    is_nobody: bool,
}

struct Reading {
    id: WatchId,
    next: ReusableBoxFuture<'static, Read>,
}

type Read = (Result<(), RecvError>, Receiver<Latest>);

async fn read(mut latest: Receiver<Latest>) -> Read {
    (latest.changed().await, latest)
}

impl ChildWatch {
    pub(super) fn new(
        child: ChildId,
        watches: Arc<Watches>,
        reads: Option<(WatchId, Receiver<Latest>)>,
    ) -> Self {
        // What is known already is the first that it is to be told; what came before that it does not miss.
        let known = reads.as_ref().map_or(0, |(_, latest)| latest.borrow().count);
        let count = known.saturating_sub(1);
        let reading =
            reads.map(|(id, latest)| Reading { id, next: ReusableBoxFuture::new(read(latest)) });
        Self { child, watches, reading, seen: None, count, missed: 0, is_nobody: false }
    }

    /// Of a text that is no id of a child.
    pub(crate) fn of_nobody(child: ChildId, watches: Arc<Watches>) -> Self {
        let mut watch = Self::new(child, watches, None);
        watch.is_nobody = true;
        watch
    }

    /// The child.
    #[must_use]
    pub fn child(&self) -> &ChildId {
        &self.child
    }

    /// The next change; `None` after [`ChildChange::Stopped`], and when the hub has stopped. May be cancelled
    /// without losing one.
    pub async fn next(&mut self) -> Option<ChildChange> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// How much was passed over since the watch began, as it was read too slowly.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed
    }

    fn end(&mut self) {
        if let Some(Reading { id, .. }) = self.reading.take() {
            self.watches.release(&self.child, id);
        }
    }
}

impl Stream for ChildWatch {
    type Item = ChildChange;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ChildChange>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.is_nobody) {
            return Poll::Ready(Some(ChildChange::Stopped));
        }
        loop {
            let Some(reading) = &mut this.reading else { return Poll::Ready(None) };
            let (outcome, mut latest) = ready!(reading.next.poll(cx));
            let now = latest.borrow_and_update().clone();
            reading.next.set(read(latest));
            if outcome.is_err() {
                this.end();
                continue;
            }
            let Some(sighting) = now.sighting else { continue };
            this.missed += now.count.saturating_sub(this.count + 1);
            this.count = now.count;
            match sighting {
                Sighting::Gone => {
                    this.end();
                    return Poll::Ready(Some(ChildChange::Stopped));
                }
                Sighting::There(status) => {
                    let change = status.change_from(this.seen.as_ref());
                    this.seen = Some(status);
                    if change.is_some() {
                        return Poll::Ready(change);
                    }
                }
            }
        }
    }
}

impl Drop for ChildWatch {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for ChildWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildWatch")
            .field("child", &self.child)
            .field("missed", &self.missed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Mutex,
        task::{Wake, Waker},
    };

    use futures_util::{FutureExt, StreamExt};

    use super::*;
    use crate::model::{
        child::Epoch,
        id::{NodeId, Origin},
        watch::Condition,
    };

    fn node(n: u8) -> NodeId {
        NodeId::from_key([n; 32])
    }

    fn at(n: u8) -> Sighting {
        let (life, born) = (Origin(1), Epoch::ZERO);
        let condition = Condition::Runs;
        Sighting::There(ChildStatus { life, node: node(n), born, condition })
    }

    #[tokio::test]
    async fn who_is_late_is_told_of_what_is_and_of_the_end() {
        let watches = Arc::new(Watches::default());
        let child = ChildId::new("c").expect("a valid id");
        let mut watch = watches.watch(&child);
        let [(_, Some(id))] = watches.news()[..] else { panic!("it is watched") };
        assert_eq!(watch.next().now_or_never(), None, "nothing is known");
        watches.sighted(&child, id, at(1));
        let running = ChildChange::Running { node: node(1), born: Epoch::ZERO };
        assert_eq!(watch.next().await, Some(running.clone()));
        for n in 2..=5 {
            watches.sighted(&child, id, at(n));
        }
        let moved = ChildChange::Moved { from: node(1), to: node(5) };
        assert_eq!(watch.next().await, Some(moved));
        assert_eq!(watch.missed(), 3);
        // There and back.
        watches.sighted(&child, id, at(6));
        watches.sighted(&child, id, at(5));
        assert_eq!(watch.next().now_or_never(), None);
        let mut second = watches.watch(&child);
        let mut other = watches.watch(&child);
        let running = ChildChange::Running { node: node(5), born: Epoch::ZERO };
        assert_eq!(other.next().await, Some(running));
        assert_eq!(other.missed(), 0, "what came before it began is not missed");
        watches.sighted(&child, id, at(1));
        watches.sighted(&child, id, Sighting::Gone);
        let rest: Vec<ChildChange> = StreamExt::collect(watch).await;
        assert_eq!(rest, [ChildChange::Stopped]);
        assert_eq!(second.next().await, Some(ChildChange::Stopped), "though it had read nothing");
        assert_eq!(second.missed(), 2, "what was known when it began, and what came then");
        assert_eq!(second.next().await, None);
        assert_eq!(watches.news(), [], "the engine has ended it");
        let mut third = watches.watch(&child);
        assert_eq!(third.next().now_or_never(), None, "it is another child");
        watches.end();
        assert_eq!(third.next().await, None);
        assert_eq!(watches.watch(&child).next().await, None);
    }

    /// Drops a watch when it is woken.
    struct Dropper {
        watches: Arc<Watches>,
        watch: Mutex<Option<ChildWatch>>,
    }

    impl Wake for Dropper {
        fn wake(self: Arc<Self>) {
            assert!(self.watches.table.try_lock().is_ok(), "whoever is woken may use the watches");
            drop(self.watch.lock().expect("nobody panics").take());
        }
    }

    #[test]
    fn whoever_is_woken_may_drop_a_watch() {
        let child = ChildId::new("c").expect("a valid id");
        let other = ChildId::new("d").expect("a valid id");
        type Act = fn(&Watches, &ChildId, WatchId, ChildWatch);
        let acts: [Act; 4] = [
            |watches, child, id, _watch| watches.sighted(child, id, at(1)),
            |watches, child, id, _watch| watches.sighted(child, id, Sighting::Gone),
            |watches, _, _, _watch| watches.end(),
            |_, _, _, watch| drop(watch),
        ];
        for (n, act) in acts.into_iter().enumerate() {
            for dropped in [&child, &other] {
                let watches = Arc::new(Watches::default());
                let mut watch = watches.watch(&child);
                let [(_, Some(id))] = watches.news()[..] else { panic!("it is watched") };
                let dropped = Mutex::new(Some(watches.watch(dropped)));
                let dropper = Arc::new(Dropper { watches: watches.clone(), watch: dropped });
                let waker = Waker::from(dropper.clone());
                let next = watch.poll_next_unpin(&mut Context::from_waker(&waker));
                assert!(next.is_pending());
                act(&watches, &child, id, watch);
                let is_dropped = dropper.watch.lock().expect("nobody panics").is_none();
                // One that is dropped is woken only where nobody else keeps what it read from.
                assert!(is_dropped || n == 3, "it was woken");
            }
        }
    }
}
