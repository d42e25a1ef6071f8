//! Children that start when a message comes for them.

use std::sync::atomic::{AtomicBool, Ordering};

use actix::prelude::*;
use actix_hub::{KindBuilder, StartFailed, prelude::*};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::support::*;

fn on_demand(kind: KindBuilder<Counter>) -> KindBuilder<Counter> {
    kind.on_demand(|_| ())
}

async fn cluster(count: usize) -> Vec<Hub> {
    let network = MemoryNetwork::new();
    let mut hubs: Vec<Hub> = Vec::new();
    for n in 0..count {
        let builder = plain("test", &format!("n{n}")).memory(&network);
        let mut builder = builder.child_kind::<Counter>(on_demand);
        if let Some(seed) = hubs.first() {
            builder = builder.seed(&seed.addresses()[0]);
        }
        hubs.push(builder.start().await.expect("the hub starts"));
    }
    together(&hubs).await;
    hubs
}

#[test]
fn one_child_starts_though_messages_come_from_all_nodes_at_once() {
    run(async {
        let hubs = cluster(3).await;
        let ids: Vec<String> = (0..30).map(|n| format!("c{n}")).collect();
        let refs = hubs.iter().flat_map(|hub| ids.iter().map(|id| hub.child::<Counter>(id)));
        let refs: Vec<ChildRef<Counter>> = refs.collect();
        let add = |(n, child): (usize, &ChildRef<Counter>)| {
            child.do_send(Add { sender: 2, number: n as u64 }).expect("it is taken in");
            child.send(Add { sender: 1, number: n as u64 })
        };
        let counts = join_all(refs.iter().enumerate().map(add)).await;
        for (id, child) in refs[..ids.len()].iter().enumerate() {
            let of_one = counts.iter().skip(id).step_by(ids.len());
            let mut counts: Vec<u64> =
                of_one.map(|count| *count.as_ref().expect("it answers")).collect();
            counts.sort_unstable();
            assert_eq!(counts, [1, 2, 3], "one actor counted them all");
            let told = child.send(Read { sender: 2 }).await.expect("it answers");
            assert_eq!(told.0.len(), 3, "and what nobody waited for");
        }
        eventually("each is known once", async || {
            let children = hubs[0].children(Scope::Global).await.expect("the hub runs");
            children.len() == ids.len()
        })
        .await;
        stop(hubs).await;
    });
}

#[test]
fn what_was_stopped_starts_again_with_the_next_message_and_what_was_given_up_does_not() {
    run(async {
        let hubs = cluster(2).await;
        for (n, hub) in hubs.iter().enumerate() {
            let child: ChildRef<Counter> = hub.child(format!("c{n}"));
            for _ in 0..3 {
                assert_eq!(child.send(Add { sender: 1, number: 1 }).await, Ok(1), "it is new");
                hub.stop_child(format!("c{n}")).await.expect("it is stopped");
            }
            assert_eq!(hub.lookup(format!("c{n}")).await.expect("the hub runs"), None);
        }
        let spec = ChildSpec::new::<Counter>("weak", ()).expect("valid");
        let never = RestartIntensity { restarts: 0, within: std::time::Duration::from_secs(60) };
        hubs[0].start_child(spec.intensity(never)).await.expect("it starts");
        let weak: ChildRef<Counter> = hubs[0].child("weak");
        let _ = weak.send(Boom {}).await;
        eventually("it is given up", async || {
            let error = weak.send(Read { sender: 1 }).await;
            let Err(HubSendError::NotHandled { reason, .. }) = error else { return false };
            reason == NotHandled::GivenUp
        })
        .await;
        stop(hubs).await;
    });
}

#[test]
fn a_gateway_starts_children_by_sending_where_somebody_hosts_them() {
    run(async {
        let network = MemoryNetwork::new();
        let gateway = plain("test", "gateway").client_of_kind::<Counter>(on_demand);
        let gateway = gateway.memory(&network).start().await.expect("the hub starts");
        let child: ChildRef<Counter> = gateway.child("c");
        let refused = child.send(Read { sender: 1 }).await.expect_err("nobody hosts it");
        assert!(
            matches!(
                &refused,
                HubSendError::NotHandled {
                    reason: NotHandled::NotStarted { reason: StartFailed::UnknownKind { .. } },
                    ..
                }
            ),
            "{refused}"
        );
        // The host itself starts nothing on demand: who sends says so.
        let host = builder("test", "host").memory(&network).seed(&gateway.addresses()[0]);
        let hubs = [gateway, host.start().await.expect("the hub starts")];
        together(&hubs).await;
        assert_eq!(child.send(Add { sender: 1, number: 1 }).await, Ok(1));
        let there = hubs[1].lookup("c").await.expect("the hub runs").expect("it runs");
        assert_eq!(there.node, hubs[1].node_id());
        let unknown: ChildRef<Counter> = hubs[1].child("unknown");
        let refused = unknown.send(Read { sender: 1 }).await.expect_err("there is none");
        assert!(
            matches!(refused, HubSendError::NotHandled { reason: NotHandled::NoSuchChild, .. }),
            "{refused}"
        );
        stop(hubs.into()).await;
    });
}

#[derive(Default, Serialize, Deserialize)]
struct Picky;

impl Actor for Picky {
    type Context = Context<Self>;
}

static REFUSES: AtomicBool = AtomicBool::new(true);

impl Picky {
    fn make(name: String, _: &ChildContext<Self>) -> Result<Self, StartFailure> {
        match REFUSES.load(Ordering::SeqCst) {
            true => Err(StartFailure::new(format!("not now, {name}"))),
            false => Ok(Self),
        }
    }
}

impl Handler<Read> for Picky {
    type Result = Numbers;
    fn handle(&mut self, _: Read, _: &mut Self::Context) -> Numbers {
        Numbers(vec![7])
    }
}

hot_swap!(Picky, kind = "picky", messages = [Read], args = String, make = Picky::make);

#[test]
fn a_start_that_fails_is_told_to_who_sent_and_the_next_message_tries_again() {
    run(async {
        let hub = plain("test", "n0").memory(&MemoryNetwork::new());
        let hub = hub.child_kind::<Picky>(|kind| {
            kind.on_demand(|id| match id.as_str() {
                "panics" => panic!("no such name"),
                id => id.to_uppercase(),
            })
        });
        let hub = hub.start().await.expect("the hub starts");
        let told = async |id: &str| {
            let sent = hub.child::<Picky>(id).send(Read { sender: 1 }).await;
            sent.map_err(|error| error.to_string())
        };
        let refused = told("ann").await.expect_err("it does not start");
        assert!(refused.contains("not now, ANN"), "{refused}");
        let refused = told("panics").await.expect_err("nobody says how");
        assert!(refused.contains("no such name"), "{refused}");
        REFUSES.store(false, Ordering::SeqCst);
        assert_eq!(told("ann").await, Ok(Numbers(vec![7])));
        stop(vec![hub]).await;
    });
}
