use proptest::prelude::*;

use super::*;
use crate::disk::create::create;
use crate::disk::layout::{CreateOptions, Plan};
use crate::disk::provider::Access;

const MEDIASIZE: u64 = 64 << 20;
const GEOMETRY: Geometry = Geometry {
    mediasize: MEDIASIZE,
    sectorsize: 512,
};

fn fresh() -> Metadata {
    Plan::new(GEOMETRY, &CreateOptions::default())
        .unwrap()
        .metadata("test")
}

/// What decoding says about the good metadata with a change.
fn refused(change: impl FnOnce(&mut Metadata)) -> String {
    let mut metadata = fresh();
    change(&mut metadata);
    decode(&encode(&metadata), GEOMETRY)
        .expect_err("metadata that make no sense")
        .to_string()
}

/// A block of pairs chosen by the test.
fn block(pairs: impl FnOnce(&mut Writer<'_>)) -> Box<[u8; METADATA_LEN]> {
    let mut bytes = Vec::new();
    pairs(&mut Writer::new(&mut bytes));
    bytes.resize(METADATA_LEN, 0);
    Box::new(bytes.try_into().unwrap())
}

#[test]
fn a_block_of_zeros_was_never_created() {
    assert_eq!(
        decode(&[0; METADATA_LEN], GEOMETRY),
        Err(MetadataError::Blank)
    );
}

#[test]
fn a_block_that_is_no_list_of_pairs_is_refused_with_the_place() {
    // The second pair follows 6 bytes of head, 16 of name and 8 of value.
    let mut torn = encode(&fresh());
    torn[30] = 0x99;
    assert_eq!(
        decode(&torn, GEOMETRY).unwrap_err().to_string(),
        "entry at byte 30 has the unknown type 0x99."
    );
}

#[test]
fn each_missing_field_is_named() {
    let good = encode(&fresh());
    let pairs = Block::parse(good.as_slice()).unwrap();
    for missing in pairs.entries() {
        let rest: Vec<_> = pairs
            .entries()
            .filter(|entry| entry.name != missing.name)
            .collect();
        let block = block(|writer| {
            for entry in &rest {
                let name = std::str::from_utf8(entry.name).unwrap();
                if let Ok(value) = entry.u64() {
                    writer.u64(name, value);
                } else if let Ok(value) = entry.u32() {
                    writer.u32(name, value);
                } else {
                    writer.string(name, entry.str().unwrap());
                }
            }
        });
        let name = std::str::from_utf8(missing.name).unwrap();
        assert_eq!(
            decode(&block, GEOMETRY).unwrap_err().to_string(),
            format!("{name} is missing.")
        );
    }
}

#[test]
fn a_field_of_another_type_is_named_with_both_types() {
    let block = block(|writer| {
        writer.string(RESOURCE, "test").u32(DATASIZE, 512);
    });
    assert_eq!(
        decode(&block, GEOMETRY).unwrap_err().to_string(),
        "datasize is uint32 instead of uint64."
    );
}

#[test]
fn names_that_cannot_be_resources_are_refused() {
    assert_eq!(refused(|m| m.resource.clear()), "resource is empty.");
    assert_eq!(
        refused(|m| "a\nb".clone_into(&mut m.resource)),
        "resource \"a\\nb\" contains control characters."
    );
    let long = block(|writer| {
        writer.string(RESOURCE, &"x".repeat(255));
    });
    assert_eq!(
        decode(&long, GEOMETRY).unwrap_err().to_string(),
        "resource is longer than 254 bytes."
    );
}

#[test]
fn sizes_that_contradict_each_other_or_the_provider_are_refused() {
    type Change<'a> = &'a dyn Fn(&mut Metadata);

    let beyond = "do not fit the provider (67108864 bytes).";
    let room = "leaves no room for metadata";
    let cases: [(Change<'_>, &str); 13] = [
        (&|m| m.extentsize = 0, "extentsize 0 is not a power of two."),
        (&|m| m.extentsize = 3 << 20, "is not a power of two."),
        (
            &|m| m.extentsize = 256,
            "extentsize 256 is less than a sector (512).",
        ),
        (&|m| m.keepdirty = 0, "keepdirty is 0."),
        (&|m| m.datasize = 0, "datasize is 0."),
        (
            &|m| m.datasize += 1,
            "is not a multiple of the sector size (512).",
        ),
        (
            &|m| m.offset += 8,
            "offset 4616 is not a multiple of the sector size (512).",
        ),
        (&|m| m.datasize += 512, beyond),
        (&|m| m.offset += 512, beyond),
        (&|m| m.datasize = u64::MAX - 511, beyond),
        (&|m| m.offset = 0, room),
        (&|m| m.offset = 4096, room),
        // 131064 extents need 16384 bytes of map, and there are 512.
        (&|m| m.extentsize = 512, room),
    ];
    for (change, text) in cases {
        let error = refused(change);
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn a_bitmap_of_4_gib_is_refused() {
    let mut metadata = fresh();
    metadata.offset = METADATA_BYTES + (4 << 30);
    let large = Geometry {
        mediasize: 1 << 40,
        sectorsize: 512,
    };
    let error = decode(&encode(&metadata), large).unwrap_err().to_string();
    assert!(error.contains("makes the bitmap larger than"), "{error}");
}

#[test]
fn roles_and_flags_that_nobody_writes_are_refused() {
    let good = encode(&fresh());
    let mut unknown = good.clone();
    let at = good.windows(5).position(|text| text == b"init\0").unwrap();
    unknown[at] = b'I';
    assert_eq!(
        decode(&unknown, GEOMETRY).unwrap_err().to_string(),
        "prevrole \"Init\" is not one of init, primary, secondary."
    );
    let mut flag = encode(&Metadata {
        inconsistent: true,
        ..fresh()
    });
    let at = flag.iter().rposition(|&byte| byte == 1).unwrap();
    flag[at] = 2;
    assert_eq!(
        decode(&flag, GEOMETRY).unwrap_err().to_string(),
        "x-inconsistent 2 is neither 0 nor 1."
    );
}

#[test]
fn a_provider_with_sectors_that_the_format_cannot_have_is_refused() {
    let geometry = Geometry {
        mediasize: MEDIASIZE,
        sectorsize: 8192,
    };
    assert_eq!(
        decode(&encode(&fresh()), geometry),
        Err(MetadataError::Provider(SizeError::Sector(8192)))
    );
}

#[test]
fn the_flag_of_an_inconsistent_copy_is_written_only_when_set() {
    let plain = encode(&fresh());
    let flagged = encode(&Metadata {
        inconsistent: true,
        ..fresh()
    });
    let pairs = |block: &[u8; METADATA_LEN]| Block::parse(block).unwrap().entries().count();
    assert_eq!((pairs(&plain), pairs(&flagged)), (9, 10));
    assert!(decode(&flagged, GEOMETRY).unwrap().inconsistent);
}

#[test]
fn what_the_original_writes_for_keepdirty_of_minus_one_is_read() {
    let metadata = Metadata {
        keepdirty: u32::MAX,
        ..fresh()
    };
    assert_eq!(decode(&encode(&metadata), GEOMETRY).unwrap(), metadata);
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Init), Just(Role::Primary), Just(Role::Secondary)]
}

proptest! {
    #[test]
    fn good_metadata_round_trip(
        resource in "[a-zA-Z0-9._/:\\[\\]-]{1,254}",
        sectors in 16..100_000_u64,
        extent in 9..31_u32,
        (keepdirty, resuid, localcnt, remotecnt) in (1..u32::MAX, any::<u64>(), any::<u64>(), any::<u64>()),
        prevrole in role(),
        inconsistent in any::<bool>(),
    ) {
        let geometry = Geometry { mediasize: sectors * 512, sectorsize: 512 };
        let options = CreateOptions { extentsize: 1 << extent, ..CreateOptions::default() };
        let plan = Plan::new(geometry, &options).unwrap();
        let metadata = Metadata {
            keepdirty, resuid, localcnt, remotecnt, prevrole, inconsistent,
            ..plan.metadata(&resource)
        };
        prop_assert_eq!(decode(&encode(&metadata), geometry).unwrap(), metadata);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), METADATA_LEN)) {
        let block: [u8; METADATA_LEN] = bytes.try_into().unwrap();
        let _ = decode(&block, GEOMETRY);
    }

    #[test]
    fn damaged_metadata_are_refused_or_still_make_sense(
        damage in proptest::collection::vec((0..300_usize, any::<u8>()), 1..4),
    ) {
        let mut block = encode(&fresh());
        for (at, byte) in damage {
            block[at] = byte;
        }
        if let Ok(metadata) = decode(&block, GEOMETRY) {
            let end = metadata.offset.checked_add(metadata.datasize).unwrap();
            prop_assert!(end <= MEDIASIZE && metadata.datasize > 0);
            prop_assert!(map_bytes(metadata.extents()) <= metadata.mapsize());
            prop_assert_eq!(decode(&encode(&metadata), GEOMETRY).unwrap(), metadata);
        }
    }
}

#[test]
fn creating_again_leaves_a_clean_bitmap_and_untouched_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.img");
    std::fs::write(&path, vec![0xff; 1 << 20]).unwrap();
    let provider = Provider::open(&path, Access::Exclusive).unwrap();
    let plan = Plan::new(provider.info().geometry, &CreateOptions::default()).unwrap();
    let metadata = plan.metadata("test");
    assert!(matches!(
        read(&provider, "test"),
        Err(ReadError::Invalid { .. })
    ));
    create(&provider, &metadata).unwrap();
    assert_eq!(read(&provider, "test").unwrap(), metadata);
    let error = read(&provider, "other").unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "Provider {} is not part of resource other: its metadata belongs to resource test.",
            path.display()
        )
    );
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes[4096..4608].iter().all(|&byte| byte == 0));
    assert!(bytes[4608..].iter().all(|&byte| byte == 0xff));
    assert_eq!(bytes.len(), 1 << 20);
}
