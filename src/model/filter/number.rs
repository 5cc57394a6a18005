//! Numbers as Java reads them from text: what `Integer.valueOf`, `Long.valueOf` and `Double.valueOf` accept.

use std::cmp::Ordering;

/// A sign and decimal digits, nothing else.
pub fn int(text: &str) -> Option<i32> {
    long(text).and_then(|number| i32::try_from(number).ok())
}

/// A sign and decimal digits, nothing else.
pub fn long(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

/// Decimal or hexadecimal with exponent, `NaN`, `Infinity`, an optional suffix `d` or `f`, blanks around it.
pub fn double(text: &str) -> Option<f64> {
    let text = text.trim_matches(|c| c <= ' ');
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = match rest {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        _ if rest.starts_with("0x") || rest.starts_with("0X") => hexadecimal(&rest[2..])?,
        _ => decimal(rest)?,
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// `Double.compareTo`: NaN is above everything and equal to itself, -0.0 is below 0.0.
pub fn compare(a: f64, b: f64) -> Ordering {
    match a.partial_cmp(&b) {
        Some(Ordering::Equal) => b.is_sign_negative().cmp(&a.is_sign_negative()),
        Some(unequal) => unequal,
        None => a.is_nan().cmp(&b.is_nan()),
    }
}

fn without_suffix(text: &str) -> &str {
    text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text)
}

fn decimal(text: &str) -> Option<f64> {
    let text = without_suffix(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let exponent_digits = exponent.map(|exponent| exponent.strip_prefix(['+', '-']).unwrap_or(exponent));
    let is_good = is_digits(whole)
        && is_digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent_digits.is_none_or(|digits| !digits.is_empty() && is_digits(digits));
    is_good.then(|| text.parse().ok()).flatten()
}

/// Behind `0x`: digits with an optional point, then `p` and a power of two, which must be there.
fn hexadecimal(text: &str) -> Option<f64> {
    let text = without_suffix_of_power(text);
    let at = text.find(['p', 'P'])?;
    let (mantissa, power) = (&text[..at], &text[at + 1..]);
    let power_digits = power.strip_prefix(['+', '-']).unwrap_or(power);
    if power_digits.is_empty() || !power_digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // Beyond these every value is zero or infinite anyway.
    let mut power = power.parse::<i64>().unwrap_or(if power.starts_with('-') { -100_000 } else { 100_000 });
    power = power.clamp(-100_000, 100_000);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // 62 bits are kept, the last of which also stands for everything behind it, so that rounding to 53 is right.
    let mut bits: u64 = 0;
    for (digit, is_fraction) in whole.chars().map(|c| (c, false)).chain(fraction.chars().map(|c| (c, true))) {
        let digit = u64::from(digit.to_digit(16)?);
        if bits >> 58 == 0 {
            bits = bits << 4 | digit;
            power -= if is_fraction { 4 } else { 0 };
        } else {
            bits |= u64::from(digit != 0);
            power += if is_fraction { 0 } else { 4 };
        }
    }
    Some(scaled(bits, power))
}

/// In hexadecimal `d` and `f` are digits, except behind the power.
fn without_suffix_of_power(text: &str) -> &str {
    if text.contains(['p', 'P']) { without_suffix(text) } else { text }
}

/// `bits` × 2^`power`, rounded once, to even.
fn scaled(bits: u64, power: i64) -> f64 {
    if bits == 0 {
        return 0.0;
    }
    let top = 63 - i64::from(bits.leading_zeros());
    // The place value of the last bit that the result can keep: 53 bits, but none below 2^-1074.
    let last = (power + top - 52).max(-1074);
    let shift = last - power;
    let kept = if shift <= 0 {
        return scale_exactly(bits, power);
    } else if shift > 64 {
        0
    } else {
        let wide = u128::from(bits);
        let (kept, rest) = (wide >> shift, wide & ((1 << shift) - 1));
        let half = 1u128 << (shift - 1);
        kept + u128::from(rest > half || (rest == half && kept & 1 == 1))
    };
    scale_exactly(kept as u64, last)
}

/// `bits` (at most 2^53) × 2^`power` where no bit gets lost.
fn scale_exactly(bits: u64, power: i64) -> f64 {
    let mut value = bits as f64;
    let mut power = power;
    while power > 0 && value.is_finite() {
        let step = power.min(1_000);
        value *= 2f64.powi(step as i32);
        power -= step;
    }
    while power < 0 && value != 0.0 {
        let step = (-power).min(1_000);
        value /= 2f64.powi(step as i32);
        power += step;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers() {
        let check = |text: &str, expect: Option<i64>| assert_eq!(long(text), expect, "{text:?}");
        check("5", Some(5));
        check("+5", Some(5));
        check("-0", Some(0));
        check("007", Some(7));
        check(" 5", None);
        check("", None);
        check("-", None);
        check("5.0", None);
        check("9223372036854775807", Some(i64::MAX));
        check("9223372036854775808", None);
        assert_eq!(int("2147483648"), None);
        assert_eq!(int("-2147483648"), Some(i32::MIN));
    }

    #[test]
    fn floating_numbers() {
        let check = |text: &str, expect: Option<f64>| {
            assert_eq!(double(text).map(f64::to_bits), expect.map(f64::to_bits), "{text:?}");
        };
        check("5", Some(5.0));
        check(" 5.5 ", Some(5.5));
        check(".5", Some(0.5));
        check("5.", Some(5.0));
        check("1e3d", Some(1000.0));
        check("1E-3F", Some(0.001));
        check("-0", Some(-0.0));
        check("Infinity", Some(f64::INFINITY));
        check("-Infinity", Some(f64::NEG_INFINITY));
        check("inf", None);
        check("nan", None);
        check("", None);
        check(".", None);
        check("1e", None);
        check("1_0", None);
        check("0x1p3", Some(8.0));
        check("0x.8p1", Some(1.0));
        check("0x1.8p1d", Some(3.0));
        check("0x10", None);
        check("0x1.fffffffffffff8p0", Some(2.0));
        check("0x1.fffffffffffff7p0", Some(f64::from_bits(0x3fff_ffff_ffff_ffff)));
        check("0x1p-1074", Some(5e-324));
        check("0x0.8p-1074", Some(0.0));
        check("0x0.8001p-1074", Some(5e-324));
        check("0x1p9999999999999999999", Some(f64::INFINITY));
        check("0x123456789abcdef012345p0", Some(1.375_488_932_539_311_4e24));
        assert!(double("NaN").unwrap().is_nan());
    }

    #[test]
    fn order_is_total() {
        assert_eq!(compare(-0.0, 0.0), Ordering::Less);
        assert_eq!(compare(f64::NAN, f64::INFINITY), Ordering::Greater);
        assert_eq!(compare(f64::NAN, -f64::NAN), Ordering::Equal);
        assert_eq!(compare(1.0, 2.0), Ordering::Less);
    }
}
