//! Settings: named values with a type, a default, what is allowed, and where the present value came from. The broker's
//! and the name server's tables are made of these. Knows no particular key and reads no file.

pub mod file;
pub mod value;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use value::{Allowed, Unit, Value};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Source {
    #[default]
    Default,
    /// A default that the subcommand changes (`standalone` is a developer's machine).
    Profile(&'static str),
    /// Found out on this machine.
    Host,
    File {
        name: Arc<str>,
        line: u32,
    },
    /// `--set` on the command line.
    Set,
    /// A flag of its own, such as `--port`, or an environment variable.
    Flag(&'static str),
    /// Changed while running.
    RunTime,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::Profile(name) => write!(f, "default of {name}"),
            Source::Host => f.write_str("this host"),
            Source::File { name, line } => write!(f, "{name}:{line}"),
            Source::Set => f.write_str("--set"),
            Source::Flag(flag) => f.write_str(flag),
            Source::RunTime => f.write_str("changed at run time"),
        }
    }
}

/// What becomes of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Honoured,
    /// Known, taken, kept, shown; changes nothing, and why.
    NoEffect(&'static str),
    /// Other values than the allowed ones ask for something that is not served and whose silent loss would hurt; what.
    Refused(&'static str),
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    AtRunTime,
    AtStart,
}

/// A key that is honoured: a field of `C`.
pub struct Key<C: 'static> {
    pub name: &'static str,
    pub allowed: Allowed,
    pub change: Change,
    pub help: &'static str,
    pub default: fn() -> String,
    pub get: fn(&C) -> String,
    /// `false`: the text does not fit the type.
    pub set: fn(&mut C, &str) -> bool,
}

/// A key without a field: taken and shown, or refused.
#[derive(Debug, Clone, Copy)]
pub struct Other {
    pub name: &'static str,
    pub allowed: Allowed,
    pub default: &'static str,
    pub standing: Standing,
    /// Only RocketMQ 5 has it; not listed unless it was set.
    pub is_new: bool,
}

/// What a table of settings keeps beside its fields.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    sources: BTreeMap<&'static str, Source>,
    others: BTreeMap<&'static str, String>,
}

/// Why a value was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("unknown key {key}{}", match nearest { Some(nearest) => format!(", did you mean {nearest}?"), None => String::new() })]
    Unknown { key: String, nearest: Option<&'static str> },
    #[error("{key}={value}: allowed is {allowed}{}", match meant { Some(meant) => format!(" ({meant} here?)"), None => String::new() })]
    BadValue { key: &'static str, value: String, allowed: String, meant: Option<String> },
    #[error("{key}={value}: {why}; allowed is {allowed}")]
    NotServed { key: &'static str, value: String, why: &'static str, allowed: String },
}

/// A line of a file that stops the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {error}")]
pub struct LineError {
    pub file: Arc<str>,
    pub line: u32,
    pub error: KeyError,
}

/// Something to be said about a line that does not stop the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub source: Source,
    pub key: String,
    pub text: String,
    /// Worth a warning; otherwise it is information.
    pub is_warning: bool,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.source, self.text)
    }
}

/// One setting as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: &'static str,
    pub value: String,
    pub source: Source,
    pub standing: Standing,
    pub change: Change,
    pub allowed: Allowed,
    pub help: &'static str,
    /// RocketMQ 4.9.7 knows it, or it is our own: part of what code 26 lists even if nobody set it.
    pub is_listed: bool,
}

