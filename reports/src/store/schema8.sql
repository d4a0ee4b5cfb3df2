-- Version 8: what it takes to end an environment. Of starts of before nobody knows.
ALTER TABLE start ADD COLUMN stop_ns INTEGER; -- filled in when the block ends; NULL: it ended in another way, or not kept
