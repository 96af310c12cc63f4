//! Traces by OTLP over HTTP (protobuf), from the spans of [`grantd_server::SPANS`]. Sent in batches by a thread of their own: a
//! collector that is slow or gone costs spans, and holds up no request.
//!
//! A span holds what the log line of a request holds and no more: route patterns, ids, codes, times. `OTEL_*` variables of the
//! OpenTelemetry specification that concern the exporter, the batches and the sampler count.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;
use url::Url;

/// How long the end of the process waits for the collector to take what is left.
const FLUSH_WAIT: Duration = Duration::from_secs(2);
/// How long the collector may take for a batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// What sends spans to the collector at `endpoint`.
pub fn layer<S>(endpoint: &Url) -> Result<impl Layer<S> + use<S>, String>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let exporter = OtlpExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/')))
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|e| format!("cannot send traces to {endpoint}: {e}"))?;
    let resource = Resource::builder()
        .with_service_name("grantd")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(Told { exporter, is_failing: AtomicBool::new(false) })
        .with_resource(resource)
        .build();
    let tracer = provider.tracer("grantd");
    // Only the first one is ever asked for: logging starts once.
    PROVIDER.get_or_init(|| provider);
    let spans = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false);
    Ok(spans.with_filter(Targets::new().with_target(grantd_server::SPANS, LevelFilter::INFO)))
}

/// An exporter whose first failure, and first success after it, is in the log.
#[derive(Debug)]
struct Told<E> {
    exporter: E,
    is_failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Told<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
        let was_failing = self.is_failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !was_failing => {
                tracing::warn!(error = %error, "The collector does not take traces: they are lost");
            }
            Ok(()) if was_failing => tracing::info!("The collector takes traces again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Sends what is left, but not for long.
pub fn shutdown() {
    if let Some(provider) = PROVIDER.get()
        && let Err(error) = provider.shutdown_with_timeout(FLUSH_WAIT)
    {
        tracing::warn!(error = %error, "The last spans were not sent");
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Head and body of a request, which is answered.
    fn receive(mut stream: TcpStream) -> String {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let n = stream.read(&mut buffer).unwrap();
            bytes.extend(&buffer[..n]);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let Some(head_end) = text.find("\r\n\r\n") else { continue };
            let head = text[..head_end].to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if n == 0 || bytes.len() >= head_end + 4 + length.parse::<usize>().unwrap() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                return text;
            }
        }
    }

    #[test]
    fn a_collector_gets_the_spans_of_requests_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Url::parse(&format!("http://{}/base/", listener.local_addr().unwrap())).unwrap();
        let (sender, received) = mpsc::channel();
        std::thread::spawn(move || sender.send(receive(listener.accept().unwrap().0)));
        let subscriber = tracing_subscriber::registry().with(layer(&endpoint).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(target: grantd_server::SPANS, "request", otel.name = "POST /sdk/token");
            span.in_scope(|| tracing::info!("a line of the log"));
            drop(tracing::info_span!("of a library"));
        });
        shutdown();
        let request = received.recv_timeout(Duration::from_mins(1)).unwrap();
        assert!(request.starts_with("POST /base/v1/traces HTTP/1.1"), "{request}");
        assert!(request.contains("POST /sdk/token") && request.contains("service.version"), "{request}");
        assert!(!request.contains("a line of the log") && !request.contains("of a library"), "{request}");
    }
}
