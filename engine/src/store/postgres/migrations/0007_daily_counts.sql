-- What came of a tenant's pushes, by the day on which it was recorded (days since 1970, Greenwich). One row per process, so that no
-- process waits for another's commit.
CREATE TABLE daily_counts (
    tenant text COLLATE "C" NOT NULL,
    day bigint NOT NULL,
    process uuid NOT NULL,
    accepted bigint NOT NULL,
    unregistered bigint NOT NULL,
    rejected bigint NOT NULL,
    expired bigint NOT NULL,
    exhausted bigint NOT NULL,
    cancelled bigint NOT NULL,
    dead bigint NOT NULL,
    no_device bigint NOT NULL,
    unknown bigint NOT NULL,
    PRIMARY KEY (tenant, day, process)
);
CREATE INDEX daily_counts_by_day ON daily_counts (day);
