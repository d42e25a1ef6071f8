//! Waits for the cluster: what ends them, and what is said when their time is over.

use super::*;
use crate::error::WaitError;

const SHORT: Duration = Duration::from_millis(200);

#[actix::test]
async fn a_node_is_waited_for_until_it_is_settled() {
    let network = MemoryNetwork::new();
    let a = node("a", &network, None).await;
    assert_eq!(a.settled().await, Ok(()), "it founded a cluster");
    let b = node("b", &network, Some(&a)).await;
    let seen = a.wait_for(|seen| {
        seen.is_settled && seen.nodes.iter().all(NodeInfo::is_member) && seen.nodes.len() == 2
    });
    let seen = seen.await.expect("it comes in");
    assert_eq!(seen.nodes.len(), 2);
    assert_eq!(b.settled().await, Ok(()), "it was taken in");
    b.stop().await;
    a.stop().await;
}

#[actix::test]
async fn a_wait_whose_time_is_over_says_what_the_cluster_waits_for() {
    let network = MemoryNetwork::new();
    let hub = HubSystem::builder("test").memory(&network).seed("/memory/77");
    let hub = hub.settings(Settings::local()).start().await.expect("the hub starts");
    let Err(WaitError::Timeout { waits_for: Some(reason) }) = hub.settled().timeout(SHORT).await
    else {
        panic!("it waits for a seed");
    };
    assert!(reason.contains("/memory/77"), "{reason}");
    let never = hub.wait_for(|seen| seen.is_settled).timeout(SHORT).await;
    assert!(matches!(never, Err(WaitError::Timeout { waits_for: Some(_) })), "{never:?}");
    hub.stop().await;
}

#[actix::test]
async fn a_wait_looks_once_more_when_its_time_is_over() {
    let network = MemoryNetwork::new();
    let hub = node("a", &network, None).await;
    hub.settled().await.expect("it founded a cluster");
    // The pause behind the first look is longer.
    let (began, timeout) = (Instant::now(), Duration::from_millis(5));
    let seen = hub.wait_for(move |_| began.elapsed() >= timeout).timeout(timeout).await;
    assert!(seen.is_ok_and(|seen| seen.nodes.len() == 1), "it is so at its deadline");
    let never = hub.wait_for(|_| false).timeout(Duration::ZERO).await;
    assert_eq!(never.err(), Some(WaitError::Timeout { waits_for: None }), "it waits for nothing");
    hub.stop().await;
}

#[actix::test]
async fn a_wait_ends_with_the_hub_and_so_does_each_query() {
    let network = MemoryNetwork::new();
    let hub = HubSystem::builder("test").memory(&network).seed("/memory/77");
    let hub = hub.settings(Settings::local()).start().await.expect("the hub starts");
    let settled = actix_rt::spawn(hub.settled().timeout(Duration::from_secs(60)).into_future());
    let waits = hub.wait_for(|seen| seen.is_settled).timeout(Duration::from_secs(60));
    let waits = actix_rt::spawn(waits.into_future());
    hub.nodes().await.expect("it runs");
    hub.stop().await;
    assert_eq!(settled.await.expect("no panic"), Err(WaitError::HubStopped));
    assert_eq!(waits.await.expect("no panic"), Err(WaitError::HubStopped));
    assert_eq!(hub.settled().await, Err(WaitError::HubStopped));
    assert_eq!(hub.wait_for(|_| true).await, Err(WaitError::HubStopped));
    assert_eq!(hub.nodes().await, Err(HubStopped));
    assert_eq!(hub.children(Scope::Global).await, Err(HubStopped));
    assert_eq!(hub.lookup("c").await, Err(HubStopped));
    assert_eq!(hub.lookup("\0").await, Ok(None), "no child can be called so");
    assert!(hub.parked_states().await.is_err());
    assert!(hub.inspect().await.is_err());
}
