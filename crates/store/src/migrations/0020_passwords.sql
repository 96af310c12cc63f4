-- How operators sign in beside links: passwords, and what guards them.

-- How whoever is signed in proved who they are.
ALTER TABLE web_sessions ADD COLUMN signed_in_by TEXT NOT NULL DEFAULT 'link';

-- `hash` is argon2id of the password's keyed hash, with `salt`, over so much memory, so often.
CREATE TABLE operator_passwords (
    operator_id BYTES PRIMARY KEY,
    memory_kib BIGINT NOT NULL,
    passes BIGINT NOT NULL,
    salt BYTES NOT NULL,
    hash BYTES NOT NULL,
    set_at_ms BIGINT NOT NULL
);

-- Attempts that were not right, in a row. `bucket` is 16 bits of a keyed hash of the address, whether there is such an operator or
-- not: so many rows, and no more.
CREATE TABLE sign_in_attempts (
    bucket BIGINT PRIMARY KEY,
    attempts BIGINT NOT NULL,
    last_at_ms BIGINT NOT NULL
);
