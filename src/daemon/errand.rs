//! What small children have in common: how their lives end, and the life of one that is started for
//! a single order.

use privsep::channel::{Channel, Message, Protocol};
use privsep::process::take_ipc;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The exit code of a child that failed: `EX_OSERR` of sysexits(3).
const FAILED: u8 = 71;

/// The exit code of a child whose life ended like this.
pub(super) fn exit_code(lived: Result<(), String>) -> u8 {
    match lived {
        Ok(()) => 0,
        Err(reason) => {
            // Seen by whoever starts such a child by hand; the parent gives it no terminal, and was
            // told over the channel where possible.
            eprintln!("hastd: {reason}");
            FAILED
        }
    }
}

/// Receives one order, answers it, and ends.
///
/// # Errors
/// There is no channel to a parent, or it failed.
pub(super) fn run<Answer, Order>(
    protocol: Protocol,
    answer: impl FnOnce(Order) -> Answer,
) -> Result<(), String>
where
    Answer: Message + Serialize,
    Order: Message + DeserializeOwned,
{
    let socket = take_ipc().map_err(|error| error.to_string())?;
    let mut channel: Channel<Answer, Order> =
        Channel::new(socket, protocol).map_err(|error| error.to_string())?;
    let (order, _) = channel.receive(None).map_err(|error| error.to_string())?;
    channel
        .send(&answer(order), Vec::new())
        .and_then(|()| channel.drain(None))
        .map_err(|error| error.to_string())
}
