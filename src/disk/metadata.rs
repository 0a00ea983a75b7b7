//! The metadata block: bytes to [`Metadata`] and back.
//!
//! The block is a name-value block (see [`crate::wire::nv`]) of these pairs, in this order, padded
//! with zeros to 4096 bytes; it is the original's, byte for byte:
//!
//! | pair | type |
//! |---|---|
//! | `resource` | string |
//! | `datasize` | uint64 |
//! | `extentsize`, `keepdirty` | uint32 |
//! | `offset`, `resuid`, `localcnt`, `remotecnt` | uint64 |
//! | `prevrole` | string: init, primary, secondary |
//! | `x-inconsistent` | uint8 1, only if the copy is unusable; ours, the original ignores it |
//!
//! [`decode`] checks every field against each other and against the provider, because everything
//! that a worker does afterwards - where it writes, how much it clears - follows from them.

use std::fmt;

use super::layout::{
    Geometry, MAP_BYTES_MAX, METADATA_BYTES, METADATA_LEN, Metadata, SizeError, check_sectorsize,
    map_bytes,
};
use super::provider::{IoError, Provider};
use crate::terms::{RESOURCE_NAME_MAX_BYTES, Role};
use crate::wire::nv::{Block, Entry, NvError, Writer, WrongKind};

const RESOURCE: &str = "resource";
const DATASIZE: &str = "datasize";
const EXTENTSIZE: &str = "extentsize";
const KEEPDIRTY: &str = "keepdirty";
const OFFSET: &str = "offset";
const RESUID: &str = "resuid";
const LOCALCNT: &str = "localcnt";
const REMOTECNT: &str = "remotecnt";
const PREVROLE: &str = "prevrole";
const INCONSISTENT: &str = "x-inconsistent";

/// Reads the metadata of a component and checks that they are those of `resource`.
///
/// # Errors
/// [`ReadError`], in sentences that name the provider.
pub fn read(provider: &Provider, resource: &str) -> Result<Metadata, ReadError> {
    let metadata = read_any(provider)?;
    if metadata.resource == resource {
        Ok(metadata)
    } else {
        Err(ReadError::Foreign {
            path: provider.path().to_owned(),
            resource: resource.to_owned(),
            found: metadata.resource,
        })
    }
}

/// Reads the metadata of a component, whatever resource they belong to.
///
/// # Errors
/// [`ReadError`] but never `Foreign`.
pub fn read_any(provider: &Provider) -> Result<Metadata, ReadError> {
    let block = provider.read_block().map_err(ReadError::Io)?;
    decode(&block, provider.info().geometry).map_err(|reason| ReadError::Invalid {
        path: provider.path().to_owned(),
        reason,
    })
}

/// Writes the metadata of a component. They are not on stable storage before
/// [`Provider::flush`].
///
/// # Errors
/// The system's.
pub fn write(provider: &Provider, metadata: &Metadata) -> Result<(), IoError> {
    provider.write("metadata", 0, encode(metadata).as_slice())
}

/// The values of a metadata block on a provider of these sizes.
///
/// # Errors
/// The first field that is missing, of the wrong type, or makes no sense.
pub fn decode(block: &[u8; METADATA_LEN], geometry: Geometry) -> Result<Metadata, MetadataError> {
    if block.iter().all(|&byte| byte == 0) {
        return Err(MetadataError::Blank);
    }
    let pairs = Pairs(Block::parse(block).map_err(MetadataError::Structure)?);

    let metadata = Metadata {
        resource: pairs.resource()?,
        datasize: pairs.number(DATASIZE, Entry::u64)?,
        extentsize: pairs.number(EXTENTSIZE, Entry::u32)?,
        keepdirty: pairs.number(KEEPDIRTY, Entry::u32)?,
        offset: pairs.number(OFFSET, Entry::u64)?,
        resuid: pairs.number(RESUID, Entry::u64)?,
        localcnt: pairs.number(LOCALCNT, Entry::u64)?,
        remotecnt: pairs.number(REMOTECNT, Entry::u64)?,
        prevrole: pairs.role()?,
        inconsistent: pairs.inconsistent()?,
    };
    check_sizes(&metadata, geometry)?;
    Ok(metadata)
}

