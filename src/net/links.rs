//! All links of one node: its network thread, what it tells, and the handle on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    runtime,
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Announcement, BulkDone, DataPlane, LinkTraffic, NetConfig, NetError, NetEvent, Network,
    SendRefused,
    carrier::{Carrier, CarrierEvent, Connection, DialFailure},
    control::CloseWord,
    greet::{GreetFailure, Greeted, Greeter},
    link::LinkContext,
    outbox::{Done, Outbox, Transfer},
    peer::{Backoff, HIGHER_WAITS, Peer},
};
use crate::{
    model::{
        id::{NodeId, NodeRun},
        message::{BulkHeader, PeerMessage},
    },
    wire,
};

/// How many dials may be under way; further ones wait for their turn.
const PENDING_DIALS: usize = 16;
/// How many accepted connections may be in their greeting; further ones are closed.
const PENDING_GREETINGS: usize = 128;
/// How many connections of one peer may be in their greeting or wait to be judged.
pub(super) const CANDIDATES: usize = 4;
/// How many refusals are remembered, so that each is told once.
const TOLD: usize = 1_024;
/// So many dials in a row that are accepted and come to nothing are told.
const SILENT_IN_A_ROW: u32 = 3;
/// How many nodes seen on the LAN are dialled.
const FOUND: usize = 256;
/// How many events a carrier may be ahead.
const CARRIER_EVENTS: usize = 256;

/// What the tasks of one node share.
pub(super) struct Links {
    pub(super) me: NodeId,
    config: NetConfig,
    greeter: Greeter,
    pub(super) context: LinkContext,
    carrier: Arc<dyn Carrier>,
    announcement: watch::Sender<Option<Announcement>>,
    /// Rises whenever a link stands or is closed.
    pub(super) changes: watch::Sender<u64>,
    peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
    dials: Semaphore,
    /// How often in a row dials to these addresses were accepted and came to nothing.
    silent: Mutex<BTreeMap<String, u32>>,
    /// The refusals that were told.
    told: Mutex<BTreeSet<Told>>,
    /// Nobody dials or listens any more; what is queued is flushed.
    pub(super) stop: CancellationToken,
    deadline: Mutex<Duration>,
    runtime: runtime::Handle,
}

/// A refusal that was told: of a node if it is known, else of an address.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    node: Option<NodeId>,
    address: Option<String>,
    reason: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is under these locks is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a dial, a Hello and other answers of a peer's network may take.
pub(super) fn answer_deadline(heartbeat: Duration) -> Duration {
    (heartbeat * 5).clamp(Duration::from_secs(2), Duration::from_secs(10))
}

impl Links {
    /// How long a dial and a Hello may take.
    pub(super) fn deadline(&self) -> Duration {
        self.greeter.deadline
    }

    /// How long an old link may take to show that it is alive.
    pub(super) fn probe_patience(&self) -> Duration {
        self.config.heartbeat.max(Duration::from_millis(500))
    }

