//! Every bound a caller can meet, with its unit.

/// Request line and headers together.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Number of headers.
pub const HEADERS_MAX: usize = 100;
/// Name and value of one header.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// A head that has not arrived, or a connection without a request, is closed after this.
pub const HEAD_TIMEOUT_MS: u64 = 10_000;
/// A body that has not arrived is 408 after this.
pub const BODY_TIMEOUT_MS: u64 = 20_000;
/// Body of `/sdk` routes that state no other.
pub const SDK_BODY_BYTES_MAX: usize = 64 * 1024;
/// Body of the audit report.
pub const REPORT_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Body of `/sdk/proxy`.
pub const PROXY_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Body of a form of a page.
pub const PAGE_BODY_BYTES_MAX: usize = 64 * 1024;
/// Body of `/api/v1`.
pub const API_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Open connections of one process, unless the operator or the limit of open files says otherwise.
pub const CONNECTIONS_MAX: usize = 10_000;
/// A connection whose peer takes nothing of its answers is closed after this.
pub const WRITE_STALL_MS: u64 = 30_000;
/// Requests in flight on one HTTP/2 connection.
pub const H2_STREAMS_MAX: u32 = 250;
/// Requests that an HTTP/2 peer may take back beyond those it let be answered.
pub const H2_RESETS_MAX: u64 = 200;

/// `/sdk/token` answers, or gives up, within this.
pub const TOKEN_DEADLINE_MS: u64 = 20_000;
/// How far a timestamp may be off, either way.
pub const SIGNATURE_WINDOW_S: i64 = 60;
/// How long a nonce is remembered.
pub const NONCE_LIFE_MS: i64 = 150_000;
/// How long a stored nonce is kept: as much longer as the clock may be set back without being noticed. Else a call that is forgotten
/// could be sent again once its time comes back.
pub const NONCE_KEPT_MS: i64 = NONCE_LIFE_MS + CLOCK_ROLLBACK_MS;
/// Nonces one process remembers; when full, signed calls are 503 `busy`.
pub const NONCES_MAX: usize = 6_000_000;
/// Failed authentications a minute from one IPv4 address or IPv6 /64, unless `auth_failures_per_minute` says otherwise.
pub const AUTH_FAILURES_PER_MINUTE: u32 = 600;

/// Keys of `X-Alter-Context`.
pub const CONTEXT_KEYS_MAX: usize = 20;
/// Characters of a context key.
pub const CONTEXT_KEY_CHARS_MAX: usize = 64;
/// Characters of a context value.
pub const CONTEXT_VALUE_CHARS_MAX: usize = 512;
/// Characters of the whole header.
pub const CONTEXT_CHARS_MAX: usize = 4096;
/// Characters of `X-Alter-Caller`.
pub const CALLER_CHARS_MAX: usize = 255;
/// Characters of `X-Alter-Request-Rule`.
pub const REQUEST_RULE_CHARS_MAX: usize = 4096;
/// Labels registered per app; later ones are audited without an actor id.
pub const ACTORS_PER_APP_MAX: i64 = 10_000;
/// Context keys of an app that audit queries find by index.
pub const INDEXED_CONTEXT_KEYS_MAX: usize = 8;
/// Origins of an app that users are sent back to.
pub const RETURN_ORIGINS_MAX: usize = 20;

/// Characters of `reason`.
pub const REASON_CHARS_MAX: usize = 2_000;
/// Characters of a URL.
pub const URL_CHARS_MAX: usize = 65_536;
/// Bytes of a path kept in an event.
pub const EVENT_PATH_BYTES_MAX: usize = 2_048;
/// Characters of a name (app, key, secret).
pub const NAME_CHARS_MAX: usize = 100;
/// Bytes of a picture that is given as an app's logo (decisions 12).
pub const LOGO_BYTES_MAX: usize = 256 * 1024;
/// Pixels of the longer side of such a picture.
pub const LOGO_GIVEN_PX_MAX: u32 = 4096;
/// Pixels of the longer side of a logo as it is kept; a larger picture is made smaller.
pub const LOGO_KEPT_PX_MAX: u32 = 256;
/// Bytes of a logo as it is kept: every page that end users see loads it. A picture that would be larger is kept with fewer pixels.
pub const LOGO_KEPT_BYTES_MAX: usize = 32 * 1024;
/// Characters of a description.
pub const DESCRIPTION_CHARS_MAX: usize = 1_000;
/// Characters of a label.
pub const LABEL_CHARS_MAX: usize = 255;
/// Characters of a slug.
pub const SLUG_CHARS_MAX: usize = 50;
/// Characters of a tenant value: a context value.
pub const TENANT_CHARS_MAX: usize = CONTEXT_VALUE_CHARS_MAX;

