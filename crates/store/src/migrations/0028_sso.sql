-- Single sign-on of operators: which subject of which issuer somebody is, and who is on the way to the issuer.

-- Bound at first sight, by the address; from then on the address says nothing.
CREATE TABLE operator_identities (
    operator_id BYTES PRIMARY KEY,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    bound_at_ms BIGINT NOT NULL
);
CREATE UNIQUE INDEX operator_identities_subject ON operator_identities (issuer, subject);

-- `sealed` is what the way back needs. Of `kind` confirm, the session of the operator is proved anew; else it ends when another begins.
CREATE TABLE sso_trips (
    state_hash BYTES PRIMARY KEY,
    browser_hash BYTES NOT NULL,
    kind TEXT NOT NULL,
    operator_id BYTES,
    session_id BYTES,
    sealed BYTES NOT NULL,
    begun_at_ms BIGINT NOT NULL
);
CREATE INDEX sso_trips_begun ON sso_trips (begun_at_ms);
