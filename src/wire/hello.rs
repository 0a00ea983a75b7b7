//! The handshake as bytes (spec/01, 3): four messages, two on each connection.
//!
//! | message | type | connection |
//! |---|---|---|
//! | 1. primary: which resource, which version | [`Opening::First`] | A |
//! | 2. secondary's daemon: version and token, or a refusal | [`Answer`] | A |
//! | 3. primary: token, unique id, counters | [`Opening::Second`] | B |
//! | 4. secondary's worker: sizes, counters, bitmap, or a refusal | [`Verdict`] | A |
//!
//! Each carries an [`Offer`] of extensions, as `x-` pairs that a peer without them ignores.

use std::fmt;

use super::message::{PROTOCOL_VERSION, PrimaryHello, SecondaryHello, SyncSource, TOKEN_BYTES};
use super::nv::{Block, Entry, Writer, WrongKind};
use super::packet::{self, Packet, VERSION_INITIAL};
use super::stages::{DataHead, DataPairs, StageError};
use crate::terms::RESOURCE_NAME_MAX_BYTES;

/// Text by which a primary recognises split-brain.
pub const SPLIT_BRAIN_TEXT: &str = "Split-brain condition!";

/// Ties the two connections of a session together.
pub type Token = [u8; TOKEN_BYTES];

/// What is wrong with a message of the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloError {
    /// A pair that it needs is missing.
    Missing(&'static str),
    /// A pair has the wrong type.
    Kind(&'static str, WrongKind),
    /// A pair's value is outside what is possible.
    Value(&'static str),
    /// The token has another length than [`TOKEN_BYTES`].
    TokenBytes(usize),
    /// The resource's name is empty or longer than [`RESOURCE_NAME_MAX_BYTES`].
    ResourceBytes(usize),
    /// Data with a message that has none.
    UnexpectedData,
    /// The bitmap, or what is said about it.
    Map(StageError),
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HelloError::Missing(name) => write!(f, "pair '{name}' is missing"),
            HelloError::Kind(name, kind) => write!(f, "pair '{name}' {kind}"),
            HelloError::Value(name) => write!(f, "pair '{name}' has an impossible value"),
            HelloError::TokenBytes(found) => {
                write!(f, "token of {found} bytes instead of {TOKEN_BYTES}")
            }
            HelloError::ResourceBytes(found) => write!(
                f,
                "resource name of {found} bytes, allowed are 1 to {RESOURCE_NAME_MAX_BYTES}"
            ),
            HelloError::UnexpectedData => f.write_str("data where there are none"),
            HelloError::Map(error) => write!(f, "bitmap: {error}"),
        }
    }
}

impl std::error::Error for HelloError {}

/// Extensions that the sender of a message understands. An absent one is not offered; nothing is
/// used before both sides have offered it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// `x-request` (uint32): longest read or write that the sender accepts, in bytes, never 0.
    pub request_bytes: Option<u32>,
    /// `x-heartbeat` (uint8 1): the sender answers keepalives.
    pub heartbeat: bool,
    /// `x-copy` (uint8 1): the sender knows the commands `ahead` and `in step`.
    pub copy_states: bool,
    /// `x-steer` (uint8 1): the sender knows the command `target`.
    pub steering: bool,
}

impl Offer {
    /// Nothing: what FreeBSD's daemon offers.
    pub const NONE: Offer = Offer {
        request_bytes: None,
        heartbeat: false,
        copy_states: false,
        steering: false,
    };

    fn write(self, pairs: &mut Writer<'_>) {
        if let Some(bytes) = self.request_bytes {
            pairs.u32("x-request", bytes);
        }
        if self.heartbeat {
            pairs.u8("x-heartbeat", 1);
        }
        if self.copy_states {
            pairs.u8("x-copy", 1);
        }
        if self.steering {
            pairs.u8("x-steer", 1);
        }
    }

