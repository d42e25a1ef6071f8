//! A cluster in one process, with faults.

use std::{
    collections::BTreeMap,
    fmt, fs,
    future::IntoFuture,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::{LocalBoxFuture, join_all};

use crate::{
    Hub, HubBuilder, HubStopped, HubSystem, Inspection, MemoryNetwork, MigrateRequest, NodeId,
    Settings, ShutdownReport, StartHubError, WaitError,
};

/// How long a cluster may take to settle, unless it is set.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most nodes: each has threads of its own.
const MOST: usize = 64;
/// What is told of a hub that says nothing within the deadline.
const SILENT: &str = "it has not answered";
/// How many members or children an error names.
const NAMED: usize = 8;

/// Why a test cluster is not as the test wants it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestClusterError {
    /// A cluster has 1 to 64 nodes; nothing was started.
    #[error("a test cluster of {nodes} nodes: it has 1 to {MOST}")]
    Size {
        /// Nodes that were asked for.
        nodes: usize,
    },
    /// The folder for the keys of the nodes cannot be made; nothing was started.
    #[error("no folder for the keys of the nodes at {path}: {source}")]
    Keys {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A node does not start. Those of a cluster that was being started are stopped; in a cluster that runs
    /// the others go on.
    #[error("node {node} does not start: {source}")]
    Start {
        /// Number of the node.
        node: usize,
        /// Why.
        #[source]
        source: StartHubError,
    },
    /// Not all nodes see what they should, within the deadline. The nodes run on.
    #[error("node {node} does not settle within {timeout:?}: {lacks}{}", waits(.waits_for.as_deref()))]
    NotSettled {
        /// Number of the node.
        node: usize,
        /// How long was waited.
        timeout: Duration,
        /// What that node saw last that is otherwise.
        lacks: String,
        /// What the cluster waits for, in words, if it knows.
        waits_for: Option<String>,
    },
    /// The node was killed or shut down, or has left.
    #[error("node {node} does not run")]
    Stopped {
        /// Number of the node.
        node: usize,
    },
    /// The node runs already.
    #[error("node {node} runs: only one that was killed or shut down is started again")]
    Runs {
        /// Number of the node.
        node: usize,
    },
}

fn waits(waits_for: Option<&str>) -> String {
    waits_for.map(|reason| format!(" (the cluster {reason})")).unwrap_or_default()
}

/// What makes a node out of the builder that the cluster has prepared.
type Configure = Box<dyn Fn(HubBuilder) -> HubBuilder>;

/// Describes a test cluster; [`start`](Self::start) starts it.
#[derive(Clone, Debug)]
#[must_use = "nothing runs until it is started"]
pub struct TestClusterBuilder {
    nodes: usize,
    timeout: Duration,
}

impl TestClusterBuilder {
    /// How long [`start`](Self::start) and each [`TestCluster::settled`] wait at most; 30 s unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Starts the nodes and waits until all have come together.
    ///
    /// `configure` is called for each start of a node, also by [`TestCluster::restart`]; it registers kinds
    /// and gives data. What it is given has the name `n0`, `n1` and so on, one worker thread,
    /// [`Settings::local`], a key of its own and a network in memory; what it sets in the place of these
    /// counts.
    ///
    /// # Errors
    /// [`TestClusterError`]; nothing is left running.
    pub async fn start(
        self,
        configure: impl Fn(HubBuilder) -> HubBuilder + 'static,
    ) -> Result<TestCluster, TestClusterError> {
        let Self { nodes, timeout } = self;
        if !(1..=MOST).contains(&nodes) {
            return Err(TestClusterError::Size { nodes });
        }
        let mut cluster = TestCluster {
            network: MemoryNetwork::new(),
            nodes: Vec::with_capacity(nodes),
            configure: Box::new(configure),
            keys: Keys::new()?,
            timeout,
        };
        match cluster.begin(nodes).await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                cluster.stop().await;
                Err(error)
            }
        }
    }
}

