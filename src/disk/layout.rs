//! What the metadata block says, and the sizes that follow from it.
//!
//! A local component is laid out as metadata block, dirty bitmap, data area (spec/02 of the
//! format, the same as FreeBSD's). [`Plan::new`] is the arithmetic of `hastctl create`: it refuses
//! every combination of sizes that makes no sense, so that nothing of the kind reaches a disk.

use std::fmt;

use crate::terms::Role;

/// Length of the metadata block, in bytes; the bitmap follows it.
pub const METADATA_BYTES: u64 = METADATA_LEN as u64;

/// The same, as the length of a buffer.
pub const METADATA_LEN: usize = 4096;

/// Length of an extent unless `create -e` says otherwise, in bytes.
pub const EXTENT_BYTES_DEFAULT: u32 = 2 * 1024 * 1024;

/// Largest extent that `create` accepts, in bytes: the handshake carries the size as int32.
pub const EXTENT_BYTES_MAX: u32 = 1 << 30;

/// How many recently written extents stay dirty unless `create -k` says otherwise.
pub const KEEPDIRTY_DEFAULT: u32 = 64;

/// Largest `keepdirty` that `create` accepts: FreeBSD prints it as a signed 32-bit number.
pub const KEEPDIRTY_MAX: u32 = i32::MAX.unsigned_abs();

/// Largest alignment of the data area that `create -a` accepts, in bytes. The room before the
/// data area counts as bitmap, so it has to stay small.
pub const ALIGNMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Largest bitmap, in bytes. A worker holds it in memory; at the default extent size it covers
/// 16 PiB, and the handshake's `mapsize` (uint32) can carry it.
pub const MAP_BYTES_MAX: u64 = 1 << 30;

/// Largest component, in bytes: offsets are signed 64-bit numbers to the system and on the wire.
pub const MEDIA_BYTES_MAX: u64 = i64::MAX.unsigned_abs();

/// The metadata of a local component (spec/02).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Name of the resource that the component belongs to.
    pub resource: String,
    /// Bytes of the data area.
    pub datasize: u64,
    /// Bytes of an extent: a power of two, at least a sector.
    pub extentsize: u32,
    /// How many of the last written extents stay dirty.
    pub keepdirty: u32,
    /// Where the data area begins, in bytes from the start of the component.
    pub offset: u64,
    /// Unique id of the resource; 0 until the first connection.
    pub resuid: u64,
    /// Generations that this node wrote alone.
    pub localcnt: u64,
    /// The peer's `localcnt` as last agreed.
    pub remotecnt: u64,
    /// Role of the last writer of the metadata.
    pub prevrole: Role,
    /// Ours, `x-inconsistent`: this copy is known to be unusable until a synchronisation onto it
    /// has completed. Written only when true, so that other blocks stay as the original's.
    pub inconsistent: bool,
}

impl Metadata {
    /// Length of the dirty bitmap on disk, in bytes: all that lies between the metadata block and
    /// the data area, which can be more than the extents need.
    pub fn mapsize(&self) -> u64 {
        self.offset.saturating_sub(METADATA_BYTES)
    }

    /// Number of extents of the data area.
    pub fn extents(&self) -> u64 {
        self.datasize.div_ceil(u64::from(self.extentsize))
    }

    /// What the metadata become when this copy must not be used any more: as if it had just been
    /// created, so that also the original synchronises all of it, and marked for ourselves.
    pub fn unusable(&self) -> Metadata {
        Metadata {
            resuid: 0,
            localcnt: 0,
            remotecnt: 0,
            prevrole: Role::Init,
            inconsistent: true,
            ..self.clone()
        }
    }
}

/// The sizes of a provider that the layout depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Length of the provider, in bytes.
    pub mediasize: u64,
    /// Smallest unit of I/O, in bytes; 512 for regular files.
    pub sectorsize: u32,
}

/// What `hastctl create` was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    /// `-e`, in bytes.
    pub extentsize: u64,
    /// `-k`, in extents.
    pub keepdirty: u64,
    /// `-m`, in bytes; `None`: all of the provider.
    pub mediasize: Option<u64>,
    /// `-a`, in bytes; `None`: the data area begins right behind the bitmap, as the original's.
    pub alignment: Option<u64>,
}