    /// Tells the hub, unless this node stops first.
    pub(super) async fn tell(&self, event: NetEvent) {
        tokio::select! {
            biased;
            _ = self.context.events.send(event) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Tells of a refusal, once for each peer and reason.
    async fn tell_refused(&self, node: Option<NodeId>, address: Option<String>, reason: String) {
        let known_as = if node.is_some() { None } else { address.clone() };
        let is_new = {
            let mut told = lock(&self.told);
            if told.len() >= TOLD {
                told.clear();
            }
            told.insert(Told { node, address: known_as, reason: reason.clone() })
        };
        if is_new {
            let peer = node.map(|node| node.short());
            tracing::warn!(peer, address, reason, "not admitted");
            self.tell(NetEvent::Refused { node, address, reason }).await;
        }
    }

    /// Tells of a greeting that failed.
    pub(super) async fn tell_failure(&self, node: NodeId, address: &str, failure: &GreetFailure) {
        match failure {
            GreetFailure::Refused(reason) => {
                self.tell_refused(Some(node), Some(address.to_owned()), reason.clone()).await;
            }
            GreetFailure::Fenced(incarnation) => {
                tracing::warn!(peer = %node.short(), address, "this node's incarnation is fenced");
                self.tell(NetEvent::Fenced { incarnation: *incarnation }).await;
            }
            GreetFailure::Duplicate => {
                tracing::debug!(peer = %node.short(), address, "another connection is in use");
            }
            GreetFailure::Broken(reason) => {
                tracing::debug!(peer = %node.short(), address, reason, "no link");
            }
        }
    }

    /// Dials; one of at most [`PENDING_DIALS`], within the deadline.
    pub(super) async fn dial(
        &self,
        node: Option<NodeId>,
        addresses: Vec<String>,
    ) -> Result<Connection, DialFailure> {
        let _turn = self.dials.acquire().await;
        let text = addresses.join(" ");
        let dial = timeout(self.deadline(), self.carrier.dial(node, addresses));
        let outcome = match dial.await {
            Ok(outcome) => outcome,
            Err(_) => Err(DialFailure::Unreachable("no answer within the deadline".to_owned())),
        };
        if let Err(failure) = &outcome {
            tracing::debug!(address = text, %failure, "dial failed");
        }
        let reason = match &outcome {
            Err(DialFailure::Insecure(_)) => Some(
                "no secure channel could be agreed: the secrets differ, or it is no node of a hub",
            ),
            // Secrets that differ can look like a node that hangs; one that hangs for so long is
            // worth a word as well.
            Err(DialFailure::Silent) if self.count_silent(&text) => Some(
                "it accepts connections and agrees on no secure channel: the secrets differ, or \
                 it hangs",
            ),
            _ => None,
        };
        match reason {
            Some(reason) => self.tell_refused(node, Some(text), reason.to_owned()).await,
            None if matches!(outcome, Err(DialFailure::Silent)) => {}
            None => drop(lock(&self.silent).remove(&text)),
        }
        outcome
    }

    /// Counts a dial that was accepted and came to nothing. True: it is one of several in a row.
    fn count_silent(&self, addresses: &str) -> bool {
        let mut silent = lock(&self.silent);
        if silent.len() >= TOLD {
            silent.clear();
        }
        let count = silent.entry(addresses.to_owned()).or_default();
        *count += 1;
        *count >= SILENT_IN_A_ROW
    }

    /// Greets the other end of a connection and hands it to the peer's keeper.
    pub(super) async fn admit(self: &Arc<Self>, connection: Connection) -> Result<NodeId, ()> {
        let (node, address) = (connection.peer, connection.address.clone());
        match self.greeter.greet(connection).await {
            Ok(greeted) => {
                self.offer(greeted);
                Ok(node)
            }
            Err(GreetFailure::Duplicate) => Ok(node),
            Err(failure) => {
                self.tell_failure(node, &address, &failure).await;
                Err(())
            }
        }
    }

    fn offer(self: &Arc<Self>, greeted: Greeted) {
        let node = greeted.connection.peer;
        let mut peers = lock(&self.peers);
        let peer = self.peer(&mut peers, node);
        // Without room it is dropped, which closes it: four others of this peer wait already.
        let _ = peer.candidates.try_send(greeted);
    }

    /// The peer, with its keeper running.
    fn peer(self: &Arc<Self>, peers: &mut BTreeMap<NodeId, Arc<Peer>>, node: NodeId) -> Arc<Peer> {
        let new = || {
            let (candidates, receiver) = mpsc::channel(CANDIDATES);
            let peer = Arc::new(Peer::new(node, candidates));
            let (links, kept) = (Arc::clone(self), Arc::clone(&peer));
            self.runtime.spawn(async move {
                let finished = kept.finished.clone().drop_guard();
                kept.keep(links, receiver).await;
                drop(finished);
            });
            peer
        };
        Arc::clone(peers.entry(node).or_insert_with(new))
    }

    /// Forgets a peer that has nothing to keep, unless `is_idle` is false by now.
    pub(super) fn forget(&self, node: NodeId, is_idle: impl FnOnce() -> bool) -> bool {
        let mut peers = lock(&self.peers);
        let idle = is_idle();
        if idle {
            peers.remove(&node);
        }
        idle
    }

    /// What waits to be sent to this node, if a link stands.
    fn outbox(&self, node: NodeId) -> Option<Arc<Outbox>> {
        let peer = lock(&self.peers).get(&node).cloned()?;
        peer.outbox()
    }

    fn is_linked(&self, node: NodeId) -> bool {
        self.outbox(node).is_some()
    }

    /// Serves the carrier's events, until the stop; then closes all links.
    async fn serve(self: Arc<Self>, mut carrier_events: mpsc::Receiver<CarrierEvent>) {
        let mut tasks = JoinSet::new();
        for seed in self.config.seeds.clone() {
            tasks.spawn(Arc::clone(&self).seek(None, seed));
        }
        let greetings = Arc::new(Semaphore::new(PENDING_GREETINGS));
        let mut found = BTreeMap::new();
        loop {
            let event = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(_) = tasks.join_next() => continue,
                event = carrier_events.recv() => match event {
                    Some(event) => event,
                    None => break,
                },
            };
            match event {
                CarrierEvent::Listening(address) => {
                    let links = Arc::clone(&self);
                    tasks.spawn(async move {
                        links.tell(NetEvent::Listening { address }).await;
                    });
                }
                CarrierEvent::Incoming(connection) => {
                    // Without a place it is dropped, which closes it.
                    let Ok(place) = Arc::clone(&greetings).try_acquire_owned() else {
                        continue;
                    };
                    let links = Arc::clone(&self);
                    tasks.spawn(async move {
                        let _ = links.admit(connection).await;
                        drop(place);
                    });
                }
                CarrierEvent::Found(node, address) if found.len() < FOUND && node != self.me => {
                    found.entry((node, address.clone())).or_insert_with(|| {
                        tasks.spawn(Arc::clone(&self).seek(Some(node), address))
                    });
                }
                CarrierEvent::Found(..) => {}
                CarrierEvent::Lost(node, address) => {
                    if let Some(task) = found.remove(&(node, address)) {
                        task.abort();
                    }
                }
            }
        }
        self.stop.cancel();
        tasks.shutdown().await;
        let deadline = *lock(&self.deadline);
        let peers: Vec<_> = lock(&self.peers).values().cloned().collect();
        let _ = timeout(deadline, async {
            for peer in peers {
                peer.finished.cancelled().await;
            }
            self.carrier.stop().await;
        })
        .await;
    }

    /// Dials one address, with backoff, until a node answers there; and again whenever there is no
    /// link to that node.
    async fn seek(self: Arc<Self>, node: Option<NodeId>, address: String) {
        let mut backoff = Backoff::new();
        let mut changes = self.changes.subscribe();
        let mut answered = node;
        if node.is_some_and(|node| node < self.me) {
            // The other one dials at once.
            tokio::time::sleep(HIGHER_WAITS).await;
        }
        loop {
            changes.mark_unchanged();
            if answered.is_some_and(|node| self.is_linked(node)) {
                backoff = Backoff::new();
                if changes.changed().await.is_err() {
                    return;
                }
                // Whoever keeps the link to that node dials it first.
                tokio::time::sleep(2 * HIGHER_WAITS).await;
                continue;
            }
            match self.dial(node, vec![address.clone()]).await {
                Ok(connection) => {
                    if let Ok(node) = self.admit(connection).await {
                        answered = Some(node);
                    }
                }
                Err(DialFailure::Itself) => {
                    tracing::debug!(address, "a seed is this node itself");
                    return;
                }
                Err(_) => {}
            }
            let wait = tokio::time::sleep(backoff.next());
            tokio::pin!(wait);
            // A link may come about otherwise meanwhile.
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    Ok(()) = changes.changed() => {
                        if answered.is_some_and(|node| self.is_linked(node)) {
                            break;
                        }
                    }
                }
            }
        }
    }
}