/// Nodes in one process that are one cluster, and the faults that they are put through.
///
/// Nodes have numbers, from 0 on, and keep them, their names and their identities when they are started
/// again. Each method that waits has a deadline. Time is real.
///
/// ```
/// # use actix::prelude::*;
/// # use actix_hub::{prelude::*, testkit::TestCluster};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Default, Serialize, Deserialize)]
/// # struct Counter { value: u64 }
/// # impl Actor for Counter { type Context = Context<Self>; }
/// # #[derive(Message, Serialize, Deserialize)]
/// # #[rtype(result = "u64")]
/// # struct Add(u64);
/// # impl HubMessage for Add { const NAME: &'static str = "counter.add"; }
/// # impl Handler<Add> for Counter {
/// #     type Result = u64;
/// #     fn handle(&mut self, Add(n): Add, _: &mut Self::Context) -> u64 { self.value += n; self.value }
/// # }
/// # hot_swap!(Counter, kind = "counter", messages = [Add]);
/// # #[actix::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut cluster = TestCluster::new(3).start(|builder| builder.child::<Counter>()).await?;
/// let counter = cluster.hub(0).child_or_start::<Counter>("counter-1", ()).await?;
/// assert_eq!(counter.send(Add(2)).await?, 2);
///
/// cluster.migrate("counter-1", 1).await?;
/// assert_eq!(counter.send(Add(1)).await?, 3, "its value went with it");
///
/// cluster.kill(1).await?;
/// cluster.settled().await?;
/// assert_ne!(cluster.node_of("counter-1").await?, Some(1));
/// assert_eq!(counter.send(Add(1)).await?, 1, "its value is gone");
///
/// cluster.restart(1).await?;
/// cluster.settled().await?;
/// cluster.stop().await;
/// # Ok(())
/// # }
/// ```
///
/// Dropped without [`stop`](Self::stop), its hubs end with the Actix system of the test.
#[must_use = "its hubs run on until it is stopped"]
pub struct TestCluster {
    network: MemoryNetwork,
    nodes: Vec<Node>,
    configure: Configure,
    keys: Keys,
    timeout: Duration,
}

/// One of the nodes.
struct Node {
    id: NodeId,
    /// `None`: killed or shut down.
    hub: Option<Hub>,
}

impl fmt::Debug for TestCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.running().map(|(node, _)| node).collect::<Vec<_>>();
        f.debug_struct("TestCluster")
            .field("nodes", &self.nodes.len())
            .field("running", &running)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

impl TestCluster {
    /// A cluster of so many nodes, 1 to 64.
    #[expect(clippy::new_ret_no_self, reason = "a cluster exists when its nodes have started")]
    pub fn new(nodes: usize) -> TestClusterBuilder {
        TestClusterBuilder { nodes, timeout: PATIENCE }
    }

    async fn begin(&mut self, nodes: usize) -> Result<(), TestClusterError> {
        for node in 0..nodes {
            let hub = self.start_node(node).await?;
            self.nodes.push(Node { id: hub.node_id(), hub: Some(hub) });
        }
        self.settled().await
    }

    async fn start_node(&self, node: usize) -> Result<Hub, TestClusterError> {
        let mut builder = HubSystem::builder("test")
            .node_name(format!("n{node}"))
            .memory(&self.network)
            .settings(Settings::local())
            .workers(1)
            .key_file(self.keys.folder.join(format!("n{node}.key")));
        for (_, hub) in self.running() {
            if let Some(address) = hub.addresses().first() {
                builder = builder.seed(address);
            }
        }
        let started = (self.configure)(builder).start().await;
        started.map_err(|source| TestClusterError::Start { node, source })
    }

    /// The nodes that run, by number.
    fn running(&self) -> impl Iterator<Item = (usize, &Hub)> {
        let hubs = self.nodes.iter().enumerate();
        hubs.filter_map(|(node, it)| it.hub.as_ref().map(|hub| (node, hub)))
    }

    #[track_caller]
    fn node(&self, node: usize) -> &Node {
        match self.nodes.get(node) {
            Some(node) => node,
            None => panic!("no node {node}: there are 0 to {}", self.nodes.len() - 1),
        }
    }

    /// The number of nodes, with those that do not run.
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The hub of a node.
    ///
    /// # Panics
    /// There is no such node, or it was killed or shut down.
    #[must_use]
    #[track_caller]
    pub fn hub(&self, node: usize) -> &Hub {
        match &self.node(node).hub {
            Some(hub) => hub,
            None => panic!("node {node} does not run: it was killed or shut down"),
        }
    }

    /// The identity of a node, also of one that does not run.
    ///
    /// # Panics
    /// There is no such node.
    #[must_use]
    #[track_caller]
    pub fn node_id(&self, node: usize) -> NodeId {
        self.node(node).id
    }

    /// The network, for faults that have no method here: one-way cuts, connections that break, names.
    #[must_use]
    pub fn network(&self) -> &MemoryNetwork {
        &self.network
    }

