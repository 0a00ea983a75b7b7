use std::collections::BTreeSet;

use super::*;

#[test]
fn no_kind_has_two_rules_for_a_call() {
    for kind in Kind::ALL {
        let mut seen = BTreeSet::new();
        for rule in rules(*kind, Features { io_uring: true }) {
            assert!(seen.insert(rule.call), "{} of {}", rule.call, kind.as_str());
        }
    }
}

#[test]
fn no_kind_has_two_entries_for_a_role() {
    for kind in Kind::ALL {
        let mut seen = BTreeSet::new();
        for entry in descriptors(*kind) {
            assert!(
                seen.insert(entry.role),
                "{} of {}",
                entry.role,
                kind.as_str()
            );
        }
    }
}

#[test]
fn every_rule_has_kinds_and_a_reason() {
    for rule in CALLS {
        assert!(
            !rule.kinds.is_empty() && !rule.reason.is_empty(),
            "{}",
            rule.call
        );
    }
    for entry in DESCRIPTORS {
        assert!(
            !entry.kinds.is_empty() && !entry.reason.is_empty(),
            "{}",
            entry.role
        );
        assert!(entry.count_max > 0, "{}", entry.role);
    }
}

#[test]
fn ioctls_and_their_right_come_together() {
    for entry in DESCRIPTORS {
        assert_eq!(
            entry.rights.contains(&Right::Ioctl),
            !entry.ioctls.is_empty(),
            "{}",
            entry.role
        );
    }
}

#[test]
fn what_could_open_or_start_anything_is_in_no_policy() {
    let never = [
        "open",
        "openat",
        "openat2",
        "creat",
        "socket",
        "socketpair",
        "connect",
        "bind",
        "listen",
        "execve",
        "execveat",
        "fork",
        "vfork",
        "clone",
        "clone3",
        "ptrace",
        "kill",
        "tkill",
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "unshare",
        "setns",
        "setuid",
        "setresuid",
        "memfd_create",
        "bpf",
        "userfaultfd",
        "process_vm_readv",
        "process_vm_writev",
        "io_uring_setup",
        "pidfd_getfd",
        "seccomp",
        "setrlimit",
        "prlimit64",
        "dup3",
        "setsockopt",
        "keyctl",
        "perf_event_open",
        "pkey_mprotect",
        "remap_file_pages",
    ];
    for rule in CALLS {
        assert!(!never.contains(&rule.call), "{}", rule.call);
    }
}

#[test]
fn numbers_of_freebsd_are_those_of_its_headers() {
    // As C computes them from sys/disk.h, geom/gate/g_gate.h and sys/ttycom.h.
    assert_eq!(Ioctl::DiskDelete.code(), 0x8010_6488);
    assert_eq!(Ioctl::DiskFlush.code(), 0x2000_6487);
    assert_eq!(Ioctl::GateModify.code(), 0xc920_6d01);
    assert_eq!(Ioctl::GateDestroy.code(), 0xc10c_6d02);
    assert_eq!(Ioctl::GateStart.code(), 0xc038_6d04);
    assert_eq!(Ioctl::GateDone.code(), 0xc038_6d05);
    assert_eq!(Ioctl::WindowSize.code(), 0x4008_7468);
    assert_eq!(Ioctl::TerminalAttributes.code(), 0x402c_7413);
}

