//! Describes a hub and starts it.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicU64},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix::prelude::*;
use tokio::sync::{mpsc, oneshot};

use super::{
    Hub, Shared,
    auto_kind::AutoKind,
    bound::bind_thread,
    clock::Clock,
    data::Data,
    data_plane::Plane,
    doors::Doors,
    ends::Ends,
    events::Listeners,
    expected::Expected,
    first_contact::{Twin, first_contact},
    history::History,
    kind::{KindBuilder, Kinds, Use},
    left_state::check_folder,
    moves::Moves,
    names::Names,
    parcel::MARKS_LIMIT,
    reach::Reach,
    sweeper,
    system::{Begin, HubSystem},
    thread::WorkerThread,
    trace::TracePropagator,
    waits::Progress,
    worker::Worker,
};
use crate::{
    delivery::{Limits, path::PathLimits, transfer::TransferLimits},
    engine::{
        distribution::{ConsistentHashing, Distribution},
        io::EngineConfig,
        membership::founding::Founding,
        partition::Divergence,
        redundancy::Singularity,
    },
    error::StartHubError,
    model::{
        address::{Endpoint, check_advertised, check_dialled, is_loopback, is_memory},
        frame::PathWord,
        id::{HubName, Incarnation, NodeName},
        labels::Labels,
        secret::Secret,
        settings::{InvalidSetting, Migration, Settings},
    },
    net::{
        Admission, Announcement, Birth, NetConfig, NetError, NetEvent,
        memory::{self, MemoryNetwork},
        p2p::{self, KeyFileError},
    },
    wire::{BULK_HEADER_LIMIT, FRAME_OVERHEAD},
};

/// Events of the network that may wait for the hub; the network's readers wait when it is full.
const NET_EVENTS: usize = 1_024;
/// How long the network may take to say where it listens.
const LISTEN: Duration = Duration::from_secs(5);
/// How long a node that has seeds looks at least whether another process runs with its key: longer
/// than a peer needs to find out whether its link to an earlier run still works.
const FIRST_CONTACT: Duration = Duration::from_secs(1);
/// How long the network of a node that does not start may take to end.
const END: Duration = Duration::from_millis(500);
/// The most nodes that can be expected.
const EXPECTED: usize = 1_024;
/// Replies to one lane that are kept until it has them.
const REPLIES: usize = 4_096;

/// Describes a hub; [`start`](Self::start) starts it. Mistakes are told then, the first one.
///
/// ```no_run
/// # use actix::prelude::*;
/// # use actix_hub::prelude::*;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Counter(u64);
/// # impl Actor for Counter { type Context = Context<Self>; }
/// # hot_swap!(Counter, kind = "counter", messages = []);
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = HubSystem::builder("my_hub")
///     .node_name("a")
///     .child::<Counter>()
///     .listen("/ip4/0.0.0.0/tcp/4001")
///     .seed("/dns4/hub-0.hub/tcp/4001")
///     .shared_secret("5f1d…64 hex characters")
///     .start()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing runs until it is started"]
pub struct HubBuilder {
    name: String,
    node_name: Option<String>,
    labels: Vec<(String, String)>,
    kinds: Kinds,
    data: Data,
    settings: Settings,
    migration: Option<Migration>,
    listen: Vec<Endpoint>,
    advertise: Vec<Endpoint>,
    seeds: Vec<Endpoint>,
    mdns: bool,
    found: bool,
    expected: usize,
    admission: Option<Admission>,
    also_secrets: Vec<Secret>,
    key_file: Option<PathBuf>,
    workers: Option<usize>,
    leave_dir: Option<PathBuf>,
    memory: Option<MemoryNetwork>,
    distribution: Arc<dyn Distribution>,
    propagator: Option<Arc<dyn TracePropagator>>,
    mistake: Option<StartHubError>,
}

impl fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays out of it.
        f.debug_struct("HubBuilder")
            .field("name", &self.name)
            .field("node_name", &self.node_name)
            .field("listen", &self.listen)
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}

