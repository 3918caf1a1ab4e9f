//! One run of the binary: while it lives, and what it answered.

use super::harness::{Host, pause, slack};
use base64::Engine as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runcell::model::outcome::{Cleanup, FileOut, Outcome, PathOut, Verdict};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// Longer than any run of this suite may take: then it hangs.
const HANG: Duration = Duration::from_secs(240);

pub(crate) struct Started<'h> {
    pub host: &'h Host,
    pub child: Child,
    pub began: Instant,
    pub out: PathBuf,
    pub err: PathBuf,
}

impl Started<'_> {
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It is our child and not yet reaped, so the pid is its own.
        let _ = kill(Pid::from_raw(self.pid()), signal);
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_some()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.out).unwrap_or_default()).into_owned()
    }

    /// The run that this process works on, once there is one.
    #[track_caller]
    pub(crate) fn run_id(&self) -> String {
        let host = self.host;
        let before = host.runs.borrow().clone();
        let new = || host.note_runs().into_iter().find(|run| !before.contains(run));
        let began = Instant::now();
        loop {
            if let Some(run) = new() {
                return run;
            }
            assert!(began.elapsed() < slack(Duration::from_secs(10)), "no run has begun");
            pause(2);
        }
    }

    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            if self.began.elapsed() > HANG {
                let _ = self.child.kill();
                panic!("runcell hangs");
            }
            pause(2);
        }
    }

    /// Its end: exit code (128 + n for a signal), stdout, stderr.
    #[track_caller]
    pub(crate) fn ended(mut self) -> (i32, String, String) {
        let status = self.wait();
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        let read = |path| String::from_utf8_lossy(&std::fs::read(path).expect("a file of ours")).into_owned();
        (code, read(&self.out), read(&self.err))
    }

    /// Its one Outcome. Holds for every run: exit code 0, one document, a clean cell, and an end in time.
    #[track_caller]
    pub(crate) fn outcome(mut self) -> Ran {
        self.wait();
        let took = self.began.elapsed();
        let host = self.host;
        let (code, out, err) = self.ended();
        let ran = Ran::read(&out).unwrap_or_else(|why| panic!("exit code {code}, no Outcome ({why}): {out}{err}"));
        host.runs.borrow_mut().insert(ran.outcome.run.clone());
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert_eq!(ran.outcome.cleanup, Cleanup::Complete, "{out}");
        assert!(ran.outcome.exit_code.is_none() || ran.outcome.signal.is_none(), "{out}");
        let (limits, phases) = (&ran.outcome.limits, &ran.outcome.phases);
        let around = phases.setup_ns + phases.start_ns + phases.harvest_ns + phases.teardown_ns;
        let bound = limits.wall.duration() + limits.grace.duration() + Duration::from_nanos(around);
        assert!(took < slack(bound + Duration::from_secs(1)), "took {took:?}, more than {bound:?} allows: {out}");
        ran
    }
}

/// An Outcome with words to judge it.
pub(crate) struct Ran {
    pub outcome: Outcome,
    pub json: String,
}

impl Ran {
    fn read(out: &str) -> Result<Self, String> {
        let one = out.strip_suffix('\n').filter(|line| !line.contains('\n')).ok_or("not one line")?;
        let outcome = serde_json::from_str(one).map_err(|e| e.to_string())?;
        Ok(Self { outcome, json: one.to_owned() })
    }

    /// The verdict is this one.
    #[track_caller]
    pub(crate) fn is(&self, verdict: &str) -> &Self {
        assert_eq!(self.verdict(), verdict, "{}", self.json);
        self
    }

    pub(crate) fn verdict(&self) -> String {
        let verdict: Verdict = self.outcome.verdict;
        serde_json::to_value(verdict).ok().and_then(|v| v.as_str().map(str::to_owned)).expect("a verdict is a word")
    }

    #[track_caller]
    pub(crate) fn code(&self, code: i32) -> &Self {
        assert_eq!((self.outcome.exit_code, self.outcome.signal), (Some(code), None), "{}", self.json);
        self
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: i32) -> &Self {
        assert_eq!((self.outcome.exit_code, self.outcome.signal), (None, Some(signal)), "{}", self.json);
        self
    }

    /// The whole of stdout.
    #[track_caller]
    pub(crate) fn said(&self, text: &str) -> &Self {
        assert_eq!(self.stdout(), text, "{}", self.json);
        self
    }

    #[track_caller]
    pub(crate) fn holds(&self, part: &str) -> &Self {
        assert!(self.json.contains(part), "no {part:?} in {}", self.json);
        self
    }

    #[track_caller]
    pub(crate) fn stdout(&self) -> &str {
        self.outcome.stdout.text.as_deref().unwrap_or_else(|| panic!("stdout is no text: {}", self.json))
    }

    #[track_caller]
    pub(crate) fn stderr(&self) -> &str {
        self.outcome.stderr.text.as_deref().unwrap_or_else(|| panic!("stderr is no text: {}", self.json))
    }

    /// stdout as a JSON document of the program's.
    #[track_caller]
    pub(crate) fn told(&self) -> serde_json::Value {
        self.is("ok");
        serde_json::from_str(self.stdout()).unwrap_or_else(|e| panic!("{e}: {}", self.json))
    }

    #[track_caller]
    pub(crate) fn created(&self, path: &str) -> &FileOut {
        let found = self.outcome.files.created.iter().find(|f| f.path == path);
        found.unwrap_or_else(|| panic!("{path:?} is not among the created: {}", self.json))
    }

    pub(crate) fn deleted(&self) -> Vec<&str> {
        let path = |p| match p {
            &PathOut::Text(ref path) | &PathOut::Bytes { ref path, .. } => path.as_str(),
        };
        self.outcome.files.deleted.iter().map(path).collect()
    }

    /// What was skipped, and why, in order.
    pub(crate) fn skipped(&self) -> Vec<(&str, &str)> {
        self.outcome.files.skipped.iter().map(|s| (s.path.as_str(), s.why.as_str())).collect()
    }

    #[track_caller]
    pub(crate) fn wall(&self) -> Duration {
        Duration::from_nanos(self.outcome.usage.wall_ns.unwrap_or_else(|| panic!("no wall time: {}", self.json)))
    }

    #[track_caller]
    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.outcome.usage.cpu_ns.unwrap_or_else(|| panic!("no cpu time: {}", self.json)))
    }
}

/// A collected content's bytes, as far as they were kept.
pub(crate) fn bytes(blob: &runcell::model::blob::Blob) -> Vec<u8> {
    match (&blob.text, &blob.base64) {
        (Some(text), None) => text.clone().into_bytes(),
        (None, Some(base64)) => base64::engine::general_purpose::STANDARD.decode(base64).expect("base64"),
        both => panic!("not exactly one: {both:?}"),
    }
}
