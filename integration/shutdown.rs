//! Apps that end: alone, with others, and with what does not end by itself.

use std::{path::PathBuf, time::Duration};

use actix_hub::{HubStopped, LeftState, ShutdownReport, prelude::*};
use futures_util::future::{join3, select_ok};

use crate::support::*;

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("hub-shutdown-{name}-{}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    /// The children whose states are there, with the numbers that each has seen of sender 1.
    fn states(&self) -> Vec<(String, Vec<u64>)> {
        let files = LeftState::files(&self.0).expect("the folder is there");
        let mut states: Vec<_> = files
            .iter()
            .map(|path| {
                let left = LeftState::read(path).expect("it is a state");
                assert_eq!((left.hub.as_str(), left.kind.as_str()), ("test", "counter"));
                assert_eq!(left.state_version, Counter::STATE_VERSION);
                let state: CounterState =
                    ciborium::from_reader(&left.state[..]).expect("it is its state");
                (left.child.to_string(), state.seen.get(&1).cloned().unwrap_or_default())
            })
            .collect();
        states.sort();
        states
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn node(network: &MemoryNetwork, name: &str, seed: Option<&Hub>, folder: &Folder) -> Hub {
    let mut builder = builder("test", name).memory(network).leave_dir(&folder.0);
    if let Some(seed) = seed {
        builder = builder.seed(&seed.addresses()[0]);
    }
    builder.start().await.expect("the hub starts")
}

/// Starts these on the last of the nodes; each has seen number 1.
async fn start_on_last(hubs: &[Hub], names: &[&str]) {
    let last = hubs.last().expect("there is one");
    for name in names {
        let child = start(last, name).await;
        last.migrate(name, last.node_id()).await.expect("it is moved there");
        child.send(Add { sender: 1, number: 1 }).await.expect("it answers");
    }
}

fn names(report: &ShutdownReport) -> (Vec<&str>, Vec<&str>) {
    let written = report.written.iter().map(|written| written.child.as_str()).collect();
    let lost = report.lost.iter().map(|lost| lost.child.as_str()).collect();
    (written, lost)
}

#[test]
fn a_node_alone_just_ends_and_says_what_ended_with_it() {
    run(async {
        let hub = Net::Memory(MemoryNetwork::new()).node("a", None, |_| {}).await;
        let hubs = [hub];
        start_on_last(&hubs, &["c0", "c1"]).await;
        let [hub] = hubs;
        let report = hub.shutdown().await.expect("it ends");
        assert_eq!((report.handed_over, names(&report)), (0, (vec![], vec!["c0", "c1"])));
        assert!(!report.forced);
        assert_eq!(report.lost[0].reason, "no other node takes children");
        // The hub has stopped.
        hub.stopped().await;
        let error = hub.child::<Counter>("c0").send(Read { sender: 1 }).await;
        assert!(!error.expect_err("it has stopped").may_have_been_handled());
        assert_eq!(hub.shutdown().await, Ok(report), "the same is said again");
        assert_eq!(hub.leave().await, Err(LeaveError::HubStopped));
    });
}

#[test]
fn a_node_without_children_and_one_that_was_stopped_end() {
    run(async {
        let net = Net::Memory(MemoryNetwork::new());
        let hub = net.node("a", None, |_| {}).await;
        let report = hub.shutdown().await.expect("it ends");
        assert_eq!((report.handed_over, names(&report)), (0, (vec![], vec![])));
        let hub = net.node("b", None, |_| {}).await;
        hub.stop().await;
        assert_eq!(hub.shutdown().await, Err(HubStopped));
    });
}

#[test]
fn states_of_a_node_alone_are_in_files() {
    run(async {
        let folder = Folder::new("alone");
        let hubs = [node(&MemoryNetwork::new(), "a", None, &folder).await];
        start_on_last(&hubs, &["c0", "room/lobby"]).await;
        let [hub] = hubs;
        // A handler that ends by itself is waited for, and what it does is in the state.
        let child: ChildRef<Counter> = hub.child("c0");
        let call = actix_rt::spawn(child.send(Later { ms: 700 }).into_future());
        child.send(Add { sender: 1, number: 2 }).await.expect("it answers meanwhile");
        let report = hub.shutdown().await.expect("it ends");
        assert_eq!(names(&report), (vec!["c0", "room/lobby"], vec![]));
        assert_eq!(call.await.expect("it does not panic"), Ok(700));
        let states = folder.states();
        let numbers = [("c0", vec![1, 2]), ("room/lobby", vec![1])];
        assert_eq!(states, numbers.map(|(child, seen)| (child.to_owned(), seen)));
    });
}

#[test]
fn a_folder_that_cannot_be_written_to_is_found_out_at_the_start() {
    run(async {
        let file = std::env::temp_dir().join(format!("hub-no-folder-{}", std::process::id()));
        std::fs::write(&file, "a file").expect("it is written");
        let builder = builder("test", "a").memory(&MemoryNetwork::new()).leave_dir(&file);
        let error = builder.start().await.expect_err("it is no folder");
        assert!(error.to_string().contains("leave_dir"), "{error}");
        std::fs::remove_file(&file).expect("it is removed");
    });
}

#[test]
fn with_others_everything_is_handed_over_and_a_second_call_joins_the_first() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        start_on_last(&hubs, &["c0", "c1", "c2"]).await;
        let events = hubs[0].events();
        let last = &hubs[1];
        let (first, second, started) = join3(
            last.shutdown().into_future(),
            last.shutdown().timeout(Duration::from_millis(1)).into_future(),
            // What is asked after it is answered as if it had stopped.
            last.start_child(ChildSpec::new::<Counter>("late", ()).expect("valid")),
        )
        .await;
        let report = first.expect("it ends");
        assert_eq!(second, Ok(report.clone()));
        assert_eq!(started, Err(StartChildError::HubStopped));
        assert_eq!((report.handed_over, names(&report)), (3, (vec![], vec![])));
        assert!(!report.forced);
        let mut events = events;
        event(&mut events, |event| matches!(event, HubEvent::NodeLeft { .. }).then_some(())).await;
        for name in ["c0", "c1", "c2"] {
            let child: ChildRef<Counter> = hubs[0].child(name);
            assert_eq!(child.send(Read { sender: 1 }).await, Ok(Numbers(vec![1])));
        }
        stop(hubs).await;
    });
}

