//! Any bytes as a broker's registration, plain and compressed (also such that inflate to the input itself).

#![no_main]

use keelmq::protocol::body::{Body, RegisterBrokerBody};
use keelmq_fuzz::bounded::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let stored = stored(bytes);
    let (bytes, compressed) = match kind % 3 {
        0 => (bytes, false),
        1 => (bytes, true),
        _ => (&stored[..], true),
    };
    for version in [0, 407] {
        let decode = |bytes| RegisterBrokerBody::decode_registration(bytes, compressed, version);
        // What is compressed may be larger; its bound is the decoder's own.
        let decoded = if compressed { decode(bytes) } else { bounded(bytes, decode) };
        if let Ok(body) = decoded {
            assert_eq!(RegisterBrokerBody::decode(&body.encode()).as_ref(), Ok(&body));
        }
    }
});

/// A zlib stream that holds `bytes` as they are, so that the fuzzer need not learn to deflate.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[..bytes.len().min(0xFFFF)];
    let length = bytes.len() as u16;
    let mut stream = vec![0x78, 0x01, 1];
    stream.extend_from_slice(&length.to_le_bytes());
    stream.extend_from_slice(&(!length).to_le_bytes());
    stream.extend_from_slice(bytes);
    let (mut a, mut b) = (1u32, 0u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    stream.extend_from_slice(&(b << 16 | a).to_be_bytes());
    stream
}
