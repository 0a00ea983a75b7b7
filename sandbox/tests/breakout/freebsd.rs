//! Break-outs on FreeBSD: confined processes of each kind that try what they may not, and what they
//! need. A call that is refused returns an error here, so one process tries everything.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{Read, Write};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::ptr::{from_mut, from_ref, null, null_mut};
use std::sync::{Arc, Barrier};

use privsep::channel;
use privsep::process::{Program, Spawn};
use privsep::user;
use sandbox::policy::{Kind, Right, descriptor, roles};
use sandbox::{Config, Held, Mode, Step};

/// In capability mode there is no such call, or no such name.
const ECAPMODE: i32 = libc::ECAPMODE;
/// The descriptor has not the right.
const ENOTCAPABLE: i32 = libc::ENOTCAPABLE;

/// An ioctl that no policy names: the size of a disk.
const DIOCGMEDIASIZE: libc::c_ulong = 0x4008_6481;

unsafe extern "C" {
    fn kldload(file: *const libc::c_char) -> c_int;
}

/// The result of a call that returns -1 for an error.
macro_rules! attempt {
    ($call:expr) => {{
        // SAFETY: the tests pass numbers, null, and pointers to memory that is alive.
        let result = unsafe { $call };
        if result == -1 {
            Err(std::io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or_default())
        } else {
            Ok(())
        }
    }};
}

type Result = std::result::Result<(), i32>;

/// What a process of each kind holds, by number; -1: nothing of that sort.
struct Numbers {
    kind: Kind,
    stream: RawFd,
    listener: RawFd,
    file: RawFd,
    gate: RawFd,
    parent: libc::pid_t,
}

/// Whether GEOM gate's control device is there to be held.
fn has_gate() -> bool {
    nix::unistd::geteuid().is_root() && std::path::Path::new("/dev/ggctl").exists()
}

/// The descriptors of a kind, in the order in which the parent passes them from 3 on.
fn held(kind: Kind, gate: bool) -> Vec<Held> {
    let mut roles = match kind {
        Kind::Primary => vec![
            roles::CHANNEL,
            roles::PEER,
            roles::LOCAL_COMPONENT,
            roles::DEVICE_LISTENER,
        ],
        Kind::Secondary => vec![roles::CHANNEL, roles::PEER, roles::LOCAL_COMPONENT],
        Kind::Listener => vec![roles::CHANNEL, roles::CANDIDATE, roles::PEER_LISTENER],
        _ => vec![roles::CONTROL],
    };
    if kind == Kind::Primary && gate {
        roles.push(roles::GATE_CONTROL);
    }
    (3..)
        .zip(roles)
        .map(|(number, role)| Held { number, role })
        .collect()
}

/// What must fail, and with which error.
type Attack = (&'static str, fn(&Numbers) -> Result, &'static [i32]);

