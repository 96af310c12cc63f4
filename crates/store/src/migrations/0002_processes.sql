-- Processes that serve, as each tells of itself once a minute.

CREATE TABLE processes (
    id TEXT PRIMARY KEY,
    root_key_ids TEXT NOT NULL,
    version TEXT NOT NULL,
    seen_at_ms BIGINT NOT NULL
);
CREATE INDEX processes_seen ON processes (seen_at_ms);
