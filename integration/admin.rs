//! The admin endpoint, over real hubs.

use actix_hub::{
    admin::{self, AdminAccess, AdminOptions, AdminRight, AdminToken},
    prelude::*,
};
use actix_web::{
    App, Error,
    body::{MessageBody, to_bytes},
    dev::{Service, ServiceResponse},
    http::{
        Method, StatusCode, Version,
        header::{self, HeaderValue},
    },
    test::{self, TestRequest},
};
use serde_json::{Value, json};

use crate::support::*;

const LOCAL: &str = "127.0.0.1:50000";

/// A client of an endpoint that is mounted in this process.
macro_rules! client {
    ($hub:expr, $options:expr) => {
        test::init_service(App::new().service(admin::scope($hub.clone(), $options))).await
    };
}

fn local(request: TestRequest) -> TestRequest {
    request
        .peer_addr(LOCAL.parse().expect("an address"))
        .insert_header((header::HOST, "localhost:8080"))
        .insert_header(("X-Actix-Hub", "1"))
}

fn get(path: &str) -> TestRequest {
    local(TestRequest::get().uri(&format!("/hub{path}")))
}

fn post(path: &str) -> TestRequest {
    local(TestRequest::post().uri(&format!("/hub{path}")))
}

async fn call<S, B>(app: &S, request: TestRequest) -> (StatusCode, Value)
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let response = test::call_service(app, request.to_request()).await;
    let status = response.status();
    assert!(response.headers().contains_key("content-security-policy"), "on every response");
    let kind = response.headers().get(header::CONTENT_TYPE).cloned();
    let body = to_bytes(response.into_body()).await.unwrap_or_default();
    if status.is_client_error() || status.is_server_error() {
        let kind = kind.expect("an error says what it is");
        assert!(
            kind == "application/problem+json" || kind == "application/json",
            "{status}: {kind:?}"
        );
    }
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn options() -> AdminOptions {
    AdminOptions::default()
}

#[test]
fn without_token_or_guard_only_loopback_is_served_and_health_is_for_all() {
    run(async {
        let hub = Net::Tcp.node("a", None, |_| {}).await;
        let app = client!(hub, options());
        assert_eq!(call(&app, get("/nodes")).await.0, StatusCode::OK);
        let abroad = || "10.0.0.7:50000".parse().expect("an address");
        for path in ["/nodes", "/metrics", "/", "/openapi.json", "/events", "/nothing"] {
            let (status, problem) = call(&app, get(path).peer_addr(abroad())).await;
            assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
            assert!(problem["detail"].as_str().expect("words").contains("another machine"));
        }
        assert_eq!(call(&app, get("/health/live").peer_addr(abroad())).await.0, StatusCode::OK);
        // A page whose name was made to point here, and a proxy on this machine.
        let evil = get("/nodes").insert_header((header::HOST, "evil.example"));
        assert_eq!(call(&app, evil).await.0, StatusCode::FORBIDDEN);
        for (site, expected) in [
            ("cross-site", StatusCode::FORBIDDEN),
            ("same-site", StatusCode::FORBIDDEN),
            ("same-origin", StatusCode::OK),
            ("none", StatusCode::OK),
        ] {
            let asked = get("/nodes").insert_header(("Sec-Fetch-Site", site));
            assert_eq!(call(&app, asked).await.0, expected, "{site}");
        }
        // A link may be followed; a frame or a form of another page is none.
        for (method, dest, expected) in [
            (Method::GET, "document", StatusCode::OK),
            (Method::GET, "iframe", StatusCode::FORBIDDEN),
            (Method::POST, "document", StatusCode::FORBIDDEN),
        ] {
            let uri = if method == Method::GET { "/hub/" } else { "/hub/children?dry_run=true" };
            let followed = local(TestRequest::with_uri(uri).method(method.clone()))
                .insert_header(("Sec-Fetch-Site", "cross-site"))
                .insert_header(("Sec-Fetch-Mode", "navigate"))
                .insert_header(("Sec-Fetch-Dest", dest));
            assert_eq!(call(&app, followed).await.0, expected, "{method} {dest}");
        }
        // A wish that is not understood is not passed over: `dryrun` would have acted.
        for (request, name) in [
            (local(TestRequest::delete().uri("/hub/children/c?dryrun=true")), "dryrun"),
            (get("/nodes?x=1"), "x"),
        ] {
            let (status, problem) = call(&app, request).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{name}: {problem}");
        }
        let proxied = get("/nodes").insert_header(("X-Forwarded-For", "10.0.0.7"));
        assert_eq!(call(&app, proxied).await.0, StatusCode::FORBIDDEN);
        // What a proxy sends that was not told to say for whom it asks.
        let proxied = get("/nodes").insert_header(("X-Forwarded-Proto", "https"));
        assert_eq!(call(&app, proxied).await.0, StatusCode::FORBIDDEN);
        let silent = get("/nodes").version(Version::HTTP_10);
        assert_eq!(call(&app, silent).await.0, StatusCode::FORBIDDEN);
        stop(vec![hub]).await;
    });
}