/// The handle on a running transport.
pub(super) struct Handle {
    links: Arc<Links>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.links.stop.cancel();
    }
}

/// What a network thread is started with.
pub(super) struct Start {
    pub(super) me: NodeId,
    /// The wire version; differs from this crate's in tests.
    pub(super) version: u16,
    pub(super) config: NetConfig,
    pub(super) events: mpsc::Sender<NetEvent>,
    pub(super) data: Arc<dyn DataPlane>,
}

/// Starts the network's thread; `carrier` is called on it, in its runtime.
pub(super) async fn start<B, F>(start: Start, carrier: B) -> Result<Arc<dyn Network>, NetError>
where
    B: FnOnce(NetConfig, mpsc::Sender<CarrierEvent>) -> F + Send + 'static,
    F: Future<Output = Result<Arc<dyn Carrier>, NetError>>,
{
    let (ready, made) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let name = format!("net-{}", start.me.short());
    let thread = std::thread::Builder::new()
        .name(name)
        .spawn(move || {
            serve_thread(start, carrier, ready);
            let _ = end.send(());
        })
        .map_err(|error| NetError::Start(error.to_string()))?;
    let died = |_| NetError::Start("the network's thread ended".to_owned());
    let links = made.await.map_err(died)??;
    let (thread, ended) = (Mutex::new(Some(thread)), Mutex::new(Some(ended)));
    Ok(Arc::new(Handle { links, thread, ended }))
}

fn serve_thread<B, F>(
    start: Start,
    carrier: B,
    ready: oneshot::Sender<Result<Arc<Links>, NetError>>,
) where
    B: FnOnce(NetConfig, mpsc::Sender<CarrierEvent>) -> F,
    F: Future<Output = Result<Arc<dyn Carrier>, NetError>>,
{
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(NetError::Start(error.to_string())));
            return;
        }
    };
    runtime.block_on(async {
        let (sender, carrier_events) = mpsc::channel(CARRIER_EVENTS);
        let carrier = match carrier(start.config.clone(), sender).await {
            Ok(carrier) => carrier,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let links = Arc::new(Links::new(start, carrier, runtime::Handle::current()));
        if ready.send(Ok(Arc::clone(&links))).is_ok() {
            links.serve(carrier_events).await;
        }
    });
    // Whatever is left of tasks ends here, bulk transfers' answers included.
    drop(runtime);
}

