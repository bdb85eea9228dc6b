-- Dead publish requests: the routing key they came by, and where they are broken (a JSON Pointer). NULL for jobs.
ALTER TABLE dead ADD COLUMN routing_key bytea, ADD COLUMN path bytea;
