-- Who is signed in to the portal, and links that sign somebody in once. Of a cookie or a link only its hash is here.

CREATE TABLE web_sessions (
    token_hash BYTES PRIMARY KEY,
    id BYTES NOT NULL,
    kind TEXT NOT NULL,
    subject_id BYTES NOT NULL,
    auth_at_ms BIGINT NOT NULL,
    seen_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    ip TEXT NOT NULL,
    user_agent TEXT
);
CREATE UNIQUE INDEX web_sessions_id ON web_sessions (id);
CREATE INDEX web_sessions_subject ON web_sessions (subject_id, id);
CREATE INDEX web_sessions_seen ON web_sessions (seen_at_ms);

CREATE TABLE login_links (
    token_hash BYTES PRIMARY KEY,
    operator_id BYTES NOT NULL,
    expires_at_ms BIGINT NOT NULL
);
CREATE INDEX login_links_operator ON login_links (operator_id);
CREATE INDEX login_links_expiry ON login_links (expires_at_ms);
