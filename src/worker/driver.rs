//! The driver of a worker, and its buffers.

use super::exit::{Failure, OSERR};
use crate::io::pool::{Pool, PoolLimits};
use crate::io::proactor::Proactor;
use crate::io::threads::Threads;
use crate::terms::{DriverChoice, system_reason};

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

/// A driver that runs.
pub(super) struct Driver {
    /// With all its threads.
    pub(super) io: Box<dyn Proactor>,
    /// `Threads` or `Uring`.
    pub(super) is: DriverChoice,
    /// Why it is not io_uring, where that was tried.
    pub(super) instead: Option<String>,
}

/// Starts the driver of that choice, before the process is sealed.
///
/// # Errors
/// The system refuses the one that was chosen.
pub(super) fn start(pool: &Pool, choice: DriverChoice) -> Result<Driver, Failure> {
    start_with(pool, choice, uring)
}

fn start_with(
    pool: &Pool,
    choice: DriverChoice,
    uring: impl FnOnce(&Pool) -> Result<Box<dyn Proactor>, String>,
) -> Result<Driver, Failure> {
    let instead = match choice {
        DriverChoice::Threads => None,
        DriverChoice::Auto | DriverChoice::Uring => match uring(pool) {
            Ok(io) => {
                return Ok(Driver {
                    io,
                    is: DriverChoice::Uring,
                    instead: None,
                });
            }
            Err(reason) if choice == DriverChoice::Uring => {
                return Err(Failure::new(
                    OSERR,
                    format!("Unable to start the driver uring: {reason}."),
                ));
            }
            Err(reason) => Some(reason),
        },
    };
    let io = Threads::new(pool, DISK_THREADS).map_err(|error| failed(&error))?;
    Ok(Driver {
        io: Box::new(io),
        is: DriverChoice::Threads,
        instead,
    })
}

/// The io_uring driver, restricted to the policy.
#[cfg(target_os = "linux")]
fn uring(pool: &Pool) -> Result<Box<dyn Proactor>, String> {
    use crate::io::uring::Uring;

    match Uring::new(pool, DISK_THREADS, &|ring| sandbox::restrict_ring(&ring)) {
        Ok(io) => Ok(Box::new(io)),
        Err(error) => Err(system_reason(&error)),
    }
}

#[cfg(not(target_os = "linux"))]
fn uring(_pool: &Pool) -> Result<Box<dyn Proactor>, String> {
    Err("this system has no io_uring".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbidden(_: &Pool) -> Result<Box<dyn Proactor>, String> {
        Err("Operation not permitted".to_owned())
    }

    #[test]
    fn where_io_uring_is_forbidden_threads_take_over_unless_it_is_demanded() {
        let pool = pool().unwrap();
        let driver = start_with(&pool, DriverChoice::Auto, forbidden).unwrap();
        assert_eq!(driver.is, DriverChoice::Threads);
        assert_eq!(driver.instead.as_deref(), Some("Operation not permitted"));
        let refused = start_with(&pool, DriverChoice::Uring, forbidden)
            .err()
            .unwrap();
        assert_eq!(
            (refused.reason.as_str(), refused.status),
            (
                "Unable to start the driver uring: Operation not permitted.",
                OSERR
            )
        );
    }

    #[test]
    fn who_wants_threads_gets_no_ring() {
        let pool = pool().unwrap();
        let driver = start_with(&pool, DriverChoice::Threads, |_| unreachable!()).unwrap();
        assert_eq!((driver.is, driver.instead), (DriverChoice::Threads, None));
    }
}