/// A table of settings. `settings!` implements it.
pub trait Settings: Sized + Default + 'static {
    fn keys() -> &'static [Key<Self>];
    fn others() -> &'static [Other];
    /// Old spellings and what they are called now.
    fn aliases() -> &'static [(&'static str, &'static str)];
    /// Keys that have a field which nothing reads yet.
    fn pending() -> &'static [&'static str];
    fn kept(&self) -> &Kept;
    fn kept_mut(&mut self) -> &mut Kept;

    /// Takes `value` for `key`. The notice says that the key changes nothing here, and why.
    fn take(&mut self, key: &str, value: &str, source: Source) -> Result<Option<Notice>, KeyError> {
        let name = Self::aliases().iter().find(|(old, _)| *old == key).map_or(key, |(_, new)| new);
        let value = value.trim();
        if let Some(found) = Self::keys().iter().find(|candidate| candidate.name == name) {
            if !found.allowed.admits(value) || !(found.set)(self, value) {
                return Err(bad_value(found.name, value, &found.allowed));
            }
            self.kept_mut().sources.insert(found.name, source.clone());
            return Ok(Self::pending().contains(&found.name).then(|| no_effect(source, found.name, key, NOT_SERVED)));
        }
        let Some(other) = Self::others().iter().find(|candidate| candidate.name == name) else {
            return Err(KeyError::Unknown { key: key.to_owned(), nearest: nearest::<Self>(key) });
        };
        if !other.allowed.admits(value) {
            return Err(match other.standing {
                Standing::Refused(why) => KeyError::NotServed {
                    key: other.name,
                    value: value.to_owned(),
                    why,
                    allowed: other.allowed.words(),
                },
                _ => bad_value(other.name, value, &other.allowed),
            });
        }
        self.kept_mut().sources.insert(other.name, source.clone());
        self.kept_mut().others.insert(other.name, value.to_owned());
        Ok(match other.standing {
            Standing::NoEffect(why) => Some(no_effect(source, other.name, key, why)),
            _ => None,
        })
    }

    /// Takes one line of a file; an unknown key is a notice, not an error. `prefix` was cut off the key's front.
    fn take_line(&mut self, line: &file::Line, file: &Arc<str>, prefix: &str) -> Result<Option<Notice>, LineError> {
        let source = Source::File { name: file.clone(), line: line.number };
        let key = line.key.strip_prefix(prefix).unwrap_or(&line.key);
        match self.take(key, &line.value, source.clone()) {
            Err(error @ KeyError::Unknown { .. }) => {
                Ok(Some(Notice { source, key: line.key.clone(), text: format!("{error}; ignored"), is_warning: true }))
            }
            Err(error) => Err(LineError { file: file.clone(), line: line.number, error }),
            Ok(notice) => Ok(notice),
        }
    }

    /// Takes every line of a file. All lines that stop the start are named, not only the first.
    fn take_file(&mut self, text: &str, name: &str) -> Result<Vec<Notice>, Vec<LineError>> {
        let file: Arc<str> = name.into();
        let (mut notices, mut errors) = (Vec::new(), Vec::new());
        for line in file::lines(text) {
            match self.take_line(&line, &file, "") {
                Ok(notice) => notices.extend(notice),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(notices) } else { Err(errors) }
    }

    fn text_of(&self, key: &str) -> Option<String> {
        let name = Self::aliases().iter().find(|(old, _)| *old == key).map_or(key, |(_, new)| new);
        if let Some(found) = Self::keys().iter().find(|candidate| candidate.name == name) {
            return Some((found.get)(self));
        }
        let other = Self::others().iter().find(|candidate| candidate.name == name)?;
        Some(self.kept().others.get(other.name).cloned().unwrap_or_else(|| other.default.to_owned()))
    }

    fn source_of(&self, key: &str) -> Source {
        self.kept().sources.get(key).cloned().unwrap_or_default()
    }

    /// Every setting: the honoured in the table's order, then the others by name.
    fn all(&self) -> Vec<Entry> {
        let honoured = Self::keys().iter().map(|key| Entry {
            key: key.name,
            value: (key.get)(self),
            source: self.source_of(key.name),
            standing: match Self::pending().contains(&key.name) {
                true => Standing::NoEffect(NOT_SERVED),
                false => Standing::Honoured,
            },
            change: key.change,
            allowed: key.allowed,
            help: key.help,
            is_listed: true,
        });
        let others = Self::others().iter().map(|other| Entry {
            key: other.name,
            value: self.kept().others.get(other.name).cloned().unwrap_or_else(|| other.default.to_owned()),
            source: self.source_of(other.name),
            standing: other.standing,
            change: Change::AtStart,
            allowed: other.allowed,
            help: match other.standing {
                Standing::NoEffect(why) | Standing::Refused(why) => why,
                Standing::Honoured => "",
            },
            is_listed: !other.is_new || self.kept().others.contains_key(other.name),
        });
        honoured.chain(others).collect()
    }

    /// The effective settings as a file that `take_file` reads back: every honoured one, and the others that were set,
    /// each key behind `prefix`.
    fn print(&self, prefix: &str) -> String {
        let mut text = String::new();
        for entry in self.all() {
            let is_field = Self::keys().iter().any(|key| key.name == entry.key);
            if is_field || entry.source != Source::Default {
                text.push_str(&format!("{prefix}{}={}  # {}\n", entry.key, file::escape(&entry.value), entry.source));
            }
        }
        text
    }
}

