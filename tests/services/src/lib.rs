//! Private instances of RabbitMQ and PostgreSQL for tests: free loopback ports, data directories of their own, ended
//! with the test process. It must not know Clarion.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod disk;
pub mod postgres;
pub mod rabbitmq;
pub mod tls;
