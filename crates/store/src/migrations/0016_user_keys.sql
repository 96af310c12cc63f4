-- A user has one living key of their own for a managed secret.
CREATE UNIQUE INDEX credentials_user_secret ON credentials (app_id, secret_id, user_id)
    WHERE secret_id IS NOT NULL AND user_id IS NOT NULL AND state <> 'destroyed';
