-- What an API key may do, how fast, and until when; what it was used for, by day (days since 1970).
ALTER TABLE api_keys ADD COLUMN scopes smallint NOT NULL DEFAULT 7;
ALTER TABLE api_keys ADD COLUMN rate bigint;
ALTER TABLE api_keys ADD COLUMN expires_at bigint;
ALTER TABLE api_keys ADD COLUMN created_by bytea NOT NULL DEFAULT '';
CREATE INDEX api_keys_by_expiry ON api_keys (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE api_key_usage (
    tenant text COLLATE "C" NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    day bigint NOT NULL,
    operation text COLLATE "C" NOT NULL,
    calls bigint NOT NULL,
    PRIMARY KEY (tenant, key_id, day, operation)
);
CREATE INDEX api_key_usage_by_day ON api_key_usage (day);

CREATE TABLE organisations (
    id text COLLATE "C" PRIMARY KEY,
    name bytea NOT NULL,
    created_by bytea NOT NULL,
    created_at bigint NOT NULL
);

CREATE TABLE members (
    org text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    role smallint NOT NULL,
    added_by bytea NOT NULL,
    added_at bigint NOT NULL,
    PRIMARY KEY (org, subject)
);
CREATE INDEX members_by_subject ON members (subject, org);
-- An organisation has one owner (2).
CREATE UNIQUE INDEX members_owner ON members (org) WHERE role = 2;

CREATE TABLE service_ids (
    id text COLLATE "C" PRIMARY KEY,
    org text COLLATE "C" NOT NULL,
    name bytea NOT NULL,
    description bytea NOT NULL,
    -- The role on all tenants of the organisation; NULL for none.
    everywhere smallint,
    version bigint NOT NULL,
    created_by bytea NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE INDEX service_ids_by_org ON service_ids (org, created_at, id);

CREATE TABLE service_grants (
    service text COLLATE "C" NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    role smallint NOT NULL,
    PRIMARY KEY (service, tenant)
);

-- Keys of people (owner_kind 0) and of service IDs (1), found by the SHA-256 of the whole key.
CREATE TABLE iam_keys (
    id text COLLATE "C" PRIMARY KEY,
    hash bytea NOT NULL,
    owner_kind smallint NOT NULL,
    owner text COLLATE "C" NOT NULL,
    org text COLLATE "C",
    name bytea NOT NULL,
    description bytea NOT NULL,
    is_locked boolean NOT NULL,
    is_disabled boolean NOT NULL,
    version bigint NOT NULL,
    expires_at bigint,
    created_by bytea NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE UNIQUE INDEX iam_keys_by_hash ON iam_keys (hash);
CREATE INDEX iam_keys_by_owner ON iam_keys (owner_kind, owner, created_at, id);

-- Each refresh token is good once; all of a family come from one exchange of one key.
CREATE TABLE refresh_tokens (
    hash bytea PRIMARY KEY,
    family uuid NOT NULL,
    iam_key text COLLATE "C" NOT NULL,
    used_at bigint,
    expires_at bigint NOT NULL
);
CREATE INDEX refresh_tokens_by_family ON refresh_tokens (family);
CREATE INDEX refresh_tokens_by_key ON refresh_tokens (iam_key);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

-- Who did what to what people decide about. Rows are added, and deleted only by their age.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    org text COLLATE "C" NOT NULL,
    at bigint NOT NULL,
    actor bytea NOT NULL,
    credential text COLLATE "C" NOT NULL,
    source text COLLATE "C",
    operation text COLLATE "C" NOT NULL,
    tenant text COLLATE "C",
    target bytea NOT NULL,
    status bigint NOT NULL,
    request_id text COLLATE "C" NOT NULL
);
CREATE INDEX audit_by_org ON audit (org, id);
CREATE INDEX audit_by_time ON audit (at);
CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only appended to';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
