//! Many memberships on a network of chance: delays, cuts, breaks, pauses, crashes, restarts.
//!
//! The network behaves like a transport over TCP: one link for each pair, words in order, a cut
//! holds bytes back and breaks nothing, an end that closes is noticed by the other when a byte can
//! reach it. Each failure names its seed; the seed replays the run.

mod adversary;
mod faults;
mod invariants;
mod large;
mod network;
mod random;
mod scenarios;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use super::{MemberOutput, Membership, founding::Founding};
use crate::engine::{chance::Chance, io::Effect, relay};
use crate::model::{
    address::SeedOutcome,
    event::HubEvent,
    id::{HubName, Incarnation, NodeId, NodeName, NodeRun},
    member::{Hello, Member, MemberState, WIRE_VERSION},
    message::PeerMessage,
    settings::Settings,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What a transport tells a node.
#[derive(Clone, Debug)]
enum Input {
    Linked(Hello),
    Unlinked(NodeRun),
    Word(NodeRun, PeerMessage),
    Fenced(Incarnation),
    Unreachable(NodeId, bool),
    Seed(usize, SeedOutcome),
}

/// What is on its way from one end of a link to the other.
#[derive(Clone, Debug)]
enum Flow {
    Word(PeerMessage),
    Closed,
}

/// One end of a link.
struct End {
    link: u64,
    peer: NodeRun,
    /// How much has come over it, and had when it was looked at because it was silent.
    came: u64,
    looked_at: Option<u64>,
    /// What this end has sent and the other has not got; the time is the earliest it can arrive.
    flow: VecDeque<(Instant, Flow)>,
}

struct Node {
    id: NodeId,
    membership: Membership,
    announcement: (Member, Vec<Member>, BTreeMap<NodeId, Incarnation>),
    alive: bool,
    /// Switched off: its host answers nothing.
    off: bool,
    paused_until: Option<Instant>,
    wants: BTreeSet<NodeId>,
    redial: BTreeMap<NodeId, (Instant, Duration)>,
    ends: BTreeMap<NodeId, End>,
    inbox: VecDeque<(Instant, Input)>,
    events: Vec<HubEvent>,
    gates: bool,
    /// It gets everything, and nothing leaves it.
    mute: bool,
    /// So many more words leave it; with the last one it dies.
    words_left: Option<usize>,
    /// It said Bye.
    left: bool,
    /// How many words it has put onto links.
    said: usize,
}

/// When a node is told that its view has settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settling {
    /// Never: something of it is missing.
    Never,
    /// As soon as it is in one with others.
    AtOnce,
    /// When all in it have the same one, as early as that can be.
    Together,
}

struct World {
    seed: u64,
    chance: Chance,
    start: Instant,
    now: Instant,
    settings: Settings,
    delay: (Duration, Duration),
    nodes: Vec<Node>,
    /// Directions in which no byte passes.
    cuts: BTreeSet<(usize, usize)>,
    /// How much longer every word of these nodes takes, and every one to them.
    far: BTreeMap<usize, Duration>,
    links: u64,
    nonces: u64,
    step: Duration,
    settling: Settling,
    /// Words come just before, with or just after what their receiver waits for.
    is_mean: bool,
    /// Lives that everybody else has fenced.
    given_up: BTreeSet<(NodeId, Incarnation)>,
}

const STEP: Duration = Duration::from_millis(20);
/// So many nodes are seeds of all.
const SEEDS: usize = 2;

fn seeds(count: u64) -> impl Iterator<Item = (u64, usize)> {
    (0..count).map(|seed| (seed, 2 + seed as usize % 5))
}
