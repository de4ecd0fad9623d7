-- What people do with finished runs (S4.14): one version a project is the active one; an archived one keeps its
-- adapter and no training state.
ALTER TABLE runs ADD COLUMN active INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN archived INTEGER; -- unix seconds

CREATE INDEX runs_by_version ON runs (version) WHERE version IS NOT NULL;
