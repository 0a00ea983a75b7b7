//! The control socket: hastctl's requests and the daemon's replies (spec/04, "Control socket").
//!
//! Same packets as between nodes, version byte 2, one [`ControlRequest`] and one [`ControlReply`]
//! per connection. FreeBSD's hastctl and hastd speak everything here but the pairs that begin with
//! `x-`, which they ignore, and the commands from [`STOP`] upwards, which they answer with
//! [`ControlError::UNIMPLEMENTED`]:
//!
//! * `x-json` (uint8 1) in a request asks for `x-json<i>` (string) with each resource of a status
//!   reply: the state as JSON, of which this module knows nothing else;
//!   `x-json` (string) in such an answer is the daemon's own state;
//! * `x-text<i>` and `x-text` (strings) say in words what `error<i>` and `error` are about;
//! * `x-arg` (string) is the argument of a command of [`Order::Extension`].
//!
//! Pairs of resource number `i` have the number as a suffix of their name: `resource0`, `role0`.
//! The list ends where a number is missing, as in the original.

mod reply;
mod request;

pub use reply::{
    ControlReply, ReplyError, ResourceReply, ResourceState, ResourceStatus, Statistics, WorkerState,
};
pub use request::{BadControlRequest, ControlRequest, Order};

/// Most resources in one request or reply.
pub const RESOURCES_MAX: usize = 65535;

/// First of the commands that are this program's own.
pub const STOP: u8 = 64;

/// The orders by which an administrator steers a resource: commands of [`Order::Extension`].
pub mod steer {
    /// Let synchronisations rest.
    pub const PAUSE_SYNC: u8 = 70;
    /// Let them go on.
    pub const RESUME_SYNC: u8 = 71;
    /// How fast they may go; the argument is as in hast.conf, none means what hast.conf says.
    pub const SYNC_RATE: u8 = 72;
    /// Connect again after [`DISCONNECT`].
    pub const CONNECT: u8 = 73;
    /// Stay apart from the peer until [`CONNECT`]; the argument [`FORCE`] accepts that the
    /// applications can do nothing then.
    pub const DISCONNECT: u8 = 74;
    /// Become primary, even on a copy that is known to be incomplete.
    pub const FORCE_PRIMARY: u8 = 75;

    /// The argument of a command that is carried out although it may cost something.
    pub const FORCE: &str = "force";
}
/// Our own: events; the argument says which ([`crate::events::Query`]), the daemon's JSON is a
/// [`crate::events::Page`]. Resources as for a status.
pub const EVENTS: u8 = 96;

/// An error number of the control protocol, never 0: one of the constants, or FreeBSD's errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlError(i16);

impl ControlError {
    /// No such resource.
    pub const NO_ENTRY: ControlError = ControlError(1);
    /// The request makes no sense.
    pub const INVALID: ControlError = ControlError(2);
    /// Out of memory.
    pub const NO_MEMORY: ControlError = ControlError(3);
    /// No such command.
    pub const UNIMPLEMENTED: ControlError = ControlError(4);
    /// FreeBSD's EIO: a role could not be taken.
    pub const ROLE_NOT_TAKEN: ControlError = ControlError(5);
    /// Ours: the resource has another role than the command needs (EX_UNAVAILABLE).
    pub const WRONG_ROLE: ControlError = ControlError(69);
    /// Ours: what has to be kept cannot be kept (EX_IOERR).
    pub const NOT_KEPT: ControlError = ControlError(74);
    /// Ours: the command would cost data or service and is to be forced (EX_NOPERM).
    pub const NEEDS_FORCE: ControlError = ControlError(77);

    /// The number of the wire; `None` for 0, which is success.
    pub fn from_wire(number: i16) -> Option<ControlError> {
        (number != 0).then_some(ControlError(number))
    }

    /// The number for the wire and for messages.
    pub fn number(self) -> i16 {
        self.0
    }
}

/// Splits `resource12` into `resource` and 12. `None` without a number, with one that is too large
/// for any list, or written in another way than the encoder's.
fn split_index(name: &[u8]) -> Option<(&[u8], usize)> {
    let digits = name
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (stem, digits) = name.split_at(name.len() - digits);
    if digits.len() > 1 && digits.first() == Some(&b'0') {
        return None;
    }
    let index: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    // One more than allowed, so that the reader notices that there are too many.
    (index <= RESOURCES_MAX).then_some((stem, index))
}

#[cfg(test)]
mod tests;
