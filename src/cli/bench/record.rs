//! Records as a consumer gets them: counted, and their bodies looked at; one made up for the ceiling.

use std::net::SocketAddr;

use crate::{
    model::{LogOffset, Message, QueueOffset},
    store::record::{Scan, body_crc, encode, scan},
};

/// Calls `each` with every record's body; the number of records.
pub fn bodies(mut bytes: &[u8], mut each: impl FnMut(&[u8])) -> u64 {
    let mut count = 0;
    while let Scan::Record(record) = scan(bytes, false) {
        each(record.message.body);
        count += 1;
        bytes = &bytes[record.size as usize..];
    }
    count
}

/// A record with a body of `size` bytes.
pub fn of(size: usize) -> Vec<u8> {
    let host = SocketAddr::from(([127, 0, 0, 1], 10911));
    let message = Message {
        topic: "bench",
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 0,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_offset: 0,
        body: &vec![b'x'; size],
        properties: b"UNIQ_KEY\x017F0000010000ABCD0000000000000000\x02WAIT\x01true\x02CLUSTER\x01DefaultCluster",
    };
    let mut bytes = Vec::new();
    encode(&message, body_crc(message.body), QueueOffset(0), LogOffset(0), 0, &mut bytes);
    bytes
}
