//! Declaring a copy worthless: what `hastctl invalidate` writes.
//!
//! The data stay where they are and count for nothing: the metadata become those of a component
//! that was never connected, so that any primary, the original's included, copies everything to
//! it, and carry the mark of an incomplete copy, so that nobody becomes primary on it before. Every
//! extent is dirty, for a primary that has never written anything either copies no others.

use super::layout::{METADATA_BYTES, Metadata};
use super::metadata;
use super::provider::{IoError, Provider};

/// What is on a copy and may be nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Extents that differ from the other node's, or may.
    pub extents: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// How often this node began to write without the other one, as far as it knows.
    pub generations: u64,
}

/// What an invalidation would lose.
///
/// # Errors
/// The bitmap cannot be read.
pub fn loss(provider: &Provider, metadata: &Metadata) -> Result<Loss, IoError> {
    let mut map = empty_map(metadata);
    provider.read("activemap", METADATA_BYTES, &mut map)?;
    Ok(loss_of(metadata, &map))
}

fn loss_of(metadata: &Metadata, map: &[u8]) -> Loss {
    let is_dirty = |&extent: &u64| {
        let byte = usize::try_from(extent / 8).ok().and_then(|at| map.get(at));
        byte.is_some_and(|byte| byte >> (extent % 8) & 1 == 1)
    };
    let extentsize = u64::from(metadata.extentsize);
    let (mut extents, mut bytes) = (0, 0);
    for extent in (0..metadata.extents()).filter(is_dirty) {
        extents += 1;
        bytes += extentsize.min(metadata.datasize - extent * extentsize);
    }
    Loss {
        extents,
        bytes,
        generations: metadata.localcnt,
    }
}

/// Room for the bits of all extents, in whole sectors of any provider.
fn empty_map(metadata: &Metadata) -> Vec<u8> {
    let used = metadata.extents().div_ceil(8).next_multiple_of(4096);
    // Checked with the metadata: a bitmap is at most 1 GiB.
    vec![0; usize::try_from(used.min(metadata.mapsize())).unwrap_or(0)]
}

/// The bitmap in which every extent is dirty.
pub fn full_map(metadata: &Metadata) -> Vec<u8> {
    let mut map = empty_map(metadata);
    for extent in 0..metadata.extents() {
        if let Some(byte) = usize::try_from(extent / 8)
            .ok()
            .and_then(|at| map.get_mut(at))
        {
            *byte |= 1 << (extent % 8);
        }
    }
    map
}

/// Declares the copy worthless, durably. The bitmap goes first: a crash in between leaves a copy
/// of which more is synchronised than has to be.
///
/// # Errors
/// The system's.
pub fn invalidate(provider: &Provider, metadata: &Metadata) -> Result<(), IoError> {
    provider.write("activemap", METADATA_BYTES, &full_map(metadata))?;
    provider.flush("activemap")?;
    metadata::write(provider, &metadata.unusable())?;
    provider.flush("metadata")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::create::create;
    use crate::disk::layout::{CreateOptions, Plan};
    use crate::disk::provider::Access;

    fn component() -> (tempfile::TempDir, Provider, Metadata) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::File::create(&path)
            .unwrap()
            .set_len(9 << 20)
            .unwrap();
        let provider = Provider::open(&path, Access::Exclusive).unwrap();
        let plan = Plan::new(provider.info().geometry, &CreateOptions::default()).unwrap();
        let mut metadata = plan.metadata("test");
        create(&provider, &metadata).unwrap();
        (metadata.resuid, metadata.localcnt, metadata.remotecnt) = (7, 3, 2);
        metadata::write(&provider, &metadata).unwrap();
        (dir, provider, metadata)
    }

    #[test]
    fn loss_counts_the_extents_that_exist_and_the_bytes_that_they_hold() {
        let (_dir, provider, metadata) = component();
        assert_eq!(metadata.extents(), 5);
        let mut map = vec![0; 512];
        // The first, the last and shorter one, and one that does not exist.
        map[0] = 0b1011_0001;
        provider.write("activemap", METADATA_BYTES, &map).unwrap();
        let loss = loss(&provider, &metadata).unwrap();
        let last = metadata.datasize - 4 * (2 << 20);
        let bytes = (2 << 20) + last;
        assert_eq!(
            loss,
            Loss {
                extents: 2,
                bytes,
                generations: 3
            }
        );
    }

    #[test]
    fn invalidated_copy_is_a_new_one_of_which_everything_is_dirty() {
        let (_dir, provider, metadata) = component();
        provider.write("data", metadata.offset, &[5; 512]).unwrap();
        invalidate(&provider, &metadata).unwrap();
        let found = metadata::read(&provider, "test").unwrap();
        assert_eq!((found.resuid, found.localcnt, found.remotecnt), (0, 0, 0));
        assert!(found.inconsistent);
        assert_eq!(found.datasize, metadata.datasize);
        assert_eq!(loss(&provider, &found).unwrap().bytes, metadata.datasize);
        let mut data = [0; 512];
        provider.read("data", metadata.offset, &mut data).unwrap();
        assert_eq!(data, [5; 512], "the data stay");
    }
}
