//! The one place that knows how a message becomes bytes and back.
//!
//! The encoding (bincode 2, little endian, variable-length integers) is private to processes that
//! run the same binary; it is never stored and never leaves the machine. Both directions are
//! bounded by [`MESSAGE_BYTES_MAX`], and decoding allocates no more than a small multiple of that,
//! since bincode claims every length against its limit before it reads.
//!
//! Message types must not hold sequences of zero-sized elements: such a sequence claims no bytes,
//! so that no limit bounds its length.

use std::fmt;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest message, in bytes.
///
/// The largest thing that children send is their status (a few kilobytes) and the largest that the
/// parent sends is a resource's configuration (the same); 256 KiB leaves room for both to grow
/// tenfold, and is still below what an ordinary user may have as a socket's send buffer on Linux
/// (`net.core.wmem_max` is 212992 bytes, which the kernel doubles) and on FreeBSD
/// (`kern.ipc.maxsockbuf` is 2 MiB), so that a message always fits into one datagram.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Limit of what decoding claims, in bytes. A number claims the size of its type (at most 16 bytes)
/// however few bytes encode it, so that a message within the bound never fails here.
const CLAIMED_BYTES_MAX: usize = 16 * MESSAGE_BYTES_MAX;

const CONFIG: Configuration<LittleEndian, Varint, Limit<CLAIMED_BYTES_MAX>> =
    bincode::config::standard().with_limit::<CLAIMED_BYTES_MAX>();

/// Why a message could not be encoded or decoded.
#[derive(Debug, PartialEq, Eq)]
pub enum CodecError {
    /// The value needs more than [`MESSAGE_BYTES_MAX`] bytes, or cannot be encoded at all.
    Encode(String),
    /// The bytes are not a value of the expected type.
    Malformed(String),
    /// The value is followed by this many bytes that belong to nothing.
    Trailing(usize),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Encode(reason) => write!(f, "message cannot be encoded: {reason}"),
            CodecError::Malformed(reason) => write!(f, "malformed message: {reason}"),
            CodecError::Trailing(bytes) => {
                write!(f, "malformed message: {bytes} surplus bytes at its end")
            }
        }
    }
}

impl std::error::Error for CodecError {}

/// The bytes of a message, at most [`MESSAGE_BYTES_MAX`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = bincode::serde::encode_to_vec(message, CONFIG)
        .map_err(|error| CodecError::Encode(error.to_string()))?;
    // The limit of bincode's configuration binds decoding only.
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::Encode(format!(
            "{} bytes, and {MESSAGE_BYTES_MAX} is the most",
            bytes.len()
        )));
    }
    Ok(bytes)
}

/// The message that the whole of `bytes`, at most [`MESSAGE_BYTES_MAX`], is.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(CodecError::Malformed(format!(
            "{} bytes, and {MESSAGE_BYTES_MAX} is the most",
            bytes.len()
        )));
    }
    let (message, used) = bincode::serde::decode_from_slice(bytes, CONFIG)
        .map_err(|error| CodecError::Malformed(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(message),
        surplus => Err(CodecError::Trailing(surplus)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Sample {
        Empty,
        Numbers(u64, i32),
        Text { name: String, list: Vec<u16> },
    }

    #[test]
    fn cut_messages_are_malformed() {
        let message = Sample::Text {
            name: "resource".into(),
            list: vec![1, 2, 3],
        };
        let bytes = encode(&message).unwrap();
        for cut in 0..bytes.len() {
            assert!(
                matches!(
                    decode::<Sample>(&bytes[..cut]),
                    Err(CodecError::Malformed(_))
                ),
                "cut to {cut} bytes"
            );
        }
    }

    #[test]
    fn surplus_bytes_are_malformed() {
        let mut bytes = encode(&Sample::Numbers(1, -1)).unwrap();
        bytes.extend([0; 3]);
        assert_eq!(decode::<Sample>(&bytes), Err(CodecError::Trailing(3)));
    }

    #[test]
    fn unknown_variant_is_malformed() {
        assert!(matches!(
            decode::<Sample>(&[3]),
            Err(CodecError::Malformed(_))
        ));
    }

    #[test]
    fn announced_length_beyond_the_limit_is_refused_without_allocating_it() {
        // Variant 2, then a string of 2^63 - 1 bytes.
        let mut bytes = vec![2, 253];
        bytes.extend((u64::MAX >> 1).to_le_bytes());
        assert!(matches!(
            decode::<Sample>(&bytes),
            Err(CodecError::Malformed(_))
        ));
    }

    #[test]
    fn many_small_numbers_fit_as_far_as_their_bytes_do() {
        let numbers = vec![1_u64; MESSAGE_BYTES_MAX - 5];
        let bytes = encode(&numbers).unwrap();
        assert_eq!(bytes.len(), MESSAGE_BYTES_MAX);
        assert_eq!(decode::<Vec<u64>>(&bytes), Ok(numbers));
    }

    #[test]
    fn message_beyond_the_limit_is_not_encoded() {
        let name = "x".repeat(MESSAGE_BYTES_MAX);
        assert!(matches!(
            encode(&Sample::Text { name, list: vec![] }),
            Err(CodecError::Encode(_))
        ));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = decode::<Sample>(&bytes) {
                prop_assert_eq!(decode::<Sample>(&encode(&message).unwrap()), Ok(message));
            }
        }

        #[test]
        fn what_is_encoded_is_decoded(name in ".{0,40}", list in proptest::collection::vec(any::<u16>(), 0..40)) {
            let message = Sample::Text { name, list };
            prop_assert_eq!(decode::<Sample>(&encode(&message).unwrap()), Ok(message));
        }
    }
}
