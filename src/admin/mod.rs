//! The admin endpoint: an actix-web scope with a JSON API, health, metrics, an event stream and a
//! dashboard.
//!
//! ```no_run
//! use actix_hub::{admin::{self, AdminOptions}, prelude::*};
//! use actix_web::{App, HttpServer};
//!
//! #[actix_web::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let hub = HubSystem::builder("my_hub").start().await?;
//!     HttpServer::new(move || App::new().service(admin::scope(hub.clone(), AdminOptions::default())))
//!         .bind(("127.0.0.1", 8080))?
//!         .run() // the dashboard is at http://127.0.0.1:8080/hub/
//!         .await?;
//!     Ok(())
//! }
//! ```
//!
//! Every node may serve it, and answers for the whole cluster as that node sees it. What a node
//! does not know it calls `null`, never 0.
//!
//! Unless a token or a guard is set ([`AdminAccess`]) only clients on loopback are served; health is
//! served to everybody. Actions need the right to act and the header `X-Actix-Hub`, which no page of
//! another origin can send.

mod access;
mod actions;
mod children;
mod departed;
mod diagnostic;
mod events;
mod handovers;
mod health;
mod journal;
mod lists;
mod metrics;
mod node_actions;
mod nodes;
mod openapi;
mod page;
mod parked;
mod problem;
mod rings;
mod settings;
mod state;
mod why;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, dev::HttpServiceFactory, http::header, middleware::from_fn, web,
};

pub use self::access::{AdminAccess, AdminRight, AdminToken, WeakToken};
use self::{
    access::Limiter,
    journal::Journal,
    problem::{Problem, method_not_allowed},
};
use crate::{
    hub::{
        Hub,
        observe::{Look, Observe, Unanswered},
        system::Running,
    },
    model::{
        id::{NodeId, NodeRun},
        member::Member,
        observe::{Answer, Question},
    },
};

/// How long another node may take to answer a question about itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long this node's own hub may take to say what it knows.
const LOOK: Duration = Duration::from_secs(5);
/// The largest body of a request, in bytes.
const BODY_LIMIT: usize = 1 << 20;

/// How the admin endpoint is mounted, and for whom.
///
/// ```
/// use actix_hub::admin::{AdminAccess, AdminOptions, AdminToken};
///
/// # fn main() -> Result<(), actix_hub::admin::WeakToken> {
/// let options = AdminOptions {
///     path: "/ops/hub".to_owned(),
///     access: AdminAccess::token(AdminToken::new("a-long-secret-from-a-vault")?),
///     ..AdminOptions::default()
/// };
/// # let _ = options;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AdminOptions {
    /// The path of the scope. Default `/hub`.
    pub path: String,
    /// Who is served. Default [`AdminAccess::Loopback`].
    pub access: AdminAccess,
    /// Whether the states of children are shown. Off by default: they may hold secrets of users.
    pub states: bool,
    /// Actions that are taken in a minute at this path, of all clients together, a quarter of them
    /// at once; more are answered with 429 and when to come again. Default 120.
    pub actions_per_minute: NonZeroU32,
}

impl Default for AdminOptions {
    fn default() -> Self {
        Self {
            path: "/hub".to_owned(),
            access: AdminAccess::default(),
            states: false,
            actions_per_minute: NonZeroU32::new(120).expect("it is not zero"),
        }
    }
}

impl AdminOptions {
    /// Mounts the scope there instead of `/hub`.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Who is served.
    #[must_use]
    pub fn access(mut self, access: AdminAccess) -> Self {
        self.access = access;
        self
    }

    /// Whether the states of children are shown.
    #[must_use]
    pub fn states(mut self, shown: bool) -> Self {
        self.states = shown;
        self
    }

    /// Actions that are taken in a minute.
    #[must_use]
    pub fn actions_per_minute(mut self, actions: NonZeroU32) -> Self {
        self.actions_per_minute = actions;
        self
    }
}

/// What the handlers share.
pub(crate) struct Desk {
    hub: Hub,
    journal: Arc<Journal>,
    options: AdminOptions,
    limiter: Arc<Limiter>,
}

