//! A provider's life: made or taken over, reads served by the kernel or not, taken away.

use std::io;
use std::sync::Arc;

use super::gate::Gate;
use super::layout::{
    Cancel, Create, Destroy, INFO_BYTES, MODIFY_READOFFSET, MODIFY_READPROV, Modify, NAME_BYTES,
    UNIT_NAME_GIVEN, VERSION, text,
};
use crate::terms::system_reason;

/// How often creating and taking over alternate, should the provider come and go meanwhile.
const ATTEMPTS: usize = 3;

/// FreeBSD's numbers; Linux has the same for these three.
const ENXIO: i32 = libc::ENXIO;
const EEXIST: i32 = libc::EEXIST;

/// A provider that does not exist: GEOM has no names that end like a directory.
const NOWHERE: &str = "hast/";

/// The first release whose kernel may be told to serve reads by itself: earlier ones let go of the
/// local component, when it is to serve them no more, while reads of it are under way.
pub const DIRECT_READS_SINCE: u32 = 1_300_000;

/// What the kernel is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderConfig {
    /// Name below /dev: `hast/<name>`.
    pub name: String,
    /// Name of the resource, for who lists providers.
    pub resource: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Size of its sectors in bytes.
    pub sector_bytes: u32,
    /// Where the kernel may read the data by itself, if the local component is a provider.
    pub direct: Option<DirectReads>,
}

/// A provider that the kernel may serve reads from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectReads {
    /// Its name, without /dev/.
    pub provider: String,
    /// Where in it the data begin, in bytes.
    pub offset: u64,
}

impl DirectReads {
    /// From the path of the local component; `None`: it is not below /dev.
    pub fn of_path(path: &std::path::Path, offset: u64) -> Option<DirectReads> {
        let provider = path.strip_prefix("/dev").ok()?.to_str()?;
        (!provider.is_empty()).then(|| DirectReads {
            provider: provider.to_owned(),
            offset,
        })
    }
}

/// How the provider came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is new.
    Created,
    /// A former worker has left it behind: it is open, perhaps, and what that worker had not
    /// answered will be asked for again.
    TakenOver,
}

/// A provider could not be made or changed.
#[derive(Debug)]
pub enum GateError {
    /// A name that the kernel's structures cannot hold.
    Name(String),
    /// A size that they cannot hold.
    Size(u64),
    /// The kernel refuses: what was tried, with which provider, and its reason.
    Kernel(&'static str, String, io::Error),
}

impl std::fmt::Display for GateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GateError::Name(name) => write!(
                f,
                "The name {name} is too long for a GEOM gate provider (at most {} bytes).",
                NAME_BYTES - 1
            ),
            GateError::Size(bytes) => {
                write!(f, "{bytes} bytes are too many for a GEOM gate provider.")
            }
            GateError::Kernel(what, name, error) => {
                write!(f, "Unable to {what} {name}: {}.", system_reason(error))
            }
        }
    }
}

impl std::error::Error for GateError {}

/// A provider that this process serves.
pub struct Provider {
    pub(super) gate: Arc<dyn Gate>,
    pub(super) unit: i32,
    config: ProviderConfig,
    /// Whether the kernel serves reads by itself.
    direct: bool,
    /// It was made by this process, which has not begun to serve it.
    unserved: bool,
}

/// What nobody has served nobody can miss. It would be in the way: GEOM looks at a new provider at
/// once, and whoever closes a disk waits until it has done so.
impl Drop for Provider {
    fn drop(&mut self) {
        if self.unserved {
            // There is nobody left to tell, and the next worker finds it.
            let _ = self.destroy();
        }
    }
}

impl Provider {
    /// Makes the provider, or takes over the one that a former worker has left behind: the
    /// requests that it had not answered are queued again, so that no application sees an error.
    /// Must not be called while that worker lives; the lock on the local component sees to it.
    ///
    /// The kernel serves no reads by itself at first, whatever the former worker had told it.
    ///
    /// # Errors
    /// The kernel's reason.
    pub fn open(
        gate: Arc<dyn Gate>,
        mut config: ProviderConfig,
    ) -> Result<(Provider, Origin), GateError> {
        // Kernels have been seen to return from MODIFY with a lock held, for ever, if they refuse
        // the offset: so it is not left to them.
        let sector = u64::from(config.sector_bytes);
        config
            .direct
            .take_if(|reads| sector == 0 || !reads.offset.is_multiple_of(sector));
        let name: [u8; NAME_BYTES] =
            text(&config.name).ok_or_else(|| GateError::Name(config.name.clone()))?;
        let info = text(&format!("HAST resource {}", config.resource))
            .ok_or_else(|| GateError::Name(config.resource.clone()))?;
        let mediasize = i64::try_from(config.bytes).map_err(|_| GateError::Size(config.bytes))?;
        let refused = |what, error: io::Error| GateError::Kernel(what, config.name.clone(), error);
        for _ in 0..ATTEMPTS {
            let mut create = Create {
                version: VERSION,
                mediasize,
                sectorsize: config.sector_bytes,
                flags: 0,
                maxcount: 0,
                timeout: 0,
                name,
                info,
                readprov: [0; NAME_BYTES],
                readoffset: 0,
                unit: UNIT_NAME_GIVEN,
            };
            match gate.create(&mut create) {
                Ok(()) => {
                    let mut provider = Provider::new(gate, create.unit, config);
                    provider.unserved = true;
                    return Ok((provider, Origin::Created));
                }
                Err(error) if error.raw_os_error() == Some(EEXIST) => {}
                Err(error) => return Err(refused("create device", error)),
            }
            let mut cancel = Cancel {
                version: VERSION,
                unit: UNIT_NAME_GIVEN,
                seq: 0,
                name,
            };
            match gate.cancel(&mut cancel) {
                Ok(()) => {
                    let mut provider = Provider::new(gate, cancel.unit, config);
                    // For all we know the former worker had left them on.
                    provider.direct = true;
                    provider.set_direct_reads(false)?;
                    return Ok((provider, Origin::TakenOver));
                }
                // Gone meanwhile.
                Err(error) if error.raw_os_error() == Some(ENXIO) => {}
                Err(error) => return Err(refused("take over device", error)),
            }
        }
        let exists = io::Error::from_raw_os_error(EEXIST);
        Err(refused("create device", exists))
    }

