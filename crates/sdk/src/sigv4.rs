//! AWS Signature Version 4, signed here because the vault sees neither body nor query.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode,
    sign,
};
use aws_sigv4::sign::v4;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;

/// Whom the signature names, and for what it counts.
pub struct Credential<'a> {
    pub access_key_id: &'a str,
    pub secret: &'a str,
    pub session_token: Option<&'a str>,
    pub region: &'a str,
    pub service: &'a str,
}

/// What an AWS host name tells.
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Scope {
    pub region: Option<String>,
    pub service: Option<String>,
}

/// The headers that sign the request: authorization, date, payload hash, and the session token if there is one.
pub fn headers(
    credential: &Credential<'_>,
    method: &Method,
    url: &Url,
    body: &[u8],
    now: SystemTime,
) -> Result<HeaderMap, &'static str> {
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    headers_with(settings, credential, method, url, body, now)
}

fn headers_with(
    mut settings: SigningSettings,
    credential: &Credential<'_>,
    method: &Method,
    url: &Url,
    body: &[u8],
    now: SystemTime,
) -> Result<HeaderMap, &'static str> {
    if credential.service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    }
    let keys = Credentials::new(
        credential.access_key_id,
        credential.secret,
        credential.session_token.map(str::to_owned),
        None,
        "grantd",
    );
    let identity = keys.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(credential.region)
        .name(credential.service)
        .time(now)
        .settings(settings)
        .build()
        .expect("every part is given");
    let request = SignableRequest::new(method.as_str(), url.as_str(), std::iter::empty(), SignableBody::Bytes(body))
        .map_err(|_| "the URL cannot be signed for AWS")?;
    let params = params.into();
    let (instructions, _) =
        sign(request, &params).map_err(|_| "the AWS credential holds a character no header can carry")?.into_parts();
    let mut headers = HeaderMap::new();
    for (name, value) in instructions.headers() {
        let mut value =
            HeaderValue::from_str(value).map_err(|_| "the AWS credential holds a character no header can carry")?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).expect("the signer names real headers"), value);
    }
    Ok(headers)
}

