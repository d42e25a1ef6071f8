//! The Actix glue: actors around the engine and the doors, and what users touch.

use std::{
    fmt,
    future::IntoFuture,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use futures_util::future::BoxFuture;

pub(crate) mod arrivals;
mod asking;
pub(crate) mod auto_kind;
mod blocking;
mod bound;
pub(crate) mod builder;
pub(crate) mod child_recipient;
pub(crate) mod child_ref;
pub(crate) mod clock;
pub(crate) mod codec;
pub(crate) mod config;
mod data;
mod data_plane;
mod demand;
mod departed;
pub(crate) mod doors;
mod effects;
mod ends;
mod envelope;
pub(crate) mod events;
pub(crate) mod exchange;
pub(crate) mod expected;
mod fair;
mod farewell;
pub(crate) mod find;
mod first_contact;
pub(crate) mod history;
pub(crate) mod hot_swap;
mod instance;
pub(crate) mod kind;
pub(crate) mod left_state;
mod moves;
mod names;
pub(crate) mod observe;
pub(crate) mod outlet;
pub(crate) mod panics;
pub(crate) mod parcel;
pub(crate) mod parked;
pub(crate) mod parked_requests;
pub(crate) mod paths;
pub(crate) mod peer_lanes;
pub(crate) mod peers;
pub(crate) mod reach;
pub(crate) mod recorder;
pub(crate) mod requests;
pub(crate) mod shutdown;
pub(crate) mod snapshot;
pub(crate) mod state;
mod sweeper;
pub(crate) mod system;
pub(crate) mod takes;
pub(crate) mod tell_all;
mod thread;
pub(crate) mod topics;
pub(crate) mod trace;
mod uptime;
mod validity;
pub(crate) mod waits;
pub(crate) mod watches;
mod worker;
pub(crate) mod writes;

#[cfg(test)]
mod plane_tests;
#[cfg(test)]
mod tests;

use self::{
    bound::Bound,
    child_ref::ChildRef,
    clock::Clock,
    data::Data,
    departed::Departed,
    doors::{Doors, LONGEST_WAIT},
    ends::{Ends, Patience},
    events::{EventStream, Listeners},
    history::History,
    hot_swap::HotSwap,
    kind::Kinds,
    moves::Moves,
    names::Names,
    observe::{Observe, Unanswered},
    outlet::presentable,
    parked::ParkedState,
    parked_requests::{ApplyRequest, DiscardParked, Parked},
    recorder::Recorder,
    requests::{
        Admit, ChildInfo, Children, Drain, HubStopped, Inspect, Inspection, Lookup, Migrate,
        NodeInfo, Nodes, Release, Scope, StartChildren, Stay, StopChildren, Undrain,
    },
    shutdown::ShutdownReport,
    system::{Depart, HubSystem},
    thread::WorkerThread,
    trace::TracePropagator,
    waits::Progress,
    watches::{Watches, stream::ChildWatch},
    worker::Worker,
};
use crate::{
    error::{
        AskNodeError, DiscardError, DrainError, LeaveError, MigrateError, StartChildError,
        StopChildError,
    },
    model::{
        child::{ChildSpec, Epoch},
        departed::DepartedNode,
        event::{EventLevel, HubEvent},
        id::{ChildId, HubName, NodeId, NodeName},
        observe::{Answer, Question},
        parked::ParkedKey,
        report::{StartOutcome, StartReport, StopOutcome, StopReport},
        settings::{OnFailure, Settings},
    },
};

/// A hub on this node: starts, finds, moves and stops children anywhere in the cluster.
///
/// Cheap to clone, and `Send`. Dropping it stops nothing; [`leave`](Self::leave) or
/// [`stop`](Self::stop) do.
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

/// What all parts of a hub share.
pub(crate) struct Shared {
    pub(crate) name: HubName,
    pub(crate) node: NodeId,
    pub(crate) node_name: NodeName,
    pub(crate) settings: Settings,
    pub(crate) kinds: Kinds,
    /// What the app lends to its children.
    pub(crate) data: Data,
    pub(crate) doors: Arc<Doors>,
    /// Who watches which children.
    pub(crate) watches: Arc<Watches>,
    /// `None` once the hub has stopped, so that listeners see the end.
    events: Mutex<Option<Listeners>>,
    addresses: Mutex<Vec<String>>,
    /// What those who wait for the cluster are woken by.
    pub(crate) progress: Progress,
    system: OnceLock<Addr<HubSystem>>,
    workers: OnceLock<Vec<Addr<Worker>>>,
    /// Those of the workers, in the same order.
    threads: OnceLock<Vec<Arc<WorkerThread>>>,
    arbiters: Mutex<Vec<Arbiter>>,
    pub(crate) history: History,
    pub(crate) clock: Clock,
    /// Carries traces from node to node.
    pub(crate) propagator: Option<Arc<dyn TracePropagator>>,
    /// Who is told what happens.
    pub(crate) recorder: OnceLock<Arc<dyn Recorder>>,
    pub(crate) ends: Ends,
    /// How many children were handed over.
    handed_over: AtomicU64,
    /// How nodes are called.
    names: Mutex<Names>,
    /// Which nodes went.
    departed: Mutex<Departed>,
    /// What becomes of many children.
    moves: Mutex<Moves>,
    /// Where states are written that nobody takes.
    pub(crate) leave_dir: Option<PathBuf>,
}

impl Shared {
    pub(crate) fn workers(&self) -> &[Addr<Worker>] {
        self.workers.get().map_or(&[], Vec::as_slice)
    }

    /// The threads of the workers, in their order.
    pub(crate) fn threads(&self) -> &[Arc<WorkerThread>] {
        self.threads.get().map_or(&[], Vec::as_slice)
    }

    /// Something happened: whoever listens is told.
    pub(crate) fn emit(&self, event: HubEvent) {
        let now = self.doors.uptime.now();
        {
            let mut names = lock(&self.names);
            names.event(&event);
            let name = |node| names.of(node);
            lock(&self.departed).event(now, self.clock.at(now), name, &event);
        }
        lock(&self.moves).event(now, &event);
        self.tell(event);
    }

    /// Tells what has become of many children, if it is time to.
    pub(crate) fn tell_moves(&self) {
        let due = lock(&self.moves).due(self.doors.uptime.now());
        due.into_iter().for_each(|event| self.tell(event));
    }

    /// What happened, in words.
    fn words(&self, event: &HubEvent) -> String {
        let names = lock(&self.names);
        event.words(&self.node_name, &|node| names.of(*node))
    }

    fn tell(&self, event: HubEvent) {
        let event = event.brief();
        macro_rules! log {
            ($level:ident) => {
                tracing::$level!(
                    hub = %self.name,
                    node = %self.node_name,
                    event = event.name(),
                    child = event.child().map(tracing::field::display),
                    "{}",
                    self.words(&event),
                )
            };
        }
        match event.level() {
            EventLevel::Debug => log!(debug),
            EventLevel::Info => log!(info),
            EventLevel::Warn => log!(warn),
            EventLevel::Error => log!(error),
        }
        if matches!(event, HubEvent::HandedOver { .. }) {
            self.handed_over.fetch_add(1, Ordering::Relaxed);
        }
        self.history.event(&event);
        if let Some(recorder) = self.recorder.get() {
            recorder.event(&event);
        }
        if let Some(listeners) = &mut *lock(&self.events) {
            listeners.tell(event);
        }
    }

    /// The `HubSystem` has ended. If the hub is not being stopped nobody decides anything any more, so
    /// everybody who waits is told.
    pub(crate) fn system_ended(&self) {
        if self.ends.is_under_way() {
            return;
        }
        tracing::warn!(hub = %self.name, node = %self.node_name, "the hub ends without `stop`");
        if let Some(network) = self.doors.network.get() {
            network.abort();
        }
        self.end();
    }

    /// Everybody who waits is told that the hub has stopped.
    pub(crate) fn end(&self) {
        let rest = lock(&self.moves).rest();
        rest.into_iter().for_each(|event| self.tell(event));
        self.doors.stop();
        self.progress.stopped();
        self.watches.end();
        lock(&self.events).take();
        if let Some(recorder) = self.recorder.get() {
            recorder.stopped();
        }
    }

    /// The nodes that went in the last hour, the latest first.
    pub(crate) fn departed(&self) -> Vec<DepartedNode> {
        lock(&self.departed).list(self.doors.uptime.now())
    }

    /// The nodes whose names are known.
    #[cfg(feature = "admin")]
    pub(crate) fn names(&self) -> Vec<(NodeId, NodeName)> {
        lock(&self.names).known().collect()
    }

    /// How many children this node has handed over since it began.
    pub(crate) fn handed_over(&self) -> u64 {
        self.handed_over.load(Ordering::Relaxed)
    }

    /// This node listens there now, and nowhere else.
    pub(crate) fn listening(&self, addresses: Vec<String>) {
        *lock(&self.addresses) = addresses;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("name", &self.0.name)
            .field("node", &self.0.node_name)
            .finish_non_exhaustive()
    }
}

/// Where a child was started, or is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartedChild {
    /// The node.
    pub node: NodeId,
    /// The epoch at which it runs.
    pub epoch: Epoch,
    /// Whether it was there before, as it may be with [`Hub::ensure_child`].
    pub existed: bool,
}

