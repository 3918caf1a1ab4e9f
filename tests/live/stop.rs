//! The wall-clock limit against programs that do not want to end.

use super::harness::{Host, live, slack, unhurried};
use super::run::Ran;
use serde_json::json;
use std::time::Duration;

/// A job that must be stopped at its limit of 500 ms, whatever it does with its grace of 300 ms.
#[track_caller]
fn stopped(host: &Host, argv: &[&str]) -> Ran {
    let limits = json!({"wall": unhurried(500), "grace": unhurried(300), "output": "4MiB"});
    let ran = host.run(json!({"argv": argv, "limits": limits}));
    ran.is("wall_time").holds(r#""stopped_for":"wall_time""#);
    let (wall, limits) = (ran.wall(), &ran.outcome.limits);
    let most = slack(limits.wall.duration() + limits.grace.duration());
    assert!(wall >= limits.wall.duration() && wall < most, "{wall:?}: {}", ran.json);
    host.is_responsive();
    ran
}

fn grace_was_used_up(ran: &Ran) {
    let limits = &ran.outcome.limits;
    assert!(ran.wall() + Duration::from_millis(10) >= limits.wall.duration() + limits.grace.duration(), "{}", ran.json);
    ran.signal(9);
}

#[test]
fn a_quiet_loop() {
    live(|host| {
        stopped(host, &["sh", "-c", "while :; do :; done"]).signal(15).said("");
    });
}

#[test]
fn a_sleeper() {
    live(|host| {
        stopped(host, &["sleep", "60"]).signal(15);
    });
}

#[test]
fn a_loud_loop_keeps_what_it_said() {
    live(|host| {
        let ran = stopped(host, &["sh", "-c", "n=0; while :; do n=$((n+1)); echo line $n; echo no >&2; sleep 0.02; done"]);
        assert!(ran.stdout().starts_with("line 1\nline 2\n") && ran.stderr().starts_with("no\nno\n"), "{}", ran.json);
        assert!(!ran.outcome.stdout.truncated);
    });
}

#[test]
fn one_that_ignores_term_is_killed_after_its_grace() {
    live(|host| {
        grace_was_used_up(&stopped(host, &["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 0.05; done"]));
    });
}

#[test]
fn one_that_blocks_every_signal() {
    live(|host| {
        let program = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass";
        grace_was_used_up(&stopped(host, &["python3", "-c", program]));
    });
}

#[test]
fn one_that_stops_itself() {
    live(|host| {
        stopped(host, &["sh", "-c", "echo before; kill -STOP $$; echo after"]).said("before\n");
        stopped(host, &["sh", "-c", "trap '' TERM; (while :; do kill -STOP -$$; done) & kill -STOP -$$; sleep 60"]);
    });
}

#[test]
fn forty_children_in_sessions_of_their_own() {
    live(|host| {
        let script = "for n in $(seq 40); do setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 1; done' & done; wait";
        stopped(host, &["sh", "-c", script]);
    });
}

#[test]
fn a_daemon_that_holds_stdout() {
    live(|host| {
        stopped(host, &["sh", "-c", "(setsid sh -c 'sleep 60' &) ; echo main; sleep 60"]).said("main\n");
        // And where the main process has ended, nobody waits for it at all.
        let ran = host.run(json!({"argv": ["sh", "-c", "(setsid sh -c 'trap \"\" TERM; sleep 60' &) ; echo main"]}));
        ran.is("ok").said("main\n");
        assert!(ran.wall() < Duration::from_secs(9), "{}", ran.json);
    });
}

#[test]
fn a_last_word_within_the_grace_is_kept() {
    live(|host| {
        let ran = stopped(host, &["sh", "-c", "trap 'echo last; exit 3' TERM; while :; do sleep 0.02; done"]);
        ran.said("last\n").code(3);
        let program = "import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (sys.stdout.write('x' * 300000), sys.stdout.flush(), sys.exit(0)))
while True: time.sleep(1)";
        let ran = stopped(host, &["python3", "-c", program]);
        assert_eq!((ran.code(0).outcome.stdout.bytes, ran.outcome.stdout.truncated), (300_000, false));
    });
}

#[test]
fn files_are_kept_too() {
    live(|host| {
        let script = "echo half > result; sleep 60";
        let ran = host.run(json!({"argv": ["sh", "-c", script], "collect": ["**"], "limits": {"wall": unhurried(400)}}));
        ran.is("wall_time");
        assert_eq!(ran.created("result").content.text.as_deref(), Some("half\n"));
    });
}

#[test]
fn without_grace_there_is_none() {
    live(|host| {
        let job = json!({"argv": ["sh", "-c", "trap 'echo last' TERM; while :; do :; done"], "limits": {"wall": unhurried(300), "grace": 0}});
        host.run(job).is("wall_time").said("").signal(9);
    });
}

#[test]
fn one_that_floods_its_grace_is_ended_at_once() {
    live(|host| {
        let program = "trap 'exec yes' TERM; while :; do sleep 0.05; done";
        let ran = host.run(json!({"argv": ["sh", "-c", program], "limits": {"wall": unhurried(300), "grace": "60s"}}));
        ran.is("output_limit").holds(r#""stopped_for":"wall_time""#);
        assert!(ran.wall() < slack(ran.outcome.limits.wall.duration() + Duration::from_secs(1)), "{}", ran.json);
    });
}

#[test]
fn a_limit_of_a_millisecond_is_a_limit() {
    live(|host| {
        host.run(json!({"argv": ["sleep", "60"], "limits": {"wall": "1ms", "grace": 0}})).is("wall_time");
    });
}
