//! What both transports must do, run for each.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Admission, Announcement, Birth, DataPlane, NetConfig, NetError, NetEvent, Network, SendRefused,
    memory::{self, MemoryNetwork},
    p2p,
};
use crate::{
    model::{
        address::SeedOutcome,
        child::Epoch,
        id::{ChildId, HubName, Incarnation, NodeId, NodeName, NodeRun},
        member::{Member, MemberState, ViewId, WIRE_VERSION},
        message::{BulkHeader, MemberWord, PeerMessage},
        secret::Secret,
    },
    wire::WireError,
};

/// Generous: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

#[async_trait]
trait Transport: Send + Sync {
    fn listen(&self) -> &'static str;
    /// The address of the `n`-th place that the seed can stand for.
    fn place(&self, n: usize) -> String;
    /// A seed that is a name.
    fn seed(&self) -> String;
    /// Lets the seed stand for these places, in this order.
    fn point_seed(&self, places: &[usize]);
    async fn start(
        &self,
        version: u16,
        config: NetConfig,
        events: mpsc::Sender<NetEvent>,
        data: Arc<dyn DataPlane>,
    ) -> Result<Arc<dyn Network>, NetError>;
}

struct OverMemory(MemoryNetwork);

#[async_trait]
impl Transport for OverMemory {
    fn listen(&self) -> &'static str {
        "/memory/0"
    }
    fn place(&self, n: usize) -> String {
        // Free ones are taken from above.
        format!("/memory/{}", 1_000 - n)
    }
    fn seed(&self) -> String {
        "/memory/all".to_owned()
    }
    fn point_seed(&self, places: &[usize]) {
        self.0.name("all", places.iter().map(|n| self.place(*n)));
    }
    async fn start(
        &self,
        version: u16,
        config: NetConfig,
        events: mpsc::Sender<NetEvent>,
        data: Arc<dyn DataPlane>,
    ) -> Result<Arc<dyn Network>, NetError> {
        memory::start_version(&self.0, version, config, events, data).await
    }
}

/// The places are addresses of loopback with one port, the seed's name is in a hosts file.
struct OverLibp2p {
    hosts: PathBuf,
    port: OnceLock<u16>,
}

impl OverLibp2p {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = format!("actix-hub-hosts-{}-{count}", std::process::id());
        Self { hosts: std::env::temp_dir().join(file), port: OnceLock::new() }
    }

    fn port(&self) -> u16 {
        *self.port.get_or_init(free_port)
    }
}

impl Drop for OverLibp2p {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.hosts);
    }
}

/// A port that nobody has on any address.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

#[async_trait]
impl Transport for OverLibp2p {
    fn listen(&self) -> &'static str {
        "/ip4/127.0.0.1/tcp/0"
    }
    fn place(&self, n: usize) -> String {
        format!("/ip4/127.0.0.{n}/tcp/{}", self.port())
    }
    fn seed(&self) -> String {
        format!("/dns4/all.test/tcp/{}", self.port())
    }
    fn point_seed(&self, places: &[usize]) {
        let lines: String = places.iter().map(|n| format!("127.0.0.{n} all.test\n")).collect();
        std::fs::write(&self.hosts, lines).expect("it is written");
    }
    async fn start(
        &self,
        version: u16,
        config: NetConfig,
        events: mpsc::Sender<NetEvent>,
        data: Arc<dyn DataPlane>,
    ) -> Result<Arc<dyn Network>, NetError> {
        let resolver = p2p::Resolver::with_hosts(self.hosts.clone());
        p2p::start_with(version, resolver, config, events, data).await
    }
}

/// Counted bytes go out, whatever comes in is kept.
#[derive(Default)]
struct Plane {
    state: Mutex<PlaneState>,
}

#[derive(Default)]
struct PlaneState {
    log: Vec<&'static str>,
    queued: BTreeMap<NodeRun, (u64, u64)>,
    raw: Vec<u8>,
    expected: u64,
    out_of_order: usize,
    wanted: Option<(u64, tokio::sync::oneshot::Sender<()>)>,
}

impl Plane {
    fn queue(&self, to: NodeRun, frames: u64) {
        self.state.lock().expect("whole").queued.entry(to).or_default().1 += frames;
    }

    fn when_received(&self, frames: u64) -> tokio::sync::oneshot::Receiver<()> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.state.lock().expect("whole").wanted = Some((frames, sender));
        receiver
    }

    fn log(&self) -> Vec<&'static str> {
        self.state.lock().expect("whole").log.clone()
    }
}

impl DataPlane for Plane {
    fn linked(&self, _: NodeRun) {
        self.state.lock().expect("whole").log.push("linked");
    }
    fn unlinked(&self, _: NodeRun) {
        self.state.lock().expect("whole").log.push("unlinked");
    }
    fn frame(&self, _: NodeRun, mut frame: Bytes) -> Result<(), WireError> {
        let mut state = self.state.lock().expect("whole");
        if frame.len() != 8 {
            return Err(malformed());
        }
        state.out_of_order += usize::from(frame.get_u64_le() != state.expected);
        state.expected += 1;
        if state.wanted.as_ref().is_some_and(|(wanted, _)| *wanted == state.expected) {
            let _ = state.wanted.take().expect("just seen").1.send(());
        }
        Ok(())
    }
    fn fill(&self, to: NodeRun, buffer: &mut BytesMut, target: usize) -> bool {
        let mut state = self.state.lock().expect("whole");
        buffer.put_slice(&std::mem::take(&mut state.raw));
        let Some((next, end)) = state.queued.get_mut(&to) else {
            return false;
        };
        while next < end && buffer.len() < target {
            buffer.put_u32_le(8);
            buffer.put_u64_le(*next);
            *next += 1;
        }
        next < end
    }
}

fn malformed() -> WireError {
    crate::wire::decode_message(&[0xff]).expect_err("no word")
}

struct Node {
    id: NodeId,
    incarnation: Incarnation,
    network: Arc<dyn Network>,
    events: mpsc::Receiver<NetEvent>,
    plane: Arc<Plane>,
    address: String,
}

#[derive(Clone)]
struct Options {
    key: u8,
    hub: &'static str,
    version: u16,
    admission: Admission,
    also_secrets: Vec<Secret>,
    incarnation: Incarnation,
    fenced: Vec<(NodeId, Incarnation)>,
    bulk_limit: usize,
    seeds: Vec<String>,
    listen: Option<String>,
    /// For how long it has been up.
    up: Duration,
}

/// The options of the node with the `rank`-th lowest id.
fn options(rank: usize) -> Options {
    let mut keys: Vec<u8> = (1..=8).collect();
    keys.sort_by_key(|key| p2p::node_id(&[*key; 32]));
    Options {
        key: keys[rank],
        hub: "hub",
        version: WIRE_VERSION,
        admission: Admission::Open,
        also_secrets: Vec::new(),
        incarnation: Incarnation { started: 1_000, nonce: rank as u64 },
        fenced: Vec::new(),
        bulk_limit: 16 * 1024 * 1024,
        seeds: Vec::new(),
        listen: None,
        up: Duration::ZERO,
    }
}

fn id_of(options: &Options) -> NodeId {
    p2p::node_id(&[options.key; 32])
}

fn announcement(options: &Options, address: &str) -> Announcement {
    let me = Member {
        id: id_of(options),
        incarnation: options.incarnation,
        name: NodeName::new(format!("node-{}", options.key)).expect("a name"),
        addresses: vec![address.to_owned()],
        weight: 1,
        state: MemberState::Alive,
        draining: false,
        labels: Default::default(),
        revision: 0,
    };
    Announcement { me, known: Vec::new(), fenced: options.fenced.clone() }
}

