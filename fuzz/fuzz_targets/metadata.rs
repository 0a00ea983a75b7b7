//! Any 4096 bytes as a metadata block, on a provider of any size: answered with an error, or with
//! metadata that fit the provider and encode to a block that decodes to the same.
#![no_main]

use hast::disk::layout::{Geometry, METADATA_LEN, map_bytes};
use hast::disk::metadata::{decode, encode, owner};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, u8, &[u8])| {
    let (mediasize, sectors, bytes) = input;
    let geometry = Geometry {
        mediasize,
        // Good and bad ones.
        sectorsize: 1 << (sectors % 16),
    };
    let mut block = [0; METADATA_LEN];
    for (to, from) in block.iter_mut().zip(bytes) {
        *to = *from;
    }
    match decode(&block, geometry) {
        Ok(metadata) => {
            let end = metadata.offset.checked_add(metadata.datasize);
            assert!(end.is_some_and(|end| end <= mediasize));
            assert!(map_bytes(metadata.extents()) <= metadata.mapsize());
            assert_eq!(owner(&block).as_ref(), Some(&metadata.resource));
            assert_eq!(decode(&encode(&metadata), geometry), Ok(metadata));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
