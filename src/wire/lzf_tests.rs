use super::*;
use proptest::prelude::*;

/// Round trip of `input`; the stream, if it was compressible.
fn round_trip(input: &[u8], table: &mut Table) -> Option<Vec<u8>> {
    let mut stream = vec![0; input.len() + input.len() / 16 + 16];
    let used = compress(input, &mut stream, table)?;
    stream.truncate(used);
    let mut output = vec![0xaa; input.len()];
    assert_eq!(decompress(&stream, &mut output), Ok(input.len()));
    assert_eq!(output, input);
    Some(stream)
}

#[test]
fn damaged_streams_are_refused() {
    let mut output = [0; 8];
    assert_eq!(
        decompress(&[3, 1, 2], &mut output),
        Err(LzfError::Truncated)
    );
    assert_eq!(decompress(&[0x20], &mut output), Err(LzfError::Truncated));
    assert_eq!(
        decompress(&[0xe0, 1], &mut output),
        Err(LzfError::Truncated)
    );
    assert_eq!(
        decompress(&[0x20, 0], &mut output),
        Err(LzfError::BadReference)
    );
    assert_eq!(
        decompress(&[0, 1, 0x20, 1], &mut output),
        Err(LzfError::BadReference)
    );
    assert_eq!(
        decompress(&[8, 1, 2, 3, 4, 5, 6, 7, 8, 9], &mut output),
        Err(LzfError::TooLong)
    );
    assert_eq!(
        decompress(&[0, 1, 0xe0, 0xff, 0], &mut output),
        Err(LzfError::TooLong)
    );
    assert_eq!(decompress(&[], &mut output), Ok(0));
}

#[test]
fn overlapping_references_repeat_the_pattern() {
    let mut output = [0; 10];
    assert_eq!(decompress(&[1, b'a', b'b', 0xc0, 1], &mut output), Ok(10));
    assert_eq!(&output, b"ababababab");
}

#[test]
fn a_stream_that_does_not_fit_is_given_up() {
    let input: Vec<u8> = (0..=255).collect();
    let mut table = Table::new();
    assert_eq!(compress(&input, &mut [0; 255], &mut table), None);
    assert_eq!(compress(&[7; 4096], &mut [0; 8], &mut table), None);
    assert_eq!(compress(&[1], &mut [0; 8], &mut table), None);
    assert_eq!(compress(&[1, 2], &mut [], &mut table), None);
}

#[test]
fn the_table_of_earlier_blocks_does_not_change_the_output() {
    let text = b"The quick brown fox jumps over the lazy dog. ".repeat(100);
    let fresh = round_trip(&text, &mut Table::new()).unwrap();
    let mut used = Table::new();
    round_trip(&text[7..], &mut used).unwrap();
    assert_eq!(round_trip(&text, &mut used).unwrap(), fresh);
    used.base = u32::MAX - 100;
    assert_eq!(round_trip(&text, &mut used).unwrap(), fresh);
}

#[test]
fn every_length_of_a_run_round_trips() {
    let mut table = Table::new();
    for length in 2..700 {
        let mut input = vec![9; length];
        round_trip(&input, &mut table);
        input[length - 1] = 8;
        round_trip(&input, &mut table);
    }
}

proptest! {
    #[test]
    fn structured_blocks_round_trip(
        words in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 1..10),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..400),
    ) {
        let input: Vec<u8> =
            order.iter().flat_map(|at| words[at.index(words.len())].clone()).collect();
        round_trip(&input, &mut Table::new());
    }

    #[test]
    fn arbitrary_streams_never_panic_and_stay_inside(
        stream in prop::collection::vec(any::<u8>(), 0..300),
        room in 0usize..400,
    ) {
        let mut output = vec![0xaa; room + 8];
        let result = decompress(&stream, &mut output[..room]);
        prop_assert!(result.is_err() || result.unwrap() <= room);
        prop_assert_eq!(&output[room..], &[0xaa; 8][..]);
    }
}
