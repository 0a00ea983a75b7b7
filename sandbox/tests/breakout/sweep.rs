//! The filter alone, call by call and argument by argument. Each trial is a process of its own: a
//! fork of this one that installs the filter and makes the call.

use libc::c_long;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use sandbox::policy::{Check, Features, Kind, Rule, Test, Width, rules};

use crate::sys::{call, fork};

/// Beyond the numbers of any kernel.
const NUMBERS: std::ops::Range<c_long> = 0..600;

/// The same numbers again for 32-bit pointers on x86_64 (__X32_SYSCALL_BIT).
const X32: c_long = 0x4000_0000;

/// The number of a call, by strings of the C library: the names of the policy as constants.
fn number(name: &str) -> Option<c_long> {
    (0..600).find(|number| name_of(*number) == Some(name))
}

macro_rules! names {
    ($($name:ident $constant:ident;)*) => {
        fn name_of(number: c_long) -> Option<&'static str> {
            match number {
                #[cfg(target_arch = "x86_64")]
                libc::SYS_poll => Some("poll"),
                $(libc::$constant => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

names! {
    accept4 SYS_accept4; brk SYS_brk; clock_gettime SYS_clock_gettime;
    clock_nanosleep SYS_clock_nanosleep; close SYS_close; exit SYS_exit;
    exit_group SYS_exit_group; fallocate SYS_fallocate; fcntl SYS_fcntl;
    fdatasync SYS_fdatasync; fsync SYS_fsync; futex SYS_futex; getpid SYS_getpid;
    getrandom SYS_getrandom; getsockopt SYS_getsockopt; gettid SYS_gettid;
    io_uring_enter SYS_io_uring_enter; io_uring_register SYS_io_uring_register; ioctl SYS_ioctl; madvise SYS_madvise;
    membarrier SYS_membarrier; mmap SYS_mmap; mprotect SYS_mprotect; mremap SYS_mremap;
    munmap SYS_munmap; nanosleep SYS_nanosleep; ppoll SYS_ppoll; prctl SYS_prctl;
    pread64 SYS_pread64; preadv SYS_preadv; preadv2 SYS_preadv2;
    pwrite64 SYS_pwrite64; pwritev SYS_pwritev; pwritev2 SYS_pwritev2;
    read SYS_read; readv SYS_readv; recvfrom SYS_recvfrom; recvmsg SYS_recvmsg;
    restart_syscall SYS_restart_syscall; rseq SYS_rseq; rt_sigaction SYS_rt_sigaction;
    rt_sigprocmask SYS_rt_sigprocmask; rt_sigreturn SYS_rt_sigreturn;
    sched_getaffinity SYS_sched_getaffinity; sched_yield SYS_sched_yield;
    sendmsg SYS_sendmsg; sendto SYS_sendto; set_robust_list SYS_set_robust_list;
    shutdown SYS_shutdown; sigaltstack SYS_sigaltstack; tgkill SYS_tgkill; write SYS_write;
    writev SYS_writev;
}

/// How a process ends that makes that call under the filter of the kind.
fn ending(kind: Kind, number: c_long, arguments: impl FnOnce() -> [u64; 6]) -> WaitStatus {
    let child = fork(|| {
        let arguments = arguments();
        sandbox::install_filter(kind, Features::default()).unwrap();
        let _ = call(number, &arguments);
    });
    waitpid(child, None).unwrap()
}

fn is_killed(status: WaitStatus) -> bool {
    matches!(status, WaitStatus::Signaled(_, Signal::SIGSYS, _))
}

/// uretprobe and uprobe of x86_64: the kernel makes them itself on behalf of a debugger and lets no
/// filter see them. Who makes them on his own gets SIGILL and an error.
fn is_probe(number: c_long) -> bool {
    cfg!(target_arch = "x86_64") && matches!(number, 335 | 336)
}

/// Every call that no rule allows kills.
pub(crate) fn other_calls(kind: Kind) {
    let allowed: Vec<&str> = rules(kind, Features::default())
        .map(|rule| rule.call)
        .collect();
    let mut tried = 0;
    for number in NUMBERS {
        let name = name_of(number);
        if name.is_some_and(|name| allowed.contains(&name)) || is_probe(number) {
            continue;
        }
        let status = ending(kind, number, || [0; 6]);
        assert!(is_killed(status), "call {number}: {status:?}");
        tried += 1;
    }
    if cfg!(target_arch = "x86_64") {
        for name in &allowed {
            let Some(number) = number(name) else { continue };
            let status = ending(kind, number | X32, || [0; 6]);
            assert!(is_killed(status), "x32 {name}: {status:?}");
        }
    }
    assert!(tried > 500);
    println!("ok");
}

/// Arguments that pass all checks of a rule: the first allowed value of each.
fn good(rule: &Rule) -> [u64; 6] {
    let mut arguments = [0; 6];
    for check in rule.checks {
        arguments[usize::from(check.argument)] = match check.test {
            Test::OneOf(values) => values[0].number,
            Test::Without(_) => 0,
            Test::With(bits) => bits.number,
            Test::OwnProcess => u64::from(std::process::id()),
        };
    }
    arguments
}

/// Values near the allowed ones that are not allowed.
fn bad(check: &Check) -> Vec<u64> {
    match check.test {
        Test::OneOf(values) => {
            let high = if check.width == Width::Long {
                1 << 63
            } else {
                1 << 31
            };
            let mut bad: Vec<u64> = vec![high, 0x1234_5678];
            for value in values {
                bad.extend([value.number + 1, value.number | high]);
                bad.extend(value.number.checked_sub(1));
            }
            bad.retain(|bad| values.iter().all(|value| value.number != *bad));
            bad
        }
        Test::Without(bits) => vec![bits.number, bits.number | 1, u64::MAX],
        Test::With(bits) => vec![0, u64::MAX ^ bits.number],
        Test::OwnProcess => vec![0, 1, u64::from(std::process::id()) + 1],
    }
}

/// Every check of an argument is violated, and that kills.
pub(crate) fn violations(kind: Kind) {
    let mut tried = 0;
    for rule in rules(kind, Features::default()) {
        let Some(number) = number(rule.call) else {
            continue;
        };
        for check in rule.checks {
            // A process of its own has another number than this one.
            let mut values = bad(check);
            if matches!(check.test, Test::OwnProcess) {
                values.push(u64::from(std::process::id()));
            }
            for value in values {
                let status = ending(kind, number, || {
                    let mut arguments = good(rule);
                    let own = u64::from(std::process::id());
                    arguments[usize::from(check.argument)] = value;
                    assert!(!matches!(check.test, Test::OwnProcess) || value != own);
                    arguments
                });
                let name = check.name;
                assert!(
                    is_killed(status),
                    "{} with {name} {value:#x}: {status:?}",
                    rule.call
                );
                tried += 1;
            }
        }
    }
    assert!(tried > 0);
    println!("ok");
}

/// Every allowed value of an argument passes.
pub(crate) fn allowed_values(kind: Kind) {
    for rule in rules(kind, Features::default()) {
        let Some(number) = number(rule.call) else {
            continue;
        };
        for check in rule.checks {
            let Test::OneOf(values) = check.test else {
                continue;
            };
            for value in values {
                let status = ending(kind, number, || {
                    let mut arguments = good(rule);
                    arguments[usize::from(check.argument)] = value.number;
                    arguments
                });
                assert!(
                    !is_killed(status),
                    "{} with {}: {status:?}",
                    rule.call,
                    value.name
                );
            }
        }
    }
    println!("ok");
}
