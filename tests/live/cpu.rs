//! CPU time is the cell's: one thread, many, and those that have ended.

use super::harness::{Host, live, slack, unhurried, unhurried_millis};
use super::run::Ran;
use serde_json::json;
use std::time::Duration;

const BURN: &str = "import threading, os, sys
def burn():
    while True: pass
";

/// A job that must be stopped when the cell has used 300 ms of CPU.
#[track_caller]
fn spent(host: &Host, argv: &[&str]) -> Ran {
    spent_all(host, 300, argv)
}

/// The same of another limit, for a program that has something to do first.
#[track_caller]
fn spent_all(host: &Host, millis: u64, argv: &[&str]) -> Ran {
    let ran = host.run(json!({"argv": argv, "limits": {"cpu": format!("{millis}ms"), "wall": "60s"}}));
    ran.is("cpu_time").holds(r#""stopped_for":"cpu_time""#).signal(9);
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    // 50 ms of each busy core, and what a loaded machine adds.
    let limit = Duration::from_millis(millis);
    let most = slack(limit + cores * Duration::from_millis(50));
    let cpu = ran.cpu();
    assert!(cpu >= limit && cpu < most, "{cpu:?}: {}", ran.json);
    ran
}

#[test]
fn one_thread() {
    live(|host| {
        spent(host, &["sh", "-c", "while :; do :; done"]);
    });
}

#[test]
fn many_processes() {
    live(|host| {
        spent(host, &["sh", "-c", "for n in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; wait"]);
    });
}

#[test]
fn many_threads_and_a_main_thread_that_is_gone() {
    live(|host| {
        let program = format!("{BURN}[threading.Thread(target=burn).start() for _ in range(16)]\n");
        spent(host, &["python3", "-c", &program]);
    });
}

#[test]
fn many_short_lives_add_up() {
    live(|host| {
        spent(host, &["sh", "-c", "while :; do /bin/true; done"]);
    });
}

#[test]
fn a_daemon_burns_for_its_parent() {
    live(|host| {
        spent(host, &["sh", "-c", "(setsid sh -c 'while :; do :; done' &); sleep 50"]);
    });
}

#[test]
fn a_deaf_program_gets_no_grace() {
    live(|host| {
        let ran = spent_all(host, unhurried_millis(300), &["sh", "-c", "trap '' TERM; echo deaf; while :; do :; done"]);
        ran.said("deaf\n");
        assert!(ran.wall() < Duration::from_secs(30), "{}", ran.json);
    });
}

#[test]
fn a_sleeper_uses_none_and_meets_the_wall() {
    live(|host| {
        host.run(json!({"argv": ["sleep", "60"], "limits": {"cpu": unhurried(300), "wall": unhurried(600)}})).is("wall_time");
        let ran = host.run(json!({"argv": ["true"], "limits": {"cpu": "2s"}}));
        assert!(ran.is("ok").cpu() < Duration::from_secs(1), "{}", ran.json);
    });
}

#[test]
fn half_a_core_is_held_back() {
    live(|host| {
        let burn = "import time; end = time.monotonic() + 1\nwhile time.monotonic() < end: pass";
        let ran = host.run(json!({"argv": ["python3", "-c", burn], "limits": {"cpus": 0.25}}));
        ran.is("ok");
        assert!(ran.cpu() < ran.wall().mul_f64(0.4) + Duration::from_millis(100), "{}", ran.json);
        assert!(ran.outcome.usage.throttled_ns.is_some_and(|n| n > 100_000_000), "{}", ran.json);
    });
}
