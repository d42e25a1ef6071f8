//! Ends connections whose own address this machine has no more. What is sent from there does not leave
//! it, what is sent there is lost, and nobody says so.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, UdpSocket},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use futures_util::{AsyncRead, AsyncWrite};
use libp2p::tcp::tokio::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The own addresses by which connections came. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct OwnAddresses {
    /// Cancelled when the address is gone. No more than this machine has had at a time since each was
    /// used last.
    ends: Arc<Mutex<BTreeMap<IpAddr, CancellationToken>>>,
}

impl OwnAddresses {
    fn ends(&self) -> MutexGuard<'_, BTreeMap<IpAddr, CancellationToken>> {
        // The map is whole after every statement.
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same stream; it fails when its own address is gone.
    pub(super) fn bind(&self, stream: TcpStream) -> io::Result<BoundStream<TcpStream>> {
        let own = stream.0.local_addr()?.ip().to_canonical();
        Ok(self.bind_to(stream, own))
    }

    fn bind_to<S>(&self, stream: S, own: IpAddr) -> BoundStream<S> {
        let end = self.ends().entry(own).or_default().clone();
        BoundStream { stream, gone: Box::pin(end.cancelled_owned()) }
    }

    /// An interface has lost this address: connections by it end, unless another one has it.
    pub(super) fn expired(&self, own: IpAddr) {
        let own = own.to_canonical();
        // Any other error says nothing of the address.
        let bound = UdpSocket::bind((own, 0));
        if bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable) {
            self.gone(own);
        }
    }

    fn gone(&self, own: IpAddr) {
        if let Some(end) = self.ends().remove(&own) {
            end.cancel();
        }
    }
}

/// A stream that fails when its own address is gone.
pub(super) struct BoundStream<S> {
    stream: S,
    gone: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> BoundStream<S> {
    /// What the stream says, unless it waits and its address is gone.
    fn or_gone<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        // Both directions are polled by the one task that drives the connection.
        if polled.is_pending() && self.gone.as_mut().poll(context).is_ready() {
            let reason = "this machine has the address of the connection no more";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason)));
        }
        polled
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BoundStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.or_gone(polled, context)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BoundStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.or_gone(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.or_gone(polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.or_gone(polled, context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_close(context);
        self.or_gone(polled, context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use futures_util::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use super::*;

    #[tokio::test]
    async fn a_stream_that_waits_fails_when_its_address_is_gone_and_others_go_on() {
        let own = OwnAddresses::default();
        let mut streams = Vec::new();
        for last in 1..=2 {
            let (near, far) = tokio::io::duplex(8);
            streams.push((own.bind_to(near.compat(), Ipv4Addr::new(192, 0, 2, last).into()), far));
        }
        let (mut other, mut far_other) = streams.pop().expect("two");
        let (mut stream, mut far) = streams.pop().expect("two");
        stream.write_all(b"1").await.expect("room");
        let mut byte = [0];
        let waits = tokio::spawn(async move {
            let error = stream.read(&mut [0]).await.expect_err("it is gone");
            // And so does whatever waits from now on.
            let full = stream.write_all(&[0; 64]).await.expect_err("it is gone");
            (error.kind(), full.kind())
        });
        tokio::io::AsyncReadExt::read_exact(&mut far, &mut byte).await.expect("a byte");
        // No machine has an address of documentation.
        own.expired(Ipv4Addr::new(192, 0, 2, 1).into());
        let aborted = io::ErrorKind::ConnectionAborted;
        assert_eq!(waits.await.expect("it ends"), (aborted, aborted));
        tokio::io::AsyncWriteExt::write_all(&mut far_other, b"2").await.expect("room");
        other.read_exact(&mut byte).await.expect("the other one goes on");
        assert_eq!((byte, own.ends().len()), (*b"2", 1));
    }

    #[tokio::test]
    async fn an_address_that_is_still_there_is_not_gone() {
        let own = OwnAddresses::default();
        let (near, _far) = tokio::io::duplex(8);
        let mut stream = own.bind_to(near.compat(), Ipv4Addr::LOCALHOST.into());
        own.expired(Ipv4Addr::LOCALHOST.into());
        let waits = std::future::poll_fn(|context| {
            Poll::Ready(Pin::new(&mut stream).poll_read(context, &mut [0]).is_pending())
        });
        assert!(waits.await);
    }
}
