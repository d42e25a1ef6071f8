//! States that nobody merges: parked on two nodes, fetched, given to their child by hand, discarded.

use std::{collections::BTreeSet, time::Duration};

use actix::prelude::*;
use actix_hub::{prelude::*, *};
use serde::{Deserialize, Serialize};

use crate::support::{event, eventually, members, run, settings, stop, together};

/// A basket with this in it cannot be restored.
const POISON: u64 = 666;

/// A set of numbers that is merged only while it is told to.
#[derive(Default)]
struct Basket {
    numbers: BTreeSet<u64>,
    merges: bool,
}

impl Actor for Basket {
    type Context = Context<Self>;
}

impl HotSwap for Basket {
    const KIND: &'static str = "basket";
    type Args = ();
    type State = BTreeSet<u64>;

    fn from_args((): (), _: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Ok(Self::default())
    }

    fn prepare_handover_state(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.numbers)
    }

    fn resume_after_abort(&mut self, state: BTreeSet<u64>) {
        self.numbers = state;
    }

    fn alter_handover_state(&mut self, state: BTreeSet<u64>) {
        assert!(!state.contains(&POISON), "it panics on purpose");
        self.numbers = state;
    }

    fn merge_diverged_state(&mut self, other: BTreeSet<u64>) -> MergeOutcome {
        if !self.merges {
            return MergeOutcome::Parked;
        }
        self.numbers.extend(other);
        MergeOutcome::Merged
    }
}

takes!(Basket: [Put, Merge]);

/// Puts a number in, and tells all that are there. After a while, if one is given.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Vec<u64>")]
struct Put {
    number: Option<u64>,
    after: Option<Duration>,
}

impl HubMessage for Put {
    const NAME: &'static str = "basket.put";
}

impl Handler<Put> for Basket {
    type Result = ResponseActFuture<Self, Vec<u64>>;

    fn handle(&mut self, put: Put, _: &mut Self::Context) -> Self::Result {
        let pause = async move {
            if let Some(after) = put.after {
                tokio::time::sleep(after).await;
            }
        };
        Box::pin(pause.into_actor(self).map(move |(), basket, _| {
            basket.numbers.extend(put.number);
            basket.numbers.iter().copied().collect()
        }))
    }
}

/// Whether other states are merged from now on.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Merge(bool);

impl HubMessage for Merge {
    const NAME: &'static str = "basket.merge";
}

impl Handler<Merge> for Basket {
    type Result = ();

    fn handle(&mut self, Merge(merges): Merge, _: &mut Self::Context) {
        self.merges = merges;
    }
}

async fn node(name: &str, network: &MemoryNetwork, seed: Option<&Hub>) -> Hub {
    let mut builder = HubSystem::builder("test")
        .node_name(name)
        .settings(settings())
        .child::<Basket>()
        .memory(network);
    if let Some(seed) = seed {
        builder = builder.seed(&seed.addresses()[0]);
    }
    builder.start().await.expect("the hub starts")
}

async fn put(hub: &Hub, child: &str, number: Option<u64>) -> BTreeSet<u64> {
    let message = Put { number, after: None };
    let patience = Duration::from_secs(20);
    let sent = hub.child::<Basket>(child).send(message).timeout(patience).await;
    sent.expect("it answers").into_iter().collect()
}

