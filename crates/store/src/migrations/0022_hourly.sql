-- How often what happened in which hour: in an app, and in all apps of an organization under its own id.
CREATE TABLE hourly (
    app_id BYTES NOT NULL,
    hour_ms BIGINT NOT NULL,
    what TEXT NOT NULL,
    times BIGINT NOT NULL,
    PRIMARY KEY (app_id, hour_ms, what)
) CLUSTERED;
