//! Host names of the configuration and their addresses.
//!
//! Looking up a name waits and reads what the network says, both of which the parent never does:
//! a short-lived unprivileged child does it ([`resolver`]). Results are kept, so that a peer can be
//! compared with the addresses of its name at once. IP addresses and Unix sockets need no look-up.

pub mod resolver;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use privsep::process::Program;

use super::child::{Mode, Process};
use super::socket::{End, Place};
use crate::conf::model::{Address, DEFAULT_PORT, Family};
use crate::ipc::{FromResolver, RESOLVER_PROTOCOL, ToResolver};

/// Look-ups at the same time at most.
const RUNNING_MAX: usize = 4;

/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a result is used for connecting without another look-up.
pub const FRESH: Duration = Duration::from_secs(10);

/// A name's addresses at most; the rest is dropped.
const ADDRESSES_MAX: usize = 64;

/// Who looks up names.
#[derive(Clone, Debug)]
pub struct Account {
    /// User to become, if root.
    pub user: String,
    /// Whether it is an error if that is not possible.
    pub confine: bool,
}

/// What is known of an address of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Where it is; never empty.
    Places(Vec<Place>),
    /// It has no address: why, in words.
    Failed(String),
    /// It is being looked up.
    Pending,
}

#[derive(Debug)]
struct Known {
    at: Instant,
    result: Result<Vec<IpAddr>, String>,
}

#[derive(Debug)]
struct Running {
    host: String,
    process: Process<ToResolver, FromResolver>,
    deadline: Instant,
    result: Option<Result<Vec<IpAddr>, String>>,
}

/// Every name that was looked up, and the look-ups under way.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<String, Known>,
    queue: VecDeque<String>,
    running: Vec<Running>,
}

impl Names {
    /// The places of an address, not older than `since` if it has to be looked up; a look-up is
    /// begun where there is none.
    pub fn lookup(&mut self, address: &Address, since: Instant) -> Lookup {
        let (family, host, port) = match address {
            Address::Unix(path) => return Lookup::Places(vec![Place::Unix(path.clone())]),
            Address::Tcp { family, host, port } => (*family, host, port.unwrap_or(DEFAULT_PORT)),
        };
        if let Some(address) = numeric(host, port) {
            return Lookup::Places(vec![Place::Inet(address)]);
        }
        let known = self.known.get(host).filter(|known| known.at >= since);
        let Some(known) = known else {
            self.begin(host);
            return Lookup::Pending;
        };
        match &known.result {
            Err(reason) => Lookup::Failed(reason.clone()),
            Ok(addresses) => {
                let places: Vec<Place> = addresses
                    .iter()
                    .filter(|address| fits(family, address))
                    .map(|&address| Place::Inet(SocketAddr::new(address, port)))
                    .collect();
                if places.is_empty() {
                    return Lookup::Failed(format!("{host} has no address of that family"));
                }
                Lookup::Places(places)
            }
        }
    }

    /// Whether the peer's address is one of this address, as far as is known now; ports are
    /// ignored. A Unix socket's peers are those that the modes of its file admit.
    pub fn matches(&self, address: &Address, peer: &End) -> bool {
        match address {
            Address::Unix(_) => matches!(peer, End::Unix(_)),
            Address::Tcp { family, host, .. } => {
                let Some(ip) = peer.ip() else {
                    return false;
                };
                if let Some(own) = numeric(host, 0) {
                    return own.ip().to_canonical() == ip;
                }
                let known = self.known.get(host);
                known.is_some_and(|known| {
                    known.result.as_ref().is_ok_and(|addresses| {
                        addresses
                            .iter()
                            .any(|own| fits(*family, own) && own.to_canonical() == ip)
                    })
                })
            }
        }
    }

    /// Looks an address up again unless that was done lately.
    pub fn refresh(&mut self, address: &Address, now: Instant) {
        // None is later than the beginning of time, which a fresh machine may not have reached.
        let since = now.checked_sub(FRESH).unwrap_or(now);
        let _ = self.lookup(address, since);
    }