/// Both sides of a split have put numbers into each of these, and have met again: the owner that gave
/// way has its state parked on both nodes. The hubs, and the child's parked state in order.
async fn healed(network: &MemoryNetwork, children: &[&str]) -> ([Hub; 2], Vec<ParkedKey>) {
    let a = node("a", network, None).await;
    let b = node("b", network, Some(&a)).await;
    together(&[a.clone(), b.clone()]).await;
    for child in children {
        let spec = ChildSpec::new::<Basket>(*child, ()).expect("a valid spec");
        a.start_child(spec).await.expect("it starts");
    }
    network.cut(a.node_id(), b.node_id());
    for (hub, first) in [(&a, 1_000), (&b, 2_000)] {
        eventually("the nodes lose each other", || async { members(hub).await == 1 }).await;
        for child in children {
            for number in first..first + 50 {
                put(hub, child, Some(number)).await;
            }
        }
    }
    network.heal_all();
    let mut keys = Vec::new();
    for child in children {
        let of_child = |hub: &Hub| {
            let (hub, child) = (hub.clone(), (*child).to_owned());
            async move {
                let mut states = hub.parked_states().await.expect("the hub runs");
                states.retain(|state| state.child().as_str() == child && state.copies.len() == 1);
                states
            }
        };
        eventually("its state is parked on both nodes", || async {
            of_child(&a).await.len() == 1 && of_child(&b).await.len() == 1
        })
        .await;
        let (at_a, at_b) = (of_child(&a).await.remove(0), of_child(&b).await.remove(0));
        assert_eq!((&at_a.key, &at_a.state), (&at_b.key, &at_b.state));
        assert_eq!((at_a.parked_at, &at_a.kind), (at_b.parked_at, &at_b.kind));
        assert_eq!((at_a.copies, at_b.copies), (vec![b.node_id()], vec![a.node_id()]));
        assert!(at_b.reason.contains("not merged"), "{}", at_b.reason);
        keys.push(at_a.key);
    }
    ([a, b], keys)
}

/// Where the child runs, and where it does not.
async fn sides<'a>(hubs: &'a [Hub; 2], child: &str) -> (&'a Hub, &'a Hub) {
    let owner = hubs[0].lookup(child).await.expect("the hub runs").expect("it is there").node;
    match owner == hubs[0].node_id() {
        true => (&hubs[0], &hubs[1]),
        false => (&hubs[1], &hubs[0]),
    }
}

/// The numbers in a parked state of this node.
async fn parked(hub: &Hub, key: &ParkedKey) -> Option<BTreeSet<u64>> {
    let states = hub.parked_states().await.expect("the hub runs");
    let state = states.into_iter().find(|state| state.key == *key)?;
    Some(ciborium::from_reader(&state.state[..]).expect("it is a basket"))
}

#[test]
fn what_the_losing_side_of_a_split_did_outlives_a_node_and_comes_back_by_hand() {
    run(async {
        let network = MemoryNetwork::new();
        let (hubs, keys) = healed(&network, &["c"]).await;
        let (winner, loser) = sides(&hubs, "c").await;
        let lost = parked(loser, &keys[0]).await.expect("it is parked");
        assert_eq!(lost.len(), 50);
        assert!(lost.is_disjoint(&put(winner, "c", None).await));
        // The one with the actor, and with the first copy, goes.
        network.kill(winner.node_id());
        eventually("it is missed", || async { members(loser).await == 1 }).await;
        assert_eq!(parked(loser, &keys[0]).await.as_ref(), Some(&lost));
        assert!(put(loser, "c", Some(7)).await.len() == 1, "it began anew");
        let mut events = loser.events();
        loser.apply_parked(&keys[0]).replace().await.expect("it is applied");
        event(&mut events, |event| match event {
            HubEvent::ParkedStateApplied { key, replaced: true, .. } => {
                (key == keys[0]).then_some(())
            }
            _ => None,
        })
        .await;
        assert_eq!(put(loser, "c", None).await, lost);
        let left = loser.parked_states().await.expect("the hub runs");
        assert_eq!(left.len(), 1, "what it had instead: {left:?}");
        assert_eq!(parked(loser, &left[0].key).await, Some([7].into()));
        loser.discard_parked(&left[0].key).await.expect("it is discarded");
        assert!(loser.parked_states().await.expect("the hub runs").is_empty());
        stop(hubs.into()).await;
    });
}

