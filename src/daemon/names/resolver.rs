//! The child that looks up one name: it gives up first what no look-up needs.

use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs};

use privsep::channel::Channel;
use privsep::process::take_ipc;

use crate::daemon::confine;
use crate::ipc::{FromResolver, RESOLVER_PROTOCOL, ToResolver};

/// The life of a resolver; returns its exit code.
pub fn main() -> u8 {
    match run() {
        Ok(()) => 0,
        Err(reason) => {
            // Seen by whoever starts such a child by hand; the parent gives it no terminal.
            eprintln!("hastd: {reason}");
            71
        }
    }
}

fn run() -> Result<(), String> {
    let socket = take_ipc().map_err(|error| error.to_string())?;
    let mut channel: Channel<FromResolver, ToResolver> =
        Channel::new(socket, RESOLVER_PROTOCOL).map_err(|error| error.to_string())?;
    let (order, _) = channel.receive(None).map_err(|error| error.to_string())?;
    let ToResolver::Resolve {
        host,
        user,
        confine,
    } = order;
    let answer = match confine::resolver(&user, confine) {
        Ok(()) => resolve(&host),
        Err(reason) => FromResolver::Failed(reason),
    };
    channel
        .send(&answer, Vec::new())
        .and_then(|()| channel.drain(None))
        .map_err(|error| error.to_string())
}

fn resolve(host: &str) -> FromResolver {
    match (host, 0u16).to_socket_addrs() {
        Err(error) => FromResolver::Failed(error.to_string()),
        Ok(found) => {
            let mut seen = BTreeSet::new();
            let addresses: Vec<IpAddr> = found
                .map(|address| address.ip())
                .filter(|address| seen.insert(*address))
                .collect();
            if addresses.is_empty() {
                return FromResolver::Failed(format!("{host} has no address"));
            }
            FromResolver::Addresses(addresses)
        }
    }
}
