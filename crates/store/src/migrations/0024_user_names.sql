-- Users are found by their names, whatever the case.
ALTER TABLE users ADD COLUMN name_search TEXT;
UPDATE users SET name_search = LOWER(name) WHERE name IS NOT NULL;
CREATE INDEX users_name ON users (app_id, name_search) WHERE name_search IS NOT NULL;
