//! Filters: which messages a subscription wants. By tags, or by an SQL92 expression over the properties. Pure.

mod evaluate;
mod lexer;
mod number;
mod parser;
mod tag;

pub use tag::Tags;

use parser::Node;

use super::properties;

/// The longest expression, in characters.
pub const EXPRESSION_CHARS_MAX: usize = 8_192;

/// The deepest nesting of an SQL92 expression (parentheses, NOT, signs, and what stands left of an operator).
pub const EXPRESSION_DEPTH_MAX: usize = 128;

/// A subscription's expression, ready to be asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    Tags(Tags),
    Sql92(Sql92),
}

/// A compiled SQL92 expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Sql92 {
    root: Node,
}

/// Why an expression is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    #[error("expression type {0:?} is neither TAG nor SQL92")]
    UnknownType(String),
    #[error("tag expression {0:?} holds only separators")]
    OnlySeparators(String),
    #[error("an SQL92 expression is not empty")]
    Empty,
    #[error("expression of {chars} characters exceeds {chars_max}")]
    TooLong { chars: usize, chars_max: usize },
    /// `at` counts characters from 1.
    #[error("SQL92 expression, character {at}: {reason}")]
    Sql { at: usize, reason: String },
}

impl Filter {
    /// `expression_type` is a request's `expressionType`: absent or empty means TAG.
    pub fn parse(expression_type: Option<&str>, expression: &str) -> Result<Self, FilterError> {
        // Counting bytes first spares counting the characters of an absurd text.
        if expression.len() > EXPRESSION_CHARS_MAX {
            let chars = expression.chars().count();
            if chars > EXPRESSION_CHARS_MAX {
                return Err(FilterError::TooLong { chars, chars_max: EXPRESSION_CHARS_MAX });
            }
        }
        match expression_type {
            None | Some("" | "TAG") => Tags::parse(expression).map(Filter::Tags),
            Some("SQL92") => Sql92::parse(expression).map(Filter::Sql92),
            Some(other) => Err(FilterError::UnknownType(other.to_owned())),
        }
    }

    /// Every message.
    pub fn all() -> Self {
        Filter::Tags(Tags::all())
    }

    /// Whether a message may match of which only the consume queue's `tagsCode` is known. `false` is certain.
    pub fn may_match_tags_code(&self, code: i64) -> bool {
        match self {
            Filter::Tags(tags) => tags.may_match_code(code),
            Filter::Sql92(_) => true,
        }
    }

    /// Whether a message with these properties (as stored: name 0x01 value 0x02 …) matches.
    pub fn matches(&self, stored: &[u8]) -> bool {
        match self {
            Filter::Tags(tags) => tags.is_all() || tags.matches(properties::get(stored, properties::name::TAGS)),
            Filter::Sql92(expression) => expression.matches(|name| properties::get(stored, name)),
        }
    }

    /// Whether `matches` looks at the properties at all.
    pub fn reads_properties(&self) -> bool {
        !self.is_all()
    }

    /// Whether every message matches, so that nothing needs to be looked at.
    pub fn is_all(&self) -> bool {
        matches!(self, Filter::Tags(tags) if tags.is_all())
    }
}

impl Sql92 {
    fn parse(expression: &str) -> Result<Self, FilterError> {
        if expression.is_empty() {
            return Err(FilterError::Empty);
        }
        Ok(Sql92 { root: parser::parse(expression)? })
    }

    /// Whether the expression is true for these properties. Unknown (NULL) is not true, neither is an evaluation that
    /// fails, as a comparison of a number with a text that is none does.
    pub fn matches<'a>(&self, property: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.truth(&property) == Ok(Some(true))
    }

    /// The three-valued answer. `Err`: the evaluation failed.
    fn truth<'a>(&self, property: &dyn Fn(&str) -> Option<&'a str>) -> Result<Option<bool>, evaluate::Failed> {
        evaluate::truth(&self.root, property)
    }
}

#[cfg(test)]
mod tests;
