//! The regression suite.

pub mod golden;
pub mod programs;
pub mod sim;
pub mod scenario;
