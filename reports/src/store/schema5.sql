-- Version 5: what of a burst promised to last. Of bursts of before every operation counts as if it had.
ALTER TABLE burst ADD COLUMN durable_writes INTEGER;              -- operations, warm-up included; NULL: none promised it, or not kept
