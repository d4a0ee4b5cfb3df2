-- Version 2: open loop, concurrency and the timeline of a burst. Bursts of before are of closed loop and one at a time.
ALTER TABLE burst ADD COLUMN response BLOB;                       -- open loop: times from the intended start, as `histogram`
ALTER TABLE burst ADD COLUMN lateness BLOB;                       -- open loop: of the generator, as `histogram`
ALTER TABLE burst ADD COLUMN timeline BLOB;                       -- latencies by slice of 5 ms and by size class
ALTER TABLE burst ADD COLUMN concurrency INTEGER NOT NULL DEFAULT 1; -- operations in flight at a time
ALTER TABLE burst ADD COLUMN counters TEXT;                       -- JSON: what was counted beside operations