impl HubBuilder {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            node_name: None,
            labels: Vec::new(),
            kinds: Kinds::default(),
            data: Data::default(),
            settings: Settings::default(),
            migration: None,
            listen: Vec::new(),
            advertise: Vec::new(),
            seeds: Vec::new(),
            mdns: false,
            found: false,
            expected: 1,
            admission: None,
            also_secrets: Vec::new(),
            key_file: None,
            workers: None,
            leave_dir: None,
            memory: None,
            distribution: Arc::new(ConsistentHashing),
            propagator: None,
            mistake: None,
        }
    }

    fn check<T>(&mut self, outcome: Result<T, StartHubError>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(mistake) => {
                self.mistake.get_or_insert(mistake);
                None
            }
        }
    }

    /// Another name for the cluster.
    pub(crate) fn renamed(mut self, name: String) -> Self {
        self.name = name;
        self
    }

    /// [`start`](Self::start) tells this, if nothing before it.
    pub(crate) fn mistaken(mut self, mistake: StartHubError) -> Self {
        self.mistake.get_or_insert(mistake);
        self
    }

    /// The node's name for people; the end of its peer id unless set.
    pub fn node_name(mut self, name: impl AsRef<str>) -> Self {
        self.node_name = Some(name.as_ref().to_owned());
        self
    }

    /// Says where this node is, or what it has: `label("zone", "a")`. All nodes see it
    /// ([`NodeInfo::labels`](crate::NodeInfo::labels), [`Member::labels`](crate::Member::labels)), and a
    /// [`Distribution`] may decide by it; [`ConsistentHashing`] does not. May be called more than once;
    /// of two with one key the later one counts. It stays as it is while the node runs.
    ///
    /// At most 16, of the shape that [`Labels`] describes; checked by [`start`](Self::start).
    ///
    /// ```
    /// # use actix_hub::prelude::*;
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hub = HubSystem::builder("shop").label("zone", "a").label("gpu", "").start().await?;
    /// let nodes = hub.nodes().await?;
    /// assert_eq!(nodes[0].labels.get("zone"), Some("a"));
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }

    /// Registers a kind and the messages that its children take, at most 1,024 kinds: those in the list
    /// of [`hot_swap!`](crate::hot_swap) or [`takes!`](crate::takes). Children run
    /// on nodes that have registered their kind only, and a node without it cannot send to them:
    /// best register the same on every node, with [`client_of`](Self::client_of) where none of them
    /// shall run.
    pub fn child<A: AutoKind>(self) -> Self {
        self.child_kind::<A>(|kind| kind)
    }

    /// [`child`](Self::child) for a kind whose children start [on demand](KindBuilder::on_demand), or are
    /// made or encoded in another way on this node: with [`KindBuilder::make_with`] or
    /// [`KindBuilder::encode_on_blocking_thread`].
    pub fn child_kind<A: AutoKind>(
        mut self,
        options: impl FnOnce(KindBuilder<A>) -> KindBuilder<A>,
    ) -> Self {
        let added = self.kinds.add(Use::Hosts, options(A::register(KindBuilder::new())));
        self.check(added);
        self
    }

    /// Registers a kind without hosting it: this node starts, finds, moves
    /// and stops children of this kind on others and sends messages to them, and none of them starts
    /// here, moves here or is taken over here. A kind is either hosted or not: with
    /// [`child`](Self::child) besides, [`start`](Self::start) tells
    /// [`StartHubError::RegisteredTwice`].
    ///
    /// A node that hosts nothing is a gateway, for web servers say. It is a member like the others: it
    /// votes, is home to children and passes messages on. While no other node hosts the kind a start
    /// ends in [`StartFailed::UnknownKind`](crate::StartFailed::UnknownKind).
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// # #[derive(Default, Serialize, Deserialize)]
    /// # struct Counter(u64);
    /// # impl Actor for Counter { type Context = Context<Self>; }
    /// # #[derive(Message, Serialize, Deserialize)]
    /// # #[rtype(result = "u64")]
    /// # struct Add(u64);
    /// # impl HubMessage for Add { const NAME: &'static str = "add"; }
    /// # impl Handler<Add> for Counter {
    /// #     type Result = u64;
    /// #     fn handle(&mut self, Add(n): Add, _: &mut Context<Self>) -> u64 { self.0 += n; self.0 }
    /// # }
    /// # hot_swap!(Counter, kind = "counter", messages = [Add]);
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let network = MemoryNetwork::new();
    /// let node = HubSystem::builder("shop").memory(&network).child::<Counter>().start().await?;
    /// let gateway = HubSystem::builder("shop").memory(&network).client_of::<Counter>();
    /// let gateway = gateway.seed(&node.addresses()[0]).start().await?;
    ///
    /// let counter = gateway.child_or_start::<Counter>("counter-1", ()).await?;
    /// assert_eq!(counter.send(Add(2)).await?, 2);
    /// let found = gateway.lookup("counter-1").await?.map(|child| child.node);
    /// assert_eq!(found, Some(node.node_id()));
    /// # gateway.stop().await;
    /// # node.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn client_of<A: AutoKind>(self) -> Self {
        self.client_of_kind::<A>(|kind| kind)
    }

    /// [`client_of`](Self::client_of) for a kind whose children start
    /// [on demand](KindBuilder::on_demand) when this node sends to them. What says how its actors are made
    /// or encoded counts for nothing here.
    pub fn client_of_kind<A: AutoKind>(
        mut self,
        options: impl FnOnce(KindBuilder<A>) -> KindBuilder<A>,
    ) -> Self {
        let added = self.kinds.add(Use::Client, options(A::register(KindBuilder::new())));
        self.check(added);
        self
    }

    /// Lends a value to the children of this node: a pool, a client, the `Addr` of a local actor. They
    /// get it by its type, with [`ChildContext::data`](crate::ChildContext::data) or
    /// [`require`](crate::ChildContext::require). One value of each type; a later one takes the place of
    /// an earlier one. It stays on its node: a child that moves gets what the other node was given.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use actix_hub::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    /// /// A connection pool, say.
    /// #[derive(Clone, Default)]
    /// struct Pool;
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Order {
    ///     items: Vec<String>,
    ///     #[serde(skip)]
    ///     pool: Pool,
    /// }
    /// # impl Actor for Order { type Context = Context<Self>; }
    /// impl Order {
    ///     fn make((): (), child: &ChildContext<Self>) -> Result<Self, StartFailure> {
    ///         Ok(Self { items: Vec::new(), pool: child.require::<Pool>()?.clone() })
    ///     }
    /// }
    /// hot_swap!(Order, kind = "order", messages = [], args = (), make = Order::make, keep = [pool]);
    ///
    /// # #[actix::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hub = HubSystem::builder("shop").data(Pool).child::<Order>().start().await?;
    /// hub.start_child(ChildSpec::new::<Order>("order-1", ())?).await?;
    /// # hub.stop().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn data<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.data.insert(value);
        self
    }

    /// How children move; wins over `Settings::migration`, whichever is set first.
    pub fn migration(mut self, migration: Migration) -> Self {
        self.migration = Some(migration);
        self
    }

    /// Everything else that can be set; checked by [`start`](Self::start).
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Listens there: `(Ipv4Addr::UNSPECIFIED, 4001)`, `"0.0.0.0:4001"` or `"/ip4/0.0.0.0/tcp/4001"`
    /// for all interfaces of IPv4, those that come up later included, `"[::]:4001"` for those of
    /// IPv6; port 0 takes a free one. May be called more than once, also for IPv4 and IPv6 with
    /// one port. A node that listens nowhere can still dial seeds.
    pub fn listen(mut self, address: impl Into<Endpoint>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Tells others this address instead of those it listens on; for containers and port
    /// forwarding. May be called more than once. One that nobody can dial is refused by
    /// [`start`](Self::start): `0.0.0.0`, `::`, and port 0.
    pub fn advertise(mut self, address: impl Into<Endpoint>) -> Self {
        self.advertise.push(address.into());
        self
    }

    /// Nodes of the cluster to dial: an address, a name (`"hub-0.hub:4001"`, `/dns`, `/dns4`,
    /// `/dns6` with `/tcp/<port>`, `/dnsaddr`), or the name of an SRV record
    /// (`"_hub._tcp.example.org"`). A name is resolved again before each round of dialling, and
    /// all its addresses are dialled, for ever. May be this node itself, or a name that stands
    /// for it too, so that all nodes can have the same list.
    pub fn seed(mut self, address: impl Into<Endpoint>) -> Self {
        self.seeds.push(address.into());
        self
    }

    /// Founds a cluster at once, whatever its seeds say; they are dialled all the same, and clusters
    /// that meet become one. Without this a node founds a cluster if it has no seeds or is one of
    /// them itself, and else waits until a seed takes it in, is not ready, and says so.
    pub fn found(mut self) -> Self {
        self.found = true;
        self
    }

    /// How many nodes, this one included, have to be in at once before this one is ready
    /// (`/health/ready` of the admin endpoint): 1 to 1,024; 1 unless set. Readiness alone waits for
    /// them: the nodes that are in run children. Once they were in it is ready, and stays so when
    /// others leave.
    pub fn expected_nodes(mut self, nodes: usize) -> Self {
        self.expected = nodes;
        self
    }

    /// Whether nodes of the same LAN are looked for. Off unless set.
    pub fn mdns(mut self, mdns: bool) -> Self {
        self.mdns = mdns;
        self
    }

    /// Who may join. Unless set, a node that listens on loopback only admits everybody, and one
    /// that listens elsewhere does not start.
    pub fn admission(mut self, admission: Admission) -> Self {
        self.admission = Some(admission);
        self
    }

    /// Admits whoever holds the same secret.
    ///
    /// It can be changed while the cluster runs, see [`also_secret`](Self::also_secret).
    ///
    /// ```no_run
    /// # use actix_hub::{HubSystem, Secret};
    /// # fn build() -> Result<(), actix_hub::InvalidSecret> {
    /// let hub = HubSystem::builder("my_hub").secret(Secret::from_file("/run/secrets/hub")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn secret(self, secret: impl Into<Secret>) -> Self {
        self.admission(Admission::Secret(secret.into()))
    }

    /// Another secret to dial with where [`secret`](Self::secret) is not taken. May be called more
    /// than once; they are tried in order. A node that dials in must hold the first one.
    ///
    /// So a secret is changed without stopping the cluster, in three rolls over all nodes, each
    /// restarted in turn:
    ///
    /// 1. `secret(old).also_secret(new)`: everybody can dial with the new one.
    /// 2. `secret(new).also_secret(old)`: one after the other lets in with the new one.
    /// 3. `secret(new)`: the old one is worth nothing any more.
    ///
    /// In the second roll a node may tell that somebody came with another secret, as each dial begins
    /// with the first. The next roll must not begin before the last has ended on every node: nodes
    /// that are two rolls apart do not reach each other.
    pub fn also_secret(mut self, secret: impl Into<Secret>) -> Self {
        self.also_secrets.push(secret.into());
        self
    }

    /// [`secret`](Self::secret) of 64 hexadecimal characters (`openssl rand -hex 32`). Better keep it
    /// in a file or the environment: [`Secret::from_file`], [`Secret::from_env`].
    pub fn shared_secret(mut self, secret: impl AsRef<str>) -> Self {
        let secret =
            Secret::from_hex(secret).map_err(|error| StartHubError::Admission(error.to_string()));
        match self.check(secret) {
            Some(secret) => self.secret(secret),
            None => self,
        }
    }

    /// Where the node's key is kept; made there if it is missing. With it the node keeps its
    /// identity over restarts; without, each start is another node.
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_file = Some(path.into());
        self
    }

    /// Threads on which children run; one for each core unless set. At least one.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers.max(1));
        self
    }

    /// Runs over a network inside this process, whose addresses are `/memory/<n>`, instead of TCP.
    /// For tests and examples.
    pub fn memory(mut self, network: &MemoryNetwork) -> Self {
        self.memory = Some(network.clone());
        self
    }

    /// Carries traces from node to node, so that a subscriber sees one trace from `send` on one node
    /// to the handler on another. Without it traces end at the node.
    pub fn trace_propagator(mut self, propagator: impl TracePropagator) -> Self {
        self.propagator = Some(Arc::new(propagator));
        self
    }

    /// A folder for the states of children that nobody takes when this node is shut down
    /// ([`Hub::shutdown`]): a file for each, as [`LeftState`](crate::LeftState) describes. It is made if
    /// it is not there; that it can be written to is found out at the start. Files are never removed
    /// here. Unless set such states are lost.
    pub fn leave_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.leave_dir = Some(folder.into());
        self
    }

    /// Where children belong; [`ConsistentHashing`] unless set. The same on every node.
    pub fn distribution(mut self, distribution: impl Distribution) -> Self {
        self.distribution = Arc::new(distribution);
        self
    }

    /// Starts the hub inside the Actix system of this thread. It listens when this returns, and its
    /// seeds are dialled.
    ///
    /// A node that does not found a cluster at once first waits until a seed has answered or all have
    /// failed, for at most two heartbeats (one second if that is longer): if another process runs with
    /// its key, this is an error. It has come in, or waits to, only after that.
    ///
    /// May be cancelled; nothing is left running then but threads that end with the Actix system.
    ///
    /// # Errors
    /// [`StartHubError`]; nothing is left running.
    pub async fn start(mut self) -> Result<Hub, StartHubError> {
        if let Some(mistake) = self.mistake.take() {
            return Err(mistake);
        }
        if System::try_current().is_none() {
            return Err(StartHubError::NoSystem);
        }
        let name = HubName::new(&self.name)?;
        let labels = Labels::new(self.labels.iter().map(|(key, value)| (key, value)))?;
        if let Some(migration) = self.migration.take() {
            self.settings.migration = migration;
        }
        self.settings.check()?;
        if !(1..=EXPECTED).contains(&self.expected) {
            let (field, allowed) = ("expected_nodes", "1 to 1,024");
            return Err(InvalidSetting { field, value: self.expected.to_string(), allowed }.into());
        }
        let Places { listen, advertise, seeds } = self.places()?;
        let admission = self.admit(&listen)?;
        let secret_key = self.key()?;
        let node = p2p::node_id(&secret_key);
        let node_name = NodeName::new(self.node_name.clone().unwrap_or_else(|| node.short()))?;
        let names = Names::new(node, node_name.clone());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let incarnation = Incarnation { started, nonce: random()? };
        if let Some(folder) = &self.leave_dir {
            check_folder(folder, incarnation).map_err(|error| {
                let reason = error.to_string();
                StartHubError::LeaveDir { path: folder.clone(), reason }
            })?;
        }
        let settings = self.settings.clone();
        let doors = Doors::new(
            incarnation.run_of(node),
            limits(&settings),
            path_limits(&settings),
            settings.suspicion_window(),
            settings.topic_bytes,
        );

        let (net_events, mut received) = mpsc::channel(NET_EVENTS);
        let config = NetConfig {
            secret_key,
            birth: Birth::now(incarnation.nonce),
            hub: name.clone(),
            listen: listen.clone(),
            seeds: seeds.clone(),
            admission,
            also_secrets: self.also_secrets,
            mdns: self.mdns,
            heartbeat: settings.heartbeat,
            frame_limit: path_limits(&settings).frame,
            bulk_limit: settings.state_limit.saturating_add(MARKS_LIMIT),
        };
        let access = config.admission.access();
        let plane = Arc::new(Plane(Arc::downgrade(&doors)));
        let network = match &self.memory {
            Some(board) => memory::start(board, config, net_events, plane).await,
            None => p2p::start(config, net_events, plane).await,
        };
        let network = network.map_err(net_error)?;
        let mut reach = Reach::new(&listen, advertise, &seeds);
        let (listening, known) = first_addresses(&mut received).await;
        let addresses = reach.told(known);

        let founding = match (self.found || seeds.is_empty(), self.mdns) {
            (_, true) if !self.found => Founding::Discovery(seeds),
            (true, _) => Founding::Found,
            (false, _) => Founding::Seeds(seeds),
        };
        let kinds = self.kinds;
        let engine = EngineConfig {
            node,
            incarnation,
            name: node_name.clone(),
            addresses,
            labels,
            settings: settings.clone(),
            kinds: kinds.infos(),
            founding,
            access,
            seed: random()?,
            distribution: self.distribution,
            redundancy: Arc::new(Singularity),
            partition: Arc::new(Divergence),
        };
        let mut told = Vec::new();
        if let Founding::Seeds(seeds) | Founding::Discovery(seeds) = &engine.founding {
            let (known, fenced) = (Vec::new(), Vec::new());
            network.announce(Announcement { me: engine.member(), known, fenced });
            let patience = (2 * settings.heartbeat).max(FIRST_CONTACT);
            match first_contact(&mut received, seeds, patience).await {
                Ok(events) => told = events,
                Err(Twin { address, by }) => {
                    network.shutdown(END).await;
                    return Err(StartHubError::KeyInUse { address, by });
                }
            }
        }
        // The cell is new.
        let _ = doors.network.set(network);
        let hub = Hub(Arc::new(Shared {
            name,
            node,
            node_name,
            settings,
            kinds,
            data: self.data,
            clock: Clock::new(doors.uptime.clone()),
            doors,
            watches: Arc::default(),
            events: Mutex::new(Some(Listeners::new())),
            addresses: Mutex::new(listening),
            progress: Progress::default(),
            system: OnceLock::new(),
            workers: OnceLock::new(),
            threads: OnceLock::new(),
            arbiters: Mutex::default(),
            history: History::new(node),
            propagator: self.propagator,
            recorder: OnceLock::new(),
            ends: Ends::default(),
            handed_over: AtomicU64::new(0),
            names: Mutex::new(names),
            departed: Mutex::default(),
            moves: Mutex::new(Moves::default()),
            leave_dir: self.leave_dir,
        }));
        let workers = self
            .workers
            .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
            .unwrap_or(1);
        let expected = Expected::new(self.expected);
        // Nothing that comes of the first links is missed by who listens when this returns.
        let (_returned, returns) = oneshot::channel();
        let begin = Begin { config: engine, told, events: received, returns, reach, expected };
        run(&hub, workers, begin).await;
        Ok(hub)
    }

    /// The addresses as the network takes them.
    fn places(&self) -> Result<Places, StartHubError> {
        let is_memory = self.memory.is_some();
        let check: Check = if is_memory { memory::check_address } else { p2p::check_address };
        let check_seed: Check = if is_memory { memory::check_seed } else { p2p::check_seed };
        Ok(Places {
            listen: checked(&self.listen, check)?,
            advertise: checked(&self.advertise, |address| {
                check(address).and_then(|()| check_advertised(address))
            })?,
            seeds: checked(&self.seeds, |seed| {
                check_seed(seed).and_then(|()| check_dialled(seed))
            })?,
        })
    }

    fn admit(&self, listen: &[String]) -> Result<Admission, StartHubError> {
        let has_secret =
            matches!(self.admission, Some(Admission::Secret(_) | Admission::SecretAndAllow(..)));
        if !self.also_secrets.is_empty() && !has_secret {
            let reason = "`also_secret` is tried after the one of `secret`, and there is none";
            return Err(StartHubError::Admission(reason.to_owned()));
        }
        if let Some(admission) = &self.admission {
            return Ok(admission.clone());
        }
        let is_local = |address: &String| is_memory(address) || is_loopback(address);
        match listen.iter().find(|address| !is_local(address)) {
            None => Ok(Admission::Open),
            Some(address) => Err(StartHubError::Admission(format!(
                "{address} can be reached from other machines and nothing says who may join: \
                 set `shared_secret`, or `admission` with a list of nodes"
            ))),
        }
    }

    fn key(&self) -> Result<[u8; 32], StartHubError> {
        let Some(path) = &self.key_file else {
            let mut key = [0; 32];
            getrandom::fill(&mut key)
                .map_err(|error| StartHubError::Network(format!("no random bytes: {error}")))?;
            return Ok(key);
        };
        p2p::load_or_create_key(path).map_err(|error| {
            let reason = match &error {
                KeyFileError::Io { source, .. } => source.to_string(),
                other => other.to_string(),
            };
            StartHubError::KeyFile { path: path.clone(), reason }
        })
    }
}

