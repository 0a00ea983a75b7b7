//! The child that looks up one name: it gives up first what no look-up needs.

use std::collections::BTreeSet;
use std::net::{IpAddr, ToSocketAddrs};

use crate::daemon::{confine, errand};
use crate::ipc::{FromResolver, RESOLVER_PROTOCOL, ToResolver};

/// The life of a resolver; returns its exit code.
pub fn main() -> u8 {
    errand::exit_code(errand::run(RESOLVER_PROTOCOL, obey))
}

fn obey(order: ToResolver) -> FromResolver {
    let ToResolver::Resolve {
        host,
        user,
        confine,
    } = order;
    match confine::resolver(&user, confine) {
        Ok(()) => resolve(&host),
        Err(reason) => FromResolver::Failed(reason),
    }
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
