//! Name-value blocks (spec/01, 2): the form of every packet's head and of the metadata on disk.
//!
//! Reading is zero-copy: [`Block::parse`] walks borrowed bytes once and checks every entry;
//! afterwards [`Block::entries`] and the look-ups cannot fail on the structure and allocate
//! nothing. Writing appends to a caller's `Vec<u8>` through [`Writer`], in the byte layout of
//! FreeBSD's encoder, with the padding after names (which FreeBSD leaves uninitialised) as zeros.
//!
//! An entry is `type (1), namesize (1), dsize (4), name, value`, name and value each padded to a
//! multiple of eight bytes; integers are little-endian.

use std::fmt;

/// Bytes of an entry before its name.
const ENTRY_HEAD_BYTES: usize = 6;

/// Longest name in bytes, without its NUL.
pub const NAME_BYTES_MAX: usize = 254;

/// The type of a value; the number is the type code on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// One signed byte.
    Int8 = 1,
    /// One unsigned byte.
    Uint8 = 2,
    /// Two bytes, signed.
    Int16 = 3,
    /// Two bytes, unsigned.
    Uint16 = 4,
    /// Four bytes, signed.
    Int32 = 5,
    /// Four bytes, unsigned.
    Uint32 = 6,
    /// Eight bytes, signed.
    Int64 = 7,
    /// Eight bytes, unsigned.
    Uint64 = 8,
    /// Any number of `Int8`.
    Int8Array = 9,
    /// Any number of `Uint8`.
    Uint8Array = 10,
    /// Any number of `Int16`.
    Int16Array = 11,
    /// Any number of `Uint16`.
    Uint16Array = 12,
    /// Any number of `Int32`.
    Int32Array = 13,
    /// Any number of `Uint32`.
    Uint32Array = 14,
    /// Any number of `Int64`.
    Int64Array = 15,
    /// Any number of `Uint64`.
    Uint64Array = 16,
    /// Bytes with a NUL at their end and none before.
    String = 17,
}

impl Kind {
    /// Every kind, in the order of the type codes.
    pub const ALL: [Kind; 17] = [
        Kind::Int8,
        Kind::Uint8,
        Kind::Int16,
        Kind::Uint16,
        Kind::Int32,
        Kind::Uint32,
        Kind::Int64,
        Kind::Uint64,
        Kind::Int8Array,
        Kind::Uint8Array,
        Kind::Int16Array,
        Kind::Uint16Array,
        Kind::Int32Array,
        Kind::Uint32Array,
        Kind::Int64Array,
        Kind::Uint64Array,
        Kind::String,
    ];

    /// `None` also for codes with bit 0x80, which says "host byte order": never valid on the wire
    /// or on disk.
    fn from_code(code: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// Bytes of one element; 1 for strings.
    pub const fn width(self) -> usize {
        match self {
            Kind::Int8 | Kind::Uint8 | Kind::Int8Array | Kind::Uint8Array | Kind::String => 1,
            Kind::Int16 | Kind::Uint16 | Kind::Int16Array | Kind::Uint16Array => 2,
            Kind::Int32 | Kind::Uint32 | Kind::Int32Array | Kind::Uint32Array => 4,
            Kind::Int64 | Kind::Uint64 | Kind::Int64Array | Kind::Uint64Array => 8,
        }
    }

    const fn is_scalar(self) -> bool {
        (self as u8) <= Kind::Uint64 as u8
    }

    /// The name that C and this project's documents use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Int8 => "int8",
            Kind::Uint8 => "uint8",
            Kind::Int16 => "int16",
            Kind::Uint16 => "uint16",
            Kind::Int32 => "int32",
            Kind::Uint32 => "uint32",
            Kind::Int64 => "int64",
            Kind::Uint64 => "uint64",
            Kind::Int8Array => "int8[]",
            Kind::Uint8Array => "uint8[]",
            Kind::Int16Array => "int16[]",
            Kind::Uint16Array => "uint16[]",
            Kind::Int32Array => "int32[]",
            Kind::Uint32Array => "uint32[]",
            Kind::Int64Array => "int64[]",
            Kind::Uint64Array => "uint64[]",
            Kind::String => "string",
        }
    }
}

