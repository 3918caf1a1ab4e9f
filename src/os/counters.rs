//! A cell's counters, from either layout, and word of its out-of-memory kills.
//!
//! Every figure is an option: what a kernel does not count is unknown, not 0.

use super::cgroup::Group;
use super::error::{At, OsResult};
use super::files;
use crate::model::counters::Counters;
use crate::model::facts::Layout;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::cell::OnceCell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The value of one key in a flat-keyed file (`key value` lines, cgroup-v2.rst).
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn number(dir: Option<&Path>, file: &str) -> Option<u64> {
    files::text(&dir?.join(file)).ok()?.parse().ok()
}

fn contents(dir: Option<&Path>, file: &str) -> Option<String> {
    files::text(&dir?.join(file)).ok()
}

/// Sums `rbytes=` and `wbytes=` over the devices of io.stat. No device at all means nothing was read or written.
fn io_stat(text: &str) -> (u64, u64) {
    let sum = |key: &str| text.split_ascii_whitespace().filter_map(|w| w.strip_prefix(key)?.parse::<u64>().ok()).sum();
    (sum("rbytes="), sum("wbytes="))
}

/// The same of v1's blkio.throttle.io_service_bytes: `MAJ:MIN Read N` lines.
fn io_service(text: &str, word: &str) -> u64 {
    let of = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        (words.next()? == word).then(|| words.next()?.parse::<u64>().ok())?
    };
    text.lines().filter_map(of).sum()
}

/// How often its memory was reclaimed because of `memory.high` so far; v1 has no such limit.
pub fn high_events(group: &Group) -> Option<u64> {
    match group.layout {
        Layout::V2 => keyed(&contents(group.dir("memory"), "memory.events")?, "high"),
        Layout::V1 => None,
    }
}

/// The most of its memory that was in swap, in bytes (Linux 6.5, cgroup v2).
pub fn swap_peak(group: &Group) -> Option<u64> {
    number(group.dir("memory"), "memory.swap.peak")
}

/// What the group is charged with now, in bytes.
pub fn memory(group: &Group) -> Option<u64> {
    let file = if group.layout == Layout::V2 { "memory.current" } else { "memory.usage_in_bytes" };
    number(group.dir("memory"), file)
}

