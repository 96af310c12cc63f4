//! Counters of what the server does. Counting takes no lock and allocates nothing.
//!
//! Never: an id, a name or a secret as a label; labels are routes, codes and words of this file.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use grantd_store::stats::Histogram;
use grantd_wire::Code;

use crate::metrics::Text;
use crate::routes;

/// Bounds of request times, in microseconds.
const REQUEST_TIMES_US: [u64; 14] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000,
];

/// Routes outside of the tables, and what stands for paths that lead nowhere.
const OTHER_ROUTES: [(&str, &str); 12] = [
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/sdk/oauth/connect"),
    ("POST", "/connect/open"),
    ("any", "/connect/{}"),
    ("GET", "/oauth/callback"),
    ("GET", "/assets/{}"),
    ("GET", "/brand/{}"),
    ("any", "/sdk"),
    ("any", "/api/v1"),
    ("any", "(unknown)"),
];

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Below 400.
    Ok,
    /// 4xx: the caller's doing.
    Refused,
    /// 5xx: ours.
    Failed,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Ok, Self::Refused, Self::Failed];

    fn of(status: u16) -> Self {
        match status {
            ..400 => Self::Ok,
            400..500 => Self::Refused,
            500.. => Self::Failed,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

struct Route {
    method: &'static str,
    path: &'static str,
    times: [Histogram<14>; Outcome::ALL.len()],
}

impl Route {
    fn new((method, path): (&'static str, &'static str)) -> Self {
        Self { method, path, times: [const { Histogram::new(&REQUEST_TIMES_US) }; Outcome::ALL.len()] }
    }
}

/// Why a connection was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// The TLS handshake failed.
    Handshake,
    /// It was silent, or slow with its head or handshake.
    Idle,
    /// The peer does not take its answers.
    Stalled,
    /// The peer takes back what it asks for.
    Resets,
}

impl Dropped {
    const ALL: [Self; 4] = [Self::Handshake, Self::Idle, Self::Stalled, Self::Resets];

    fn as_str(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Resets => "resets",
        }
    }
}

/// What became of an attempt to renew a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Renewal {
    Renewed,
    /// The old pair stays.
    Failed,
    /// The account must be connected again.
    Broken,
}

impl Renewal {
    const ALL: [Self; 3] = [Self::Renewed, Self::Failed, Self::Broken];

    fn as_str(self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::Failed => "failed",
            Self::Broken => "broken",
        }
    }
}

/// Counters of one process.
pub struct Meters {
    routes: Vec<Route>,
    in_flight: AtomicU64,
    refusals: [AtomicU64; Code::ALL.len()],
    connections_open: AtomicU64,
    connections: AtomicU64,
    connections_dropped: [AtomicU64; Dropped::ALL.len()],
    accept_failures: AtomicU64,
    renewals: [AtomicU64; Renewal::ALL.len()],
    pub(crate) tls: TlsMeters,
    /// Whether `/metrics` of the main listener asks for no token: only `dev` says so.
    is_open: AtomicBool,
    /// What only the process itself knows.
    process: OnceLock<fn(&mut Text)>,
}

/// What becomes of the certificate.
#[derive(Default)]
pub(crate) struct TlsMeters {
    /// Seconds since 1970; 0: no TLS.
    pub expires_at_s: AtomicI64,
    pub reloads: AtomicU64,
    pub reload_failures: AtomicU64,
}

impl Default for Meters {
    fn default() -> Self {
        let sdk = routes::SDK.iter().map(|route| (route.method, route.path));
        let api = routes::API.iter().map(|route| (route.method, route.path));
        Self {
            routes: sdk.chain(api).chain(OTHER_ROUTES).map(Route::new).collect(),
            in_flight: AtomicU64::new(0),
            refusals: [const { AtomicU64::new(0) }; Code::ALL.len()],
            connections_open: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            connections_dropped: [const { AtomicU64::new(0) }; Dropped::ALL.len()],
            accept_failures: AtomicU64::new(0),
            renewals: [const { AtomicU64::new(0) }; Renewal::ALL.len()],
            tls: TlsMeters::default(),
            is_open: AtomicBool::new(false),
            process: OnceLock::new(),
        }
    }
}

/// One more, until this is dropped.
pub struct Counting<'m>(&'m AtomicU64);

impl<'m> Counting<'m> {
    fn begin(gauge: &'m AtomicU64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Counting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Meters {
    /// A request is in flight.
    pub(crate) fn request(&self) -> Counting<'_> {
        Counting::begin(&self.in_flight)
    }