/// What is wrong with a block's structure, and where (`at`: byte offset of the entry).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NvError {
    /// The bytes end inside an entry.
    Truncated {
        /// Where the entry begins.
        at: usize,
    },
    /// No such type, or one with the host-order bit.
    BadType {
        /// Where the entry begins.
        at: usize,
        /// The type byte.
        code: u8,
    },
    /// The name is empty, unterminated or holds a NUL.
    BadName {
        /// Where the entry begins.
        at: usize,
    },
    /// The length does not fit the type, or a string is not terminated where it should be.
    BadValue {
        /// Where the entry begins.
        at: usize,
        /// The entry's type.
        kind: Kind,
    },
}

impl fmt::Display for NvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NvError::Truncated { at } => write!(f, "entry at byte {at} is cut off"),
            NvError::BadType { at, code } => {
                write!(f, "entry at byte {at} has the unknown type 0x{code:02x}")
            }
            NvError::BadName { at } => write!(f, "entry at byte {at} has a malformed name"),
            NvError::BadValue { at, kind } => {
                write!(
                    f,
                    "entry at byte {at} has a malformed {} value",
                    kind.as_str()
                )
            }
        }
    }
}

impl std::error::Error for NvError {}

/// A pair exists under its name but is not of the type that was asked for, or its string is not
/// UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongKind {
    /// What the reader wanted.
    pub wanted: Kind,
    /// What the pair is.
    pub found: Kind,
}

impl fmt::Display for WrongKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wanted == self.found {
            return f.write_str("is not UTF-8");
        }
        write!(
            f,
            "is {} instead of {}",
            self.found.as_str(),
            self.wanted.as_str()
        )
    }
}

impl std::error::Error for WrongKind {}

/// One name-value pair of a checked [`Block`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Type of the value.
    pub kind: Kind,
    /// The name, without its NUL; any bytes but NUL.
    pub name: &'a [u8],
    /// The value as it is on the wire; of strings with the NUL.
    pub value: &'a [u8],
}

macro_rules! scalar {
    ($($read:ident $int:ty, $kind:ident;)*) => {$(
        #[doc = concat!("The value, if it is a `", stringify!($int), "`.")]
        #[doc = ""]
        #[doc = "# Errors"]
        #[doc = "[`WrongKind`] if the pair has another type."]
        #[inline]
        pub fn $read(&self) -> Result<$int, WrongKind> {
            match (self.kind, self.value.try_into()) {
                (Kind::$kind, Ok(bytes)) => Ok(<$int>::from_le_bytes(bytes)),
                _ => Err(self.wrong(Kind::$kind)),
            }
        }
    )*};
}

impl<'a> Entry<'a> {
    scalar! {
        i8 i8, Int8;
        u8 u8, Uint8;
        i16 i16, Int16;
        u16 u16, Uint16;
        i32 i32, Int32;
        u32 u32, Uint32;
        i64 i64, Int64;
        u64 u64, Uint64;
    }

