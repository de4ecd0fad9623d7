-- Live runs can be asked more: to answer a question, and to leave rows out. SQLite cannot change a CHECK.
CREATE TABLE commands_wider (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    run     TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    kind    TEXT NOT NULL CHECK (kind IN ('pause', 'stop', 'evaluate', 'snapshot', 'answer')),
    payload TEXT NOT NULL,    -- JSON
    created INTEGER NOT NULL, -- unix seconds
    taken   INTEGER           -- unix seconds
);

INSERT INTO commands_wider SELECT id, run, kind, payload, created, taken FROM commands;
-- Numbers that were given are not given again.
DELETE FROM sqlite_sequence WHERE name = 'commands_wider';
INSERT INTO sqlite_sequence (name, seq) SELECT 'commands_wider', seq FROM sqlite_sequence WHERE name = 'commands';
DROP TABLE commands;
ALTER TABLE commands_wider RENAME TO commands;
CREATE INDEX commands_waiting ON commands (run) WHERE taken IS NULL;