/// Starts the arbiters and actors of a hub.
async fn run(hub: &Hub, workers: usize, begin: Begin) {
    let shared = hub.shared();
    let weak = Arc::downgrade(shared);
    let arbiter = Arbiter::new();
    let made = hub.clone();
    let system = HubSystem::start_in_arbiter(&arbiter.handle(), move |_| HubSystem::new(made));
    let mut arbiters = vec![arbiter];
    let (mut addresses, mut threads) = (Vec::new(), Vec::new());
    for _ in 0..workers {
        let arbiter = Arbiter::new();
        // Children read, and are made, on these.
        let reader = weak.clone();
        arbiter.spawn_fn(move || bind_thread(&reader));
        let (hub, system) = (hub.clone(), system.clone());
        let thread = Arc::new(WorkerThread::default());
        threads.push(thread.clone());
        let worker = move |_: &mut _| Worker::new(hub, system, thread);
        addresses.push(Worker::start_in_arbiter(&arbiter.handle(), worker));
        arbiters.push(arbiter);
    }
    arbiters[0].spawn(sweeper::sweep(Arc::downgrade(&shared.doors)));
    // The cells are new.
    let _ = shared.doors.hub.set(weak);
    let _ = shared.system.set(system.clone());
    let _ = shared.doors.system.set(system.clone().recipient());
    let _ = shared.doors.unsendable.set(system.clone().recipient());
    let _ = shared.doors.reports.set(system.clone().recipient());
    let _ = shared.doors.topics.listener.set(system.clone().recipient());
    let _ = shared.watches.system.set(system.clone().recipient());
    let _ = shared.workers.set(addresses);
    let _ = shared.threads.set(threads);
    if let Ok(mut kept) = shared.arbiters.lock() {
        *kept = arbiters;
    }
    // It cannot fail: the system was started just now.
    let _ = system.send(begin).await;
}

