//! Programs that cannot be executed: a fact with a reason and a hint, never an exit code.

use super::harness::{Host, live};
use super::run::Ran;
use serde_json::{Value, json};

#[track_caller]
fn not_started(host: &Host, job: Value, errno: &str, reason: &str) -> Ran {
    let ran = host.run(job);
    ran.is("not_started").said("");
    let o = &ran.outcome;
    assert_eq!((o.exit_code, o.signal, o.evidence.errno.as_deref()), (None, None, Some(errno)), "{}", ran.json);
    assert!(o.reason.contains(reason) && (o.hint.is_some() || errno == "ENAMETOOLONG"), "{reason}: {}", ran.json);
    ran
}

#[test]
fn the_five_ways_are_told_apart() {
    live(|host| {
        not_started(host, json!({"argv": ["no-such-program"]}), "ENOENT", "there is no program");
        not_started(host, json!({"argv": ["./main.py"]}), "ENOENT", "there is no program");
        let script =
            |first: &str| json!({"argv": ["./x"], "files": {"x": {"text": format!("{first}\necho hi\n"), "mode": "0755"}}});
        not_started(host, script("#!/opt/no/python -u"), "ENOENT", "/opt/no/python");
        let crlf = not_started(host, script("#!/bin/sh\r"), "ENOENT", "carriage return");
        assert!(crlf.outcome.hint.as_ref().is_some_and(|h| h.contains("CRLF")));
        not_started(host, json!({"argv": ["./x"], "files": {"x": "#!/bin/sh\n"}}), "EACCES", "may not be executed");
        not_started(host, json!({"argv": ["/usr/bin"]}), "EACCES", "is a directory");
        not_started(host, json!({"argv": ["./d"], "files": {"d/x": ""}}), "EACCES", "is a directory");
    });
}

#[test]
fn what_is_no_program_at_all() {
    live(|host| {
        for text in ["", "hello", "\x7fELF"] {
            let job = json!({"argv": ["./x"], "files": {"x": {"text": text, "mode": "0755"}}});
            not_started(host, job, "ENOEXEC", "no format");
        }
        not_started(host, json!({"argv": ["/etc/passwd/x"]}), "ENOENT", "there is no program");
        not_started(host, json!({"argv": ["x".repeat(300)]}), "ENAMETOOLONG", "cannot be executed");
    });
}

#[test]
fn a_binary_whose_loader_is_missing() {
    live(|host| {
        let mut elf = std::fs::read("/usr/bin/true").expect("every Linux has it");
        let loader = b"/lib64/ld-linux-x86-64.so.2";
        let at = elf.windows(loader.len()).position(|w| w == loader).expect("it is dynamic");
        elf[at + 7..at + 9].copy_from_slice(b"no");
        let job = json!({"argv": ["./x"], "files": {"x": {"file": host.file("x", elf), "mode": "0755"}}});
        not_started(host, job, "ENOENT", "loader");
    });
}

#[test]
fn a_working_directory_that_is_not_there() {
    live(|host| {
        not_started(host, json!({"argv": ["true"], "cwd": "/sandbox/no"}), "ENOENT", "working directory");
        not_started(host, json!({"argv": ["true"], "cwd": "/etc/passwd"}), "ENOTDIR", "working directory");
        host.run(json!({"argv": ["pwd"], "cwd": "/sandbox/a", "files": {"a/b": ""}})).is("ok").said("/sandbox/a\n");
    });
}

#[test]
fn files_that_do_not_fit() {
    live(|host| {
        let big = json!({"argv": ["true"], "files": {"x": "x".repeat(3 << 20)}, "limits": {"sandbox": "1MiB"}});
        not_started(host, big, "ENOSPC", "could not be written");
        let many: serde_json::Map<String, Value> = (0..60).map(|n| (format!("f{n}"), json!(""))).collect();
        not_started(host, json!({"argv": ["true"], "files": many, "limits": {"inodes": 50}}), "ENOSPC", "could not be written");
    });
}

#[test]
fn the_search_goes_through_the_jobs_own_path() {
    live(|host| {
        let files = json!({"a/x": "", "b/x": {"text": "#!/bin/sh\necho b\n", "mode": "0755"}});
        let job = |path: &str| json!({"argv": ["x"], "files": files, "env": {"PATH": path}});
        // The first one lacks its execute bit: execvp(3) goes on, and so do we.
        host.run(job("/sandbox/a:/sandbox/b")).is("ok").said("b\n");
        host.run(job("b:a")).is("ok").said("b\n");
        not_started(host, job("/sandbox/a:/no"), "EACCES", "may not be executed");
        not_started(host, job(""), "ENOENT", "there is no program");
    });
}
