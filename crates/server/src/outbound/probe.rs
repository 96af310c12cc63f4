//! A template's probe as a request that carries the credential.
//!
//! Never: the credential in anything but the request itself. A damaged row is told without what it holds.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use grantd_domain::credential::SecretValue;
use grantd_domain::destination::{self, OutboundAllow, Target};
use grantd_domain::grant::ManagedSecret;
use grantd_domain::inject;
use grantd_domain::template::Call;
use grantd_wire::api::CredentialType;
use grantd_wire::sdk::InjectionTarget;
use grantd_wire::{Code, Error, TimeMs};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Region and service of the one probe that is signed: the global endpoint of AWS's token service.
const AWS_REGION: &str = "us-east-1";
const AWS_SERVICE: &str = "sts";

/// A probe with the credential in it. No `Debug`.
pub struct Armed {
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Checks that the secret may go where the call goes. The URL has no credential in it yet.
pub fn target(call: &Call, secret: &ManagedSecret, allow: &OutboundAllow) -> Result<Target, Error> {
    let target = Target::parse(&call.url).map_err(Error::from)?;
    destination::allow(&target, &secret.hosts, secret.any_host, allow).map_err(Error::from)?;
    Ok(target)
}

/// Puts the credential in, as the secret says it is sent.
pub fn arm(call: &Call, secret: &ManagedSecret, value: &SecretValue, now: TimeMs) -> Result<Armed, Error> {
    let damaged = || Error::new(Code::Internal);
    let mut headers = HeaderMap::new();
    for (name, text) in &call.headers {
        headers.insert(header_name(name)?, HeaderValue::from_str(text).map_err(|_| damaged())?);
    }
    let mut url = url(&call.url)?;
    let method = Method::from_bytes(call.method.as_str().as_bytes()).map_err(|_| damaged())?;
    let body = Bytes::from(call.body.clone().unwrap_or_default());
    if secret.credential_type == CredentialType::AwsSigV4 {
        sign_into(&mut headers, &method, &url, &body, value, now)?;
    } else {
        let token =
            inject::access_token(secret.credential_type, value.value(), value.fields()).map_err(|_| damaged())?;
        put(&mut headers, &secret.header, &secret.format.replacen(grantd_wire::sdk::INJECTION_TOKEN, &token, 1))?;
        for injection in &secret.injections {
            let text = inject::source(injection, &token, value.fields()).ok_or_else(damaged)?;
            match injection.target {
                InjectionTarget::Header => put(&mut headers, &injection.key, text)?,
                InjectionTarget::QueryParam => {
                    url.push(if url.contains('?') { '&' } else { '?' });
                    let pair =
                        form_urlencoded::Serializer::new(String::new()).append_pair(&injection.key, text).finish();
                    url.push_str(&pair);
                }
            }
        }
    }
    let target = Target::parse(&url).map_err(Error::from)?;
    Ok(Armed { method, target, headers, body })
}

fn url(text: &str) -> Result<String, Error> {
    Target::parse(text).map(|target| target.as_str().to_owned()).map_err(Error::from)
}

fn header_name(name: &str) -> Result<HeaderName, Error> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::new(Code::Internal))
}

fn put(headers: &mut HeaderMap, name: &str, text: &str) -> Result<(), Error> {
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::new(Code::Internal))?;
    value.set_sensitive(true);
    headers.insert(header_name(name)?, value);
    Ok(())
}

fn sign_into(
    headers: &mut HeaderMap,
    method: &Method,
    url: &str,
    body: &[u8],
    value: &SecretValue,
    now: TimeMs,
) -> Result<(), Error> {
    let field = |name: &str| value.fields().get(name).cloned();
    let secret = field("secret_key").ok_or(Code::Internal)?;
    let identity = Credentials::new(value.value(), secret, field("session_token"), None, "grantd").into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(now.0).unwrap_or_default());
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(AWS_REGION)
        .name(AWS_SERVICE)
        .time(time)
        .settings(settings)
        .build()
        .map_err(|_| Code::Internal)?
        .into();
    let request = SignableRequest::new(method.as_str(), url, std::iter::empty(), SignableBody::Bytes(body))
        .map_err(|_| Code::Internal)?;
    let (instructions, _) = sign(request, &params).map_err(|_| Code::Internal)?.into_parts();
    for (name, text) in instructions.headers() {
        put(headers, name, text)?;
    }
    Ok(())
}
