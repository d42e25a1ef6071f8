//! Doors of several nodes joined by their data planes alone: what goes by a third member.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use super::{
    codec::Rules,
    data_plane::{Plane, state_taken},
    doors::{Doors, HeldDoor, PathReport},
    envelope::{Envelope, Slot, Traced, Waiter},
    hot_swap::HubMessage,
};
use crate::{
    delivery::{How, Limits, Side, door::Item, path::PathLimits, transfer::TransferLimits},
    error::NotHandled,
    model::{
        child::{Epoch, Route},
        frame::{DataFrame, PathId, PathStream, PathWord},
        id::{ChildId, KindName, LaneId, NodeId, NodeRun},
        message::BulkHeader,
    },
    net::DataPlane,
    wire,
};

#[derive(Default, Serialize, Deserialize)]
struct Log(Vec<u64>);

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
struct Number(u64);

impl Actor for Log {
    type Context = Context<Self>;
}

impl HubMessage for Number {
    const NAME: &'static str = "number";
}

impl Handler<Number> for Log {
    type Result = u64;
    fn handle(&mut self, Number(number): Number, _: &mut Context<Self>) -> u64 {
        number
    }
}

crate::hot_swap!(Log, kind = "log", messages = [Number]);

/// Keeps what paths report.
struct Reports(mpsc::Sender<PathReport>);

impl Actor for Reports {
    type Context = Context<Self>;
}

impl Handler<PathReport> for Reports {
    type Result = ();
    fn handle(&mut self, report: PathReport, _: &mut Context<Self>) {
        // The test may have ended.
        let _ = self.0.send(report);
    }
}

fn run_of(node: usize) -> NodeRun {
    NodeRun { node: NodeId::from_key([node as u8 + 1; 32]), nonce: node as u64 }
}

fn child(node: usize) -> ChildId {
    ChildId::new(format!("c{node}")).expect("a valid id")
}

fn epoch() -> Epoch {
    Epoch { term: 1, attempt: 0 }
}

struct Node {
    doors: Arc<Doors>,
    plane: Plane,
    reports: mpsc::Receiver<PathReport>,
    /// What its child was told, in order.
    handled: Vec<u64>,
}

/// Nodes with a child each, and links over which frames go when they are carried.
struct Net {
    nodes: Vec<Node>,
    links: BTreeSet<(usize, usize)>,
    /// Links over which nothing comes; what is written to them is held.
    silent: BTreeMap<(usize, usize), BytesMut>,
    /// Links that were closed for what came over them.
    broken: Vec<(usize, usize, String)>,
}

impl Net {
    /// So many nodes, all linked, all members.
    fn new(count: usize) -> Self {
        let limits = Limits {
            mailbox: 1_000,
            waiting: 1_000,
            window_messages: 100,
            window_bytes: 1 << 20,
            reply_cache: 1_000,
            reply_cache_bytes: 1 << 20,
        };
        let paths = PathLimits {
            frame: 64 << 10,
            transfer: TransferLimits { header: 1_000, body: 4 << 20 },
        };
        let members: BTreeSet<NodeRun> = (0..count).map(run_of).collect();
        let nodes = (0..count)
            .map(|node| {
                let doors =
                    Doors::new(run_of(node), limits, paths, Duration::from_secs(3_600), 4 << 20);
                let (sender, reports) = mpsc::channel();
                let actor = Reports(sender).start();
                let _ = doors.reports.set(actor.recipient());
                doors.members(members.clone());
                for owner in 0..count {
                    let route = Route { owner: run_of(owner), epoch: epoch() };
                    doors.route(&child(owner), Some(route));
                }
                doors.cell(&child(node)).with(|door| door.open(epoch(), &[]));
                let plane = Plane(Arc::downgrade(&doors));
                Node { doors, plane, reports, handled: Vec::new() }
            })
            .collect();
        let mut net =
            Self { nodes, links: BTreeSet::new(), silent: BTreeMap::new(), broken: Vec::new() };
        for a in 0..count {
            for b in 0..a {
                net.link(a, b);
            }
        }
        net.carry();
        net
    }

    fn link(&mut self, a: usize, b: usize) {
        self.links.extend([(a, b), (b, a)]);
        self.nodes[a].plane.linked(run_of(b));
        self.nodes[b].plane.linked(run_of(a));
    }

