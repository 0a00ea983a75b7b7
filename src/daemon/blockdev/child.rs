//! The child that attaches a worker's NBD server to the kernel, or takes the device away, and ends.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::handshake::{Export, shake};
use super::kernel::{Kernel, KernelError};
use super::{CONNECTIONS, Places, identifier};
use crate::daemon::{confine, errand};
use crate::ipc::{ATTACHER_PROTOCOL, FromAttacher, ToAttacher};

/// How long a worker may take for a message of the handshake.
const PATIENCE: Duration = Duration::from_secs(10);

/// The life of an attacher; returns its exit code.
pub fn main() -> u8 {
    errand::exit_code(errand::run(ATTACHER_PROTOCOL, |order| {
        obey(&order).unwrap_or_else(FromAttacher::Failed)
    }))
}

fn obey(order: &ToAttacher) -> Result<FromAttacher, String> {
    let confine = match order {
        ToAttacher::Attach { confine, .. } | ToAttacher::Detach { confine, .. } => *confine,
    };
    confine::attacher(confine)?;
    let mut kernel = Kernel::open().map_err(|error| format!("nbd of the kernel: {error}"))?;
    let places = Places::default();
    match order {
        ToAttacher::Attach {
            name,
            socket,
            bytes,
            index,
            ..
        } => attach(&mut kernel, &places, name, socket, *bytes, *index).map(FromAttacher::Attached),
        ToAttacher::Detach { name, index, .. } => {
            detach(&mut kernel, &places, name, *index)?;
            Ok(FromAttacher::Detached)
        }
    }
}

/// Connects to the worker, `CONNECTIONS` times.
fn connect(socket: &Path, bytes: u64) -> Result<(Vec<UnixStream>, u16), String> {
    let one = || -> io::Result<(UnixStream, Export)> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let export = shake(&mut stream)?;
        // The kernel waits as long as it takes.
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        Ok((stream, export))
    };
    let mut flags = u16::MAX;
    let mut streams = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let (stream, export) = one().map_err(|error| format!("{}: {error}", socket.display()))?;
        if export.bytes != bytes {
            return Err(format!(
                "the worker exports {} bytes instead of {bytes}",
                export.bytes
            ));
        }
        flags &= export.flags;
        streams.push(stream);
    }
    Ok((streams, flags))
}

/// Attaches the worker at `socket`: to the device `index` or the one that the link leads to, if
/// that is ours and has lost its worker, otherwise to a new one. Returns its number.
fn attach(
    kernel: &mut Kernel,
    places: &Places,
    name: &str,
    socket: &Path,
    bytes: u64,
    index: Option<u32>,
) -> Result<u32, String> {
    let (streams, flags) = connect(socket, bytes)?;
    let sockets: Vec<_> = streams.iter().map(AsFd::as_fd).collect();
    let identifier = identifier(name);
    let left = places.linked(name).filter(|&at| places.is_ours(at, name));
    let mut attached = None;
    if let Some(index) = index.or(left)
        && kernel.reconfigure(index, &sockets, &identifier).is_ok()
    {
        attached = Some(index);
    }
    let index = match attached {
        Some(index) => index,
        // It has gone, or was never there.
        None => kernel
            .connect(&sockets, bytes, flags, &identifier)
            .map_err(|error| format!("the kernel does not take the device on: {error}"))?,
    };
    link(places, name, index).map_err(|error| {
        // Without its name nobody would look for it.
        let _ = kernel.disconnect(index);
        format!("{}: {error}", places.link(name).display())
    })?;
    Ok(index)
}

/// Makes the link, in one step: there is either the old one or the new one.
fn link(places: &Places, name: &str, index: u32) -> io::Result<()> {
    let path = places.link(name);
    let unfinished = places
        .links
        .join(format!(".{}.nbd{index}", std::process::id()));
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let _ = std::fs::remove_file(&unfinished);
    std::os::unix::fs::symlink(places.node(index), &unfinished)?;
    std::fs::rename(&unfinished, &path)
}

