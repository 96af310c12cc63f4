//! The catalogue: every file of `providers/oauth/`, embedded when grantd is built.

use std::sync::LazyLock;

use super::Provider;

macro_rules! embedded {
    ($($id:literal,)*) => {
        /// Id and text of every file, in the order of the ids.
        pub(super) const FILES: &[(&str, &str)] =
            &[$(($id, include_str!(concat!("../../../../providers/oauth/", $id, ".toml"))),)*];
    };
}

#[rustfmt::skip]
embedded![
    "acuity-scheduling", "adobe", "aircall", "airtable", "apollo", "asana", "atlassian", "attio", "autodesk",
    "basecamp", "bitbucket", "bitly", "box", "brex", "cal-com", "calendly", "canva", "clickup", "close",
    "constant-contact", "contentful", "deel", "dialpad", "digitalocean", "discord", "docusign", "dropbox", "ebay",
    "eventbrite", "facebook", "figma", "github", "gitlab", "google", "hubspot", "instagram", "klaviyo", "linear",
    "linkedin", "mailchimp", "mercury", "microsoft", "miro", "monday", "notion", "outreach", "pagerduty", "paypal",
    "pinterest", "pipedrive", "quickbooks", "ramp", "reddit", "ringcentral", "rippling", "salesforce", "sentry",
    "slack", "snapchat", "spotify", "square", "squarespace", "stripe", "tiktok", "todoist", "twitter", "typeform",
    "webex", "webflow", "xero", "zoom",
];

static ALL: LazyLock<Vec<Provider>> = LazyLock::new(|| {
    // A test reads every file, so that no build with a wrong one is released.
    FILES.iter().map(|(id, text)| Provider::parse(text).unwrap_or_else(|e| panic!("provider {id} {e}"))).collect()
});

/// Every provider, in the order of the ids.
pub fn all() -> &'static [Provider] {
    &ALL
}

/// The provider with this id.
pub fn find(id: &str) -> Option<&'static Provider> {
    let index = FILES.binary_search_by_key(&id, |(known, _)| known).ok()?;
    ALL.get(index)
}