    fn unlink(&mut self, a: usize, b: usize) {
        for (at, other) in [(a, b), (b, a)] {
            self.links.remove(&(at, other));
            self.silent.remove(&(at, other));
            self.nodes[at].plane.unlinked(run_of(other));
        }
    }

    /// From now on nothing comes over the link between two nodes.
    fn cut(&mut self, a: usize, b: usize) {
        self.silent.extend([((a, b), BytesMut::new()), ((b, a), BytesMut::new())]);
    }

    /// What was held comes late.
    fn heal(&mut self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            let held = self.silent.remove(&(from, to)).unwrap_or_default();
            self.frames(from, to, &held);
        }
    }

    fn frames(&mut self, from: usize, to: usize, mut bytes: &[u8]) {
        while let Some((head, rest)) = bytes.split_first_chunk::<4>() {
            let (frame, rest) = rest.split_at(u32::from_le_bytes(*head) as usize);
            bytes = rest;
            let frame = Bytes::copy_from_slice(frame);
            if let Err(error) = self.nodes[to].plane.frame(run_of(from), frame) {
                self.broken.push((from, to, error.to_string()));
                return self.unlink(from, to);
            }
        }
    }

    /// Carries frames over all links, once each.
    fn carry_once(&mut self) -> usize {
        let mut carried = 0;
        for (from, to) in self.links.clone() {
            let mut buffer = BytesMut::new();
            self.nodes[from].plane.fill(run_of(to), &mut buffer, 8 << 10);
            if let Some(held) = self.silent.get_mut(&(from, to)) {
                held.extend_from_slice(&buffer);
                continue;
            }
            carried += buffer.len();
            self.frames(from, to, &buffer);
        }
        carried
    }

    /// Carries frames and lets children handle, until nothing moves.
    fn carry(&mut self) {
        while self.carry_once() > 0 || self.handle() {}
    }

    fn handle(&mut self) -> bool {
        let mut any = false;
        for node in 0..self.nodes.len() {
            let cell = self.nodes[node].doors.cell(&child(node));
            while let Some(task) = cell.with(|door| door.next_task(Instant::now())) {
                let Item::Remote { body, .. } = task.item else { panic!("only others call") };
                let Number(number) = wire::decode_cbor("test", &body).expect("a number");
                self.nodes[node].handled.push(number);
                cell.with(|door| door.resolved(task.ticket, Some(Ok(body))));
                any = true;
            }
        }
        any
    }

    /// A node asks the child of another.
    fn ask(&self, from: usize, to: usize, number: u64) {
        self.say(from, to, number, true);
    }

    /// A node tells the child of another something, and wants no reply.
    fn tell(&self, from: usize, to: usize, number: u64) {
        self.say(from, to, number, false);
    }

    fn say(&self, from: usize, to: usize, number: u64, wants_reply: bool) {
        let kind = KindName::new("log").expect("a valid name");
        let traced = Traced { span: tracing::Span::none(), context: None };
        let envelope = Envelope::new::<Log, Number>(
            Number(number),
            None,
            "number".into(),
            kind,
            Rules { limit: 1_000, read_back: false },
            None,
            traced,
        );
        let cell = self.nodes[from].doors.cell(&child(to));
        let entered = cell.with(|door| door.enter(envelope, wants_reply, How::Send).is_ok());
        assert!(entered, "there is room");
    }

    /// A message for a child that no node knows.
    fn ask_nobody(&self, from: usize, id: &ChildId, deadline: Duration) -> Arc<Slot<u64>> {
        let doors = &self.nodes[from].doors;
        let until = doors.millis(doors.began + deadline);
        let slot = Arc::new(Slot::<u64>::new(id.clone(), doors.began, until));
        let envelope = Envelope::new::<Log, Number>(
            Number(1),
            None,
            "number".into(),
            KindName::new("log").expect("a valid name"),
            Rules { limit: 1_000, read_back: false },
            Some(slot.clone()),
            Traced { span: tracing::Span::none(), context: None },
        );
        let door = HeldDoor::new(doors.cell(id));
        door.enter(envelope, How::Send, Some(slot.clone())).expect("there is room");
        slot
    }

    /// Whether everything that a node asked of another was answered.
    fn is_answered(&self, from: usize, to: usize) -> bool {
        !self.nodes[from].doors.cell(&child(to)).with(|door| door.is_calling())
    }

    fn detour(&self, from: usize, to: usize, by: Option<usize>) {
        self.nodes[from].doors.detour(run_of(to), by.map(run_of));
    }

    /// Which paths a node has lost, by the nodes at the end and between.
    async fn lost(&self, node: usize) -> Vec<(NodeRun, NodeRun)> {
        let mut lost = Vec::new();
        // Reports are messages between actors on this thread.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        while let Ok(report) = self.nodes[node].reports.try_recv() {
            match report {
                PathReport::Lost { to, by } => lost.push((to, by)),
                PathReport::State { .. } => panic!("no state was sent"),
            }
        }
        lost
    }
}