impl Hub {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The name that all nodes of this cluster share.
    #[must_use]
    pub fn name(&self) -> &HubName {
        &self.0.name
    }

    /// This node.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.0.node
    }

    /// This node's name for people.
    #[must_use]
    pub fn node_name(&self) -> &NodeName {
        &self.0.node_name
    }

    /// The actor behind this handle. Its messages are those of the methods here.
    #[must_use]
    pub fn system(&self) -> Addr<HubSystem> {
        self.0.system.get().expect("set before a hub is given out").clone()
    }

    /// Multiaddrs at which this node listens at this moment, best first, loopback last; what another
    /// node needs as a seed.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        lock(&self.0.addresses).clone()
    }

    /// What was given to [`HubBuilder::data`](crate::HubBuilder::data) on this node, by its type.
    #[must_use]
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.data.get()
    }

    /// Reads something with references to children in it ([`ChildRef`],
    /// [`ChildRecipient`](crate::ChildRecipient)): they are bound to this hub. Not needed inside a child,
    /// whose hub is known.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Counter(u64);
    /// # impl Actor for Counter { type Context = Context<Self>; }
    /// # hot_swap!(Counter, kind = "counter", messages = []);
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = HubSystem::builder("doc").child::<Counter>().start().await?;
    /// let counter: ChildRef<Counter> = hub.child("counter-1");
    /// let stored = serde_json::to_string(&counter)?;
    /// assert_eq!(stored, r#""counter-1""#);
    /// let back: ChildRef<Counter> = hub.bind(|| serde_json::from_str(&stored))?;
    /// assert_eq!(back, counter);
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn bind<R>(&self, read: impl FnOnce() -> R) -> R {
        let _bound = Bound::to(&Arc::downgrade(&self.0));
        read()
    }

    /// Starts a child on the node where it belongs.
    ///
    /// Dropping the future does not take the request back.
    ///
    /// # Errors
    /// [`StartChildError::Exists`] if there is one of this id, else why it does not run.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<StartedChild, StartChildError> {
        let child = spec.id().clone();
        match self.ensure_child(spec).await? {
            StartedChild { existed: true, node, .. } => {
                Err(StartChildError::Exists { child, node })
            }
            started => Ok(started),
        }
    }

    /// Starts a child on the node where it belongs, unless there is one of this id: then that one stays
    /// as it is, whatever its arguments were, and [`StartedChild::existed`] says so. Of many who ask at
    /// once, on whichever nodes, one starts it. It takes one question to the child's home node and the
    /// answer.
    ///
    /// Dropping the future does not take the request back.
    ///
    /// # Errors
    /// [`StartChildError`]: why it does not run.
    pub async fn ensure_child(&self, spec: ChildSpec) -> Result<StartedChild, StartChildError> {
        let child = spec.id().clone();
        let report =
            self.start_children(vec![spec]).await.map_err(|_| StartChildError::HubStopped)?;
        match report.outcomes.into_iter().next() {
            Some((_, StartOutcome::Started { node, epoch })) => {
                Ok(StartedChild { node, epoch, existed: false })
            }
            Some((_, StartOutcome::Exists { node, epoch })) => {
                Ok(StartedChild { node, epoch, existed: true })
            }
            Some((_, StartOutcome::Failed { reason })) => {
                Err(StartChildError::Failed { child, reason })
            }
            None => Err(StartChildError::HubStopped),
        }
    }

    /// A reference to a child of kind `A`, which is started if there is none of this id: with
    /// [`ensure_child`](Self::ensure_child) and no more than id and arguments.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Cart(Vec<String>);
    /// # impl Actor for Cart { type Context = Context<Self>; }
    /// # #[derive(Message, Serialize, Deserialize)]
    /// # #[rtype(result = "usize")]
    /// # struct Put(String);
    /// # impl HubMessage for Put { const NAME: &'static str = "put"; }
    /// # impl Handler<Put> for Cart {
    /// #     type Result = usize;
    /// #     fn handle(&mut self, Put(item): Put, _: &mut Context<Self>) -> usize {
    /// #         self.0.push(item);
    /// #         self.0.len()
    /// #     }
    /// # }
    /// # hot_swap!(Cart, kind = "cart", messages = [Put]);
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = HubSystem::builder("doc").child::<Cart>().start().await?;
    /// let cart = hub.child_or_start::<Cart>("cart-of-ann", ()).await?;
    /// assert_eq!(cart.send(Put("tea".to_owned())).await?, 1);
    /// let same = hub.child_or_start::<Cart>("cart-of-ann", ()).await?;
    /// assert_eq!(same.send(Put("milk".to_owned())).await?, 2);
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StartChildError`]: id or arguments do not have their shape, or why it does not run.
    pub async fn child_or_start<A: HotSwap>(
        &self,
        id: impl AsRef<str>,
        args: A::Args,
    ) -> Result<ChildRef<A>, StartChildError> {
        let spec = ChildSpec::new::<A>(id.as_ref(), args)?;
        self.ensure_child(spec).await?;
        Ok(self.child(id))
    }

    /// Starts many children, each on the node where it belongs. Awaited, tells what became of
    /// each.
    pub fn start_children(&self, specs: impl IntoIterator<Item = ChildSpec>) -> StartRequest {
        let message = StartChildren {
            specs: specs.into_iter().collect(),
            on_failure: OnFailure::default(),
            timeout: None,
        };
        StartRequest { hub: self.clone(), message }
    }

    /// Stops a child for good, wherever it runs. Tells the node on which it was.
    ///
    /// # Errors
    /// [`StopChildError`]: there is none, or it could not be reached in time.
    pub async fn stop_child(&self, id: impl AsRef<str>) -> Result<NodeId, StopChildError> {
        let child = match ChildId::new(id.as_ref()) {
            Ok(child) => child,
            Err(_) => {
                let child = presentable(id.as_ref());
                return Err(StopChildError::NotFound { child });
            }
        };
        let report =
            self.stop_children([child.clone()]).await.map_err(|_| StopChildError::HubStopped)?;
        match report.outcomes.into_iter().next() {
            Some((_, StopOutcome::Stopped { node })) => Ok(node),
            Some((_, StopOutcome::Timeout)) => Err(StopChildError::Timeout { child }),
            Some((_, StopOutcome::Busy { node })) => Err(StopChildError::Busy { child, node }),
            _ => Err(StopChildError::NotFound { child }),
        }
    }

    /// Stops many children for good. Awaited, tells what became of each.
    pub fn stop_children(&self, children: impl IntoIterator<Item = ChildId>) -> StopRequest {
        let message = StopChildren { children: children.into_iter().collect(), timeout: None };
        StopRequest { hub: self.clone(), message }
    }

    /// A reference to a child of kind `A`, which need not exist yet.
    ///
    /// A text that is no child id (1 to 256 bytes without control characters) gives a reference
    /// whose messages are all refused with `NoSuchChild`.
    #[must_use]
    pub fn child<A: HotSwap>(&self, id: impl AsRef<str>) -> ChildRef<A> {
        ChildRef::new(self.0.clone(), id.as_ref())
    }

    /// Where a child is, by what this node knows. `None`: there is none of this id, or it has not heard of
    /// it. May be cancelled.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn lookup(&self, id: impl AsRef<str>) -> Result<Option<ChildInfo>, HubStopped> {
        let Ok(child) = ChildId::new(id) else { return Ok(None) };
        self.system().send(Lookup(child)).await.map_err(|_| HubStopped)?
    }

    /// Watches a child of whatever kind, as [`ChildRef::watch`] does. A text that is no child id gives a watch
    /// of one that there is not.
    pub fn watch(&self, id: impl AsRef<str>) -> ChildWatch {
        match ChildId::new(id.as_ref()) {
            Ok(child) => self.0.watches.watch(&child),
            Err(_) => ChildWatch::of_nobody(presentable(id.as_ref()), self.0.watches.clone()),
        }
    }

    /// The children of this node, or of all nodes, by what this node knows; by id. May be cancelled.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn children(&self, scope: Scope) -> Result<Vec<ChildInfo>, HubStopped> {
        self.system().send(Children(scope)).await.map_err(|_| HubStopped)?
    }

    /// The nodes that are in, this one included, and those that want to come in
    /// ([`NodeState::Joining`](crate::NodeState::Joining)), as this node sees them; by id.
    /// May be cancelled.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn nodes(&self) -> Result<Vec<NodeInfo>, HubStopped> {
        self.system().send(Nodes).await.map_err(|_| HubStopped)?
    }

    /// Nodes and children at one moment.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn inspect(&self) -> Result<Inspection, HubStopped> {
        self.system().send(Inspect).await.map_err(|_| HubStopped)?
    }

    /// Moves a child to a node with its state, and binds it there: no rebalance moves it back, until it is
    /// [`release`](Self::release)d. Awaited, gives the epoch at which it runs there.
    pub fn migrate(&self, child: impl AsRef<str>, to: NodeId) -> MigrateRequest {
        let id = ChildId::new(child.as_ref());
        let message = id.map(|child| Migrate { child, to, forced: false, timeout: None });
        let shown = presentable(child.as_ref());
        MigrateRequest { hub: self.clone(), message: message.map_err(|_| shown) }
    }

    /// Binds a child to no node any more, after a [`migrate`](Self::migrate): the distribution says again
    /// where it belongs, and it goes there with its state. Does nothing for a child that is not bound. Awaited,
    /// ends when the child's node has released it, and does not wait for the move that may follow.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Room;
    /// # impl Actor for Room { type Context = Context<Self>; }
    /// # hot_swap!(Room, kind = "room", messages = []);
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let hub = HubSystem::builder("doc").child::<Room>().start().await?;
    /// # hub.start_child(ChildSpec::new::<Room>("lobby", ())?).await?;
    /// hub.migrate("lobby", hub.node_id()).await?;
    /// // Maintenance is over.
    /// hub.release("lobby").await?;
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn release(&self, child: impl AsRef<str>) -> ReleaseRequest {
        let message = ChildId::new(child.as_ref()).map(|child| Release { child, timeout: None });
        let shown = presentable(child.as_ref());
        ReleaseRequest { hub: self.clone(), message: message.map_err(|_| shown) }
    }

    /// Admits a node from now on: puts it on the allow list if the hub was started with one, else
    /// takes a [`block`](Self::block) back. It is dialled at once if it is known.
    ///
    /// Lasts until the hub stops. Dropping the future does not take it back.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn allow(&self, node: NodeId) -> Result<(), HubStopped> {
        let message = Admit { node, is_admitted: true };
        self.ask(message).await?
    }

    /// Admits a node no more: takes it off the allow list if the hub was started with one, else blocks
    /// it. Its link is closed, it is not dialled, its connections are closed before anything is
    /// said, and its words count for nothing, those that other nodes pass on included.
    ///
    /// A member that is blocked stays in as long as another member hears it, and while this node
    /// does not hear a member it takes no decisions about children. So a block is to be given **on
    /// every node**, the blocked one excepted: then that node goes down like one that fell silent, its
    /// children are started anew elsewhere, and it goes on alone, as after a split.
    ///
    /// Lasts until the hub stops. Does nothing for this node itself. Dropping the future does not take
    /// it back.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn block(&self, node: NodeId) -> Result<(), HubStopped> {
        let message = Admit { node, is_admitted: false };
        self.ask(message).await?
    }

    /// Hands every child over to the other nodes, leaves the cluster and stops the hub.
    ///
    /// A node that has begun to leave takes no children, and goes on handing over what it can when
    /// this has failed: what is out stays out. Call it again and it goes on where it was, or take it
    /// back with [`stay`](Self::stay).
    ///
    /// It ends when each message that this node had sent to another has its reply, and each answer of
    /// this node was heard: within `Settings::leave_timeout`, and ten seconds more. What is sent after
    /// that is refused as [`NotHandled::HubStopped`](crate::NotHandled::HubStopped).
    ///
    /// Dropping the future does not take it back, and does not keep the hub from ending: call it again
    /// to wait for it.
    ///
    /// # Errors
    /// [`LeaveError`]: the node is still in, with the children that it names.
    pub async fn leave(&self) -> Result<(), LeaveError> {
        let left = self.ask(Depart { timeout: None }).await;
        match left.unwrap_or(Err(LeaveError::HubStopped)) {
            // It had left already.
            Err(LeaveError::HubStopped) if self.0.ends.has_left() => {}
            left => left?,
        }
        self.stop().await;
        Ok(())
    }

    /// Takes a [`leave`](Self::leave) back that is under way, or has failed: this node takes children
    /// again. Whoever waits for the leave is told [`LeaveError::Stayed`]. Does nothing for a node that
    /// does not leave. Dropping the future does not take it back.
    ///
    /// # Errors
    /// The hub has stopped, or is about to, as everything is handed over.
    pub async fn stay(&self) -> Result<(), HubStopped> {
        self.ask(Stay).await?
    }

    /// Empties this node, which stays in: for maintenance. Every child is handed over, none starts
    /// here or moves here, and this node is home to children, votes and sends messages as before. All
    /// nodes see it ([`NodeInfo::is_draining`]). Awaited, waits until nothing is left here that would be
    /// lost; a child that waits for its next start may still be registered here.
    ///
    /// It lasts until [`undrain`](Self::undrain), or until this run of the node ends. Dropping the
    /// future does not take it back; call it again to wait for it, or when it has failed: what is out
    /// stays out.
    pub fn drain(&self) -> DrainRequest {
        DrainRequest { hub: self.clone(), message: Drain::default() }
    }

    /// Takes a [`drain`](Self::drain) back: this node takes children again, unless it leaves. Whoever
    /// waits for it is told [`DrainError::Undrained`]. Dropping the future does not take it back.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn undrain(&self) -> Result<(), HubStopped> {
        self.ask(Undrain).await?
    }

    /// Has a node drained, this one or another, as by its own [`drain`](Self::drain). Tells how many
    /// children it had when it began; [`nodes`](Self::nodes) and [`children`](Self::children) show how
    /// far it is, and its events what came of it. Dropping the future does not take it back.
    ///
    /// # Errors
    /// [`AskNodeError`]: it was not asked, has not answered, or has refused.
    pub async fn drain_node(&self, node: NodeId) -> Result<u64, AskNodeError> {
        self.ask_drain(node, true).await
    }

    /// Has a node take children again that is drained, this one or another. Dropping the future does
    /// not take it back.
    ///
    /// # Errors
    /// [`AskNodeError`]: it was not asked, or has not answered.
    pub async fn undrain_node(&self, node: NodeId) -> Result<(), AskNodeError> {
        self.ask_drain(node, false).await.map(drop)
    }

    async fn ask_drain(&self, node: NodeId, on: bool) -> Result<u64, AskNodeError> {
        let nodes = self.nodes().await.map_err(|HubStopped| AskNodeError::HubStopped)?;
        if !nodes.iter().any(|info| info.id == node && info.is_member()) {
            return Err(AskNodeError::NotMember { node });
        }
        let asked = self.ask(Observe { node, question: Question::Drain { on } });
        match tokio::time::timeout(self.settings().request_timeout, asked).await {
            Ok(Ok(Ok(Answer::Drain { children, begins: true }))) => Ok(children),
            Ok(Ok(Ok(Answer::Drain { children, begins: false }))) => {
                Err(AskNodeError::NoSuccessor { node, children })
            }
            Ok(Ok(Err(Unanswered::NotAsked))) => Err(AskNodeError::NotAsked { node }),
            Ok(Ok(_)) | Err(_) => Err(AskNodeError::NoAnswer { node }),
            Ok(Err(_)) => Err(AskNodeError::HubStopped),
        }
    }

    /// Ends this node as an app's end should: hands every child over and leaves, within
    /// `Settings::shutdown_deadline`, and ends in any case. What an app calls at SIGTERM.
    ///
    /// Alone, or with nobody who takes its children, it just ends; where a node is about to come in, or to
    /// take children again, that is waited for, two heartbeats at most. It ends at the deadline as well,
    /// with whatever is left then: started handlers are cut off, their callers are told
    /// [`MaybeHandled`](crate::HubSendError::MaybeHandled), and states go into files if
    /// [`HubBuilder::leave_dir`](crate::HubBuilder::leave_dir) is set. While there is time handlers may
    /// end by themselves, for `HotSwapOptions::retention` where nobody takes the children. The report
    /// says what became of all.
    ///
    /// The other nodes are told of that end at once, behind every reply that was on its way: they start
    /// anew what nobody took, and give their next owners the messages that were not begun here.
    ///
    /// It has ended four seconds after the deadline at the latest, whatever handlers do. One that holds
    /// its thread is named, and is left behind with it; then neither its child's state nor those of
    /// other children on that thread can be had.
    ///
    /// From its begin on whatever is asked of this hub is answered as [`HubStopped`]; messages of this
    /// node are sent on until its children are out. Dropping the future does not take it back; a
    /// second call joins the first, with its deadline.
    ///
    /// ```no_run
    /// # async fn end(hub: actix_hub::Hub) -> Result<(), actix_hub::HubStopped> {
    /// let report = hub.shutdown().await?;
    /// println!("{} handed over, {} lost", report.handed_over, report.lost.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Awaited, [`HubStopped`]: the hub was stopped before.
    pub fn shutdown(&self) -> ShutdownRequest {
        ShutdownRequest { hub: self.clone(), deadline: self.settings().shutdown_deadline }
    }

    /// Stops this node's hub without handing anything over: its children end, and the other nodes
    /// start them anew. Nothing is sent any more; what was sent before is handled, if its child takes it
    /// within two seconds. Whoever waits for a reply then is told `HubStopped`. Ends within about twelve
    /// seconds, whatever its children do.
    ///
    /// An Actix system that ends without it ends the hub, too: every caller is told `HubStopped`, and
    /// the other nodes find out as if this one had crashed.
    ///
    /// Dropping the future does not take it back. Any number of callers may wait for it, on any
    /// runtime; but not on the arbiter of a child, which ends with it.
    pub async fn stop(&self) {
        self.0.ends.stop(&self.0, Patience::long()).wait().await;
    }

    /// Waits until the hub has stopped, whoever wished it: the app, or an administrator who asked
    /// the node to leave. May be cancelled.
    pub async fn stopped(&self) {
        let mut events = self.events();
        while events.next().await.is_some() {}
    }

    /// What happened, in words, with the names of nodes that have come in: what the hub writes into its
    /// log. `Display` of an event says the same without names.
    #[must_use]
    pub fn describe(&self, event: &HubEvent) -> String {
        self.0.words(event)
    }

    /// What happens from now on, as this node sees it. It begins with a [`HubEvent::NodeJoined`] for each
    /// other member that is in already, by id, so that whoever listens knows all of them, and their names.
    #[must_use]
    pub fn events(&self) -> EventStream {
        lock(&self.0.events).as_ref().map_or_else(EventStream::ended, Listeners::listen)
    }

    /// The states that are parked on this node, the oldest first: see [`ParkedState`]. Other nodes may
    /// hold others. May be cancelled.
    ///
    /// # Errors
    /// The hub has stopped.
    pub async fn parked_states(&self) -> Result<Vec<ParkedState>, HubStopped> {
        self.system().send(Parked).await.map_err(|_| HubStopped)?
    }

    /// Gives a parked state of this node to its child, wherever that runs: merges the two, or with
    /// [`replace`](ApplyRequest::replace) puts it in the place of the child's own. Then nobody keeps it
    /// any more. Dropping the future does not take it back.
    pub fn apply_parked(&self, key: &ParkedKey) -> ApplyRequest {
        ApplyRequest::new(self.clone(), key.clone())
    }

    /// Discards a parked state of this node: no node keeps it any more.
    ///
    /// A node that cannot be reached now is told so when it can, if that is within
    /// `Settings::forget_after`.
    ///
    /// # Errors
    /// [`DiscardError::NotHeld`]: this node does not hold it.
    pub async fn discard_parked(&self, key: &ParkedKey) -> Result<(), DiscardError> {
        let message = DiscardParked(key.clone());
        self.ask(message).await.map_err(|_| DiscardError::HubStopped)?
    }
}

