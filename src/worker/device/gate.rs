//! The device of a primary on FreeBSD: a provider of GEOM gate.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::super::exit::{Failure, OSERR};
use super::super::parent::Parent;
use super::super::{confine, driver, tokens};
use crate::device::FrontEnd;
use crate::device::ggate::gate::Gate;
use crate::device::ggate::provider::{DIRECT_READS_SINCE, GateError};
use crate::device::ggate::sys::{self, Control};
use crate::device::ggate::{
    DirectReads, GateLimits, GateServer, Numbering, Origin, Provider, ProviderConfig, provider,
};
use crate::disk::layout::Metadata;
use crate::io::pool::Pool;
use crate::io::proactor::Proactor;
use crate::ipc::{Level, Start};
use crate::terms::system_reason;

/// Requests of the kernel that are taken at a time.
const KERNEL_REQUESTS: u32 = 512;

/// A provider that is not served yet.
pub(in crate::worker) struct Device {
    control: Arc<Control>,
    provider: Provider,
    numbering: Numbering,
}

fn refused(error: &GateError) -> Failure {
    Failure::new(OSERR, error.to_string())
}

fn system(what: &str, error: &std::io::Error) -> Failure {
    Failure::new(
        OSERR,
        format!("Unable to {what}: {}.", system_reason(error)),
    )
}

fn control() -> Result<Control, Failure> {
    Control::open().map_err(|error| system("open /dev/ggctl", &error))
}

fn name(start: &Start) -> String {
    format!("hast/{}", start.provname)
}

/// Makes the provider, or takes over the one that a former worker has left behind.
pub(super) fn open(
    parent: &mut Parent,
    start: &Start,
    metadata: &Metadata,
    sector_bytes: u32,
) -> Result<Device, Failure> {
    let control = Arc::new(control()?);
    let release =
        sys::osreldate().map_err(|error| system("find out the kernel's release", &error))?;
    // The name of a provider, whatever link leads to it.
    let local = std::fs::canonicalize(&start.local).ok();
    let direct = local
        .filter(|_| release >= DIRECT_READS_SINCE)
        .and_then(|path| DirectReads::of_path(&path, metadata.offset));
    let config = ProviderConfig {
        name: name(start),
        resource: start.resource.clone(),
        bytes: metadata.datasize,
        sector_bytes,
        direct,
    };
    let gate = Arc::clone(&control) as Arc<dyn Gate>;
    let (provider, origin) = Provider::open(gate, config).map_err(|error| refused(&error))?;
    let device = Device {
        control,
        provider,
        numbering: Numbering::of_release(release),
    };
    let text = match origin {
        Origin::Created => format!("Device hast/{} created.", start.provname),
        Origin::TakenOver => format!("Device hast/{} recovered.", start.provname),
    };
    parent.log(Level::Info, text);
    Ok(device)
}

/// Takes away a provider that a dead primary has left behind.
pub(super) fn destroy_leftover(parent: &mut Parent, start: &Start) -> Result<(), Failure> {
    if !sys::is_loaded() {
        return Ok(());
    }
    let name = name(start);
    let destroyed = provider::destroy_leftover(&control()?, &name);
    if destroyed.map_err(|error| refused(&error))? {
        let text = format!("Device /dev/{name} of a former primary destroyed.");
        parent.log(Level::Warning, text);
    }
    Ok(())
}

impl Device {
    pub(super) fn held(&self) -> (BorrowedFd<'_>, &'static str) {
        (self.control.as_fd(), confine::GATE_CONTROL)
    }

    pub(super) fn path(&self) -> String {
        format!("/dev/{}", self.provider.config().name)
    }

    pub(super) fn serve(
        self,
        io: &mut dyn Proactor,
        pool: &Pool,
        requests: u32,
    ) -> Result<Box<dyn FrontEnd>, Failure> {
        let limits = GateLimits {
            requests: KERNEL_REQUESTS,
            parts: requests,
        };
        let server = GateServer::new(
            io,
            pool,
            self.provider,
            self.numbering,
            limits,
            tokens::DEVICE_TAG,
        );
        match server {
            Ok(server) => Ok(Box::new(server)),
            Err(error) => Err(driver::failed(&error)),
        }
    }
}
