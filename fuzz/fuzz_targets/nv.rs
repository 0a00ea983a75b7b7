//! A name-value block of arbitrary bytes: reading never panics, and what was read can be written
//! and read again.

#![no_main]

use hast::wire::nv::{Block, Kind, Writer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(block) = Block::parse(data) else {
        return;
    };
    let mut out = Vec::new();
    let mut writer = Writer::new(&mut out);
    let mut written = 0;
    for entry in block.entries() {
        let Ok(name) = std::str::from_utf8(entry.name) else {
            continue;
        };
        // The first of a name is found, whatever follows.
        assert_eq!(block.find(name).map(|first| first.name), Some(entry.name));
        match entry.kind {
            Kind::Int8 => {
                writer.i8(name, entry.i8().unwrap());
            }
            Kind::Uint8 => {
                writer.u8(name, entry.u8().unwrap());
            }
            Kind::Int16 => {
                writer.i16(name, entry.i16().unwrap());
            }
            Kind::Uint16 => {
                writer.u16(name, entry.u16().unwrap());
            }
            Kind::Int32 => {
                writer.i32(name, entry.i32().unwrap());
            }
            Kind::Uint32 => {
                writer.u32(name, entry.u32().unwrap());
            }
            Kind::Int64 => {
                writer.i64(name, entry.i64().unwrap());
            }
            Kind::Uint64 => {
                writer.u64(name, entry.u64().unwrap());
            }
            Kind::String => match entry.str() {
                Ok(text) => {
                    writer.string(name, text);
                }
                Err(_) => continue,
            },
            array => {
                writer.array(array, name, entry.value);
            }
        }
        written += 1;
    }
    let again = Block::parse(&out).expect("what was written is well-formed");
    assert_eq!(again.entries().count(), written);
});
