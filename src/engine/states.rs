//! The states of both roles and every legal change between them, in one place.
//!
//! Each machine is a table: a change that is not in it returns `None` and is a fault of ours, or,
//! for what a peer causes, the end of the connection.

/// The primary's connection to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// None.
    Down,
    /// Both connections exist; the unique id is being written before it is sent.
    Preparing,
    /// Our counters are sent.
    HelloSent,
    /// The secondary answered; the merged bitmap is being written.
    Merging,
    /// Requests travel.
    Up,
}

/// What changes a [`Link`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkEvent {
    /// The first step of the handshake is done.
    Linked,
    /// The metadata may be told.
    Prepared,
    /// The secondary's acceptable answer.
    Hello,
    /// The merged bitmap and the counters are durable.
    Merged,
    /// The connection is gone or given up.
    Lost,
}

impl Link {
    /// Every state.
    pub const ALL: [Link; 5] = [
        Link::Down,
        Link::Preparing,
        Link::HelloSent,
        Link::Merging,
        Link::Up,
    ];

    /// The state after `event`.
    pub fn next(self, event: LinkEvent) -> Option<Link> {
        match (self, event) {
            (Link::Down, LinkEvent::Linked) => Some(Link::Preparing),
            (Link::Preparing, LinkEvent::Prepared) => Some(Link::HelloSent),
            (Link::HelloSent, LinkEvent::Hello) => Some(Link::Merging),
            (Link::Merging, LinkEvent::Merged) => Some(Link::Up),
            (_, LinkEvent::Lost) => Some(Link::Down),
            _ => None,
        }
    }
}

/// The primary's own copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Local {
    /// Good, but for what a failing disk says.
    Good,
    /// The peer's copy is newer in the extents to be synchronised.
    Stale,
    /// A write failed: that the copy is unusable is being recorded, here or on the peer.
    Detaching,
    /// Recorded: the peer serves alone.
    Detached,
    /// It could not be recorded anywhere: nothing may be acknowledged any more.
    Dead,
}

/// What changes a [`Local`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalEvent {
    /// The handshake says that the peer's copy is newer.
    PeerIsAhead,
    /// The handshake says that ours is, or that they are equal.
    PeerIsBehind,
    /// A synchronisation is complete and agreed.
    InStep,
    /// A write failed while the peer can go on.
    WriteFailed,
    /// The failure is recorded.
    Recorded,
    /// It could not be recorded.
    NotRecorded,
}

impl Local {
    /// Every state.
    pub const ALL: [Local; 5] = [
        Local::Good,
        Local::Stale,
        Local::Detaching,
        Local::Detached,
        Local::Dead,
    ];

    /// The state after `event`.
    pub fn next(self, event: LocalEvent) -> Option<Local> {
        match (self, event) {
            (Local::Good | Local::Stale, LocalEvent::PeerIsAhead) => Some(Local::Stale),
            (Local::Good | Local::Stale, LocalEvent::PeerIsBehind | LocalEvent::InStep) => {
                Some(Local::Good)
            }
            (Local::Good | Local::Stale, LocalEvent::WriteFailed) => Some(Local::Detaching),
            (Local::Detaching, LocalEvent::Recorded) => Some(Local::Detached),
            (Local::Detaching, LocalEvent::NotRecorded) => Some(Local::Dead),
            (
                Local::Detaching | Local::Detached | Local::Dead,
                LocalEvent::WriteFailed | LocalEvent::PeerIsAhead | LocalEvent::PeerIsBehind,
            ) => Some(self),
            _ => None,
        }
    }

    /// Whether the local disk is still written.
    pub fn is_attached(self) -> bool {
        matches!(self, Local::Good | Local::Stale)
    }
}

/// The primary's synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sync {
    /// None.
    Idle,
    /// Extents are being copied.
    Copying,
    /// Some extents could not be read; they are tried again later.
    Waiting,
    /// Everything is copied; both disks are being flushed.
    Flushing,
    /// The counters are being written.
    Agreeing,
}

/// What changes a [`Sync`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncEvent {
    /// There are extents to copy, or counters to agree on.
    Begin,
    /// No extent is left.
    Copied,
    /// The rest cannot be read now.
    Stuck,
    /// Both disks are flushed.
    Flushed,
    /// A flush failed, or there is more to copy.
    Again,
    /// The counters are durable.
    Agreed,
    /// The connection is gone, or the disk.
    Interrupted,
}

impl Sync {
    /// Every state.
    pub const ALL: [Sync; 5] = [
        Sync::Idle,
        Sync::Copying,
        Sync::Waiting,
        Sync::Flushing,
        Sync::Agreeing,
    ];

    /// The state after `event`.
    pub fn next(self, event: SyncEvent) -> Option<Sync> {
        match (self, event) {
            (Sync::Idle, SyncEvent::Begin) => Some(Sync::Copying),
            (Sync::Copying, SyncEvent::Copied) => Some(Sync::Flushing),
            (Sync::Copying, SyncEvent::Stuck) => Some(Sync::Waiting),
            (Sync::Waiting | Sync::Flushing | Sync::Agreeing, SyncEvent::Again) => {
                Some(Sync::Copying)
            }
            (Sync::Flushing, SyncEvent::Flushed) => Some(Sync::Agreeing),
            (Sync::Agreeing, SyncEvent::Agreed) | (_, SyncEvent::Interrupted) => Some(Sync::Idle),
            _ => None,
        }
    }
}

/// A secondary's session with one primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Session {
    /// Waits for the primary's counters.
    Waiting,
    /// The unique id is being written before the answer.
    Adopting,
    /// The answer is sent; the primary merges the bitmap.
    Greeted,
    /// The first request came; the bitmap is being cleared beside it.
    Serving,
    /// Ending: operations are left on the disk.
    Draining,
    /// Over.
    Ended,
}

/// What changes a [`Session`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionEvent {
    /// Counters that need no change of the metadata.
    Accepted,
    /// Counters of a primary whose unique id is to be adopted.
    Adopted,
    /// The metadata are durable.
    Recorded,
    /// A request.
    Request,
    /// The connection is gone, refused, or the role ends.
    End,
    /// No operation is left.
    Drained,
}

impl Session {
    /// Every state.
    pub const ALL: [Session; 6] = [
        Session::Waiting,
        Session::Adopting,
        Session::Greeted,
        Session::Serving,
        Session::Draining,
        Session::Ended,
    ];

    /// The state after `event`.
    pub fn next(self, event: SessionEvent) -> Option<Session> {
        match (self, event) {
            (Session::Waiting, SessionEvent::Accepted) => Some(Session::Greeted),
            (Session::Waiting, SessionEvent::Adopted) => Some(Session::Adopting),
            (Session::Adopting, SessionEvent::Recorded) => Some(Session::Greeted),
            (Session::Greeted | Session::Serving, SessionEvent::Request) => Some(Session::Serving),
            (Session::Ended, SessionEvent::End) => Some(Session::Ended),
            (_, SessionEvent::End) => Some(Session::Draining),
            (Session::Draining, SessionEvent::Drained) => Some(Session::Ended),
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "states_tests.rs"]
mod tests;
