//! Documents and their schemas: what the one accepts the other must, so that a caller who checks before sending is told the truth.

use crate::schema::ours;
use runcell::model::avatar::{AvatarName, KataId};
use runcell::model::blob::Blob;
use runcell::model::document;
use runcell::model::limits::Limits;
use runcell::model::outcome::{
    AvatarRun, Cleanup, Collected, FileOut, HomeState, Outcome, PathOut, Phases, Proof, Provenance, SharedState, SkippedOut,
    Start, Usage, VERSION, Verdict,
};
use runcell::work::schema::Document;
use serde_json::{Value, json};

/// The reader's word on a job, and the schema's.
fn judged(job: &Value) -> (bool, bool) {
    let read = document::job(job.to_string().as_bytes()).is_ok();
    (read, ours(Document::Job).is_valid(job))
}

#[test]
fn jobs_that_are_fine_are_fine_for_both() {
    let fine = [
        json!({}),
        json!({"argv": null, "limits": {"wall": null}}),
        json!({"id": "x", "argv": ["a", "", "ünï"], "env": {"A": "", "b c": "\n"}, "cwd": "/", "user": "65533"}),
        json!({"files": {"a": "x", "it's $(x)\n-": {"text": "", "mode": "0"}, "...": {"base64": "AA=="}, "a/b": {"file": "/h/f", "mode": null}}}),
        json!({"stdin": "x"}),
        json!({"stdin": {"file": "/h/f", "text": null}}),
        json!({"mounts": [{"target": "/t", "tmpfs": "1.5GiB"}, {"target": "/日本", "bind": "/", "writable": true, "tmpfs": null}]}),
        json!({"image": "debian"}),
        json!({"image": "registry.example:5000/team/tool:1.2", "writable_root": true}),
        json!({"image": "sha256:0123456789ab"}),
        json!({"image": "host", "network": "host", "collect": ["**", "*.{o,a}", "a/..b"], "labels": {"": ""}}),
        json!({"avatar": {"kata": "4kq9Zx2aBc", "name": "lion"}}),
        json!({"avatar": null}),
        json!({"deleted": ["a", {"base64": "/w=="}], "all": null}),
        json!({"all": {"a": "x", "b": {"base64": "AA==", "mode": "0755"}}}),
        json!({"limits": {"wall": 0.5, "cpu": "90m", "memory": 18446744073709551615u64, "cpus": 2, "swap": 0}}),
        json!({"limits": {"io": [{"device": "/dev/vda", "rbps": "1kB", "riops": null}], "rlimits": {"as": 1, "nice": 0}}}),
    ];
    for job in fine {
        assert_eq!(judged(&job), (true, true), "{job}");
    }
}

/// The first job that anybody sends is the one in the README.
#[test]
fn the_readmes_job_is_one() {
    let readme = include_str!("../../README.md");
    let job = readme.split_once("echo '").and_then(|(_, rest)| rest.split_once("' | runcell run --job -"));
    let (job, _) = job.expect("the README shows how a job is sent");
    let job: Value = serde_json::from_str(job).expect("JSON");
    assert_eq!(judged(&job), (true, true), "{job}");
}

#[test]
fn jobs_that_are_malformed_are_malformed_for_both() {
    let bad = [
        json!(null),
        json!([]),
        json!("job"),
        json!({"argc": 1}),
        json!({"argv": "ls -l"}),
        json!({"argv": [1]}),
        json!({"argv": ["a\u{0}"]}),
        json!({"avatar": {"kata": "4kq9Zx2aB0", "name": "lion"}}),
        json!({"avatar": {"kata": "4kq9Zx2aBc", "name": "unicorn"}}),
        json!({"avatar": {"kata": "4kq9Zx2aBc"}}),
        json!({"avatar": {"kata": "4kq9Zx2aBc", "name": "lion", "uid": 0}}),
        json!({"avatar": "lion"}),
        json!({"deleted": [1]}),
        json!({"deleted": "a"}),
        json!({"deleted": [{"base64": "eA==", "text": "x"}]}),
        json!({"all": ["a"]}),
        json!({"id": ""}),
        json!({"id": "a\nb"}),
        json!({"bundle": "../etc"}),
        json!({"image": "../debian"}),
        json!({"image": "Debian"}),
        json!({"image": "debian:"}),
        json!({"image": "sha256:0123"}),
        json!({"image": "/srv/../etc"}),
        json!({"cwd": "work"}),
        json!({"cwd": "/a//b"}),
        json!({"user": "root"}),
        json!({"user": "+5"}),
        json!({"env": {"A=B": "c"}}),
        json!({"env": {"": "c"}}),
        json!({"env": ["A=B"]}),
        json!({"files": {"/etc/passwd": ""}}),
        json!({"files": {"a/../../b": ""}}),
        json!({"files": {"a/": ""}}),
        json!({"files": {"x".repeat(256): ""}}),
        json!({"files": {"a": {"text": "x", "base64": "eA=="}}}),
        json!({"files": {"a": {"mode": "0644"}}}),
        json!({"files": {"a": {"text": "x", "mode": "04755"}}}),
        json!({"files": {"a": {"text": "x", "mode": "+755"}}}),
        json!({"files": {"a": {"text": "x", "mode": 493}}}),
        json!({"files": {"a": null}}),
        json!({"stdin": {}}),
        json!({"mounts": [{"target": "/t"}]}),
        json!({"mounts": [{"target": "/t", "tmpfs": 1, "bind": "/x"}]}),
        json!({"mounts": [{"target": "t", "tmpfs": 1}]}),
        json!({"mounts": [{"target": "/t", "bind": "x/y"}]}),
        json!({"mounts": [["/t", null, 1]]}),
        json!({"mounts": {}}),
        json!({"collect": ["/etc/*"]}),
        json!({"collect": ["a/../../*"]}),
        json!({"collect": [""]}),
        json!({"network": "bridge"}),
        json!({"limits": null}),
        json!({"limits": []}),
        json!({"limits": {"memory": -1}}),
        json!({"limits": {"memory": "64"}}),
        json!({"limits": {"memory": "64 mib"}}),
        json!({"limits": {"memory": true}}),
        json!({"limits": {"wall": -0.5}}),
        json!({"limits": {"wall": "1 day"}}),
        json!({"limits": {"pids": -1}}),
        json!({"limits": {"pids": "many"}}),
        json!({"limits": {"io": [{"rbps": 1}]}}),
        json!({"limits": {"io": [{"device": "vda"}]}}),
        json!({"limits": {"rlimits": {"cpu": 1}}}),
        json!({"limits": {"rlimits": {"as": -1}}}),
        json!({"labels": {"a": 1}}),
    ];
    for job in bad {
        assert_eq!(judged(&job), (false, false), "{job}");
    }
}

