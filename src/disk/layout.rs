//! What the metadata block says, and the sizes that follow from it.

use crate::terms::Role;

/// Length of the metadata block, in bytes; the bitmap follows it.
pub const METADATA_BYTES: u64 = 4096;

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
    /// Length of the dirty bitmap on disk, in bytes.
    pub fn mapsize(&self) -> u64 {
        self.offset.saturating_sub(METADATA_BYTES)
    }

    /// Number of extents of the data area.
    pub fn extents(&self) -> u64 {
        self.datasize.div_ceil(u64::from(self.extentsize))
    }
}
