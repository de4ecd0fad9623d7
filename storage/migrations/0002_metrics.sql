-- What a run measured. NULL in a column of numbers is "not a number", which SQLite cannot store.
CREATE TABLE metrics (
    run               TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    step              INTEGER NOT NULL,
    epoch             REAL,
    loss              REAL,
    gradient_norm     REAL,
    learning_rate     REAL,
    tokens            INTEGER NOT NULL, -- trained tokens of this step
    tokens_per_second REAL,
    memory_bytes      INTEGER NOT NULL,
    PRIMARY KEY (run, step)
) WITHOUT ROWID;

CREATE TABLE evaluations (
    run            TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    step           INTEGER NOT NULL,
    loss           REAL,
    perplexity     REAL,
    token_accuracy REAL,
    PRIMARY KEY (run, step)
) WITHOUT ROWID;

-- Everything else that happened: anomalies, pauses, hardware readings.
CREATE TABLE events (
    run      TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    step     INTEGER NOT NULL,
    kind     TEXT NOT NULL,
    json     TEXT NOT NULL,
    PRIMARY KEY (run, sequence)
) WITHOUT ROWID;