/// Bytes of a secret's value.
pub const SECRET_VALUE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one further field of a secret. Clients refuse more than 8192 characters.
pub const SECRET_FIELD_BYTES_MAX: usize = 8 * 1024;
/// Characters of a field's name.
pub const SECRET_FIELD_NAME_CHARS_MAX: usize = 50;
/// Further fields of a secret.
pub const SECRET_FIELDS_MAX: usize = 10;
/// Further injections of a secret.
pub const INJECTIONS_MAX: usize = 10;
/// Characters of an injection's header or parameter name.
pub const INJECTION_KEY_CHARS_MAX: usize = 100;
/// Characters of the main injection header's name.
pub const INJECTION_HEADER_CHARS_MAX: usize = 60;
/// Characters of the value format.
pub const INJECTION_FORMAT_CHARS_MAX: usize = 200;
/// Destination rules of one secret.
pub const DESTINATION_RULES_MAX: usize = 50;
/// Characters of one destination rule.
pub const DESTINATION_RULE_CHARS_MAX: usize = 300;

/// A test of a secret, from its name to the end of the answer.
pub const PROBE_DEADLINE_MS: u64 = 10_000;
/// Body of the answer to a test that is looked at; a longer one tells nothing.
pub const PROBE_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Living keys of an app.
pub const KEYS_PER_APP_MAX: i64 = 1_000;
/// Bytes of an operator's e-mail address.
pub const EMAIL_CHARS_MAX: usize = 254;
/// Operators of an organization.
pub const OPERATORS_MAX: i64 = 1_000;
/// Tokens of an operator that are neither revoked nor expired.
pub const PATS_PER_OPERATOR_MAX: i64 = 100;
/// Apps that a token is for.
pub const PAT_APPS_MAX: usize = 100;
/// How long a rotated key still works, unless said otherwise: seven days.
pub const KEY_GRACE_SECONDS: i64 = 7 * 86_400;
/// And at most: thirty days.
pub const KEY_GRACE_SECONDS_MAX: i64 = 30 * 86_400;
/// Grants that one call of a bulk revoke takes: with credentials and events some 250 rows, in one write.
pub const REVOKE_PAGE: i64 = 50;
/// Living grants on one credential.
pub const SIBLINGS_MAX: i64 = 50;
/// Grants of one user that are not revoked: as many as end with the user in one write.
pub const USER_GRANTS_MAX: i64 = 500;
/// Address ranges of a key.
pub const CIDRS_MAX: usize = 100;
/// Scopes of a key.
pub const SCOPES_MAX: usize = 100;
/// A key's own rate limit.
pub const RATE_LIMIT_RPM_MAX: i64 = 1_000_000;
/// Longest lifetime that can be asked for: ten years.
pub const LIFETIME_SECONDS_MAX: i64 = 10 * 366 * 86_400;

/// Events waiting to be written; one more is 503 `audit_unavailable`.
pub const AUDIT_QUEUE_MAX: usize = 8_192;
/// How long a call waits for its event to be durable.
pub const APPEND_WAIT_MS: u64 = 2_000;
/// Times a decision is made again because something moved meanwhile.
pub const DECISIONS_MAX: usize = 5;

/// Items of a page unless asked otherwise.
pub const PAGE_DEFAULT: i64 = 100;
/// Items of a page.
pub const PAGE_MAX: i64 = 1_000;
/// How deep `offset` reaches.
pub const OFFSET_MAX: i64 = 10_000;
/// Grants that a list counts: a total of this is this or more, and `offset` reaches no further.
pub const TOTAL_MAX: i64 = OFFSET_MAX + 1;
/// Events a search by an unindexed context key looks at per page.
pub const AUDIT_SCAN_MAX: i64 = 10_000;