/// Where the network listens and what others should be told, as it says in its first event.
async fn first_addresses(events: &mut mpsc::Receiver<NetEvent>) -> (Vec<String>, Vec<String>) {
    match tokio::time::timeout(LISTEN, events.recv()).await {
        Ok(Some(NetEvent::Addresses { listening, told })) => (listening, told),
        // It tells this before it dials or lets anybody in.
        Ok(_) => (Vec::new(), Vec::new()),
        Err(_) => {
            tracing::warn!("the network does not say where it listens");
            (Vec::new(), Vec::new())
        }
    }
}

/// Where a node listens, what it advertises and whom it dials, as multiaddrs.
struct Places {
    listen: Vec<String>,
    advertise: Vec<String>,
    seeds: Vec<String>,
}

type Check = fn(&str) -> Result<(), String>;

fn checked(
    endpoints: &[Endpoint],
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<Vec<String>, StartHubError> {
    let one = |endpoint: &Endpoint| {
        let multiaddr = endpoint.multiaddr().map_err(str::to_owned);
        let checked = multiaddr.and_then(|text| check(text).map(|()| text.to_owned()));
        let address = endpoint.to_string();
        checked.map_err(|reason| StartHubError::Address { address, reason })
    };
    endpoints.iter().map(one).collect()
}

fn limits(settings: &Settings) -> Limits {
    Limits {
        mailbox: settings.mailbox,
        waiting: settings.waiting,
        window_messages: settings.window_messages,
        window_bytes: settings.window_bytes,
        reply_cache: REPLIES.max(settings.window_messages),
        reply_cache_bytes: settings.window_bytes.max(settings.message_limit),
    }
}

fn path_limits(settings: &Settings) -> PathLimits {
    PathLimits {
        // Part of a path is a frame, too.
        frame: settings.message_limit.max(PathWord::LONGEST) + FRAME_OVERHEAD,
        transfer: TransferLimits {
            header: BULK_HEADER_LIMIT,
            body: settings.state_limit.saturating_add(MARKS_LIMIT),
        },
    }
}

fn random() -> Result<u64, StartHubError> {
    getrandom::u64().map_err(|error| StartHubError::Network(format!("no random bytes: {error}")))
}

fn net_error(error: NetError) -> StartHubError {
    match error {
        NetError::Address { address, reason } => StartHubError::Address { address, reason },
        NetError::Listen { address, reason } => StartHubError::Listen { address, reason },
        other => StartHubError::Network(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_needs_no_admission() {
        let open = |address: &str| {
            let builder = HubBuilder::new("hub").listen(address);
            let places = builder.places().expect("it is valid");
            builder.admit(&places.listen).is_ok()
        };
        assert!(open("/ip4/127.0.0.1/tcp/0"));
        assert!(open("/ip6/::1/tcp/0"));
        assert!(!open("/ip4/0.0.0.0/tcp/0"));
        assert!(!open("/ip4/10.0.0.1/tcp/0"));
        assert!(open("localhost:0") && open("[::1]:0"));
        assert!(!open("0.0.0.0:0") && !open("[::]:0"));
        assert!(HubBuilder::new("hub").admit(&[]).is_ok());
    }

    #[test]
    fn a_wrong_address_is_named_with_what_is_wrong() {
        let wrong = |builder: HubBuilder| match builder.places() {
            Err(StartHubError::Address { address, reason }) => (address, reason),
            _ => panic!("it is wrong"),
        };
        let hub = || HubBuilder::new("hub");
        for (builder, named, why) in [
            (hub().listen("hub-0.hub"), "hub-0.hub", "no port"),
            (hub().listen("/ip4/1.2.3.4/udp/1"), "/ip4/1.2.3.4/udp/1", "/tcp/"),
            (hub().listen("_hub._tcp.test"), "_hub._tcp.test", "multiaddr"),
            (hub().seed("10.0.0.300:4001"), "10.0.0.300:4001", "neither"),
            (hub().seed("0.0.0.0:4001"), "/ip4/0.0.0.0/tcp/4001", "all interfaces"),
            (hub().advertise("0.0.0.0:4001"), "/ip4/0.0.0.0/tcp/4001", "all interfaces"),
            (hub().advertise("[::]:4001"), "/ip6/::/tcp/4001", "all interfaces"),
            (hub().advertise("10.0.0.1:0"), "/ip4/10.0.0.1/tcp/0", "port 0"),
        ] {
            let (address, reason) = wrong(builder);
            assert_eq!(address, named);
            assert!(reason.contains(why), "{address}: {reason}");
        }
        let fine = hub()
            .listen((std::net::Ipv4Addr::UNSPECIFIED, 4001))
            .listen("[::]:4001")
            .advertise("hub-0.hub:4001")
            .seed("_hub._tcp.example.org")
            .seed("/dnsaddr/example.org");
        let places = fine.places().expect("all of it is valid");
        assert_eq!(places.listen, ["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"]);
    }
}
