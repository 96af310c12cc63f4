-- What was said for the fields of a provider's catalogue entry, such as the tenant in its URLs; null: nothing.
ALTER TABLE providers ADD COLUMN fields TEXT;
