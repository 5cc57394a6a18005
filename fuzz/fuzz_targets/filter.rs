//! Any text as a filter, any bytes as the properties it is asked about: an answer or a refusal that says where, within
//! the bounds of length and depth, and the same in parentheses.

#![no_main]

use keelmq::model::filter::{EXPRESSION_CHARS_MAX, EXPRESSION_DEPTH_MAX, Filter, FilterError};
use keelmq_fuzz::input::Input;
use libfuzzer_sys::fuzz_target;

/// The fuzzer finds words by itself; sentences come sooner when it need not.
const WORDS: [&str; 56] = [
    "a",
    "b",
    "_c$1",
    "TAGS",
    " ",
    "\n",
    "(",
    ")",
    "'",
    "''",
    "'x'",
    "'5'",
    "'-1e3'",
    "5",
    "0",
    "-",
    "+",
    ".",
    "5.5",
    ".5",
    "1e9",
    "1E-400",
    "9223372036854775807",
    "9223372036854775808",
    "0x1F",
    "017",
    "5L",
    ",",
    "=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    " AND ",
    " OR ",
    " NOT ",
    " BETWEEN ",
    " IN ",
    " IS ",
    " NULL ",
    " TRUE ",
    " FALSE ",
    " CONTAINS ",
    " STARTSWITH ",
    " ENDSWITH ",
    " LIKE ",
    "*",
    "/",
    "%",
    "--",
    "/*",
    "*/",
    "||",
    "é",
    "\u{1F600}",
];

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input::new(bytes);
    let kind = input.byte();
    let stored = input.some();
    let expression = if kind & 1 == 0 {
        let mut expression = String::new();
        while !input.is_empty() {
            let at = input.byte() as usize;
            match WORDS.get(at) {
                Some(word) => expression.push_str(word),
                // Depth costs the fuzzer a byte, not a thousand.
                None if at < 80 => expression.push_str(&WORDS[6 + at % 2].repeat(usize::from(input.byte()))),
                None => expression.push(at as u8 as char),
            }
        }
        expression
    } else {
        String::from_utf8_lossy(input.take(usize::MAX)).into_owned()
    };
    for expression_type in [Some("SQL92"), None] {
        match Filter::parse(expression_type, &expression) {
            Ok(filter) => {
                let answer = filter.matches(stored);
                assert_eq!(answer, filter.matches(stored));
                if expression_type.is_some() {
                    in_parentheses(&expression, stored, answer);
                }
            }
            Err(FilterError::Sql { at, reason }) => {
                assert!((1..=expression.chars().count() + 1).contains(&at) && !reason.is_empty());
            }
            Err(FilterError::TooLong { chars, .. }) => assert!(chars > EXPRESSION_CHARS_MAX),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});

fn in_parentheses(expression: &str, stored: &[u8], answer: bool) {
    match Filter::parse(Some("SQL92"), &format!("({expression})")) {
        Ok(filter) => assert_eq!(filter.matches(stored), answer),
        Err(FilterError::TooLong { .. }) => assert!(expression.chars().count() + 2 > EXPRESSION_CHARS_MAX),
        // Only a deep one becomes too deep.
        Err(error) => {
            let openings =
                expression.matches(['(', '-', '+', '=', '<', '>']).count() + expression.matches("NOT").count();
            assert!(expression.len() > EXPRESSION_DEPTH_MAX && openings > 0, "{expression:?}: {error}");
        }
    }
}
