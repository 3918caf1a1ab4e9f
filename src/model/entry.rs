//! Names of files as the kernel has them: bytes, UTF-8 or not.

use super::blob;
use super::outcome::path_parts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// As in [`super::paths`]: what the kernel takes, without the NUL and the `/sandbox/` before it.
const PATH_MOST: usize = 4085;
const NAME_MOST: usize = 255;

/// A file relative to /sandbox: no `.`, `..`, empty components or NUL; anything else. In JSON a string, or
/// `{"base64": …}` where it is not UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawEntry", into = "RawEntry")]
#[schemars(with = "RawEntry")]
pub struct EntryPath(Vec<u8>);

/// A name as written.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawEntry {
    Text(String),
    Bytes(Base64),
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Base64 {
    base64: String,
}

impl EntryPath {
    /// # Errors
    /// what is wrong with it.
    pub fn new(bytes: Vec<u8>) -> Result<Self, String> {
        let fine = |part: &[u8]| !matches!(part, b"" | b"." | b"..") && part.len() <= NAME_MOST && !part.contains(&0);
        match bytes.len() <= PATH_MOST && bytes.split(|b| *b == b'/').all(fine) {
            true => Ok(Self(bytes)),
            false => Err(format!("{:?} is no file below /sandbox", String::from_utf8_lossy(&bytes))),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its directories, outermost first.
    pub fn parents(&self) -> impl Iterator<Item = &[u8]> {
        let slashes = self.0.iter().enumerate().filter(|(_, b)| **b == b'/');
        slashes.map(|(at, _)| &self.0[..at])
    }
}

impl TryFrom<RawEntry> for EntryPath {
    type Error = String;

    fn try_from(raw: RawEntry) -> Result<Self, String> {
        match raw {
            RawEntry::Text(text) => Self::new(text.into_bytes()),
            RawEntry::Bytes(Base64 { base64 }) => Self::new(blob::decode(&base64)?),
        }
    }
}

impl From<EntryPath> for RawEntry {
    fn from(path: EntryPath) -> Self {
        String::from_utf8(path.0).map_or_else(|e| Self::Bytes(Base64 { base64: blob::encode(e.as_bytes()) }), Self::Text)
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&path_parts(&self.0).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_are_a_name_but_no_way_out() {
        for ok in [&b"a"[..], b"a/b/c", b"\xff\xfe", b"-rf", b"...", b"new\nline"] {
            let path = EntryPath::new(ok.to_vec()).expect("a name");
            let json = serde_json::to_string(&path).expect("spelled");
            assert_eq!(serde_json::from_str::<EntryPath>(&json).expect("read"), path, "{json}");
        }
        let long = [b'x'; 256];
        for bad in [&b""[..], b"/a", b"a/", b"a//b", b"..", b"a/../b", b"./a", b"a\0", &long] {
            assert!(EntryPath::new(bad.to_vec()).is_err(), "{bad:?}");
        }
        let deep = EntryPath::new(b"a/b/c".to_vec()).expect("a name");
        assert_eq!(deep.parents().collect::<Vec<_>>(), [&b"a"[..], b"a/b"]);
    }
}
