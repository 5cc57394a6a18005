//! Any bytes as a batch: its items lie inside it, and written again they are what was read.

#![no_main]

use keelmq::protocol::body::batch::BatchItems;
use keelmq_fuzz::bounded::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let items: Vec<_> = bounded(bytes, |bytes| BatchItems::new(bytes).map_while(Result::ok).collect());
    let mut written = Vec::new();
    items.iter().for_each(|item| item.encode(&mut written));
    assert!(written.len() <= bytes.len());
    assert_eq!(BatchItems::new(&written).collect::<Result<Vec<_>, _>>().as_deref(), Ok(&items[..]));
});