/// Children that are to be started. Nothing happens until it is awaited.
#[derive(Debug)]
#[must_use = "nothing is started until it is awaited"]
pub struct StartRequest {
    hub: Hub,
    message: StartChildren,
}

impl StartRequest {
    /// What becomes of the others when one fails; they are started all the same unless set.
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.message.on_failure = on_failure;
        self
    }

    /// How long to wait; `Settings::request_timeout` unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.message.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for StartRequest {
    type Output = Result<StartReport, HubStopped>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.hub.ask(self.message).await? })
    }
}

/// Children that are to be stopped. Nothing happens until it is awaited.
#[derive(Debug)]
#[must_use = "nothing is stopped until it is awaited"]
pub struct StopRequest {
    hub: Hub,
    message: StopChildren,
}

impl StopRequest {
    /// How long to wait; `Settings::request_timeout` unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.message.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for StopRequest {
    type Output = Result<StopReport, HubStopped>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.hub.ask(self.message).await? })
    }
}

/// This node is to be emptied. Nothing happens until it is awaited.
#[derive(Debug)]
#[must_use = "nothing is handed over until it is awaited"]
pub struct DrainRequest {
    hub: Hub,
    message: Drain,
}

impl DrainRequest {
    /// How long to wait; `Settings::leave_timeout` unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.message.timeout = Some(timeout);
        self
    }
}

