-- The install, its operators, apps, keys, managed secrets, grants, and the audit trail.
-- BYTES stands for BLOB or BYTEA, CLUSTERED for WITHOUT ROWID where there is such a thing; on PostgreSQL every TEXT is COLLATE "C",
-- and on SQLite every table is STRICT. An id is its 16 bytes.

CREATE TABLE installs (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    data_key_id BYTES NOT NULL,
    pepper BYTES NOT NULL,
    root_check BYTES NOT NULL,
    clock_floor_ms BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE organizations (
    id BYTES PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    policy_version BIGINT NOT NULL,
    settings TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE operators (
    id BYTES PRIMARY KEY,
    organization_id BYTES NOT NULL,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    disabled_at_ms BIGINT,
    created_at_ms BIGINT NOT NULL,
    UNIQUE (organization_id, email)
);

CREATE TABLE pats (
    id BYTES PRIMARY KEY,
    operator_id BYTES NOT NULL,
    token_hash BYTES NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    app_ids TEXT,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT,
    revoked_at_ms BIGINT
);

CREATE TABLE apps (
    id BYTES PRIMARY KEY,
    organization_id BYTES NOT NULL,
    name TEXT NOT NULL,
    name_search TEXT NOT NULL,
    description TEXT,
    website_url TEXT,
    state TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    policy_version BIGINT NOT NULL,
    tenant_key TEXT,
    tenant_mode TEXT NOT NULL,
    retrieve TEXT NOT NULL,
    indexed_context_keys TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX apps_organization ON apps (organization_id, id);

CREATE TABLE data_keys (
    id BYTES PRIMARY KEY,
    app_id BYTES,
    wrapped BYTES NOT NULL,
    root_key_id TEXT NOT NULL,
    seals_reserved BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    retired_at_ms BIGINT
);
CREATE INDEX data_keys_app ON data_keys (app_id);

CREATE TABLE signing_keys (
    id BYTES PRIMARY KEY,
    purpose TEXT NOT NULL,
    public_jwk TEXT NOT NULL,
    data_key_id BYTES NOT NULL,
    private_sealed BYTES NOT NULL,
    not_before_ms BIGINT NOT NULL,
    retired_at_ms BIGINT
);
CREATE INDEX signing_keys_purpose ON signing_keys (purpose);

CREATE TABLE api_keys (
    id BYTES PRIMARY KEY,
    app_id BYTES NOT NULL,
    agent_id BYTES,
    parent_key_id BYTES,
    successor_id BYTES,
    key_type TEXT NOT NULL,
    key_hash BYTES NOT NULL UNIQUE,
    key_prefix TEXT NOT NULL,
    name TEXT NOT NULL,
    name_search TEXT NOT NULL,
    scopes TEXT NOT NULL,
    scope_version BIGINT NOT NULL,
    cidrs TEXT NOT NULL,
    rate_limit_rpm BIGINT,
    unsigned_identity_at_ms BIGINT,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT,
    grace_until_ms BIGINT,
    deprecated_at_ms BIGINT,
    revoked_at_ms BIGINT,
    last_used_at_ms BIGINT,
    version BIGINT NOT NULL
);
CREATE INDEX api_keys_app ON api_keys (app_id, agent_id);
CREATE INDEX api_keys_parent ON api_keys (parent_key_id);

CREATE TABLE actors (
    app_id BYTES NOT NULL,
    label TEXT NOT NULL,
    type TEXT NOT NULL,
    actor_id BYTES NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (app_id, label, type)
);
CREATE INDEX actors_id ON actors (actor_id);

CREATE TABLE managed_secrets (
    app_id BYTES NOT NULL,
    id BYTES NOT NULL,
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    name_search TEXT NOT NULL,
    credential_type TEXT NOT NULL,
    header TEXT NOT NULL,
    format TEXT NOT NULL,
    injections TEXT NOT NULL,
    field_names TEXT NOT NULL,
    hosts TEXT NOT NULL,
    any_host_at_ms BIGINT,
    created_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (app_id, id),
    UNIQUE (app_id, slug)
);

CREATE TABLE credentials (
    app_id BYTES NOT NULL,
    id BYTES NOT NULL,
    kind TEXT NOT NULL,
    secret_id BYTES,
    generation BYTES NOT NULL,
    state TEXT NOT NULL,
    data_key_id BYTES,
    sealed BYTES,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE INDEX credentials_secret ON credentials (app_id, secret_id);

CREATE TABLE grants (
    app_id BYTES NOT NULL,
    id BYTES NOT NULL,
    credential_id BYTES NOT NULL,
    principal_type TEXT NOT NULL,
    principal_id BYTES,
    label TEXT,
    label_search TEXT,
    status TEXT NOT NULL,
    reason TEXT,
    tenant_value TEXT,
    tenant_exempt_at_ms BIGINT,
    expires_at_ms BIGINT,
    created_at_ms BIGINT NOT NULL,
    revoked_at_ms BIGINT,
    last_used_at_ms BIGINT,
    version BIGINT NOT NULL,
    PRIMARY KEY (app_id, id)
) CLUSTERED;
CREATE INDEX grants_credential ON grants (app_id, credential_id);

-- `terms` holds what the event is found by; `event_terms` follows it, up to the chain's `indexed_seq`.
CREATE TABLE events (
    app_id BYTES NOT NULL,
    id BYTES NOT NULL,
    chain_id BYTES NOT NULL,
    seq BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    core TEXT NOT NULL,
    private TEXT,
    salt BYTES,
    private_hash BYTES NOT NULL,
    event_hash BYTES NOT NULL,
    hash BYTES NOT NULL,
    terms BYTES NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE UNIQUE INDEX events_chain ON events (chain_id, seq);

CREATE TABLE event_terms (
    app_id BYTES NOT NULL,
    term BIGINT NOT NULL,
    event_id BYTES NOT NULL,
    PRIMARY KEY (app_id, term, event_id)
) CLUSTERED;

CREATE TABLE chains (
    id BYTES PRIMARY KEY,
    app_id BYTES NOT NULL,
    writer TEXT NOT NULL,
    first_previous BYTES NOT NULL,
    checkpointed_seq BIGINT NOT NULL,
    indexed_seq BIGINT NOT NULL
);
CREATE INDEX chains_app ON chains (app_id, writer);
CREATE INDEX chains_writer ON chains (writer);

CREATE TABLE checkpoints (
    app_id BYTES NOT NULL,
    n BIGINT NOT NULL,
    body TEXT NOT NULL,
    key_id BYTES NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (app_id, n)
);

-- Ordered by time first: what is new goes in at one place, and what is old goes out as one range.
CREATE TABLE nonces (
    signed_at_ms BIGINT NOT NULL,
    key_id BYTES NOT NULL,
    nonce BYTES NOT NULL,
    PRIMARY KEY (signed_at_ms, key_id, nonce)
) CLUSTERED;
