//! Any bytes as properties: rewriting them changes their order once, and no meaning.

#![no_main]

use keelmq::model::properties::{Properties, entries, get};
use keelmq_fuzz::bounded::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let properties = bounded(bytes, Properties::parse);
    for (name, value) in properties.iter() {
        assert_eq!(get(bytes, name), Some(value));
    }
    let rendered = properties.render();
    let sorted = |mut all: Vec<(String, String)>| {
        all.sort();
        all
    };
    let before = properties.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let after = entries(rendered.as_bytes()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    assert_eq!(sorted(after), sorted(before));
    assert_eq!(Properties::parse(rendered.as_bytes()).render(), rendered);
});
