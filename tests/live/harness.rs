//! A host of one test: a state directory, a policy, a place for files; and the binary, run in them.

use super::gate::{self, Gate};
use super::leftovers;
use super::run::{Ran, Started};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Host ids of one test: 16 cells at a time, no other test's.
const SLOTS: u32 = 16;
const IDS_FIRST: u32 = 1 << 30;

pub(crate) struct Host {
    base: tempfile::TempDir,
    number: u32,
    count: RefCell<u32>,
    /// Whether a cell is made to wait for each job.
    warm: bool,
    /// Every run that there has ever been here.
    pub runs: RefCell<BTreeSet<String>>,
}

/// The test that this thread runs.
fn name(place: &Location<'_>) -> String {
    match std::thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => format!("{}:{}", place.file(), place.line()),
    }
}

/// Runs a test on a host of its own, if live tests run at all, and looks for what it has left.
#[track_caller]
pub(crate) fn live(test: impl FnOnce(&Host)) {
    let name = name(Location::caller());
    if let Gate::Skip(why) = gate::ours() {
        return gate::say(&format!("SKIPPED {name}: {why}"));
    }
    let asked = std::env::var_os("RUNCELL_TEST_START").is_some_and(|start| start == "warm");
    let mut host = Host::new();
    // Those that are about waiting cells have them when they want them.
    host.warm = asked && !name.starts_with("warm::");
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| test(&host))) {
        let _ = host.words(&["warm", "--drain"]);
        let _ = host.words(&["gc"]); // its failure is told already; the machine is to be clean all the same
        resume_unwind(panic);
    }
    host.is_clean();
}

/// Tests in which the emulated machine would only show the same again, slowly: nothing of them depends on the kernel.
#[track_caller]
pub(crate) fn on_the_host(test: impl FnOnce(&Host)) {
    match in_rig() {
        // scripts/test counts these, as they have passed for the test harness alone.
        true => gate::say(&format!("LEFT {}: it is the host's, as no kernel matters in it", name(Location::caller()))),
        false => live(test),
    }
}

/// A span of time for a job, ten times as long where the cpu is emulated, and longer yet where the machine has others to serve at
/// the moment: what has to happen within it takes that much longer.
pub(crate) fn unhurried(millis: u64) -> String {
    format!("{}ms", unhurried_millis(millis))
}

pub(crate) fn unhurried_millis(millis: u64) -> u64 {
    let usual = if in_rig() { millis * 10 } else { millis };
    (usual as f64 * hardship()).ceil() as u64
}

/// How many times longer than usual it takes just now to start what a test's program may need first; from 1 to 4.
fn hardship() -> f64 {
    let usual = Duration::from_millis(if in_rig() { 2000 } else { 100 });
    let began = Instant::now();
    let started = command("python3").args(["-c", "import signal"]).status().expect("the gate has looked");
    assert!(started.success(), "python3 does not start: {started}");
    (began.elapsed().as_secs_f64() / usual.as_secs_f64()).clamp(1.0, 4.0)
}

/// How fast a host makes cells that has others to serve is not what these tests are about.
const PATIENCE: &str = "setup_timeout = \"200s\"\n";

/// Part of a number of repetitions, as this machine can bear; said where it is not all.
pub(crate) fn rounds(all: u32) -> u32 {
    let percent = std::env::var("RUNCELL_TEST_ROUNDS").ok().and_then(|p| p.parse().ok());
    let percent = percent.unwrap_or(if in_rig() { 5 } else { 100 });
    (all * percent / 100).max(1)
}

/// Whether this is the emulated machine of scripts/vm.
pub(crate) fn in_rig() -> bool {
    std::env::var_os("RIG").is_some()
}

/// What a machine that also does other things may be late by.
pub(crate) fn slack(time: Duration) -> Duration {
    let (more, part) = if in_rig() { (Duration::from_secs(8), 1) } else { (Duration::from_secs(2), 2) };
    time + time / part + more
}

/// The one place where tests pause.
#[allow(clippy::disallowed_methods)]
pub(crate) fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// Asks again and again until it is so. Never is after a minute: how fast a host is that has other things to do, these tests do not
/// judge.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < slack(Duration::from_secs(60)), "it never came to be that {what}");
        pause(5);
    }
}

/// A job that says nothing of time is not about time: on the emulated machine it gets more than its bundle's limit.
pub(crate) fn patient(job: &Value) -> Value {
    let mut job = job.clone();
    let sane = job.is_object() && job.get("limits").is_none_or(Value::is_object);
    if in_rig() && sane && job.pointer("/limits/wall").is_none() {
        job["limits"]["wall"] = json!("100s");
    }
    job
}

/// The one place where tests start programs.
#[allow(clippy::disallowed_methods)]
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    Command::new(program.as_ref())
}

impl Host {
    fn new() -> Self {
        static HOSTS: AtomicU32 = AtomicU32::new(0);
        let base = tempfile::Builder::new().prefix("runcell-live.").tempdir_in("/run").expect("/run can be written");
        std::fs::set_permissions(base.path(), PermissionsExt::from_mode(0o755)).expect("chmod of our own directory");
        // Two suites at a time have ids of their own as well, as far as process ids tell them apart.
        let number = (HOSTS.fetch_add(1, Ordering::Relaxed) + std::process::id() % 6 * 128) % 768;
        let host = Self { base, number, warm: false, count: RefCell::default(), runs: RefCell::default() };
        std::fs::create_dir(host.dir("work")).expect("a fresh directory");
        host.policy("");
        host
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.base.path().join("root")
    }

