use super::super::packet::Limits;
use super::super::stages::Hash;
use super::*;
use crate::terms::Compression;
use proptest::prelude::*;

fn opening(pairs: impl FnOnce(&mut Writer<'_>)) -> Result<Opening, HelloError> {
    let mut out = Vec::new();
    packet::write(&mut out, 1, pairs);
    Opening::decode(&Packet::parse(&out, Limits::PEER).unwrap())
}

#[test]
fn bad_openings_are_refused_each_with_its_reason() {
    let long = "r".repeat(RESOURCE_NAME_MAX_BYTES + 1);
    let cases = [
        (
            opening(|p| {
                p.u8("version", 2);
            }),
            HelloError::Missing("resource"),
        ),
        (
            opening(|p| {
                p.string("resource", "");
            }),
            HelloError::ResourceBytes(0),
        ),
        (
            opening(|p| {
                p.string("resource", &long);
            }),
            HelloError::ResourceBytes(255),
        ),
        (
            opening(|p| {
                p.string("resource", "r").bytes("token", &[1; 15]);
            }),
            HelloError::TokenBytes(15),
        ),
        (
            opening(|p| {
                p.string("resource", "r").bytes("token", &[1; 16]);
            }),
            HelloError::Missing("resuid"),
        ),
        (
            opening(|p| {
                p.string("resource", "r")
                    .bytes("token", &[1; 16])
                    .u64("resuid", 0);
                p.u64("localcnt", 0).u64("remotecnt", 0);
            }),
            HelloError::Value("resuid"),
        ),
        (
            opening(|p| {
                p.string("resource", "r").u32("size", 1);
            }),
            HelloError::UnexpectedData,
        ),
        (
            opening(|p| {
                p.string("resource", "r").u32("x-request", 0);
            }),
            HelloError::Value("x-request"),
        ),
    ];
    for (result, expected) in cases {
        assert_eq!(result, Err(expected));
        assert!(!expected.to_string().is_empty());
    }
}

#[test]
fn a_first_step_without_a_version_is_version_1_and_offers_nothing() {
    let expected = Opening::First {
        resource: "r".into(),
        version: 1,
        offer: Offer::NONE,
    };
    assert_eq!(
        opening(|p| {
            p.string("resource", "r");
        }),
        Ok(expected)
    );
}

fn verdict(mapsize: u32, size: u32, datasize: i64, syncsrc: u8) -> Result<Verdict, HelloError> {
    let mut out = Vec::new();
    packet::write(&mut out, 2, |pairs| {
        pairs
            .i64("datasize", datasize)
            .i32("extentsize", 2 << 20)
            .u64("localcnt", 0);
        pairs
            .u64("remotecnt", 0)
            .u8("syncsrc", syncsrc)
            .u32("mapsize", mapsize);
        if size > 0 {
            pairs.u32("size", size);
        }
    });
    Verdict::decode(&Packet::parse(&out, Limits::PEER).unwrap(), 4096)
}

#[test]
fn verdicts_outside_the_bounds_are_refused() {
    assert_eq!(
        verdict(u32::MAX, 0, 1 << 30, 1),
        Err(HelloError::Value("mapsize"))
    );
    assert_eq!(
        verdict(4097, 4097, 1 << 30, 1),
        Err(HelloError::Value("mapsize"))
    );
    assert!(matches!(
        verdict(512, 0, 1 << 30, 1),
        Err(HelloError::Map(_))
    ));
    assert!(matches!(
        verdict(0, 512, 1 << 30, 1),
        Err(HelloError::Map(_))
    ));
    assert_eq!(verdict(0, 0, -1, 1), Err(HelloError::Value("datasize")));
    assert_eq!(verdict(0, 0, 0, 1), Err(HelloError::Value("datasize")));
    assert_eq!(verdict(0, 0, 1 << 30, 3), Err(HelloError::Value("syncsrc")));
    assert!(verdict(512, 512, 1 << 30, 2).is_ok());
}

#[test]
fn refusals_carry_their_text_and_the_wish_to_wait() {
    let answer = Answer::Refused {
        message: "Resource not configured.".into(),
        wait: true,
    };
    let mut out = Vec::new();
    answer.encode(&mut out);
    assert_eq!(
        Answer::decode(&Packet::parse(&out, Limits::HANDSHAKE).unwrap()),
        Ok(answer)
    );
    let known = Component {
        datasize: 1 << 30,
        extentsize: 2 << 20,
        localcnt: 1,
        remotecnt: 2,
    };
    for component in [None, Some(known)] {
        let verdict = Verdict::Refused {
            message: SPLIT_BRAIN_TEXT.into(),
            component,
        };
        out.clear();
        verdict.encode(&mut out);
        let packet = Packet::parse(&out, Limits::PEER).unwrap();
        assert_eq!(Verdict::decode(&packet, 0), Ok(verdict));
    }
}

fn any_offer() -> impl Strategy<Value = Offer> {
    (
        prop::option::of(1u32..),
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(request_bytes, heartbeat, copy_states, steering)| Offer {
            request_bytes,
            heartbeat,
            copy_states,
            steering,
        })
}

proptest! {
    #[test]
    fn openings_and_answers_round_trip(
        resource in "[^\0]{1,60}",
        token in any::<[u8; 16]>(),
        counters in any::<(u64, u64)>(),
        resuid in 1u64..,
        virgin in any::<bool>(),
        offer in any_offer(),
    ) {
        let hello =
            PrimaryHello { virgin, resuid, localcnt: counters.0, remotecnt: counters.1 };
        for opening in [
            Opening::First { resource: resource.clone(), version: 2, offer },
            Opening::Second { resource, token, hello, offer },
        ] {
            let mut out = Vec::new();
            opening.encode(&mut out);
            let packet = Packet::parse(&out, Limits::HANDSHAKE).unwrap();
            prop_assert_eq!(Opening::decode(&packet), Ok(opening));
        }
        let answer = Answer::Accepted { version: 2, token, offer };
        let mut out = Vec::new();
        answer.encode(&mut out);
        let packet = Packet::parse(&out, Limits::HANDSHAKE).unwrap();
        prop_assert_eq!(Answer::decode(&packet), Ok(answer));
    }

    #[test]
    fn verdicts_round_trip(
        datasize in 1u64..1 << 62,
        counters in any::<(u64, u64)>(),
        mapsize in 0u32..1 << 20,
        virgin in any::<bool>(),
        primary in any::<bool>(),
        offer in any_offer(),
    ) {
        let syncsrc = if primary { SyncSource::Primary } else { SyncSource::Secondary };
        let (localcnt, remotecnt) = counters;
        let hello = SecondaryHello {
            datasize, extentsize: 512, localcnt, remotecnt, virgin, syncsrc, mapsize,
        };
        let map = DataHead { size: mapsize, compression: Compression::None, hash: Hash::None };
        let verdict = Verdict::Accepted { hello, map, offer };
        let mut out = Vec::new();
        verdict.encode(&mut out);
        let packet = Packet::parse(&out, Limits::PEER).unwrap();
        prop_assert_eq!(Verdict::decode(&packet, 1 << 20), Ok(verdict));
    }
}
