-- What an API key may do, how fast, and until when; what it was used for, by day (days since 1970).
ALTER TABLE api_keys ADD COLUMN scopes INTEGER NOT NULL DEFAULT 7;
ALTER TABLE api_keys ADD COLUMN rate INTEGER;
ALTER TABLE api_keys ADD COLUMN expires_at INTEGER;
ALTER TABLE api_keys ADD COLUMN created_by TEXT NOT NULL DEFAULT '';
CREATE INDEX api_keys_by_expiry ON api_keys (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE api_key_usage (
    tenant TEXT NOT NULL,
    key_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    operation TEXT NOT NULL,
    calls INTEGER NOT NULL,
    PRIMARY KEY (tenant, key_id, day, operation)
) STRICT, WITHOUT ROWID;
CREATE INDEX api_key_usage_by_day ON api_key_usage (day);

CREATE TABLE organisations (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE members (
    org TEXT NOT NULL,
    subject TEXT NOT NULL,
    role INTEGER NOT NULL,
    added_by TEXT NOT NULL,
    added_at INTEGER NOT NULL,
    PRIMARY KEY (org, subject)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_subject ON members (subject, org);
-- An organisation has one owner (2).
CREATE UNIQUE INDEX members_owner ON members (org) WHERE role = 2;

CREATE TABLE service_ids (
    id TEXT NOT NULL PRIMARY KEY,
    org TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    -- The role on all tenants of the organisation; NULL for none.
    everywhere INTEGER,
    version INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX service_ids_by_org ON service_ids (org, created_at, id);

CREATE TABLE service_grants (
    service TEXT NOT NULL,
    tenant TEXT NOT NULL,
    role INTEGER NOT NULL,
    PRIMARY KEY (service, tenant)
) STRICT, WITHOUT ROWID;

-- Keys of people (owner_kind 0) and of service IDs (1), found by the SHA-256 of the whole key.
CREATE TABLE iam_keys (
    id TEXT NOT NULL PRIMARY KEY,
    hash BLOB NOT NULL,
    owner_kind INTEGER NOT NULL,
    owner TEXT NOT NULL,
    org TEXT,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    is_locked INTEGER NOT NULL,
    is_disabled INTEGER NOT NULL,
    version INTEGER NOT NULL,
    expires_at INTEGER,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX iam_keys_by_hash ON iam_keys (hash);
CREATE INDEX iam_keys_by_owner ON iam_keys (owner_kind, owner, created_at, id);

-- Each refresh token is good once; all of a family come from one exchange of one key.
CREATE TABLE refresh_tokens (
    hash BLOB NOT NULL PRIMARY KEY,
    family BLOB NOT NULL,
    iam_key TEXT NOT NULL,
    used_at INTEGER,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family);
CREATE INDEX refresh_tokens_by_key ON refresh_tokens (iam_key);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

-- Who did what to what people decide about. Rows are added, and deleted only by their age.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    org TEXT NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    credential TEXT NOT NULL,
    source TEXT,
    operation TEXT NOT NULL,
    tenant TEXT,
    target TEXT NOT NULL,
    status INTEGER NOT NULL,
    request_id TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_org ON audit (org, id);
CREATE INDEX audit_by_time ON audit (at);
CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
BEGIN
    SELECT raise(ABORT, 'the audit log is only appended to');
END;