    fn begin(&mut self, host: &str) {
        let queued = self.queue.iter().any(|other| other == host);
        let running = self.running.iter().any(|other| other.host == host);
        if !queued && !running {
            self.queue.push_back(host.to_owned());
        }
    }

    /// Starts what is queued, hears what is running, ends what takes too long.
    pub fn tick(&mut self, program: &Program, account: &Account, now: Instant) {
        for running in &mut self.running {
            running.hear(now);
        }
        let mut at = 0;
        while at < self.running.len() {
            match self.running[at].finished(now) {
                None => at += 1,
                Some(result) => {
                    let host = self.running.swap_remove(at).host;
                    self.known.insert(host, Known { at: now, result });
                }
            }
        }
        while self.running.len() < RUNNING_MAX {
            let Some(host) = self.queue.pop_front() else {
                break;
            };
            match Running::start(program, account, host.clone(), now) {
                Ok(running) => self.running.push(running),
                Err(reason) => {
                    let result = Err(reason);
                    self.known.insert(host, Known { at: now, result });
                }
            }
        }
    }

    /// Forgets names that the configuration does not have any more.
    pub fn retain(&mut self, used: impl Fn(&str) -> bool) {
        self.known.retain(|host, _| used(host));
        self.queue.retain(|host| used(host));
    }

    /// The descriptors to poll for reading.
    pub fn polled(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.running
            .iter()
            .filter_map(|running| running.process.polled().map(|(descriptor, _)| descriptor))
    }

    /// When [`Names::tick`] has something to do without being woken.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if !self.queue.is_empty() && self.running.len() < RUNNING_MAX {
            return Some(now);
        }
        self.running
            .iter()
            .filter_map(|running| {
                if running.result.is_some() {
                    running.process.next_deadline(now)
                } else {
                    Some(running.deadline)
                }
            })
            .min()
    }

    /// Ends every look-up.
    pub fn shut_down(&mut self, now: Instant) {
        self.queue.clear();
        for running in &mut self.running {
            running.process.kill(now);
        }
    }
}

impl Running {
    fn start(
        program: &Program,
        account: &Account,
        host: String,
        now: Instant,
    ) -> Result<Running, String> {
        let mut process = Process::start(
            program,
            "hastd: resolver",
            Mode::Resolver,
            RESOLVER_PROTOCOL,
        )?;
        let order = ToResolver::Resolve {
            host: host.clone(),
            user: account.user.clone(),
            confine: account.confine,
        };
        // A child that cannot be told shows as one that ends without an answer.
        let _ = process.send(&order, Vec::new());
        Ok(Running {
            host,
            process,
            deadline: now + PATIENCE,
            result: None,
        })
    }

    fn hear(&mut self, now: Instant) {
        if self.result.is_some() {
            return;
        }
        self.result = match self.process.receive(now) {
            Ok(None) if now < self.deadline => return,
            Ok(None) => Some(Err(format!(
                "no answer of the name service within {} s",
                PATIENCE.as_secs()
            ))),
            Ok(Some((FromResolver::Addresses(mut addresses), _))) => {
                addresses.truncate(ADDRESSES_MAX);
                Some(Ok(addresses))
            }
            Ok(Some((FromResolver::Failed(reason), _))) => {
                Some(Err(super::log::sanitised(&reason)))
            }
            Err(error) => Some(Err(format!("the resolver misbehaves: {error}"))),
        };
        // It has done what it is for, or never will.
        self.process.kill(now);
    }

    /// The result, when the process is gone.
    fn finished(&mut self, now: Instant) -> Option<Result<Vec<IpAddr>, String>> {
        let ending = self.process.ending();
        if ending.is_none() {
            self.process.tick(now);
            return None;
        }
        // Its last words may have come after the last hearing.
        self.hear(now);
        let silent = || {
            Err(format!(
                "the resolver {}",
                ending.map_or_else(String::new, |ending| ending.to_string())
            ))
        };
        Some(self.result.take().unwrap_or_else(silent))
    }
}

