-- Users who were blocked at their identity provider before they were seen here, for a while: they are suspended from the moment they are
-- seen. Of whom it is, is kept as a SHA-256 of the subject.
CREATE TABLE blocked_subjects (
    app_id BYTES NOT NULL,
    idp_id BYTES NOT NULL,
    subject_hash BYTES NOT NULL,
    blocked_at_ms BIGINT NOT NULL,
    PRIMARY KEY (app_id, idp_id, subject_hash)
);
CREATE INDEX blocked_subjects_age ON blocked_subjects (app_id, idp_id, blocked_at_ms);
