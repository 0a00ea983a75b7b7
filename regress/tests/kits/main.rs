//! The failover kits of etc/, with the real programs that they are made for.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod filesystem;
mod keepalived;
mod records;
