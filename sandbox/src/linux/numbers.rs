//! Numbers of system calls by name, on the architecture that this was built for.

macro_rules! numbers {
    ($($name:ident: $constant:ident,)*) => {
        /// The number of a call; none if this architecture lacks it.
        pub(super) fn number(name: &str) -> Option<libc::c_long> {
            match name {
                $(stringify!($name) => Some(libc::$constant),)*
                #[cfg(target_arch = "x86_64")]
                "poll" => Some(libc::SYS_poll),
                _ => None,
            }
        }
    };
}

/// Calls that the policy names and an architecture lacks: its C library makes another that is
/// allowed as well (ppoll).
#[cfg(target_arch = "x86_64")]
pub(super) const LACKING: &[&str] = &[];
/// As above.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const LACKING: &[&str] = &["poll"];

numbers! {
    accept4: SYS_accept4,
    brk: SYS_brk,
    clock_gettime: SYS_clock_gettime,
    clock_nanosleep: SYS_clock_nanosleep,
    close: SYS_close,
    exit: SYS_exit,
    exit_group: SYS_exit_group,
    fallocate: SYS_fallocate,
    fcntl: SYS_fcntl,
    fdatasync: SYS_fdatasync,
    fsync: SYS_fsync,
    futex: SYS_futex,
    getpid: SYS_getpid,
    getrandom: SYS_getrandom,
    getsockopt: SYS_getsockopt,
    gettid: SYS_gettid,
    io_uring_enter: SYS_io_uring_enter,
    io_uring_register: SYS_io_uring_register,
    ioctl: SYS_ioctl,
    madvise: SYS_madvise,
    membarrier: SYS_membarrier,
    mmap: SYS_mmap,
    mprotect: SYS_mprotect,
    mremap: SYS_mremap,
    munmap: SYS_munmap,
    nanosleep: SYS_nanosleep,
    ppoll: SYS_ppoll,
    prctl: SYS_prctl,
    pread64: SYS_pread64,
    preadv: SYS_preadv,
    preadv2: SYS_preadv2,
    pwrite64: SYS_pwrite64,
    pwritev: SYS_pwritev,
    pwritev2: SYS_pwritev2,
    read: SYS_read,
    readv: SYS_readv,
    recvfrom: SYS_recvfrom,
    recvmsg: SYS_recvmsg,
    restart_syscall: SYS_restart_syscall,
    rseq: SYS_rseq,
    rt_sigaction: SYS_rt_sigaction,
    rt_sigprocmask: SYS_rt_sigprocmask,
    rt_sigreturn: SYS_rt_sigreturn,
    sched_getaffinity: SYS_sched_getaffinity,
    sched_yield: SYS_sched_yield,
    sendmsg: SYS_sendmsg,
    sendto: SYS_sendto,
    set_robust_list: SYS_set_robust_list,
    shutdown: SYS_shutdown,
    sigaltstack: SYS_sigaltstack,
    tgkill: SYS_tgkill,
    write: SYS_write,
    writev: SYS_writev,
}
