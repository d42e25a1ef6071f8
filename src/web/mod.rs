//! What an actix-web app needs of its hub: the hub in handlers, errors as responses, and an end.
//!
//! ```no_run
//! use actix::prelude::*;
//! use actix_hub::prelude::*;
//! use actix_web::{App, HttpServer, Responder, get, web};
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Default, Serialize, Deserialize)]
//! # struct Link { visits: u64 }
//! # impl Actor for Link { type Context = Context<Self>; }
//! # #[derive(Message, Serialize, Deserialize)]
//! # #[rtype(result = "u64")]
//! # struct Visit;
//! # impl HubMessage for Visit { const NAME: &'static str = "link.visit"; }
//! # impl Handler<Visit> for Link {
//! #     type Result = u64;
//! #     fn handle(&mut self, _: Visit, _: &mut Context<Self>) -> u64 { self.visits += 1; self.visits }
//! # }
//! # hot_swap!(Link, kind = "link", messages = [Visit]);
//!
//! #[get("/{link}")]
//! async fn follow(link: web::Path<String>, hub: Hub) -> Result<impl Responder, HubSendError> {
//!     let visits = hub.child::<Link>(&*link).send(Visit).await?; // 404, 503, 504 ..
//!     Ok(format!("visit {visits} of {link}\n"))
//! }
//!
//! #[actix_web::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let hub = HubSystem::builder("links").child::<Link>().start().await?;
//!     let app_hub = hub.clone();
//!     let server = HttpServer::new(move || App::new().app_data(app_hub.clone()).service(follow))
//!         .bind(("0.0.0.0", 8080))?;
//!     // At SIGTERM: connections drain, then the children go to the other nodes.
//!     let report = hub.serve(server).await?;
//!     println!("{report}");
//!     Ok(())
//! }
//! ```

mod response;
mod server;

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload, error::ErrorInternalServerError, web};

pub(crate) use self::response::{PROBLEM, respond};
use crate::hub::Hub;

/// The hub that the app was given: `.app_data(hub.clone())` or `.app_data(web::Data::new(hub.clone()))`.
impl FromRequest for Hub {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let shared = || request.app_data::<web::Data<Self>>().map(|hub| hub.as_ref());
        let hub = request.app_data::<Self>().or_else(shared).cloned();
        ready(hub.ok_or_else(|| {
            tracing::error!(
                "a handler wants the hub, and the app was not given one: `app_data(hub)`"
            );
            ErrorInternalServerError("the app was not given its hub")
        }))
    }
}
