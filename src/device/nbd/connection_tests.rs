use proptest::prelude::*;

use super::*;

fn export() -> Export {
    Export {
        name: "shared".into(),
        bytes: 1 << 30,
    }
}

/// What happened to a connection that was fed some bytes.
#[derive(Debug, Default, PartialEq)]
struct Story {
    out: Vec<u8>,
    requests: Vec<ClientRequest>,
    payload: Vec<u8>,
    closed: bool,
}

/// Feeds bytes in pieces of at most that length; what is not used stays for the next time.
fn feed(bytes: &[u8], piece: usize) -> Story {
    let mut story = Story::default();
    let mut machine = Connection::new(&mut story.out);
    let mut input = Vec::new();
    for piece in bytes.chunks(piece) {
        input.extend_from_slice(piece);
        loop {
            let (used, step) = machine.step(&export(), &input, &mut story.out);
            input.drain(..used);
            match step {
                Step::Again => {}
                Step::More => break,
                Step::Request(request) => story.requests.push(request),
                Step::Payload(left) => {
                    let taken = input.len().min(left as usize);
                    story.payload.extend(input.drain(..taken));
                    machine.payload_taken(u32::try_from(taken).unwrap());
                    if input.is_empty() {
                        break;
                    }
                }
                Step::Close => {
                    story.closed = true;
                    return story;
                }
            }
        }
        assert!(
            input.len() < OPTION_BYTES_MAX,
            "a full buffer lets it go on"
        );
    }
    story
}

