//! One cell for an avatar's jobs, one after the other: what one leaves the next does not find, and nobody else has it.

use super::batch::{Batch, by_line};
use super::harness::{Host, in_rig, live, unhurried, until};
use super::leftovers;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const WORDS: [&str; 6] = ["--jobs", "1", "--ahead", "0", "--reuse", "same-avatar"];

fn of(name: &str, mut job: Value) -> Value {
    job["avatar"] = json!({"kata": "4kq9Zx2aBc", "name": name});
    job
}

/// Sends jobs one after the other, each after the answer to the one before: so that its cell is free for it.
struct Turns<'h> {
    batch: Batch<'h>,
    sent: u64,
}

impl<'h> Turns<'h> {
    fn new(host: &'h Host) -> Self {
        Self { batch: Batch::new(host, &WORDS), sent: 0 }
    }

    #[track_caller]
    fn run(&mut self, job: Value) -> Value {
        self.batch.send(job);
        self.sent += 1;
        by_line(&self.batch.answered(self.sent as usize), self.sent).clone()
    }

    #[track_caller]
    fn start(&mut self, job: Value) -> String {
        self.run(job)["start"].as_str().expect("a word").to_owned()
    }
}

fn sh(name: &str, script: &str) -> Value {
    of(name, json!({"argv": ["sh", "-c", script]}))
}

#[track_caller]
fn said(answer: &Value) -> String {
    assert_eq!((&answer["verdict"], &answer["cleanup"]), (&json!("ok"), &json!("complete")), "{answer}");
    answer["stdout"]["text"].as_str().expect("text").to_owned()
}

#[test]
fn init_does_not_grow_with_what_it_starts() {
    live(|host| {
        let mut turns = Turns::new(host);
        let env: serde_json::Map<String, Value> = (0..10).map(|n| (format!("V{n}"), json!("x".repeat(10_000)))).collect();
        let mut floor = || {
            let answer = turns.run(of("lion", json!({"argv": ["true"], "env": env})));
            (answer["start"].clone(), answer["usage"]["memory_floor_bytes"].as_u64().expect("a number"))
        };
        (0..3).for_each(|_| drop(floor()));
        let (_, before) = floor();
        for _ in 0..40 {
            assert_eq!(floor().0, "reused");
        }
        let (start, after) = floor();
        assert!(start == "reused" && after < before + (1 << 20), "{before} bytes, and after 40 more programs {after}");
        turns.batch.finish();
    });
}

#[test]
fn an_avatars_jobs_follow_one_another_and_nobody_elses() {
    live(|host| {
        let mut turns = Turns::new(host);
        // When init was started tells cells apart; the kernel gives the numbers of namespaces away again.
        let namespaces = "readlink /proc/self/ns/pid; cat /proc/self/uid_map; cut -d ' ' -f 22 /proc/1/stat";
        let mut seen = Vec::new();
        for name in ["lion", "lion", "bear", "lion", "bear"] {
            let answer = turns.run(sh(name, namespaces));
            seen.push((answer["start"].as_str().expect("a word").to_owned(), said(&answer), answer["run"].clone()));
        }
        // One slot keeps one cell: the bear's ends the lion's, and the other way round.
        let starts: Vec<&str> = seen.iter().map(|(start, ..)| start.as_str()).collect();
        assert_eq!(starts, ["cold", "reused", "cold", "cold", "cold"]);
        assert_eq!(seen[0].1, seen[1].1, "one cell");
        assert!(seen[2..].iter().all(|(_, cell, _)| *cell != seen[0].1), "others: {seen:?}");
        assert_ne!(seen[0].2, seen[1].2, "each is a run of its own");
        // Whatever a cell is made of must be the same, and a file of the host is for a supervisor that has its rights.
        assert_eq!(turns.start(sh("bear", "true")), "reused");
        let mut other = sh("bear", "true");
        other["limits"] = json!({"memory": "100MiB"});
        assert_eq!((turns.start(other.clone()), turns.start(other)), ("cold".into(), "reused".into()));
        let mut reader = sh("bear", "cat f");
        reader["files"] = json!({"f": {"file": host.file("f", "from the host")}});
        assert_eq!((turns.start(sh("bear", "true")), turns.start(reader.clone())), ("cold".into(), "cold".into()));
        assert_eq!(said(&turns.run(reader)), "from the host");
        let writable = of("bear", json!({"argv": ["true"], "writable_root": true}));
        assert_eq!((turns.start(writable.clone()), turns.start(writable)), ("cold".into(), "cold".into()));
        assert_eq!(turns.start(json!({"argv": ["true"]})), "cold", "who is nobody's shares with nobody");
        turns.batch.finish();
    });
}

