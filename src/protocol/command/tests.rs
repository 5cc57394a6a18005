//! Both serializations, by rows and by properties.

use std::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::model::LogOffset;

/// A frame's content around `header`.
fn content(serialization: Serialization, header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut content = ((serialization as u32) << 24 | header.len() as u32).to_be_bytes().to_vec();
    content.extend_from_slice(header);
    content.extend_from_slice(body);
    content
}

fn fields_of(command: &Command<'_>) -> Vec<(String, String)> {
    command.fields.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn json_headers_are_read_leniently() {
    let check = |header: &str, expect: &[(&str, &str)]| {
        let content = content(Serialization::Json, header.as_bytes(), b"body");
        let command = decode(&content).unwrap_or_else(|error| panic!("{header}: {error}"));
        assert_eq!((command.code, command.opaque, command.body), (310, 7, &b"body"[..]), "{header}");
        assert_eq!(command.fields.iter().collect::<Vec<_>>(), expect, "{header}");
        assert_eq!(command.fields.absent, expect.is_empty() && !header.contains("extFields\":{"), "{header}");
    };
    check(r#"{"code":310,"opaque":7}"#, &[]);
    check(r#"{"code":310,"opaque":7,"extFields":null}"#, &[]);
    check(r#"{"code":310,"opaque":7,"extFields":{}}"#, &[]);
    check(r#"{"extFields":{"a":"b"},"opaque":7,"code":310}"#, &[("a", "b")]);
    check(
        r#" { "opaque" : 7 , "code" : "310" , "extFields" : { "a" : "b" , "c" : "" } } trailing"#,
        &[("a", "b"), ("c", "")],
    );
    check(
        r#"{"code":310,"extFields":{"n":-5,"f":1.5,"t":true,"no":false,"null":null,"o":{"x":[1,"}"]},"l":[{}]},"opaque":7}"#,
        &[("n", "-5"), ("f", "1.5"), ("t", "true"), ("no", "false"), ("o", r#"{"x":[1,"}"]}"#), ("l", "[{}]")],
    );
    check(
        r#"{"unknown":{"code":1,"q":"}\"]"},"code":310,"list":[[],{}],"opaque":7,"extFields":{"k":"1","k":"2"}}"#,
        &[("k", "1"), ("k", "2")],
    );
    check(r#"{"code":310,"opaque":7,"extFields":{"i":"a\u0001b\u0002\uD83E\uDD80\/"}}"#, &[("i", "a\u{1}b\u{2}🦀/")]);
    check(r#"{'code':310,opaque:7,"extFields":{0:'x',}}"#, &[("0", "x")]);
}

#[test]
fn what_is_no_header_is_refused() {
    let check = |header: &str| {
        let content = content(Serialization::Json, header.as_bytes(), b"");
        assert!(matches!(decode(&content), Err(DecodeError::Json { .. })), "{header}: {:?}", decode(&content));
    };
    for header in [
        "",
        " ",
        "null",
        "[]",
        "{",
        r#"{"code""#,
        r#"{"code":"#,
        r#"{"code":1"#,
        r#"{"code":1,"#,
        r#"{"code":1 "flag":0}"#,
        r#"{"code":x}"#,
        r#"{"code":99999999999}"#,
        r#"{"code":{}}"#,
        r#"{"extFields":[]}"#,
        r#"{"extFields":"x"}"#,
        r#"{"extFields":{"a":"b}"#,
        r#"{"extFields":{"a":"\u00"}}"#,
        r#"{"x":[[[}"#,
    ] {
        check(header);
    }
    let deep = format!("{{\"x\":{}", "[".repeat(1 << 20));
    check(&deep);
    assert_eq!(decode(b""), Err(DecodeError::HeaderLength { header: 0, frame: 0 }));
    assert_eq!(decode(&[0, 0, 0, 9, b'{']), Err(DecodeError::HeaderLength { header: 9, frame: 5 }));
    assert_eq!(decode(&[2, 0, 0, 0]), Err(DecodeError::Serialization(2)));
}

#[test]
fn plain_text_is_borrowed() {
    let content = content(Serialization::Json, br#"{"code":1,"remark":"r","extFields":{"topic":"T"}}"#, b"");
    let command = decode(&content).unwrap();
    assert!(matches!(command.remark, Some(Cow::Borrowed("r"))));
    assert_eq!(command.fields.unescaped, "");
}

#[test]
fn language_comes_as_name_or_number() {
    let check = |written: &str, expect: Language| {
        let content = content(Serialization::Json, format!("{{\"language\":{written}}}").as_bytes(), b"");
        assert_eq!(decode(&content).unwrap().language, expect, "{written}");
    };
    check("\"CPP\"", Language::Cpp);
    check("\"GO\"", Language::Go);
    check("9", Language::Go);
    check("\"KLINGON\"", Language::Other);
    check("300", Language::Other);
    check("null", Language::Other);
    check("{\"a\":1}", Language::Other);
    for code in 0..14 {
        assert_eq!(Language::from_code(code) as u8, code);
        assert_eq!(Language::from_name(Language::from_code(code).name()), Language::from_code(code));
    }
}

#[test]
fn invalid_utf8_is_replaced() {
    let content =
        content(Serialization::Json, b"{\"code\":5,\"extFields\":{\"a\":\"x\xFFy\"},\"remark\":\"\xC3\"}", b"b");
    let command = decode(&content).unwrap();
    assert_eq!((command.code, command.fields.get("a"), command.body), (5, Some("x\u{fffd}y"), &b"b"[..]));
}

#[test]
fn answers_are_written_as_java_writes_them() {
    let id = OffsetMessageId { store_host: SocketAddr::from((Ipv4Addr::LOCALHOST, 10911)), offset: LogOffset(255) };
    let response =
        Response::error(0, "say \"hi\"").with("msgId", id).with("queueId", 3).with("TRACE_ON", true).with_body("xy");
    let mut out = Vec::new();
    encode_response(&response, -9, Serialization::Json, &mut out);
    let header = r#"{"code":0,"extFields":{"msgId":"7F00000100002A9F00000000000000FF","queueId":"3","TRACE_ON":"true"},"flag":1,"language":"JAVA","opaque":-9,"remark":"say \"hi\"","serializeTypeCurrentRPC":"JSON","version":407}"#;
    assert_eq!(str::from_utf8(&out[8..]).unwrap(), header);
    assert_eq!(out[..4], (4 + header.len() as u32 + 2).to_be_bytes());
    assert_eq!(out[4..8], (header.len() as u32).to_be_bytes());

    out.clear();
    encode_response(&response, -9, Serialization::Binary, &mut out);
    let command = decode(&out[4..]).unwrap();
    assert_eq!((command.code, command.opaque, command.flag, command.version), (0, -9, FLAG_RESPONSE, OUR_VERSION));
    assert_eq!(command.remark.as_deref(), Some("say \"hi\""));
    assert_eq!(command.fields.get("msgId"), Some("7F00000100002A9F00000000000000FF"));
    assert_eq!(out[4], 1);
}

#[test]
fn binary_headers_are_read() {
    let mut header = vec![0x01, 0x36, 9, 0x01, 0x3D, 0, 0, 0, 7, 0, 0, 0, 2, 0, 0, 0, 2];
    header.extend_from_slice(b"hi");
    let mut block = Vec::new();
    for (key, value) in [("a", "1"), ("b", "x"), ("a", "2"), ("empty", "")] {
        block.extend_from_slice(&(key.len() as i16).to_be_bytes());
        block.extend_from_slice(key.as_bytes());
        block.extend_from_slice(&(value.len() as i32).to_be_bytes());
        block.extend_from_slice(value.as_bytes());
    }
    header.extend_from_slice(&(block.len() as i32).to_be_bytes());
    header.extend_from_slice(&block);
    let good = content(Serialization::Binary, &header, b"body");
    let command = decode(&good).unwrap();
    assert_eq!((command.code, command.language, command.version, command.opaque), (310, Language::Go, 317, 7));
    assert!(command.is_oneway() && !command.is_response() && !command.fields.absent);
    assert_eq!((command.fields.get("a"), command.fields.get("empty"), command.body), (Some("2"), None, &b"body"[..]));
    for cut in 0..header.len() {
        let cut = content(Serialization::Binary, &header[..cut], b"");
        assert!(matches!(decode(&cut), Err(DecodeError::Binary { .. })));
    }
    header[13] = 0xFF;
    assert!(decode(&content(Serialization::Binary, &header, b"")).is_err());
}

/// A story: text passed on from a client may be short unescaped and six times as long when escaped; its answer must not
/// take the broker down.
#[test]
fn a_header_beyond_its_length_becomes_an_error() {
    let mut response = Response::success().with_body("kept");
    response.passed_on.push(("k".into(), "\u{1}".repeat(3 << 20)));
    let mut out = vec![1, 2, 3];
    encode_response(&response, 5, Serialization::Json, &mut out);
    out.extend_from_slice(b"kept");
    let (content, size) = crate::protocol::frame::split(&out[3..], 16 << 20).unwrap().unwrap();
    assert_eq!(size, out.len() - 3);
    let command = decode(content).unwrap();
    assert_eq!((command.code, command.opaque, command.body), (1, 5, &b"kept"[..]));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        code in any::<i16>(), opaque in any::<i32>(), oneway in any::<bool>(), binary in any::<bool>(),
        pairs in prop::collection::vec((".{1,8}", ".{1,40}"), 0..20), body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let serialization = if binary { Serialization::Binary } else { Serialization::Json };
        let mut call = Call::new(code.into()).with("number", i64::from(opaque)).with("truth", oneway).with_body(body);
        call.passed_on = pairs.clone();
        let mut out = Vec::new();
        encode_call(&call, opaque, oneway, serialization, &mut out);
        let (content, size) = crate::protocol::frame::split(&out, 1 << 24).unwrap().unwrap();
        prop_assert_eq!(size, out.len());
        let command = decode(content).unwrap();
        prop_assert_eq!((command.code, command.opaque, command.is_oneway()), (code.into(), opaque, oneway));
        let mut expect = vec![("number".to_owned(), opaque.to_string()), ("truth".to_owned(), oneway.to_string())];
        expect.extend(pairs);
        prop_assert_eq!(fields_of(&command), expect);
        prop_assert_eq!(command.body, &call.body[..]);
        prop_assert_eq!(command.serialization, serialization);
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0u8..3) {
        let _ = decode(&bytes);
        let mut content = vec![kind, 0, 0, bytes.len() as u8];
        content.extend_from_slice(&bytes);
        let _ = decode(&content);
    }

    #[test]
    fn no_json_like_text_panics(text in r#"[{}\[\]",:'\\u0-9a-fé.\-]{0,80}"#) {
        let _ = decode(&content(Serialization::Json, text.as_bytes(), b""));
    }
}
