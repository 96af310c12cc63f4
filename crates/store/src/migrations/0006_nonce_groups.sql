-- Nonces of the one writer of an SQLite file: what a group of calls used in one second is a row. PostgreSQL, where every process
-- writes, holds them apart by the rows of `nonces`.

CREATE TABLE nonce_groups (
    signed_at_ms BIGINT NOT NULL,
    n BIGINT NOT NULL,
    used BYTES NOT NULL,
    PRIMARY KEY (signed_at_ms, n)
) CLUSTERED;
