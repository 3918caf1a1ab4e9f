//! The death of runcell itself: the cell dies by its lifeline, and gc finds all that is left.

use super::gate;
use super::harness::{Host, in_rig, live, pause, rounds, slack, until};
use super::leftovers;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// gc, twice: it succeeds, and the second time there is nothing to do.
#[track_caller]
fn gc_leaves_nothing(host: &Host) {
    host.note_runs();
    // Helpers of a killed supervisor die of its lifeline too, and hold its lease until then.
    until("nobody owns a dead run", || {
        let (code, out, err) = host.words(&["gc"]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let swept: Value = serde_json::from_str(&out).expect("a document");
        assert_eq!(swept["failed"], json!([]), "{out}");
        swept["live"] == json!([])
    });
    host.is_clean();
    let (code, out, _) = host.words(&["gc"]);
    let swept: Value = serde_json::from_str(&out).expect("a document");
    assert_eq!((code, &swept["removed"], &swept["live"], &swept["failed"]), (0, &json!([]), &json!([]), &json!([])), "{out}");
    host.is_clean();
}

fn processes_of(run: &str) -> usize {
    leftovers::processes().iter().filter(|(_, cgroup, _)| cgroup.contains(run)).count()
}

#[test]
fn a_cell_dies_with_its_supervisor() {
    live(|host| {
        let script =
            "trap '' TERM HUP; for n in 1 2 3; do setsid sh -c 'while :; do sleep 1; done' & done; echo up; while :; do :; done";
        for _ in 0..3 {
            let started = host.job(&json!({"argv": ["sh", "-c", script], "limits": {"wall": "100s"}}));
            let run = started.run_id();
            until("the cell is full", || processes_of(&run) >= 8);
            let died = Instant::now();
            started.signal(Signal::SIGKILL);
            until("the cell is dead", || processes_of(&run) == 0);
            let took = died.elapsed();
            assert!(took < slack(Duration::from_millis(100)), "{took:?}");
            assert_eq!(started.ended().0, 128 + 9);
            gc_leaves_nothing(host);
        }
        host.is_responsive();
    });
}

#[test]
fn killed_at_any_moment_it_leaves_nothing_that_gc_does_not_find() {
    live(|host| {
        let all = rounds(100);
        let span: u64 = if in_rig() { 1500 } else { 220 };
        let job = json!({"argv": ["sh", "-c", "echo x > f; sleep 0.05; (setsid sleep 60 &); sleep 60"], "collect": ["**"],
            "files": {"in": "x".repeat(100_000)}, "stdin": "y", "limits": {"wall": if in_rig() { "700ms" } else { "80ms" }, "grace": "10ms"}});
        for n in 0..u64::from(all) {
            let started = host.job(&job);
            pause(n * 7919 % span);
            started.signal(Signal::SIGKILL);
            let host = started.host;
            started.ended();
            // At once, after a while, or only by the next run in passing.
            match n % 3 {
                0 => gc_leaves_nothing(host),
                1 => {
                    pause(30);
                    gc_leaves_nothing(host);
                }
                _ => drop(host.note_runs()),
            }
        }
        gc_leaves_nothing(host);
        gate::say(&format!("live: killed runcell at {all} moments"));
        host.is_responsive();
    });
}

#[test]
fn a_whole_group_of_supervisors_may_die_at_once() {
    live(|host| {
        let all = if in_rig() { 3 } else { 8 };
        let job = json!({"argv": ["sleep", "60"], "limits": {"wall": "100s"}});
        let started: Vec<_> = (0..all).map(|_| host.job(&job)).collect();
        pause(if in_rig() { 900 } else { 120 });
        started.iter().for_each(|s| s.signal(Signal::SIGKILL));
        started.into_iter().for_each(|s| drop(s.ended()));
        let gcs: Vec<_> = (0..3).map(|_| host.start(host.runcell(&["gc"]))).collect();
        for gc in gcs {
            let (code, out, err) = gc.ended();
            assert_eq!(code, 0, "{out}{err}");
        }
        gc_leaves_nothing(host);
    });
}

#[test]
fn the_next_run_cleans_up_in_passing_and_takes_the_ids_again() {
    live(|host| {
        host.policy("");
        for _ in 0..3 {
            let started = host.job(&json!({"argv": ["sleep", "60"], "limits": {"wall": "100s"}}));
            let run = started.run_id();
            until("the job runs", || processes_of(&run) >= 2);
            started.signal(Signal::SIGKILL);
            started.ended();
            until("the cell is dead", || processes_of(&run) == 0);
            let next = host.sh("cat /proc/self/uid_map");
            assert!(
                next.is("ok").stdout().contains(&host.first_id().to_string()),
                "the first range is free again: {}",
                next.stdout()
            );
            host.is_clean();
        }
    });
}