#[test]
fn tokens_give_rights_and_actions_need_more_than_reading() {
    run(async {
        let hub = Net::Tcp.node("a", None, |_| {}).await;
        let token = |text| AdminToken::new(text).expect("long enough");
        let access = AdminAccess::Tokens {
            read: vec![token("reading-0123456789")],
            act: vec![token("acting-01234567890")],
        };
        let app = client!(hub, options().access(access));
        let with = |request: TestRequest, token: &str| {
            request.insert_header((header::AUTHORIZATION, format!("Bearer {token}")))
        };
        assert_eq!(call(&app, get("/nodes")).await.0, StatusCode::UNAUTHORIZED);
        let wrong = with(get("/nodes"), "reading-0123456788");
        assert_eq!(call(&app, wrong).await.0, StatusCode::UNAUTHORIZED);
        let read = "reading-0123456789";
        assert_eq!(call(&app, with(get("/nodes"), read)).await.0, StatusCode::OK);
        let start = || post("/children").set_json(json!({ "id": "c", "kind": "counter" }));
        let (status, problem) = call(&app, with(start(), read)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
        let act = "acting-01234567890";
        // A page of another origin cannot send the header.
        let mut bare = with(start(), act).to_request();
        bare.headers_mut().remove("X-Actix-Hub");
        let refused = test::call_service(&app, bare).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        assert_eq!(call(&app, with(start(), act)).await.0, StatusCode::CREATED);
        let (_, session) = call(&app, with(get("/session"), read)).await;
        let expected =
            json!({ "read": true, "act": false, "states": false, "authentication": "token" });
        assert_eq!(session, expected);
        // The page itself holds no secret, and asks for the token.
        let page = test::call_service(&app, get("/").to_request()).await;
        assert_eq!(page.status(), StatusCode::OK);
        stop(vec![hub]).await;
    });
}

#[test]
fn however_it_is_mounted_and_spelt_nothing_is_served_without_the_token() {
    run(async {
        let hub = Net::Tcp.node("a", None, |_| {}).await;
        let token = AdminToken::new("a-token-0123456789").expect("long enough");
        let options = || options().access(AdminAccess::token(token.clone()));
        let nested =
            test::init_service(App::new().service(
                actix_web::web::scope("/ops").service(admin::scope(hub.clone(), options())),
            ))
            .await;
        let root =
            test::init_service(App::new().service(admin::scope(hub.clone(), options().at(""))))
                .await;
        let slashed =
            test::init_service(App::new().service(admin::scope(hub.clone(), options().at("/x/"))))
                .await;
        let paths = [
            "/nodes",
            "/children",
            "/settings",
            "/metrics",
            "/events",
            "/session",
            "/openapi.json",
            "/handovers",
            "/children/c",
            "/children/c/state",
            "/nodes/",
            "//nodes",
            "/health/../nodes",
            "/health/live/../../nodes",
            "/%6eodes",
            "/nothing",
        ];
        for path in paths {
            for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST] {
                let at = |uri: String| local(TestRequest::with_uri(&uri).method(method.clone()));
                for (status, _) in [
                    call(&nested, at(format!("/ops/hub{path}"))).await,
                    call(&root, at(path.to_owned())).await,
                    call(&slashed, at(format!("/x{path}"))).await,
                ] {
                    assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}");
                }
            }
        }
        for (app, path) in [(&nested, "/ops/hub"), (&slashed, "/x")] {
            let live = local(TestRequest::get().uri(&format!("{path}/health/live")));
            assert_eq!(call(app, live).await.0, StatusCode::OK);
            let request = local(TestRequest::get().uri(&format!("{path}/openapi.json")))
                .insert_header((header::AUTHORIZATION, "Bearer a-token-0123456789"));
            assert_eq!(call(app, request).await.1["servers"][0]["url"], path);
        }
        stop(vec![hub]).await;
    });
}

#[test]
fn a_guard_of_the_app_decides() {
    run(async {
        let hub = Net::Tcp.node("a", None, |_| {}).await;
        let guard = AdminAccess::guard(|head| match head.headers().get("role")?.to_str().ok()? {
            "admin" => Some(AdminRight::Act),
            "viewer" => Some(AdminRight::Read),
            _ => None,
        });
        let app = client!(hub, options().access(guard));
        assert_eq!(call(&app, get("/nodes")).await.0, StatusCode::FORBIDDEN);
        let viewer = |request: TestRequest| request.insert_header(("role", "viewer"));
        assert_eq!(call(&app, viewer(get("/nodes"))).await.0, StatusCode::OK);
        let start = post("/children").set_json(json!({ "id": "c", "kind": "counter" }));
        assert_eq!(call(&app, viewer(start)).await.0, StatusCode::FORBIDDEN);
        stop(vec![hub]).await;
    });
}

#[test]
fn actions_are_limited() {
    run(async {
        let hub = Net::Tcp.node("a", None, |_| {}).await;
        let few = std::num::NonZeroU32::new(8).expect("not zero");
        let app = client!(hub, options().actions_per_minute(few));
        let mut statuses = Vec::new();
        for _ in 0..3 {
            let action = local(TestRequest::delete().uri("/hub/children/nobody"));
            let response = test::call_service(&app, action.to_request()).await;
            statuses.push(response.status().as_u16());
            let retry = response.headers().contains_key(header::RETRY_AFTER);
            assert_eq!(retry, response.status() == StatusCode::TOO_MANY_REQUESTS);
        }
        assert_eq!(statuses, [404, 404, 429]);
        // What is mounted elsewhere has a limit of its own.
        let elsewhere = client!(hub, options().at("/elsewhere"));
        let action = local(TestRequest::delete().uri("/elsewhere/children/nobody"));
        assert_eq!(call(&elsewhere, action).await.0, StatusCode::NOT_FOUND);
        stop(vec![hub]).await;
    });
}