#[test]
fn who_takes_children_again_or_has_just_come_takes_those_of_a_node_that_ends() {
    run(async {
        let (network, folder) = (MemoryNetwork::new(), Folder::new("soon"));
        for is_new in [false, true] {
            let last = node(&network, "last", None, &folder).await;
            let other = node(&network, "other", Some(&last), &folder).await;
            if !is_new {
                together(&[last.clone(), other.clone()]).await;
                other.drain().await.expect("it has none");
                eventually("it is seen", async || {
                    let nodes = last.nodes().await.expect("the hub runs");
                    nodes.iter().any(|node| node.is_draining)
                })
                .await;
            }
            eventually("it is heard", async || last.nodes().await.is_ok_and(|all| all.len() == 2))
                .await;
            let child = start(&last, "c").await;
            child.send(Add { sender: 1, number: 1 }).await.expect("it answers");
            if !is_new {
                other.undrain().await.expect("it takes children again");
            }
            let report = last.shutdown().await.expect("it ends");
            assert!(report.lost.is_empty(), "{report}");
            let child: ChildRef<Counter> = other.child("c");
            assert_eq!(child.send(Read { sender: 1 }).await, Ok(Numbers(vec![1])), "{is_new}");
            stop(vec![other]).await;
        }
    });
}

#[test]
fn a_shutdown_that_nobody_waits_for_goes_on_to_its_end() {
    run(async {
        let hubs = Net::Memory(MemoryNetwork::new()).cluster(2).await;
        start_on_last(&hubs, &["c0"]).await;
        {
            let ending = std::pin::pin!(hubs[1].shutdown().into_future());
            assert!(futures_util::FutureExt::now_or_never(ending).is_none());
        }
        hubs[1].stopped().await;
        let report = hubs[1].shutdown().await.expect("it has ended");
        assert_eq!(report.handed_over, 1);
        stop(hubs).await;
    });
}

