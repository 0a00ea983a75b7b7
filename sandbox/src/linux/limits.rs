//! Resource limits.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::policy::{Kind, descriptors_max};
use crate::step::{Outcome, Result};

/// No core dumps; no more open files than the kind may hold.
pub(super) fn descriptors_and_cores(kind: Kind) -> Result {
    files_and_cores(descriptors_max(kind).into())
}

/// No core dumps, and that many open files.
pub(super) fn files_and_cores(files: u64) -> Result {
    set(Resource::RLIMIT_CORE, 0)?;
    set(Resource::RLIMIT_NOFILE, files)?;
    Ok(Outcome::InForce(Some(format!(
        "{files} open files, no core dumps"
    ))))
}

/// No further process, and no further thread: none of the kernel for a ring either, whose
/// operations that would need one fail instead.
pub(super) fn no_processes() -> Result {
    set(Resource::RLIMIT_NPROC, 0)?;
    Ok(Outcome::InForce(None))
}

fn set(resource: Resource, limit: u64) -> std::result::Result<(), String> {
    // What is already lower stays.
    let (_, hard) = getrlimit(resource).map_err(|error| format!("{resource:?}: {error}"))?;
    let limit = limit.min(hard);
    setrlimit(resource, limit, limit).map_err(|error| format!("{resource:?}: {error}"))?;
    match getrlimit(resource) {
        Ok(found) if found == (limit, limit) => Ok(()),
        Ok(found) => Err(format!("{resource:?} is {found:?} instead of {limit}")),
        Err(error) => Err(format!("{resource:?}: {error}")),
    }
}
