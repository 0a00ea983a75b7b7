//! A stream of arbitrary bytes through the framer, every message's decoder and the data stages.
//! The last two bytes say how the stream is cut and how the framer is used.

#![no_main]

use hast::wire::hello::{Answer, Opening, Verdict};
use hast::wire::message::{Reply, Request};
use hast::wire::packet::{Decoder, Limits, Packet, Step};
use hast::wire::stages::{self, DataHead};
use libfuzzer_sys::fuzz_target;

const BUFFER_BYTES: usize = 1 << 16;

/// What decodes has to encode to something that decodes to the same.
fn messages(packet: &Packet<'_>) -> Option<(u32, DataHead)> {
    let mut out = Vec::new();
    if let Ok(opening) = Opening::decode(packet) {
        opening.encode(&mut out);
        assert_eq!(
            Opening::decode(&Packet::parse(&out, Limits::PEER).unwrap()),
            Ok(opening)
        );
    }
    if let Ok(answer) = Answer::decode(packet) {
        out.clear();
        answer.encode(&mut out);
        assert_eq!(
            Answer::decode(&Packet::parse(&out, Limits::PEER).unwrap()),
            Ok(answer)
        );
    }
    if let Ok(verdict) = Verdict::decode(packet, 1 << 16) {
        out.clear();
        verdict.encode(&mut out);
        let again = Verdict::decode(&Packet::parse(&out, Limits::PEER).unwrap(), 1 << 16);
        assert_eq!(again, Ok(verdict));
    }
    if let Ok((reply, form)) = Reply::decode(packet) {
        out.clear();
        reply.encode(&form, &mut out);
        assert_eq!(
            Reply::decode(&Packet::parse(&out, Limits::PEER).unwrap()),
            Ok((reply, form))
        );
    }
    let (request, form) = Request::decode(packet).ok()?;
    out.clear();
    request.encode(&form, &mut out);
    assert_eq!(
        Request::decode(&Packet::parse(&out, Limits::PEER).unwrap()),
        Ok((request, form))
    );
    assert!(request.offset.checked_add(request.length).is_some());
    Some((u32::try_from(request.length).ok()?, form))
}

fuzz_target!(|data: &[u8]| {
    let [stream @ .., piece, exact] = data else {
        return;
    };
    let mut decoder = match exact % 2 {
        0 => Decoder::new(Limits::PEER),
        _ => Decoder::exact(Limits::PEER),
    };
    let piece = usize::from(*piece) + 1;
    let mut stream = stream;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut output = vec![0; BUFFER_BYTES];
    let mut pending = None;
    loop {
        let taken = match decoder.step() {
            Err(error) => {
                assert!(!error.to_string().is_empty());
                return;
            }
            Ok(Step::Fill(space)) => {
                assert!(!space.is_empty());
                let count = space.len().min(piece).min(stream.len());
                space[..count].copy_from_slice(&stream[..count]);
                count
            }
            Ok(Step::Data { at, left }) => {
                let count = left.min(piece).min(stream.len());
                buffer[at..at + count].copy_from_slice(&stream[..count]);
                count
            }
            Ok(Step::Packet(packet)) => {
                pending = messages(&packet);
                if pending.is_none() || decoder.take_data(&mut buffer).is_err() {
                    decoder.skip_data();
                }
                continue;
            }
            Ok(Step::Complete) => {
                if let Some((length, form)) = pending {
                    let wire = &buffer[..form.size as usize];
                    let _ = stages::decode(&form, wire, length, &mut output);
                }
                decoder.finish();
                continue;
            }
        };
        if taken == 0 {
            let _ = decoder.end_of_stream();
            return;
        }
        decoder.received(taken);
        stream = &stream[taken..];
    }
});
