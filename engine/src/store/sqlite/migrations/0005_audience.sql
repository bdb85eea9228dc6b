-- The id that an app gave its device, beside the device token. Unique where not pruned.
ALTER TABLE devices ADD COLUMN external_id TEXT;
CREATE UNIQUE INDEX devices_by_external_id ON devices (tenant, external_id)
    WHERE external_id IS NOT NULL AND pruned_at IS NULL;

CREATE TABLE tags (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE subscriptions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL,
    tag TEXT NOT NULL,
    device INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX subscriptions_by_tag ON subscriptions (tenant, tag, device);
CREATE INDEX subscriptions_by_device ON subscriptions (tenant, device, id);
CREATE INDEX subscriptions_of_tag ON subscriptions (tenant, tag, id);
CREATE INDEX subscriptions_of_tenant ON subscriptions (tenant, id);

-- Audiences that are paged as the engine comes to them: devices up to `after` are done, those beyond `up_to` registered later.
-- The row goes with the last page.
CREATE TABLE selections (
    tenant TEXT NOT NULL,
    notification BLOB NOT NULL,
    after INTEGER NOT NULL,
    up_to INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (tenant, notification)
) STRICT, WITHOUT ROWID;
