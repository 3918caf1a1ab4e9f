//! What images are called: by names with tags, and by digests.

use super::text::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Docker's own bound on a reference without its tag.
const NAME_MOST: usize = 255;
const TAG_MOST: usize = 128;
/// What JSON Schema says of names; it lets `host:latest` pass where we do not.
pub(super) const NAME: &str = r"^(?!sha256:)([A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?/)?[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*)*(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$";

/// Fewer digits of a digest than these do not name an image.
const PREFIX_LEAST: usize = 12;

/// `sha256:` and 64 lower-case hexadecimal digits: of bytes (a blob), or of an uncompressed layer (its diff id).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^sha256:[0-9a-f]{64}$"))]
pub struct Digest(String);

/// A name that points to an image, with its tag: `python:3`, `ghcr.io/org/tool:1.2`. Without a tag it is `:latest`.
///
/// The grammar is that of the distribution project's reference: lower-case path components joined by `/`, of letters and
/// digits separated by `.`, `_`, `__` or dashes; the first may be a host with a port if more follow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = NAME))]
pub struct ImageName(String);

/// A digest or its beginning: `sha256:` and 12 to 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^sha256:[0-9a-f]{12,64}$"))]
pub struct DigestPrefix(String);

impl Digest {
    /// From the 32 bytes of a SHA-256.
    pub fn of_sha256(bytes: [u8; 32]) -> Self {
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        Self(format!("sha256:{hex}"))
    }

    /// The 64 hexadecimal digits: a safe file name.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    pub fn begins_with(&self, prefix: &DigestPrefix) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

fn hex(s: &str) -> Option<&str> {
    s.strip_prefix("sha256:").filter(|hex| hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        match hex(&s) {
            Some(digits) if digits.len() == 64 => Ok(Self(s)),
            _ => Err(format!("{s:?} is not a digest (sha256: and 64 lower-case hexadecimal digits)")),
        }
    }
}

impl TryFrom<String> for DigestPrefix {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        match hex(&s) {
            Some(digits) if (PREFIX_LEAST..=64).contains(&digits.len()) => Ok(Self(s)),
            _ => Err(format!("{s:?} is not a digest (sha256: and {PREFIX_LEAST} to 64 lower-case hexadecimal digits)")),
        }
    }
}

impl ImageName {
    /// The name without its tag.
    pub fn repository(&self) -> &str {
        self.split().0
    }

    pub fn tag(&self) -> &str {
        self.split().1
    }

    fn split(&self) -> (&str, &str) {
        // Parsed names always have a tag.
        self.0.rsplit_once(':').unwrap_or((&self.0, "latest"))
    }
}

impl TryFrom<String> for ImageName {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        let whole = match s.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
            Some(_) => s,
            None => format!("{s}:latest"),
        };
        let (repository, tag) = whole.rsplit_once(':').unwrap_or((&whole, ""));
        let mut parts = repository.split('/').peekable();
        let first = parts.next().unwrap_or_default();
        let host = parts.peek().is_some() && is_host(first);
        let fine = (host || is_component(first)) && parts.all(is_component) && repository.len() <= NAME_MOST && is_tag(tag);
        match fine && whole != "host:latest" {
            true => Ok(Self(whole)),
            false => Err(format!("{whole:?} is not an image name (such as python:3 or registry.example:5000/team/tool:1.2)")),
        }
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=TAG_MOST).contains(&tag.len()) && tag.bytes().enumerate().all(|(n, b)| word(b) || (n > 0 && matches!(b, b'.' | b'-')))
}

/// Letters and digits, joined by `.`, `_`, `__` or any number of dashes.
fn is_component(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(alphanumeric)
        && part.ends_with(alphanumeric)
        && part.split(alphanumeric).all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

/// What tells a host from a path component is a dot, a port, or being `localhost`.
fn is_host(part: &str) -> bool {
    let (name, port) = part.split_once(':').map_or((part, None), |(name, port)| (name, Some(port)));
    let label = |l: &str| {
        !l.is_empty() && !l.starts_with('-') && !l.ends_with('-') && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let tells = name.contains('.') || port.is_some() || name == "localhost";
    tells && name.split('.').all(label) && port.is_none_or(|p| p.parse::<u16>().is_ok())
}

text!(Digest, DigestPrefix, ImageName);

#[cfg(test)]
mod tests {
    use super::*;

    fn name(s: &str) -> Result<ImageName, String> {
        ImageName::try_from(s.to_owned())
    }

    #[test]
    fn names_have_a_tag_and_no_way_out() {
        for (given, repository, tag) in [
            ("python", "python", "latest"),
            ("python:3", "python", "3"),
            ("library/gcc-12__x:V1.2", "library/gcc-12__x", "V1.2"),
            ("localhost:5000/a/b", "localhost:5000/a/b", "latest"),
            ("ghcr.io/o/t:1", "ghcr.io/o/t", "1"),
            ("a---b", "a---b", "latest"),
        ] {
            let parsed = name(given).expect(given);
            assert_eq!((parsed.repository(), parsed.tag()), (repository, tag), "{given}");
            assert_eq!(name(parsed.as_str()), Ok(parsed));
        }
        for bad in [
            "", ":", "a:", ":a", "A", "../x", "a/../b", "a//b", "/a", "a/", ".a", "a.", "a..b", "a___b", "a b", "host", "a:b:c",
            "x@y", "a:b c", "b:5000",
        ] {
            let port_alone_is_a_tag = bad == "b:5000";
            assert_eq!(name(bad).is_ok(), port_alone_is_a_tag, "{bad}");
        }
    }

    #[test]
    fn digests_are_whole_or_long_enough() {
        let hex = "0123456789abcdef".repeat(4);
        let whole = Digest::try_from(format!("sha256:{hex}")).expect("whole");
        assert_eq!(whole.hex(), hex);
        let prefix = DigestPrefix::try_from("sha256:0123456789ab".to_owned()).expect("twelve");
        assert!(whole.begins_with(&prefix));
        for bad in [&hex[..], "sha256:0123456789a", "sha256:0123456789aB", "sha512:0123456789ab"] {
            assert!(Digest::try_from(bad.to_owned()).is_err() && DigestPrefix::try_from(bad.to_owned()).is_err(), "{bad}");
        }
        assert_eq!(Digest::of_sha256([0xab; 32]).hex(), "ab".repeat(32));
    }
}