/// Region and signing name an AWS host stands for; what it does not tell is `None`.
pub fn scope_of_host(host: &str) -> Scope {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let suffixes = [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws", ".on.aws"];
    let Some((rest, suffix)) = suffixes.iter().find_map(|s| Some((host.strip_suffix(s)?, *s))) else {
        return Scope::default();
    };
    // A virtual interface puts its own name in front: `vpce-1.sqs.eu-west-1.vpce`.
    let rest = rest.strip_suffix(".vpce").unwrap_or(rest);
    let mut labels: Vec<&str> = rest.split('.').filter(|l| *l != "dualstack").collect();
    let last = labels.pop().unwrap_or_default();
    if is_region(last) {
        let service = labels.last().and_then(|s| signing_name(s, labels.len().checked_sub(2).map(|i| labels[i])));
        return Scope { region: Some(last.to_owned()), service };
    }
    // `s3-eu-west-1`, the older way to write it.
    if let Some(region) = last.strip_prefix("s3-").filter(|r| is_region(r)) {
        return Scope { region: Some(region.to_owned()), service: Some("s3".to_owned()) };
    }
    // `name.eu-west-1.es`: the region stands before the service.
    if let Some(region) = labels.last().filter(|r| is_region(r)) {
        return Scope { region: Some((*region).to_owned()), service: signing_name(last, None) };
    }
    let global = matches!(
        last,
        "iam"
            | "sts"
            | "s3"
            | "route53"
            | "cloudfront"
            | "organizations"
            | "waf"
            | "shield"
            | "globalaccelerator"
            | "importexport"
            | "health"
            | "support"
            | "ce"
            | "budgets"
    );
    let home = if suffix == ".amazonaws.com.cn" { "cn-north-1" } else { "us-east-1" };
    Scope { region: global.then(|| home.to_owned()), service: signing_name(last, labels.last().copied()) }
}

/// The name a service signs with, where its host name differs. `before` is the label in front.
fn signing_name(label: &str, before: Option<&str>) -> Option<String> {
    let label = label.strip_suffix("-fips").unwrap_or(label);
    let name = match (before, label) {
        (_, "") => return None,
        (_, "s3-accesspoint" | "s3-accelerate" | "s3-control") => "s3",
        (_, "email") => "ses",
        (_, "lambda-url") => "lambda",
        (_, "bedrock-runtime" | "bedrock-agent" | "bedrock-agent-runtime" | "bedrock-data-automation") => "bedrock",
        (_, "ddb") => "dynamodb",
        (_, "transcribestreaming") => "transcribe",
        (_, "appstream2") => "appstream",
        (_, "personalize-runtime" | "personalize-events") => "personalize",
        (_, "oidc") => "sso-oauth",
        (Some("portal"), "sso") => "awsssoportal",
        (Some(before), "iot") if before == "data" || before.ends_with("-ats") => "iotdata",
        (_, "marketplace") => "aws-marketplace",
        (_, other) => other,
    };
    Some(name.to_owned())
}

/// `eu-west-1`, `us-gov-east-1`, `cn-north-1`.
fn is_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let [area, middle @ .., number] = &parts[..] else { return false };
    area.len() >= 2
        && area.len() <= 4
        && !middle.is_empty()
        && number.len() == 1
        && number.bytes().all(|b| b.is_ascii_digit())
        && std::iter::once(area).chain(middle).all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    /// 2015-08-30T12:36:00Z, the moment of AWS's published test suite.
    const SUITE_UNIX_S: u64 = 1_440_938_160;
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn suite_credential(session_token: Option<&'static str>) -> Credential<'static> {
        Credential {
            access_key_id: "AKIDEXAMPLE",
            secret: SECRET,
            session_token,
            region: "us-east-1",
            service: "service",
        }
    }

    fn suite(method: &Method, url: &str, session_token: Option<&'static str>) -> String {
        let now = UNIX_EPOCH + Duration::from_secs(SUITE_UNIX_S);
        // The suite signs no payload header; all else is what calls are signed with.
        let settings = SigningSettings::default();
        let url = url.parse().unwrap();
        let headers = headers_with(settings, &suite_credential(session_token), method, &url, b"", now).unwrap();
        headers["authorization"].to_str().unwrap().rsplit('=').next().unwrap().to_owned()
    }

    #[test]
    fn the_published_test_suite_agrees() {
        let get = |url| suite(&Method::GET, url, None);
        let vanilla = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        assert_eq!(get("https://example.amazonaws.com/"), vanilla);
        let post = "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11";
        assert_eq!(suite(&Method::POST, "https://example.amazonaws.com/?Param1=value1", None), post);
        let token = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        let with_token = "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8";
        assert_eq!(suite(&Method::GET, "https://example.amazonaws.com/", Some(token)), with_token);
    }

    #[test]
    fn the_payload_is_hashed_and_signed() {
        let now = UNIX_EPOCH + Duration::from_secs(SUITE_UNIX_S);
        let url = "https://sqs.us-east-1.amazonaws.com/".parse().unwrap();
        let signed = headers(&suite_credential(None), &Method::POST, &url, b"{}", now).unwrap();
        assert_eq!(signed["x-amz-content-sha256"], "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
        assert_eq!(signed["x-amz-date"], "20150830T123600Z");
        let authorization = signed["authorization"].to_str().unwrap();
        assert!(authorization.contains("SignedHeaders=host;x-amz-content-sha256;x-amz-date,"), "{authorization}");
        assert!(!format!("{signed:?}").contains("AKIDEXAMPLE"));
    }

    #[test]
    fn only_s3_signs_its_path_as_it_is() {
        let now = UNIX_EPOCH + Duration::from_secs(SUITE_UNIX_S);
        let signature = |service, url: &str| {
            let credential = Credential { service, ..suite_credential(None) };
            let signed = headers(&credential, &Method::GET, &url.parse().unwrap(), b"", now).unwrap();
            signed["authorization"].to_str().unwrap().to_owned()
        };
        let (plain, doubled) = ("https://h.example/a//b%20c", "https://h.example/a/b%20c");
        assert_ne!(signature("s3", plain), signature("s3", doubled));
        assert_eq!(signature("sqs", plain), signature("sqs", doubled));
    }

    #[test]
    fn hosts_name_region_and_service() {
        for (host, region, service) in [
            ("sqs.eu-west-1.amazonaws.com", "eu-west-1", "sqs"),
            ("dynamodb.us-gov-west-1.amazonaws.com", "us-gov-west-1", "dynamodb"),
            ("ec2.cn-north-1.amazonaws.com.cn", "cn-north-1", "ec2"),
            ("s3.amazonaws.com", "us-east-1", "s3"),
            ("bucket.s3.amazonaws.com", "us-east-1", "s3"),
            ("my.bucket.s3.ap-southeast-2.amazonaws.com", "ap-southeast-2", "s3"),
            ("bucket.s3-us-west-2.amazonaws.com", "us-west-2", "s3"),
            ("bucket.s3.dualstack.eu-west-1.amazonaws.com", "eu-west-1", "s3"),
            ("kms-fips.us-east-1.amazonaws.com", "us-east-1", "kms"),
            ("iam.amazonaws.com", "us-east-1", "iam"),
            ("sts.amazonaws.com", "us-east-1", "sts"),
            ("sts.eu-central-1.amazonaws.com", "eu-central-1", "sts"),
            ("abc123.execute-api.us-east-1.amazonaws.com", "us-east-1", "execute-api"),
            ("search-x.us-east-1.es.amazonaws.com", "us-east-1", "es"),
            ("abc.us-east-1.aoss.amazonaws.com", "us-east-1", "aoss"),
            ("abc.lambda-url.us-east-1.on.aws", "us-east-1", "lambda"),
            ("lambda.us-east-1.api.aws", "us-east-1", "lambda"),
            ("email.us-east-1.amazonaws.com", "us-east-1", "ses"),
            ("bedrock-runtime.us-east-1.amazonaws.com", "us-east-1", "bedrock"),
            ("api.ecr.us-east-1.amazonaws.com", "us-east-1", "ecr"),
            ("data-ats.iot.us-east-1.amazonaws.com", "us-east-1", "iotdata"),
            ("vpce-1.sqs.eu-west-1.vpce.amazonaws.com", "eu-west-1", "sqs"),
        ] {
            let wanted = Scope { region: Some(region.to_owned()), service: Some(service.to_owned()) };
            assert_eq!(scope_of_host(host), wanted, "{host}");
        }
        let accelerated = Scope { region: None, service: Some("s3".to_owned()) };
        assert_eq!(scope_of_host("bucket.s3-accelerate.amazonaws.com"), accelerated);
        for host in ["minio.example", "eu-west-1.example", "amazonaws.com", "evilamazonaws.com", "127.0.0.1"] {
            assert_eq!(scope_of_host(host), Scope::default(), "{host}");
        }
    }
}
