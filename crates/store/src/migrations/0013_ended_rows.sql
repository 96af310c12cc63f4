-- What has ended is found by when it did: its rows go some time after that.

CREATE INDEX grants_revoked ON grants (revoked_at_ms) WHERE revoked_at_ms IS NOT NULL;
CREATE INDEX credentials_destroyed ON credentials (updated_at_ms) WHERE state = 'destroyed';
