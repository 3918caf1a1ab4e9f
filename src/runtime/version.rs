//! Which runtime it is, asked once per binary and remembered: `--version` costs 10 ms.

use crate::os::error::{At, OsResult};
use crate::os::{files, process};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a host that does much else may need to start a program; crun on an emulated cpu beside others was seen to take over 5 s.
const DEADLINE_NS: u64 = 30_000_000_000;

/// A runtime's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// `runc`, `crun`, …
    pub name: String,
    /// As it calls it, such as `1.1.5+ds1`.
    pub version: String,
    /// What its packager calls the build, such as `1.1.5+ds1-1+deb12u1`.
    #[serde(default)]
    pub build: Option<String>,
}

impl Version {
    /// The first line of `--version`: `runc version 1.1.5`, `crun version 1.8.1`.
    pub fn parse(output: &str) -> Option<Self> {
        let mut lines = output.lines();
        let mut words = lines.next()?.split_ascii_whitespace();
        let name = words.next()?.to_owned();
        let version = words.next_back()?.to_owned();
        let build = lines.find_map(|line| line.strip_prefix("commit:")).map(|build| build.trim().to_owned());
        version.starts_with(|c: char| c.is_ascii_digit()).then_some(Self { name, version, build })
    }

    /// Its three leading numbers; what a distribution adds (`+ds1`, `-rc.2`) does not count.
    pub fn numbers(&self) -> [u32; 3] {
        numbers(&self.version)
    }
}

/// `1.1.5+ds1` as `[1, 1, 5]`.
pub fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    [0; 3].map(|_| parts.next().unwrap_or(0))
}

/// Asks the binary, or remembers: the file's identity is the key, so an upgrade is noticed.
///
/// # Errors
/// of starting it, or where its answer makes no sense.
pub fn of(binary: &Path, remembered: impl Fn(&str) -> PathBuf) -> OsResult<Version> {
    let meta = std::fs::metadata(binary).at("look at", binary)?;
    let key = format!("runtime-{:x}-{:x}-{:x}-{:x}", meta.dev(), meta.ino(), meta.size(), meta.mtime_nsec() ^ meta.mtime());
    let memory = remembered(&key);
    if let Some(known) = files::read_some(&memory, 4096).ok().and_then(|b| serde_json::from_slice(&b).ok()) {
        return Ok(known);
    }
    let version = ask(binary)?;
    let json = serde_json::to_vec(&version).map_err(std::io::Error::other).at("remember", &memory)?;
    files::replace(&memory, &json)?;
    Ok(version)
}

/// Asks the binary, and remembers nothing.
///
/// # Errors
/// of starting it, or where its answer makes no sense.
pub fn ask(binary: &Path) -> OsResult<Version> {
    let (bytes, _) = process::output(binary, &["--version".to_owned()], DEADLINE_NS)?;
    Version::parse(&String::from_utf8_lossy(&bytes))
        .ok_or_else(|| std::io::Error::other("its --version makes no sense"))
        .at("use the runtime", binary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        for (text, name, numbers) in [
            ("runc version 1.1.5+ds1\ncommit: 1.1.5\n", "runc", [1, 1, 5]),
            ("crun version 1.8.1\n", "crun", [1, 8, 1]),
            ("runc version 1.3.0-rc.2\n", "runc", [1, 3, 0]),
            ("youki version 0.5.4\n", "youki", [0, 5, 4]),
        ] {
            let v = Version::parse(text).expect(text);
            assert_eq!((v.name.as_str(), v.numbers()), (name, numbers));
        }
        let debian = "runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev\n";
        assert_eq!(Version::parse(debian).and_then(|v| v.build).as_deref(), Some("1.1.5+ds1-1+deb12u1"));
        assert_eq!(Version::parse("no runtime at all"), None);
        assert_eq!(Version::parse(""), None);
    }
}
