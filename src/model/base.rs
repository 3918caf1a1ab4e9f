//! Bases: root filesystems that the host's own tools make, as an operator's recipe asks for them.

use super::paths::HostPath;
use schemars::JsonSchema;
use serde::Deserialize;

/// How a base is made. Its name and its settings are its key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// One static busybox and a link for each of its applets.
    Busybox(Busybox),
    /// Debian packages, by mmdebstrap(1).
    Mmdebstrap(Mmdebstrap),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Busybox {
    /// The binary on the host (default /bin/busybox); it must be static.
    pub path: Option<HostPath>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mmdebstrap {
    /// Such as `bookworm`.
    pub suite: Word,
    /// What is installed besides `include`.
    #[serde(default)]
    pub variant: Variant,
    /// Packages, with what they need.
    #[serde(default)]
    pub include: Vec<Word>,
    /// Default: `main`.
    #[serde(default)]
    pub components: Vec<Word>,
    /// Where packages come from (default: the host's own apt sources, if they serve the suite).
    #[serde(default)]
    pub mirror: Option<Mirror>,
    /// Patterns of files that are not unpacked, as of dpkg's `path-exclude`, such as `/usr/share/doc/*`.
    #[serde(default)]
    pub exclude: Vec<Pattern>,
}

/// mmdebstrap's variants, from the smallest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// `include` and what that needs, nothing else.
    Custom,
    /// As `custom`, unpacked without running maintainer scripts.
    Extract,
    Essential,
    Apt,
    #[default]
    Minbase,
}

/// A word of a command line that cannot be taken for an option or a list: a suite, a component, a package.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("pattern" = "^[A-Za-z0-9][A-Za-z0-9.+:~_/=-]*$"))]
pub struct Word(String);

/// The URI of a Debian mirror.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("pattern" = "^(https?|file|copy|mirror\\+https?):/[^\\s\\u0000-\\u0020'\"]+$"))]
pub struct Mirror(String);

/// A pattern over absolute paths.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("pattern" = "^/[^\\s\\u0000-\\u0020'\"]+$"))]
pub struct Pattern(String);

fn plain(s: &str) -> bool {
    !s.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\'' || c == '"')
}

impl TryFrom<String> for Word {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        let more = |c: char| c.is_ascii_alphanumeric() || ".+:~_/=-".contains(c);
        match s.starts_with(|c: char| c.is_ascii_alphanumeric()) && s.chars().all(more) {
            true => Ok(Self(s)),
            false => Err(format!("{s:?} is not a suite, component or package")),
        }
    }
}

impl TryFrom<String> for Mirror {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        let schemes = ["http:/", "https:/", "file:/", "copy:/", "mirror+http:/", "mirror+https:/"];
        match plain(&s) && schemes.iter().any(|scheme| s.len() > scheme.len() && s.starts_with(scheme)) {
            true => Ok(Self(s)),
            false => Err(format!("{s:?} is not the URI of a mirror, such as http://deb.debian.org/debian")),
        }
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        match plain(&s) && s.len() > 1 && s.starts_with('/') {
            true => Ok(Self(s)),
            false => Err(format!("{s:?} is not a pattern over absolute paths, such as /usr/share/doc/*")),
        }
    }
}

impl Variant {
    /// As mmdebstrap(1) spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Custom => "custom",
            Self::Extract => "extract",
            Self::Essential => "essential",
            Self::Apt => "apt",
            Self::Minbase => "minbase",
        }
    }
}

macro_rules! text {
    ($($name:ident),*) => {$(
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    )*};
}

text!(Word, Mirror, Pattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_an_option_or_a_list() {
        for bad in ["", "-v", "a b", "a,b", "a;b", "a'b", "a\nb", "ü"] {
            assert!(Word::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        for fine in ["bookworm", "libc6:amd64", "python3-numpy", "g++-12", "a=1.2~3", "bookworm-updates/main"] {
            assert!(Word::try_from(fine.to_owned()).is_ok(), "{fine:?}");
        }
    }

    #[test]
    fn a_mirror_has_a_scheme_and_a_pattern_is_absolute() {
        assert!(Mirror::try_from("http://deb.debian.org/debian".to_owned()).is_ok());
        for bad in ["deb.debian.org", "http:/", "ssh://x", "http://a b", "http://a' --x", "-"] {
            assert!(Mirror::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        assert!(Pattern::try_from("/usr/share/doc/*".to_owned()).is_ok());
        for bad in ["", "/", "usr", "/a b", "/a\nb"] {
            assert!(Pattern::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
