//! A control message of arbitrary bytes: what decodes encodes to something that decodes to the
//! same.

#![no_main]

use hast::wire::control::{ControlReply, ControlRequest};
use hast::wire::packet::{Limits, Packet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(packet) = Packet::parse(data, Limits::CONTROL_REPLY) else {
        return;
    };
    let mut out = Vec::new();
    match ControlRequest::decode(&packet) {
        Ok(request) => {
            request.encode(&mut out);
            let again =
                ControlRequest::decode(&Packet::parse(&out, Limits::CONTROL_REPLY).unwrap());
            assert_eq!(again, Ok(request));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    match ControlReply::decode(&packet) {
        Ok(reply) => {
            out.clear();
            reply.encode(&mut out);
            let again = ControlReply::decode(&Packet::parse(&out, Limits::CONTROL_REPLY).unwrap());
            assert_eq!(again, Ok(reply));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