const NOT_SERVED: &str = "it is not served yet";

fn no_effect(source: Source, name: &str, spelled: &str, why: &str) -> Notice {
    Notice { source, key: name.to_owned(), text: format!("{spelled} has no effect: {why}"), is_warning: false }
}

fn bad_value(key: &'static str, value: &str, allowed: &Allowed) -> KeyError {
    KeyError::BadValue { key, value: value.to_owned(), allowed: allowed.words(), meant: allowed.meant(value) }
}

/// The known key that is most like `key`, if one is near enough to be meant.
fn nearest<S: Settings>(key: &str) -> Option<&'static str> {
    let wanted = key.to_ascii_lowercase();
    let names = S::keys().iter().map(|key| key.name).chain(S::others().iter().map(|other| other.name));
    let (distance, name) = names.map(|name| (edits(&wanted, &name.to_ascii_lowercase()), name)).min()?;
    (distance <= 2.max(key.len() / 5)).then_some(name)
}

/// Insertions, deletions and replacements that turn `a` into `b`.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Makes a struct of settings out of a table:
/// `field: Type = default; "key", allowed, AtStart | AtRunTime, "help";`
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $(
            $field:ident: $type:ty = $default:expr; $key:literal, $allowed:expr, $change:ident, $help:literal;
        )* }
        others = $others:expr;
        aliases = $aliases:expr;
        pending = $pending:expr;
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone)]
        pub struct $name {
            $( #[doc = concat!("`", $key, "`: ", $help)] pub $field: $type, )*
            kept: $crate::model::settings::Kept,
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $( $field: $default, )* kept: Default::default() }
            }
        }

        impl $crate::model::settings::Settings for $name {
            fn keys() -> &'static [$crate::model::settings::Key<Self>] {
                use $crate::model::settings::{Change, Key, Value};
                static KEYS: &[Key<$name>] = &[ $( Key {
                    name: $key,
                    allowed: $allowed,
                    change: Change::$change,
                    help: $help,
                    default: || { let value: $type = $default; Value::to_text(&value) },
                    get: |settings| Value::to_text(&settings.$field),
                    set: |settings, text| match <$type as Value>::from_text(text) {
                        Some(value) => { settings.$field = value; true }
                        None => false,
                    },
                }, )* ];
                KEYS
            }

            fn others() -> &'static [$crate::model::settings::Other] {
                $others
            }

            fn aliases() -> &'static [(&'static str, &'static str)] {
                $aliases
            }

            fn pending() -> &'static [&'static str] {
                $pending
            }

            fn kept(&self) -> &$crate::model::settings::Kept {
                &self.kept
            }

            fn kept_mut(&mut self) -> &mut $crate::model::settings::Kept {
                &mut self.kept
            }
        }

        impl $name {
            /// Defaults with the values of a file. All bad lines are named.
            pub fn parse_file(
                text: &str,
                name: &str,
            ) -> Result<(Self, Vec<$crate::model::settings::Notice>), Vec<$crate::model::settings::LineError>> {
                let mut settings = Self::default();
                let notices = $crate::model::settings::Settings::take_file(&mut settings, text, name)?;
                Ok((settings, notices))
            }

            /// Takes one value.
            pub fn set(
                &mut self,
                key: &str,
                value: &str,
                source: $crate::model::settings::Source,
            ) -> Result<(), $crate::model::settings::KeyError> {
                $crate::model::settings::Settings::take(self, key, value, source).map(|_| ())
            }

            /// The value of `key` as text; `None` for an unknown key.
            pub fn get_text(&self, key: &str) -> Option<String> {
                $crate::model::settings::Settings::text_of(self, key)
            }

            /// Every setting: the honoured in the table's order, then the others by name.
            pub fn entries(&self) -> Vec<$crate::model::settings::Entry> {
                $crate::model::settings::Settings::all(self)
            }
        }
    };
}
pub use settings;