impl Default for CreateOptions {
    fn default() -> CreateOptions {
        CreateOptions {
            extentsize: u64::from(EXTENT_BYTES_DEFAULT),
            keepdirty: u64::from(KEEPDIRTY_DEFAULT),
            mediasize: None,
            alignment: None,
        }
    }
}

/// Sizes of a component to be created, all of them checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    datasize: u64,
    extentsize: u32,
    keepdirty: u32,
    offset: u64,
}

impl Plan {
    /// The layout of a new component on a provider of these sizes.
    ///
    /// # Errors
    /// [`SizeError`] says which of the sizes makes no sense, and why.
    pub fn new(geometry: Geometry, options: &CreateOptions) -> Result<Plan, SizeError> {
        let sectorsize = check_sectorsize(geometry.sectorsize)?;
        let extentsize = check_extentsize(options.extentsize, geometry.sectorsize)?;
        let keepdirty = u32::try_from(options.keepdirty)
            .ok()
            .filter(|keepdirty| (1..=KEEPDIRTY_MAX).contains(keepdirty))
            .ok_or(SizeError::Keepdirty(options.keepdirty))?;
        let alignment = match options.alignment {
            None => sectorsize,
            Some(alignment) => check_alignment(alignment, geometry.sectorsize)?,
        };
        let mediasize = match options.mediasize {
            Some(given) if given > geometry.mediasize => return Err(SizeError::LargerThanProvider),
            Some(given) => given,
            None => geometry.mediasize,
        };
        if mediasize > MEDIA_BYTES_MAX {
            return Err(SizeError::TooLarge(mediasize));
        }

        // As the original: the bitmap covers everything behind the metadata block, itself included.
        let covered = mediasize.saturating_sub(METADATA_BYTES);
        let mapsize = map_bytes(covered.div_ceil(u64::from(extentsize)))
            .next_multiple_of(sectorsize)
            .max(sectorsize);
        if mapsize > MAP_BYTES_MAX {
            return Err(SizeError::MapTooLarge { mapsize });
        }
        let offset = (METADATA_BYTES + mapsize).next_multiple_of(alignment);
        let least = offset + sectorsize;
        if mediasize < least {
            return Err(SizeError::TooSmall { mediasize, least });
        }
        if !mediasize.is_multiple_of(sectorsize) {
            return Err(SizeError::PartialSector {
                mediasize,
                sectorsize: geometry.sectorsize,
            });
        }
        Ok(Plan {
            datasize: mediasize - offset,
            extentsize,
            keepdirty,
            offset,
        })
    }

    /// The metadata of a component that was never connected.
    pub fn metadata(&self, resource: &str) -> Metadata {
        Metadata {
            resource: resource.to_owned(),
            datasize: self.datasize,
            extentsize: self.extentsize,
            keepdirty: self.keepdirty,
            offset: self.offset,
            resuid: 0,
            localcnt: 0,
            remotecnt: 0,
            prevrole: Role::Init,
            inconsistent: false,
        }
    }
}

/// Bytes of a bitmap of so many extents: whole 64-bit words, as the original counts them.
pub fn map_bytes(extents: u64) -> u64 {
    extents.div_ceil(64).saturating_mul(8)
}

/// A sector has to be a power of two and a divisor of the metadata block.
pub(super) fn check_sectorsize(sectorsize: u32) -> Result<u64, SizeError> {
    let bytes = u64::from(sectorsize);
    if sectorsize.is_power_of_two() && (512..=METADATA_BYTES).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(SizeError::Sector(sectorsize))
    }
}

fn check_extentsize(extentsize: u64, sectorsize: u32) -> Result<u32, SizeError> {
    if extentsize == 0 || !extentsize.is_multiple_of(u64::from(sectorsize)) {
        return Err(SizeError::ExtentSector {
            extentsize,
            sectorsize,
        });
    }
    if !extentsize.is_power_of_two() {
        return Err(SizeError::ExtentPower(extentsize));
    }
    u32::try_from(extentsize)
        .ok()
        .filter(|&extentsize| extentsize <= EXTENT_BYTES_MAX)
        .ok_or(SizeError::ExtentTooLarge(extentsize))
}

