use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn geometry(mediasize: u64) -> Geometry {
    Geometry {
        mediasize,
        sectorsize: 512,
    }
}

fn refused(mediasize: u64, options: &CreateOptions) -> SizeError {
    Plan::new(geometry(mediasize), options).expect_err("sizes that make no sense")
}

fn with(change: impl FnOnce(&mut CreateOptions)) -> CreateOptions {
    let mut options = CreateOptions::default();
    change(&mut options);
    options
}

#[test]
fn providers_without_room_for_a_sector_of_data_are_refused() {
    for mediasize in [0, 1, 1024, 4095, 4096, 4097, 4608, 4609, 5119] {
        assert_eq!(
            refused(mediasize, &CreateOptions::default()),
            SizeError::TooSmall {
                mediasize,
                least: 5120
            }
        );
    }
    let smallest = Plan::new(geometry(5120), &CreateOptions::default()).unwrap();
    assert_eq!((smallest.offset, smallest.datasize), (4608, 512));
}

#[test]
fn media_sizes_with_part_of_a_sector_are_refused_with_one_that_fits() {
    let error = refused(64 * MIB + 1, &CreateOptions::default());
    assert!(error.to_string().contains("use -m 67108864."), "{error}");
}

#[test]
fn media_sizes_beyond_the_provider_and_beyond_off_t_are_refused() {
    let larger = with(|options| options.mediasize = Some(64 * MIB + 512));
    assert_eq!(refused(64 * MIB, &larger), SizeError::LargerThanProvider);
    assert_eq!(
        refused(1 << 63, &CreateOptions::default()),
        SizeError::TooLarge(1 << 63)
    );
}

#[test]
fn extents_that_are_no_power_of_two_or_do_not_fit_are_refused() {
    let extent = |extentsize| with(|options| options.extentsize = extentsize);
    let cases = [
        (0, "multiple of sector size"),
        (256, "multiple of sector size"),
        (
            1000,
            "Extent size (1000) is not multiple of sector size (512).",
        ),
        (3 * MIB, "not a power of two"),
        (1 << 31, "too large"),
        (1 << 32, "too large"),
        (u64::MAX, "multiple of sector size"),
    ];
    for (extentsize, text) in cases {
        let error = refused(1 << 34, &extent(extentsize)).to_string();
        assert!(error.contains(text), "{extentsize}: {error}");
    }
    assert!(Plan::new(geometry(1 << 34), &extent(1 << 30)).is_ok());
}

#[test]
fn keepdirty_of_nothing_and_negative_keepdirty_are_refused() {
    for keepdirty in [0, 1 << 31, u64::MAX] {
        let options = with(|options| options.keepdirty = keepdirty);
        assert_eq!(refused(64 * MIB, &options), SizeError::Keepdirty(keepdirty));
    }
}

#[test]
fn alignments_that_are_no_power_of_two_or_out_of_range_are_refused() {
    for alignment in [0, 1, 256, 3 * 512, 32 * MIB, u64::MAX] {
        let options = with(|options| options.alignment = Some(alignment));
        assert!(matches!(
            refused(1 << 34, &options),
            SizeError::Alignment { .. }
        ));
    }
}

#[test]
fn a_bitmap_that_no_worker_should_hold_is_refused() {
    let options = with(|options| options.extentsize = 512);
    assert!(matches!(
        refused(10 << 40, &options),
        SizeError::MapTooLarge { .. }
    ));
}

#[test]
fn sectors_that_do_not_divide_the_metadata_block_are_refused() {
    for sectorsize in [0, 256, 520, 8192] {
        let geometry = Geometry {
            mediasize: 1 << 30,
            sectorsize,
        };
        let error = Plan::new(geometry, &CreateOptions::default()).unwrap_err();
        assert_eq!(error, SizeError::Sector(sectorsize));
    }
}

#[test]
fn alignment_moves_the_data_area_up_and_shrinks_it() {
    let plain = Plan::new(geometry(64 * MIB), &CreateOptions::default()).unwrap();
    let options = with(|options| options.alignment = Some(4096));
    let aligned = Plan::new(geometry(64 * MIB), &options).unwrap();
    assert_eq!((plain.offset, aligned.offset), (4608, 8192));
    assert_eq!(aligned.datasize, 64 * MIB - 8192);
}

proptest! {
    #[test]
    fn every_accepted_layout_fits_covers_its_data_and_is_aligned(
        mediasize in prop_oneof![0..100_000_u64, 0..1_u64 << 50, any::<u64>()],
        sectors in 9..13_u32,
        given in proptest::option::of(any::<u64>()),
        extent in prop_oneof![(9..31_u32).prop_map(|bits| 1_u64 << bits), any::<u64>()],
        keepdirty in 0..3_u64,
        alignment in proptest::option::of((8..26_u32).prop_map(|bits| 1_u64 << bits)),
        whole in any::<bool>(),
    ) {
        let sectorsize = 1_u32 << sectors;
        let mediasize = if whole { mediasize & !u64::from(sectorsize - 1) } else { mediasize };
        let options = CreateOptions {
            extentsize: extent,
            keepdirty,
            mediasize: given.map(|given| given % mediasize.max(1)),
            alignment,
        };
        if let Ok(plan) = Plan::new(Geometry { mediasize, sectorsize }, &options) {
            let metadata = plan.metadata("test");
            let end = metadata.offset.checked_add(metadata.datasize).unwrap();
            prop_assert_eq!(end, options.mediasize.unwrap_or(mediasize));
            prop_assert!(end <= mediasize && metadata.datasize > 0);
            prop_assert!(map_bytes(metadata.extents()) <= metadata.mapsize());
            prop_assert!(metadata.offset.is_multiple_of(alignment.unwrap_or(512)));
            prop_assert!(metadata.offset.is_multiple_of(u64::from(sectorsize)));
            prop_assert!(metadata.datasize.is_multiple_of(u64::from(sectorsize)));
            prop_assert!(metadata.extentsize >= sectorsize);
        }
    }
}
