//! Tag expressions: `*`, or tags separated by `||`.

use super::FilterError;
use crate::model::properties::java_hash;

/// The tags that a subscription wants; every message, or those with one of a set of tags (which may be empty: an
/// expression of blanks wants nothing).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tags {
    /// Sorted by code, then text; `None` wants everything.
    wanted: Option<Vec<(i32, String)>>,
}

impl Tags {
    pub fn all() -> Self {
        Tags { wanted: None }
    }

    pub(super) fn parse(expression: &str) -> Result<Self, FilterError> {
        if expression.is_empty() || expression == "*" {
            return Ok(Self::all());
        }
        if expression.split("||").all(str::is_empty) {
            return Err(FilterError::OnlySeparators(expression.to_owned()));
        }
        // Java's trim takes everything up to the blank off both ends.
        let tags = expression.split("||").map(|tag| tag.trim_matches(|c| c <= ' ')).filter(|tag| !tag.is_empty());
        let mut wanted: Vec<(i32, String)> = tags.map(|tag| (java_hash(tag), tag.to_owned())).collect();
        wanted.sort();
        wanted.dedup();
        if plant!(FilterDropsOnHashCollision) {
            wanted.dedup_by_key(|(code, _)| *code);
        }
        Ok(Tags { wanted: Some(wanted) })
    }

    pub fn is_all(&self) -> bool {
        self.wanted.is_none()
    }

    /// The wanted tags with their codes; none for `*`.
    pub fn wanted(&self) -> &[(i32, String)] {
        self.wanted.as_deref().unwrap_or_default()
    }

    /// Java compares the low 32 bits of what the consume queue keeps.
    pub(super) fn may_match_code(&self, code: i64) -> bool {
        let code = code as i32;
        self.wanted.as_ref().is_none_or(|wanted| wanted.binary_search_by(|(have, _)| have.cmp(&code)).is_ok())
    }

    pub(super) fn matches(&self, tags: Option<&str>) -> bool {
        let Some(wanted) = &self.wanted else { return true };
        tags.is_some_and(|tags| wanted.iter().any(|(_, text)| text == tags))
    }
}
