//! Messages of generic netlink, as far as nbd needs them: made and read as plain bytes.
//!
//! Numbers are in the machine's order; lengths count headers and not padding, and everything is
//! aligned to four bytes (netlink(7), linux/genetlink.h, linux/nbd-netlink.h).

use std::fmt;

/// Bytes of a message's header, and of the header of generic netlink behind it.
const HEADER_BYTES: usize = 16;
const GENERIC_BYTES: usize = 4;

/// Bytes of an attribute's header.
const ATTRIBUTE_BYTES: usize = 4;

/// Set in the type of an attribute that holds others.
const NESTED: u16 = 0x8000;

/// The bits of an attribute's type that are flags.
const TYPE_FLAGS: u16 = 0xc000;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;

/// A request that is being made.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// For a family, to be acknowledged.
    pub(super) fn new(family: u16, command: u8, sequence: u32) -> Request {
        let mut bytes = vec![0; 4];
        bytes.extend(family.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        // The kernel.
        bytes.extend(0_u32.to_ne_bytes());
        // Version 1 of the family, and two bytes reserved.
        bytes.extend([command, 1, 0, 0]);
        Request { bytes }
    }

    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Request {
        append(&mut self.bytes, kind, value);
        self
    }

    pub(super) fn u32(self, kind: u16, value: u32) -> Request {
        self.attribute(kind, &value.to_ne_bytes())
    }

    pub(super) fn u64(self, kind: u16, value: u64) -> Request {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// A text, with the zero at its end.
    pub(super) fn text(self, kind: u16, value: &str) -> Request {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// A list: each item holds one attribute.
    pub(super) fn list(self, kind: u16, item: u16, inner: u16, values: &[u32]) -> Request {
        let mut items = Vec::new();
        for value in values {
            let mut one = Vec::new();
            append(&mut one, inner, &value.to_ne_bytes());
            append(&mut items, item | NESTED, &one);
        }
        self.attribute(kind | NESTED, &items)
    }

    /// The message.
    pub(super) fn finish(mut self) -> Vec<u8> {
        // What we make is far below 4 GiB.
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes
    }
}

fn append(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // The kernel refuses what does not fit; names and lists of ours do.
    let length = u16::try_from(ATTRIBUTE_BYTES + value.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    /// The request of that number is done, or failed with a system's error number.
    Done(u32, i32),
    /// An answer of a family, with its attributes.
    Answer {
        family: u16,
        command: u8,
        sequence: u32,
        attributes: Attributes<'a>,
    },
}

/// A message that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the kernel's answer makes no sense")
    }
}

/// The messages of a datagram.
pub(super) fn parse(mut datagram: &[u8]) -> Result<Vec<Message<'_>>, Malformed> {
    let mut found = Vec::new();
    while !datagram.is_empty() {
        let length = usize::try_from(u32_at(datagram, 0)?).map_err(|_| Malformed)?;
        if length < HEADER_BYTES {
            return Err(Malformed);
        }
        let message = datagram.get(..length).ok_or(Malformed)?;
        let kind = u16_at(message, 4)?;
        let sequence = u32_at(message, 8)?;
        let body = &message[HEADER_BYTES..];
        if kind == NLMSG_ERROR {
            // The number is negative; 0 is an acknowledgement. Our request follows.
            let error = i32::from_ne_bytes(array_at(body, 0)?);
            let number = error.checked_neg().filter(|number| *number >= 0);
            found.push(Message::Done(sequence, number.ok_or(Malformed)?));
        } else {
            let [command, ..] = array_at::<GENERIC_BYTES>(body, 0)?;
            found.push(Message::Answer {
                family: kind,
                command,
                sequence,
                attributes: Attributes(&body[GENERIC_BYTES..]),
            });
        }
        let padded = length.next_multiple_of(4).min(datagram.len());
        datagram = &datagram[padded..];
    }
    Ok(found)
}