async fn start(transport: &dyn Transport, options: Options) -> Node {
    let config = NetConfig {
        secret_key: [options.key; 32],
        birth: Birth::ago(options.incarnation.nonce, options.up),
        hub: HubName::new(options.hub).expect("a name"),
        listen: vec![options.listen.clone().unwrap_or_else(|| transport.listen().to_owned())],
        seeds: options.seeds.clone(),
        admission: options.admission.clone(),
        also_secrets: options.also_secrets.clone(),
        mdns: false,
        heartbeat: Duration::from_millis(100),
        frame_limit: 1024 * 1024,
        bulk_limit: options.bulk_limit,
    };
    let (sender, mut events) = mpsc::channel(1_024);
    let plane = Arc::new(Plane::default());
    let data: Arc<dyn DataPlane> = plane.clone();
    let network = transport.start(options.version, config, sender, data).await.expect("it starts");
    let listening = timeout(PATIENCE, events.recv()).await.expect("in time").expect("an event");
    let NetEvent::Addresses { listening, .. } = listening else { panic!("{listening:?}") };
    let address = listening.first().expect("it listens").clone();
    network.announce(announcement(&options, &address));
    let (id, incarnation) = (id_of(&options), options.incarnation);
    Node { id, incarnation, network, events, plane, address }
}

impl Node {
    fn run(&self) -> NodeRun {
        self.incarnation.run_of(self.id)
    }

    fn connect(&self, other: &Node) {
        self.network.connect(other.id, vec![other.address.clone()]);
    }

    async fn next(&mut self) -> NetEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("in time").expect("an event")
    }

    /// The next event but failed dials and what came of seeds.
    async fn notable(&mut self) -> NetEvent {
        loop {
            match self.next().await {
                NetEvent::Unreachable { .. } | NetEvent::Seed { .. } => {}
                event => return event,
            }
        }
    }

    async fn linked(&mut self) -> NodeRun {
        match self.notable().await {
            NetEvent::Linked { hello, .. } => hello.me.run(),
            other => panic!("{other:?} instead of Linked"),
        }
    }

    /// What came of a seed, when that is told next.
    async fn outcome(&mut self) -> SeedOutcome {
        loop {
            if let NetEvent::Seed { outcome, .. } = self.next().await {
                return outcome;
            }
        }
    }

    /// Waits until a process with the same key is met: where, who says so, and whether this node is
    /// the second.
    async fn twin(&mut self) -> (String, Option<NodeId>, bool) {
        match self.notable().await {
            NetEvent::Twin { address, by, is_second } => (address, by, is_second),
            other => panic!("{other:?} instead of Twin"),
        }
    }

    /// Linked, perhaps after dials with a secret that this node does not take.
    async fn accepted(&mut self) -> NodeRun {
        loop {
            match self.notable().await {
                NetEvent::Linked { hello, .. } => return hello.me.run(),
                NetEvent::Refused { node: None, .. } => {}
                other => panic!("{other:?} instead of Linked"),
            }
        }
    }

    async fn unlinked(&mut self) -> String {
        match self.notable().await {
            NetEvent::Unlinked { reason, .. } => reason,
            other => panic!("{other:?} instead of Unlinked"),
        }
    }

    async fn refused(&mut self) -> String {
        match self.notable().await {
            NetEvent::Refused { reason, .. } => reason,
            other => panic!("{other:?} instead of Refused"),
        }
    }

    /// The link is closed and a dial refused, whichever is told first. Gives what is said of the dial.
    async fn cut_off_by(&mut self, peer: NodeId) -> String {
        let (mut told, mut is_unlinked) = (None, false);
        loop {
            match self.notable().await {
                NetEvent::Unlinked { run, .. } if run.node == peer => is_unlinked = true,
                NetEvent::Refused { node, reason, .. } if node == Some(peer) => told = Some(reason),
                other => panic!("{other:?} instead of Unlinked and Refused"),
            }
            if let Some(reason) = told.take_if(|_| is_unlinked) {
                return reason;
            }
        }
    }

    async fn word(&mut self) -> u64 {
        match self.notable().await {
            NetEvent::Control { message, .. } => number(&message),
            other => panic!("{other:?} instead of a word"),
        }
    }

    async fn stop(&self) {
        self.network.shutdown(Duration::from_secs(5)).await;
    }
}

fn word(number: u64) -> PeerMessage {
    let incarnation = Incarnation { started: 1, nonce: 1 };
    PeerMessage::Member(MemberWord::Confirm { incarnation, question: number })
}

fn number(message: &PeerMessage) -> u64 {
    match message {
        PeerMessage::Member(MemberWord::Confirm { question, .. }) => *question,
        other => panic!("{other:?}"),
    }
}

fn bulk(name: &str) -> BulkHeader {
    let child = ChildId::new(name).expect("an id");
    BulkHeader::Diverged { child, epoch: Epoch::ZERO, state_version: 1, life: Epoch::ZERO }
}

async fn pair(transport: &dyn Transport) -> (Node, Node) {
    let mut low = start(transport, options(0)).await;
    let mut high = start(transport, options(1)).await;
    low.connect(&high);
    assert_eq!(low.linked().await, high.run());
    assert_eq!(high.linked().await, low.run());
    (low, high)
}

/// Runs each test over both transports.
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        mod in_process {
            use super::*;
            $(#[tokio::test] async fn $name() {
                super::$name(&OverMemory(MemoryNetwork::new())).await;
            })*
        }
        mod over_libp2p {
            use super::*;
            $(#[tokio::test] async fn $name() {
                super::$name(&OverLibp2p::new()).await;
            })*
        }
    };
}

both! {
    two_nodes_link_and_exchange_words_in_order,
    a_peer_that_is_held_is_read_later_and_nothing_is_lost,
    simultaneous_dials_leave_one_link_on_both_ends,
    a_wrong_hub_name_is_refused_with_the_reason_on_both_sides,
    a_wrong_version_is_refused_with_the_reason_on_both_sides,
    a_wrong_secret_gives_no_link_and_is_told_to_both,
    the_right_secret_gives_a_link,
    a_secret_is_changed_in_three_rolls,
    a_node_that_is_not_on_the_allow_list_is_refused_on_both_sides,
    a_blocked_node_has_no_link_until_it_is_allowed,
    a_blocked_node_is_not_dialled_and_is_when_it_is_allowed,
    a_node_is_put_on_the_allow_list_and_taken_off_it,
    a_fenced_incarnation_is_told_so_and_comes_back_with_a_higher_one,
    a_second_run_is_told_of_the_first_one_while_that_answers,
    the_first_run_is_refused_by_who_has_met_the_second_and_not_told_to_end,
    data_frames_arrive_in_order,
    bulk_transfers_arrive_intact_while_words_flow,
    a_large_bulk_above_the_limit_is_refused_with_both_sizes,
    a_small_bulk_above_the_limit_is_refused_and_the_next_one_arrives,
    a_stalled_hub_holds_up_the_sender_and_loses_nothing,
    a_corrupt_data_frame_closes_the_link_and_nothing_else,
    a_data_frame_above_the_limit_closes_the_link,
    a_link_that_is_closed_is_told_once_and_dialled_again,
    a_link_is_dialled_anew_when_nothing_came_over_it_since_it_was_said_to_be_silent,
    a_seed_is_dialled_until_it_answers_and_again_after_a_break,
    a_seed_that_is_this_node_is_told_to_be,
    a_name_stands_for_all_its_nodes_and_each_finds_itself_among_them,
    a_node_is_told_of_others_before_it_is_told_that_a_seed_is_itself,
    a_name_is_resolved_again_before_each_round,
    a_name_that_was_this_node_alone_is_asked_for_others_soon,
    a_node_of_a_name_is_dialled_on_while_another_one_has_a_link,
    what_came_of_a_seed_is_told_when_it_changes,
    another_process_with_the_same_key_is_told_on_both_sides,
    the_dialler_says_where_it_has_reached_the_other_end,
    words_that_were_queued_at_shutdown_arrive_before_the_link_closes,
    a_bulk_to_nobody_is_answered,
    a_dial_to_a_node_that_is_gone_is_refused_by_its_host,
    a_shutdown_leaves_nothing_behind,
    a_shutdown_keeps_its_deadline_when_nobody_reads_events,
    a_full_control_queue_closes_the_link,
}