    /// Waits until all nodes that run see each other as members and nobody else, may act, and no child is
    /// left on a node that is gone. So a crash is over when this is: its children run elsewhere, or have
    /// failed to. Children may still move to where they belong.
    ///
    /// Awaited it fails with [`TestClusterError::NotSettled`] at the deadline, also where the test has cut the
    /// nodes that run into groups: for these there is [`settled_among`](Self::settled_among). With
    /// [`TestClusterError::Stopped`] if a hub has ended by itself.
    pub fn settled(&self) -> TestClusterSettled<'_> {
        let nodes = self.running().map(|(node, _)| node).collect();
        TestClusterSettled { cluster: self, nodes, timeout: self.timeout }
    }

    /// The same for some of the nodes: waits until these see each other and nobody else. For each side of a
    /// split. Fails with [`TestClusterError::Stopped`] as well if one of them does not run.
    ///
    /// # Panics
    /// There is no such node.
    #[track_caller]
    pub fn settled_among(&self, nodes: &[usize]) -> TestClusterSettled<'_> {
        for node in nodes {
            self.node(*node);
        }
        TestClusterSettled { cluster: self, nodes: nodes.to_vec(), timeout: self.timeout }
    }

    /// Moves a child to a node, and binds it there. Awaited it waits for the outcome, for
    /// `Settings::request_timeout` unless set.
    ///
    /// # Panics
    /// There is no such node, or it does not run.
    #[track_caller]
    pub fn migrate(&self, child: impl AsRef<str>, to: usize) -> MigrateRequest {
        let hub = self.hub(to);
        hub.migrate(child, hub.node_id())
    }

    /// The number of the node to which a child belongs, as the first node that runs sees it; `None`: no such
    /// child, or on no node of this cluster.
    ///
    /// # Errors
    /// [`TestClusterError::Stopped`]: no node runs, or its hub has ended by itself.
    /// [`TestClusterError::NotSettled`]: it does not answer.
    pub async fn node_of(&self, child: impl AsRef<str>) -> Result<Option<usize>, TestClusterError> {
        let (node, hub) = self.running().next().ok_or(TestClusterError::Stopped { node: 0 })?;
        let found = answer(node, self.timeout, hub.lookup(child)).await?;
        Ok(found.and_then(|found| self.nodes.iter().position(|node| node.id == found.node)))
    }

    /// Lets nothing through between two nodes, in either direction: nothing fails, bytes are held. Others
    /// pass words on between them; a split is made by a cut between each two nodes of its sides.
    ///
    /// # Panics
    /// There is no such node.
    #[track_caller]
    pub fn cut(&self, a: usize, b: usize) {
        self.network.cut(self.node_id(a), self.node_id(b));
    }

    /// Lets everything through again between two nodes.
    ///
    /// # Panics
    /// There is no such node.
    #[track_caller]
    pub fn heal(&self, a: usize, b: usize) {
        self.network.heal(self.node_id(a), self.node_id(b));
    }

    /// Heals all cuts.
    pub fn heal_all(&self) {
        self.network.heal_all();
    }

    /// Ends a node as if its process had died: the others are told nothing, and the states of its children
    /// are gone. Waits until its hub has ended, at most some twelve seconds; not for what the others make of
    /// it, which [`settled`](Self::settled) does.
    ///
    /// # Errors
    /// [`TestClusterError::Stopped`]: it does not run.
    ///
    /// # Panics
    /// There is no such node.
    pub async fn kill(&mut self, node: usize) -> Result<(), TestClusterError> {
        let hub = self.take(node)?;
        self.network.kill(hub.node_id());
        hub.stop().await;
        Ok(())
    }

    /// Ends a node as an app does at SIGTERM: it hands its children over and leaves. Within
    /// `Settings::shutdown_deadline` and four seconds.
    ///
    /// # Errors
    /// [`TestClusterError::Stopped`]: it does not run.
    ///
    /// # Panics
    /// There is no such node.
    pub async fn shutdown(&mut self, node: usize) -> Result<ShutdownReport, TestClusterError> {
        let hub = self.take(node)?;
        hub.shutdown().await.map_err(|HubStopped| TestClusterError::Stopped { node })
    }

    /// Starts a node that was killed or shut down again: with its number, its name and its identity, and
    /// without children. The nodes that run are its seeds. It has not come in yet when this returns:
    /// [`settled`](Self::settled) waits for that.
    ///
    /// # Errors
    /// [`TestClusterError::Runs`], and [`TestClusterError::Start`].
    ///
    /// # Panics
    /// There is no such node.
    pub async fn restart(&mut self, node: usize) -> Result<(), TestClusterError> {
        if self.node(node).hub.is_some() {
            return Err(TestClusterError::Runs { node });
        }
        let hub = self.start_node(node).await?;
        self.nodes[node] = Node { id: hub.node_id(), hub: Some(hub) };
        Ok(())
    }

    /// Ends all nodes, without handing anything over.
    pub async fn stop(mut self) {
        let hubs = self.nodes.iter_mut().filter_map(|node| node.hub.take()).collect::<Vec<_>>();
        // Together: each may wait for handlers.
        join_all(hubs.iter().map(Hub::stop)).await;
    }

    fn take(&mut self, node: usize) -> Result<Hub, TestClusterError> {
        self.node(node);
        self.nodes[node].hub.take().ok_or(TestClusterError::Stopped { node })
    }
}

