//! What a node serves over HTTP: the page, a WebSocket for each open page, and a small JSON API
//! for programs (the terminal client uses it).

use std::{net::SocketAddr, time::Duration};

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
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};

use crate::{
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
/// Lines of one page that may be on their way.
const WRITES: usize = 8;

/// Somebody asks that this node leaves, and wants to know what became of it.
pub(crate) type LeaveRequest = oneshot::Sender<Result<(), String>>;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Site {
    pub gateways: Gateways,
    pub cluster: watch::Receiver<Cluster>,
    pub leave: mpsc::Sender<LeaveRequest>,
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
            .route("/api/cluster", web::get().to(cluster))
            .route("/api/leave", web::post().to(leave))
            .route("/api/rooms/{room}/lines", web::get().to(read))
            .route("/api/rooms/{room}/lines", web::post().to(write))
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
}

async fn talk(
    session: &mut Session,
    mut messages: AggregatedMessageStream,
    site: &Site,
    room: String,
    user: String,
) -> Result<(), String> {
    room::check_room(&room)?;
    room::check_user(&user)?;
    let gateway = site.gateways.open(&room)?;
    let (number, mut words) =
        gateway.send(Join { user: user.clone() }).await.map_err(|_| "this node is leaving")??;
    let _part = Parting(gateway.clone(), number);
    let mut writes = FuturesUnordered::new();
    let mut ping = tokio::time::interval(PING);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            word = words.recv() => {
                let Some(word) = word else { return Ok(()) };
                tell(session, &word).await?;
            }
            message = messages.next(), if writes.len() < WRITES => {
                heard = Instant::now();
                match message {
                    Some(Ok(AggregatedMessage::Text(text))) => match serde_json::from_str(&text) {
                        Ok(Heard::Say { id, text }) => {
                            let write = gateway.send(Write { id: id.clone(), user: user.clone(), text });
                            writes.push(async move { (id, write.await) });
                        }
                        Ok(Heard::Leave) => {
                            if let Err(message) = ask_to_leave(site).await {
                                tell(session, &Tell::Error { id: None, message }.json()).await?;
                            }
                        }
                        Err(error) => return Err(format!("not understood: {error}")),
                    },
                    Some(Ok(AggregatedMessage::Ping(bytes))) => {
                        let _ = session.pong(&bytes).await;
                    }
                    Some(Ok(AggregatedMessage::Pong(_) | AggregatedMessage::Binary(_))) => {}
                    Some(Ok(AggregatedMessage::Close(_)) | Err(_)) | None => return Ok(()),
                }
            }
            Some((id, outcome)) = writes.next() => {
                // A line that was taken is confirmed by its coming with the others; one that is late
                // is sent again by the page.
                if let Ok(Err(NotSaid::Refused(message))) = outcome {
                    tell(session, &Tell::Error { id: Some(&id), message }.json()).await?;
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

async fn cluster(site: web::Data<Site>) -> HttpResponse {
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
    #[serde(default)]
    life: u64,
    #[serde(default)]
    after: u64,
}

async fn read(
    room: web::Path<String>,
    from: web::Query<After>,
    site: web::Data<Site>,
) -> HttpResponse {
    let gateway = match room::check_room(&room).and_then(|()| site.gateways.open(&room)) {
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

async fn write(
    request: HttpRequest,
    room: web::Path<String>,
    post: web::Json<Post>,
    site: web::Data<Site>,
) -> HttpResponse {
    if is_foreign(&request, &site) {
        return refuse(StatusCode::FORBIDDEN, "this page belongs to another site");
    }
    let gateway = match room::check_room(&room).and_then(|()| site.gateways.open(&room)) {
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