async fn a_shutdown_leaves_nothing_behind(transport: &dyn Transport) {
    let (low, high) = pair(transport).await;
    for node in [low, high] {
        node.stop().await;
        // The thread was joined, so no task of it holds anything any more.
        drop(node.network);
        assert_eq!(Arc::strong_count(&node.plane), 1);
    }
}

async fn a_shutdown_keeps_its_deadline_when_nobody_reads_events(transport: &dyn Transport) {
    let (low, high) = pair(transport).await;
    for n in 0..3_000 {
        low.network.send(high.id, &word(n)).expect("room");
    }
    let received = high.plane.when_received(1);
    low.plane.queue(high.run(), 1);
    low.network.data_ready(high.run());
    timeout(PATIENCE, received).await.expect("in time").expect("it");
    let stopped = high.network.shutdown(Duration::from_millis(300));
    timeout(Duration::from_secs(5), stopped).await.expect("by its deadline");
    drop(high.network);
    assert_eq!(Arc::strong_count(&high.plane), 1);
    low.stop().await;
}

async fn a_full_control_queue_closes_the_link(transport: &dyn Transport) {
    let (mut low, high) = pair(transport).await;
    // `high` reads no events: what the queue of events does not hold piles up at `low`.
    for n in 0..1_024 {
        low.network.send(high.id, &word(n)).expect("room");
    }
    let members = vec![announcement(&options(2), &"x".repeat(1_000_000)).me];
    let large = PeerMessage::Member(MemberWord::View {
        view: ViewId(1),
        base: None,
        members,
        gone: Vec::new(),
    });
    let refused = (0..200).find_map(|_| low.network.send(high.id, &large).err());
    assert_eq!(refused, Some(SendRefused::Full));
    let reason = low.unlinked().await;
    assert!(reason.contains("control queue is full"), "{reason}");
    low.stop().await;
    high.stop().await;
}

async fn two_nodes_link_and_exchange_words_in_order(transport: &dyn Transport) {
    let (mut low, mut high) = pair(transport).await;
    for n in 0..2_000 {
        low.network.send(high.id, &word(n)).expect("room");
        high.network.send(low.id, &word(n)).expect("room");
    }
    for n in 0..2_000 {
        assert_eq!(low.word().await, n);
        assert_eq!(high.word().await, n);
    }
    let stranger = NodeId::from_key([9; 32]);
    assert_eq!(low.network.send(stranger, &word(0)), Err(SendRefused::NoLink));
    assert_eq!(low.plane.log(), ["linked"]);
    low.stop().await;
    let reason = high.unlinked().await;
    assert!(reason.contains("the node stops"), "{reason}");
    assert_eq!(high.plane.log(), ["linked", "unlinked"]);
    high.stop().await;
}

async fn simultaneous_dials_leave_one_link_on_both_ends(transport: &dyn Transport) {
    for round in 0..20 {
        let mut low = start(transport, options(0)).await;
        // As seeds both dial at once, whatever their ids.
        let mut of_high = options(1);
        of_high.seeds = vec![low.address.clone()];
        let mut high = start(transport, of_high).await;
        low.connect(&high);
        high.connect(&low);
        low.linked().await;
        high.linked().await;
        // Whatever was dialled besides is settled before these have gone back and forth: a
        // further connection is judged by asking this link.
        for n in 0..200 {
            low.network.send(high.id, &word(n)).expect("a link");
            assert_eq!(high.word().await, n, "round {round}");
            high.network.send(low.id, &word(n)).expect("a link");
            assert_eq!(low.word().await, n, "round {round}");
        }
        assert_eq!(low.plane.log(), ["linked"], "round {round}");
        assert_eq!(high.plane.log(), ["linked"], "round {round}");
        low.stop().await;
        high.stop().await;
    }
}

async fn a_wrong_hub_name_is_refused_with_the_reason_on_both_sides(transport: &dyn Transport) {
    let mut one = start(transport, options(0)).await;
    let mut other = options(1);
    other.hub = "another";
    let mut other = start(transport, other).await;
    one.connect(&other);
    for node in [&mut one, &mut other] {
        let reason = node.refused().await;
        assert!(reason.contains("of hub hub") && reason.contains("of hub another"), "{reason}");
    }
    one.stop().await;
    other.stop().await;
}

async fn a_wrong_version_is_refused_with_the_reason_on_both_sides(transport: &dyn Transport) {
    let mut one = start(transport, options(0)).await;
    let mut other = options(1);
    other.version = 77;
    let mut other = start(transport, other).await;
    other.connect(&one);
    for node in [&mut one, &mut other] {
        let reason = node.refused().await;
        assert!(reason.contains("version 77") || reason.contains("speaks 77"), "{reason}");
    }
    one.stop().await;
    other.stop().await;
}

async fn a_wrong_secret_gives_no_link_and_is_told_to_both(transport: &dyn Transport) {
    let mut of_one = options(0);
    of_one.admission = Admission::Secret([1; 32].into());
    let mut one = start(transport, of_one).await;
    for admission in [Admission::Secret([2; 32].into()), Admission::Open] {
        let mut of_dialler = options(1);
        of_dialler.admission = admission;
        let mut dialler = start(transport, of_dialler).await;
        dialler.connect(&one);
        let reason = dialler.refused().await;
        assert!(reason.contains("secret"), "{reason}");
        assert_eq!(dialler.plane.log(), [""; 0]);
        dialler.stop().await;
    }
    assert_eq!(one.plane.log(), [""; 0]);
    // Once, as both came from one address.
    let NetEvent::Refused { node: None, address, reason } = one.notable().await else {
        panic!("it says nothing");
    };
    assert!(["127.0.0.1", "/memory"].contains(&address.expect("it is known").as_str()));
    assert!(reason.contains("secret"), "{reason}");
    assert!(one.events.try_recv().is_err());
    one.stop().await;
}

async fn a_secret_is_changed_in_three_rolls(transport: &dyn Transport) {
    let [old, new] = [1, 2].map(|byte| Secret::new([byte; 32]));
    let steps = [vec![&old], vec![&old, &new], vec![&new, &old], vec![&new]];
    let with = |rank, secrets: &[&Secret]| {
        let mut options = options(rank);
        options.admission = Admission::Secret(secrets[0].clone());
        options.also_secrets = secrets[1..].iter().map(|secret| (*secret).clone()).collect();
        options
    };
    // While a roll is under way, nodes before it and after it must reach each other, whoever dials.
    for pair in steps.windows(2) {
        for (first, second) in [(0, 1), (1, 0)] {
            let mut one = start(transport, with(0, &pair[first])).await;
            let mut other = start(transport, with(1, &pair[second])).await;
            one.connect(&other);
            assert_eq!(one.linked().await, other.run());
            assert_eq!(other.accepted().await, one.run());
            one.stop().await;
            other.stop().await;
        }
    }
    // A roll that is left out leaves them apart.
    let one = start(transport, with(0, &steps[1])).await;
    let mut other = start(transport, with(1, &steps[3])).await;
    other.connect(&one);
    assert!(other.refused().await.contains("secret"));
    one.stop().await;
    other.stop().await;
}

async fn the_right_secret_gives_a_link(transport: &dyn Transport) {
    let (mut of_low, mut of_high) = (options(0), options(1));
    of_low.admission = Admission::Secret([5; 32].into());
    of_high.admission = Admission::SecretAndAllow([5; 32].into(), BTreeSet::from([id_of(&of_low)]));
    let mut low = start(transport, of_low).await;
    let mut high = start(transport, of_high).await;
    high.connect(&low);
    low.linked().await;
    high.linked().await;
    low.stop().await;
    high.stop().await;
}

