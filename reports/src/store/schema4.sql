-- Version 4: what stays of a run when its rows are removed, why it stopped, and the runs that later ones are judged by.
ALTER TABLE run ADD COLUMN stopped TEXT;    -- why it ended where that wasn't by plan, in words
ALTER TABLE run ADD COLUMN key TEXT;        -- JSON: what all runs of one history have in common; NULL: not worked out yet
ALTER TABLE run ADD COLUMN bursts INTEGER;  -- how many there are, counted when the figures were made
ALTER TABLE run ADD COLUMN figured INTEGER; -- version of the method that made the figures; NULL: there are none yet
ALTER TABLE run ADD COLUMN pruned TEXT;     -- UTC, RFC 3339: when all rows but the figures were removed; NULL: they are there
CREATE INDEX run_key ON run (key);

CREATE TABLE figure (                       -- a metric of a workload in an environment, made from the rows
    nth INTEGER PRIMARY KEY,
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    workload TEXT NOT NULL,
    environment TEXT NOT NULL,
    metric TEXT NOT NULL,
    net REAL NOT NULL,
    gross REAL NOT NULL,
    overhead REAL NOT NULL,
    low REAL,                               -- ends of the overhead's interval; NULL where there is none
    high REAL,
    difference_ns REAL NOT NULL,            -- additional time of an operation
    ratios BLOB NOT NULL,                   -- of each block that counted: its number (u32) and the ratio (f64), little endian
    verdict TEXT NOT NULL
) STRICT;
CREATE INDEX figure_run ON figure (run, environment, workload);

CREATE TABLE accepted (                     -- a run that stands for how things should be
    nth INTEGER PRIMARY KEY,
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    key TEXT NOT NULL,                      -- as in `run`
    at TEXT NOT NULL,                       -- UTC, RFC 3339
    reason TEXT NOT NULL,
    moves INTEGER NOT NULL                  -- 1: what was accepted before doesn't count any more
) STRICT;
CREATE INDEX accepted_key ON accepted (key);