/// How long after a release its report may arrive.
pub const CLAIM_WINDOW_MS: i64 = 15 * 60 * 1000;
/// A stored clock this far ahead of the host's means the host's was set back.
pub const CLOCK_ROLLBACK_MS: i64 = 5 * 60 * 1000;
/// How often a process tells the others of itself, in seconds.
pub const PROCESS_REPORT_S: u64 = 60;
/// A process that was silent for this long counts as gone.
pub const PROCESS_SILENT_MS: i64 = 150_000;
/// Length of an `Idempotency-Key`.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
/// How long the answer to a call with an `Idempotency-Key` is kept.
pub const IDEMPOTENCY_KEPT_MS: i64 = 86_400_000;
/// Days a personal access token lives unless said otherwise.
pub const PAT_DAYS_DEFAULT: i64 = 90;
/// Days that an organization can bound personal access tokens by: as many as can be asked for.
pub const PAT_DAYS_MAX: i64 = LIFETIME_SECONDS_MAX / 86_400;
/// Events after which a checkpoint is signed without waiting for the minute.
pub const CHECKPOINT_EVENTS: u64 = 10_000;
/// Seconds between checkpoints of an app with new events.
pub const CHECKPOINT_INTERVAL_S: u64 = 60;
/// Events that one call erases the private parts of; more need another.
pub const ERASED_EVENTS_MAX: i64 = 2_000;
/// Days that events are kept, unless said otherwise.
pub const RETENTION_DAYS_DEFAULT: u32 = 365;
/// The longest that can be asked for: a hundred years. More is `forever`.
pub const RETENTION_DAYS_MAX: u32 = 36_500;
/// How long what was cut off a trail lies in the database until it is deleted, so that exports under way end.
pub const PRUNED_KEPT_MS: i64 = 60 * 60 * 1000;
/// How long a grant that was revoked, and a credential that was destroyed, is told of.
pub const ENDED_KEPT_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// How far the clocks of an issuer of JWTs and of this host may be apart, in seconds.
pub const JWT_LEEWAY_S: i64 = 60;
/// Characters of an account's identifier, and of its name.
pub const ACCOUNT_CHARS_MAX: usize = 255;
/// Providers of an app.
pub const PROVIDERS_MAX: i64 = 200;
/// Scopes of a provider, or of a connect session for one.
pub const OAUTH_SCOPES_MAX: usize = 100;
/// Characters of one of them.
pub const OAUTH_SCOPE_CHARS_MAX: usize = 256;
/// Characters of a client id, and of a client secret.
pub const CLIENT_CHARS_MAX: usize = 4_096;
/// Characters of what is said for a field of a provider, such as a tenant.
pub const PROVIDER_FIELD_CHARS_MAX: usize = 255;
/// Characters of a URL of a provider that is not in the catalogue.
pub const CUSTOM_URL_CHARS_MAX: usize = 2_048;
/// Characters of what one of its scopes opens, in words. A page shows no longer ones.
pub const CUSTOM_SCOPE_TEXT_CHARS_MAX: usize = 120;
/// Further parameters of its link to consent.
pub const CUSTOM_PARAMS_MAX: usize = 20;
/// Characters of the name of one, and of its value.
pub const CUSTOM_PARAM_CHARS_MAX: usize = 500;
/// Pointers to what identifies an account of it, and to what names one.
pub const CUSTOM_POINTERS_MAX: usize = 10;
/// Characters of one of them.
pub const CUSTOM_POINTER_CHARS_MAX: usize = 200;
/// How long an issuer's discovery document is waited for.
pub const DISCOVERY_DEADLINE_MS: u64 = 10_000;
/// Bytes of one.
pub const DISCOVERY_BYTES_MAX: usize = 256 * 1024;
/// A token is renewed this long before it ends, or in the last quarter of a shorter life.
pub const REFRESH_MARGIN_MS: i64 = 5 * 60 * 1000;
/// How long one process may take to renew a token before another may try.
pub const REFRESH_LEASE_MS: i64 = 60_000;
/// How long the token endpoint may take, and how long a caller waits for it.
pub const REFRESH_DEADLINE_MS: u64 = 10_000;
/// Bytes of a token that a provider gives out.
pub const OAUTH_TOKEN_BYTES_MAX: usize = 32 * 1024;
/// The longest pause between failed attempts to renew a token.
pub const REFRESH_PAUSE_MS_MAX: i64 = 5 * 60 * 1000;
/// Attempts to end a token at its provider, within about a day.
pub const REVOKE_ATTEMPTS_MAX: i64 = 8;
/// How long a connect session lives, in seconds.
pub const CONNECT_SESSION_S: i64 = 600;
/// Bytes of what a connect session is asked with as `metadata`.
pub const CONNECT_METADATA_BYTES_MAX: usize = 2 * 1024;
/// Providers of a connect session.
pub const CONNECT_PROVIDERS_MAX: usize = 100;
/// How long the answer of a provider is waited for while an account connects, all calls together.
pub const CONNECT_EXCHANGE_MS: u64 = 20_000;
/// How often a user may enter a key in one session.
pub const KEY_TRIES_MAX: i64 = 10;
/// Characters of a parameter that a provider sends back.
pub const CALLBACK_CHARS_MAX: usize = 8_192;

