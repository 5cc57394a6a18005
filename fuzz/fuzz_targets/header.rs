//! Any header in either serialization is decoded, and whatever fields it has are taken for every request's: what is
//! written of that is read back the same.

#![no_main]

use keelmq::protocol::{
    command::{self, Call, FieldsOut, Serialization},
    frame, header,
};
use keelmq_fuzz::bounded::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((serialization, header)) = bytes.split_first() else { return };
    if header.len() >= 1 << 24 {
        return;
    }
    let mut content = (u32::from(serialization & 1) << 24 | header.len() as u32).to_be_bytes().to_vec();
    content.extend_from_slice(header);
    let Ok(command) = bounded(&content, command::decode) else { return };
    let fields = &command.fields;
    for code in [10, 310] {
        if let Ok(send) = header::SendMessage::decode(code, fields) {
            let written = [(10, frame_of(|out| send.write_v1(out))), (310, frame_of(|out| send.write_v2(out)))];
            for (code, frame) in &written {
                let again = command::decode(&frame[4..]).expect("what we write can be read");
                assert_eq!(header::SendMessage::decode(*code, &again.fields).as_ref(), Ok(&send));
            }
        }
    }
    macro_rules! all {
        ($($header:ident)*) => {$(
            if let Ok(header) = header::$header::decode(fields) {
                let frame = frame_of(|out| header.write(out));
                let again = command::decode(&frame[4..]).expect("what we write can be read");
                assert_eq!(header::$header::decode(&again.fields).as_ref(), Ok(&header));
            }
        )*};
    }
    all!(SendBack EndTransaction CheckTransactionState PushReply PullMessage QueryConsumerOffset UpdateConsumerOffset
        SearchOffset QueryMessage ViewMessage UnregisterClient ResetOffset RegisterBroker BrokerIdentity GetRouteInfo
        PutKvConfig CreateTopic QueryConsumeQueue GetBrokerConsumeStats);
});

fn frame_of(write: impl FnOnce(&mut FieldsOut)) -> Vec<u8> {
    let mut call = Call::new(0);
    write(&mut call.fields);
    let mut out = Vec::new();
    command::encode_call(&call, 1, false, Serialization::Json, &mut out);
    assert!(matches!(frame::split(&out, usize::MAX), Ok(Some((_, size))) if size == out.len()));
    out
}
