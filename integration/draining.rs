//! Nodes that are emptied and stay in.

use std::collections::BTreeSet;

use actix_hub::{AskNodeError, prelude::*};

use crate::support::*;

async fn start_some(hubs: &[Hub]) -> Vec<ChildRef<Counter>> {
    let mut children = Vec::new();
    for n in 0..20 {
        let child = start(&hubs[0], &format!("c{n}")).await;
        child.send(Add { sender: 1, number: 1 }).await.expect("it answers");
        children.push(child);
    }
    children
}

async fn sees_drained(by: &Hub, node: &Hub) -> bool {
    let info =
        by.nodes().await.expect("the hub runs").into_iter().find(|info| info.id == node.node_id());
    info.expect("it is in").is_draining
}

async fn hosted(hub: &Hub) -> usize {
    hub.children(Scope::Local).await.expect("the hub runs").len()
}

async fn ids(hub: &Hub) -> BTreeSet<ChildId> {
    hub.children(Scope::Local)
        .await
        .expect("the hub runs")
        .into_iter()
        .map(|child| child.id)
        .collect()
}

#[test]
fn a_node_is_drained_by_itself_and_by_another_and_takes_children_again() {
    run(async {
        let hubs = Net::Tcp.cluster(3).await;
        let children = start_some(&hubs).await;
        // What belongs to it, with one that is started while it is drained.
        start(&hubs[0], "later").await;
        let own = ids(&hubs[1]).await;
        hubs[0].stop_child("later").await.expect("it is stopped");
        let to_move = own.iter().filter(|child| child.as_str() != "later").count();
        let mut events = hubs[1].events();
        hubs[1].drain().await.expect("the others take its children");
        assert_eq!(hosted(&hubs[1]).await, 0);
        let drains = HubEvent::NodeDraining { node: hubs[2].node_id() };
        assert!(hubs[1].describe(&drains).starts_with("n2 is drained"), "it knows its name");
        let mut sent = 0;
        let mut is_drained = false;
        while !is_drained || sent < to_move {
            event(&mut events, |event| match event {
                HubEvent::Drained => {
                    is_drained = true;
                    Some(())
                }
                // All that have moved are told of together.
                HubEvent::ChildrenMoved { moved, .. } => {
                    sent += moved.sent.values().sum::<usize>();
                    assert!(moved.bytes > 0 && moved.failed == 0, "{moved:?}");
                    Some(())
                }
                _ => None,
            })
            .await;
        }
        for hub in &hubs {
            eventually("all see it", async || sees_drained(hub, &hubs[1]).await).await;
        }
        // It sends as before, and starts children elsewhere.
        let there: ChildRef<Counter> = hubs[1].child("c0");
        assert_eq!(there.send(Add { sender: 1, number: 2 }).await, Ok(2));
        start(&hubs[1], "later").await;
        assert_eq!(hosted(&hubs[1]).await, 0);
        hubs[1].drain().await.expect("it is drained");
        // From elsewhere.
        hubs[0].undrain_node(hubs[1].node_id()).await.expect("it is asked");
        eventually("it takes its children", async || ids(&hubs[1]).await == own).await;
        eventually("its children are seen to be there", async || {
            let (first, third) = (hosted(&hubs[0]).await, hosted(&hubs[2]).await);
            first + third + own.len() == 21
        })
        .await;
        let count = hosted(&hubs[2]).await as u64;
        assert!(count > 0);
        assert_eq!(hubs[0].drain_node(hubs[2].node_id()).await, Ok(count));
        eventually("it is empty", async || hosted(&hubs[2]).await == 0).await;
        assert_eq!(hubs[1].drain_node(hubs[1].node_id()).await.map(drop), Ok(()));
        eventually("it is empty", async || hosted(&hubs[1]).await == 0).await;
        for hub in &hubs[1..] {
            eventually("it is seen", async || sees_drained(&hubs[0], hub).await).await;
        }
        // Who is left has everything, and cannot be drained.
        let (node, children_left) = (hubs[0].node_id(), 21);
        let refused = Err(AskNodeError::NoSuccessor { node, children: children_left });
        assert_eq!(hubs[1].drain_node(node).await, refused);
        let error = hubs[0].drain().await.expect_err("nobody takes them");
        let DrainError::NoSuccessor { children: 21, left } = &error else { panic!("{error}") };
        assert_eq!(left.len(), 16);
        assert!(error.to_string().ends_with(", 5 more"), "{error}");
        assert!(!sees_drained(&hubs[0], &hubs[0]).await);
        for child in children {
            let read = child.send(Read { sender: 1 }).await.expect("it answers");
            assert_eq!(read.0.first(), Some(&1), "its state went along");
        }
        let nobody = NodeId::from_key([7; 32]);
        let error = hubs[0].drain_node(nobody).await;
        assert_eq!(error, Err(AskNodeError::NotMember { node: nobody }));
        stop(hubs).await;
    });
}
