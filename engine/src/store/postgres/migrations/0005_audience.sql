-- The id that an app gave its device, beside the device token. Unique where not pruned.
ALTER TABLE devices ADD COLUMN external_id bytea;
CREATE UNIQUE INDEX devices_by_external_id ON devices (tenant, external_id)
    WHERE external_id IS NOT NULL AND pruned_at IS NULL;

CREATE TABLE tags (
    tenant text COLLATE "C" NOT NULL,
    name bytea NOT NULL,
    description bytea NOT NULL,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE subscriptions (
    tenant text COLLATE "C" NOT NULL,
    tag bytea NOT NULL,
    device bigint NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    created_at bigint NOT NULL,
    PRIMARY KEY (tenant, tag, device)
);
-- The sum and the digest keep these apart from the primary key, which the planner must take for whole keys.
CREATE INDEX subscriptions_by_device ON subscriptions (tenant, (device + 0), id);
CREATE INDEX subscriptions_of_tag ON subscriptions (tenant, sha256(tag), id);
CREATE INDEX subscriptions_of_tenant ON subscriptions (tenant, id);

-- Audiences that are paged as the engine comes to them: devices up to `after` are done, those beyond `up_to` registered later.
-- The row goes with the last page.
CREATE TABLE selections (
    tenant text COLLATE "C" NOT NULL,
    notification uuid NOT NULL,
    after bigint NOT NULL,
    up_to bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant, notification)
);
