//! Why no connection came about, found in the nested errors of libp2p's transports.

use std::io;

use libp2p::{
    Multiaddr,
    core::transport::TransportError,
    noise,
    pnet::PnetError,
    swarm::{DialError, ListenError},
};

use super::same_key::SameKey;
use crate::net::carrier::DialFailure;

/// What a failed dial means: of several addresses, what says most about who is there.
pub(super) fn failure(error: DialError) -> DialFailure {
    let errors = match error {
        DialError::LocalPeerId { .. } => return DialFailure::Itself,
        DialError::Transport(errors) => errors,
        error => return DialFailure::Unreachable(error.to_string()),
    };
    let failure_of = |(address, error): (Multiaddr, TransportError<io::Error>)| match error {
        TransportError::Other(error) => match error.downcast::<Unsecured>() {
            Ok(Unsecured(failure)) => failure,
            Err(error) => DialFailure::Unreachable(error.to_string()),
        },
        TransportError::MultiaddrNotSupported(_) => {
            DialFailure::Unreachable(format!("{address} is not supported"))
        }
    };
    let rank = |failure: &DialFailure| match failure {
        DialFailure::Twin { .. } => 4,
        DialFailure::Insecure(_) => 3,
        DialFailure::Silent => 2,
        DialFailure::Unreachable(_) | DialFailure::Itself | DialFailure::NotAdmitted(_) => 1,
        // Only if all of them do.
        DialFailure::Refused => 0,
    };
    let none = || DialFailure::Unreachable("no address".to_owned());
    errors.into_iter().map(failure_of).max_by_key(rank).unwrap_or_else(none)
}

/// Why a connection that came in was not accepted; `None` if that says nothing of who dialled.
pub(super) fn rejection(error: &ListenError) -> Option<DialFailure> {
    let ListenError::Transport(TransportError::Other(error)) = error else {
        return None;
    };
    let Unsecured(failure) = error.get_ref()?.downcast_ref()?;
    Some(failure.clone())
}

/// The exchange before the pre-shared key is in use failed. Shows its cause, which the error of
/// libp2p does not.
#[derive(Debug)]
pub(super) struct Unshielded(io::Error);

impl From<PnetError> for Unshielded {
    fn from(error: PnetError) -> Self {
        match error {
            PnetError::HandshakeError(error) | PnetError::IoError(error) => Self(error),
        }
    }
}

impl std::fmt::Display for Unshielded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Unshielded {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Why no secure connection came about; carried through the swarm's boxed errors.
#[derive(Debug)]
pub(super) struct Unsecured(pub(super) DialFailure);

impl std::fmt::Display for Unsecured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Unsecured {}

/// What an error of the layers above TCP comes from.
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> DialFailure {
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref() {
            Some(SameKey::Itself) => return DialFailure::Itself,
            Some(SameKey::Twin { is_second }) => {
                return DialFailure::Twin { is_second: *is_second };
            }
            None => {}
        }
        if let Some(NotReached(error)) = error.downcast_ref() {
            return match error.kind() {
                io::ErrorKind::ConnectionRefused => DialFailure::Refused,
                _ => DialFailure::Unreachable(error.to_string()),
            };
        }
        let io = match error.downcast_ref() {
            // It stands for what it holds, and does not name it as its source.
            Some(noise::Error::Io(error)) => Some(error),
            _ => error.downcast_ref::<io::Error>(),
        };
        // A node that stops cuts those off that its host has accepted.
        if io.is_some_and(|error| CUT_OFF.contains(&error.kind())) {
            return DialFailure::Silent;
        }
        next = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    DialFailure::Insecure(error.to_string())
}

/// The connection ended before anything was agreed.
const CUT_OFF: [io::ErrorKind; 5] = [
    io::ErrorKind::UnexpectedEof,
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::BrokenPipe,
    io::ErrorKind::NotConnected,
];

/// No TCP connection came about.
#[derive(Debug)]
pub(super) struct Unreached(NotReached);

/// Marks errors that say nothing about secrets. It is the source of [`Unreached`], since the
/// swarm's combined error types show the sources of what they hold and not the errors themselves.
#[derive(Debug)]
struct NotReached(io::Error);

impl Unreached {
    pub(super) fn new(error: io::Error) -> Self {
        Self(NotReached(error))
    }
}

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.0.fmt(f)
    }
}

impl std::error::Error for Unreached {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

impl std::fmt::Display for NotReached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for NotReached {}

/// The same kind and text, owned.
pub(super) fn io_of(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return io::Error::new(error.kind(), error.to_string());
        }
        next = error.source();
    }
    io::Error::other(error.to_string())
}