fn client_flags() -> Vec<u8> {
    3u32.to_be_bytes().to_vec()
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

fn info(name: &str, kinds: &[u16]) -> Vec<u8> {
    let mut data = u32::try_from(name.len()).unwrap().to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data.extend(u16::try_from(kinds.len()).unwrap().to_be_bytes());
    data.extend(kinds.iter().flat_map(|kind| kind.to_be_bytes()));
    data
}

fn request(flags: u16, command: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

/// The kinds of the replies to options that follow the greeting, and the rest.
fn option_replies(out: &[u8]) -> (Vec<(u32, u32)>, &[u8]) {
    let mut replies = Vec::new();
    let mut fields = Fields(&out[18..]);
    while fields
        .0
        .starts_with(&0x0003_e889_0455_65a9_u64.to_be_bytes())
    {
        fields.u64().unwrap();
        let (number, kind) = (fields.u32().unwrap(), fields.u32().unwrap());
        let length = fields.u32().unwrap();
        fields.bytes(length as usize).unwrap();
        replies.push((number, kind));
    }
    (replies, fields.0)
}

/// Client flags and options, in order; what became of them.
fn negotiate(options: &[Vec<u8>]) -> Story {
    feed(&[client_flags(), options.concat()].concat(), usize::MAX)
}

#[test]
fn the_greeting_offers_fixed_newstyle_without_zeros() {
    assert_eq!(feed(&[], 1).out, b"NBDMAGICIHAVEOPT\0\x03");
}

#[test]
fn unknown_client_flags_end_the_connection() {
    assert!(feed(&4u32.to_be_bytes(), 4).closed);
    assert!(!feed(&0u32.to_be_bytes(), 4).closed);
}

#[test]
fn export_name_starts_the_transmission_with_zeros_unless_declined() {
    let declined = negotiate(&[option(1, b"shared")]);
    assert_eq!(declined.out.len(), 18 + 10);
    assert_eq!(declined.out[18..26], (1u64 << 30).to_be_bytes());
    let mut bytes = 1u32.to_be_bytes().to_vec();
    bytes.extend(option(1, b""));
    let out = feed(&bytes, 3).out;
    assert_eq!(out.len(), 18 + 10 + 124);
    assert!(out[28..].iter().all(|&byte| byte == 0));
}

#[test]
fn an_unknown_export_is_refused_in_each_way() {
    let story = negotiate(&[option(1, b"other")]);
    assert!(story.closed && story.out.len() == 18);
    let story = negotiate(&[option(7, &info("other", &[])), option(6, &info("x", &[]))]);
    let replies = option_replies(&story.out).0;
    assert_eq!(replies, [(7, reply::ERR_UNKNOWN), (6, reply::ERR_UNKNOWN)]);
    assert!(!story.closed);
}

#[test]
fn go_informs_and_starts_the_transmission() {
    let flush = request(0, 3, 9, 0, 0);
    let story = negotiate(&[
        option(6, &info("", &[])),
        option(7, &info("shared", &[INFO_NAME, INFO_BLOCK_SIZE])),
        flush,
    ]);
    let (replies, rest) = option_replies(&story.out);
    let about = [(6, 3), (6, 3), (6, 1), (7, 3), (7, 3), (7, 3), (7, 1)];
    assert_eq!(replies, about);
    assert!(rest.is_empty());
    assert_eq!(story.requests[0].command, Command::Flush);
    assert_eq!(story.requests[0].cookie, 9);
}

#[test]
fn malformed_options_are_told_so_and_unknown_ones_unsupported() {
    let mut long_name = info("shared", &[]);
    long_name[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    let mut many = info("shared", &[]);
    let end = many.len();
    many[end - 2..].copy_from_slice(&u16::MAX.to_be_bytes());
    let mut trailing = info("shared", &[]);
    trailing.push(0);
    for data in [&b""[..], &long_name, &many, &trailing] {
        let replies = negotiate(&[option(7, data)]).out;
        assert_eq!(option_replies(&replies).0, [(7, reply::ERR_INVALID)]);
    }
    let story = negotiate(&[
        option(3, b"x"),
        option(8, b"x"),
        option(5, b""),
        option(10, b"whatever"),
        option(0xffff_ffff, b""),
    ]);
    let invalid = reply::ERR_INVALID;
    let unsup = reply::ERR_UNSUP;
    assert_eq!(
        option_replies(&story.out).0,
        [
            (3, invalid),
            (8, invalid),
            (5, unsup),
            (10, unsup),
            (0xffff_ffff, unsup)
        ]
    );
    assert!(!story.closed);
}

#[test]
fn list_names_the_export_and_abort_is_acknowledged() {
    let story = negotiate(&[option(3, b""), option(2, b"")]);
    let about = [(3, reply::SERVER), (3, reply::ACK), (2, reply::ACK)];
    assert_eq!(option_replies(&story.out).0, about);
    assert!(story.closed);
}

#[test]
fn options_without_end_or_sense_end_the_connection() {
    let mut huge = option(7, b"");
    huge[12..16].copy_from_slice(&(1u32 << 20).to_be_bytes());
    assert!(negotiate(&[huge]).closed);
    assert!(negotiate(&[b"GET / HTTP/1.1\r\n\r\n".to_vec()]).closed);
    assert!(negotiate(&vec![option(3, b""); 257]).closed);
    assert!(!negotiate(&vec![option(3, b""); 256]).closed);
}

/// Negotiates structured replies or not, then feeds requests.
fn transmit(structured: bool, requests: &[Vec<u8>]) -> Story {
    let mut bytes = client_flags();
    if structured {
        bytes.extend(option(8, b""));
    }
    bytes.extend(option(1, b""));
    bytes.extend(requests.concat());
    feed(&bytes, 4096)
}

#[test]
fn a_refused_write_is_skipped_with_its_payload() {
    let mut write = request(0, 1, 1, 1, 10_000);
    write.extend([0x25; 10_000]);
    let story = transmit(true, &[write, request(0, 3, 2, 0, 0)]);
    assert_eq!(story.requests.len(), 1);
    assert_eq!(story.requests[0].cookie, 2);
    assert!(story.payload.is_empty());
    let mut error = Vec::new();
    simple_reply(&mut error, 1, Some(NbdError::EINVAL));
    assert!(story.out.ends_with(&error));
}

#[test]
fn limits_of_length_follow_the_reply_and_the_flags() {
    let long = crate::terms::REQUEST_BYTES_MAX + 512;
    let story = transmit(
        true,
        &[
            request(4, 0, 1, 0, long),
            request(4, 0, 2, 0, long - 512),
            request(0, 0, 3, 0, CLIENT_BYTES_MAX),
            request(0, 0, 4, 0, CLIENT_BYTES_MAX + 512),
            request(0, 4, 5, 0, 1 << 30),
        ],
    );
    let cookies: Vec<u64> = story.requests.iter().map(|r| r.cookie).collect();
    assert_eq!(cookies, [2, 3, 5]);
    let mut errors = Vec::new();
    error_chunk(&mut errors, 1, NbdError::EOVERFLOW);
    error_chunk(&mut errors, 4, NbdError::EINVAL);
    assert!(story.out.ends_with(&errors));
    assert!(transmit(true, &[request(0, 1, 1, 0, CLIENT_BYTES_MAX + 1)]).closed);
}

#[test]
fn disconnect_and_nonsense_close_without_a_word() {
    for bytes in [request(0, 2, 0, 0, 0), vec![0; 4]] {
        let story = transmit(false, &[bytes]);
        assert!(story.closed);
        assert_eq!(story.out.len(), 28);
    }
}

/// A conversation with a bit of everything.
fn conversation() -> Vec<u8> {
    let mut bytes = client_flags();
    bytes.extend(option(99, b"abc"));
    bytes.extend(option(8, b""));
    bytes.extend(option(3, b""));
    bytes.extend(option(7, &info("shared", &[INFO_BLOCK_SIZE])));
    bytes.extend(request(0, 1, 1, 512, 1024));
    bytes.extend((0..1024u32).map(|n| n.to_le_bytes()[0]));
    bytes.extend(request(0, 1, 2, 3, 100));
    bytes.extend([7; 100]);
    bytes.extend(request(0, 0, 3, 0, 512));
    bytes.extend(request(1, 4, 4, 0, 512));
    bytes.extend(request(0, 99, 5, 0, 512));
    bytes.extend(request(0, 2, 6, 0, 0));
    bytes
}

#[test]
fn bytes_mean_the_same_however_they_are_cut() {
    let bytes = conversation();
    let whole = feed(&bytes, usize::MAX);
    assert_eq!(whole.requests.len(), 3);
    assert_eq!(whole.payload.len(), 1024);
    assert!(whole.closed);
    for piece in 1..200 {
        assert_eq!(feed(&bytes, piece), whole, "pieces of {piece} bytes");
    }
}

#[test]
fn a_conversation_cut_anywhere_waits_for_more() {
    let bytes = conversation();
    for end in 0..bytes.len() {
        assert!(!feed(&bytes[..end], usize::MAX).closed, "cut at {end}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        feed(&bytes, 100);
        feed(&[client_flags(), bytes].concat(), 1000);
    }

    #[test]
    fn altered_conversations_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        piece in 1usize..2000,
    ) {
        let mut bytes = conversation();
        for (index, value) in changes {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        for request in feed(&bytes, piece).requests {
            let end = request.offset + u64::from(request.length);
            prop_assert!(end <= export().bytes);
            prop_assert!(request.offset % 512 == 0 && request.length % 512 == 0);
        }
    }
}