const ATTACKS: &[Attack] = &[
    (
        "open",
        |_| attempt!(libc::open(c"/".as_ptr(), libc::O_RDONLY)),
        &[ECAPMODE],
    ),
    (
        "open relative to the working directory",
        |_| attempt!(libc::openat(libc::AT_FDCWD, c".".as_ptr(), libc::O_RDONLY)),
        &[ECAPMODE],
    ),
    (
        "unlink",
        |_| attempt!(libc::unlink(c"/etc/hast.conf".as_ptr())),
        &[ECAPMODE],
    ),
    (
        "mkdir",
        |_| attempt!(libc::mkdir(c"/new".as_ptr(), 0o700)),
        &[ECAPMODE],
    ),
    (
        "chdir",
        |_| attempt!(libc::chdir(c"..".as_ptr())),
        &[ECAPMODE],
    ),
    (
        "chroot",
        |_| attempt!(libc::chroot(c"/".as_ptr())),
        &[ECAPMODE],
    ),
    (
        "jail_attach",
        |_| attempt!(libc::jail_attach(0)),
        &[ECAPMODE],
    ),
    (
        "kldload",
        |_| attempt!(kldload(c"geom_nop".as_ptr())),
        &[ECAPMODE],
    ),
    (
        "execve",
        |_| {
            attempt!(libc::execve(
                c"/bin/sh".as_ptr(),
                [null()].as_ptr(),
                [null()].as_ptr()
            ))
        },
        &[ECAPMODE],
    ),
    ("fork", |_| fork(), &[libc::EAGAIN]),
    (
        "setuid to root",
        |_| attempt!(libc::setuid(0)),
        &[libc::EPERM],
    ),
    (
        "signal to the parent",
        |held| attempt!(libc::kill(held.parent, 0)),
        &[ECAPMODE],
    ),
    (
        "ptrace",
        |held| attempt!(libc::ptrace(libc::PT_ATTACH, held.parent, null_mut(), 0)),
        &[ECAPMODE],
    ),
    (
        "setting of a sysctl",
        |_| set_hostname(),
        &[ECAPMODE, libc::EPERM],
    ),
    (
        "named shared memory",
        |_| {
            attempt!(libc::shm_open(
                c"/hast".as_ptr(),
                libc::O_CREAT | libc::O_RDWR,
                0o600
            ))
        },
        &[ECAPMODE],
    ),
    ("connect", |_| connect(), &[ECAPMODE]),
    ("bind", |_| bind(), &[ECAPMODE]),
    ("sendto", |_| send_to(), &[ECAPMODE]),
    (
        "rights that were given up",
        |held| widen(held.stream),
        &[ENOTCAPABLE],
    ),
    (
        "an ioctl of the stream",
        |held| {
            attempt!(libc::ioctl(
                held.stream,
                libc::FIONREAD,
                from_mut(&mut 0_i32)
            ))
        },
        &[ENOTCAPABLE],
    ),
    (
        "the owner of the stream",
        |held| attempt!(libc::fcntl(held.stream, libc::F_SETOWN, held.parent)),
        &[ENOTCAPABLE],
    ),
    (
        "standard input",
        |_| attempt!(libc::read(0, [0_u8; 1].as_mut_ptr().cast(), 1)),
        &[ENOTCAPABLE],
    ),
    (
        "truncation",
        |held| attempt!(libc::ftruncate(held.file, 0)),
        &[ENOTCAPABLE, libc::EBADF],
    ),
    (
        "a mapping of the disk",
        |held| map(held.file),
        &[ENOTCAPABLE, libc::EBADF],
    ),
    (
        "the mode of the disk",
        |held| attempt!(libc::fchmod(held.file, 0o777)),
        &[ENOTCAPABLE, libc::EBADF],
    ),
    (
        "an ioctl of the disk",
        |held| attempt!(libc::ioctl(held.file, DIOCGMEDIASIZE, from_mut(&mut 0_i64))),
        &[ENOTCAPABLE, libc::EBADF],
    ),
    (
        // G_GATE_CMD_CREATE: another device than the worker's own.
        "a further device",
        |held| {
            attempt!(libc::ioctl(
                held.gate,
                0xca30_6d00,
                from_mut(&mut [0_u8; 2608])
            ))
        },
        &[ENOTCAPABLE, libc::EBADF],
    ),
    (
        "reading of the gate",
        |held| attempt!(libc::read(held.gate, [0_u8; 1].as_mut_ptr().cast(), 1)),
        &[ENOTCAPABLE, libc::EBADF],
    ),
];

fn fork() -> Result {
    // SAFETY: the process has one thread; a child, if there is one, ends at once.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap()),
        // SAFETY: ends the process without handlers.
        0 => unsafe { libc::_exit(0) },
        _ => Ok(()),
    }
}

fn set_hostname() -> Result {
    let name = *b"elsewhere";
    attempt!(libc::sysctlbyname(
        c"kern.hostname".as_ptr(),
        null_mut(),
        null_mut(),
        name.as_ptr().cast(),
        name.len()
    ))
}

/// 127.0.0.1, port 8457.
fn loopback() -> libc::sockaddr_in {
    // SAFETY: all zeroes is a valid value.
    let mut address: libc::sockaddr_in = unsafe { zeroed() };
    address.sin_family = 2;
    address.sin_port = 8457_u16.to_be();
    address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
    address
}

const ADDRESS_BYTES: libc::socklen_t = 16;

fn socket(kind: c_int) -> RawFd {
    // SAFETY: a call on numbers.
    unsafe { libc::socket(libc::AF_INET, kind, 0) }
}

fn connect() -> Result {
    let address = loopback();
    attempt!(libc::connect(
        socket(libc::SOCK_STREAM),
        from_ref(&address).cast(),
        ADDRESS_BYTES
    ))
}

fn bind() -> Result {
    let address = loopback();
    attempt!(libc::bind(
        socket(libc::SOCK_STREAM),
        from_ref(&address).cast(),
        ADDRESS_BYTES
    ))
}

fn send_to() -> Result {
    let address = loopback();
    attempt!(libc::sendto(
        socket(libc::SOCK_DGRAM),
        [0_u8; 1].as_ptr().cast(),
        1,
        0,
        from_ref(&address).cast(),
        ADDRESS_BYTES
    ))
}