fn fits(family: Family, address: &IpAddr) -> bool {
    match family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    }
}

/// An IP address, with its zone if it has one (`fe80::1%em0`); the family was checked when the
/// configuration was read.
fn numeric(host: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, port));
    }
    let (address, zone) = host.split_once('%')?;
    let address = address.parse::<Ipv6Addr>().ok()?;
    let scope = match zone.parse() {
        Ok(number) => number,
        // An interface that does not exist yet: no address of ours, connecting says so.
        Err(_) => nix::net::if_::if_nametoindex(zone).unwrap_or(0),
    };
    Some(SocketAddrV6::new(address, port, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> End {
        End::Inet(text.parse().unwrap())
    }

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn known(names: &mut Names, host: &str, addresses: &[&str], at: Instant) {
        let addresses = addresses
            .iter()
            .map(|address| address.parse().unwrap())
            .collect();
        names.known.insert(
            host.to_owned(),
            Known {
                at,
                result: Ok(addresses),
            },
        );
    }

    #[test]
    fn peers_are_compared_by_ip_address_and_port_is_ignored() {
        let names = Names::default();
        let remote = address("tcp4://10.0.0.1:8457");
        assert!(names.matches(&remote, &end("10.0.0.1:1")));
        assert!(names.matches(&remote, &end("[::ffff:10.0.0.1]:1")));
        assert!(!names.matches(&remote, &end("10.0.0.2:8457")));
        assert!(!names.matches(&remote, &End::Unix(None)));
        assert!(!names.matches(&remote, &End::Other));
    }

    #[test]
    fn every_address_of_a_name_is_admitted_but_those_of_the_other_family() {
        let mut names = Names::default();
        assert!(!names.matches(&address("nodeb"), &end("10.0.0.1:1")));
        known(
            &mut names,
            "nodeb",
            &["10.0.0.1", "10.0.0.2", "fd00::1"],
            Instant::now(),
        );
        for peer in ["10.0.0.1:1", "10.0.0.2:1", "[fd00::1]:1"] {
            assert!(names.matches(&address("nodeb"), &end(peer)));
        }
        assert!(!names.matches(&address("tcp4://nodeb"), &end("[fd00::1]:1")));
        assert!(!names.matches(&address("nodeb"), &end("10.0.0.3:1")));
    }

    #[test]
    fn a_result_is_used_until_a_later_one_is_wanted() {
        let now = Instant::now();
        let mut names = Names::default();
        known(&mut names, "nodeb", &["10.0.0.1"], now);
        let places = vec![Place::Inet("10.0.0.1:8457".parse().unwrap())];
        assert_eq!(names.lookup(&address("nodeb"), now), Lookup::Places(places));
        let later = now + Duration::from_secs(1);
        assert_eq!(names.lookup(&address("nodeb"), later), Lookup::Pending);
        assert_eq!(names.lookup(&address("nodeb"), later), Lookup::Pending);
        assert_eq!(names.queue.len(), 1, "one look-up for all that want it");
    }

    #[test]
    fn addresses_in_numbers_and_unix_sockets_need_no_look_up() {
        let mut names = Names::default();
        let now = Instant::now();
        assert_eq!(
            names.lookup(&address("tcp6://[::1]"), now),
            Lookup::Places(vec![Place::Inet("[::1]:8457".parse().unwrap())])
        );
        assert_eq!(
            names.lookup(&address("/s"), now),
            Lookup::Places(vec![Place::Unix("/s".into())])
        );
        assert_eq!(
            numeric("fe80::1%7", 1),
            Some(SocketAddrV6::new("fe80::1".parse().unwrap(), 1, 0, 7).into())
        );
        assert!(names.queue.is_empty());
    }
}
