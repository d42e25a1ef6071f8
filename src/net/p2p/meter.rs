//! libp2p's own metrics; nothing without the feature `admin`.

#[cfg(feature = "admin")]
mod on {
    use std::sync::{Arc, Mutex, PoisonError};

    use libp2p::{
        PeerId, Transport,
        core::{StreamMuxer, muxing::StreamMuxerBox, transport::Boxed},
        metrics::{BandwidthTransport, Metrics, Recorder, Registry},
        swarm::SwarmEvent,
    };
    use prometheus_client::encoding::text::encode_registry;

    /// Counts what the swarm and its transport do.
    pub(in crate::net::p2p) struct Meter {
        metrics: Metrics,
        registry: Arc<Mutex<Registry>>,
    }

    /// Reads what a [`Meter`] has counted.
    #[derive(Clone)]
    pub(in crate::net::p2p) struct Reading(Arc<Mutex<Registry>>);

    impl Meter {
        pub(in crate::net::p2p) fn new() -> Self {
            let mut registry = Registry::default();
            let metrics = Metrics::new(&mut registry);
            Self { metrics, registry: Arc::new(Mutex::new(registry)) }
        }

        pub(in crate::net::p2p) fn reading(&self) -> Reading {
            Reading(self.registry.clone())
        }

        /// The same transport, its bytes counted. Boxed here, once: each box more hides the errors
        /// below it from who looks for their cause.
        pub(in crate::net::p2p) fn boxed<T, M>(
            &self,
            transport: T,
        ) -> Boxed<(PeerId, StreamMuxerBox)>
        where
            T: Transport<Output = (PeerId, M)> + Send + Unpin + 'static,
            T::Dial: Send + 'static,
            T::ListenerUpgrade: Send + 'static,
            T::Error: Send + Sync + 'static,
            M: StreamMuxer + Send + 'static,
            M::Substream: Send + 'static,
            M::Error: Send + Sync + 'static,
        {
            let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
            BandwidthTransport::new(transport, &mut registry)
                .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
                .boxed()
        }

        pub(in crate::net::p2p) fn record<E>(&self, event: &SwarmEvent<E>) {
            self.metrics.record(event);
        }
    }

    impl Reading {
        /// In the text format of OpenMetrics, without its end.
        pub(in crate::net::p2p) fn text(&self) -> Option<String> {
            let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let mut text = String::new();
            encode_registry(&mut text, &registry).ok()?;
            Some(text)
        }
    }
}

#[cfg(not(feature = "admin"))]
mod off {
    use libp2p::{
        PeerId, Transport,
        core::{StreamMuxer, muxing::StreamMuxerBox, transport::Boxed},
        swarm::SwarmEvent,
    };

    pub(in crate::net::p2p) struct Meter;

    #[derive(Clone)]
    pub(in crate::net::p2p) struct Reading;

    impl Meter {
        pub(in crate::net::p2p) fn new() -> Self {
            Self
        }

        pub(in crate::net::p2p) fn reading(&self) -> Reading {
            Reading
        }

        pub(in crate::net::p2p) fn boxed<T, M>(
            &self,
            transport: T,
        ) -> Boxed<(PeerId, StreamMuxerBox)>
        where
            T: Transport<Output = (PeerId, M)> + Send + Unpin + 'static,
            T::Dial: Send + 'static,
            T::ListenerUpgrade: Send + 'static,
            T::Error: Send + Sync + 'static,
            M: StreamMuxer + Send + 'static,
            M::Substream: Send + 'static,
            M::Error: Send + Sync + 'static,
        {
            transport.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))).boxed()
        }

        pub(in crate::net::p2p) fn record<E>(&self, _: &SwarmEvent<E>) {}
    }

    impl Reading {
        pub(in crate::net::p2p) fn text(&self) -> Option<String> {
            None
        }
    }
}

#[cfg(not(feature = "admin"))]
pub(super) use off::{Meter, Reading};
#[cfg(feature = "admin")]
pub(super) use on::{Meter, Reading};
