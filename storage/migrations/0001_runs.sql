-- A run: what was asked for, what came out. `config` is frozen when the run is created; `plan`
-- holds resolved values that another start on the same machine could choose differently.
PRAGMA application_id = 1346717268; -- "PEFT"

CREATE TABLE runs (
    id              TEXT PRIMARY KEY NOT NULL,
    name            TEXT NOT NULL,
    status          TEXT NOT NULL CHECK (status IN
        ('queued', 'running', 'paused', 'stopped', 'finished', 'failed', 'interrupted')),
    created         INTEGER NOT NULL, -- unix seconds
    updated         INTEGER NOT NULL, -- unix seconds
    directory       TEXT NOT NULL,    -- absolute
    config          TEXT NOT NULL,    -- JSON
    plan            TEXT NOT NULL,    -- JSON
    dataset_hash    TEXT,
    base_hash       TEXT,
    project         TEXT,
    version         INTEGER UNIQUE,   -- given when the run finishes
    total_steps     INTEGER NOT NULL DEFAULT 0,
    last_step       INTEGER NOT NULL DEFAULT 0,
    loss            REAL,
    validation_loss REAL,
    quality_score   REAL,
    seconds         REAL NOT NULL DEFAULT 0, -- active time, without pauses
    error           TEXT,             -- JSON
    backend         TEXT,
    device          TEXT,
    pid             INTEGER,          -- of the process that last worked on it
    tokens          INTEGER NOT NULL DEFAULT 0 -- trained tokens so far
);

CREATE INDEX runs_by_name ON runs (name, created DESC);
CREATE INDEX runs_by_created ON runs (created DESC);

-- A version number is never given twice, not even after its run has been deleted.
CREATE TABLE version_counter (last INTEGER NOT NULL);
INSERT INTO version_counter VALUES (0);
