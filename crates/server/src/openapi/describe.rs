//! What each route of the management API takes and gives. One arm per route: a new route says it here, or does not compile.

use grantd_wire::Code;
use grantd_wire::api;
use schemars::{JsonSchema, SchemaGenerator};

use crate::routes::Api;

/// Makes a schema, and remembers those it names.
pub type Schema = fn(&mut SchemaGenerator) -> schemars::Schema;

/// The query a route takes.
pub enum Query {
    Nothing,
    /// Every field of the type.
    All(Schema),
    /// Of the type's fields those that have a meaning for the route.
    Only(Schema, &'static [&'static str]),
}

/// The body a route takes.
pub struct Body {
    pub schema: Schema,
    pub required: bool,
    /// JSON.
    pub example: Option<&'static str>,
}

/// What a route answers when it does what was asked.
pub enum Answered {
    Json(Schema),
    /// A stream of lines.
    Export,
}

/// What a route does, takes and gives, beside what its row says.
pub struct Operation {
    pub id: &'static str,
    pub tag: &'static str,
    pub summary: &'static str,
    pub description: &'static str,
    pub query: Query,
    pub body: Option<Body>,
    pub status: u16,
    /// Whether it takes an `Idempotency-Key`.
    pub is_once: bool,
    pub answer: Answered,
    /// Codes beside those that the path and the method bring.
    pub codes: &'static [Code],
}

/// Groups of operations.
pub const TAGS: &[(&str, &str)] = &[
    ("apps", "Programs that use credentials. All else belongs to one of them."),
    ("keys", "What an app authenticates with."),
    ("scim", "SCIM 2.0: where the directory of an identity provider tells what became of its users."),
    ("providers", "OAuth providers that apps are registered with, so that users can connect their accounts."),
    ("provider-catalog", "What is known of OAuth providers."),
    ("identity", "Who vouches for an app's users, and the users and groups that were seen."),
    ("secret-templates", "What the credentials of known vendors need."),
    ("managed-secrets", "Credentials that operators store: never read again, only used, rotated and destroyed."),
    ("grants", "Permission to use one credential."),
    ("connect-sessions", "A user lets an app use an account at a provider."),
    ("audit", "What happened."),
    ("overview", "How much of it happened, and when."),
    ("operators", "Who administers."),
    ("tokens", "Personal access tokens, with which operators call this API."),
    ("identity-keys", "Keys that sign assertions of identity."),
    ("about", "The organization, who calls, and this API."),
];

fn gives<T: JsonSchema>(id: &'static str, tag: &'static str, summary: &'static str) -> Operation {
    Operation {
        id,
        tag,
        summary,
        description: "",
        query: Query::Nothing,
        body: None,
        status: 200,
        is_once: false,
        answer: Answered::Json(schema_of::<T>),
        codes: &[],
    }
}

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<T>()
}

/// The schema itself: its fields become parameters.
fn fields_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> schemars::Schema {
    T::json_schema(generator)
}

/// A list counted by offset, without filters.
fn lists<T: JsonSchema>(id: &'static str, tag: &'static str, summary: &'static str) -> Operation {
    gives::<api::Page<T>>(id, tag, summary).filtered(&["limit", "offset"])
}

impl Operation {
    fn about(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    /// 201, not 200; once for each `Idempotency-Key`.
    fn creates(self) -> Self {
        Self { status: 201, ..self }.once()
    }

    /// It takes an `Idempotency-Key`.
    fn once(self) -> Self {
        Self { is_once: true, ..self }
    }

    fn takes<T: JsonSchema>(self) -> Self {
        Self { body: Some(Body { schema: schema_of::<T>, required: true, example: None }), ..self }
    }

    /// As [`Self::takes`], with a body to start from.
    fn takes_as<T: JsonSchema>(self, example: &'static str) -> Self {
        Self { body: Some(Body { schema: schema_of::<T>, required: true, example: Some(example) }), ..self }
    }

    /// The body may be left out.
    fn may_take<T: JsonSchema>(self) -> Self {
        Self { body: Some(Body { schema: schema_of::<T>, required: false, example: None }), ..self }
    }

    /// Of the common query of lists these parameters.
    fn filtered(self, names: &'static [&'static str]) -> Self {
        Self { query: Query::Only(fields_of::<api::ListQuery>, names), ..self }
    }

