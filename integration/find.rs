//! Children are found in pages, from any node.

use std::collections::BTreeSet;

use actix_hub::{ChildState, prelude::*};

use crate::support::*;

/// The ids of all pages, and how many pages there were.
async fn all(hub: &Hub, filter: ChildFilter) -> (Vec<ChildId>, usize) {
    let (mut found, mut pages, mut next) = (Vec::new(), 0, None);
    loop {
        let filter = match next {
            Some(next) => filter.clone().after(next),
            None => filter.clone(),
        };
        let page = hub.find(filter).await.expect("the hub runs");
        found.extend(page.children.into_iter().map(|child| child.id));
        pages += 1;
        match page.next {
            Some(child) => next = Some(child),
            None => return (found, pages),
        }
    }
}

#[test]
fn children_are_found_in_pages_by_what_is_said_of_them() {
    run(async {
        let hubs = Net::Memory(MemoryNetwork::new()).cluster(2).await;
        let spec = |n: usize| {
            let spec = ChildSpec::new::<Counter>(format!("c{n:03}"), ()).expect("a valid spec");
            spec.tag(["even", "odd"][n % 2]).expect("a valid tag")
        };
        let report = hubs[0].start_children((0..130).map(spec)).await.expect("it runs");
        assert_eq!(report.outcomes.len(), 130);
        hubs[1].wait_for(|seen| seen.children.len() == 130).await.expect("it hears of all");
        let everybody = || ChildFilter::default().kind::<Counter>().expect("a valid kind");
        let ids: Vec<ChildId> = (0..130).map(|n| spec(n).id().clone()).collect();
        for hub in &hubs {
            assert_eq!(all(hub, everybody()).await, (ids.clone(), 2), "100 on a page");
            assert_eq!(all(hub, everybody().limit(65)).await, (ids.clone(), 2), "a page is full");
            let even = everybody().tag("even").expect("a valid tag").limit(0);
            let (found, pages) = all(hub, even).await;
            assert_eq!((found.len(), pages), (65, 65), "one is the least of a page");
            let (found, _) = all(hub, everybody().text("c00")).await;
            assert_eq!(found, ids[..10]);
            assert_eq!(all(hub, everybody().state(ChildState::Failed)).await, (vec![], 1));
            assert_eq!(all(hub, everybody().state(ChildState::Running)).await.0.len(), 130);
        }
        let of = async |node: &Hub| {
            let (found, _) = all(&hubs[1], everybody().node(node.node_id())).await;
            found.into_iter().collect::<BTreeSet<_>>()
        };
        let (of_a, of_b) = (of(&hubs[0]).await, of(&hubs[1]).await);
        assert!(of_a.is_disjoint(&of_b) && of_a.len() + of_b.len() == 130, "{of_a:?} {of_b:?}");
        let local = hubs[0].children(Scope::Local).await.expect("the hub runs");
        assert_eq!(local.into_iter().map(|child| child.id).collect::<BTreeSet<_>>(), of_a);
        let both = everybody().node(hubs[0].node_id()).node(hubs[1].node_id());
        assert_eq!(all(&hubs[0], both).await.0, ids);
        let hub = hubs[0].clone();
        stop(hubs).await;
        assert!(hub.find(everybody()).await.is_err(), "the hub has stopped");
    });
}
