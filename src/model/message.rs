//! The words that nodes exchange on the control stream, and the headers of bulk transfers.
//!
//! Each travels as CBOR in a frame of its own. Structs only, no tuples at the top: a tuple that
//! gains a field desynchronises silently.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    child::{ChildSpec, Entry, Epoch, Ownership, Route},
    id::{ChildId, Incarnation, KindName, LaneId, Life, NodeId, NodeRun, Origin, RequestId},
    member::{Member, ViewId},
    observe::ObserveWord,
    parked::{ParkedInfo, ParkedUse, ParkedWord},
    report::{MigrateOutcome, StartOutcome, StopOutcome},
    tags::{LifeSet, NodeSet},
    topic::TopicWord,
};

/// A word from one node's engine to another's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// Who is there.
    Member(MemberWord),
    /// Who owns what.
    Sync(SyncWord),
    /// Start, stop and migrate, serialised at a child's home.
    Home(HomeWord),
    /// One child's move.
    Handover(HandoverWord),
    /// What is left of the children of a node that went down.
    Roll(RollWord),
    /// Somebody looks at the cluster.
    Observe(ObserveWord),
    /// Who holds which parked states.
    Parked(ParkedWord),
    /// Which topics have subscribers on the sender.
    Topics(TopicWord),
    /// A word for a node to which the sender has no link, passed on by nodes between them.
    Relay {
        /// Who says it.
        from: NodeRun,
        /// For whom it is.
        to: NodeRun,
        /// How many more nodes may pass it on.
        hops: u8,
        /// The word; never itself a relay.
        message: Box<PeerMessage>,
    },
}

/// What one heartbeat says of another, so that each end can measure the round trip by its own
/// clock. Times in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// When it was sent, on the sender's clock.
    pub sent: u64,
    /// `sent` of the receiver's latest heartbeat.
    pub echo: Option<u64>,
    /// How long ago that one came.
    pub held: u64,
}

/// What the sender of a heartbeat hears of the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The life that it hears.
    pub incarnation: Incarnation,
    /// Whether over their own link; otherwise by way of others.
    pub straight: bool,
}

/// What a node says of itself and of whom it hears. Each list and set has at most 1,024.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The sender; `None`: as it was told over this link before.
    pub me: Option<Arc<Member>>,
    /// Whether it waits to be taken into a cluster; `Some(true)` if it may also found one.
    pub waiting: Option<bool>,
    /// Votes: members, and lives that others do not hear, of which the sender hears nothing either;
    /// sorted.
    pub silent: Vec<Life>,
    /// Lives outside the sender's view that it hears.
    pub joining: LifeSet,
    /// Nodes that it hears, or should, and to which it has no link that works both ways.
    pub unlinked: NodeSet,
}

/// A node that went down and may come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostNode {
    /// The node as it described itself last.
    pub member: Member,
    /// How long ago it went down, in milliseconds.
    pub ago: u64,
}

/// Words about who is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberWord {
    /// The sender lives. Sent to whoever it hears, once a heartbeat or as often as the one before said,
    /// and when its status changes; by way of others where there is no link.
    Heartbeat {
        /// The life that says so.
        incarnation: Incarnation,
        /// Rises with each heartbeat of a run: one that comes late is dropped.
        number: u64,
        /// The next one to the receiver comes within so many milliseconds.
        next: u32,
        /// The sender wants one of the receiver at once, and then with each heartbeat, until it says
        /// otherwise.
        wants_all: bool,
        /// The sender's view.
        view: ViewId,
        /// What the round trip is measured by.
        pulse: Pulse,
        /// What the sender hears of the receiver.
        hears: Option<Heard>,
        /// The highest life of the receiver that is over for the sender.
        fence: Option<Incarnation>,
        /// The status as the receiver was told it, with this word or before, by a number of its own; 0: not
        /// said. Who has another asks: a word may be lost though the link works.
        #[serde(default)]
        version: u64,
        /// Which description of itself the sender has told in one, by its revision.
        #[serde(default)]
        revision: u64,
        /// `None`: as it was told over this link before.
        status: Option<Box<Status>>,
    },
    /// Who is in the sender's view.
    View {
        /// The view.
        view: ViewId,
        /// The view that the rest is a difference to; `None`: to none, `members` are all.
        base: Option<ViewId>,
        /// Members that are not in `base`, or in another life. At most 1,024.
        members: Vec<Member>,
        /// Members of `base` that are not in it.
        gone: Vec<NodeId>,
    },
    /// To a newcomer: others that want to come in, too, and that the sender met before. They need each
    /// other's addresses: all who come in hear each other. At most 1,024.
    Introduce {
        /// The others.
        members: Vec<Member>,
    },
    /// Nodes that went down and may come back: the receiver dials them, too, so that they find the
    /// cluster again when all who were in it with them are gone. At most 1,024.
    Lost {
        /// The nodes.
        nodes: Vec<LostNode>,
    },
    /// The sender does not know the receiver's view or status: tell both as a whole.
    Ask,
    /// Does this life of the sender still count?
    Confirm {
        /// The life.
        incarnation: Incarnation,
        /// Echoed in the answer; later questions have higher numbers.
        question: u64,
    },
    /// The answer to `Confirm`: it does.
    Confirmed {
        /// The life.
        incarnation: Incarnation,
        /// From the question.
        question: u64,
    },
    /// The verdict: this life is fenced.
    Down {
        /// The node.
        about: NodeId,
        /// The fenced life, and every earlier one.
        incarnation: Incarnation,
        /// Who voted for it, the declarer included.
        voters: Vec<NodeId>,
    },
    /// To a node that was declared down while it lived: come back with a higher incarnation.
    Fenced {
        /// The fenced life.
        incarnation: Incarnation,
    },
    /// The sender owns nothing any more, has answered everything, and goes.
    Bye {
        /// The life that goes.
        incarnation: Incarnation,
    },
}