#[actix::test]
async fn each_direction_goes_by_a_member_of_its_own_and_answers_come_back_the_same_way() {
    let mut net = Net::new(4);
    net.cut(0, 1);
    net.detour(0, 1, Some(2));
    net.detour(1, 0, Some(3));
    for number in 0..50 {
        net.ask(0, 1, number);
        net.ask(1, 0, 100 + number);
    }
    net.carry();
    assert_eq!(net.nodes[1].handled, (0..50).collect::<Vec<_>>());
    assert_eq!(net.nodes[0].handled, (100..150).collect::<Vec<_>>());
    assert!(net.is_answered(0, 1) && net.is_answered(1, 0));
    assert!(net.broken.is_empty(), "{:?}", net.broken);
}

#[actix::test]
async fn only_who_was_told_to_takes_the_detour() {
    // Nothing comes from node 0 to node 1, and the other direction is fit.
    let mut net = Net::new(3);
    net.silent.insert((0, 1), BytesMut::new());
    net.ask(0, 1, 1);
    net.carry();
    assert!(!net.is_answered(0, 1));
    net.detour(0, 1, Some(2));
    net.carry();
    assert!(net.is_answered(0, 1));
    // Node 1 still asks over the link; the answers cannot come back there.
    net.ask(1, 0, 2);
    net.carry();
    assert_eq!(net.nodes[0].handled, [2]);
    assert!(!net.is_answered(1, 0));
    net.detour(1, 0, Some(2));
    net.carry();
    assert!(net.is_answered(1, 0));
    assert_eq!((&*net.nodes[0].handled, &*net.nodes[1].handled), (&[2][..], &[1][..]));
}

#[actix::test]
async fn what_a_link_held_and_gives_free_during_the_detour_and_after_it_is_void() {
    let mut net = Net::new(3);
    let mut asked = 0..;
    let mut expected = Vec::new();
    for round in 0..6 {
        net.cut(0, 1);
        for _ in 0..10 {
            let number = asked.next().expect("there are enough numbers");
            net.ask(0, 1, number);
            expected.push(number);
        }
        // They are written to the link, and held there.
        net.carry();
        net.detour(0, 1, Some(2));
        if round % 2 == 0 {
            net.carry();
            net.heal(0, 1);
            net.carry();
            net.detour(0, 1, None);
        } else {
            // Back on the link before the other end has heard of the detour.
            net.detour(0, 1, None);
            net.heal(0, 1);
        }
        net.carry();
        assert!(net.is_answered(0, 1), "round {round}");
        assert_eq!(net.nodes[1].handled, expected, "round {round}");
    }
    assert!(net.broken.is_empty(), "{:?}", net.broken);
}

#[actix::test]
async fn a_path_that_breaks_anywhere_is_told_and_the_next_one_goes_on() {
    for (broken_hop, rest) in [((0, 2), 3), ((2, 1), 3)] {
        let mut net = Net::new(4);
        net.cut(0, 1);
        net.detour(0, 1, Some(2));
        // More than fit into the lane's window.
        for number in 0..500 {
            net.ask(0, 1, number);
        }
        for _ in 0..3 {
            net.carry_once();
            net.handle();
        }
        net.unlink(broken_hop.0, broken_hop.1);
        net.carry();
        assert_eq!(net.lost(0).await, [(run_of(1), run_of(2))]);
        assert!(!net.is_answered(0, 1));
        net.detour(0, 1, Some(rest));
        net.carry();
        assert_eq!(net.nodes[1].handled, (0..500).collect::<Vec<_>>());
        assert!(net.is_answered(0, 1));
    }
}

