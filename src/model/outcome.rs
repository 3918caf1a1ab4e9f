//! The Outcome: the answer. Fields may be added; none changes its meaning without a new `version`.

use super::avatar::{AvatarName, KataId};
use super::blob::Blob;
use super::cores::Quality;
use super::limits::Limits;
use super::unique::Unique;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Outcome")]
pub struct Outcome {
    pub version: u32,
    /// In a batch the number of the job's line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The job's own id, if it had one.
    pub id: Option<String>,
    pub run: String,
    pub verdict: Verdict,
    /// The program's exit code; null unless its main process exited.
    pub exit_code: Option<i32>,
    /// The number of the signal that ended the main process.
    pub signal: Option<i32>,
    pub signal_name: Option<String>,
    /// One sentence for people.
    pub reason: String,
    /// What to do about it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    pub evidence: Proof,
    pub stdout: Stream,
    pub stderr: Stream,
    pub files: Collected,
    pub usage: Usage,
    pub phases: Phases,
    pub start: Start,
    /// The limits that held.
    pub limits: Limits,
    /// By what each limit was enforced; `none` only under best effort.
    pub enforced: BTreeMap<String, String>,
    /// The cpus that were the program's own, where it asked for some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<Vec<u32>>,
    /// How undisturbed it was on them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    pub cleanup: Cleanup,
    /// The bundle's word for this result; null where the bundle has no colour rules.
    pub colour: Option<String>,
    /// Why the colour is `faulty`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub colour_reason: Option<String>,
    /// What became of the avatar's home, for a run of an avatar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar: Option<AvatarRun>,
    pub labels: Unique<String, String>,
    pub provenance: Provenance,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A fault of runcell, the runtime or the host; says nothing about the program.
    HostError,
    /// Stopped on request.
    Cancelled,
    /// The program could not be executed.
    NotStarted,
    /// It wrote more than `limits.output` to stdout or stderr.
    OutputLimit,
    /// The kernel counted an out-of-memory kill in the cell.
    Memory,
    /// It used more than `limits.cpu`.
    CpuTime,
    /// It ran longer than `limits.wall`.
    WallTime,
    /// A signal ended it that we did not send.
    Signaled,
    /// It exited with a code other than 0.
    Nonzero,
    Ok,
}

/// A run of an avatar: whose, and what is in the home now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AvatarRun {
    pub kata: KataId,
    pub name: AvatarName,
    pub home: HomeState,
    /// Why the home is not what the run left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Files in the home now, and their bytes.
    pub files: u64,
    pub bytes: u64,
    /// How many were created and changed, told or not.
    pub created: u64,
    pub changed: u64,
    /// The directory that the kata's avatars share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HomeState {
    /// As the run left it.
    Kept,
    /// As the job wanted it before the run; what the run wrote is not in it.
    Given,
    /// As it was before the job.
    Unchanged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SharedState {
    Writable,
    /// It holds as much as the policy lets it: read-only until somebody makes room.
    Full,
}

/// Facts behind the verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Proof {
    /// Null where the host has no such counter.
    pub oom_kills: Option<u64>,
    /// What we stopped the job for, if we did.
    pub stopped_for: Option<String>,
    /// errno of the call that kept the program from starting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// The runtime's or the kernel's own words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One output stream: its beginning up to `limits.output`, and how long it was.
pub type Stream = Blob;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Collected {
    pub created: Vec<FileOut>,
    pub changed: Vec<FileOut>,
    /// Files of the job that are gone.
    pub deleted: Vec<PathOut>,
    /// What matched and was not brought back.
    pub skipped: Vec<SkippedOut>,
}

/// A path relative to /sandbox. Where it is not UTF-8, `path` shows it lossily and `path_base64` exactly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PathOut {
    Text(String),
    Bytes { path: String, path_base64: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FileOut {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    #[serde(flatten)]
    pub content: Blob,
    /// Octal permission bits.
    pub mode: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SkippedOut {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    pub why: String,
}

/// The program's own consumption: counters are read at dispatch and reported as differences.
/// What the host cannot tell is null, never 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// From execve to the end of the main process.
    pub wall_ns: Option<u64>,
    pub cpu_ns: Option<u64>,
    pub cpu_user_ns: Option<u64>,
    pub cpu_system_ns: Option<u64>,
    /// The most memory in use at one time above `memory_floor_bytes`.
    pub memory_peak_bytes: Option<u64>,
    /// What the cell was charged with before the program started; counts towards the limit.
    pub memory_floor_bytes: Option<u64>,
    pub pids_peak: Option<u64>,
    pub oom_kills: Option<u64>,
    /// Time that the cpu limit held the program back.
    pub throttled_ns: Option<u64>,
    pub io_read_bytes: Option<u64>,
    pub io_write_bytes: Option<u64>,
}

/// Where the time of this run went, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Phases {
    /// Planning, root filesystem, configuration, until the runtime is asked; or, of a waiting cell, until it is sent the job.
    pub setup_ns: u64,
    /// Until the program's execve.
    pub start_ns: u64,
    /// The program.
    pub run_ns: u64,
    /// Bringing files back.
    pub harvest_ns: u64,
    /// Until the cell is proven empty.
    pub teardown_ns: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// The cell was made for this job.
    Cold,
    /// It had been waiting: `runcell warm`.
    Warm,
    /// It had served the same avatar before: `runcell batch --reuse same-avatar`.
    Reused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cleanup {
    /// Every process of the cell is dead and its groups are gone.
    Complete,
    /// Something resisted; its id range stays quarantined until `runcell gc` succeeds.
    Incomplete,
}

/// What produced this result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Provenance {
    pub runcell: String,
    pub runtime: String,
    pub kernel: String,
    pub image: String,
    pub bundle: String,
    /// sha256 of the job as it was given.
    pub job: String,
    /// Landlock ABI that confined the program; null without.
    pub landlock: Option<u32>,
}

impl PathOut {
    pub fn new(bytes: &[u8]) -> Self {
        match path_parts(bytes) {
            (path, None) => Self::Text(path),
            (path, Some(path_base64)) => Self::Bytes { path, path_base64 },
        }
    }
}

/// A path as text, and as base64 where the text does not say it all.
pub fn path_parts(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(super::blob::encode(bytes))),
    }
}
