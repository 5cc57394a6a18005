//! Refuses what would break the house's order: imports upwards or sideways, the world used past its doors, dead files,
//! stray names at the top. Reads source text only; each refusal says where, and which door to use instead.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

const LINES_MAX: usize = 650;

/// Longer ones that still wait for somebody to find their second noun. No name is ever added here.
const LONG: [&str; 0] = [];

/// What may be visible at the top, besides dot-files and what git ignores.
const TOP: [&str; 8] = ["Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "src", "sim", "tests", "fuzz"];

/// Crates with threads, clocks or entropy of their own: under the simulator they would be out of the seed's reach.
const FORBIDDEN_CRATES: [&str; 16] = [
    "ahash",
    "async-std",
    "crossbeam-channel",
    "dashmap",
    "fastrand",
    "flume",
    "getrandom",
    "hyper",
    "moka",
    "notify",
    "parking_lot",
    "rayon",
    "reqwest",
    "smol",
    "threadpool",
    "uuid",
];

/// Prefixes of paths that only some rooms may use, and the door for all others.
const DOORS: &[(&str, &[&str], &str)] = &[
    ("std::time::Instant", &["os"], "ask `env::Clock::monotonic`"),
    ("std::time::SystemTime", &["os"], "ask `env::Clock::wall_ms`"),
    ("std::thread", &["os"], "start tasks and services through `env::Spawner`"),
    ("std::fs", &["os"], "files are reached through `env::Storage`"),
    ("std::os", &["os"], "files are reached through `env::Storage`"),
    ("std::net::Tcp", &["os"], "sockets are reached through `env::Network`"),
    ("std::net::Udp", &["os"], "sockets are reached through `env::Network`"),
    ("std::net::ToSocketAddrs", &["os"], "`env::Network::connect` takes names"),
    ("std::sync::Condvar", &[], "it hangs a single-threaded world: wait for a `model::Watermark` or `tokio::sync`"),
    ("std::sync::Barrier", &[], "it hangs a single-threaded world: wait for a `model::Watermark` or `tokio::sync`"),
    ("std::sync::mpsc", &[], "it hangs a single-threaded world: use `tokio::sync::mpsc`"),
    ("tokio::sync::watch", &[], "it wakes in an order that no seed reaches: use a `model::Watermark`"),
    ("tokio::net", &["os"], "sockets are reached through `env::Network`"),
    ("tokio::time", &["os"], "ask `env::Clock::sleep` or `env::timeout`"),
    ("tokio::fs", &[], "files are reached through `env::Storage`"),
    ("tokio::process", &[], "the broker starts no other programs"),
    ("tokio::spawn", &["os"], "start tasks through `env::Spawner`"),
    ("tokio::task::spawn", &["os"], "start tasks through `env::Spawner`"),
    ("tokio::task::block_in_place", &[], "what blocks is a service of `env::Spawner`"),
    ("tokio::runtime", &["os", "cli", "main"], "only the binary has a runtime; take what you need of `env`"),
    ("tokio::signal", &["os", "cli", "main"], "only the binary hears signals; take a future that says stop"),
    ("rand", &["os"], "ask `env::Entropy`"),
    // Its calendar is arithmetic and open to all; its clocks and time zones are the world's.
    ("chrono::Local", &["os"], "ask `env::Clock::utc_offset_s`"),
    ("chrono::Utc", &["os"], "ask `env::Clock::wall_ms`"),
    ("libc", &["os"], "the kernel is reached through `env`"),
    ("memmap2", &["os"], "files are reached through `env::Storage`"),
    ("rustix", &["os"], "the kernel is reached through `env`"),
];

/// The floor of a room; `None` for what is no room.
fn floor(room: &str) -> Option<u8> {
    Some(match room {
        "model" => 1,
        "protocol" | "env" => 2,
        "store" | "remoting" => 3,
        "broker" | "namesrv" => 4,
        "cli" | "main" => 5,
        _ => return None,
    })
}

/// Why `from` may not import `to`.
fn refused_import(from: &str, to: &str) -> Option<String> {
    if from == to || from == "lib" {
        return None;
    }
    match (from, to) {
        ("os", "env") | ("cli" | "main", "os") => return None,
        ("os", _) => return Some(format!("`os` keeps the promises of `env` and knows nobody else, not `{to}`")),
        (_, "os") => {
            return Some("only `main` and `cli` join `os` to the rest: take what you need of `env`".to_owned());
        }
        _ => {}
    }
    let (ours, theirs) = (floor(from)?, floor(to)?);
    match ours.cmp(&theirs) {
        std::cmp::Ordering::Greater => None,
        std::cmp::Ordering::Equal if from == "main" => None,
        std::cmp::Ordering::Equal => Some(format!(
            "`{from}` and `{to}` are siblings and do not know each other: find the third thing below both"
        )),
        std::cmp::Ordering::Less => {
            Some(format!("`{to}` stands above `{from}`: let it pass down what you need, as a value or a closure"))
        }
    }
}

/// Source text without comments, strings and characters: blanks in their place, lines as they were.
fn stripped(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    let blank = |out: &mut [u8], from: usize, to: usize| {
        out[from..to].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    };
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            at + source[at..].find("*/").map_or(rest.len(), |end| end + 2)
        } else if rest[0] == b'r' && is_raw_string(bytes, at) {
            let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
            let close = format!("\"{}", "#".repeat(hashes));
            let body = at + hashes + 2;
            source[body..].find(&close).map_or(bytes.len(), |end| body + end + close.len())
        } else if rest[0] == b'"' {
            quoted_end(bytes, at, b'"')
        } else if rest[0] == b'\'' && is_character(rest) {
            quoted_end(bytes, at, b'\'')
        } else {
            at += 1;
            continue;
        };
        blank(&mut out, at, end);
        at = end;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn is_raw_string(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).map(|before| bytes[before]);
    let within_word = before.is_some_and(|byte| (byte.is_ascii_alphanumeric() || byte == b'_') && byte != b'b');
    let behind = &bytes[at + 1..];
    let hashes = behind.iter().take_while(|byte| **byte == b'#').count();
    !within_word && behind.get(hashes) == Some(&b'"')
}

