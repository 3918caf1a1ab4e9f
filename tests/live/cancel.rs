//! SIGTERM and SIGINT to runcell: the job is cancelled, its partial output kept, one Outcome, exit code 0.

use super::harness::{in_rig, live, pause, rounds, slack, until};
use super::leftovers::asleep;
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::Duration;

#[test]
fn a_running_job_is_cancelled_with_what_it_has_said() {
    live(|host| {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            let script = "echo partial; echo half > f; trap 'echo last; exit 9' TERM; while :; do sleep 0.02; done";
            let started = host.job(&json!({"argv": ["sh", "-c", script], "collect": ["f"], "limits": {"wall": "60s"}}));
            let run = started.run_id();
            until("the job runs", || asleep(&run) && record(host, &run).contains("running"));
            started.signal(signal);
            let ran = started.outcome();
            ran.is("cancelled").said("partial\nlast\n").code(9).holds(r#""stopped_for":"cancelled""#);
            assert_eq!(ran.created("f").content.text.as_deref(), Some("half\n"));
            assert!(ran.wall() < slack(Duration::from_secs(5)));
        }
    });
}

fn record(host: &super::harness::Host, run: &str) -> String {
    std::fs::read_to_string(host.root().join("runs").join(run).join("record.json")).unwrap_or_default()
}

#[test]
fn one_that_ignores_term_is_killed_after_its_grace() {
    live(|host| {
        let script = "trap '' TERM; echo deaf; while :; do sleep 0.02; done";
        let started = host.job(&json!({"argv": ["sh", "-c", script], "limits": {"grace": "300ms", "wall": "60s"}}));
        let run = started.run_id();
        until("the job runs", || asleep(&run) && record(host, &run).contains("running"));
        started.signal(Signal::SIGTERM);
        started.outcome().is("cancelled").said("deaf\n").signal(9);
    });
}

#[test]
fn a_second_signal_is_impatience_and_a_storm_is_no_more_than_that() {
    live(|host| {
        let script = "trap '' TERM; while :; do sleep 0.02; done";
        let mut started = host.job(&json!({"argv": ["sh", "-c", script], "limits": {"grace": "50s", "wall": "60s"}}));
        let run = started.run_id();
        until("the job runs", || asleep(&run) && record(host, &run).contains("running"));
        while !started.is_over() {
            (0..100).for_each(|_| started.signal(Signal::SIGTERM));
            (0..100).for_each(|_| started.signal(Signal::SIGINT));
        }
        let ran = started.outcome();
        ran.is("cancelled").signal(9);
        assert!(ran.wall() < slack(Duration::from_secs(10)), "{}", ran.json);
    });
}

#[test]
fn at_any_moment_there_is_one_answer_and_nothing_left() {
    live(|host| {
        let (all, step) = if in_rig() { (rounds(100), 90) } else { (rounds(40), 4) };
        for n in 0..all {
            let started = host.job(&json!({"argv": ["sleep", "60"], "limits": {"wall": "50s", "grace": "200ms"}}));
            pause(u64::from(n) * step);
            started.signal(Signal::SIGTERM);
            let (host, (code, out, err)) = (started.host, started.ended());
            // Before its first act it may simply die of the signal; then there is nothing.
            if code == 128 + 15 {
                assert_eq!((out.as_str(), err.as_str()), ("", ""));
            } else {
                let outcome: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{code} {e}: {out}{err}"));
                assert_eq!(
                    (code, &outcome["verdict"], &outcome["cleanup"], err.as_str()),
                    (0, &json!("cancelled"), &json!("complete"), ""),
                    "{out}"
                );
                host.runs.borrow_mut().insert(outcome["run"].as_str().expect("a run").to_owned());
            }
            host.is_clean();
        }
    });
}

#[test]
fn people_get_130() {
    live(|host| {
        let started = host.start(host.runcell(&["run", "-q", "--wall", "60s", "--", "sh", "-c", "echo on; exec sleep 60"]));
        until("the program speaks", || started.stdout() == "on\n");
        started.run_id();
        started.signal(Signal::SIGINT);
        assert_eq!(started.ended().0, 130);
    });
}
