//! Nodes that are processes: killed, paused, restarted.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use actix_hub::prelude::*;

use crate::support::*;

const SEED: &str = "ACTIX_HUB_TEST_SEED";
const KEY: &str = "ACTIX_HUB_TEST_KEY";
const CHILDREN: usize = 30;

fn name(n: usize) -> String {
    format!("c{n}")
}

/// No test: a node in a process of its own, started by the tests below. It ends with its stdin.
#[test]
fn node_process() {
    let Ok(seed) = std::env::var(SEED) else { return };
    run(async {
        let mut builder = tcp("process").seed(seed);
        if let Some(key) = std::env::var_os(KEY) {
            builder = builder.key_file(key);
        }
        let hub = builder.start().await.expect("the hub starts");
        println!("\nnode {}", hub.node_id());
        let (sender, closed) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            let _ = sender.send(());
        });
        let _ = closed.await;
        hub.stop().await;
    });
}

/// A node in a process of its own; killed when dropped.
struct Process {
    child: Child,
    id: NodeId,
}

impl Process {
    fn start(seed: &Hub, key: Option<&std::path::Path>) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this test has a path"));
        command
            .args(["--exact", "processes::node_process", "--nocapture", "--test-threads", "1"])
            .env(SEED, &seed.addresses()[0])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if let Some(key) = key {
            command.env(KEY, key);
        }
        let mut child = command.spawn().expect("this test can be started again");
        let lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
        let id = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("node ").map(str::to_owned))
            .expect("the node tells its id")
            .parse()
            .expect("a node id");
        Self { child, id }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill can be run").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn start_all(hub: &Hub) {
    let specs = (0..CHILDREN).map(|n| ChildSpec::new::<Counter>(name(n), ()).expect("valid"));
    assert_eq!(hub.start_children(specs).await.expect("the hub runs").started(), CHILDREN);
}

async fn on(node: NodeId, hub: &Hub) -> usize {
    hub.children(Scope::Global)
        .await
        .expect("the hub runs")
        .iter()
        .filter(|child| child.node == node)
        .count()
}

async fn all_answer(hub: &Hub) {
    for n in 0..CHILDREN {
        let child: ChildRef<Counter> = hub.child(name(n));
        eventually("each child answers", async || {
            child.send(Read { sender: 9 }).timeout(Duration::from_secs(5)).await.is_ok()
        })
        .await;
    }
}

#[test]
fn children_of_a_killed_process_start_again_on_the_survivors() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        let process = Process::start(&hubs[0], None);
        let id = process.id;
        eventually("it is in", async || members(&hubs[1]).await == 3).await;
        start_all(&hubs[0]).await;
        assert!(on(id, &hubs[0]).await > 0, "some of them run there");
        let mut events = hubs[0].events();
        process.signal("-KILL");
        event(&mut events, |event| match event {
            HubEvent::NodeDown { node } if node == id => Some(()),
            _ => None,
        })
        .await;
        eventually("none is there any more", async || on(id, &hubs[0]).await == 0).await;
        all_answer(&hubs[1]).await;
        assert_eq!(hubs[1].children(Scope::Global).await.expect("the hub runs").len(), CHILDREN);
        stop(hubs).await;
    });
}

#[test]
fn a_process_that_restarts_at_once_is_another_run_of_the_same_node() {
    run(async {
        let folder = std::env::temp_dir().join(format!("actix-hub-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the key");
        let key = folder.join("node.key");
        let hubs = Net::Tcp.cluster(2).await;
        let process = Process::start(&hubs[0], Some(&key));
        let id = process.id;
        eventually("it is in", async || members(&hubs[1]).await == 3).await;
        start_all(&hubs[0]).await;
        let life = |nodes: Vec<NodeInfo>| {
            nodes.into_iter().find(|node| node.id == id).map(|node| node.incarnation)
        };
        let before = life(hubs[0].nodes().await.expect("the hub runs")).expect("it is in");
        drop(process);
        let process = Process::start(&hubs[0], Some(&key));
        assert_eq!(process.id, id, "the key file makes it the same node");
        eventually("it is in with a later life", async || {
            life(hubs[1].nodes().await.expect("the hub runs")).is_some_and(|life| life > before)
        })
        .await;
        all_answer(&hubs[1]).await;
        assert_eq!(hubs[0].children(Scope::Global).await.expect("the hub runs").len(), CHILDREN);
        drop(process);
        stop(hubs).await;
        let _ = std::fs::remove_dir_all(folder);
    });
}

#[test]
fn a_process_that_hangs_gives_its_place_to_a_new_one_with_its_key() {
    run(async {
        let folder = std::env::temp_dir().join(format!("actix-hub-hangs-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the key");
        let key = folder.join("node.key");
        let hubs = Net::Tcp.cluster(2).await;
        let hangs = Process::start(&hubs[0], Some(&key));
        eventually("it is in", async || members(&hubs[1]).await == 3).await;
        // Its connections stand, and it says nothing.
        hangs.signal("-STOP");
        let next = Process::start(&hubs[0], Some(&key));
        assert_eq!(next.id, hangs.id, "the key file makes it the same node");
        drop(hangs);
        eventually("it is in", async || members(&hubs[1]).await == 3).await;
        drop(next);
        stop(hubs).await;
        let _ = std::fs::remove_dir_all(folder);
    });
}

#[test]
fn a_process_paused_for_longer_than_the_window_comes_back_with_what_it_had() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        let process = Process::start(&hubs[0], None);
        let id = process.id;
        eventually("it is in", async || members(&hubs[1]).await == 3).await;
        start_all(&hubs[0]).await;
        for n in 0..CHILDREN {
            let child: ChildRef<Counter> = hubs[0].child(name(n));
            child.send(Add { sender: 1, number: 1 }).await.expect("it answers");
        }
        process.signal("-STOP");
        for hub in &hubs {
            eventually("it is down", async || members(hub).await == 2).await;
        }
        for n in 0..CHILDREN {
            let child: ChildRef<Counter> = hubs[1].child(name(n));
            let add = Add { sender: 2, number: 2 };
            child.send(add).timeout(Duration::from_secs(20)).await.expect("survivors go on");
        }
        process.signal("-CONT");
        eventually("it is back", async || members(&hubs[0]).await == 3).await;
        for n in 0..CHILDREN {
            let child: ChildRef<Counter> = hubs[0].child(name(n));
            for sender in 1..3 {
                eventually("both states are in the one that goes on", async || {
                    let read = child.send(Read { sender }).timeout(Duration::from_secs(5)).await;
                    read == Ok(Numbers(vec![sender]))
                })
                .await;
            }
        }
        assert!(hubs[0].nodes().await.expect("the hub runs").iter().any(|node| node.id == id));
        drop(process);
        stop(hubs).await;
    });
}
