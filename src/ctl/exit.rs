//! Exit codes, those of sysexits(3).

/// All went well.
pub const OK: u8 = 0;
/// The command line is wrong.
pub const USAGE: u8 = 64;
/// What the command works on is wrong: an unknown resource, sizes, metadata.
pub const DATAERR: u8 = 65;
/// The local component does not exist, cannot be opened or was never created.
pub const NOINPUT: u8 = 66;
/// The daemon was reached and did not answer.
pub const UNAVAILABLE: u8 = 69;
/// The daemon refused the whole request, or answered something else.
pub const SOFTWARE: u8 = 70;
/// The daemon cannot be reached: it does not run.
pub const OSERR: u8 = 71;
/// Reading or writing failed.
pub const IOERR: u8 = 74;
/// The local component is in use; it may be free later.
pub const TEMPFAIL: u8 = 75;

/// It would cost data, and nobody has agreed.
pub const REFUSED: u8 = 77;

/// The code of a command that did several things: the first that is not [`OK`].
pub fn first(before: u8, now: u8) -> u8 {
    if before == OK { now } else { before }
}
