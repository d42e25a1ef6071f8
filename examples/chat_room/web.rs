//! What a node serves over HTTP: the page, a WebSocket for each open page, and a small JSON API
//! for programs (the terminal client uses it).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix::prelude::*;
use actix_hub::{
    Hub,
    admin::{self, AdminOptions},
};
use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    dev::Server,
    error::InternalError,
    http::{StatusCode, header},
    rt, web,
};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, Session};
use futures_util::{StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};

use crate::{
    cluster,
    gateway::{Gateway, Gateways, Join, NotSaid, Part, Read, Tell, Write},
    node::Cluster,
    room,
};

/// The longest message a page or program may send, in bytes: a line of 2,000 characters, whatever
/// they are and however they are escaped.
const BODY: usize = 32 << 10;
/// How often a page is asked whether it is there and told that this node is, and how long its
/// silence is believed.
const PING: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(15);
/// Lines and wishes of one page that may be on their way.
const WISHES: usize = 8;

/// How long the launcher may take to answer.
const LAUNCHER: Duration = Duration::from_secs(5);

/// Somebody asks that this node leaves, and wants to know what became of it.
pub(crate) type LeaveRequest = oneshot::Sender<Result<(), String>>;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Site {
    pub gateways: Gateways,
    pub cluster: watch::Receiver<Cluster>,
    pub leave: mpsc::Sender<LeaveRequest>,
    /// Where the launcher starts nodes.
    pub launcher: Option<String>,
}

/// Serves on this address until it is stopped. Must be called inside the Actix system.
pub(crate) fn serve(site: Site, hub: Hub, address: SocketAddr) -> std::io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(site.clone()))
            .app_data(web::JsonConfig::default().limit(BODY).error_handler(|error, _| {
                let text = error.to_string();
                InternalError::from_response(error, refuse(StatusCode::BAD_REQUEST, text)).into()
            }))
            .service(admin::scope(hub.clone(), AdminOptions::default().states(true)))
            .route("/", web::get().to(|| file("text/html", include_str!("page.html"))))
            .route("/page.css", web::get().to(|| file("text/css", include_str!("page.css"))))
            .route("/page.js", web::get().to(|| file("text/javascript", include_str!("page.js"))))
            .route("/ws", web::get().to(page))
            .route("/api/cluster", web::get().to(picture))
            .route("/api/leave", web::post().to(leave))
            .route("/api/lines", web::get().to(read))
            .route("/api/lines", web::post().to(write))
    });
    Ok(server.workers(1).disable_signals().shutdown_timeout(1).bind(address)?.run())
}

async fn file(kind: &str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(format!("{kind}; charset=utf-8"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            // `ws:` and `wss:` since a page goes to another node when its own has left.
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; \
             connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ))
        .body(text)
}

/// Browsers let any site open WebSockets and post forms to this one, and say which site it was. A
/// page of this cluster comes from the same host, or from one whose node is known.
fn is_foreign(request: &HttpRequest, site: &Site) -> bool {
    let Some(origin) = request.headers().get(header::ORIGIN) else { return false };
    let origin = origin.to_str().unwrap_or_default();
    let host = |url: &str| url.split("://").nth(1).map(|rest| without_port(rest).to_owned());
    let known = |url: &str| host(url).is_some() && host(url) == host(origin);
    let own = format!("http://{}", request.connection_info().host());
    !known(&own) && !site.cluster.borrow().nodes.iter().any(|node| known(&node.url))
}

/// The host alone; the names of this machine count as one.
fn without_port(rest: &str) -> &str {
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    if ["localhost", "[::1]"].contains(&host) { "127.0.0.1" } else { host }
}

fn refuse(status: StatusCode, error: impl Into<String>) -> HttpResponse {
    HttpResponse::build(status).json(serde_json::json!({ "error": error.into() }))
}

#[derive(Deserialize)]
struct Who {
    room: String,
    user: String,
}

