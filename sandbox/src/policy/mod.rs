//! What each kind of process may hold and do, as data.
//!
//! The tables [`CALLS`], [`DESCRIPTORS`] and those of [`ring`] are the only place where this is said. Made from
//! them: the system call filter (Linux), the rights and ioctl limits of Capsicum (FreeBSD), the
//! descriptor audit, the limit of open files, the documentation ([`markdown()`]) and the tests, which
//! exercise every rule, violate every check, and try every system call that no rule allows.

mod calls;
mod descriptors;
mod markdown;
pub mod ring;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use calls::CALLS;
pub use descriptors::{DESCRIPTORS, roles};
pub use markdown::markdown;

/// The kinds of process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// Accepts connections of peers and reads their first packet.
    Listener,
    /// Serves a resource to applications.
    Primary,
    /// Keeps the copy of a resource.
    Secondary,
    /// hastctl, once it is connected to the daemon.
    Control,
}

impl Kind {
    /// All kinds.
    pub const ALL: &'static [Kind] = &[
        Kind::Listener,
        Kind::Primary,
        Kind::Secondary,
        Kind::Control,
    ];

    /// The name as people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Listener => "listener",
            Kind::Primary => "primary",
            Kind::Secondary => "secondary",
            Kind::Control => "control tool",
        }
    }
}

/// Optional parts of a policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// The worker drives its I/O through an io_uring that was made and restricted before.
    pub io_uring: bool,
}

/// When a rule is part of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    Always,
    /// With [`Features::io_uring`].
    IoUring,
}

impl Condition {
    fn holds(self, features: Features) -> bool {
        match self {
            Condition::Always => true,
            Condition::IoUring => features.io_uring,
        }
    }
}

/// A system call of Linux that is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name.
    pub call: &'static str,
    /// The kinds of process that may make it.
    pub kinds: &'static [Kind],
    /// When it is part of the policy.
    pub condition: Condition,
    /// What its arguments must be: all of these.
    pub checks: &'static [Check],
    /// What it is needed for.
    pub reason: &'static str,
}

/// What an argument must be.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Which argument, from 0.
    pub argument: u8,
    /// Its name.
    pub name: &'static str,
    /// How much of it the kernel looks at.
    pub width: Width,
    /// What it must be.
    pub test: Test,
}

/// Width of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 32 bits.
    Word,
    /// 64 bits.
    Long,
}

/// What an argument must be.
#[derive(Clone, Copy, Debug)]
pub enum Test {
    /// One of these.
    OneOf(&'static [Value]),
    /// These bits of it are 0.
    Without(Value),
    /// These bits of it are 1.
    With(Value),
    /// The number of the calling process.
    OwnProcess,
}

/// A number of the kernel's interface with its name.
#[derive(Clone, Copy, Debug)]
pub struct Value {
    /// Name.
    pub name: &'static str,
    /// Number; the same on all architectures that are supported.
    pub number: u64,
}

/// A descriptor that a process may hold when it is confined, or receive later.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// What it is for: one of [`roles`].
    pub role: &'static str,
    /// The kinds of process that may hold it.
    pub kinds: &'static [Kind],
    /// What it may be.
    pub objects: &'static [Object],
    /// How many of them at most.
    pub count_max: u32,
    /// Rights under Capsicum; none left.
    pub rights: &'static [Right],
    /// ioctls under Capsicum.
    pub ioctls: &'static [Ioctl],
    /// Why.
    pub reason: &'static str,
}

/// What a descriptor refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// Stream socket, Unix or Internet.
    Stream,
    /// Unix socket that keeps message boundaries.
    SeqPacket,
    /// Regular file.
    File,
    /// Block device.
    BlockDevice,
    /// Character device.
    CharDevice,
    /// Pipe.
    Pipe,
    /// Linux's eventfd.
    EventFd,
    /// Linux's io_uring.
    IoUring,
}

/// A right of Capsicum, by the name in rights(4) without its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "rights(4) describes them")]
pub enum Right {
    Accept,
    Event,
    Fcntl,
    Flock,
    Fstat,
    Fsync,
    Getpeername,
    Getsockname,
    Getsockopt,
    Ioctl,
    Pread,
    Pwrite,
    Read,
    Setsockopt,
    Shutdown,
    Write,
}

