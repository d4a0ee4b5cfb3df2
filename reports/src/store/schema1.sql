-- Version 1 of the store. Never edited: what comes later is the next file.
-- Coordinates and sample numbers are columns; fingerprints, settings and evidence are JSON; a histogram is HdrHistogram V2, deflated.
-- Unsigned 64-bit numbers are stored by their bits. A failure is a step and a message where the numbers would be.
CREATE TABLE run (
    id TEXT PRIMARY KEY,
    started TEXT NOT NULL,           -- UTC, RFC 3339
    suite TEXT NOT NULL,
    suite_toml TEXT NOT NULL,
    seed INTEGER NOT NULL,
    blocks INTEGER NOT NULL,
    rounds INTEGER NOT NULL,
    baseline TEXT NOT NULL,
    command TEXT NOT NULL,
    binary_sha256 TEXT NOT NULL,
    version TEXT NOT NULL,
    labels TEXT NOT NULL,            -- JSON
    host TEXT NOT NULL,              -- JSON
    nested TEXT,
    workloads TEXT NOT NULL,         -- JSON
    environments TEXT NOT NULL,      -- JSON
    pinning TEXT NOT NULL,
    ending TEXT NOT NULL CHECK (ending IN ('unfinished', 'complete', 'interrupted')),
    seconds REAL
) STRICT;

CREATE TABLE start (
    nth INTEGER PRIMARY KEY,         -- order of writing
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    block INTEGER NOT NULL,
    environment TEXT NOT NULL,
    start_ns INTEGER,
    step TEXT,
    message TEXT,
    memory_bytes INTEGER,
    hello TEXT,                      -- JSON
    identity TEXT,                   -- JSON
    clock TEXT,                      -- JSON, filled in when the block ends
    CHECK ((start_ns IS NULL) = (step IS NOT NULL))
) STRICT;
CREATE INDEX start_run ON start (run, block, environment);

CREATE TABLE burst (
    nth INTEGER PRIMARY KEY,
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    block INTEGER NOT NULL,
    round INTEGER NOT NULL,
    position INTEGER NOT NULL,
    workload TEXT NOT NULL,
    environment TEXT NOT NULL,
    operations INTEGER,
    bytes INTEGER,
    elapsed_ns INTEGER,
    warmup_operations INTEGER,
    warmup_ns INTEGER,
    batch INTEGER,
    cut_short INTEGER,
    histogram BLOB,
    step TEXT,
    message TEXT,
    canary_before_ns INTEGER NOT NULL,
    canary_after_ns INTEGER NOT NULL,
    evidence TEXT NOT NULL,          -- JSON, counters that could be read
    CHECK ((histogram IS NULL) = (step IS NOT NULL))
) STRICT;
CREATE INDEX burst_run ON burst (run);

CREATE TABLE void (
    nth INTEGER PRIMARY KEY,
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    block INTEGER NOT NULL,
    round INTEGER NOT NULL,
    workload TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;
CREATE INDEX void_run ON void (run);

CREATE TABLE checked (
    nth INTEGER PRIMARY KEY,
    run TEXT NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    block INTEGER NOT NULL,
    workload TEXT NOT NULL,
    environment TEXT NOT NULL,
    value TEXT,
    detail TEXT,
    step TEXT,
    message TEXT,
    facts TEXT NOT NULL,             -- JSON
    CHECK ((value IS NULL) = (step IS NOT NULL))
) STRICT;
CREATE INDEX checked_run ON checked (run);