#[test]
fn a_ring_can_name_nothing_that_it_was_not_given() {
    // Files, addresses, programs; what goes around the filter; what takes no registered file.
    let never = [
        "OPENAT",
        "OPENAT2",
        "STATX",
        "CONNECT",
        "BIND",
        "LISTEN",
        "SOCKET",
        "RENAMEAT",
        "UNLINKAT",
        "MKDIRAT",
        "SYMLINKAT",
        "LINKAT",
        "MSG_RING",
        "URING_CMD",
        "FIXED_FD_INSTALL",
        "FILES_UPDATE",
        "CLOSE",
        "SPLICE",
        "TEE",
        "EPOLL_CTL",
        "SETXATTR",
        "WAITID",
    ];
    for entry in ring::OPERATIONS {
        let name = entry.name.strip_prefix("IORING_OP_").unwrap();
        assert!(!never.contains(&name), "{name}");
        assert!(!entry.reason.is_empty());
    }
    assert_eq!(ring::REGISTRATIONS.len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn numbers_of_linux_are_those_of_its_headers() {
    let known = [
        ("NULL", 0),
        ("SOL_SOCKET", libc::SOL_SOCKET.cast_unsigned()),
        ("SO_ERROR", libc::SO_ERROR.cast_unsigned()),
        ("F_GETFD", libc::F_GETFD.cast_unsigned()),
        ("F_GETFL", libc::F_GETFL.cast_unsigned()),
        ("F_SETFL", libc::F_SETFL.cast_unsigned()),
        ("F_DUPFD_CLOEXEC", libc::F_DUPFD_CLOEXEC.cast_unsigned()),
        ("RWF_NOWAIT", libc::RWF_NOWAIT.cast_unsigned()),
        ("RWF_DSYNC", libc::RWF_DSYNC.cast_unsigned()),
        // linux/io_uring.h
        ("IORING_REGISTER_FILES_UPDATE", 6),
        ("SOCK_CLOEXEC", libc::SOCK_CLOEXEC.cast_unsigned()),
        ("SOCK_NONBLOCK", libc::SOCK_NONBLOCK.cast_unsigned()),
        (
            "FALLOC_FL_PUNCH_HOLE",
            libc::FALLOC_FL_PUNCH_HOLE.cast_unsigned(),
        ),
        (
            "FALLOC_FL_KEEP_SIZE",
            libc::FALLOC_FL_KEEP_SIZE.cast_unsigned(),
        ),
        (
            "FALLOC_FL_ZERO_RANGE",
            libc::FALLOC_FL_ZERO_RANGE.cast_unsigned(),
        ),
        // linux/fs.h: _IO(0x12, 119) and _IO(0x12, 127).
        ("BLKDISCARD", 0x12 << 8 | 119),
        ("BLKZEROOUT", 0x12 << 8 | 127),
        ("TCGETS", 0x5401),
        ("TIOCGWINSZ", 0x5413),
        ("PROT_EXEC", libc::PROT_EXEC.cast_unsigned()),
        ("MAP_ANONYMOUS", libc::MAP_ANONYMOUS.cast_unsigned()),
        ("MADV_DONTNEED", libc::MADV_DONTNEED.cast_unsigned()),
        ("MADV_FREE", libc::MADV_FREE.cast_unsigned()),
        ("MADV_HUGEPAGE", libc::MADV_HUGEPAGE.cast_unsigned()),
        ("SIGABRT", libc::SIGABRT.cast_unsigned()),
        ("SIGBUS", libc::SIGBUS.cast_unsigned()),
        ("SIGSEGV", libc::SIGSEGV.cast_unsigned()),
        ("PR_SET_NAME", libc::PR_SET_NAME.cast_unsigned()),
        ("PR_GET_SECCOMP", libc::PR_GET_SECCOMP.cast_unsigned()),
    ];
    let number = |name: &str| {
        let found = known.iter().find(|(known, _)| *known == name);
        u64::from(
            found
                .unwrap_or_else(|| panic!("{name} is not in the list"))
                .1,
        )
    };
    for check in CALLS.iter().flat_map(|rule| rule.checks) {
        let values = match check.test {
            Test::OneOf(values) => values,
            Test::With(value) | Test::Without(value) => &[value][..],
            Test::OwnProcess => &[],
        };
        for value in values {
            let expected = value
                .name
                .split('|')
                .map(number)
                .fold(0, |sum, bits| sum | bits);
            assert_eq!(value.number, expected, "{}", value.name);
        }
    }
}

#[test]
fn tables_for_people_name_every_rule() {
    let text = markdown();
    for rule in CALLS {
        assert!(
            text.contains(&format!("| `{}` |", rule.call)),
            "{}",
            rule.call
        );
    }
    for entry in DESCRIPTORS {
        assert!(
            text.contains(&format!("| {} |", entry.role)),
            "{}",
            entry.role
        );
    }
    assert!(text.contains("`prot` without `PROT_EXEC`; `flags` with `MAP_ANONYMOUS`"));
    for entry in ring::OPERATIONS.iter().chain(ring::REGISTRATIONS) {
        assert!(
            text.contains(&format!("| `{}` |", entry.name)),
            "{}",
            entry.name
        );
    }
    // A bar within a cell is escaped, so that all rows of a table have the same cells.
    assert!(text.contains("SOCK_CLOEXEC\\|SOCK_NONBLOCK"));
}

#[test]
fn documentation_holds_the_tables_of_this_policy() {
    let text = include_str!("../../../SECURITY.md");
    assert!(
        text.contains(&markdown()),
        "SECURITY.md is out of date: put the output of `cargo run -p sandbox --example \
         policy` between its marks"
    );
}