/// Identity providers of an app.
pub const IDENTITY_PROVIDERS_MAX: i64 = 50;
/// Audiences of an identity provider.
pub const AUDIENCES_MAX: usize = 20;
/// Characters of an issuer, of an audience, of a claim's name, and of an endpoint.
pub const ISSUER_CHARS_MAX: usize = 2_048;
/// Bytes of a user token.
pub const USER_TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Characters of a user's id at an identity provider, of a user's name, and of a group's id and name.
pub const SUBJECT_CHARS_MAX: usize = 255;
/// Groups that a user token says its user is in; more are not looked at.
pub const USER_GROUPS_MAX: usize = 200;
/// Roles that a user token says its user has; more are not looked at.
pub const USER_ROLES_MAX: usize = 50;
/// Bytes of a set of keys that an identity provider publishes.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Keys of one set.
pub const JWKS_KEYS_MAX: usize = 50;
/// How long a set of keys is waited for.
pub const JWKS_DEADLINE_MS: u64 = 5_000;
/// A set is fetched at most once in this, whoever asks.
pub const JWKS_PAUSE_MS: i64 = 10_000;
/// A set that is older is fetched anew, beside the call that needs it.
pub const JWKS_FRESH_MS: i64 = 5 * 60 * 1000;
/// A set that is older proves nothing any more.
pub const JWKS_STALE_MS: i64 = 86_400_000;
/// How long a sign-in session lives, in seconds.
pub const AUTH_SESSION_S: i64 = 600;
/// Grants that are named when several could be meant.
pub const CANDIDATES_MAX: usize = 20;

/// Characters of the URI that an identity assertion is for.
pub const AUDIENCE_CHARS_MAX: usize = 512;
/// The shortest life of an identity assertion, in seconds.
pub const ASSERTION_TTL_S_MIN: i64 = 10;
/// The longest.
pub const ASSERTION_TTL_S_MAX: i64 = 300;
/// How long it lives unless asked otherwise.
pub const ASSERTION_TTL_S_DEFAULT: i64 = 120;
/// How long the keys that verify assertions may be kept before they are asked for again, in seconds.
pub const JWKS_MAX_AGE_S: i64 = 300;

/// How long the token of a sign-in is handed out.
pub const SIGN_IN_RESULT_MS: i64 = 60_000;
/// How long a poll may wait for the end of a sign-in.
pub const SIGN_IN_WAIT_MS_MAX: u64 = 30_000;
/// Polls of one process that wait; more are answered at once.
pub const SIGN_IN_WAITS_MAX: usize = 1_000;
/// Bytes of a body that a directory sends.
pub const SCIM_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Resources on one page that a directory is answered.
pub const SCIM_PAGE_MAX: i64 = 200;
/// Resources that a filter no index helps with is held against; a directory with more is told to ask for one by name or id.
pub const SCIM_SCAN_MAX: i64 = 10_000;
/// Bytes of a body that an identity provider's webhook sends.
pub const WEBHOOK_BODY_BYTES_MAX: usize = 512 * 1024;
/// Events in one.
pub const WEBHOOK_EVENTS_MAX: usize = 500;
/// How far the time of a signed webhook may be from here.
pub const WEBHOOK_WINDOW_MS: i64 = 5 * 60 * 1000;
/// How long it is known which events came: one that comes again changes nothing.
pub const WEBHOOK_MEMORY_MS: i64 = 7 * 86_400_000;
/// How long it is known that somebody was deleted or blocked who had not been seen before, left a group, or has another subject. Tokens
/// that live longer are not meant to be.
pub const WEBHOOK_GONE_MS: i64 = 90 * 86_400_000;
/// Characters of the challenge with which Okta asks whether anybody is here.
pub const WEBHOOK_CHALLENGE_CHARS_MAX: usize = 512;
/// Members of a group.
pub const GROUP_MEMBERS_MAX: i64 = 50_000;
/// Members that one page of groups shows; it ends after the group that has more.
pub const SCIM_PAGE_MEMBERS_MAX: usize = 50_000;

