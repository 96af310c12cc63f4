-- When a managed secret was deleted. Its row stays: revoked grants and events name it, and its slug is never given again.

ALTER TABLE managed_secrets ADD COLUMN deleted_at_ms BIGINT;
