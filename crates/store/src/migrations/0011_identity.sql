-- Identity: who vouches for an app's users, the users and groups that were seen, and the sessions in which users sign in.

-- The client secret is sealed at `secret_version`. `jwks` is what was fetched last from where `endpoints` says, as it came.
CREATE TABLE identity_providers (
    app_id BYTES NOT NULL,
    id BYTES NOT NULL,
    name TEXT NOT NULL,
    name_search TEXT NOT NULL,
    preset TEXT NOT NULL,
    issuer TEXT NOT NULL,
    audiences TEXT NOT NULL,
    algorithms TEXT NOT NULL,
    claims TEXT NOT NULL,
    endpoints TEXT NOT NULL,
    client_id TEXT,
    client_secret BYTES,
    secret_version BIGINT NOT NULL,
    scopes TEXT NOT NULL,
    state TEXT NOT NULL,
    jwks TEXT,
    jwks_url TEXT,
    jwks_fetched_at_ms BIGINT,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    deleted_at_ms BIGINT,
    version BIGINT NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE UNIQUE INDEX identity_providers_issuer ON identity_providers (app_id, issuer) WHERE deleted_at_ms IS NULL;

-- A subject has one row that is not deprovisioned. `told_at_ms` is when the token was issued that the rest comes from, `told_hash` the
-- hash of what it said.
CREATE TABLE users (
    app_id BYTES NOT NULL,
    id BYTES NOT NULL,
    idp_id BYTES NOT NULL,
    subject TEXT NOT NULL,
    status TEXT NOT NULL,
    email TEXT,
    email_search TEXT,
    name TEXT,
    roles TEXT NOT NULL,
    told_at_ms BIGINT,
    told_hash BYTES,
    last_seen_at_ms BIGINT,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    deprovisioned_at_ms BIGINT,
    version BIGINT NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE UNIQUE INDEX users_subject ON users (app_id, idp_id, subject) WHERE deprovisioned_at_ms IS NULL;
CREATE INDEX users_rows ON users (app_id, idp_id, subject, id);
CREATE INDEX users_email ON users (app_id, email_search) WHERE email_search IS NOT NULL;

CREATE TABLE groups (
    app_id BYTES NOT NULL,
    id BYTES NOT NULL,
    idp_id BYTES NOT NULL,
    external_id TEXT NOT NULL,
    name TEXT NOT NULL,
    name_search TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    deleted_at_ms BIGINT,
    version BIGINT NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE UNIQUE INDEX groups_external ON groups (app_id, idp_id, external_id) WHERE deleted_at_ms IS NULL;

-- `source` is `token` where users' tokens say who is in it, `directory` where the provider's directory does.
CREATE TABLE group_members (
    app_id BYTES NOT NULL,
    group_id BYTES NOT NULL,
    user_id BYTES NOT NULL,
    source TEXT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (app_id, group_id, user_id)
) CLUSTERED;
CREATE INDEX group_members_user ON group_members (app_id, user_id);

-- `sealed` holds PKCE verifier and nonce of a sign-in under way, `result` what it brought, until it is handed out.
CREATE TABLE auth_sessions (
    token_hash BYTES PRIMARY KEY,
    id BYTES NOT NULL UNIQUE,
    app_id BYTES NOT NULL,
    idp_id BYTES NOT NULL,
    request TEXT NOT NULL,
    state TEXT NOT NULL,
    state_hash BYTES UNIQUE,
    browser_hash BYTES,
    sealed BYTES,
    lease_until_ms BIGINT,
    outcome TEXT,
    user_id BYTES,
    result BYTES,
    result_until_ms BIGINT,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX auth_sessions_expiry ON auth_sessions (expires_at_ms);

-- Whose a credential is, and a session. An account may be connected once by each user, and once by the app.
ALTER TABLE credentials ADD COLUMN user_id BYTES;
DROP INDEX credentials_account;
CREATE UNIQUE INDEX credentials_account ON credentials (app_id, provider_row, account_identifier)
    WHERE provider_row IS NOT NULL AND user_id IS NULL AND state <> 'destroyed';
CREATE UNIQUE INDEX credentials_user_account ON credentials (app_id, provider_row, account_identifier, user_id)
    WHERE provider_row IS NOT NULL AND user_id IS NOT NULL AND state <> 'destroyed';
CREATE INDEX credentials_user ON credentials (app_id, user_id) WHERE user_id IS NOT NULL;
ALTER TABLE connect_sessions ADD COLUMN user_id BYTES;
CREATE INDEX connect_sessions_user ON connect_sessions (app_id, user_id) WHERE user_id IS NOT NULL;
CREATE INDEX grants_principal ON grants (app_id, principal_id) WHERE principal_id IS NOT NULL;