/// A character rather than a lifetime.
fn is_character(rest: &[u8]) -> bool {
    rest.get(1) == Some(&b'\\')
        || rest.iter().skip(2).take(4).position(|byte| *byte == b'\'').is_some_and(|end| {
            // 'a' is one; 'a, 'b> is not; a longer one holds a single character of several bytes.
            end == 0 || !rest[1].is_ascii()
        })
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Blanks out what stands under `#[cfg(test)]`; returns the names of the modules that were declared there.
fn without_tests(code: &str) -> (String, BTreeSet<String>) {
    let mut lines: Vec<String> = code.lines().map(str::to_owned).collect();
    let mut modules = BTreeSet::new();
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() != "#[cfg(test)]" {
            at += 1;
            continue;
        }
        let indent = lines[at].len() - lines[at].trim_start().len();
        let (mut end, mut declared) = (at, String::new());
        loop {
            let line = &lines[end];
            if line.trim_start().contains("mod ") && line.trim_end().ends_with(';') {
                declared = line.split("mod ").nth(1).unwrap_or_default().trim_end_matches([';', ' ']).to_owned();
            }
            let own = line.len() - line.trim_start().len() == indent;
            let ends = own && (line.trim_end().ends_with(';') || line.trim_end().ends_with('}'));
            if ends || end + 1 == lines.len() {
                break;
            }
            end += 1;
        }
        if !declared.is_empty() {
            modules.insert(declared);
        }
        lines[at..=end].iter_mut().for_each(String::clear);
        at = end + 1;
    }
    (lines.join("\n"), modules)
}

/// Every path with `::` in it and every path that a `use` spells with braces, with its line.
fn paths(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut line = 1;
    // Prefixes of the braces that are open in a `use`; other braces are not pushed.
    let mut prefixes: Vec<String> = Vec::new();
    let mut current = String::new();
    let mut in_use = false;
    let flush = |current: &mut String, prefixes: &[String], line: usize, in_use: bool, found: &mut Vec<_>| {
        if current.is_empty() {
            return;
        }
        let path = format!("{}{current}", prefixes.last().map_or("", String::as_str));
        if path.contains("::") || (in_use && !path.is_empty()) {
            found.push((line, path.trim_end_matches("::self").to_owned()));
        }
        current.clear();
    };
    let characters: Vec<char> = code.chars().collect();
    for (at, character) in characters.iter().copied().enumerate() {
        match character {
            _ if character.is_alphanumeric() || character == '_' || character == '*' && in_use => {
                current.push(character)
            }
            ':' => current.push(':'),
            '{' if in_use => prefixes.push({
                let prefix = format!("{}{current}", prefixes.last().map_or("", String::as_str));
                current.clear();
                prefix
            }),
            _ => {
                if current == "use" {
                    in_use = true;
                    current.clear();
                } else if current == "as" {
                    current.clear();
                } else if current.ends_with("::") && character.is_whitespace() && characters.get(at + 1).is_some() {
                    // A path that goes on in the next line.
                } else {
                    flush(&mut current, &prefixes, line, in_use, &mut found);
                }
                match character {
                    '}' if in_use => drop(prefixes.pop()),
                    ';' => {
                        in_use = false;
                        prefixes.clear();
                    }
                    _ => {}
                }
            }
        }
        line += usize::from(character == '\n');
    }
    found
}

