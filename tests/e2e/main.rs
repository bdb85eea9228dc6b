//! End to end: a real `clarion serve` process against simulated providers, seen from outside only.
//! It must not know how anything is done inside; it calls the HTTP API and reads the receive log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod bad_input;
mod cli;
mod control;
mod devices;
mod faults;
mod fsync;
mod harness;
mod ibm;
mod isolation;
mod kill;
mod matrix;
mod million;
mod mushu;
mod neighbour;
mod publisher;
mod reasons;
mod scale;
mod send;
mod source_document;
mod tags;
