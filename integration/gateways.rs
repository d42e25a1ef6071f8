//! Nodes that send to children and host none.

use actix_hub::{MigrateError, StartFailed, StartHubError, prelude::*};

use crate::support::*;

/// Two nodes that host counters, and one that sends to them.
async fn cluster(network: &MemoryNetwork) -> (Vec<Hub>, Hub) {
    let mut hubs: Vec<Hub> = Vec::new();
    for name in ["n0", "n1"] {
        let builder = builder("test", name).memory(network);
        let builder = match hubs.first() {
            Some(seed) => builder.seed(&seed.addresses()[0]),
            None => builder,
        };
        hubs.push(builder.start().await.expect("the hub starts"));
    }
    let gateway = plain("test", "gateway").client_of::<Counter>().memory(network);
    let gateway = gateway.seed(&hubs[0].addresses()[0]).start().await.expect("the hub starts");
    let all = [hubs[0].clone(), hubs[1].clone(), gateway.clone()];
    together(&all).await;
    (hubs, gateway)
}

#[test]
fn a_gateway_starts_and_is_heard_by_children_and_hosts_none() {
    run(async {
        let (mut hubs, gateway) = cluster(&MemoryNetwork::new()).await;
        for n in 0..20 {
            let child = gateway.child_or_start::<Counter>(format!("c{n}"), ()).await;
            let add = child.expect("it starts").send(Add { sender: 1, number: 7 }).await;
            assert_eq!(add, Ok(1), "c{n}");
        }
        let here = async || {
            let children = gateway.children(Scope::Global).await.expect("the hub runs");
            let here = children.iter().filter(|child| child.node == gateway.node_id()).count();
            (children.len(), here)
        };
        assert_eq!(here().await, (20, 0));
        let refused = gateway.migrate("c0", gateway.node_id()).await;
        assert!(matches!(refused, Err(MigrateError::Failed { .. })), "{refused:?}");
        // One hands its children over, then the other comes to an end: nothing goes to the gateway.
        hubs.pop().expect("two hosts").leave().await.expect("the other one takes all");
        for n in 0..20 {
            let child: ChildRef<Counter> = gateway.child(format!("c{n}"));
            assert_eq!(
                child.send(Add { sender: 1, number: 8 }).await,
                Ok(2),
                "its state has moved"
            );
        }
        let left = hubs[0].leave().await.expect_err("nobody else hosts counters");
        assert!(matches!(left, LeaveError::NoSuccessor { .. }), "{left}");
        hubs.pop().expect("the last host").stop().await;
        eventually("it is gone", async || members(&gateway).await == 1).await;
        assert_eq!(here().await.1, 0, "they wait for a node that hosts them");
        let spec = ChildSpec::new::<Counter>("new", ()).expect("a valid spec");
        let refused = gateway.start_child(spec).await.expect_err("nobody hosts it");
        let unknown = |reason: &StartFailed| matches!(reason, StartFailed::UnknownKind { .. });
        assert!(
            matches!(&refused, StartChildError::Failed { reason, .. } if unknown(reason)),
            "{refused}"
        );
        gateway.leave().await.expect("it has nothing to hand over");
    });
}

#[test]
fn children_of_a_host_that_goes_wait_for_one_that_comes() {
    run(async {
        let network = MemoryNetwork::new();
        let (hubs, gateway) = cluster(&network).await;
        start(&gateway, "c").await.send(Add { sender: 1, number: 1 }).await.expect("it answers");
        stop(hubs).await;
        eventually("both are gone", async || members(&gateway).await == 1).await;
        let host = builder("test", "n2").memory(&network).seed(&gateway.addresses()[0]);
        let host = host.start().await.expect("the hub starts");
        let child: ChildRef<Counter> = gateway.child("c");
        eventually("it runs anew on the one that has come", async || {
            child.send(Read { sender: 1 }).await == Ok(Numbers(Vec::new()))
        })
        .await;
        let node = gateway.lookup("c").await.expect("the hub runs").map(|child| child.node);
        assert_eq!(node, Some(host.node_id()));
        stop(vec![gateway, host]).await;
    });
}

#[test]
fn a_kind_is_hosted_or_not() {
    run(async {
        let builder = builder("test", "n0").client_of::<Counter>();
        let error = builder.start().await.expect_err("it is registered twice");
        assert!(matches!(error, StartHubError::RegisteredTwice { what: "kind", .. }), "{error}");
    });
}
