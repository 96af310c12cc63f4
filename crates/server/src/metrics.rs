//! `/metrics`: what this process counts, in the text format of Prometheus.
//!
//! A new family: count it in `meters` (or in the store's `stats`), write it here, describe it in `docs/metrics.md`; a test
//! compares the two.

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use grantd_store::stats::Counted;

use crate::answer::{Answer, json, raw, refusal};
use crate::entry;
use crate::meters::SECOND;
use crate::vault::Vault;

/// How long the size of the database is waited for; without an answer it is left out.
const SIZES_WAIT: Duration = Duration::from_secs(1);

/// The format's name, as Prometheus wants it.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics as text.
#[derive(Default)]
pub struct Text(String);

impl Text {
    /// What was written.
    pub fn into_string(self) -> String {
        self.0
    }

    /// Begins a family: everything of it follows.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // A String takes everything.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One value of the family that was begun.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (n, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if n == 0 { '{' } else { ',' }, escaped(text));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A family of one value that only rises.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// A family of one value.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// One histogram of the family that was begun; `unit` is what one of the told unit counts.
    #[expect(clippy::cast_precision_loss, reason = "a sum of times is told to nine digits and more")]
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], counted: &Counted, unit: f64) {
        let bucket = format!("{name}_bucket");
        for (bound, count) in &counted.at_most {
            let bound = (*bound as f64 / unit).to_string();
            self.sample(&bucket, &[labels, &[("le", &bound)]].concat(), count);
        }
        self.sample(&bucket, &[labels, &[("le", "+Inf")]].concat(), counted.count);
        self.sample(&format!("{name}_sum"), labels, counted.sum as f64 / unit);
        self.sample(&format!("{name}_count"), labels, counted.count);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The surface of `metrics_listen`: metrics and health for whoever reaches that address, and nothing else.
pub fn router(vault: Arc<Vault>) -> Router {
    Router::new()
        .route("/metrics", get(async |State(vault): State<Arc<Vault>>| answer(&vault).await))
        .route("/readyz", get(async |State(vault): State<Arc<Vault>>| ready(&vault).await))
        .route("/healthz", get(async || json(200, &serde_json::json!({"status": "ok"}))))
        .with_state(vault)
}

/// Everything, as an answer.
pub(crate) async fn answer(vault: &Vault) -> Answer {
    raw(200, CONTENT_TYPE, Body::from(text(vault).await))
}

async fn ready(vault: &Vault) -> Answer {
    match entry::ready(vault).await {
        Ok(_) => json(200, &serde_json::json!({"status": "ready", "database": vault.store.engine_name()})),
        Err(e) => refusal(&e),
    }
}

/// Everything.
pub async fn text(vault: &Vault) -> String {
    let mut text = Text::default();
    text.family("grantd_build_info", "gauge", "Always 1; its labels say what runs.");
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("engine", vault.store.engine_name())];
    text.sample("grantd_build_info", &labels, 1);
    let draining = u8::from(vault.draining.load(Ordering::Relaxed));
    text.gauge("grantd_draining", "1 from the signal to stop until the end.", draining);
    let behind = u8::from(vault.clock_rolled_back.load(Ordering::Relaxed));
    text.gauge("grantd_clock_behind", "1 while credential calls stop because the clock was set back.", behind);
    vault.meters.write(&mut text);
    cache(vault, &mut text);
    store(vault, &mut text).await;
    text.0
}

fn cache(vault: &Vault, text: &mut Text) {
    let cache = &vault.cache;
    let (keys, grants, grant_bytes) = cache.sizes();
    text.family(
        "grantd_cache_lookups_total",
        "counter",
        "What was looked for in memory first, by whether it was there.",
    );
    for (name, lookups) in [("keys", &cache.key_lookups), ("grants", &cache.grant_lookups)] {
        for (result, counter) in [("hit", &lookups.hits), ("miss", &lookups.misses)] {
            let labels = [("cache", name), ("result", result)];
            text.sample("grantd_cache_lookups_total", &labels, counter.load(Ordering::Relaxed));
        }
    }
    text.family("grantd_cache_entries", "gauge", "Rows that are remembered.");
    text.sample("grantd_cache_entries", &[("cache", "keys")], keys);
    text.sample("grantd_cache_entries", &[("cache", "grants")], grants);
    text.gauge("grantd_cache_bytes", "Memory that remembered grants take, sealed values included.", grant_bytes);
}

