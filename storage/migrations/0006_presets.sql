-- Named configurations (S4.8). The names that come with the program are not in here.
CREATE TABLE presets (
    name        TEXT PRIMARY KEY NOT NULL COLLATE NOCASE,
    description TEXT NOT NULL,
    tags        TEXT NOT NULL,    -- JSON, a list of words
    config      TEXT NOT NULL,    -- JSON, a run file without its run
    created     INTEGER NOT NULL, -- unix seconds
    updated     INTEGER NOT NULL  -- unix seconds
);
