-- Counts up whenever chunks or vectors of a project come or go: what is made from them knows that it is old.
ALTER TABLE projects ADD COLUMN changes INTEGER NOT NULL DEFAULT 0;
