//! The network's thread, and the handle on it.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    runtime,
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Announcement, BulkDone, DataPlane, LinkTraffic, NetConfig, NetError, NetEvent, Network,
    SendRefused,
    addresses::Addresses,
    carrier::{Carrier, CarrierEvent, Ears},
    dialler::Dialler,
    greet::Greeter,
    keeper::Means,
    lan,
    link::LinkContext,
    links::Links,
    outbox::{Done, Transfer},
    peers::Peers,
    pending::{Pending, PendingLimits},
    seeds,
    teller::Teller,
};
use crate::{
    model::{
        access::AccessList,
        id::{NodeId, NodeRun},
        message::{BulkHeader, MemberWord, PeerMessage},
    },
    wire,
};

/// Accepted connections that may be in their greeting.
const GREETINGS: PendingLimits = PendingLimits { per_origin: 4, strangers: 128 };
/// How many nodes seen on the LAN are dialled.
const FOUND: usize = 256;
/// How many events a carrier may be ahead.
const CARRIER_EVENTS: usize = 256;

/// What a network thread is started with.
pub(super) struct Start {
    pub(super) me: NodeId,
    /// The wire version; differs from this crate's in tests.
    pub(super) version: u16,
    pub(super) config: NetConfig,
    pub(super) events: mpsc::Sender<NetEvent>,
    pub(super) data: Arc<dyn DataPlane>,
}

/// What the thread and its handle share.
struct Shared {
    links: Links,
    carrier: Arc<dyn Carrier>,
    announcement: watch::Sender<Option<Announcement>>,
    /// Who is admitted.
    access: watch::Sender<AccessList>,
    bulk_limit: usize,
    /// Nobody dials or listens any more; what is queued is flushed.
    stop: CancellationToken,
    /// How long the flushing may take.
    deadline: Mutex<Duration>,
}

/// The handle on a running transport.
struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is under these locks is whole after every statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// Starts the network's thread; `carrier` is called on it, in its runtime.
pub(super) async fn start<B, F>(start: Start, carrier: B) -> Result<Arc<dyn Network>, NetError>
where
    B: FnOnce(NetConfig, Ears) -> F + Send + 'static,
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
    let shared = made.await.map_err(died)??;
    let (thread, ended) = (Mutex::new(Some(thread)), Mutex::new(Some(ended)));
    Ok(Arc::new(Handle { shared, thread, ended }))
}

fn serve_thread<B, F>(
    start: Start,
    carrier: B,
    ready: oneshot::Sender<Result<Arc<Shared>, NetError>>,
) where
    B: FnOnce(NetConfig, Ears) -> F,
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
        let (events, carrier_events) = mpsc::channel(CARRIER_EVENTS);
        let addresses = Arc::new(Addresses::default());
        let access = watch::Sender::new(start.config.admission.access());
        let ears = Ears { events, addresses: Arc::clone(&addresses), access: access.subscribe() };
        let carrier = match carrier(start.config.clone(), ears).await {
            Ok(carrier) => carrier,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        let seeds = start.config.seeds.clone();
        let shared =
            Arc::new(Shared::new(start, addresses, access, carrier, runtime::Handle::current()));
        if ready.send(Ok(Arc::clone(&shared))).is_ok() {
            shared.serve(carrier_events, seeds).await;
        }
    });
    // Whatever is left of tasks ends here, bulk transfers' answers included.
    drop(runtime);
}

impl Shared {
    fn new(
        start: Start,
        addresses: Arc<Addresses>,
        access: watch::Sender<AccessList>,
        carrier: Arc<dyn Carrier>,
        runtime: runtime::Handle,
    ) -> Self {
        let Start { me, version, config, events, data } = start;
        let deadline = config.answer_deadline();
        // Each secret has the whole time.
        let tries = u32::try_from(config.secrets().len()).unwrap_or(u32::MAX).max(1);
        let announcement = watch::Sender::new(None);
        let stop = CancellationToken::new();
        let teller = Arc::new(Teller::new(events.clone(), stop.clone()));
        let peers = Arc::new(Peers::new());
        let means = Means {
            me,
            peers: Arc::clone(&peers),
            dialler: Arc::new(Dialler::new(
                Arc::clone(&carrier),
                Arc::clone(&teller),
                deadline * tries,
            )),
            greeter: Arc::new(Greeter {
                me,
                version,
                birth: config.birth,
                is_linked: Box::new(move |node| peers.is_linked(node)),
                hub: config.hub,
                access: access.subscribe(),
                announcement: announcement.subscribe(),
                deadline,
            }),
            teller,
            addresses: Arc::clone(&addresses),
            context: LinkContext {
                data,
                events,
                frame_limit: config.frame_limit,
                bulk_limit: config.bulk_limit,
                deadline,
            },
            patience: config.heartbeat.max(Duration::from_millis(500)),
            stop: stop.clone(),
        };
        Self {
            links: Links::new(means, Arc::clone(&carrier), runtime),
            carrier,
            announcement,
            access,
            bulk_limit: config.bulk_limit,
            stop,
            deadline: Mutex::new(Duration::ZERO),
        }
    }

