-- Passkeys of operators, and challenges that were answered.

-- `credential_id` is what the device knows it by, `public_key` a COSE_Key as the device wrote it. Neither opens anything by itself.
CREATE TABLE passkeys (
    id BYTES PRIMARY KEY,
    operator_id BYTES NOT NULL,
    credential_id BYTES NOT NULL UNIQUE,
    name TEXT NOT NULL,
    public_key BYTES NOT NULL,
    counter BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    used_at_ms BIGINT
);
CREATE INDEX passkeys_operator ON passkeys (operator_id, id);

-- One that was answered rightly is answered no more. Those that were not leave nothing.
CREATE TABLE answered_challenges (
    challenge_hash BYTES PRIMARY KEY,
    expires_at_ms BIGINT NOT NULL
);
CREATE INDEX answered_challenges_expiry ON answered_challenges (expires_at_ms);
