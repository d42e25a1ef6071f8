//! What goes into an engine and what comes out of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    distribution::Distribution, membership::founding::Founding, partition::PartitionTolerance,
    redundancy::Redundancy,
};
use crate::model::{
    access::AccessList,
    address::SeedOutcome,
    child::{ChildOrigin, ChildSpec, Epoch, Route},
    event::HubEvent,
    id::{ChildId, Incarnation, KindName, NodeId, NodeName, NodeRun, RequestId},
    member::{Hello, Member, MemberState},
    message::{BulkHeader, PeerMessage},
    observe::ObserveWord,
    parked::{ApplyFailed, ParkedInfo, ParkedKey, ParkedUse},
    report::{ChildLeft, MigrateOutcome, StartReport, StopReport, late, named},
    settings::{OnFailure, Settings},
};

/// What an engine must know when it is made.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// This node.
    pub node: NodeId,
    /// Its first incarnation.
    pub incarnation: Incarnation,
    /// Its name for people.
    pub name: NodeName,
    /// Multiaddrs it tells others.
    pub addresses: Vec<String>,
    /// Checked settings.
    pub settings: Settings,
    /// The kinds it can run.
    pub kinds: BTreeMap<KindName, KindInfo>,
    /// Whether it founds a cluster, or waits for one.
    pub founding: Founding,
    /// Whom it hears.
    pub access: AccessList,
    /// Seeds the generator of chance.
    pub seed: u64,
    /// Where children belong.
    pub distribution: Arc<dyn Distribution>,
    /// How many instances a child has.
    pub redundancy: Arc<dyn Redundancy>,
    /// Whether this side of a split may act.
    pub partition: Arc<dyn PartitionTolerance>,
}

impl EngineConfig {
    /// This node as it describes itself at first.
    #[must_use]
    pub fn member(&self) -> Member {
        Member {
            id: self.node,
            incarnation: self.incarnation,
            name: self.name.clone(),
            addresses: self.addresses.clone(),
            weight: self.settings.weight,
            state: MemberState::Alive,
            draining: false,
            revision: 0,
        }
    }
}

/// What the engine must know of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindInfo {
    /// The version of the states it writes, and the newest it reads.
    pub state_version: u32,
    /// The oldest version it reads.
    pub oldest_state_version: u32,
}

