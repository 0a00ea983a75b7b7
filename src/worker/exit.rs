//! How a worker ends: exit statuses of sysexits(3), and failures in words.

/// The end was asked for.
pub(super) const OK: u8 = 0;
/// The local component cannot be opened, is in use, or holds no metadata of this resource.
pub(super) const NOINPUT: u8 = 66;
/// A fault of this program.
pub(super) const SOFTWARE: u8 = 70;
/// The system refuses something that it should grant.
pub(super) const OSERR: u8 = 71;
/// It may work later: the connection is gone, or the parent.
pub(super) const TEMPFAIL: u8 = 75;
/// The copy is incomplete, and nobody has said to use it all the same.
pub(super) const REFUSED: u8 = crate::ipc::EXIT_REFUSED;
/// A panic, as the standard library ends a program by one: the daemon starts another worker.
pub(super) const PANIC: u8 = 101;
/// The nodes do not fit each other, or a step of the confinement failed.
pub(super) const CONFIG: u8 = 78;

/// Why a worker cannot do what it was started for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// In words, for the log and for hastctl.
    pub(super) reason: String,
    /// The exit status that follows.
    pub(super) status: u8,
}

impl Failure {
    /// A failure with that status.
    pub(super) fn new(status: u8, reason: impl Into<String>) -> Failure {
        Failure {
            reason: reason.into(),
            status,
        }
    }
}