fn map(file: RawFd) -> Result {
    attempt!({
        let mapped = libc::mmap(null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file, 0);
        if mapped == libc::MAP_FAILED { -1 } else { 0 }
    })
}

fn widen(descriptor: RawFd) -> Result {
    // SAFETY: the descriptor is open, and stays so.
    let descriptor = unsafe { std::os::fd::BorrowedFd::borrow_raw(descriptor) };
    let mut rights = capsicum::FileRights::new();
    rights.allow(capsicum::Right::Ioctl);
    capsicum::CapRights::limit(&rights, &descriptor)
        .map_err(|error| error.raw_os_error().unwrap_or_default())
}

/// What the kinds that hold such descriptors need, and must be able to do.
fn exercise(held: &Numbers) -> Vec<(&'static str, Result)> {
    let mut byte = [0_u8; 1];
    let byte: *mut c_void = byte.as_mut_ptr().cast();
    let mut results = vec![
        (
            "read of the stream",
            attempt!(libc::read(held.stream, byte, 1)),
        ),
        (
            "write to the stream",
            attempt!(libc::write(held.stream, byte, 1)),
        ),
        (
            "whether the stream waits",
            attempt!(libc::fcntl(held.stream, libc::F_SETFL, libc::O_NONBLOCK)),
        ),
        ("poll", {
            let mut entry = libc::pollfd {
                fd: held.stream,
                events: libc::POLLIN,
                revents: 0,
            };
            attempt!(libc::poll(from_mut(&mut entry), 1, 0))
        }),
        ("error of the stream", {
            let mut error = 0_i32;
            let mut length = libc::socklen_t::try_from(size_of::<c_int>()).unwrap();
            attempt!(libc::getsockopt(
                held.stream,
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                from_mut(&mut error).cast(),
                from_mut(&mut length)
            ))
        }),
        ("memory", {
            drop(vec![1_u8; 10_000_000]);
            Ok(())
        }),
        ("random numbers", attempt!(libc::getrandom(byte, 1, 0))),
    ];
    if held.file >= 0 {
        results.extend([
            ("pwrite", attempt!(libc::pwrite(held.file, byte, 1, 512))),
            ("pread", attempt!(libc::pread(held.file, byte, 1, 512))),
            ("fsync", attempt!(libc::fsync(held.file))),
            (
                "flock",
                attempt!(libc::flock(held.file, libc::LOCK_EX | libc::LOCK_NB)),
            ),
        ]);
    }
    if held.listener >= 0 {
        let accepted;
        results.push((
            "accept",
            attempt!({
                accepted = libc::accept(held.listener, null_mut(), null_mut());
                accepted
            }),
        ));
        results.push((
            "write to what was accepted",
            attempt!(libc::write(accepted, byte, 1)),
        ));
        if held.kind == Kind::Listener {
            // SAFETY: all zeroes is a valid value.
            let mut status: libc::stat = unsafe { zeroed() };
            results.push((
                "examination of what was accepted",
                attempt!(libc::fstat(accepted, from_mut(&mut status))),
            ));
        }
    }
    results
}

/// The confined side: a line for each attempt, the error or 0.
pub(crate) fn play(part: &str) {
    assert_eq!(part, "try");
    let name = std::env::var("KIND").unwrap();
    let kind = *Kind::ALL.iter().find(|kind| kind.as_str() == name).unwrap();
    let held = held(kind, std::env::var("GATE").unwrap() == "true");
    let number = |wanted: &[&str]| {
        held.iter()
            .find(|held| wanted.contains(&held.role))
            .map_or(-1, |held| held.number)
    };
    let numbers = Numbers {
        kind,
        stream: number(&[roles::PEER, roles::CANDIDATE, roles::CONTROL]),
        listener: number(&[roles::DEVICE_LISTENER, roles::PEER_LISTENER]),
        file: number(&[roles::LOCAL_COMPONENT]),
        gate: number(&[roles::GATE_CONTROL]),
        parent: nix::unistd::getppid().as_raw(),
    };
    let user = nix::unistd::geteuid()
        .is_root()
        .then(|| user::lookup("hast").expect("the base system has it"));
    let mut config = Config::new(kind, user);
    config.mode = Mode::Require;
    config.descriptors = held;
    let prepared = sandbox::prepare(config).unwrap();
    let begun = Arc::new(Barrier::new(2));
    let sealed = Arc::new(Barrier::new(2));
    let (for_thread, go) = (Arc::clone(&begun), Arc::clone(&sealed));
    let thread = std::thread::spawn(move || {
        for_thread.wait();
        go.wait();
        attempt!(libc::open(c"/".as_ptr(), libc::O_RDONLY))
    });
    begun.wait();
    let report = prepared.seal().unwrap();
    assert!(Step::ALL.iter().all(|step| report.is_in_force(*step)));
    let mut lines = String::new();
    let mut say = |name: &str, result: Result| {
        lines += &format!("{name}={}\n", result.err().unwrap_or(0));
    };
    sealed.wait();
    say(
        "open from a thread that was there before",
        thread.join().unwrap(),
    );
    for (name, result) in exercise(&numbers) {
        say(name, result);
    }
    for (name, attack, _) in ATTACKS {
        say(name, attack(&numbers));
    }
    std::io::stdout().write_all(lines.as_bytes()).unwrap();
}