/// One entry of a log with its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The version at which the entry was written.
    pub version: u64,
    /// The child.
    pub child: ChildId,
    /// What the log says of it.
    pub entry: Entry,
}

/// Words about who owns what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncWord {
    /// Everything that still stands in a log between two versions, in order of version.
    Changes {
        /// Whose log.
        log: NodeRun,
        /// The receiver can use it only if its watermark is at least this.
        from: u64,
        /// The watermark afterwards.
        upto: u64,
        /// The entries with `from < version <= upto`.
        entries: Vec<LogEntry>,
    },
    /// The whole log from its beginning; replaces what the receiver has of it.
    Snapshot {
        /// Whose log.
        log: NodeRun,
        /// The watermark afterwards.
        upto: u64,
        /// All entries that stand.
        entries: Vec<LogEntry>,
        /// Whether more parts of the same snapshot follow. Parts are ordered by version.
        more: bool,
    },
    /// Up to which version the sender has each log; what it does not name, it does not have.
    Digest {
        /// One watermark for each log that the sender holds.
        watermarks: Vec<Watermark>,
    },
    /// The sender has a log up to here: the answer to `Changes` and `Snapshot`.
    Have {
        /// The log and its version.
        watermark: Watermark,
    },
    /// What changed in this log after this version?
    Ask {
        /// Whose log.
        log: NodeRun,
        /// The asker's watermark.
        from: u64,
    },
    /// The sender has adopted this view; its own log stands at this version.
    In {
        /// The view.
        view: ViewId,
        /// How many views the sender has adopted, this one included.
        adopted: u64,
        /// The receiver's `adopted` in its latest `In`; 0 before the first. An `In` counts for the
        /// receiver only if it echoes its current one: an earlier stay in an equal view is over.
        echo: u64,
        /// The version of the sender's own log.
        version: u64,
        /// Whether the sender waits for the receiver's: it says In, too.
        wanted: bool,
        /// The kinds that the sender has registered.
        kinds: Vec<KindName>,
        /// How far the sender has the logs of runs that are not in the view. At most 1,024.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gone: Vec<Watermark>,
        /// Runs in the view that were away for so long that the sender may have forgotten removals of
        /// their children, and that have not asked about them yet.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        away: Vec<Absence>,
        /// Absences of the sender itself that others named, by who did: it has asked.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        asked: Vec<Absence>,
    },
    /// The sender was away for long, and no member has said anything since about these children, of its own
    /// and of runs that are gone: were they stopped meanwhile? At most 512.
    Doubt {
        /// Comes back in the answer.
        batch: u64,
        /// The children.
        children: Vec<Doubtful>,
    },
    /// The answer to `Doubt`.
    Recalled {
        /// Of the question.
        batch: u64,
        /// What is known of each child, in the order of the question.
        recalls: Vec<Recall>,
    },
}

/// A run was away for longer than `forget_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    /// Who was away; in what a run says of its own absences, who has named it.
    pub run: NodeRun,
    /// Counts the absences that one run has named.
    pub number: u64,
}

/// A child of which a node that was away does not know whether it was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubtful {
    /// The child.
    pub child: ChildId,
    /// Where the first entry stood by which the asker has known it: who has this log up to here has known
    /// it, too.
    pub first: Watermark,
    /// Where the log first spoke of it whose word is the latest; the same holds for it.
    pub since: Watermark,
}

