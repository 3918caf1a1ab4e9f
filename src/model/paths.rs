//! Paths and names that have been checked once, at the door.

use super::text::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest path the kernel takes, NUL included (`PATH_MAX`, limits.h).
const PATH_MAX: usize = 4096;
/// Longest single file name in bytes (`NAME_MAX`, limits.h).
const NAME_MAX: usize = 255;

/// What JSON Schema says of paths; it counts characters where the kernel counts bytes, so it lets a little more pass than we do.
pub(super) const ABSOLUTE: &str = r"^(/|(/(?!\.\.?(/|$))[^/\u0000]{1,255})+)$";
const RELATIVE: &str = r"^(?!\.\.?(/|$))[^/\u0000]{1,255}(/(?!\.\.?(/|$))[^/\u0000]{1,255})*$";

fn component(part: &str) -> Result<(), String> {
    match part {
        "" => Err("has an empty component".into()),
        "." | ".." => Err(format!("contains {part:?}; name the place itself")),
        _ if part.len() > NAME_MAX => Err(format!("has a component of {} bytes; the kernel allows {NAME_MAX}", part.len())),
        _ => Ok(()),
    }
}

fn length(path: &str) -> Result<(), String> {
    match path {
        p if p.contains('\0') => Err("contains a NUL byte".into()),
        p if p.len() >= PATH_MAX => Err(format!("is {} bytes long; the kernel allows {}", p.len(), PATH_MAX - 1)),
        _ => Ok(()),
    }
}

/// A place inside the cell: absolute, normal (no `.`, `..`, `//`), no NUL. `/` itself is allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = ABSOLUTE))]
pub struct GuestPath(String);

impl GuestPath {
    /// The same without its leading slash, to be joined onto a root directory on the host.
    pub fn below_root(&self) -> &str {
        &self.0[1..]
    }

    /// Whether this is `other` or lies beneath it.
    pub fn is_within(&self, other: &str) -> bool {
        other == "/" || self.0 == other || self.0.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'))
    }
}

impl TryFrom<String> for GuestPath {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        let judged = length(&s).and_then(|()| match s.strip_prefix('/') {
            None => Err("is not absolute; begin it with '/'".into()),
            Some("") => Ok(()),
            Some(rest) => rest.split('/').try_for_each(component),
        });
        judged.map_err(|why| format!("path {s:?} {why}"))?;
        Ok(Self(s))
    }
}

text!(GuestPath);

/// A file of the job, relative to `/sandbox`: no `.`, `..`, empty components or NUL.
/// Everything else is a legal name: quotes, newlines, leading dashes, 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = RELATIVE))]
pub struct RelPath(String);

impl RelPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its directories, outermost first: `a/b/c` has `a` and `a/b`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(at, _)| &self.0[..at])
    }
}

impl TryFrom<String> for RelPath {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        let judged = length(&s).and_then(|()| match s.starts_with('/') {
            true => Err("is absolute; files are named relative to /sandbox".into()),
            false => s.split('/').try_for_each(component),
        });
        judged.map_err(|why| format!("file name {s:?} {why}"))?;
        Ok(Self(s))
    }
}

impl From<RelPath> for String {
    fn from(p: RelPath) -> Self {
        p.0
    }
}

/// A place on the host: absolute, normal, no NUL. Whether it may be used is the policy's word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, Hash)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = ABSOLUTE))]
pub struct HostPath(GuestPath);

impl HostPath {
    pub fn as_path(&self) -> &std::path::Path {
        std::path::Path::new(self.0.as_str())
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether this is `other` or lies beneath it, judged by the words alone (symlinks are refused when it is opened).
    pub fn is_within(&self, other: &HostPath) -> bool {
        self.0.is_within(other.as_str())
    }
}

impl TryFrom<String> for HostPath {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        GuestPath::try_from(s).map(Self)
    }
}

impl From<HostPath> for String {
    fn from(p: HostPath) -> Self {
        p.0.0
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A block device file of the host: a [`HostPath`] below `/dev`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^/dev/."))]
pub struct DevicePath(String);

impl DevicePath {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DevicePath {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        let path = HostPath::try_from(s)?;
        match path.as_str().starts_with("/dev/") {
            true => Ok(Self(path.into())),
            false => Err(format!("{path} is not a device; name one below /dev, such as /dev/vda")),
        }
    }
}

impl From<DevicePath> for String {
    fn from(p: DevicePath) -> Self {
        p.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strange_names_are_names() {
        let long = "x".repeat(255);
        for ok in ["a", "a b", "it's", "$(x)", "`x`", "-rf", "new\nline", "a/b/c", "...", ".hidden", long.as_str(), "日本"] {
            assert!(RelPath::try_from(ok.to_string()).is_ok(), "{ok:?}");
        }
    }

    #[test]
    fn paths_that_leave_are_refused() {
        let long = "x".repeat(256);
        for bad in ["", "/etc/passwd", "..", "a/../b", "./a", "a//b", "a/", "a\0b", long.as_str()] {
            assert!(RelPath::try_from(bad.to_string()).is_err(), "{bad:?}");
        }
        for bad in ["", "sandbox", "/a/..", "/a/./b", "//", "/a//b", "/a/", "/\0"] {
            assert!(GuestPath::try_from(bad.to_string()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn within_is_by_whole_components() {
        let at = |s: &str| GuestPath::try_from(s.to_string()).expect("a path");
        assert!(at("/a/b").is_within("/a") && at("/a").is_within("/a") && at("/a").is_within("/"));
        assert!(!at("/ab").is_within("/a") && !at("/").is_within("/a"));
    }
}
