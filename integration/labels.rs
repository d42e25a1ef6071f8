//! What a deployment says of where its nodes are, and placement by it.

use actix_hub::{
    ConsistentHashing, Distribution, Member, StartHubError, check_distribution, prelude::*,
};

use crate::support::*;

/// A child with the note `zone` in that zone, as long as a node there takes children.
#[derive(Debug)]
struct InZone;

impl Distribution for InZone {
    fn owners(&self, spec: &ChildSpec, members: &[Member], count: usize) -> Vec<NodeId> {
        let zone = spec.metadata().get("zone").map(String::as_str);
        let fits = |member: &&Member| zone.is_some() && member.labels.get("zone") == zone;
        let there: Vec<Member> = members.iter().filter(fits).cloned().collect();
        let chosen = if there.is_empty() { members } else { &there };
        ConsistentHashing.owners(spec, chosen, count)
    }
}

#[test]
fn all_nodes_see_the_labels_of_each_and_children_are_placed_by_them() {
    run(async {
        check_distribution(&InZone).expect("it keeps the law");
        let network = MemoryNetwork::new();
        let mut hubs: Vec<Hub> = Vec::new();
        for (name, zone) in [("n0", "a"), ("n1", "b"), ("n2", "b")] {
            let builder = builder("test", name).memory(&network).label("zone", zone);
            let builder = match hubs.first() {
                Some(seed) => builder.seed(&seed.addresses()[0]),
                None => builder,
            };
            hubs.push(builder.distribution(InZone).start().await.expect("the hub starts"));
        }
        together(&hubs).await;
        for hub in &hubs {
            for node in hub.nodes().await.expect("the hub runs") {
                let zone = if node.name.as_str() == "n0" { "a" } else { "b" };
                let node_label = node.labels.get("node");
                assert_eq!(
                    (node.labels.get("zone"), node_label),
                    (Some(zone), Some(node.name.as_str()))
                );
            }
        }
        let spec = |n: usize| {
            let spec = ChildSpec::new::<Counter>(format!("c{n}"), ()).expect("a valid spec");
            spec.note("zone", ["a", "b"][n % 2])
        };
        let report = hubs[0].start_children((0..20).map(spec)).await.expect("it runs");
        assert_eq!(report.outcomes.len(), 20);
        let zones = async |hub: &Hub| {
            let nodes = hub.nodes().await.expect("the hub runs");
            let zone = |child: ChildInfo| {
                let node = nodes.iter().find(|node| node.id == child.node)?;
                Some((child.metadata["zone"].clone(), node.labels.get("zone")?.to_owned()))
            };
            let children = hub.children(Scope::Global).await.expect("the hub runs").into_iter();
            children.map(zone).collect::<Vec<_>>()
        };
        let is_at_home = |zone: &Option<(String, String)>| {
            zone.as_ref().is_some_and(|(wanted, is)| wanted == is)
        };
        eventually("each is in its zone", async || {
            let zones = zones(&hubs[0]).await;
            zones.len() == 20 && zones.iter().all(is_at_home)
        })
        .await;
        hubs.pop().expect("the third").leave().await.expect("the other one of its zone takes all");
        eventually("the other one of the zone has them", async || {
            let zones = zones(&hubs[0]).await;
            zones.len() == 20 && zones.iter().all(is_at_home)
        })
        .await;
        stop(hubs).await;
    });
}

#[test]
fn a_label_that_does_not_fit_is_named_when_the_hub_starts() {
    run(async {
        let many =
            (0..17).fold(HubSystem::builder("test"), |hub, n| hub.label(format!("k{n}"), ""));
        let long = (0..16).fold(HubSystem::builder("test"), |hub, n| {
            hub.label(format!("key-{n}"), "x".repeat(64))
        });
        for (builder, why) in [
            (HubSystem::builder("test").label("my zone", "a"), r#"label "my zone" is not valid"#),
            (HubSystem::builder("test").label("zone", "a,b"), "without commas"),
            (many, "at most 16 labels"),
            (long, "at most 1,024 bytes"),
        ] {
            let error = builder.start().await.expect_err(why);
            assert!(matches!(error, StartHubError::Label(_)), "{error}");
            assert!(error.to_string().contains(why), "{error}");
        }
    });
}
