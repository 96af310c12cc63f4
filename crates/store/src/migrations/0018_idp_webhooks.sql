-- Webhooks of identity providers: how what they send is proved, and what is known of users by them.

-- Either the hash of a token that was made here, or the sealed secret of a vendor that signs. Without a row the provider has no webhook.
CREATE TABLE idp_webhooks (
    app_id BYTES NOT NULL,
    idp_id BYTES NOT NULL UNIQUE,
    vendor TEXT NOT NULL,
    subject_from TEXT NOT NULL,
    token_hash BYTES,
    sealed_secret BYTES,
    secret_version BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    rotated_at_ms BIGINT,
    last_event_at_ms BIGINT,
    PRIMARY KEY (app_id, idp_id)
);

-- `told_at_ms` is when the newest event happened that counted: older ones change nothing. `suspended_at_ms` says that the webhook
-- suspended the user, and nobody else.
CREATE TABLE idp_webhook_users (
    app_id BYTES NOT NULL,
    user_id BYTES NOT NULL,
    told_at_ms BIGINT NOT NULL,
    suspended_at_ms BIGINT,
    PRIMARY KEY (app_id, user_id)
);

-- Events that came, for a while.
CREATE TABLE idp_webhook_events (
    app_id BYTES NOT NULL,
    idp_id BYTES NOT NULL,
    event_id TEXT NOT NULL,
    seen_at_ms BIGINT NOT NULL,
    PRIMARY KEY (app_id, idp_id, event_id)
);
CREATE INDEX idp_webhook_events_age ON idp_webhook_events (app_id, idp_id, seen_at_ms);
