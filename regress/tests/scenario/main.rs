//! Two nodes with real processes, disks and networks (regress/README.md, "Scenarios").
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod clients;
mod disks;
mod failover;
mod fence;
mod hostile;
mod kills;
mod link;
mod matrix;
mod mismatch;
mod reload;
mod roles;
mod steer;
mod sync;
