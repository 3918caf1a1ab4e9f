//! The OCI command line: one method a verb.
//!
//! Never the foreground `run` or `exec`: runc 1.3.0–1.3.5 and 1.4.0–1.4.1 can hang when the program exits at once
//! (opencontainers/runc#5208). `run --detach` is one process and leaves the waiting to us.

use super::quirks::{self, Quirks};
use super::replica::Replica;
use super::version::{self, Version};
use crate::os::error::{At, OsResult};
use crate::os::mount;
use crate::os::process::{self, Process, Spawn};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where system administrators' programs are.
const DIRECTORIES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A runtime's binary, known by name and version.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub binary: PathBuf,
    pub version: Version,
    pub quirks: Quirks,
    /// What is executed in the binary's place, where there is one.
    pub replica: Option<Replica>,
    /// Whether every cpu is busy with one of its kind.
    pub crowded: bool,
}

/// What a start needs.
#[derive(Debug)]
pub struct Start<'a> {
    pub id: &'a str,
    /// The runtime's own state (`--root`).
    pub state: &'a Path,
    pub bundle: &'a Path,
    pub log: &'a Path,
    pub console: &'a Path,
    /// Descriptors 3 and further of the container.
    pub fds: Vec<OwnedFd>,
    /// One that the runtime alone gets, after those.
    pub more: Option<OwnedFd>,
}

impl Start<'_> {
    /// What the runtime makes the container of.
    pub fn config(&self) -> PathBuf {
        self.bundle.join("config.json")
    }

    /// The number of the descriptor that the runtime alone gets.
    pub fn first_free(&self) -> usize {
        3 + self.fds.len()
    }
}

/// The absolute path of a runtime named by path or by name; the caller's PATH is not consulted.
pub fn find(name: &str) -> Option<PathBuf> {
    match Path::new(name) {
        path if path.is_absolute() => path.is_file().then(|| path.to_owned()),
        _ if name.contains('/') => None,
        _ => DIRECTORIES.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.is_file()),
    }
}

/// Runtimes that are still about to start this container: those that have outlived who called [`Runtime::start`].
pub fn starting(id: &str) -> Vec<Process> {
    process::naming(Path::new("/proc"), &["--bundle", id])
}

impl Runtime {
    /// # Errors
    /// of asking the binary for its version.
    pub fn new(binary: PathBuf, remembered: impl Fn(&str) -> PathBuf) -> OsResult<Self> {
        let version = version::of(&binary, remembered)?;
        let quirks = quirks::of(&version.name);
        Ok(Self { binary, version, quirks, replica: None, crowded: false })
    }

    /// The same, executed from a copy of its binary, if it is one of what the binary is now.
    #[must_use]
    pub fn from_replica(mut self, replica: Option<&Replica>) -> Self {
        self.replica = replica.filter(|replica| self.quirks.sealed && replica.is_of(&self.binary)).cloned();
        self
    }

    /// Starts the bundle's container in the background; the process that is returned ends when it is up or has failed.
    ///
    /// # Errors
    /// where not even the runtime could be started.
    pub fn start(&self, s: Start<'_>) -> OsResult<Process> {
        let path = |p: &Path| p.to_string_lossy().into_owned();
        let mut args: Vec<String> = self.quirks.flags.iter().map(|f| (*f).to_owned()).collect();
        args.extend([
            "--root".to_owned(),
            path(s.state),
            "--log".to_owned(),
            path(s.log),
            "--log-format".to_owned(),
            "json".to_owned(),
        ]);
        args.extend(["run", "--detach", "--preserve-fds"].map(str::to_owned));
        args.extend([s.fds.len().to_string(), "--bundle".to_owned(), path(s.bundle), s.id.to_owned()]);
        let log = File::create(s.console).at("create", s.console)?;
        // Where there can be none, it does as ever.
        let view = if self.quirks.viewed { mount::view_of_program(&self.binary).unwrap_or_default() } else { None };
        let image = self.replica.as_ref().map(AsFd::as_fd).or(view.as_ref().map(AsFd::as_fd));
        let fds = s.fds.into_iter().chain(s.more).collect();
        let env = if self.crowded { self.quirks.crowded } else { &[] };
        process::spawn(Spawn { program: &self.binary, image, args: &args, env, log, fds, dir: s.bundle })
    }
}
