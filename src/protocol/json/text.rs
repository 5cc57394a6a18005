//! Numbers and strings written straight into a buffer, without formatting machinery. Knows no tree and no member names.

use crate::model::search::is_plain_json;

/// "00" to "99".
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

/// Appends the decimal digits of `number`.
pub(crate) fn push_int(out: &mut Vec<u8>, number: i64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    while rest >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(rest % 100) as usize]);
        rest /= 100;
    }
    if rest > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + rest as u8;
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `text` in double quotes, escaped as fastjson escapes: quote, backslash and control characters.
pub(crate) fn push_quoted(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    if is_plain_json(bytes) {
        out.extend_from_slice(bytes);
        return out.push(b'"');
    }
    let mut plain_from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[plain_from..at]);
        plain_from = at + 1;
        let short = match byte {
            b'"' | b'\\' => *byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0C => b'f',
            _ => {
                let digit = |half: u8| b"0123456789ABCDEF"[usize::from(half)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
    out.extend_from_slice(&bytes[plain_from..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_decimal() {
        for number in [0, 1, 9, 10, 99, 100, -1, -10, 407, i64::MAX, i64::MIN, i64::from(i32::MIN)] {
            let mut out = Vec::new();
            push_int(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn strings_are_escaped() {
        let check = |text: &str, expect: &str| {
            let mut out = Vec::new();
            push_quoted(&mut out, text);
            assert_eq!(str::from_utf8(&out).unwrap(), expect);
        };
        check("", r#""""#);
        check("plain ü 🦀", "\"plain ü 🦀\"");
        check("a\"b\\c", r#""a\"b\\c""#);
        check("\u{1}x\u{2}\n\r\t\u{8}\u{c}\u{1f}", r#""\u0001x\u0002\n\r\t\b\f\u001F""#);
    }
}
