//! Deliberately broken variants of the engine: proof that the simulator sees.
//!
//! They exist only with the feature `mutants`; without it the compiler removes every trace.

/// A way of being wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mutant {
    /// Requests without an answer at a disconnection count as done and clean (spec/05, 1).
    InFlightForgotten,
    /// A write made alone is not marked for synchronisation (spec/05, 1).
    AloneWriteForgotten,
    /// A write that failed on the peer counts as done there (spec/05, 2).
    RemoteErrorIgnored,
    /// A write that failed on the local disk counts as done (spec/05, 2).
    LocalErrorIgnored,
    /// A block that could not be read for the synchronisation counts as copied (spec/05, 2 and 9).
    SyncErrorIgnored,
    /// Deletes are neither marked nor ordered (spec/05, 3).
    DeleteUntracked,
    /// A primary that never reached its peer does not raise its counter (spec/05, 5).
    BumpForgotten,
    /// A write is acknowledged before its raised counter is durable.
    BumpNotAwaited,
    /// A write whose data are too short is stored (spec/05, 6).
    TornWriteStored,
    /// An extent is declared clean without a flush of its data (spec/05, 7).
    CleanWithoutFlush,
    /// Reads ignore which copy is good (spec/05, 8).
    ReadsIgnoreStale,
    /// Writes start before their bit is on disk.
    NoWriteAhead,
    /// A flush is answered while earlier writes are still on their way.
    FlushDoesNotWait,
    /// The secondary starts overlapping writes in any order.
    SecondaryReorders,
    /// A memsync write is acknowledged before the peer has received it.
    MemsyncTooEarly,
    /// The secondary clears its bitmap before the primary has stored the merged one.
    MapClearedEarly,
    /// A synchronisation block may overwrite a newer write.
    SyncOverNewerWrite,
    /// Now and then a completion is lost.
    CompletionLost,
    /// The counters are agreed before the copied data are durable.
    AgreedBeforeFlush,
    /// The target of a synchronisation is not marked as incomplete.
    TargetUnmarked,
}

impl Mutant {
    /// Every variant.
    pub const ALL: [Mutant; 20] = [
        Mutant::InFlightForgotten,
        Mutant::AloneWriteForgotten,
        Mutant::RemoteErrorIgnored,
        Mutant::LocalErrorIgnored,
        Mutant::SyncErrorIgnored,
        Mutant::DeleteUntracked,
        Mutant::BumpForgotten,
        Mutant::BumpNotAwaited,
        Mutant::TornWriteStored,
        Mutant::CleanWithoutFlush,
        Mutant::ReadsIgnoreStale,
        Mutant::NoWriteAhead,
        Mutant::FlushDoesNotWait,
        Mutant::SecondaryReorders,
        Mutant::MemsyncTooEarly,
        Mutant::MapClearedEarly,
        Mutant::SyncOverNewerWrite,
        Mutant::CompletionLost,
        Mutant::AgreedBeforeFlush,
        Mutant::TargetUnmarked,
    ];
}

/// The variant that an engine is, if it is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broken(pub(super) Option<Mutant>);

impl Broken {
    /// Whether the engine is to be wrong in this way. Always false without the feature.
    #[inline]
    pub(super) fn is(self, mutant: Mutant) -> bool {
        cfg!(feature = "mutants") && self.0 == Some(mutant)
    }
}
