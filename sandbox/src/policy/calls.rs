//! The table of system calls (Linux; Capsicum needs none, as its capability mode is the list).

use super::Kind::{Control, Listener, Primary, Secondary};
use super::{Check, Condition, Kind, Rule, Test, Value, Width};

const ALL: &[Kind] = &[Listener, Primary, Secondary, Control];
const CHILDREN: &[Kind] = &[Listener, Primary, Secondary];
const WORKERS: &[Kind] = &[Primary, Secondary];

/// A rule without checks.
const fn rule(call: &'static str, kinds: &'static [Kind], reason: &'static str) -> Rule {
    checked(call, kinds, &[], reason)
}

const fn checked(
    call: &'static str,
    kinds: &'static [Kind],
    checks: &'static [Check],
    reason: &'static str,
) -> Rule {
    Rule {
        call,
        kinds,
        condition: Condition::Always,
        checks,
        reason,
    }
}

const fn word(argument: u8, name: &'static str, test: Test) -> Check {
    Check {
        argument,
        name,
        width: Width::Word,
        test,
    }
}

const fn long(argument: u8, name: &'static str, test: Test) -> Check {
    Check {
        argument,
        name,
        width: Width::Long,
        test,
    }
}

const fn value(name: &'static str, number: u64) -> Value {
    Value { name, number }
}

/// Neither new mappings nor old ones become executable.
const NOT_EXECUTABLE: Check = long(2, "prot", Test::Without(value("PROT_EXEC", 4)));

