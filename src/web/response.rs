//! Errors as responses: problem details (RFC 9457).
//!
//! **503 is said of what was certainly not done**, so that a proxy or client may try again, with
//! `Retry-After` where that will help. Of what may have been done, 500, 502 or 504 is said.

use std::fmt::Display;

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use serde::Serialize;

use crate::{
    error::{
        ApplyError, AskNodeError, ChildSpecError, DiscardError, DrainError, HubSendError,
        LeaveError, MaybeHandled, MigrateError, NotHandled, StartChildError, StopChildError,
        WaitError,
    },
    hub::requests::HubStopped,
    model::report::StartFailed,
};

/// The media type of problem details.
pub(crate) const PROBLEM: &str = "application/problem+json";

/// How long to wait before something is tried again that will soon be possible.
const SOON: u64 = 1;

#[derive(Serialize)]
struct Details<'a> {
    /// The status says what kind of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    may_have_been_handled: Option<bool>,
}

/// Problem details with a status.
pub(crate) fn respond(
    status: StatusCode,
    detail: &str,
    retry_after: Option<u64>,
    may_have_been_handled: Option<bool>,
) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    if let Some(seconds) = retry_after {
        response.insert_header((header::RETRY_AFTER, seconds));
    }
    let title = status.canonical_reason().unwrap_or("Error");
    let status = status.as_u16();
    let details = Details { kind: "about:blank", title, status, detail, may_have_been_handled };
    match serde_json::to_vec(&details) {
        Ok(body) => response.insert_header((header::CONTENT_TYPE, PROBLEM)).body(body),
        Err(_) => response.content_type("text/plain; charset=utf-8").body(detail.to_owned()),
    }
}

/// The status of an error, and in how many seconds to try again.
type Answer = (StatusCode, Option<u64>);

fn answer(error: &impl Display, (status, retry_after): Answer) -> HttpResponse {
    respond(status, &error.to_string(), retry_after, None)
}

impl NotHandled {
    fn answer(&self) -> Answer {
        match self {
            Self::NoSuchChild | Self::Stopped => (StatusCode::NOT_FOUND, None),
            Self::NotStarted { reason } => match start_answer(reason) {
                // The child may be started, all the same; the message was not handled.
                (StatusCode::GATEWAY_TIMEOUT, _) => (StatusCode::SERVICE_UNAVAILABLE, Some(SOON)),
                answer => answer,
            },
            Self::Busy | Self::Timeout => (StatusCode::SERVICE_UNAVAILABLE, Some(SOON)),
            Self::GivenUp | Self::HubStopped => (StatusCode::SERVICE_UNAVAILABLE, None),
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, None),
            // The app's own mistakes.
            Self::NotRegistered { .. }
            | Self::WrongKind { .. }
            | Self::Encode(_)
            | Self::NotReadBack { .. }
            | Self::Decode(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
        }
    }
}

impl MaybeHandled {
    fn answer(&self) -> Answer {
        let status = match self {
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::NodeDown | Self::HubStopped => StatusCode::BAD_GATEWAY,
            Self::NoReply | Self::ReplyLost(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, None)
    }
}

impl HubSendError {
    fn answer(&self) -> Answer {
        match self {
            Self::NotHandled { reason, .. } => reason.answer(),
            Self::MaybeHandled { reason, .. } => reason.answer(),
        }
    }
}

/// | status | of |
/// |---|---|
/// | 404 | `NoSuchChild`, `Stopped` |
/// | 413 | `TooLarge` |
/// | 503 with `Retry-After` | `Busy`, `NotHandled::Timeout` |
/// | 500, 503 | `NotStarted`, as [`StartChildError`] of the same reason; 503 for a timeout |
/// | 503 | `GivenUp`, `NotHandled::HubStopped` |
/// | 504 | `MaybeHandled::Timeout` |
/// | 502 | `NodeDown`, `MaybeHandled::HubStopped` |
/// | 500 | a handler that panicked, a lost reply, and what is the app's own mistake |
///
/// The body is problem details (RFC 9457) that say with `may_have_been_handled` whether it is safe to
/// try again.
impl ResponseError for HubSendError {
    fn status_code(&self) -> StatusCode {
        self.answer().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, retry_after) = self.answer();
        let may_have = Some(self.may_have_been_handled());
        respond(status, &self.to_string(), retry_after, may_have)
    }
}

impl ChildSpecError {
    fn answer(&self) -> Answer {
        match self {
            Self::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, None),
            Self::Id(_) => (StatusCode::BAD_REQUEST, None),
            Self::Args { .. } => (StatusCode::INTERNAL_SERVER_ERROR, None),
        }
    }
}