#[test]
fn every_node_answers_for_the_whole_cluster() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        for n in 0..25 {
            let spec = ChildSpec::new::<Counter>(format!("room/{n:02}"), ()).expect("valid");
            let spec = spec.tag(if n % 2 == 0 { "even" } else { "odd" }).expect("a tag");
            hubs[n % 2].start_child(spec.note("n", n.to_string())).await.expect("it starts");
        }
        let app = client!(hubs[1], options());
        eventually("this node knows all", async || {
            call(&app, get("/children?limit=1")).await.1["total"] == 25
        })
        .await;
        let child: ChildRef<Counter> = hubs[0].child("room/03");
        for number in 0..7 {
            child.send(Add { sender: 1, number }).await.expect("it answers");
        }
        // Pages, by cursor.
        let mut seen = Vec::new();
        let mut path = "/children?limit=10&kind=counter".to_owned();
        let mut pages = 0;
        loop {
            let (status, page) = call(&app, get(&path)).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            assert_eq!(page["total"], 25);
            for item in page["items"].as_array().expect("a list") {
                assert!(item["runtime"]["mailbox"].is_u64(), "its owner has told: {item}");
                seen.push(item["id"].as_str().expect("an id").to_owned());
            }
            pages += 1;
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/children?limit=10&kind=counter&cursor={cursor}"),
                None => break,
            }
        }
        let expected: Vec<String> = (0..25).map(|n| format!("room/{n:02}")).collect();
        assert_eq!((pages, seen), (3, expected));
        // Filters.
        for (filter, count) in [
            ("tag=even", 13),
            ("text=room/1", 10),
            ("kind=nothing", 0),
            ("state=running", 25),
            ("tag=odd&text=0", 5),
        ] {
            let (_, page) = call(&app, get(&format!("/children?{filter}"))).await;
            assert_eq!(page["total"], count, "{filter}");
        }
        let (_, of_a) = call(&app, get("/children?node=n0")).await;
        let (_, of_b) = call(&app, get("/children?node=n1")).await;
        let both = of_a["total"].as_u64().expect("a number") + of_b["total"].as_u64().expect("one");
        assert_eq!(both, 25);
        for wrong in ["limit=0", "limit=1001", "limit=x", "cursor=%25", "state=asleep"] {
            let (status, _) = call(&app, get(&format!("/children?{wrong}"))).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
        }
        // One child, its id percent-encoded.
        let (status, one) = call(&app, get("/children/room%2F03")).await;
        assert_eq!(status, StatusCode::OK, "{one}");
        assert_eq!(one["runtime"]["handled"], 7);
        assert_eq!(one["metadata"]["n"], "3");
        assert_eq!(one["why"]["rule"], "distribution");
        assert_eq!(call(&app, get("/children/nobody")).await.0, StatusCode::NOT_FOUND);
        // The nodes, and their load.
        let (_, nodes) = call(&app, get("/nodes")).await;
        assert_eq!(nodes["total"], 2);
        for node in nodes["items"].as_array().expect("a list") {
            assert!(node["load"]["handled"].is_u64() && node["version"].is_string(), "{node}");
            assert_eq!(node["labels"]["node"], node["name"], "{node}");
            let (status, same) =
                call(&app, get(&format!("/nodes/{}", node["name"].as_str().expect("text")))).await;
            assert_eq!((status, &same["id"]), (StatusCode::OK, &node["id"]));
        }
        assert_eq!(call(&app, get("/nodes/nobody")).await.0, StatusCode::NOT_FOUND);
        eventually("the round trip is measured", async || {
            let (_, nodes) = call(&app, get("/nodes?text=n0")).await;
            nodes["items"][0]["link"]["rtt_ms"].as_f64().is_some_and(|rtt| rtt >= 0.0)
        })
        .await;
        assert_eq!(nodes["items"][0]["links"], Value::Null, "they were not asked for");
        eventually("each node tells its own links", async || {
            let (_, nodes) = call(&app, get("/nodes?links=true")).await;
            let told = |from: &str, to: &str| {
                let node = nodes["items"].as_array()?.iter().find(|node| node["name"] == from)?;
                let [link] = &node["links"].as_array()?[..] else { return None };
                let is_up = link["state"] == "up" && link["rtt_ms"].is_f64();
                (link["to"]["name"] == to && is_up).then_some(())
            };
            told("n0", "n1").and_then(|()| told("n1", "n0")).is_some()
        })
        .await;
        stop(hubs).await;
    });
}

#[test]
fn a_list_that_has_not_changed_is_not_sent_again() {
    run(async {
        let hub = Net::Tcp.node("a", None, |_| {}).await;
        let app = client!(hub, options());
        let first = test::call_service(&app, get("/handovers").to_request()).await;
        let tag = first.headers().get(header::ETAG).expect("a tag").clone();
        let again = get("/handovers").insert_header((header::IF_NONE_MATCH, tag));
        let again = test::call_service(&app, again.to_request()).await;
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        stop(vec![hub]).await;
    });
}

#[test]
fn what_is_read_can_be_asked_about_and_errors_name_the_methods() {
    run(async {
        let hub = Net::Tcp.node("a", None, |_| {}).await;
        let app = client!(hub, options());
        for path in ["/health/live", "/nodes", "/children", "/metrics", "/"] {
            let head = local(TestRequest::with_uri(&format!("/hub{path}")).method(Method::HEAD));
            let (asked, read) = (call(&app, head).await.0, call(&app, get(path)).await.0);
            assert_eq!((asked, read), (StatusCode::OK, StatusCode::OK), "{path}");
        }
        for (path, method, allowed) in [
            ("/events", Method::HEAD, "GET"),
            ("/nodes", Method::POST, "GET, HEAD"),
            ("/children", Method::DELETE, "GET, HEAD, POST"),
            ("/children/c/migrate", Method::GET, "POST"),
            ("/nodes/a/leave", Method::GET, "POST"),
            ("/nodes/a/drain", Method::GET, "POST"),
            ("/nodes/a/undrain", Method::GET, "POST"),
            ("/nodes/a/stay", Method::GET, "POST"),
            ("/parked/k/apply", Method::GET, "POST"),
            ("/parked/k", Method::POST, "DELETE"),
        ] {
            let request = local(TestRequest::with_uri(&format!("/hub{path}")).method(method));
            let response = test::call_service(&app, request.to_request()).await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
            assert_eq!(response.headers().get(header::ALLOW).expect("it is told"), allowed);
        }
        stop(vec![hub]).await;
    });
}

#[test]
fn time_that_goes_by_is_no_change_of_a_list() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        let app = client!(hubs[0], options());
        start(&hubs[0], "a").await;
        let moved = start(&hubs[0], "b").await;
        let owner = hubs[0].lookup("b").await.expect("the hub runs").expect("it is there").node;
        let other = hubs.iter().find(|hub| hub.node_id() != owner).expect("two nodes");
        hubs[0].migrate("b", other.node_id()).await.expect("it moves");
        let tag = async |path: &str, known: Option<&HeaderValue>| {
            let mut request = get(path);
            if let Some(known) = known {
                request = request.insert_header((header::IF_NONE_MATCH, known.clone()));
            }
            let response = test::call_service(&app, request.to_request()).await;
            let tag = response.headers().get(header::ETAG).expect("a tag").clone();
            (response.status(), tag)
        };
        // Until all has settled, things change.
        for path in ["/nodes", "/children", "/handovers"] {
            eventually(&format!("{path} stays as it is"), async || {
                let (_, first) = tag(path, None).await;
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
                tag(path, Some(&first)).await == (StatusCode::NOT_MODIFIED, first)
            })
            .await;
        }
        let (_, before) = tag("/children", None).await;
        moved.send(Add { sender: 1, number: 1 }).await.expect("it answers");
        let (status, after) = tag("/children", Some(&before)).await;
        assert!(status == StatusCode::OK && before != after, "a message was handled");
        stop(hubs).await;
    });
}