/// Starts a process of that kind and returns what became of its attempts.
fn tried(kind: Kind) -> Vec<(String, i32)> {
    let folder = tempfile::tempdir().unwrap();
    let gate = has_gate();
    let mut ours: Vec<OwnedFd> = Vec::new();
    let mut theirs: Vec<OwnedFd> = Vec::new();
    for held in held(kind, gate) {
        match held.role {
            roles::CHANNEL => {
                let (our, their) = channel::pair().unwrap();
                ours.push(our);
                theirs.push(their);
            }
            roles::LOCAL_COMPONENT => {
                let file = tempfile::tempfile().unwrap();
                file.set_len(1 << 20).unwrap();
                theirs.push(file.into());
            }
            roles::DEVICE_LISTENER | roles::PEER_LISTENER => {
                let path = folder.path().join("socket");
                theirs.push(UnixListener::bind(&path).unwrap().into());
                ours.push(UnixStream::connect(&path).unwrap().into());
            }
            roles::GATE_CONTROL => {
                let gate = File::options().read(true).write(true).open("/dev/ggctl");
                theirs.push(gate.unwrap().into());
            }
            _ => {
                let (mut our, their) = UnixStream::pair().unwrap();
                our.write_all(&[7; 64]).unwrap();
                ours.push(our.into());
                theirs.push(their.into());
            }
        }
    }
    let (output, their_output) = nix::unistd::pipe().unwrap();
    let program = Program::current().unwrap();
    let errors = std::io::stderr();
    let mut spawn = Spawn::new(&program, "breakout")
        .variable("CHILD", "try")
        .variable("KIND", kind.as_str())
        .variable("GATE", if gate { "true" } else { "false" })
        .stdout(their_output.as_fd())
        .stderr(errors.as_fd());
    for descriptor in &theirs[1..] {
        spawn = spawn.pass(descriptor.as_fd());
    }
    let child = spawn.start(&theirs[0]).unwrap();
    drop(their_output);
    let mut text = String::new();
    File::from(output).read_to_string(&mut text).unwrap();
    let _ = nix::sys::wait::waitpid(child.pid(), None);
    text.lines()
        .map(|line| {
            let (name, error) = line.rsplit_once('=').unwrap();
            (name.to_owned(), error.parse().unwrap())
        })
        .collect()
}

fn is_expected(name: &str, error: i32) -> bool {
    match ATTACKS.iter().find(|(attack, _, _)| *attack == name) {
        Some((_, _, errors)) => errors.contains(&error),
        None if name.starts_with("open from") => error == ECAPMODE,
        None => error == 0,
    }
}

fn every_attempt_ends_as_it_should() {
    for &kind in Kind::ALL {
        let results = tried(kind);
        assert!(
            results.len() > ATTACKS.len(),
            "{}: {results:?}",
            kind.as_str()
        );
        for (name, error) in results {
            println!("{}: {name}: {error}", kind.as_str());
            assert!(
                is_expected(&name, error),
                "{}: {name}: error {error}",
                kind.as_str()
            );
        }
    }
}

/// What the listener hands over is examined by the worker that gets it, with the rights that it
/// inherits from the listening socket.
fn connections_keep_what_workers_need() {
    for role in [roles::PEER_LISTENER, roles::CANDIDATE] {
        let rights = descriptor(Kind::Listener, role).unwrap().rights;
        assert!(rights.contains(&Right::Fstat), "{role}");
        let worker = descriptor(Kind::Secondary, roles::PEER).unwrap();
        assert!(
            worker.rights.iter().all(|right| rights.contains(right)),
            "{role}"
        );
    }
}

pub(crate) const TESTS: [(&str, fn()); 2] = [
    (
        "every_attempt_ends_as_it_should",
        every_attempt_ends_as_it_should,
    ),
    (
        "connections_keep_what_workers_need",
        connections_keep_what_workers_need,
    ),
];
