//! Metrics in the text format of OpenMetrics.

use std::{
    collections::BTreeMap,
    sync::atomic::AtomicU64,
    time::{Duration, Instant},
};

use actix_web::{HttpResponse, http::header, web};
use prometheus_client::{
    encoding::text,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use super::{
    Desk,
    problem::{Problem, Reading},
};
use crate::{
    hub::{system::Running, topics::tally::TopicCounts},
    model::{
        address::SeedOutcome,
        child::Role,
        id::{KindName, NodeId, NodeName},
        member::{MemberState, NodePath},
    },
    net::LinkTraffic,
};

/// The media type of OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// What is read from the engine at one moment.
struct Snapshot {
    settled: bool,
    waiting: bool,
    /// Each with whether it was reached.
    seeds: Vec<(String, bool)>,
    joining: usize,
    members: BTreeMap<&'static str, i64>,
    draining: usize,
    children: BTreeMap<(String, &'static str), i64>,
    /// Those without an actor: that wait for their next start, and that were given up.
    failed: [(&'static str, i64); 2],
    registry_children: i64,
    registry_version: u64,
    handovers_running: i64,
    handover_oldest: Duration,
    parked_states: usize,
    parked_bytes: usize,
    peers: Vec<Peer>,
}

struct Peer {
    name: NodeName,
    node: NodeId,
    path: NodePath,
    /// By whom it is reached, if by another.
    by: Option<NodeName>,
    is_suspect: bool,
    round_trip: Option<Duration>,
    lag: u64,
}

fn snapshot(running: &Running, now: Instant) -> Snapshot {
    let engine = &running.engine;
    let me = engine.me();
    let states = [MemberState::Alive, MemberState::Suspect, MemberState::Leaving];
    let mut members: BTreeMap<&'static str, i64> =
        states.into_iter().map(|state| (state_name(state), 0)).collect();
    for member in engine.view().members.values() {
        *members.entry(state_name(member.state)).or_default() += 1;
    }
    let name = |node: NodeId| engine.view().member(node).map(|member| member.name.clone());
    let is_up =
        |outcome: &SeedOutcome| matches!(outcome, SeedOutcome::Reached(_) | SeedOutcome::Itself);
    let mut children = BTreeMap::<(&KindName, &'static str), i64>::new();
    let (mut waiting, mut given_up) = (0, 0);
    for (_, ownership) in engine.registry().owned_by(me) {
        match &ownership.failure {
            Some(failure) if failure.is_given_up() => given_up += 1,
            Some(_) => waiting += 1,
            None => {}
        }
        let role = match ownership.role {
            Role::Active => "active",
            Role::Passive => "passive",
        };
        *children.entry((ownership.spec.kind(), role)).or_default() += 1;
    }
    let children = children.into_iter();
    let children =
        children.map(|((kind, role), count)| ((kind.to_string(), role), count)).collect();
    let others = engine.view().members.values().filter(|member| member.id != me.node);
    Snapshot {
        settled: engine.is_settled(),
        waiting: engine.is_waiting(),
        seeds: engine.seeds().map(|(seed, outcome)| (seed.clone(), is_up(outcome))).collect(),
        joining: engine.joiner_count(),
        members,
        draining: engine.view().members.values().filter(|member| member.draining).count(),
        children,
        failed: [("waiting", waiting), ("given_up", given_up)],
        registry_children: engine.registry().len() as i64,
        registry_version: engine.registry().version(),
        handovers_running: engine.moves().count() as i64,
        handover_oldest: engine
            .moves()
            .map(|(_, moving)| now.saturating_duration_since(moving.started()))
            .max()
            .unwrap_or_default(),
        parked_states: running.parked.len(),
        parked_bytes: running.parked.bytes(),
        peers: others
            .map(|member| {
                let path = engine.path_to(member.run());
                Peer {
                    name: member.name.clone(),
                    node: member.id,
                    path,
                    by: path.by().and_then(name),
                    is_suspect: member.state == MemberState::Suspect,
                    round_trip: engine.round_trip(member.id),
                    lag: engine.lag(member.id),
                }
            })
            .collect(),
    }
}

fn state_name(state: MemberState) -> &'static str {
    match state {
        MemberState::Alive => "alive",
        MemberState::Suspect => "suspect",
        MemberState::Leaving => "leaving",
    }
}

/// A family of gauges, registered.
fn gauges(registry: &mut Registry, name: &str, help: &str) -> Family<Labels, Gauge> {
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

/// Names are for people and need not be unique.
fn peer_label(peer: &Peer) -> Labels {
    vec![("peer", peer.name.to_string()), ("peer_id", peer.node.to_string())]
}

/// What became of published messages.
fn topics(made: &mut Registry, counts: &TopicCounts) {
    let topics = i64::try_from(counts.topics).unwrap_or(i64::MAX);
    gauge(made, "topics", "Topics with subscribers on this node", topics);
    let messages = Family::<Labels, Counter>::default();
    made.register(
        "topic_messages",
        "Messages that were published here, that came from other nodes, and that were handed to \
         subscribers here, each of which counts",
        messages.clone(),
    );
    let TopicCounts { published, received, delivered, .. } = *counts;
    for (what, count) in
        [("published", published), ("received", received), ("delivered", delivered)]
    {
        messages.get_or_create(&vec![("what", what.to_owned())]).inc_by(count);
    }
    let dropped = Family::<Labels, Counter>::default();
    made.register(
        "topic_dropped_messages",
        "Published messages that did not get to a subscriber here, or to another node with subscribers",
        dropped.clone(),
    );
    for (reason, count) in counts.dropped.by_reason() {
        dropped.get_or_create(&vec![("reason", reason.to_owned())]).inc_by(count);
    }
}

/// Which hub and node the metrics are of.
fn about(desk: &Desk) -> Registry {
    let labels: Labels = vec![
        ("hub", desk.hub.name().to_string()),
        ("node", desk.hub.node_name().to_string()),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let mut registry = Registry::default();
    registry.register("actix_hub", "The hub and its node", Info::new(labels));
    registry
}

/// What is true now; what is counted since the endpoint was mounted is in the journal.
fn present(desk: &Desk, snapshot: Snapshot, traffic: Vec<LinkTraffic>) -> Registry {
    let mut registry = Registry::with_prefix("actix_hub");
    let made = &mut registry;
    gauge(
        made,
        "settled",
        "Whether all members agree on who is in, and this node has the registry of each",
        i64::from(snapshot.settled),
    );
    gauge(
        made,
        "waiting",
        "Whether this node is in no cluster and waits for a seed",
        i64::from(snapshot.waiting),
    );
    let seed_up = gauges(made, "seed_up", "Whether the latest attempt reached the seed");
    for (seed, is_up) in snapshot.seeds {
        seed_up.get_or_create(&vec![("seed", seed)]).set(i64::from(is_up));
    }
    let joining = i64::try_from(snapshot.joining).unwrap_or(i64::MAX);
    gauge(made, "joining_nodes", "Nodes that are heard and not in", joining);
    let members = gauges(made, "members", "Nodes that are in, as this one sees them");
    for (state, count) in snapshot.members {
        members.get_or_create(&vec![("state", state.to_owned())]).set(count);
    }
    let draining = i64::try_from(snapshot.draining).unwrap_or(i64::MAX);
    gauge(made, "draining_nodes", "Members that are drained: they take no children", draining);
    let children = gauges(made, "children", "Children of this node");
    for ((kind, role), count) in snapshot.children {
        children.get_or_create(&vec![("kind", kind), ("role", role.to_owned())]).set(count);
    }
    let failed = "Children of this node without an actor: they failed, and wait for their next \
                  start or were given up";
    let failed = gauges(made, "children_failed", failed);
    for (state, count) in snapshot.failed {
        failed.get_or_create(&vec![("state", state.to_owned())]).set(count);
    }
    let known = snapshot.registry_children;
    gauge(made, "registry_children", "Children of all nodes that this one knows of", known);
    let version = i64::try_from(snapshot.registry_version).unwrap_or(i64::MAX);
    gauge(made, "registry_version", "Entries that this node has written into its log", version);
    gauge(
        made,
        "handovers_running",
        "Children that this node hands over now",
        snapshot.handovers_running,
    );
    let oldest: Gauge<f64, AtomicU64> = Gauge::default();
    oldest.set(snapshot.handover_oldest.as_secs_f64());
    made.register_with_unit(
        "handover_oldest",
        "How long the oldest handover from this node has been under way",
        Unit::Seconds,
        oldest,
    );
    gauge(
        made,
        "parked_states",
        "States that nobody merged and that this node holds, copies of others' included",
        i64::try_from(snapshot.parked_states).unwrap_or(i64::MAX),
    );
    let parked = Gauge::<i64>::default();
    parked.set(i64::try_from(snapshot.parked_bytes).unwrap_or(i64::MAX));
    made.register_with_unit("parked", "Bytes of the parked states here", Unit::Bytes, parked);
    let waiting = desk.hub.shared().doors.waiting();
    let queued = gauges(made, "queued_messages", "Messages that wait");
    queued.get_or_create(&vec![("at", "gate".to_owned())]).set(waiting.at_gates);
    queued.get_or_create(&vec![("at", "lane".to_owned())]).set(waiting.in_lanes);
    gauge(
        made,
        "lanes",
        "Children elsewhere to which messages of this node are on their way",
        waiting.lanes,
    );
    topics(made, &desk.hub.topic_counts());
    let lag = gauges(made, "registry_lag", "Entries of this node that a peer has not acknowledged");
    let up = gauges(made, "link_up", "Whether the link to the peer works in both directions");
    let suspected = gauges(
        made,
        "suspected",
        "Whether the peer does not hear this node, or is not heard by it, by whatever path",
    );
    let detours =
        gauges(made, "detours", "Messages for the peer go by way of this node, not over its link");
    let unlinked = snapshot.peers.iter().filter(|peer| peer.path != NodePath::Link).count();
    gauge(
        made,
        "links_missing",
        "Members to which this node has no link that works",
        i64::try_from(unlinked).unwrap_or(i64::MAX),
    );
    let trip: Family<Labels, Gauge<f64, AtomicU64>> = Family::default();
    made.register_with_unit(
        "link_rtt",
        "How long a word takes to the peer and back, smoothed",
        Unit::Seconds,
        trip.clone(),
    );
    let queue = Family::<Labels, Gauge>::default();
    made.register_with_unit(
        "link_queued",
        "Bytes of words that wait to be written to the peer",
        Unit::Bytes,
        queue.clone(),
    );
    let bytes = Family::<Labels, Counter>::default();
    made.register_with_unit(
        "link",
        "Bytes that went over the link that stands to the peer",
        Unit::Bytes,
        bytes.clone(),
    );
    for peer in snapshot.peers {
        let label = peer_label(&peer);
        lag.get_or_create(&label).set(i64::try_from(peer.lag).unwrap_or(i64::MAX));
        up.get_or_create(&label).set(i64::from(peer.path == NodePath::Link));
        suspected.get_or_create(&label).set(i64::from(peer.is_suspect));
        if let Some(by) = &peer.by {
            let mut label = label.clone();
            label.push(("by", by.to_string()));
            detours.get_or_create(&label).set(1);
        }
        if let Some(round_trip) = peer.round_trip {
            trip.get_or_create(&label).set(round_trip.as_secs_f64());
        }
        if let Some(link) = traffic.iter().find(|link| link.peer.node == peer.node) {
            queue.get_or_create(&label).set(i64::try_from(link.queued).unwrap_or(i64::MAX));
            for (direction, count) in [("sent", link.sent), ("received", link.received)] {
                let mut label = label.clone();
                label.push(("direction", direction.to_owned()));
                bytes.get_or_create(&label).inc_by(count);
            }
        }
    }
    registry
}

/// The metrics of this node, libp2p's own included.
#[utoipa::path(
    get, path = "/metrics", operation_id = "get_metrics", tag = "metrics",
    responses(
        (status = 200, body = String, content_type = "application/openmetrics-text"),
        Reading,
    ),
)]
pub(crate) async fn metrics(desk: web::Data<Desk>) -> Result<HttpResponse, Problem> {
    // The engine's own clock, which goes on while the machine is suspended.
    let now = desk.hub.shared().doors.uptime.now();
    let snapshot = desk.look(move |running| snapshot(running, now)).await?;
    let network = desk.hub.shared().doors.network.get();
    let traffic = network.map(|network| network.traffic()).unwrap_or_default();
    let mut text = String::new();
    let encoded = text::encode_registry(&mut text, &about(&desk))
        .and_then(|()| text::encode_registry(&mut text, &present(&desk, snapshot, traffic)))
        .and_then(|()| text::encode_registry(&mut text, desk.journal.registry()))
        .and_then(|()| {
            if let Some(own) = network.and_then(|network| network.metrics()) {
                text.push_str(&own);
            }
            text::encode_eof(&mut text)
        });
    if encoded.is_err() {
        return Err(Problem::stopped());
    }
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, OPEN_METRICS)).body(text))
}
