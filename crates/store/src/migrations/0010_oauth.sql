-- OAuth: the providers an app is registered with, the accounts its users connected, and the sessions in which they do.

-- `custom` holds what is known of a provider that is not in the catalogue. The client secret is sealed at `secret_version`. `problem` is
-- what the token endpoint last blamed the configuration for.
CREATE TABLE providers (
    app_id BYTES NOT NULL,
    id BYTES NOT NULL,
    provider_id TEXT NOT NULL,
    name TEXT NOT NULL,
    custom TEXT,
    environment TEXT,
    client_id TEXT NOT NULL,
    client_secret BYTES,
    secret_version BIGINT NOT NULL,
    scopes TEXT NOT NULL,
    hosts TEXT NOT NULL,
    problem TEXT,
    problem_at_ms BIGINT,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    deleted_at_ms BIGINT,
    version BIGINT NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE UNIQUE INDEX providers_provider ON providers (app_id, provider_id) WHERE deleted_at_ms IS NULL;

-- Of the credential of an account. An access token without an end is told from one whose end nobody knows by `never_expires_at_ms`.
ALTER TABLE credentials ADD COLUMN provider_row BYTES;
ALTER TABLE credentials ADD COLUMN account_identifier TEXT;
ALTER TABLE credentials ADD COLUMN account_name TEXT;
ALTER TABLE credentials ADD COLUMN scopes TEXT;
ALTER TABLE credentials ADD COLUMN pinned_host TEXT;
ALTER TABLE credentials ADD COLUMN reason TEXT;
ALTER TABLE credentials ADD COLUMN expires_at_ms BIGINT;
ALTER TABLE credentials ADD COLUMN never_expires_at_ms BIGINT;
ALTER TABLE credentials ADD COLUMN refreshable_at_ms BIGINT;
ALTER TABLE credentials ADD COLUMN rejected_at_ms BIGINT;
ALTER TABLE credentials ADD COLUMN scope_mismatch_at_ms BIGINT;
-- A refresh that is under way, or was, when its end was not seen. It moves no version: the sealed pair is the same.
ALTER TABLE credentials ADD COLUMN lease_until_ms BIGINT;
ALTER TABLE credentials ADD COLUMN lease_by BYTES;
ALTER TABLE credentials ADD COLUMN unconfirmed_at_ms BIGINT;
ALTER TABLE credentials ADD COLUMN refresh_failures BIGINT;
ALTER TABLE credentials ADD COLUMN refresh_after_ms BIGINT;
-- What is ended at the provider: the pair as it was sealed at `revoke_version`, until it is.
ALTER TABLE credentials ADD COLUMN revoke_upstream TEXT;
ALTER TABLE credentials ADD COLUMN revoke_sealed BYTES;
ALTER TABLE credentials ADD COLUMN revoke_version BIGINT;
ALTER TABLE credentials ADD COLUMN revoke_attempts BIGINT;
ALTER TABLE credentials ADD COLUMN revoke_after_ms BIGINT;
CREATE UNIQUE INDEX credentials_account ON credentials (app_id, provider_row, account_identifier)
    WHERE provider_row IS NOT NULL AND state <> 'destroyed';
CREATE INDEX credentials_expiry ON credentials (expires_at_ms) WHERE refreshable_at_ms IS NOT NULL AND state = 'ok';
CREATE INDEX credentials_revoke ON credentials (revoke_after_ms) WHERE revoke_upstream = 'pending';

CREATE TABLE connect_sessions (
    token_hash BYTES PRIMARY KEY,
    id BYTES NOT NULL UNIQUE,
    app_id BYTES NOT NULL,
    request TEXT NOT NULL,
    browser_hash BYTES,
    state TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX connect_sessions_expiry ON connect_sessions (expires_at_ms);

-- `sealed` holds the PKCE verifier and the nonce of a consent that is under way.
CREATE TABLE connect_steps (
    session_id BYTES NOT NULL,
    provider_id TEXT NOT NULL,
    app_id BYTES NOT NULL,
    attempt BIGINT NOT NULL,
    state TEXT NOT NULL,
    state_hash BYTES UNIQUE,
    sealed BYTES,
    lease_until_ms BIGINT,
    outcome TEXT,
    updated_at_ms BIGINT NOT NULL,
    PRIMARY KEY (session_id, provider_id)
);
