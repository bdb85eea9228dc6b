-- What backends are to be told of a part of a job's record, until the broker has it. Free from `free_at` on: nobody publishes it.
CREATE TABLE outbox (
    tenant text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    notification uuid NOT NULL,
    job uuid NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    free_at bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX outbox_by_free ON outbox (free_at, id);