impl Desk {
    /// Reads from the hub's engine.
    async fn look<R: Send + 'static>(
        &self,
        look: impl FnOnce(&Running) -> R + Send + 'static,
    ) -> Result<R, Problem> {
        let looked = self.hub.system().send(Look(Box::new(look)));
        match tokio::time::timeout(LOOK, looked).await {
            Ok(looked) => looked.ok().flatten().ok_or_else(Problem::stopped),
            Err(_) => Err(Problem::busy(LOOK)),
        }
    }

    /// Learns the names of the nodes, for words about them.
    async fn learn_names(&self) {
        let names = self.look(|running| {
            let nodes = running.engine.nodes().into_iter();
            nodes.map(|seen| (seen.member.id, seen.member.name)).collect::<Vec<_>>()
        });
        // A hub that has stopped is told by the handler.
        if let Ok(names) = names.await {
            self.journal.learn(names);
        }
    }

    /// The nodes that are in.
    async fn members(&self) -> Result<Vec<NodeRun>, Problem> {
        self.look(|running| running.engine.view().members.values().map(Member::run).collect()).await
    }

    /// Asks a node.
    async fn ask(&self, node: NodeId, question: Question) -> Result<Answer, Unanswered> {
        self.ask_within(node, question, PATIENCE).await
    }

    /// Asks a node for something that takes longer.
    async fn ask_within(
        &self,
        node: NodeId,
        question: Question,
        patience: Duration,
    ) -> Result<Answer, Unanswered> {
        let asked = self.hub.system().send(Observe { node, question });
        match tokio::time::timeout(patience, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Unanswered::NotAsked),
            Err(_) => Err(Unanswered::Silent),
        }
    }
}

/// A resource that is read with GET, and asked about with HEAD.
macro_rules! read {
    ($resource:expr, $handler:path) => {
        $resource.get($handler).route(web::head().to($handler))
    };
}

/// The admin endpoint of a hub, to be given to `App::service`.
///
/// Cheap enough to be called by each worker of an `HttpServer`: what it records is kept once for
/// each hub, from the first call on.
///
/// # Panics
/// When the path is not empty and does not begin with a slash, as `web::scope` does.
pub fn scope(hub: Hub, options: AdminOptions) -> impl HttpServiceFactory + 'static {
    let journal = Journal::of(&hub);
    let path = options.path.trim_end_matches('/').to_owned();
    let limiter = journal.limiter(&path, options.actions_per_minute);
    let desk = web::Data::new(Desk { hub, journal, options, limiter });
    let wrong_json = |error: actix_web::error::JsonPayloadError, _: &HttpRequest| {
        Problem::of_json(&error).into()
    };
    let wrong_query = |error: actix_web::error::QueryPayloadError, _: &HttpRequest| {
        Problem::bad_request(error.to_string()).into()
    };
    let wrong_path = |error: actix_web::error::PathError, _: &HttpRequest| {
        Problem::not_found(error.to_string()).into()
    };
    let open =
        |path: &str| web::resource(path.to_owned()).default_service(web::to(method_not_allowed));
    let page = |path: &str| open(path).wrap(from_fn(access::page));
    let resource = |path: &str| open(path).wrap(from_fn(access::guarded));
    web::scope(&path)
        .app_data(desk.clone())
        .app_data(web::JsonConfig::default().limit(BODY_LIMIT).error_handler(wrong_json))
        .app_data(web::QueryConfig::default().error_handler(wrong_query))
        .app_data(web::PathConfig::default().error_handler(wrong_path))
        .wrap(from_fn(access::hardened))
        .service(read!(open("/health/live"), health::live))
        .service(read!(open("/health/ready"), health::ready))
        .service(read!(page(""), to_the_page))
        .service(read!(page("/"), page::index))
        .service(read!(page("/dashboard.css"), page::style))
        .service(read!(page("/dashboard.js"), page::script))
        .service(read!(resource("/openapi.json"), openapi::document))
        .service(read!(resource("/session"), access::session))
        .service(read!(resource("/metrics"), metrics::metrics))
        .service(resource("/events").get(events::stream))
        .service(read!(resource("/events/latest"), events::list))
        .service(read!(resource("/settings"), settings::settings))
        .service(read!(resource("/nodes"), nodes::list))
        .service(read!(resource("/nodes/{node}"), nodes::one))
        .service(resource("/nodes/{node}/leave").post(node_actions::leave))
        .service(resource("/nodes/{node}/stay").post(node_actions::stay))
        .service(resource("/nodes/{node}/drain").post(node_actions::drain))
        .service(resource("/nodes/{node}/undrain").post(node_actions::undrain))
        .service(read!(resource("/departed"), departed::list))
        .service(read!(resource("/handovers"), handovers::list))
        .service(read!(resource("/parked"), parked::list))
        .service(resource("/parked/{key}").delete(parked::discard))
        .service(read!(resource("/parked/{key}/state"), parked::state))
        .service(resource("/parked/{key}/apply").post(parked::apply))
        .service(read!(resource("/children"), children::list).post(actions::start))
        .service(read!(resource("/children/{child}"), children::one).delete(actions::stop))
        .service(read!(resource("/children/{child}/why"), why::why))
        .service(read!(resource("/children/{child}/state"), state::state))
        .service(resource("/children/{child}/migrate").post(actions::migrate))
        .service(resource("/children/{child}/release").post(actions::release))
        .default_service(web::to(access::nothing))
}

/// The page's own files are relative to the scope with its slash.
async fn to_the_page(request: HttpRequest) -> HttpResponse {
    let last = request.path().rsplit('/').next().unwrap_or_default();
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, format!("{last}/"))).finish()
}
