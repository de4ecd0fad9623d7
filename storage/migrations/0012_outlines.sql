-- What very long histories are listed by, without the settings beside it.
CREATE INDEX runs_listed ON runs
    (created DESC, id DESC, status, project, name, loss, validation_loss, quality_score, seconds);
DROP INDEX runs_by_created;

-- Of each 512 steps those that a curve must not lose, so that a run of a million steps is drawn from a few thousand.
CREATE TABLE outlines (
    run      TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    block    INTEGER NOT NULL, -- (step - 1) / 512
    lowest   INTEGER,          -- step of the lowest loss
    highest  INTEGER,          -- step of the highest loss
    steepest INTEGER,          -- step of the largest gradient
    PRIMARY KEY (run, block)
) WITHOUT ROWID;

CREATE TRIGGER metrics_outlined AFTER INSERT ON metrics WHEN new.step % 512 = 0
BEGIN
    INSERT OR REPLACE INTO outlines (run, block, lowest, highest, steepest) VALUES (
        new.run,
        new.step / 512 - 1,
        (SELECT step FROM metrics WHERE run = new.run AND step > new.step - 512 AND step <= new.step
         ORDER BY loss IS NULL, loss LIMIT 1),
        (SELECT step FROM metrics WHERE run = new.run AND step > new.step - 512 AND step <= new.step
         ORDER BY loss DESC LIMIT 1),
        (SELECT step FROM metrics WHERE run = new.run AND step > new.step - 512 AND step <= new.step
         ORDER BY gradient_norm DESC LIMIT 1)
    );
END;

INSERT INTO outlines (run, block, lowest, highest, steepest)
SELECT
    run,
    step / 512 - 1,
    (SELECT step FROM metrics AS m WHERE m.run = last.run AND m.step > last.step - 512 AND m.step <= last.step
     ORDER BY m.loss IS NULL, m.loss LIMIT 1),
    (SELECT step FROM metrics AS m WHERE m.run = last.run AND m.step > last.step - 512 AND m.step <= last.step
     ORDER BY m.loss DESC LIMIT 1),
    (SELECT step FROM metrics AS m WHERE m.run = last.run AND m.step > last.step - 512 AND m.step <= last.step
     ORDER BY m.gradient_norm DESC LIMIT 1)
FROM metrics AS last
WHERE step > 0 AND step % 512 = 0;
