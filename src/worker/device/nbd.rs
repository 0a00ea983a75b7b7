//! The device of a primary by NBD: the Unix socket of its server.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::super::exit::{CONFIG, Failure, OSERR};
use super::super::{confine, driver, tokens};
use crate::device::FrontEnd;
use crate::device::nbd::{Export, NbdServer, ServerLimits};
use crate::io::pool::Pool;
use crate::io::proactor::Proactor;
use crate::ipc::Start;
use crate::terms::system_reason;

/// A socket that listens.
#[derive(Debug)]
pub(in crate::worker) struct Device {
    listener: OwnedFd,
    /// Where applications find it.
    pub(super) path: PathBuf,
}

/// Makes the socket `<devices>/<name>.nbd`, which only the owner may connect to. One that a former
/// worker has left behind is replaced, in one step: a client finds either the old one or ours.
///
/// # Errors
/// The name cannot be that of a file, something else is there or somebody else serves there, or
/// the system refuses.
pub(super) fn open(devices: &Path, name: &str) -> Result<Device, Failure> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
        return Err(Failure::new(
            CONFIG,
            format!("Unable to create device hast/{name}: the name cannot be that of a file."),
        ));
    }
    let path = devices.join(format!("{name}.nbd"));
    let failed = |error: &io::Error| {
        let reason = system_reason(error);
        let text = format!("Unable to create device {}: {reason}.", path.display());
        Failure::new(OSERR, text)
    };
    std::fs::create_dir_all(devices).map_err(|error| failed(&error))?;
    check_free(&path).map_err(|error| failed(&error))?;
    // Nobody can connect before it has its mode and its name.
    let unfinished = devices.join(format!(".{}.{name}", std::process::id()));
    let listener = finish(&unfinished, &path).inspect_err(|_| {
        // What is left of it, if anything, hinders nobody.
        let _ = std::fs::remove_file(&unfinished);
    });
    Ok(Device {
        listener: listener.map_err(|error| failed(&error))?,
        path: path.clone(),
    })
}

impl Device {
    pub(super) fn held(&self) -> (BorrowedFd<'_>, &'static str) {
        (self.listener.as_fd(), confine::DEVICE_LISTENER)
    }

    pub(super) fn serve(
        self,
        io: &mut dyn Proactor,
        pool: &Pool,
        start: &Start,
        datasize: u64,
        requests: u32,
    ) -> Result<Box<dyn FrontEnd>, Failure> {
        let export = Export {
            name: start.provname.clone(),
            bytes: datasize,
        };
        let limits = ServerLimits {
            requests,
            ..ServerLimits::default()
        };
        match NbdServer::new(io, pool, self.listener, export, limits, tokens::DEVICE_TAG) {
            Ok(server) => Ok(Box::new(server)),
            Err(error) => Err(driver::failed(&error)),
        }
    }
}

fn finish(unfinished: &Path, path: &Path) -> io::Result<OwnedFd> {
    let _ = std::fs::remove_file(unfinished);
    let listener = UnixListener::bind(unfinished)?;
    std::fs::set_permissions(unfinished, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(unfinished, path)?;
    Ok(listener.into())
}

/// Whether the name is free, or held by a socket that nobody serves.
fn check_free(path: &Path) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other("something else than a socket is there"));
    }
    // Without waiting: a server that is there may be slow to accept.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) | Err(Errno::EAGAIN | Errno::EINPROGRESS) => {
            Err(io::Error::other("another process serves there"))
        }
        Err(Errno::ECONNREFUSED) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "a").unwrap();
        let refused = open(dir.path(), "a").unwrap_err();
        assert!(refused.reason.ends_with("another process serves there."));
        drop(first.listener);
        let second = open(dir.path(), "a").unwrap();
        assert_eq!(second.path, dir.path().join("a.nbd"));
        UnixStream::connect(&second.path).unwrap();
        let mode = std::fs::metadata(&second.path).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
    }

    #[test]
    fn nothing_but_a_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.nbd"), "precious").unwrap();
        let refused = open(dir.path(), "a").unwrap_err();
        assert!(refused.reason.contains("something else than a socket"));
        assert_eq!(
            std::fs::read(dir.path().join("a.nbd")).unwrap(),
            b"precious"
        );
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", ".", "..", "../x", "a/b", "a\0b"] {
            assert_eq!(open(dir.path(), name).unwrap_err().status, CONFIG, "{name}");
        }
    }
}