/// The problems of one file's text. `room` is the first directory below `src` (or `main`, `lib`), `depth` the number of
/// modules between the crate's root and the file's own.
fn problems(room: &str, is_storage: bool, depth: usize, source: &str) -> Vec<(usize, String)> {
    let mut problems = Vec::new();
    if !source.starts_with("//!") {
        problems.push((1, "a file opens with a `//!` sentence on what it is and what it does not know".to_owned()));
    }
    let lines = source.lines().count();
    if lines > LINES_MAX {
        problems.push((lines, format!("{lines} lines, {LINES_MAX} are allowed: it usually holds two nouns")));
    }
    let code = stripped(source);
    problems.extend(words(&code, is_storage));
    for (number, line) in source.lines().enumerate() {
        if let Some(mark) = ["TODO", "FIXME"].iter().find(|mark| line.contains(*mark)) {
            problems.push((number + 1, format!("{mark} is left behind: do it, or say in the README what is missing")));
        }
    }
    let (code, _) = without_tests(&code);
    for (number, line) in code.lines().enumerate() {
        if line.contains(".unwrap()") {
            let text = "a bare unwrap lives in tests: write `expect(\"why it cannot fail\")` or return an error";
            problems.push((number + 1, text.to_owned()));
        }
    }
    for (line, path) in paths(&code) {
        problems.extend(refused_path(room, depth, &path).map(|text| (line, text)));
    }
    problems.sort();
    problems.dedup();
    problems
}

fn refused_path(room: &str, depth: usize, path: &str) -> Option<String> {
    let segments: Vec<&str> = path.split("::").collect();
    let supers = segments.iter().take_while(|segment| **segment == "super").count();
    let target = match segments[0] {
        "crate" | "keelmq" => segments.get(1),
        "super" if supers >= depth => segments.get(supers),
        _ => None,
    };
    if let Some(text) = target.and_then(|target| refused_import(room, target)) {
        return Some(format!("{path}: {text}"));
    }
    // `use std::time;` and then `time::Instant` is the same in two steps.
    let spelled = match segments[0] {
        "time" | "thread" | "fs" | "net" if segments.len() > 1 => format!("std::{path}"),
        _ => path.to_owned(),
    };
    let matches = |prefix: &str| match spelled.strip_prefix(prefix) {
        Some(rest) => {
            rest.is_empty()
                || rest.starts_with("::")
                || prefix.contains("::Tcp")
                || prefix.contains("::Udp")
                || prefix.ends_with("::spawn")
        }
        None => false,
    };
    let (prefix, _, door) = DOORS.iter().find(|(prefix, rooms, _)| matches(prefix) && !rooms.contains(&room))?;
    Some(format!("{path}: `{prefix}` is not for `{room}`: {door}"))
}

