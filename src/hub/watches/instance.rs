//! The children that one instance of a child watches: from when it has started until it ends.

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use actix::{dev::MessageResponse, prelude::*};
use bytes::Bytes;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{
    Listener, Watches,
    table::ListenerId,
    terminated::{Terminated, TerminatedReason, end_of},
};
use crate::{
    delivery::{Body, SendFailure},
    error::NotHandled,
    hub::{
        envelope::{Call, Envelope, Ran},
        trace::handling_from,
        validity::Validity,
    },
    model::{id::ChildId, watch::Sighting},
};

/// Hands a message to the actor, whose type it knows.
type Deliver = fn(Terminated, &mut dyn Any, &mut dyn Any) -> Ran;

/// Wakes the actor.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// The watches of one instance, and the ends that it is still to be told of: one for each watch at most. They
/// are no messages in the queue of its door: that may be full, and goes elsewhere when the child moves, where
/// the next instance has watches of its own.
pub(crate) struct InstanceWatches {
    watches: Arc<Watches>,
    state: Mutex<State>,
    /// Whether there may be ends to be told of.
    has_due: AtomicBool,
}

enum State {
    /// It was made and has not started. While a child moves, the older instance may be the one that goes
    /// on: this one is told nothing yet.
    Made(BTreeMap<ChildId, Wanted>),
    Runs(Running),
    Ended,
}

struct Running {
    wake: Wake,
    watched: BTreeMap<ChildId, Watched>,
    /// Those of them that have ended, in the order in which that was told.
    due: VecDeque<ChildId>,
}

#[derive(Clone, Copy)]
struct Wanted {
    deliver: Deliver,
    is_id: bool,
}

struct Watched {
    id: ListenerId,
    deliver: Deliver,
    was_up: bool,
    /// How the child has ended.
    end: Option<TerminatedReason>,
}

