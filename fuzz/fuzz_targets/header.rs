//! Any header in either serialization is decoded, and whatever fields it has are taken for every request's.

#![no_main]

use keelmq::protocol::{command, header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((serialization, header)) = bytes.split_first() else { return };
    if header.len() >= 1 << 24 {
        return;
    }
    let mut content = (u32::from(serialization & 1) << 24 | header.len() as u32).to_be_bytes().to_vec();
    content.extend_from_slice(header);
    let Ok(command) = command::decode(&content) else { return };
    let fields = &command.fields;
    for code in [10, 310] {
        if let Ok(send) = header::SendMessage::decode(code, fields) {
            let mut out = Default::default();
            send.write_v1(&mut out);
            send.write_v2(&mut out);
        }
    }
    macro_rules! all {
        ($($header:ident)*) => {$(
            if let Ok(header) = header::$header::decode(fields) {
                header.write(&mut Default::default());
            }
        )*};
    }
    all!(SendBack EndTransaction CheckTransactionState PushReply PullMessage QueryConsumerOffset UpdateConsumerOffset
        SearchOffset QueryMessage ViewMessage UnregisterClient ResetOffset RegisterBroker BrokerIdentity GetRouteInfo
        PutKvConfig CreateTopic QueryConsumeQueue GetBrokerConsumeStats);
});
