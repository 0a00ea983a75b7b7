//! What somebody who has taken over a confined process would try.

use libc::c_long;

use crate::child::Descriptors;
use crate::sys::{address, call, int, written};

/// What stops an attack when the filter is not there.
pub(crate) enum Second {
    /// Nothing else: the call is harmless by itself, or only the filter binds it.
    FilterOnly,
    /// One of these errors, for a process that was started by root.
    IfRoot(&'static [i32]),
    /// One of these errors, for any process.
    Always(&'static [i32]),
}

pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Descriptors) -> Result<i64, i32>,
    pub(crate) second: Second,
}

const fn attack(
    name: &'static str,
    second: Second,
    run: fn(&Descriptors) -> Result<i64, i32>,
) -> Attack {
    Attack { name, run, second }
}

use Second::{Always, FilterOnly, IfRoot};

/// Landlock denies, or the empty root directory holds no such file.
const NO_FILE: &[i32] = &[libc::EACCES, libc::ENOENT];
const NOT_PERMITTED: &[i32] = &[libc::EPERM];

fn here() -> u64 {
    int(libc::AT_FDCWD)
}

/// 127.0.0.1, port 9, for connect(2) and the like.
fn loopback() -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap(),
        sin_port: 9_u16.to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes([127, 0, 0, 1]),
        },
        sin_zero: [0; 8],
    }
}

const IN_BYTES: u64 = 16;

fn page() -> u64 {
    // PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
    call(libc::SYS_mmap, &[0, 4096, 3, 0x22, u64::MAX, 0])
        .unwrap()
        .cast_unsigned()
}

/// A call with all arguments zero, which the filter must not let get as far as to be refused.
macro_rules! bare {
    ($name:literal, $number:ident) => {
        attack($name, FilterOnly, |_| call(libc::$number as c_long, &[]))
    };
}