#[test]
fn children_are_started_moved_and_stopped_and_a_dry_run_does_nothing() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        let app = client!(hubs[0], options());
        let body = json!({ "id": "room 1/ä", "kind": "counter", "args": null, "tags": ["x"],
                           "metadata": { "by": "test" }, "restart": "transient" });
        let mut events = hubs[0].events();
        let dry = post("/children?dry_run=true").set_json(&body);
        let (status, would) = call(&app, dry).await;
        assert_eq!((status, &would["dry_run"]), (StatusCode::OK, &json!(true)), "{would}");
        assert!(hubs[0].lookup("room 1/ä").await.expect("the hub runs").is_none());
        let (status, started) = call(&app, post("/children").set_json(&body)).await;
        assert_eq!((status, &started["outcome"]), (StatusCode::CREATED, &json!("started")));
        assert_eq!(started["node"], would["node"], "where the dry run said");
        let (status, again) = call(&app, post("/children").set_json(&body)).await;
        assert_eq!((status, &again["outcome"]), (StatusCode::OK, &json!("exists")));
        let (status, would) = call(&app, post("/children?dry_run=true").set_json(&body)).await;
        assert_eq!((status, &would["dry_run"]), (StatusCode::OK, &json!(true)));
        for (field, value, word) in [
            ("tags", json!(["x", "y"]), "tags"),
            ("metadata", json!({}), "metadata"),
            ("restart", json!("permanent"), "restart rule"),
            ("args", json!(7), "arguments"),
            ("kind", json!("other"), "kind"),
        ] {
            let mut other = body.clone();
            other[field] = value;
            for uri in ["/children", "/children?dry_run=true"] {
                let (status, problem) = call(&app, post(uri).set_json(&other)).await;
                let detail = problem["detail"].as_str().unwrap_or_default();
                assert!(status == StatusCode::CONFLICT && detail.contains(word), "{problem}");
            }
        }
        let path = "/children/room%201%2F%C3%A4";
        let (_, one) = call(&app, get(path)).await;
        assert_eq!(one["spec"]["restart"], "transient");

        let at = started["node"]["name"].as_str().expect("a name").to_owned();
        let to = if at == "n0" { "n1" } else { "n0" };
        let migrate = format!("{path}/migrate");
        let dry = post(&format!("{migrate}?dry_run=true")).set_json(json!({ "to": to }));
        let (status, would) = call(&app, dry).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!((&would["from"]["name"], &would["node"]["name"]), (&json!(at), &json!(to)));
        let (status, moved) = call(&app, post(&migrate).set_json(json!({ "to": to }))).await;
        assert_eq!((status, &moved["outcome"]), (StatusCode::OK, &json!("moved")), "{moved}");
        let (_, why) = call(&app, get(&format!("{path}/why"))).await;
        assert_eq!((&why["rule"], &why["owner"]["name"]), (&json!("pinned"), &json!(to)));
        let (_, again) = call(&app, post(&migrate).set_json(json!({ "to": to }))).await;
        assert_eq!(again["outcome"], "already_there");
        let nowhere = post(&migrate).set_json(json!({ "to": "nobody" }));
        assert_eq!(call(&app, nowhere).await.0, StatusCode::UNPROCESSABLE_ENTITY);

        eventually("the handover is told with its phases", async || {
            let (_, list) = call(&app, get("/handovers?status=done")).await;
            let item = &list["items"][0];
            let names: Vec<&str> = item["phases"]
                .as_array()
                .map(|phases| phases.iter().filter_map(|phase| phase["name"].as_str()).collect())
                .unwrap_or_default();
            list["unreachable"] == json!([])
                && list["total"] == 1
                && names == ["offer", "freeze", "wait", "transfer", "open"]
                && item["bytes"].as_u64() > Some(0)
        })
        .await;

        // It is bound to where it was sent until it is released.
        let release = format!("{path}/release");
        let (status, would) = call(&app, post(&format!("{release}?dry_run=true"))).await;
        let goes = format!("move to {at} with its state");
        let text = would["text"].as_str().unwrap_or_default();
        assert!(status == StatusCode::OK && text.contains(&goes), "{would}");
        let (status, released) = call(&app, post(&release)).await;
        assert_eq!((status, &released["outcome"]), (StatusCode::OK, &json!("released")));
        eventually("it goes back to where it belongs", async || {
            let (_, one) = call(&app, get(path)).await;
            one["pinned"] == Value::Null && one["nodes"][0]["name"] == at.as_str()
        })
        .await;
        let (_, again) = call(&app, post(&release)).await;
        assert_eq!(again["outcome"], "not_bound");
        assert_eq!(call(&app, post("/children/nobody/release")).await.0, StatusCode::NOT_FOUND);

        let dry = local(TestRequest::delete().uri(&format!("/hub{path}?dry_run=true")));
        assert_eq!(call(&app, dry).await.1["dry_run"], true);
        let delete = || local(TestRequest::delete().uri(&format!("/hub{path}")));
        let (status, stopped) = call(&app, delete()).await;
        assert_eq!((status, &stopped["outcome"]), (StatusCode::OK, &json!("stopped")));
        assert_eq!(call(&app, delete()).await.0, StatusCode::NOT_FOUND);

        // Who did what is told, and of dry runs nothing.
        let mut told = Vec::new();
        while told.last() != Some(&(format!("DELETE /hub{path}"), 404)) {
            let action = event(&mut events, |event| match &event {
                HubEvent::AdminAction { action, address, access, status } => {
                    assert_eq!(
                        (address.as_deref(), access.as_str()),
                        (Some("127.0.0.1"), "loopback")
                    );
                    let words = format!("127.0.0.1 (loopback) asked n0 for {action}: {status}");
                    assert_eq!(hubs[0].describe(&event), words);
                    Some((action.clone(), *status))
                }
                _ => None,
            });
            told.push(action.await);
        }
        let migrate = format!("POST /hub{migrate}");
        let release = format!("POST /hub{path}/release");
        let start = |status| ("POST /hub/children".to_owned(), status);
        let expected = [start(201), start(200)].into_iter().chain([409; 5].map(start)).chain([
            (migrate.clone(), 200),
            (migrate.clone(), 200),
            (migrate, 422),
            (release.clone(), 200),
            (release, 200),
            ("POST /hub/children/nobody/release".to_owned(), 404),
            (format!("DELETE /hub{path}"), 200),
            (format!("DELETE /hub{path}"), 404),
        ]);
        assert_eq!(told, expected.collect::<Vec<_>>());
        stop(hubs).await;
    });
}

#[test]
fn the_history_of_a_child_is_gathered_from_the_nodes_that_saw_it() {
    run(async {
        let hubs = Net::Tcp.cluster(3).await;
        // Nothing is recorded where the endpoint is not mounted.
        let app = client!(hubs[0], options());
        let _other = client!(hubs[1], options());
        start(&hubs[0], "c").await;
        for to in [0, 1, 0] {
            hubs[2].migrate("c", hubs[to].node_id()).await.expect("it moves");
        }
        eventually("both ends of the last move have told", async || {
            let (_, child) = call(&app, get("/children/c")).await;
            let seen: Vec<(&str, &str)> = child["history"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|event| {
                    Some((event["node"]["name"].as_str()?, event["type"].as_str()?))
                })
                .collect();
            let unknown: Vec<&str> = child["history_unknown"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|node| node["name"].as_str())
                .collect();
            unknown == ["n2"]
                && seen.contains(&("n0", "handed_over"))
                && seen.contains(&("n1", "taken_over"))
                && seen.contains(&("n1", "handed_over"))
                && child["runtime"]["last_handover"]["from"]["name"] == "n1"
        })
        .await;
        stop(hubs).await;
    });
}

