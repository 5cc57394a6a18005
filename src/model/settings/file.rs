//! Files of `key=value` lines as `java.util.Properties` reads them, and our one addition: blank, `#`, blank begins a
//! comment behind a value (that is how `-p` writes the source). Knows no key.

/// One entry, with the number of the line on which it starts (from 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub number: u32,
    pub key: String,
    pub value: String,
}

/// The entries of `text` in order.
pub fn lines(text: &str) -> Vec<Line> {
    logical(text).filter_map(|(number, line)| entry(&line).map(|(key, value)| Line { number, key, value })).collect()
}

/// Natural lines joined where one ends in an odd number of backslashes; comments and blank lines left out.
fn logical(text: &str) -> impl Iterator<Item = (u32, String)> {
    let mut natural = text.lines().enumerate();
    std::iter::from_fn(move || {
        loop {
            let (at, first) = natural.next()?;
            let first = first.trim_start_matches(is_blank);
            if first.is_empty() || first.starts_with(['#', '!']) {
                continue;
            }
            let mut line = first.to_owned();
            while line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1 {
                line.pop();
                let Some((_, next)) = natural.next() else { break };
                line.push_str(next.trim_start_matches(is_blank));
            }
            return Some((at as u32 + 1, line));
        }
    })
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

fn entry(line: &str) -> Option<(String, String)> {
    let mut end = line.len();
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        if !escaped && (matches!(c, '=' | ':') || is_blank(c)) {
            end = at;
            break;
        }
        escaped = c == '\\' && !escaped;
    }
    let rest = line[end..].trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(is_blank);
    let key = unescape(&line[..end]);
    (!key.is_empty()).then(|| (key, unescape(without_comment(rest)).trim().to_owned()))
}

/// `value` up to blank, `#`, blank.
fn without_comment(value: &str) -> &str {
    let mut before = ' ';
    for (at, c) in value.char_indices() {
        if c == '#' && is_blank(before) && value[at + 1..].starts_with(is_blank) {
            return &value[..at];
        }
        before = c;
    }
    value
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut units: Vec<u16> = Vec::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let decoded = match c {
            '\\' => match rest.next() {
                Some('u') => {
                    let hex = rest.as_str().get(..4).and_then(|hex| u16::from_str_radix(hex, 16).ok());
                    if let Some(unit) = hex {
                        units.push(unit);
                        rest = rest.as_str()[4..].chars();
                        continue;
                    }
                    'u'
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => break,
            },
            plain => plain,
        };
        plain.push_str(&String::from_utf16_lossy(&units));
        units.clear();
        plain.push(decoded);
    }
    plain.push_str(&String::from_utf16_lossy(&units));
    plain
}

/// `value` so that reading it back gives the same text.
pub fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for (at, c) in value.char_indices() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '#' => escaped.push_str("\\#"),
            ' ' if at == 0 => escaped.push_str("\\ "),
            plain => escaped.push(plain),
        }
    }
    escaped
}

/// `text` with the values of `changes` in place of the old ones; comments, order and spelling of everything else stay,
/// keys that were not there follow at the end.
pub fn rewrite(text: &str, changes: &[(String, String)]) -> String {
    let mut written = vec![false; changes.len()];
    let mut out = String::new();
    let natural: Vec<&str> = text.lines().collect();
    let entries = lines(text);
    let mut at = 0;
    while at < natural.len() {
        let entry = entries.iter().find(|line| line.number as usize == at + 1);
        // The natural lines that belong to this one through trailing backslashes.
        let mut taken = 1;
        if entry.is_some() {
            while at + taken < natural.len() && ends_open(natural[at + taken - 1]) {
                taken += 1;
            }
        }
        match entry.and_then(|line| changes.iter().position(|(key, _)| *key == line.key)) {
            Some(change) => {
                let (key, value) = &changes[change];
                out.push_str(&format!("{key}={}\n", escape(value)));
                written[change] = true;
            }
            None => {
                for line in &natural[at..at + taken] {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        at += taken;
    }
    for ((key, value), written) in changes.iter().zip(written) {
        if !written {
            out.push_str(&format!("{key}={}\n", escape(value)));
        }
    }
    out
}

fn ends_open(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_java_reads_them() {
        let check = |text: &str, expect: &[(u32, &str, &str)]| {
            let read = lines(text);
            let read: Vec<_> = read.iter().map(|l| (l.number, l.key.as_str(), l.value.as_str())).collect();
            assert_eq!(read, expect, "{text:?}");
        };
        check("", &[]);
        check("a=1\n\n# c\n! d\n  b = 2  \n", &[(1, "a", "1"), (5, "b", "2")]);
        check("a:1\nb 2\nc\n", &[(1, "a", "1"), (2, "b", "2"), (3, "c", "")]);
        check("a=1,\\\n   2,\\\n 3\nb=4\r\n", &[(1, "a", "1,2,3"), (4, "b", "4")]);
        check("a\\=b=c\\u00e9\\\\", &[(1, "a=b", "cé\\")]);
        check("a=\\ud83e\\udd80x", &[(1, "a", "🦀x")]);
        check(
            "a=1  # default\nb=x#y\nc=# nothing\nd=x \\# y",
            &[(1, "a", "1"), (2, "b", "x#y"), (3, "c", ""), (4, "d", "x # y")],
        );
        check("=1\n", &[]);
        check("a==1", &[(1, "a", "=1")]);
        check("a=1\\", &[(1, "a", "1")]);
    }

    #[test]
    fn what_is_escaped_reads_back() {
        for value in ["", "plain", "C:\\x", "a # b", "  lead", "two\nlines", "tab\tin", "é🦀"] {
            let text = format!("key={}  # source: x", escape(value));
            let [line] = lines(&text).try_into().expect("one line");
            assert_eq!(line.value, value.trim(), "{text:?}");
        }
    }

    #[test]
    fn rewriting_keeps_what_it_does_not_change() {
        let check = |text: &str, changes: &[(&str, &str)], expect: &str| {
            let changes: Vec<_> = changes.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            assert_eq!(rewrite(text, &changes), expect);
        };
        check("# head\na=1\nb=2\n", &[("a", "9")], "# head\na=9\nb=2\n");
        check("a=1\\\n  2\nb=2\n", &[("a", "9"), ("c", "3")], "a=9\nb=2\nc=3\n");
        check("", &[("c", "x # y")], "c=x \\# y\n");
    }
}
