//! One ingest and two engines on RabbitMQ and PostgreSQL, each a process of its own, and what happens when some of them die or
//! stall. It must not know how engines share their work.

mod backend;
mod cluster;
mod events;
mod examples;
mod faults;
mod published;
mod publisher;
mod work;
