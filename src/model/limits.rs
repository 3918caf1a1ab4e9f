//! The limits of a job: as asked (everything optional) and as they hold (defaults filled in, ceilings applied).

use super::object;
use super::quantity::{Bytes, Span};
use super::unique::Unique;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits as a job, a bundle or a policy's ceilings name them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Asked {
    /// Wall-clock time from the program's execve to the end of its main process.
    pub wall: Option<Span>,
    /// CPU time of the whole cell, all threads and processes together.
    pub cpu: Option<Span>,
    /// Time between TERM and KILL when a job is stopped. May be 0.
    pub grace: Option<Span>,
    /// Memory of the whole cell, tmpfs content included; at least 6 MiB.
    pub memory: Option<Bytes>,
    /// Swap on top of memory. May be 0.
    pub swap: Option<Bytes>,
    /// Processes and threads at one time.
    pub pids: Option<u64>,
    /// CPU bandwidth in cores; 0.5 is half of one. At least 0.01.
    pub cpus: Option<f64>,
    /// Share of CPU under contention, 1–10000, 100 being ordinary.
    pub cpu_weight: Option<u64>,
    /// The cores that may be used, such as `"0"` or `"0-3,6"`.
    pub cpuset: Option<String>,
    /// Bytes of stdout, and of stderr; the program is stopped when it writes more.
    pub output: Option<Bytes>,
    /// Size of /sandbox, and of /tmp.
    pub sandbox: Option<Bytes>,
    /// Files in /sandbox, and in /tmp.
    pub inodes: Option<u64>,
    /// The largest file the program may write (RLIMIT_FSIZE).
    pub file_size: Option<Bytes>,
    /// Open descriptors of one process (RLIMIT_NOFILE).
    pub open_files: Option<u64>,
    /// Main thread stack (RLIMIT_STACK).
    pub stack: Option<Bytes>,
    /// Throughput of block devices.
    #[serde(deserialize_with = "object::each")]
    pub io: Option<Vec<IoLimit>>,
    /// Other resource limits of setrlimit(2), soft and hard alike.
    pub rlimits: Option<Unique<Rlimit, u64>>,
}

/// One block device's throughput; at least one figure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IoLimit {
    /// A block device of the host, such as `/dev/vda`.
    pub device: super::paths::DevicePath,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rbps: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wbps: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub riops: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wiops: Option<u64>,
}

/// Resource limits by their names in setrlimit(2). RLIMIT_CPU and RLIMIT_NPROC are absent: the first counts one
/// process instead of the cell, the second a host-wide uid; `cpu` and `pids` do both properly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rlimit {
    Core,
    Data,
    As,
    Memlock,
    Msgqueue,
    Sigpending,
    Rtprio,
    Nice,
    Locks,
    Fsize,
    Nofile,
    Stack,
}

/// The limits that hold, all decided; echoed in the outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    pub wall: Span,
    pub cpu: Option<Span>,
    pub grace: Span,
    pub memory: Bytes,
    pub swap: Bytes,
    pub pids: u64,
    pub cpus: Option<f64>,
    pub cpu_weight: Option<u64>,
    pub cpuset: Option<String>,
    pub output: Bytes,
    pub sandbox: Bytes,
    pub inodes: u64,
    pub file_size: Bytes,
    pub open_files: u64,
    pub stack: Bytes,
    pub io: Vec<IoLimit>,
    pub rlimits: Unique<Rlimit, u64>,
}

impl Default for Limits {
    /// What holds when nobody asks for anything else.
    fn default() -> Self {
        Self {
            wall: Span::from_millis(10_000),
            cpu: None,
            grace: Span::from_millis(1_000),
            memory: Bytes(512 << 20),
            swap: Bytes(0),
            pids: 128,
            cpus: None,
            cpu_weight: None,
            cpuset: None,
            output: Bytes(1 << 20),
            sandbox: Bytes(64 << 20),
            inodes: 20_000,
            file_size: Bytes(64 << 20),
            open_files: 1024,
            stack: Bytes(16 << 20),
            io: Vec::new(),
            rlimits: Unique::default(),
        }
    }
}

impl Asked {
    /// These limits, and where they are silent those of `base`. Written as one literal, so a new field cannot be forgotten.
    pub fn over(self, base: Self) -> Self {
        let mut rlimits = base.rlimits.unwrap_or_default();
        rlimits.extend(self.rlimits.unwrap_or_default().0);
        Self {
            wall: self.wall.or(base.wall),
            cpu: self.cpu.or(base.cpu),
            grace: self.grace.or(base.grace),
            memory: self.memory.or(base.memory),
            swap: self.swap.or(base.swap),
            pids: self.pids.or(base.pids),
            cpus: self.cpus.or(base.cpus),
            cpu_weight: self.cpu_weight.or(base.cpu_weight),
            cpuset: self.cpuset.or(base.cpuset),
            output: self.output.or(base.output),
            sandbox: self.sandbox.or(base.sandbox),
            inodes: self.inodes.or(base.inodes),
            file_size: self.file_size.or(base.file_size),
            open_files: self.open_files.or(base.open_files),
            stack: self.stack.or(base.stack),
            io: self.io.or(base.io),
            rlimits: Some(rlimits).filter(|r| !r.is_empty()),
        }
    }

    /// The limits that hold when these were asked for.
    pub fn complete(self) -> Limits {
        let base = Limits::default();
        Limits {
            wall: self.wall.unwrap_or(base.wall),
            cpu: self.cpu,
            grace: self.grace.unwrap_or(base.grace),
            memory: self.memory.unwrap_or(base.memory),
            swap: self.swap.unwrap_or(base.swap),
            pids: self.pids.unwrap_or(base.pids),
            cpus: self.cpus,
            cpu_weight: self.cpu_weight,
            cpuset: self.cpuset,
            output: self.output.unwrap_or(base.output),
            sandbox: self.sandbox.unwrap_or(base.sandbox),
            inodes: self.inodes.unwrap_or(base.inodes),
            file_size: self.file_size.unwrap_or(base.file_size),
            open_files: self.open_files.unwrap_or(base.open_files),
            stack: self.stack.unwrap_or(base.stack),
            io: self.io.unwrap_or_default(),
            rlimits: self.rlimits.unwrap_or_default(),
        }
    }
}