/// The resource that a block names, however wrong the rest of it may be; `None` if it names none.
///
/// For whoever is about to overwrite it.
pub fn owner(block: &[u8; METADATA_LEN]) -> Option<String> {
    Pairs(Block::parse(block).ok()?).resource().ok()
}

/// The block of these values.
///
/// # Panics
/// If the resource's name is longer than [`RESOURCE_NAME_MAX_BYTES`]: neither [`decode`] nor the
/// configuration lets one through.
pub fn encode(metadata: &Metadata) -> Box<[u8; METADATA_LEN]> {
    assert!(
        metadata.resource.len() <= RESOURCE_NAME_MAX_BYTES,
        "names of resources are checked where they enter the program"
    );
    let mut bytes = Vec::with_capacity(METADATA_LEN);
    let mut writer = Writer::new(&mut bytes);
    writer
        .string(RESOURCE, &metadata.resource)
        .u64(DATASIZE, metadata.datasize)
        .u32(EXTENTSIZE, metadata.extentsize)
        .u32(KEEPDIRTY, metadata.keepdirty)
        .u64(OFFSET, metadata.offset)
        .u64(RESUID, metadata.resuid)
        .u64(LOCALCNT, metadata.localcnt)
        .u64(REMOTECNT, metadata.remotecnt)
        .string(PREVROLE, metadata.prevrole.as_str());
    if metadata.inconsistent {
        writer.u8(INCONSISTENT, 1);
    }
    let mut block = Box::new([0; METADATA_LEN]);
    // With the longest name the pairs take 544 bytes: they always fit.
    block[..bytes.len()].copy_from_slice(&bytes);
    block
}

/// The checked structure of a block, for typed look-ups.
struct Pairs<'a>(Block<'a>);