/// Every system call that a kind of process may make.
///
/// What the standard library, the C library and its allocator make on their own account is
/// said to be theirs.
pub const CALLS: &[Rule] = &[
    // Descriptors that it holds.
    rule("read", ALL, "sockets, wake-ups"),
    rule("write", ALL, "sockets, wake-ups, the message of a panic"),
    rule("readv", ALL, "sockets, into several buffers"),
    rule("writev", ALL, "sockets, from several buffers"),
    rule("recvfrom", ALL, "sockets"),
    checked(
        "sendto",
        ALL,
        &[long(4, "dest_addr", Test::OneOf(&[value("NULL", 0)]))],
        "connected sockets; no address can be named",
    ),
    rule("recvmsg", ALL, "messages and descriptors of the parent"),
    rule("sendmsg", ALL, "messages to the parent"),
    rule("shutdown", ALL, "the end of a connection"),
    rule("close", ALL, "the end of a connection"),
    rule("poll", ALL, "waiting for sockets"),
    rule("ppoll", ALL, "waiting for sockets"),
    checked(
        "getsockopt",
        ALL,
        &[
            word(1, "level", Test::OneOf(&[value("SOL_SOCKET", 1)])),
            word(2, "optname", Test::OneOf(&[value("SO_ERROR", 4)])),
        ],
        "why a connection failed",
    ),
    checked(
        "fcntl",
        CHILDREN,
        &[word(
            1,
            "cmd",
            Test::OneOf(&[
                value("F_GETFD", 1),
                value("F_GETFL", 3),
                value("F_SETFL", 4),
                value("F_DUPFD_CLOEXEC", 1030),
            ]),
        )],
        "whether calls wait; copies of sockets for threads",
    ),
    checked(
        "fcntl",
        &[Control],
        &[word(
            1,
            "cmd",
            Test::OneOf(&[
                value("F_GETFD", 1),
                value("F_GETFL", 3),
                value("F_SETFL", 4),
            ]),
        )],
        "whether calls wait; whether what is closed was open, in builds with assertions",
    ),
    checked(
        "accept4",
        &[Listener, Primary],
        &[word(
            3,
            "flags",
            Test::OneOf(&[
                value("SOCK_CLOEXEC", 0o2_000_000),
                value("SOCK_CLOEXEC|SOCK_NONBLOCK", 0o2_004_000),
            ]),
        )],
        "peers (listener) and NBD clients (primary) on sockets that listen already",
    ),
    // The local component.
    rule("pread64", WORKERS, "the local component"),
    rule("pwrite64", WORKERS, "the local component"),
    rule(
        "preadv",
        WORKERS,
        "the local component, into several buffers",
    ),
    checked(
        "preadv2",
        WORKERS,
        &[word(5, "flags", Test::OneOf(&[value("RWF_NOWAIT", 8)]))],
        "the local component, if the page cache has it",
    ),
    rule(
        "pwritev",
        WORKERS,
        "the local component, from several buffers",
    ),
    checked(
        "pwritev2",
        WORKERS,
        &[word(5, "flags", Test::OneOf(&[value("RWF_DSYNC", 2)]))],
        "the bitmap, to stable storage at once",
    ),
    rule("fsync", WORKERS, "flush"),
    rule("fdatasync", WORKERS, "flush"),
    checked(
        "fallocate",
        WORKERS,
        &[word(
            1,
            "mode",
            Test::OneOf(&[
                value("FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE", 0x03),
                value("FALLOC_FL_ZERO_RANGE", 0x10),
                value("FALLOC_FL_ZERO_RANGE|FALLOC_FL_KEEP_SIZE", 0x11),
            ]),
        )],
        "delete and zero, on a file",
    ),
    checked(
        "ioctl",
        WORKERS,
        &[word(
            1,
            "request",
            Test::OneOf(&[value("BLKDISCARD", 0x1277), value("BLKZEROOUT", 0x127f)]),
        )],
        "delete and zero, on a block device",
    ),
    checked(
        "ioctl",
        &[Control],
        &[word(
            1,
            "request",
            Test::OneOf(&[value("TCGETS", 0x5401), value("TIOCGWINSZ", 0x5413)]),
        )],
        "whether and how wide a terminal is",
    ),
    Rule {
        call: "io_uring_enter",
        kinds: WORKERS,
        condition: Condition::IoUring,
        checks: &[],
        reason: "a ring that was made and restricted before",
    },
    Rule {
        call: "io_uring_register",
        kinds: WORKERS,
        condition: Condition::IoUring,
        checks: &[word(
            1,
            "opcode",
            Test::OneOf(&[value("IORING_REGISTER_FILES_UPDATE", 6)]),
        )],
        reason: "connections that come later and go, for that ring",
    },
    // Memory.
    checked(
        "mmap",
        ALL,
        &[
            NOT_EXECUTABLE,
            word(3, "flags", Test::With(value("MAP_ANONYMOUS", 0x20))),
        ],
        "the allocator; no file, nothing executable",
    ),
    checked(
        "mprotect",
        ALL,
        &[NOT_EXECUTABLE],
        "the allocator; nothing executable",
    ),
    rule("munmap", ALL, "the allocator"),
    rule("mremap", ALL, "the allocator"),
    rule("brk", ALL, "the allocator"),
    checked(
        "madvise",
        ALL,
        &[word(
            2,
            "advice",
            Test::OneOf(&[
                value("MADV_DONTNEED", 4),
                value("MADV_FREE", 8),
                value("MADV_HUGEPAGE", 14),
            ]),
        )],
        "the allocator gives memory back",
    ),
    // Threads.
    rule("futex", ALL, "locks and channels between threads"),
    rule("sched_yield", ALL, "locks between threads"),
    rule(
        "sched_getaffinity",
        ALL,
        "the allocator asks how many processors there are",
    ),
    rule(
        "set_robust_list",
        ALL,
        "the C library, in a thread that begins",
    ),
    rule("rseq", ALL, "the C library, in a thread that begins"),
    rule("membarrier", ALL, "lock-free queues between threads"),
    rule("gettid", ALL, "the C library aborts"),
    rule("getpid", ALL, "the C library aborts"),
    checked(
        "tgkill",
        ALL,
        &[
            word(0, "tgid", Test::OwnProcess),
            word(2, "sig", Test::OneOf(&[value("SIGABRT", 6)])),
        ],
        "the C library aborts, this process only",
    ),
    checked(
        "prctl",
        ALL,
        &[word(
            0,
            "option",
            Test::OneOf(&[value("PR_SET_NAME", 15), value("PR_GET_SECCOMP", 21)]),
        )],
        "the name of a thread that begins; verification of the filter itself",
    ),
    // Signals.
    rule("rt_sigprocmask", ALL, "the C library aborts"),
    checked(
        "rt_sigaction",
        ALL,
        &[word(
            0,
            "signum",
            Test::OneOf(&[
                value("SIGABRT", 6),
                value("SIGBUS", 7),
                value("SIGSEGV", 11),
            ]),
        )],
        "the standard library's handler of a stack overflow lets the signal end the process",
    ),
    rule("rt_sigreturn", ALL, "the end of a signal handler"),
    rule(
        "sigaltstack",
        ALL,
        "the standard library, in a thread that begins or ends",
    ),
    rule(
        "restart_syscall",
        ALL,
        "the kernel, after the process was stopped and continued",
    ),
    // Time and chance.
    rule(
        "clock_gettime",
        ALL,
        "time, where the kernel's page does not tell it",
    ),
    rule("clock_nanosleep", ALL, "waiting"),
    rule("nanosleep", ALL, "waiting"),
    rule("getrandom", ALL, "tokens, hash tables"),
    // The end.
    rule("exit", ALL, "the end of a thread"),
    rule("exit_group", ALL, "the end of the process"),
];
