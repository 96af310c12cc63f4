-- Authenticator apps: a code after the password, codes for when the app is lost, and who is between the two.

-- `sealed` is the secret, at `version`. Without `confirmed_at_ms` it is being set up and asked of nobody. A code of `last_step`, or of
-- one before, does not count again.
CREATE TABLE operator_totps (
    operator_id BYTES PRIMARY KEY,
    sealed BYTES NOT NULL,
    version BIGINT NOT NULL,
    confirmed_at_ms BIGINT,
    last_step BIGINT NOT NULL
);

-- Keyed hashes. One that was used is gone.
CREATE TABLE operator_recovery_codes (
    operator_id BYTES NOT NULL,
    code_hash BYTES NOT NULL,
    PRIMARY KEY (operator_id, code_hash)
);

-- Who has given the password and not yet the code.
CREATE TABLE half_sign_ins (
    token_hash BYTES PRIMARY KEY,
    operator_id BYTES NOT NULL,
    expires_at_ms BIGINT NOT NULL
);
CREATE INDEX half_sign_ins_operator ON half_sign_ins (operator_id);
CREATE INDEX half_sign_ins_expiry ON half_sign_ins (expires_at_ms);
