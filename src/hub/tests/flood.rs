//! A member that says as much as its link takes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use super::*;
use crate::model::{
    id::NodeRun,
    message::{PeerMessage, SyncWord},
};

/// What a hub measures its peers' words by from now on.
struct Measured(Box<dyn Fn() -> Instant + Send>);

impl Message for Measured {
    type Result = ();
}

impl Handler<Measured> for HubSystem {
    type Result = ();

    fn handle(&mut self, Measured(clock): Measured, _: &mut Self::Context) {
        self.running.as_mut().expect("it runs").clock = clock;
    }
}

/// Lets every reading of a hub's clock be so much later than the one before. Counts the readings:
/// one for each event, and two for each batch.
async fn count_readings(hub: &Hub, step: Duration) -> Arc<AtomicU32> {
    let (readings, begin) = (Arc::new(AtomicU32::new(0)), Instant::now());
    let counted = Arc::clone(&readings);
    let clock = move || begin + step * counted.fetch_add(1, Ordering::Relaxed);
    hub.system().send(Measured(Box::new(clock))).await.expect("it runs");
    readings
}

/// Says a word so many times, without waiting for anything.
fn flood(from: &Hub, to: &Hub, word: &PeerMessage, times: u32) {
    let network = from.shared().doors.network.get().expect("it runs");
    for _ in 0..times {
        network.send(to.node_id(), word).expect("there is room");
    }
}

async fn run_of(hub: &Hub) -> NodeRun {
    let look = Look(Box::new(|running: &system::Running| running.engine.me()));
    hub.system().send(look).await.expect("it runs").expect("it runs")
}

async fn patient(name: &str, network: &MemoryNetwork, seed: Option<&Hub>) -> Hub {
    // Nobody falls silent in the time of a test, however slow the machine is.
    let settings = Settings { heartbeat: Duration::from_secs(10), ..Settings::local() };
    let mut builder = HubSystem::builder("test")
        .node_name(name)
        .child::<Counter>()
        .settings(settings)
        .workers(1)
        .memory(network);
    if let Some(seed) = seed {
        builder = builder.seed(&seed.addresses()[0]);
    }
    builder.start().await.expect("the hub starts")
}

#[actix::test]
async fn a_member_that_floods_gets_its_share_and_others_go_on() {
    const TIMES: u32 = 20_000;
    let network = MemoryNetwork::new();
    let a = patient("a", &network, None).await;
    let b = patient("b", &network, Some(&a)).await;
    let c = patient("c", &network, Some(&a)).await;
    for hub in [&a, &b, &c] {
        members(hub, 3).await;
    }
    let log = run_of(&a).await;
    let readings = count_readings(&a, Duration::from_millis(5)).await;
    flood(&b, &a, &PeerMessage::Sync(SyncWord::Ask { log, from: 0 }), TIMES);
    // It may take five seconds of the time that is read, at five milliseconds each.
    until("some of it is handled", async || readings.load(Ordering::Relaxed) > 300).await;
    for n in 0..30 {
        let id = format!("c{n}");
        c.start_child(spec(&id)).await.expect("it starts, wherever its home is");
        for value in 1..=200 {
            assert_eq!(c.child::<Counter>(&id).send(Add(1)).await, Ok(value));
        }
    }
    let read = readings.load(Ordering::Relaxed);
    assert!(read < TIMES / 4, "{read} events of {TIMES} words were handled meanwhile");
    assert_eq!(count(&a).await, 3, "it is slowed, and nothing else");
    for hub in [a, c, b] {
        hub.stop().await;
    }
}

/// How long the hub's own thread and its network's were on a processor. Linux only.
async fn on_processor(hub: &Hub) -> [Duration; 2] {
    fn read(path: impl AsRef<std::path::Path>) -> Duration {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let first = text.split(' ').next().and_then(|text| text.parse().ok());
        Duration::from_nanos(first.unwrap_or(0))
    }
    let look = Look(Box::new(|_: &system::Running| read("/proc/thread-self/schedstat")));
    let own = hub.system().send(look).await.expect("it runs").expect("it runs");
    let name = format!("net-{}", hub.node_id().short());
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let network = threads.map(|thread| thread.path()).filter(|path| {
        let comm = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        !comm.is_empty() && name.starts_with(comm.trim())
    });
    [own, network.map(|path| read(path.join("schedstat"))).sum()]
}

/// Says a word as often as the link takes it, on a thread of its own.
struct Flooder {
    /// How often it was said.
    said: Arc<AtomicU32>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Flooder {
    fn begin(from: &Hub, to: &Hub, word: PeerMessage) -> Self {
        let (said, stop) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
        let (from, to) = (from.clone(), to.node_id());
        let (count, stopped) = (Arc::clone(&said), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let network = from.shared().doors.network.get().expect("it runs");
            while !stopped.load(Ordering::Relaxed) {
                let links = network.traffic();
                let link = links.iter().find(|link| link.peer.node == to);
                if link.is_none_or(|link| link.queued > 1 << 20) {
                    std::thread::yield_now();
                    continue;
                }
                for _ in 0..1_000 {
                    let _ = network.send(to, &word);
                }
                count.fetch_add(1_000, Ordering::Relaxed);
            }
        });
        Self { said, stop, thread }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it ends");
    }
}

/// With `FLOOD_SECONDS` set it goes on for so long, after three seconds without a flood, and says
/// for each second what goes on and what it costs.
#[actix::test]
async fn calls_and_starts_go_on_while_a_member_floods() {
    const SECOND: Duration = Duration::from_secs(1);
    let seconds = std::env::var("FLOOD_SECONDS").ok().and_then(|text| text.parse::<u32>().ok());
    let network = MemoryNetwork::new();
    let [a, b, c] = three(&network).await;
    let specs: Vec<_> = (0..2_000).map(|n| spec(&format!("many-{n}"))).collect();
    a.start_children(specs).await.expect("it runs");
    let children = a.children(Scope::Local).await.expect("the hub runs");
    let child = c.child::<Counter>(&children.first().expect("some are here").id);
    let log = run_of(&a).await;
    let word = PeerMessage::Sync(SyncWord::Ask { log, from: 0 });
    let (began, mut second, mut calls, mut value) = (Instant::now(), 0, 0, 0);
    let quiet = seconds.map_or(0, |_| 3);
    let mut before = on_processor(&a).await;
    let mut flooder = None;
    while second <= quiet + seconds.unwrap_or(0) {
        if second >= quiet {
            flooder.get_or_insert_with(|| Flooder::begin(&b, &a, word.clone()));
        }
        for _ in 0..100 {
            value += 1;
            assert_eq!(child.send(Add(1)).await, Ok(value));
        }
        calls += 100;
        let id = format!("more-{value}");
        c.start_child(spec(&id)).await.expect("it starts");
        c.stop_child(&*id).await.expect("it stops");
        if seconds.is_none() {
            break;
        }
        if began.elapsed() >= SECOND * (second + 1) {
            let now = on_processor(&a).await;
            let [own, network] = [now[0] - before[0], now[1] - before[1]];
            let words = flooder.as_ref().map_or(0, |it| it.said.swap(0, Ordering::Relaxed));
            println!(
                "{second:>3} s: {calls} calls, {words} words said, \
                 the hub's thread {own:?}, its network's {network:?}"
            );
            (second, calls, before) = (second + 1, 0, now);
        }
    }
    flooder.expect("it has flooded").end();
    assert_eq!(count(&a).await, 3, "nobody is taken for dead");
    for hub in [a, c, b] {
        hub.stop().await;
    }
}
