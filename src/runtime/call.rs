//! One call of a runtime, and the configuration that it is owed.
//!
//! Theory of operation. A runtime is busy with itself before it looks at what it is to make: runc 1.1.5 opens its configuration 3.5 ms
//! after it was executed, of some 20 that it takes in all (measured). So it is called first, and what it reads is decided, mounted and
//! spelled meanwhile: `config.json` is a name of a pipe that it has inherited, and it waits there. The pipe's other end is ours alone.
//! Should we end, it finds no configuration and fails, having made nothing. One of which this is not known (`early` in the quirks)
//! is called when the file is there.

use super::driver::{Runtime, Start};
use crate::os::error::{At, OsResult};
use crate::os::process::Process;
use crate::os::{clock, files, pipe};
use std::os::fd::OwnedFd;

/// How long one that is not needed any more may take to die.
const DEADLINE_NS: u64 = 5_000_000_000;

/// A call whose configuration is still to come. Dropped without one, no process is left of it.
#[derive(Debug)]
pub struct Call<'a> {
    runtime: &'a Runtime,
    start: Option<Start<'a>>,
    begun: Option<(Process, OwnedFd)>,
}

impl<'a> Call<'a> {
    /// Calls the runtime, or will. The mount namespace that we are in from now on is the one in which it finds the bundle.
    ///
    /// # Errors
    /// where not even the runtime could be started.
    pub fn new(runtime: &'a Runtime, mut start: Start<'a>) -> OsResult<Self> {
        if !runtime.quirks.early {
            return Ok(Self { runtime, start: Some(start), begun: None });
        }
        let pipe = pipe::plain()?;
        let config = start.config();
        let inherited = format!("/proc/self/fd/{}", start.first_free());
        std::os::unix::fs::symlink(inherited, &config).at("make the symlink", &config)?;
        start.more = Some(pipe.read);
        Ok(Self { runtime, start: None, begun: Some((runtime.start(start)?, pipe.write)) })
    }

    /// Hands the configuration over; the process ends when the container is up or has failed.
    ///
    /// # Errors
    /// of writing it, and where the runtime could not be started.
    pub fn configured(mut self, json: &[u8]) -> OsResult<Process> {
        if let Some((_, config)) = &self.begun {
            pipe::fill(config, json)?;
        }
        if let Some((process, _)) = self.begun.take() {
            return Ok(process);
        }
        // Of the two there is always one.
        let start =
            self.start.take().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound)).at("call", "the runtime")?;
        files::create(&start.config(), json, 0o644)?;
        self.runtime.start(start)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some((process, _)) = self.begun.take() {
            process.kill_group();
            let _ = process.wait(clock::now_ns() + DEADLINE_NS); // what resists is left to gc
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process::End;
    use crate::runtime::quirks;
    use crate::runtime::version::Version;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    /// A runtime that does this in its bundle.
    fn runtime(dir: &Path, early: bool, behaviour: &str) -> Runtime {
        let binary = dir.join("runtime");
        std::fs::write(&binary, format!("#!/bin/sh\necho $$ >pid\n{behaviour}\n")).expect("written");
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).expect("ours");
        let version = Version { name: "script".into(), version: "1".into(), build: None };
        Runtime { binary, version, quirks: quirks::Quirks { early, ..quirks::of("script") }, replica: None, crowded: false }
    }

    fn call<'a>(runtime: &'a Runtime, dir: &'a Path, console: &'a Path) -> OsResult<Call<'a>> {
        let more = None;
        Call::new(runtime, Start { id: "r", state: dir, bundle: dir, log: console, console, fds: Vec::new(), more })
    }

    fn eventually(what: impl Fn() -> bool) -> bool {
        let deadline = clock::now_ns() + 10_000_000_000;
        while !what() && clock::now_ns() < deadline {
            let _ = crate::os::watch::any::<()>(&[], Some(clock::now_ns() + 1_000_000));
        }
        what()
    }

    #[test]
    fn a_configuration_arrives_whole_before_or_after_the_call() {
        let long = "x".repeat(300_000); // more than a pipe has room for
        for early in [true, false] {
            let dir = tempfile::tempdir().expect("tempdir");
            let console = dir.path().join("console");
            let runtime = runtime(dir.path(), early, "cat config.json >got");
            let call = call(&runtime, dir.path(), &console).expect("called");
            assert!(
                eventually(|| early == dir.path().join("pid").exists()),
                "it is there before its configuration, or not at all"
            );
            let process = call.configured(long.as_bytes()).expect("configured");
            let end = process.wait(clock::now_ns() + 10_000_000_000).expect("waited");
            assert_eq!((end, std::fs::read_to_string(dir.path().join("got")).expect("read")), (Some(End::Well), long.clone()));
        }
    }

    #[test]
    fn one_that_fails_before_its_configuration_is_no_fault_of_the_call() {
        let dir = tempfile::tempdir().expect("tempdir");
        let console = dir.path().join("console");
        let runtime = runtime(dir.path(), true, "exit 3");
        let call = call(&runtime, dir.path(), &console).expect("called");
        assert!(eventually(|| call.begun.as_ref().is_some_and(|(process, _)| process.ended().is_ok_and(|end| end.is_some()))));
        let process = call.configured(&[b'x'; 300_000]).expect("nobody reads it");
        assert_eq!(process.wait(0).expect("waited"), Some(End::Badly));
    }

    #[test]
    fn a_call_that_is_given_up_leaves_no_process() {
        let dir = tempfile::tempdir().expect("tempdir");
        let console = dir.path().join("console");
        let runtime = runtime(dir.path(), true, "trap '' TERM; cat config.json >got; sleep 60");
        let call = call(&runtime, dir.path(), &console).expect("called");
        let pid = || std::fs::read_to_string(dir.path().join("pid")).ok().filter(|pid| pid.ends_with('\n'));
        assert!(eventually(|| pid().is_some()));
        drop(call);
        let process = format!("/proc/{}", pid().expect("told").trim());
        assert!(!Path::new(&process).exists(), "it is still there");
    }
}
