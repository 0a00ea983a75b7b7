use super::*;
use proptest::prelude::*;

const ALL_COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Hole, Compression::Lzf];
const ALL_CHECKSUMS: [Checksum; 3] = [Checksum::None, Checksum::Crc32, Checksum::Sha256];

fn plain(size: u32, compression: Compression) -> DataHead {
    DataHead {
        size,
        compression,
        hash: Hash::None,
    }
}

#[test]
fn a_block_that_announces_another_length_is_refused_before_the_buffer_is_touched() {
    for length in [u32::MAX, 4095, 4097, 0] {
        let data = length.to_le_bytes();
        let error = StageError::Length {
            announced: length.into(),
            expected: 4096,
        };
        let mut output = [0xaa; 4096];
        assert_eq!(
            decode(&plain(4, Compression::Hole), &data, 4096, &mut output),
            Err(error)
        );
        let stream = [&data[..], &[0, 1]].concat();
        assert_eq!(
            decode(&plain(6, Compression::Lzf), &stream, 4096, &mut output),
            Err(error)
        );
        assert_eq!(output, [0xaa; 4096]);
    }
}

#[test]
fn data_that_cannot_be_a_block_of_that_length_are_refused() {
    let cases = [
        (plain(4095, Compression::None), 4096),
        (plain(0, Compression::None), 4096),
        (plain(5, Compression::Hole), 4096),
        (plain(3, Compression::Hole), 4096),
        (plain(4, Compression::Hole), 0),
        (plain(4, Compression::Lzf), 4096),
        (plain(4100, Compression::Lzf), 4096),
    ];
    for (head, length) in cases {
        assert!(head.check_length(length).is_err(), "{head:?} {length}");
    }
    assert!(plain(9, Compression::Lzf).check_length(u64::MAX).is_ok());
}

#[test]
fn a_stream_of_another_length_than_it_announces_is_refused() {
    let stream = [&4096u32.to_le_bytes()[..], &[0, 1]].concat();
    let error = StageError::Length {
        announced: 1,
        expected: 4096,
    };
    let result = decode(&plain(6, Compression::Lzf), &stream, 4096, &mut [0; 4096]);
    assert_eq!(result, Err(error));
    let error = StageError::BufferBytes {
        needed: 4096,
        given: 10,
    };
    let result = decode(&plain(6, Compression::Lzf), &stream, 4096, &mut [0; 10]);
    assert_eq!(result, Err(error));
}

#[test]
fn one_flipped_bit_is_noticed_by_every_checksum() {
    let mut table = lzf::Table::new();
    for checksum in [Checksum::Crc32, Checksum::Sha256] {
        for compression in ALL_COMPRESSIONS {
            let mut block = b"text ".repeat(1000);
            let mut output = vec![0; block.len()];
            let stages = Stages {
                compression,
                checksum,
            };
            let encoded = encode(stages, &block, &mut output, &mut table);
            let wire = match encoded.source {
                Source::Block => &mut block,
                Source::Output => &mut output,
            };
            wire.truncate(encoded.head.size as usize);
            wire[3] ^= 0x10;
            let result = decode(&encoded.head, wire, 5000, &mut [0; 5000]);
            assert_eq!(result, Err(StageError::HashMismatch(checksum)));
        }
    }
}

#[test]
fn small_blocks_and_poor_gains_are_sent_as_they_are() {
    let stages = Stages {
        compression: Compression::Lzf,
        checksum: Checksum::None,
    };
    let mut table = lzf::Table::new();
    let mut encode_one =
        |block: &[u8]| encode(stages, block, &mut vec![0; block.len()], &mut table);
    assert_eq!(encode_one(&[7; 1024]).source, Source::Block);
    assert_eq!(encode_one(&[7; 2048]).head.compression, Compression::Lzf);
    let mut noise: Vec<u8> = (0..1024u32)
        .flat_map(|at| crc32fast::hash(&at.to_le_bytes()).to_le_bytes())
        .collect();
    noise[2048..3000].fill(1);
    assert_eq!(encode_one(&noise).source, Source::Block);
    assert_eq!(encode_one(&[]).head, DataHead::EMPTY);
}

#[test]
fn zeros_without_a_buffer_encode_as_zeros_in_one() {
    let mut table = lzf::Table::new();
    for checksum in ALL_CHECKSUMS {
        let stages = Stages {
            compression: Compression::Lzf,
            checksum,
        };
        let mut output = vec![0; 8];
        let encoded = encode(stages, &[0; 65536], &mut output, &mut table);
        let (head, data) = encode_zeroes(checksum, 65536);
        assert_eq!((encoded.head, &output[..4]), (head, &data[..]));
        assert_eq!(decode(&head, &data, 65536, &mut []), Ok(Decoded::Zeroes));
    }
}

#[test]
fn one_byte_anywhere_makes_a_block_not_zero() {
    let mut block = vec![0; 1111];
    assert!(is_zero(&block));
    assert!(is_zero(&[]));
    for at in 0..block.len() {
        block[at] = 1;
        assert!(!is_zero(&block), "{at}");
        block[at] = 0;
    }
}

#[test]
fn checksums_are_the_usual_ones() {
    assert_eq!(
        Hash::of(Checksum::Crc32, b"123456789"),
        Hash::Crc32([0x26, 0x39, 0xf4, 0xcb])
    );
    let Hash::Sha256(hash) = Hash::of(Checksum::Sha256, b"abc") else {
        panic!("sha256")
    };
    assert_eq!(hash[..4], [0xba, 0x78, 0x16, 0xbf]);
}

proptest! {
    #[test]
    fn blocks_round_trip_through_every_stage(
        pattern in prop::collection::vec(any::<u8>(), 1..300),
        length in 1usize..6000,
        zero in any::<bool>(),
        compression in prop::sample::select(&ALL_COMPRESSIONS[..]),
        checksum in prop::sample::select(&ALL_CHECKSUMS[..]),
        room in 0usize..6000,
    ) {
        let block: Vec<u8> = if zero {
            vec![0; length]
        } else {
            pattern.iter().copied().cycle().take(length).collect()
        };
        let mut output = vec![0; room];
        let mut table = lzf::Table::new();
        let encoded = encode(Stages { compression, checksum }, &block, &mut output, &mut table);
        let wire = match encoded.source {
            Source::Block => &block[..],
            Source::Output => &output[..encoded.head.size as usize],
        };
        let mut received = vec![0xaa; length];
        match decode(&encoded.head, wire, u32::try_from(length).unwrap(), &mut received).unwrap() {
            Decoded::InPlace => prop_assert_eq!(wire, &block[..]),
            Decoded::Output => prop_assert_eq!(received, block),
            Decoded::Zeroes => prop_assert_eq!(vec![0; length], block),
        }
    }
}
