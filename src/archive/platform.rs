//! What kind of machine an image is for: `os/architecture[/variant]`, in Go's words.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    /// Such as `v7`; `None` is any.
    pub variant: Option<String>,
}

impl Platform {
    /// That of this program.
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            same => same,
        };
        Self { os: std::env::consts::OS.into(), architecture: architecture.into(), variant: None }
    }

    /// # Errors
    /// what is not `os/architecture` or `os/architecture/variant`: in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        match text.split('/').collect::<Vec<_>>()[..] {
            [os, architecture, ref rest @ ..]
                if rest.len() < 2 && word(os) && word(architecture) && rest.iter().all(|v| word(v)) =>
            {
                Ok(Self { os: os.into(), architecture: architecture.into(), variant: rest.first().map(|v| (*v).to_owned()) })
            }
            _ => Err(format!("{text:?} is no platform (such as linux/amd64 or linux/arm/v7)")),
        }
    }

    /// Whether an image for `other` is one for this.
    pub fn takes(&self, other: &Self) -> bool {
        let variant = self.variant.is_none() || self.usual_variant() == other.usual_variant();
        self.os == other.os && self.architecture == other.architecture && variant
    }

    /// Whether it is what its architecture means without a variant.
    pub(super) fn is_usual(&self) -> bool {
        self.variant.is_none() || self.variant.as_deref() == Self { variant: None, ..self.clone() }.usual_variant()
    }

    /// An absent variant has a meaning for ARM alone (containerd's platforms package, which all tools follow).
    fn usual_variant(&self) -> Option<&str> {
        match (self.variant.as_deref(), &self.architecture[..]) {
            (None, "arm64") => Some("v8"),
            (None, "arm") => Some("v7"),
            (variant, _) => variant,
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|v| write!(f, "/{v}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).expect(text)
    }

    #[test]
    fn platforms_have_two_or_three_words() {
        for text in ["linux/amd64", "linux/arm/v7"] {
            assert_eq!(platform(text).to_string(), text);
        }
        for bad in ["", "linux", "linux/", "/amd64", "a/b/c/d", "linux/am d64", "linux/arm/"] {
            assert!(Platform::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_absent_variant_takes_any() {
        for (wants, has, takes) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/amd64/v3", true),
            ("linux/amd64", "windows/amd64", false),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm/v6", "linux/arm", false),
            ("linux/arm/v7", "linux/arm/v7", true),
        ] {
            assert_eq!(platform(wants).takes(&platform(has)), takes, "{wants} {has}");
        }
        assert!(platform("linux/arm64/v8").is_usual() && !platform("linux/arm/v6").is_usual());
    }
}