    /// A request was answered; `route` is a pattern of the tables.
    pub(crate) fn answered(&self, method: &str, route: &str, status: u16, code: Option<Code>, took: Duration) {
        let is_it = |r: &&Route| r.path == route && (r.method == method || r.method == "any");
        // Another method than the table's on a path outside of it is nobody's route.
        let route = self.routes.iter().find(is_it).or(self.routes.last());
        if let Some(route) = route {
            route.times[Outcome::of(status) as usize].observe_time(took);
        }
        if let Some(code) = code {
            self.refusals[code as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A connection was accepted; it is open until this is dropped.
    pub(crate) fn connection(&self) -> Counting<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Counting::begin(&self.connections_open)
    }

    pub(crate) fn dropped(&self, why: Dropped) {
        self.connections_dropped[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn renewed(&self, outcome: Renewal) {
        self.renewals[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn accept_failed(&self) {
        self.accept_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// This certificate chain (PEM) is served from now on.
    pub fn serves_certificate(&self, pem: &[u8]) {
        self.tls.expires_at_s.store(crate::http::expires_at_s(pem).unwrap_or(0), Ordering::Relaxed);
    }

    /// The certificate that `other` tells of is served from now on.
    pub fn serves_certificate_like(&self, other: &Self) {
        self.tls.expires_at_s.store(other.tls.expires_at_s.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// New certificate files were taken into use, or could not be.
    pub fn reloaded(&self, is_used: bool) {
        let counter = if is_used { &self.tls.reloads } else { &self.tls.reload_failures };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets `/metrics` of the main listener answer without a token: for a server on loopback that one developer uses.
    pub fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    /// Adds what only the process itself knows. Later calls change nothing.
    pub fn add_process(&self, write: fn(&mut Text)) {
        let _already = self.process.set(write);
    }

    /// Writes them all.
    pub(crate) fn write(&self, text: &mut Text) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        text.family("grantd_http_request_duration_seconds", "histogram", "Time from a request's head to its answer's.");
        for route in &self.routes {
            for outcome in Outcome::ALL {
                let counted = route.times[outcome as usize].counted();
                if counted.count > 0 {
                    let labels = [("method", route.method), ("route", route.path), ("outcome", outcome.as_str())];
                    text.histogram("grantd_http_request_duration_seconds", &labels, &counted, SECOND);
                }
            }
        }
        text.gauge("grantd_http_requests_in_flight", "Requests that are being answered.", load(&self.in_flight));
        text.family("grantd_http_refusals_total", "counter", "Requests that were refused, by code.");
        for code in Code::ALL {
            let refused = load(&self.refusals[*code as usize]);
            text.sample("grantd_http_refusals_total", &[("code", code.as_str())], refused);
        }
        text.gauge("grantd_http_connections", "Open connections.", load(&self.connections_open));
        text.counter("grantd_http_connections_total", "Connections that were accepted.", load(&self.connections));
        text.family("grantd_http_connections_dropped_total", "counter", "Connections that were dropped, by why.");
        for why in Dropped::ALL {
            let dropped = load(&self.connections_dropped[why as usize]);
            text.sample("grantd_http_connections_dropped_total", &[("reason", why.as_str())], dropped);
        }
        let help = "Times that the system refused a new connection.";
        text.counter("grantd_http_accept_failures_total", help, load(&self.accept_failures));
        text.family(
            "grantd_oauth_renewals_total",
            "counter",
            "Attempts of this process to renew a token, by what became of them.",
        );
        for outcome in Renewal::ALL {
            let count = load(&self.renewals[outcome as usize]);
            text.sample("grantd_oauth_renewals_total", &[("outcome", outcome.as_str())], count);
        }
        let help = "When the certificate that is served ends, in seconds since 1970; 0 without TLS.";
        text.gauge(
            "grantd_tls_certificate_expiry_timestamp_seconds",
            help,
            self.tls.expires_at_s.load(Ordering::Relaxed),
        );
        let help = "New certificates that were taken into use.";
        text.counter("grantd_tls_reloads_total", help, load(&self.tls.reloads));
        let help = "New certificate files that could not be used; the old pair is served on.";
        text.counter("grantd_tls_reload_failures_total", help, load(&self.tls.reload_failures));
        if let Some(write) = self.process.get() {
            write(text);
        }
    }
}

/// Times are counted in microseconds and told in seconds.
pub(crate) const SECOND: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_the_order_of_their_list() {
        for (n, code) in Code::ALL.iter().enumerate() {
            assert_eq!(*code as usize, n, "{}", code.as_str());
        }
    }

    #[test]
    fn outcomes_and_reasons_are_in_the_order_of_their_lists() {
        assert!(Outcome::ALL.iter().enumerate().all(|(n, o)| *o as usize == n));
        assert!(Renewal::ALL.iter().enumerate().all(|(n, r)| *r as usize == n));
        assert!(Dropped::ALL.iter().enumerate().all(|(n, d)| *d as usize == n));
        assert_eq!([200, 304, 399].map(Outcome::of), [Outcome::Ok; 3]);
        assert_eq!([400, 499].map(Outcome::of), [Outcome::Refused; 2]);
        assert_eq!([500, 503].map(Outcome::of), [Outcome::Failed; 2]);
    }
}