    fn new(gate: Arc<dyn Gate>, unit: i32, config: ProviderConfig) -> Provider {
        Provider {
            gate,
            unit,
            config,
            direct: false,
            unserved: false,
        }
    }

    /// From now on its requests are answered, so that it outlives this process.
    pub(super) fn serve(&mut self) {
        self.unserved = false;
    }

    /// What it was made of.
    pub fn config(&self) -> &ProviderConfig {
        &self.config
    }

    /// Whether the kernel serves reads by itself.
    pub fn has_direct_reads(&self) -> bool {
        self.direct
    }

    /// Lets the kernel serve reads from the local component by itself, or not any more. Reads that
    /// fail there come to this process. Nothing is asked of the kernel if nothing changes, or if
    /// the local component is not a provider.
    ///
    /// # Errors
    /// The kernel's reason. If they were to end, they may still be served: nothing may then be
    /// acknowledged that the local component does not hold.
    pub fn set_direct_reads(&mut self, direct: bool) -> Result<(), GateError> {
        if direct == self.direct || (direct && self.config.direct.is_none()) {
            return Ok(());
        }
        let reads = self.config.direct.as_ref().filter(|_| direct);
        let name = &self.config.name;
        match reads {
            Some(reads) => {
                let both = MODIFY_READPROV | MODIFY_READOFFSET;
                self.modify(both, &reads.provider, reads.offset)
                    .map_err(|error| {
                        GateError::Kernel("enable direct reads of", name.clone(), error)
                    })?;
            }
            None => {
                // Kernels go on with the provider that they have just let go of, and crash, if they
                // are told to have none while they have one. If they are told to have one that
                // does not exist they let go of it properly, and refuse; then they have none.
                let refused = match self.modify(MODIFY_READPROV, NOWHERE, 0) {
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
                    Err(error) => Err(error),
                    Ok(()) => Err(io::Error::other(format!("/dev/{NOWHERE} exists"))),
                };
                // Whatever a kernel does that refuses before it lets go, it has none after this.
                // Without a provider it refuses any offset, 0 too.
                refused
                    .and_then(|()| self.modify(MODIFY_READPROV, "", 0))
                    .map_err(|error| {
                        GateError::Kernel("disable direct reads of", name.clone(), error)
                    })?;
            }
        }
        self.direct = direct;
        Ok(())
    }

    fn modify(&self, modify: u32, provider: &str, offset: u64) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        self.gate.modify(&mut Modify {
            version: VERSION,
            unit: self.unit,
            modify,
            mediasize: 0,
            info: [0; INFO_BYTES],
            readprov: text(provider).ok_or_else(invalid)?,
            readoffset: i64::try_from(offset).map_err(|_| invalid())?,
        })
    }

    /// Takes the provider away, although it may be open: applications get `ENXIO` from now on.
    ///
    /// # Errors
    /// The kernel's reason; that it is gone already is none.
    pub fn destroy(&self) -> Result<(), GateError> {
        let refused = |error| GateError::Kernel("destroy device", self.config.name.clone(), error);
        let destroyed = destroy(&*self.gate, self.unit, [0; NAME_BYTES]);
        destroyed.map(|_| ()).map_err(refused)
    }
}

/// Takes away a provider that a worker, which is dead, has left behind, if there is one: a node
/// that is not primary must not have one. True if there was.
///
/// # Errors
/// The kernel's reason; that there is none is none.
pub fn destroy_leftover(gate: &dyn Gate, name: &str) -> Result<bool, GateError> {
    let field = text(name).ok_or_else(|| GateError::Name(name.to_owned()))?;
    destroy(gate, UNIT_NAME_GIVEN, field)
        .map_err(|error| GateError::Kernel("destroy device", name.to_owned(), error))
}

/// Whether there was one.
fn destroy(gate: &dyn Gate, unit: i32, name: [u8; NAME_BYTES]) -> io::Result<bool> {
    let mut request = Destroy {
        version: VERSION,
        unit,
        force: 1,
        name,
    };
    match gate.destroy(&mut request) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(ENXIO) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;
