//! Cores of a program's own: nobody else's, and no others.

use super::harness::{Host, live, until};
use super::run::{Ran, Started};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

const WHERE: &str = "import os; print(sorted(os.sched_getaffinity(0)))";

fn cpus() -> usize {
    std::thread::available_parallelism().expect("linux").get()
}

fn pinned<'h>(host: &'h Host, words: &[&str], job: &Value) -> Started<'h> {
    let file = host.file(&format!("pinned-{}.json", host.runs.borrow().len()), job.to_string());
    host.start(host.runcell(&[&["run", "--job", &file, "--pin"], words].concat()))
}

fn cores(ran: &Ran) -> BTreeSet<u32> {
    ran.outcome.cores.iter().flatten().copied().collect()
}

#[test]
fn a_program_is_kept_to_its_cores() {
    live(|host| {
        let leave = "import os\ntry: os.sched_setaffinity(0, range(1024))\nexcept OSError: pass\n";
        let ran = pinned(host, &[], &json!({"argv": ["python3", "-c", format!("{leave}{WHERE}")], "limits": {"wall": "100s"}}))
            .outcome();
        let held = host.words(&["doctor", "--json"]).1.contains("controller_cpuset\",\"state\":\"ok");
        let told: Vec<u32> = serde_json::from_value(ran.told()).expect("numbers");
        assert!(!told.is_empty() && cores(&ran).is_subset(&told.iter().copied().collect()), "{}", ran.json);
        assert!(!held || cores(&ran) == told.into_iter().collect(), "{}", ran.json);
        let quality = ran.outcome.quality.as_ref().expect("it was looked at");
        assert!(quality.stolen_ns.is_some(), "{}", ran.json);
        let ran = host.run(json!({"argv": ["python3", "-c", WHERE], "limits": {"wall": "100s"}}));
        assert_eq!((ran.told().as_array().map(Vec::len), &ran.outcome.cores), (Some(cpus()), &None));
    });
}

#[test]
fn no_core_is_leased_twice() {
    live(|host| {
        let job = json!({"argv": ["sleep", "100"], "limits": {"wall": "200s", "grace": "10ms"}});
        let leased = || std::fs::read_dir(host.root().join("cores")).into_iter().flatten().count();
        let mut started = Vec::new();
        // Siblings go with their core: there may be fewer cores than cpus.
        let refused = loop {
            let one = pinned(host, &["--cores", "1"], &job);
            let out = one.out.clone();
            let before = started.len();
            started.push(one);
            let ended = |started: &mut Vec<Started<'_>>| started.last_mut().is_some_and(Started::is_over);
            let running = || crate::leftovers::processes().iter().filter(|(_, _, line)| line == "sleep 100 ").count() > before;
            let cell = std::cell::RefCell::new(&mut started);
            until("it runs or is refused", || ended(&mut cell.borrow_mut()) || (running() && leased() > before));
            if ended(&mut started) {
                break out;
            }
            assert!(started.len() <= cpus(), "more than there are");
        };
        let text = std::fs::read_to_string(&refused).expect("its answer");
        assert!(text.contains("cores:busy"), "{text}");
        assert_eq!(started.pop().map(|one| one.ended().0), Some(3));
        started.iter().for_each(|one| one.signal(Signal::SIGTERM));
        let ran: Vec<Ran> = started.into_iter().map(Started::outcome).collect();
        let all: Vec<u32> = ran.iter().flat_map(cores).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
        pinned(host, &[], &json!({"argv": ["true"]})).outcome().is("ok");
    });
}

#[test]
fn slots_of_a_batch_have_cores_each() {
    live(|host| {
        let cores = cpus().min(2);
        let line =
            json!({"argv": ["python3", "-c", format!("import time; time.sleep(0.3); {WHERE}")], "limits": {"wall": "100s"}});
        let jobs = host.file("jobs.jsonl", format!("{line}\n").repeat(2 * cores));
        let (code, out, err) = host.words(&["batch", &jobs, "--jobs", &cores.to_string(), "--pin=exclusive"]);
        if code == 3 {
            return assert!(out.contains("cores:busy"), "{out}"); // two cpus of one core
        }
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let answers: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("a document")).collect();
        let used: BTreeSet<String> = answers.iter().map(|a| a["cores"].to_string()).collect();
        assert_eq!((answers.len(), used.len()), (2 * cores, cores), "{out}");
        assert!(answers.iter().all(|a| a["cores"].as_array().map(Vec::len) == Some(1) && a["verdict"] == "ok"), "{out}");
    });
}

#[test]
fn wishes_that_exclude_each_other_are_refused() {
    live(|host| {
        let (code, out, _) = pinned(host, &[], &json!({"argv": ["true"], "limits": {"cpuset": "0"}})).ended();
        assert!(code == 2 && out.contains("cores:cpuset"), "{out}");
        let (code, out, _) = host.words(&["run", "--json", "--pin", "--cores", "9999", "--", "true"]);
        assert!(code == 3 && out.contains("cores:busy"), "{out}");
        let (code, out, _) = host.words(&["run", "--json", "--pin", "--cores", "0", "--", "true"]);
        assert!(code == 2 && out.contains("usage"), "{out}");
        assert!(Path::new(&host.root()).exists());
    });
}
