-- What backends are to be told of a part of a job's record, until the broker has it. Free from `free_at` on: nobody publishes it.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    notification BLOB NOT NULL,
    job BLOB NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    free_at INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX outbox_by_free ON outbox (free_at, id);
