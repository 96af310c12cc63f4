//! What `/metrics` tells, to whom; and that what is written about it is true.

use std::collections::BTreeSet;

use grantd_store::operators::Role;
use grantd_wire::Code;
use grantd_wire::ids::AppId;

use crate::harness::{Raw, Server, api_request};

on_every_engine! {
    calls_are_counted_by_route_and_outcome,
    every_metric_is_written_about_and_nothing_else_is,
}

in_memory! {
    metrics_are_for_tokens_of_every_app,
    metrics_of_a_developer_s_server_are_open,
}

/// What the process adds; the crate of the binary compares them.
const OF_THE_PROCESS: [&str; 6] = [
    "grantd_log_lines_dropped_total",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
];

async fn scrape(server: &Server) -> String {
    let answer = server.send(api_request(&server.pat, "GET", "/metrics", "")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/plain; version=0.0.4; charset=utf-8"));
    answer.text
}

fn value(text: &str, series: &str) -> i64 {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

async fn calls_are_counted_by_route_and_outcome(server: Server) {
    let world = server.world().await;
    let before = scrape(&server).await;
    for _ in 0..3 {
        server.token(&world).await.ok(200);
    }
    let unsigned = server.token_request(&world).set("x-alter-signature", "0".repeat(64));
    server.send(unsigned).await.refused(Code::SignatureInvalid);
    server.send(Raw::new("GET", "/sdk/nothing-here", "")).await.refused(Code::UnknownRoute);
    server.send(Raw::new("GET", "/elsewhere", "")).await.refused(Code::UnknownRoute);
    let text = scrape(&server).await;

    let requests = |method: &str, route: &str, outcome: &str| {
        let labels = format!("{{method=\"{method}\",route=\"{route}\",outcome=\"{outcome}\"}}");
        value(&text, &format!("grantd_http_request_duration_seconds_count{labels}"))
    };
    assert_eq!(requests("POST", "/sdk/token", "ok"), 3);
    assert_eq!(requests("POST", "/sdk/token", "refused"), 1);
    assert_eq!(requests("any", "/sdk", "failed"), 1);
    assert_eq!(requests("any", "(unknown)", "failed"), 1);
    let of_infinity = "{method=\"POST\",route=\"/sdk/token\",outcome=\"ok\",le=\"+Inf\"}";
    assert_eq!(value(&text, &format!("grantd_http_request_duration_seconds_bucket{of_infinity}")), 3);
    let grew = |series: &str| value(&text, series) - value(&before, series);
    assert_eq!(grew("grantd_http_refusals_total{code=\"signature_invalid\"}"), 1);
    // Three releases, and the event of the failed authentication.
    assert_eq!(grew("grantd_audit_appends_total{outcome=\"done\"}"), 4);
    assert!(grew("grantd_audit_events_total") >= 4);
    assert!(grew("grantd_store_commit_duration_seconds_count") >= 4);
    assert!(grew("grantd_store_group_calls_sum") >= 4);
    assert!(grew("grantd_cache_lookups_total{cache=\"keys\",result=\"hit\"}") >= 2);
    assert_eq!(value(&text, "grantd_http_requests_in_flight"), 1, "the scrape itself");
    assert_eq!(value(&text, "grantd_store_writes_waiting"), 0);
    assert!(value(&text, "grantd_store_database_bytes") > 0);
}

async fn metrics_are_for_tokens_of_every_app(server: Server) {
    let world = server.world().await;
    server.send(Raw::new("GET", "/metrics", "")).await.refused(Code::SessionRequired);
    server.send(server.sign_as(&world).get("/metrics")).await.refused(Code::SessionRequired);
    let app = AppId::parse(&world.app).unwrap();
    let limited = server.new_pat(Role::Admin, Some(vec![app]), None).await;
    server.send(api_request(&limited, "GET", "/metrics", "")).await.refused(Code::RoleRequired);
    let viewer = server.new_pat(Role::Viewer, None, None).await;
    assert_eq!(server.send(api_request(&viewer, "GET", "/metrics", "")).await.status, 200);
    server.send(api_request(&viewer, "POST", "/metrics", "")).await.refused(Code::MethodNotAllowed);
    let text = scrape(&server).await;
    for identifying in [&world.app, &world.grant, &world.key_id, "203.0.113.7"] {
        assert!(!text.contains(identifying), "{identifying}");
    }
}

async fn metrics_of_a_developer_s_server_are_open(server: Server) {
    let server = server.another("open", |_| {}).await;
    server.vault.meters.open();
    assert_eq!(server.send(Raw::new("GET", "/metrics", "")).await.status, 200);
}

async fn every_metric_is_written_about_and_nothing_else_is(server: Server) {
    server.token(&server.world().await).await.ok(200);
    let text = scrape(&server).await;
    let told: BTreeSet<&str> = text.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(told.contains(base(name, &told)), "a sample without its family: {line}");
    }
    let all: BTreeSet<&str> = told.iter().copied().chain(OF_THE_PROCESS).collect();

    let page = names(include_str!("../../../../docs/metrics.md"), &all);
    assert_eq!(page, all, "docs/metrics.md and /metrics differ");
    let dashboard = include_str!("../../../../contrib/grafana/grantd.json");
    assert!(serde_json::from_str::<serde_json::Value>(dashboard).is_ok());
    for (file, text) in [
        ("grafana/grantd.json", dashboard),
        ("prometheus/grantd-alerts.yml", include_str!("../../../../contrib/prometheus/grantd-alerts.yml")),
    ] {
        let unknown: Vec<_> = names(text, &all).difference(&all).copied().collect();
        assert!(unknown.is_empty(), "{file} names what there is not: {unknown:?}");
    }
    let shown = names(dashboard, &all);
    assert_eq!(shown, all, "the dashboard shows everything");
}

/// The family of a sample: a histogram's samples have endings.
fn base<'t>(name: &'t str, families: &BTreeSet<&str>) -> &'t str {
    let endings = ["_bucket", "_sum", "_count"];
    let stripped = endings.iter().find_map(|ending| name.strip_suffix(ending)).filter(|base| families.contains(base));
    stripped.unwrap_or(name)
}

/// Words of a text that look like metrics.
fn names<'t>(text: &'t str, families: &BTreeSet<&str>) -> BTreeSet<&'t str> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    let metric =
        |word: &&str| ["grantd_", "process_"].iter().any(|start| word.starts_with(start)) && !word.ends_with('_');
    words.filter(metric).map(|word| base(word, families)).collect()
}
