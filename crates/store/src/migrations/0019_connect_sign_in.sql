-- Whether the user of a connect session must sign in on its page first, and where browsers may be sent back to.
ALTER TABLE apps ADD COLUMN connect_sign_in TEXT NOT NULL DEFAULT 'off';
ALTER TABLE apps ADD COLUMN return_origins TEXT NOT NULL DEFAULT '[]';
