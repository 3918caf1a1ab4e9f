//! A kata, its avatars, and what an avatar's home holds.

use super::avatar::{AvatarName, KataId};
use super::entry::EntryPath;
use super::job::{Glob, ImageRef};
use super::names::BundleName;
use super::outcome::Verdict;
use super::quantity::Bytes;
use super::reference::Digest;
use serde::{Deserialize, Serialize};

/// What is fixed when a kata is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kata {
    pub id: KataId,
    pub bundle: BundleName,
    /// As it was asked for, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// What that meant then, if it is the store's: the name may be given to another image, and this kata stays with its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Rules in place of the bundle's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub colours: Option<BundleName>,
    /// Whether there is a directory that all its avatars write.
    #[serde(default)]
    pub shared: bool,
    /// What holds for homes, in place of the bundle's word.
    #[serde(default)]
    pub home: HomeRules,
    /// Cells at one time, and memory of all of them together, below the policy's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cells: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// When it was made, in milliseconds since 1970.
    pub since_ms: u64,
}

/// What becomes of the files that a run wrote. Where it is silent: all are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HomeRules {
    /// Whether the home takes over what a run created, changed and deleted; if not, it is only told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<bool>,
    /// Created files that are neither kept nor told. A glob without slash is held against each part of a path, one with
    /// slashes against all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune: Option<Vec<Glob>>,
}

/// An avatar as it stands on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: AvatarName,
    /// The first of its host ids: its own, and no other's, until it is retired.
    pub first_id: u32,
    pub since_ms: u64,
}

/// An avatar's last run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    pub at_ms: u64,
    pub run: String,
    pub verdict: Verdict,
    pub colour: Option<String>,
}

/// One file of a home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeFile {
    pub path: EntryPath,
    /// Permission bits.
    pub mode: u32,
    pub bytes: u64,
    /// When its content was last changed, in nanoseconds since 1970: make(1) builds by that.
    pub mtime_ns: i64,
    pub content: Digest,
}
