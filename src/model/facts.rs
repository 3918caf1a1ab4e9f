//! What is true of this host right now; gathered by the machines, weighed by the rules.

use super::limits::Rlimit;
use super::reference::Digest;
use std::collections::{BTreeMap, BTreeSet};

/// Which cgroup hierarchy holds the controllers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Unified: everything in one tree.
    V2,
    /// Legacy or hybrid: one tree a controller.
    V1,
}

/// Everything that a plan depends on besides job and policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub layout: Layout,
    /// Controllers that our groups can have.
    pub controllers: BTreeSet<String>,
    /// Whether swap can be limited (v2: always with memory; v1: only with swap accounting).
    pub swap_limit: bool,
    /// Bytes of swap that the host has.
    pub swap_bytes: u64,
    /// The highest resource limits that we can give: the kernel's with CAP_SYS_RESOURCE, our own hard ones without.
    pub hard: BTreeMap<Rlimit, u64>,
    /// Cores present, for `cpuset`.
    pub cpus: u32,
    pub landlock_abi: Option<u32>,
    /// Top-level system directories of the host (`/usr`, `/bin`, …), where the image is the host itself.
    pub host_dirs: Vec<HostDir>,
    /// The same of its /etc: entries that programs below /usr read and that hold no secrets, those that exist.
    pub host_etc: Vec<(String, EntryKind)>,
    /// What makes each of these the same one, for a shape's name.
    pub seen: BTreeMap<String, String>,
    /// What the sources of the job's bind mounts are.
    pub sources: BTreeMap<String, EntryKind>,
    /// `major:minor` of the block devices that the job names.
    pub devices: BTreeMap<String, String>,
    /// What there is to know of the image, if it is not the host itself.
    pub image: ImageFacts,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostDir {
    Directory(String),
    /// On merged-/usr systems: `/bin -> usr/bin`.
    Symlink {
        path: String,
        to: String,
    },
}

/// What lies in an image at the places where something is to be mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Of an image of the store, the topmost first.
    pub layers: Vec<Digest>,
    /// By absolute path within the image.
    pub entries: BTreeMap<String, EntryKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    Directory { mode: u32 },
    File,
    Symlink,
    Other,
}
