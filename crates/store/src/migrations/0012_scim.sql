-- SCIM: where an identity provider's directory tells what became of its users, and the users it told of.

-- Only the hash of the token is here. Without a row the provider has no such place.
CREATE TABLE scim_endpoints (
    app_id BYTES NOT NULL,
    idp_id BYTES NOT NULL,
    token_hash BYTES NOT NULL UNIQUE,
    subject_from TEXT NOT NULL,
    deactivation TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    rotated_at_ms BIGINT,
    PRIMARY KEY (app_id, idp_id)
);

-- `document` is what the directory said, as far as it is kept. `user_id` is the user's row: another one after a deprovisioning that was
-- taken back. `suspended_at_ms` says that the directory suspended the user, and nobody else.
CREATE TABLE scim_users (
    app_id BYTES NOT NULL,
    id BYTES NOT NULL,
    idp_id BYTES NOT NULL,
    user_id BYTES NOT NULL,
    user_name_search TEXT NOT NULL,
    external_id TEXT,
    document TEXT NOT NULL,
    suspended_at_ms BIGINT,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (app_id, id)
);
CREATE UNIQUE INDEX scim_users_name ON scim_users (app_id, idp_id, user_name_search);
CREATE UNIQUE INDEX scim_users_user ON scim_users (app_id, user_id);
CREATE INDEX scim_users_external ON scim_users (app_id, idp_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX scim_users_rows ON scim_users (app_id, idp_id, id);
