-- Old and new nodes serve side by side during an upgrade: each tells how much of the schema's history it knows, so that
-- nothing is taken away from under one that doesn't expect it. A node of the first version knows one step, and tells none.
ALTER TABLE node ADD COLUMN knows_migrations BIGINT NOT NULL DEFAULT 1;
