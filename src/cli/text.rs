//! Values as people and scripts read them.

use std::path::Path;

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} bytes"),
        1_024..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// This program as its caller can call it again: `cargo run` starts one that no PATH finds.
pub fn program() -> String {
    let called = std::env::args().next().filter(|called| called.contains('/')).unwrap_or_else(|| "keelmq".to_owned());
    match std::env::current_dir() {
        Ok(here) => {
            Path::new(&called).strip_prefix(here).map_or(called.clone(), |path| format!("./{}", path.display()))
        }
        Err(_) => called,
    }
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c < ' ' => quoted.push_str(&format!("\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
