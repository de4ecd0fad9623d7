-- Rows that helper models write, and everything they said on the way (S2.3). A call and its rows come in one transaction:
-- what was paid for is never lost, and no row is there twice.
CREATE TABLE teaching_jobs (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    key      TEXT NOT NULL UNIQUE, -- the same work asked for again goes on with the same job
    project  TEXT,
    settings TEXT NOT NULL,        -- JSON; no key of a service
    created  INTEGER NOT NULL      -- unix seconds
);

CREATE TABLE teaching_calls (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    job     INTEGER NOT NULL REFERENCES teaching_jobs (id) ON DELETE CASCADE,
    unit    TEXT NOT NULL,
    round   INTEGER NOT NULL,
    outcome TEXT NOT NULL,    -- answered, or the kind of setback
    raw     TEXT NOT NULL,    -- as it came
    cost    REAL NOT NULL,    -- USD
    is_over INTEGER NOT NULL, -- nothing more is asked about the unit
    created INTEGER NOT NULL  -- unix seconds
);

CREATE INDEX teaching_calls_by_job ON teaching_calls (job, unit, round);

CREATE TABLE teaching_rows (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    job     INTEGER NOT NULL REFERENCES teaching_jobs (id) ON DELETE CASCADE,
    call    INTEGER NOT NULL REFERENCES teaching_calls (id) ON DELETE CASCADE,
    unit    TEXT NOT NULL,
    state   TEXT NOT NULL CHECK (state IN ('taken', 'approved', 'refused', 'rejected')),
    reason  TEXT,          -- of a refusal
    content TEXT NOT NULL, -- JSON, as the helper wrote it
    edited  TEXT           -- JSON, as a person changed it
);

CREATE INDEX teaching_rows_by_job ON teaching_rows (job, state, id);
