//! The Plan: all decisions about one job as one value. Nothing has been written while it was made.

use super::job::{Content, Network, User};
use super::kata::HomeFile;
use super::limits::{Limits, Rlimit};
use super::names::BundleName;
use super::paths::{GuestPath, HostPath, RelPath};
use super::reference::Digest;
use super::wire::Collect;
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub shape: Shape,
    pub fill: Fill,
    pub limits: Limits,
    /// Files to be written in the cell's groups before the program starts.
    pub cgroup: Vec<CgroupWrite>,
    /// By what each limit is enforced.
    pub enforced: BTreeMap<&'static str, &'static str>,
}

/// Fixed when the cell is created.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Shape {
    pub bundle: BundleName,
    pub root: Root,
    /// A tmpfs of the sandbox's size over the root takes what is written there.
    pub writable_root: bool,
    /// What is written becomes a layer: its programs may change owners and users, among the cell's own ids.
    pub builds: bool,
    pub user: User,
    pub network: Network,
    pub mounts: Vec<PlannedMount>,
    /// Bytes and inodes of /sandbox and of /tmp.
    pub sandbox_bytes: u64,
    pub inodes: u64,
    pub shm_bytes: u64,
    /// The first of the host ids that are the job's own, for an avatar; others get what is free.
    pub first_id: Option<u32>,
    /// Hard limits that init gets, wide enough for any job.
    pub hard: BTreeMap<Rlimit, u64>,
}

/// The root filesystem to be made.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum Root {
    /// A skeleton of our own with parts of the host bound into it.
    Skeleton { entries: Vec<Entry>, binds: Vec<(String, String)> },
    /// A skeleton of mount points over an image that is never written.
    Image { image: ImageRoot, entries: Vec<Entry> },
}

/// Where an image's files lie.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageRoot {
    /// In one directory.
    Directory(HostPath),
    /// In layers of the store, the topmost first.
    Layers(Vec<Digest>),
}

/// One entry of a skeleton, by absolute path within it; parents come first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    Directory { path: String, mode: u32 },
    File { path: String, content: String },
    Symlink { path: String, to: String },
}

#[derive(Clone, Debug, PartialEq, Hash)]
pub enum PlannedMount {
    Bind { source: HostPath, target: GuestPath, writable: bool },
    Tmpfs { target: GuestPath, bytes: u64, inodes: u64 },
}

/// Given at dispatch.
#[derive(Clone, Debug, PartialEq)]
pub struct Fill {
    pub argv: Vec<String>,
    /// What takes the place of an `argv[0]` that does not exist, in turn.
    pub fallbacks: Vec<String>,
    pub env: Vec<String>,
    pub cwd: GuestPath,
    pub stdin: Option<Content>,
    pub files: Vec<(RelPath, u32, Content)>,
    /// An avatar's home, with the job's files in it; `files` is empty then.
    pub brought: Vec<Brought>,
    pub rlimits: Vec<(Rlimit, u64)>,
    pub writable: Vec<String>,
    pub collect: Option<Collect>,
    /// Whether a set-uid file could reach the host's disk, so that making one is denied.
    pub deny_suid: bool,
}

/// A file that comes from an avatar's home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    pub file: HomeFile,
    /// Where its content is, on the host and under a name of ours.
    pub blob: PathBuf,
}

/// One value for one file of the cell's group; on v1 below its controller's mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupWrite {
    pub limit: &'static str,
    pub controller: &'static str,
    pub file: &'static str,
    pub value: String,
}