async fn a_node_that_is_not_on_the_allow_list_is_refused_on_both_sides(transport: &dyn Transport) {
    // Once the picky one is dialled, once it dials whoever listens there.
    let mut picky = options(0);
    picky.admission = Admission::Allow(BTreeSet::new());
    let mut picky = start(transport, picky).await;
    let mut other = start(transport, options(1)).await;
    other.connect(&picky);
    let NetEvent::Refused { node, reason, .. } = picky.notable().await else {
        panic!("it says nothing");
    };
    assert_eq!((node, reason.as_str()), (Some(other.id), "it is not on the allow list"));
    // It hears nothing, again and again.
    let reason = other.refused().await;
    assert!(reason.contains("does not admit this node"), "{reason}");
    let mut seeker = options(2);
    seeker.admission = Admission::Allow(BTreeSet::new());
    seeker.seeds = vec![other.address.clone()];
    let mut seeker = start(transport, seeker).await;
    assert!(seeker.refused().await.contains("not on the allow list"));
    for node in [&picky, &other, &seeker] {
        assert_eq!(node.plane.log(), [""; 0]);
        node.stop().await;
    }
}

async fn a_blocked_node_has_no_link_until_it_is_allowed(transport: &dyn Transport) {
    // Once the lower id blocks and once the higher one, of which the lower dials.
    for is_low in [true, false] {
        let (low, high) = pair(transport).await;
        let (mut blocker, mut blocked) = if is_low { (low, high) } else { (high, low) };
        blocked.connect(&blocker);
        blocker.network.block(blocked.id);
        // It dials, and is told nothing.
        let reason = blocked.cut_off_by(blocker.id).await;
        assert!(reason.contains("does not admit this node"), "{reason}");
        assert_eq!(blocker.cut_off_by(blocked.id).await, "it is blocked");
        blocker.network.allow(blocked.id);
        assert_eq!(blocker.linked().await, blocked.run());
        assert_eq!(blocked.linked().await, blocker.run());
        blocker.network.send(blocked.id, &word(7)).expect("a link");
        assert_eq!(blocked.word().await, 7);
        for node in [&blocker, &blocked] {
            assert_eq!(node.plane.log(), ["linked", "unlinked", "linked"]);
        }
        for node in [&blocker, &blocked] {
            node.stop().await;
        }
    }
}

async fn a_blocked_node_is_not_dialled_and_is_when_it_is_allowed(transport: &dyn Transport) {
    let mut low = start(transport, options(0)).await;
    let mut high = start(transport, options(1)).await;
    low.network.block(high.id);
    low.connect(&high);
    // By the time another one has been dialled it would have been.
    let mut third = start(transport, options(2)).await;
    low.connect(&third);
    assert_eq!(low.linked().await, third.run());
    assert_eq!(third.linked().await, low.run());
    assert!(high.events.try_recv().is_err());
    low.network.allow(high.id);
    assert_eq!(low.linked().await, high.run());
    assert_eq!(high.linked().await, low.run());
    for node in [&low, &high, &third] {
        node.stop().await;
    }
}

async fn a_node_is_put_on_the_allow_list_and_taken_off_it(transport: &dyn Transport) {
    let mut of_low = options(0);
    of_low.admission = Admission::Allow(BTreeSet::new());
    let mut low = start(transport, of_low).await;
    let mut high = start(transport, options(1)).await;
    low.network.allow(high.id);
    high.connect(&low);
    assert_eq!(low.linked().await, high.run());
    assert_eq!(high.linked().await, low.run());
    low.network.block(high.id);
    assert_eq!(low.cut_off_by(high.id).await, "it is not on the allow list");
    low.network.allow(high.id);
    assert_eq!(low.linked().await, high.run());
    for node in [&low, &high] {
        node.stop().await;
    }
}

async fn a_fenced_incarnation_is_told_so_and_comes_back_with_a_higher_one(
    transport: &dyn Transport,
) {
    for old_dials in [true, false] {
        let (mut of_judge, of_old) = (options(0), options(1));
        let fenced = Incarnation { started: 2_000, nonce: 7 };
        of_judge.fenced = vec![(id_of(&of_old), fenced)];
        let mut judge = start(transport, of_judge).await;
        let mut old = start(transport, of_old.clone()).await;
        if old_dials {
            old.connect(&judge);
        } else {
            judge.connect(&old);
        }
        let NetEvent::Fenced { incarnation } = old.notable().await else { panic!("not fenced") };
        assert_eq!(incarnation, fenced);
        let reason = judge.refused().await;
        assert!(reason.contains("fenced"), "{reason}");
        let renewed = Incarnation { started: 2_001, nonce: old.incarnation.nonce };
        let new = Options { incarnation: renewed, ..of_old };
        old.network.announce(announcement(&new, &old.address));
        loop {
            // It may have been told once more before it renewed.
            match old.notable().await {
                NetEvent::Fenced { .. } => {}
                NetEvent::Linked { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(judge.linked().await, old.run());
        judge.stop().await;
        old.stop().await;
    }
}

async fn a_second_run_is_told_of_the_first_one_while_that_answers(transport: &dyn Transport) {
    for rank in [0, 1] {
        let mut judge = start(transport, options(1 - rank)).await;
        let of_old = options(rank);
        let up = Duration::from_secs(5);
        let mut old = start(transport, Options { up, ..of_old.clone() }).await;
        old.connect(&judge);
        old.linked().await;
        judge.linked().await;
        let incarnation = Incarnation { started: 3_000, nonce: 99 };
        let mut new = start(transport, Options { incarnation, ..of_old }).await;
        new.connect(&judge);
        assert_eq!(new.twin().await, (old.address.clone(), Some(judge.id), true));
        let reason = judge.refused().await;
        assert!(reason.contains("another run"), "{reason}");
        assert_eq!(new.plane.log(), [""; 0]);
        old.stop().await;
        judge.unlinked().await;
        new.linked().await;
        assert_eq!(judge.linked().await, new.run());
        judge.stop().await;
        new.stop().await;
    }
}

async fn the_first_run_is_refused_by_who_has_met_the_second_and_not_told_to_end(
    transport: &dyn Transport,
) {
    for rank in [0, 1] {
        let mut judge = start(transport, options(1 - rank)).await;
        let mut first = start(transport, options(rank)).await;
        let incarnation = Incarnation { started: 500, nonce: 99 };
        let mut second = start(transport, Options { incarnation, ..options(rank) }).await;
        second.connect(&judge);
        second.linked().await;
        judge.linked().await;
        first.connect(&judge);
        for node in [&mut first, &mut judge] {
            let reason = node.refused().await;
            assert!(reason.contains("another run"), "{reason}");
        }
        for node in [judge, first, second] {
            node.stop().await;
        }
    }
}

async fn data_frames_arrive_in_order(transport: &dyn Transport) {
    let (low, high) = pair(transport).await;
    for (from, to) in [(&low, &high), (&high, &low)] {
        let received = to.plane.when_received(20_000);
        from.plane.queue(to.run(), 10_000);
        from.network.data_ready(to.run());
        from.plane.queue(to.run(), 10_000);
        from.network.data_ready(to.run());
        timeout(PATIENCE, received).await.expect("in time").expect("all of them");
        assert_eq!(to.plane.state.lock().expect("whole").out_of_order, 0);
    }
    low.stop().await;
    high.stop().await;
}

fn bytes(size: usize, seed: u8) -> Bytes {
    (0..size).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed)).collect()
}

async fn a_peer_that_is_held_is_read_later_and_nothing_is_lost(transport: &dyn Transport) {
    const WORDS: u64 = 1_000;
    let (low, mut high) = pair(transport).await;
    for n in 0..WORDS {
        low.network.send(high.id, &word(n)).expect("room");
    }
    let NetEvent::Control { place, message, .. } = high.notable().await else { panic!("no word") };
    assert_eq!(number(&message), 0);
    // A word that is not dealt with holds up its peer's others, but for a few that were read.
    place.pace(Some(Duration::ZERO));
    let mut read = 1;
    while let Ok(event) = timeout(Duration::from_millis(100), high.events.recv()).await {
        let Some(NetEvent::Control { message, .. }) = event else { panic!("{event:?}") };
        assert_eq!(number(&message), read);
        read += 1;
    }
    assert!(read < WORDS / 2, "{read} words were read");
    place.pace(Some(Duration::from_millis(50)));
    drop(place);
    for n in read..WORDS {
        let NetEvent::Control { place, message, .. } = high.notable().await else { panic!() };
        assert_eq!(number(&message), n);
        place.pace(None);
    }
    low.stop().await;
    high.stop().await;
}

fn sent(
    node: &Node,
    to: &Node,
    name: &str,
    body: Bytes,
) -> tokio::sync::oneshot::Receiver<Result<(), String>> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let done = Box::new(move |outcome| drop(sender.send(outcome)));
    node.network.send_bulk(to.run(), bulk(name), body, done);
    receiver
}