#[actix::test]
async fn a_member_that_cannot_reach_the_other_or_does_not_know_it_refuses() {
    let mut net = Net::new(3);
    net.unlink(1, 2);
    net.detour(0, 1, Some(2));
    net.carry();
    assert_eq!(net.lost(0).await, [(run_of(1), run_of(2))]);
    net.link(1, 2);
    for knowing in [vec![0, 2], vec![1, 2]] {
        // The member between, and then the other end, do not know one of the three.
        for at in [2, 1] {
            net.nodes[at].doors.members(knowing.iter().copied().map(run_of).collect());
            net.detour(0, 1, Some(2));
            net.carry();
            assert_eq!(net.lost(0).await, [(run_of(1), run_of(2))], "{knowing:?} at {at}");
            net.nodes[at].doors.members((0..3).map(run_of).collect());
        }
    }
    net.detour(0, 1, Some(2));
    net.ask(0, 1, 1);
    net.carry();
    assert!(net.is_answered(0, 1));
    assert_eq!(net.lost(0).await, []);
    assert!(net.broken.is_empty(), "{:?}", net.broken);
}

#[actix::test]
async fn a_member_between_that_passes_by_its_own_link_does_not_forward_over_it() {
    let mut net = Net::new(4);
    net.cut(0, 1);
    net.cut(2, 1);
    net.detour(0, 1, Some(2));
    net.ask(0, 1, 1);
    net.carry();
    assert_eq!(net.lost(0).await, [], "it does not know yet");
    net.detour(2, 1, Some(3));
    net.carry();
    assert_eq!(net.lost(0).await, [(run_of(1), run_of(2))]);
    net.detour(0, 1, Some(2));
    net.carry();
    assert_eq!(net.lost(0).await, [(run_of(1), run_of(2))], "and knows now");
    net.detour(0, 1, Some(3));
    net.carry();
    assert!(net.is_answered(0, 1));
}

#[actix::test]
async fn the_barrier_before_a_node_leaves_comes_down_by_a_path_too() {
    let mut net = Net::new(3);
    net.cut(0, 1);
    net.detour(1, 0, Some(2));
    net.ask(1, 0, 1);
    net.carry();
    let doors = net.nodes[0].doors.clone();
    let mut drained = Box::pin(doors.drain());
    assert!((&mut drained).now_or_never().is_none(), "nobody has heard it yet");
    // The path changes while the barrier is up.
    net.detour(1, 0, None);
    net.detour(1, 0, Some(2));
    net.carry();
    while (&mut drained).now_or_never().is_none() {
        assert!(net.carry_once() > 0, "nothing moves, and not everybody has heard it");
    }
    assert!(net.is_answered(1, 0));
}

#[actix::test]
async fn the_barrier_waits_for_a_member_without_a_path_until_it_takes_one_or_is_out() {
    for goes in [false, true] {
        let mut net = Net::new(3);
        net.ask(1, 0, 1);
        net.carry();
        net.unlink(0, 1);
        let doors = net.nodes[0].doors.clone();
        let mut drained = Box::pin(doors.drain_members());
        assert!((&mut drained).now_or_never().is_none(), "nobody has heard it yet");
        net.carry();
        assert!((&mut drained).now_or_never().is_none(), "node 1 may lack an answer");
        match goes {
            true => doors.members([0, 2].map(run_of).into()),
            false => net.detour(1, 0, Some(2)),
        }
        while (&mut drained).now_or_never().is_none() {
            assert!(net.carry_once() > 0, "nothing moves, and the barrier is up");
        }
        // Who ends in any case waits for those alone that can hear it.
        let mut net = Net::new(3);
        net.unlink(0, 1);
        let doors = net.nodes[0].doors.clone();
        let mut drained = Box::pin(doors.drain());
        assert!((&mut drained).now_or_never().is_none(), "node 2 has not heard it yet");
        net.carry();
        assert!((&mut drained).now_or_never().is_some());
    }
}

