//! Addresses as the configuration writes them (spec/03, Addresses).
//!
//! Parsing neither resolves a host name nor touches the system. What is printed parses to the same
//! value again; where the configuration has no prefix, none is printed, since the status shows
//! addresses to people and scripts as the original does.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Length of an address as text at most, in bytes (the original's `HAST_ADDRSIZE` less its NUL).
pub const ADDRESS_MAX_BYTES: usize = 1023;

/// Length of a host name at most, in bytes (`NI_MAXHOST` allows more; DNS does not).
const HOST_MAX_BYTES: usize = 255;

/// Length of a Unix socket's path at most, in bytes: `sun_path` less its NUL.
pub const SOCKET_PATH_MAX_BYTES: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// An address; host names are not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Address {
    /// `tcp://`, `tcp4://`, `tcp6://`, or nothing in front.
    Tcp {
        /// 4 or 6 if the prefix demands that family.
        family: Family,
        /// Host name or IP address, without brackets.
        host: String,
        /// 1..=65535. `None`: the default, 8457; for `source`, any.
        port: Option<u16>,
    },
    /// `uds://`, `unix://` or a path.
    Unix(PathBuf),
}

/// Which address family a TCP address may resolve to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `tcp://`
    Any,
    /// `tcp4://`
    V4,
    /// `tcp6://`
    V6,
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// Nothing there, or nothing after the prefix.
    Empty,
    /// Longer than [`ADDRESS_MAX_BYTES`], or a socket's path than [`SOCKET_PATH_MAX_BYTES`].
    TooLong,
    /// `something://` that is none of ours.
    Protocol,
    /// No host name and no IP address.
    Host,
    /// An IP address of one family after the prefix of the other.
    Family,
    /// No number of 1..=65535 after the colon.
    Port,
    /// A bracket without its pair, or something other than `:port` after it.
    Bracket,
    /// A control character.
    Character,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressError::Empty => "empty address",
            AddressError::TooLong => "address too long",
            AddressError::Protocol => "unknown protocol",
            AddressError::Host => "not a host name or IP address",
            AddressError::Family => "IP address of the other family than the prefix says",
            AddressError::Port => "not a port",
            AddressError::Bracket => "brackets do not match",
            AddressError::Character => "control character",
        })
    }
}

impl AddressError {
    /// What would have been right, in words that follow "expected".
    pub const fn expected(self) -> &'static str {
        match self {
            AddressError::Empty | AddressError::Protocol => {
                "tcp://, tcp4:// or tcp6:// with a host, uds:// or unix:// with a path, a host, \
                 or a path that starts with /"
            }
            AddressError::TooLong if cfg!(target_os = "linux") => {
                "at most 1023 bytes, and at most 107 for a socket's path"
            }
            AddressError::TooLong => "at most 1023 bytes, and at most 103 for a socket's path",
            AddressError::Host => "letters, digits, dots and hyphens, or an IP address",
            AddressError::Family => "tcp4:// with an IPv4 address, tcp6:// with an IPv6 address",
            AddressError::Port => "a number from 1 to 65535",
            AddressError::Bracket => "[address]:port",
            AddressError::Character => "printable characters",
        }
    }
}

impl std::error::Error for AddressError {}

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if text.len() > ADDRESS_MAX_BYTES {
            return Err(AddressError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(AddressError::Character);
        }
        if text.starts_with('/') {
            return unix(text);
        }
        match text.split_once("://") {
            None => tcp(Family::Any, text),
            Some(("tcp", rest)) => tcp(Family::Any, rest),
            Some(("tcp4", rest)) => tcp(Family::V4, rest),
            Some(("tcp6", rest)) => tcp(Family::V6, rest),
            Some(("uds" | "unix", rest)) => unix(rest),
            Some(_) => Err(AddressError::Protocol),
        }
    }
}

fn unix(path: &str) -> Result<Address, AddressError> {
    match path.len() {
        0 => Err(AddressError::Empty),
        1..=SOCKET_PATH_MAX_BYTES => Ok(Address::Unix(PathBuf::from(path))),
        _ => Err(AddressError::TooLong),
    }
}

fn tcp(family: Family, text: &str) -> Result<Address, AddressError> {
    let (host, port) = split_port(text)?;
    check_host(family, host)?;
    Ok(Address::Tcp {
        family,
        host: host.to_owned(),
        port,
    })
}

/// Splits `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.
fn split_port(text: &str) -> Result<(&str, Option<u16>), AddressError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(AddressError::Bracket)?;
        if !is_ipv6(host) {
            return Err(AddressError::Host);
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(parse_port(port)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(AddressError::Bracket),
        };
    }
    match text.split_once(':') {
        None => Ok((text, None)),
        // More than one colon: an IPv6 address that has no port.
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, port)) => Ok((host, Some(parse_port(port)?))),
    }
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AddressError::Port);
    }
    text.parse()
        .ok()
        .filter(|&port: &u16| port != 0)
        .ok_or(AddressError::Port)
}