/// Something that happened outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The deadline came, or nothing in particular.
    Tick,
    /// A link to a peer stands; both Hellos were exchanged.
    Linked {
        /// The peer's.
        hello: Hello,
        /// Whether the other end is on this machine's loopback, or in this process: it alone is
        /// told addresses on loopback.
        local: bool,
    },
    /// Where this node can be reached changed.
    Addresses {
        /// All multiaddrs that should be told, best first.
        addresses: Vec<String>,
    },
    /// What came of a seed changed.
    Seed {
        /// The seed.
        seed: String,
        /// What came of it.
        outcome: SeedOutcome,
    },
    /// The link of that run broke.
    Unlinked {
        /// The peer.
        run: NodeRun,
    },
    /// A peer did not admit this node: this life of it, or a later one, is over there.
    Fenced {
        /// The life that is over.
        incarnation: Incarnation,
    },
    /// Words of this node count again.
    Allowed {
        /// The node.
        node: NodeId,
    },
    /// Words of this node count no more, those that come by others included, and none of its are
    /// passed on. If all members do so it goes down like one that is silent.
    Blocked {
        /// The node.
        node: NodeId,
    },
    /// A dial to a known node failed.
    Unreachable {
        /// The node that was dialled.
        node: NodeId,
        /// Whether its host refused the connection: nobody listens there any more.
        refused: bool,
    },
    /// A word came from a linked peer.
    Peer {
        /// The peer.
        from: NodeRun,
        /// The word.
        message: PeerMessage,
    },
    /// A bulk transfer arrived whole; the hub holds its bytes under (child, epoch).
    Bulk {
        /// The peer.
        from: NodeRun,
        /// What it is.
        header: BulkHeader,
        /// Bytes.
        size: u64,
    },
    /// A bulk transfer arrived and the hub had no room for it.
    NoRoom {
        /// The peer.
        from: NodeRun,
        /// What it was.
        header: BulkHeader,
    },
    /// A bulk transfer of ours was not delivered.
    BulkFailed {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
        /// Why.
        reason: String,
    },
    /// Answers [`ChildOrder::Park`], [`ChildOrder::ParkBuilt`] and [`ChildOrder::ParkFrozen`]: the bytes are
    /// held. Also told of the state that a child had before [`ChildOrder::Apply`] replaced it.
    Parked {
        /// What is known of the state.
        info: ParkedInfo,
        /// Bytes.
        size: u64,
    },
    /// Answers the three as well: there are no bytes.
    NotParked {
        /// The state's name.
        key: ParkedKey,
        /// Why.
        reason: String,
    },
    /// A parked state of [`ParkedOrder::Send`] was not delivered.
    ParkedNotSent {
        /// The state's name.
        key: ParkedKey,
        /// To whom it was sent.
        to: NodeRun,
        /// What it was for.
        purpose: ParkedUse,
    },
    /// Somebody on this node asks for something.
    Request {
        /// Echoed in [`Effect::Reply`].
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// Messages and states for that run cannot go by the member that [`Effect::Path`] named: it
    /// refused, or a link on the way broke. They go nowhere until another `Path` says how.
    PathLost {
        /// The run that they are for.
        to: NodeRun,
        /// The member between.
        by: NodeRun,
    },
    /// Messages of this node wait for a child that it has not heard of: answered with
    /// [`Effect::Sought`].
    Seek {
        /// The child.
        child: ChildId,
    },
    /// A child's runtime reports.
    Child(ChildReport),
    /// [`Effect::DrainLinks`] is done: every answer to a peer's message has been received by it.
    LinksDrained,
}

/// What users of the hub can ask of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start children.
    Start {
        /// The children.
        specs: Vec<Arc<ChildSpec>>,
        /// What happens when one fails.
        on_failure: OnFailure,
        /// How long to wait.
        timeout: Duration,
    },
    /// Stop children for good.
    Stop {
        /// The children.
        children: Vec<ChildId>,
        /// How long to wait.
        timeout: Duration,
    },
    /// Move a child.
    Migrate {
        /// The child.
        child: ChildId,
        /// Where to.
        to: NodeId,
        /// Whether started handlers are cut off at `retention`.
        forced: bool,
        /// How long to wait.
        timeout: Duration,
    },
    /// Give a parked state to its child.
    ApplyParked {
        /// Its name.
        key: ParkedKey,
        /// Whether the child's own state is parked in exchange; else the two are merged.
        replace: bool,
        /// How long to wait.
        timeout: Duration,
    },
    /// Keep a parked state nowhere any more.
    DiscardParked {
        /// Its name.
        key: ParkedKey,
    },
    /// Hand every child over and go.
    Leave {
        /// How long the requester waits.
        timeout: Duration,
    },
    /// Leave no more: take children again, unless it is drained.
    Stay,
    /// Hand every child over, take none, and stay in.
    Drain {
        /// How long the requester waits.
        timeout: Duration,
    },
    /// Be drained no more.
    Undrain,
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To `Start`.
    Started(StartReport),
    /// To `Stop`.
    Stopped(StopReport),
    /// To `Migrate`.
    Migrated(MigrateOutcome),
    /// To `ApplyParked`.
    Applied(ApplyOutcome),
    /// To `DiscardParked`. If it was not held here: a node that holds it, if one is known.
    Discarded(Result<(), Option<NodeId>>),
    /// To `Leave`.
    Left(Result<(), LeaveFailed>),
    /// To `Stay`: whether it stays. `false`: everything is handed over, and it goes.
    Stays(bool),
    /// To `Drain`.
    Drained(Result<(), LeaveFailed>),
    /// To `Undrain`.
    Undrained,
}