pub(crate) const ATTACKS: &[Attack] = &[
    attack("open a file", Always(NO_FILE), |_| {
        call(libc::SYS_openat, &[here(), address(c"/etc/passwd")])
    }),
    attack("open the root directory", Always(&[libc::EACCES]), |_| {
        call(
            libc::SYS_openat,
            &[here(), address(c"/"), int(libc::O_DIRECTORY)],
        )
    }),
    attack(
        "open through an inherited descriptor",
        Always(&[libc::ENOTDIR, libc::EACCES]),
        |d| {
            call(
                libc::SYS_openat,
                &[int(d.stream), address(c"../etc/passwd")],
            )
        },
    ),
    attack("open /proc of the parent", Always(NO_FILE), |d| {
        let path = std::ffi::CString::new(format!("/proc/{}/mem", d.parent)).unwrap();
        call(libc::SYS_openat, &[here(), address(path.as_c_str())])
    }),
    attack(
        "create a file",
        Always(&[libc::EACCES, libc::EROFS, libc::ENOENT]),
        |_| {
            call(
                libc::SYS_openat,
                &[
                    here(),
                    address(c"/tmp/x"),
                    int(libc::O_CREAT | libc::O_RDWR),
                    0o600,
                ],
            )
        },
    ),
    bare!("openat2", SYS_openat2),
    attack("make a socket", FilterOnly, |_| {
        call(libc::SYS_socket, &[2, 1, 0])
    }),
    attack(
        "connect anew",
        Always(&[libc::EACCES, libc::ENETUNREACH]),
        |_| {
            let socket = call(libc::SYS_socket, &[2, 1, 0])?.cast_unsigned();
            call(libc::SYS_connect, &[socket, address(&loopback()), IN_BYTES])
        },
    ),
    attack("connect a socket that it holds", FilterOnly, |d| {
        call(
            libc::SYS_connect,
            &[int(d.stream), address(&loopback()), IN_BYTES],
        )
    }),
    attack("bind", Always(&[libc::EACCES]), |_| {
        let socket = call(libc::SYS_socket, &[2, 1, 0])?.cast_unsigned();
        call(libc::SYS_bind, &[socket, address(&loopback()), IN_BYTES])
    }),
    attack("bind a socket that it holds", FilterOnly, |d| {
        call(
            libc::SYS_bind,
            &[int(d.stream), address(&loopback()), IN_BYTES],
        )
    }),
    attack("send to an address", FilterOnly, |d| {
        let to = loopback();
        call(
            libc::SYS_sendto,
            &[int(d.stream), address("x"), 1, 0, address(&to), IN_BYTES],
        )
    }),
    attack("execute a program", Always(NO_FILE), |_| {
        call(libc::SYS_execve, &[address(c"/bin/sh")])
    }),
    bare!("execveat", SYS_execveat),
    attack("fork", FilterOnly, |_| {
        call(libc::SYS_clone, &[int(libc::SIGCHLD)])
    }),
    bare!("clone3", SYS_clone3),
    attack("trace the parent", IfRoot(NOT_PERMITTED), |d| {
        call(
            libc::SYS_ptrace,
            &[u64::from(libc::PTRACE_ATTACH), d.parent],
        )
    }),
    attack("kill the parent", IfRoot(NOT_PERMITTED), |d| {
        call(libc::SYS_kill, &[d.parent, 15])
    }),
    attack("kill everybody", FilterOnly, |_| {
        call(libc::SYS_kill, &[u64::MAX, 0])
    }),
    attack("kill the parent's thread", IfRoot(NOT_PERMITTED), |d| {
        call(libc::SYS_tgkill, &[d.parent, d.parent, 6])
    }),
    attack("signal by descriptor", FilterOnly, |d| {
        call(libc::SYS_pidfd_open, &[d.parent, 0])
    }),
    attack("read the parent's memory", IfRoot(NOT_PERMITTED), |d| {
        let local = [address(&[0_u8; 8]), 8];
        let remote = [address(&[0_u8; 8]), 8];
        call(
            libc::SYS_process_vm_readv,
            &[d.parent, address(&local), 1, address(&remote), 1, 0],
        )
    }),
    bare!("process_vm_writev", SYS_process_vm_writev),
    bare!("pidfd_getfd", SYS_pidfd_getfd),
    attack("map executable memory", FilterOnly, |_| {
        call(libc::SYS_mmap, &[0, 4096, 7, 0x22, u64::MAX, 0])
    }),
    attack("make memory executable", FilterOnly, |_| {
        call(libc::SYS_mprotect, &[page(), 4096, 5])
    }),
    attack("make memory executable with a key", FilterOnly, |_| {
        call(libc::SYS_pkey_mprotect, &[page(), 4096, 5, u64::MAX])
    }),
    attack("map a descriptor", FilterOnly, |d| {
        call(libc::SYS_mmap, &[0, 4096, 1, 2, int(d.stream), 0])
    }),
    attack("memfd", FilterOnly, |_| {
        call(libc::SYS_memfd_create, &[address(c"x"), 0])
    }),
    bare!("userfaultfd", SYS_userfaultfd),
    bare!("bpf", SYS_bpf),
    bare!("io_uring_setup", SYS_io_uring_setup),
    bare!("io_uring_enter without the feature", SYS_io_uring_enter),
    bare!("perf_event_open", SYS_perf_event_open),
    bare!("add_key", SYS_add_key),
    bare!("keyctl", SYS_keyctl),
    attack("mount", Always(NOT_PERMITTED), |_| {
        call(
            libc::SYS_mount,
            &[address(c"x"), address(c"/"), address(c"tmpfs"), 0, 0],
        )
    }),
    attack("unmount", Always(NOT_PERMITTED), |_| {
        call(libc::SYS_umount2, &[address(c"/"), 2])
    }),
    attack("pivot_root", Always(NOT_PERMITTED), |_| {
        call(libc::SYS_pivot_root, &[address(c"/"), address(c"/")])
    }),
    attack("chroot", Always(NOT_PERMITTED), |_| {
        call(libc::SYS_chroot, &[address(c"/")])
    }),
    attack("become root", IfRoot(NOT_PERMITTED), |_| {
        call(libc::SYS_setuid, &[0])
    }),
    attack("become root's group", IfRoot(NOT_PERMITTED), |_| {
        call(libc::SYS_setgid, &[0])
    }),
    attack("set groups", Always(NOT_PERMITTED), |_| {
        call(libc::SYS_setgroups, &[0, 0])
    }),
    attack("user namespace", FilterOnly, |_| {
        call(libc::SYS_unshare, &[0x1000_0000])
    }),
    attack("network namespace", Always(NOT_PERMITTED), |_| {
        call(libc::SYS_unshare, &[0x4000_0000])
    }),
    bare!("setns", SYS_setns),
    bare!("seccomp", SYS_seccomp),
    attack("become dumpable", FilterOnly, |_| {
        call(libc::SYS_prctl, &[int(libc::PR_SET_DUMPABLE), 1])
    }),
    attack("raise a limit", Always(NOT_PERMITTED), |_| {
        let limit = [4096_u64, 4096];
        call(
            libc::SYS_prlimit64,
            &[0, u64::from(libc::RLIMIT_NOFILE), address(&limit), 0],
        )
    }),
    attack("ioctl outside the list", FilterOnly, |d| {
        call(libc::SYS_ioctl, &[int(d.stream), 0x5412, address("x")])
    }),
    attack("fcntl outside the list", FilterOnly, |d| {
        call(
            libc::SYS_fcntl,
            &[int(d.stream), int(libc::F_SETOWN), d.parent],
        )
    }),
    attack("set a socket option", FilterOnly, |d| {
        call(
            libc::SYS_setsockopt,
            &[int(d.stream), 1, 2, address(&1_i32), 4],
        )
    }),
    attack("ask for another socket option", FilterOnly, |d| {
        let (mut value, mut length) = ([0_u8; 16], 16_u32);
        let (value, length) = (written(&mut value), written(&mut length));
        call(
            libc::SYS_getsockopt,
            &[int(d.stream), 1, int(libc::SO_PEERCRED), value, length],
        )
    }),
    attack("shared memory", FilterOnly, |_| {
        call(libc::SYS_shmget, &[0, 4096, 0o1600])
    }),
    bare!("message queue", SYS_msgget),
    bare!("inotify", SYS_inotify_init1),
    bare!("fanotify", SYS_fanotify_init),
    bare!("sendmmsg", SYS_sendmmsg),
    bare!("splice", SYS_splice),
    bare!("sendfile", SYS_sendfile),
    bare!("dup3", SYS_dup3),
    bare!("personality", SYS_personality),
    attack("change the host's name", Always(NOT_PERMITTED), |_| {
        call(libc::SYS_sethostname, &[address("x"), 1])
    }),
    attack("set the clock", Always(NOT_PERMITTED), |_| {
        let time = [0_u64; 2];
        call(libc::SYS_clock_settime, &[0, address(&time)])
    }),
    attack("reboot", Always(NOT_PERMITTED), |_| {
        // The magic numbers, and CAD_OFF, which changes nothing that matters.
        call(libc::SYS_reboot, &[0xfee1_dead, 672_274_793, 0])
    }),
];
