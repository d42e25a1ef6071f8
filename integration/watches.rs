//! Who watches a child is told what became of it, on whichever nodes the two are.

use std::{collections::BTreeMap, future::Future, time::Duration};

use actix::prelude::*;
use actix_hub::prelude::*;
use serde::{Deserialize, Serialize};

use crate::support::{
    Boom, Counter, Net, Quit, builder, eventually, run, settings, start, stop, together,
};

/// The next change; fails after 30 s.
async fn next(watch: &mut ChildWatch) -> Option<ChildChange> {
    within(watch.next()).await
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what).await.expect("it comes within 30 s")
}

/// What each is told up to the first change that fits.
async fn up_to(
    watches: &mut [ChildWatch],
    fits: impl Fn(&ChildChange) -> bool,
) -> Vec<Vec<ChildChange>> {
    let mut all = Vec::new();
    for watch in watches {
        let mut told = Vec::new();
        while !told.last().is_some_and(&fits) {
            let change = next(watch).await;
            told.push(change.unwrap_or_else(|| panic!("it has ended after {told:?}")));
        }
        all.push(told);
    }
    all
}

/// Whether it was told such a change, or was late and has missed something.
fn knows(watch: &ChildWatch, told: &[ChildChange], fits: impl Fn(&ChildChange) -> bool) -> bool {
    told.iter().any(fits) || watch.missed() > 0
}

fn is_running(change: Option<ChildChange>, at: NodeId) -> bool {
    matches!(change, Some(ChildChange::Running { node, .. }) if node == at)
}

/// The place of the node that has a child, and of another one.
async fn places(hubs: &[Hub], child: &str) -> (usize, usize) {
    let owner = hubs[0].lookup(child).await.expect("it runs").expect("it is there").node;
    let at = hubs.iter().position(|hub| hub.node_id() == owner).expect("one of them");
    (at, (at + 1) % hubs.len())
}

#[test]
fn all_nodes_are_told_what_becomes_of_a_child() {
    run(async {
        let net = Net::Memory(MemoryNetwork::new());
        let hubs = net.cluster(3).await;
        let intensity = RestartIntensity { restarts: 2, within: Duration::from_secs(600) };
        let spec = || ChildSpec::new::<Counter>("c", ()).expect("valid").intensity(intensity);
        hubs[0].start_child(spec()).await.expect("it starts");
        // At once, and on nodes that may not have heard of it.
        let mut watches: Vec<ChildWatch> =
            hubs.iter().map(|hub| hub.child::<Counter>("c").watch()).collect();
        let (first, second) = places(&hubs, "c").await;
        let [from, to] = [first, second].map(|n| hubs[n].node_id());
        for watch in &mut watches {
            assert!(is_running(next(watch).await, from));
        }
        hubs[0].migrate("c", to).await.expect("it moves");
        for watch in &mut watches {
            assert_eq!(next(watch).await, Some(ChildChange::Moved { from, to }));
        }
        hubs[first].child::<Counter>("c").send(Boom {}).await.expect_err("it panics");
        let told = up_to(
            &mut watches,
            |change| matches!(change, ChildChange::Restarted { node, .. } if *node == to),
        )
        .await;
        for (watch, told) in watches.iter().zip(told) {
            let has_failed = |change: &ChildChange| match change {
                ChildChange::Failed { node, reason } => {
                    *node == to && reason.contains("boom on purpose")
                }
                _ => false,
            };
            assert!(knows(watch, &told, has_failed), "{told:?}");
            assert!(told.len() <= 2, "{told:?}");
        }
        for _ in 0..2 {
            let quit = hubs[0].child::<Counter>("c").send(Quit {});
            let _ = quit.timeout(Duration::from_secs(25)).await;
        }
        let given_up = |change: &ChildChange| match change {
            ChildChange::GivenUp { node, reason } => *node == to && reason == "it stopped itself",
            ChildChange::Failed { .. } | ChildChange::Restarted { .. } => false,
            other => panic!("{other:?}"),
        };
        up_to(&mut watches, given_up).await;
        hubs[first].start_child(spec()).await.expect("by hand");
        for watch in &mut watches {
            let change = next(watch).await;
            assert!(
                matches!(change, Some(ChildChange::Restarted { node, .. }) if node == to),
                "it is the same child: {change:?}"
            );
        }
        hubs[first].stop_child("c").await.expect("it is there");
        for watch in &mut watches {
            assert_eq!(next(watch).await, Some(ChildChange::Stopped));
            assert_eq!(next(watch).await, None);
        }
        stop(hubs).await;
    });
}