    /// A place below this host's own directory.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    /// Puts a file into this host's `work` directory and answers its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.dir("work").join(name);
        std::fs::write(&path, content).expect("a file of ours");
        path.to_str().expect("a path of ours").to_owned()
    }

    /// The same for a program: a script of the shell in a directory of its own, as its name is how a runtime is known.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        std::fs::create_dir_all(self.dir("work/bin")).expect("a directory of ours");
        let name = Path::new(name).file_name().expect("a name").to_str().expect("text");
        let path = self.file(&format!("bin/{name}"), format!("#!/bin/sh\n{text}"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("chmod of our own file");
        path
    }

    /// The first host id of this test's range.
    pub(crate) fn first_id(&self) -> u32 {
        IDS_FIRST + self.number * SLOTS * 65_536
    }

    /// Writes the policy; the id range is always this host's own.
    pub(crate) fn policy(&self, more: &str) {
        let ids = format!("{PATIENCE}{more}\n[ids]\nfirst = {}\ncount = {}\n", self.first_id(), SLOTS * 65_536);
        std::fs::write(self.dir("policy.toml"), ids).expect("a file of ours");
    }

    /// The same with ids for so many cells.
    pub(crate) fn few_slots(&self, count: u32) {
        let ids = format!("{PATIENCE}[ids]\nfirst = {}\ncount = {}\n", self.first_id(), count * 65_536);
        std::fs::write(self.dir("policy.toml"), ids).expect("a file of ours");
    }

    /// The same with a range of 128 slots, below where those of other tests are.
    pub(crate) fn many_slots(&self, more: &str) {
        let first = (1 << 29) + self.number % 60 * 128 * 65_536;
        let ids = format!("{PATIENCE}{more}\n[ids]\nfirst = {first}\ncount = {}\n", 128 * 65_536);
        std::fs::write(self.dir("policy.toml"), ids).expect("a file of ours");
    }

    /// The binary with this host's state and policy, before its own words.
    pub(crate) fn runcell(&self, words: &[&str]) -> Command {
        self.runcell_by(&gate::runtime(), words)
    }

    /// The same with another runtime.
    pub(crate) fn runcell_by(&self, runtime: &str, words: &[&str]) -> Command {
        let mut command = command(env!("CARGO_BIN_EXE_runcell"));
        command.arg("--root").arg(self.root()).arg("--policy").arg(self.dir("policy.toml"));
        command.args(["--runtime", runtime]).args(words).current_dir(self.dir("work"));
        command.stdin(Stdio::null());
        command
    }

    /// Starts a command with its stdout and stderr in files.
    pub(crate) fn start(&self, mut command: Command) -> Started<'_> {
        let number = self.count.replace_with(|n| *n + 1);
        let path = |what: &str| self.dir(&format!("{what}-{number}"));
        let file = |what: &str| File::create(path(what)).expect("a file of ours");
        command.stdout(file("out")).stderr(file("err"));
        let child = command.spawn().expect("starts");
        Started { host: self, child, began: Instant::now(), out: path("out"), err: path("err") }
    }

    /// Starts a job in the form for programs.
    pub(crate) fn job(&self, job: &Value) -> Started<'_> {
        let file = self.dir(&format!("job-{}.json", self.count.borrow()));
        std::fs::write(&file, patient(job).to_string()).expect("a file of ours");
        if self.warm {
            // A job that cannot be run says so itself.
            let _ = self.words(&["warm", "--job", file.to_str().expect("a path of ours")]);
        }
        self.start(self.runcell(&["run", "--job", file.to_str().expect("a path of ours")]))
    }

    /// Runs a job to its Outcome.
    #[track_caller]
    pub(crate) fn run(&self, job: Value) -> Ran {
        self.job(&job).outcome()
    }

    /// Runs a shell script.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> Ran {
        self.run(json!({"argv": ["sh", "-c", script]}))
    }

    /// Runs a python program.
    #[track_caller]
    pub(crate) fn python(&self, program: &str) -> Ran {
        self.run(json!({"argv": ["python3", "-c", program]}))
    }

    /// Runs the binary with these words to its end: exit code, stdout, stderr.
    #[track_caller]
    pub(crate) fn words(&self, words: &[&str]) -> (i32, String, String) {
        self.start(self.runcell(words)).ended()
    }

    /// A job that cannot be started: its error document, and the exit code it must come with.
    #[track_caller]
    pub(crate) fn refused(&self, job: Value, code: i32) -> Value {
        let (got, out, err) = self.job(&job).ended();
        assert_eq!(got, code, "{job} gave {out}{err}");
        let document: Value = serde_json::from_str(&out).expect("one document");
        document["error"].clone()
    }

    /// The same by its code alone.
    #[track_caller]
    pub(crate) fn is_responsive(&self) {
        self.run(json!({"argv": ["true"]})).is("ok");
    }

    /// Remembers the runs that there are now, live or not.
    pub(crate) fn note_runs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root().join("runs")).into_iter().flatten().flatten();
        let names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        self.runs.borrow_mut().extend(names.iter().cloned().chain(leftovers::cells(&self.root())));
        names
    }

    /// Nothing of what ran here is left.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        self.note_runs();
        if self.warm {
            let _ = self.words(&["warm", "--drain"]);
        }
        let left = leftovers::of(&self.root(), &self.runs.borrow());
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }
}
