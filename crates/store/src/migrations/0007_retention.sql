-- How far each chain is cut, and when the events before the cut may be deleted; apps that keep their trail for another time than
-- the install, and those whose trail may not be touched.

ALTER TABLE chains ADD COLUMN pruned_seq BIGINT NOT NULL DEFAULT 0;
ALTER TABLE chains ADD COLUMN delete_after_ms BIGINT;
CREATE INDEX chains_delete ON chains (delete_after_ms);

-- No days: for ever.
CREATE TABLE retention (
    app_id BYTES PRIMARY KEY,
    days BIGINT,
    updated_at_ms BIGINT NOT NULL
);

CREATE TABLE holds (
    app_id BYTES PRIMARY KEY,
    reason TEXT NOT NULL,
    operator_id BYTES NOT NULL,
    held_at_ms BIGINT NOT NULL
);
