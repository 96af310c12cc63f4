-- The logo of an app, as a PNG that was drawn anew from what an operator gave, and a digest of it.
ALTER TABLE branding ADD COLUMN logo BYTES;
ALTER TABLE branding ADD COLUMN logo_digest TEXT;