/// What became of a parked state that was to be given to its child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// The child has it; nobody keeps it any more.
    Applied,
    /// This node does not hold it.
    NotHeld {
        /// A node that does, if one is known.
        holder: Option<NodeId>,
    },
    /// The child goes on as before.
    Failed(ApplyFailed),
    /// Nothing was heard of it: the child may have it, or get it still.
    NoAnswer,
}

/// Why a node did not leave, or is not drained. If it had begun to, it takes no children and goes on
/// handing over what it can.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaveFailed {
    /// No other node takes children, or has the kinds of those that are here.
    #[error("no other node can take its {children} children{}", named(*children, left))]
    NoSuccessor {
        /// How many children are here.
        children: usize,
        /// The first of them.
        left: Vec<ChildLeft>,
    },
    /// The deadline passed.
    #[error("{}", late(*children, left, waits_for.as_deref()))]
    Timeout {
        /// How many children are still here; none if not everybody knows yet where they went.
        children: usize,
        /// The first of them.
        left: Vec<ChildLeft>,
        /// What keeps the cluster unsettled, if it is.
        waits_for: Option<String>,
    },
    /// It was told to take children again.
    #[error("it was told to take children again")]
    Stayed,
}

impl LeaveFailed {
    /// How many children are left, and the first of them.
    pub(crate) fn left(&self) -> (usize, &[ChildLeft]) {
        match self {
            Self::NoSuccessor { children, left } | Self::Timeout { children, left, .. } => {
                (*children, left)
            }
            Self::Stayed => (0, &[]),
        }
    }
}

/// What a child's runtime tells. `epoch` is that of the order it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildReport {
    /// Answers [`ChildOrder::Start`]; on `Ok` its gate is open.
    Started {
        /// The child.
        child: ChildId,
        /// From the order.
        epoch: Epoch,
        /// Why it could not.
        outcome: Result<(), String>,
    },
    /// Answers [`ChildOrder::Freeze`]. On failure the gate is still closed: a Thaw follows.
    Frozen {
        /// The child.
        child: ChildId,
        /// From the order.
        epoch: Epoch,
        /// Bytes of state, or why not.
        outcome: Result<u64, FreezeFailure>,
    },
    /// The state of a child that runs was encoded, to see whether it could go.
    Tried {
        /// The child.
        child: ChildId,
        /// The epoch it runs at.
        epoch: Epoch,
        /// Bytes of state, or why not.
        outcome: Result<u64, FreezeFailure>,
    },
    /// Answers [`ChildOrder::Build`]; on `Ok` its gate queues messages of this epoch.
    Built {
        /// The child.
        child: ChildId,
        /// From the order.
        epoch: Epoch,
        /// Why it could not.
        outcome: Result<(), BuildFailure>,
    },
    /// Answers [`ChildOrder::Open`]: `started()` has returned and the gate is open.
    Opened {
        /// The child.
        child: ChildId,
        /// From the order.
        epoch: Epoch,
        /// Why it could not.
        outcome: Result<(), String>,
    },
    /// Answers [`ChildOrder::Stop`]; nothing of it is left.
    Stopped {
        /// The child.
        child: ChildId,
        /// From the order.
        epoch: Epoch,
    },
    /// The actor ended unasked. Its queue is kept for a restart.
    Exited {
        /// The child.
        child: ChildId,
        /// The epoch it ran at.
        epoch: Epoch,
        /// How.
        exit: Exit,
    },
    /// Answers [`ChildOrder::Merge`].
    Merged {
        /// The child.
        child: ChildId,
        /// The loser's epoch, from the order.
        epoch: Epoch,
        /// Why it could not.
        outcome: Result<(), String>,
    },
    /// Answers [`ChildOrder::Apply`].
    Applied {
        /// From the order.
        key: ParkedKey,
        /// Why it could not; the child goes on with the state that it had.
        outcome: Result<(), ApplyFailed>,
    },
}

