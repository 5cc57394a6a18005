//! Values of settings: how each type is read from text, written as text, and what is allowed. Knows no key.

/// What a number counts; said in messages and in help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Count,
    Bytes,
    Milliseconds,
    Seconds,
    Hours,
    Percent,
    Port,
    Pages,
}

impl Unit {
    fn words(self) -> &'static str {
        match self {
            Unit::Count => "",
            Unit::Bytes => " of bytes",
            Unit::Milliseconds => " of milliseconds",
            Unit::Seconds => " of seconds",
            Unit::Hours => " of hours",
            Unit::Percent => " of percent",
            Unit::Port => " (a port)",
            Unit::Pages => " of 4 KiB pages",
        }
    }
}

/// What a key's value may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowed {
    Text,
    /// A text that is not empty.
    Name,
    /// A text without `|`, blanks or control characters, at most this many characters (topics and groups).
    Topic {
        max: usize,
    },
    Truth,
    Number {
        min: i64,
        max: i64,
        unit: Unit,
    },
    Fraction {
        min: f64,
        max: f64,
    },
    OneOf(&'static [&'static str]),
    /// `host:port` entries separated by `;`.
    Addresses,
    /// An IPv4 or IPv6 address, or empty.
    Address,
    /// Durations separated by blanks: `1s 5m 2h 1d`.
    DelayLevels,
    /// Hours of the day separated by `;`: `04` or `04;16`.
    HoursOfDay,
}

impl Allowed {
    pub const fn number(min: i64, max: i64, unit: Unit) -> Self {
        Allowed::Number { min, max, unit }
    }

    /// Half a sentence: "a whole number of bytes from 1 to 5".
    pub fn words(&self) -> String {
        match self {
            Allowed::Text => "any text".to_owned(),
            Allowed::Name => "a text that is not empty".to_owned(),
            Allowed::Topic { max } => format!("a name of letters, digits, %, _, - and |, at most {max} long"),
            Allowed::Truth => "true or false".to_owned(),
            Allowed::Number { min: i64::MIN, .. } => "a whole number".to_owned(),
            Allowed::Number { min, max: i64::MAX, unit } => {
                format!("a whole number{} from {min} up, without a unit", unit.words())
            }
            Allowed::Number { min, max, unit } => {
                format!("a whole number{} from {min} to {max}, without a unit", unit.words())
            }
            Allowed::Fraction { min: f64::MIN, .. } => "a number".to_owned(),
            Allowed::Fraction { min, max } => format!("a number from {min} to {max}"),
            Allowed::OneOf(words) => match words {
                [""] => "nothing".to_owned(),
                [only] => format!("only {only}"),
                [first, second] => format!("{first} or {second}"),
                many => format!("one of {}", many.join(", ")),
            },
            Allowed::Addresses => "host:port, several separated by ';'".to_owned(),
            Allowed::Address => "an IPv4 or IPv6 address".to_owned(),
            Allowed::DelayLevels => "durations such as `1s 5m 2h 1d`, separated by blanks".to_owned(),
            Allowed::HoursOfDay => "hours from 00 to 23, several separated by ';'".to_owned(),
        }
    }

    /// Whether `text` is allowed, whatever type it becomes.
    pub fn admits(&self, text: &str) -> bool {
        match self {
            Allowed::Text => true,
            Allowed::Name => !text.is_empty(),
            Allowed::Topic { max } => {
                let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '%' | '_' | '-' | '|');
                !text.is_empty() && text.len() <= *max && text.chars().all(good)
            }
            Allowed::Truth => matches!(text, "true" | "false"),
            Allowed::Number { min, max, .. } => text.parse::<i64>().is_ok_and(|number| (*min..=*max).contains(&number)),
            Allowed::Fraction { min, max } => text.parse::<f64>().is_ok_and(|number| (*min..=*max).contains(&number)),
            Allowed::OneOf(words) => words.contains(&text),
            Allowed::Addresses => addresses(text).all(is_host_and_port),
            Allowed::Address => text.is_empty() || text.parse::<std::net::IpAddr>().is_ok(),
            Allowed::DelayLevels => delay_levels_ms(text).is_some(),
            Allowed::HoursOfDay => hours_of_day(text).is_some(),
        }
    }

    /// What the writer of `text` probably meant, where it can be said ("134217728" for "128MiB").
    pub fn meant(&self, text: &str) -> Option<String> {
        let Allowed::Number { unit, .. } = self else { return None };
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: i64 = text[..digits].replace('_', "").parse().ok()?;
        let factor: i64 = match (unit, text[digits..].trim().to_ascii_lowercase().as_str()) {
            (Unit::Bytes, "k" | "kb" | "kib") => 1 << 10,
            (Unit::Bytes, "m" | "mb" | "mib") => 1 << 20,
            (Unit::Bytes, "g" | "gb" | "gib") => 1 << 30,
            (Unit::Milliseconds, "ms") | (Unit::Seconds, "s") | (Unit::Hours, "h") | (Unit::Percent, "%") => 1,
            (Unit::Milliseconds, "s") => 1_000,
            (Unit::Milliseconds, "m" | "min") => 60_000,
            (Unit::Milliseconds, "h") => 3_600_000,
            (Unit::Seconds, "m" | "min") => 60,
            (Unit::Seconds, "h") => 3_600,
            (Unit::Hours, "d") => 24,
            _ => return None,
        };
        let meant = number.checked_mul(factor)?.to_string();
        self.admits(&meant).then_some(meant)
    }
}

