-- Documents, their chunks and the vectors of these (S2.1): a project is what belongs together.
CREATE TABLE projects (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    name    TEXT NOT NULL UNIQUE COLLATE NOCASE, -- also the name of its folder
    created INTEGER NOT NULL                     -- unix seconds
);

CREATE TABLE documents (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    project  INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    path     TEXT NOT NULL, -- absolute
    title    TEXT,
    format   TEXT NOT NULL,
    sha256   TEXT NOT NULL, -- of the file, when it was chunked
    chunking TEXT NOT NULL, -- how it was chunked: another value chunks it anew
    warnings TEXT NOT NULL, -- JSON: a list of sentences
    updated  INTEGER NOT NULL, -- unix seconds
    UNIQUE (project, path)
);

-- The id of a chunk stays as long as its hash does: what was made from it stays valid.
CREATE TABLE chunks (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    document INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    position INTEGER NOT NULL, -- counts from 0 within the document
    hash     TEXT NOT NULL,    -- of headings and text
    text     TEXT NOT NULL,
    details  TEXT NOT NULL     -- JSON: the rest of the chunk's record
);

CREATE INDEX chunks_by_document ON chunks (document, position);
CREATE INDEX chunks_by_hash ON chunks (hash);

-- By hash and not by chunk: the same words are asked about once, and a chunk that moves keeps its vector.
CREATE TABLE embeddings (
    project INTEGER NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    model   TEXT NOT NULL,
    hash    TEXT NOT NULL,
    vector  BLOB NOT NULL, -- f32, little endian
    PRIMARY KEY (project, model, hash)
) WITHOUT ROWID;

-- The words of chunks. The text itself stays in one place.
CREATE VIRTUAL TABLE chunk_words USING fts5 (
    text, content = 'chunks', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
);

CREATE TRIGGER chunk_words_after_insert AFTER INSERT ON chunks BEGIN
    INSERT INTO chunk_words (rowid, text) VALUES (new.id, new.text);
END;

CREATE TRIGGER chunk_words_after_delete AFTER DELETE ON chunks BEGIN
    INSERT INTO chunk_words (chunk_words, rowid, text) VALUES ('delete', old.id, old.text);
END;