fn check_alignment(alignment: u64, sectorsize: u32) -> Result<u64, SizeError> {
    let range = u64::from(sectorsize)..=ALIGNMENT_BYTES_MAX;
    if alignment.is_power_of_two() && range.contains(&alignment) {
        Ok(alignment)
    } else {
        Err(SizeError::Alignment {
            alignment,
            sectorsize,
        })
    }
}

/// Why sizes make no sense. The texts that the original has as well are the original's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeError {
    /// The provider's sector is none that the format can be written with.
    Sector(u32),
    /// An extent of part of a sector, or of nothing.
    ExtentSector {
        /// As asked for, in bytes.
        extentsize: u64,
        /// The provider's, in bytes.
        sectorsize: u32,
    },
    /// An extent of so many bytes, which is no power of two.
    ExtentPower(u64),
    /// An extent of so many bytes, more than [`EXTENT_BYTES_MAX`].
    ExtentTooLarge(u64),
    /// Not within 1..=[`KEEPDIRTY_MAX`].
    Keepdirty(u64),
    /// No power of two, less than a sector or more than [`ALIGNMENT_BYTES_MAX`].
    Alignment {
        /// As asked for, in bytes.
        alignment: u64,
        /// The provider's, in bytes.
        sectorsize: u32,
    },
    /// `-m` says more than there is.
    LargerThanProvider,
    /// More bytes than [`MEDIA_BYTES_MAX`].
    TooLarge(u64),
    /// No room for metadata, bitmap and one sector of data.
    TooSmall {
        /// What there is, in bytes.
        mediasize: u64,
        /// What it takes, in bytes.
        least: u64,
    },
    /// The last sector is incomplete.
    PartialSector {
        /// What there is, in bytes.
        mediasize: u64,
        /// The provider's, in bytes.
        sectorsize: u32,
    },
    /// More than [`MAP_BYTES_MAX`].
    MapTooLarge {
        /// What the extents take, in bytes.
        mapsize: u64,
    },
}

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SizeError::Sector(sectorsize) => write!(
                f,
                "Sector size ({sectorsize}) is not supported: it has to be a power of two from 512 \
                 to {METADATA_BYTES}."
            ),
            SizeError::ExtentSector {
                extentsize,
                sectorsize,
            } => write!(
                f,
                "Extent size ({extentsize}) is not multiple of sector size ({sectorsize})."
            ),
            SizeError::ExtentPower(extentsize) => {
                write!(f, "Extent size ({extentsize}) is not a power of two.")
            }
            SizeError::ExtentTooLarge(extentsize) => write!(
                f,
                "Extent size ({extentsize}) is too large: at most {EXTENT_BYTES_MAX} (1 GiB)."
            ),
            SizeError::Keepdirty(keepdirty) => write!(
                f,
                "Number of extents to keep dirty ({keepdirty}) is out of range: 1 to \
                 {KEEPDIRTY_MAX}."
            ),
            SizeError::Alignment {
                alignment,
                sectorsize,
            } => write!(
                f,
                "Alignment ({alignment}) is not a power of two from sector size ({sectorsize}) to \
                 {ALIGNMENT_BYTES_MAX} (16 MiB)."
            ),
            SizeError::LargerThanProvider => {
                f.write_str("Provided mediasize is larger than provider size.")
            }
            SizeError::TooLarge(mediasize) => write!(
                f,
                "Media size ({mediasize}) is too large: at most {MEDIA_BYTES_MAX}."
            ),
            SizeError::TooSmall { mediasize, least } => write!(
                f,
                "Media size ({mediasize}) is too small: metadata, bitmap and one sector of data \
                 take {least} bytes."
            ),
            SizeError::PartialSector {
                mediasize,
                sectorsize,
            } => write!(
                f,
                "Media size ({mediasize}) is not multiple of sector size ({sectorsize}): \
                 use -m {}.",
                mediasize - mediasize % u64::from(sectorsize)
            ),
            SizeError::MapTooLarge { mapsize } => write!(
                f,
                "The bitmap would take {mapsize} bytes, more than {MAP_BYTES_MAX} (1 GiB): use \
                 larger extents."
            ),
        }
    }
}

impl std::error::Error for SizeError {}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
