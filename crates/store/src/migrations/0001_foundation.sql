-- The install, its operators, apps, keys, managed secrets, grants, and the audit trail.
-- BYTES stands for BLOB or BYTEA, CLUSTERED for WITHOUT ROWID where there is such a thing; on PostgreSQL every TEXT is COLLATE "C".

CREATE TABLE installs (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    data_key_id TEXT NOT NULL,
    pepper BYTES NOT NULL,
    root_check BYTES NOT NULL,
    clock_floor_ms BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE organizations (
    id TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    policy_version BIGINT NOT NULL,
    settings TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE operators (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    disabled_at_ms BIGINT,
    created_at_ms BIGINT NOT NULL,
    UNIQUE (organization_id, email)
);

CREATE TABLE pats (
    id TEXT PRIMARY KEY,
    operator_id TEXT NOT NULL,
    token_hash BYTES NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    app_ids TEXT,
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT,
    revoked_at_ms BIGINT
);

CREATE TABLE apps (
    id TEXT PRIMARY KEY,
    organization_id TEXT NOT NULL,
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
    id TEXT PRIMARY KEY,
    app_id TEXT,
    wrapped BYTES NOT NULL,
    root_key_id TEXT NOT NULL,
    seals_reserved BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    retired_at_ms BIGINT
);
CREATE INDEX data_keys_app ON data_keys (app_id);

CREATE TABLE signing_keys (
    id TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    public_jwk TEXT NOT NULL,
    data_key_id TEXT NOT NULL,
    private_sealed BYTES NOT NULL,
    not_before_ms BIGINT NOT NULL,
    retired_at_ms BIGINT
);
CREATE INDEX signing_keys_purpose ON signing_keys (purpose);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    app_id TEXT NOT NULL,
    agent_id TEXT,
    parent_key_id TEXT,
    successor_id TEXT,
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
    app_id TEXT NOT NULL,
    label TEXT NOT NULL,
    type TEXT NOT NULL,
    actor_id TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (app_id, label, type)
);
CREATE INDEX actors_id ON actors (actor_id);

CREATE TABLE managed_secrets (
    app_id TEXT NOT NULL,
    id TEXT NOT NULL,
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
    app_id TEXT NOT NULL,
    id TEXT NOT NULL,
    kind TEXT NOT NULL,
    secret_id TEXT,
    generation TEXT NOT NULL,
    state TEXT NOT NULL,
    data_key_id TEXT,
    sealed BYTES,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE INDEX credentials_secret ON credentials (app_id, secret_id);

CREATE TABLE grants (
    app_id TEXT NOT NULL,
    id TEXT NOT NULL,
    credential_id TEXT NOT NULL,
    principal_type TEXT NOT NULL,
    principal_id TEXT,
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
);
CREATE INDEX grants_credential ON grants (app_id, credential_id);
CREATE INDEX grants_principal ON grants (app_id, principal_type, principal_id);
CREATE INDEX grants_status ON grants (app_id, status, id);

-- `terms` holds what the event is found by; `event_terms` follows it, up to the chain's `indexed_seq`.
CREATE TABLE events (
    app_id TEXT NOT NULL,
    id TEXT NOT NULL,
    chain_id TEXT NOT NULL,
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
    app_id TEXT NOT NULL,
    term BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    PRIMARY KEY (app_id, term, event_id)
) CLUSTERED;

CREATE TABLE chains (
    id TEXT PRIMARY KEY,
    app_id TEXT NOT NULL,
    writer TEXT NOT NULL,
    first_previous BYTES NOT NULL,
    checkpointed_seq BIGINT NOT NULL,
    indexed_seq BIGINT NOT NULL
);
CREATE INDEX chains_app ON chains (app_id, writer);
CREATE INDEX chains_writer ON chains (writer);

CREATE TABLE checkpoints (
    app_id TEXT NOT NULL,
    n BIGINT NOT NULL,
    body TEXT NOT NULL,
    key_id TEXT NOT NULL,
    signature TEXT NOT NULL,
    PRIMARY KEY (app_id, n)
);

-- Ordered by time first: what is new goes in at one place, and what is old goes out as one range.
CREATE TABLE nonces (
    signed_at_ms BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    nonce BYTES NOT NULL,
    PRIMARY KEY (signed_at_ms, key_id, nonce)
) CLUSTERED;