/// What a node knows of a child that another has and doubts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recall {
    /// It knows the child by another's word, or did before the asker came back.
    Known,
    /// It has known the child, and does no more: it was stopped, and that was forgotten.
    Forgotten,
    /// It cannot say: it never had the logs in which the child stood, or not from who wrote them.
    Never,
    /// It cannot say, and knows the child by what it was told since the asker came back.
    Heard,
}

/// Up to which version a log is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// Whose log.
    pub log: NodeRun,
    /// The contiguous version.
    pub version: u64,
}

/// Words with which starts, stops and migrations are serialised at a child's home node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HomeWord {
    /// To the home of these children: start them.
    Start {
        /// The requester's number.
        request: RequestId,
        /// The children.
        specs: Vec<Arc<ChildSpec>>,
        /// How long the requester waits.
        wait: Duration,
    },
    /// From the home to the requester.
    Started {
        /// The requester's number.
        request: RequestId,
        /// What became of each.
        outcomes: Vec<ChildOutcome<StartOutcome>>,
    },
    /// From the home to the node that shall run a child.
    Run {
        /// The child.
        spec: Arc<ChildSpec>,
        /// The epoch at which it begins.
        epoch: Epoch,
        /// The request that it begins for.
        origin: Origin,
    },
    /// The answer to `Run`.
    Ran {
        /// The child.
        child: ChildId,
        /// From the order.
        epoch: Epoch,
        /// What became of it.
        outcome: StartOutcome,
    },
    /// To the home of these children: stop them for good.
    Stop {
        /// The requester's number.
        request: RequestId,
        /// The children.
        children: Vec<ChildId>,
        /// How long the requester waits.
        wait: Duration,
    },
    /// From the home to the requester.
    Stopped {
        /// The requester's number.
        request: RequestId,
        /// What became of each.
        outcomes: Vec<ChildOutcome<StopOutcome>>,
    },
    /// From the home to the owner: stop this child for good.
    Halt {
        /// The child.
        child: ChildId,
        /// The term at which it is removed.
        epoch: Epoch,
    },
    /// The answer to `Halt`.
    Halted {
        /// The child.
        child: ChildId,
        /// From the order.
        epoch: Epoch,
        /// What became of it.
        outcome: StopOutcome,
    },
    /// To the home of a child: where is it?
    Locate {
        /// The child.
        child: ChildId,
        /// The asker's number of the question, for the answer. Later questions have higher ones.
        question: u64,
    },
    /// The answer to `Locate`.
    Located {
        /// The child.
        child: ChildId,
        /// From the question.
        question: u64,
        /// Its owner; `None`: there is no such child.
        route: Option<Route>,
    },
    /// To a child's owner: move it.
    Migrate {
        /// The requester's number.
        request: RequestId,
        /// The child.
        child: ChildId,
        /// Where to; `None`: it is bound to no node any more, and goes where the distribution has it.
        to: Option<NodeId>,
        /// Whether started handlers are cut off at `retention`.
        forced: bool,
        /// How long the requester waits.
        wait: Duration,
    },
    /// From the owner to the requester.
    Migrated {
        /// The requester's number.
        request: RequestId,
        /// The child.
        child: ChildId,
        /// What became of it.
        outcome: MigrateOutcome,
    },
}

/// What became of one child of a request for many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildOutcome<T> {
    /// The child.
    pub child: ChildId,
    /// What became of it.
    pub outcome: T,
}

/// Words of one child's move. The state itself goes as a bulk transfer; the commit and the
/// successor's start are entries in the registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandoverWord {
    /// Will you take this child?
    Offer {
        /// The ownership as the successor would have it, with the attempt's epoch.
        ownership: Ownership,
        /// The epoch of the owner that offers it, and so of its state: below the attempt's.
        state: Epoch,
        /// The version of the state that would come.
        state_version: u32,
        /// Whether a state comes, or the successor starts from its arguments.
        with_state: bool,
        /// The view by which the child belongs to the receiver.
        view: ViewId,
    },
    /// Yes; the state may come.
    Accept {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
    },
    /// No; nothing has changed.
    Refuse {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
        /// Why.
        reason: RefuseReason,
    },
    /// The successor stands, built and not running.
    Ready {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
    },
    /// The successor could not be built, or is given up.
    Failed {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
        /// Why.
        reason: String,
        /// Whether nothing is left of the successor. If not, it is built and waits: the source's
        /// entry decides as ever.
        gone: bool,
        /// Whether it will be so for as long as the node runs what it runs: it cannot read the state.
        #[serde(default)]
        lasts: bool,
    },
    /// From a source that has committed and sees no successor: is there one? `Failed` if not.
    Query {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
    },
    /// From a source that has committed, to `Failed`: the actor that it kept has ended, too, and it has
    /// nothing left. What the target has is all there is.
    Lost {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
    },
    /// The loser of a divergence was taken in, or its state is parked on two nodes; it may end.
    Taken {
        /// The child.
        child: ChildId,
        /// The loser's epoch.
        epoch: Epoch,
    },
    /// The state of the loser of a divergence is not merged and is parked at the winner. The loser parks it,
    /// too, and waits for `Taken`.
    Parks {
        /// The child.
        child: ChildId,
        /// The loser's epoch.
        epoch: Epoch,
        /// Why it is not merged.
        reason: String,
        /// When it was parked, by the winner's clock: milliseconds since 1970.
        at: u64,
    },
}

