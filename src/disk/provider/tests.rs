use std::os::unix::net::UnixListener;

use tempfile::TempDir;

use super::*;

fn image(dir: &TempDir, length: u64) -> PathBuf {
    let path = dir.path().join("a.img");
    File::create(&path).unwrap().set_len(length).unwrap();
    path
}

fn refused(path: &Path, access: Access) -> String {
    Provider::open(path, access)
        .expect_err("no provider")
        .to_string()
}

#[test]
fn what_is_neither_file_nor_disk_is_refused_by_the_name_of_its_type() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let socket = dir.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    for access in [Access::ReadOnly, Access::Exclusive] {
        let missing = refused(&dir.path().join("missing"), access);
        assert!(
            missing.ends_with("missing: No such file or directory."),
            "{missing}"
        );
        assert!(refused(dir.path(), access).ends_with(": Is a directory."));
        assert!(refused(&fifo, access).ends_with(": Is a FIFO."));
        assert!(refused(&socket, access).ends_with(": Is a socket."));
        let null = refused(Path::new("/dev/null"), access);
        let reason = if cfg!(target_os = "freebsd") {
            "Unable to obtain provider /dev/null mediasize: Inappropriate ioctl for device."
        } else {
            "Unable to open /dev/null: Is a character device and not a disk."
        };
        assert_eq!(null, reason);
    }
}

#[test]
fn a_component_in_use_is_refused_to_all_but_readers() {
    let dir = tempfile::tempdir().unwrap();
    let path = image(&dir, 8192);
    let first = Provider::open(&path, Access::Exclusive).unwrap();
    assert_eq!(first.lock(), Lock::Held);
    assert!(matches!(
        Provider::open(&path, Access::Exclusive),
        Err(OpenError::InUse { .. })
    ));
    assert_eq!(
        Provider::open(&path, Access::ReadOnly).unwrap().lock(),
        Lock::None
    );
    // A driver's duplicate keeps the lock alive.
    let duplicate = first.as_fd().try_clone_to_owned().unwrap();
    drop(first);
    assert!(Provider::open(&path, Access::Exclusive).is_err());
    drop(duplicate);
    // A process that another test is just starting has all descriptors until its exec.
    let freed = (0..1_000_000).any(|_| {
        std::thread::yield_now();
        Provider::open(&path, Access::Exclusive).is_ok()
    });
    assert!(freed);
}

#[test]
fn reading_beyond_the_end_is_an_error_and_not_a_short_read() {
    let dir = tempfile::tempdir().unwrap();
    let provider = Provider::open(&image(&dir, 4095), Access::ReadOnly).unwrap();
    let error = provider.read_block().unwrap_err();
    assert_eq!(error.reason.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(
        error.to_string(),
        format!(
            "Unable to read metadata from {}: the provider is too short.",
            provider.path().display()
        )
    );
}

#[test]
fn writing_to_what_was_opened_to_look_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let provider = Provider::open(&image(&dir, 8192), Access::ReadOnly).unwrap();
    let error = provider.write("bitmap", 4096, &[1]).unwrap_err();
    assert!(error.to_string().starts_with("Unable to write bitmap to "));
}

#[test]
fn files_have_sectors_of_512_bytes_and_the_length_they_have() {
    let dir = tempfile::tempdir().unwrap();
    let provider = Provider::open(&image(&dir, 70_001), Access::ReadOnly).unwrap();
    assert_eq!(
        *provider.info(),
        Info {
            kind: Kind::File,
            geometry: Geometry {
                mediasize: 70_001,
                sectorsize: 512
            },
            physical_sectorsize: 512,
            optimal_io: 0,
        }
    );
}

/// Bytes 0xff with the range 1024..69000 treated by `change`.
fn after(change: impl FnOnce(&Provider)) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.img");
    fs::write(&path, vec![0xff; 1 << 17]).unwrap();
    let provider = Provider::open(&path, Access::Exclusive).unwrap();
    change(&provider);
    provider.flush("data").unwrap();
    fs::read(&path).unwrap()
}

