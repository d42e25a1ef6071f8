//! What was answered survives the crash of any one node.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use actix_hub::prelude::*;

use crate::support::*;

/// So many children that their entries are two windows of each node's log.
const CHILDREN: usize = 20_000;

#[test]
fn children_that_were_said_to_be_started_are_there_though_a_node_is_killed_at_that_moment() {
    run(async {
        let network = MemoryNetwork::new();
        let mut hubs: Vec<Hub> = Vec::new();
        for name in ["n0", "n1", "n2"] {
            // All three share a thread, which may be slow.
            let patient = |settings: &mut Settings| {
                settings.start_timeout = Duration::from_secs(60);
                settings.request_timeout = Duration::from_secs(60);
            };
            let net = Net::Memory(network.clone());
            let hub = net.node(name, hubs.first(), patient).await;
            hubs.push(hub);
        }
        together(&hubs).await;
        let specs: Vec<ChildSpec> = (0..CHILDREN)
            .map(|n| ChildSpec::new::<Counter>(&format!("c{n}"), ()).expect("a valid spec"))
            .collect();
        let report = hubs[0].start_children(specs).await.expect("it is answered");
        network.kill(hubs[1].node_id());
        assert_eq!(report.started(), CHILDREN, "{:?}", report.failures().next());
        let mut by_node: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (_, outcome) in &report.outcomes {
            if let actix_hub::StartOutcome::Started { node, .. } = outcome {
                *by_node.entry(*node).or_default() += 1;
            }
        }
        assert!(by_node.values().all(|count| *count > CHILDREN / 10), "{by_node:?}");
        let survivors = [&hubs[0], &hubs[2]];
        let alive = survivors.map(Hub::node_id);
        // Each look takes the nodes some time, which they need for the children.
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Some(lost) = missing(survivors, &alive).await {
            assert!(Instant::now() < deadline, "of {CHILDREN} children {lost}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        stop(hubs).await;
    });
}

/// How many of the children do not run on these nodes yet, as one of them sees it; `None`: all do.
async fn missing(survivors: [&Hub; 2], alive: &[NodeId; 2]) -> Option<String> {
    for hub in survivors {
        let children = hub.children(Scope::Global).await.expect("the hub runs");
        let there = children.iter().filter(|child| alive.contains(&child.node)).count();
        if there < CHILDREN {
            let elsewhere = children.len() - there;
            return Some(format!("{there} run, and {elsewhere} are still the killed node's"));
        }
    }
    None
}
