//! Bounds of a request's head, and the typed answer past them.

use axum::body::Body;
use grantd_wire::limits::{HEAD_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX};
use grantd_wire::{Code, Error};
use http::{HeaderValue, Request, Response, StatusCode, header};

/// Counted as HTTP/1 writes a head, whatever it came in.
pub(super) fn is_head_too_large<B>(request: &Request<B>) -> bool {
    let mut bytes = request.method().as_str().len() + uri_len(request.uri()) + " ".len() + " HTTP/1.1\r\n\r\n".len();
    for (name, value) in request.headers() {
        let header_bytes = name.as_str().len() + value.len();
        if header_bytes > HEADER_BYTES_MAX {
            return true;
        }
        bytes += header_bytes + ": \r\n".len();
    }
    request.headers().len() > HEADERS_MAX || bytes > HEAD_BYTES_MAX
}

fn uri_len(uri: &http::Uri) -> usize {
    let scheme_len = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
    let authority_len = uri.authority().map_or(0, |authority| authority.as_str().len());
    scheme_len + authority_len + uri.path_and_query().map_or(0, |path| path.as_str().len())
}

pub(super) fn headers_too_large() -> Response<Body> {
    // An object of two strings always serialises.
    let json = serde_json::to_vec(&Error::new(Code::HeadersTooLarge)).unwrap_or_default();
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
