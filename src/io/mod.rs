//! The proactor: operations are submitted, then waited for, whatever performs them.
//!
//! * [`pool`]: the bounded pool of aligned buffers that all payloads live in;
//! * [`outgoing`]: packets on their way out, as one vectored send;
//! * [`proactor`]: the interface between a worker and a driver;
//! * [`threads`]: the portable driver: poll(2) for sockets, a pool of threads for disks;
//! * `uring`: the driver for Linux's io_uring.
//!
//! A worker's main thread owns the driver, the pool and everything that talks to them; only
//! leases of buffers and descriptors of disks cross to the disk threads and to the kernel.

pub mod outgoing;
pub mod pool;
pub mod proactor;
pub mod threads;
#[cfg(target_os = "linux")]
pub mod uring;

mod crew;
mod disks;
mod jobs;
mod sys;

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

fn set_nonblocking(fd: &OwnedFd) -> std::io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
