//! Who an operation of the driver belongs to, as its token says in the bits from 56 on.

use crate::io::proactor::Token;

/// The front end's.
pub(super) const DEVICE_TAG: u8 = 1;
/// The local component's.
pub(super) const DISK: Token = 2 << 56;
/// The channel to the parent.
pub(super) const CHANNEL: Token = 3 << 56;
/// The peer's, of whichever connection.
pub(super) const PEER: Token = 4 << 56;

/// The owner's bits.
pub(super) fn owner(token: Token) -> Token {
    token & (0xff << 56)
}

/// The front end's, as [`owner`] gives it.
pub(super) const DEVICE: Token = (DEVICE_TAG as Token) << 56;

/// A token of connection A (0) or B (1) of a session; the lower 33 bits are the stream's.
pub(super) fn peer(session: u32, connection: Token) -> Token {
    PEER | Token::from(session & 0x3f_ffff) << 34 | connection << 33
}
