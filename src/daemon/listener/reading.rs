//! One connection whose first packet is being read.

use std::fmt;
use std::io::{self, Read};

use crate::ipc::{Hello, Offer, PeerHello};
use crate::wire::hello::{self, HelloError, Opening};
use crate::wire::message::PROTOCOL_VERSION;
use crate::wire::packet::{Decoder, Limits, PacketError, Step};

/// Bytes of a first packet at most: a legitimate one has the name of a resource and some numbers,
/// below 700 bytes; what extensions may add has room.
const HEAD_BYTES_MAX: u32 = 4096;

/// Why a connection is closed here.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// The peer closed it, or it broke.
    Gone(Option<io::Error>),
    /// Its bytes are no packet.
    Packet(PacketError),
    /// The packet is no first message.
    Hello(HelloError),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Gone(None) => f.write_str("connection closed"),
            Unreadable::Gone(Some(error)) => error.fmt(f),
            Unreadable::Packet(error) => error.fmt(f),
            Unreadable::Hello(error) => error.fmt(f),
        }
    }
}

/// Reads the first packet and not a byte more: what follows belongs to the worker.
#[derive(Debug)]
pub(super) struct Reading(Decoder);

impl Reading {
    /// Nothing read yet.
    pub(super) fn new() -> Reading {
        Reading(Decoder::exact(Limits {
            head_bytes: HEAD_BYTES_MAX,
            data_bytes: 0,
        }))
    }

    /// Reads what is there; the message if it is complete.
    ///
    /// # Errors
    /// The connection is of no use.
    pub(super) fn read(&mut self, mut stream: impl Read) -> Result<Option<Hello>, Unreadable> {
        loop {
            match self.0.step().map_err(Unreadable::Packet)? {
                Step::Fill(space) => match stream.read(space) {
                    Ok(0) => return Err(Unreadable::Gone(None)),
                    Ok(count) => self.0.received(count),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Unreadable::Gone(Some(error))),
                },
                Step::Packet(packet) => {
                    let opening = Opening::decode(&packet).map_err(Unreadable::Hello)?;
                    return Ok(Some(to_hello(opening)));
                }
                // Packets with data are refused by the limits.
                Step::Data { .. } | Step::Complete => return Err(Unreadable::Gone(None)),
            }
        }
    }
}

fn to_offer(offer: hello::Offer) -> Offer {
    Offer {
        request_bytes: offer.request_bytes,
        heartbeat: offer.heartbeat,
        copy_states: offer.copy_states,
        steering: offer.steering,
    }
}

fn to_hello(opening: Opening) -> Hello {
    match opening {
        Opening::First {
            resource,
            version,
            offer,
        } => Hello {
            resource,
            version,
            second: None,
            offer: to_offer(offer),
        },
        Opening::Second {
            resource,
            token,
            hello,
            offer,
        } => {
            let offer = to_offer(offer);
            let hello = PeerHello {
                virgin: hello.virgin,
                resuid: hello.resuid,
                localcnt: hello.localcnt,
                remotecnt: hello.remotecnt,
                offer,
            };
            Hello {
                resource,
                version: PROTOCOL_VERSION,
                second: Some((token, hello)),
                offer,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first() -> Vec<u8> {
        let mut bytes = Vec::new();
        Opening::First {
            resource: "test".to_owned(),
            version: 2,
            offer: hello::Offer::NONE,
        }
        .encode(&mut bytes);
        bytes
    }

    /// Gives one byte at a time, then has nothing for now.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
            let Some((byte, rest)) = self.0.split_first() else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            self.0 = rest;
            space[0] = *byte;
            Ok(1)
        }
    }

    #[test]
    fn packets_that_announce_too_much_or_nothing_are_refused_by_their_header() {
        for header in [
            [2, 0, 0, 0, 0],
            [2, 0xff, 0xff, 0xff, 0xff],
            [2, 1, 0x10, 0, 0],
            [9, 20, 0, 0, 0],
        ] {
            let result = Reading::new().read(&header[..]);
            assert!(matches!(result, Err(Unreadable::Packet(_))), "{header:?}");
        }
    }

    #[test]
    fn packet_without_a_resource_is_refused() {
        let mut bytes = Vec::new();
        crate::wire::packet::write(&mut bytes, 1, |pairs| {
            pairs.u8("version", 2);
        });
        assert!(matches!(
            Reading::new().read(&bytes[..]),
            Err(Unreadable::Hello(HelloError::Missing("resource")))
        ));
    }

    #[test]
    fn connection_that_ends_inside_the_packet_is_gone() {
        let bytes = first();
        let result = Reading::new().read(&bytes[..bytes.len() - 1]);
        assert!(matches!(result, Err(Unreadable::Gone(None))));
    }

    #[test]
    fn slow_peer_is_understood_and_nothing_behind_its_packet_is_read() {
        let mut bytes = first();
        let length = bytes.len();
        bytes.extend([7; 100]);
        let mut reading = Reading::new();
        assert!(reading.read(Slow(&bytes[..3])).unwrap().is_none());
        let mut rest = Slow(&bytes[3..]);
        let hello = reading.read(&mut rest).unwrap().unwrap();
        assert_eq!((hello.resource.as_str(), hello.version), ("test", 2));
        assert_eq!(rest.0.len(), bytes.len() - length);
    }
}
