//! A decoder takes no more memory than the bytes that it sees justify.

use peak_alloc::PeakAlloc;

/// What a decoder may hold at one time: so many bytes for each that it was given…
const PER_BYTE: usize = 64;
/// …and so many in any case.
const BASE_BYTES: usize = 64 << 10;

#[global_allocator]
static COUNTED: PeakAlloc = PeakAlloc;

/// Runs a decoder over `bytes` and panics if it held more than they justify. Nothing else runs meanwhile.
pub fn bounded<'b, T>(bytes: &'b [u8], decode: impl FnOnce(&'b [u8]) -> T) -> T {
    COUNTED.reset_peak_usage();
    let before = COUNTED.current_usage();
    let decoded = decode(bytes);
    let held = COUNTED.peak_usage().saturating_sub(before);
    let allowed = BASE_BYTES + PER_BYTE * bytes.len();
    assert!(held <= allowed, "{} bytes made a decoder hold {held} at one time, {allowed} are allowed", bytes.len());
    decoded
}
