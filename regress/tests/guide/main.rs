//! The operator's guide (docs/guide.md), held to what the programs do: every command in it runs
//! here, and every row of its table of failures is what a scenario saw (regress/README.md, "Guide").
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod copies;
mod daemons;
mod disks;
mod peers;
mod row;
mod shell;
mod text;
mod walk;
