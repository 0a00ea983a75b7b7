//! The table of descriptors.

use super::Kind::{Control, Listener, Primary, Secondary};
use super::{Descriptor, Ioctl, Kind, Object, Right};

/// Names of what descriptors are for.
pub mod roles {
    /// 0, 1 and 2.
    pub const STANDARD: &str = "standard input, output, error";
    /// The channel to the parent.
    pub const CHANNEL: &str = "channel to the parent";
    /// The disk of a resource.
    pub const LOCAL_COMPONENT: &str = "local component";
    /// /dev/ggctl.
    pub const GATE_CONTROL: &str = "GEOM gate control";
    /// The socket on which applications connect by NBD.
    pub const DEVICE_LISTENER: &str = "listening NBD socket";
    /// A connected NBD client.
    pub const DEVICE_CLIENT: &str = "NBD client";
    /// A connection to or from the peer.
    pub const PEER: &str = "connection to the peer";
    /// The socket on which peers connect.
    pub const PEER_LISTENER: &str = "listening socket for peers";
    /// A connection whose first packet is awaited.
    pub const CANDIDATE: &str = "connection of an unknown peer";
    /// What wakes the main thread up.
    pub const WAKE_UP: &str = "wake-up";
    /// The ring of the io_uring driver.
    pub const RING: &str = "io_uring";
    /// hastctl's connection.
    pub const CONTROL: &str = "connection to the daemon";
}

const CHILDREN: &[Kind] = &[Listener, Primary, Secondary];
const WORKERS: &[Kind] = &[Primary, Secondary];

const SOCKET_RIGHTS: &[Right] = &[
    Right::Read,
    Right::Write,
    Right::Event,
    Right::Fcntl,
    Right::Getsockopt,
    Right::Shutdown,
];

/// Every descriptor that a kind of process may hold.
pub const DESCRIPTORS: &[Descriptor] = &[
    Descriptor {
        role: roles::STANDARD,
        kinds: CHILDREN,
        objects: &[
            Object::CharDevice,
            Object::File,
            Object::Pipe,
            Object::Stream,
        ],
        count_max: 3,
        rights: &[Right::Write, Right::Event, Right::Fstat],
        ioctls: &[],
        reason: "the message of a panic",
    },
    Descriptor {
        role: roles::STANDARD,
        kinds: &[Control],
        objects: &[
            Object::CharDevice,
            Object::File,
            Object::Pipe,
            Object::Stream,
        ],
        count_max: 3,
        rights: &[Right::Write, Right::Event, Right::Fstat, Right::Ioctl],
        ioctls: &[Ioctl::WindowSize, Ioctl::TerminalAttributes],
        reason: "output, as wide as the terminal is",
    },
    Descriptor {
        role: roles::CHANNEL,
        kinds: CHILDREN,
        objects: &[Object::SeqPacket],
        count_max: 2,
        rights: SOCKET_RIGHTS,
        ioctls: &[],
        reason: "requests to and orders of the parent, and a copy to wait on",
    },
    Descriptor {
        role: roles::CHANNEL,
        kinds: &[Control],
        objects: &[Object::SeqPacket],
        count_max: 1,
        rights: SOCKET_RIGHTS,
        ioctls: &[],
        reason: "`status --watch` and `wait`: connections of the process that makes them",
    },
    Descriptor {
        role: roles::LOCAL_COMPONENT,
        kinds: WORKERS,
        objects: &[Object::File, Object::BlockDevice, Object::CharDevice],
        count_max: 1,
        rights: &[
            Right::Flock,
            Right::Fsync,
            Right::Ioctl,
            Right::Pread,
            Right::Pwrite,
        ],
        ioctls: &[Ioctl::DiskDelete, Ioctl::DiskFlush],
        reason: "the resource's data and metadata",
    },
    Descriptor {
        role: roles::GATE_CONTROL,
        kinds: &[Primary],
        objects: &[Object::CharDevice],
        count_max: 1,
        rights: &[Right::Ioctl],
        ioctls: &[
            Ioctl::GateModify,
            Ioctl::GateStart,
            Ioctl::GateDone,
            Ioctl::GateDestroy,
        ],
        reason: "requests of applications by GEOM gate; the device was created before",
    },
    Descriptor {
        role: roles::DEVICE_LISTENER,
        kinds: &[Primary],
        objects: &[Object::Stream],
        count_max: 1,
        // What is accepted inherits the rights of the listening socket.
        rights: &[
            Right::Accept,
            Right::Read,
            Right::Write,
            Right::Event,
            Right::Fcntl,
            Right::Getsockopt,
            Right::Shutdown,
        ],
        ioctls: &[],
        reason: "applications connect by NBD; bound and listening before",
    },
    Descriptor {
        role: roles::DEVICE_CLIENT,
        kinds: &[Primary],
        objects: &[Object::Stream],
        count_max: 64,
        rights: SOCKET_RIGHTS,
        ioctls: &[],
        reason: "requests of applications by NBD, and a copy for each thread that reads them",
    },
    Descriptor {
        role: roles::PEER,
        kinds: WORKERS,
        objects: &[Object::Stream],
        count_max: 8,
        rights: SOCKET_RIGHTS,
        ioctls: &[],
        reason: "replication: two sockets, and two of a new connection while the old one ends, \
                 with copies for the threads that drive them",
    },
    Descriptor {
        role: roles::WAKE_UP,
        kinds: WORKERS,
        objects: &[Object::Pipe, Object::EventFd, Object::Stream],
        count_max: 4,
        rights: &[Right::Read, Right::Write, Right::Event],
        ioctls: &[],
        reason: "disk threads and signals wake the main thread up",
    },
    Descriptor {
        role: roles::RING,
        kinds: WORKERS,
        objects: &[Object::IoUring],
        count_max: 1,
        rights: &[],
        ioctls: &[],
        reason: "the io_uring driver of Linux",
    },
    Descriptor {
        role: roles::PEER_LISTENER,
        kinds: &[Listener],
        objects: &[Object::Stream],
        count_max: 8,
        // What is accepted inherits them. The parent needs the last four of them on it, and the
        // descriptor audit of the worker that gets it has to see what it is.
        rights: &[
            Right::Accept,
            Right::Read,
            Right::Write,
            Right::Event,
            Right::Fcntl,
            Right::Fstat,
            Right::Shutdown,
            Right::Getsockopt,
            Right::Setsockopt,
            Right::Getpeername,
            Right::Getsockname,
        ],
        ioctls: &[],
        reason: "peers connect; bound and listening before",
    },
    Descriptor {
        role: roles::CANDIDATE,
        kinds: &[Listener],
        objects: &[Object::Stream],
        count_max: 64,
        // As it inherits them; a worker that gets the connection keeps fewer.
        rights: &[
            Right::Accept,
            Right::Read,
            Right::Write,
            Right::Event,
            Right::Fcntl,
            Right::Fstat,
            Right::Shutdown,
            Right::Getsockopt,
            Right::Setsockopt,
            Right::Getpeername,
            Right::Getsockname,
        ],
        ioctls: &[],
        reason: "the first packet of a peer, then the descriptor goes to the parent",
    },
    Descriptor {
        role: roles::CONTROL,
        kinds: &[Control],
        objects: &[Object::Stream],
        count_max: 1,
        rights: SOCKET_RIGHTS,
        ioctls: &[],
        reason: "one request and its answer",
    },
];