/// Why a node does not take a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefuseReason {
    /// The node has not registered the child's kind.
    UnknownKind,
    /// The node cannot read states of this version.
    StateVersion {
        /// The oldest it reads.
        oldest: u32,
        /// The newest it reads.
        newest: u32,
    },
    /// The node takes no children any more.
    Leaving,
    /// The node's view differs; tried again when the views agree.
    View,
    /// The child does not belong there.
    NotMine,
    /// The node still holds an older instance of the child, or is at its limit; tried again.
    Busy,
    /// The state arrived and the node had no room for it; tried again.
    NoRoom,
}

/// Words of a roll call: what is left of the children of a node that went down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RollWord {
    /// From a home: what do you hold of these?
    Call {
        /// Echoed in the answer.
        roll: u64,
        /// The children, each with the term that the home claims.
        claims: Vec<Claim>,
    },
    /// The answer: a promise to obey no lower claim.
    Answer {
        /// From the call.
        roll: u64,
        /// One for each claim.
        holds: Vec<Held>,
    },
    /// From the home: bring this child to life at this epoch.
    Take {
        /// The ownership as it begins.
        ownership: Ownership,
        /// What to make it from.
        from: Copy,
    },
    /// To the home: call the roll for this child again, above this term. From who cannot do what it
    /// was told, as what it has answered is not there any more or did not start; and from who has
    /// promised this term and sees a live owner of a lower one.
    Again {
        /// The child.
        child: ChildId,
        /// The term that comes to nothing.
        term: u64,
    },
}

/// One child of a roll call with the term that its home claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The child.
    pub child: ChildId,
    /// The term the home claims for it.
    pub term: u64,
}

/// One node's answer about one child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The child.
    pub child: ChildId,
    /// The term from the claim; the answerer now refuses lower ones, and this one from other homes.
    pub term: u64,
    /// Why nothing is promised, if so: the term that it has promised to another home, or at which it
    /// knows an owner. Not below the claim.
    pub promised: Option<u64>,
    /// What it holds.
    pub copy: Copy,
    /// The epoch of the owner whose state that is; not of an attempt to hand it on.
    pub epoch: Epoch,
    /// Since when its state goes back without a break.
    pub born: Epoch,
}

/// What a node holds of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Copy {
    /// Nothing: only its arguments are known.
    Nothing,
    /// A successor that is built and not running.
    Ready,
    /// An old actor that is held.
    Frozen,
    /// A running actor.
    Live,
}

/// What stands before the bytes of a bulk transfer. CBOR, at most 1 MiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BulkHeader {
    /// The state of a child that moves.
    State {
        /// The child.
        child: ChildId,
        /// The attempt.
        epoch: Epoch,
        /// The version of the state's form.
        state_version: u32,
        /// How far each lane's messages are in the state.
        lanes: Vec<LaneMark>,
        /// So many bytes before the state are CBOR of further such marks, which would not fit here.
        #[serde(default)]
        marks: u32,
    },
    /// The state of a child's owner that lost a divergence.
    Diverged {
        /// The child.
        child: ChildId,
        /// The loser's epoch.
        epoch: Epoch,
        /// The version of the state's form.
        state_version: u32,
        /// When the winner's life began: no other one may take the state in.
        life: Epoch,
    },
    /// A parked state: a copy to be kept, or one to be given to its child.
    Parked {
        /// What is known of it.
        info: ParkedInfo,
        /// What it is for.
        purpose: ParkedUse,
    },
}

impl BulkHeader {
    /// The child it is about.
    #[must_use]
    pub fn child(&self) -> &ChildId {
        match self {
            Self::State { child, .. } | Self::Diverged { child, .. } => child,
            Self::Parked { info, .. } => &info.key.child,
        }
    }

    /// The epoch it belongs to.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        match self {
            Self::State { epoch, .. } | Self::Diverged { epoch, .. } => *epoch,
            Self::Parked { info, .. } => info.key.epoch,
        }
    }
}

/// The highest number of one lane whose message's handler has started: what a state contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneMark {
    /// The sending node's run.
    pub run: NodeRun,
    /// Its lane to the child.
    pub lane: LaneId,
    /// All numbers up to this one are done.
    pub accepted: u64,
}