impl InstanceWatches {
    pub(crate) fn new(watches: Arc<Watches>) -> Arc<Self> {
        let state = Mutex::new(State::Made(BTreeMap::new()));
        Arc::new(Self { watches, state, has_due: AtomicBool::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under a lock is a defect of ours; the others go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instance, an actor of type `A`, watches a child, if it has not ended. `is_id`: whether that is an
    /// id and not a text which cannot be one; such a child has ended.
    pub(crate) fn watch<A>(self: &Arc<Self>, child: &ChildId, is_id: bool)
    where
        A: Actor<Context = Context<A>> + Handler<Terminated>,
    {
        let wanted = Wanted { deliver: deliver::<A>, is_id };
        match &mut *self.lock() {
            State::Made(made) => drop(made.insert(child.clone(), wanted)),
            State::Runs(running) if running.watched.contains_key(child) => {}
            State::Runs(running) => self.begin_one(child, wanted, running),
            State::Ended => {}
        }
    }

    /// The instance watches a child no more, and is not told of its end if it was not yet.
    pub(crate) fn unwatch(&self, child: &ChildId) {
        match &mut *self.lock() {
            State::Made(made) => drop(made.remove(child)),
            State::Runs(running) => {
                let watch = running.watched.remove(child);
                if watch.as_ref().is_some_and(|watch| watch.end.is_some()) {
                    running.due.retain(|due| due != child);
                } else if let Some(watch) = watch {
                    self.watches.unlisten(child, watch.id);
                }
            }
            State::Ended => {}
        }
    }

    /// The instance has started, and is woken by this when it is to be told something.
    pub(crate) fn begin(self: &Arc<Self>, wake: Wake) {
        let mut state = self.lock();
        let State::Made(made) = &mut *state else { return };
        let made = std::mem::take(made);
        let mut running = Running { wake, watched: BTreeMap::new(), due: VecDeque::new() };
        for (child, wanted) in made {
            self.begin_one(&child, wanted, &mut running);
        }
        *state = State::Runs(running);
    }

    fn begin_one(
        self: &Arc<Self>,
        child: &ChildId,
        Wanted { deliver, is_id }: Wanted,
        running: &mut Running,
    ) {
        let id = self.watches.listener();
        running.watched.insert(child.clone(), Watched { id, deliver, was_up: false, end: None });
        let known = match is_id {
            true => {
                let ear = Ear { of: Arc::downgrade(self), child: child.clone(), id };
                self.watches.listen(child, id, Arc::new(ear))
            }
            false => Some(Sighting::Gone),
        };
        if let Some(sighting) = known {
            self.learn(child, id, &sighting, running);
        }
    }

    /// Something else is known of a child: if that is its end, the actor is told when it comes to it.
    fn learn(&self, child: &ChildId, id: ListenerId, sighting: &Sighting, running: &mut Running) {
        let watch = running.watched.get_mut(child);
        let watch = watch.filter(|watch| watch.id == id && watch.end.is_none());
        let Some(watch) = watch else { return };
        let Some(reason) = end_of(sighting, &mut watch.was_up) else { return };
        watch.end = Some(reason);
        running.due.push_back(child.clone());
        self.watches.unlisten(child, id);
        self.has_due.store(true, Ordering::Release);
        (running.wake)();
    }

    /// Whether the actor may have to be told something.
    pub(crate) fn has_due(&self) -> bool {
        self.has_due.load(Ordering::Acquire)
    }

    /// The next end that the actor is told of, now.
    pub(crate) fn next(&self) -> Option<Envelope> {
        let State::Runs(Running { watched, due, .. }) = &mut *self.lock() else { return None };
        let child = due.pop_front();
        if due.is_empty() {
            self.has_due.store(false, Ordering::Release);
        }
        let child = child?;
        let Watched { deliver, end, .. } = watched.remove(&child)?;
        let message = Some(Terminated::new(child, end?));
        Some(Envelope::of(Notice { message, deliver }))
    }

    /// The instance has ended.
    pub(crate) fn end(&self) {
        let state = std::mem::replace(&mut *self.lock(), State::Ended);
        self.has_due.store(false, Ordering::Release);
        if let State::Runs(running) = state {
            for (child, watch) in running.watched.iter().filter(|(_, watch)| watch.end.is_none()) {
                self.watches.unlisten(child, watch.id);
            }
        }
    }
}

/// One watch of an instance, as the hub knows it.
struct Ear {
    of: Weak<InstanceWatches>,
    child: ChildId,
    id: ListenerId,
}

impl Listener for Ear {
    fn tell(&self, sighting: &Sighting) {
        if let Some(of) = self.of.upgrade()
            && let State::Runs(running) = &mut *of.lock()
        {
            of.learn(&self.child, self.id, sighting, running);
        }
    }
}

/// The end of a child, on its way to the actor that watched it.
struct Notice {
    message: Option<Terminated>,
    deliver: Deliver,
}

impl Notice {
    fn unsendable() -> NotHandled {
        NotHandled::Encode("it is for the child on this node alone".to_owned())
    }
}

impl Call for Notice {
    fn encode(&mut self) -> Result<Bytes, NotHandled> {
        Err(Self::unsendable())
    }

    fn body(&mut self) -> Result<Body, NotHandled> {
        Err(Self::unsendable())
    }

    fn untold(&self) -> Option<&str> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn stays(&self) -> bool {
        true
    }

    fn resolve(&mut self, _: Result<Bytes, SendFailure>) {}

    fn run(
        &mut self,
        child: &ChildId,
        actor: &mut dyn Any,
        ctx: &mut dyn Any,
        _: &Validity,
    ) -> Ran {
        let Some(message) = self.message.take() else { return Ran::Done };
        let span = handling_from(None, None, child, "actix_hub.terminated");
        span.in_scope(|| (self.deliver)(message, actor, ctx))
    }
}

fn deliver<A>(message: Terminated, actor: &mut dyn Any, ctx: &mut dyn Any) -> Ran
where
    A: Actor<Context = Context<A>> + Handler<Terminated>,
{
    let (Some(actor), Some(ctx)) = (actor.downcast_mut::<A>(), ctx.downcast_mut::<Context<A>>())
    else {
        return Ran::Done;
    };
    let (tx, mut rx) = oneshot::channel();
    actor.handle(message, ctx).handle(ctx, Some(tx));
    match rx.try_recv() {
        Err(TryRecvError::Empty) => Ran::Later(Box::pin(async move {
            // Nobody waits for its reply, but a move waits for its end.
            let _ = rx.await;
            let nothing: Box<dyn FnOnce() + Send> = Box::new(|| {});
            nothing
        })),
        Ok(()) | Err(TryRecvError::Closed) => Ran::Done,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::model::{
        child::Epoch,
        id::{NodeId, Origin},
        watch::{ChildStatus, Condition, WatchId},
    };

    struct Guard(Vec<Terminated>);

    impl Actor for Guard {
        type Context = Context<Self>;
    }

    impl Handler<Terminated> for Guard {
        type Result = ();

        fn handle(&mut self, ended: Terminated, _: &mut Context<Self>) {
            self.0.push(ended);
        }
    }

    fn child(name: &str) -> ChildId {
        ChildId::new(name).expect("a valid id")
    }

    fn runs() -> Sighting {
        let node = NodeId::from_key([1; 32]);
        let (life, born, condition) = (Origin(1), Epoch::ZERO, Condition::Runs);
        Sighting::There(ChildStatus { life, node, born, condition })
    }

    struct Bench {
        watches: Arc<Watches>,
        instance: Arc<InstanceWatches>,
        woken: Arc<AtomicUsize>,
    }

    impl Bench {
        fn new() -> Self {
            let watches = Arc::<Watches>::default();
            let instance = InstanceWatches::new(watches.clone());
            Self { watches, instance, woken: Arc::default() }
        }

        fn begin(&self) {
            let woken = self.woken.clone();
            let wake = move || {
                woken.fetch_add(1, Ordering::Relaxed);
            };
            self.instance.begin(Arc::new(wake));
        }

        fn woken(&self) -> usize {
            self.woken.swap(0, Ordering::Relaxed)
        }

        /// What the engine was told since this was asked last.
        fn news(&self) -> Vec<(ChildId, Option<WatchId>)> {
            self.watches.news()
        }

        /// What the actor is told.
        fn told(&self) -> Vec<Terminated> {
            let (mut actor, mut ctx) = (Guard(Vec::new()), Context::<Guard>::new());
            let uptime = Arc::new(crate::hub::uptime::Uptime::new());
            let validity = Validity::new(uptime, std::time::Duration::from_secs(9));
            while let Some(notice) = self.instance.next() {
                notice.run(&child("guard"), &mut actor, &mut ctx, &validity);
            }
            assert!(!self.instance.has_due());
            actor.0
        }
    }

    fn stopped(name: &str) -> Terminated {
        Terminated::new(child(name), TerminatedReason::Stopped)
    }

    #[test]
    fn what_is_watched_before_the_start_is_watched_from_the_start_on() {
        let bench = Bench::new();
        for name in ["a", "b"] {
            bench.instance.watch::<Guard>(&child(name), true);
        }
        bench.instance.unwatch(&child("b"));
        assert_eq!(bench.news(), [], "it may never start");
        bench.begin();
        let [(watched, Some(id))] = &bench.news()[..] else { panic!("one is watched") };
        assert_eq!(*watched, child("a"));
        bench.watches.sighted(&child("a"), *id, runs());
        assert_eq!((bench.woken(), bench.instance.has_due()), (0, false));
        bench.watches.sighted(&child("a"), *id, Sighting::Gone);
        assert_eq!((bench.woken(), bench.instance.has_due()), (1, true));
        assert_eq!(bench.told(), [stopped("a")]);
        assert_eq!((bench.told(), bench.news()), (vec![], vec![]), "once");
    }

    #[test]
    fn each_watch_is_told_of_one_end_and_none_that_was_taken_back() {
        let bench = Bench::new();
        bench.begin();
        let mut reader = bench.watches.watch(&child("a"));
        for _ in 0..3 {
            bench.instance.watch::<Guard>(&child("a"), true);
        }
        let [(_, Some(id))] = bench.news()[..] else { panic!("they share it") };
        bench.watches.sighted(&child("a"), id, Sighting::Gone);
        bench.instance.unwatch(&child("a"));
        assert_eq!(bench.told(), [], "it was on its way");
        bench.instance.watch::<Guard>(&child("a"), true);
        let [(_, Some(again))] = bench.news()[..] else { panic!("it is watched anew") };
        assert_ne!(id, again);
        bench.watches.sighted(&child("a"), again, Sighting::Gone);
        assert_eq!(bench.told(), [stopped("a")]);
        bench.instance.watch::<Guard>(&child("no id"), false);
        assert_eq!((bench.told(), bench.news()), (vec![stopped("no id")], vec![]));
        use futures_util::FutureExt;
        assert!(reader.next().now_or_never().is_some());
    }

    #[test]
    fn who_has_ended_is_told_nothing_and_leaves_nothing() {
        let bench = Bench::new();
        bench.begin();
        for name in ["a", "b"] {
            bench.instance.watch::<Guard>(&child(name), true);
        }
        let news = bench.news();
        let (_, Some(id)) = &news[0] else { panic!("it is watched") };
        bench.watches.sighted(&child("a"), *id, Sighting::Gone);
        bench.instance.end();
        assert_eq!((bench.told(), bench.instance.has_due()), (vec![], false));
        assert_eq!(bench.news(), [(child("b"), None)], "nobody watches the other any more");
        bench.instance.watch::<Guard>(&child("c"), true);
        bench.instance.unwatch(&child("c"));
        assert_eq!(bench.news(), []);
    }
}