async fn page(
    request: HttpRequest,
    body: web::Payload,
    who: web::Query<Who>,
    site: web::Data<Site>,
) -> actix_web::Result<HttpResponse> {
    if is_foreign(&request, &site) {
        return Ok(refuse(StatusCode::FORBIDDEN, "this page belongs to another site"));
    }
    let (response, session, messages) = actix_ws::handle(&request, body)?;
    let messages =
        messages.max_frame_size(BODY).aggregate_continuations().max_continuation_size(BODY);
    rt::spawn(async move {
        let mut session = session;
        let Who { room, user } = who.into_inner();
        if let Err(message) = talk(&mut session, messages, &site, room, user).await {
            // A browser hides why a WebSocket was refused, so it is told inside.
            let _ = session.text(&*Tell::Error { id: None, message }.json()).await;
        }
        let _ = session.close(None).await;
    });
    Ok(response)
}

/// What a page says.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Heard {
    Say { id: String, text: String },
    Leave,
    Start { name: String },
}

async fn talk(
    session: &mut Session,
    mut messages: AggregatedMessageStream,
    site: &Site,
    room: String,
    user: String,
) -> Result<(), String> {
    room::check_user(&user)?;
    let gateway = gateway(site, &room)?;
    let (number, mut words) =
        gateway.send(Join { user: user.clone() }).await.map_err(|_| "this node is leaving")??;
    let _part = Parting(gateway.clone(), number);
    // Each ends with what its page is to be told, if that is anything.
    let mut wishes: FuturesUnordered<LocalBoxFuture<'_, Option<Arc<str>>>> =
        FuturesUnordered::new();
    let mut ping = tokio::time::interval(PING);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            word = words.recv() => {
                let Some(word) = word else { return Ok(()) };
                tell(session, &word).await?;
            }
            message = messages.next(), if wishes.len() < WISHES => {
                heard = Instant::now();
                match message {
                    Some(Ok(AggregatedMessage::Text(text))) => match serde_json::from_str(&text) {
                        // A line that was taken is confirmed by its coming with the others; one that
                        // is late is sent again by the page.
                        Ok(Heard::Say { id, text }) => {
                            let write = gateway.send(Write { id: id.clone(), user: user.clone(), text });
                            wishes.push(Box::pin(async move {
                                let Ok(Err(NotSaid::Refused(message))) = write.await else { return None };
                                Some(Tell::Error { id: Some(&id), message }.json())
                            }));
                        }
                        Ok(Heard::Leave) => wishes.push(Box::pin(async move {
                            let message = ask_to_leave(site).await.err()?;
                            Some(Tell::Error { id: None, message }.json())
                        })),
                        Ok(Heard::Start { name }) => wishes.push(Box::pin(async move {
                            let message = start_node(site, name).await.err()?;
                            Some(Tell::Error { id: None, message }.json())
                        })),
                        Err(error) => return Err(format!("not understood: {error}")),
                    },
                    Some(Ok(AggregatedMessage::Ping(bytes))) => {
                        let _ = session.pong(&bytes).await;
                    }
                    Some(Ok(AggregatedMessage::Pong(_) | AggregatedMessage::Binary(_))) => {}
                    Some(Ok(AggregatedMessage::Close(_)) | Err(_)) | None => return Ok(()),
                }
            }
            Some(word) = wishes.next() => {
                if let Some(word) = word {
                    tell(session, &word).await?;
                }
            }
            _ = ping.tick() => {
                if heard.elapsed() > SILENCE || session.ping(b"").await.is_err() {
                    return Ok(());
                }
                tell(session, &Tell::Alive.json()).await?;
            }
        }
    }
}

/// Tells the gateway that a page went, on whatever way out.
struct Parting(Addr<Gateway>, u64);

impl Drop for Parting {
    fn drop(&mut self) {
        self.0.do_send(Part(self.1));
    }
}

async fn tell(session: &mut Session, word: &str) -> Result<(), String> {
    match timeout(SILENCE, session.text(word)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err("the page does not read".into()),
    }
}

