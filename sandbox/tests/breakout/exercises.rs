//! Each allowed call, made as a process in service makes it. A rule that nothing here exercises is
//! allowed in vain.

use crate::child::Descriptors;
use crate::sys::{address, call, int, written};

type Exercise = fn(&Descriptors);

/// A buffer as readv(2) and its kin take it.
fn vector(buffer: &mut [u8]) -> [u64; 2] {
    [written(buffer), buffer.len() as u64]
}

/// A message header (struct msghdr) for one vector.
fn header(vector: &[u64; 2]) -> [u64; 7] {
    [0, 0, address(vector), 1, 0, 0, 0]
}

fn page() -> u64 {
    call(libc::SYS_mmap, &[0, 8192, 3, 0x22, u64::MAX, 0])
        .unwrap()
        .cast_unsigned()
}

/// A call that succeeds.
fn works(result: Result<i64, i32>) {
    result.unwrap();
}

/// A call on a socket or file that moves bytes.
fn moves(result: Result<i64, i32>) {
    assert!(result.unwrap() > 0);
}

/// A call that this kind of object need not support.
fn supported_or(result: Result<i64, i32>, error: i32) {
    assert!(result.is_ok() || result == Err(error), "{result:?}");
}

pub(crate) const EXERCISES: &[(&str, Exercise)] = &[
    ("read", |d| {
        moves(call(
            libc::SYS_read,
            &[int(d.stream), written(&mut [0_u8; 4]), 4],
        ));
    }),
    ("write", |d| {
        moves(call(libc::SYS_write, &[int(d.stream), address("data"), 4]));
    }),
    ("readv", |d| {
        let mut buffer = [0; 4];
        moves(call(
            libc::SYS_readv,
            &[int(d.stream), address(&vector(&mut buffer)), 1],
        ));
    }),
    ("writev", |d| {
        let mut buffer = [0; 4];
        moves(call(
            libc::SYS_writev,
            &[int(d.stream), address(&vector(&mut buffer)), 1],
        ));
    }),
    ("recvfrom", |d| {
        moves(call(
            libc::SYS_recvfrom,
            &[int(d.stream), written(&mut [0_u8; 4]), 4],
        ));
    }),
    ("sendto", |d| {
        moves(call(libc::SYS_sendto, &[int(d.stream), address("data"), 4]));
    }),
    ("recvmsg", |d| {
        let mut buffer = [0; 4];
        let vector = vector(&mut buffer);
        moves(call(
            libc::SYS_recvmsg,
            &[int(d.stream), address(&header(&vector)), 0],
        ));
    }),
    ("sendmsg", |d| {
        let mut buffer = [0; 4];
        let vector = vector(&mut buffer);
        moves(call(
            libc::SYS_sendmsg,
            &[int(d.stream), address(&header(&vector)), 0],
        ));
    }),
    ("shutdown", |d| {
        works(call(libc::SYS_shutdown, &[int(d.stream), 1]));
    }),
    ("close", |d| works(call(libc::SYS_close, &[int(d.stream)]))),
    ("poll", |d| {
        // struct pollfd with POLLIN.
        let mut entry = [d.stream, 1];
        #[cfg(target_arch = "x86_64")]
        moves(call(libc::SYS_poll, &[written(&mut entry), 1, 0]));
        let _ = entry;
    }),
    ("ppoll", |d| {
        let mut entry = [d.stream, 1];
        moves(call(libc::SYS_ppoll, &[written(&mut entry), 1, 0, 0, 0]));
    }),
    ("getsockopt", |d| {
        let (mut value, mut length) = ([1_i32], [4_u32]);
        let arguments = [
            int(d.stream),
            1,
            4,
            written(&mut value),
            written(&mut length),
        ];
        call(libc::SYS_getsockopt, &arguments).unwrap();
        assert_eq!(value[0], 0);
    }),
    ("fcntl", |d| {
        let flags = call(libc::SYS_fcntl, &[int(d.stream), int(libc::F_GETFL)]).unwrap();
        let flags = flags.cast_unsigned() | int(libc::O_NONBLOCK);
        call(libc::SYS_fcntl, &[int(d.stream), int(libc::F_SETFL), flags]).unwrap();
        if d.listener == -1 && d.file == -1 {
            // The control tool copies nothing.
            return;
        }
        call(libc::SYS_fcntl, &[int(d.stream), int(libc::F_GETFD)]).unwrap();
        moves(call(
            libc::SYS_fcntl,
            &[int(d.stream), int(libc::F_DUPFD_CLOEXEC), 0],
        ));
    }),
    ("accept4", |d| {
        moves(call(
            libc::SYS_accept4,
            &[int(d.listener), 0, 0, int(libc::SOCK_CLOEXEC)],
        ));
    }),
    ("pread64", |d| {
        moves(call(
            libc::SYS_pread64,
            &[int(d.file), written(&mut [0_u8; 4]), 4, 512],
        ));
    }),
    ("pwrite64", |d| {
        moves(call(
            libc::SYS_pwrite64,
            &[int(d.file), address("data"), 4, 512],
        ));
    }),
    ("preadv", |d| {
        let mut buffer = [0; 4];
        moves(call(
            libc::SYS_preadv,
            &[int(d.file), address(&vector(&mut buffer)), 1, 512],
        ));
    }),
    ("preadv2", |d| {
        let mut buffer = [0; 4];
        let vector = vector(&mut buffer);
        let arguments = [int(d.file), address(&vector), 1, 512, 0, 8];
        // Not in the page cache, or a file system that has none.
        let result = call(libc::SYS_preadv2, &arguments);
        assert!(
            result.is_ok() || matches!(result, Err(libc::EAGAIN | libc::EOPNOTSUPP)),
            "{result:?}"
        );
    }),
    ("pwritev", |d| {
        let mut buffer = [0; 4];
        moves(call(
            libc::SYS_pwritev,
            &[int(d.file), address(&vector(&mut buffer)), 1, 512],
        ));
    }),
    ("pwritev2", |d| {
        let mut buffer = [0; 4];
        let vector = vector(&mut buffer);
        // struct iovec, offset low and high, RWF_DSYNC
        let arguments = [int(d.file), address(&vector), 1, 512, 0, 2];
        supported_or(call(libc::SYS_pwritev2, &arguments), libc::EOPNOTSUPP);
    }),
    ("fsync", |d| works(call(libc::SYS_fsync, &[int(d.file)]))),
    ("fdatasync", |d| {
        works(call(libc::SYS_fdatasync, &[int(d.file)]));
    }),
    ("fallocate", |d| {
        for mode in [0x03, 0x10, 0x11] {
            let result = call(libc::SYS_fallocate, &[int(d.file), mode, 512, 512]);
            supported_or(result, libc::EOPNOTSUPP);
        }
    }),
    ("ioctl", |d| {
        // None of what is held here is a block device or a terminal.
        let requests: &[u64] = if d.file == -1 {
            &[0x5401, 0x5413]
        } else {
            &[0x1277, 0x127f]
        };
        let descriptor = if d.file == -1 { 1 } else { d.file };
        for request in requests {
            let mut argument = [0_u64; 16];
            let result = call(
                libc::SYS_ioctl,
                &[int(descriptor), *request, written(&mut argument)],
            );
            supported_or(result, libc::ENOTTY);
        }
    }),
    ("io_uring_enter", |_| {
        // There is no ring, and yet an answer.
        assert_eq!(
            call(libc::SYS_io_uring_enter, &[u64::MAX]),
            Err(libc::EBADF)
        );
    }),
    ("io_uring_register", |_| {
        // As above.
        let files = [-1_i32];
        assert_eq!(
            call(
                libc::SYS_io_uring_register,
                &[1 << 20, 6, address(&files), 1]
            ),
            Err(libc::EBADF)
        );
    }),
    ("mmap", |_| assert!(page() > 0)),
    ("mprotect", |_| {
        works(call(libc::SYS_mprotect, &[page(), 4096, 0]));
    }),
    ("munmap", |_| works(call(libc::SYS_munmap, &[page(), 4096]))),
    ("mremap", |_| {
        moves(call(libc::SYS_mremap, &[page(), 8192, 4096, 0]));
    }),
    ("brk", |_| moves(call(libc::SYS_brk, &[0]))),
    ("madvise", |_| {
        for advice in [4, 8, 14] {
            supported_or(
                call(libc::SYS_madvise, &[page(), 8192, advice]),
                libc::EINVAL,
            );
        }
    }),
    ("futex", |_| {
        // FUTEX_WAKE: nobody waits.
        assert_eq!(call(libc::SYS_futex, &[address(&0_u32), 1, 1]), Ok(0));
    }),
    ("sched_yield", |_| std::thread::yield_now()),
    ("sched_getaffinity", |_| {
        moves(call(
            libc::SYS_sched_getaffinity,
            &[0, 128, written(&mut [0_u64; 16])],
        ));
    }),
    ("set_robust_list", |_| {
        works(call(libc::SYS_set_robust_list, &[0, 24]));
    }),
    ("rseq", |_| {
        // The C library has registered one: whatever is said of another, it is said.
        assert!(call(libc::SYS_rseq, &[0, 0, 0, 0]).is_err());
    }),
    // MEMBARRIER_CMD_QUERY
    ("membarrier", |_| {
        supported_or(call(libc::SYS_membarrier, &[0, 0, 0]), libc::ENOSYS);
    }),
    ("gettid", |_| moves(call(libc::SYS_gettid, &[]))),
    ("getpid", |_| {
        assert_eq!(
            call(libc::SYS_getpid, &[]),
            Ok(i64::from(std::process::id()))
        );
    }),
    ("tgkill", |_| {
        // The handler was installed before, and returns.
        let own = u64::from(std::process::id());
        call(libc::SYS_tgkill, &[own, own, int(libc::SIGABRT)]).unwrap();
    }),
    ("prctl", |_| {
        call(
            libc::SYS_prctl,
            &[int(libc::PR_SET_NAME), address(c"disk 0")],
        )
        .unwrap();
        assert_eq!(call(libc::SYS_prctl, &[int(libc::PR_GET_SECCOMP)]), Ok(2));
    }),
    ("rt_sigprocmask", |_| {
        let none = [0_u64];
        call(libc::SYS_rt_sigprocmask, &[0, address(&none), 0, 8]).unwrap();
    }),
    ("rt_sigaction", |_| {
        for signal in [libc::SIGABRT, libc::SIGBUS, libc::SIGSEGV] {
            call(
                libc::SYS_rt_sigaction,
                &[int(signal), 0, written(&mut [0_u64; 4]), 8],
            )
            .unwrap();
        }
    }),
    ("rt_sigreturn", |_| {
        let own = u64::from(std::process::id());
        call(libc::SYS_tgkill, &[own, own, int(libc::SIGABRT)]).unwrap();
    }),
    ("sigaltstack", |_| {
        works(call(libc::SYS_sigaltstack, &[0, written(&mut [0_u64; 3])]));
    }),
    ("restart_syscall", |_| {
        assert_eq!(call(libc::SYS_restart_syscall, &[]), Err(libc::EINTR));
    }),
    ("clock_gettime", |_| {
        call(libc::SYS_clock_gettime, &[1, written(&mut [0_u64; 2])]).unwrap();
    }),
    ("clock_nanosleep", |_| {
        call(libc::SYS_clock_nanosleep, &[1, 0, address(&[0_u64, 1]), 0]).unwrap();
    }),
    ("nanosleep", |_| {
        works(call(libc::SYS_nanosleep, &[address(&[0_u64, 1]), 0]));
    }),
    ("getrandom", |_| {
        moves(call(libc::SYS_getrandom, &[written(&mut [0_u8; 8]), 8, 0]));
    }),
    // The parent tells these by the code.
    ("exit", |_| works(call(libc::SYS_exit, &[42]))),
    ("exit_group", |_| works(call(libc::SYS_exit_group, &[42]))),
];