/// Attributes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// The first one of that kind, if there is one.
    pub(super) fn get(self, wanted: u16) -> Result<Option<&'a [u8]>, Malformed> {
        let mut rest = self.0;
        while !rest.is_empty() {
            let length = usize::from(u16_at(rest, 0)?);
            if length < ATTRIBUTE_BYTES {
                return Err(Malformed);
            }
            let attribute = rest.get(..length).ok_or(Malformed)?;
            if u16_at(rest, 2)? & !TYPE_FLAGS == wanted {
                return Ok(Some(&attribute[ATTRIBUTE_BYTES..]));
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
        Ok(None)
    }

    pub(super) fn u16(self, wanted: u16) -> Result<u16, Malformed> {
        let value = self.get(wanted)?.ok_or(Malformed)?;
        value
            .try_into()
            .map(u16::from_ne_bytes)
            .map_err(|_| Malformed)
    }

    pub(super) fn u32(self, wanted: u16) -> Result<u32, Malformed> {
        let value = self.get(wanted)?.ok_or(Malformed)?;
        value
            .try_into()
            .map(u32::from_ne_bytes)
            .map_err(|_| Malformed)
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    let bytes = bytes.get(at..).and_then(|rest| rest.get(..N));
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Malformed)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn request_is_what_the_headers_of_the_kernel_say() {
        let bytes = Request::new(0x1c, 1, 7)
            .u32(1, 5)
            .text(10, "ab")
            .list(7, 1, 1, &[3, 4])
            .finish();
        let mut expected = Vec::new();
        let mut word = |value: u32| expected.extend(value.to_ne_bytes());
        let halves = |low: u16, high: u16| {
            let ([a, b], [c, d]) = (low.to_ne_bytes(), high.to_ne_bytes());
            u32::from_ne_bytes([a, b, c, d])
        };
        // Length; type and flags; number; port.
        word(64);
        word(halves(0x1c, 5));
        word(7);
        word(0);
        // Command and version.
        word(u32::from_ne_bytes([1, 1, 0, 0]));
        // An index.
        word(halves(8, 1));
        word(5);
        // A text with its end, padded.
        word(halves(7, 10));
        word(u32::from_ne_bytes([b'a', b'b', 0, 0]));
        // Two items of one descriptor each.
        word(halves(28, 0x8007));
        for descriptor in [3, 4] {
            word(halves(12, 0x8001));
            word(halves(8, 1));
            word(descriptor);
        }
        assert_eq!(bytes, expected);
    }

    #[test]
    fn acknowledgements_errors_and_answers_are_told_apart() {
        let answer = Request::new(0x1c, 1, 7).u32(1, 9).finish();
        let messages = parse(&answer).unwrap();
        let [
            Message::Answer {
                family: 0x1c,
                command: 1,
                sequence: 7,
                attributes,
            },
        ] = messages[..]
        else {
            panic!("{messages:?}");
        };
        assert_eq!(attributes.u32(1), Ok(9));
        assert_eq!(attributes.u32(2), Err(Malformed));
        assert_eq!(attributes.u16(1), Err(Malformed), "of another length");
        let mut both = error(7, -16);
        both.extend(error(8, 0));
        assert_eq!(
            parse(&both),
            Ok(vec![Message::Done(7, 16), Message::Done(8, 0)])
        );
    }

    fn error(sequence: u32, number: i32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(20_u32.to_ne_bytes());
        bytes.extend(NLMSG_ERROR.to_ne_bytes());
        bytes.extend(0_u16.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(number.to_ne_bytes());
        bytes
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_malformed() {
        let whole = Request::new(0x1c, 1, 7).u32(1, 9).finish();
        for length in 1..20 {
            assert_eq!(parse(&whole[..length]), Err(Malformed), "{length}");
        }
        for length in [0_u32, 15, 29, u32::MAX] {
            let mut lying = whole.clone();
            lying[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(parse(&lying), Err(Malformed), "{length}");
        }
        assert_eq!(parse(&error(1, i32::MIN)), Err(Malformed));
        assert_eq!(parse(&error(1, 5)), Err(Malformed));
        for length in [0_u16, 3, 9, u16::MAX] {
            let mut attribute = length.to_ne_bytes().to_vec();
            attribute.extend([1, 0, 0, 0, 0, 0]);
            assert_eq!(Attributes(&attribute).u32(1), Err(Malformed), "{length}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(messages) = parse(&bytes) {
                for message in messages {
                    if let Message::Answer { attributes, .. } = message {
                        let _ = attributes.u32(1);
                    }
                }
            }
        }
    }
}