    fn queried<T: JsonSchema>(self) -> Self {
        Self { query: Query::All(fields_of::<T>), ..self }
    }

    fn refuses(self, codes: &'static [Code]) -> Self {
        Self { codes, ..self }
    }
}

const SEARCHED: &[&str] = &["limit", "offset", "search"];
const GRANTS: &[&str] = &["limit", "offset", "search", "status", "provider", "upstream", "user"];
const GROUPS: &[&str] = &["limit", "offset", "search", "user"];
const EVENTS: &[&str] = &[
    "limit", "cursor", "grant", "user", "agent", "key", "provider", "request", "kind", "outcome", "context", "since",
    "until",
];
const EXPORTED: &[&str] =
    &["format", "grant", "user", "agent", "key", "provider", "kind", "outcome", "context", "since", "until"];

fn event(id: &'static str, summary: &'static str) -> Operation {
    Operation { answer: Answered::Json(super::event_schema), ..gives::<()>(id, "audit", summary) }
}

fn events(id: &'static str, summary: &'static str) -> Operation {
    Operation {
        answer: Answered::Json(super::events_schema),
        query: Query::Only(fields_of::<api::EventsQuery>, EVENTS),
        ..gives::<()>(id, "audit", summary)
    }
    .about("Newest first, by cursor. Filters that no index knows are looked for in the newest events: `partial_scan` says so.")
}

fn overview(id: &'static str, summary: &'static str) -> Operation {
    gives::<api::Overview>(id, "overview", summary).queried::<api::OverviewQuery>().about(
        "Calls and renewals are those of the audit trail, some seconds behind it, and are kept for 32 days. Percentiles of time are \
         right to a fifth.",
    )
}

fn checkpoints(id: &'static str, summary: &'static str) -> Operation {
    gives::<api::CheckpointPage>(id, "audit", summary).queried::<api::CheckpointsQuery>().about(
        "Newest first, by cursor. One that is kept elsewhere proves that no later export rewrote what was before it.",
    )
}

fn export(id: &'static str, summary: &'static str) -> Operation {
    Operation {
        answer: Answered::Export,
        query: Query::Only(fields_of::<api::EventsQuery>, EXPORTED),
        ..gives::<()>(id, "audit", summary)
    }
    .about("A stream, oldest first. `grantd audit verify` proves the JSONL form. The export is an event itself.")
}

