//! How many connections wait for their first packet: of one address, and in total.
//!
//! When there is no room for one more, the oldest connection of the address that has most gives
//! way: whoever floods the port displaces itself, not others.

use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Connections of one address at most. Hundreds of resources may connect from it after a restart,
/// but each says its first packet at once and is no guest any more.
const PER_ADDRESS_MAX: usize = 24;

/// Connections in total at most: each holds a descriptor and some kilobytes. The confinement of
/// the listener allows 64 descriptors of peers, some of which may be on their way to the parent.
const TOTAL_MAX: usize = 48;

#[derive(Debug)]
struct Guest<C> {
    address: Option<IpAddr>,
    since: Instant,
    connection: C,
}

/// The connections that wait, oldest first.
#[derive(Debug)]
pub(super) struct Guests<C> {
    list: Vec<Guest<C>>,
    patience: Duration,
}

impl<C> Guests<C> {
    /// None yet; each may take `patience`.
    pub(super) fn new(patience: Duration) -> Guests<C> {
        Guests {
            list: Vec::new(),
            patience,
        }
    }

    /// Takes a connection in; the one that gives way for it, if any.
    pub(super) fn admit(
        &mut self,
        address: Option<IpAddr>,
        connection: C,
        now: Instant,
    ) -> Option<C> {
        let leaves = if self.count(address) >= PER_ADDRESS_MAX {
            self.oldest_of(address)
        } else if self.list.len() >= TOTAL_MAX {
            self.oldest_of(self.most_frequent())
        } else {
            None
        };
        let left = leaves.map(|at| self.list.remove(at).connection);
        self.list.push(Guest {
            address,
            since: now,
            connection,
        });
        left
    }

    fn count(&self, address: Option<IpAddr>) -> usize {
        self.list
            .iter()
            .filter(|guest| guest.address == address)
            .count()
    }

    fn oldest_of(&self, address: Option<IpAddr>) -> Option<usize> {
        self.list.iter().position(|guest| guest.address == address)
    }

    /// The address with most connections; among equals, that of the oldest.
    fn most_frequent(&self) -> Option<IpAddr> {
        let mut best = (0, None);
        for guest in &self.list {
            let count = self.count(guest.address);
            if count > best.0 {
                best = (count, guest.address);
            }
        }
        best.1
    }

    /// Takes out those whose time is over.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<C> {
        let patience = self.patience;
        let late = self
            .list
            .iter()
            .take_while(|guest| now.saturating_duration_since(guest.since) >= patience)
            .count();
        self.list
            .drain(..late)
            .map(|guest| guest.connection)
            .collect()
    }

    /// When the next one's time is over.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.list.first().map(|guest| guest.since + self.patience)
    }

    /// All, for polling.
    pub(super) fn iter(&self) -> impl Iterator<Item = &C> {
        self.list.iter().map(|guest| &guest.connection)
    }

    /// One by its place, for reading.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut C> {
        self.list.get_mut(at).map(|guest| &mut guest.connection)
    }

    /// Takes one out by its place.
    pub(super) fn remove(&mut self, at: usize) -> Option<C> {
        (at < self.list.len()).then(|| self.list.remove(at).connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn a_flood_of_one_address_displaces_itself() {
        let now = Instant::now();
        let mut guests = Guests::new(Duration::from_secs(5));
        guests.admit(address(1), 1000, now);
        for number in 0..PER_ADDRESS_MAX {
            assert_eq!(guests.admit(address(2), number, now), None);
        }
        assert_eq!(guests.admit(address(2), PER_ADDRESS_MAX, now), Some(0));
        assert!(guests.iter().any(|&guest| guest == 1000));
    }

    #[test]
    fn a_flood_of_many_addresses_is_bounded() {
        let now = Instant::now();
        let mut guests = Guests::new(Duration::from_secs(5));
        for number in 0..2 * TOTAL_MAX {
            let flooder = u8::try_from(number / (PER_ADDRESS_MAX - 1)).unwrap();
            guests.admit(address(flooder), number, now);
        }
        assert_eq!(guests.iter().count(), TOTAL_MAX);
    }

    #[test]
    fn silent_connections_expire() {
        let now = Instant::now();
        let mut guests = Guests::new(Duration::from_secs(5));
        guests.admit(address(1), 1, now);
        guests.admit(address(1), 2, now + Duration::from_secs(1));
        assert_eq!(guests.next_deadline(), Some(now + Duration::from_secs(5)));
        assert_eq!(guests.expired(now + Duration::from_secs(5)), [1]);
        assert_eq!(guests.iter().count(), 1);
    }
}