/// An IPv6 address, with or without a zone (`fe80::1%em0`).
fn is_ipv6(host: &str) -> bool {
    let (address, zone) = host.split_once('%').unwrap_or((host, "0"));
    let zone_fits = !zone.is_empty()
        && zone.len() <= 64
        && zone
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    zone_fits && address.parse::<Ipv6Addr>().is_ok()
}

fn check_host(family: Family, host: &str) -> Result<(), AddressError> {
    if host.is_empty() {
        return Err(AddressError::Empty);
    }
    if host.len() > HOST_MAX_BYTES {
        return Err(AddressError::TooLong);
    }
    if is_ipv6(host) {
        return match family {
            Family::V4 => Err(AddressError::Family),
            Family::Any | Family::V6 => Ok(()),
        };
    }
    if host.parse::<Ipv4Addr>().is_ok() && family == Family::V6 {
        return Err(AddressError::Family);
    }
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if host.bytes().all(word) {
        Ok(())
    } else {
        Err(AddressError::Host)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (family, host, port) = match self {
            Address::Unix(path) => return write!(f, "uds://{}", path.display()),
            Address::Tcp { family, host, port } => (family, host, port),
        };
        f.write_str(match family {
            // A host that is called `none` needs a prefix: `remote none` means no peer.
            Family::Any if host == "none" && port.is_none() => "tcp://",
            Family::Any => "",
            Family::V4 => "tcp4://",
            Family::V6 => "tcp6://",
        })?;
        if host.contains(':') {
            write!(f, "[{host}]")?;
        } else {
            f.write_str(host)?;
        }
        port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Address, AddressError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        text.parse()
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, error) in [
            ("", AddressError::Empty),
            ("tcp4://", AddressError::Empty),
            ("uds://", AddressError::Empty),
            (":8457", AddressError::Empty),
            ("udp4://127.0.0.1:9471", AddressError::Protocol),
            ("tcp4://127.0.0.1:99999", AddressError::Port),
            ("tcp4://127.0.0.1:0", AddressError::Port),
            ("tcp4://127.0.0.1:", AddressError::Port),
            ("tcp4://127.0.0.1:+80", AddressError::Port),
            ("tcp6://[::1", AddressError::Bracket),
            ("tcp6://[::1]8457", AddressError::Bracket),
            ("[nodea]:1", AddressError::Host),
            ("1:2:3", AddressError::Host),
            ("a b", AddressError::Host),
            ("::1%", AddressError::Host),
            ("tcp4://[::1]", AddressError::Family),
            ("tcp6://10.0.0.1", AddressError::Family),
            ("/a\0b", AddressError::Character),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
        let long = format!("/{}", "x".repeat(SOCKET_PATH_MAX_BYTES));
        assert_eq!(parse(&long), Err(AddressError::TooLong));
        assert!(parse(&long[1..]).is_ok());
        assert!(parse(&long[..SOCKET_PATH_MAX_BYTES]).is_ok());
        assert_eq!(parse(&"x".repeat(256)), Err(AddressError::TooLong));
        assert_eq!(parse(&"x".repeat(2000)), Err(AddressError::TooLong));
    }

    #[test]
    fn every_form_of_the_manual_is_understood() {
        let tcp = |family, host: &str, port| Address::Tcp {
            family,
            host: host.to_owned(),
            port,
        };
        for (text, address) in [
            ("nodeb", tcp(Family::Any, "nodeb", None)),
            ("nodeb:1", tcp(Family::Any, "nodeb", Some(1))),
            (
                "tcp://10.0.0.2:65535",
                tcp(Family::Any, "10.0.0.2", Some(65535)),
            ),
            (
                "tcp4://0.0.0.0:8457",
                tcp(Family::V4, "0.0.0.0", Some(8457)),
            ),
            ("tcp6://[::]:8457", tcp(Family::V6, "::", Some(8457))),
            ("tcp6://[::1]", tcp(Family::V6, "::1", None)),
            ("fe80::1%em0", tcp(Family::Any, "fe80::1%em0", None)),
            ("uds:///var/run/x", Address::Unix("/var/run/x".into())),
            ("unix://x", Address::Unix("x".into())),
            ("/var/run/x", Address::Unix("/var/run/x".into())),
        ] {
            assert_eq!(parse(text), Ok(address), "{text:?}");
        }
    }

    #[test]
    fn an_address_prints_as_it_was_written() {
        for text in [
            "nodeb",
            "10.0.0.2:8457",
            "tcp4://10.0.0.2",
            "tcp6://[::1]:1",
            "tcp://none",
        ] {
            assert_eq!(
                parse(text).map(|address| address.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_to_the_same_address(
            text in "(tcp|tcp4|tcp6|uds|unix|)(://)?[\\[]?[a-z0-9.:/ ]{0,12}[\\]]?(:[0-9]{1,6})?"
        ) {
            if let Ok(address) = parse(&text) {
                prop_assert_eq!(parse(&address.to_string()), Ok(address));
            }
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = parse(&text);
        }
    }
}