/// Takes the device away, and its link first: that of a device that is not ours stays.
fn detach(
    kernel: &mut Kernel,
    places: &Places,
    name: &str,
    index: Option<u32>,
) -> Result<(), String> {
    let linked = places.linked(name);
    let left = linked.filter(|&at| places.is_ours(at, name));
    let Some(index) = index.or(left) else {
        return Ok(());
    };
    if linked == Some(index) {
        let path = places.link(name);
        std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    match kernel.disconnect(index) {
        // It has gone already, for example since its worker was away for too long.
        Err(KernelError::Refused(nix::errno::Errno::EINVAL | nix::errno::Errno::ENODEV))
        | Ok(()) => Ok(()),
        Err(error) => Err(format!("the kernel does not give the device up: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::thread;

    use super::super::handshake::tests::serve;
    use super::super::kernel::stand_in::{self, Asked};
    use super::*;

    const BYTES: u64 = 64 << 20;

    struct Bench {
        dir: tempfile::TempDir,
        places: Places,
    }

    impl Bench {
        fn new() -> Bench {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let places = Places {
                links: at("hast"),
                nodes: at("dev"),
                blocks: at("block"),
            };
            Bench { dir, places }
        }

        /// A worker that takes connections, and its socket.
        fn worker(&self) -> PathBuf {
            let path = self.dir.path().join("data.nbd");
            let _ = fs::remove_file(&path);
            let listener = UnixListener::bind(&path).unwrap();
            thread::spawn(move || {
                let mut streams = Vec::new();
                for _ in 0..CONNECTIONS {
                    let (mut stream, _) = listener.accept().unwrap();
                    serve(&mut stream, BYTES);
                    streams.push(stream);
                }
            });
            path
        }

        fn backend(&self, index: u32, text: &str) {
            let directory = self.places.blocks.join(format!("nbd{index}"));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("backend"), format!("{text}\n")).unwrap();
        }

        /// Does something with a kernel, and tells what that was asked.
        fn with(
            &self,
            answer: impl Fn(&Asked) -> Result<u32, i32> + Send + 'static,
            act: impl FnOnce(&mut Kernel, &Places),
        ) -> Vec<(u8, Option<u32>, usize)> {
            let (socket, thread) = stand_in::kernel(answer);
            let mut kernel = Kernel::on(socket).unwrap();
            act(&mut kernel, &self.places);
            drop(kernel);
            let asked = thread.join().unwrap().into_iter();
            asked
                .map(|one| (one.command, one.index, one.sockets))
                .collect()
        }
    }

    #[test]
    fn device_is_made_linked_and_taken_away() {
        let bench = Bench::new();
        let socket = bench.worker();
        let asked = bench.with(
            |_| Ok(5),
            |kernel, places| {
                assert_eq!(attach(kernel, places, "data", &socket, BYTES, None), Ok(5));
                assert_eq!(fs::read_link(places.link("data")).unwrap(), places.node(5));
                assert_eq!(detach(kernel, places, "data", Some(5)), Ok(()));
                assert_eq!(fs::read_dir(&places.links).unwrap().count(), 0);
            },
        );
        assert_eq!(asked, [(1, None, CONNECTIONS), (2, Some(5), 0)]);
    }

    #[test]
    fn worker_that_was_started_again_gets_the_same_device() {
        let bench = Bench::new();
        let socket = bench.worker();
        let asked = bench.with(
            |_| Ok(5),
            |kernel, places| {
                assert_eq!(
                    attach(kernel, places, "data", &socket, BYTES, Some(5)),
                    Ok(5)
                );
                assert_eq!(places.linked("data"), Some(5));
            },
        );
        assert_eq!(asked, [(3, Some(5), CONNECTIONS)]);
    }

    #[test]
    fn device_of_a_daemon_that_has_died_is_taken_over_if_it_is_ours() {
        for (backend, expected) in [("hast:data", 3), ("hast:other", 1)] {
            let bench = Bench::new();
            link(&bench.places, "data", 4).unwrap();
            bench.backend(4, backend);
            let socket = bench.worker();
            let asked = bench.with(
                |_| Ok(6),
                |kernel, places| {
                    attach(kernel, places, "data", &socket, BYTES, None).unwrap();
                },
            );
            assert_eq!(asked.len(), 1);
            assert_eq!(asked[0].0, expected, "{backend}");
        }
    }

    #[test]
    fn device_that_the_kernel_has_given_up_is_replaced() {
        let bench = Bench::new();
        let socket = bench.worker();
        let asked = bench.with(
            |asked| match asked.command {
                3 => Err(libc::ENODEV),
                _ => Ok(7),
            },
            |kernel, places| {
                assert_eq!(
                    attach(kernel, places, "data", &socket, BYTES, Some(5)),
                    Ok(7)
                );
                assert_eq!(places.linked("data"), Some(7));
            },
        );
        assert_eq!(asked, [(3, Some(5), CONNECTIONS), (1, None, CONNECTIONS)]);
    }

    #[test]
    fn device_that_is_not_ours_is_neither_taken_away_nor_its_link() {
        let bench = Bench::new();
        link(&bench.places, "data", 4).unwrap();
        bench.backend(4, "somebody else's");
        let asked = bench.with(
            |_| Ok(0),
            |kernel, places| assert_eq!(detach(kernel, places, "data", None), Ok(())),
        );
        assert_eq!(asked, []);
        assert_eq!(bench.places.linked("data"), Some(4));
    }

    #[test]
    fn worker_that_exports_something_else_gets_no_device() {
        let bench = Bench::new();
        let socket = bench.worker();
        let asked = bench.with(
            |_| Ok(5),
            |kernel, places| {
                let refused = attach(kernel, places, "data", &socket, BYTES + 512, None);
                assert!(refused.unwrap_err().contains("instead of"));
                assert!(!places.links.exists());
            },
        );
        assert_eq!(asked, []);
    }

    #[test]
    fn link_that_cannot_be_made_leaves_no_device() {
        let bench = Bench::new();
        fs::write(&bench.places.links, "a file").unwrap();
        let socket = bench.worker();
        let asked = bench.with(
            |_| Ok(5),
            |kernel, places| {
                attach(kernel, places, "data", &socket, BYTES, None).unwrap_err();
            },
        );
        assert_eq!(asked, [(1, None, CONNECTIONS), (2, Some(5), 0)]);
    }
}