#[test]
fn a_child_that_moves_is_found_as_moving_from_every_node() {
    run(async {
        let hubs = Net::Tcp.cluster(3).await;
        let child = start(&hubs[0], "c").await;
        start(&hubs[0], "still").await;
        let owner = hubs[0].lookup("c").await.expect("the hub runs").expect("it is there").node;
        let at = hubs.iter().position(|hub| hub.node_id() == owner).expect("one of them");
        let app = client!(hubs[(at + 1) % 3], options());
        // Its handler goes on for a while, and the move waits for it.
        let later = actix_rt::spawn(async move { child.send(Later { ms: 4_000 }).await });
        eventually("its handler has started", async || {
            call(&app, get("/children/c")).await.1["runtime"]["handled"] == 1
        })
        .await;
        let target = hubs[(at + 2) % 3].node_id();
        let request = hubs[at].migrate("c", target);
        let migration = actix_rt::spawn(request.into_future());
        eventually("it is seen to move", async || {
            let (_, moving) = call(&app, get("/children?state=moving")).await;
            moving["total"] == 1
                && moving["items"][0]["id"] == "c"
                && moving["items"][0]["state"] == "moving"
        })
        .await;
        let (_, running) = call(&app, get("/children?state=running")).await;
        let items = running["items"].as_array().expect("a list");
        assert!(items.iter().all(|item| item["state"] == "running"), "{running}");
        assert_eq!((&running["total"], items.len()), (&json!(1), 1), "{running}");
        assert_eq!(later.await.expect("no panic").ok(), Some(4_000));
        migration.await.expect("no panic").expect("it moves");
        stop(hubs).await;
    });
}

#[test]
fn a_move_from_a_node_that_goes_down_does_not_claim_to_have_kept_the_state() {
    run(async {
        let network = MemoryNetwork::new();
        let hubs = Net::Memory(network.clone()).cluster(3).await;
        start(&hubs[0], "c").await;
        let owner = hubs[0].lookup("c").await.expect("the hub runs").expect("it is there").node;
        let lost = hubs.iter().position(|hub| hub.node_id() == owner).expect("one of them");
        let [asked, target] = [(lost + 1) % 3, (lost + 2) % 3];
        let app = client!(hubs[asked], options());
        eventually("it is known here", async || {
            call(&app, get("/children/c")).await.0 == StatusCode::OK
        })
        .await;
        for other in [asked, target] {
            network.cut(owner, hubs[other].node_id());
        }
        let to = json!({ "to": format!("n{target}") });
        let (status, moved) = call(&app, post("/children/c/migrate").set_json(&to)).await;
        assert_eq!(status, StatusCode::OK, "{moved}");
        assert_eq!(moved["began_anew"], true, "{moved}");
        assert_eq!(moved["node"]["name"], format!("n{target}"));
        assert!(moved["text"].as_str().expect("words").contains("began anew"), "{moved}");
        stop(hubs).await;
    });
}

#[test]
fn what_cannot_be_started_is_told_why() {
    run(async {
        let hub = Net::Tcp.node("a", None, |_| {}).await;
        let app = client!(hub, options());
        for (body, status, words) in [
            (json!({ "id": "", "kind": "counter" }), 422, "child id"),
            (json!({ "id": "c", "kind": "unknown" }), 422, "kind"),
            (json!({ "id": "c", "kind": "counter", "args_cbor": "%" }), 422, "base64"),
            (json!({ "id": "c", "kind": "counter", "args": { "x": 1 } }), 422, "arguments"),
            (json!({ "id": "c", "kind": "counter", "extra": 1 }), 400, "unknown field"),
            (json!({ "id": "c" }), 400, "kind"),
            (json!("text"), 400, ""),
        ] {
            let (got, problem) = call(&app, post("/children").set_json(&body)).await;
            assert_eq!(got.as_u16(), status, "{body}: {problem}");
            let detail = problem["detail"].as_str().expect("words");
            assert!(detail.contains(words), "{body}: {detail}");
        }
        let text = post("/children").insert_header((header::CONTENT_TYPE, "text/plain"));
        let (status, _) = call(&app, text.set_payload("{}")).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let large = "x".repeat(2 << 20);
        let large = post("/children").set_json(json!({ "id": large, "kind": "counter" }));
        assert_eq!(call(&app, large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
        let put = local(TestRequest::put().uri("/hub/children"));
        let response = test::call_service(&app, put.to_request()).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers().get(header::ALLOW).expect("what is"), "GET, HEAD, POST");
        stop(vec![hub]).await;
    });
}

#[test]
fn states_are_shown_only_if_allowed_and_the_actor_goes_on() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        let child = start(&hubs[0], "c").await;
        child.send(Add { sender: 1, number: 7 }).await.expect("it answers");
        let closed = client!(hubs[0], options());
        let (status, _) = call(&closed, get("/children/c/state")).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        // From both nodes: one of them asks the other.
        for hub in &hubs {
            let app = client!(hub, options().states(true));
            eventually("the child is known", async || {
                hub.lookup("c").await.expect("the hub runs").is_some()
            })
            .await;
            let (status, state) = call(&app, get("/children/c/state")).await;
            assert_eq!(status, StatusCode::OK, "{state}");
            assert!(
                state["diagnostic"].as_str().expect("text").contains(r#""seen": {1: [7]}"#),
                "{state}"
            );
            assert_eq!(state["json"], Value::Null, "JSON has no number as a key");
            let cbor = get("/children/c/state").insert_header((header::ACCEPT, "application/cbor"));
            let response = test::call_service(&app, cbor.to_request()).await;
            let body = to_bytes(response.into_body()).await.expect("a body");
            let value: ciborium::Value = ciborium::from_reader(&body[..]).expect("it is CBOR");
            assert!(value.is_map());
        }
        assert_eq!(child.send(Add { sender: 1, number: 8 }).await, Ok(2), "it goes on");
        child.send(SetTrap { trap: Some(Trap::PanicInPrepare) }).await.expect("it answers");
        let app = client!(hubs[0], options().states(true));
        let (status, problem) = call(&app, get("/children/c/state")).await;
        assert_eq!(status, StatusCode::CONFLICT, "{problem}");
        assert_eq!(child.send(Add { sender: 1, number: 9 }).await, Ok(3), "it goes on");
        // What the actor gave away is given back, though its encoder panics.
        child.send(SetTrap { trap: Some(Trap::PanicInEncode) }).await.expect("it answers");
        let (status, problem) = call(&app, get("/children/c/state")).await;
        assert_eq!(status, StatusCode::CONFLICT, "{problem}");
        child.send(SetTrap { trap: None }).await.expect("it answers");
        assert_eq!(child.send(Add { sender: 1, number: 10 }).await, Ok(4), "it goes on");
        // A handler that has started is waited for, as in a handover; if it takes too long the child
        // is busy.
        for (ms, expected) in [(100, StatusCode::OK), (3_000, StatusCode::CONFLICT)] {
            let later = actix_rt::spawn(child.send(Later { ms }));
            child.send(Read { sender: 1 }).await.expect("what came before has started");
            let (status, state) = call(&app, get("/children/c/state")).await;
            assert_eq!(status, expected, "{state}");
            if status == StatusCode::OK {
                let text = state["diagnostic"].as_str().expect("text");
                assert!(text.contains(r#""in_flight": 0"#), "{text}");
            }
            assert_eq!(later.await.expect("it ends"), Ok(ms));
        }
        stop(hubs).await;
    });
}

#[test]
fn a_node_is_asked_to_leave_from_another_and_the_last_one_stays() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        for n in 0..6 {
            start(&hubs[0], &format!("c{n}")).await;
        }
        let app = client!(hubs[0], options());
        let (status, would) = call(&app, post("/nodes/n1/leave?dry_run=true")).await;
        assert_eq!((status, &would["dry_run"]), (StatusCode::OK, &json!(true)));
        assert_eq!(members(&hubs[1]).await, 2);
        let (status, leaving) = call(&app, post("/nodes/n1/leave")).await;
        assert_eq!((status, &leaving["outcome"]), (StatusCode::ACCEPTED, &json!("leaving")));
        hubs[1].stopped().await;
        eventually("it has left", async || members(&hubs[0]).await == 1).await;
        assert_eq!(hubs[0].children(Scope::Local).await.expect("the hub runs").len(), 6);
        eventually("what it handed over is told though it has gone", async || {
            let (_, list) = call(&app, get("/handovers?node=n1&status=done")).await;
            list["total"] == would["children"] && list["unreachable"] == json!([])
        })
        .await;
        for path in ["/nodes/n0/leave", "/nodes/n0/leave?dry_run=true"] {
            let (status, problem) = call(&app, post(path)).await;
            assert_eq!(status, StatusCode::CONFLICT, "{problem}");
        }
        stop(hubs).await;
    });
}

