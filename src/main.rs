//! The command line.
mod config;
fn main() {}
