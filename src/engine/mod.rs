//! The pure state machines of both roles: no I/O, no clock, no threads, no randomness.
//!
//! A driver hands in one event at a time, with the time, and executes the actions that come out,
//! in their order. The same engine runs over real disks and sockets and in the simulator.

mod active;
pub mod event;
pub mod extents;
pub mod mutant;
pub mod ranges;
pub mod states;
