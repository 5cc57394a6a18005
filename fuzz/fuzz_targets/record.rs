//! Any bytes as a place in the commit log: a record that is accepted lies inside them and has the size that it states.

#![no_main]

use keelmq::store::record::{self, Scan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for check_crc in [false, true] {
        if let Scan::Record(found) = record::scan(bytes, check_crc) {
            assert!(found.size as usize <= bytes.len());
            let taken = found.message.body.len() + found.message.topic.len() + found.message.properties.len();
            assert!(taken < found.size as usize);
            assert_eq!(record::peek(bytes).map(|(size, _)| size), Some(found.size));
            // More bytes behind it change nothing.
            assert_eq!(record::scan(&bytes[..found.size as usize], check_crc), Scan::Record(found));
        }
    }
});