impl Right {
    /// The name in rights(4).
    pub const fn as_str(self) -> &'static str {
        match self {
            Right::Accept => "CAP_ACCEPT",
            Right::Event => "CAP_EVENT",
            Right::Fcntl => "CAP_FCNTL",
            Right::Flock => "CAP_FLOCK",
            Right::Fstat => "CAP_FSTAT",
            Right::Fsync => "CAP_FSYNC",
            Right::Getpeername => "CAP_GETPEERNAME",
            Right::Getsockname => "CAP_GETSOCKNAME",
            Right::Getsockopt => "CAP_GETSOCKOPT",
            Right::Ioctl => "CAP_IOCTL",
            Right::Pread => "CAP_PREAD",
            Right::Pwrite => "CAP_PWRITE",
            Right::Read => "CAP_READ",
            Right::Setsockopt => "CAP_SETSOCKOPT",
            Right::Shutdown => "CAP_SHUTDOWN",
            Right::Write => "CAP_WRITE",
        }
    }
}

/// An ioctl of FreeBSD that a policy names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ioctl {
    /// DIOCGDELETE of a disk.
    DiskDelete,
    /// DIOCGFLUSH of a disk.
    DiskFlush,
    /// G_GATE_CMD_MODIFY of GEOM gate.
    GateModify,
    /// G_GATE_CMD_START of GEOM gate.
    GateStart,
    /// G_GATE_CMD_DONE of GEOM gate.
    GateDone,
    /// G_GATE_CMD_DESTROY of GEOM gate.
    GateDestroy,
    /// TIOCGWINSZ of a terminal.
    WindowSize,
    /// TIOCGETA of a terminal.
    TerminalAttributes,
}

impl Ioctl {
    /// The name in the system's headers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Ioctl::DiskDelete => "DIOCGDELETE",
            Ioctl::DiskFlush => "DIOCGFLUSH",
            Ioctl::GateModify => "G_GATE_CMD_MODIFY",
            Ioctl::GateStart => "G_GATE_CMD_START",
            Ioctl::GateDone => "G_GATE_CMD_DONE",
            Ioctl::GateDestroy => "G_GATE_CMD_DESTROY",
            Ioctl::WindowSize => "TIOCGWINSZ",
            Ioctl::TerminalAttributes => "TIOCGETA",
        }
    }

    /// The number on FreeBSD: direction, size of the argument, group, command (sys/ioccom.h).
    pub const fn code(self) -> u32 {
        const NONE: u32 = 0x2000_0000;
        const OUT: u32 = 0x4000_0000;
        const IN: u32 = 0x8000_0000;
        const fn code(direction: u32, group: u8, command: u32, size_bytes: u32) -> u32 {
            direction | (size_bytes & 0x1fff) << 16 | (group as u32) << 8 | command
        }
        match self {
            // Arguments: off_t[2]; none.
            Ioctl::DiskDelete => code(IN, b'd', 136, 16),
            Ioctl::DiskFlush => code(NONE, b'd', 135, 0),
            // Sizes of the structures of geom/gate/g_gate.h, version 3, on 64-bit machines.
            Ioctl::GateModify => code(IN | OUT, b'm', 1, 2336),
            Ioctl::GateDestroy => code(IN | OUT, b'm', 2, 268),
            Ioctl::GateStart => code(IN | OUT, b'm', 4, 56),
            Ioctl::GateDone => code(IN | OUT, b'm', 5, 56),
            // struct winsize; struct termios.
            Ioctl::WindowSize => code(OUT, b't', 104, 8),
            Ioctl::TerminalAttributes => code(OUT, b't', 19, 44),
        }
    }
}

/// The rules of a kind.
pub fn rules(kind: Kind, features: Features) -> impl Iterator<Item = &'static Rule> {
    CALLS
        .iter()
        .filter(move |rule| rule.kinds.contains(&kind) && rule.condition.holds(features))
}

/// The descriptors of a kind.
pub fn descriptors(kind: Kind) -> impl Iterator<Item = &'static Descriptor> {
    DESCRIPTORS
        .iter()
        .filter(move |descriptor| descriptor.kinds.contains(&kind))
}

/// The entry for a role of that kind, if the kind may hold it.
pub fn descriptor(kind: Kind, role: &str) -> Option<&'static Descriptor> {
    descriptors(kind).find(|descriptor| descriptor.role == role)
}

/// How many descriptors a kind may hold at most: the limit of open files.
pub fn descriptors_max(kind: Kind) -> u32 {
    descriptors(kind)
        .map(|descriptor| descriptor.count_max)
        .sum()
}
