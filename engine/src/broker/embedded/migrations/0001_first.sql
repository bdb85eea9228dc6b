-- Unacked messages. The id is also the order within a queue. Times are Unix milliseconds.
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    lane INTEGER NOT NULL,
    published_at INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX messages_by_queue ON messages (tenant, lane, id);

CREATE TABLE heartbeat (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    beats INTEGER NOT NULL
) STRICT;
INSERT INTO heartbeat (id, beats) VALUES (1, 0);