#[actix::test]
async fn nonsense_on_a_path_closes_the_path_and_not_the_link_of_the_member_between() {
    let nested = {
        let path = PathId { origin: run_of(0), number: 9 };
        let mut bytes = BytesMut::new();
        wire::append_frame(
            &mut bytes,
            &DataFrame::Path { path, word: PathWord::Open { to: run_of(1) } },
        );
        bytes.freeze()
    };
    for bytes in [Bytes::from_static(&[1, 0, 0, 0, 77]), Bytes::from_static(&[255; 4]), nested] {
        let mut net = Net::new(3);
        net.detour(0, 1, Some(2));
        net.carry();
        let number = net.nodes[0].doors.exchange(Side::Calls, run_of(1)).expect("a path").number;
        let path = PathId { origin: run_of(0), number };
        let word = PathWord::Bytes { stream: PathStream::Messages, bytes };
        let mut buffer = BytesMut::new();
        wire::append_frame(&mut buffer, &DataFrame::Path { path, word });
        net.frames(0, 2, &buffer);
        net.carry();
        assert!(net.broken.is_empty(), "{:?}", net.broken);
        assert_eq!(net.lost(0).await, [(run_of(1), run_of(2))]);
        net.detour(0, 1, Some(2));
        net.ask(0, 1, 1);
        net.carry();
        assert!(net.is_answered(0, 1));
    }
}

#[actix::test]
async fn who_floods_the_member_between_loses_its_own_link_alone() {
    let mut net = Net::new(3);
    net.detour(0, 1, Some(2));
    net.carry();
    let number = net.nodes[0].doors.exchange(Side::Calls, run_of(1)).expect("a path").number;
    let path = PathId { origin: run_of(0), number };
    net.cut(2, 1);
    let mut buffer = BytesMut::new();
    for _ in 0..=PathStream::Messages.window() / PathWord::LONGEST {
        let bytes = vec![0; PathWord::LONGEST].into();
        let word = PathWord::Bytes { stream: PathStream::Messages, bytes };
        wire::append_frame(&mut buffer, &DataFrame::Path { path, word });
    }
    net.frames(0, 2, &buffer);
    assert_eq!(net.broken.len(), 1);
    assert!(net.links.contains(&(2, 1)) && !net.links.contains(&(0, 2)));
}

#[actix::test]
async fn a_state_goes_by_the_path_beside_messages_and_fails_with_it() {
    let mut net = Net::new(3);
    net.cut(0, 1);
    net.detour(0, 1, Some(2));
    let outcomes: Arc<Mutex<Vec<Result<(), String>>>> = Arc::default();
    let body = Bytes::from(vec![7; 2 << 20]);
    let send = |net: &Net, attempt| {
        let header = BulkHeader::State {
            child: child(5),
            epoch: Epoch { term: 1, attempt },
            state_version: 1,
            lanes: Vec::new(),
            marks: 0,
        };
        let told = outcomes.clone();
        let done = Box::new(move |outcome| told.lock().expect("no panic").push(outcome));
        net.nodes[0].doors.send_bulk(run_of(1), header, body.clone(), done);
    };
    send(&net, 1);
    send(&net, 2);
    // Messages do not wait for the states.
    net.ask(0, 1, 1);
    for _ in 0..8 {
        net.carry_once();
        net.handle();
    }
    assert!(net.is_answered(0, 1));
    for attempt in 1..=2 {
        net.carry();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let Ok(PathReport::State { from, path, arrived }) = net.nodes[1].reports.try_recv() else {
            panic!("state {attempt} did not arrive");
        };
        assert_eq!(from, run_of(0));
        assert!(arrived.body == body);
        let header = wire::decode_bulk_header(&arrived.header).expect("a header");
        assert_eq!(header.epoch().attempt, attempt);
        assert_eq!(outcomes.lock().expect("no panic").len() as u64, attempt - 1);
        state_taken(&net.nodes[1].doors, path, Ok(()));
        net.carry();
        assert_eq!(outcomes.lock().expect("no panic").len() as u64, attempt);
    }
    send(&net, 3);
    net.carry_once();
    net.unlink(2, 1);
    net.carry();
    let outcomes = outcomes.lock().expect("no panic").clone();
    assert_eq!(outcomes[..2], [Ok(()), Ok(())]);
    assert!(outcomes[2].as_ref().is_err_and(|reason| reason.contains("link on the way")));
}

