//! The root directory: an empty one that nobody can write to.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, chroot, pivot_root};

use crate::step::{Outcome, Result};

/// Keeps what happens in this mount namespace from spreading to that of the system.
pub(super) fn make_private() -> std::result::Result<(), String> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(|error| format!("unable to make mounts private: {error}"))
}

/// Leaves the file system behind: with mounts of its own by changing to an empty, read-only one and
/// unmounting everything else, otherwise by chroot(2).
pub(super) fn leave(directory: &Path, mounts_are_own: bool) -> Result {
    let detail = if mounts_are_own {
        pivot(directory).map_err(|(what, error)| format!("{what}: {error}"))?;
        "an empty read-only file system, all others unmounted"
    } else {
        check_unwritable(directory)?;
        chroot(directory).map_err(|error| format!("chroot {}: {error}", directory.display()))?;
        chdir("/").map_err(|error| format!("chdir: {error}"))?;
        "chroot"
    };
    check_empty()?;
    Ok(Outcome::InForce(Some(detail.into())))
}

fn pivot(directory: &Path) -> std::result::Result<(), (&'static str, nix::Error)> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some("confined"),
        directory,
        Some("tmpfs"),
        flags,
        Some("size=4k,nr_inodes=1,mode=0555"),
    )
    .map_err(|error| ("unable to mount an empty file system", error))?;
    chdir(directory).map_err(|error| ("chdir", error))?;
    // The old root ends up on top of the new one, from where it is unmounted: no directory is
    // needed to put it.
    pivot_root(".", ".").map_err(|error| ("pivot_root", error))?;
    umount2(".", MntFlags::MNT_DETACH)
        .map_err(|error| ("unable to unmount the old root directory", error))?;
    chdir("/").map_err(|error| ("chdir", error))
}

/// A directory of root's that nobody else may write to, and empty.
fn check_unwritable(directory: &Path) -> std::result::Result<(), String> {
    let path = directory.display();
    let status = std::fs::metadata(directory).map_err(|error| format!("{path}: {error}"))?;
    if !status.is_dir() || status.uid() != 0 || status.mode() & 0o022 != 0 {
        return Err(format!(
            "{path} must be an empty directory that belongs to root and that nobody else may \
             write to"
        ));
    }
    Ok(())
}

/// Nothing is to be seen from here.
fn check_empty() -> std::result::Result<(), String> {
    match std::fs::read_dir("/").map(|entries| entries.count()) {
        Ok(0) => Ok(()),
        Ok(count) => Err(format!("the new root directory holds {count} entries")),
        Err(error) => Err(format!("the new root directory cannot be read: {error}")),
    }
}
