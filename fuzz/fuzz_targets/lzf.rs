//! LZF: arbitrary bytes as a stream never panic; as a block they survive the round trip through a
//! table that has seen another block, in every amount of space.

#![no_main]

use hast::wire::lzf::{Table, compress, decompress};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut output = vec![0; 4096];
    let _ = decompress(data, &mut output);
    let [room, block @ ..] = data else { return };
    let mut table = Table::new();
    let mut stream = vec![0; block.len() + block.len() / 16 + 16];
    let full = compress(block, &mut stream, &mut table).map(|used| stream[..used].to_vec());
    if let Some(full) = &full {
        let mut again = vec![0; block.len()];
        assert_eq!(decompress(full, &mut again), Ok(block.len()));
        assert_eq!(again, block);
    }
    // With less space the same stream, or none.
    let room = block.len() * usize::from(*room) / 255;
    let used = compress(block, &mut stream[..room], &mut table);
    assert_eq!(used.map(|used| &stream[..used]), used.and(full.as_deref()));
});
