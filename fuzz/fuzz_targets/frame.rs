//! A stream of any bytes is cut into frames; what is a command is written in both serializations and read back.

#![no_main]

use keelmq::protocol::{
    command::{self, Call, Command, Serialization},
    frame,
};
use keelmq_fuzz::bounded::bounded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some((content, size))) = frame::split(rest, 1 << 20) {
        assert!(size >= 8 && size <= rest.len());
        if let Ok(command) = bounded(content, command::decode) {
            written_again(&command);
        }
        rest = &rest[size..];
    }
});

fn written_again(command: &Command<'_>) {
    let mut call = Call::new(command.code).with_body(command.body.to_vec());
    call.passed_on = command.fields.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    for serialization in [Serialization::Json, Serialization::Binary] {
        let mut out = Vec::new();
        command::encode_call(&call, command.opaque, command.is_oneway(), serialization, &mut out);
        let (content, size) = frame::split(&out, usize::MAX).expect("what we write is sound").expect("and whole");
        assert_eq!(size, out.len());
        let again = command::decode(content).expect("what we write can be read");
        assert_eq!((again.opaque, again.body), (command.opaque, command.body));
        assert_eq!(again.is_oneway(), command.is_oneway());
        if serialization == Serialization::Json {
            assert_eq!(again.code, command.code);
            assert!(again.fields.iter().eq(command.fields.iter()));
        } else {
            // A code has 16 bits there; an empty key or value and a key too long have no form.
            assert_eq!(again.code, i32::from(command.code as i16));
            let has_form =
                |(key, value): &(&str, &str)| !key.is_empty() && !value.is_empty() && key.len() <= i16::MAX as usize;
            assert!(again.fields.iter().eq(command.fields.iter().filter(has_form)));
        }
    }
}
