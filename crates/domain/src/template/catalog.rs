//! The catalogue: every file of `providers/secrets/`, embedded when grantd is built.

use std::sync::LazyLock;

use super::Template;

macro_rules! embedded {
    ($($id:literal,)*) => {
        /// Id and text of every file, in the order of the ids.
        pub(super) const FILES: &[(&str, &str)] =
            &[$(($id, include_str!(concat!("../../../../providers/secrets/", $id, ".toml"))),)*];
    };
}

#[rustfmt::skip]
embedded![
    "airtable", "algolia", "anthropic", "assemblyai", "astra", "aws", "axiom", "braze", "brevo",
    "browserbase", "clerk", "clickhouse", "cloudflare", "coda", "couchdb", "cursor", "datadog", "deepgram",
    "discord", "druid", "elasticsearch", "elevenlabs", "exa", "firecrawl", "github", "gitlab", "google-ai",
    "grafana", "granola", "hubspot-private-app", "huggingface", "incident-io", "influxdb", "klaviyo",
    "linear", "meilisearch", "milvus", "mistral", "neo4j", "neon", "neon-sql", "notion", "openai",
    "opensearch", "pagerduty", "perplexity", "pinecone", "posthog", "qdrant", "recharge", "replicate",
    "resend", "rootly", "sendgrid", "sentry", "shopify", "shortcut", "slack-bot", "snowflake", "stripe",
    "supabase", "tavily", "terraform", "turso", "twilio", "typesense", "upstash", "vercel", "weaviate",
    "whatsapp-business", "workos",
];

static ALL: LazyLock<Vec<Template>> = LazyLock::new(|| {
    // A test reads every file, so that no build with a wrong one is released.
    FILES.iter().map(|(id, text)| Template::parse(text).unwrap_or_else(|e| panic!("template {id} {e}"))).collect()
});

/// Every template, in the order of the ids.
pub fn all() -> &'static [Template] {
    &ALL
}

/// The template with this id.
pub fn find(id: &str) -> Option<&'static Template> {
    let index = FILES.binary_search_by_key(&id, |(known, _)| known).ok()?;
    ALL.get(index)
}
