//! `runcell bundle`: what it writes, a bare runtime runs.

use super::gate;
use super::harness::{Host, command, live};
use serde_json::{Value, json};
use std::os::unix::fs::symlink;

/// Writes a job's bundle and runs it with the runtime alone: exit code, stdout, stderr.
#[track_caller]
fn bare(host: &Host, name: &str, job: &Value) -> (i32, String, String) {
    let file = host.file(&format!("{name}.json"), job.to_string());
    let out = host.dir(name);
    let (code, said, err) = host.words(&["bundle", "--job", &file, "--out", out.to_str().expect("ours")]);
    assert_eq!((code, err.as_str()), (0, ""), "{said}");
    let written: Value = serde_json::from_str(&said).expect("a document");
    assert_eq!((&written["ids"], &written["first_id"]), (&json!(65_536), &json!(host.first_id())));
    let id = format!("live-{}-{name}", host.first_id());
    host.runs.borrow_mut().insert(id.clone());
    let mut runtime = command(gate::runtime());
    runtime.arg("--root").arg(host.dir("bare")).arg("run").arg("--bundle").arg(&out).arg(&id).stdin(std::process::Stdio::null());
    host.start(runtime).ended()
}

#[test]
fn a_bare_runtime_runs_it_with_the_same_result() {
    live(|host| {
        let script = "cat in; pwd; id -u; hostname; ulimit -n; cat /proc/self/uid_map | tr -s ' '; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; echo made > made; exit 7";
        let job = json!({"argv": ["sh", "-c", script], "files": {"in": "given\n", "d/x": {"text": "", "mode": "0755"}}, "env": {"A": "b"},
            "limits": {"memory": "64MiB", "open_files": 55}});
        let (code, out, err) = bare(host, "plain", &job);
        let first = host.first_id();
        let expected = format!("given\n/sandbox\n1000\ncell\n55\n 0 {first} 65536\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n");
        assert_eq!((code, out.as_str(), err.as_str()), (7, expected.as_str(), ""));
        assert_eq!(std::fs::read(host.dir("plain/sandbox/made")).expect("made"), b"made\n");
        // And runcell itself comes to the same.
        let ran = host.run(job);
        ran.is("nonzero").code(7).said(&expected);
    });
}

#[test]
fn limits_and_filters_are_inside() {
    live(|host| {
        let eater =
            "import os\nprint(os.path.exists('/etc/shadow'), flush=True)\nb = []\nwhile True: b.append(bytearray(1 << 20))";
        let (code, out, _) = bare(host, "eater", &json!({"argv": ["python3", "-c", eater], "limits": {"memory": "40MiB"}}));
        assert_eq!((code, out.as_str()), (137, "False\n"), "the kernel ends it");
        let mount =
            "import ctypes; print(ctypes.CDLL(None, use_errno=True).mount(b'x', b'/tmp', b'tmpfs', 0, None), ctypes.get_errno())";
        assert_eq!(bare(host, "filters", &json!({"argv": ["python3", "-c", mount]})), (0, "-1 1\n".into(), String::new()));
    });
}

#[test]
fn an_image_must_have_what_a_bare_runtime_mounts_over() {
    live(|host| {
        let image = host.dir("image");
        std::fs::create_dir_all(image.join("bin")).expect("made");
        std::fs::copy("/usr/bin/busybox", image.join("bin/busybox")).expect("the gate has looked");
        symlink("busybox", image.join("bin/sh")).expect("made");
        let job = json!({"image": image, "argv": ["/bin/sh", "-c", "echo inside; exit 3"]});
        let file = host.file("image.json", job.to_string());
        let (code, out, _) = host.words(&["bundle", "--job", &file, "--out", host.dir("no").to_str().expect("ours")]);
        assert_eq!((code, out.contains("image:unusable")), (2, true), "{out}");
        for dir in ["proc", "dev", "sandbox", "tmp"] {
            std::fs::create_dir(image.join(dir)).expect("made");
        }
        assert_eq!(bare(host, "image-bundle", &job), (3, "inside\n".into(), String::new()));
    });
}

#[test]
fn a_script_without_a_first_line_is_bashs_where_there_is_one() {
    live(|host| {
        let image = host.dir("image");
        for dir in ["bin", "proc", "dev", "sandbox", "tmp"] {
            std::fs::create_dir_all(image.join(dir)).expect("made");
        }
        std::fs::copy("/usr/bin/busybox", image.join("bin/sh")).expect("the gate has looked");
        let files = json!({"cyber-dojo.sh": "echo \"${BASH_VERSION:+bash} $*\"; exit 4\n"});
        let there = json!({"bundle": "dojo", "files": files});
        let not_there = json!({"bundle": "dojo", "files": files, "image": image});
        host.run(there.clone()).is("nonzero").code(4).said("bash \n");
        host.run(not_there.clone()).is("nonzero").code(4).said(" \n");
        assert_eq!(bare(host, "bash", &there), (4, "bash \n".into(), String::new()));
        assert_eq!(bare(host, "sh", &not_there), (4, " \n".into(), String::new()));
        let own = json!({"bundle": "dojo", "files": files, "image": image, "argv": ["bash", "/sandbox/cyber-dojo.sh"]});
        let lost = |job| {
            let ran = host.run(job);
            assert!(ran.is("not_started").outcome.reason.contains("bash"), "{}", ran.json);
        };
        lost(own);
        std::fs::remove_file(image.join("bin/sh")).expect("ours");
        lost(not_there);
    });
}

#[test]
fn only_into_a_new_or_empty_directory() {
    live(|host| {
        let file = host.file("job.json", json!({"argv": ["true"]}).to_string());
        let out = host.dir("out");
        std::fs::create_dir(&out).expect("made");
        let write = || host.words(&["bundle", "--job", &file, "--out", out.to_str().expect("ours")]);
        assert_eq!(write().0, 0);
        let before = std::fs::read(out.join("config.json")).expect("written");
        let (code, said, _) = write();
        assert_eq!((code, said.contains("not empty")), (2, true), "{said}");
        assert_eq!(std::fs::read(out.join("config.json")).expect("still there"), before);
    });
}
