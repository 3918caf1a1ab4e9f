//! Identifiers: of jobs, runs and bundles.

use super::text::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the caller calls its job; echoed, never interpreted. 1–128 printable characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("minLength" = 1, "maxLength" = 128, "pattern" = r"^[^\u0000-\u001f\u007f-\u009f]*$"))]
pub struct JobId(String);

/// What we call an execution: a ULID (26 characters of Crockford base32, sorted by time), never used twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct RunId(String);

/// The name of a bundle template: lower-case letters, digits, `-`, `_`, `.`; a single directory name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Hash)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[a-z0-9_-][a-z0-9._-]{0,63}$"))]
pub struct BundleName(String);

impl RunId {
    /// From a wall-clock time in milliseconds since 1970 and 80 random bits.
    pub fn new(millis: u64, random: u128) -> Self {
        Self(ulid::Ulid::from_parts(millis, random).to_string())
    }

    /// When the run was named, in milliseconds since 1970.
    pub fn millis(&self) -> u64 {
        self.0.parse::<ulid::Ulid>().map_or(0, |u| u.timestamp_ms())
    }
}

impl TryFrom<String> for JobId {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        let fine = (1..=128).contains(&s.chars().count()) && !s.chars().any(char::is_control);
        if fine { Ok(Self(s)) } else { Err("a job id has 1 to 128 characters and no control character".into()) }
    }
}

impl TryFrom<String> for RunId {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        match s.parse::<ulid::Ulid>() {
            Ok(ulid) if *ulid.array_to_str(&mut [0; ulid::ULID_LEN]) == *s => Ok(Self(s)),
            _ => Err(format!("{s:?} is not a run id (a ULID such as 01J8ZQ4X8M2V7K3W9T5R1N6C0D)")),
        }
    }
}

impl TryFrom<String> for BundleName {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        let fine = (1..=64).contains(&s.len())
            && !s.starts_with('.')
            && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'));
        if fine {
            Ok(Self(s))
        } else {
            Err(format!("{s:?} is not a bundle name (a-z, 0-9, '-', '_', '.'; at most 64; no leading dot)"))
        }
    }
}

text!(JobId, RunId, BundleName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_a_ulid_and_nothing_else() {
        let id = RunId::new(1_700_000_000_000, 42);
        assert_eq!(id.as_str().len(), 26);
        assert_eq!(id.millis(), 1_700_000_000_000);
        assert_eq!(RunId::try_from(id.as_str().to_string()), Ok(id));
        for bad in ["", "..", "../../etc", "01j8zq4x8m2v7k3w9t5r1n6c0d", "01J8ZQ4X8M2V7K3W9T5R1N6C0"] {
            assert!(RunId::try_from(bad.to_string()).is_err(), "{bad}");
        }
    }

    #[test]
    fn bundle_names_stay_in_their_directory() {
        assert!(BundleName::try_from("c-gcc".to_string()).is_ok());
        for bad in ["", "..", ".x", "a/b", "A", "a b", "a\0"] {
            assert!(BundleName::try_from(bad.to_string()).is_err(), "{bad}");
        }
    }
}
