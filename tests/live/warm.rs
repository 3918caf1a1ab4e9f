//! Cells that wait for their jobs: they serve one each, as a cold one would, and none that is not as it was left.

use super::gate::unified;
use super::harness::{Host, in_rig, live, pause, rounds, until};
use super::leftovers;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runcell::model::outcome::Start;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// Has so many cells of the job's shape wait.
#[track_caller]
fn warm(host: &Host, job: &Value, count: usize) {
    let file = host.file("shape.json", job.to_string());
    let (code, out, err) = host.words(&["warm", "--job", &file, "--count", &count.to_string()]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let warmed: Value = serde_json::from_str(&out).expect("a document");
    assert_eq!(warmed["waiting"], count, "{out}");
    host.note_runs();
}

#[track_caller]
fn waiting(host: &Host) -> Vec<Value> {
    let (code, out, err) = host.words(&["warm", "--list"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    serde_json::from_str(&out).expect("a document")
}

#[track_caller]
fn drain(host: &Host) {
    let (code, out, err) = host.words(&["warm", "--drain"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    host.is_clean();
}

fn starts(host: &Host, job: Value) -> (Start, String) {
    let ran = host.run(job);
    (ran.is("ok").outcome.start, ran.outcome.run.clone())
}

/// The process that waits in a cell.
fn init(cell: &Value) -> i32 {
    let run = cell["run"].as_str().expect("a run");
    let inside = leftovers::processes().into_iter().find(|(_, cgroup, _)| cgroup.contains(run));
    inside.expect("its init lives").0
}

fn job() -> Value {
    json!({"argv": ["true"]})
}

#[test]
fn a_waiting_cell_serves_one_job() {
    live(|host| {
        warm(host, &job(), 2);
        let cells = waiting(host);
        assert!(cells.iter().all(|c| c["processes"] == 1 && c["memory_bytes"].as_u64().is_none_or(|b| b < 3 << 19)), "{cells:?}");
        let served: Vec<_> = (0..3).map(|_| starts(host, job())).collect();
        assert_eq!(served.iter().map(|(start, _)| *start).collect::<Vec<_>>(), [Start::Warm, Start::Warm, Start::Cold]);
        let runs: BTreeSet<_> = served.iter().map(|(_, run)| run).collect();
        assert_eq!(runs.len(), 3);
        assert!(waiting(host).is_empty());
        drain(host);
    });
}

#[test]
fn a_waiting_cell_is_in_the_groups_alone_that_do_something_for_it() {
    live(|host| {
        warm(host, &job(), 1);
        let cells = waiting(host);
        let run = cells[0]["run"].as_str().expect("a run");
        let groups: Vec<_> = leftovers::groups().into_iter().filter(|group| group.ends_with(run)).collect();
        let below = |tree: &str| groups.iter().any(|group| group.starts_with(Path::new("/sys/fs/cgroup").join(tree)));
        for tree in ["freezer", "systemd", "perf_event", "net_cls", "net_prio", "hugetlb", "rdma", "misc"] {
            assert!(!below(tree), "{groups:?}");
        }
        // What bounds a cell keeps it: on v1 the rules for devices are among that.
        let bounds: &[&str] = if unified() { &[""] } else { &["memory", "pids", "cpu", "devices"] };
        assert!(bounds.iter().all(|tree| below(tree)), "{groups:?}");
        assert_eq!(starts(host, job()).0, Start::Warm);
        drain(host);
    });
}

#[test]
fn what_is_given_late_is_the_jobs_own() {
    live(|host| {
        warm(host, &job(), 3);
        let script = "cat; cat in; echo $X; ulimit -n; pwd; echo out > made; exit 7";
        let ran = host
            .run(json!({"argv": ["sh", "-c", script], "env": {"X": "env"}, "stdin": "stdin ", "files": {"in": "file "},
            "collect": ["**"], "limits": {"open_files": 77}}));
        ran.is("nonzero").code(7).said("stdin file env\n77\n/sandbox\n");
        assert_eq!((ran.outcome.start, ran.created("made").content.text.as_deref()), (Start::Warm, Some("out\n")));
        let bomb = host.run(json!({"argv": ["python3", "-c", "x = b'x' * (1 << 30)"], "limits": {"memory": "256MiB"}}));
        bomb.is("memory");
        let late = host.run(json!({"argv": ["sleep", "60"], "limits": {"wall": "300ms", "grace": "10ms"}}));
        late.is("wall_time");
        assert_eq!((bomb.outcome.start, late.outcome.start), (Start::Warm, Start::Warm));
        drain(host);
    });
}

#[test]
fn another_shape_gets_another_cell() {
    live(|host| {
        warm(host, &job(), 1);
        for other in [
            json!({"argv": ["true"], "user": "1001"}),
            json!({"argv": ["true"], "limits": {"sandbox": "1MiB"}}),
            json!({"argv": ["true"], "mounts": [{"target": "/x", "tmpfs": "1MiB"}]}),
        ] {
            assert_eq!(starts(host, other).0, Start::Cold);
        }
        let (code, out, _) = host.words(&["run", "--json", "--cold", "--", "true"]);
        assert!(code == 0 && out.contains("\"start\":\"cold\""), "{out}");
        host.policy("network_host = true\n");
        assert_eq!(starts(host, job()).0, Start::Cold, "the policy is another");
        host.policy("");
        assert_eq!(starts(host, job()).0, Start::Warm);
        drain(host);
    });
}

#[test]
fn no_cell_is_given_twice() {
    live(|host| {
        let (cells, jobs) = if in_rig() { (2, 4) } else { (6, 10) };
        for _ in 0..rounds(5) {
            warm(host, &job(), cells);
            let started: Vec<_> = (0..jobs).map(|_| host.job(&job())).collect();
            let ran: Vec<_> = started.into_iter().map(|s| s.outcome()).collect();
            let runs: BTreeSet<_> = ran.iter().map(|r| r.is("ok").outcome.run.as_str()).collect();
            assert_eq!(runs.len(), jobs);
            let warm = ran.iter().filter(|r| r.outcome.start == Start::Warm).count();
            // Two that reach for the same one at the same time: one of them takes the next.
            assert!(warm <= cells && warm > 0, "{warm} of {cells}");
        }
        drain(host);
    });
}

#[test]
fn a_cell_that_is_not_as_it_was_left_is_burnt() {
    live(|host| {
        warm(host, &job(), 3);
        let cells = waiting(host);
        kill(Pid::from_raw(init(&cells[0])), Signal::SIGKILL).expect("its init dies");
        // A stranger has got into the second.
        let mut stranger = super::harness::command("sleep").arg("60").spawn().expect("starts");
        let run = cells[1]["run"].as_str().expect("a run");
        for group in leftovers::groups().iter().filter(|g| g.ends_with(run)) {
            std::fs::write(group.join("cgroup.procs"), stranger.id().to_string()).expect("it enters");
        }
        let (start, served) = starts(host, job());
        assert_eq!((start, served.as_str()), (Start::Warm, cells[2]["run"].as_str().expect("a run")));
        stranger.kill().expect("our child");
        stranger.wait().expect("our child");
        assert!(waiting(host).is_empty());
        drain(host);
    });
}

#[test]
fn its_time_is_bounded() {
    live(|host| {
        let file = host.file("shape.json", job().to_string());
        let ttl = if in_rig() { "20s" } else { "2s" };
        let (code, out, err) = host.words(&["warm", "--job", &file, "--ttl", ttl]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        host.note_runs();
        let pid = init(&waiting(host)[0]);
        until("its init has ended by itself", || leftovers::processes().iter().all(|(p, ..)| *p != pid));
        until("its time is over", || waiting(host).iter().all(|c| c["expires_in_s"] == 0));
        assert_eq!(starts(host, job()).0, Start::Cold, "which also cleans up in passing");
        host.is_clean();
    });
}

#[test]
fn gc_spares_what_waits_and_removes_what_has_died() {
    live(|host| {
        warm(host, &job(), 2);
        let cells = waiting(host);
        kill(Pid::from_raw(init(&cells[0])), Signal::SIGKILL).expect("its init dies");
        until("it is dead", || waiting(host)[0]["processes"] == 0);
        let (code, out, err) = host.words(&["gc"]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let swept: Value = serde_json::from_str(&out).expect("a document");
        assert_eq!((&swept["removed"], &swept["waiting"]), (&json!([cells[0]["run"]]), &json!([cells[1]["run"]])), "{out}");
        assert_eq!(starts(host, job()).0, Start::Warm);
        host.is_clean();
    });
}

#[test]
fn who_makes_or_takes_cells_may_be_killed_at_any_moment() {
    live(|host| {
        let span: u64 = if in_rig() { 1500 } else { 120 };
        for n in 0..u64::from(rounds(30)) {
            let making = host.start(host.runcell(&["warm", "--count", "3", "--", "true"]));
            pause(n * 7919 % span);
            making.signal(Signal::SIGKILL);
            making.ended();
            let taking = host.job(&json!({"argv": ["sleep", "60"]}));
            pause(n * 104_729 % (span / 4));
            taking.signal(Signal::SIGKILL);
            taking.ended();
            host.note_runs();
        }
        until("nobody owns what is left", || {
            let (code, out, err) = host.words(&["gc"]);
            assert_eq!((code, err.as_str()), (0, ""), "{out}");
            serde_json::from_str::<Value>(&out).expect("a document")["live"] == json!([])
        });
        drain(host);
        host.is_responsive();
    });
}

#[test]
fn a_shape_is_topped_up_once_a_job_is_over() {
    live(|host| {
        let began = |start: &str, words: &[&str]| {
            let (code, out, err) = host.words(words);
            assert!(code == 0 && err.is_empty() && out.contains(&format!("\"start\":\"{start}\"")), "{out}{err}");
        };
        began("cold", &["run", "--json", "--refill=2", "-e", "X=1", "--", "sh", "-c", "exit 0"]);
        until("two wait", || waiting(host).len() == 2);
        host.note_runs();
        began("warm", &["run", "--json", "--refill", "--", "true"]);
        // One is left, which is what was asked for; whoever looked for that has ended.
        let root = host.root().to_string_lossy().into_owned();
        until("nobody makes any", || leftovers::processes().iter().all(|(_, _, line)| !line.contains(&root)));
        assert_eq!(waiting(host).len(), 1);
        drain(host);
        // The same by policy, which a flag overrides.
        host.policy("[warm]\nrefill = 1\n");
        began("cold", &["run", "--json", "--refill=0", "--", "true"]);
        began("cold", &["run", "--json", "--", "true"]);
        until("one waits", || waiting(host).len() == 1);
        until("nobody makes any", || leftovers::processes().iter().all(|(_, _, line)| !line.contains(&root)));
        drain(host);
    });
}

#[test]
fn words_that_make_no_sense_are_refused() {
    live(|host| {
        for words in [["warm", "--count", "0"], ["warm", "--ttl", "0"], ["warm", "--ttl", "8d"], ["warm", "--ttl", "soon"]] {
            let (code, out, _) = host.words(&words);
            assert!(code == 2 && out.contains("\"usage\""), "{words:?}: {code} {out}");
        }
    });
}
