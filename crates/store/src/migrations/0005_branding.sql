-- How an app looks to end users.

CREATE TABLE branding (
    app_id BYTES PRIMARY KEY,
    display_name TEXT,
    accent_color TEXT,
    background_color TEXT,
    updated_at_ms BIGINT NOT NULL
);