/// What a job leaves wherever it can.
const LEAVE: &str = r"import os, socket, subprocess, sys, time
for place in ['/sandbox', '/tmp', '/dev/shm', '/more']:
    os.makedirs(f'{place}/closed/deep/er'); open(f'{place}/closed/deep/er/f', 'w').write('secret'); open(f'{place}/.hidden', 'w').write('x')
    os.symlink('/etc', f'{place}/link'); os.mkfifo(f'{place}/fifo'); os.link(f'{place}/.hidden', f'{place}/hard')
    for d in ['closed/deep/er', 'closed/deep', 'closed']: os.chmod(f'{place}/{d}', 0)
    try: os.setxattr(place, 'user.left', b'x' * 100)
    except OSError: pass
    os.chmod(place, 0o500)
s = socket.socket(socket.AF_UNIX); s.bind('\0left'); s.listen()
t = socket.socket(); t.bind(('127.0.0.1', 7007)); t.listen()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(600)
    os._exit(0)
os.wait()
big = bytearray(50 << 20)
end = time.process_time() * 3 + 0.3
while time.process_time() < end: pass
print('left'); sys.stderr.write('and said')
";

/// What the next one looks for.
const LOOK: &str = r"import json, os, socket, sys
told = {p: sorted(os.listdir(p)) for p in ['/sandbox', '/tmp', '/dev/shm', '/more']}
told['modes'] = [oct(os.stat(p).st_mode) for p in ['/sandbox', '/tmp', '/dev/shm', '/more']]
told['pids'] = len([p for p in os.listdir('/proc') if p.isdigit()])
told['attributes'] = sum((os.listxattr(p) for p in ['/sandbox', '/tmp', '/dev/shm', '/more']), [])
try: socket.socket(socket.AF_UNIX).connect('\0left'); told['abstract'] = 'connected'
except OSError as e: told['abstract'] = e.strerror
told['listening'] = len([l for l in open('/proc/net/tcp').readlines()[1:] if l.split()[3] == '0A'])
told['stdin'] = sys.stdin.read()
for p in ['/sandbox', '/tmp', '/dev/shm', '/more']: open(p + '/f', 'w').write('it can be written')
print(json.dumps(told))
";

#[test]
fn what_one_leaves_the_next_does_not_find() {
    live(|host| {
        let mut turns = Turns::new(host);
        let wall = unhurried(20_000); // one for all: a job with other limits gets another cell
        let job = |program: &str, stdin: String| {
            of(
                "lion",
                json!({
                    "argv": ["python3", "-c", program], "stdin": {"text": stdin}, "limits": {"wall": wall},
                    "mounts": [{"target": "/more", "tmpfs": "1MiB"}],
                }),
            )
        };
        let fresh = said(&turns.run(job(LOOK, "mine".into())));
        let whole: Value = serde_json::from_str(&fresh).expect("told");
        assert_eq!((&whole["sandbox"], &whole["pids"], &whole["stdin"]), (&Value::Null, &json!(2), &json!("mine")), "{whole}");
        // As much as no pipe holds, and never read.
        let left = turns.run(job(LEAVE, "old".repeat(700_000)));
        assert_eq!(
            (said(&left).as_str(), &left["stderr"]["text"], &left["start"]),
            ("left\n", &json!("and said"), &json!("reused"))
        );
        let look = turns.run(job(LOOK, "mine".into()));
        assert_eq!((said(&look), &look["start"]), (fresh, &json!("reused")), "{look}");
        assert_eq!(look["stderr"]["bytes"], 0);
        // Counters begin anew: memory, cpu time, and what the kernel has killed.
        let of_both = |what: &str| (left["usage"][what].as_u64().expect("known"), look["usage"][what].as_u64().expect("known"));
        let (memory, cpu) = (of_both("memory_peak_bytes"), of_both("cpu_ns"));
        assert!(memory.0 > 50 << 20 && memory.1 < 40 << 20 && cpu.0 > 290_000_000 && cpu.1 < cpu.0, "{memory:?} {cpu:?}");
        turns.batch.finish();
    });
}

#[test]
fn a_disaster_is_its_cells_last_job() {
    live(|host| {
        let mut turns = Turns::new(host);
        let wall = unhurried(300);
        let limits = json!({"memory": "64MiB", "wall": wall, "grace": "10ms", "output": "64KiB"});
        let fine = |wall: &str| {
            let limits = json!({"memory": "64MiB", "wall": wall, "grace": "10ms", "output": "64KiB"});
            of("lion", json!({"argv": ["true"], "limits": limits}))
        };
        for (argv, verdict) in [
            (json!(["python3", "-c", "x = b'x' * (1 << 30)"]), "memory"),
            (json!(["sleep", "60"]), "wall_time"),
            (json!(["yes"]), "output_limit"),
            (json!(["/no/such/program"]), "not_started"),
        ] {
            let mut one = limits.clone();
            if verdict != "wall_time" {
                one["wall"] = json!(unhurried(10_000));
            }
            let own = one["wall"].as_str().expect("a span").to_owned();
            turns.run(fine(&own));
            let disaster = turns.run(of("lion", json!({"argv": argv, "limits": one})));
            assert_eq!((&disaster["verdict"], &disaster["cleanup"]), (&json!(verdict), &json!("complete")), "{disaster}");
            assert_ne!(turns.start(fine(&own)), "reused", "after {verdict}");
        }
        // A program that fails by itself, or by a signal of its own, is no disaster.
        for script in ["exit 7", "kill -SEGV $$"] {
            turns.run(sh("bear", script));
            assert_eq!(turns.start(sh("bear", "true")), "reused", "{script}");
        }
        turns.batch.finish();
    });
}

