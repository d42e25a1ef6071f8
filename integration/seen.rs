//! What can be seen of nodes that wait, want to come in, are suspected, or have a broken link.

use std::{
    fs,
    path::{Path, PathBuf},
};

use actix_hub::{
    Inspection, StartHubError,
    admin::{self, AdminOptions},
    prelude::*,
};
use actix_web::{
    App,
    body::to_bytes,
    http::header,
    test::{self, TestRequest},
};
use serde_json::Value;

use crate::support::*;

/// What the endpoint of a hub answers.
async fn get(hub: &Hub, path: &str) -> (u16, String) {
    let app = App::new().service(admin::scope(hub.clone(), AdminOptions::default()));
    let app = test::init_service(app).await;
    let request = TestRequest::get()
        .uri(&format!("/hub{path}"))
        .peer_addr("127.0.0.1:50000".parse().expect("an address"))
        .insert_header((header::HOST, "localhost:8080"));
    let response = test::call_service(&app, request.to_request()).await;
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body()).await.unwrap_or_default();
    (status, String::from_utf8(body.to_vec()).expect("text"))
}

async fn json(hub: &Hub, path: &str) -> (u16, Value) {
    let (status, text) = get(hub, path).await;
    (status, serde_json::from_str(&text).expect("JSON"))
}

/// One node of the list of another.
pub async fn told(by: &Hub, of: &Hub) -> Value {
    let (_, page) = json(by, "/nodes?links=true").await;
    let id = of.node_id().to_string();
    let items = page["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().find(|node| node["id"] == id).unwrap_or(Value::Null)
}

pub async fn seen(by: &Hub, of: &Hub) -> Option<NodeInfo> {
    by.nodes().await.expect("the hub runs").into_iter().find(|node| node.id == of.node_id())
}

/// The value of a metric with these labels among others.
pub async fn metric(hub: &Hub, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let (_, text) = get(hub, "/metrics").await;
    let line = text.lines().find(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|(key, value)| line.contains(&format!("{key}=\"{value}\"")))
    })?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Scrapes in order, for `integration/api/check_alerts.py`, which looks at the rules with them.
struct Scrapes {
    folder: PathBuf,
    count: usize,
}

impl Scrapes {
    /// Of an alert, in the folder for what tests leave.
    fn of(alert: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scrapes").join(alert);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder");
        Self { folder, count: 0 }
    }

    /// A dozen of a phase: `calm`, `fault` or `after`. Each stands for one in 15 s.
    async fn take(&mut self, phase: &str, hubs: &[&Hub]) {
        for _ in 0..12 {
            for hub in hubs {
                let (status, text) = get(hub, "/metrics").await;
                assert_eq!(status, 200);
                let name = format!("{:03}-{phase}-{}", self.count, hub.node_name());
                fs::write(self.folder.join(name), text).expect("it is written");
            }
            self.count += 1;
        }
    }
}

#[test]
fn a_member_behind_a_broken_link_is_shown_with_who_takes_its_messages() {
    run(async {
        let network = MemoryNetwork::new();
        let hubs = Net::Memory(network.clone()).cluster(3).await;
        let [a, b, c] = &hubs[..] else { panic!("three nodes") };
        let mut scrapes = Scrapes::of("ActixHubLinkMissing");
        eventually("all links work", async || {
            seen(a, b).await.is_some_and(|node| node.path == NodePath::Link)
                && metric(a, "actix_hub_links_missing", &[]).await == Some(0.0)
        })
        .await;
        scrapes.take("calm", &[a, b, c]).await;
        network.cut(a.node_id(), b.node_id());
        eventually("each of the two is reached by the third", async || {
            seen(a, b).await.is_some_and(|node| node.path == NodePath::By(c.node_id()))
                && seen(b, a).await.is_some_and(|node| node.path == NodePath::By(c.node_id()))
        })
        .await;
        let node = told(a, b).await;
        assert_eq!(
            (&node["link"]["state"], &node["link"]["by"]["name"]),
            (&"down".into(), &"n2".into())
        );
        let links = node["links"].as_array().expect("b tells its links").clone();
        let to_a = links.iter().find(|link| link["to"]["name"] == "n0").expect("one to a");
        assert_eq!((&to_a["state"], &to_a["by"]["name"]), (&"down".into(), &"n2".into()));
        let to_b = [("peer", "n1")];
        assert_eq!(metric(a, "actix_hub_link_up", &to_b).await, Some(0.0));
        assert_eq!(metric(a, "actix_hub_links_missing", &[]).await, Some(1.0));
        let detour = [("peer", "n1"), ("by", "n2")];
        assert_eq!(metric(a, "actix_hub_detours", &detour).await, Some(1.0));
        assert_eq!(metric(c, "actix_hub_links_missing", &[]).await, Some(0.0));
        scrapes.take("fault", &[a, b, c]).await;
        network.heal_all();
        eventually("the link works again", async || {
            seen(a, b).await.is_some_and(|node| node.path == NodePath::Link)
                && seen(b, a).await.is_some_and(|node| node.path == NodePath::Link)
        })
        .await;
        assert_eq!(metric(a, "actix_hub_detours", &detour).await, None);
        assert_eq!(metric(a, "actix_hub_link_up", &to_b).await, Some(1.0));
        scrapes.take("after", &[a, b, c]).await;
        stop(hubs).await;
    });
}