    /// The value, if it is an array of `uint8`.
    ///
    /// # Errors
    /// [`WrongKind`] if the pair has another type.
    #[inline]
    pub fn bytes(&self) -> Result<&'a [u8], WrongKind> {
        match self.kind {
            Kind::Uint8Array => Ok(self.value),
            _ => Err(self.wrong(Kind::Uint8Array)),
        }
    }

    /// The value without its NUL, if it is a string, in whatever encoding the writer used.
    ///
    /// # Errors
    /// [`WrongKind`] if the pair has another type.
    #[inline]
    pub fn string_bytes(&self) -> Result<&'a [u8], WrongKind> {
        match (self.kind, self.value.split_last()) {
            (Kind::String, Some((_, text))) => Ok(text),
            _ => Err(self.wrong(Kind::String)),
        }
    }

    /// The value without its NUL, if it is a string of UTF-8.
    ///
    /// # Errors
    /// [`WrongKind`] if the pair has another type or its bytes are not UTF-8.
    pub fn str(&self) -> Result<&'a str, WrongKind> {
        std::str::from_utf8(self.string_bytes()?).map_err(|_| self.wrong(Kind::String))
    }

    fn wrong(&self, wanted: Kind) -> WrongKind {
        WrongKind {
            wanted,
            found: self.kind,
        }
    }
}

/// A checked block of name-value pairs over borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    bytes: &'a [u8],
}

impl<'a> Block<'a> {
    /// Checks every entry of `bytes`. A zero type byte ends the block; what follows is ignored.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(bytes: &'a [u8]) -> Result<Block<'a>, NvError> {
        let mut at = 0;
        while let Some((_, after)) = next_entry(bytes, at)? {
            at = after;
        }
        Ok(Block {
            bytes: bytes.get(..at).unwrap_or(bytes),
        })
    }

    /// The pairs, in their order.
    #[inline]
    pub fn entries(&self) -> Entries<'a> {
        Entries {
            bytes: self.bytes,
            at: 0,
        }
    }

    /// The first pair of this name: later ones of the same name do not count.
    pub fn find(&self, name: &str) -> Option<Entry<'a>> {
        self.entries().find(|entry| entry.name == name.as_bytes())
    }

    /// The bytes of the entries, without what followed them.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Iterator over the pairs of a [`Block`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        // The block was checked as a whole, so an error cannot occur any more; ending the walk
        // is the harmless answer if it did.
        let (entry, after) = next_entry(self.bytes, self.at).ok()??;
        self.at = after;
        Some(entry)
    }
}

/// The entry at `at` and where the next one begins; `None` at the end of the block.
#[inline]
fn next_entry(bytes: &[u8], at: usize) -> Result<Option<(Entry<'_>, usize)>, NvError> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(&code) = rest.first().filter(|&&code| code != 0) else {
        return Ok(None);
    };
    let (head, body) = rest
        .split_first_chunk::<ENTRY_HEAD_BYTES>()
        .ok_or(NvError::Truncated { at })?;
    let [_, name_size, d0, d1, d2, d3] = *head;
    let kind = Kind::from_code(code).ok_or(NvError::BadType { at, code })?;
    let name_size = usize::from(name_size);
    let dsize = usize::try_from(u32::from_le_bytes([d0, d1, d2, d3]))
        .map_err(|_| NvError::Truncated { at })?;
    // No overflow on 32-bit hosts either: the value's padded length is compared in 64 bits.
    let name_padded = name_size.next_multiple_of(8);
    let value_padded = (dsize as u64).next_multiple_of(8);
    if body.len() < name_padded || ((body.len() - name_padded) as u64) < value_padded {
        return Err(NvError::Truncated { at });
    }
    let (name, body) = body.split_at(name_padded);
    let name = match name.get(..name_size).and_then(<[u8]>::split_last) {
        Some((0, name)) if !name.is_empty() && !name.contains(&0) => name,
        _ => return Err(NvError::BadName { at }),
    };
    let value = body.get(..dsize).ok_or(NvError::Truncated { at })?;
    let fits = match kind {
        Kind::String => {
            matches!(value.split_last(), Some((0, text)) if !text.contains(&0))
        }
        _ if kind.is_scalar() => dsize == kind.width(),
        _ => dsize > 0 && dsize.is_multiple_of(kind.width()),
    };
    if !fits {
        return Err(NvError::BadValue { at, kind });
    }
    let after = at + ENTRY_HEAD_BYTES + name_padded + dsize.next_multiple_of(8);
    Ok(Some((Entry { kind, name, value }, after)))
}

