//! Streams: their beginning is kept whole, the limit is exact, and no tail is lost.

use super::gate;
use super::harness::{Host, in_rig, live, pause, rounds};
use super::run::bytes;
use serde_json::{Value, json};
use std::io::Read;
use std::process::Stdio;

fn limited(host: &Host, script: &str, output: u64) -> super::run::Ran {
    host.run(json!({"argv": ["sh", "-c", script], "limits": {"output": output}}))
}

#[test]
fn a_flood_on_stdout_is_stopped() {
    live(|host| {
        let ran = limited(host, "yes", 100_000);
        ran.is("output_limit").holds(r#""stopped_for":"output_limit stdout""#).signal(9);
        let out = &ran.outcome.stdout;
        assert!(out.truncated && out.bytes > 100_000, "{}", ran.outcome.reason);
        assert_eq!(bytes(out), "y\n".repeat(50_000).into_bytes());
        host.is_responsive();
    });
}

#[test]
fn a_flood_on_stderr_alone_is_stopped() {
    live(|host| {
        let ran = limited(host, "echo fine; exec yes >&2", 5_000);
        ran.is("output_limit").holds(r#""stopped_for":"output_limit stderr""#).said("fine\n");
        assert_eq!(bytes(&ran.outcome.stderr), "y\n".repeat(2_500).into_bytes());
    });
}

#[test]
fn the_limit_itself_is_allowed_and_one_byte_more_is_not() {
    live(|host| {
        let exact = limited(host, "head -c 4096 /dev/zero | tr '\\0' x; head -c 4096 /dev/zero | tr '\\0' y >&2", 4096);
        exact.is("ok");
        assert_eq!((exact.outcome.stdout.bytes, exact.outcome.stdout.truncated), (4096, false));
        let more = limited(host, "head -c 4097 /dev/zero | tr '\\0' x", 4096);
        more.is("output_limit");
        assert_eq!((more.outcome.stdout.bytes, more.outcome.stdout.truncated), (4097, true));
    });
}

#[test]
fn a_flood_by_one_that_ignores_everything() {
    live(|host| {
        let flood = "trap '' TERM PIPE INT; (setsid sh -c \"trap '' TERM PIPE; yes\" &); while :; do echo flood; done";
        limited(host, flood, 10_000).is("output_limit");
    });
}

#[test]
fn bytes_that_are_no_text_are_told_exactly() {
    live(|host| {
        let ran = limited(host, r"printf 'a\000b\n'; printf '\377\376' >&2", 100);
        ran.is("ok").said("a\0b\n");
        assert_eq!((bytes(&ran.outcome.stderr), ran.outcome.stderr.text.is_none()), (vec![0xff, 0xfe], true));
        let cut = limited(host, r"printf 'a\303\251'", 2);
        assert_eq!((cut.is("output_limit").stdout(), cut.outcome.stdout.bytes), ("a", 3));
        let hostile = limited(host, r#"printf '\033]52;c;aGk=\007\r\n\\"\342\200\256'"#, 100);
        hostile.is("ok").said("\u{1b}]52;c;aGk=\u{7}\r\n\\\"\u{202e}");
    });
}

#[test]
fn the_streams_can_be_opened_anew_and_are_not_seekable() {
    live(|host| {
        let script = "echo one > /dev/stdout; echo two >> /proc/self/fd/1; echo three | tee /dev/stderr; cat /dev/stdin";
        let ran = limited(host, script, 1000);
        ran.is("ok").said("one\ntwo\nthree\n");
        assert_eq!(ran.stderr(), "three\n");
        host.python("import sys; print(sys.stdout.seekable(), sys.stdin.isatty())").is("ok").said("False False\n");
    });
}

#[test]
fn a_closed_stdout_ends_nothing() {
    live(|host| {
        limited(host, "exec >&- 2>&-; sleep 0.1; exit 5", 1000).is("nonzero").code(5);
    });
}

#[test]
fn a_reader_who_leaves_does_not_hang_the_human_form() {
    live(|host| {
        let mut command = host.runcell(&["run", "-q", "--", "sh", "-c", "seq 40000; exit 4"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("starts");
        let mut some = [0; 10];
        child.stdout.take().expect("piped").read_exact(&mut some).expect("the first lines");
        assert_eq!((&some, child.wait().expect("ends").code()), (b"1\n2\n3\n4\n5\n", Some(4)));
    });
}

#[test]
fn no_tail_is_lost_by_fast_writers() {
    live(|host| {
        let all = rounds(100);
        if all < 100 {
            gate::say(&format!("live: {all} fast writers instead of 100"));
        }
        let script = "head -c 1000001 /dev/zero | tr '\\0' x; head -c 1000001 /dev/zero | tr '\\0' y >&2";
        let job = json!({"argv": ["sh", "-c", script], "limits": {"wall": "60s"}});
        let four: Vec<u32> = (0..all).collect();
        for some in four.chunks(4) {
            let started: Vec<_> = some.iter().map(|_| host.job(&job)).collect();
            for one in started {
                let ran = one.outcome();
                ran.is("ok");
                for (stream, byte) in [(&ran.outcome.stdout, b'x'), (&ran.outcome.stderr, b'y')] {
                    assert_eq!((stream.bytes, stream.truncated), (1_000_001, false));
                    assert!(bytes(stream) == [byte].repeat(1_000_001));
                }
            }
        }
    });
}

/// The highest resident memory so far, in KiB.
fn high_water(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

/// The peak memory of runcell itself with a job. Read while its answer waits in the pipe, when all work is behind it.
fn peak_kib(host: &Host, job: &Value) -> (u64, String) {
    let file = host.file("job.json", job.to_string());
    let mut command = host.runcell(&["run", "--job", &file]);
    command.stdout(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let mut out = child.stdout.take().expect("piped");
    let mut answer = vec![0; 1];
    out.read_exact(&mut answer).expect("an answer");
    let peak = high_water(child.id());
    pause(20);
    out.read_to_end(&mut answer).expect("all of it");
    assert!(child.wait().expect("ends").success());
    (peak, String::from_utf8(answer).expect("UTF-8"))
}

#[test]
fn a_gibibyte_of_output_does_not_grow_us() {
    live(|host| {
        for script in ["head -c 1G /dev/zero", "head -c 1G /dev/zero | tr '\\0' x", "exec head -c 1G /dev/zero >&2"] {
            let (kib, answer) = peak_kib(host, &json!({"argv": ["sh", "-c", script], "limits": {"wall": "200s"}}));
            assert!(answer.contains(r#""verdict":"output_limit""#), "{script}");
            assert!(kib > 1000 && kib < 16 << 10, "{script}: {kib} KiB at most");
        }
    });
}

#[test]
fn a_gibibyte_within_a_pipe_arrives_nowhere_and_costs_us_nothing() {
    live(|host| {
        // All that the program writes is its own business until it comes to us.
        let size = if in_rig() { "64M" } else { "1G" };
        let script = format!("head -c {size} /dev/zero | wc -c; head -c 100000 /dev/zero | tr '\\0' x");
        let (kib, answer) = peak_kib(host, &json!({"argv": ["sh", "-c", script], "limits": {"wall": "200s"}}));
        assert!(answer.contains(r#""verdict":"ok""#) && kib < 16 << 10, "{kib} KiB at most");
    });
}