fn erasure(id: &'static str, summary: &'static str) -> Operation {
    gives::<api::Erased>(id, "audit", summary)
        .about("Every filter given must match. The events keep their place in the chain, which still verifies. It cannot be undone.")
        .takes_as::<api::Erase>(r#"{"context": "user_id=u-17", "reason": "Request 42"}"#)
}

/// What `route` does, takes and gives.
#[expect(clippy::too_many_lines, reason = "a table: one arm per route")]
pub fn describe(route: Api) -> Operation {
    match route {
        Api::Whoami => gives::<api::Whoami>("whoami", "about", "Says who the token speaks for"),
        Api::OrganizationShow => gives::<api::Organization>("showOrganization", "about", "Shows the organization"),
        Api::OrganizationUpdate => gives::<api::Organization>("updateOrganization", "about", "Renames the organization, or changes its settings")
            .takes::<api::OrganizationUpdate>(),
        Api::OperatorsList => lists::<api::Operator>("listOperators", "operators", "Lists operators").filtered(SEARCHED),
        Api::OperatorsCreate => gives::<api::Operator>("createOperator", "operators", "Adds an operator")
            .creates()
            .takes_as::<api::OperatorCreate>(r#"{"email": "ana@example.com", "role": "developer"}"#)
            .refuses(&[Code::NameTaken, Code::TooMany]),
        Api::OperatorsShow => gives::<api::Operator>("showOperator", "operators", "Shows an operator"),
        Api::OperatorsUpdate => gives::<api::Operator>("updateOperator", "operators", "Changes or disables an operator")
            .takes::<api::OperatorUpdate>()
            .refuses(&[Code::InUse]),
        Api::OperatorsLoginLink => {
            gives::<api::LoginLink>("createLoginLink", "operators", "Makes a link that signs an operator in to the portal, once")
                .about("It works for 15 minutes, in the browser of whoever opens it: give it to the operator and nobody else.")
                .refuses(&[Code::Conflict])
        }
        Api::TokensList => gives::<api::Page<api::Token>>("listTokens", "tokens", "Lists personal access tokens")
            .queried::<api::TokensQuery>()
            .refuses(&[Code::NotFound]),
        Api::TokensCreate => gives::<api::MintedToken>("createToken", "tokens", "Makes a personal access token")
            .about("Its text is in this answer and never shown again.")
            .creates()
            .takes_as::<api::TokenCreate>(r#"{"name": "laptop", "expires_in_seconds": 2592000}"#)
            .refuses(&[Code::NotFound, Code::TooMany, Code::Conflict]),
        Api::TokensShow => gives::<api::Token>("showToken", "tokens", "Shows a personal access token"),
        Api::TokensRevoke => gives::<api::Token>("revokeToken", "tokens", "Revokes a personal access token"),
        Api::IdentityKeysList => lists::<api::IdentityKey>("listIdentityKeys", "identity-keys", "Lists published keys")
            .about("As they stand in `/.well-known/jwks.json`, with what each is for."),
        Api::IdentityKeysRotate => gives::<api::IdentityKey>("rotateIdentityKeys", "identity-keys", "Publishes another key")
            .about("It signs after an hour. Because of a leak it signs at once, and the old keys and their tokens are good no more.")
            .once()
            .may_take::<api::IdentityKeysRotate>()
            .refuses(&[Code::InUse, Code::KeyUnavailable]),
        Api::AppsList => gives::<api::Page<api::App>>("listApps", "apps", "Lists apps").filtered(SEARCHED),
        Api::AppsCreate => gives::<api::App>("createApp", "apps", "Creates an app")
            .creates()
            .takes_as::<api::AppCreate>(r#"{"name": "Shop", "website_url": "https://shop.example.com"}"#),
        Api::AppsShow => gives::<api::App>("showApp", "apps", "Shows an app"),
        Api::AppsUpdate => gives::<api::App>("updateApp", "apps", "Changes an app")
            .about("Absent fields stay. Only an admin may change the tenant guard, whether users sign in before they connect, and where they come back to.")
            .takes::<api::AppUpdate>(),
        Api::AppsArchive => gives::<api::App>("archiveApp", "apps", "Archives an app").about("Its keys stop working."),
        Api::AppsUnarchive => gives::<api::App>("unarchiveApp", "apps", "Brings an archived app back"),
        Api::AppsDelete => gives::<api::App>("deleteApp", "apps", "Deletes an app").about("It cannot be brought back.")
            .refuses(&[Code::LegalHold]),
        Api::BrandingShow => gives::<api::Branding>("showBranding", "apps", "Shows how an app looks to end users"),
        Api::BrandingSet => gives::<api::Branding>("setBranding", "apps", "Says how an app looks to end users")
            .about("Absent fields stay, an empty one is removed.")
            .takes::<api::BrandingUpdate>(),
        Api::BrandingReset => gives::<api::Branding>("resetBranding", "apps", "Gives an app grantd's own look"),
        Api::RetentionShow => gives::<api::AppRetention>("showRetention", "audit", "Shows how long an app's trail is kept"),
        Api::RetentionSet => gives::<api::AppRetention>("setRetention", "audit", "Says how long an app's trail is kept")
            .about("What is older is removed for good, a day at a time.")
            .takes_as::<api::AppRetentionSet>(r#"{"retention": "90d"}"#),
        Api::RetentionReset => {
            gives::<api::AppRetention>("resetRetention", "audit", "Keeps an app's trail for as long as the install does")
        }
        Api::HoldShow => gives::<api::LegalHold>("showHold", "audit", "Shows the legal hold of an app"),
        Api::HoldSet => gives::<api::LegalHold>("setHold", "audit", "Puts an app under a legal hold")
            .about("While it stands, nothing of the app's trail is removed, and the app cannot be deleted.")
            .takes_as::<api::LegalHoldSet>(r#"{"reason": "Case 2026/17"}"#),
        Api::HoldRelease => gives::<api::LegalHold>("releaseHold", "audit", "Ends the legal hold of an app"),
        Api::KeysList => gives::<api::Page<api::Key>>("listKeys", "keys", "Lists the keys of an app")
            .filtered(&["limit", "offset", "search", "status"]),
        Api::KeysMint => gives::<api::MintedKey>("mintKey", "keys", "Mints a key")
            .about("Its text is in this answer and never shown again.")
            .creates()
            .takes_as::<api::KeyMint>(r#"{"name": "web", "scopes": ["tokens:retrieve"]}"#)
            .refuses(&[Code::TooMany, Code::FeatureUnavailable]),
        Api::KeysShow => gives::<api::Key>("showKey", "keys", "Shows a key"),
        Api::KeysRename => gives::<api::Key>("renameKey", "keys", "Renames a key").takes::<api::KeyUpdate>(),
        Api::KeysRotate => gives::<api::RotatedKey>("rotateKey", "keys", "Mints the successor of a key")
            .about("Its text is in this answer and never shown again. The old key works until its grace is over.")
            .creates()
            .may_take::<api::KeyRotate>()
            .refuses(&[Code::TooMany]),
        Api::KeysRevoke => gives::<api::Key>("revokeKey", "keys", "Revokes a key")
            .about("It is dead when this answers."),
        Api::CatalogList => {
            gives::<api::Page<api::CatalogProvider>>("listCatalog", "provider-catalog", "Lists known OAuth providers")
                .filtered(SEARCHED)
        }
        Api::CatalogShow => {
            gives::<api::CatalogProvider>("showCatalogProvider", "provider-catalog", "Shows a known OAuth provider")
        }
        Api::TemplatesList => {
            gives::<api::Page<api::SecretTemplate>>("listSecretTemplates", "secret-templates", "Lists templates")
                .filtered(SEARCHED)
        }
        Api::TemplatesShow => gives::<api::SecretTemplate>("showSecretTemplate", "secret-templates", "Shows a template"),
        Api::ProvidersList => gives::<api::Page<api::Provider>>("listProviders", "providers", "Lists OAuth providers of an app")
            .filtered(SEARCHED),
        Api::ProvidersCreate => gives::<api::Provider>("createProvider", "providers", "Registers an app with an OAuth provider")
            .about("The client secret is sealed, and never shown again. Of an issuer the discovery document is fetched once, now.")
            .creates()
            .takes_as::<api::ProviderCreate>(
                r#"{"provider": "google", "client_id": "1234.apps.example.com", "client_secret": "example"}"#,
            )
            .refuses(&[Code::NameTaken, Code::TooMany]),
        Api::ProvidersShow => gives::<api::Provider>("showProvider", "providers", "Shows an OAuth provider of an app"),
        Api::ProvidersUpdate => gives::<api::Provider>("updateProvider", "providers", "Changes an OAuth provider of an app")
            .about("Absent fields stay.")
            .takes_as::<api::ProviderUpdate>(r#"{"name": "Mail", "scopes": ["openid", "email"]}"#)
            .refuses(&[Code::InUse, Code::KeyUnavailable]),
        Api::ProvidersDelete => gives::<api::DeletedProvider>("deleteProvider", "providers", "Deletes an OAuth provider of an app")
            .about("Not while accounts of it are connected.")
            .refuses(&[Code::InUse]),
        Api::ScimShow => gives::<api::Scim>("showScim", "scim", "Shows SCIM of an identity provider"),
        Api::ScimEnable => gives::<api::ScimWithToken>("enableScim", "scim", "Switches SCIM on for an identity provider")
            .about("Its directory tells from then on what became of users. The token is shown this once.")
            .creates()
            .may_take::<api::ScimEnable>()
            .refuses(&[Code::Conflict]),
        Api::ScimRotate => gives::<api::ScimWithToken>("rotateScim", "scim", "Gives SCIM of an identity provider another token")
            .about("The one before counts no more. The new one is shown this once.")
            .creates(),
        Api::ScimDisable => gives::<api::ScimDisabled>("disableScim", "scim", "Switches SCIM off for an identity provider")
            .about("The users it told of stay as they are."),
        Api::WebhookShow => gives::<api::IdpWebhook>("showIdpWebhook", "identity", "Shows the webhook of an identity provider"),
        Api::WebhookEnable => {
            gives::<api::IdpWebhookWithToken>("enableIdpWebhook", "identity", "Switches the webhook of an identity provider on")
                .about("Auth0, Okta and Clerk tell by it what became of users. A token is shown this once; Clerk has a secret of its own.")
                .creates()
                .may_take::<api::IdpWebhookEnable>()
                .refuses(&[Code::Conflict, Code::KeyUnavailable])
        }
        Api::WebhookRotate => {
            gives::<api::IdpWebhookWithToken>("rotateIdpWebhook", "identity", "Gives the webhook of an identity provider another secret")
                .about("The one before counts no more. A token is shown this once.")
                .creates()
                .may_take::<api::IdpWebhookRotate>()
                .refuses(&[Code::KeyUnavailable])
        }
        Api::WebhookDisable => {
            gives::<api::IdpWebhookDisabled>("disableIdpWebhook", "identity", "Switches the webhook of an identity provider off")
                .about("Users stay as they are.")
        }
        Api::IdpsList => {
            gives::<api::Page<api::IdentityProvider>>("listIdentityProviders", "identity", "Lists identity providers")
                .filtered(SEARCHED)
        }
        Api::IdpsCreate => {
            gives::<api::IdentityProvider>("createIdentityProvider", "identity", "Registers an identity provider")
                .about("Without jwks_url the issuer's discovery document is fetched once, now. The client secret is sealed.")
                .creates()
                .takes_as::<api::IdentityProviderCreate>(
                    r#"{"preset": "okta", "issuer": "https://company.okta.com/oauth2/default", "audiences": ["api://default"], "jwks_url": "https://company.okta.com/oauth2/default/v1/keys"}"#,
                )
                .refuses(&[Code::NameTaken, Code::TooMany])
        }
        Api::IdpsDiscover => {
            gives::<api::DiscoveredIdentityProvider>("discoverIdentityProvider", "identity", "Looks at an issuer, and registers nothing")
                .about("Fetches its discovery document and its keys, and says in plain words what would not work.")
                .takes_as::<api::IdentityProviderDiscover>(r#"{"issuer": "https://company.okta.com/oauth2/default", "preset": "okta"}"#)
        }
        Api::IdpsShow => {
            gives::<api::IdentityProvider>("showIdentityProvider", "identity", "Shows an identity provider, by id or issuer")
        }
        Api::IdpsUpdate => {
            gives::<api::IdentityProvider>("updateIdentityProvider", "identity", "Changes an identity provider")
                .about("Absent fields stay. The issuer stays: users are known by it.")
                .takes_as::<api::IdentityProviderUpdate>(r#"{"state": "inactive"}"#)
                .refuses(&[Code::KeyUnavailable])
        }
        Api::IdpsDelete => {
            gives::<api::DeletedIdentityProvider>("deleteIdentityProvider", "identity", "Deletes an identity provider")
                .about("Its users and their grants stay; no token of it counts any more.")
        }
        Api::UsersList => gives::<api::Page<api::User>>("listUsers", "identity", "Lists end users")
            .about("`search` is the beginning of an e-mail address or a name, in any case, or of a subject, to the letter.")
            .filtered(&["limit", "offset", "search", "status", "idp"]),
        Api::UsersShow => gives::<api::User>("showUser", "identity", "Shows an end user"),
        Api::UsersSuspend => gives::<api::User>("suspendUser", "identity", "Suspends an end user")
            .about("From now on nothing of the user's is released. Done before, it changes nothing."),
        Api::UsersResume => gives::<api::User>("resumeUser", "identity", "Lets a suspended end user in again"),
        Api::UsersDeprovision => {
            gives::<api::DeprovisionedUser>("deprovisionUser", "identity", "Ends an end user with every grant, for good")
                .about("One write revokes them all. Who signs in again later is a new user.")
        }
        Api::GroupsList => gives::<api::Page<api::Group>>("listGroups", "identity", "Lists groups").filtered(GROUPS),
        Api::GroupsShow => gives::<api::Group>("showGroup", "identity", "Shows a group"),
        Api::SecretsList => gives::<api::Page<api::Secret>>("listSecrets", "managed-secrets", "Lists managed secrets")
            .filtered(SEARCHED),
        Api::SecretsCreate => gives::<api::CreatedSecret>("createSecret", "managed-secrets", "Stores a secret")
            .about("With its base grant. The value is sealed, and never shown again. Only an admin may allow any host.")
            .creates()
            .takes_as::<api::SecretCreate>(
                r#"{"name": "Stripe", "value": "sk_test_example", "allowed_hosts": ["api.stripe.com"]}"#,
            )
            .refuses(&[Code::NameTaken, Code::TooMany, Code::KeyUnavailable, Code::BlockedDestination]),
        Api::SecretsShow => gives::<api::Secret>("showSecret", "managed-secrets", "Shows a secret without its value")
            .refuses(&[Code::SecretNotFound]),
        Api::SecretsRotate => gives::<api::Secret>("rotateSecret", "managed-secrets", "Stores a new value")
            .about("Every grant uses it from the answer on.")
            .once()
            .takes::<api::SecretRotate>()
            .refuses(&[Code::SecretNotFound, Code::KeyUnavailable]),
        Api::SecretsSetHosts => gives::<api::Secret>("setAllowedHosts", "managed-secrets", "Says where a secret may go")
            .takes_as::<api::AllowedHosts>(r#"{"allowed_hosts": ["api.stripe.com"]}"#)
            .refuses(&[Code::SecretNotFound]),
        Api::SecretsAccess => lists::<api::SecretAccess>("listSecretAccess", "managed-secrets", "Lists who can use a secret")
            .refuses(&[Code::SecretNotFound]),
        Api::SecretsDelete => gives::<api::DeletedSecret>("deleteSecret", "managed-secrets", "Deletes a secret")
            .about("Its grants are revoked, its value is destroyed.")
            .refuses(&[Code::SecretNotFound]),
        Api::SecretsTest => gives::<api::SecretTest>("testSecret", "managed-secrets", "Tries a secret at its vendor")
            .about("Makes the harmless call of the secret's template.")
            .refuses(&[
                Code::SecretNotFound,
                Code::CredentialDestroyed,
                Code::BlockedDestination,
                Code::InvalidValue,
                Code::KeyUnavailable,
            ]),
        Api::SecretGrantsList => gives::<api::Page<api::Grant>>("listSecretGrants", "grants", "Lists grants of a secret")
            .filtered(GRANTS)
            .refuses(&[Code::SecretNotFound]),
        Api::SecretGrantsCreate => gives::<api::Grant>("createGrant", "grants", "Grants the use of a secret")
            .creates()
            .takes_as::<api::GrantCreate>(r#"{"principal_type": "system", "label": "nightly job"}"#)
            .refuses(&[
                Code::SecretNotFound,
                Code::CredentialDestroyed,
                Code::SiblingLabelConflict,
                Code::TooMany,
                Code::GroupPrincipalUnsupported,
                Code::FeatureUnavailable,
            ]),
        Api::GrantsList => gives::<api::Page<api::Grant>>("listGrants", "grants", "Lists grants").filtered(GRANTS),
        Api::GrantsShow => gives::<api::Grant>("showGrant", "grants", "Shows a grant").refuses(&[Code::GrantNotFound]),
        Api::GrantsUpdate => gives::<api::Grant>("updateGrant", "grants", "Changes a grant")
            .about("Absent fields stay. Only an admin may bind it to another tenant.")
            .takes::<api::GrantUpdate>()
            .refuses(&[Code::GrantNotFound, Code::SiblingLabelConflict]),
        Api::GrantsRevoke => gives::<api::RevokedGrant>("revokeGrant", "grants", "Revokes a grant")
            .about("A call received after this answers releases nothing. The last living grant takes the stored value with it.")
            .may_take::<api::GrantRevoke>()
            .refuses(&[Code::GrantNotFound]),
        Api::GrantsRevokeMany => gives::<api::RevokedGrants>("revokeGrants", "grants", "Revokes every grant on something")
            .about(
                "Fifty at a time: call again with `next_cursor` until `has_more` is false. After an interruption, begin anew: \
                 what was revoked is not there any more. Grants whose time is over are revoked, too. Those that fail hold up no others.",
            )
            .takes_as::<api::GrantsRevoke>(r#"{"provider": "google", "reason": "the client secret leaked"}"#)
            .refuses(&[Code::NotFound, Code::SecretNotFound]),
        Api::ConnectSessionsCreate => {
            gives::<api::BegunConnectSession>("beginConnectSession", "connect-sessions", "Asks a user to connect an account")
                .about("`connect_url` is for one browser, works for ten minutes, and is in this answer only.")
                .creates()
                .takes_as::<api::ConnectSessionCreate>(r#"{"allowed_providers": ["google"]}"#)
                .refuses(&[Code::GrantNotFound, Code::ScopeNotAllowed, Code::InvalidRedirectUri])
        }
        Api::ConnectSessionsShow => {
            gives::<api::ConnectSession>("showConnectSession", "connect-sessions", "Shows what came of a connect session")
                .about("Until an hour after its time.")
        }
        Api::EventsList => events("listEvents", "Lists events of an app"),
        Api::EventsShow => event("showEvent", "Shows an event of an app"),
        Api::EventsExport => export("exportEvents", "Exports events of an app"),
        Api::CheckpointsList => checkpoints("listCheckpoints", "Lists signed checkpoints of an app's trail"),
        Api::OrganizationCheckpointsList => {
            checkpoints("listOrganizationCheckpoints", "Lists signed checkpoints of what happened outside of apps")
        }
        Api::Overview => overview("showOverview", "Counts what happened in all apps"),
        Api::AppOverview => overview("showAppOverview", "Counts what happened in an app"),
        Api::OrganizationEventsList => events("listOrganizationEvents", "Lists events outside of apps"),
        Api::OrganizationEventsShow => event("showOrganizationEvent", "Shows an event outside of apps"),
        Api::OrganizationEventsExport => export("exportOrganizationEvents", "Exports events outside of apps"),
        Api::EventsErase => {
            erasure("eraseEvents", "Erases the private part of events of an app").refuses(&[Code::LegalHold, Code::NotFound])
        }
        Api::OrganizationEventsErase => {
            erasure("eraseOrganizationEvents", "Erases the private part of events outside of apps").refuses(&[Code::NotFound])
        }
    }
}
