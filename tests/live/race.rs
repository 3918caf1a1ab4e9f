//! Programs that end by themselves just when their time is up: one verdict, whichever, and no hang.

use super::gate;
use super::harness::{live, rounds};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_natural_end_races_the_deadline() {
    live(|host| {
        // Where this machine's own `sleep 0.05` ends: that is where the deadline goes.
        let nap = |ms: u64| json!({"argv": ["sh", "-c", format!("echo begun; exec sleep {}", ms as f64 / 1e3)]});
        let walls: Vec<Duration> = (0..5).map(|_| host.run(nap(50)).wall()).collect();
        let usual = walls.iter().min().expect("five").as_millis() as u64;
        let (all, mut naturally) = (rounds(200), 0);
        for pair in (0..all).collect::<Vec<_>>().chunks(2) {
            let started: Vec<_> = pair
                .iter()
                .map(|n| {
                    let mut job = nap(40 + u64::from(n * 7 % 20));
                    job["limits"] = json!({"wall": format!("{usual}ms"), "grace": if n % 3 == 0 { "0s" } else { "1s" }});
                    job["collect"] = if n % 2 == 0 { json!(["**"]) } else { json!([]) };
                    host.job(&job)
                })
                .collect();
            for one in started {
                let ran = one.outcome();
                assert!(["ok", "wall_time"].contains(&&*ran.verdict()), "{}", ran.json);
                // However it ended, how is known: nobody else was there to end it.
                let o = &ran.outcome;
                assert!(o.exit_code == Some(0) || (ran.verdict() == "wall_time" && o.signal.is_some()), "{}", ran.json);
                // A program that was given less time than it needs for its first word has said nothing, or all of it.
                assert!(ran.stdout() == "begun\n" || (ran.verdict() == "wall_time" && ran.stdout().is_empty()), "{}", ran.json);
                naturally += u32::from(ran.verdict() == "ok");
            }
        }
        gate::say(&format!("live: {all} races against the deadline, {naturally} ended naturally"));
        host.is_responsive();
    });
}

#[test]
fn a_natural_end_races_a_cancellation() {
    live(|host| {
        for n in 0..rounds(40) {
            let started = host.job(&json!({"argv": ["sh", "-c", "echo begun; sleep 0.03"], "collect": ["**"]}));
            super::harness::pause(u64::from(n) * 5);
            started.signal(nix::sys::signal::Signal::SIGTERM);
            let (host, (code, out, err)) = (started.host, started.ended());
            if code == 128 + 15 {
                continue; // before its first act, or after its last word
            }
            let outcome: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{code} {e}: {out}{err}"));
            let verdict = outcome["verdict"].as_str().expect("a word");
            assert!(code == 0 && ["ok", "cancelled"].contains(&verdict), "{out}");
            host.runs.borrow_mut().insert(outcome["run"].as_str().expect("a run").to_owned());
        }
    });
}

#[test]
fn memory_and_time_end_together_under_one_name() {
    live(|host| {
        let eater = "b = []\nwhile True: b.append(bytearray(1 << 20))";
        for n in 0..rounds(20) {
            let limits = json!({"memory": "40MiB", "wall": format!("{}ms", 20 + n * 3), "cpu": format!("{}ms", 20 + n * 3), "grace": "100ms"});
            let ran = host.run(json!({"argv": ["python3", "-c", eater], "limits": limits}));
            assert!(["memory", "cpu_time", "wall_time"].contains(&&*ran.verdict()), "{}", ran.json);
            assert!(ran.verdict() == "memory" || ran.outcome.usage.oom_kills == Some(0), "the kernel's count wins: {}", ran.json);
        }
    });
}