    /// Serves the carrier's events, until the stop; then closes all links.
    async fn serve(&self, mut carrier_events: mpsc::Receiver<CarrierEvent>, seeds: Vec<String>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(tell_addresses(self.links.clone()));
        for seed in seeds {
            tasks.spawn(seeds::seek(self.links.clone(), seed));
        }
        let greetings = Arc::new(Mutex::new(Pending::new(GREETINGS)));
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
                CarrierEvent::Rejected { node, from, reason } => {
                    let teller = Arc::clone(self.links.teller());
                    tasks.spawn(async move { teller.refused(node, Some(from), reason).await });
                }
                CarrierEvent::Twin { from, is_second } => {
                    let teller = Arc::clone(self.links.teller());
                    tasks.spawn(async move { teller.twin(&from, None, is_second).await });
                }
                CarrierEvent::Incoming(connection) => {
                    let node = connection.peer;
                    let is_known = self.links.peers().get(node).is_some();
                    let gives_way = CancellationToken::new();
                    let (ticket, gone) = lock(&greetings).enter(node, is_known, gives_way.clone());
                    if let Some(oldest) = gone {
                        oldest.cancel();
                    }
                    let (links, greetings) = (self.links.clone(), Arc::clone(&greetings));
                    tasks.spawn(async move {
                        tokio::select! {
                            _ = links.admit(connection) => {}
                            // Dropped, the connection is closed.
                            () = gives_way.cancelled() => {}
                        }
                        lock(&greetings).leave(ticket);
                    });
                }
                CarrierEvent::Found(node, address)
                    if found.len() < FOUND && node != self.links.me() =>
                {
                    found.entry((node, address.clone())).or_insert_with(|| {
                        tasks.spawn(lan::dial(self.links.clone(), node, address))
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
        let peers = self.links.peers().all();
        let _ = timeout(deadline, async {
            for peer in peers {
                peer.finished.cancelled().await;
            }
            self.carrier.stop().await;
        })
        .await;
    }
}

/// Whether this is another node's word, and one that is said again if it is lost. Orders and answers
/// are not: who waits for one waits until its deadline.
fn is_passed_on(message: &PeerMessage, me: NodeId) -> bool {
    let PeerMessage::Relay { from, message, .. } = message else { return false };
    let is_said_again = match &**message {
        PeerMessage::Member(word) => {
            matches!(word, MemberWord::Heartbeat { .. } | MemberWord::View { .. } | MemberWord::Ask)
        }
        PeerMessage::Sync(_) | PeerMessage::Observe(_) | PeerMessage::Topics(_) => true,
        _ => false,
    };
    from.node != me && is_said_again
}

/// Tells where this node can be reached, at once and whenever it changes. When an address is gone,
/// so are the connections that came by it. The carrier ends those that it knows; all links are asked,
/// as a translator may stand between. When there is a new one, whoever could not be reached before is
/// dialled at once.
async fn tell_addresses(links: Links) {
    let mut changes = links.addresses().watch();
    let mut before = Vec::new();
    loop {
        let known = changes.borrow_and_update().clone();
        let (listening, told) = (known.listening(), known.told());
        let is_gone = before.iter().any(|address| !listening.contains(address));
        let is_new = listening.iter().any(|address| !before.contains(address));
        before.clone_from(&listening);
        links.teller().tell(NetEvent::Addresses { listening, told }).await;
        for peer in links.peers().all() {
            if is_gone {
                peer.doubt();
            }
            if is_new {
                peer.hurry();
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

#[async_trait]
impl Network for Handle {
    fn connect(&self, node: NodeId, addresses: Vec<String>) {
        if node == self.shared.links.me() || self.shared.stop.is_cancelled() {
            return;
        }
        self.shared.links.want(node, addresses);
    }

    fn disconnect(&self, node: NodeId, reason: &str) {
        if let Some(peer) = self.shared.links.peers().get(node) {
            peer.unwant(reason);
        }
    }

    fn renew_if_silent(&self, node: NodeId, addresses: Vec<String>) {
        let reason = "nothing comes over it, and others hear the node";
        if let Some(peer) = self.shared.links.peers().get(node)
            && peer.renew_if_silent(addresses, reason)
        {
            tracing::warn!(peer = %node.short(), "a link is silent and is dialled anew");
        }
    }

    fn allow(&self, node: NodeId) {
        if self.shared.access.send_if_modified(|access| access.allow(node))
            && let Some(peer) = self.shared.links.peers().get(node)
        {
            peer.hurry();
        }
    }

    fn block(&self, node: NodeId) {
        if self.shared.access.send_if_modified(|access| access.block(node))
            && let Some(peer) = self.shared.links.peers().get(node)
        {
            // Whatever the carrier has let in by now, the keeper does not take into use.
            peer.sever("it is blocked");
        }
    }

    fn announce(&self, announcement: Announcement) {
        let incarnation = announcement.me.incarnation;
        let before = self.shared.announcement.send_replace(Some(announcement));
        if before.is_some_and(|before| before.me.incarnation != incarnation) {
            // Who refused the old incarnation is asked again at once.
            self.shared.links.peers().all().iter().for_each(|peer| peer.hurry());
        }
    }

    fn send(&self, to: NodeId, message: &PeerMessage) -> Result<(), SendRefused> {
        let outbox = self.shared.links.peers().outbox(to).ok_or(SendRefused::NoLink)?;
        let word = wire::encode_message(message).map_err(|error| {
            tracing::error!(peer = %to.short(), %error, "a word cannot be framed");
            SendRefused::Unframed
        })?;
        let may_be_lost = is_passed_on(message, self.shared.links.me());
        if may_be_lost { outbox.push_passed_on(word) } else { outbox.push_word(word) }
    }

    fn send_bulk(&self, to: NodeRun, header: BulkHeader, body: Bytes, done: BulkDone) {
        let (size, limit) = (body.len(), self.shared.bulk_limit);
        let transfer = Transfer { header, body, done: Done::new(done) };
        let outbox = self.shared.links.peers().outbox(to.node);
        let outcome = match outbox.filter(|outbox| outbox.run == to) {
            _ if size > limit => {
                Err((transfer.done, format!("the transfer has {size} bytes, the limit is {limit}")))
            }
            Some(outbox) => outbox.push_bulk(transfer).map_err(|(d, reason)| (d, reason.into())),
            None => Err((transfer.done, "no link".to_owned())),
        };
        if let Err((done, reason)) = outcome {
            // Not from inside this call: the caller may hold a lock that the answer takes. If the
            // runtime has ended, the answer is given as the task is dropped.
            self.shared.links.spawn(async move { done.call(Err(reason)) });
        }
    }

    fn data_ready(&self, to: NodeRun) {
        let outbox = self.shared.links.peers().outbox(to.node);
        if let Some(outbox) = outbox.filter(|outbox| outbox.run == to) {
            outbox.data.notify_one();
        }
    }

    fn traffic(&self) -> Vec<LinkTraffic> {
        let peers = self.shared.links.peers().all();
        peers.iter().filter_map(|peer| Some(peer.outbox()?.traffic())).collect()
    }

    fn metrics(&self) -> Option<String> {
        self.shared.carrier.metrics()
    }

    fn abort(&self) {
        *lock(&self.shared.deadline) = Duration::ZERO;
        self.shared.stop.cancel();
    }

    /// Cancelled, the shutdown goes on, and nobody joins the thread.
    async fn shutdown(&self, deadline: Duration) {
        *lock(&self.shared.deadline) = deadline;
        self.shared.stop.cancel();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::Incarnation;

    #[test]
    fn only_what_another_node_says_again_may_be_lost_on_the_way() {
        let run = |n: u8| NodeRun { node: NodeId::from_key([n; 32]), nonce: n.into() };
        let relayed = |word| PeerMessage::Relay {
            from: run(1),
            to: run(3),
            hops: 1,
            message: Box::new(PeerMessage::Member(word)),
        };
        let (ask, bye) = (
            relayed(MemberWord::Ask),
            relayed(MemberWord::Bye { incarnation: Incarnation { started: 1, nonce: 1 } }),
        );
        assert!(is_passed_on(&ask, run(2).node));
        assert!(!is_passed_on(&ask, run(1).node), "it is this node's own");
        assert!(!is_passed_on(&bye, run(2).node), "it is said once");
        assert!(!is_passed_on(&PeerMessage::Member(MemberWord::Ask), run(2).node));
    }
}
