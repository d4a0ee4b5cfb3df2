-- Version 7: what machines can see, before anything is measured on them.
CREATE TABLE calibration (
    nth      INTEGER PRIMARY KEY, -- in the order of writing
    host     TEXT NOT NULL,       -- the machine, by facts that no boot changes
    suite    TEXT NOT NULL,       -- the suite whose work was done
    document TEXT NOT NULL        -- JSON: `tarebench.calibration/1`
) STRICT;