/// Of the one cell that there is.
fn supervisor(host: &Host) -> Option<i32> {
    let run = host.note_runs().into_iter().next()?;
    let record: Value =
        serde_json::from_slice(&std::fs::read(host.root().join("runs").join(run).join("record.json")).ok()?).ok()?;
    record["supervisor"]["pid"].as_i64().map(|pid| pid as i32)
}

#[test]
fn whoever_ends_while_it_waits_is_followed_by_another() {
    live(|host| {
        let mut turns = Turns::new(host);
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            turns.run(sh("lion", "true"));
            let pid = Pid::from_raw(supervisor(host).expect("it waits"));
            kill(pid, signal).expect("ours");
            until("it has ended", || supervisor(host) != Some(pid.as_raw()) || kill(pid, None).is_err());
            assert_eq!(turns.start(sh("lion", "true")), "cold", "after {signal}");
        }
        // Killed in the middle of its second job: that one is answered for, and the next has a cell.
        turns.run(sh("lion", "true"));
        turns.batch.send(sh("lion", "sleep 600"));
        turns.sent += 1;
        until("it runs", || {
            leftovers::processes().iter().any(|(_, group, line)| {
                line.starts_with("sleep 600") && host.note_runs().iter().any(|run| group.contains(run.as_str()))
            })
        });
        kill(Pid::from_raw(supervisor(host).expect("it runs")), Signal::SIGKILL).expect("ours");
        let answer = by_line(&turns.batch.answered(turns.sent as usize), turns.sent).clone();
        assert_eq!(answer["verdict"], "host_error", "{answer}");
        assert_eq!(turns.start(sh("lion", "true")), "cold");
        turns.batch.finish();
    });
}

#[test]
fn cells_that_wait_give_way_where_ids_are_few() {
    live(|host| {
        host.few_slots(2);
        let mut batch = Batch::new(host, &["--jobs", "2", "--ahead", "2", "--reuse", "same-avatar"]);
        let names = ["lion", "bear", "owl", "fox", "lion", "lion", "owl", "bear"];
        for name in names {
            batch.send(sh(name, "echo here"));
        }
        let all = batch.finish();
        assert_eq!(all.len(), names.len());
        assert!(all.iter().all(|answer| said(answer) == "here\n"), "{all:?}");
    });
}

#[test]
fn cancelled_ones_and_a_crowd_are_all_answered() {
    live(|host| {
        let mut batch = Batch::new(host, &["--jobs", "2", "--ahead", "2", "--reuse", "same-avatar"]);
        let count: usize = if in_rig() { 12 } else { 120 };
        for n in 0..count {
            let mut job = sh(["lion", "bear", "owl"][n / 3 % 3], "echo $((6 * 7)); exit 3");
            job["id"] = json!(format!("j{n}"));
            batch.send(job);
            if n % 5 == 4 {
                batch.send(json!({"cancel": format!("j{n}")}));
            }
        }
        let all = batch.finish();
        let outcomes: Vec<&Value> = all.iter().filter(|a| a["verdict"].is_string()).collect();
        let ids: std::collections::BTreeSet<_> = outcomes.iter().map(|a| a["id"].as_str().expect("an id")).collect();
        assert_eq!((outcomes.len(), ids.len()), (count, count));
        for answer in &outcomes {
            let fine = answer["verdict"] == "nonzero" && answer["stdout"]["text"] == "42\n" && answer["exit_code"] == 3;
            assert!(fine || answer["verdict"] == "cancelled", "{answer}");
            assert_eq!(answer["cleanup"], "complete", "{answer}");
        }
        assert!(outcomes.iter().any(|a| a["start"] == "reused"), "{outcomes:?}");
    });
}

#[test]
fn measuring_and_reusing_exclude_each_other() {
    live(|host| {
        let (code, out, _) = host.words(&["batch", "--reuse", "same-avatar", "--pin", "/dev/null"]);
        assert!(code == 2 && out.contains("cannot be used with '--pin"), "{code} {out}");
    });
}
