//! Highly available block storage for two machines.
//!
//! The library behind `hastd` and `hastctl`. Modules depend on each other downwards only:
//! `daemon`, `worker` and `ctl` use `engine`, `io` and `device`, which use `disk`, `wire` and
//! `conf`, which use nothing but [`terms`]. See ARCHITECTURE.md.

pub mod conf;
pub mod confinement;
pub mod ctl;
pub mod daemon;
pub mod device;
pub mod disk;
pub mod engine;
pub mod events;
pub mod explain;
mod inherited;
pub mod io;
pub mod ipc;
pub mod latency;
pub mod metrics;
pub mod moment;
pub mod report;
pub mod terms;
pub mod wire;
pub mod worker;
