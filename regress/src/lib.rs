//! The regression suite.

pub mod golden;
pub mod programs;
// Network namespaces and loop devices; regress/freebsd has its own scenarios.
#[cfg(target_os = "linux")]
pub mod scenario;
pub mod sim;
