//! The Notify API, driven through the real router over the real embedded store and queue.
//! It must not know how the router is built inside.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod accounts;
mod bad_input;
mod credentials;
mod devices;
mod house;
mod iam;
mod ibm;
mod idempotency;
mod keys;
mod operate;
mod orgs;
mod publish;
mod send;
mod serving;
mod source_document;
mod status_table;