    fn read(pairs: Pairs<'_>) -> Result<Offer, HelloError> {
        let request_bytes = pairs.number("x-request", Entry::u32)?;
        if request_bytes == Some(0) {
            return Err(HelloError::Value("x-request"));
        }
        Ok(Offer {
            request_bytes,
            heartbeat: pairs.number("x-heartbeat", Entry::u8)? == Some(1),
            copy_states: pairs.number("x-copy", Entry::u8)? == Some(1),
            steering: pairs.number("x-steer", Entry::u8)? == Some(1),
        })
    }
}

/// Look-ups with the errors of this module.
#[derive(Clone, Copy)]
struct Pairs<'a>(Block<'a>);

impl<'a> Pairs<'a> {
    fn number<T>(
        self,
        name: &'static str,
        read: impl Fn(&Entry<'a>) -> Result<T, WrongKind>,
    ) -> Result<Option<T>, HelloError> {
        let entry = self.0.find(name);
        entry
            .map(|entry| read(&entry).map_err(|kind| HelloError::Kind(name, kind)))
            .transpose()
    }

    fn needed<T>(
        self,
        name: &'static str,
        read: impl Fn(&Entry<'a>) -> Result<T, WrongKind>,
    ) -> Result<T, HelloError> {
        self.number(name, read)?.ok_or(HelloError::Missing(name))
    }

    fn token(self) -> Result<Option<Token>, HelloError> {
        let Some(token) = self.number("token", Entry::bytes)? else {
            return Ok(None);
        };
        token
            .try_into()
            .map(Some)
            .map_err(|_| HelloError::TokenBytes(token.len()))
    }

    /// `virgin` is an int8 in the original; 0 and absent are the same.
    fn virgin(self) -> Result<bool, HelloError> {
        match self.number("virgin", Entry::i8)? {
            None | Some(0) => Ok(false),
            Some(1) => Ok(true),
            Some(_) => Err(HelloError::Value("virgin")),
        }
    }

    /// `errmsg`, in whatever encoding: it is only shown.
    fn refusal(self) -> Result<Option<String>, HelloError> {
        let text = self.number("errmsg", Entry::string_bytes)?;
        Ok(text.map(|text| String::from_utf8_lossy(text).into_owned()))
    }
}

/// The first message on a connection: it says what the connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// Connection A: the beginning of a session.
    First {
        /// The resource's name.
        resource: String,
        /// The highest version that the primary speaks; 1 if it did not say.
        version: u8,
        /// Extensions.
        offer: Offer,
    },
    /// Connection B: its second step.
    Second {
        /// The resource's name.
        resource: String,
        /// The token of the answer on connection A.
        token: Token,
        /// The rest.
        hello: PrimaryHello,
        /// Extensions.
        offer: Offer,
    },
}

impl Opening {
    /// The resource's name.
    pub fn resource(&self) -> &str {
        match self {
            Opening::First { resource, .. } | Opening::Second { resource, .. } => resource,
        }
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Opening::First {
                resource,
                version,
                offer,
            } => {
                packet::write(out, VERSION_INITIAL, |pairs| {
                    pairs.string("resource", resource).u8("version", *version);
                    offer.write(pairs);
                });
            }
            Opening::Second {
                resource,
                token,
                hello,
                offer,
            } => {
                packet::write(out, PROTOCOL_VERSION, |pairs| {
                    pairs.string("resource", resource).bytes("token", token);
                    if hello.virgin {
                        pairs.i8("virgin", 1);
                    }
                    pairs
                        .u64("resuid", hello.resuid)
                        .u64("localcnt", hello.localcnt)
                        .u64("remotecnt", hello.remotecnt);
                    offer.write(pairs);
                });
            }
        }
    }

