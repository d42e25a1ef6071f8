//! What is remembered of a hub once its endpoint is mounted: the latest events and handovers, and
//! the counts that metrics are made of.

use std::{
    any::Any,
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tokio::sync::watch;

use super::{
    access::Limiter,
    events::EventRecord,
    handovers::Told,
    rings::{Part, Ring, Rings},
};
use crate::{
    error::{MaybeHandled, NotHandled},
    hub::{
        Hub,
        history::report,
        recorder::{Recorder, Sent},
    },
    model::{
        event::{EVENT_NAMES, EventLevel, HandoverPhases, HubEvent},
        id::{ChildId, NodeId, NodeName},
        observe::{
            EventFilter, EventPlace, EventReport, EventsReport, HandoverReport, HandoverStatus,
        },
    },
};

/// Streams of events that may be open at a time.
pub(crate) const STREAMS: usize = 256;
/// A stream that was open for so long gives its place up when somebody else wants it: its client, if
/// it is there still, comes back and goes on behind the last event.
const TURN: Duration = Duration::from_secs(60);
/// Names of nodes that are remembered, past ones included.
const NAMES: usize = 4_096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandoverLabel {
    direction: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: &'static str,
}

/// From 50 µs to 26 s, each twice the one before.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 20))
}

const REASONS: [&str; 12] = [
    "busy",
    "no_such_child",
    "not_started",
    "stopped",
    "given_up",
    "timeout",
    "not_registered",
    "wrong_kind",
    "too_large",
    "encode",
    "decode",
    "hub_stopped",
];

fn reason_name(reason: &NotHandled) -> &'static str {
    match reason {
        NotHandled::Busy => "busy",
        NotHandled::NoSuchChild => "no_such_child",
        NotHandled::NotStarted { .. } => "not_started",
        NotHandled::Stopped => "stopped",
        NotHandled::GivenUp => "given_up",
        NotHandled::Timeout => "timeout",
        NotHandled::NotRegistered { .. } => "not_registered",
        NotHandled::WrongKind { .. } => "wrong_kind",
        NotHandled::TooLarge { .. } => "too_large",
        NotHandled::Encode(_) | NotHandled::NotReadBack { .. } => "encode",
        NotHandled::Decode(_) => "decode",
        NotHandled::HubStopped => "hub_stopped",
    }
}

const DOUBTS: [&str; 5] = ["timeout", "node_down", "no_reply", "reply_lost", "hub_stopped"];

fn doubt_name(reason: &MaybeHandled) -> &'static str {
    match reason {
        MaybeHandled::Timeout => "timeout",
        MaybeHandled::NodeDown => "node_down",
        MaybeHandled::NoReply => "no_reply",
        MaybeHandled::ReplyLost(_) => "reply_lost",
        MaybeHandled::HubStopped => "hub_stopped",
    }
}

#[derive(Default)]
struct Kept {
    /// For who resumes, and for the histories of children.
    events: Rings<Arc<EventRecord>>,
    names: BTreeMap<NodeId, NodeName>,
}

/// Where an event is kept: what happened to nodes is not pushed out by what happened to children.
fn ring(event: &HubEvent) -> Ring {
    let is_of_nodes = event.child().is_none()
        // These may come each second.
        && !matches!(event, HubEvent::ChildrenMoved { .. } | HubEvent::AdminAction { .. });
    match event.level() {
        _ if is_of_nodes => Ring::Nodes,
        EventLevel::Warn | EventLevel::Error => Ring::Grave,
        EventLevel::Debug | EventLevel::Info => Ring::Rest,
    }
}

/// The streams of events that are open.
#[derive(Default)]
struct Streams {
    /// When each was opened; the oldest first.
    opened: BTreeMap<u64, Instant>,
    next: u64,
}

impl Streams {
    /// Takes a place, that of the oldest stream if there is no other and it has had its turn.
    fn enter(&mut self, now: Instant) -> Option<u64> {
        if self.opened.len() >= STREAMS {
            let oldest = self.opened.first_entry()?;
            if now.saturating_duration_since(*oldest.get()) < TURN {
                return None;
            }
            oldest.remove();
        }
        self.next += 1;
        self.opened.insert(self.next, now);
        Some(self.next)
    }
}

/// The place of one stream of events.
pub(crate) struct Place {
    journal: Arc<Journal>,
    number: u64,
}

