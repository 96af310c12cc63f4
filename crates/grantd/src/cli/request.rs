//! `grantd request`: one real call with a runtime key, for trying things out.
//!
//! Invariant: neither the key nor the credential is ever in what this writes, not even when the provider echoes it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use grantd_sdk::{App, Error, Response};
use grantd_wire::limits::PROXY_BODY_BYTES_MAX;
use serde::Serialize;

use super::failure::{Exit, Failure, chain};
use super::http::{CERTIFICATE_HINT, is_about_certificates, next_step};
use super::input::{Pair, parse_pair, read_token, unreadable};
use super::table::escape;

/// Bytes of a body given on the command line, in a file or on stdin.
const BODY_BYTES_MAX: usize = PROXY_BODY_BYTES_MAX;

#[derive(clap::Args)]
pub struct RequestArgs {
    /// HTTP method, such as GET
    pub method: String,
    /// URL of the provider: https, or http on localhost or a loopback address
    pub url: String,
    /// The grant whose credential the call needs
    #[arg(long, value_name = "GRANT")]
    pub grant: String,
    /// Header of the call, may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE", value_parser = parse_header)]
    pub headers: Vec<Pair>,
    /// JSON body: the text itself, @FILE, or - for stdin
    #[arg(long, value_name = "JSON", conflicts_with = "data")]
    pub json: Option<String>,
    /// Raw body: the text itself, @FILE, or - for stdin
    #[arg(long, value_name = "DATA")]
    pub data: Option<String>,
    /// Query parameter, may be repeated
    #[arg(long = "query", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub query: Vec<Pair>,
    /// Why, for the audit log
    #[arg(long)]
    pub reason: Option<String>,
    /// Context of the call, may be repeated
    #[arg(long = "context", value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub context: Vec<Pair>,
    /// Who calls, for the audit log: a label or an agent's id
    #[arg(long)]
    pub caller: Option<String>,
    /// File with the app's API key [env: ALTER_API_KEY holds the key itself]
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Let the server make the call. Not built yet
    #[arg(long)]
    pub proxy: bool,
}

/// What the provider answered.
#[derive(Debug, Serialize)]
pub struct RequestOutput {
    pub status: u16,
    /// By lower-case name; a repeated header is joined with commas.
    pub headers: BTreeMap<String, String>,
    #[serde(flatten)]
    pub body: Body,
    pub duration_ms: u64,
    /// The audit event of the release.
    pub event_id: Option<String>,
}

/// A body, as text if it is text.
#[derive(Debug, Serialize)]
pub enum Body {
    #[serde(rename = "body")]
    Text(String),
    #[serde(rename = "body_b64", serialize_with = "as_base64")]
    Bytes(Vec<u8>),
}

