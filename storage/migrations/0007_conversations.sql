-- What was said to a model and what it said (S4.7.5). A comparison has two answers to one question.
CREATE TABLE conversations (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    title   TEXT NOT NULL,
    created INTEGER NOT NULL, -- unix seconds
    updated INTEGER NOT NULL, -- unix seconds
    run     TEXT REFERENCES runs (id) ON DELETE SET NULL,
    model   TEXT NOT NULL,    -- what the person called it
    adapter TEXT,             -- absolute
    system  TEXT
);

CREATE INDEX conversations_by_updated ON conversations (updated DESC, id DESC);

CREATE TABLE messages (
    conversation INTEGER NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    sequence     INTEGER NOT NULL,
    role         TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    side         TEXT CHECK (side IN ('base', 'tuned')), -- of an answer
    content      TEXT NOT NULL,
    details      TEXT NOT NULL,    -- JSON: stop reason, counts, checkpoint
    created      INTEGER NOT NULL, -- unix seconds
    PRIMARY KEY (conversation, sequence)
) WITHOUT ROWID;

-- Which answer to the question `sequence` a person preferred.
CREATE TABLE votes (
    conversation INTEGER NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    sequence     INTEGER NOT NULL,
    choice       TEXT NOT NULL CHECK (choice IN ('base', 'tuned', 'both', 'neither')),
    created      INTEGER NOT NULL, -- unix seconds
    PRIMARY KEY (conversation, sequence),
    FOREIGN KEY (conversation, sequence) REFERENCES messages (conversation, sequence) ON DELETE CASCADE
) WITHOUT ROWID;