/// Whether this lane of node 0 leads to a door of node 1.
fn leads(net: &Net, lane: LaneId) -> bool {
    let exchange = net.nodes[1].doors.exchange(Side::Answers, run_of(0));
    exchange.expect("there is a link").lanes.door(lane).is_some()
}

#[actix::test]
async fn the_lane_of_a_door_that_is_forgotten_is_given_back_at_its_owner() {
    let mut net = Net::new(2);
    net.tell(0, 1, 1);
    net.carry();
    let lane = net.nodes[0].doors.cell(&child(1)).with(|door| door.lane().0);
    assert!(leads(&net, lane));
    assert!(!net.nodes[0].doors.sweep(Instant::now()), "nobody waits");
    net.nodes[0].doors.prune();
    net.carry();
    assert!(!leads(&net, lane));
    // The next door has another lane.
    let route = Route { owner: run_of(1), epoch: epoch() };
    net.nodes[0].doors.route(&child(1), Some(route));
    net.ask(0, 1, 2);
    net.carry();
    let next = net.nodes[0].doors.cell(&child(1)).with(|door| door.lane().0);
    assert!(next != lane && leads(&net, next) && !leads(&net, lane));
    assert_eq!(net.nodes[1].handled, [1, 2]);
    assert!(net.broken.is_empty(), "{:?}", net.broken);
}

#[actix::test]
async fn the_door_of_an_id_that_does_not_exist_goes_with_the_last_reference() {
    let net = Net::new(1);
    let doors = &net.nodes[0].doors;
    let id = ChildId::new("nobody").expect("a valid id");
    let before = doors.count();
    let (first, second) = {
        let first = HeldDoor::new(doors.cell(&id));
        (first.clone(), first)
    };
    drop(first);
    assert_eq!(doors.count(), before + 1, "somebody holds it");
    drop(second);
    assert_eq!(doors.count(), before);
    // One that was sent something has to be told first that there is no such child.
    let slot = net.ask_nobody(0, &id, Duration::from_secs(3_600));
    assert!(doors.sweep(Instant::now()));
    assert!(!slot.is_done());
    assert_eq!(doors.count(), before + 1, "a message waits");
    doors.located(&id, false);
    assert!(slot.is_done());
    // The time of its caller is not waited for.
    assert!(!doors.sweep(Instant::now()));
    assert_eq!(doors.count(), before);
    assert_eq!(doors.lanes(), before);
    // One that is known is kept for the next reference, until it is stopped.
    let route = Route { owner: run_of(7), epoch: epoch() };
    doors.route(&id, Some(route));
    drop(HeldDoor::new(doors.cell(&id)));
    assert_eq!(doors.count(), before + 1);
    doors.route(&id, None);
    assert_eq!(doors.count(), before);
}

#[actix::test]
async fn a_lane_that_was_closed_while_there_was_no_path_is_forgotten_on_the_next_one() {
    let mut net = Net::new(2);
    net.ask(0, 1, 1);
    net.carry();
    let (near, far) = (net.nodes[0].doors.clone(), net.nodes[1].doors.clone());
    let kept = || far.cell(&child(1)).with(|door| door.marks().len());
    let lane = near.cell(&child(1)).with(|door| door.lane().0);
    net.unlink(0, 1);
    // Whether the reply has arrived is not known at the other end, which keeps it.
    near.sweep(Instant::now());
    near.prune();
    assert_eq!(near.own_lane(lane).map(|cell| cell.child.clone()), None);
    assert_eq!(kept(), 1);
    net.link(0, 1);
    net.carry();
    assert_eq!(kept(), 0);
    assert!(!leads(&net, lane));
    // One that is done with its replies says so on the next path, too.
    net.ask(0, 1, 2);
    net.carry();
    let lane = near.cell(&child(1)).with(|door| door.lane().0);
    net.unlink(0, 1);
    net.link(0, 1);
    net.carry();
    far.cell(&child(1)).with(|door| door.vacate(&NotHandled::Stopped));
    net.carry();
    let is_idle = || far.cell(&child(1)).with(|door| door.is_idle());
    assert!(leads(&net, lane) && !is_idle(), "a reply is kept");
    let mut frame = BytesMut::new();
    wire::append_frame(&mut frame, &DataFrame::Acknowledged { lane, upto: 2 });
    net.frames(0, 1, &frame);
    assert!(is_idle());
    assert!(net.broken.is_empty(), "{:?}", net.broken);
}

