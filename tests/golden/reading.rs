//! Where recordings lie, and what every recorded record must do.

use std::path::{Path, PathBuf};

use keelmq::store::record::{self, Record, Scan};

/// Where the recordings of a kind lie.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn read(name: &str) -> Vec<u8> {
    let path = folder(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads a record and writes it again: the same bytes.
pub fn same_record<'a>(name: &str, bytes: &'a [u8]) -> Record<'a> {
    let Scan::Record(record) = record::scan(bytes, true) else { panic!("{name}: {:?}", record::scan(bytes, true)) };
    let (message, mut written) = (&record.message, Vec::new());
    let crc = record::body_crc(message.body);
    record::encode(message, crc, record.queue_offset, record.log_offset, record.store_timestamp, &mut written);
    assert_eq!(written, bytes, "{name}");
    assert_eq!(record::peek_store_timestamp(bytes), Some(record.store_timestamp), "{name}");
    assert!(record::is_text(message.topic.as_bytes(), message.properties), "{name}");
    record
}
