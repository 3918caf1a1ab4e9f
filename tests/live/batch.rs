//! Many jobs through one process: each is answered once and rightly, whatever the others do and whoever dies.

use super::gate;
use super::harness::{Host, in_rig, live, on_the_host, pause, rounds, unhurried, until};
use super::leftovers;
use super::run::Started;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::AsFd;
use std::process::{ChildStdin, Command, Stdio};

/// A batch that reads what it is sent.
pub(super) struct Batch<'h> {
    started: Started<'h>,
    input: Option<ChildStdin>,
}

impl<'h> Batch<'h> {
    pub(super) fn new(host: &'h Host, words: &[&str]) -> Self {
        Self::of(host, host.runcell(&[&["batch"], words].concat()))
    }

    fn of(host: &'h Host, mut command: Command) -> Self {
        command.stdin(Stdio::piped());
        let mut started = host.start(command);
        let input = started.child.stdin.take();
        Self { started, input }
    }

    pub(super) fn send(&mut self, line: impl ToString) {
        let input = self.input.as_mut().expect("open");
        input.write_all(format!("{}\n", line.to_string()).as_bytes()).expect("it reads");
    }

    /// The answers so far that are whole.
    fn answers(&self) -> Vec<Value> {
        let all = answers(&self.started.stdout());
        let runs = all.iter().filter_map(|a| a["run"].as_str().map(str::to_owned));
        self.started.host.runs.borrow_mut().extend(runs);
        all
    }

    #[track_caller]
    pub(super) fn answered(&self, count: usize) -> Vec<Value> {
        until(&format!("there are {count} answers"), || self.answers().len() >= count);
        self.answers()
    }

    /// All answers, once there is no more to come.
    #[track_caller]
    pub(super) fn finish(mut self) -> Vec<Value> {
        drop(self.input.take());
        self.ended(0)
    }

    #[track_caller]
    fn ended(self, code: i32) -> Vec<Value> {
        let host = self.started.host;
        let (got, out, err) = self.started.ended();
        assert_eq!((got, err.as_str()), (code, ""), "{out}");
        let all = answers(&out);
        host.runs.borrow_mut().extend(all.iter().filter_map(|a| a["run"].as_str().map(str::to_owned)));
        all
    }
}