#[test]
fn a_parked_state_is_merged_or_put_in_place_from_either_holder_and_then_gone() {
    run(async {
        let network = MemoryNetwork::new();
        let (hubs, keys) = healed(&network, &["c0", "c1", "c2"]).await;
        for (n, (child, key)) in ["c0", "c1", "c2"].into_iter().zip(&keys).enumerate() {
            let (winner, loser) = sides(&hubs, child).await;
            // From where it runs, and from where it does not.
            let at = if n == 0 { winner } else { loser };
            let other = if n == 0 { loser } else { winner };
            let (own, lost) =
                (put(at, child, None).await, parked(at, key).await.expect("it is parked"));
            let refused = at.apply_parked(key).await;
            assert_eq!(
                refused,
                Err(ApplyError::Failed { key: key.clone(), reason: ApplyFailed::NotMerged })
            );
            assert_eq!(put(at, child, None).await, own, "nothing has changed");
            if n == 2 {
                // A handler is under way, and is waited for.
                let message = Put { number: Some(9), after: Some(Duration::from_millis(300)) };
                let reply = at.child::<Basket>(child).send(message);
                let started = put(at, child, None);
                let (reply, applied) = futures_util::join!(reply, async {
                    started.await;
                    at.apply_parked(key).replace().await
                });
                applied.expect("it is applied");
                assert!(reply.expect("it answers").contains(&9));
                assert_eq!(put(at, child, None).await, lost);
                eventually("what it had is parked here, too", || async {
                    let states = at.parked_states().await.expect("the hub runs");
                    states.iter().any(|state| state.child().as_str() == child)
                })
                .await;
                let states = at.parked_states().await.expect("the hub runs");
                let exchanged = states.iter().find(|state| state.child().as_str() == child);
                let had = parked(at, &exchanged.expect("it is parked").key).await;
                let expected: BTreeSet<u64> = own.into_iter().chain([9]).collect();
                assert_eq!(had, Some(expected), "with what the handler did");
            } else {
                at.child::<Basket>(child).send(Merge(true)).await.expect("it answers");
                at.apply_parked(key).await.expect("it is merged");
                let both: BTreeSet<u64> = own.union(&lost).copied().collect();
                assert_eq!(put(at, child, None).await, both);
            }
            let gone = ApplyError::Failed { key: key.clone(), reason: ApplyFailed::Gone };
            assert_eq!(at.apply_parked(key).replace().await, Err(gone), "not twice");
            eventually("it is gone from the other node", || async {
                parked(other, key).await.is_none()
            })
            .await;
        }
        stop(hubs.into()).await;
    });
}

#[test]
fn a_state_that_its_child_cannot_take_leaves_the_child_as_it_was() {
    run(async {
        let network = MemoryNetwork::new();
        let a = node("a", &network, None).await;
        let b = node("b", &network, Some(&a)).await;
        together(&[a.clone(), b.clone()]).await;
        let spec = ChildSpec::new::<Basket>("c", ()).expect("a valid spec");
        a.start_child(spec).await.expect("it starts");
        network.cut(a.node_id(), b.node_id());
        let owner = a.lookup("c").await.expect("the hub runs").expect("it is there").node;
        for hub in [&a, &b] {
            eventually("the nodes lose each other", || async { members(hub).await == 1 }).await;
            // The one that begins anew gives way.
            let number = if hub.node_id() == owner { 1 } else { POISON };
            put(hub, "c", Some(number)).await;
        }
        network.heal_all();
        eventually("its state is parked", || async {
            !a.parked_states().await.expect("the hub runs").is_empty()
        })
        .await;
        let key = a.parked_states().await.expect("the hub runs").remove(0).key;
        assert_eq!(parked(&a, &key).await, Some([POISON].into()));
        let failed = a.apply_parked(&key).replace().await;
        let Err(ApplyError::Failed { reason: ApplyFailed::Failed { reason }, .. }) = failed else {
            panic!("{failed:?}");
        };
        assert!(reason.contains("it panics on purpose"), "{reason}");
        assert_eq!(put(&a, "c", None).await, [1].into());
        assert_eq!(
            a.parked_states().await.expect("the hub runs").len(),
            1,
            "it is parked as before, and nothing else"
        );
        // Nobody has to keep it.
        a.discard_parked(&key).await.expect("it is discarded");
        eventually("it is gone everywhere", || async {
            b.parked_states().await.expect("the hub runs").is_empty()
        })
        .await;
        let error = b.discard_parked(&key).await.expect_err("it is gone");
        assert_eq!(error, DiscardError::NotHeld { key, holder: None });
        stop(vec![a, b]).await;
    });
}