async fn ask_to_leave(site: &Site) -> Result<(), String> {
    let (answer, outcome) = oneshot::channel();
    site.leave.send(answer).await.map_err(|_| "this node is leaving already")?;
    outcome.await.map_err(|_| "this node is leaving already")?
}

/// Has the launcher start a node again.
async fn start_node(site: &Site, name: String) -> Result<(), String> {
    let known = cluster::NAMES.contains(&name.as_str());
    let launcher = site.launcher.clone().filter(|_| known);
    let launcher = launcher.ok_or("no launcher starts this node; start it by hand")?;
    let start = web::block(move || {
        let mut answer = ureq::post(format!("{launcher}/start/{name}"))
            .config()
            .http_status_as_error(false)
            .timeout_global(Some(LAUNCHER))
            .build()
            .send_empty()?;
        Ok::<_, ureq::Error>((answer.status().is_success(), answer.body_mut().read_to_string()?))
    });
    match start.await {
        Ok(Ok((true, _))) => Ok(()),
        Ok(Ok((false, problem))) => Err(problem),
        Ok(Err(error)) => Err(format!("the launcher does not answer: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

async fn picture(site: web::Data<Site>) -> HttpResponse {
    let cluster = site.cluster.borrow().clone();
    HttpResponse::Ok().json(cluster)
}

async fn leave(request: HttpRequest, site: web::Data<Site>) -> HttpResponse {
    if is_foreign(&request, &site) {
        return refuse(StatusCode::FORBIDDEN, "this page belongs to another site");
    }
    match ask_to_leave(&site).await {
        Ok(()) => HttpResponse::Ok().json(serde_json::json!({ "left": true })),
        Err(problem) => refuse(StatusCode::CONFLICT, problem),
    }
}

#[derive(Deserialize)]
struct After {
    room: String,
    #[serde(default)]
    life: u64,
    #[serde(default)]
    after: u64,
}

fn gateway(site: &Site, room: &str) -> Result<Addr<Gateway>, String> {
    room::check_room(room)?;
    site.gateways.open(room)
}

async fn read(from: web::Query<After>, site: web::Data<Site>) -> HttpResponse {
    let gateway = match gateway(&site, &from.room) {
        Ok(gateway) => gateway,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, problem),
    };
    match gateway.send(Read { life: from.life, after: from.after }).await {
        Ok(lines) => HttpResponse::Ok().json(lines),
        Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "this node is leaving"),
    }
}

/// The body of a post.
#[derive(Serialize, Deserialize)]
pub(crate) struct Post {
    pub id: String,
    pub user: String,
    pub text: String,
}

#[derive(Deserialize)]
struct To {
    room: String,
}

async fn write(
    request: HttpRequest,
    to: web::Query<To>,
    post: web::Json<Post>,
    site: web::Data<Site>,
) -> HttpResponse {
    if is_foreign(&request, &site) {
        return refuse(StatusCode::FORBIDDEN, "this page belongs to another site");
    }
    let gateway = match gateway(&site, &to.room) {
        Ok(gateway) => gateway,
        Err(problem) => return refuse(StatusCode::BAD_REQUEST, problem),
    };
    let Post { id, user, text } = post.into_inner();
    match gateway.send(Write { id: id.clone(), user, text }).await {
        Ok(Ok(())) => HttpResponse::Ok().json(serde_json::json!({ "said": id })),
        Ok(Err(NotSaid::Refused(problem))) => refuse(StatusCode::BAD_REQUEST, problem),
        Ok(Err(NotSaid::Late(problem))) => refuse(StatusCode::SERVICE_UNAVAILABLE, problem),
        Err(_) => refuse(StatusCode::SERVICE_UNAVAILABLE, "this node is leaving"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_no_part_of_a_host() {
        assert_eq!(without_port("127.0.0.1:8080"), "127.0.0.1");
        assert_eq!(without_port("localhost:8080"), "127.0.0.1");
        assert_eq!(without_port("[fe80::2]:8080/x"), "[fe80::2]");
        assert_eq!(without_port("chat.example"), "chat.example");
    }
}
