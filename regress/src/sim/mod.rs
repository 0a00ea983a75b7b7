//! The deterministic simulation of a whole cluster around the real engines.
//!
//! A run is a function of its seed: two nodes with disks that fail, a network that breaks, daemons
//! that restart, an operator, applications ([`scenario`] draws what kind; [`world`] runs it).
//! The engines are the ones that the daemon runs; everything around them is modelled.
//! What is checked: [`oracle`] (what applications were promised), [`copies`] (what must be true of
//! the disks), [`buffers`] (ownership), `disk` (no two overlapping writes at once, bounds), and
//! convergence ([`operator`]).

pub mod app;
pub mod buffers;
pub mod clock;
pub mod content;
pub mod copies;
pub mod daemon;
pub mod disk;
pub mod faults;
pub mod network;
pub mod node;
pub mod operator;
pub mod oracle;
pub mod primary;
pub mod report;
pub mod rng;
pub mod scenario;
pub mod script;
pub mod secondary;
pub mod trace;
pub mod world;

pub use report::Stats;
pub use trace::{Detail, Violation};
pub use world::{Options, Outcome, run};