/// How long a link signs an operator in.
pub const LOGIN_LINK_S: i64 = 15 * 60;
/// Links of one operator that are good at the same time.
pub const LOGIN_LINKS_MAX: i64 = 5;
/// How long a browser stays signed in to the portal without a request.
pub const WEB_SESSION_IDLE_S: i64 = 8 * 3_600;
/// How long it does at most.
pub const WEB_SESSION_S: i64 = 7 * 86_400;
/// Browsers that one operator is signed in with; with one more the one seen longest ago is signed out.
pub const WEB_SESSIONS_MAX: i64 = 20;

/// Characters of an operator's password: as NIST SP 800-63B-4 asks of one that signs in by itself.
pub const PASSWORD_CHARS_MIN: usize = 15;
/// Characters of one at most.
pub const PASSWORD_CHARS_MAX: usize = 128;
/// Memory that one hash of a password takes, in KiB, and how often it is gone through (argon2id, one lane). OWASP asks for 19,456 and 2.
pub const PASSWORD_MEMORY_KIB: u32 = 32 * 1024;
/// See [`PASSWORD_MEMORY_KIB`].
pub const PASSWORD_PASSES: u32 = 3;
/// Passwords that a process hashes at the same time.
pub const PASSWORD_HASHES_AT_ONCE: usize = 2;
/// Further ones that wait for it.
pub const PASSWORD_HASHES_WAITING_MAX: usize = 64;
/// Attempts with a password, a code or a passkey, a minute from one IPv4 address or IPv6 /64.
pub const SIGN_IN_ATTEMPTS_PER_MINUTE: u32 = 30;
/// Wrong attempts in a row of one account before the next has to wait.
pub const SIGN_IN_ATTEMPTS_FREE: i64 = 5;
/// The first wait; each further one is twice as long.
pub const SIGN_IN_WAIT_S: i64 = 30;
/// The longest one.
pub const SIGN_IN_WAIT_MAX_S: i64 = 3_600;
/// How long after the last one attempts are remembered.
pub const SIGN_IN_MEMORY_S: i64 = 86_400;
/// How long after somebody proved who they are they may do what is grave without being asked again.
pub const CONFIRMED_S: i64 = 15 * 60;
/// How long a form waits for its sender to be asked.
pub const HELD_FORM_S: i64 = 15 * 60;
/// Bytes of the form that brings the answer, and the form that waits, sealed.
pub const HELD_FORM_BYTES_MAX: usize = 96 * 1024;
/// How long after the password the code of an authenticator app is waited for.
pub const HALF_SIGN_IN_S: i64 = 5 * 60;
/// Sign-ins of one operator that wait for a code.
pub const HALF_SIGN_INS_MAX: i64 = 5;
/// How long the issuer's answer to a single sign-on is waited for.
pub const SSO_TRIP_S: i64 = 10 * 60;
/// Single sign-ons that are under way at the same time; one more ends the oldest.
pub const SSO_TRIPS_MAX: i64 = 10_000;
/// Domains of addresses that may sign in by single sign-on.
pub const SSO_DOMAINS_MAX: usize = 100;
/// How long what the issuer's discovery document says is taken for true.
pub const SSO_DISCOVERY_FRESH_MS: i64 = 3_600_000;
/// Beyond this nobody signs in by it while it cannot be had anew, as with keys of identity providers.
pub const SSO_DISCOVERY_STALE_MS: i64 = JWKS_STALE_MS;
/// After a failure it is fetched at most once in this, whoever asks.
pub const SSO_DISCOVERY_PAUSE_MS: i64 = 10_000;
/// Codes that sign in when the authenticator app is lost, each once.
pub const RECOVERY_CODES: usize = 10;
/// Passkeys of an operator.
pub const PASSKEYS_MAX: i64 = 10;
/// How long a challenge may be answered by a passkey.
pub const PASSKEY_CHALLENGE_S: i64 = 15 * 60;
/// Bytes of what a device knows a passkey by.
pub const PASSKEY_ID_BYTES_MAX: usize = 1_023;
/// Bytes of the public key of one.
pub const PASSKEY_KEY_BYTES_MAX: usize = 2_048;
/// Bytes of what a browser, or a device, says of one.
pub const PASSKEY_DATA_BYTES_MAX: usize = 8_192;
