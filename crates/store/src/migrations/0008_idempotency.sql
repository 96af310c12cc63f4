-- Answers of calls that created something, sealed, for whoever sends the call again under the same key within a day.

CREATE TABLE idempotency (
    key_hash BYTES PRIMARY KEY,
    request_hash BYTES NOT NULL,
    answer_sealed BYTES NOT NULL,
    expires_at_ms BIGINT NOT NULL
);
CREATE INDEX idempotency_expiry ON idempotency (expires_at_ms);