/// A wait until nodes have come together. Nothing happens until it is awaited; dropping it then ends the wait.
#[derive(Debug)]
#[must_use = "nothing is waited for until it is awaited"]
pub struct TestClusterSettled<'a> {
    cluster: &'a TestCluster,
    nodes: Vec<usize>,
    timeout: Duration,
}

impl TestClusterSettled<'_> {
    /// How long to wait; what [`TestClusterBuilder::timeout`] says unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn wait(self) -> Result<(), TestClusterError> {
        let Self { cluster, nodes, timeout } = self;
        let began = Instant::now();
        let mut hubs = Vec::with_capacity(nodes.len());
        let mut expected = Expected::new();
        for node in nodes {
            let hub = cluster.nodes[node].hub.as_ref();
            let hub = hub.ok_or(TestClusterError::Stopped { node })?;
            let seen = answer(node, timeout, hub.nodes()).await?;
            // Which run of it: the others may still see the one before a restart.
            let own = seen.iter().filter(|seen| seen.is_self);
            expected.extend(own.map(|own| (own.id, (node, own.incarnation.nonce))));
            hubs.push((node, hub));
        }
        let expected = Arc::new(expected);
        for (node, hub) in hubs {
            let lacking = Arc::new(Mutex::new(SILENT.to_owned()));
            let (told, expected) = (lacking.clone(), expected.clone());
            let is_so = move |seen: &Inspection| match lacks(seen, &expected) {
                None => true,
                Some(lack) => {
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = lack;
                    false
                }
            };
            match hub.wait_for(is_so).timeout(timeout.saturating_sub(began.elapsed())).await {
                Ok(_) => {}
                Err(WaitError::HubStopped) => return Err(TestClusterError::Stopped { node }),
                Err(WaitError::Timeout { waits_for }) => {
                    let lacks = lacking.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    return Err(TestClusterError::NotSettled { node, timeout, lacks, waits_for });
                }
            }
        }
        Ok(())
    }
}

impl<'a> IntoFuture for TestClusterSettled<'a> {
    type Output = Result<(), TestClusterError>;
    type IntoFuture = LocalBoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.wait())
    }
}

/// What a hub says, within a deadline.
async fn answer<T>(
    node: usize,
    timeout: Duration,
    answer: impl Future<Output = Result<T, HubStopped>>,
) -> Result<T, TestClusterError> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(answer) => answer.map_err(|HubStopped| TestClusterError::Stopped { node }),
        Err(_) => {
            let lacks = SILENT.to_owned();
            Err(TestClusterError::NotSettled { node, timeout, lacks, waits_for: None })
        }
    }
}

/// Who should be in: the number of each, and which run of it.
type Expected = BTreeMap<NodeId, (usize, u64)>;

/// What is not as it should be, in words; `None`: all is.
fn lacks(seen: &Inspection, expected: &Expected) -> Option<String> {
    let members = seen.nodes.iter().filter(|node| node.is_member());
    let runs = members.map(|node| (node.id, node)).collect::<BTreeMap<_, _>>();
    let missing = expected.iter().filter(|(id, (_, nonce))| {
        runs.get(id).is_none_or(|node| node.incarnation.nonce != *nonce)
    });
    let missing = some(missing.map(|(_, (node, _))| format!("n{node}")));
    if !missing.is_empty() {
        return Some(format!("it does not see {missing} as members"));
    }
    let others = runs.values().filter(|node| !expected.contains_key(&node.id));
    let others = some(others.map(|node| node.name.to_string()));
    if !others.is_empty() {
        return Some(format!("it sees {others} as members as well"));
    }
    if !seen.is_settled {
        return Some("it is not settled".to_owned());
    }
    let left = seen.children.iter().filter(|child| !expected.contains_key(&child.node));
    let left = some(left.map(|child| child.id.to_string()));
    (!left.is_empty()).then(|| format!("{left} belong to nodes that are gone"))
}

/// The first of them.
fn some(names: impl Iterator<Item = String>) -> String {
    let mut names = names.peekable();
    let mut shown = names.by_ref().take(NAMED).collect::<Vec<_>>().join(", ");
    let more = names.count();
    if more > 0 {
        shown.push_str(&format!(" and {more} more"));
    }
    shown
}

/// The folder with the keys of the nodes, by which they keep their identities.
struct Keys {
    folder: PathBuf,
}

impl Keys {
    fn new() -> Result<Self, TestClusterError> {
        let mut path = std::env::temp_dir();
        let made = getrandom::u64().map_err(|error| io::Error::other(error.to_string()));
        let made = made.and_then(|number| {
            path.push(format!("actix-hub-testkit-{}-{number:016x}", std::process::id()));
            fs::create_dir(&path)
        });
        match made {
            Ok(()) => Ok(Self { folder: path }),
            Err(source) => Err(TestClusterError::Keys { path, source }),
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the folder for temporary files.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