/// Appends name-value pairs to a `Vec<u8>`.
///
/// Names are this program's own: 1..=254 bytes without a NUL (asserted when built for debugging;
/// a name that is not is cut at the bound).
#[derive(Debug)]
pub struct Writer<'v> {
    out: &'v mut Vec<u8>,
}

macro_rules! put_scalar {
    ($($put:ident $int:ty, $kind:ident;)*) => {$(
        #[doc = concat!("Appends a `", stringify!($int), "`.")]
        #[inline]
        pub fn $put(&mut self, name: &str, value: $int) -> &mut Self {
            self.put(Kind::$kind, name.as_bytes(), &[&value.to_le_bytes()])
        }
    )*};
}

impl<'v> Writer<'v> {
    /// Appends to `out`.
    pub fn new(out: &'v mut Vec<u8>) -> Writer<'v> {
        Writer { out }
    }

    put_scalar! {
        i8 i8, Int8;
        u8 u8, Uint8;
        i16 i16, Int16;
        u16 u16, Uint16;
        i32 i32, Int32;
        u32 u32, Uint32;
        i64 i64, Int64;
        u64 u64, Uint64;
    }

    /// Appends an array of `uint8`; an empty one cannot be expressed and appends nothing.
    pub fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        if value.is_empty() {
            return self;
        }
        self.put(Kind::Uint8Array, name.as_bytes(), &[value])
    }

    /// Appends a string; what follows a NUL in it is cut off, as the format cannot carry it.
    pub fn string(&mut self, name: &str, value: &str) -> &mut Self {
        let text = value
            .as_bytes()
            .split(|&byte| byte == 0)
            .next()
            .unwrap_or_default();
        self.put(Kind::String, name.as_bytes(), &[text, &[0]])
    }

    /// Appends an array of any type from its bytes on the wire.
    ///
    /// # Panics
    /// If `kind` is not an array or `value` is not a multiple of its width: an error of the caller.
    pub fn array(&mut self, kind: Kind, name: &str, value: &[u8]) -> &mut Self {
        assert!(
            !kind.is_scalar()
                && kind != Kind::String
                && !value.is_empty()
                && value.len().is_multiple_of(kind.width()),
            "an array's bytes are a multiple of its element's width"
        );
        self.put(kind, name.as_bytes(), &[value])
    }

    #[inline]
    fn put(&mut self, kind: Kind, name: &[u8], parts: &[&[u8]]) -> &mut Self {
        debug_assert!(!name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(&0));
        let name = name.get(..NAME_BYTES_MAX).unwrap_or(name);
        let name_size = u8::try_from(name.len() + 1).unwrap_or(u8::MAX);
        let dsize: usize = parts.iter().map(|part| part.len()).sum();
        let dsize_field =
            u32::try_from(dsize).expect("values of this program's messages are below 4 GiB");
        let [d0, d1, d2, d3] = dsize_field.to_le_bytes();
        self.out.reserve(ENTRY_HEAD_BYTES + name.len() + dsize + 16);
        self.out
            .extend_from_slice(&[kind as u8, name_size, d0, d1, d2, d3]);
        self.out.extend_from_slice(name);
        // The NUL and the padding after it.
        self.zeros((name.len() + 1).next_multiple_of(8) - name.len());
        for part in parts {
            self.out.extend_from_slice(part);
        }
        self.zeros(dsize.next_multiple_of(8) - dsize);
        self
    }

    #[inline]
    fn zeros(&mut self, count: usize) {
        const ZEROS: [u8; 8] = [0; 8];
        // At most eight: both callers pad to a multiple of eight.
        self.out
            .extend_from_slice(ZEROS.get(..count).unwrap_or(&ZEROS));
    }
}

#[cfg(test)]
#[path = "nv_tests.rs"]
mod tests;