#[test]
fn a_node_that_crashes_is_told_and_who_goes_on_and_the_end_of_the_own_hub_ends_a_watch() {
    run(async {
        let network = MemoryNetwork::new();
        let net = Net::Memory(network.clone());
        let mut hubs = net.cluster(3).await;
        start(&hubs[0], "c").await;
        let (at, _) = places(&hubs, "c").await;
        let dead = hubs.remove(at);
        let mut watches: Vec<ChildWatch> = hubs.iter().map(|hub| hub.watch("c")).collect();
        let mut own = dead.watch("c");
        assert!(is_running(next(&mut own).await, dead.node_id()));
        for watch in &mut watches {
            assert!(is_running(next(watch).await, dead.node_id()));
        }
        network.kill(dead.node_id());
        let begun = |change: &ChildChange| matches!(change, ChildChange::Restarted { .. });
        let all = up_to(&mut watches, begun).await;
        for (watch, told) in watches.iter().zip(&all) {
            let down = ChildChange::NodeDown { node: dead.node_id() };
            assert!(knows(watch, told, |change| *change == down), "{told:?}");
            assert!(told.len() <= 2, "{told:?}");
        }
        assert_eq!(all[0].last(), all[1].last(), "on one node, for all");
        dead.stop().await;
        assert_eq!(next(&mut own).await, None, "without a word of the child, which lives on");
        assert_eq!(next(&mut dead.watch("c")).await, None);
        stop(hubs).await;
        for watch in &mut watches {
            // The first to stop may have handed nothing over: the other saw it go.
            while next(watch).await.is_some() {}
        }
    });
}

#[test]
fn there_is_no_such_child_once_the_node_can_know() {
    run(async {
        let network = MemoryNetwork::new();
        let net = Net::Memory(network.clone());
        let first = net.node("n0", None, |_| {}).await;
        let mut watch = first.watch("missing");
        assert_eq!(next(&mut watch).await, Some(ChildChange::Stopped));
        assert_eq!(next(&mut watch).await, None);
        assert_eq!(next(&mut first.watch("no\nid")).await, Some(ChildChange::Stopped));
        // Started elsewhere, and then anew.
        let second = net.node("n1", Some(&first), |_| {}).await;
        let hubs = vec![first, second];
        together(&hubs).await;
        for _ in 0..20 {
            start(&hubs[0], "c").await;
            let change = next(&mut hubs[1].watch("c")).await;
            assert!(matches!(change, Some(ChildChange::Running { .. })), "{change:?}");
            hubs[1].stop_child("c").await.expect("it is there");
        }
        stop(hubs).await;
    });
}

/// What a watcher was told: of whom, and how it ended.
type Ends = Vec<(String, End)>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    Stopped,
    GivenUp,
    NodeDown(NodeId),
}

/// Watches those that it is told to, and again where it goes on.
#[derive(Serialize, Deserialize)]
struct Guard {
    ends: Ends,
    watched: Vec<ChildRef<Counter>>,
    #[serde(skip)]
    child: Option<ChildContext<Guard>>,
}

impl Guard {
    fn make(
        watched: Vec<ChildRef<Counter>>,
        child: &ChildContext<Self>,
    ) -> Result<Self, StartFailure> {
        Ok(Self { ends: Vec::new(), watched, child: Some(child.clone()) })
    }

    fn child(&self) -> &ChildContext<Self> {
        self.child.as_ref().expect("it was made with it")
    }
}

impl Actor for Guard {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.watched.iter().for_each(|other| self.child().watch(other));
    }
}

impl Handler<Terminated> for Guard {
    type Result = ();