#[actix::test]
async fn the_door_of_a_stopped_child_goes_though_a_peer_keeps_its_lane() {
    let mut net = Net::new(2);
    let held = HeldDoor::new(net.nodes[0].doors.cell(&child(1)));
    // Without a reply there is nothing to thank for later.
    net.tell(0, 1, 1);
    net.carry();
    let lane = held.with(|door| door.lane().0);
    assert!(leads(&net, lane));
    let doors = net.nodes[1].doors.clone();
    let before = doors.count();
    doors.cell(&child(1)).with(|door| door.vacate(&NotHandled::Stopped));
    net.carry_once();
    doors.sweep(Instant::now());
    doors.route(&child(1), None);
    assert_eq!(doors.count(), before, "whether its word has arrived is not known");
    let mut frame = BytesMut::new();
    wire::append_frame(&mut frame, &DataFrame::Acknowledged { lane, upto: 2 });
    net.frames(0, 1, &frame);
    assert_eq!((doors.count(), doors.lanes()), (before - 1, before - 1));
    assert!(!leads(&net, lane));
    // The peer has heard nothing of the stop and sends on: it is told, and nothing is handled.
    net.ask(0, 1, 2);
    net.carry_once();
    net.carry_once();
    assert_eq!(doors.count(), before - 1);
    // A child of that id is started anew: the same lane opens a session with it.
    doors.cell(&child(1)).with(|door| door.open(epoch().next_term(), &[]));
    let route = Route { owner: run_of(1), epoch: epoch().next_term() };
    net.nodes[0].doors.route(&child(1), Some(route));
    net.nodes[0].doors.sweep(Instant::now() + Duration::from_secs(1));
    net.carry();
    assert_eq!(net.nodes[1].handled, [1, 2]);
    assert!(net.broken.is_empty(), "{:?}", net.broken);
}

/// The engine says that a run is out which has been linked anew since: its new path stays, and what was sent
/// is answered over it. One without a link is given up.
#[actix::test]
async fn a_run_that_is_linked_anew_when_it_is_told_to_be_out_keeps_its_path() {
    let mut net = Net::new(2);
    net.unlink(0, 1);
    net.ask(0, 1, 1);
    net.link(0, 1);
    assert!(!net.nodes[0].doors.unmet(run_of(1)));
    net.carry();
    assert!(net.is_answered(0, 1));
    net.ask(0, 1, 2);
    net.carry_once();
    net.unlink(0, 1);
    assert!(!net.is_answered(0, 1));
    assert!(net.nodes[0].doors.unmet(run_of(1)));
    assert!(net.is_answered(0, 1), "it is told that it may have been handled");
    assert_eq!(net.nodes[0].doors.exchange(Side::Calls, run_of(1)).map(|one| one.number), None);
}

#[actix::test]
async fn a_peer_that_has_too_many_lanes_is_told_so_until_it_gives_one_back() {
    let mut net = Net::new(2);
    let doors = net.nodes[1].doors.clone();
    let exchange = doors.exchange(Side::Answers, run_of(0)).expect("there is a link");
    let mut lanes = 0;
    loop {
        let cell = doors.cell(&ChildId::new(format!("x{lanes}")).expect("a valid id"));
        if !exchange.lanes.lead(LaneId(u64::MAX - lanes), &cell) {
            break;
        }
        lanes += 1;
    }
    // 128 MiB at about 1 KiB each.
    assert!((130_000..131_072).contains(&lanes), "{lanes}");
    net.ask(0, 1, 1);
    net.carry();
    assert!(net.is_answered(0, 1), "it is told that it was not handled");
    assert!(net.nodes[1].handled.is_empty());
    // The end of one of them makes room, and the link stands.
    let mut frame = BytesMut::new();
    wire::append_frame(&mut frame, &DataFrame::Closed { lane: LaneId(u64::MAX) });
    net.frames(0, 1, &frame);
    net.ask(0, 1, 2);
    net.carry();
    assert_eq!(net.nodes[1].handled, [2]);
    assert!(net.broken.is_empty(), "{:?}", net.broken);
}
