//! Spans of requests, for whoever sends them on. Their target is not ours in the log's eyes, so without a listener they cost a
//! comparison.
//!
//! Never in a span: a path, a body, a header but `traceparent`.

use grantd_wire::ids::RequestId;
use http::request::Parts;
use http::{Method, StatusCode};
use tracing::Span;
use tracing::field::Empty;

/// The target of all spans.
pub const SPANS: &str = "otlp";

/// A part of a request that is worth its own time.
macro_rules! part {
    ($name:literal) => {
        tracing::info_span!(target: crate::trace::SPANS, $name)
    };
}
pub(crate) use part;

/// The span of a request, in the trace that its caller names.
pub(crate) fn request(parts: &Parts, request_id: RequestId) -> Span {
    let span = tracing::info_span!(
        target: SPANS,
        "request",
        otel.kind = "server",
        otel.name = Empty,
        otel.status_code = Empty,
        http.request.method = %parts.method,
        http.route = Empty,
        http.response.status_code = Empty,
        error.type = Empty,
        request.id = %request_id,
    );
    #[cfg(feature = "otlp")]
    if !span.is_disabled() {
        parent(&span, parts);
    }
    span
}

/// The answer is known. The name of a span is its route, as there are few of them.
pub(crate) fn answered(span: &Span, method: &Method, route: &str, status: StatusCode, code: Option<&str>) {
    if span.is_disabled() {
        return;
    }
    span.record("otel.name", format!("{method} {route}"));
    span.record("http.route", route);
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if let Some(code) = code {
        span.record("error.type", code);
    }
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// Takes up the trace of `traceparent`; one that is malformed counts as none.
#[cfg(feature = "otlp")]
fn parent(span: &Span, parts: &Parts) {
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;

    let named = || {
        let mut fields = parts.headers.get("traceparent")?.to_str().ok()?.split('-').skip(1);
        let (trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?);
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        Some(SpanContext::new(trace, span, flags, true, TraceState::NONE))
    };
    if let Some(context) = named().filter(SpanContext::is_valid) {
        // It fails only when nobody listens any more.
        let _ = span.set_parent(opentelemetry::Context::new().with_remote_span_context(context));
    }
}
