//! An actix-web app and its hub: the hub in handlers, errors as responses, one end for both.

use std::time::Duration;

use actix_hub::{HubStopped, prelude::*};
use actix_web::{
    App, HttpServer, Responder,
    body::to_bytes,
    http::{StatusCode, header},
    test as client, web,
};

use crate::support::*;

async fn add(child: web::Path<String>, hub: Hub) -> Result<impl Responder, HubSendError> {
    let sent = hub.child::<Counter>(&*child).send(Add { sender: 1, number: 1 });
    Ok(sent.timeout(Duration::from_millis(300)).await?.to_string())
}

async fn slow(child: web::Path<String>, hub: Hub) -> Result<impl Responder, HubSendError> {
    let sent = hub.child::<Counter>(&*child).send(Later { ms: 2_000 });
    Ok(sent.timeout(Duration::from_millis(100)).await?.to_string())
}

async fn boom(child: web::Path<String>, hub: Hub) -> Result<&'static str, HubSendError> {
    hub.child::<Counter>(&*child).send(Boom {}).await?;
    Ok("survived")
}

async fn ensure(child: web::Path<String>, hub: Hub) -> Result<String, StartChildError> {
    hub.start_child(ChildSpec::new::<Counter>(&*child, ())?).await?;
    Ok("started".to_owned())
}

fn routes(app: &mut web::ServiceConfig) {
    app.route("/add/{child:.*}", web::get().to(add))
        .route("/slow/{child}", web::get().to(slow))
        .route("/boom/{child}", web::get().to(boom))
        .route("/start/{child:.*}", web::get().to(ensure));
}

/// Status, `Retry-After`, and the body: as JSON if it is problem details.
async fn ask(hub: &Hub, path: &str) -> (u16, Option<String>, String, serde_json::Value) {
    let app = client::init_service(App::new().app_data(hub.clone()).configure(routes)).await;
    let response =
        client::call_service(&app, client::TestRequest::get().uri(path).to_request()).await;
    let retry = response.headers().get(header::RETRY_AFTER);
    let retry = retry.map(|value| value.to_str().expect("a number").to_owned());
    let kind = response.headers().get(header::CONTENT_TYPE).cloned();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body()).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&body).into_owned();
    let is_problem = kind.is_some_and(|kind| kind == "application/problem+json");
    let problem =
        if is_problem { serde_json::from_str(&text).expect("JSON") } else { text.clone().into() };
    (status, retry, text, problem)
}

#[test]
fn what_a_hub_says_becomes_a_response() {
    run(async {
        let hub = builder("web", "a").start().await.expect("the hub starts");
        assert_eq!(ask(&hub, "/start/c").await.2, "started");
        assert_eq!(ask(&hub, "/add/c").await.2, "1");

        let (status, _, _, problem) = ask(&hub, "/start/c").await;
        assert_eq!((status, &problem["title"]), (409, &"Conflict".into()));
        let (status, retry, _, problem) = ask(&hub, "/add/nobody").await;
        assert_eq!((status, retry), (404, None));
        assert_eq!(problem["may_have_been_handled"], false);
        assert_eq!(problem["status"], 404);
        assert_eq!(ask(&hub, "/start/").await.0, 400, "an id without its shape");

        let (status, retry, _, problem) = ask(&hub, "/slow/c").await;
        assert_eq!((status, retry), (504, None));
        assert_eq!(problem["may_have_been_handled"], true);
        let (status, _, _, problem) = ask(&hub, "/boom/c").await;
        assert_eq!((status, &problem["may_have_been_handled"]), (500, &true.into()));

        hub.stop().await;
        let (status, _, _, problem) = ask(&hub, "/add/c").await;
        assert_eq!((status, &problem["may_have_been_handled"]), (503, &false.into()));
        let stopped = actix_web::ResponseError::error_response(&HubStopped);
        assert_eq!(stopped.status(), StatusCode::BAD_GATEWAY, "it may have been done");
    });
}

#[test]
fn a_full_queue_is_503_and_says_when_to_try_again() {
    run(async {
        let settings = Settings { mailbox: 1, waiting: 0, ..settings() };
        let hub = builder("web", "a").settings(settings).start().await.expect("the hub starts");
        let counter = start(&hub, "c").await;
        let (blocked, queued) = (counter.send(Block { ms: 400 }), counter.send(Boom {}));
        let (status, retry, _, problem) = ask(&hub, "/add/c").await;
        assert_eq!((status, retry.as_deref()), (503, Some("1")), "{problem}");
        assert_eq!(problem["may_have_been_handled"], false);
        drop((blocked, queued));
        hub.stop().await;
    });
}

#[test]
fn an_app_without_its_hub_says_so() {
    run(async {
        let app = client::init_service(App::new().configure(routes)).await;
        let request = client::TestRequest::get().uri("/add/c").to_request();
        let response = client::call_service(&app, request).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    });
}

async fn ready(address: std::net::SocketAddr) {
    eventually("the server answers", || async {
        actix_rt::net::TcpStream::connect(address).await.is_ok()
    })
    .await;
}

/// SIGTERM, which the process outlives as somebody waits for it.
fn terminate() {
    let pid = std::process::id().to_string();
    let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status();
    assert!(sent.expect("kill can be run").success());
}

#[test]
fn at_sigterm_requests_end_and_then_the_children_go_to_other_nodes() {
    run(async {
        let hubs = Net::Memory(MemoryNetwork::new()).cluster(2).await;
        let (a, b) = (&hubs[0], &hubs[1]);
        for n in 0..10 {
            let child = format!("c{n}");
            start(a, &child).await;
            a.migrate(&child, a.node_id()).await.expect("it is here then");
        }
        let app_hub = a.clone();
        let server =
            HttpServer::new(move || App::new().app_data(app_hub.clone()).configure(routes))
                .workers(1)
                .bind("127.0.0.1:0")
                .expect("it listens");
        let address = server.addrs()[0];
        let told = async {
            ready(address).await;
            terminate();
        };
        let (served, ()) = futures_util::future::join(a.serve(server), told).await;
        let report = served.expect("the server ends well");
        assert!(report.lost.is_empty() && !report.forced && !report.incomplete, "{report}");
        assert_eq!(report.handed_over, 10, "{report}");
        assert_eq!(members(b).await, 1, "it has left");
        assert_eq!(
            b.children(Scope::Local).await.expect("the hub runs").len(),
            10,
            "the other has all of them"
        );
        b.stop().await;
    });
}

#[test]
fn a_hub_that_ends_first_ends_the_server() {
    run(async {
        let hub = builder("web", "a").start().await.expect("the hub starts");
        let server = HttpServer::new(App::new).workers(1).bind("127.0.0.1:0").expect("it listens");
        let (served, ()) = futures_util::future::join(hub.serve(server), hub.stop()).await;
        let error = served.expect_err("it was not shut down").to_string();
        assert!(error.contains("was stopped"), "{error}");
    });
}