#[test]
fn a_node_that_died_stays_in_sight_with_what_it_cost_and_its_name() {
    run(async {
        let network = MemoryNetwork::new();
        let hubs = Net::Memory(network.clone()).cluster(3).await;
        let [a, b, c] = &hubs[..] else { panic!("three nodes") };
        // Who listens late knows those that are in.
        let mut events = c.events();
        let present: Vec<HubEvent> =
            [events.next().await, events.next().await].into_iter().flatten().collect();
        let mut expected = [a, b]
            .map(|hub| HubEvent::NodeJoined { node: hub.node_id(), name: hub.node_name().clone() });
        expected.sort_by_key(|event| match event {
            HubEvent::NodeJoined { node, .. } => *node,
            _ => unreachable!("both are"),
        });
        assert_eq!(present, expected);
        for n in 0..12 {
            start(a, &format!("c{n}")).await;
        }
        let children = a.children(Scope::Global).await.expect("the hub runs");
        let of_b = children.iter().filter(|child| child.node == b.node_id()).count();
        assert!(of_b > 0, "12 children of 3 nodes");
        let (_, before) = json(a, "/departed").await;
        assert_eq!(before["items"], serde_json::json!([]));
        for other in [a, c] {
            network.cut(b.node_id(), other.node_id());
        }
        let gone = b.node_id();
        let down = event(&mut events, |event| match event {
            HubEvent::NodeDown { node } if node == gone => Some(HubEvent::NodeDown { node }),
            _ => None,
        })
        .await;
        assert_eq!(c.describe(&down), "n1 is down; its children are started elsewhere");
        eventually(
            "all of its children are counted, on whichever node they began anew",
            async || {
                let (_, told) = json(a, "/departed").await;
                let node = &told["items"][0];
                node["name"] == "n1"
                    && node["how"] == "down"
                    && node["came_back_at"].is_null()
                    && node["begun_anew"] == of_b
                    && told["unreachable"] == serde_json::json!([])
            },
        )
        .await;
        let Inspection { departed, .. } = a.inspect().await.expect("the hub runs");
        assert_eq!((departed.len(), departed[0].id), (1, gone));
        network.heal_all();
        eventually("it is in again", async || {
            json(a, "/departed").await.1["items"][0]["came_back_at"].is_string()
        })
        .await;
        stop(hubs).await;
    });
}