#[test]
fn a_handler_that_never_ends_is_cut_off_at_the_deadline_and_its_state_is_in_a_file() {
    run(async {
        let folder = Folder::new("forced");
        let network = MemoryNetwork::new();
        let first = node(&network, "a", None, &folder).await;
        let second = node(&network, "b", Some(&first), &folder).await;
        let hubs = vec![first, second];
        together(&hubs).await;
        start_on_last(&hubs, &["c0", "c1", "stuck"]).await;
        let calls: Vec<_> = hubs
            .iter()
            .map(|hub| {
                let child: ChildRef<Counter> = hub.child("stuck");
                let later = child.send(Later { ms: 600_000 });
                actix_rt::spawn(later.timeout(Duration::from_secs(600)).into_future())
            })
            .collect();
        // Both were taken in.
        for hub in &hubs {
            let stuck: ChildRef<Counter> = hub.child("stuck");
            stuck.send(Add { sender: 1, number: 2 }).await.expect("it answers meanwhile");
        }
        let deadline = Duration::from_secs(2);
        let report = hubs[1].shutdown().timeout(deadline).await.expect("it ends");
        assert_eq!((report.handed_over, names(&report)), (2, (vec!["stuck"], vec![])));
        assert!(report.forced && report.took >= deadline, "{report:?}");
        assert!(report.written[0].reason.contains("handler"), "{report:?}");
        for call in calls {
            let error = call.await.expect("it does not panic").expect_err("it was cut off");
            assert!(error.may_have_been_handled(), "{error}");
        }
        assert_eq!(folder.states(), [("stuck".to_owned(), vec![1, 2, 2])]);
        for name in ["c0", "c1"] {
            let child: ChildRef<Counter> = hubs[0].child(name);
            assert_eq!(child.send(Read { sender: 1 }).await, Ok(Numbers(vec![1])));
        }
        stop(hubs).await;
    });
}

#[test]
fn a_handler_that_holds_its_thread_does_not_keep_the_node_from_ending() {
    run(async {
        let folder = Folder::new("blocked");
        let hubs = [node(&MemoryNetwork::new(), "a", None, &folder).await];
        start_on_last(&hubs, &["blocked"]).await;
        let [hub] = hubs;
        let child: ChildRef<Counter> = hub.child("blocked");
        let call = child.send(Block { ms: 120_000 }).timeout(Duration::from_secs(600));
        let call = actix_rt::spawn(call.into_future());
        eventually("the handler has begun", async || {
            let read = child.send(Read { sender: 1 }).timeout(Duration::from_millis(50)).await;
            read.is_err()
        })
        .await;
        let deadline = Duration::from_millis(500);
        let report = hub.shutdown().timeout(deadline).await.expect("it ends");
        assert_eq!(names(&report), (vec![], vec!["blocked"]));
        let reason = &report.lost[0].reason;
        assert!(reason.contains("a handler holds its thread (actix-rt|"), "{reason}");
        let error = call.await.expect("it does not panic").expect_err("the hub has ended");
        assert!(error.may_have_been_handled(), "{error}");
    });
}

/// By so much a shutdown is over its deadline at most.
const OVERTIME: Duration = Duration::from_secs(4);

/// Ends it within the bound that is promised.
async fn shut_down(hub: &Hub, deadline: Duration) -> ShutdownReport {
    let ends = hub.shutdown().timeout(deadline).into_future();
    let ended = tokio::time::timeout(deadline + OVERTIME, ends).await;
    ended.expect("it ends in time").expect("it was not stopped before")
}

/// What became of a node that is gone: `true` if it said so itself.
async fn end_of(events: &mut EventStream, node: NodeId) -> bool {
    event(events, |event| match event {
        HubEvent::NodeLeft { node: gone } if gone == node => Some(true),
        HubEvent::NodeDown { node: gone } if gone == node => Some(false),
        _ => None,
    })
    .await
}

