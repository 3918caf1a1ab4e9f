//! Colours: a bundle's words for results, and the rules that choose one. Data; `rules/colour.rs` applies them.

use super::outcome::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The answer where no rule matches, or one is faulty.
pub const FAULTY: &str = "faulty";

/// A rule: all conditions that it has must hold. The first rule that matches gives the colour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ColourRule {
    /// `ok`, `nonzero` or `signaled`; results of any other kind never reach the rules.
    pub verdict: Option<Verdict>,
    /// The program's exit code is one of these.
    pub exit_code: Option<Codes>,
    /// A regular expression (as of regex-lite: classes of ASCII, no look-around, no back-references, linear time) that is found in
    /// stdout; `^` and `$` are a line's ends. Bytes that are no UTF-8 are U+FFFD there.
    pub stdout: Option<String>,
    /// The same for stderr.
    pub stderr: Option<String>,
    /// The same for either.
    pub output: Option<String>,
    /// `red`, `amber`, `green`, or a name of the bundle's own.
    pub colour: ColourName,
}

/// One exit code, or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Codes {
    One(i32),
    Any(Vec<i32>),
}

impl Codes {
    pub fn holds(&self, code: i32) -> bool {
        match self {
            Self::One(one) => *one == code,
            Self::Any(all) => all.contains(&code),
        }
    }
}

/// Lower-case letters, digits, `-` and `_`; at most 32, and not `faulty`, which is ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[a-z0-9_-]{1,32}$"))]
pub struct ColourName(String);

impl ColourName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for ColourName {
    /// What a rule says that says nothing.
    fn default() -> Self {
        Self("amber".into())
    }
}

impl TryFrom<String> for ColourName {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
        match (1..=32).contains(&s.len()) && s.bytes().all(fine) && s != FAULTY {
            true => Ok(Self(s)),
            false => Err(format!("{s:?} is no colour: up to 32 of a-z, 0-9, '-' and '_', and not \"{FAULTY}\"")),
        }
    }
}

impl From<ColourName> for String {
    fn from(name: ColourName) -> Self {
        name.0
    }
}

/// A file of rules: `bundles/colours/<name>.toml`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Colours {
    /// One line for people.
    pub description: Option<String>,
    pub colour: Vec<ColourRule>,
}
