//! Captured exchanges of FreeBSD's hastctl and hastd: what makes sense decodes into typed values
//! that encode to the same bytes, but for the padding after names; what makes none is refused with
//! the answer that FreeBSD's daemon gave.
//!
//! data/control/NN-what.req.bin is what hastctl (or, for `raw`, a script) sent, .rep.bin the reply.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::path::{Path, PathBuf};

use hast::wire::control::{BadControlRequest, ControlReply, ControlRequest};
use hast::wire::packet::{HEADER_BYTES, Limits, Packet, PacketError};

fn files(suffix: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/control");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(suffix))
        .collect();
    files.sort();
    files
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn assert_same_but_padding(ours: &[u8], theirs: &[u8], what: &str) {
    let mut theirs = theirs.to_vec();
    let mut at = HEADER_BYTES;
    while at < theirs.len() {
        let name_size = usize::from(theirs[at + 1]);
        let dsize = u32::from_le_bytes(theirs[at + 2..at + 6].try_into().unwrap()) as usize;
        let name = at + 6;
        theirs[name + name_size..name + name_size.next_multiple_of(8)].fill(0);
        at = name + name_size.next_multiple_of(8) + dsize.next_multiple_of(8);
    }
    assert_eq!(ours, theirs, "{what}");
}

#[test]
fn requests_decode_and_encode_to_the_same_bytes_or_are_refused_as_by_the_original() {
    let mut good = 0;
    for path in files(".req.bin") {
        let bytes = std::fs::read(&path).unwrap();
        let reply = std::fs::read(path.to_str().unwrap().replace(".req.", ".rep.")).unwrap();
        let packet = match Packet::parse(&bytes, Limits::CONTROL_REQUEST) {
            Ok(packet) => packet,
            Err(error) => {
                assert_eq!(
                    (name(&path), error),
                    ("26-raw-version3.req.bin", PacketError::Version(3))
                );
                assert!(reply.is_empty());
                continue;
            }
        };
        let refused = match name(&path) {
            "21-raw-no-cmd.req.bin" => BadControlRequest::NoCommand,
            "22-raw-no-resource.req.bin" => BadControlRequest::NoResource,
            "23-raw-bad-cmd.req.bin" | "25-raw-bad-cmd-all.req.bin" => {
                BadControlRequest::UnknownCommand(9)
            }
            "24-raw-bad-role.req.bin" => BadControlRequest::BadRole(7),
            other => {
                let request = ControlRequest::decode(&packet).unwrap();
                if other == "28-raw-resource-gap.req.bin" {
                    assert_eq!(request.resources, ["test"]);
                    continue;
                }
                let mut out = Vec::new();
                request.encode(&mut out);
                if other == "27-raw-version0.req.bin" {
                    out[0] = 0;
                }
                assert_same_but_padding(&out, &bytes, other);
                good += 1;
                continue;
            }
        };
        assert_eq!(ControlRequest::decode(&packet), Err(refused));
        let mut out = Vec::new();
        if let Some(error) = refused.answer() {
            ControlReply::refusal(error, None).encode(&mut out);
        }
        assert_same_but_padding(&out, &reply, name(&path));
    }
    assert_eq!(good, 21);
}

#[test]
fn replies_decode_and_encode_to_the_same_bytes() {
    let mut resources = 0;
    for path in files(".rep.bin") {
        let bytes = std::fs::read(&path).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let packet = Packet::parse(&bytes, Limits::CONTROL_REPLY).unwrap();
        let reply = ControlReply::decode(&packet).unwrap();
        resources += reply.resources.len();
        let mut out = Vec::new();
        reply.encode(&mut out);
        assert_same_but_padding(&out, &bytes, name(&path));
    }
    assert_eq!(resources, 30);
}
