//! A file system on the device moves to the other node.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hast_regress::scenario::blockdev::{LoopDevice, Mount, has, run};
use hast_regress::scenario::{Cluster, ResourceConf, Side, process, wait};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// The device as a file, by FUSE, and that as a block device.
struct Attached {
    device: Option<LoopDevice>,
    fuse: Child,
    directory: TempDir,
}

impl Attached {
    fn new(socket: &Path) -> std::io::Result<Attached> {
        let directory = TempDir::with_prefix("hastfuse")?;
        let file = directory.path().join("disk");
        fs::write(&file, "")?;
        let fuse = Command::new("nbdfuse")
            .arg(&file)
            .arg("--unix")
            .arg(socket)
            .stdin(Stdio::null())
            .spawn()?;
        let mut attached = Attached {
            device: None,
            fuse,
            directory,
        };
        let size = || fs::metadata(&file).map_or(0, |metadata| metadata.len());
        wait::until("nbdfuse", wait::PATIENCE, || {
            let ended = matches!(attached.fuse.try_wait(), Ok(Some(_)));
            (ended || size() > 0).then_some(())
        });
        attached.device = Some(LoopDevice::attach(&file)?);
        Ok(attached)
    }

    fn path(&self) -> &Path {
        &self.device.as_ref().unwrap().path
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.device = None;
        let file = self.directory.path().join("disk");
        // It may have ended with its server.
        let _ = run("umount", &["-l", &file.display().to_string()]);
        if let Ok(pid) = i32::try_from(self.fuse.id()) {
            process::signal(pid, Signal::SIGTERM);
        }
        let _ = self.fuse.wait();
    }
}

fn attach(socket: &Path) -> Option<Attached> {
    for tool in ["nbdfuse", "losetup", "mkfs.ext4", "mount"] {
        if !has(tool) {
            println!("skipped: there is no {tool}");
            return None;
        }
    }
    Attached::new(socket)
        .inspect_err(|error| println!("skipped: {error}"))
        .ok()
}

#[test]
fn ext4_survives_the_loss_of_the_primary() {
    let mut cluster = Cluster::with(ResourceConf::new("data").sized(64 << 20));
    let Some(attached) = attach(&cluster.device(Side::Alpha)) else {
        return;
    };
    let disk = attached.path().display().to_string();
    run("mkfs.ext4", &["-q", &disk]).unwrap();
    let directory = TempDir::with_prefix("hastmount").unwrap();
    let mount = match Mount::device(attached.path(), directory.path()) {
        Ok(mount) => mount,
        Err(error) => {
            println!("skipped: {error}");
            return;
        }
    };
    let content = |number: usize| format!("file {number}\n").repeat(1000 + 100 * number);
    for number in 0..40 {
        let path = directory.path().join(format!("file{number}"));
        fs::write(&path, content(number)).unwrap();
        fs::File::open(&path).unwrap().sync_all().unwrap();
    }
    fs::File::open(directory.path())
        .unwrap()
        .sync_all()
        .unwrap();
    // One that nobody has made durable.
    fs::write(directory.path().join("last"), content(1)).unwrap();
    cluster.kill_node(Side::Alpha);
    drop(mount);
    drop(attached);

    cluster.role(Side::Beta, "primary");
    let attached = attach(&cluster.device(Side::Beta)).expect("it could be attached before");
    let disk = attached.path().display().to_string();
    // Replays the journal, as a mount does; then there is nothing to repair.
    let mount = Mount::device(attached.path(), directory.path()).unwrap();
    for number in 0..40 {
        let path = directory.path().join(format!("file{number}"));
        let found = fs::read_to_string(&path).unwrap();
        assert!(found == content(number), "{} differs", path.display());
    }
    mount.unmount().unwrap();
    run("fsck.ext4", &["-f", "-n", &disk]).unwrap();
    drop(attached);

    cluster.start_node(Side::Alpha);
    cluster.role(Side::Alpha, "secondary");
    cluster.wait_synced(Side::Beta);
    cluster.must_be_equal();
}
