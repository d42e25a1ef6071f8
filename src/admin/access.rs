//! Who is served, and what they may do.

use std::{
    fmt,
    net::IpAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{RequestHead, ServiceRequest, ServiceResponse},
    http::{
        Method, Version,
        header::{self, HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};
use serde::Serialize;
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use super::{Desk, problem::Problem};
use crate::{hub::Hub, model::event::HubEvent};

/// The header that each action must carry. A page of another origin cannot send it: the browser
/// would ask first, and is never answered.
pub(crate) const ACTION_HEADER: &str = "x-actix-hub";

/// What a client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AdminRight {
    /// See everything but the states of children, unless these are shown.
    Read,
    /// That, and start, stop, migrate and leave, on every node of the cluster: nodes carry out what
    /// another one's endpoint asks for.
    Act,
}

/// A bearer token of at least 16 bytes. Compared in constant time, and never shown.
#[derive(Clone)]
pub struct AdminToken(Arc<str>);

/// A token that is too short to be a secret, or cannot be sent in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token must have 16 to 512 visible ASCII characters")]
pub struct WeakToken;

impl AdminToken {
    /// A token of 16 to 512 visible ASCII characters.
    ///
    /// # Errors
    /// [`WeakToken`] for any other text.
    pub fn new(text: impl AsRef<str>) -> Result<Self, WeakToken> {
        let text = text.as_ref();
        let fits = (16..=512).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text.into())) } else { Err(WeakToken) }
    }

    fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

type Guard = Arc<dyn Fn(&RequestHead) -> Option<AdminRight> + Send + Sync>;

/// Who is served.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum AdminAccess {
    /// Clients on this machine, for everything. The default.
    ///
    /// The connection must come from a loopback address, name a loopback host, be of HTTP/1.1 or
    /// later, and not have passed a proxy that says so. A proxy on this machine that does not say so
    /// cannot be told from a client on it: behind a proxy always use tokens or a guard.
    #[default]
    Loopback,
    /// Whoever sends one of these tokens. Without it only health and the bare page are served.
    Tokens {
        /// Those that may only read.
        read: Vec<AdminToken>,
        /// Those that may act, too.
        act: Vec<AdminToken>,
    },
    /// Whoever the app says. Called for each request but those for health.
    Guard(Guard),
}

impl AdminAccess {
    /// One token that may do everything.
    #[must_use]
    pub fn token(token: AdminToken) -> Self {
        Self::Tokens { read: Vec::new(), act: vec![token] }
    }

    /// A function of the app that tells what a request may do; `None`: nothing.
    #[must_use]
    pub fn guard(
        guard: impl Fn(&RequestHead) -> Option<AdminRight> + Send + Sync + 'static,
    ) -> Self {
        Self::Guard(Arc::new(guard))
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Tokens { .. } => "token",
            Self::Guard(_) => "guard",
        }
    }

    fn right(&self, request: &HttpRequest) -> Result<AdminRight, Problem> {
        match self {
            Self::Loopback => is_local(request).map(|()| AdminRight::Act),
            Self::Tokens { read, act } => {
                let given = bearer(request).ok_or_else(Problem::unauthorized)?;
                // Each is compared, whichever fits.
                let fits = |tokens: &[AdminToken]| {
                    tokens.iter().fold(false, |found, token| found | token.is(given))
                };
                match (fits(act), fits(read)) {
                    (true, _) => Ok(AdminRight::Act),
                    (false, true) => Ok(AdminRight::Read),
                    (false, false) => Err(Problem::unauthorized()),
                }
            }
            Self::Guard(guard) => {
                guard(request.head()).ok_or_else(|| Problem::forbidden("the app does not allow it"))
            }
        }
    }
}