impl Place {
    /// Whether it was not given to somebody else.
    pub(crate) fn is_kept(&self) -> bool {
        self.journal.streams().opened.contains_key(&self.number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.journal.streams().opened.remove(&self.number);
    }
}

/// What is remembered of one hub.
pub(crate) struct Journal {
    me: NodeId,
    /// Names this journal, so that an event id of another one is not taken for one of this.
    boot: String,
    kept: Mutex<Kept>,
    /// What the nodes have told of their handovers.
    told: Mutex<Told>,
    /// One for each path at which the endpoint is mounted.
    limiters: Mutex<BTreeMap<String, Arc<Limiter>>>,
    /// The streams of events that are open.
    streams: Mutex<Streams>,
    /// The number of the next event; closed when the hub has stopped.
    latest: Mutex<Option<watch::Sender<u64>>>,
    registry: Registry,
    sends: Family<OutcomeLabel, Counter>,
    send_seconds: Histogram,
    tells: Family<OutcomeLabel, Counter>,
    refusals: Family<ReasonLabel, Counter>,
    doubts: Family<ReasonLabel, Counter>,
    handovers: Family<HandoverLabel, Counter>,
    handover_seconds: Histogram,
    phases: Family<PhaseLabel, Histogram, fn() -> Histogram>,
    handover_bytes: Family<DirectionLabel, Counter>,
    restarts: Counter,
    given_up: Counter,
    happened: Family<TypeLabel, Counter>,
}

impl Journal {
    /// The journal of a hub; it begins when it is asked for first.
    pub(crate) fn of(hub: &Hub) -> Arc<Self> {
        let recorder = hub.shared().recorder.get_or_init(|| Arc::new(Self::new(hub)));
        let recorder: Arc<dyn Any + Send + Sync> = recorder.clone();
        recorder.downcast().expect("nothing else records")
    }