/// The entries of a `;` list, blanks and empty ones gone.
pub fn addresses(text: &str) -> impl Iterator<Item = &str> {
    text.split(';').map(str::trim).filter(|entry| !entry.is_empty())
}

/// Whether `text` is `host:port` with a port above zero.
pub fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_is_good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', ' ', '/']),
    };
    host_is_good && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Milliseconds of each level of a `messageDelayLevel` text; `None` where a part is not a duration.
pub fn delay_levels_ms(text: &str) -> Option<Vec<u64>> {
    let levels: Option<Vec<u64>> = text
        .split_ascii_whitespace()
        .map(|level| {
            let (number, unit) = level.split_at_checked(level.len().checked_sub(1)?)?;
            let factor = match unit {
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            number.parse::<u64>().ok()?.checked_mul(factor)
        })
        .collect();
    levels.filter(|levels| !levels.is_empty())
}

/// The hours of a `deleteWhen` text.
pub fn hours_of_day(text: &str) -> Option<Vec<u8>> {
    let hours: Option<Vec<u8>> =
        text.split(';').map(|hour| hour.trim().parse::<u8>().ok().filter(|hour| *hour < 24)).collect();
    hours.filter(|hours| !hours.is_empty())
}

/// A type that a setting can have. `from_text` is called with texts that `Allowed` admits; `None` all the same means
/// that the text does not fit the type.
pub trait Value: Sized {
    fn from_text(text: &str) -> Option<Self>;
    fn to_text(&self) -> String;
}

macro_rules! plain {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn from_text(text: &str) -> Option<Self> {
                text.parse().ok()
            }
            fn to_text(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
plain!(bool, u16, u32, u64, usize, i32, i64, f64, String);

/// A list of `host:port`.
impl Value for Vec<String> {
    fn from_text(text: &str) -> Option<Self> {
        Some(addresses(text).map(str::to_owned).collect())
    }
    fn to_text(&self) -> String {
        self.join(";")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allowed_texts() {
        let check = |allowed: Allowed, text: &str, expect: bool| {
            assert_eq!(allowed.admits(text), expect, "{allowed:?} {text:?}");
        };
        let port = Allowed::number(0, 65535, Unit::Port);
        check(port, "10911", true);
        check(port, "65536", false);
        check(port, "", false);
        check(port, "1e3", false);
        check(Allowed::Truth, "true", true);
        check(Allowed::Truth, "TRUE", false);
        check(Allowed::Truth, "yes", false);
        check(Allowed::Addresses, "", true);
        check(Allowed::Addresses, "127.0.0.1:9876;name:9876", true);
        check(Allowed::Addresses, "[::1]:9876", true);
        check(Allowed::Addresses, "::1:9876", false);
        check(Allowed::Addresses, "127.0.0.1", false);
        check(Allowed::Addresses, "127.0.0.1:0", false);
        check(Allowed::Address, "10.0.0.1", true);
        check(Allowed::Address, "10.0.0", false);
        check(Allowed::DelayLevels, "1s 5s 2h 1d", true);
        check(Allowed::DelayLevels, "1s 5x", false);
        check(Allowed::DelayLevels, " ", false);
        check(Allowed::HoursOfDay, "04;16", true);
        check(Allowed::HoursOfDay, "24", false);
        check(Allowed::Topic { max: 127 }, "%RETRY%g", true);
        check(Allowed::Topic { max: 127 }, "a b", false);
        check(Allowed::OneOf(&["A", "B"]), "A", true);
        check(Allowed::OneOf(&["A", "B"]), "C", false);
    }

    #[test]
    fn a_unit_is_turned_into_the_number_that_was_meant() {
        let check = |unit: Unit, text: &str, expect: Option<&str>| {
            assert_eq!(Allowed::number(0, i64::MAX, unit).meant(text).as_deref(), expect, "{text:?}");
        };
        check(Unit::Bytes, "128MiB", Some("134217728"));
        check(Unit::Bytes, "4 k", Some("4096"));
        check(Unit::Bytes, "4 pages", None);
        check(Unit::Milliseconds, "5s", Some("5000"));
        check(Unit::Hours, "3d", Some("72"));
        check(Unit::Bytes, "99999999999999999999g", None);
        check(Unit::Count, "5s", None);
    }
}
