//! Two processes with one key, and one that restarts with its own.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_hub::{StartHubError, prelude::*};

use crate::support::*;

/// A key file that is removed when it is dropped.
struct Key(PathBuf);

impl Key {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = format!("actix-hub-same-key-{}-{count}", std::process::id());
        Self(std::env::temp_dir().join(file))
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn nets() -> [Net; 2] {
    [Net::Memory(MemoryNetwork::new()), Net::Tcp]
}

fn of(net: &Net, name: &str) -> HubBuilder {
    match net {
        Net::Memory(network) => builder("test", name).memory(network),
        Net::Tcp => tcp(name),
    }
}

/// Until a run is so old that a third node is certain that it was first, by half a second, whichever
/// begins now.
async fn is_beyond_doubt(first: &Hub) {
    let nodes = first.nodes().await.expect("the hub runs");
    let own = nodes.iter().find(|node| node.is_self).expect("it knows itself");
    let began = UNIX_EPOCH + Duration::from_millis(own.incarnation.started);
    eventually("the first is old", async || {
        SystemTime::now().duration_since(began).is_ok_and(|age| age > Duration::from_secs(1))
    })
    .await;
}

fn with(net: &Net, name: &str, key: &Key, seed: &Hub) -> HubBuilder {
    of(net, name).key_file(&key.0).seed(&seed.addresses()[0])
}

#[test]
fn a_process_whose_key_another_one_has_that_runs_does_not_start() {
    for net in nets() {
        run(async {
            let key = Key::new();
            let first = of(&net, "first").key_file(&key.0).start().await.expect("it founds");
            let second = with(&net, "second", &key, &first).start().await;
            let Err(StartHubError::KeyInUse { address, by: None }) = second else {
                panic!("{second:?}");
            };
            assert_eq!(address, first.addresses()[0]);
            // The seed is another one, which has a link to the first.
            let third = net.node("third", Some(&first), |_| {}).await;
            together(&[first.clone(), third.clone()]).await;
            is_beyond_doubt(&first).await;
            let second = with(&net, "second", &key, &third).start().await;
            let Err(error) = second else { panic!("it does not start") };
            let text = error.to_string();
            let StartHubError::KeyInUse { address, by } = error else { panic!("{text}") };
            assert_eq!((&address, by), (&first.addresses()[0], Some(third.node_id())));
            for part in [&address, &third.node_id().to_string(), "key file of its own"] {
                assert!(text.contains(part), "{text}");
            }
            start(&third, "c").await.send(Read { sender: 1 }).await.expect("the others go on");
            together(&[first.clone(), third.clone()]).await;
            stop(vec![first, third]).await;
        });
    }
}

#[test]
fn a_hub_that_is_told_later_of_an_earlier_one_with_its_key_stops_by_itself() {
    for net in nets() {
        run(async {
            let key = Key::new();
            let first = of(&net, "first").key_file(&key.0).start().await.expect("it founds");
            let third = net.node("third", Some(&first), |_| {}).await;
            together(&[first.clone(), third.clone()]).await;
            is_beyond_doubt(&first).await;
            for seed in [&first, &third] {
                // It has a cluster of its own before it dials.
                let second = with(&net, "second", &key, seed).found().start().await;
                let second = second.expect("it is told later");
                let mut events = second.events();
                let told = event(&mut events, |event| match event {
                    HubEvent::KeyInUse { address, by } => Some((address, by)),
                    _ => None,
                });
                let by = (seed.node_id() == third.node_id()).then_some(third.node_id());
                assert_eq!(told.await, (first.addresses()[0].clone(), by));
                let stopped = tokio::time::timeout(Duration::from_secs(30), second.stopped());
                stopped.await.expect("it stops");
                assert!(second.inspect().await.is_err());
            }
            together(&[first.clone(), third.clone()]).await;
            stop(vec![first, third]).await;
        });
    }
}

#[test]
fn a_node_that_restarts_at_once_is_no_second_process() {
    run(async {
        let (key, network) = (Key::new(), MemoryNetwork::new());
        let net = Net::Memory(network.clone());
        let others = net.cluster(2).await;
        let mut killed = Vec::new();
        for life in 0..5 {
            let node = with(&net, "again", &key, &others[life % 2]).start().await;
            let node = node.expect("the one before is dead");
            let mut all = others.clone();
            all.push(node.clone());
            together(&all).await;
            network.kill(node.node_id());
            killed.push(node);
        }
        stop(others).await;
        stop(killed).await;
    });
}