/// A cell's counters, opened once and read as often as wanted: each path costs as much as ten reads (measured).
#[derive(Debug)]
pub struct Meters {
    layout: Layout,
    files: Vec<(&'static str, File)>,
    /// How many tasks there are, and where that stands: opened for those cells alone that are looked at between jobs.
    tasks: OnceCell<Option<File>>,
    count: Option<PathBuf>,
    /// The memory's peak. To write to it sets it back to now, on v2 for this descriptor alone (Linux 6.12; cgroup-v2.rst,
    /// memory.peak).
    peak: Option<File>,
    /// Whether that has been done.
    own: bool,
}

/// By layout: each file and its controller on v1.
const V2: [(&str, &str); 5] =
    [("cpu", "cpu.stat"), ("io", "io.stat"), ("memory", "memory.current"), ("memory", "memory.events"), ("pids", "pids.peak")];
const V1: [(&str, &str); 8] = [
    ("blkio", "blkio.throttle.io_service_bytes"),
    ("cpu", "cpu.stat"),
    ("cpuacct", "cpuacct.usage"),
    ("cpuacct", "cpuacct.usage_user"),
    ("cpuacct", "cpuacct.usage_sys"),
    ("memory", "memory.usage_in_bytes"),
    ("memory", "memory.oom_control"),
    ("pids", "pids.peak"),
];

impl Meters {
    /// Those that there are.
    pub fn open(group: &Group) -> Self {
        let (table, peak): (&[(&str, &'static str)], _) = match group.layout {
            Layout::V2 => (&V2, "memory.peak"),
            Layout::V1 => (&V1, "memory.max_usage_in_bytes"),
        };
        let path = |controller: &str, file: &str| Some(group.dir(controller)?.join(file));
        let open = |(controller, file): &(&str, &'static str)| Some((*file, File::open(path(controller, file)?).ok()?));
        let either = |path| OpenOptions::new().read(true).write(true).open(&path).or_else(|_| File::open(&path)).ok();
        let peak = path("memory", peak).and_then(either);
        let count = path("pids", "pids.current");
        let files = table.iter().filter_map(open).collect();
        Self { layout: group.layout, files, tasks: OnceCell::new(), count, peak, own: false }
    }

    /// Sets the memory's peak back to now. `false`: this kernel cannot.
    pub fn reset_peak(&mut self) -> bool {
        self.own = self.peak.as_mut().is_some_and(|file| file.write_all(b"0").is_ok());
        self.own
    }

    /// Whether peaks are since [`Self::reset_peak`].
    pub fn peak_is_own(&self) -> bool {
        self.own
    }

    fn peak(&self) -> Option<u64> {
        whole(self.peak.as_ref()?).ok()?.trim().parse().ok()
    }

    fn text(&self, file: &str) -> Option<String> {
        let (_, open) = self.files.iter().find(|(name, _)| *name == file)?;
        whole(open).ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.trim().parse().ok()
    }

    /// CPU time alone, for the poll that enforces `limits.cpu`.
    pub fn cpu_ns(&self) -> Option<u64> {
        match self.layout {
            Layout::V2 => keyed(&self.text("cpu.stat")?, "usage_usec").map(|us| us * 1000),
            Layout::V1 => self.number("cpuacct.usage"),
        }
    }

    /// Out-of-memory kills so far.
    pub fn oom_kills(&self) -> Option<u64> {
        let file = if self.layout == Layout::V2 { "memory.events" } else { "memory.oom_control" };
        keyed(&self.text(file)?, "oom_kill")
    }

    /// How many tasks there are; `None` without the controller.
    pub fn tasks(&self) -> Option<u64> {
        let open = self.tasks.get_or_init(|| File::open(self.count.as_ref()?).ok());
        whole(open.as_ref()?).ok()?.trim().parse().ok()
    }

    /// Everything.
    pub fn read(&self) -> Counters {
        match self.layout {
            Layout::V2 => self.v2(),
            Layout::V1 => self.v1(),
        }
    }

    fn v2(&self) -> Counters {
        let cpu = self.text("cpu.stat").unwrap_or_default();
        let us = |key| keyed(&cpu, key).map(|us| us * 1000);
        let io = self.text("io.stat").map(|text| io_stat(&text));
        Counters {
            cpu_ns: us("usage_usec"),
            user_ns: us("user_usec"),
            system_ns: us("system_usec"),
            throttled_ns: us("throttled_usec"),
            memory_now: self.number("memory.current"),
            memory_peak: self.peak(),
            oom_kills: self.oom_kills(),
            pids_peak: self.number("pids.peak"),
            io_read: io.map(|io| io.0),
            io_write: io.map(|io| io.1),
        }
    }

    fn v1(&self) -> Counters {
        let io = self.text("blkio.throttle.io_service_bytes");
        let cpu = self.text("cpu.stat");
        Counters {
            cpu_ns: self.number("cpuacct.usage"),
            user_ns: self.number("cpuacct.usage_user"),
            system_ns: self.number("cpuacct.usage_sys"),
            throttled_ns: cpu.and_then(|text| keyed(&text, "throttled_time")),
            memory_now: self.number("memory.usage_in_bytes"),
            memory_peak: self.peak(),
            oom_kills: self.oom_kills(),
            pids_peak: self.number("pids.peak"),
            io_read: io.as_ref().map(|text| io_service(text, "Read")),
            io_write: io.as_ref().map(|text| io_service(text, "Write")),
        }
    }
}

/// All of a kernel file from its beginning, made anew for each such read. What fits with room to spare is whole: no second read
/// has to say that this was the end.
fn whole(file: &File) -> std::io::Result<String> {
    let mut text = vec![0; 4096];
    let mut length = 0;
    loop {
        let n = file.read_at(&mut text[length..], length as u64)?;
        length += n;
        if n == 0 || length < text.len() / 2 {
            text.truncate(length);
            return String::from_utf8(text).map_err(std::io::Error::other);
        }
        text.resize(text.len().max(2 * length), 0);
    }
}

/// Tells when the kernel has run out of memory in the cell.
#[derive(Debug)]
pub enum OomWatch {
    /// memory.events: POLLPRI at each change, once it has been read.
    Events(File),
    /// v1: an eventfd that fires *before* the kill is counted.
    Notified(EventFd, #[allow(dead_code)] File),
}

impl OomWatch {
    /// # Errors
    /// of opening the counter or registering for it.
    pub fn new(group: &Group) -> OsResult<Self> {
        let dir = group.dir("memory").unwrap_or(Path::new("/"));
        match group.layout {
            Layout::V2 => {
                let path = dir.join("memory.events");
                let mut watch = Self::Events(File::open(&path).at("open", &path)?);
                watch.rearm();
                Ok(watch)
            }
            Layout::V1 => {
                let path = dir.join("memory.oom_control");
                let control = File::open(&path).at("open", &path)?;
                let event =
                    EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).at("make an eventfd for", &path)?;
                files::set(&dir.join("cgroup.event_control"), &format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd()))?;
                Ok(Self::Notified(event, control))
            }
        }
    }

    /// To be called after each wake-up.
    pub fn rearm(&mut self) {
        match self {
            Self::Events(file) => {
                let mut text = String::new();
                let _ = file.rewind().and_then(|()| file.read_to_string(&mut text));
            }
            Self::Notified(event, _) => {
                let _ = event.read();
            }
        }
    }

    /// What to poll for.
    pub fn source(&self) -> (BorrowedFd<'_>, super::watch::For) {
        match self {
            Self::Events(file) => (file.as_fd(), super::watch::For::Change),
            Self::Notified(event, _) => (event.as_fd(), super::watch::For::Read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_as_the_kernel_writes_them() {
        assert_eq!(keyed("usage_usec 12\nuser_usec 3\n", "user_usec"), Some(3));
        assert_eq!(keyed("oom 4\noom_kill 2\noom_group_kill 0\n", "oom_kill"), Some(2));
        assert_eq!(keyed("a 1\n", "b"), None);
        assert_eq!(io_stat("254:0 rbytes=10 wbytes=5 rios=1\n8:0 rbytes=1 wbytes=0\n"), (11, 5));
        assert_eq!(io_service("254:0 Read 7\n254:0 Write 3\n254:0 Total 10\nTotal 10\n", "Read"), 7);
    }
}
