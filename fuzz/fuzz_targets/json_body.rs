//! Any bytes as a JSON body: what is read is written and read back the same, and every typed body survives it.

#![no_main]

use keelmq::protocol::{
    body::{self, Body},
    json::{Json, Style},
};
use keelmq_fuzz::bounded::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(json) = bounded(bytes, Json::parse) else { return };
    for style in [Style::COMPACT, Style::PRETTY] {
        let written = json.encode(style);
        assert_eq!(Json::parse(&written).as_ref(), Ok(&json), "{}", String::from_utf8_lossy(&written));
    }
    again::<body::HeartbeatData>(bytes);
    again::<body::LockBatch>(bytes);
    again::<body::TopicRouteData>(bytes);
    again::<body::ClusterInfo>(bytes);
    again::<body::TopicConfigTable>(bytes);
    again::<body::SubscriptionGroupTable>(bytes);
    again::<body::ConsumerOffsetTable>(bytes);
    again::<body::DelayOffsetTable>(bytes);
    again::<body::ResetOffsets>(bytes);
    again::<body::ConsumeStatsList>(bytes);
    again::<body::KvConfig>(bytes);
});

fn again<T: Body + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(body) = bounded(bytes, T::decode) {
        assert_eq!(T::decode(&body.encode()).as_ref(), Ok(&body));
        assert_eq!(T::decode_file(&body.encode_file()).as_ref(), Ok(&body));
    }
}