/// Words that stand nowhere, tests included.
fn words(code: &str, is_storage: bool) -> Vec<(usize, String)> {
    let mut problems = Vec::new();
    let is_word = |line: &str, word: &str| {
        line.match_indices(word).any(|(at, _)| {
            let edge = |character: Option<char>| !character.is_some_and(|c| c.is_alphanumeric() || c == '_');
            edge(line[..at].chars().next_back()) && edge(line[at + word.len()..].chars().next())
        })
    };
    for (number, line) in code.lines().enumerate() {
        let mut refuse = |text: &str| problems.push((number + 1, text.to_owned()));
        if is_word(line, "unsafe") && !is_storage {
            refuse("`unsafe` stands in src/os/storage.rs alone, each block with its safety argument");
        }
        for left in ["todo!", "unimplemented!", "dbg!", "#[ignore"] {
            if line.contains(left) {
                refuse(&format!("`{left}` is left behind"));
            }
        }
    }
    for (at, _) in code.match_indices("select!") {
        let body = code[at + "select!".len()..].trim_start().trim_start_matches(['{', '(']).trim_start();
        if !body.starts_with("biased;") {
            let line = code[..at].lines().count().max(1);
            problems
                .push((line, "`select!` is always `biased;`: an unbiased one asks a random number of its own".into()));
        }
    }
    problems
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Where `mod name;` in `file` leads to.
fn module_file(file: &Path, name: &str) -> Option<PathBuf> {
    let directory = file.parent().unwrap();
    let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
    let is_root = matches!(&stem[..], "mod" | "lib" | "main") || (stem != "mod" && is_test_root(file));
    let base = if is_root { directory.to_owned() } else { directory.join(stem) };
    [base.join(format!("{name}.rs")), base.join(name).join("mod.rs")].into_iter().find(|path| path.exists())
}

/// `tests/name.rs` is a crate of its own.
fn is_test_root(file: &Path) -> bool {
    file.parent() == Some(&root().join("tests"))
}

/// All files that module lines lead to from `from`; the value says whether only tests lead there.
fn reach(from: &Path, only_tests: bool, reached: &mut BTreeMap<PathBuf, bool>) {
    if reached.get(from).is_some_and(|before| !*before || only_tests) {
        return;
    }
    reached.insert(from.to_owned(), only_tests);
    let code = stripped(&fs::read_to_string(from).unwrap());
    let (_, tests) = without_tests(&code);
    for line in code.lines().map(str::trim) {
        let declared =
            line.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ").trim_start_matches("pub ");
        let Some(name) = declared.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) else { continue };
        if let Some(file) = module_file(from, name) {
            reach(&file, only_tests || tests.contains(name), reached);
        }
    }
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[test]
fn the_house_is_tidy() {
    let root = root();
    let mut said = Vec::new();
    let mut files = Vec::new();
    ["src", "sim", "tests", "fuzz"].iter().for_each(|part| rust_files(&root.join(part), &mut files));

    let mut reached = BTreeMap::new();
    ["src/lib.rs", "src/main.rs"].iter().for_each(|start| reach(&root.join(start), false, &mut reached));
    let manifests: String = ["Cargo.toml", "sim/Cargo.toml", "fuzz/Cargo.toml"]
        .iter()
        .filter_map(|path| fs::read_to_string(root.join(path)).ok())
        .collect();
    for file in &files {
        let name = shown(file);
        let parts: Vec<&str> = name.split('/').collect();
        let is_start = matches!(
            parts[..],
            ["sim", "src", "lib.rs" | "main.rs"]
                | ["sim", "src", "bin", _]
                | ["tests", _]
                | ["tests", _, "main.rs"]
                | ["sim", "tests", _]
                | ["fuzz", ..]
        );
        if is_start || manifests.contains(&format!("path = \"{name}\"")) {
            reach(file, true, &mut reached);
        }
    }
    for file in &files {
        let name = shown(file);
        let Some(only_tests) = reached.get(file) else {
            said.push(format!("{name}:1: no `mod` line leads here: remove the file or name it"));
            continue;
        };
        let source = fs::read_to_string(file).unwrap();
        let parts: Vec<&str> = name.split('/').collect();
        let found = if parts[0] == "src" && !only_tests {
            let room = parts[1].trim_end_matches(".rs");
            let own = usize::from(!matches!(parts.last(), Some(&"mod.rs" | &"lib.rs" | &"main.rs")));
            problems(room, name == "src/os/storage.rs", parts.len() - 2 + own, &source)
        } else {
            let lines = source.lines().count();
            let long = (lines > LINES_MAX && !LONG.contains(&&name[..]))
                .then(|| (lines, format!("{lines} lines, {LINES_MAX} are allowed")));
            words(&stripped(&source), false).into_iter().chain(long).collect()
        };
        said.extend(found.into_iter().map(|(line, text)| format!("{name}:{line}: {text}")));
    }

    let ignored = fs::read_to_string(root.join(".gitignore")).unwrap_or_default();
    let ignored: BTreeSet<&str> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    for entry in fs::read_dir(&root).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !TOP.contains(&&name[..]) && !ignored.contains(&name[..]) {
            said.push(format!("{name}: the top shows {TOP:?} and nothing else: find the room it belongs to"));
        }
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let hired = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    for line in hired.lines().take_while(|line| !line.starts_with('[')) {
        if let Some(name) =
            FORBIDDEN_CRATES.iter().find(|name| line.split('=').next().unwrap_or_default().trim() == **name)
        {
            said.push(format!("Cargo.toml: {name} has threads, clocks or entropy of its own, beyond the seed's reach"));
        }
    }
    assert!(said.is_empty(), "{} refusals:\n{}", said.len(), said.join("\n"));
}

/// What is said about `source` in `room`: line and a part of the sentence.
fn check(room: &str, source: &str, expected: &[(usize, &str)]) {
    let found = problems(room, false, 2, &format!("//! A test.\n{source}"));
    let matches = found.len() == expected.len()
        && found.iter().zip(expected).all(|((line, text), (at, part))| *line == at + 1 && text.contains(part));
    assert!(matches, "{room}: {source}\nfound {found:?}\nexpected {expected:?}");
}

#[test]
fn imports_go_down() {
    check("store", "use crate::model::Watermark;\nuse crate::env::{File, Storage};", &[]);
    check(
        "store",
        "use crate::{\n    env::File,\n    remoting::Channel,\n};",
        &[(3, "`store` and `remoting` are siblings")],
    );
    check("model", "fn f() -> crate::protocol::X {}", &[(1, "`protocol` stands above `model`")]);
    check("remoting", "use crate::{broker::{self, Config}, env::Clock};", &[(1, "stands above"), (1, "stands above")]);
    check("remoting", "use super::super::store;", &[(1, "siblings")]);
    check("remoting", "use super::Channel;", &[]);
    check("os", "use crate::env::Clock;\nuse crate::model::Watermark;", &[(2, "`os` keeps the promises")]);
    check("broker", "use crate::os;", &[(1, "only `main` and `cli` join `os`")]);
    check("cli", "use crate::{broker, namesrv, os, store};", &[]);
    check("main", "use keelmq::cli;", &[]);
    check("store", "// use crate::broker;\nconst S: &str = \"crate::broker::x\";", &[]);
    check(
        "store",
        "#[cfg(test)]\nmod tests {\n    use crate::os;\n    fn f() { x.unwrap(); }\n}\nuse crate::os;",
        &[(6, "only")],
    );
}

#[test]
fn the_world_is_behind_doors() {
    check("store", "use std::{fs, time::{Duration, Instant}};", &[(1, "env::Storage"), (1, "Clock::monotonic")]);
    check("store", "use std::time::Duration;\nfn f() { std::thread::sleep(Duration::ZERO) }", &[(2, "env::Spawner")]);
    check("store", "use std::time;\nfn f() { time::SystemTime::now(); }", &[(2, "Clock::wall_ms")]);
    check("broker", "use std::net::{IpAddr, SocketAddr, TcpStream};", &[(1, "env::Network")]);
    check("broker", "use std::sync::{Arc, Condvar, Mutex};", &[(1, "single-threaded")]);
    check("broker", "use tokio::sync::mpsc;\nfn f() { tokio::spawn(x); }", &[(2, "env::Spawner")]);
    check("broker", "fn f() { tokio::task::spawn_blocking(x); rand::random() }", &[(1, "`rand`"), (1, "env::Spawner")]);
    check("cli", "use tokio::{runtime::Builder, signal::unix};\nuse tokio::time::sleep;", &[(2, "env::Clock")]);
    check(
        "store",
        "use chrono::{DateTime, Local};\nfn f() { chrono::Utc::now(); }",
        &[(1, "utc_offset"), (2, "wall_ms")],
    );
    check("os", "use std::{fs, thread};\nuse tokio::net::TcpStream;", &[]);
    check("remoting", "thread_local! { static X: u8 = 1; }\nlet thread = 1; let fs = random;", &[]);
}

#[test]
fn words_that_stand_nowhere() {
    check(
        "store",
        "fn f() {\n    unsafe { g() }\n}\n// unsafe is a word\n#[allow(unsafe_code)]",
        &[(2, "src/os/storage.rs")],
    );
    check("store", "tokio::select! {\n    biased;\n    _ = a => {}\n}", &[]);
    check("store", "tokio::select! {\n    _ = a => {}\n}", &[(1, "biased")]);
    check("store", "fn f() { todo!() }\n// FIXME later", &[(1, "todo!"), (2, "FIXME")]);
    check(
        "store",
        "let a = b.unwrap();\nlet c = d.unwrap_or(1);\nlet e = ['\"', '\\'', 'a'];\nlet f = x.unwrap();",
        &[(1, "bare unwrap"), (4, "bare unwrap")],
    );
    check(
        "store",
        "fn f<'a>(x: &'a str) -> r#type { r#\"x.unwrap()\"# }\nlet c = '→'; y.unwrap();",
        &[(2, "bare unwrap")],
    );
}