/// An outcome with every kind of thing in it.
fn outcome(verdict: Verdict) -> Outcome {
    let file = |path: &[u8], content: &[u8]| {
        let (path, path_base64) = runcell::model::outcome::path_parts(path);
        FileOut { path, path_base64, content: Blob::new(content.to_vec(), 1 << 40), mode: "0644".into() }
    };
    Outcome {
        version: VERSION,
        id: Some("r-17".into()),
        run: "01J8ZQ4X8M2V7K3W9T5R1N6C0D".into(),
        verdict,
        exit_code: Some(-1),
        signal: None,
        signal_name: None,
        reason: "for a reason".into(),
        hint: Some("what to do".into()),
        evidence: Proof {
            oom_kills: None,
            stopped_for: Some("memory".into()),
            errno: Some("ENOENT".into()),
            detail: Some("d".into()),
        },
        stdout: Blob::new(b"text".to_vec(), 4),
        stderr: Blob::new(vec![0xff, 0], 2),
        files: Collected {
            created: vec![file(b"a", b"x"), file(b"\xff", b"\xff")],
            changed: vec![file("ü".as_bytes(), b"")],
            deleted: vec![PathOut::new(b"gone"), PathOut::new(b"\xff")],
            skipped: vec![SkippedOut { path: "fifo".into(), path_base64: None, why: "fifo".into() }],
        },
        usage: Usage { wall_ns: Some(u64::MAX), ..Usage::default() },
        phases: Phases::default(),
        line: None,
        cores: None,
        quality: None,
        start: Start::Cold,
        limits: Limits::default(),
        enforced: [("memory".to_owned(), "cgroup2".to_owned())].into(),
        cleanup: Cleanup::Incomplete,
        colour: Some("faulty".into()),
        colour_reason: Some("no rule matches".into()),
        avatar: Some(AvatarRun {
            kata: KataId::new(1),
            name: AvatarName::all().next().expect("alligator"),
            home: HomeState::Given,
            why: Some("w".into()),
            files: 1,
            bytes: 2,
            created: 3,
            changed: 4,
            shared: Some(SharedState::Full),
        }),
        labels: Default::default(),
        provenance: Provenance { landlock: Some(6), ..Provenance::default() },
    }
}

#[test]
fn outcomes_are_what_their_schema_says_and_read_back() {
    let schema = ours(Document::Outcome);
    for verdict in [
        Verdict::HostError,
        Verdict::Cancelled,
        Verdict::NotStarted,
        Verdict::OutputLimit,
        Verdict::Memory,
        Verdict::CpuTime,
        Verdict::WallTime,
        Verdict::Signaled,
        Verdict::Nonzero,
        Verdict::Ok,
    ] {
        let full = serde_json::to_value(outcome(verdict)).expect("an outcome is JSON");
        let bare = Outcome { id: None, hint: None, evidence: Proof::default(), files: Collected::default(), ..outcome(verdict) };
        for made in [full, serde_json::to_value(bare).expect("an outcome is JSON")] {
            let wrong: Vec<String> = schema.iter_errors(&made).map(|e| format!("{}: {e}", e.instance_path())).collect();
            assert!(wrong.is_empty(), "{made}: {}", wrong.join("; "));
            let back: Outcome = serde_json::from_value(made.clone()).expect("reads back");
            assert_eq!(serde_json::to_value(back).expect("an outcome is JSON"), made);
        }
    }
}

#[test]
fn what_is_no_outcome_is_none_for_the_schema() {
    let schema = ours(Document::Outcome);
    let fine = serde_json::to_value(outcome(Verdict::Ok)).expect("an outcome is JSON");
    assert!(schema.is_valid(&fine));
    let mut with_more = fine.clone();
    with_more["added_later"] = json!(1);
    assert!(schema.is_valid(&with_more), "fields may be added");
    for (pointer, bad) in [
        ("/verdict", json!("timeout")),
        ("/exit_code", json!("0")),
        ("/cleanup", json!(null)),
        ("/stdout", json!("text")),
        ("/files/created/0/mode", json!(420)),
        ("/usage/wall_ns", json!(-1)),
        ("/version", json!(null)),
    ] {
        let mut outcome = fine.clone();
        *outcome.pointer_mut(pointer).expect("there") = bad;
        assert!(!schema.is_valid(&outcome), "{pointer}");
    }
    for missing in ["verdict", "run", "stdout", "usage", "limits", "cleanup", "provenance"] {
        let mut outcome = fine.clone();
        outcome.as_object_mut().expect("an object").remove(missing);
        assert!(!schema.is_valid(&outcome), "{missing}");
    }
}