/// A node, as `/nodes/{node}` tells it.
async fn node_of<S, B>(app: &S, name: &str) -> Value
where
    S: Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let (status, node) = call(app, get(&format!("/nodes/{name}"))).await;
    assert_eq!(status, StatusCode::OK, "{node}");
    node
}

#[test]
fn a_node_is_drained_from_another_and_takes_children_again() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        for n in 0..6 {
            start(&hubs[0], &format!("c{n}")).await;
        }
        hubs[0].migrate("c0", hubs[1].node_id()).await.expect("it moves");
        let app = client!(hubs[0], options());
        let node = node_of(&app, "n1").await;
        assert_eq!((&node["draining"], &node["left"]), (&json!(false), &Value::Null), "{node}");
        // Asked what it would do it does nothing.
        let (status, would) = call(&app, post("/nodes/n1/drain?dry_run=true")).await;
        assert_eq!((status, &would["dry_run"]), (StatusCode::OK, &json!(true)), "{would}");
        assert_eq!(would["children"], node["children"]);
        let (status, would) = call(&app, post("/nodes/n1/undrain?dry_run=true")).await;
        assert_eq!(status, StatusCode::OK, "{would}");
        assert_eq!(would["text"], "n1 is not drained; nothing would be done.");
        assert_eq!(node_of(&app, "n1").await["draining"], json!(false));
        let (status, none) = call(&app, post("/nodes/n1/undrain")).await;
        assert_eq!((status, &none["outcome"]), (StatusCode::OK, &json!("unchanged")), "{none}");

        let (status, begins) = call(&app, post("/nodes/n1/drain")).await;
        assert_eq!((status, &begins["outcome"]), (StatusCode::ACCEPTED, &json!("draining")));
        eventually("it is drained", async || {
            let node = node_of(&app, "n1").await;
            let empty = json!({ "children": 0, "first": [] });
            node["draining"] == json!(true) && node["left"] == empty && node["children"] == 0
        })
        .await;
        assert_eq!(node_of(&app, "n1").await["state"], "alive");
        let (_, why) = call(&app, get("/children/c0/why")).await;
        let candidates = why["candidates"].as_array().expect("candidates");
        let drained = candidates.iter().find(|one| one["name"] == "n1").expect("it is in");
        assert_eq!(drained["takes_children"], json!(false), "{why}");
        assert_eq!(drained["reason"], "it is drained", "{why}");
        let to = json!({ "to": "n1" });
        let (status, problem) = call(&app, post("/children/c0/migrate").set_json(&to)).await;
        assert_eq!(status, StatusCode::CONFLICT, "{problem}");
        assert_eq!(problem["detail"], "n1 cannot take c0: it is drained");
        let metrics = test::call_service(&app, get("/metrics").to_request()).await;
        let metrics = to_bytes(metrics.into_body()).await.unwrap_or_default();
        let metrics = std::str::from_utf8(&metrics).expect("text");
        assert!(metrics.contains("actix_hub_draining_nodes 1\n"), "{metrics}");
        // Who is left has everything.
        for path in ["/nodes/n0/drain", "/nodes/n0/drain?dry_run=true"] {
            let (status, problem) = call(&app, post(path)).await;
            assert_eq!(status, StatusCode::CONFLICT, "{problem}");
        }

        let (status, would) = call(&app, post("/nodes/n1/undrain?dry_run=true")).await;
        assert_eq!((status, &would["dry_run"]), (StatusCode::OK, &json!(true)), "{would}");
        assert_eq!(node_of(&app, "n1").await["draining"], json!(true));
        let (status, resumed) = call(&app, post("/nodes/n1/undrain")).await;
        assert_eq!((status, &resumed["outcome"]), (StatusCode::ACCEPTED, &json!("resumed")));
        eventually("it takes children", async || {
            let node = node_of(&app, "n1").await;
            node["draining"] == json!(false) && node["left"].is_null()
        })
        .await;
        let (status, moved) = call(&app, post("/children/c0/migrate").set_json(&to)).await;
        assert_eq!(status, StatusCode::OK, "{moved}");
        stop(hubs).await;
    });
}

