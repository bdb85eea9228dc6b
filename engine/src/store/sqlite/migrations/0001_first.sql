-- Times are Unix milliseconds. Ids are 16 bytes. Payloads, jobs and provider texts are BLOBs: a NUL must not stop a group.
-- Small rows that change often stand apart from the large bodies that do not, or every change would rewrite the body.

CREATE TABLE control (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    heartbeat INTEGER NOT NULL
) STRICT;
INSERT INTO control (id, version, heartbeat) VALUES (1, 0, 0);

CREATE TABLE tenants (
    id TEXT NOT NULL PRIMARY KEY,
    org TEXT NOT NULL,
    bundle_id TEXT,
    use_sandbox INTEGER NOT NULL,
    rate INTEGER,
    burst INTEGER,
    backlog INTEGER,
    weight INTEGER,
    ambiguous_retries INTEGER,
    suspended INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    -- When the last of a deleted tenant's devices and unfed pages was removed.
    purged_at INTEGER,
    -- Control version of the last change.
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tenants_by_version ON tenants (version);
CREATE INDEX tenants_by_org ON tenants (org, created_at, id);
CREATE INDEX tenants_stopped ON tenants (id) WHERE suspended = 1 OR deleted_at IS NOT NULL;
CREATE INDEX tenants_to_purge ON tenants (id) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;

CREATE TABLE api_keys (
    tenant TEXT NOT NULL,
    key_id TEXT NOT NULL,
    is_test INTEGER NOT NULL,
    hash BLOB NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_used_at INTEGER,
    PRIMARY KEY (tenant, key_id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX api_keys_by_id ON api_keys (key_id);

-- A deleted credential leaves its version, so that a version never names two secrets.
CREATE TABLE credentials (
    tenant TEXT NOT NULL,
    credential_id TEXT NOT NULL,
    kind INTEGER NOT NULL,
    environment INTEGER NOT NULL,
    version INTEGER NOT NULL,
    public TEXT NOT NULL,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    PRIMARY KEY (tenant, credential_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL,
    platform INTEGER NOT NULL,
    environment INTEGER NOT NULL,
    device_token TEXT NOT NULL,
    app_version TEXT,
    created_at INTEGER NOT NULL,
    registered_at INTEGER NOT NULL,
    last_accepted_at INTEGER,
    suspect_at INTEGER,
    pruned_at INTEGER,
    prune_reason BLOB
) STRICT;
CREATE UNIQUE INDEX devices_by_token ON devices (tenant, device_token) WHERE pruned_at IS NULL;
CREATE INDEX devices_by_user ON devices (tenant, user_id, id) WHERE pruned_at IS NULL;
CREATE INDEX devices_of_tenant ON devices (tenant, id) WHERE pruned_at IS NULL;
CREATE INDEX devices_pruned ON devices (pruned_at) WHERE pruned_at IS NOT NULL;

CREATE TABLE prune_candidates (
    tenant TEXT NOT NULL,
    platform INTEGER NOT NULL,
    device INTEGER NOT NULL,
    dead_since INTEGER NOT NULL,
    reason BLOB NOT NULL,
    noted_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, platform, device)
) STRICT, WITHOUT ROWID;

-- state: 0 running, 1 finished.
CREATE TABLE notifications (
    tenant TEXT NOT NULL,
    id BLOB NOT NULL,
    lane INTEGER NOT NULL,
    state INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    finished_at INTEGER,
    entries INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    waiting INTEGER NOT NULL,
    -- Entries of pages that have not ended.
    open_entries INTEGER NOT NULL,
    -- Jobs that are neither a page's first nor ended.
    open_jobs INTEGER NOT NULL,
    pages_total INTEGER NOT NULL,
    -- The next page to be reserved.
    pages_next INTEGER NOT NULL,
    pages_ended INTEGER NOT NULL,
    accepted INTEGER NOT NULL DEFAULT 0,
    unregistered INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0,
    exhausted INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    no_device INTEGER NOT NULL DEFAULT 0,
    unknown INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX notifications_feeding ON notifications (tenant, (pages_next - pages_ended), id)
    WHERE pages_next < pages_total;
CREATE INDEX notifications_running ON notifications (tenant, id) WHERE state = 0;
CREATE INDEX notifications_finished ON notifications (finished_at) WHERE state = 1;

CREATE TABLE notification_bodies (
    tenant TEXT NOT NULL,
    notification BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (tenant, notification)
) STRICT;

-- state: 0 ready, 1 reserved, 2 fed, 3 ended; since: when it got there.
CREATE TABLE pages (
    tenant TEXT NOT NULL,
    notification BLOB NOT NULL,
    page INTEGER NOT NULL,
    first_ordinal INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    state INTEGER NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (tenant, notification, page)
) STRICT, WITHOUT ROWID;
CREATE INDEX pages_on_their_way ON pages (state, since) WHERE state = 1 OR state = 2;

CREATE TABLE page_bodies (
    tenant TEXT NOT NULL,
    notification BLOB NOT NULL,
    page INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (tenant, notification, page)
) STRICT;

-- kind: 0 outcomes, 1 claim. The digest stands in the first part of a job only.
CREATE TABLE record_parts (
    tenant TEXT NOT NULL,
    notification BLOB NOT NULL,
    job BLOB NOT NULL,
    seq INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    process BLOB NOT NULL,
    generation INTEGER NOT NULL,
    at INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    digest BLOB,
    block BLOB NOT NULL,
    PRIMARY KEY (tenant, notification, job, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE failures (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    notification BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    user_id TEXT,
    device INTEGER NOT NULL,
    platform INTEGER,
    device_token TEXT,
    state INTEGER NOT NULL,
    reason BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX failures_by_notification ON failures (tenant, notification, id);

CREATE TABLE waiting (
    tenant TEXT NOT NULL,
    job BLOB NOT NULL,
    notification BLOB NOT NULL,
    lane INTEGER NOT NULL,
    due INTEGER NOT NULL,
    why INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (tenant, job)
) STRICT;
CREATE INDEX waiting_by_queue ON waiting (tenant, lane, due);
CREATE INDEX waiting_by_due ON waiting (due);

CREATE TABLE dead (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    at INTEGER NOT NULL,
    origin INTEGER NOT NULL,
    reason TEXT NOT NULL,
    detail BLOB NOT NULL,
    notification BLOB,
    job BLOB,
    recipients INTEGER NOT NULL,
    replays INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX dead_by_tenant ON dead (tenant, id);
CREATE INDEX dead_by_time ON dead (at);

-- How often the job that a replay made had been replayed, should it die again.
CREATE TABLE dead_replays (
    tenant TEXT NOT NULL,
    job BLOB NOT NULL,
    replays INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (tenant, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX dead_replays_by_time ON dead_replays (at);

CREATE TABLE idempotency (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    notification BLOB NOT NULL,
    started_at INTEGER NOT NULL,
    status INTEGER,
    body BLOB,
    PRIMARY KEY (tenant, key)
) STRICT;
CREATE INDEX idempotency_by_time ON idempotency (started_at);
