//! What the tests of the single machines begin with.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    beats::Cadence,
    contact::{Beat, Contact, Lives},
    timing::Timing,
};
use crate::model::{
    id::{Incarnation, Life, NodeId, NodeName},
    member::{Member, MemberState, View, ViewId},
    message::{Heard, Status},
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const TIMING: Timing = Timing {
    heartbeat: SECOND,
    window: Duration::from_secs(3),
    join_timeout: Duration::from_secs(15),
};

pub(super) fn id(n: u8) -> NodeId {
    NodeId::from_key([n; 32])
}

pub(super) fn member(n: u8) -> Member {
    Member {
        id: id(n),
        incarnation: Incarnation { started: 100, nonce: u64::from(n) },
        name: NodeName::new(format!("node-{n}")).expect("a plain word"),
        addresses: vec![format!("/memory/{n}")],
        weight: 1,
        state: MemberState::Alive,
        draining: false,
        labels: Default::default(),
        revision: 0,
    }
}

pub(super) fn lives(nodes: &[u8]) -> Vec<Life> {
    nodes.iter().map(|n| member(*n).life()).collect()
}

pub(super) fn life_map(nodes: &[u8]) -> Lives {
    lives(nodes).into_iter().map(|life| (life.node, life.incarnation)).collect()
}

pub(super) fn view(nodes: &[u8]) -> View {
    View { members: nodes.iter().map(|n| (id(*n), member(*n))).collect() }
}

pub(super) fn status(me: Member) -> Status {
    let (joining, unlinked) = Default::default();
    Status { me: Some(Arc::new(me)), waiting: None, silent: vec![], joining, unlinked }
}

/// What a node has said of itself.
pub(super) struct Told<'a> {
    pub(super) node: u8,
    pub(super) is_linked: bool,
    pub(super) view: &'a [u8],
    pub(super) joining: &'a [u8],
    pub(super) silent: &'a [u8],
    pub(super) unlinked: &'a [u8],
}

impl Told<'_> {
    /// One with a link, and a view that holds these.
    pub(super) fn of(node: u8, view: &[u8]) -> Told<'_> {
        Told { node, is_linked: true, view, joining: &[], silent: &[], unlinked: &[] }
    }
}

/// A heartbeat, with one to each.
pub(super) fn beat(
    number: u64,
    view: ViewId,
    hears: Option<Heard>,
    status: Option<Status>,
) -> Beat {
    let cadence = Cadence::each(&TIMING);
    Beat { number, cadence, view, hears, version: 0, revision: 0, status }
}

/// What node 1 knows of others that have spoken at `now`, and hear it.
pub(super) fn contacts(now: Instant, told: &[Told<'_>]) -> BTreeMap<NodeId, Contact> {
    let contact = |told: &Told<'_>| {
        let mut contact = Contact::met(now, member(told.node), told.is_linked);
        let status = Status {
            silent: lives(told.silent),
            joining: lives(told.joining).into_iter().collect(),
            unlinked: told.unlinked.iter().map(|n| id(*n)).collect(),
            ..status(member(told.node))
        };
        let hears = Heard { incarnation: member(1).incarnation, straight: told.is_linked };
        let lives = Arc::new(life_map(told.view));
        let mine = member(1).incarnation;
        let beat = beat(1, ViewId(u64::MAX), Some(hears), Some(status));
        contact.take_heartbeat(now, &TIMING, mine, told.is_linked, beat, |_| Some(lives));
        (id(told.node), contact)
    };
    told.iter().map(contact).collect()
}
