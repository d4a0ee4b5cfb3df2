-- Version 6: what gates came to, for those who look back.
ALTER TABLE run ADD COLUMN gated TEXT;        -- verdict of the last gate over it, with its second run where there is one; NULL: there was none
ALTER TABLE run ADD COLUMN same_code INTEGER; -- 1: head and base of that gate were the same code
