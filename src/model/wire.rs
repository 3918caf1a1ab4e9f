//! What supervisor and init say to each other over the cell's socket, one message a packet.
//!
//! Supervisor to init: [`Order`]. The dispatch itself travels in a memfd beside its order (a packet has at most some
//! 200 KiB): a length, a [`Dispatch`], then the contents of its files one after another.
//! Init to supervisor: [`Report`]. The supervisor treats every report as hostile, as init shares its uid with the program.

use super::limits::Rlimit;
use serde::{Deserialize, Serialize};

/// The largest packet either side sends; larger ones are refused by the receiver.
pub const PACKET: usize = 64 * 1024;

/// The largest piece of a collected file in one packet, leaving room for the envelope.
pub const CHUNK: usize = PACKET - 1024;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Comes with four descriptors: the dispatch memfd, stdin, stdout, stderr.
    Dispatch,
    /// TERM to the program's process group, after its grace KILL to everything.
    Stop,
    /// KILL to everything, at once.
    Kill,
    /// Every process has ended and the memory limit leaves room: send what was asked for.
    Harvest,
    /// Another job is to come: end whatever is left and empty the places that the dispatch has named.
    Renew,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Init runs and waits.
    Hello,
    /// The program's execve has succeeded, at this CLOCK_MONOTONIC time.
    Started {
        at_ns: u64,
    },
    /// It has not, and nothing ran.
    NotStarted(StartFailure),
    /// The main process has ended so, and no other process is left in the cell. If nothing is to be brought back, that was all.
    Ended {
        exit: Exit,
        at_ns: u64,
    },
    /// A file worth bringing back; `kept` bytes of it follow in [`Report::Data`].
    Found(Found),
    Data(#[serde(with = "serde_bytes")] Vec<u8>),
    /// A dispatched file that is gone.
    Deleted(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Something that is not brought back, and why.
    Skipped {
        path: serde_bytes::ByteBuf,
        why: Skip,
    },
    /// Everything has been brought back; init ends now, or waits for word whether there is to be another job.
    Done,
    /// Nothing is left of the job; init waits for the next.
    Renewed,
}

/// How a process ended. Exit and signal stay different words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub path: serde_bytes::ByteBuf,
    pub change: Change,
    pub mode: u32,
    /// When it was last changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// The file's size.
    pub bytes: u64,
    /// How much of it follows.
    pub kept: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Created,
    Changed,
}

/// Why an entry that matched was not brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Skip {
    Symlink,
    Fifo,
    Socket,
    Device,
    /// A second name of a file with several.
    Unreadable,
    /// The number of files allowed was reached.
    TooMany,
    /// The number of bytes allowed in all was reached.
    TooLarge,
    /// Deeper than the walk goes.
    TooDeep,
}

/// Everything that init needs for one job.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dispatch {
    pub argv: Vec<String>,
    /// What takes the place of an `argv[0]` that does not exist, in turn.
    pub fallbacks: Vec<String>,
    /// `NAME=value`, ready for execve.
    pub env: Vec<String>,
    pub cwd: String,
    pub files: Vec<Delivery>,
    pub rlimits: Vec<(Rlimit, u64)>,
    /// Directories that the program may write below (Landlock).
    pub writable: Vec<String>,
    /// The compiled seccomp program: `struct sock_filter`s as the kernel reads them. `None` for an init that has put it on already.
    pub filter: Option<serde_bytes::ByteBuf>,
    /// For the program; init keeps its own, lower one, so that the kernel never picks init first.
    pub oom_score_adj: i32,
    pub grace_ns: u64,
    /// When init stops the program by itself should the supervisor be asleep.
    pub backstop_ns: u64,
    pub collect: Option<Collect>,
    /// The cpus that it is kept to; all where there are none.
    pub cpus: Vec<u32>,
    /// The NUMA node that its memory comes from, as long as that has any.
    pub node: Option<u32>,
    /// Whatever the program can write, by directory: emptied should another job come. Nothing: this is the only one.
    pub places: Vec<String>,
}

/// What of a dispatch is known when a waiting cell is made: init prepares for it, and what then comes otherwise costs more, no more.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    pub writable: Vec<String>,
    #[serde(with = "serde_bytes")]
    pub filter: Vec<u8>,
}

/// A file to be written below /sandbox before the program starts; its content follows in the memfd.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    #[serde(with = "serde_bytes")]
    pub path: Vec<u8>,
    pub mode: u32,
    pub bytes: u64,
    /// When it was last changed, in nanoseconds since 1970; now, unless it says.
    pub mtime_ns: Option<i64>,
}

/// What to bring back, and how much at the most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    pub globs: Vec<String>,
    pub file_bytes: u64,
    pub total_bytes: u64,
    pub files: u64,
    /// Everything is to be had whole or not at all, so that all of it can be delivered again: the bounds then count unchanged
    /// files as well, and each by whole pages; a file whose mode has changed counts as changed.
    pub whole: bool,
    /// Created files that are passed over in silence, by globs as of [`super::kata::HomeRules`].
    pub prune: Vec<String>,
}

/// What init was doing for the program when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Writing the job's files.
    Files,
    /// clone(2) or what surrounds it.
    Fork,
    /// Entering `cwd`.
    Cwd,
    /// setrlimit(2).
    Rlimit,
    /// Landlock or seccomp could not be installed.
    Confine,
    Exec,
}

/// The facts of a program that could not be started; words are made of them by `rules::diagnosis`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailure {
    pub step: Step,
    pub errno: i32,
    /// The file, directory or program that it was about.
    pub path: String,
    /// The program's first bytes where it can be read: its shebang line tells much.
    pub head: serde_bytes::ByteBuf,
    /// Type and permission bits of the program (`st_mode`), 0 where there is none.
    pub mode: u32,
}
