//! The driver of a worker, and its buffers.

use super::exit::{Failure, OSERR};
use crate::io::pool::{Pool, PoolLimits};
use crate::io::threads::Threads;
use crate::terms::system_reason;

/// Threads for the disk: as many operations wait in it at once. Real disks gain little from more.
const DISK_THREADS: usize = 16;

/// Buffers of a worker: 84 MiB at most, of which those in use cost memory. The largest ones are
/// for blocks of the synchronisation, one to decompress into, and large requests.
const BUFFERS: PoolLimits = PoolLimits {
    buffers: [1024, 256, 48],
};

/// A failure of the system.
pub(super) fn failed(error: &std::io::Error) -> Failure {
    Failure::new(
        OSERR,
        format!("Unable to start the worker: {}.", system_reason(error)),
    )
}

/// The buffers.
pub(super) fn pool() -> Result<Pool, Failure> {
    Pool::new(BUFFERS).map_err(|error| failed(&error))
}

/// The driver, with all its threads.
pub(super) fn start(pool: &Pool) -> Result<Threads, Failure> {
    Threads::new(pool, DISK_THREADS).map_err(|error| failed(&error))
}
