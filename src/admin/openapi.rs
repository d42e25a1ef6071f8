//! The description of the API, made from the handlers themselves.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document, RefOr, Server,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    access, actions, children, departed, events, handovers, health, metrics, node_actions, nodes,
    parked, settings, state, why,
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
        actions::release,
        children::list,
        children::one,
        departed::list,
        events::stream,
        events::list,
        handovers::list,
        health::live,
        health::ready,
        metrics::metrics,
        nodes::list,
        nodes::one,
        node_actions::leave,
        node_actions::stay,
        node_actions::drain,
        node_actions::undrain,
        parked::list,
        parked::state,
        parked::apply,
        parked::discard,
        settings::settings,
        state::state,
        why::why,
    ),
    modifiers(&Security, &Words),
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

/// A description is required: where none was written the status has words.
struct Words;

impl Modify for Words {
    fn modify(&self, document: &mut Document) {
        for path in document.paths.paths.values_mut() {
            let operations = [&mut path.get, &mut path.post, &mut path.delete]
                .into_iter()
                .filter_map(Option::as_mut);
            for (status, response) in operations.flat_map(|one| one.responses.responses.iter_mut())
            {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                    && let Ok(status) = status.parse::<StatusCode>()
                {
                    response.description = status.canonical_reason().unwrap_or("None").to_owned();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_operation_has_a_name_of_its_own_and_every_response_is_described() {
        let document = serde_json::to_value(Api::openapi()).expect("plain data");
        let mut names = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for (method, operation) in operations.as_object().expect("operations") {
                let name = operation["operationId"].as_str().expect("a name").to_owned();
                assert!(names.insert(name.clone()), "{name} is there twice");
                for (status, response) in operation["responses"].as_object().expect("responses") {
                    let words = response["description"].as_str().unwrap_or_default();
                    assert!(!words.is_empty(), "{method} {path} {status}");
                }
            }
        }
        assert_eq!(names.len(), 27);
    }
}
