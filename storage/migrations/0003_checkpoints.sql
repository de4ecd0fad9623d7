-- Checkpoints that are whole on the disk: the row is written after the directory is in place.
CREATE TABLE checkpoints (
    run     TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    step    INTEGER NOT NULL,
    path    TEXT NOT NULL,    -- absolute
    bytes   INTEGER NOT NULL,
    created INTEGER NOT NULL, -- unix seconds
    best    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (run, step)
) WITHOUT ROWID;

-- What another process asks a live run to do.
CREATE TABLE commands (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    run     TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    kind    TEXT NOT NULL CHECK (kind IN ('pause', 'stop', 'evaluate', 'snapshot')),
    payload TEXT NOT NULL,    -- JSON
    created INTEGER NOT NULL, -- unix seconds
    taken   INTEGER           -- unix seconds
);

CREATE INDEX commands_waiting ON commands (run) WHERE taken IS NULL;
