//! The device of a primary: where applications find it, and the front end that serves it.
//!
//! It is opened with the privileges that this takes, and served without them. On FreeBSD, root's
//! workers serve a provider of GEOM gate; all others serve the socket of an NBD server.

#[cfg(target_os = "freebsd")]
mod gate;
mod nbd;

use std::os::fd::BorrowedFd;

use super::exit::Failure;
use super::parent::Parent;
use crate::device::FrontEnd;
use crate::disk::layout::Metadata;
use crate::io::pool::Pool;
use crate::io::proactor::Proactor;
use crate::ipc::{Level, Start};

/// A device that is open, and not served yet.
pub(super) enum Device {
    Nbd(nbd::Device),
    #[cfg(target_os = "freebsd")]
    Gate(gate::Device),
}

/// Makes the device, and says so.
///
/// # Errors
/// The name cannot be that of a device, another process serves it, or the system refuses.
pub(super) fn open(
    parent: &mut Parent,
    start: &Start,
    metadata: &Metadata,
    sector_bytes: u32,
) -> Result<Device, Failure> {
    #[cfg(target_os = "freebsd")]
    if nix::unistd::geteuid().is_root() {
        return gate::open(parent, start, metadata, sector_bytes).map(Device::Gate);
    }
    // What only a kernel's device needs to know.
    let _ = (metadata, sector_bytes);
    let device = nbd::open(&start.devices, &start.provname)?;
    let text = format!("Device hast/{} created.", start.provname);
    parent.log(Level::Info, text);
    Ok(Device::Nbd(device))
}

/// Takes away what a primary that is dead has left behind: a node that is not primary has no
/// device.
///
/// # Errors
/// The system refuses.
#[cfg_attr(not(target_os = "freebsd"), expect(clippy::unnecessary_wraps))]
pub(super) fn destroy_leftover(parent: &mut Parent, start: &Start) -> Result<(), Failure> {
    #[cfg(target_os = "freebsd")]
    if nix::unistd::geteuid().is_root() {
        return gate::destroy_leftover(parent, start);
    }
    // The next primary replaces the socket of an NBD server.
    let _ = (parent, start);
    Ok(())
}

impl Device {
    /// Its descriptor, and what for.
    pub(super) fn held(&self) -> (BorrowedFd<'_>, &'static str) {
        match self {
            Device::Nbd(device) => device.held(),
            #[cfg(target_os = "freebsd")]
            Device::Gate(device) => device.held(),
        }
    }

    /// Where applications find it.
    pub(super) fn path(&self) -> String {
        match self {
            Device::Nbd(device) => device.path.display().to_string(),
            #[cfg(target_os = "freebsd")]
            Device::Gate(device) => device.path(),
        }
    }

    /// The front end, with all the threads that it will ever have. It serves from its first
    /// [`FrontEnd::flush`] on, and numbers its requests below `requests`.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn serve(
        self,
        io: &mut dyn Proactor,
        pool: &Pool,
        start: &Start,
        datasize: u64,
        requests: u32,
    ) -> Result<Box<dyn FrontEnd>, Failure> {
        match self {
            Device::Nbd(device) => device.serve(io, pool, start, datasize, requests),
            #[cfg(target_os = "freebsd")]
            Device::Gate(device) => device.serve(io, pool, requests),
        }
    }
}
