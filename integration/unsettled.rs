//! What is said while members do not hear each other: who suspects whom, and who is waited for.

use std::time::Duration;

use actix_hub::{DrainError, Leave, LeaveError, StartFailed, prelude::*};
use futures_util::future::join_all;

use crate::{
    seen::{metric, seen, told},
    support::*,
};

#[test]
fn a_suspicion_between_two_others_is_told_by_a_third_with_who_has_it() {
    run(async {
        let hubs = Net::Memory(MemoryNetwork::new()).cluster(3).await;
        let [a, b, c] = &hubs[..] else { panic!("three nodes") };
        // Of what is blocked nothing is heard, by whatever path.
        c.block(b.node_id()).await.expect("it runs");
        eventually("the one that hears both tells who does not", async || {
            seen(a, b).await.is_some_and(|node| node.suspected_by == [c.node_id()])
        })
        .await;
        let node = seen(a, b).await.expect("it is in");
        assert_eq!((node.state, node.path), (NodeState::Alive, NodePath::Link), "{node:?}");
        let inspection = a.inspect().await.expect("it runs");
        let shown = inspection.nodes.iter().find(|node| node.id == b.node_id());
        assert_eq!(shown.map(|node| &node.suspected_by[..]), Some(&[c.node_id()][..]));
        let node = told(a, b).await;
        assert_eq!(
            (&node["state"], &node["suspected_by"][0]["name"]),
            (&"alive".into(), &"n2".into()),
            "{node}"
        );
        // Whose suspicion it is counts it; nobody else does.
        let about = [("peer", "n1")];
        assert_eq!(metric(c, "actix_hub_suspected", &about).await, Some(1.0));
        assert_eq!(metric(a, "actix_hub_suspected", &about).await, Some(0.0));
        c.allow(b.node_id()).await.expect("it runs");
        eventually("nobody suspects anybody", async || {
            let mut calm = true;
            for hub in &hubs {
                let nodes = hub.nodes().await.expect("the hub runs");
                calm &= nodes.len() == 3 && nodes.iter().all(|node| node.suspected_by.is_empty());
            }
            calm
        })
        .await;
        assert_eq!(metric(c, "actix_hub_suspected", &about).await, Some(0.0));
        stop(hubs).await;
    });
}

#[test]
fn a_cluster_that_cannot_settle_says_who_is_waited_for_and_who_does_not_hear_it() {
    run(async {
        let net = Net::Memory(MemoryNetwork::new());
        let brief = |settings: &mut Settings| settings.request_timeout = Duration::from_secs(2);
        let mut hubs: Vec<Hub> = Vec::new();
        for name in ["n0", "n1", "n2", "n3"] {
            let hub = net.node(name, hubs.first(), brief).await;
            hubs.push(hub);
        }
        together(&hubs).await;
        let [a, b, c, d] = &hubs[..] else { panic!("four nodes") };
        start(c, "held").await;
        c.migrate("held", c.node_id()).await.expect("it moves");
        let mut events = c.events();
        c.block(b.node_id()).await.expect("it runs");
        eventually("it is not heard", async || {
            seen(c, b).await.is_some_and(|node| node.state == NodeState::Suspect)
        })
        .await;
        // Another view, which c cannot agree on.
        d.leave().await.expect("it has nothing to hand over");
        eventually("the others go on", async || {
            let inspection = c.inspect().await.expect("it runs");
            inspection.nodes.len() == 3 && !inspection.is_settled
        })
        .await;
        let reason = "waits for n1, which n2 cannot hear";
        let unsettled = event(&mut events, |event| match event {
            HubEvent::Unsettled { reason } => Some(reason),
            _ => None,
        });
        assert_eq!(unsettled.await, reason);
        let inspection = c.inspect().await.expect("it runs");
        assert_eq!(inspection.waits_for.as_deref(), Some(reason));
        // One of them has its home here.
        let starts = (0..16).map(|n| {
            let spec = ChildSpec::new::<Counter>(format!("c{n}"), ()).expect("a valid spec");
            c.start_child(spec)
        });
        let failed = join_all(starts).await.into_iter().find_map(Result::err);
        let Some(StartChildError::Failed { reason: StartFailed::Timeout { waits_for }, .. }) =
            failed
        else {
            panic!("{failed:?}")
        };
        assert_eq!(waits_for.as_deref(), Some(reason));
        assert_eq!(told(c, c).await["waits_for"], reason);
        // A child waits for a settled cluster to move.
        let brief = Duration::from_secs(1);
        let Err(DrainError::Timeout { children: 1, waits_for, .. }) =
            c.drain().timeout(brief).await
        else {
            panic!("it cannot be empty")
        };
        assert_eq!(waits_for.as_deref(), Some(reason));
        c.undrain().await.expect("it runs");
        let left = c.system().send(Leave { timeout: Some(brief) }).await.expect("it runs");
        let Err(error @ LeaveError::Timeout { children: 1, .. }) = left else { panic!("{left:?}") };
        assert!(error.to_string().contains(reason), "{error}");
        c.stay().await.expect("it runs");
        c.allow(b.node_id()).await.expect("it runs");
        eventually("it settles", async || {
            let inspection = c.inspect().await.expect("it runs");
            inspection.is_settled && inspection.waits_for.is_none()
        })
        .await;
        start(c, "after").await.send(Add { sender: 1, number: 1 }).await.expect("it answers");
        stop(vec![a.clone(), b.clone(), c.clone()]).await;
    });
}