    /// The message of a packet: with a token it is the second step, without the first.
    ///
    /// # Errors
    /// What is wrong.
    pub fn decode(packet: &Packet<'_>) -> Result<Opening, HelloError> {
        let pairs = Pairs(packet.block);
        if packet.data_bytes != 0 {
            return Err(HelloError::UnexpectedData);
        }
        let resource = pairs.needed("resource", Entry::str)?;
        if !(1..=RESOURCE_NAME_MAX_BYTES).contains(&resource.len()) {
            return Err(HelloError::ResourceBytes(resource.len()));
        }
        let resource = resource.to_owned();
        let offer = Offer::read(pairs)?;
        let Some(token) = pairs.token()? else {
            let version = pairs.number("version", Entry::u8)?.unwrap_or(1);
            return Ok(Opening::First {
                resource,
                version,
                offer,
            });
        };
        let hello = PrimaryHello {
            virgin: pairs.virgin()?,
            resuid: pairs.needed("resuid", Entry::u64)?,
            localcnt: pairs.needed("localcnt", Entry::u64)?,
            remotecnt: pairs.needed("remotecnt", Entry::u64)?,
        };
        if hello.resuid == 0 {
            return Err(HelloError::Value("resuid"));
        }
        Ok(Opening::Second {
            resource,
            token,
            hello,
            offer,
        })
    }
}

/// The answer to [`Opening::First`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Go on with connection B.
    Accepted {
        /// The smaller of both sides' versions.
        version: u8,
        /// To be shown on connection B.
        token: Token,
        /// Extensions.
        offer: Offer,
    },
    /// No.
    Refused {
        /// Why, for people.
        message: String,
        /// Whether to ask again soon: the peer may be in the middle of a change of roles.
        wait: bool,
    },
}

impl Answer {
    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packet::write(out, PROTOCOL_VERSION, |pairs| match self {
            Answer::Accepted {
                version,
                token,
                offer,
            } => {
                pairs.u8("version", *version).bytes("token", token);
                offer.write(pairs);
            }
            Answer::Refused { message, wait } => {
                pairs.string("errmsg", message);
                if *wait {
                    pairs.u8("wait", 1);
                }
            }
        });
    }

    /// The message of a packet.
    ///
    /// # Errors
    /// What is wrong.
    pub fn decode(packet: &Packet<'_>) -> Result<Answer, HelloError> {
        let pairs = Pairs(packet.block);
        if packet.data_bytes != 0 {
            return Err(HelloError::UnexpectedData);
        }
        if let Some(message) = pairs.refusal()? {
            let wait = pairs
                .number("wait", Entry::u8)?
                .is_some_and(|wait| wait != 0);
            return Ok(Answer::Refused { message, wait });
        }
        // A peer that says nothing speaks version 1, as one that asks without a version does.
        let version = pairs.number("version", Entry::u8)?.unwrap_or(1);
        if version > PROTOCOL_VERSION {
            return Err(HelloError::Value("version"));
        }
        let token = pairs.token()?.ok_or(HelloError::Missing("token"))?;
        Ok(Answer::Accepted {
            version,
            token,
            offer: Offer::read(pairs)?,
        })
    }
}

/// The answer to [`Opening::Second`], on connection A.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The session begins.
    Accepted {
        /// Sizes, counters, direction.
        hello: SecondaryHello,
        /// How the bitmap travels, after the head; [`DataHead::EMPTY`] without one.
        map: DataHead,
        /// Extensions.
        offer: Offer,
    },
    /// No.
    Refused {
        /// Why, for people. [`SPLIT_BRAIN_TEXT`] is a text with a meaning.
        message: String,
        /// What the secondary has; the original says it here too.
        component: Option<Component>,
    },
}

/// What a secondary says of its copy when it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// Bytes of the data area.
    pub datasize: u64,
    /// Bytes of an extent.
    pub extentsize: u32,
    /// Generations that the secondary wrote alone.
    pub localcnt: u64,
    /// The primary's `localcnt` as last agreed.
    pub remotecnt: u64,
}

