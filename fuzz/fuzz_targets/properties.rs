//! Any bytes as properties: rewriting them changes no meaning.

#![no_main]

use keelmq::model::properties::{Properties, entries, get};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let properties = Properties::parse(bytes);
    for (name, value) in properties.iter() {
        assert_eq!(get(bytes, name), Some(value));
    }
    let rendered = properties.render();
    assert!(properties.iter().eq(entries(rendered.as_bytes())));
    assert_eq!(Properties::parse(rendered.as_bytes()), properties);
});
