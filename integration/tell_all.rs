//! One message for all children of a kind, or with a tag, on whichever node.

use actix::prelude::*;
use actix_hub::{PublishError, prelude::*};
use serde::{Deserialize, Serialize};

use crate::support::*;

/// Takes no message.
#[derive(Default, Serialize, Deserialize)]
struct Mute;

impl Actor for Mute {
    type Context = Context<Self>;
}

hot_swap!(Mute, kind = "mute", messages = []);

async fn cluster(network: &MemoryNetwork) -> Vec<Hub> {
    let mut hubs: Vec<Hub> = Vec::new();
    for name in ["a", "b", "c"] {
        let builder = builder("test", name).memory(network).child::<Mute>();
        let builder = match hubs.first() {
            Some(seed) => builder.seed(&seed.addresses()[0]),
            None => builder,
        };
        hubs.push(builder.start().await.expect("the hub starts"));
    }
    together(&hubs).await;
    hubs
}

/// So many counters, every other one of which is even.
async fn counters(hub: &Hub, count: usize) -> Vec<ChildRef<Counter>> {
    let spec = |n: usize| {
        let spec = ChildSpec::new::<Counter>(format!("c{n}"), ()).expect("a valid spec");
        spec.tag(["even", "odd"][n % 2]).expect("a valid tag")
    };
    let report = hub.start_children((0..count).map(spec)).await.expect("it runs");
    assert_eq!(report.outcomes.len(), count);
    (0..count).map(|n| hub.child(format!("c{n}"))).collect()
}

async fn read(counter: &ChildRef<Counter>) -> Vec<u64> {
    counter.send(Read { sender: 1 }).await.expect("it answers").0
}

fn add(number: u64) -> Add {
    Add { sender: 1, number }
}

#[test]
fn each_child_that_is_meant_is_told_once_behind_what_was_sent_before() {
    run(async {
        let hubs = cluster(&MemoryNetwork::new()).await;
        let counters = counters(&hubs[0], 12).await;
        let even = || ChildFilter::default().tag("even").expect("a valid tag");
        for counter in &counters {
            counter.do_send(add(1)).expect("there is room");
        }
        let told = hubs[0].tell_all(even(), add(2)).await.expect("it is sent");
        assert_eq!((told.told, told.refused), (6, 0));
        for counter in &counters {
            counter.do_send(add(3)).expect("there is room");
        }
        for (n, counter) in counters.iter().enumerate() {
            let expected = if n % 2 == 0 { vec![1, 2, 3] } else { vec![1, 3] };
            assert_eq!(read(counter).await, expected, "{n}");
        }
        let both = even().tag("odd").expect("a valid tag");
        assert_eq!(hubs[1].tell_all(both, add(4)).await.expect("it is sent").told, 0);
        let kind = even().kind::<Counter>().expect("a valid kind");
        eventually("the other node knows of all", async || {
            hubs[1].tell_all(kind.clone(), add(4)).await.expect("it is sent").told == 6
        })
        .await;
        stop(hubs).await;
    });
}

#[test]
fn children_that_move_are_told_once_and_in_order() {
    run(async {
        let hubs = cluster(&MemoryNetwork::new()).await;
        let counters = counters(&hubs[0], 6).await;
        let everybody = || ChildFilter::default().kind::<Counter>().expect("a valid kind");
        let (from, to) = (hubs[0].clone(), [1, 2, 0, 1].map(|n: usize| hubs[n].node_id()));
        let moves = async {
            for node in to {
                for counter in &counters {
                    hubs[1].migrate(counter.id(), node).await.expect("it moves");
                }
            }
        };
        let tells = async {
            for number in 0..200 {
                let told = from.tell_all(everybody(), add(number)).await.expect("it is sent");
                assert_eq!((told.told, told.refused), (6, 0));
                // So that they do not all wait in one queue.
                read(&counters[0]).await;
            }
        };
        futures_util::future::join(moves, tells).await;
        for counter in &counters {
            assert_eq!(read(counter).await, (0..200).collect::<Vec<u64>>());
        }
        stop(hubs).await;
    });
}

#[test]
fn who_cannot_be_told_is_counted_and_what_cannot_be_sent_is_refused() {
    run(async {
        let hubs = cluster(&MemoryNetwork::new()).await;
        counters(&hubs[0], 2).await;
        hubs[0].child_or_start::<Mute>("mute", ()).await.expect("it starts");
        let told = hubs[0].tell_all(ChildFilter::default(), add(1)).await.expect("it is sent");
        assert_eq!((told.told, told.refused), (2, 1));
        match &told.refusals[..] {
            [HubSendError::NotHandled { child, reason: NotHandled::NotRegistered { .. } }] => {
                assert_eq!(child.as_str(), "mute");
            }
            other => panic!("{other:?}"),
        }
        let hub = hubs[0].clone();
        stop(hubs).await;
        let refused = hub.tell_all(ChildFilter::default(), add(1)).await;
        assert_eq!(refused, Err(PublishError::HubStopped));
    });
}