impl IntoFuture for DrainRequest {
    type Output = Result<(), DrainError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let drained = self.hub.ask(self.message).await;
            drained.unwrap_or(Err(DrainError::HubStopped))
        })
    }
}

/// This node is to end. Nothing happens until it is awaited.
#[derive(Debug)]
#[must_use = "nothing ends until it is awaited"]
pub struct ShutdownRequest {
    hub: Hub,
    deadline: Duration,
}

impl ShutdownRequest {
    /// After how long what is left is forced; `Settings::shutdown_deadline` unless set, at most a day.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.deadline = timeout.min(LONGEST_WAIT);
        self
    }
}

impl IntoFuture for ShutdownRequest {
    type Output = Result<ShutdownReport, HubStopped>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.hub.0.ends.shut_down(&self.hub, self.deadline).await })
    }
}

/// A child that is to be moved. Nothing happens until it is awaited.
#[derive(Debug)]
#[must_use = "nothing is moved until it is awaited"]
pub struct MigrateRequest {
    hub: Hub,
    message: Result<Migrate, ChildId>,
}

impl MigrateRequest {
    /// Cuts handlers off that run on after `retention`; their callers are told that their message
    /// may have been handled.
    pub fn forced(mut self) -> Self {
        if let Ok(message) = &mut self.message {
            message.forced = true;
        }
        self
    }

    /// How long to wait; `Settings::request_timeout` unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let Ok(message) = &mut self.message {
            message.timeout = Some(timeout);
        }
        self
    }
}

impl IntoFuture for MigrateRequest {
    type Output = Result<Epoch, MigrateError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let message = self.message.map_err(|child| MigrateError::NotFound { child })?;
            self.hub.ask(message).await.map_err(|_| MigrateError::HubStopped)?
        })
    }
}

/// A child that is to be released. Nothing happens until it is awaited; dropping it then does not take it
/// back.
#[derive(Debug)]
#[must_use = "nothing is released until it is awaited"]
pub struct ReleaseRequest {
    hub: Hub,
    message: Result<Release, ChildId>,
}

impl ReleaseRequest {
    /// How long to wait; `Settings::request_timeout` unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let Ok(message) = &mut self.message {
            message.timeout = Some(timeout);
        }
        self
    }
}

impl IntoFuture for ReleaseRequest {
    /// Of the errors, [`MigrateError::NoSuchNode`] is none of these.
    type Output = Result<(), MigrateError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let message = self.message.map_err(|child| MigrateError::NotFound { child })?;
            self.hub.ask(message).await.map_err(|_| MigrateError::HubStopped)?
        })
    }
}