/// Why a successor could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildFailure {
    /// What was said.
    pub reason: String,
    /// Whether it will be so for as long as the node runs what it runs: it cannot read the state.
    pub lasts: bool,
}

impl BuildFailure {
    /// It may be otherwise a while later.
    pub fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), lasts: false }
    }

    /// The node cannot read the state.
    pub fn lasting(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), lasts: true }
    }
}

/// Why a child could not be frozen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FreezeFailure {
    /// A started handler was not resolved within `retention`.
    #[error(
        "{unresolved} started handlers were not resolved within retention, one has run for {:.1} s",
        longest.as_secs_f64()
    )]
    Retention {
        /// How many.
        unresolved: usize,
        /// How long the one has run that was started first.
        longest: Duration,
    },
    /// `prepare_handover_state` panicked.
    #[error("prepare_handover_state panicked: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
    /// The state is larger than the limit.
    #[error("the state has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its bytes.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The state could not be encoded.
    #[error("the state could not be encoded: {message}")]
    Encode {
        /// What the encoder said.
        message: String,
    },
    /// The state was encoded and is another one, or none, when it is read back.
    #[error("the state does not come back as it was: {message}")]
    NotReadBack {
        /// What is wrong with it.
        message: String,
    },
    /// There is no such running instance.
    #[error("the child does not run here")]
    Gone,
}

impl FreezeFailure {
    /// Whether it is the state that cannot go, and not the moment that was wrong.
    pub fn is_of_state(&self) -> bool {
        match self {
            Self::Panicked { .. }
            | Self::TooLarge { .. }
            | Self::Encode { .. }
            | Self::NotReadBack { .. } => true,
            Self::Retention { .. } | Self::Gone => false,
        }
    }
}

/// How an actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It stopped itself.
    Stopped,
    /// It panicked.
    Panicked {
        /// What it said.
        message: String,
    },
}

/// Something to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send a word. Dropped if there is no link: who needs it says it again.
    Send {
        /// The peer.
        to: NodeId,
        /// The word.
        message: PeerMessage,
    },
    /// Send a word over the link, though it seems not to work: to find out whether it does.
    Probe {
        /// The peer.
        to: NodeId,
        /// The word.
        message: PeerMessage,
    },
    /// Have a link to this node: dial it, with backoff, until it stands or is disconnected.
    Connect {
        /// The node.
        node: NodeId,
        /// Where it may be.
        addresses: Vec<String>,
    },
    /// No word comes over the link to this node, though others hear it: close it and dial again,
    /// unless bytes have come over it since this was said before. A long state may be on its way.
    Silent {
        /// The node.
        node: NodeId,
        /// Where it may be.
        addresses: Vec<String>,
    },
    /// Have no link to this node; close the one there is.
    Disconnect {
        /// The node.
        node: NodeId,
        /// Why, for the log.
        reason: String,
    },
    /// From now on Hellos tell this.
    Announce {
        /// What this node tells of itself and knows of others.
        me: crate::model::member::Member,
        /// The members it knows.
        known: Vec<crate::model::member::Member>,
        /// Lives that are fenced: told to the node when it comes back.
        fenced: Vec<(NodeId, Incarnation)>,
    },
    /// Do something to a child on this node.
    Child(ChildOrder),
    /// Do something with the bytes of a parked state.
    Parked(ParkedOrder),
    /// Messages for this child go there from now on.
    Route {
        /// The child.
        child: ChildId,
        /// Its owner; `None`: there is no such child.
        route: Option<Route>,
    },
    /// The child's home has answered [`Event::Seek`]. If there is such a child, a route was told
    /// before.
    Sought {
        /// The child.
        child: ChildId,
        /// Whether there is one.
        found: bool,
    },
    /// The child's home has not answered [`Event::Seek`] within [`Settings::send_timeout`]: what has waited
    /// since, and has no deadline of its own, ends.
    ///
    /// [`Settings::send_timeout`]: crate::Settings::send_timeout
    SeekOver {
        /// The child.
        child: ChildId,
    },
    /// This run is out. What was written to it and not accepted may have been handled if it went
    /// down, and was not handled if it left.
    Gone {
        /// The run.
        run: NodeRun,
        /// Whether it said Bye.
        left: bool,
    },
    /// User messages and states of this node for that run go by this member from now on, and not
    /// over its link even if there is one; [`Event::PathLost`] tells if they cannot. How the run's
    /// own messages come here is decided there.
    Path {
        /// The run that they are for.
        to: NodeRun,
        /// A member with a link to this node and to that run. `None`: its link, if there is one.
        by: Option<NodeRun>,
    },
    /// The runs that are in, this node's included. Paths of others are taken only if all three are.
    Members {
        /// All of them.
        runs: BTreeSet<NodeRun>,
    },
    /// Whether gates may start handlers and let replies out; a pause makes them invalid until
    /// peers confirm that this incarnation still counts.
    Gates {
        /// Whether they may.
        valid: bool,
    },
    /// Get a reply to every message of this node that is on its way, and every answer to every peer;
    /// then say [`Event::LinksDrained`]. From here on this node ends, whatever comes.
    DrainLinks {
        /// How long the replies may take.
        calls: Duration,
    },
    /// Answer a request.
    Reply {
        /// From the request.
        request: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// Tell whoever listens.
    Emit(HubEvent),
    /// A member looks at the cluster, or answers who does.
    Observed {
        /// The member.
        from: NodeRun,
        /// How it came; an answer goes back the same way.
        way: Way,
        /// The word.
        word: ObserveWord,
    },
}

