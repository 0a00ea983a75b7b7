//! Block devices, small file systems and mounts: for root, where the system has them.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// It does not run, or fails: its standard error.
pub fn run(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = arguments.join(" ");
    Err(io::Error::other(format!("{program} {line}: {said}")))
}

/// Whether a program can be run here.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).exists())
}

/// A loop device, detached when dropped.
#[derive(Debug)]
pub struct LoopDevice {
    /// Its node.
    pub path: PathBuf,
}

impl LoopDevice {
    /// Attaches a file.
    ///
    /// # Errors
    /// There are no loop devices here.
    pub fn attach(file: &Path) -> io::Result<LoopDevice> {
        let path = run(
            "losetup",
            &["--find", "--show", &file.display().to_string()],
        )?;
        Ok(LoopDevice { path: path.into() })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if let Err(error) = run("losetup", &["--detach", &self.path.display().to_string()]) {
            println!("{error}");
        }
    }
}

/// A mount, unmounted when dropped.
#[derive(Debug)]
pub struct Mount {
    /// Where.
    pub path: PathBuf,
}

impl Mount {
    /// A file system in memory, of so many bytes.
    ///
    /// # Errors
    /// This process may not mount.
    pub fn memory(path: &Path, bytes: u64) -> io::Result<Mount> {
        let shown = path.display().to_string();
        let size = format!("size={bytes}");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", &shown])?;
        Ok(Mount {
            path: path.to_owned(),
        })
    }

    /// What is on a block device.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn device(device: &Path, path: &Path) -> io::Result<Mount> {
        run(
            "mount",
            &[&device.display().to_string(), &path.display().to_string()],
        )?;
        Ok(Mount {
            path: path.to_owned(),
        })
    }

    /// Unmounts, and says whether that worked.
    ///
    /// # Errors
    /// It is in use, or its device fails.
    pub fn unmount(self) -> io::Result<()> {
        let done = run("umount", &[&self.path.display().to_string()]);
        if done.is_ok() {
            std::mem::forget(self);
        }
        done.map(drop)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = run("umount", &["-l", &self.path.display().to_string()]) {
            println!("{error}");
        }
    }
}