impl Links {
    fn new(start: Start, carrier: Arc<dyn Carrier>, runtime: runtime::Handle) -> Self {
        let Start { me, version, config, events, data } = start;
        let deadline = answer_deadline(config.heartbeat);
        let announcement = watch::Sender::new(None);
        Self {
            me,
            greeter: Greeter {
                me,
                version,
                hub: config.hub.clone(),
                admission: config.admission.clone(),
                announcement: announcement.subscribe(),
                deadline,
            },
            context: LinkContext {
                data,
                events,
                frame_limit: config.frame_limit,
                bulk_limit: config.bulk_limit,
                deadline,
            },
            config,
            carrier,
            announcement,
            changes: watch::Sender::new(0),
            peers: Mutex::default(),
            dials: Semaphore::new(PENDING_DIALS),
            silent: Mutex::default(),
            told: Mutex::default(),
            stop: CancellationToken::new(),
            deadline: Mutex::new(Duration::ZERO),
            runtime,
        }
    }
}

#[async_trait]
impl Network for Handle {
    fn connect(&self, node: NodeId, addresses: Vec<String>) {
        if node == self.links.me || self.links.stop.is_cancelled() {
            return;
        }
        let mut peers = lock(&self.links.peers);
        self.links.peer(&mut peers, node).want(addresses);
    }

    fn disconnect(&self, node: NodeId, reason: &str) {
        let peer = lock(&self.links.peers).get(&node).cloned();
        if let Some(peer) = peer {
            peer.unwant(reason);
        }
    }

    fn announce(&self, announcement: Announcement) {
        let incarnation = announcement.me.incarnation;
        let before = self.links.announcement.send_replace(Some(announcement));
        if before.is_some_and(|before| before.me.incarnation != incarnation) {
            // Who refused the old incarnation is asked again at once.
            lock(&self.links.peers).values().for_each(|peer| peer.hurry());
        }
    }

    fn send(&self, to: NodeId, message: &PeerMessage) -> Result<(), SendRefused> {
        let outbox = self.links.outbox(to).ok_or(SendRefused::NoLink)?;
        let word = wire::encode_message(message).map_err(|error| {
            tracing::error!(peer = %to.short(), %error, "a word cannot be framed");
            SendRefused::Unframed
        })?;
        outbox.push_word(word)
    }

    fn send_bulk(&self, to: NodeRun, header: BulkHeader, body: Bytes, done: BulkDone) {
        let (size, limit) = (body.len(), self.links.config.bulk_limit);
        let transfer = Transfer { header, body, done: Done::new(done) };
        let outcome = match self.links.outbox(to.node).filter(|outbox| outbox.run == to) {
            _ if size > limit => {
                Err((transfer.done, format!("the transfer has {size} bytes, the limit is {limit}")))
            }
            Some(outbox) => outbox.push_bulk(transfer).map_err(|(d, reason)| (d, reason.into())),
            None => Err((transfer.done, "no link".to_owned())),
        };
        if let Err((done, reason)) = outcome {
            // Not from inside this call: the caller may hold a lock that the answer takes. If the
            // runtime has ended, the answer is given as the task is dropped.
            self.links.runtime.spawn(async move { done.call(Err(reason)) });
        }
    }

    fn data_ready(&self, to: NodeRun) {
        if let Some(outbox) = self.links.outbox(to.node).filter(|outbox| outbox.run == to) {
            outbox.data.notify_one();
        }
    }

    fn traffic(&self) -> Vec<LinkTraffic> {
        let peers: Vec<_> = lock(&self.links.peers).values().cloned().collect();
        peers.iter().filter_map(|peer| Some(peer.outbox()?.traffic())).collect()
    }

    fn metrics(&self) -> Option<String> {
        self.links.carrier.metrics()
    }

    /// Cancelled, the shutdown goes on, and nobody joins the thread.
    async fn shutdown(&self, deadline: Duration) {
        *lock(&self.links.deadline) = deadline;
        self.links.stop.cancel();
        let Some(ended) = lock(&self.ended).take() else {
            return;
        };
        // The thread keeps the deadline itself; a data plane that blocks can keep it up.
        if timeout(deadline + Duration::from_secs(1), ended).await.is_err() {
            tracing::error!("the network's thread does not end");
            return;
        }
        if let Some(thread) = lock(&self.thread).take() {
            // It has said that it is done.
            let _ = thread.join();
        }
    }
}

/// Closes a link of which nothing was told yet.
pub(super) async fn decline(greeted: Greeted, word: CloseWord) {
    let Greeted { writer, connection, .. } = greeted;
    super::greet::say_and_close(connection, writer, bytes::BytesMut::new(), word).await;
}
