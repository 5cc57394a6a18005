//! Any bytes as a place in the commit log: a record that is accepted lies inside them, has the size that
//! it states, and written again it is what was read.

#![no_main]

use keelmq::store::record::{self, Record, Scan};
use keelmq_fuzz::bounded::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for check_crc in [false, true] {
        if let Scan::Record(found) = bounded(bytes, |bytes| record::scan(bytes, check_crc)) {
            assert!(found.size as usize <= bytes.len());
            let taken = found.message.body.len() + found.message.topic.len() + found.message.properties.len();
            assert!(taken < found.size as usize);
            assert_eq!(record::peek(bytes).map(|(size, _)| size), Some(found.size));
            // More bytes behind it change nothing.
            assert_eq!(record::scan(&bytes[..found.size as usize], check_crc), Scan::Record(found));
            written_again(&found);
        }
    }
});

fn written_again(found: &Record<'_>) {
    let Record { size, queue_offset, log_offset, store_timestamp, message } = found;
    let mut written = Vec::new();
    record::encode(message, record::body_crc(message.body), *queue_offset, *log_offset, *store_timestamp, &mut written);
    let Scan::Record(again) = record::scan(&written, true) else { panic!("what we write is no record: {found:?}") };
    // A short topic may stand in the form for long ones.
    assert_eq!(again, Record { size: written.len() as u32, ..*found });
    assert!(written.len() <= *size as usize);
}
