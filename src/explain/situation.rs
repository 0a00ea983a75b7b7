//! Which situation a resource is in.

use crate::events::Kind;
use crate::ipc::Cause;
use crate::report::Resource;

/// State of the local copy of a node with a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disk {
    /// Complete.
    Good,
    /// The peer's is newer in places.
    Stale,
    /// Given up after an error; the peer's is the good one.
    Detached,
    /// Given up, and that could not be recorded: nothing is served.
    Failed,
}

/// What a resource in role init, or a secondary without a connection, suffers from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing that is known.
    Nothing,
    /// The connection was lost or could not be made.
    Connection,
    /// The copies were written apart.
    SplitBrain,
    /// The copies do not fit together.
    Mismatch,
    /// The local component cannot be used.
    DiskUnusable,
    /// The local component fails.
    DiskError,
    /// The copy is incomplete and may not serve alone.
    Incomplete,
    /// Anything else: the message says what.
    Other,
}

/// A synchronisation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copying {
    pub(super) from_peer: bool,
    pub(super) paused: bool,
}

/// The situations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Situation {
    /// The daemon does not know the resource, or did not say anything of it.
    Unknown,
    /// A daemon that does not tell enough: FreeBSD's.
    Terse { connected: bool },
    /// Role init.
    Off(Trouble),
    /// A worker that does not answer.
    Mute,
    /// A primary without a worker: it is being restarted.
    Restarting(Trouble),
    /// A primary that has not heard of its peer yet.
    Starting,
    /// A primary without a peer, by configuration.
    Alone(Disk),
    /// A connected primary.
    Connected(Disk, Option<Copying>),
    /// A primary that is not connected.
    Degraded(Disk, Cause),
    /// A secondary that no primary is connected to.
    Waiting(Trouble),
    /// A secondary with a session.
    Serving {
        stale: bool,
        connected: bool,
        disk_error: bool,
    },
}

fn disk(resource: &Resource) -> Option<Disk> {
    Some(match resource.disk.as_deref()? {
        "good" => Disk::Good,
        "stale" => Disk::Stale,
        "detached" => Disk::Detached,
        _ => Disk::Failed,
    })
}

fn trouble(resource: &Resource) -> Trouble {
    let kind = resource.problem.as_ref().and_then(|problem| {
        let mut kinds = Kind::ALL.iter().copied();
        kinds.find(|kind| kind.as_str() == problem.kind)
    });
    match kind {
        Some(Kind::SplitBrain) => Trouble::SplitBrain,
        Some(Kind::Mismatch) => Trouble::Mismatch,
        Some(Kind::DiskUnusable) => Trouble::DiskUnusable,
        Some(Kind::CopyIncomplete) => Trouble::Incomplete,
        Some(Kind::DiskError | Kind::DiskDetached) => Trouble::DiskError,
        Some(Kind::Disconnect | Kind::ConnectFailed | Kind::SyncInterrupted) => Trouble::Connection,
        None if resource.message.is_none() && resource.problem.is_none() => Trouble::Nothing,
        _ => Trouble::Other,
    }
}

impl Situation {
    /// The situation of a resource.
    pub(super) fn of(resource: &Resource) -> Situation {
        let Some(role) = resource
            .role
            .as_deref()
            .filter(|_| resource.error.is_none())
        else {
            return Situation::Unknown;
        };
        if role == "init" {
            // What became of connections is of no interest to a resource that is off.
            return Situation::Off(match trouble(resource) {
                Trouble::Connection => Trouble::Nothing,
                trouble => trouble,
            });
        }
        let is_primary = role == "primary";
        let connected = resource.status.as_deref() == Some("complete");
        let Some(worker) = &resource.worker else {
            return if is_primary {
                Situation::Restarting(trouble(resource))
            } else {
                Situation::Waiting(trouble(resource))
            };
        };
        if !worker.answers {
            return Situation::Mute;
        }
        let Some(disk) = disk(resource) else {
            return Situation::Terse { connected };
        };
        if !is_primary {
            return Situation::Serving {
                stale: disk != Disk::Good,
                connected,
                disk_error: trouble(resource) == Trouble::DiskError,
            };
        }
        let cause = resource.cause.as_deref().and_then(Cause::from_name);
        match (connected, cause) {
            (true, _) => {
                let sync = resource.synchronisation.as_ref();
                let copying = sync.map(|sync| Copying {
                    from_peer: sync.direction == "from-peer",
                    paused: sync.paused,
                });
                Situation::Connected(disk, copying)
            }
            (false, Some(Cause::Starting)) => Situation::Starting,
            (false, Some(Cause::NoPeer)) => Situation::Alone(disk),
            (false, Some(cause)) => Situation::Degraded(disk, cause),
            // Of a later version than this program.
            (false, None) => Situation::Degraded(disk, Cause::Broken),
        }
    }
}