async fn bulk_transfers_arrive_intact_while_words_flow(transport: &dyn Transport) {
    let (low, mut high) = pair(transport).await;
    let large = sent(&low, &high, "large", bytes(8 * 1024 * 1024, 1));
    let small: Vec<_> = (0..1_000)
        .map(|n| sent(&low, &high, &format!("small-{n}"), bytes(1_024, n as u8)))
        .collect();
    let empty = sent(&low, &high, "empty", Bytes::new());
    for n in 0..100 {
        low.network.send(high.id, &word(n)).expect("room");
    }
    let (mut words, mut smalls, mut others) = (0, 0, BTreeSet::new());
    while words < 100 || smalls < 1_000 || others.len() < 2 {
        match high.notable().await {
            NetEvent::Control { message, .. } => {
                assert_eq!(number(&message), words);
                words += 1;
            }
            NetEvent::Bulk { from, header, body, .. } => {
                assert_eq!(from, low.run());
                match header.child().as_str() {
                    "large" => assert!(body == bytes(8 * 1024 * 1024, 1)),
                    "empty" => assert!(body.is_empty()),
                    name => {
                        assert_eq!(name, format!("small-{smalls}"));
                        assert!(body == bytes(1_024, smalls as u8));
                        smalls += 1;
                        continue;
                    }
                }
                others.insert(header.child().clone());
            }
            other => panic!("{other:?}"),
        }
    }
    for outcome in small.into_iter().chain([large, empty]) {
        assert_eq!(timeout(PATIENCE, outcome).await.expect("in time").expect("called"), Ok(()));
    }
    low.stop().await;
    high.stop().await;
}

async fn limited_pair(transport: &dyn Transport, limit: usize) -> (Node, Node) {
    let mut low = start(transport, options(0)).await;
    let mut of_high = options(1);
    of_high.bulk_limit = limit;
    let mut high = start(transport, of_high).await;
    high.connect(&low);
    low.linked().await;
    high.linked().await;
    (low, high)
}

async fn a_large_bulk_above_the_limit_is_refused_with_both_sizes(transport: &dyn Transport) {
    let (low, mut high) = limited_pair(transport, 1_000_000).await;
    let outcome = sent(&low, &high, "large", bytes(12_000_000, 0)).await.expect("called");
    let reason = outcome.expect_err("it is above the limit");
    assert!(reason.contains("12000000") && reason.contains("1000000"), "{reason}");
    // One's own limit is checked as well.
    let outcome = sent(&low, &high, "huge", bytes(17 * 1024 * 1024, 0)).await.expect("called");
    let reason = outcome.expect_err("it is above the limit");
    assert!(reason.contains("17825792") && reason.contains("16777216"), "{reason}");
    // The link goes on.
    let fits = sent(&low, &high, "fits", bytes(1_000_000, 0));
    let NetEvent::Bulk { header, .. } = high.notable().await else { panic!("no bulk") };
    assert_eq!(header.child().as_str(), "fits");
    assert_eq!(fits.await.expect("called"), Ok(()));
    low.stop().await;
    high.stop().await;
}

async fn a_small_bulk_above_the_limit_is_refused_and_the_next_one_arrives(
    transport: &dyn Transport,
) {
    let (low, mut high) = limited_pair(transport, 1_000).await;
    let too_large = sent(&low, &high, "too-large", bytes(1_001, 0));
    let fits = sent(&low, &high, "fits", bytes(1_000, 0));
    let reason = too_large.await.expect("called").expect_err("it is above the limit");
    assert!(reason.contains("1001") && reason.contains("1000"), "{reason}");
    let NetEvent::Bulk { header, .. } = high.notable().await else { panic!("no bulk") };
    assert_eq!(header.child().as_str(), "fits");
    assert_eq!(fits.await.expect("called"), Ok(()));
    low.stop().await;
    high.stop().await;
}

async fn a_stalled_hub_holds_up_the_sender_and_loses_nothing(transport: &dyn Transport) {
    let (low, mut high) = pair(transport).await;
    // More than the queue of events holds, and nobody reads them yet.
    for n in 0..5_000 {
        low.network.send(high.id, &word(n)).expect("room");
    }
    // Data passes the words that wait.
    let received = high.plane.when_received(1_000);
    low.plane.queue(high.run(), 1_000);
    low.network.data_ready(high.run());
    timeout(PATIENCE, received).await.expect("in time").expect("all of them");
    for n in 0..5_000 {
        assert_eq!(high.word().await, n);
    }
    low.stop().await;
    high.stop().await;
}

async fn a_corrupt_data_frame_closes_the_link_and_nothing_else(transport: &dyn Transport) {
    let (mut low, mut high) = pair(transport).await;
    low.plane.state.lock().expect("whole").raw = vec![3, 0, 0, 0, 1, 2, 3];
    low.network.data_ready(high.run());
    let reason = high.unlinked().await;
    assert!(reason.contains("a data frame"), "{reason}");
    let reason = low.unlinked().await;
    assert!(reason.contains("a data frame"), "{reason}");
    // It is wanted, so it comes back.
    low.linked().await;
    high.linked().await;
    low.stop().await;
    high.stop().await;
}

async fn a_data_frame_above_the_limit_closes_the_link(transport: &dyn Transport) {
    let (low, mut high) = pair(transport).await;
    low.plane.state.lock().expect("whole").raw = vec![255, 255, 255, 255, 1];
    low.network.data_ready(high.run());
    let reason = high.unlinked().await;
    assert!(reason.contains("4294967295") && reason.contains("1048576"), "{reason}");
    low.stop().await;
    high.stop().await;
}

async fn a_link_that_is_closed_is_told_once_and_dialled_again(transport: &dyn Transport) {
    let (mut low, mut high) = pair(transport).await;
    high.network.disconnect(low.id, "for a test");
    for node in [&mut high, &mut low] {
        let reason = node.unlinked().await;
        assert!(reason.contains("for a test"), "{reason}");
    }
    // `low` still wants the link.
    assert_eq!(low.linked().await, high.run());
    assert_eq!(high.linked().await, low.run());
    assert_eq!(low.plane.log(), ["linked", "unlinked", "linked"]);
    assert_eq!(high.plane.log(), ["linked", "unlinked", "linked"]);
    low.network.send(high.id, &word(1)).expect("a link");
    assert_eq!(high.word().await, 1);
    low.stop().await;
    high.stop().await;
}

