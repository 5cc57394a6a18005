//! The dialect by rows, and that nothing makes it panic.

use proptest::prelude::*;

use super::*;

#[test]
fn fastjsons_shapes_are_read_and_written_again() {
    let check = |text: &str, expect: &str| {
        let json = Json::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(String::from_utf8(json.encode(Style::COMPACT)).unwrap(), expect, "{text}");
    };
    for text in [
        "null",
        "true",
        "-7",
        "0.0",
        "\"\"",
        "[]",
        "{}",
        "[[],{},[{}]]",
        r#"{0:"10.0.0.1:10911",1:"x"}"#,
        r#"{"offsetTable":{{"brokerName":"b","queueId":0,"topic":"T"}:5,{"brokerName":"b","queueId":1,"topic":"T"}:6}}"#,
        r#"{"a":9223372036854775807,"b":1.5,"c":"\u0001\"\\"}"#,
    ] {
        check(text, text);
    }
    check(" {'a' : 'b' , c : [ 1 , 2 , ] , } trailing", r#"{"a":"b","c":[1,2]}"#);
    check(r#"{"a":1,"a":2}"#, r#"{"a":1,"a":2}"#);
    check("18446744073709551616", "1.8446744073709552e19");
    check("{-1:true}", "{-1:true}");
}

#[test]
fn what_is_no_json_is_refused() {
    for text in [
        "",
        "{",
        "[",
        "[1",
        "{1",
        "{1:",
        "{:1}",
        "{1:2",
        "tru",
        "\"",
        "{\"a\" 1}",
        "[1 2]",
        "{[1}:2}",
        "1e",
        "--1",
        "]",
    ] {
        assert!(Json::parse(text.as_bytes()).is_err(), "{text}: {:?}", Json::parse(text.as_bytes()));
    }
    for deep in ["[".repeat(1 << 16), "{".repeat(1 << 16), "{1:".repeat(1 << 16), "{[".repeat(1 << 16)] {
        assert_eq!(Json::parse(deep.as_bytes()).unwrap_err().what, "too deep");
    }
    let many = format!("[{}0]", "0,".repeat(VALUES_MAX));
    assert_eq!(Json::parse(many.as_bytes()).unwrap_err().what, "too many values");
    assert!(Json::parse_file(many.as_bytes()).is_ok());
}

/// Found by fuzzing: 1e999 was read as infinity, which JSON cannot say, and written as null.
#[test]
fn infinity_is_no_number() {
    assert_eq!(Json::parse(b"[1e999]").unwrap_err().what, "a number that is none");
    assert_eq!(Json::parse(b"1e308"), Ok(Json::Float(1e308)));
}

#[test]
fn values_are_coerced_as_fastjson_does() {
    let of = |text: &'static str| Json::parse(text.as_bytes()).unwrap();
    assert_eq!((of("\"5\"").int(), of("5.9").int(), of("\"x\"").int()), (Some(5), Some(5), None));
    assert_eq!(
        (of("\"true\"").truth(), of("1").truth(), of("0").truth(), of("\"maybe\"").truth()),
        (Some(true), Some(true), Some(false), None)
    );
    assert_eq!(
        (of("5").text().as_deref(), of("true").text().as_deref(), of("[]").text()),
        (Some("5"), Some("true"), None)
    );
    assert_eq!((of("\"0.5\"").float(), of("2").float()), (Some(0.5), Some(2.0)));
}

#[test]
fn keys_are_quoted_on_demand() {
    let json = Json::parse(br#"{"brokerAddrs":{0:"a",1:"b"}}"#).unwrap();
    assert_eq!(json.encode(Style::STANDARD), br#"{"brokerAddrs":{"0":"a","1":"b"}}"#);
}

#[test]
fn invalid_utf8_is_replaced() {
    assert_eq!(Json::parse(b"\"a\xFF\"").unwrap(), Json::Text("a\u{fffd}".into()));
}

fn any_json() -> impl Strategy<Value = Json<'static>> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(Json::Int),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Json::Float),
        ".{0,12}".prop_map(Json::from),
    ];
    let key = prop_oneof![
        ".{0,6}".prop_map(Json::from),
        any::<i64>().prop_map(Json::Int),
        Just(Json::object([("brokerName", Json::from("b")), ("queueId", Json::from(1))])),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::List),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(Json::Object),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(json in any_json(), pretty in any::<bool>()) {
        let written = json.encode(Style { pretty, quote_keys: false });
        prop_assert_eq!(Json::parse(&written).unwrap(), json, "{}", String::from_utf8_lossy(&written));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Json::parse(&bytes);
    }

    #[test]
    fn no_json_like_text_panics(text in r#"[{}\[\]",:'\\u0-9a-fé.\-]{0,80}"#) {
        let _ = Json::parse(text.as_bytes());
    }
}
