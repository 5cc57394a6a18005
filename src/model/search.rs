//! Looking for a byte, eight at a time: separators of properties and quotes of headers are searched on every send.

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = ONES << 7;

/// Has the top bit of the lowest byte that is zero, and maybe of some above it.
#[inline]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & TOPS
}

/// The first place from `at` on where `one` or `other` stands, or the end.
#[inline]
pub fn find_either(bytes: &[u8], mut at: usize, one: u8, other: u8) -> usize {
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*eight);
        let hits = zeros(word ^ (ONES * u64::from(one))) | zeros(word ^ (ONES * u64::from(other)));
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && bytes[at] != one && bytes[at] != other {
        at += 1;
    }
    at
}

/// The first place from `at` on where `wanted` stands, or the end.
#[inline]
pub fn find_byte(bytes: &[u8], mut at: usize, wanted: u8) -> usize {
    while let Some(eight) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let hits = zeros(u64::from_le_bytes(*eight) ^ (ONES * u64::from(wanted)));
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    while at < bytes.len() && bytes[at] != wanted {
        at += 1;
    }
    at
}

/// Whether JSON writes `bytes` as they are: no quote, no backslash, no control character.
#[inline]
pub fn is_plain_json(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hits = 0;
    for word in words {
        let word = u64::from_le_bytes(*word);
        let quotes = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        // Below 0x20: the subtraction borrows and the byte itself has no top bit.
        let controls = word.wrapping_sub(ONES * 0x20) & !word & TOPS;
        hits |= quotes | controls;
    }
    hits == 0 && rest.iter().all(|byte| *byte >= 0x20 && *byte != b'"' && *byte != b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_byte_by_byte(bytes in proptest::collection::vec(prop_oneof![0u8..4, 0x1Fu8..0x24, 0x5Bu8..0x5E, 0x7Fu8..0x82, any::<u8>()], 0..40), from in 0usize..42) {
            for wanted in [0, 1, 2, b'"', 0x80, 0xFF] {
                let place = |found: &dyn Fn(u8) -> bool| {
                    bytes.iter().skip(from).position(|byte| found(*byte)).map_or(bytes.len().max(from), |at| at + from)
                };
                prop_assert_eq!(find_byte(&bytes, from, wanted), place(&|byte| byte == wanted));
                prop_assert_eq!(find_either(&bytes, from, wanted, b'\\'), place(&|byte| byte == wanted || byte == b'\\'));
            }
            let plain = bytes.iter().all(|byte| *byte >= 0x20 && *byte != b'"' && *byte != b'\\');
            prop_assert_eq!(is_plain_json(&bytes), plain);
        }
    }
}