    fn new(hub: &Hub) -> Self {
        let me = hub.node_id();
        let mut registry = Registry::with_prefix("actix_hub");
        let sends = Family::default();
        registry.register(
            "sends",
            "Messages that were sent with send, by how they ended",
            sends.clone(),
        );
        let send_seconds = seconds();
        registry.register_with_unit(
            "send_duration",
            "From the call of send to its reply or error",
            Unit::Seconds,
            send_seconds.clone(),
        );
        let tells = Family::default();
        registry.register("tells", "Messages that were given to do_send", tells.clone());
        let refusals = Family::default();
        registry.register(
            "refused_messages",
            "Messages that were not handled, by reason",
            refusals.clone(),
        );
        let doubts = Family::default();
        registry.register(
            "maybe_handled_messages",
            "Messages of which it is not known whether they were handled, by reason",
            doubts.clone(),
        );
        let handovers = Family::default();
        registry.register("handovers", "Handovers that ended on this node", handovers.clone());
        let handover_seconds = seconds();
        registry.register_with_unit(
            "handover_duration",
            "From the offer to the successor's start, at the source",
            Unit::Seconds,
            handover_seconds.clone(),
        );
        let phases = Family::new_with_constructor(seconds as fn() -> Histogram);
        registry.register_with_unit(
            "handover_phase",
            "How long each phase of a handover took, at the source",
            Unit::Seconds,
            phases.clone(),
        );
        let handover_bytes = Family::default();
        registry.register_with_unit(
            "handover",
            "Bytes of state that were handed over",
            Unit::Bytes,
            handover_bytes.clone(),
        );
        let restarts = Counter::default();
        registry.register(
            "restarts",
            "Children that ended unasked and were started again",
            restarts.clone(),
        );
        let given_up = Counter::default();
        registry.register(
            "given_up",
            "Children that ended too often and were removed",
            given_up.clone(),
        );
        let happened = Family::default();
        registry.register("events", "What happened, by type", happened.clone());
        // A series that is not there before it counts cannot be seen to rise.
        for outcome in ["ok", "not_handled", "maybe_handled"] {
            let _ = sends.get_or_create(&OutcomeLabel { outcome });
        }
        for outcome in ["taken", "refused"] {
            let _ = tells.get_or_create(&OutcomeLabel { outcome });
        }
        for reason in REASONS {
            let _ = refusals.get_or_create(&ReasonLabel { reason });
        }
        for reason in DOUBTS {
            let _ = doubts.get_or_create(&ReasonLabel { reason });
        }
        for (direction, outcome) in [("out", "done"), ("out", "failed"), ("in", "done")] {
            let _ = handovers.get_or_create(&HandoverLabel { direction, outcome });
        }
        let _ = handover_bytes.get_or_create(&DirectionLabel { direction: "out" });
        for (phase, _) in HandoverPhases::default().named() {
            let _ = phases.get_or_create(&PhaseLabel { phase });
        }
        for r#type in EVENT_NAMES {
            let _ = happened.get_or_create(&TypeLabel { r#type });
        }
        let boot = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        Self {
            me,
            boot: format!("{boot:x}"),
            kept: Mutex::new(Kept {
                // Those that came in before somebody looked, too.
                names: hub.shared().names().into_iter().collect(),
                ..Kept::default()
            }),
            told: Mutex::default(),
            limiters: Mutex::default(),
            streams: Mutex::default(),
            latest: Mutex::new(Some(watch::Sender::new(0))),
            registry,
            sends,
            send_seconds,
            tells,
            refusals,
            doubts,
            handovers,
            handover_seconds,
            phases,
            handover_bytes,
            restarts,
            given_up,
            happened,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn handovers(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The one limiter of all workers of a server for what is mounted there.
    pub(crate) fn limiter(&self, path: &str, per_minute: NonZeroU32) -> Arc<Limiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Limiter::new(per_minute, Instant::now()));
        limiters.entry(path.to_owned()).or_insert_with(new).clone()
    }

    /// Node names, for words about them.
    pub(crate) fn learn(&self, names: impl IntoIterator<Item = (NodeId, NodeName)>) {
        let mut kept = self.kept();
        if kept.names.len() > NAMES {
            kept.names.retain(|node, _| *node == self.me);
        }
        kept.names.extend(names);
    }

    pub(crate) fn name(&self, node: NodeId) -> Option<NodeName> {
        self.kept().names.get(&node).cloned()
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more stream of events, if there is one.
    pub(crate) fn stream(self: &Arc<Self>) -> Option<Place> {
        let number = self.streams().enter(Instant::now())?;
        Some(Place { journal: self.clone(), number })
    }

    /// Tells when there are events from this number on; `None` when the hub has stopped.
    pub(crate) fn watch(&self) -> Option<watch::Receiver<u64>> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().map(watch::Sender::subscribe)
    }

    pub(crate) fn id_of(&self, number: u64) -> String {
        format!("{}-{number}", self.boot)
    }

    /// The number of the event after the one with this id; `None` if it is of another journal.
    pub(crate) fn after(&self, id: &str) -> Option<u64> {
        let (boot, number) = id.rsplit_once('-')?;
        let number: u64 = number.parse().ok()?;
        (boot == self.boot).then(|| number.saturating_add(1))
    }

    /// The first events from this number on that are still kept.
    pub(crate) fn events_from(&self, number: u64, most: usize) -> Part<Arc<EventRecord>> {
        self.kept().events.read(number, most)
    }

    /// Whether events from this number on are not kept any more that may have fitted.
    pub(crate) fn has_lost(&self, number: u64, filter: &EventFilter) -> bool {
        self.kept().events.has_lost(number, |ring| match ring {
            Ring::Nodes => filter.child.is_none(),
            Ring::Grave => true,
            Ring::Rest => filter.level < Some(EventLevel::Warn),
        })
    }

    /// The latest events that are kept and fit, in order, at most so many; and the number of the next one.
    pub(crate) fn latest(
        &self,
        filter: &EventFilter,
        most: usize,
    ) -> (VecDeque<Arc<EventRecord>>, u64) {
        let kept = self.kept();
        let mut latest = VecDeque::new();
        for event in kept.events.from(0).rev().filter(|event| event.fits(filter)).take(most) {
            latest.push_front(event.clone());
        }
        (latest, kept.events.next())
    }

    fn ended(&self, report: &HandoverReport) {
        let is_done = report.status == HandoverStatus::Done;
        let outcome = if is_done { "done" } else { "failed" };
        let direction = if report.from == self.me { "out" } else { "in" };
        self.handovers.get_or_create(&HandoverLabel { direction, outcome }).inc();
        if direction == "in" {
            return;
        }
        if is_done {
            self.handover_seconds.observe(report.took.as_secs_f64());
            let label = DirectionLabel { direction };
            self.handover_bytes.get_or_create(&label).inc_by(report.bytes.unwrap_or_default());
        }
        for (phase, took) in report.phases.named() {
            if let Some(took) = took {
                self.phases.get_or_create(&PhaseLabel { phase }).observe(took.as_secs_f64());
            }
        }
    }
}

impl Recorder for Journal {
    fn event(&self, event: &HubEvent) {
        if let Some(report) = report(self.me, event) {
            self.ended(&report);
        }
        match event {
            HubEvent::NodeJoined { node, name } => self.learn([(*node, name.clone())]),
            HubEvent::ChildRestarted { .. } => {
                self.restarts.inc();
            }
            HubEvent::ChildGivenUp { .. } => {
                self.given_up.inc();
            }
            _ => {}
        }
        let mut kept = self.kept();
        let number = kept.events.next();
        let names = |node: NodeId| kept.names.get(&node).cloned();
        let record = EventRecord::of(number, self.me, event, names);
        self.happened.get_or_create(&TypeLabel { r#type: record.kind }).inc();
        kept.events.push(ring(event), Arc::new(record));
        let next = kept.events.next();
        drop(kept);
        if let Some(latest) = &*self.latest.lock().unwrap_or_else(PoisonError::into_inner) {
            latest.send_replace(next);
        }
    }

    fn sent(&self, outcome: Sent, took: Duration) {
        let outcome = match outcome {
            Sent::Ok => "ok",
            Sent::NotHandled => "not_handled",
            Sent::MaybeHandled => "maybe_handled",
        };
        self.sends.get_or_create(&OutcomeLabel { outcome }).inc();
        self.send_seconds.observe(took.as_secs_f64());
    }

    fn told(&self, taken: bool) {
        let outcome = if taken { "taken" } else { "refused" };
        self.tells.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    fn refused(&self, reason: &NotHandled) {
        let reason = reason_name(reason);
        self.refusals.get_or_create(&ReasonLabel { reason }).inc();
    }

    fn unsure(&self, reason: &MaybeHandled) {
        let reason = doubt_name(reason);
        self.doubts.get_or_create(&ReasonLabel { reason }).inc();
    }

    fn history(&self, child: &ChildId, most: usize) -> Vec<EventReport> {
        let about = {
            let kept = self.kept();
            let latest = kept.events.from(0).rev();
            let about = latest.filter(|event| event.child.as_ref() == Some(child));
            about.take(most).cloned().collect::<Vec<_>>()
        };
        about.into_iter().map(|event| event.report(self.id_of(event.number))).collect()
    }

    fn events(
        &self,
        filter: &EventFilter,
        before: Option<EventPlace>,
        most: usize,
    ) -> EventsReport {
        let (mut fitting, _) = self.latest(filter, usize::MAX);
        let total = fitting.len() as u64;
        let place = |event: &Arc<EventRecord>| EventPlace {
            at: event.at,
            node: self.me,
            number: event.number,
        };
        fitting.retain(|event| before.is_none_or(|before| place(event) < before));
        // A clock may have been set back.
        fitting.make_contiguous().sort_by_key(place);
        let latest = fitting.iter().rev().take(most);
        let events: Vec<_> = latest.map(|event| event.report(self.id_of(event.number))).collect();
        EventsReport { more: (fitting.len() - events.len()) as u64, events, total }
    }

    fn stopped(&self) {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{child::Epoch, event::Moved};

    #[test]
    fn what_happens_to_nodes_is_kept_apart_from_what_happens_to_children() {
        let node = NodeId::from_key([2; 32]);
        let child = || ChildId::new("c").expect("a valid id");
        let recovered = |with_state| HubEvent::Recovered {
            child: child(),
            from: None,
            epoch: Epoch::ZERO,
            with_state,
        };
        let given_up = HubEvent::ChildGivenUp { child: child(), reason: "it panics".into() };
        let acted = |status| HubEvent::AdminAction {
            action: "POST /hub/children".into(),
            address: None,
            access: "loopback".into(),
            status,
        };
        let moved = HubEvent::ChildrenMoved { moved: Moved::default(), took: TURN };
        for (event, expected) in [
            (HubEvent::NodeDown { node }, Ring::Nodes),
            (HubEvent::NodeSuspected { node }, Ring::Nodes),
            (HubEvent::Founded, Ring::Nodes),
            (given_up, Ring::Grave),
            (acted(409), Ring::Grave),
            (acted(200), Ring::Rest),
            (moved, Ring::Rest),
            (recovered(true), Ring::Rest),
            (recovered(false), Ring::Rest),
        ] {
            assert_eq!(ring(&event), expected, "{event:?}");
        }
    }

    #[test]
    fn the_oldest_stream_gives_its_place_up_after_its_turn() {
        let (mut streams, start) = (Streams::default(), Instant::now());
        let all: Vec<u64> = (0..STREAMS).filter_map(|_| streams.enter(start)).collect();
        assert_eq!(all.len(), STREAMS);
        assert_eq!(streams.enter(start + TURN / 2), None);
        let new = streams.enter(start + TURN).expect("the place of the oldest");
        assert!(!streams.opened.contains_key(&all[0]) && streams.opened.contains_key(&all[1]));
        assert!(streams.opened.contains_key(&new) && streams.opened.len() == STREAMS);
    }
}