    fn handle(&mut self, Terminated { child, reason, .. }: Terminated, _: &mut Context<Self>) {
        self.watched.retain(|other| *other.id() != child);
        let end = match reason {
            TerminatedReason::Stopped => End::Stopped,
            TerminatedReason::GivenUp { .. } => End::GivenUp,
            TerminatedReason::NodeDown { node } => End::NodeDown(node),
            other => panic!("{other:?}"),
        };
        self.ends.push((child.to_string(), end));
    }
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Watch {
    who: ChildRef<Counter>,
    on: bool,
}

impl HubMessage for Watch {
    const NAME: &'static str = "watch";
}

impl Handler<Watch> for Guard {
    type Result = ();

    fn handle(&mut self, Watch { who, on }: Watch, _: &mut Context<Self>) {
        match on {
            true => {
                self.child().watch(&who);
                self.watched.push(who);
            }
            false => {
                self.child().unwatch(&who);
                self.watched.retain(|other| *other != who);
            }
        }
    }
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Ends")]
struct Told;

impl HubMessage for Told {
    const NAME: &'static str = "told";
}

impl Handler<Told> for Guard {
    type Result = MessageResult<Told>;

    fn handle(&mut self, _: Told, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.ends.clone())
    }
}

/// Holds the guard's thread, or the guard alone.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Hold {
    ms: u64,
}

impl HubMessage for Hold {
    const NAME: &'static str = "hold";
}

impl Handler<Hold> for Guard {
    type Result = ();

    fn handle(&mut self, Hold { ms }: Hold, ctx: &mut Context<Self>) {
        let nap = tokio::time::sleep(Duration::from_millis(ms));
        ctx.wait(nap.into_actor(self).map(|(), _, _| ()));
    }
}

hot_swap!(
    Guard,
    kind = "guard",
    messages = [Watch, Told, Hold],
    args = Vec<ChildRef<Counter>>,
    make = Guard::make,
    keep = [child],
);

async fn guarded(count: usize, network: &MemoryNetwork, mailbox: usize) -> Vec<Hub> {
    let mut hubs: Vec<Hub> = Vec::new();
    for n in 0..count {
        let builder = builder("guards", &format!("n{n}")).memory(network).child::<Guard>();
        let mut builder = builder.settings(Settings { mailbox, ..settings() });
        if let Some(first) = hubs.first() {
            builder = builder.seed(&first.addresses()[0]);
        }
        hubs.push(builder.start().await.expect("the hub starts"));
    }
    together(&hubs).await;
    hubs
}

async fn told(guard: &ChildRef<Guard>) -> BTreeMap<String, End> {
    let ends = guard.send(Told).timeout(Duration::from_secs(25)).await.expect("it answers");
    let count = ends.len();
    let ends: BTreeMap<String, End> = ends.into_iter().collect();
    assert_eq!(ends.len(), count, "of each once");
    ends
}

async fn is_told(guard: &ChildRef<Guard>, child: &str, end: &End) {
    eventually("it is told", async || told(guard).await.get(child) == Some(end)).await;
}

#[test]
fn a_child_is_told_once_of_the_end_of_each_that_it_watches_also_after_it_has_moved() {
    run(async {
        let network = MemoryNetwork::new();
        let mut hubs = guarded(3, &network, 1_024).await;
        let intensity = RestartIntensity { restarts: 0, within: Duration::from_secs(600) };
        for id in ["stopped", "moves", "dead", "let_go"] {
            start(&hubs[0], id).await;
        }
        let fails = ChildSpec::new::<Counter>("fails", ()).expect("valid").intensity(intensity);
        hubs[0].start_child(fails).await.expect("it starts");
        let ids = ["stopped", "moves", "dead", "fails", "missing", "let_go"];
        let watched = ids.map(|id| hubs[0].child::<Counter>(id)).to_vec();
        let spec = hubs[0].bind(|| ChildSpec::new::<Guard>("guard", watched)).expect("valid");
        hubs[0].start_child(spec).await.expect("it starts");
        let guard: ChildRef<Guard> = hubs[0].child("guard");
        is_told(&guard, "missing", &End::Stopped).await;
        hubs[2].stop_child("stopped").await.expect("it is there");
        is_told(&guard, "stopped", &End::Stopped).await;
        let let_go = hubs[0].child("let_go");
        guard.send(Watch { who: let_go, on: false }).await.expect("it answers");
        hubs[1].stop_child("let_go").await.expect("it is there");
        // It moves, and what it watches does.
        let (at, other) = places(&hubs, "guard").await;
        hubs[0].migrate("guard", hubs[other].node_id()).await.expect("it moves");
        hubs[0].migrate("moves", hubs[at].node_id()).await.expect("it moves");
        hubs[0].migrate("moves", hubs[other].node_id()).await.expect("it moves");
        hubs[1].child::<Counter>("fails").send(Boom {}).await.expect_err("it panics");
        is_told(&guard, "fails", &End::GivenUp).await;
        // The node of one of them, and not that of the guard, crashes.
        let third = (0..3).find(|n| *n != other).expect("there are three");
        let dead = hubs[third].node_id();
        hubs[0].migrate("dead", dead).await.expect("it moves");
        let survivor: ChildRef<Guard> = hubs[other].child("guard");
        network.kill(dead);
        is_told(&survivor, "dead", &End::NodeDown(dead)).await;
        let ends = told(&survivor).await;
        let expected = ["dead", "fails", "missing", "stopped"].map(str::to_owned);
        assert_eq!(ends.keys().cloned().collect::<Vec<_>>(), expected, "and of no other");
        let last = hubs.remove(third);
        last.stop().await;
        stop(hubs).await;
    });
}

