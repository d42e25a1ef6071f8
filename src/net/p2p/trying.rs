//! Dials with one secret after the other, so that a secret can be changed while the cluster runs.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use libp2p::{
    Multiaddr, Transport,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
};

use super::cause::Unsecured;
use crate::net::carrier::DialFailure;

/// A transport for each secret. The first one listens; each dials where those before it were
/// accepted and agreed on no secure channel.
pub(super) struct Trying<T> {
    first: T,
    others: Vec<Arc<Mutex<T>>>,
}

impl<T> Trying<T> {
    pub(super) fn new(first: T, others: Vec<T>) -> Self {
        Self { first, others: others.into_iter().map(|one| Arc::new(Mutex::new(one))).collect() }
    }
}

fn dial<T: Transport>(
    transport: &Mutex<T>,
    address: Multiaddr,
    options: DialOpts,
) -> Result<T::Dial, TransportError<T::Error>> {
    transport.lock().unwrap_or_else(PoisonError::into_inner).dial(address, options)
}

impl<T> Transport for Trying<T>
where
    T: Transport<Error = Unsecured> + Send + Unpin + 'static,
    T::Output: Send + 'static,
    T::Dial: Send + 'static,
{
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = BoxFuture<'static, Result<T::Output, T::Error>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.first.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.first.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let first = self.first.dial(address.clone(), options)?;
        let others = self.others.clone();
        Ok(Box::pin(async move {
            let mut outcome = first.await;
            for next in others {
                let unsecured = matches!(
                    outcome,
                    Err(Unsecured(DialFailure::Insecure(_) | DialFailure::Silent))
                );
                if !unsecured {
                    break;
                }
                // Its deadline begins now.
                outcome = match dial(&next, address.clone(), options) {
                    Ok(dial) => dial.await,
                    Err(TransportError::Other(error)) => Err(error),
                    Err(TransportError::MultiaddrNotSupported(_)) => break,
                };
            }
            outcome
        }))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        // The others listen nowhere, and have nothing to say.
        Pin::new(&mut self.first).poll(context)
    }
}
