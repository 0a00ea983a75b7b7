//! GEOM gate's control device as a trait: the kernel's in production, a model of it in tests.

use std::io;

use super::layout::{Cancel, Create, Destroy, Io, Modify};

/// /dev/ggctl. Calls come from several threads at once; only `start` waits.
///
/// Errors are the kernel's, as `raw_os_error`.
pub trait Gate: Send + Sync {
    /// `G_GATE_CMD_CREATE`. Sets `unit`.
    ///
    /// # Errors
    /// `EEXIST`: a provider of that name exists.
    fn create(&self, request: &mut Create) -> io::Result<()>;

    /// `G_GATE_CMD_CANCEL`. Sets `unit` if the name was given.
    ///
    /// # Errors
    /// `ENXIO`: there is no such provider.
    fn cancel(&self, request: &mut Cancel) -> io::Result<()>;

    /// `G_GATE_CMD_MODIFY`.
    ///
    /// # Errors
    /// `ENXIO`: there is no such provider; `EINVAL`: reads cannot be served by that one.
    fn modify(&self, request: &mut Modify) -> io::Result<()>;

    /// `G_GATE_CMD_DESTROY`. Returns when no `start` of that provider waits any more.
    ///
    /// # Errors
    /// `ENXIO`: there is no such provider.
    fn destroy(&self, request: &mut Destroy) -> io::Result<()>;

    /// `G_GATE_CMD_START`: waits for a request, takes a write's data into `data`.
    ///
    /// # Errors
    /// `ENXIO`: there is no such provider; `EINTR`.
    fn start(&self, request: &mut Io, data: &mut [u8]) -> io::Result<()>;

    /// `G_GATE_CMD_DONE`: answers a request. For a read that succeeded, `data` are as many bytes
    /// as the request asked for; else they are empty.
    ///
    /// # Errors
    /// `ENOENT`: there is no such provider.
    fn done(&self, request: &mut Io, data: &[u8]) -> io::Result<()>;
}