#[test]
fn the_end_of_a_child_finds_a_watcher_whose_queue_is_full_or_that_moves() {
    run(async {
        let network = MemoryNetwork::new();
        let hubs = guarded(2, &network, 4).await;
        let ids: Vec<String> = (0..40).map(|n| format!("c{n}")).collect();
        for id in &ids {
            start(&hubs[0], id).await;
        }
        let watched = ids.iter().map(|id| hubs[0].child::<Counter>(id)).collect();
        let spec = hubs[0].bind(|| ChildSpec::new::<Guard>("guard", watched)).expect("valid");
        hubs[0].start_child(spec).await.expect("it starts");
        let guard: ChildRef<Guard> = hubs[0].child("guard");
        let mut watch = guard.watch();
        next(&mut watch).await;
        for round in 0..4 {
            guard.do_send(Hold { ms: 300 }).expect("there is room");
            while guard.do_send(Hold { ms: 0 }).is_ok() {}
            let (_, other) = places(&hubs, "guard").await;
            let to = hubs[other].node_id();
            let ending =
                ids[round * 10..][..10].iter().cloned().map(|id| ChildId::new(id).expect("valid"));
            let moves = hubs[0].migrate("guard", to);
            let stops = hubs[1].stop_children(ending);
            let (moved, stopped) = tokio::join!(moves.into_future(), stops.into_future());
            moved.expect("it moves");
            stopped.expect("they stop");
            assert!(matches!(next(&mut watch).await, Some(ChildChange::Moved { .. })));
            eventually("it is told of all", async || told(&guard).await.len() == 10 * (round + 1))
                .await;
        }
        stop(hubs).await;
    });
}

#[test]
fn a_watcher_that_begins_anew_is_told_nothing_of_what_an_earlier_one_watched() {
    run(async {
        let network = MemoryNetwork::new();
        let hubs = guarded(1, &network, 1_024).await;
        let hub = &hubs[0];
        for id in ["a", "b"] {
            start(hub, id).await;
        }
        let watched = vec![hub.child::<Counter>("a")];
        let spec = hub.bind(|| ChildSpec::new::<Guard>("guard", watched)).expect("valid");
        hub.start_child(spec).await.expect("it starts");
        let guard: ChildRef<Guard> = hub.child("guard");
        guard.send(Watch { who: hub.child("b"), on: true }).await.expect("it answers");
        hub.stop_child("guard").await.expect("it is there");
        // From its arguments, which name the first one alone.
        let watched = vec![hub.child::<Counter>("a")];
        let spec = hub.bind(|| ChildSpec::new::<Guard>("guard", watched)).expect("valid");
        hub.start_child(spec).await.expect("it starts");
        for id in ["b", "a"] {
            hub.stop_child(id).await.expect("it is there");
        }
        is_told(&guard, "a", &End::Stopped).await;
        assert_eq!(told(&guard).await.len(), 1, "the other was watched by an earlier one");
        stop(hubs).await;
    });
}