#[test]
fn a_suspicion_is_shown_with_who_has_it_and_ends() {
    run(async {
        let network = MemoryNetwork::new();
        let net = Net::Memory(network.clone());
        // Time enough to look: two that suspect each other wait for twice the window of 4.5 s.
        let patient = |settings: &mut Settings| settings.suspect_after = 30;
        let a = net.node("n0", None, patient).await;
        let b = net.node("n1", Some(&a), patient).await;
        let hubs = vec![a.clone(), b.clone()];
        together(&hubs).await;
        let mut scrapes = Scrapes::of("ActixHubNodeSuspect");
        scrapes.take("calm", &[&a, &b]).await;
        let mut events = a.events();
        network.cut(a.node_id(), b.node_id());
        let about = b.node_id();
        event(&mut events, |event| {
            matches!(event, HubEvent::NodeSuspected { node } if node == about).then_some(())
        })
        .await;
        // At once: the view's id is the same as before.
        let node = seen(&a, &b).await.expect("it is in");
        assert_eq!((node.state, node.suspected_by), (NodeState::Suspect, vec![a.node_id()]));
        assert_eq!(node.path, NodePath::None);
        let node = told(&a, &b).await;
        assert_eq!(
            (&node["state"], &node["suspected_by"][0]["name"]),
            (&"suspect".into(), &"n0".into())
        );
        let peer = [("peer", "n1")];
        assert_eq!(metric(&a, "actix_hub_suspected", &peer).await, Some(1.0));
        let suspects = [("state", "suspect")];
        assert_eq!(metric(&a, "actix_hub_members", &suspects).await, Some(1.0));
        scrapes.take("fault", &[&a, &b]).await;
        network.heal_all();
        event(&mut events, |event| {
            matches!(event, HubEvent::NodeRecovered { node } if node == about).then_some(())
        })
        .await;
        let node = seen(&a, &b).await.expect("it is in");
        assert_eq!((node.state, node.suspected_by), (NodeState::Alive, Vec::new()));
        assert_eq!(metric(&a, "actix_hub_suspected", &peer).await, Some(0.0));
        eventually("the other one hears it, too", async || {
            metric(&b, "actix_hub_members", &suspects).await == Some(0.0)
        })
        .await;
        scrapes.take("after", &[&a, &b]).await;
        stop(hubs).await;
    });
}

#[test]
fn a_joiner_that_a_member_does_not_hear_is_shown_with_what_is_missing() {
    run(async {
        let network = MemoryNetwork::new();
        let net = Net::Memory(network.clone());
        let patient = |settings: &mut Settings| settings.suspect_after = 60;
        let a = net.node("n0", None, patient).await;
        let b = net.node("n1", Some(&a), patient).await;
        together(&[a.clone(), b.clone()]).await;
        // Its id is known before it starts.
        let key =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("joiner-{}", std::process::id()));
        let _ = fs::remove_file(&key);
        let joiner = || builder("test", "n2").memory(&network).key_file(&key);
        let before = joiner().start().await.expect("it starts");
        let id = before.node_id();
        before.stop().await;
        let mut scrapes = Scrapes::of("ActixHubJoinerStuck");
        scrapes.take("calm", &[&a]).await;
        // Nobody hears b; for 9 s nobody suspects it either.
        network.cut(b.node_id(), a.node_id());
        network.cut(b.node_id(), id);
        let c = joiner().seed(&a.addresses()[0]).start().await.expect("it starts");
        eventually("the joiner is shown with both pairs", async || {
            let Some(node) = seen(&a, &c).await else { return false };
            !node.is_member()
                && node.state == NodeState::Joining
                && node.path == NodePath::Link
                && node.missing.contains(&(b.node_id(), id))
                && node.missing.contains(&(id, b.node_id()))
        })
        .await;
        assert_eq!(members(&a).await, 2);
        let node = told(&a, &c).await;
        assert_eq!(node["state"], "joining");
        let pairs = node["missing"].as_array().expect("a list").iter();
        let pairs: Vec<_> =
            pairs.map(|pair| (&pair["node"]["name"], &pair["unheard"]["name"])).collect();
        assert!(pairs.contains(&(&"n1".into(), &"n2".into())), "{node}");
        let (_, page) = json(&a, "/nodes?state=joining").await;
        assert_eq!(page["total"], 1);
        assert_eq!(metric(&a, "actix_hub_joining_nodes", &[]).await, Some(1.0));
        // Whoever wants to come in sees it from the other side.
        let other = seen(&c, &a).await.expect("it hears its seed");
        assert_eq!(
            (other.state, &other.missing[..]),
            (NodeState::Joining, &[(id, b.node_id())][..])
        );
        let (status, health) = json(&c, "/health/ready").await;
        assert_eq!((status, &health["checks"]["waiting"]), (503, &true.into()), "{health}");
        scrapes.take("fault", &[&a]).await;
        network.heal_all();
        eventually("it is in", async || {
            seen(&a, &c).await.is_some_and(|node| node.is_member() && node.missing.is_empty())
                && metric(&a, "actix_hub_joining_nodes", &[]).await == Some(0.0)
        })
        .await;
        eventually("it is ready", async || json(&c, "/health/ready").await.0 == 200).await;
        scrapes.take("after", &[&a]).await;
        stop(vec![a, b, c]).await;
        let _ = fs::remove_file(&key);
    });
}

