//! The regression suite.

pub mod figures;
pub mod golden;
pub mod interrupt;
pub mod programs;
pub mod scenario;
pub mod sim;
