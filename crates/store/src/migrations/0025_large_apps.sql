-- Lists of an app with very many grants: each way to ask comes to them by an index.

-- The credential that a secret has of the app's own, among those of its users.
CREATE INDEX credentials_own ON credentials (app_id, secret_id, id)
    WHERE secret_id IS NOT NULL AND user_id IS NULL AND state <> 'destroyed';
DROP INDEX credentials_secret;
CREATE INDEX credentials_secret ON credentials (app_id, secret_id, id);
-- Accounts at a provider, destroyed ones too: their grants are still listed.
CREATE INDEX credentials_provider ON credentials (app_id, provider_row, account_identifier) WHERE provider_row IS NOT NULL;
CREATE INDEX grants_label ON grants (app_id, label_search) WHERE label_search IS NOT NULL;