impl<'a> Pairs<'a> {
    fn find(&self, field: &'static str) -> Result<Entry<'a>, MetadataError> {
        self.0.find(field).ok_or(MetadataError::Missing { field })
    }

    fn number<T>(
        &self,
        field: &'static str,
        value: fn(&Entry<'a>) -> Result<T, WrongKind>,
    ) -> Result<T, MetadataError> {
        value(&self.find(field)?).map_err(|reason| MetadataError::Kind { field, reason })
    }

    fn resource(&self) -> Result<String, MetadataError> {
        let name = self.number(RESOURCE, Entry::str)?;
        if name.is_empty() {
            return Err(invalid(RESOURCE, "is empty"));
        }
        if name.len() > RESOURCE_NAME_MAX_BYTES {
            return Err(invalid(
                RESOURCE,
                format!("is longer than {RESOURCE_NAME_MAX_BYTES} bytes"),
            ));
        }
        if name.chars().any(char::is_control) {
            return Err(invalid(
                RESOURCE,
                format!("{name:?} contains control characters"),
            ));
        }
        Ok(name.to_owned())
    }

    fn role(&self) -> Result<Role, MetadataError> {
        let name = self.number(PREVROLE, Entry::str)?;
        Role::from_name(name).ok_or_else(|| {
            let name: String = name.chars().take(32).collect();
            invalid(
                PREVROLE,
                format!("{name:?} is not one of init, primary, secondary"),
            )
        })
    }

    fn inconsistent(&self) -> Result<bool, MetadataError> {
        let Some(entry) = self.0.find(INCONSISTENT) else {
            return Ok(false);
        };
        match entry.u8() {
            Ok(0) => Ok(false),
            Ok(1) => Ok(true),
            Ok(other) => Err(invalid(INCONSISTENT, format!("{other} is neither 0 nor 1"))),
            Err(reason) => Err(MetadataError::Kind {
                field: INCONSISTENT,
                reason,
            }),
        }
    }
}

/// Refuses sizes that contradict each other or the provider.
fn check_sizes(metadata: &Metadata, geometry: Geometry) -> Result<(), MetadataError> {
    let Geometry {
        mediasize,
        sectorsize,
    } = geometry;
    let sector = check_sectorsize(sectorsize).map_err(MetadataError::Provider)?;
    let Metadata {
        datasize,
        extentsize,
        keepdirty,
        offset,
        ..
    } = *metadata;

    if !extentsize.is_power_of_two() {
        return Err(invalid(
            EXTENTSIZE,
            format!("{extentsize} is not a power of two"),
        ));
    }
    if extentsize < sectorsize {
        return Err(invalid(
            EXTENTSIZE,
            format!("{extentsize} is less than a sector ({sectorsize})"),
        ));
    }
    // The original accepts -k -1 and stores it as 2^32 - 1, so there is no upper bound here.
    if keepdirty == 0 {
        return Err(invalid(KEEPDIRTY, "is 0"));
    }
    for (field, value) in [(OFFSET, offset), (DATASIZE, datasize)] {
        if !value.is_multiple_of(sector) {
            return Err(invalid(
                field,
                format!("{value} is not a multiple of the sector size ({sector})"),
            ));
        }
    }
    if datasize == 0 {
        return Err(invalid(DATASIZE, "is 0"));
    }
    match offset.checked_add(datasize) {
        Some(end) if end <= mediasize => {}
        _ => {
            return Err(invalid(
                DATASIZE,
                format!(
                    "{datasize} bytes from offset {offset} on do not fit the provider \
                     ({mediasize} bytes)"
                ),
            ));
        }
    }
    let needed = map_bytes(metadata.extents());
    match offset.checked_sub(METADATA_BYTES) {
        Some(mapsize) if mapsize > MAP_BYTES_MAX => Err(invalid(
            OFFSET,
            format!("{offset} makes the bitmap larger than {MAP_BYTES_MAX} bytes"),
        )),
        Some(mapsize) if mapsize >= needed => Ok(()),
        _ => Err(invalid(
            OFFSET,
            format!(
                "{offset} leaves no room for metadata ({METADATA_BYTES} bytes) and bitmap \
                 ({needed} bytes)"
            ),
        )),
    }
}

fn invalid(field: &'static str, problem: impl Into<String>) -> MetadataError {
    MetadataError::Value {
        field,
        problem: problem.into(),
    }
}

/// What is wrong with a metadata block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataError {
    /// Nothing but zeros: never created.
    Blank,
    /// Not a sequence of name-value pairs.
    Structure(NvError),
    /// A field is not there.
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field has the wrong type.
    Kind {
        /// Its name.
        field: &'static str,
        /// What it is and should be.
        reason: WrongKind,
    },
    /// A field's value makes no sense.
    Value {
        /// Its name.
        field: &'static str,
        /// The value and why not, in words that follow the field's name.
        problem: String,
    },
    /// The provider is none that the format can live on.
    Provider(SizeError),
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetadataError::Blank => f.write_str("the block is all zeros."),
            MetadataError::Structure(reason) => write!(f, "{reason}."),
            MetadataError::Missing { field } => write!(f, "{field} is missing."),
            MetadataError::Kind { field, reason } => write!(f, "{field} {reason}."),
            MetadataError::Value { field, problem } => write!(f, "{field} {problem}."),
            MetadataError::Provider(reason) => reason.fmt(f),
        }
    }
}

impl std::error::Error for MetadataError {}

/// Why there are no metadata to work with.
#[derive(Debug)]
pub enum ReadError {
    /// The block could not be read.
    Io(IoError),
    /// The block is no metadata.
    Invalid {
        /// Of the provider.
        path: std::path::PathBuf,
        /// What is wrong.
        reason: MetadataError,
    },
    /// They belong to another resource.
    Foreign {
        /// Of the provider.
        path: std::path::PathBuf,
        /// The resource that was looked for.
        resource: String,
        /// The resource that they belong to.
        found: String,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(error) => error.fmt(f),
            ReadError::Invalid {
                path,
                reason: MetadataError::Blank,
            } => write!(
                f,
                "Unable to read metadata from {}: there is none yet, use hastctl create.",
                path.display()
            ),
            ReadError::Invalid { path, reason } => {
                write!(
                    f,
                    "Metadata read from {} is invalid: {reason}",
                    path.display()
                )
            }
            ReadError::Foreign {
                path,
                resource,
                found,
            } => write!(
                f,
                "Provider {} is not part of resource {resource}: its metadata belongs to resource \
                 {found}.",
                path.display()
            ),
        }
    }
}

impl std::error::Error for ReadError {}

#[cfg(test)]
#[path = "metadata_tests.rs"]
mod tests;
