//! How a program's own end is told: exit codes and signals, apart, and nothing read into them.

use super::harness::{in_rig, live};
use serde_json::json;

#[test]
fn a_program_that_exits_with_0_is_ok() {
    live(|host| {
        let ran = host.run(json!({"id": "r-17", "argv": ["echo", "hello"], "labels": {"submission": "918"}}));
        ran.is("ok").code(0).said("hello\n").holds(r#""id":"r-17""#).holds(r#""labels":{"submission":"918"}"#);
        assert_eq!((ran.outcome.version, ran.stderr()), (1, ""));
    });
}

#[test]
fn every_other_code_is_nonzero_even_137_and_124() {
    live(|host| {
        let codes = [137, 124, 255, 1, 2, 7, 126, 127, 130];
        for code in &codes[..if in_rig() { 3 } else { codes.len() }] {
            host.sh(&format!("echo Killed >&2; exit {code}")).is("nonzero").code(*code);
        }
    });
}

#[test]
fn a_signal_is_a_signal_and_never_a_limit() {
    live(|host| {
        for (name, number) in [("SEGV", 11), ("KILL", 9), ("TERM", 15), ("ABRT", 6), ("XCPU", 24), ("INT", 2), ("HUP", 1)] {
            let ran = host.sh(&format!("kill -{name} $$; sleep 60"));
            ran.is("signaled").signal(number).holds(&format!(r#""signal_name":"SIG{name}""#));
            assert_eq!((ran.outcome.evidence.stopped_for.as_deref(), ran.outcome.usage.oom_kills), (None, Some(0)));
        }
    });
}

#[test]
fn a_real_fault_ends_a_program_and_leaves_no_core() {
    live(|host| {
        let crash = "import ctypes, resource; print(resource.getrlimit(resource.RLIMIT_CORE), flush=True); ctypes.string_at(0)";
        let ran = host.run(json!({"argv": ["python3", "-c", crash], "collect": ["**"]}));
        ran.is("signaled").signal(11).said("(1, 1)\n");
        assert!(ran.outcome.files.created.is_empty(), "{}", ran.json);
    });
}

#[test]
fn only_the_main_process_speaks_for_the_job() {
    live(|host| {
        host.sh("sh -c 'kill -9 $$'; sh -c 'exit 3'; exit 0").is("ok");
        host.sh("(exit 9) & wait $!; exit 4").is("nonzero").code(4);
        // A sibling made by clone(CLONE_PARENT) becomes init's own child; its end is not the program's.
        let stranger = "import ctypes, os, signal, time
pid = ctypes.CDLL(None, use_errno=True).syscall(56, 0x8000 | signal.SIGCHLD, 0, 0, 0, 0)
if pid == 0: os._exit(77)
time.sleep(0.3)
os._exit(5)";
        host.python(stranger).is("nonzero").code(5);
    });
}

#[test]
fn people_get_the_programs_own_code_and_streams() {
    live(|host| {
        let human = |words: &[&str]| host.words(&[&["run", "-q"], words].concat());
        assert_eq!(human(&["--", "sh", "-c", "echo hi; echo no >&2; exit 7"]), (7, "hi\n".into(), "no\n".into()));
        assert_eq!(human(&["--", "sh", "-c", "kill -SEGV $$"]).0, 139);
        assert_eq!(human(&["--wall", "200ms", "--", "sleep", "60"]).0, 124);
        assert_eq!(human(&["--", "no-such-program"]).0, 127);
        assert_eq!(human(&["--", "/usr"]).0, 126);
        assert_eq!(human(&["--memory", "32MiB", "--", "python3", "-c", "b = bytearray(1 << 28)"]).0, 137);
        assert_eq!(human(&["--output", "10", "--", "yes"]).0, 153, "as a shell tells of SIGXFSZ");
        assert_eq!(human(&["--wall", "0s", "--", "true"]).0, 125);
        let (code, out, err) = host.words(&["run", "--", "sh", "-c", "exit 3"]);
        assert_eq!((code, out.as_str(), err.lines().count()), (3, "", 1), "one line of summary: {err}");
        assert!(err.starts_with("runcell: nonzero: the program exited with code 3; wall "), "{err}");
    });
}
