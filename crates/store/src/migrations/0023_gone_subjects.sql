-- Users who were deleted at their identity provider before they were seen here, for a while: what was issued to them before proves
-- nothing. Of whom it is, is kept as a SHA-256 of the subject.
CREATE TABLE gone_subjects (
    app_id BYTES NOT NULL,
    idp_id BYTES NOT NULL,
    subject_hash BYTES NOT NULL,
    gone_at_ms BIGINT NOT NULL,
    PRIMARY KEY (app_id, idp_id, subject_hash)
);
CREATE INDEX gone_subjects_age ON gone_subjects (app_id, idp_id, gone_at_ms);
