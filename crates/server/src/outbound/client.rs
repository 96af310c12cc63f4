//! One request and its answer over a guarded connection: bounded in time and bytes, no redirect followed, nothing kept.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use grantd_domain::destination::{OutboundAllow, Target};
use http::{HeaderMap, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use zeroize::Zeroizing;

use super::guard::{self, Connection};
use super::{Failed, Outbound};

/// Head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A request to send. No `Debug`: its headers carry the credential.
pub struct Outgoing<'a> {
    pub method: Method,
    /// Already allowed for the credential.
    pub target: &'a Target,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The body of the answer is read up to this; `None`: not at all.
    pub answer_bytes_max: Option<usize>,
}

/// What came back.
pub struct Answered {
    pub status: u16,
    /// None: not asked for, or larger than asked for.
    pub body: Option<Zeroizing<Vec<u8>>>,
}

/// Sends the request within `deadline`.
pub async fn exchange(
    outbound: &Outbound,
    allow: &OutboundAllow,
    outgoing: Outgoing<'_>,
    deadline: Duration,
) -> Result<Answered, Failed> {
    let whole = async {
        let connection = guard::connect(outbound, allow, outgoing.target).await?;
        send(connection, outgoing).await
    };
    tokio::time::timeout(deadline, whole).await.map_err(|_| Failed::TimedOut)?
}

async fn send(connection: Box<dyn Connection>, outgoing: Outgoing<'_>) -> Result<Answered, Failed> {
    let bytes_max = outgoing.answer_bytes_max;
    let request = request(outgoing)?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(connection))
        .await
        .map_err(|_| Failed::Broken)?;
    let call = async {
        let answer = sender.send_request(request).await.map_err(|_| Failed::Broken)?;
        let status = answer.status().as_u16();
        let body = match bytes_max {
            Some(max) => Limited::new(answer.into_body(), max).collect().await.ok(),
            None => None,
        };
        Ok(Answered { status, body: body.map(|body| Zeroizing::new(body.to_bytes().to_vec())) })
    };
    // The connection may be over before what came over it is read.
    let driven = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    let (call, driven) = (pin!(call), pin!(driven));
    tokio::select! {
        answered = call => answered,
        () = driven => Err(Failed::Broken),
    }
}

fn request(outgoing: Outgoing<'_>) -> Result<Request<Full<Bytes>>, Failed> {
    let target = outgoing.target;
    let default_port = if target.is_https() { 443 } else { 80 };
    let host = match target.port() {
        port if port == default_port => target.host().into_owned(),
        port => format!("{}:{port}", target.host()),
    };
    let uri: http::Uri = target.as_str().parse().map_err(|_| Failed::Broken)?;
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let mut request = Request::builder()
        .method(outgoing.method)
        .uri(path)
        .body(Full::new(outgoing.body))
        .map_err(|_| Failed::Broken)?;
    let headers = request.headers_mut();
    *headers = outgoing.headers;
    let host = HeaderValue::from_str(&host).map_err(|_| Failed::Broken)?;
    headers.insert(header::HOST, host);
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let agent = HeaderValue::from_static(concat!("grantd/", env!("CARGO_PKG_VERSION")));
    headers.entry(header::USER_AGENT).or_insert(agent);
    headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    Ok(request)
}
