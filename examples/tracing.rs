//! One trace across nodes: a message is sent on one node, its handler on another sends one to a
//! third child, and an OpenTelemetry subscriber sees all of it as one trace.
//!
//! `cargo run --example tracing`
//!
//! The spans go to memory here, to be printed as a tree; in an app give the provider an OTLP
//! exporter instead. What carries the trace is [`Propagator`], which is all that an app needs.

use std::{collections::BTreeMap, error::Error};

use actix::prelude::*;
use actix_hub::{TraceContext, TracePropagator, prelude::*};
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde::{Deserialize, Serialize};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{EnvFilter, prelude::*};

/// Asks OpenTelemetry for the position of a span, and tells it.
struct Propagator;

impl TracePropagator for Propagator {
    fn inject(&self, span: &tracing::Span) -> Option<TraceContext> {
        let context = span.context();
        let span = context.span().span_context().clone();
        span.is_valid().then(|| TraceContext {
            trace_id: span.trace_id().to_bytes(),
            span_id: span.span_id().to_bytes(),
            flags: span.trace_flags().to_u8(),
        })
    }

    fn extract(&self, context: TraceContext, span: &tracing::Span) {
        let remote = SpanContext::new(
            TraceId::from_bytes(context.trace_id),
            SpanId::from_bytes(context.span_id),
            TraceFlags::new(context.flags),
            true,
            TraceState::default(),
        );
        // It fails only without an OpenTelemetry subscriber.
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(remote));
    }
}

/// Passes a parcel on to the next post office, if there is one.
#[derive(Serialize, Deserialize)]
struct Post {
    next: Option<String>,
    #[serde(skip)]
    hub: Option<Hub>,
}

impl Actor for Post {
    type Context = Context<Self>;
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u32")]
struct Parcel {
    stops: u32,
}

impl HubMessage for Parcel {
    const NAME: &'static str = "post.parcel";
}

impl Handler<Parcel> for Post {
    type Result = ResponseFuture<u32>;

    fn handle(&mut self, Parcel { stops }: Parcel, _: &mut Self::Context) -> Self::Result {
        let Some((next, hub)) = self.next.clone().zip(self.hub.clone()) else {
            return Box::pin(async move { stops });
        };
        // Sent inside the handler's span: the next one goes on from there.
        let request = hub.child::<Post>(next).send(Parcel { stops: stops + 1 });
        Box::pin(async move { request.await.unwrap_or(stops) })
    }
}

impl HotSwap for Post {
    const KIND: &'static str = "post";
    type Args = Option<String>;
    type State = Option<String>;

    fn from_args(next: Option<String>, child: &ChildContext<Self>) -> Result<Self, StartFailure> {
        Ok(Self { next, hub: Some(child.hub().clone()) })
    }

    fn prepare_handover_state(&mut self) -> Option<String> {
        self.next.clone()
    }

    fn alter_handover_state(&mut self, next: Option<String>) {
        self.next = next;
    }
}

takes!(Post: [Parcel]);

/// Two nodes are in.
fn both_are_in(seen: &Inspection) -> bool {
    seen.nodes.iter().filter(|node| node.is_member()).count() == 2
}

async fn node(name: &str, seed: Option<&Hub>) -> Result<Hub, Box<dyn Error>> {
    let mut builder = HubSystem::builder("tracing")
        .node_name(name)
        .settings(Settings::local())
        .listen("/ip4/127.0.0.1/tcp/0")
        .trace_propagator(Propagator)
        .child::<Post>();
    if let Some(seed) = seed {
        builder = builder.seed(&seed.addresses()[0]);
    }
    Ok(builder.start().await?)
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let telemetry = tracing_opentelemetry::layer().with_tracer(provider.tracer("example"));
    // Messages' spans are of level DEBUG: whoever wants them says so.
    let filter = EnvFilter::new("info,actix_hub::message=debug");
    tracing_subscriber::registry()
        .with(telemetry.with_filter(filter))
        .with(tracing_subscriber::fmt::layer().with_filter(EnvFilter::new("warn")))
        .init();

    let first = node("first", None).await?;
    let second = node("second", Some(&first)).await?;
    for node in [&first, &second] {
        node.wait_for(both_are_in).await?;
    }
    first.start_child(ChildSpec::new::<Post>("north", Some("south".to_owned()))?).await?;
    first.start_child(ChildSpec::new::<Post>("south", None::<String>)?).await?;
    // On different nodes, whatever the distribution would have it.
    first.migrate("north", second.node_id()).await?;
    first.migrate("south", first.node_id()).await?;

    let request = tracing::info_span!("request", from = "an app on the first node")
        .in_scope(|| first.child::<Post>("north").send(Parcel { stops: 1 }));
    let stops = request.await?;
    println!("the parcel made {stops} stops");

    first.stop().await;
    second.stop().await;
    provider.force_flush()?;
    let spans = exporter.get_finished_spans()?;
    let root = spans.iter().find(|span| span.name == "request").ok_or("the request is recorded")?;
    let trace = root.span_context.trace_id();
    let of_trace: Vec<&SpanData> =
        spans.iter().filter(|span| span.span_context.trace_id() == trace).collect();
    println!("trace {trace}:");
    print(&of_trace, root, 0);
    let handled = of_trace.iter().filter(|span| span.name == "handle").count();
    if handled != 2 {
        return Err(format!("{handled} handlers are in the trace, not both").into());
    }
    Ok(())
}

/// Prints a span and what it caused, each below.
fn print(spans: &[&SpanData], span: &SpanData, depth: usize) {
    let about: BTreeMap<String, String> = span
        .attributes
        .iter()
        .map(|pair| (pair.key.to_string(), pair.value.to_string()))
        .filter(|(key, _)| ["child", "message", "from"].contains(&key.as_str()))
        .collect();
    println!("{:indent$}{} {about:?}", "", span.name, indent = 2 * depth + 2);
    for caused in spans.iter().filter(|s| s.parent_span_id == span.span_context.span_id()) {
        print(spans, caused, depth + 1);
    }
}
