use super::*;
use proptest::prelude::*;

/// One packet with `data` bytes after it.
fn bytes_of(seq: u64, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, 2, |pairs| {
        pairs.u64("seq", seq);
        if !data.is_empty() {
            pairs.u32("size", u32::try_from(data.len()).unwrap());
        }
    });
    out.extend(data);
    out
}

/// A packet's `seq`, and its data if they were not skipped.
type Seen = (u64, Option<Vec<u8>>);

/// Reads `stream` in pieces of at most `piece` bytes; of every third packet the data are skipped.
fn read_all(
    mut decoder: Decoder,
    mut stream: &[u8],
    mut piece: impl FnMut() -> usize,
) -> (Vec<Seen>, Result<(), PacketError>) {
    let mut packets = Vec::new();
    let mut buffer = vec![0; 1 << 17];
    let mut current = (0, 0);
    loop {
        let taken = match decoder.step() {
            Err(error) => return (packets, Err(error)),
            Ok(Step::Fill(space)) => {
                assert!(!space.is_empty());
                let count = space.len().min(piece()).min(stream.len());
                space[..count].copy_from_slice(&stream[..count]);
                count
            }
            Ok(Step::Data { at, left }) => {
                let count = left.min(piece()).min(stream.len());
                buffer[at..at + count].copy_from_slice(&stream[..count]);
                count
            }
            Ok(Step::Packet(packet)) => {
                let seq = packet.block.find("seq").unwrap().u64().unwrap();
                current = (seq, packet.data_bytes as usize);
                if seq.is_multiple_of(3) {
                    decoder.skip_data();
                    packets.push((seq, None));
                } else {
                    decoder.take_data(&mut buffer).unwrap();
                }
                continue;
            }
            Ok(Step::Complete) => {
                packets.push((current.0, Some(buffer[..current.1].to_vec())));
                decoder.finish();
                continue;
            }
        };
        if taken == 0 {
            return (packets, decoder.end_of_stream());
        }
        decoder.received(taken);
        stream = &stream[taken..];
    }
}

#[test]
fn a_newer_version_and_impossible_lengths_are_refused_from_the_header_alone() {
    let cases = [
        ([3, 52, 0, 0, 0], PacketError::Version(3)),
        (
            [2, 0, 0, 0, 0],
            PacketError::HeadBytes {
                announced: 0,
                limit: 65536,
            },
        ),
        (
            [2, 255, 255, 255, 255],
            PacketError::HeadBytes {
                announced: u32::MAX,
                limit: 65536,
            },
        ),
        (
            [1, 1, 0, 1, 0],
            PacketError::HeadBytes {
                announced: 65537,
                limit: 65536,
            },
        ),
    ];
    for (header, error) in cases {
        let (packets, end) = read_all(Decoder::new(Limits::PEER), &header, || 1);
        assert_eq!((packets.len(), end), (0, Err(error)));
    }
}

#[test]
fn data_beyond_the_bound_are_refused_before_they_are_received() {
    let mut stream = bytes_of(1, &[7; 9]);
    stream.truncate(stream.len() - 9);
    let (packets, end) = read_all(Decoder::new(Limits::bitmap(8)), &stream, || 64);
    let error = PacketError::DataBytes {
        announced: 9,
        limit: 8,
    };
    assert_eq!((packets.len(), end), (0, Err(error)));
}

#[test]
fn a_size_of_another_type_and_a_malformed_block_are_refused() {
    let mut stream = Vec::new();
    write(&mut stream, 2, |pairs| {
        pairs.u64("size", 1);
    });
    let (_, end) = read_all(Decoder::new(Limits::PEER), &stream, || 64);
    assert_eq!(end, Err(PacketError::SizeKind));
    stream[HEADER_BYTES] = 99;
    let (_, end) = read_all(Decoder::new(Limits::PEER), &stream, || 64);
    assert_eq!(
        end,
        Err(PacketError::Block(NvError::BadType { at: 0, code: 99 }))
    );
}