async fn a_link_is_dialled_anew_when_nothing_came_over_it_since_it_was_said_to_be_silent(
    transport: &dyn Transport,
) {
    let (mut low, mut high) = pair(transport).await;
    let (peer, addresses) = (high.id, vec![high.address.clone()]);
    let say = |low: &Node| low.network.renew_if_silent(peer, addresses.clone());
    for n in 0..3 {
        say(&low);
        high.network.send(low.id, &word(n)).expect("a link");
        assert_eq!(low.word().await, n, "it stands, as something came meanwhile");
    }
    for times in 1..3 {
        say(&low);
        say(&low);
        let reason = low.unlinked().await;
        assert!(reason.contains("nothing comes over it"), "{reason}");
        high.unlinked().await;
        assert_eq!((low.linked().await, high.linked().await), (high.run(), low.run()));
        assert_eq!(low.plane.log().len(), 1 + 2 * times, "the new link is judged by itself");
    }
    // Without a link there is nothing to judge.
    high.stop().await;
    low.unlinked().await;
    low.network.disconnect(high.id, "it is gone");
    say(&low);
    say(&low);
    low.stop().await;
}

async fn a_seed_is_dialled_until_it_answers_and_again_after_a_break(transport: &dyn Transport) {
    let mut seed = start(transport, options(0)).await;
    let mut of_other = options(1);
    of_other.seeds = vec![seed.address.clone()];
    let mut other = start(transport, of_other).await;
    seed.linked().await;
    other.linked().await;
    seed.network.disconnect(other.id, "for a test");
    seed.unlinked().await;
    other.unlinked().await;
    seed.linked().await;
    other.linked().await;
    seed.stop().await;
    other.stop().await;
}

async fn a_seed_that_is_this_node_is_told_to_be(transport: &dyn Transport) {
    let mut of_node = options(0);
    of_node.listen = Some(transport.place(1));
    of_node.seeds = vec![transport.place(1)];
    let mut node = start(transport, of_node).await;
    assert_eq!(node.outcome().await, SeedOutcome::Itself);
    let mut peer = start(transport, options(1)).await;
    peer.connect(&node);
    // Nothing else is told of the seed.
    assert!(matches!(node.next().await, NetEvent::Linked { .. }));
    peer.linked().await;
    node.stop().await;
    peer.stop().await;
}

async fn a_name_stands_for_all_its_nodes_and_each_finds_itself_among_them(
    transport: &dyn Transport,
) {
    transport.point_seed(&[1, 2, 3]);
    let mut nodes = Vec::new();
    for n in 1..=3 {
        let mut of_node = options(n);
        of_node.listen = Some(transport.place(n));
        of_node.seeds = vec![transport.seed()];
        nodes.push(start(transport, of_node).await);
    }
    let all: BTreeSet<NodeId> = nodes.iter().map(|node| node.id).collect();
    for node in &mut nodes {
        let (mut linked, mut outcome) = (BTreeSet::from([node.id]), None);
        while linked != all || outcome != Some(SeedOutcome::Itself) {
            match node.next().await {
                NetEvent::Linked { hello, .. } => assert!(linked.insert(hello.me.id)),
                NetEvent::Seed { outcome: told, .. } => outcome = Some(told),
                other => panic!("{other:?}"),
            }
        }
    }
    for node in nodes {
        node.stop().await;
    }
}

async fn a_node_is_told_of_others_before_it_is_told_that_a_seed_is_itself(
    transport: &dyn Transport,
) {
    transport.point_seed(&[2, 1]);
    let mut of_first = options(0);
    of_first.listen = Some(transport.place(1));
    let first = start(transport, of_first).await;
    let mut of_node = options(1);
    of_node.listen = Some(transport.place(2));
    of_node.seeds = vec![transport.seed()];
    let mut node = start(transport, of_node).await;
    let event = node.next().await;
    let NetEvent::Linked { hello, .. } = event else { panic!("{event:?} before the link") };
    assert_eq!(hello.me.run(), first.run());
    assert_eq!(node.outcome().await, SeedOutcome::Itself);
    first.stop().await;
    node.stop().await;
}

async fn a_name_is_resolved_again_before_each_round(transport: &dyn Transport) {
    transport.point_seed(&[]);
    let mut of_node = options(0);
    of_node.seeds = vec![transport.seed()];
    let mut node = start(transport, of_node).await;
    assert!(matches!(node.outcome().await, SeedOutcome::Failed(_)));
    let mut of_late = options(1);
    of_late.listen = Some(transport.place(1));
    let late = start(transport, of_late).await;
    transport.point_seed(&[2, 1]);
    assert_eq!(node.linked().await, late.run());
    node.stop().await;
    late.stop().await;
}

async fn a_name_that_was_this_node_alone_is_asked_for_others_soon(transport: &dyn Transport) {
    transport.point_seed(&[2]);
    let mut of_node = options(0);
    of_node.listen = Some(transport.place(2));
    of_node.seeds = vec![transport.seed()];
    let mut node = start(transport, of_node).await;
    assert_eq!(node.outcome().await, SeedOutcome::Itself);
    let mut of_late = options(1);
    of_late.listen = Some(transport.place(1));
    let late = start(transport, of_late).await;
    transport.point_seed(&[2, 1]);
    assert_eq!(node.linked().await, late.run());
    node.stop().await;
    late.stop().await;
}

async fn a_node_of_a_name_is_dialled_on_while_another_one_has_a_link(transport: &dyn Transport) {
    transport.point_seed(&[1, 2]);
    let mut of_first = options(1);
    of_first.listen = Some(transport.place(1));
    let first = start(transport, of_first).await;
    let mut of_node = options(0);
    of_node.seeds = vec![transport.seed()];
    let mut node = start(transport, of_node).await;
    assert_eq!(node.linked().await, first.run());
    let mut of_second = options(2);
    of_second.listen = Some(transport.place(2));
    let second = start(transport, of_second).await;
    assert_eq!(node.linked().await, second.run());
    for node in [node, first, second] {
        node.stop().await;
    }
}

async fn what_came_of_a_seed_is_told_when_it_changes(transport: &dyn Transport) {
    let mut of_node = options(0);
    of_node.seeds = vec![transport.place(1)];
    let mut node = start(transport, of_node).await;
    let SeedOutcome::Failed(reason) = node.outcome().await else { panic!("nobody is there") };
    assert!(reason.contains(&transport.place(1)) && reason.contains("refused"), "{reason}");
    let mut of_seed = options(1);
    of_seed.listen = Some(transport.place(1));
    of_seed.hub = "another";
    let seed = start(transport, of_seed.clone()).await;
    let SeedOutcome::Failed(reason) = node.outcome().await else { panic!("it is another hub") };
    assert!(reason.contains("of hub another"), "{reason}");
    seed.stop().await;
    of_seed.hub = "hub";
    of_seed.incarnation.nonce = 77;
    let mut seed = start(transport, of_seed).await;
    while node.outcome().await != SeedOutcome::Reached(seed.id) {}
    seed.linked().await;
    seed.stop().await;
    let SeedOutcome::Failed(_) = node.outcome().await else { panic!("it is gone") };
    node.stop().await;
}

async fn another_process_with_the_same_key_is_told_on_both_sides(transport: &dyn Transport) {
    let mut first = start(transport, options(0)).await;
    let mut of_second = options(0);
    of_second.incarnation.nonce = 77;
    of_second.seeds = vec![first.address.clone()];
    let mut second = start(transport, of_second).await;
    assert_eq!(second.twin().await, (first.address.clone(), None, true));
    let (_, by, is_second) = first.twin().await;
    assert_eq!((by, is_second), (None, false));
    let SeedOutcome::Failed(reason) = second.outcome().await else { panic!("it is not itself") };
    assert!(reason.contains("another process with this node's own key"), "{reason}");
    first.stop().await;
    second.stop().await;
}

