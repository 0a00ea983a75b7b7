//! The pure state machines of both roles: no I/O, no clock, no threads, no randomness.
//!
//! A driver hands in one event at a time, with the time, and executes the actions that come out,
//! in their order ([`event`] has the rules). The same engine runs over real disks and sockets and
//! in the simulator.
//!
//! * [`primary`] serves the application from two copies; [`secondary`] keeps the second one.
//!   Each begins with the interleavings that matter to it.
//! * [`extents`] is the dirty extent map: what must be on disk before which write may start.
//! * [`adaptive`] finds out how fast a synchronisation may go beside the applications.
//! * [`ranges`] keeps overlapping requests in order.
//! * [`decision`] compares two copies by their counters.
//! * [`states`] has every state and every legal change.

mod active;
pub mod adaptive;
pub mod decision;
pub mod event;
pub mod extents;
pub mod mutant;
pub mod primary;
pub mod ranges;
pub mod secondary;
pub mod states;
pub mod statistics;

/// The result of a flush, where a disk that cannot flush counts as one without a volatile cache.
fn flushed(result: Result<(), crate::terms::Errno>) -> Result<(), crate::terms::Errno> {
    match result {
        Err(crate::terms::Errno::EOPNOTSUPP) => Ok(()),
        result => result,
    }
}