#[test]
fn an_end_inside_a_packet_never_delivers_a_part_of_it() {
    let stream = [bytes_of(1, &[5; 600]), bytes_of(2, &[6; 600])].concat();
    let first = bytes_of(1, &[5; 600]).len();
    for cut in 0..=stream.len() {
        for decoder in [Decoder::new(Limits::PEER), Decoder::exact(Limits::PEER)] {
            let (packets, end) = read_all(decoder, &stream[..cut], || 97);
            assert_eq!(
                packets.len(),
                usize::from(cut >= first) + usize::from(cut == stream.len())
            );
            let whole = cut == 0 || cut == first || cut == stream.len();
            assert_eq!(
                end,
                if whole {
                    Ok(())
                } else {
                    Err(PacketError::EndInside)
                },
                "{cut}"
            );
        }
    }
}

#[test]
fn a_buffer_that_is_too_short_leaves_the_choice_to_skip() {
    let stream = bytes_of(1, &[5; 600]);
    let mut decoder = Decoder::new(Limits::PEER);
    let Ok(Step::Fill(space)) = decoder.step() else {
        panic!("a new decoder wants bytes")
    };
    space[..stream.len()].copy_from_slice(&stream);
    decoder.received(stream.len());
    assert!(matches!(decoder.step(), Ok(Step::Packet(_))));
    let error = PacketError::BufferBytes {
        needed: 600,
        given: 10,
    };
    assert_eq!(decoder.take_data(&mut [0; 10]), Err(error));
    assert!(matches!(decoder.step(), Ok(Step::Packet(_))));
    decoder.skip_data();
    assert!(matches!(decoder.step(), Ok(Step::Fill(_))));
    assert_eq!(decoder.end_of_stream(), Ok(()));
}

#[test]
fn an_exact_decoder_never_asks_for_a_byte_of_the_next_packet() {
    let one = bytes_of(1, &[5; 600]);
    let stream = [one.clone(), bytes_of(2, &[])].concat();
    let mut decoder = Decoder::exact(Limits::PEER);
    let mut buffer = [0; 600];
    let mut consumed = 0;
    loop {
        match decoder.step().unwrap() {
            Step::Fill(space) => {
                let count = space.len();
                space.copy_from_slice(&stream[consumed..consumed + count]);
                consumed += count;
                decoder.received(count);
            }
            Step::Packet(_) => decoder.take_data(&mut buffer).unwrap(),
            Step::Data { at, left } => {
                buffer[at..].copy_from_slice(&stream[consumed..consumed + left]);
                consumed += left;
                decoder.received(left);
            }
            Step::Complete => break,
        }
    }
    decoder.finish();
    assert_eq!(consumed, one.len());
    assert!(!decoder.has_read_ahead());
    assert_eq!(buffer, [5; 600]);
}

#[test]
fn a_large_head_grows_with_the_bytes_that_come() {
    let mut stream = Vec::new();
    write(&mut stream, 2, |pairs| {
        pairs.u64("seq", 1).bytes("bulk", &[9; 300_000]);
    });
    let decoder = Decoder::new(Limits::CONTROL_REPLY);
    let (packets, end) = read_all(decoder, &stream, || 50_000);
    assert_eq!((packets, end), (vec![(1, Some(vec![]))], Ok(())));
}

#[test]
fn a_head_as_one_message_must_be_exactly_one() {
    let one = bytes_of(1, &[]);
    assert!(Packet::parse(&one, Limits::PEER).is_ok());
    for bytes in [
        &one[..4],
        &one[..one.len() - 1],
        &[one.clone(), vec![0]].concat()[..],
    ] {
        let error = Packet::parse(bytes, Limits::PEER).map(|_| ());
        assert_eq!(error, Err(PacketError::EndInside));
    }
}

proptest! {
    #[test]
    fn packets_come_out_whole_however_the_stream_is_cut(
        sizes in prop::collection::vec(prop_oneof![0usize..64, 0usize..20_000], 1..12),
        pieces in prop::collection::vec(1usize..9000, 1..20),
        exact in any::<bool>(),
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (seq, &size) in (1u64..).zip(&sizes) {
            let data: Vec<u8> = (0..=250).cycle().skip(size % 251).take(size).collect();
            stream.extend(bytes_of(seq, &data));
            expected.push((seq, (!seq.is_multiple_of(3)).then_some(data)));
        }
        let decoder =
            if exact { Decoder::exact(Limits::PEER) } else { Decoder::new(Limits::PEER) };
        let mut pieces = pieces.iter().cycle();
        let (packets, end) = read_all(decoder, &stream, || *pieces.next().unwrap());
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(packets, expected);
    }
}
