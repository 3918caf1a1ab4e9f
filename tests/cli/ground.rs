//! A piece of the host for one test: a state directory, a policy, a cgroup parent and a runtime of its own.

use assert_cmd::Command;
use runcell::os::{cgroup, clock, watch};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const RUNCELL: &str = env!("CARGO_BIN_EXE_runcell");

/// Longer than anything here may take; whoever hangs is killed then and fails the test.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a runtime always answers first, and how it finds its way: `$id`, `$bundle`, `$log`, `$state`.
const MANNERS: &str = r#"#!/bin/sh
if [ "$1" = --version ]; then
  echo 'runc version 1.2.3'
  exit
fi
for id; do
  case $previous in
    --bundle) bundle=$id ;;
    --log) log=$id ;;
    --root) state=$id ;;
  esac
  previous=$id
done
"#;

pub(crate) struct Ground {
    dir: TempDir,
    /// Relative to each cgroup mount.
    parent: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ground {
    /// With a runtime that goes on like this when it is asked to run something.
    pub(crate) fn new(behaviour: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // The ids of cells must be able to pass through.
        let open = std::fs::Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new().permissions(open).tempdir().expect("a temporary directory");
        let ground = Self { dir, parent: format!("/runcell-test-{}-{number}", std::process::id()) };
        ground.policy("");
        ground.script(&ground.runtime(), &format!("{MANNERS}{behaviour}\n"));
        ground
    }

    /// Writes the policy: a cgroup parent of our own, little patience, and what the test adds.
    pub(crate) fn policy(&self, more: &str) {
        let patience = if more.contains("setup_timeout") { "" } else { "setup_timeout = '20s'\n" };
        // Tables follow plain keys in TOML, so ours comes first in its dotted form.
        self.write("policy.toml", &format!("cgroup.parent = '{}'\n{patience}{more}\n", self.parent));
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.at(name);
        std::fs::write(&path, text).expect("our own directory");
        path
    }

    pub(crate) fn script(&self, path: &Path, text: &str) {
        std::fs::write(path, text).expect("our own directory");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("our own file");
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.at("root")
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.at("runtime")
    }

    /// The words that bind a command to this ground.
    pub(crate) fn bound(&self) -> Vec<String> {
        let word = |path: PathBuf| path.to_str().expect("temporary names are text").to_owned();
        let pairs = [("--root", self.root()), ("--policy", self.at("policy.toml")), ("--runtime", self.runtime())];
        pairs.into_iter().flat_map(|(flag, path)| [flag.to_owned(), word(path)]).collect()
    }

    /// Runs `runcell FIRST --root … REST`, with these bytes as its stdin.
    pub(crate) fn fed(&self, words: &[&str], stdin: impl Into<Vec<u8>>) -> Answer {
        let mut command = bare(&words[..1]);
        command.args(self.bound()).args(&words[1..]).write_stdin(stdin);
        answer(command)
    }

    pub(crate) fn run(&self, words: &[&str]) -> Answer {
        self.fed(words, "")
    }

    /// `runcell run --job -` of this job.
    pub(crate) fn job(&self, job: impl Into<Vec<u8>>) -> Answer {
        self.fed(&["run", "--job", "-"], job)
    }

    /// The cell groups of this ground, in every tree, made or not.
    fn groups(&self) -> Vec<PathBuf> {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").expect("there is always one");
        let trees = cgroup::trees(&mountinfo).expect("the tests need a cgroup hierarchy");
        let group = trees.group(&self.parent);
        group.directories().map(Path::to_owned).collect()
    }

    /// Everything that is left of any run: files, id ranges, groups, processes.
    fn leftovers(&self) -> Vec<String> {
        let entries = |dir: PathBuf| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
        let shown = |path: PathBuf| path.display().to_string();
        let runs = entries(self.root().join("runs")).chain(entries(self.root().join("runtime"))).map(shown);
        let taken = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|m| m.len() > 0);
        let slots = entries(self.root().join("ids")).filter(taken).map(shown);
        let groups = self.groups().into_iter().flat_map(entries).filter(|path| path.is_dir()).map(shown);
        runs.chain(slots).chain(groups).chain(self.processes().into_iter().map(|pid| format!("process {pid}"))).collect()
    }

    /// Processes that were started here: by their working directory or a word of their command line.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let ours = self.dir.path().to_str().expect("temporary names are text");
        let all = std::fs::read_dir("/proc").expect("procfs").flatten();
        let pids = all.filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
        let is_ours = |pid: &i32| {
            let at = |what: &str| PathBuf::from(format!("/proc/{pid}/{what}"));
            let directory = std::fs::read_link(at("cwd")).is_ok_and(|dir| dir.starts_with(ours));
            directory || std::fs::read(at("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(ours))
        };
        pids.filter(is_ours).collect()
    }

    /// Fails unless all is gone. Processes that were killed may take a moment to disappear.
    pub(crate) fn is_clean(&self) {
        until(|| self.leftovers().is_empty());
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

impl Drop for Ground {
    /// A test that failed half-way has left the host as clean as one that passed.
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        for dir in self.groups() {
            until(|| removed(&dir));
        }
    }
}

/// Removes a group and those inside it; false as long as somebody lives there.
fn removed(dir: &Path) -> bool {
    let mut inner = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).filter(|path| path.is_dir());
    inner.all(|path| removed(&path)) && (std::fs::remove_dir(dir).is_ok() || !dir.exists())
}

/// Waits until it is so, for a few seconds at the most.
pub(crate) fn until(so: impl Fn() -> bool) {
    let deadline = clock::now_ns() + 5_000_000_000;
    while !so() && clock::now_ns() < deadline {
        let _ = watch::any::<()>(&[], Some(clock::now_ns() + 10_000_000));
    }
}

/// The command with nothing of our environment that could change its mind.
pub(crate) fn bare(words: &[&str]) -> Command {
    let mut command = Command::new(RUNCELL);
    command.args(words).env_remove("RUNCELL_POLICY").env_remove("RUNCELL_ROOT").timeout(PATIENCE);
    command
}

pub(crate) fn answer(mut command: Command) -> Answer {
    let output = command.output().expect("the command can be started");
    Answer {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("answers are text"),
        stderr: String::from_utf8(output.stderr).expect("complaints are text"),
    }
}

impl Answer {
    /// The one document on stdout.
    pub(crate) fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no single document: {e}\n{self:?}"))
    }

    /// The error document, after looking that it is one and nothing else was said.
    pub(crate) fn error(&self) -> Value {
        let document = self.document();
        let (document, error) = (document.as_object().expect("an object"), document["error"].clone());
        let fields: Vec<&str> = error.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!((document.len(), self.stderr.as_str()), (1, ""), "{self:?}");
        assert!(["code", "message"].iter().all(|f| error[f].as_str().is_some_and(|text| !text.is_empty())), "{self:?}");
        assert!(fields.iter().all(|f| ["code", "message", "path", "hint"].contains(f)), "{fields:?}");
        assert!(fields.iter().all(|f| error[f].is_string()), "{error}");
        error
    }

    /// Exit code, error code and path, in this order, to be compared at once.
    pub(crate) fn verdict(&self) -> (Option<i32>, String, String) {
        let error = self.error();
        let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
        (self.code, text("code"), text("path"))
    }
}

/// What [`Answer::verdict`] should be.
pub(crate) fn verdict(code: i32, error: &str, path: &str) -> (Option<i32>, String, String) {
    (Some(code), error.to_owned(), path.to_owned())
}