#[test]
fn a_node_that_leaves_tells_what_is_left_on_it_and_is_told_to_stay() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        let child = start(&hubs[0], "c").await;
        hubs[0].migrate("c", hubs[1].node_id()).await.expect("it moves");
        let trap = Some(Trap::PanicInPrepare);
        child.send(SetTrap { trap }).await.expect("it answers");
        let app = client!(hubs[0], options());
        let (status, none) = call(&app, post("/nodes/n1/stay")).await;
        assert_eq!((status, &none["outcome"]), (StatusCode::OK, &json!("unchanged")), "{none}");
        for action in ["leave", "drain"] {
            let (status, begins) = call(&app, post(&format!("/nodes/n1/{action}"))).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{begins}");
        }
        eventually("it tells why it is not empty", async || {
            let node = node_of(&app, "n1").await;
            let reason = node["left"]["first"][0]["reason"].as_str().unwrap_or_default();
            node["state"] == "leaving"
                && node["draining"] == json!(true)
                && node["left"]["children"] == 1
                && node["left"]["first"][0]["child"] == "c"
                && reason.contains("prepare panics on purpose")
        })
        .await;
        let (_, why) = call(&app, get("/children/c/why")).await;
        let candidates = why["candidates"].as_array().expect("candidates");
        assert!(candidates.iter().any(|one| one["reason"] == "it leaves"), "{why}");
        let (status, would) = call(&app, post("/nodes/n1/stay?dry_run=true")).await;
        assert_eq!((status, &would["dry_run"]), (StatusCode::OK, &json!(true)), "{would}");
        assert_eq!(node_of(&app, "n1").await["state"], "leaving");
        let (status, stays) = call(&app, post("/nodes/n1/stay")).await;
        assert_eq!((status, &stays["outcome"]), (StatusCode::OK, &json!("resumed")), "{stays}");
        assert_eq!(stays["text"], "n1 stays; it is drained, and takes no children.");
        eventually("it stays, drained", async || {
            let node = node_of(&app, "n1").await;
            node["state"] == "alive" && node["draining"] == json!(true)
        })
        .await;
        child.send(SetTrap { trap: None }).await.expect("it answers");
        let (status, again) = call(&app, post("/nodes/n1/drain")).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{again}");
        eventually("it is empty", async || node_of(&app, "n1").await["left"]["children"] == 0)
            .await;
        stop(hubs).await;
    });
}

#[test]
fn health_follows_the_hub() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        let app = client!(hubs[0], options());
        eventually("it is ready", async || call(&app, get("/health/ready")).await.0 == 200).await;
        assert_eq!(call(&app, get("/health/live")).await.0, StatusCode::OK);
        hubs[0].stop().await;
        for path in ["/health/ready", "/health/live", "/nodes", "/children", "/metrics"] {
            let (status, body) = call(&app, get(path)).await;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {body}");
        }
        stop(hubs).await;
    });
}

/// Reads frames of an event stream until there are as many of type `hub`, or it says that it ends.
async fn frames<B: MessageBody>(
    response: ServiceResponse<B>,
    count: usize,
) -> Vec<(String, Value)> {
    let mut body = Box::pin(response.into_body());
    let mut text = String::new();
    loop {
        let frames: Vec<(String, Value)> = text
            .split("\n\n")
            .filter(|frame| frame.contains("event: "))
            .filter_map(|frame| {
                let field = |name: &str| {
                    frame.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default()
                };
                let data = serde_json::from_str(field("data: ")).ok()?;
                Some((format!("{}|{}", field("event: "), field("id: ")), data))
            })
            .collect();
        let enough = frames.iter().filter(|(name, _)| name.starts_with("hub|")).count() >= count;
        if enough || frames.iter().any(|(name, _)| name.starts_with("bye|")) {
            return frames;
        }
        let next = std::future::poll_fn(|cx| body.as_mut().poll_next(cx));
        let next = tokio::time::timeout(std::time::Duration::from_secs(20), next).await;
        let Some(Ok(bytes)) = next.expect("an event comes") else { return frames };
        text.push_str(std::str::from_utf8(&bytes).expect("text"));
    }
}

#[test]
fn events_come_with_ids_and_a_client_resumes_behind_the_last() {
    run(async {
        let hub = Net::Tcp.node("a", None, |_| {}).await;
        let app = client!(hub, options());
        let live = test::call_service(&app, get("/events").to_request()).await;
        assert_eq!(live.headers().get(header::CONTENT_TYPE).expect("a type"), "text/event-stream");
        for n in 0..4 {
            start(&hub, &format!("c{n}")).await;
        }
        let seen = frames(live, 4).await;
        assert_eq!(seen.len(), 4, "{seen:?}");
        assert_eq!(seen[0].1["type"], "child_started");
        assert_eq!(seen[0].1["text"], "c0 was started on a");
        let id = seen[1].1["id"].as_str().expect("an id").to_owned();
        let resumed = get("/events").insert_header(("Last-Event-ID", id));
        let resumed = test::call_service(&app, resumed.to_request()).await;
        let resumed = frames(resumed, 2).await;
        assert_eq!(resumed[..], seen[2..], "the same, once");
        let replayed = test::call_service(&app, get("/events?replay=3").to_request()).await;
        assert_eq!(frames(replayed, 3).await[..], seen[1..]);
        let other_life = get("/events").insert_header(("Last-Event-ID", "dead-7"));
        let other_life = test::call_service(&app, other_life.to_request()).await;
        let told = frames(other_life, 4).await;
        assert_eq!(told[0].0, "missed|", "{told:?}");
        assert_eq!(call(&app, get("/events?replay=1001")).await.0, StatusCode::BAD_REQUEST);
        // No more clients than there are places, and a place is free when its client goes.
        let mut open = Vec::new();
        loop {
            let response = test::call_service(&app, get("/events").to_request()).await;
            if response.status() != StatusCode::OK {
                assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
                assert!(response.headers().contains_key(header::RETRY_AFTER));
                break;
            }
            open.push(response);
            assert!(open.len() <= 256);
        }
        drop(open);
        let last = test::call_service(&app, get("/events").to_request()).await;
        hub.stop().await;
        assert_eq!(frames(last, 1).await.last().expect("a frame").0, "bye|");
        assert_eq!(call(&app, get("/events")).await.0, StatusCode::SERVICE_UNAVAILABLE);
    });
}

