-- Push messages of the IBM Push face: notifications under eight characters, and the request as it was sent.
CREATE TABLE messages (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    notification BLOB NOT NULL,
    alert BLOB,
    url BLOB,
    body BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX messages_by_id ON messages (tenant, id);
CREATE INDEX messages_by_time ON messages (tenant, created_at, id);
CREATE INDEX messages_by_age ON messages (created_at);

-- What devices reported about them. seen: 0 shown, 1 opened.
CREATE TABLE message_receipts (
    tenant TEXT NOT NULL,
    message TEXT NOT NULL,
    device BLOB NOT NULL,
    seen INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (tenant, message, device, seen)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_receipts_by_time ON message_receipts (tenant, at, seen);
CREATE INDEX message_receipts_by_age ON message_receipts (at);

-- Of secrets only hashes.
CREATE TABLE push_secrets (
    tenant TEXT NOT NULL PRIMARY KEY,
    client_secret BLOB,
    client_secret_at INTEGER,
    app_secret BLOB,
    app_secret_at INTEGER,
    allows_app_secret INTEGER NOT NULL,
    verifies_client_secret INTEGER NOT NULL,
    -- Public: what apps register at Google with.
    sender_id BLOB
) STRICT, WITHOUT ROWID;

-- section: 0 inside, 1 outside the organisation.
CREATE TABLE clients (
    tenant TEXT NOT NULL,
    client_id TEXT NOT NULL,
    name BLOB NOT NULL,
    section INTEGER NOT NULL,
    secret BLOB,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, client_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX clients_by_id ON clients (client_id);
