//! Tells a node that meets itself from two processes with one key.
//!
//! libp2p refuses every connection whose other end has this node's own key, and says no more. So
//! before that, where others agree on a multiplexer, the two ends exchange a number that differs
//! for each run, and how long it has been up: equal numbers mean that a node has dialled itself, and
//! of two runs both ends find the same one to be the second.

use std::io;

use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, future::BoxFuture};
use libp2p::{
    core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    yamux,
};

use crate::net::birth::{Age, Birth};

/// What follows once a connection is authenticated.
#[derive(Clone)]
pub(super) enum Multiplexing {
    /// The other end has a key of its own.
    Yamux(Box<yamux::Config>),
    /// The other end has this node's key.
    SameKey(Birth),
}

/// The other end has this node's key: no connection is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SameKey {
    /// It is this node itself.
    Itself,
    /// It is another process.
    Twin {
        /// Whether that was there first.
        is_second: bool,
    },
}

impl std::fmt::Display for SameKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Itself => "it is this node itself",
            Self::Twin { .. } => "it is another process with this node's own key",
        })
    }
}

impl std::error::Error for SameKey {}

impl Multiplexing {
    /// With the other end, which has this node's key or not.
    pub(super) fn new(is_own_key: bool, birth: Birth) -> Self {
        if is_own_key { Self::SameKey(birth) } else { Self::Yamux(Box::default()) }
    }
}

impl UpgradeInfo for Multiplexing {
    type Info = &'static str;
    type InfoIter = std::iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        match self {
            Self::Yamux(config) => config.protocol_info(),
            Self::SameKey(_) => std::iter::once("/actix-hub/same-key"),
        }
    }
}

impl<C> InboundConnectionUpgrade<C> for Multiplexing
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = yamux::Muxer<C>;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        match self {
            Self::Yamux(config) => Box::pin(config.upgrade_inbound(socket, info)),
            Self::SameKey(birth) => Box::pin(async move { Err(compare(socket, birth).await) }),
        }
    }
}

impl<C> OutboundConnectionUpgrade<C> for Multiplexing
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = yamux::Muxer<C>;
    type Error = io::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        match self {
            Self::Yamux(config) => Box::pin(config.upgrade_outbound(socket, info)),
            Self::SameKey(birth) => Box::pin(async move { Err(compare(socket, birth).await) }),
        }
    }
}

/// Which of the two it is. Bounded by the deadline of the whole upgrade.
async fn compare<C: AsyncRead + AsyncWrite + Unpin>(mut socket: C, birth: Birth) -> io::Error {
    let exchange = async {
        let mine = birth.age();
        socket.write_all(&mine.to_bytes()).await?;
        socket.flush().await?;
        let mut theirs = [0; 16];
        socket.read_exact(&mut theirs).await?;
        let theirs = Age::from_bytes(theirs);
        io::Result::Ok(if theirs.is_of_same_run(&mine) {
            SameKey::Itself
        } else {
            SameKey::Twin { is_second: mine.is_second_to(&theirs) }
        })
    };
    match exchange.await {
        Ok(which) => io::Error::other(which),
        Err(error) => error,
    }
}
