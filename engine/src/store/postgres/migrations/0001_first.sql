-- Times are Unix milliseconds. Whatever came from outside (user ids, device tokens, names, payloads, the provider's words) is
-- bytea: a NUL in it must not stop a group. Ids that Clarion checked are text in byte order, so that the database sorts them as
-- the code does. Small rows that change often stand apart from the large bodies that do not.

CREATE TABLE control (
    id smallint PRIMARY KEY CHECK (id = 1),
    version bigint NOT NULL
);
INSERT INTO control (id, version) VALUES (1, 0);

-- Apart from the version, so that a readiness probe waits for nobody's change of a tenant.
CREATE TABLE heartbeat (
    id smallint PRIMARY KEY CHECK (id = 1),
    beats bigint NOT NULL
);
INSERT INTO heartbeat (id, beats) VALUES (1, 0);

CREATE TABLE tenants (
    id text COLLATE "C" PRIMARY KEY,
    org text COLLATE "C" NOT NULL,
    bundle_id bytea,
    use_sandbox boolean NOT NULL,
    rate bigint,
    burst bigint,
    backlog bigint,
    weight bigint,
    ambiguous_retries smallint,
    suspended boolean NOT NULL,
    created_by bytea NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    deleted_at bigint,
    -- When the last of a deleted tenant's devices and unfed pages was removed.
    purged_at bigint,
    -- Control version of the last change.
    version bigint NOT NULL
);
CREATE INDEX tenants_by_version ON tenants (version);
CREATE INDEX tenants_by_org ON tenants (org, created_at, id);
CREATE INDEX tenants_stopped ON tenants (id) WHERE suspended OR deleted_at IS NOT NULL;
CREATE INDEX tenants_to_purge ON tenants (id) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;

CREATE TABLE api_keys (
    tenant text COLLATE "C" NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    is_test boolean NOT NULL,
    hash bytea NOT NULL,
    name bytea NOT NULL,
    created_at bigint NOT NULL,
    last_used_at bigint,
    PRIMARY KEY (tenant, key_id)
);
CREATE UNIQUE INDEX api_keys_by_id ON api_keys (key_id);

-- A deleted credential leaves its version, so that a version never names two secrets.
CREATE TABLE credentials (
    tenant text COLLATE "C" NOT NULL,
    credential_id text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    environment smallint NOT NULL,
    version bigint NOT NULL,
    public bytea NOT NULL,
    sealed bytea NOT NULL,
    created_at bigint NOT NULL,
    deleted_at bigint,
    PRIMARY KEY (tenant, credential_id)
);

CREATE TABLE devices (
    tenant text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    user_id bytea NOT NULL,
    platform smallint NOT NULL,
    environment smallint NOT NULL,
    device_token bytea NOT NULL,
    app_version bytea,
    created_at bigint NOT NULL,
    registered_at bigint NOT NULL,
    last_accepted_at bigint,
    suspect_at bigint,
    pruned_at bigint,
    prune_reason bytea,
    PRIMARY KEY (tenant, id)
);
-- By digest: a device token may be longer than an index takes.
CREATE UNIQUE INDEX devices_by_token ON devices (tenant, sha256(device_token)) WHERE pruned_at IS NULL;
CREATE INDEX devices_by_user ON devices (tenant, user_id, id) WHERE pruned_at IS NULL;
CREATE INDEX devices_pruned ON devices (pruned_at) WHERE pruned_at IS NOT NULL;

CREATE TABLE prune_candidates (
    tenant text COLLATE "C" NOT NULL,
    platform smallint NOT NULL,
    device bigint NOT NULL,
    dead_since bigint NOT NULL,
    reason bytea NOT NULL,
    noted_at bigint NOT NULL,
    PRIMARY KEY (tenant, platform, device)
);

-- state: 0 running, 1 finished.
CREATE TABLE notifications (
    tenant text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    lane smallint NOT NULL,
    state smallint NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    finished_at bigint,
    entries bigint NOT NULL,
    recipients bigint NOT NULL,
    waiting bigint NOT NULL,
    -- Entries of pages that have not ended.
    open_entries bigint NOT NULL,
    -- Jobs that are neither a page's first nor ended.
    open_jobs bigint NOT NULL,
    pages_total bigint NOT NULL,
    -- The next page to be reserved.
    pages_next bigint NOT NULL,
    pages_ended bigint NOT NULL,
    accepted bigint NOT NULL DEFAULT 0,
    unregistered bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    expired bigint NOT NULL DEFAULT 0,
    exhausted bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    dead bigint NOT NULL DEFAULT 0,
    no_device bigint NOT NULL DEFAULT 0,
    unknown bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX notifications_feeding ON notifications (tenant, (pages_next - pages_ended), id)
    WHERE pages_next < pages_total;
CREATE INDEX notifications_running ON notifications (tenant, id) WHERE state = 0;
CREATE INDEX notifications_finished ON notifications (finished_at) WHERE state = 1;

CREATE TABLE notification_bodies (
    tenant text COLLATE "C" NOT NULL,
    notification uuid NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant, notification)
);

-- state: 0 ready, 1 reserved, 2 fed, 3 ended; since: when it got there.
CREATE TABLE pages (
    tenant text COLLATE "C" NOT NULL,
    notification uuid NOT NULL,
    page bigint NOT NULL,
    first_ordinal bigint NOT NULL,
    entries bigint NOT NULL,
    state smallint NOT NULL,
    since bigint NOT NULL,
    PRIMARY KEY (tenant, notification, page)
);
CREATE INDEX pages_on_their_way ON pages (state, since) WHERE state = 1 OR state = 2;

CREATE TABLE page_bodies (
    tenant text COLLATE "C" NOT NULL,
    notification uuid NOT NULL,
    page bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant, notification, page)
);