/// Makes the call. The key is in `--api-key-file` or `ALTER_API_KEY`, the server `ALTER_BASE_URL` or else `server`.
pub async fn run(
    args: RequestArgs,
    server: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<RequestOutput, Failure> {
    if args.proxy {
        return Err(Failure::new(Exit::Error, "feature_unavailable", "Proxy mode is not built yet.")
            .hint("Leave out --proxy: the call is then made from here with a released credential."));
    }
    let app = connect(&args, server, env)?;
    let response = describe(&app, args)?.send().await;
    app.close().await;
    response.map(RequestOutput::from).map_err(|error| failure_of(&error))
}

impl RequestOutput {
    /// Ok below 400, whatever the call was for.
    pub fn exit_code(&self) -> Exit {
        if self.status < 400 { Exit::Ok } else { Exit::Error }
    }

    /// Status line, headers, a blank line and the body, safe to show on a terminal.
    pub fn render(&self) -> String {
        let reason = reqwest::StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let mut text = format!("HTTP {} {}", self.status, reason.unwrap_or_default()).trim_end().to_owned();
        for (name, value) in &self.headers {
            let _ = write!(text, "\n{name}: {}", escape(value));
        }
        text.push_str("\n\n");
        match &self.body {
            Body::Text(body) => {
                for line in body.lines() {
                    let cells: Vec<String> = line.split('\t').map(escape).collect();
                    text.push_str(&cells.join("\t"));
                    text.push('\n');
                }
            }
            Body::Bytes(bytes) => {
                let _ =
                    writeln!(text, "<{} bytes that are no text: --output json shows them as body_b64>", bytes.len());
            }
        }
        text
    }
}

impl From<Response> for RequestOutput {
    fn from(response: Response) -> Self {
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in &response.headers {
            let value = String::from_utf8_lossy(value.as_bytes());
            headers
                .entry(name.as_str().to_owned())
                .and_modify(|joined| {
                    joined.push_str(", ");
                    joined.push_str(&value);
                })
                .or_insert_with(|| value.to_string());
        }
        let body = match String::from_utf8(response.body.to_vec()) {
            Ok(text) => Body::Text(text),
            Err(error) => Body::Bytes(error.into_bytes()),
        };
        let duration_ms = u64::try_from(response.duration.as_millis()).unwrap_or(u64::MAX);
        Self { status: response.status, headers, body, duration_ms, event_id: response.event_id }
    }
}

/// The client, from key and server.
fn connect(args: &RequestArgs, server: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<App, Failure> {
    let filled = |name: &str| env(name).filter(|value| !value.is_empty());
    let no_key = |message: String| {
        Failure::new(Exit::NotSignedIn, "no_api_key", message)
            .hint("Mint a key with `grantd keys mint`, then set ALTER_API_KEY or name its file with --api-key-file.")
    };
    let builder = match &args.api_key_file {
        Some(path) => App::builder(&**read_token(path).map_err(|why| no_key(format!("--api-key-file: {why}")))?),
        None => App::builder(filled("ALTER_API_KEY").ok_or_else(|| no_key("There is no API key.".to_owned()))?),
    };
    let (place, base_url) = match filled("ALTER_BASE_URL") {
        Some(base_url) => ("ALTER_BASE_URL", base_url),
        None => ("--server", server.to_owned()),
    };
    builder.base_url(base_url).build().map_err(|error| match error {
        Error::MalformedKey => no_key("The API key is malformed: its form or checksum is wrong.".to_owned()),
        Error::Invalid(why) => Failure::usage(format!("{place}: {why}")),
        other => failure_of(&other),
    })
}

/// The call, from the flags.
fn describe(app: &App, args: RequestArgs) -> Result<grantd_sdk::RequestBuilder, Failure> {
    let pairs = |pairs: Vec<Pair>| pairs.into_iter().map(|pair| (pair.name, pair.value));
    let names_type = args.headers.iter().any(|header| header.name.eq_ignore_ascii_case("content-type"));
    let mut request = app
        .request(&args.method, &args.url)
        .grant_id(args.grant)
        .headers(pairs(args.headers))
        .any_status()
        .redact_echo();
    if let Some(json) = args.json {
        let body = read_body("--json", &json)?;
        // Checked and sent as it was written: order of keys and digits of numbers stay.
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
            return Err(Failure::usage(format!("--json is no JSON: {error}. Use --data for other bodies")));
        }
        request = request.body(body);
        if !names_type {
            request = request.header("content-type", "application/json");
        }
    } else if let Some(data) = args.data {
        request = request.body(read_body("--data", &data)?);
    }
    for (name, value) in pairs(args.query) {
        request = request.query(name, value);
    }
    for (name, value) in pairs(args.context) {
        request = request.context(name, value);
    }
    if let Some(reason) = args.reason {
        request = request.reason(reason);
    }
    if let Some(caller) = args.caller {
        request = request.caller(caller);
    }
    Ok(request)
}

/// `-` is stdin, `@file` a file, anything else the body itself.
fn read_body(flag: &str, text: &str) -> Result<Vec<u8>, Failure> {
    let read = |input: &mut dyn Read, what: &str| {
        let mut bytes = Vec::new();
        let limit = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
        match input.take(limit).read_to_end(&mut bytes) {
            Err(error) => Err(unreadable(&format!("{flag}: cannot read {what}: {error}"))),
            Ok(_) if bytes.len() > BODY_BYTES_MAX => {
                Err(unreadable(&format!("{flag}: {what} holds more than {BODY_BYTES_MAX} bytes")))
            }
            Ok(_) => Ok(bytes),
        }
    };
    match (text, text.strip_prefix('@')) {
        ("-", _) => read(&mut std::io::stdin().lock(), "stdin"),
        (_, Some(path)) => {
            let mut file = std::fs::File::open(path)
                .map_err(|error| unreadable(&format!("{flag}: cannot open {path}: {error}")))?;
            read(&mut file, path)
        }
        _ => Ok(text.as_bytes().to_vec()),
    }
}

/// A failure of this command line, with what to do next.
fn failure_of(error: &Error) -> Failure {
    if let Some(refusal) = error.refusal() {
        let code = refusal.code.as_deref().unwrap_or("refused");
        let failure = Failure::new(Exit::of_status(refusal.status), code, refusal.message.clone());
        return match (&refusal.hint, error) {
            (Some(hint), _) => failure.hint(hint.clone()),
            (None, Error::InsufficientScope { missing, .. }) if !missing.is_empty() => {
                failure.hint(format!("Mint a key with `grantd keys mint --scopes {}`.", missing.join(",")))
            }
            (None, Error::RateLimit { retry_after: Some(after), .. }) => {
                failure.hint(format!("Try again in {} s.", after.as_secs()))
            }
            (None, _) => match next_step(code) {
                Some(next) => failure.hint(next),
                None => failure,
            },
        };
    }
    let failure = |code: &str, hint: &str| Failure::new(Exit::Error, code, chain(error)).hint(hint);
    match error {
        Error::Invalid(why) => Failure::usage(why.clone()),
        Error::Network { .. } if is_about_certificates(&chain(error)) => failure("unreachable", CERTIFICATE_HINT),
        Error::Network { .. } => failure("unreachable", "Check the address, and that what it names is running."),
        Error::Timeout { .. } => {
            failure("timeout", "Try again; look at the audit log first if the call changes things.")
        }
        Error::AnswerTooLarge { .. } => failure("answer_too_large", "Ask the provider for less at once."),
        other => Failure::from_error(Exit::Error, other),
    }
}

/// `Name: value`.
fn parse_header(text: &str) -> Result<Pair, String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok(Pair { name: name.trim().to_owned(), value: value.trim().to_owned() })
        }
        _ => Err("write 'Name: value'".to_owned()),
    }
}