#[test]
fn a_stream_of_events_tells_what_fits_its_filter() {
    run(async {
        let hub = Net::Tcp.node("a", None, |_| {}).await;
        let app = client!(hub, options());
        for n in 0..4 {
            start(&hub, &format!("c{n}")).await;
        }
        let stream = get("/events?replay=1&child=c2&level=debug").to_request();
        let stream = test::call_service(&app, stream).await;
        hub.stop_child("c1").await.expect("it is there");
        hub.stop_child("c2").await.expect("it is there");
        let seen = frames(stream, 2).await;
        let texts: Vec<_> = seen.iter().map(|(_, event)| event["text"].clone()).collect();
        assert_eq!(texts, ["c2 was started on a", "c2 was stopped on a"]);
        for wrong in ["level=loud", "type=node_dwn", "since=now", "colour=red"] {
            let (status, problem) = call(&app, get(&format!("/events?{wrong}"))).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}: {problem}");
        }
        hub.stop().await;
    });
}

#[test]
fn events_of_all_nodes_are_filtered_where_they_are_kept_and_read_in_pages() {
    run(async {
        let hubs = Net::Tcp.cluster(3).await;
        // Nothing is recorded where the endpoint is not mounted.
        let app = client!(hubs[0], options());
        let _other = client!(hubs[1], options());
        for n in 0..12 {
            start(&hubs[0], &format!("c{n}")).await;
        }
        start(&hubs[0], "mover").await;
        for to in [0, 1, 0] {
            hubs[2].migrate("mover", hubs[to].node_id()).await.expect("it moves");
        }
        let list = |query: &str| {
            let query = query.to_owned();
            let app = &app;
            async move {
                let (status, page) = call(app, get(&format!("/events/latest?{query}"))).await;
                assert_eq!(status, StatusCode::OK, "{query}: {page}");
                page
            }
        };
        eventually("both ends of the last move have told", async || {
            let page = list("text=MOVER&child=mover").await;
            let items = page["items"].as_array().expect("a list").clone();
            let seen = |node: &str, kind: &str| {
                items.iter().any(|event| event["node"]["name"] == node && event["type"] == kind)
            };
            let unreachable = page["unreachable"].as_array().expect("a list");
            items.iter().all(|event| event["child"] == "mover")
                && seen("n0", "handed_over")
                && seen("n1", "taken_over")
                && unreachable.len() == 1
                && unreachable[0]["name"] == "n2"
        })
        .await;
        let of_one = list("node=n1").await;
        assert!(
            of_one["items"]
                .as_array()
                .expect("a list")
                .iter()
                .all(|event| { event["node"]["name"] == "n1" })
        );
        assert_eq!(of_one["unreachable"], json!([]));
        // Pages end, and together they are the whole.
        let whole = list("until=2999-01-01T00:00:00Z").await;
        let whole = whole["items"].as_array().expect("a list").clone();
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = list(&format!("until=2999-01-01T00:00:00Z&limit=3&cursor={cursor}")).await;
            paged.extend(page["items"].as_array().expect("a list").clone());
            assert!(page["total"].as_u64() >= Some(paged.len() as u64), "{page}");
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
            assert!(paged.len() <= whole.len() + 50, "the pages do not end");
        }
        // Later ones may have come meanwhile.
        assert!(whole.iter().all(|event| paged.contains(event)) && whole.len() > 6);
        assert_eq!(list("since=2999-01-01T00:00:00Z").await["total"], 0);
        for wrong in [
            "level=loud",
            "type=node_dwn",
            "since=now",
            "limit=0",
            "limit=101",
            "cursor=x",
            "colour=red",
        ] {
            let (status, problem) = call(&app, get(&format!("/events/latest?{wrong}"))).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}: {problem}");
        }
        assert_eq!(call(&app, get("/events/latest?node=nobody")).await.0, StatusCode::NOT_FOUND);
        stop(hubs).await;
    });
}

#[test]
fn metrics_count_what_happened() {
    run(async {
        let hubs = Net::Tcp.cluster(2).await;
        let app = client!(hubs[0], options());
        let child = start(&hubs[0], "c").await;
        child.send(Add { sender: 1, number: 1 }).await.expect("it answers");
        child.do_send(Add { sender: 1, number: 2 }).expect("it is taken");
        let nobody: ChildRef<Counter> = hubs[0].child("nobody");
        nobody.send(Read { sender: 1 }).await.expect_err("there is none");
        child.send(Boom {}).await.expect_err("it panics");
        child.send(Read { sender: 1 }).await.expect("it answers again");
        for to in [1, 0] {
            hubs[0].migrate("c", hubs[to].node_id()).await.expect("it moves");
        }
        let text = async || {
            let response = test::call_service(&app, get("/metrics").to_request()).await;
            let kind = response.headers().get(header::CONTENT_TYPE).expect("a type").clone();
            assert!(kind.to_str().expect("text").starts_with("application/openmetrics-text"));
            let body = to_bytes(response.into_body()).await.unwrap_or_default();
            String::from_utf8(body.to_vec()).expect("text")
        };
        let peer = hubs[1].node_id();
        let link = format!("actix_hub_link_up{{peer=\"n1\",peer_id=\"{peer}\"}} 1");
        let lines = [
            "actix_hub_sends_total{outcome=\"ok\"} 2",
            "actix_hub_sends_total{outcome=\"not_handled\"} 1",
            "actix_hub_sends_total{outcome=\"maybe_handled\"} 1",
            "actix_hub_tells_total{outcome=\"taken\"} 1",
            "actix_hub_refused_messages_total{reason=\"no_such_child\"} 1",
            "actix_hub_members{state=\"alive\"} 2",
            "actix_hub_handovers_total{direction=\"in\",outcome=\"done\"} 1",
            "actix_hub_settled 1",
            link.as_str(),
            "actix_hub_children{kind=\"counter\",role=\"active\"} 1",
            "libp2p_swarm",
            "libp2p_bandwidth_bytes",
        ];
        let missing = async || {
            let text = text().await;
            lines.iter().find(|line| !text.contains(**line)).map(|line| format!("{line} in {text}"))
        };
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while let Some(missing) = missing().await {
            assert!(std::time::Instant::now() < end, "{missing}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let text = text().await;
        assert!(text.ends_with("# EOF\n"), "the format ends so");
        assert!(text.contains("actix_hub_info{hub=\"test\",node=\"n0\",version="), "{text}");
        stop(hubs).await;
    });
}
