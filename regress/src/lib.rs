//! The regression suite.

pub mod golden;
pub mod programs;
pub mod scenario;
pub mod sim;