#[test]
fn a_parked_state_that_ends_with_the_last_node_is_named() {
    run(async {
        let network = MemoryNetwork::new();
        let ([a, b], _) = healed(&network, &["c0"]).await;
        b.stop().await;
        eventually("it is alone", || async { members(&a).await == 1 }).await;
        let report = a.shutdown().await.expect("it ends");
        let parked = report.lost.iter().filter(|lost| lost.reason.contains("parked"));
        assert_eq!(parked.map(|lost| lost.child.as_str()).collect::<Vec<_>>(), ["c0"]);
    });
}

/// By the admin endpoint of a node that holds the state, and of one that does not.
mod through_the_endpoint {
    use std::net::SocketAddr;

    use actix_http::Request;
    use actix_hub::admin::{self, AdminOptions};
    use actix_web::{
        App, Error,
        body::{MessageBody, to_bytes},
        dev::{Service, ServiceResponse},
        http::{Method, StatusCode, header},
        test as web,
    };
    use serde_json::{Value, json};

    use super::*;

    async fn call<S, B>(
        app: &S,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value)
    where
        S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
        B: MessageBody,
    {
        let local: SocketAddr = "127.0.0.1:4321".parse().expect("an address");
        let mut request = web::TestRequest::with_uri(&format!("/hub{path}"))
            .method(method)
            .peer_addr(local)
            .insert_header((header::HOST, "localhost:8080"))
            .insert_header(("X-Actix-Hub", "1"));
        if let Some(body) = body {
            request = request.set_json(body);
        }
        let response = web::call_service(app, request.to_request()).await;
        let status = response.status();
        let body = to_bytes(response.into_body()).await.unwrap_or_default();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    #[test]
    fn any_node_lists_shows_applies_and_discards_parked_states() {
        run(async {
            let network = MemoryNetwork::new();
            let ([a, b], keys) = healed(&network, &["c/0", "c1"]).await;
            let c = node("c", &network, Some(&a)).await;
            let hubs = [a.clone(), b.clone(), c.clone()];
            together(&hubs).await;
            assert!(c.parked_states().await.expect("the hub runs").is_empty(), "it holds none");
            eventually("it has heard of the child", || async {
                c.lookup("c/0").await.expect("the hub runs").is_some()
            })
            .await;
            let options = AdminOptions::default().states(true);
            let app = web::init_service(App::new().service(admin::scope(c.clone(), options))).await;
            let [path, other] = [&keys[0], &keys[1]].map(|key| {
                let key = key.to_string();
                format!("/parked/{}", key.replace('/', "%2F"))
            });
            // Each once, with both holders; one page after the other.
            let mut listed = Vec::new();
            let mut cursor = String::new();
            loop {
                let page = format!("/parked?limit=1&cursor={cursor}");
                let (status, page) = call(&app, Method::GET, &page, None).await;
                assert_eq!(status, StatusCode::OK, "{page}");
                assert_eq!((&page["total"], &page["unreachable"]), (&json!(2), &json!([])));
                listed.extend(page["items"].as_array().expect("items").clone());
                let Some(next) = page["next_cursor"].as_str() else { break };
                cursor = next.to_owned();
            }
            let mut names: Vec<String> = keys.iter().map(ToString::to_string).collect();
            let mut told: Vec<&str> =
                listed.iter().map(|item| item["key"].as_str().expect("a key")).collect();
            names.sort();
            told.sort_unstable();
            assert_eq!(told, names);
            for item in &listed {
                assert_eq!(item["holders"].as_array().map(Vec::len), Some(2), "{item}");
                assert_eq!(item["kind"], "basket");
            }
            let (_, page) = call(&app, Method::GET, "/parked?child=c1", None).await;
            assert_eq!(page["total"], 1);
            let (status, shown) = call(&app, Method::GET, &format!("{path}/state"), None).await;
            assert_eq!(status, StatusCode::OK, "{shown}");
            assert_eq!(shown["json"].as_array().map(Vec::len), Some(50), "{shown}");
            // What would be done is not done.
            let apply = format!("{path}/apply");
            let dry = format!("{apply}?dry_run=true");
            let (status, would) =
                call(&app, Method::POST, &dry, Some(json!({ "replace": true }))).await;
            assert_eq!((status, &would["dry_run"]), (StatusCode::OK, &json!(true)), "{would}");
            let dry = format!("{path}?dry_run=true");
            let (status, would) = call(&app, Method::DELETE, &dry, None).await;
            assert_eq!((status, &would["dry_run"]), (StatusCode::OK, &json!(true)), "{would}");
            let (status, problem) = call(&app, Method::POST, &apply, Some(json!({}))).await;
            assert_eq!(status, StatusCode::CONFLICT, "it does not merge: {problem}");
            let before = put(&c, "c/0", None).await;
            // The child may be on its way to the node that has just come in.
            eventually("it is applied", || async {
                let body = Some(json!({ "replace": true }));
                let (status, done) = call(&app, Method::POST, &apply, body).await;
                let outcome = (status, done["outcome"].as_str());
                assert!(matches!(
                    outcome,
                    (StatusCode::OK, Some("applied")) | (StatusCode::CONFLICT, None)
                ));
                status == StatusCode::OK
            })
            .await;
            assert!(put(&c, "c/0", None).await.is_disjoint(&before));
            let (status, done) = call(&app, Method::DELETE, &other, None).await;
            assert_eq!((status, &done["outcome"]), (StatusCode::OK, &json!("discarded")), "{done}");
            for gone in [&path, &other, &"/parked/nothing".to_owned()] {
                eventually("it is known to be gone", || async {
                    call(&app, Method::DELETE, gone, None).await.0 == StatusCode::NOT_FOUND
                })
                .await;
            }
            // What the child had is the only one now.
            eventually("its own is parked", || async {
                let (_, page) = call(&app, Method::GET, "/parked", None).await;
                page["total"] == 1 && page["items"][0]["child"] == "c/0"
            })
            .await;
            stop(hubs.into()).await;
        });
    }

    #[test]
    fn parked_states_are_counted_and_shown_only_if_allowed() {
        run(async {
            let network = MemoryNetwork::new();
            let ([a, b], keys) = healed(&network, &["c"]).await;
            let options = AdminOptions::default();
            let app = web::init_service(App::new().service(admin::scope(a.clone(), options))).await;
            let path = format!("/parked/{}/state", keys[0]);
            let (status, _) = call(&app, Method::GET, &path, None).await;
            assert_eq!(status, StatusCode::FORBIDDEN);
            let metrics = web::TestRequest::with_uri("/hub/metrics")
                .peer_addr("127.0.0.1:4321".parse().expect("an address"))
                .insert_header((header::HOST, "localhost:8080"));
            let response = web::call_service(&app, metrics.to_request()).await;
            let body = to_bytes(response.into_body()).await.expect("a body");
            let text = String::from_utf8_lossy(&body);
            let size = a.parked_states().await.expect("the hub runs")[0].state.len();
            assert!(text.contains("\nactix_hub_parked_states 1\n"), "{text}");
            assert!(text.contains(&format!("\nactix_hub_parked_bytes {size}\n")), "{text}");
            stop(vec![a, b]).await;
        });
    }
}
