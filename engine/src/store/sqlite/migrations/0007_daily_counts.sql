-- What came of a tenant's pushes, by the day on which it was recorded (days since 1970, Greenwich).
CREATE TABLE daily_counts (
    tenant TEXT NOT NULL,
    day INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    unregistered INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    expired INTEGER NOT NULL,
    exhausted INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    dead INTEGER NOT NULL,
    no_device INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    PRIMARY KEY (tenant, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX daily_counts_by_day ON daily_counts (day);
