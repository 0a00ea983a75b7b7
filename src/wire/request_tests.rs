use super::super::nv::Writer;
use super::super::packet::Limits;
use super::super::stages::Hash;
use super::*;
use crate::terms::Compression;
use proptest::prelude::*;

fn decode(pairs: impl FnOnce(&mut Writer<'_>)) -> Result<(Request, DataHead), BadRequest> {
    let mut out = Vec::new();
    packet::write(&mut out, 2, pairs);
    Request::decode(&Packet::parse(&out, Limits::PEER).unwrap())
}

/// Why a request is refused that is a good write of 4096 bytes but for the pairs in front.
fn refusal(front: impl FnOnce(&mut Writer<'_>)) -> RequestError {
    let refused = decode(|pairs| {
        front(pairs);
        pairs
            .u8("cmd", 2)
            .u64("seq", 5)
            .u64("offset", 0)
            .u64("length", 4096)
            .u32("size", 4096);
    })
    .unwrap_err();
    refused.reason
}

#[test]
fn bad_values_are_refused_each_with_its_reason() {
    let wrong = |wanted, found| WrongKind { wanted, found };
    use super::super::nv::Kind::{Int8, Uint8};
    let cases = [
        (
            refusal(|p| {
                p.u8("cmd", 0);
            }),
            RequestError::UnknownCommand(0),
        ),
        (
            refusal(|p| {
                p.u8("cmd", 6);
            }),
            RequestError::UnknownCommand(6),
        ),
        (
            refusal(|p| {
                p.i8("cmd", 2);
            }),
            RequestError::Kind("cmd", wrong(Uint8, Int8)),
        ),
        (
            refusal(|p| {
                p.u64("seq", 0);
            }),
            RequestError::SeqZero,
        ),
        (
            refusal(|p| {
                p.u64("length", 0);
            }),
            RequestError::LengthZero,
        ),
        (
            refusal(|p| {
                p.u64("length", 1 << 20 | 512);
            }),
            RequestError::TooLong(1 << 20 | 512),
        ),
        (
            refusal(|p| {
                p.u64("offset", u64::MAX - 4095);
            }),
            RequestError::EndOverflows,
        ),
        (
            refusal(|p| {
                p.u8("memsync", 2);
            }),
            RequestError::Flag("memsync", 2),
        ),
        (
            refusal(|p| {
                p.u8("cmd", 3).u8("memsync", 1);
            }),
            RequestError::MemsyncOutOfPlace,
        ),
        (
            refusal(|p| {
                p.u8("cmd", 1);
            }),
            RequestError::UnexpectedData,
        ),
        (
            refusal(|p| {
                p.u8("cmd", 5);
            }),
            RequestError::UnexpectedData,
        ),
        (
            refusal(|p| {
                p.string("compression", "zstd");
            }),
            RequestError::Data(StageError::UnknownCompression),
        ),
        (
            refusal(|p| {
                p.string("checksum", "md5");
            }),
            RequestError::Data(StageError::UnknownChecksum),
        ),
    ];
    for (reason, expected) in cases {
        assert_eq!(reason, expected);
        assert!(!reason.to_string().is_empty());
    }
    for (size, length) in [(4096, 8192), (8192, 4096), (0, 4096)] {
        assert!(matches!(
            refusal(|p| {
                p.u32("size", size).u64("length", length);
            }),
            RequestError::Data(StageError::Size { .. })
        ));
    }
    for hash in [1, 3, 5, 32] {
        assert!(matches!(
            refusal(|p| {
                p.string("checksum", "crc32").bytes("hash", &vec![1; hash]);
            }),
            RequestError::Data(StageError::HashBytes { .. })
        ));
    }
}

#[test]
fn missing_pairs_are_named_and_the_number_is_kept_for_the_answer() {
    let refused = decode(|p| {
        p.u64("seq", 7);
    })
    .unwrap_err();
    assert_eq!(
        refused,
        BadRequest {
            seq: Some(7),
            reason: RequestError::Missing("cmd")
        }
    );
    let refused = decode(|p| {
        p.u8("cmd", 2);
    })
    .unwrap_err();
    assert_eq!(
        refused,
        BadRequest {
            seq: None,
            reason: RequestError::Missing("seq")
        }
    );
    let refused = decode(|p| {
        p.u8("cmd", 1).u64("seq", 7);
    })
    .unwrap_err();
    assert_eq!(refused.reason, RequestError::Missing("offset"));
    let refused = decode(|p| {
        p.u8("cmd", 1).u64("seq", 7).u64("offset", 0);
    })
    .unwrap_err();
    assert_eq!(refused.reason, RequestError::Missing("length"));
    let refused = decode(|p| {
        p.u8("cmd", 9).u8("seq", 7);
    })
    .unwrap_err();
    assert_eq!(refused.seq, None);
}

#[test]
fn unknown_pairs_are_ignored_and_a_keepalive_needs_nothing() {
    let (request, data) = decode(|p| {
        p.u8("cmd", 5).string("x-other", "1");
    })
    .unwrap();
    assert_eq!((request.command, request.seq), (Command::Keepalive, 0));
    assert_eq!(data, DataHead::EMPTY);
}

#[test]
fn replies_that_make_no_sense_are_refused() {
    let decode = |pairs: fn(&mut Writer<'_>)| {
        let mut out = Vec::new();
        packet::write(&mut out, 2, pairs);
        Reply::decode(&Packet::parse(&out, Limits::PEER).unwrap()).map(|(reply, _)| reply)
    };
    assert_eq!(
        decode(|p| {
            p.i16("error", 5);
        }),
        Err(RequestError::Missing("seq"))
    );
    assert_eq!(
        decode(|p| {
            p.u64("seq", 0);
        }),
        Err(RequestError::SeqZero)
    );
    let negative = decode(|p| {
        p.u64("seq", 1).i16("error", -5);
    });
    assert_eq!(negative, Err(RequestError::BadErrno(-5)));
    let flag = decode(|p| {
        p.u64("seq", 1).i8("received", -1);
    });
    assert_eq!(flag, Err(RequestError::Flag("received", 255)));
    let data = decode(|p| {
        p.u64("seq", 1).i16("error", 5).u32("size", 512);
    });
    assert_eq!(data, Err(RequestError::UnexpectedData));
    let plain = decode(|p| {
        p.u64("seq", 1).i16("error", 0).i8("received", 0);
    });
    assert_eq!(
        plain,
        Ok(Reply {
            seq: 1,
            error: None,
            received: false
        })
    );
}

#[test]
fn a_heartbeat_is_neither_a_reply_nor_an_error() {
    let mut out = Vec::new();
    encode_heartbeat(&mut out);
    let packet = Packet::parse(&out, Limits::PEER).unwrap();
    assert_eq!(Response::decode(&packet), Ok(Response::Heartbeat));
    out.clear();
    let reply = Reply {
        seq: 3,
        error: Some(Errno::EIO),
        received: false,
    };
    reply.encode(&DataHead::EMPTY, &mut out);
    let packet = Packet::parse(&out, Limits::PEER).unwrap();
    assert_eq!(
        Response::decode(&packet),
        Ok(Response::Reply(reply, DataHead::EMPTY))
    );
    out.clear();
    packet::write(&mut out, 2, |pairs| {
        pairs.u8("x-heartbeat", 0);
    });
    let packet = Packet::parse(&out, Limits::PEER).unwrap();
    assert_eq!(Response::decode(&packet), Err(RequestError::Missing("seq")));
}

fn any_request() -> impl Strategy<Value = (Request, DataHead)> {
    let numbers = (
        1u64..,
        0..1u64 << 62,
        1u32..=REQUEST_BYTES_MAX,
        prop::sample::select(&[1u8, 2, 3, 4, 5, 64, 65][..]),
        any::<[u8; 32]>(),
    );
    (numbers, any::<bool>()).prop_map(|((seq, offset, length, which, hash), memsync)| {
        let command = Command::from_code(which).unwrap();
        let mut request = Request {
            command,
            seq,
            offset,
            length: length.into(),
            memsync: false,
        };
        let mut data = DataHead::EMPTY;
        match command {
            Command::Write => {
                request.memsync = memsync;
                let hash = match hash[0] % 3 {
                    0 => Hash::None,
                    1 => Hash::Crc32(*hash.first_chunk().unwrap()),
                    _ => Hash::Sha256(hash),
                };
                data = match hash {
                    Hash::Crc32(_) => DataHead {
                        size: 4,
                        compression: Compression::Hole,
                        hash,
                    },
                    _ => DataHead {
                        size: length,
                        compression: Compression::None,
                        hash,
                    },
                };
            }
            Command::Flush | Command::Ahead | Command::InStep | Command::Target => {
                (request.offset, request.length) = (0, 0);
            }
            Command::Keepalive => {
                (request.seq, request.offset, request.length) = (0, 0, 0);
            }
            Command::Read | Command::Delete => {}
        }
        (request, data)
    })
}

proptest! {
    #[test]
    fn requests_round_trip((request, data) in any_request()) {
        let mut out = Vec::new();
        request.encode(&data, &mut out);
        let packet = Packet::parse(&out, Limits::PEER).unwrap();
        prop_assert_eq!(packet.data_bytes, data.size);
        prop_assert_eq!(Request::decode(&packet), Ok((request, data)));
    }

    #[test]
    fn replies_round_trip(seq in 1u64.., error in 0i16.., received in any::<bool>(), size: u16) {
        let error = Errno::from_wire(error);
        let reply = Reply { seq, error, received };
        let size = if error.is_some() || received { 0 } else { u32::from(size) };
        let data = DataHead { size, compression: Compression::None, hash: Hash::None };
        let mut out = Vec::new();
        reply.encode(&data, &mut out);
        let packet = Packet::parse(&out, Limits::PEER).unwrap();
        prop_assert_eq!(Reply::decode(&packet), Ok((reply, data)));
    }

    #[test]
    fn damaged_requests_never_panic_and_keep_to_the_bounds(
        (request, data) in any_request(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut out = Vec::new();
        request.encode(&data, &mut out);
        let at = at.index(out.len());
        out[at] = byte;
        if let Ok(packet) = Packet::parse(&out, Limits::PEER) {
            let _ = Reply::decode(&packet);
            if let Ok((request, data)) = Request::decode(&packet) {
                prop_assert!(request.offset.checked_add(request.length).is_some());
                prop_assert!(data.size <= REQUEST_BYTES_MAX + 4);
            }
        }
    }
}
