//! Local components, read behind the daemon's back.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hast::disk::layout::{Geometry, METADATA_LEN, Metadata};
use hast::disk::metadata;

use super::wait;

/// How much is compared at once, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

/// One node's copy.
#[derive(Debug)]
pub struct Copy {
    /// Where.
    pub path: PathBuf,
    file: File,
    /// What its metadata say.
    pub metadata: Metadata,
}

impl Copy {
    /// Opens a component that was created.
    ///
    /// # Panics
    /// If it cannot be read, or holds no metadata.
    pub fn open(path: &Path) -> Copy {
        let shown = path.display();
        let mut file = File::open(path).unwrap_or_else(|error| panic!("{shown}: {error}"));
        let mediasize = file
            .seek(SeekFrom::End(0))
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        let mut block = [0; METADATA_LEN];
        file.read_exact_at(&mut block, 0)
            .unwrap_or_else(|error| panic!("{shown}: {error}"));
        let geometry = Geometry {
            mediasize,
            sectorsize: 512,
        };
        let metadata =
            metadata::decode(&block, geometry).unwrap_or_else(|error| panic!("{shown}: {error:?}"));
        Copy {
            path: path.to_owned(),
            file,
            metadata,
        }
    }

    /// Reads from the data area.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) {
        self.file
            .read_exact_at(bytes, self.metadata.offset + offset)
            .unwrap_or_else(|error| panic!("{} at {offset}: {error}", self.path.display()));
    }

    /// Number of extents that are dirty on disk.
    ///
    /// # Panics
    /// If it cannot be read.
    pub fn dirty_extents(&self) -> u32 {
        let length = usize::try_from(self.metadata.mapsize()).unwrap_or(0);
        let mut map = vec![0; length];
        self.file
            .read_exact_at(&mut map, METADATA_LEN as u64)
            .unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        map.iter().map(|byte| byte.count_ones()).sum()
    }
}

/// Offsets of the chunks of 4 KiB in which two copies differ, the first few.
///
/// # Panics
/// If they are of different sizes.
pub fn differences(one: &Copy, other: &Copy) -> Vec<u64> {
    let size = one.metadata.datasize;
    assert_eq!(size, other.metadata.datasize, "sizes of the copies");
    let mut found = Vec::new();
    let (mut left, mut right) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut offset = 0;
    while offset < size && found.len() < 16 {
        let count =
            usize::try_from(size - offset).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
        one.read(offset, &mut left[..count]);
        other.read(offset, &mut right[..count]);
        if left[..count] != right[..count] {
            let pieces = left[..count].chunks(4096).zip(right[..count].chunks(4096));
            for (at, (left, right)) in pieces.enumerate() {
                if left != right {
                    found.push(offset + 4096 * at as u64);
                }
            }
        }
        offset += count as u64;
    }
    found
}

/// Waits until two copies are equal; with asynchronous replication that takes a moment.
///
/// # Panics
/// If they are not in time.
pub fn must_become_equal(one: &Path, other: &Path) {
    let (one, other) = (Copy::open(one), Copy::open(other));
    wait::until_seen(
        "equal copies (where they differ)",
        Duration::from_secs(15),
        || differences(&one, &other),
        Vec::is_empty,
    );
}
