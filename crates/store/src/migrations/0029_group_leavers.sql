-- Whom a directory took out of a group, for a while: a token that was issued before does not put them into it again.
CREATE TABLE group_leavers (
    app_id BYTES NOT NULL,
    user_id BYTES NOT NULL,
    group_id BYTES NOT NULL,
    left_at_ms BIGINT NOT NULL,
    PRIMARY KEY (app_id, user_id, group_id)
) CLUSTERED;
CREATE INDEX group_leavers_age ON group_leavers (app_id, left_at_ms);