#[test]
fn a_node_that_waits_for_a_seed_says_so_and_why() {
    run(async {
        let network = MemoryNetwork::new();
        let node = |name: &str| builder("test", name).memory(&network);
        let b = node("b").seed("/memory/77").start().await.expect("it starts");
        eventually("the seed was tried", async || {
            let Inspection { seeds, .. } = b.inspect().await.expect("it runs");
            matches!(&seeds[..], [seed] if matches!(seed.outcome, actix_hub::SeedOutcome::Failed(_)))
        })
        .await;
        let mut scrapes = Scrapes::of("ActixHubWaitingForSeeds");
        let (status, health) = json(&b, "/health/ready").await;
        assert_eq!((status, &health["status"]), (503, &"down".into()));
        assert_eq!(health["seeds"][0]["seed"], "/memory/77", "{health}");
        let outcome = health["seeds"][0]["outcome"].as_str().expect("words");
        let reason = health["reason"].as_str().expect("words");
        assert!(!outcome.is_empty() && reason.contains("/memory/77") && reason.contains(outcome));
        assert_eq!(json(&b, "/health/live").await.0, 200, "it need not be started again");
        let told = b.inspect().await.expect("it runs").waits_for.expect("it waits");
        assert!(told.contains("/memory/77"), "{told}");
        assert_eq!(seen(&b, &b).await.map(|node| node.state), Some(NodeState::Joining));
        assert_eq!(metric(&b, "actix_hub_waiting", &[]).await, Some(1.0));
        let seed = [("seed", "/memory/77")];
        assert_eq!(metric(&b, "actix_hub_seed_up", &seed).await, Some(0.0));
        scrapes.take("fault", &[&b]).await;
        let a = node("a").listen("/memory/77").start().await.expect("it starts");
        eventually("it is ready", async || json(&b, "/health/ready").await.0 == 200).await;
        let seen = b.inspect().await.expect("it runs");
        assert_eq!((seen.seeds, seen.nodes.len()), (Vec::new(), 2));
        assert_eq!(metric(&b, "actix_hub_waiting", &[]).await, Some(0.0));
        assert_eq!(metric(&b, "actix_hub_seed_up", &seed).await, Some(1.0));
        scrapes.take("after", &[&b]).await;
        stop(vec![a, b]).await;
    });
}

#[test]
fn a_node_is_ready_once_as_many_as_expected_are_in_and_stays_so() {
    run(async {
        let network = MemoryNetwork::new();
        let node = |name: &str| builder("test", name).memory(&network);
        for wrong in [0, 1_025] {
            let refused = node("a").expected_nodes(wrong).start().await;
            let Err(StartHubError::Setting(invalid)) = refused else {
                panic!("{wrong} is refused")
            };
            assert_eq!((invalid.field, invalid.allowed), ("expected_nodes", "1 to 1,024"));
        }
        let a = node("a").expected_nodes(2).start().await.expect("it starts");
        start(&a, "c").await;
        let (status, health) = json(&a, "/health/ready").await;
        assert_eq!((status, &health["checks"]["complete"]), (503, &false.into()));
        assert_eq!(health["reason"], "1 of 2 expected nodes were in");
        assert_eq!(
            (&health["nodes"]["seen"], &health["nodes"]["expected"]),
            (&1.into(), &2.into())
        );
        let b = node("b").seed(&a.addresses()[0]).start().await.expect("it starts");
        eventually("it is ready", async || json(&a, "/health/ready").await.0 == 200).await;
        b.leave().await.expect("it leaves");
        eventually("it has left", async || members(&a).await == 1).await;
        let (status, health) = json(&a, "/health/ready").await;
        assert_eq!((status, &health["reason"]), (200, &Value::Null), "{health}");
        stop(vec![a, b]).await;
    });
}