async fn the_dialler_says_where_it_has_reached_the_other_end(transport: &dyn Transport) {
    let mut low = start(transport, options(0)).await;
    let mut high = start(transport, options(1)).await;
    low.connect(&high);
    let NetEvent::Linked { hello, local } = high.notable().await else { panic!("no link") };
    assert_eq!((hello.dialled, local), (Some(high.address.clone()), true));
    let NetEvent::Linked { hello, local } = low.notable().await else { panic!("no link") };
    assert_eq!((hello.dialled, local), (None, true));
    low.stop().await;
    high.stop().await;
}

async fn words_that_were_queued_at_shutdown_arrive_before_the_link_closes(
    transport: &dyn Transport,
) {
    let (low, mut high) = pair(transport).await;
    for n in 0..5_000 {
        low.network.send(high.id, &word(n)).expect("room");
    }
    let received = high.plane.when_received(500_000);
    low.plane.queue(high.run(), 500_000);
    low.network.data_ready(high.run());
    let reads = async {
        for n in 0..5_000 {
            assert_eq!(high.word().await, n);
        }
        high.unlinked().await
    };
    let (_, reason) = tokio::join!(low.stop(), reads);
    assert!(reason.contains("the node stops"), "{reason}");
    timeout(PATIENCE, received).await.expect("in time").expect("all of them");
    assert_eq!(low.plane.log(), ["linked", "unlinked"]);
    high.stop().await;
}

async fn a_bulk_to_nobody_is_answered(transport: &dyn Transport) {
    let (low, high) = pair(transport).await;
    high.stop().await;
    // The link may stand for a moment.
    let outcome = sent(&low, &high, "late", bytes(10, 0)).await.expect("called");
    assert!(outcome.is_err());
    low.stop().await;
    let outcome = sent(&low, &high, "later", bytes(10, 0)).await.expect("called");
    assert!(outcome.is_err());
}

async fn a_dial_to_a_node_that_is_gone_is_refused_by_its_host(transport: &dyn Transport) {
    let (mut low, high) = pair(transport).await;
    high.stop().await;
    loop {
        match low.next().await {
            NetEvent::Unreachable { node, refused: true } => {
                assert_eq!(node, high.id);
                break;
            }
            // While it stops, a dial may still be accepted and then be cut off.
            NetEvent::Unlinked { .. } | NetEvent::Unreachable { refused: false, .. } => {}
            other => panic!("{other:?}"),
        }
    }
    low.stop().await;
}

#[tokio::test]
async fn a_cut_holds_bytes_and_a_heal_lets_them_flow() {
    let network = MemoryNetwork::new();
    let (mut low, mut high) = pair(&OverMemory(network.clone())).await;
    network.cut_one_way(low.id, high.id);
    low.network.send(high.id, &word(1)).expect("room");
    // The other direction works, and takes longer than the word would without the cut.
    for n in 0..200 {
        high.network.send(low.id, &word(n)).expect("room");
        assert_eq!(low.word().await, n);
    }
    assert!(high.events.try_recv().is_err());
    network.heal(low.id, high.id);
    assert_eq!(high.word().await, 1);
    low.stop().await;
    high.stop().await;
}

#[tokio::test]
async fn a_link_that_one_end_closed_behind_a_cut_is_replaced_after_the_heal() {
    let network = MemoryNetwork::new();
    let (mut low, mut high) = pair(&OverMemory(network.clone())).await;
    network.cut(low.id, high.id);
    low.network.disconnect(high.id, "silent");
    low.unlinked().await;
    low.connect(&high);
    network.heal(low.id, high.id);
    high.unlinked().await;
    high.linked().await;
    low.linked().await;
    low.network.send(high.id, &word(1)).expect("room");
    assert_eq!(high.word().await, 1);
    low.stop().await;
    high.stop().await;
}

#[tokio::test]
async fn a_dial_into_a_cut_is_unreachable_and_not_refused() {
    let network = MemoryNetwork::new();
    let transport = OverMemory(network.clone());
    let mut low = start(&transport, options(0)).await;
    let high = start(&transport, options(1)).await;
    network.cut(low.id, high.id);
    low.connect(&high);
    let event = low.next().await;
    assert!(matches!(event, NetEvent::Unreachable { refused: false, .. }), "{event:?}");
    network.heal_all();
    low.linked().await;
    low.stop().await;
    high.stop().await;
}

#[tokio::test]
async fn a_killed_node_is_seen_to_be_gone_and_its_next_run_links() {
    let network = MemoryNetwork::new();
    let transport = OverMemory(network.clone());
    let (mut low, high) = pair(&transport).await;
    network.kill(high.id);
    low.unlinked().await;
    let mut of_new = options(1);
    of_new.incarnation.nonce = 50;
    let mut new = start(&transport, of_new).await;
    // What is left of the old run does not touch the new one.
    high.stop().await;
    new.connect(&low);
    assert_eq!(low.linked().await, new.run());
    new.linked().await;
    low.stop().await;
    new.stop().await;
}

