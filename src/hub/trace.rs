//! Spans that follow a message from its sender to its handler.

use tracing::Span;

use crate::model::{
    id::{ChildId, TopicName},
    trace::TraceContext,
};

/// Carries the position in a trace from node to node: what a subscriber knows of a span is asked
/// for where a message leaves, and told to the span of its handler where it arrives.
///
/// Two lines with `tracing-opentelemetry`; `examples/tracing.rs` has them. Set with
/// [`HubBuilder::trace_propagator`](crate::HubBuilder::trace_propagator).
///
/// Must be quick: it is called for each message whose span is enabled. Messages' spans have level
/// `DEBUG` and the target `actix_hub::message`.
pub trait TracePropagator: Send + Sync + 'static {
    /// The position of this span in its trace; `None` if it is in none.
    fn inject(&self, span: &Span) -> Option<TraceContext>;

    /// This span, which is not entered yet, goes on from there.
    fn extract(&self, context: TraceContext, span: &Span);
}

/// From the call of `send` to its reply, or that of `do_send`.
pub(crate) fn sending(child: &ChildId, message: &'static str) -> Span {
    tracing::debug_span!(target: "actix_hub::message", "send", %child, message)
}

/// The call of `publish`.
pub(crate) fn publishing(topic: &TopicName, message: &'static str) -> Span {
    tracing::debug_span!(target: "actix_hub::message", "publish", %topic, message)
}

/// A message of this node is handled.
pub(crate) fn handling(parent: &Span, child: &ChildId, message: &str) -> Span {
    if parent.is_disabled() {
        return Span::none();
    }
    tracing::debug_span!(
        target: "actix_hub::message", parent: parent, "handle", %child, message
    )
}

/// A message of another node is handled.
pub(crate) fn handling_from(
    propagator: Option<&dyn TracePropagator>,
    context: Option<TraceContext>,
    child: &ChildId,
    message: &str,
) -> Span {
    let span = tracing::debug_span!(
        target: "actix_hub::message", parent: None, "handle", %child, message
    );
    if let (Some(propagator), Some(context)) = (propagator, context)
        && !span.is_disabled()
    {
        propagator.extract(context, &span);
    }
    span
}
