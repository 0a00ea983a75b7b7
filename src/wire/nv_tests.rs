use super::*;
use proptest::prelude::*;

fn entry(kind: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, u8::try_from(name.len()).unwrap()];
    out.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
    out.extend(name);
    out.resize(6 + name.len().next_multiple_of(8), 0);
    out.extend(value);
    out.resize(
        6 + name.len().next_multiple_of(8) + value.len().next_multiple_of(8),
        0,
    );
    out
}

#[test]
fn malformed_entries_are_refused_with_their_place() {
    let good = entry(2, b"cmd\0", &[2]);
    let cases: [(Vec<u8>, NvError); 13] = [
        (
            entry(18, b"a\0", &[1]),
            NvError::BadType { at: 0, code: 18 },
        ),
        (
            entry(0x82, b"a\0", &[1]),
            NvError::BadType { at: 0, code: 0x82 },
        ),
        (entry(2, b"", &[1]), NvError::BadName { at: 0 }),
        (entry(2, b"\0", &[1]), NvError::BadName { at: 0 }),
        (entry(2, b"ab", &[1]), NvError::BadName { at: 0 }),
        (entry(2, b"a\0b\0", &[1]), NvError::BadName { at: 0 }),
        (
            entry(2, b"a\0", &[]),
            NvError::BadValue {
                at: 0,
                kind: Kind::Uint8,
            },
        ),
        (
            entry(2, b"a\0", &[1, 2]),
            NvError::BadValue {
                at: 0,
                kind: Kind::Uint8,
            },
        ),
        (
            entry(12, b"a\0", &[1, 2, 3]),
            NvError::BadValue {
                at: 0,
                kind: Kind::Uint16Array,
            },
        ),
        (
            entry(17, b"a\0", b"text"),
            NvError::BadValue {
                at: 0,
                kind: Kind::String,
            },
        ),
        (
            entry(17, b"a\0", b"te\0t\0"),
            NvError::BadValue {
                at: 0,
                kind: Kind::String,
            },
        ),
        (
            [good.clone(), vec![2]].concat(),
            NvError::Truncated { at: 22 },
        ),
        (good[..21].to_vec(), NvError::Truncated { at: 0 }),
    ];
    for (bytes, error) in cases {
        assert_eq!(Block::parse(&bytes).map(|_| ()), Err(error), "{bytes:?}");
    }
}

#[test]
fn a_value_that_announces_4_gib_is_refused() {
    let mut bytes = entry(10, b"hash\0", &[0; 8]);
    for length in [u32::MAX, u32::MAX - 7, 0x8000_0000, 9] {
        bytes[2..6].copy_from_slice(&length.to_le_bytes());
        assert_eq!(
            Block::parse(&bytes).map(|_| ()),
            Err(NvError::Truncated { at: 0 })
        );
    }
}

#[test]
fn a_zero_type_ends_the_block() {
    let mut bytes = entry(2, b"cmd\0", &[2]);
    let entry_bytes = bytes.len();
    bytes.extend([0; 13]);
    let block = Block::parse(&bytes).unwrap();
    assert_eq!(block.entries().count(), 1);
    assert_eq!(block.as_bytes().len(), entry_bytes);
    assert_eq!(Block::parse(&[]).unwrap().entries().count(), 0);
}

#[test]
fn the_first_of_equal_names_counts_and_types_are_not_converted() {
    let bytes = [
        entry(2, b"a\0", &[1]),
        entry(2, b"a\0", &[2]),
        entry(4, b"b\0", &[1, 0]),
    ];
    let bytes = bytes.concat();
    let block = Block::parse(&bytes).unwrap();
    assert_eq!(block.find("a").unwrap().u8(), Ok(1));
    let wrong = WrongKind {
        wanted: Kind::Uint8,
        found: Kind::Uint16,
    };
    assert_eq!(block.find("b").unwrap().u8(), Err(wrong));
    assert_eq!(wrong.to_string(), "is uint16 instead of uint8");
    assert!(block.find("c").is_none());
}

#[test]
fn strings_are_cut_at_a_nul_and_must_be_utf8_only_where_asked() {
    let mut out = Vec::new();
    Writer::new(&mut out)
        .string("s", "ab\0cd")
        .string("empty", "");
    out.extend(entry(17, b"latin\0", b"\xe4\0"));
    let block = Block::parse(&out).unwrap();
    assert_eq!(block.find("s").unwrap().str(), Ok("ab"));
    assert_eq!(block.find("empty").unwrap().str(), Ok(""));
    assert_eq!(
        block.find("latin").unwrap().string_bytes(),
        Ok(&b"\xe4"[..])
    );
    assert!(block.find("latin").unwrap().str().is_err());
}

#[test]
fn the_layout_is_that_of_the_original() {
    let mut out = Vec::new();
    Writer::new(&mut out)
        .u64("seq", 1)
        .string("checksum", "sha256");
    let mut expected = entry(8, b"seq\0", &[1, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend(entry(17, b"checksum\0", b"sha256\0"));
    assert_eq!(out, expected);
}

/// One pair of any kind, as its kind and its bytes on the wire.
fn any_pair() -> impl Strategy<Value = (Kind, String, Vec<u8>)> {
    (
        0..Kind::ALL.len(),
        "[a-z_]{1,254}",
        prop::collection::vec(any::<u8>(), 1..5),
    )
        .prop_map(|(kind, name, seed)| {
            let kind = Kind::ALL[kind];
            let value = match kind {
                Kind::String => seed.iter().map(|byte| byte | 1).chain([0]).collect(),
                _ if kind.is_scalar() => vec![seed[0]; kind.width()],
                _ => seed.repeat(kind.width()),
            };
            (kind, name, value)
        })
}

proptest! {
    #[test]
    fn what_was_written_is_read(pairs in prop::collection::vec(any_pair(), 0..8)) {
        let mut out = vec![0xaa];
        for (kind, name, value) in &pairs {
            Writer::new(&mut out).put(*kind, name.as_bytes(), &[value]);
        }
        let block = Block::parse(&out[1..]).unwrap();
        let read: Vec<_> = block.entries().collect();
        prop_assert_eq!(read.len(), pairs.len());
        for (entry, (kind, name, value)) in read.iter().zip(&pairs) {
            prop_assert_eq!(entry.kind, *kind);
            prop_assert_eq!(entry.name, name.as_bytes());
            prop_assert_eq!(entry.value, &value[..]);
        }
    }

    #[test]
    fn damaged_blocks_never_panic_and_stay_inside(
        pairs in prop::collection::vec(any_pair(), 1..4),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut out = Vec::new();
        for (kind, name, value) in &pairs {
            Writer::new(&mut out).put(*kind, name.as_bytes(), &[value]);
        }
        let at = at.index(out.len());
        out[at] = byte;
        if let Ok(block) = Block::parse(&out) {
            let bytes: usize = block.entries().map(|entry| entry.value.len()).sum();
            prop_assert!(bytes <= out.len());
        }
    }
}