/// Stands between nodes, and can fall silent: nothing passes then, and nothing is closed.
struct Middle {
    address: String,
    silent: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Middle {
    async fn before(node: &Node) -> Self {
        Self::before_ip(node, "127.0.0.1").await
    }

    async fn before_ip(node: &Node, ip: &'static str) -> Self {
        let port = |address: &str| address.rsplit('/').next().and_then(|port| port.parse().ok());
        let to: u16 = port(&node.address).expect("a port");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let silent = CancellationToken::new();
        let watch = silent.clone();
        let task = tokio::spawn(async move {
            let mut all = tokio::task::JoinSet::new();
            while let Ok((mut one, _)) = listener.accept().await {
                let silent = watch.clone();
                all.spawn(async move {
                    let other = tokio::net::TcpStream::connect((ip, to)).await;
                    let mut other = other.expect("the node listens");
                    let is_silent = tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut one, &mut other) => false,
                        () = silent.cancelled() => true,
                    };
                    if is_silent {
                        // Both sockets stay open.
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self { address: format!("/ip4/127.0.0.1/tcp/{own}"), silent, task }
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_node_that_restarts_while_its_old_connection_is_half_open_is_no_second_process() {
    let transport = OverLibp2p::new();
    for rank in [0, 1] {
        let mut judge = start(&transport, options(1 - rank)).await;
        let mut old = start(&transport, options(rank)).await;
        let middle = Middle::before(&judge).await;
        old.network.connect(judge.id, vec![middle.address.clone()]);
        old.linked().await;
        judge.linked().await;
        // Its process ends, and nobody hears of it.
        middle.silent.cancel();
        old.stop().await;
        let incarnation = Incarnation { started: 2_000, nonce: 99 };
        let mut new = start(&transport, Options { incarnation, ..options(rank) }).await;
        new.connect(&judge);
        let reason = judge.unlinked().await;
        assert!(reason.contains("a newer connection replaces it"), "{reason}");
        assert_eq!(judge.linked().await, new.run());
        assert_eq!(new.linked().await, judge.run(), "it is told of no other process");
        judge.stop().await;
        new.stop().await;
    }
}

#[tokio::test]
async fn who_has_lost_its_link_and_says_so_is_not_kept_waiting_by_the_old_one() {
    let transport = OverLibp2p::new();
    for rank in [0, 1] {
        let mut peer = start(&transport, options(1 - rank)).await;
        let mut node = start(&transport, options(rank)).await;
        let middle = Middle::before(&peer).await;
        node.network.connect(peer.id, vec![middle.address.clone()]);
        node.linked().await;
        peer.linked().await;
        // What was said before the link stood on both ends would not count.
        tokio::time::sleep(Duration::from_millis(600)).await;
        middle.silent.cancel();
        node.network.disconnect(peer.id, "its address is gone");
        node.unlinked().await;
        node.connect(&peer);
        let reason = peer.unlinked().await;
        assert!(reason.contains("the peer has lost it"), "{reason}");
        assert_eq!((peer.linked().await, node.linked().await), (node.run(), peer.run()));
        peer.stop().await;
        node.stop().await;
    }
}

#[tokio::test]
async fn a_link_to_an_address_that_the_peer_has_no_more_is_asked_and_dialled_anew() {
    let transport = OverLibp2p::new();
    for rank in [0, 1] {
        let listen = Some("/ip4/127.0.0.2/tcp/0".to_owned());
        let of_peer = Options { listen, ..options(1 - rank) };
        let mut peer = start(&transport, of_peer.clone()).await;
        let mut node = start(&transport, options(rank)).await;
        let middle = Middle::before_ip(&peer, "127.0.0.2").await;
        let mut both = announcement(&of_peer, &peer.address);
        both.me.addresses.push(middle.address.clone());
        let addresses = both.me.addresses.clone();
        peer.network.announce(both);
        node.network.connect(peer.id, vec![middle.address.clone()]);
        node.linked().await;
        peer.linked().await;
        // It has more addresses than one; the link goes on.
        node.network.connect(peer.id, addresses);
        peer.network.send(node.id, &word(1)).expect("a link");
        assert_eq!(node.word().await, 1);
        middle.silent.cancel();
        node.connect(&peer);
        let reason = node.unlinked().await;
        assert!(reason.contains("an address of one end is gone"), "{reason}");
        assert_eq!(node.linked().await, peer.run());
        peer.unlinked().await;
        peer.linked().await;
        peer.stop().await;
        node.stop().await;
    }
}

#[tokio::test]
async fn garbage_on_the_port_is_harmless() {
    let mut low = start(&OverLibp2p::new(), options(0)).await;
    let mut high = start(&OverLibp2p::new(), options(1)).await;
    let port = low.address.rsplit('/').next().expect("a port");
    for garbage in [vec![0_u8; 100_000], vec![255; 100_000], b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).expect("it listens");
        stream.set_nonblocking(true).expect("a socket");
        use std::io::Write;
        // It is cut off at some point, which is as good.
        let _ = (&stream).write_all(&garbage);
        std::mem::forget(stream);
    }
    high.connect(&low);
    high.linked().await;
    // It is told once, as it came from one address.
    let (mut refused, mut linked) = (0, 0);
    while refused + linked < 2 {
        match low.notable().await {
            NetEvent::Refused { node: None, .. } => refused += 1,
            NetEvent::Linked { .. } => linked += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((refused, linked), (1, 1));
    low.stop().await;
    high.stop().await;
}

/// Silent connections to a port, hundreds at a time; each that is closed is opened anew.
struct Flood {
    on: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Flood {
    /// Begins; returns when as many were opened as it holds.
    async fn begin(node: &Node) -> Self {
        let port = node.address.rsplit('/').next().expect("a port");
        let address: std::net::SocketAddr = format!("127.0.0.1:{port}").parse().expect("one");
        let on = Arc::new(AtomicBool::new(true));
        let (full, is_full) = tokio::sync::oneshot::channel();
        let goes_on = Arc::clone(&on);
        let thread = std::thread::spawn(move || {
            let open = || {
                let stream = std::net::TcpStream::connect_timeout(&address, PATIENCE).ok()?;
                stream.set_nonblocking(true).ok()?;
                Some(stream)
            };
            let is_open = |stream: &std::net::TcpStream| {
                let seen = stream.peek(&mut [0]);
                seen.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
            };
            let mut held: Vec<_> = (0..400).map(|_| open()).collect();
            let _ = full.send(());
            while goes_on.load(Ordering::Relaxed) {
                for place in &mut held {
                    if !place.as_ref().is_some_and(is_open) {
                        *place = open();
                    }
                }
            }
        });
        timeout(PATIENCE, is_full).await.expect("in time").expect("it is full");
        Self { on, thread: Some(thread) }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.on.store(false, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[tokio::test]
async fn silent_connections_lock_nobody_out() {
    let with_secret = |rank| {
        let mut options = options(rank);
        options.admission = Admission::Secret([5; 32].into());
        options
    };
    let mut node = start(&OverLibp2p::new(), with_secret(0)).await;
    let flood = Flood::begin(&node).await;
    for rank in [1, 2, 3] {
        let mut other = start(&OverLibp2p::new(), with_secret(rank)).await;
        other.connect(&node);
        assert_eq!(other.linked().await, node.run());
        assert_eq!(node.linked().await, other.run());
        other.stop().await;
        node.unlinked().await;
    }
    drop(flood);
    node.stop().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_in_the_error() {
    for transport in [&OverLibp2p::new() as &dyn Transport, &OverMemory(MemoryNetwork::new())] {
        let node = start(transport, options(0)).await;
        let config = NetConfig {
            secret_key: [77; 32],
            birth: Birth::now(77),
            hub: HubName::new("hub").expect("a name"),
            listen: vec![node.address.clone()],
            seeds: Vec::new(),
            admission: Admission::Open,
            also_secrets: Vec::new(),
            mdns: false,
            heartbeat: Duration::from_millis(100),
            frame_limit: 1,
            bulk_limit: 1,
        };
        let (events, _) = mpsc::channel(16);
        let error = transport.start(WIRE_VERSION, config, events, Arc::new(Plane::default())).await;
        let Err(NetError::Listen { address, .. }) = error else { panic!("it is taken") };
        assert_eq!(address, node.address);
        node.stop().await;
    }
}

fn config(listen: &[String]) -> NetConfig {
    NetConfig {
        secret_key: [78; 32],
        birth: Birth::now(78),
        hub: HubName::new("hub").expect("a name"),
        listen: listen.to_vec(),
        seeds: Vec::new(),
        admission: Admission::Open,
        also_secrets: Vec::new(),
        mdns: false,
        heartbeat: Duration::from_millis(100),
        frame_limit: 1,
        bulk_limit: 1,
    }
}

/// Where a node listens, as it says first.
async fn first_addresses(listen: &[String]) -> Vec<String> {
    let (sender, mut events) = mpsc::channel(16);
    let plane = Arc::new(Plane::default());
    let started = OverLibp2p::new().start(WIRE_VERSION, config(listen), sender, plane).await;
    let network = started.expect("it starts");
    let first = timeout(PATIENCE, events.recv()).await.expect("in time").expect("an event");
    let NetEvent::Addresses { listening, .. } = first else { panic!("{first:?}") };
    network.shutdown(Duration::from_secs(5)).await;
    listening
}

#[tokio::test]
async fn a_wildcard_listener_tells_all_interfaces_at_once() {
    // Nothing is sent: the system only says by which address it would be.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let outward = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    for _ in 0..10 {
        let port = free_port();
        let listening = first_addresses(&[format!("/ip4/0.0.0.0/tcp/{port}")]).await;
        let loopback = format!("/ip4/127.0.0.1/tcp/{port}");
        assert_eq!(listening.last(), Some(&loopback));
        if let Ok(outward) = &outward {
            let outward = format!("/ip4/{}/tcp/{port}", outward.ip());
            assert!(listening.contains(&outward), "{outward} is not among {listening:?}");
        }
    }
}

#[tokio::test]
async fn both_families_listen_on_one_port_in_either_order() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        // This machine has no IPv6.
        return;
    }
    for turn in 0..2 {
        let port = free_port();
        let mut listen = [format!("/ip4/0.0.0.0/tcp/{port}"), format!("/ip6/::/tcp/{port}")];
        listen.rotate_left(turn);
        let listening = first_addresses(&listen).await;
        for address in ["/ip4/127.0.0.1", "/ip6/::1"] {
            let address = format!("{address}/tcp/{port}");
            assert!(listening.contains(&address), "{address} is not among {listening:?}");
        }
    }
}

#[tokio::test]
async fn a_name_to_listen_on_stands_for_its_addresses() {
    let port = free_port();
    let listening = first_addresses(&[format!("/dns4/localhost/tcp/{port}")]).await;
    assert_eq!(listening, [format!("/ip4/127.0.0.1/tcp/{port}")]);
}