impl fmt::Debug for AdminAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether a request comes from this machine, and not by way of a proxy or of a page that made the
/// browser believe that its own name is this machine's.
fn is_local(request: &HttpRequest) -> Result<(), Problem> {
    let refuse = |what: &str| {
        Err(Problem::forbidden(format!(
            "{what}, and neither a token nor a guard is set: only clients on loopback are served"
        )))
    };
    if !request.peer_addr().is_some_and(|peer| is_loopback(peer.ip())) {
        return refuse("the client is on another machine");
    }
    if request.version() < Version::HTTP_11 {
        // What a proxy speaks that nobody has told to say for whom it asks.
        return refuse("the request came over HTTP/1.0");
    }
    let headers = request.headers();
    let forwarded =
        ["forwarded", "x-real-ip", "via", "cf-connecting-ip", "true-client-ip", "x-client-ip"];
    let is_mark = |name: &str| forwarded.contains(&name) || name.starts_with("x-forwarded");
    if headers.keys().any(|name| is_mark(name.as_str())) {
        return refuse("the request came by way of a proxy");
    }
    // HTTP/2 has it in the target.
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = match (headers.get(header::HOST).and_then(|host| host.to_str().ok()), authority) {
        (Some(host), Some(authority)) if host != authority => {
            return refuse("the request names two hosts");
        }
        (host, authority) => host.or(authority).unwrap_or_default(),
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let fetch = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // Who follows a link to the dashboard goes there; the page with the link cannot look in.
    let is_followed = fetch("sec-fetch-mode") == Some("navigate")
        && fetch("sec-fetch-dest") == Some("document")
        && request.method() == Method::GET;
    if matches!(fetch("sec-fetch-site"), Some("cross-site" | "same-site")) && !is_followed {
        return refuse("a page of another origin asks");
    }
    let local = name.eq_ignore_ascii_case("localhost")
        || name.parse().is_ok_and(is_loopback)
        || name.to_ascii_lowercase().ends_with(".localhost");
    if local { Ok(()) } else { refuse("the request is for another host") }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Lets a request through to what only those with a right may see. On each resource itself, so that
/// no way of mounting the scope and no spelling of a path leads past it.
pub(crate) async fn guarded(
    desk: web::Data<Desk>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let right = desk.options.access.right(request.request());
    match right.and_then(|right| admit(&desk, request.request(), right)) {
        Ok(()) => {
            desk.learn_names().await;
            let action = Action::of(&desk, request.request());
            let response = next.call(request).await?.map_into_boxed_body();
            if let Some(mut action) = action {
                action.status = response.status().as_u16();
            }
            Ok(response)
        }
        Err(problem) => Ok(request.into_response(problem.error_response())),
    }
}

/// The same for the page, which holds nothing of the hub: whoever has a token needs it to send one.
pub(crate) async fn page(
    desk: web::Data<Desk>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let bare = matches!(desk.options.access, AdminAccess::Tokens { .. });
    let right = desk.options.access.right(request.request());
    match right {
        Err(problem) if !bare => Ok(request.into_response(problem.error_response())),
        _ => Ok(next.call(request).await?.map_into_boxed_body()),
    }
}

/// Nothing is at that path; said only to those who may know.
pub(crate) async fn nothing(desk: web::Data<Desk>, request: HttpRequest) -> Problem {
    match desk.options.access.right(&request) {
        Ok(_) => Problem::not_found(format!("there is nothing at {}", request.path())),
        Err(problem) => problem,
    }
}

/// Sets what each response carries.
pub(crate) async fn hardened(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let mut response = next.call(request).await?.map_into_boxed_body();
    let headers = response.headers_mut();
    for (name, value) in SECURITY {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    Ok(response)
}

const SECURITY: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

fn acts(request: &HttpRequest) -> bool {
    !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
}

fn is_dry_run(request: &HttpRequest) -> bool {
    request.query_string().split('&').any(|pair| pair == "dry_run=true")
}

/// The status that is told of a request whose client did not wait for the answer. The action may go on.
const CLIENT_GONE: u16 = 499;

/// A request that acts. It is told when it is over, also if its client goes before.
struct Action {
    hub: Hub,
    action: String,
    address: Option<String>,
    access: &'static str,
    status: u16,
}

impl Action {
    fn of(desk: &Desk, request: &HttpRequest) -> Option<Self> {
        if !acts(request) || is_dry_run(request) {
            return None;
        }
        Some(Self {
            hub: desk.hub.clone(),
            action: format!("{} {}", request.method(), request.path()),
            address: request.peer_addr().map(|peer| peer.ip().to_canonical().to_string()),
            access: desk.options.access.name(),
            status: CLIENT_GONE,
        })
    }
}

impl Drop for Action {
    fn drop(&mut self) {
        self.hub.shared().emit(HubEvent::AdminAction {
            action: std::mem::take(&mut self.action),
            address: self.address.take(),
            access: self.access.to_owned(),
            status: self.status,
        });
    }
}

fn admit(desk: &Desk, request: &HttpRequest, right: AdminRight) -> Result<(), Problem> {
    if acts(request) {
        if right < AdminRight::Act {
            return Err(Problem::forbidden("this token may read, not act"));
        }
        if !request.headers().contains_key(ACTION_HEADER) {
            return Err(Problem::forbidden("an action needs the header X-Actix-Hub: 1"));
        }
        // What only asks takes nothing from who acts.
        if !is_dry_run(request) {
            desk.limiter.take(Instant::now()).map_err(Problem::too_many)?;
        }
    }
    request.extensions_mut().insert(right);
    Ok(())
}

/// What the client of a request may do.
#[derive(Serialize, ToSchema)]
pub(crate) struct Session {
    /// Whether it may read.
    read: bool,
    /// Whether it may act.
    act: bool,
    /// Whether the states of children are shown.
    states: bool,
    /// How clients are told apart.
    #[schema(value_type = String, example = "token")]
    authentication: &'static str,
}

/// What this client may do.
#[utoipa::path(
    get, path = "/session", operation_id = "get_session", tag = "access",
    responses(
        (status = 200, body = Session),
        (status = 401, body = Problem, content_type = "application/problem+json"),
        (status = 403, body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn session(desk: web::Data<Desk>, request: HttpRequest) -> HttpResponse {
    let right = request.extensions().get::<AdminRight>().copied();
    HttpResponse::Ok().json(Session {
        read: right.is_some(),
        act: right == Some(AdminRight::Act),
        states: desk.options.states,
        authentication: desk.options.access.name(),
    })
}

/// So many actions in a minute, of which a quarter at once. Shared by all workers of a server.
pub(crate) struct Limiter {
    per_minute: f64,
    state: Mutex<(f64, Instant)>,
}

impl Limiter {
    pub(crate) fn new(per_minute: NonZeroU32, now: Instant) -> Self {
        let per_minute = f64::from(per_minute.get());
        Self { per_minute, state: Mutex::new(((per_minute / 4.0).max(1.0), now)) }
    }

    /// Takes one action, or tells after how many seconds there is one.
    fn take(&self, now: Instant) -> Result<(), u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(state.1);
        let most = (self.per_minute / 4.0).max(1.0);
        let there = (state.0 + passed.as_secs_f64() * self.per_minute / 60.0).min(most);
        if there >= 1.0 {
            *state = (there - 1.0, now);
            return Ok(());
        }
        *state = (there, now);
        let wait = Duration::from_secs_f64((1.0 - there) * 60.0 / self.per_minute);
        Err(wait.as_secs() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_limited_and_come_back_with_time() {
        let now = Instant::now();
        let limiter = Limiter::new(NonZeroU32::new(12).expect("not zero"), now);
        let taken = (0..10).take_while(|_| limiter.take(now).is_ok()).count();
        assert_eq!(taken, 3, "a quarter at once");
        assert_eq!(limiter.take(now), Err(6));
        assert_eq!(limiter.take(now + Duration::from_secs(5)), Ok(()));
    }

    #[test]
    fn a_token_is_long_enough_to_be_a_secret_and_is_never_shown() {
        assert_eq!(AdminToken::new("short").err(), Some(WeakToken));
        assert_eq!(AdminToken::new("sixteen letters and spaces").err(), Some(WeakToken));
        let token = AdminToken::new("0123456789abcdef").expect("long enough");
        assert!(token.is("0123456789abcdef") && !token.is("0123456789abcdeg") && !token.is(""));
        let access = AdminAccess::token(token.clone());
        assert!(!format!("{token:?} {access:?}").contains("0123"));
    }
}
