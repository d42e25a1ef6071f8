//! The description of the API, made from the handlers themselves.

use actix_web::{HttpRequest, HttpResponse};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document, Server,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    access, actions, children, events, handovers, health, metrics, nodes, settings, state, why,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "actix-hub admin",
        description = "See and steer a cluster of actors. Every node answers for the whole cluster \
                       as it sees it; what it does not know is null, never 0.",
    ),
    paths(
        access::session,
        actions::start,
        actions::stop,
        actions::migrate,
        children::list,
        children::one,
        events::stream,
        handovers::list,
        health::live,
        health::ready,
        metrics::metrics,
        nodes::list,
        nodes::one,
        nodes::leave,
        settings::settings,
        state::state,
        why::why,
    ),
    modifiers(&Security),
    security((), ("token" = [])),
)]
struct Api;

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut Document) {
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(token));
    }
}

/// The document, with the path at which the scope is mounted as its server.
pub(crate) async fn document(request: HttpRequest) -> HttpResponse {
    let mut document = Api::openapi();
    let path = request.path().trim_end_matches("/openapi.json");
    document.servers = Some(vec![Server::new(if path.is_empty() { "/" } else { path })]);
    HttpResponse::Ok().json(document)
}
