//! What happened, as people and programs read it.

use super::*;

fn counts(calls: i64, denied: i64, took: Option<[u64; 3]>) -> Value {
    let latency = took.map(|[p50, p95, p99]| json!({"p50_us": p50, "p95_us": p95, "p99_us": p99}));
    json!({
        "calls": calls, "allowed": calls - denied, "denied": denied, "failed": 0, "refreshed": 0, "refresh_failed": 0,
        "latency": latency,
    })
}

fn step(at: &str, counts: Value) -> Value {
    let mut step = counts;
    step["at"] = at.into();
    step
}

fn overview(range: &str) -> Value {
    json!({
        "range": range, "from": "2025-11-23T11:00:00.000Z", "to": "2025-11-24T10:20:00.000Z",
        "total": counts(1_200, 20, Some([400, 12_000, 1_240_000])),
        "steps": [
            step("2025-11-24T08:00:00.000Z", counts(1_200, 20, Some([400, 12_000, 1_240_000]))),
            step("2025-11-24T09:00:00.000Z", counts(0, 0, None)),
        ],
        "refusals": [{"code": "grant_revoked", "calls": 19}, {"code": null, "calls": 1}],
    })
}

#[tokio::test]
async fn people_read_sums_codes_and_the_hours_in_which_something_happened() {
    let server = Server::start(&[(200, overview("24h"))]).await;
    let done = server.run(&["overview", "--output", "table"]).await;
    assert_eq!(done.exit, Exit::Ok, "{}", done.err);
    let lines: Vec<&str> = done.out.lines().collect();
    let has = |words: &[&str]| lines.iter().any(|line| line.split_whitespace().eq(words.iter().copied()));
    assert!(has(&["took", "p50", "0.4", "ms,", "p95", "12", "ms,", "p99", "1.2", "s"]), "{}", done.out);
    assert!(has(&["grant_revoked", "19"]) && has(&["-", "1"]), "{}", done.out);
    let hour = "2025-11-24 08:00 1200 1180 20 0 0.4 ms 12 ms 1.2 s 0 0";
    assert!(has(&hour.split(' ').collect::<Vec<_>>()), "{}", done.out);
    assert!(!done.out.contains("09:00"), "{}", done.out);
    assert_eq!(server.seen()[0].target, format!("/api/v1/apps/{APP}/overview?range=24h"));
}

#[tokio::test]
async fn all_apps_are_asked_of_the_organization_and_programs_get_what_the_server_says() {
    let server = Server::start(&[(200, overview("30d"))]).await;
    let done = server.run(&["overview", "--all-apps", "--range", "30d"]).await;
    assert_eq!((done.exit, done.json()), (Exit::Ok, overview("30d")), "{}", done.err);
    assert_eq!(server.seen()[0].target, "/api/v1/overview?range=30d");
    let done = server.run(&["overview", "--fields", "total.calls,refusals"]).await;
    assert_eq!(done.json()["total.calls"], 1_200, "{}", done.out);
    assert_eq!(server.run(&["overview", "--range", "7d"]).await.exit, Exit::Usage);
}