fn answers(out: &str) -> Vec<Value> {
    let whole = out.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[track_caller]
pub(super) fn by_line(all: &[Value], line: u64) -> &Value {
    let mut its = all.iter().filter(|a| a["line"] == line);
    let one = its.next().unwrap_or_else(|| panic!("no answer to line {line}: {all:?}"));
    assert!(its.next().is_none(), "two answers to line {line}: {all:?}");
    one
}

fn sleeper(id: &str) -> Value {
    json!({"id": id, "argv": ["sleep", "100"], "limits": {"wall": "200s", "grace": "10ms"}})
}

/// The processes that supervise jobs, by run.
fn supervisors(host: &Host) -> BTreeMap<String, i32> {
    let record = |run: String| {
        let text = std::fs::read(host.root().join("runs").join(&run).join("record.json")).ok()?;
        let record: Value = serde_json::from_slice(&text).ok()?;
        (record["state"] == "running").then_some((run, record["supervisor"]["pid"].as_i64()? as i32))
    };
    host.note_runs().into_iter().filter_map(record).collect()
}

#[test]
fn one_jobs_disaster_is_its_own() {
    live(|host| {
        let quick = unhurried(300);
        let disasters = [
            ("memory", json!({"argv": ["python3", "-c", "x = b'x' * (1 << 30)"], "limits": {"memory": "64MiB"}})),
            ("wall_time", json!({"argv": ["sleep", "60"], "limits": {"wall": quick, "grace": "10ms"}})),
            ("cpu_time", json!({"argv": ["sh", "-c", "while :; do :; done"], "limits": {"cpu": "100ms", "wall": "60s"}})),
            ("output_limit", json!({"argv": ["yes"], "limits": {"output": "64KiB", "wall": "60s"}})),
            ("signaled", json!({"argv": ["sh", "-c", "kill -SEGV $$"]})),
            ("nonzero", json!({"argv": ["sh", "-c", "(setsid sleep 60 &); exit 7"]})),
            ("not_started", json!({"argv": ["/no/such/program"]})),
            (
                "wall_time",
                // The shell forks once itself, while there is room: one that can't fork ends.
                json!({"argv": ["sh", "-c", "f() { f | f & }; f & exec sleep 60"], "limits": {"pids": 32, "wall": quick, "grace": "10ms"}}),
            ),
            ("ok", json!({"argv": ["sh", "-c", "cat"], "stdin": "fine"})),
            ("ok", json!({"argv": ["sh", "-c", "head -c 9000000 /dev/zero > f; kill -STOP 1; echo fine"], "collect": ["**"]})),
        ];
        let words = if in_rig() { ["--jobs", "3", "--ahead", "0"] } else { ["--jobs", "8", "--ahead", "4"] };
        let mut batch = Batch::new(host, &words);
        let mut expected = Vec::new();
        for n in 0..rounds(3) {
            for (m, (verdict, job)) in disasters.iter().enumerate() {
                let mut job = job.clone();
                job["id"] = json!(format!("{n}-{m}"));
                if job["limits"]["wall"].is_null() {
                    job["limits"]["wall"] = json!("100s"); // this is not about time, and the machine may be slow
                }
                batch.send(job);
                expected.push(*verdict);
            }
        }
        let all = batch.finish();
        assert_eq!(all.len(), expected.len());
        for (line, verdict) in (1..).zip(&expected) {
            let answer = by_line(&all, line);
            assert_eq!((&answer["verdict"], &answer["cleanup"]), (&json!(verdict), &json!("complete")), "{answer}");
        }
    });
}

#[test]
fn what_is_no_job_is_answered_and_the_batch_goes_on() {
    live(|host| {
        let mut batch = Batch::new(host, &["--jobs", "2"]);
        for line in ["", "nonsense", r#"{"id": "a", "limits": {"memry": 1}}"#, "  \t", r#"["true"]"#, r#"{"cancel": "nobody"}"#] {
            batch.send(line);
        }
        batch.send(json!({"id": "b", "argv": ["true"], "image": "no-such:image"}));
        batch.send("x".repeat((64 << 20) + 1));
        batch.send(sleeper("c"));
        batch.send(json!({"id": "c", "argv": ["true"]}));
        batch.send(json!({"argv": ["true"]}));
        batch.answered(7);
        batch.send(json!({"cancel": "c", "why": "no"}));
        batch.send(json!({"cancel": "c"}));
        let all = batch.finish();
        assert_eq!(all.len(), 11, "{all:?}");
        let told = |line: u64| {
            let answer = by_line(&all, line);
            (answer["id"].as_str(), answer["error"]["code"].as_str(), answer["error"]["path"].as_str())
        };
        assert_eq!(told(2), (None, Some("job:malformed"), Some("job")));
        assert_eq!(told(3), (Some("a"), Some("job:malformed"), Some("limits.memry")));
        assert_eq!(told(5), (None, Some("job:malformed"), Some("job")));
        assert_eq!(by_line(&all, 6), &json!({"line": 6, "cancel": "nobody", "was": "unknown"}));
        assert_eq!(told(7), (Some("b"), Some("image:!exists"), Some("image")));
        assert_eq!(told(8), (None, Some("job:too_large"), Some("job")));
        assert_eq!(told(10), (Some("c"), Some("job:duplicate"), Some("id")));
        assert_eq!(by_line(&all, 11)["verdict"], "ok");
        assert_eq!(told(12), (Some("c"), Some("job:malformed"), Some("cancel")));
        assert_eq!(by_line(&all, 13)["was"], "running");
        assert_eq!(by_line(&all, 9)["verdict"], "cancelled");
    });
}

#[test]
fn a_job_is_cancelled_whether_it_runs_or_waits() {
    live(|host| {
        let mut batch = Batch::new(host, &["--jobs", "1", "--ahead", "1"]);
        ["a", "b"].iter().for_each(|id| batch.send(sleeper(id)));
        until("the first one runs", || supervisors(host).len() == 1);
        // As long as no more are sent than run and wait, a cancellation need not wait.
        batch.send(json!({"cancel": "b"}));
        batch.answered(2);
        batch.send(sleeper("c"));
        batch.send(json!({"cancel": "c"}));
        let all = batch.answered(4);
        for (line, job) in [(3, 2), (5, 4)] {
            assert_eq!(by_line(&all, line)["was"], "queued");
            let answer = by_line(&all, job);
            assert_eq!((&answer["verdict"], &answer["phases"]["start_ns"]), (&json!("cancelled"), &json!(0)), "{answer}");
        }
        batch.send(json!({"cancel": "a"}));
        batch.send(json!({"id": "a2", "argv": ["true"]}));
        let all = batch.finish();
        assert_eq!((&by_line(&all, 6)["was"], &by_line(&all, 1)["verdict"]), (&json!("running"), &json!("cancelled")));
        assert_eq!(by_line(&all, 7)["verdict"], "ok");
    });
}

#[test]
fn no_more_is_read_than_is_wanted() {
    live(|host| {
        let mut batch = Batch::new(host, &["--jobs", "1", "--ahead", "1"]);
        batch.send(sleeper("a"));
        until("it runs", || supervisors(host).len() == 1);
        let input = batch.input.as_mut().expect("open");
        nix::fcntl::fcntl(input.as_fd(), nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).expect("a pipe");
        let line = format!("{}\n", json!({"argv": ["true"], "labels": {"x": "y".repeat(32_700)}}));
        let mut taken = 0;
        let mut idle = 0;
        while idle < 20 {
            match input.write(&line.as_bytes()[taken % line.len()..]) {
                Ok(n) => (taken, idle) = (taken + n, 0),
                Err(_) => idle += 1,
            }
            pause(5);
        }
        // Two lines wait, one read has gone beyond, and the pipe is full.
        assert!(taken <= 2 * line.len() + 64 * 1024 + 64 * 1024, "{taken}");
        batch.started.signal(Signal::SIGTERM);
        batch.started.signal(Signal::SIGINT);
        until("it is cancelled", || batch.answers().iter().any(|a| a["verdict"] == "cancelled"));
        batch.ended(130);
    });
}

#[test]
fn a_supervisor_that_dies_takes_its_own_job_alone() {
    live(|host| {
        let mut batch = Batch::new(host, &["--jobs", "2"]);
        batch.send(sleeper("a"));
        until("it runs", || supervisors(host).len() == 1);
        let (run, pid) = supervisors(host).pop_first().expect("one");
        batch.send(json!({"id": "b", "argv": ["sh", "-c", "sleep 0.3; echo fine"]}));
        until("both run", || supervisors(host).len() == 2);
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("a process of ours");
        let all = batch.answered(2);
        let died = by_line(&all, 1);
        assert_eq!((&died["verdict"], &died["run"], &died["cleanup"]), (&json!("host_error"), &json!(run), &json!("complete")));
        assert_eq!((&by_line(&all, 2)["verdict"], &died["reason"]), (&json!("ok"), &json!("the job's supervisor died")));
        assert!(leftovers::processes().iter().all(|(_, cgroup, _)| !cgroup.contains(&run)), "its cell lives");
        batch.send(json!({"id": "a", "argv": ["true"]}));
        assert_eq!(by_line(&batch.finish(), 3)["verdict"], "ok");
    });
}

#[test]
fn a_signal_drains_and_a_second_one_cancels() {
    live(|host| {
        let mut batch = Batch::new(host, &["--jobs", "1", "--ahead", "2"]);
        let gate = host.dir("work");
        host.policy(&format!("bind = [{:?}]", gate.to_str().expect("ours")));
        drop(batch.input.take());
        batch.ended(0); // a policy is read when a batch begins
        let mut batch = Batch::new(host, &["--jobs", "1", "--ahead", "2"]);
        let script = "while [ ! -e /gate/open ]; do sleep 0.05; done; echo fine";
        batch.send(json!({"id": "a", "argv": ["sh", "-c", script], "mounts": [{"target": "/gate", "bind": gate}],
            "limits": {"wall": "100s"}}));
        batch.send(sleeper("b"));
        until("the first one runs", || supervisors(host).len() == 1);
        batch.started.signal(Signal::SIGTERM);
        assert_eq!(by_line(&batch.answered(1), 2)["error"]["code"], "batch:ending");
        batch.send(json!({"id": "c", "argv": ["true"]}));
        assert_eq!(by_line(&batch.answered(2), 3)["error"]["code"], "batch:ending");
        host.file("open", "");
        let all = batch.ended(130);
        assert_eq!((&by_line(&all, 1)["verdict"], &by_line(&all, 1)["stdout"]["text"]), (&json!("ok"), &json!("fine\n")));

        let mut batch = Batch::new(host, &["--jobs", "2"]);
        ["a", "b"].iter().for_each(|id| batch.send(sleeper(id)));
        until("both run", || supervisors(host).len() == 2);
        batch.started.signal(Signal::SIGINT);
        batch.started.signal(Signal::SIGTERM);
        let all = batch.ended(130);
        assert!(all.len() == 2 && all.iter().all(|a| a["verdict"] == "cancelled"), "{all:?}");
    });
}

#[test]
fn without_a_listener_all_is_cancelled() {
    live(|host| {
        let (listener, out) = std::io::pipe().expect("pipe");
        let mut command = host.runcell(&["batch", "--jobs", "2"]);
        command.stdin(Stdio::piped()).stdout(out).stderr(Stdio::null());
        let mut child = command.spawn().expect("starts");
        drop(command);
        let mut input = child.stdin.take().expect("piped");
        for id in ["a", "b", "c"] {
            writeln!(input, "{}", sleeper(id)).expect("it reads");
        }
        until("two run", || supervisors(host).len() == 2);
        drop(listener);
        assert_eq!(child.wait().expect("our child").code(), Some(130));
    });
}

#[test]
fn a_killed_batch_is_gone_on_with() {
    live(|host| killed_again_and_again(host, &[]));
}

#[test]
fn so_is_one_whose_cells_serve_again() {
    on_the_host(|host| killed_again_and_again(host, &["--reuse", "same-avatar"]));
}

fn killed_again_and_again(host: &Host, more: &[&str]) {
    let count = if in_rig() { 4 } else { 24 };
    let of = |n: usize| json!({"kata": "4kq9Zx2aBc", "name": if n.is_multiple_of(3) { "lion" } else { "bear" }});
    let jobs: Vec<Value> = (0..count)
        .map(|n| json!({"id": format!("j{n}"), "avatar": of(n), "argv": ["sh", "-c", "head -c 9000 /dev/zero | tr '\\0' x"]}))
        .collect();
    let lines: String = jobs.iter().map(|job| format!("{job}\n")).collect();
    let file = host.file("jobs.jsonl", &lines);
    let journal = host.dir("journal").to_str().expect("ours").to_owned();
    let words = [&["batch", &file, "--jobs", "3", "--journal", &journal][..], more].concat();
    let mut told = Vec::new();
    let span = if in_rig() { 4000 } else { 400 };
    for n in 1u64.. {
        assert!(n < 200, "it does not come to its end");
        let mut started = host.start(host.runcell(&words));
        // Ever later: on a slow machine the first ones may not get as far as one answer.
        pause(n * 7919 % (span + n * span / 2));
        let killed = !started.is_over();
        started.signal(Signal::SIGKILL);
        host.note_runs();
        let (code, out, err) = started.ended();
        told.extend(answers(&out));
        if !killed {
            assert_eq!((code, err.as_str()), (0, ""));
            break;
        }
    }
    host.runs.borrow_mut().extend(told.iter().filter_map(|a| a["run"].as_str().map(str::to_owned)));
    // Told twice is only what may not have been heard, and then it is the same.
    let outcomes: BTreeSet<String> = told.iter().map(Value::to_string).collect();
    let ids: BTreeSet<&str> = told.iter().filter_map(|a| a["id"].as_str()).collect();
    assert_eq!((outcomes.len(), ids.len()), (count, count), "each job has one outcome: {told:?}");
    assert!(told.iter().all(|a| a["verdict"] == "ok" && a["stdout"]["bytes"] == 9000), "{told:?}");

    let (code, out, _) = host.words(&words);
    assert_eq!((code, out.as_str()), (0, ""), "all was told");
    let (code, out, _) =
        host.words(&["batch", &host.file("other.jsonl", r#"{"id":"j0","argv":["false"]}"#), "--journal", &journal]);
    assert!(code == 0 && out.contains("job:changed"), "{out}");
    let (code, out, _) = host.words(&["batch", &host.file("nameless.jsonl", r#"{"argv":["true"]}"#), "--journal", &journal]);
    assert!(code == 0 && out.contains("job:no_id"), "{out}");
    let (code, out, _) = host.words(&["batch", &file, "--journal", &file]);
    assert!(code == 2 && out.contains("journal:damaged"), "{out}");
    until("nobody owns what the killed ones left", || {
        let (code, out, err) = host.words(&["gc"]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        serde_json::from_str::<Value>(&out).expect("a document")["live"] == json!([])
    });
    host.words(&["warm", "--drain"]);
}

/// How the copy of a runtime is called among descriptors and programs.
const REPLICA: &str = "memfd:replica";

/// What a process has open.
fn opened(pid: impl std::fmt::Display) -> Vec<String> {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives");
    fds.filter_map(|fd| Some(std::fs::read_link(fd.ok()?.path()).ok()?.to_string_lossy().into_owned())).collect()
}

#[test]
fn many_cells_are_started_from_one_sealed_copy_of_the_runtime() {
    live(|host| {
        let mut batch = Batch::new(host, &["--jobs", "2", "--ahead", "0"]);
        let pid = batch.started.pid();
        let copies = || opened(pid).iter().filter(|file| file.contains(REPLICA)).count();
        (0..2).for_each(|_| batch.send(json!({"argv": ["true"]})));
        batch.answered(2);
        assert_eq!(copies(), 0, "for a few it is not worth it");
        (0..20).for_each(|_| batch.send(json!({"argv": ["true"]})));
        batch.answered(22);
        if gate::runtime() != "runc" {
            assert_eq!(copies(), 0, "others are started from their file");
            assert!(batch.finish().iter().all(|a| a["verdict"] == "ok"));
            return;
        }
        until("there is a copy", || copies() == 1);
        let runs_it = |exe: &std::path::Path| std::fs::read_link(exe).is_ok_and(|exe| exe.to_string_lossy().contains(REPLICA));
        let mut jobs = 22;
        until("a cell is started from it", || {
            if batch.answers().len() == jobs {
                batch.send(json!({"argv": ["true"]}));
                jobs += 1;
            }
            std::fs::read_dir("/proc").expect("there").flatten().any(|process| runs_it(&process.path().join("exe")))
        });
        let all = batch.finish();
        assert!(all.len() == jobs && all.iter().all(|a| a["verdict"] == "ok" && a["start"] == "cold"), "{all:?}");
    });
}

#[test]
fn it_does_not_grow_with_its_jobs() {
    live(|host| {
        let mut batch = Batch::new(host, &["--jobs", "2", "--ahead", "2"]);
        let pid = batch.started.pid();
        // Not `RssAnon` of status: since Linux 6.2 that is a sum per cpu of which each may be 32 pages behind.
        let rollup = || std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it lives");
        let resident = || -> u64 {
            let kib = rollup().lines().find_map(|l| l.strip_prefix("Pss_Anon:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
            kib.expect("Linux 5.9 tells it")
        };
        let open = || opened(pid).iter().filter(|file| !file.contains(REPLICA)).count(); // which is made once
        let (mut jobs, mut answers) = (0, 0);
        let mut round = |batch: &mut Batch<'_>, most: usize| {
            for _ in 0..rounds(40) {
                batch.send(json!({"argv": ["true"], "labels": {"x": "y".repeat(1000)}}));
                (0..50).for_each(|_| batch.send(r#"{"argv": ["true"], "limits": {"memry": 1}}"#));
                (jobs, answers) = (jobs + 1, answers + 51);
            }
            batch.answered(answers);
            until("nothing runs", || host.note_runs().is_empty());
            until("its cells wait", || (2..=4).contains(&leftovers::cells(&host.root()).len()));
            until("what was opened is closed", || open() <= most);
            (resident(), open())
        };
        // Its input, the two outputs, its signals, /dev/null and one of its caller's; one more for each process that makes a cell.
        let (_, fds) = round(&mut batch, 6 + 2);
        let (kib, fds) = round(&mut batch, fds);
        for _ in 0..3 {
            let (now, _) = round(&mut batch, fds);
            assert!(now <= kib + kib / 10 + 64, "{kib} KiB, then {now}");
        }
        let all = batch.finish();
        assert_eq!((all.len(), all.iter().filter(|a| a["verdict"] == "ok").count()), (answers, jobs));
    });
}

#[test]
fn cells_are_made_ahead_and_none_is_missed() {
    live(|host| {
        let mut batch = Batch::new(host, &["--jobs", "1", "--ahead", "2"]);
        let waiting = || leftovers::cells(&host.root());
        batch.send(json!({"argv": ["true"]}));
        assert_eq!(by_line(&batch.answered(1), 1)["start"], "cold");
        until("two wait", || waiting().len() == 2);
        batch.send(json!({"argv": ["true"]}));
        assert_eq!(by_line(&batch.answered(2), 2)["start"], "warm");
        until("two wait again", || waiting().len() == 2);
        host.note_runs();
        let dead = waiting();
        for run in &dead {
            let init = leftovers::processes().into_iter().find(|(_, cgroup, _)| cgroup.contains(run));
            kill(Pid::from_raw(init.expect("its init lives").0), Signal::SIGKILL).expect("it dies");
        }
        batch.send(json!({"argv": ["true"]}));
        let all = batch.answered(3);
        let third = by_line(&all, 3);
        assert!(third["verdict"] == "ok" && dead.iter().all(|run| third["run"] != json!(run)), "{third}");
        batch.finish();
        assert!(waiting().is_empty(), "what it has made is its own to remove");
    });
}

#[test]
fn cells_are_made_again_once_they_can_be_though_nothing_else_happens() {
    on_the_host(|host| {
        let broken = host.dir("broken");
        let moody = format!("[ -e '{}' ] && exit 1; PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin\n", broken.display());
        let runtime = host.script(&gate::runtime(), &format!("{moody}exec {} \"$@\"\n", gate::runtime()));
        let mut batch = Batch::of(host, host.runcell_by(&runtime, &["batch", "--jobs", "1", "--ahead", "1"]));
        let waiting = || leftovers::cells(&host.root()).len();
        batch.send(json!({"argv": ["true"]}));
        until("one waits", || waiting() == 1);
        std::fs::write(&broken, "").expect("written");
        batch.send(json!({"argv": ["true"]}));
        let all = batch.answered(2);
        assert_eq!(by_line(&all, 2)["start"], "warm", "{all:?}");
        until("none can be made", || waiting() == 0 && host.note_runs().is_empty());
        std::fs::remove_file(&broken).expect("removed");
        until("one waits again", || waiting() == 1);
        batch.finish();
    });
}

#[test]
fn words_that_make_no_sense_are_refused() {
    live(|host| {
        for words in [["--jobs", "0"], ["--jobs", "many"], ["--ahead", "9999"], ["--journal", "/no/such/place/journal"]] {
            let (code, out, _) = host.words(&[&["batch"], &words[..]].concat());
            assert!(code == 2 && out.contains("\"error\""), "{words:?}: {code} {out}");
        }
        let (code, out, _) = host.words(&["batch", "/no/such/file"]);
        assert!(code == 2 && out.contains("job:unreadable"), "{code} {out}");
    });
}
