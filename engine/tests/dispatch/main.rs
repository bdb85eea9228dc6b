//! The delivery threads against the simulated providers, over real TLS and HTTP/2.
//! It must not know how jobs, queues or stores work.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod apns;
mod faults;
mod fcm;
mod rig;
