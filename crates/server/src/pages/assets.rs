//! Style sheets, scripts and images: parts of the program, under names that hold the hash of their content.

use std::sync::LazyLock;

use axum::body::Body;
use grantd_wire::sign::{hex, sha256};
use http::{HeaderValue, header};

use crate::answer::{Answer, raw};

/// Bytes of a content's hash that its name holds.
const HASH_BYTES: usize = 8;

struct Asset {
    stem: &'static str,
    extension: &'static str,
    content_type: &'static str,
    content: &'static str,
}

const fn css(stem: &'static str, content: &'static str) -> Asset {
    Asset { stem, extension: "css", content_type: "text/css; charset=utf-8", content }
}

/// All of them.
const ASSETS: &[Asset] = &[
    css("tokens", include_str!("../../assets/tokens.css")),
    css("base", include_str!("../../assets/base.css")),
    css("parts", include_str!("../../assets/parts.css")),
    css("sheet", include_str!("../../assets/sheet.css")),
    css("portal", include_str!("../../assets/portal.css")),
    Asset {
        stem: "connect",
        extension: "js",
        content_type: "text/javascript; charset=utf-8",
        content: include_str!("../../assets/connect.js"),
    },
    Asset {
        stem: "portal",
        extension: "js",
        content_type: "text/javascript; charset=utf-8",
        content: include_str!("../../assets/portal.js"),
    },
    Asset {
        stem: "favicon",
        extension: "svg",
        content_type: "image/svg+xml",
        content: include_str!("../../assets/favicon.svg"),
    },
];

/// Path and asset.
static PATHS: LazyLock<Vec<(String, &'static Asset)>> = LazyLock::new(|| {
    let path = |asset: &Asset| {
        let hash = hex(&sha256(asset.content.as_bytes())[..HASH_BYTES]);
        format!("/assets/{}.{hash}.{}", asset.stem, asset.extension)
    };
    ASSETS.iter().map(|asset| (path(asset), asset)).collect()
});

/// The answer to `GET /assets/…`, `path` without the base. `None`: there is no such file, or not with this content any more.
pub fn asset(path: &str) -> Option<Answer> {
    let (_, asset) = PATHS.iter().find(|(known, _)| known == path)?;
    let mut answer = raw(200, asset.content_type, Body::from(asset.content));
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    // An image that is opened by itself is a document, and runs nothing.
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    Some(answer)
}

/// The path of an asset, named `stem.extension`.
pub(super) fn path(name: &str) -> Option<&'static str> {
    let named =
        |asset: &Asset| name.strip_prefix(asset.stem).and_then(|n| n.strip_prefix('.')) == Some(asset.extension);
    PATHS.iter().find(|(_, asset)| named(asset)).map(|(path, _)| path.as_str())
}
