//! What the program reads: text, bytes, files, nothing; much of it, or none of it wanted.

use super::harness::{command, live, on_the_host};
use serde_json::{Value, json};
use std::io::Write;
use std::process::Stdio;

#[test]
fn every_spelling_arrives_byte_by_byte() {
    on_the_host(|host| {
        let odd = "a\0b\r\n\u{1b}é\"'\\";
        let cat = |stdin: Value| json!({"argv": ["cat"], "stdin": stdin});
        host.run(cat(json!({"text": odd}))).is("ok").said(odd);
        host.run(cat(json!("plain"))).is("ok").said("plain");
        host.run(cat(json!(""))).is("ok").said("");
        host.run(cat(json!({"base64": "YQBi"}))).is("ok").said("a\0b");
        host.run(cat(json!({"file": host.file("in", odd)}))).is("ok").said(odd);
        host.run(cat(json!({"file": host.file("none", "")}))).is("ok").said("");
    });
}

#[test]
fn without_one_there_is_nothing_to_read() {
    live(|host| {
        let script = "cat; cat /dev/stdin; cat /proc/self/fd/0; cat < /dev/stdin; wc -c < /dev/null";
        host.sh(script).is("ok").said("0\n");
        host.run(json!({"argv": ["sh", "-c", "cat /dev/stdin"], "stdin": "named"})).is("ok").said("named");
    });
}

#[test]
fn much_of_it_arrives_whole() {
    on_the_host(|host| {
        let big = "0123456789abcdef\n".repeat(300_000);
        let (size, sum) = (big.len(), format!("{}\n", big.len()));
        assert!(size > 1 << 20, "more than a pipe holds");
        let argv = json!(["wc", "-c"]);
        host.run(json!({"argv": argv, "stdin": {"text": big}})).is("ok").said(&sum);
        host.run(json!({"argv": argv, "stdin": {"file": host.file("big", &big)}})).is("ok").said(&sum);
        // A slow reader gets it as well.
        let slow = "sleep 0.3; head -c 100000 | wc -c; sleep 0.3; wc -c";
        let ran = host.run(json!({"argv": ["sh", "-c", slow], "stdin": {"text": big}}));
        ran.is("ok").said(&format!("100000\n{}\n", size - 100_000));
        let echo = host.run(json!({"argv": ["cat"], "stdin": {"text": big}, "limits": {"output": "6MB"}}));
        assert!(echo.is("ok").stdout() == big);
    });
}

#[test]
fn one_that_is_never_read_or_closed_early_hurts_nobody() {
    live(|host| {
        let big = "x".repeat(5_000_000);
        let job = |script: &str| json!({"argv": ["sh", "-c", script], "stdin": {"text": big}});
        host.run(job("true")).is("ok");
        host.run(job("sleep 0.3; exit 3")).is("nonzero");
        host.run(job("head -c 10; exec <&-; sleep 0.3; echo on")).is("ok").said("xxxxxxxxxxon\n");
        host.run(job("head -c 3 /proc/self/fd/0")).is("ok").said("xxx");
        host.run(json!({"argv": ["sleep", "60"], "stdin": {"text": big}, "limits": {"wall": "300ms"}})).is("wall_time");
    });
}

#[test]
fn people_type_into_it() {
    on_the_host(|host| {
        let mut run = host.runcell(&["run", "-q", "--", "sh", "-c", "cat; echo end"]);
        run.stdin(Stdio::piped());
        let mut started = host.start(run);
        let mut pipe = started.child.stdin.take().expect("piped");
        pipe.write_all(b"typed\n").expect("read");
        drop(pipe);
        assert_eq!(started.ended(), (0, "typed\nend\n".into(), String::new()));
        let none = host.start(host.runcell(&["run", "-q", "--stdin", "none", "--", "cat"])).ended();
        assert_eq!(none, (0, String::new(), String::new()));
        let file = host.file("in", "from a file");
        assert_eq!(host.words(&["run", "-q", "--stdin", &file, "--", "cat"]).1, "from a file");
    });
}

#[test]
fn an_open_stdin_that_says_nothing_delays_no_end() {
    live(|host| {
        let mut run = host.runcell(&["run", "-q", "--", "sh", "-c", "echo done; exit 3"]);
        run.stdin(Stdio::piped());
        let mut started = host.start(run);
        let held = started.child.stdin.take();
        assert_eq!(started.ended(), (3, "done\n".into(), String::new()));
        drop(held);
    });
}

#[test]
fn a_job_that_comes_by_stdin_is_not_its_programs_stdin() {
    live(|host| {
        let mut run = host.runcell(&["run", "--job", "-"]);
        run.stdin(Stdio::piped());
        let mut started = host.start(run);
        let job = json!({"argv": ["cat"], "stdin": "inner"}).to_string();
        started.child.stdin.take().expect("piped").write_all(job.as_bytes()).expect("read");
        started.outcome().is("ok").said("inner");
        let mut piped = command("/bin/sh");
        let ours = host.runcell(&["run", "--job", "-"]);
        piped.args(["-c", "echo '{\"argv\":[\"cat\"]}' | \"$0\" \"$@\""]).arg(ours.get_program()).args(ours.get_args());
        host.start(piped).outcome().is("ok").said("");
    });
}
