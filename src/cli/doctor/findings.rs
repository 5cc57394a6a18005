//! What was found, in sentences: about what, how bad it is, and what to do about it.

use std::fmt;

use crate::cli::text::quoted;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Good,
    /// Worth knowing; nothing has to be done.
    Note,
    /// Will hurt sooner or later.
    Warning,
    /// Hurts now.
    Wrong,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Good => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Wrong => "wrong",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    level: Level,
    about: String,
    text: String,
    /// What to change; empty where nothing has to be.
    advice: String,
}

#[derive(Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    pub fn say(&mut self, level: Level, about: impl Into<String>, text: impl Into<String>, advice: impl Into<String>) {
        self.0.push(Finding { level, about: about.into(), text: text.into(), advice: advice.into() });
    }

    pub fn good(&mut self, about: impl Into<String>, text: impl Into<String>) {
        self.say(Level::Good, about, text, "");
    }

    pub fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Good)
    }

    pub fn json(&self) -> String {
        let object = |finding: &Finding| {
            format!(
                "{{\"level\":{},\"about\":{},\"text\":{},\"advice\":{}}}",
                quoted(finding.level.word()),
                quoted(&finding.about),
                quoted(&finding.text),
                quoted(&finding.advice)
            )
        };
        format!("[{}]\n", self.0.iter().map(object).collect::<Vec<_>>().join(","))
    }
}

/// In the order in which things were looked at; a summary at the end.
impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { level, about, text, advice } in &self.0 {
            writeln!(f, "{:8}{about}: {text}", level.word())?;
            if !advice.is_empty() {
                writeln!(f, "{:8}\u{2192} {advice}", "")?;
            }
        }
        let count = |level| self.0.iter().filter(|finding| finding.level == level).count();
        match (count(Level::Wrong), count(Level::Warning)) {
            (0, 0) => writeln!(f, "nothing has to be changed"),
            (wrong, warnings) => writeln!(f, "{wrong} wrong, {warnings} warnings"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_for_people_and_scripts() {
        let mut findings = Findings::default();
        assert_eq!(findings.to_string(), "nothing has to be changed\n");
        findings.good("name server a", "answers");
        findings.say(Level::Wrong, "broker b", "its disk is \"full\"", "free some");
        assert_eq!(findings.worst(), Level::Wrong);
        assert_eq!(
            findings.to_string(),
            "ok      name server a: answers\nwrong   broker b: its disk is \"full\"\n        \u{2192} free some\n\
             1 wrong, 0 warnings\n"
        );
        assert!(findings.json().ends_with(
            "{\"level\":\"wrong\",\"about\":\"broker b\",\"text\":\"its disk is \\\"full\\\"\",\"advice\":\"free some\"}]\n"
        ));
    }
}