impl Component {
    fn write(&self, pairs: &mut Writer<'_>) {
        // Sizes beyond the signed types do not exist: decoding and metadata refuse them.
        pairs
            .i64("datasize", i64::try_from(self.datasize).unwrap_or(i64::MAX))
            .i32(
                "extentsize",
                i32::try_from(self.extentsize).unwrap_or(i32::MAX),
            )
            .u64("localcnt", self.localcnt)
            .u64("remotecnt", self.remotecnt);
    }

    fn read(pairs: Pairs<'_>) -> Result<Component, HelloError> {
        let datasize = pairs.needed("datasize", Entry::i64)?;
        let extentsize = pairs.needed("extentsize", Entry::i32)?;
        Ok(Component {
            datasize: positive(datasize).ok_or(HelloError::Value("datasize"))?,
            extentsize: positive(extentsize).ok_or(HelloError::Value("extentsize"))?,
            localcnt: pairs.needed("localcnt", Entry::u64)?,
            remotecnt: pairs.needed("remotecnt", Entry::u64)?,
        })
    }
}

impl Verdict {
    /// Appends the packet's head; the caller sends the `map.size` bytes of data after it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packet::write(out, PROTOCOL_VERSION, |pairs| match self {
            Verdict::Accepted { hello, map, offer } => {
                let &SecondaryHello {
                    datasize,
                    extentsize,
                    localcnt,
                    remotecnt,
                    ..
                } = hello;
                Component {
                    datasize,
                    extentsize,
                    localcnt,
                    remotecnt,
                }
                .write(pairs);
                if hello.virgin {
                    pairs.i8("virgin", 1);
                }
                let syncsrc = match hello.syncsrc {
                    SyncSource::Primary => 1,
                    SyncSource::Secondary => 2,
                };
                pairs.u8("syncsrc", syncsrc).u32("mapsize", hello.mapsize);
                offer.write(pairs);
                map.write(pairs);
            }
            Verdict::Refused { message, component } => {
                if let Some(component) = component {
                    component.write(pairs);
                }
                pairs.string("errmsg", message);
            }
        });
    }

    /// The message of a packet. A bitmap of more than `map_bytes_max` bytes is refused here,
    /// before anything is received or allocated for it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn decode(packet: &Packet<'_>, map_bytes_max: u32) -> Result<Verdict, HelloError> {
        let pairs = Pairs(packet.block);
        if let Some(message) = pairs.refusal()? {
            if packet.data_bytes != 0 {
                return Err(HelloError::UnexpectedData);
            }
            // Only shown: a refusal stays one whatever is said with it.
            let component = Component::read(pairs).ok();
            return Ok(Verdict::Refused { message, component });
        }
        let component = Component::read(pairs)?;
        let syncsrc = match pairs.needed("syncsrc", Entry::u8)? {
            1 => SyncSource::Primary,
            2 => SyncSource::Secondary,
            _ => return Err(HelloError::Value("syncsrc")),
        };
        let hello = SecondaryHello {
            datasize: component.datasize,
            extentsize: component.extentsize,
            localcnt: component.localcnt,
            remotecnt: component.remotecnt,
            virgin: pairs.virgin()?,
            syncsrc,
            mapsize: pairs.needed("mapsize", Entry::u32)?,
        };
        if hello.mapsize > map_bytes_max {
            return Err(HelloError::Value("mapsize"));
        }
        let mut data = DataPairs::default();
        for entry in packet.block.entries() {
            data.take(entry);
        }
        let map = data.head(packet.data_bytes).map_err(HelloError::Map)?;
        map.check_length(hello.mapsize.into())
            .map_err(HelloError::Map)?;
        Ok(Verdict::Accepted {
            hello,
            map,
            offer: Offer::read(pairs)?,
        })
    }
}

fn positive<S: Copy, U: TryFrom<S> + Default + PartialEq>(value: S) -> Option<U> {
    U::try_from(value)
        .ok()
        .filter(|value| *value != U::default())
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
