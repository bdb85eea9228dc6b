-- Push messages of the IBM Push face: notifications under eight characters, and the request as it was sent.
CREATE TABLE messages (
    tenant text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    notification uuid NOT NULL,
    alert bytea,
    url bytea,
    body bytea NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX messages_by_time ON messages (tenant, created_at, id);
CREATE INDEX messages_by_age ON messages (created_at);

-- What devices reported about them. seen: 0 shown, 1 opened.
CREATE TABLE message_receipts (
    tenant text COLLATE "C" NOT NULL,
    message text COLLATE "C" NOT NULL,
    device bytea NOT NULL,
    seen smallint NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (tenant, message, device, seen)
);
CREATE INDEX message_receipts_by_time ON message_receipts (tenant, at, seen);
CREATE INDEX message_receipts_by_age ON message_receipts (at);

-- Of secrets only hashes.
CREATE TABLE push_secrets (
    tenant text COLLATE "C" PRIMARY KEY,
    client_secret bytea,
    client_secret_at bigint,
    app_secret bytea,
    app_secret_at bigint,
    allows_app_secret boolean NOT NULL,
    verifies_client_secret boolean NOT NULL,
    -- Public: what apps register at Google with.
    sender_id bytea
);

-- section: 0 inside, 1 outside the organisation.
CREATE TABLE clients (
    tenant text COLLATE "C" NOT NULL,
    client_id text COLLATE "C" NOT NULL,
    name bytea NOT NULL,
    section smallint NOT NULL,
    secret bytea,
    created_at bigint NOT NULL,
    PRIMARY KEY (tenant, client_id)
);
CREATE UNIQUE INDEX clients_by_id ON clients (client_id);
