-- The template that a managed secret was made from.

ALTER TABLE managed_secrets ADD COLUMN template TEXT;
