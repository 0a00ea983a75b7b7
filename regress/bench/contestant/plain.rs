//! NBD servers of a file without any replication.

use std::path::Path;
use std::process::Command;

use hast_regress::interrupt;
use tempfile::TempDir;

use super::{Serving, uri};
use crate::child::Server;
use crate::ground::{Disks, Ground};

/// One server per resource.
#[derive(Debug)]
pub(crate) struct Plain {
    servers: Vec<Server>,
    uris: Vec<String>,
    /// Of the sockets, whose paths must be short.
    _dir: TempDir,
}

impl Plain {
    /// qemu-nbd with its defaults: page cache, a pool of threads.
    pub(super) fn qemu_nbd(ground: &Ground, disks: &[Disks]) -> Result<Box<dyn Serving>, String> {
        Plain::start(ground, disks, |socket, disk| {
            let mut command = Command::new("qemu-nbd");
            command
                .args(["--persistent", "--format=raw", "--shared=0", "--socket"])
                .arg(socket)
                .arg(disk);
            command
        })
    }

    /// nbdkit's plugin `file` with its defaults.
    pub(super) fn nbdkit(ground: &Ground, disks: &[Disks]) -> Result<Box<dyn Serving>, String> {
        Plain::start(ground, disks, |socket, disk| {
            let mut command = Command::new("nbdkit");
            command
                .args(["--foreground", "--unix"])
                .arg(socket)
                .arg("file")
                .arg(disk);
            command
        })
    }

    fn start(
        ground: &Ground,
        disks: &[Disks],
        command: impl Fn(&Path, &Path) -> Command,
    ) -> Result<Box<dyn Serving>, String> {
        let dir = TempDir::with_prefix("hast-bench").map_err(|error| error.to_string())?;
        interrupt::remove(dir.path());
        let mut servers = Vec::new();
        let mut uris = Vec::new();
        for (at, [disk, _]) in disks.iter().enumerate() {
            let socket = dir.path().join(at.to_string());
            let mut server = Server::start(&mut command(&socket, disk), &ground.log())?;
            server.wait_for_socket(&socket)?;
            servers.push(server);
            uris.push(uri(&socket));
        }
        Ok(Box::new(Plain {
            servers,
            uris,
            _dir: dir,
        }))
    }
}

impl Serving for Plain {
    fn uris(&self) -> Vec<String> {
        self.uris.clone()
    }

    fn pids(&self) -> Vec<i32> {
        self.servers.iter().map(Server::pid).collect()
    }
}