#[test]
fn a_node_that_is_forced_to_end_says_so_and_what_it_had_not_begun_goes_to_the_next_owner() {
    for net in [Net::Memory(MemoryNetwork::new()), Net::Tcp] {
        run(async {
            let hubs = net.cluster(2).await;
            start_on_last(&hubs, &["blocked", "c0", "c1", "c2", "c3", "c4", "c5"]).await;
            let mut events = hubs[0].events();
            let blocked: ChildRef<Counter> = hubs[0].child("blocked");
            let patient = Duration::from_secs(600);
            let begun = blocked.send(Block { ms: 120_000 }).timeout(patient);
            let begun = actix_rt::spawn(begun.into_future());
            eventually("the handler has begun", async || {
                let read = blocked.send(Read { sender: 1 }).timeout(Duration::from_millis(50));
                read.await.is_err()
            })
            .await;
            let add = blocked.send(Add { sender: 2, number: 7 }).timeout(patient);
            let add = actix_rt::spawn(add.into_future());
            // It is over there when another child has answered what was sent after it.
            let others = ["c0", "c1", "c2", "c3", "c4", "c5"].map(|name| {
                let child: ChildRef<Counter> = hubs[0].child(name);
                child.send(Read { sender: 1 }).into_future()
            });
            actix_rt::task::yield_now().await;
            select_ok(others).await.expect("one of them is on another thread");
            let report = shut_down(&hubs[1], Duration::from_millis(500)).await;
            assert!(report.forced, "{report:?}");
            let lost = report.lost.iter().find(|lost| lost.child.as_str() == "blocked");
            let reason = &lost.expect("its state cannot be had").reason;
            assert!(reason.contains("handler"), "{reason}");
            assert!(end_of(&mut events, hubs[1].node_id()).await, "nobody has to find out");
            let error = begun.await.expect("it does not panic").expect_err("it was cut off");
            assert!(error.may_have_been_handled(), "{error}");
            assert_eq!(add.await.expect("it does not panic"), Ok(1), "it had not begun there");
            assert_eq!(blocked.send(Read { sender: 2 }).await, Ok(Numbers(vec![7])));
            stop(hubs).await;
        });
    }
}

#[test]
fn replies_on_their_way_arrive_before_the_end_of_a_node_that_is_forced() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        start_on_last(&hubs, &["stuck", "busy"]).await;
        let mut events = hubs[0].events();
        let patient = Duration::from_secs(600);
        let stuck: ChildRef<Counter> = hubs[0].child("stuck");
        let never = stuck.send(Later { ms: 600_000 }).timeout(patient);
        let never = actix_rt::spawn(never.into_future());
        // Each of these has its reply when the deadline has passed, or is not begun there.
        let calls: Vec<_> = (0..200)
            .map(|n| {
                let later = stuck.send(Later { ms: 2 * n }).timeout(patient);
                actix_rt::spawn(later.into_future())
            })
            .collect();
        stuck.send(Add { sender: 1, number: 2 }).await.expect("it answers meanwhile");
        let report = shut_down(&hubs[1], Duration::from_millis(1_500)).await;
        assert_eq!(names(&report), (vec![], vec!["stuck"]));
        assert!(end_of(&mut events, hubs[1].node_id()).await, "nobody has to find out");
        for (call, n) in calls.into_iter().zip(0..) {
            assert_eq!(call.await.expect("it does not panic"), Ok(2 * n));
        }
        let error = never.await.expect("it does not panic").expect_err("it was cut off");
        assert!(error.may_have_been_handled(), "{error}");
        stop(hubs).await;
    });
}

#[test]
fn a_child_whose_end_holds_its_thread_does_not_keep_its_node_beyond_the_deadline() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        start_on_last(&hubs, &["c0"]).await;
        let child: ChildRef<Counter> = hubs[0].child("c0");
        child.send(HoldAtEnd { ms: 120_000 }).await.expect("it answers");
        let report = shut_down(&hubs[1], Duration::from_millis(1_500)).await;
        assert_eq!((report.handed_over, names(&report)), (1, (vec![], vec![])));
        assert_eq!(child.send(Read { sender: 1 }).await, Ok(Numbers(vec![1])));
        stop(hubs).await;
    });
}