-- kind: 0 outcomes, 1 claim. The digest stands in the first part of a job only.
CREATE TABLE record_parts (
    tenant text COLLATE "C" NOT NULL,
    notification uuid NOT NULL,
    job uuid NOT NULL,
    seq bigint NOT NULL,
    kind smallint NOT NULL,
    ended boolean NOT NULL,
    process uuid NOT NULL,
    generation bigint NOT NULL,
    at bigint NOT NULL,
    digest bytea,
    block bytea NOT NULL,
    PRIMARY KEY (tenant, notification, job, seq)
);

CREATE TABLE failures (
    tenant text COLLATE "C" NOT NULL,
    notification uuid NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    ordinal bigint NOT NULL,
    user_id bytea,
    device bigint NOT NULL,
    platform smallint,
    device_token bytea,
    state smallint NOT NULL,
    reason bytea NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (tenant, notification, id)
);

-- A row may be released from `ready_at` on, which is `due` until a process takes it to be released: then nobody else does
-- for a while.
CREATE TABLE waiting (
    tenant text COLLATE "C" NOT NULL,
    job uuid NOT NULL,
    notification uuid NOT NULL,
    lane smallint NOT NULL,
    due bigint NOT NULL,
    ready_at bigint NOT NULL,
    holder uuid,
    why smallint NOT NULL,
    recipients bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant, job)
);
CREATE INDEX waiting_by_queue ON waiting (tenant, lane, ready_at);
CREATE INDEX waiting_by_ready ON waiting (ready_at);
CREATE INDEX waiting_held ON waiting (holder, due) WHERE holder IS NOT NULL;

CREATE TABLE dead (
    tenant text COLLATE "C" NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    at bigint NOT NULL,
    origin smallint NOT NULL,
    reason bytea NOT NULL,
    detail bytea NOT NULL,
    notification uuid,
    job uuid,
    recipients bigint NOT NULL,
    replays bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX dead_by_id ON dead (id);
CREATE INDEX dead_by_time ON dead (at);

-- How often the job that a replay made had been replayed, should it die again.
CREATE TABLE dead_replays (
    tenant text COLLATE "C" NOT NULL,
    job uuid NOT NULL,
    replays bigint NOT NULL,
    at bigint NOT NULL,
    PRIMARY KEY (tenant, job)
);
CREATE INDEX dead_replays_by_time ON dead_replays (at);

CREATE TABLE idempotency (
    tenant text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    fingerprint bytea NOT NULL,
    notification uuid NOT NULL,
    started_at bigint NOT NULL,
    status integer,
    body bytea,
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_by_time ON idempotency (started_at);

-- Who holds how much of a tenant's rate. The lists have one place for each process: what it wishes, what it was granted, and
-- until when. One row, so that one statement reads, decides and writes.
CREATE TABLE rate_leases (
    tenant text COLLATE "C" PRIMARY KEY,
    rate bigint NOT NULL,
    processes uuid[] NOT NULL,
    wished bigint[] NOT NULL,
    granted bigint[] NOT NULL,
    until bigint[] NOT NULL
) WITH (fillfactor = 50);
