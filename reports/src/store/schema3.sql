-- Version 3: what a burst drew. Of bursts of before nobody knows, and the baseline's were other draws than everybody else's.
ALTER TABLE burst ADD COLUMN drawn INTEGER;                       -- digest of the operations drawn, as two's complement; NULL: not kept