fn as_base64<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use clap::Parser as _;
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str = "alter_rk_aaaaaaaaaaaaaaaaaaaaaa_l77ykl";
    const GRANT: &str = "0199c0de-0000-7000-8000-00000000beef";

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: RequestArgs,
    }

    fn args(line: &[&str]) -> RequestArgs {
        let line = Line::try_parse_from([&["request"], line].concat());
        line.ok().unwrap().args
    }

    /// A server on loopback that answers `/sdk/token` with `release` and echoes everything else.
    fn serve(status: u16, release: Value) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut head = Vec::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if line.trim().is_empty() {
                        break;
                    }
                    head.push(line.trim().to_owned());
                }
                let length =
                    head.iter().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let (status, body) = if head[0].contains("/sdk/token") {
                    (status, release.to_string())
                } else {
                    (200, json!({"head": head, "body": String::from_utf8(body).unwrap()}).to_string())
                };
                let length = body.len();
                let event = "x-grantd-event-id: 0199c0de-0000-7000-8000-00000000e0e0\r\nx-two: 1\r\nx-two: 2";
                let head =
                    format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n{event}\r\n\r\n");
                stream.write_all((head + &body).as_bytes()).unwrap();
            }
        });
        format!("http://{address}")
    }

    async fn call(server: &str, more: &[&str]) -> Result<RequestOutput, Failure> {
        let url = format!("{server}/v1/x");
        let line = [&["post", &url, "--grant", GRANT], more].concat();
        run(args(&line), server, &|name| (name == "ALTER_API_KEY").then(|| KEY.to_owned())).await
    }

    #[tokio::test]
    async fn a_call_prints_the_promised_shape_and_no_credential() {
        let server = serve(200, json!({"access_token": "tok-secret-1", "grant_id": GRANT}));
        let more = ["--header", "X-Mine: a: b", "--json", r#"{"b":1.10,"a":2}"#, "--query", "q=x y"];
        let output = call(&server, &more).await.unwrap();
        assert_eq!(output.exit_code(), Exit::Ok);
        let json = serde_json::to_value(&output).unwrap();
        let fields: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields.len(), 5, "{fields:?}");
        assert_eq!((&json["status"], &json["headers"]["x-two"]), (&json!(200), &json!("1, 2")));
        assert_eq!(json["event_id"], "0199c0de-0000-7000-8000-00000000e0e0");
        assert!(json["duration_ms"].is_u64());
        let echo: Value = serde_json::from_str(json["body"].as_str().unwrap()).unwrap();
        assert_eq!(
            (&echo["body"], &echo["head"][0]),
            (&json!(r#"{"b":1.10,"a":2}"#), &json!("POST /v1/x?q=x%20y HTTP/1.1"))
        );
        let head = echo["head"].to_string();
        for wanted in ["x-mine: a: b", "content-type: application/json", "authorization: Bearer [redacted]"] {
            assert!(head.contains(wanted), "{head}");
        }
        for text in [json.to_string(), output.render(), format!("{output:?}")] {
            assert!(!text.contains("tok-secret-1") && !text.contains(KEY), "{text}");
        }
    }

    #[tokio::test]
    async fn a_refusal_is_a_failure_with_its_exit_code() {
        for (status, code, exit) in [
            (401, "invalid_key", Exit::NotSignedIn),
            (403, "grant_revoked", Exit::Forbidden),
            (404, "grant_not_found", Exit::NotFound),
            (429, "rate_limit_exceeded", Exit::RateLimited),
            (422, "blocked_destination", Exit::Error),
        ] {
            let server = serve(status, json!({"error": code, "message": "m", "hint": "h"}));
            let failure = call(&server, &[]).await.unwrap_err();
            assert_eq!((failure.exit, &*failure.error, failure.hint.as_deref()), (exit, code, Some("h")));
        }
    }

    #[tokio::test]
    async fn what_is_missing_is_said_with_what_to_do() {
        let server = serve(200, json!({}));
        let line = ["GET", "https://a.example", "--grant", GRANT];
        let no_env = |_: &str| None;
        let no_key = run(args(&line), &server, &no_env).await.unwrap_err();
        assert_eq!(no_key.exit, Exit::NotSignedIn);
        assert!(no_key.line().contains("ALTER_API_KEY"), "{}", no_key.line());
        let bad_key = run(args(&line), &server, &|_| Some("alter_rk_mistyped".to_owned())).await.unwrap_err();
        assert!(bad_key.line().contains("malformed") && !bad_key.line().contains("mistyped"), "{}", bad_key.line());
        let no_file = args(&[&line[..], &["--api-key-file", "/nonexistent/key"]].concat());
        assert_eq!(run(no_file, &server, &no_env).await.unwrap_err().exit, Exit::NotSignedIn);
        let proxy = call(&server, &["--proxy"]).await.unwrap_err();
        assert!(proxy.line().contains("not built yet") && proxy.hint.is_some());
        for more in [&["--json", "{"][..], &["--data", "@/nonexistent/body"], &["--header", "Host: x"]] {
            assert_eq!(call(&server, more).await.unwrap_err().exit, Exit::Usage, "{more:?}");
        }
        let base_url = |name: &str| Some(if name == "ALTER_API_KEY" { KEY } else { "http://10.0.0.1" }.to_owned());
        let refused = run(args(&line), &server, &base_url).await.unwrap_err();
        assert!(refused.message.starts_with("ALTER_BASE_URL: "), "{}", refused.message);
    }

    #[tokio::test]
    async fn an_unreachable_server_is_said_so() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = call(&format!("http://{closed}"), &[]).await.unwrap_err();
        assert_eq!((failure.exit, &*failure.error), (Exit::Error, "unreachable"));
        assert!(failure.message.contains("the vault at http://127.0.0.1"), "{}", failure.message);
    }

    #[test]
    fn bodies_are_shown_without_touching_the_terminal() {
        let output = |status, body| RequestOutput {
            status,
            headers: BTreeMap::from([("x-a".to_owned(), "\u{1b}[2J".to_owned())]),
            body,
            duration_ms: 1,
            event_id: None,
        };
        let text = output(404, Body::Text("a\tb\r\n\u{1b}[31mc".to_owned()));
        assert_eq!(text.render(), "HTTP 404 Not Found\nx-a: \\u{1b}[2J\n\na\tb\n\\u{1b}[31mc\n");
        assert_eq!(text.exit_code(), Exit::Error);
        let binary = output(200, Body::Bytes(vec![0xff, 0xfe]));
        assert_eq!(serde_json::to_value(&binary).unwrap()["body_b64"], "//4=");
        assert!(binary.render().ends_with("\n<2 bytes that are no text: --output json shows them as body_b64>\n"));
    }

    #[test]
    fn headers_are_read_as_people_write_them() {
        let header = parse_header("X-Time:  10:30 ").unwrap();
        assert_eq!((&*header.name, &*header.value), ("X-Time", "10:30"));
        assert!(parse_header("X-Time").is_err() && parse_header(": x").is_err());
        assert!(Line::try_parse_from(["request", "GET", "u", "--grant", "g", "--json", "1", "--data", "2"]).is_err());
    }
}