/// The way of a word from member to member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Over their own link.
    Straight,
    /// By a member that has links to both.
    By(NodeId),
}

/// Something to be done with the bytes of a parked state. Of those that arrived each is kept or
/// refused, or given to its child with [`ChildOrder::Apply`].
#[derive(Clone, Debug, PartialEq)]
pub enum ParkedOrder {
    /// Hold the bytes that arrived from there.
    Keep {
        /// The state's name.
        key: ParkedKey,
        /// Who sent them.
        from: NodeRun,
    },
    /// Drop the bytes that arrived from there.
    Refuse {
        /// The state's name.
        key: ParkedKey,
        /// Who sent them.
        from: NodeRun,
    },
    /// Hold it no more.
    Forget {
        /// The state's name.
        key: ParkedKey,
    },
    /// Send it. Silent on success, [`Event::ParkedNotSent`] otherwise.
    Send {
        /// The state's name.
        key: ParkedKey,
        /// To whom.
        to: NodeRun,
        /// What for.
        purpose: ParkedUse,
    },
}

/// Something to be done to a child on this node.
#[derive(Clone, Debug, PartialEq)]
pub enum ChildOrder {
    /// Start it from its arguments and open its gate at `epoch`. A queue that an instance before
    /// it left behind is kept and goes on.
    Start {
        /// What to start.
        spec: Arc<ChildSpec>,
        /// At which epoch.
        epoch: Epoch,
        /// Why, as the actor is told.
        origin: ChildOrigin,
    },
    /// Close its gate, wait for started handlers, prepare and encode its state, hold it.
    Freeze {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
        /// How long started handlers are waited for.
        retention: Duration,
        /// Whether handlers that are not resolved by then are cut off: no reply of theirs leaves.
        forced: bool,
        /// Whether a state is wanted.
        with_state: bool,
    },
    /// Give up a freeze, at whatever stage it is, and go on at this epoch with the whole queue.
    Thaw {
        /// The child.
        child: ChildId,
        /// The new epoch.
        epoch: Epoch,
    },
    /// There is no actor, and there will be: its gate is this epoch's and keeps what comes. A start
    /// that still goes on is cut short.
    Wait {
        /// The child.
        child: ChildId,
        /// The epoch of its next start, or a lower one.
        epoch: Epoch,
    },
    /// There is no actor, and none is started by itself: what waits, and what comes for this epoch, is
    /// answered as not handled. A start that still goes on is cut short.
    GiveUp {
        /// The child.
        child: ChildId,
        /// The epoch of the ownership.
        epoch: Epoch,
    },
    /// Send the frozen state. Silent on success, [`Event::BulkFailed`] otherwise.
    SendState {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
        /// To whom.
        to: NodeRun,
    },
    /// Build a successor and do not run it; from the state that arrived, or from its arguments.
    Build {
        /// What to build.
        spec: Arc<ChildSpec>,
        /// The attempt.
        epoch: Epoch,
        /// Who sent it.
        from: NodeRun,
        /// Whether a state arrived.
        with_state: bool,
    },
    /// Drop what was built, and bytes that arrived, for this attempt.
    Discard {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
    },
    /// Run what was built and open its gate.
    Open {
        /// The child.
        child: ChildId,
        /// The attempt it was built for.
        built: Epoch,
        /// The epoch at which it runs: the same, or that of a takeover.
        epoch: Epoch,
    },
    /// The commit: answer and redirect everything to the successor.
    MovedAway {
        /// The child.
        child: ChildId,
        /// The successor's run.
        to: NodeRun,
        /// The successor's epoch.
        epoch: Epoch,
    },
    /// End the old actor that is held.
    End {
        /// The child.
        child: ChildId,
    },
    /// Stop it for good, whatever it is doing: what is queued is answered as not handled.
    Stop {
        /// The child.
        child: ChildId,
        /// Echoed in the report.
        epoch: Epoch,
    },
    /// Freeze it, send its state to the owner that goes on. It is ended or thawed afterwards.
    SendDiverged {
        /// The child.
        child: ChildId,
        /// Its own epoch.
        epoch: Epoch,
        /// The owner that goes on.
        to: NodeRun,
        /// When its life began; for the header.
        life: Epoch,
    },
    /// Close its gate, wait for started handlers, encode its state, hold it: it is to be parked, and ended
    /// then. Answered with [`ChildReport::Tried`].
    Rest {
        /// The child.
        child: ChildId,
        /// Echoed in the report.
        epoch: Epoch,
    },
    /// Give a state that arrived to the running child's `merge_diverged_state`.
    Merge {
        /// The child.
        child: ChildId,
        /// The epoch under which the state arrived.
        epoch: Epoch,
    },
    /// Keep a state that arrived under the epoch of its name where it can be fetched. Answered with
    /// [`Event::Parked`] or [`Event::NotParked`].
    Park {
        /// The state's name.
        key: ParkedKey,
        /// The child's kind.
        kind: KindName,
        /// Why it was not merged.
        reason: String,
    },
    /// Keep the state of which a successor was built, and drop that. Answered with [`Event::Parked`] or
    /// [`Event::NotParked`].
    ParkBuilt {
        /// The state's name.
        key: ParkedKey,
        /// The child's kind.
        kind: KindName,
        /// The attempt it was built for.
        built: Epoch,
        /// Why it is not wanted as it is.
        reason: String,
    },
    /// Keep the state of a frozen actor, which stays as it is. Answered with
    /// [`Event::Parked`] or [`Event::NotParked`].
    ParkFrozen {
        /// The state's name.
        key: ParkedKey,
        /// The child's kind.
        kind: KindName,
        /// Why it was not merged.
        reason: String,
        /// When that node did, by its clock: milliseconds since 1970. `None`: nobody has, and it is now.
        at: Option<u64>,
    },
    /// Give a parked state to the running child, between two handlers. Answered with
    /// [`ChildReport::Applied`].
    Apply {
        /// The state's name.
        key: ParkedKey,
        /// The child's kind.
        kind: KindName,
        /// Who sent its bytes; this node, if they are those that it holds.
        from: NodeRun,
        /// The child's own state is replaced, and parked under this name. `None`: they are merged.
        exchange: Option<ParkedKey>,
        /// How long the child may take to come to it.
        wait: Duration,
    },
}
