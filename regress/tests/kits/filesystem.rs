//! Each node's file system, put there and taken away by attach.sh, which the kits call.

use std::path::{Path, PathBuf};
use std::process::Command;

use hast_regress::scenario::blockdev::{has, run};
use hast_regress::scenario::process;
use nix::sys::signal::Signal;

/// What this takes beyond what every system has.
const TOOLS: [&str; 4] = ["nbdfuse", "mkfs.ext4", "mountpoint", "blkid"];

/// The tool that is missing here, if one is.
pub(crate) fn missing() -> Option<&'static str> {
    TOOLS.into_iter().find(|tool| !has(tool))
}

/// The script.
pub(crate) fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kits/attach.sh")
}

/// Where records go on a node's file system, if it is mounted: a directory that is on it.
pub(crate) fn mounted(home: &Path) -> Option<PathBuf> {
    let point = home.join("mnt");
    let status = Command::new("mountpoint").arg("-q").arg(&point).status();
    let mounted = status.is_ok_and(|status| status.success());
    mounted.then(|| point.join("records"))
}

/// The file system of one node.
pub(crate) struct FileSystem {
    home: PathBuf,
}

impl FileSystem {
    /// Of the node whose directory this is; not there yet.
    pub(crate) fn of(home: &Path) -> FileSystem {
        FileSystem {
            home: home.to_owned(),
        }
    }

    /// The node dies: nothing more is written, and nothing is left of it.
    pub(crate) fn die(&self) {
        let pid = std::fs::read_to_string(self.home.join("nbdfuse.pid")).unwrap_or_default();
        if let Ok(pid) = pid.trim().parse() {
            process::signal(pid, Signal::SIGKILL);
        }
        // Each of them may have gone with the others, or never have been there.
        for name in ["mnt", "disk"] {
            let path = self.home.join(name).display().to_string();
            let _ = run("umount", &["-l", &path]);
        }
        let _ = std::fs::remove_file(self.home.join("nbdfuse.pid"));
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        self.die();
    }
}