impl StartChildError {
    fn answer(&self) -> Answer {
        match self {
            Self::Exists { .. } => (StatusCode::CONFLICT, None),
            Self::Spec(error) => error.answer(),
            Self::HubStopped => (StatusCode::BAD_GATEWAY, None),
            Self::Failed { reason, .. } => start_answer(reason),
        }
    }
}

fn start_answer(reason: &StartFailed) -> Answer {
    match reason {
        // It may be started, all the same.
        StartFailed::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, None),
        StartFailed::Busy { .. } | StartFailed::Leaving => {
            (StatusCode::SERVICE_UNAVAILABLE, Some(SOON))
        }
        StartFailed::NoNode | StartFailed::UnknownKind { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, None)
        }
        StartFailed::Refused { .. } | StartFailed::RolledBack => {
            (StatusCode::INTERNAL_SERVER_ERROR, None)
        }
    }
}

impl StopChildError {
    fn answer(&self) -> Answer {
        match self {
            Self::NotFound { .. } => (StatusCode::NOT_FOUND, None),
            Self::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, None),
            Self::Busy { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some(SOON)),
            Self::HubStopped => (StatusCode::BAD_GATEWAY, None),
        }
    }
}

impl MigrateError {
    fn answer(&self) -> Answer {
        match self {
            Self::NotFound { .. } | Self::NoSuchNode { .. } => (StatusCode::NOT_FOUND, None),
            Self::Failed { .. } => (StatusCode::CONFLICT, None),
            Self::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, None),
            Self::HubStopped => (StatusCode::BAD_GATEWAY, None),
        }
    }
}

impl LeaveError {
    fn answer(&self) -> Answer {
        match self {
            Self::NoSuccessor { .. } | Self::Stayed => (StatusCode::CONFLICT, None),
            Self::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, None),
            Self::HubStopped => (StatusCode::BAD_GATEWAY, None),
        }
    }
}

impl DrainError {
    fn answer(&self) -> Answer {
        match self {
            Self::NoSuccessor { .. } | Self::Undrained => (StatusCode::CONFLICT, None),
            Self::Timeout { .. } => (StatusCode::GATEWAY_TIMEOUT, None),
            Self::HubStopped => (StatusCode::BAD_GATEWAY, None),
        }
    }
}

impl WaitError {
    fn answer(&self) -> Answer {
        match self {
            Self::Timeout { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some(SOON)),
            Self::HubStopped => (StatusCode::BAD_GATEWAY, None),
        }
    }
}

impl AskNodeError {
    fn answer(&self) -> Answer {
        match self {
            Self::NotMember { .. } => (StatusCode::NOT_FOUND, None),
            Self::NotAsked { .. } => (StatusCode::SERVICE_UNAVAILABLE, Some(SOON)),
            Self::NoAnswer { .. } => (StatusCode::GATEWAY_TIMEOUT, None),
            Self::NoSuccessor { .. } => (StatusCode::CONFLICT, None),
            Self::HubStopped => (StatusCode::BAD_GATEWAY, None),
        }
    }
}

impl ApplyError {
    fn answer(&self) -> Answer {
        match self {
            Self::NotHeld { .. } => (StatusCode::NOT_FOUND, None),
            Self::Failed { .. } => (StatusCode::CONFLICT, None),
            Self::NoAnswer { .. } => (StatusCode::GATEWAY_TIMEOUT, None),
            Self::HubStopped => (StatusCode::BAD_GATEWAY, None),
        }
    }
}

impl DiscardError {
    fn answer(&self) -> Answer {
        match self {
            Self::NotHeld { .. } => (StatusCode::NOT_FOUND, None),
            Self::HubStopped => (StatusCode::BAD_GATEWAY, None),
        }
    }
}

impl HubStopped {
    fn answer(self) -> Answer {
        (StatusCode::BAD_GATEWAY, None)
    }
}

macro_rules! as_responses {
    ($($error:ty),* $(,)?) => {$(
        /// Problem details (RFC 9457): 404 what there is not, 409 what is otherwise, 503 what was not
        /// done and may be tried again, 502 (the hub has ended) and 504 what may have been done.
        impl ResponseError for $error {
            fn status_code(&self) -> StatusCode {
                self.answer().0
            }

            fn error_response(&self) -> HttpResponse {
                answer(self, self.answer())
            }
        }
    )*};
}

as_responses!(
    ApplyError,
    AskNodeError,
    ChildSpecError,
    DiscardError,
    DrainError,
    HubStopped,
    LeaveError,
    MigrateError,
    StartChildError,
    StopChildError,
    WaitError,
);
