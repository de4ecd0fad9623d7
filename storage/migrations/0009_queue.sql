-- Runs that wait for their turn (S4.11). A run leaves the queue when its turn is over, however it went; one whose turn
-- was cut short by the end of the machine is still there, and taken.
CREATE TABLE queue (
    run      TEXT PRIMARY KEY NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,           -- counts up; the clock has no say
    taken    INTEGER NOT NULL DEFAULT 0, -- its turn has begun
    wishes   TEXT NOT NULL               -- JSON: what its process is told
) WITHOUT ROWID;

-- Whether the worker is to end after the run it is at.
CREATE TABLE queue_halt (halts INTEGER NOT NULL);
INSERT INTO queue_halt VALUES (0);

-- What people prefer, for every run and every window.
CREATE TABLE settings (
    key   TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL -- JSON
) WITHOUT ROWID;
