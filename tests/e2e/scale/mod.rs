//! One ingest and two engines on RabbitMQ and PostgreSQL, each a process of its own, and what happens when some of them die or
//! stall. It must not know how engines share their work.

mod backend;
mod broker_faults;
mod cluster;
mod database_faults;
mod events;
mod examples;
mod faults;
mod full;
mod published;
mod publisher;
mod rate;
mod revocation;
mod tenants;
mod tls;
mod wire;
mod work;