async fn store(vault: &Vault, text: &mut Text) {
    let (store, stats) = (&vault.store, vault.store.stats());
    text.gauge("grantd_store_writes_waiting", "Writes that were handed in and are not durable yet.", stats.waiting());
    text.counter("grantd_audit_events_total", "Audit events that this process made durable.", store.appended());
    text.family(
        "grantd_audit_appends_total",
        "counter",
        "Events of calls that were handed in, by what became of them.",
    );
    for (outcome, count) in stats.appends() {
        text.sample("grantd_audit_appends_total", &[("outcome", outcome)], count);
    }
    let histograms = [
        (
            "grantd_audit_append_duration_seconds",
            "Time until the event of a call is durable.",
            stats.append_time.counted(),
            SECOND,
        ),
        ("grantd_store_group_calls", "Calls in one commit.", stats.group_size.counted(), 1.0),
        ("grantd_store_commit_duration_seconds", "Time of one commit.", stats.commit_time.counted(), SECOND),
        (
            "grantd_store_lane_wait_seconds",
            "Time that writes wait for their turn (PostgreSQL).",
            stats.lane_wait.counted(),
            SECOND,
        ),
    ];
    for (name, help, counted, unit) in histograms {
        text.family(name, "histogram", help);
        text.histogram(name, &[], &counted, unit);
    }
    let pools = store.pools();
    let families = [
        ("grantd_store_pool_connections_max", "Connections that a pool may have (PostgreSQL)."),
        ("grantd_store_pool_connections_in_use", "Connections of a pool that are in use (PostgreSQL)."),
        ("grantd_store_pool_waiting", "Calls that wait for a connection of a pool (PostgreSQL)."),
    ];
    for (n, (name, help)) in families.into_iter().enumerate() {
        text.family(name, "gauge", help);
        for pool in &pools {
            text.sample(name, &[("pool", pool.pool)], [pool.size_max, pool.in_use, pool.waiting][n]);
        }
    }
    let sizes = tokio::time::timeout(SIZES_WAIT, store.sizes()).await.ok().and_then(Result::ok);
    text.family("grantd_store_database_bytes", "gauge", "Size of the database.");
    if let Some(sizes) = sizes {
        text.sample("grantd_store_database_bytes", &[], sizes.database_bytes);
    }
    text.family("grantd_store_wal_bytes", "gauge", "Size of the embedded database's write-ahead log.");
    if let Some(bytes) = sizes.and_then(|sizes| sizes.wal_bytes) {
        text.sample("grantd_store_wal_bytes", &[], bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_labels_are_written_as_prometheus_reads_them() {
        let mut text = Text::default();
        text.gauge("a", "An a.", 3);
        text.family("b_seconds", "histogram", "B.");
        let counted = Counted { at_most: vec![(500, 1), (2_000_000, 3)], count: 4, sum: 5_500_000 };
        text.histogram("b_seconds", &[("x", "a\"b\\c\nd")], &counted, SECOND);
        let expected = "# HELP a An a.\n# TYPE a gauge\na 3\n# HELP b_seconds B.\n# TYPE b_seconds histogram\n\
            b_seconds_bucket{x=\"a\\\"b\\\\c\\nd\",le=\"0.0005\"} 1\nb_seconds_bucket{x=\"a\\\"b\\\\c\\nd\",le=\"2\"} 3\n\
            b_seconds_bucket{x=\"a\\\"b\\\\c\\nd\",le=\"+Inf\"} 4\nb_seconds_sum{x=\"a\\\"b\\\\c\\nd\"} 5.5\n\
            b_seconds_count{x=\"a\\\"b\\\\c\\nd\"} 4\n";
        assert_eq!(text.0, expected);
    }
}