fn only_the_range_is_zero(bytes: &[u8]) -> bool {
    bytes.len() == 1 << 17
        && bytes
            .iter()
            .enumerate()
            .all(|(at, &byte)| (byte == 0) == (1024..69_000).contains(&at))
}

#[test]
fn zeroing_covers_exactly_its_range() {
    let length = 69_000 - 1024;
    assert!(only_the_range_is_zero(&after(|provider| {
        provider.zero("data", 1024, length).unwrap();
    })));
    assert!(only_the_range_is_zero(&after(|provider| {
        write_zeros(provider.as_fd(), 1024, length).unwrap();
    })));
    let untouched = after(|provider| provider.zero("data", 1024, 0).unwrap());
    assert!(untouched.iter().all(|&byte| byte == 0xff));
}

#[test]
fn offsets_beyond_off_t_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let provider = Provider::open(&image(&dir, 8192), Access::Exclusive).unwrap();
    let fd = provider.as_fd();
    assert!(write_zeros(fd, 1 << 63, 512).is_err());
    assert!(Kind::File.zero(fd, 1 << 63, 512).is_err());
    assert!(Kind::File.delete(fd, 512, u64::MAX).is_err());
}

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use std::process::Command;

    #[test]
    fn deleting_from_a_file_leaves_its_length_and_zeros() {
        let bytes = after(|provider| {
            let length = 69_000 - 1024;
            match Kind::File.delete(provider.as_fd(), 1024, length) {
                Err(reason) if is_unsupported(&reason) => {
                    provider.zero("data", 1024, length).unwrap();
                }
                deleted => deleted.unwrap(),
            }
        });
        assert!(only_the_range_is_zero(&bytes));
    }

    /// A loop device over a file of 1 MiB of 0xff bytes, 4 KiB sectors; detached when dropped.
    struct Loop {
        device: String,
        _dir: TempDir,
    }

    impl Loop {
        /// `None` where there are no loop devices or no right to set one up.
        fn new() -> Option<Loop> {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("backing");
            fs::write(&path, vec![0xff; 1 << 20]).unwrap();
            let made = Command::new("losetup")
                .args(["--find", "--show", "--sector-size", "4096"])
                .arg(&path)
                .output()
                .ok()?;
            if !made.status.success() {
                eprintln!(
                    "skipped: {}",
                    String::from_utf8_lossy(&made.stderr).trim_end()
                );
                return None;
            }
            Some(Loop {
                device: String::from_utf8(made.stdout).unwrap().trim().to_owned(),
                _dir: dir,
            })
        }
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            let _ = Command::new("losetup")
                .args(["--detach", &self.device])
                .status();
        }
    }

    #[test]
    fn block_devices_tell_their_sizes_and_do_all_operations() {
        let Some(disk) = Loop::new() else { return };
        let path = Path::new(&disk.device);
        let provider = Provider::open(path, Access::Exclusive).unwrap();
        assert_eq!(provider.info().kind, Kind::Device);
        assert_eq!(provider.info().geometry.mediasize, 1 << 20);
        assert_eq!(provider.info().geometry.sectorsize, 4096);
        assert!(provider.info().physical_sectorsize >= 4096);

        provider.zero("data", 8192, 4096).unwrap();
        Kind::Device
            .delete(provider.as_fd(), 16384, 4096)
            .or_else(|reason| {
                if is_unsupported(&reason) {
                    Ok(())
                } else {
                    Err(reason)
                }
            })
            .unwrap();
        provider.flush("data").unwrap();
        let mut block = vec![0; 3 * 4096];
        provider.read("data", 4096, &mut block).unwrap();
        let expected: Vec<u8> = [[0xff; 4096], [0; 4096], [0xff; 4096]].concat();
        assert!(block == expected);

        let error = Provider::open(path, Access::Exclusive).unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }), "{error}");
        assert!(Provider::open(path, Access::ReadOnly).is_ok());
    }
}
