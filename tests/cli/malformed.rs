//! Exit 2: the caller's job or words make no sense. The place is named, and nothing is started.

use crate::ground::{Ground, verdict};
use serde_json::json;

/// A runtime that must never be asked.
const NEVER: &str = r#">"$(dirname "$0")/started"; exit 1"#;

fn malformed(ground: &Ground, job: impl Into<Vec<u8>>, path: &str) {
    let job = job.into();
    let shown = String::from_utf8_lossy(&job[..job.len().min(200)]).into_owned();
    let answer = ground.job(job);
    assert_eq!(answer.verdict(), verdict(2, "job:malformed", path), "{shown}");
}

#[test]
fn fields_that_are_wrong_are_named() {
    let ground = Ground::new(NEVER);
    for (job, path) in [
        (r#"{"argc":["true"]}"#, "argc"),
        (r#"{"argv":["true"],"limits":{"memry":"1MiB"}}"#, "limits.memry"),
        (r#"{"argv":["true"],"files":{"a":{"txt":"x"}}}"#, "files.a.txt"),
        (r#"{"argv":["true"],"mounts":[{"target":"/a","tmpfs":1},{"target":"/b","size":1}]}"#, "mounts[1].size"),
        (r#"{"argv":"true"}"#, "argv"),
        (r#"{"argv":["true",1]}"#, "argv[1]"),
        (r#"{"argv":["true"],"env":{"A":1}}"#, "env.A"),
        (r#"{"argv":["true"],"limits":{"pids":"many"}}"#, "limits.pids"),
        (r#"{"argv":["true"],"limits":{"pids":1.5}}"#, "limits.pids"),
        (r#"{"argv":["true"],"limits":{"wall":true}}"#, "limits.wall"),
        (r#"{"argv":["true"],"collect":"**"}"#, "collect"),
        (r#"{"argv":["true"],"network":"bridge"}"#, "network"),
        (r#"[null,null,null,["true"]]"#, "job"),
        (r#""true""#, "job"),
        ("null", "job"),
    ] {
        malformed(&ground, job, path);
    }
    ground.is_clean();
    assert!(!ground.at("started").exists());
}

#[test]
fn limits_that_make_no_sense_are_named() {
    let ground = Ground::new(NEVER);
    for (limits, path) in [
        (json!({"wall": 0}), "limits.wall"),
        (json!({"wall": "0ms"}), "limits.wall"),
        (json!({"wall": -1}), "limits.wall"),
        (json!({"wall": "31h 5m"}), "limits.wall"),
        (json!({"cpu": 0}), "limits.cpu"),
        (json!({"grace": "-1s"}), "limits.grace"),
        (json!({"memory": 0}), "limits.memory"),
        (json!({"memory": -1}), "limits.memory"),
        (json!({"memory": "5MiB"}), "limits.memory"),
        (json!({"memory": "18446744073709551616B"}), "limits.memory"),
        (json!({"swap": -1}), "limits.swap"),
        (json!({"pids": 0}), "limits.pids"),
        (json!({"pids": -1}), "limits.pids"),
        (json!({"cpus": 0}), "limits.cpus"),
        (json!({"cpus": -0.5}), "limits.cpus"),
        (json!({"cpu_weight": 10_001}), "limits.cpu_weight"),
        (json!({"cpuset": "3-1"}), "limits.cpuset"),
        (json!({"output": 0}), "limits.output"),
        (json!({"sandbox": 0}), "limits.sandbox"),
        (json!({"inodes": 0}), "limits.inodes"),
        (json!({"file_size": 0}), "limits.file_size"),
        (json!({"open_files": 0}), "limits.open_files"),
        (json!({"stack": 0}), "limits.stack"),
        (json!({"rlimits": {"nofile": 5}}), "limits.rlimits"),
        (json!({"rlimits": {"nproc": 5}}), "limits.rlimits"),
        (json!({"io": [{"device": "/etc/passwd", "rbps": 1}]}), "limits.io[0].device"),
        (json!({"io": [{"device": "/dev/null", "rbps": 1}]}), "limits.io[0].device"),
    ] {
        malformed(&ground, json!({"argv": ["true"], "limits": limits}).to_string(), path);
    }
    ground.is_clean();
}

#[test]
fn places_that_lead_astray_are_named() {
    let ground = Ground::new(NEVER);
    ground.policy("bind = ['/']\n");
    let tmpfs = |target: &str| json!({"target": target, "tmpfs": "1MiB"});
    for (field, value, path) in [
        ("files", json!({"../x": ""}), "files.../x"),
        ("files", json!({"/etc/x": ""}), "files./etc/x"),
        ("files", json!({"a/./b": ""}), "files.a/./b"),
        ("files", json!({"a": "", "a/b": ""}), "files.a/b"),
        ("files", json!({"a": {"file": "passwd"}}), "files.a.file"),
        ("files", json!({"a": {"file": "/etc/../etc/passwd"}}), "files.a.file"),
        ("cwd", json!("sandbox"), "cwd"),
        ("cwd", json!("/sandbox/../etc"), "cwd"),
        ("cwd", json!("/proc/self/fd/7"), "cwd"),
        ("image", json!("./images/debian"), "image"),
        ("image", json!("/srv/../etc"), "image"),
        ("collect", json!(["../*"]), "collect[0]"),
        ("mounts", json!([tmpfs("data")]), "mounts[0].target"),
        ("mounts", json!([tmpfs("/a/../b")]), "mounts[0].target"),
        ("mounts", json!([tmpfs("/")]), "mounts[0].target"),
        ("mounts", json!([tmpfs("/proc/x")]), "mounts[0].target"),
        ("mounts", json!([tmpfs("/data"), tmpfs("/more"), tmpfs("/data")]), "mounts[2].target"),
        ("mounts", json!([{"target": "/d", "bind": "/etc"}, tmpfs("/d/inner")]), "mounts[1].target"),
        ("mounts", json!([{"target": "/d", "bind": "etc"}]), "mounts[0].bind"),
        ("mounts", json!([{"target": "/d"}]), "mounts[0]"),
        ("mounts", json!([{"target": "/usr/local", "bind": "/etc"}]), "mounts[0].target"),
    ] {
        let mut job = json!({"argv": ["true"]});
        job[field] = value;
        malformed(&ground, job.to_string(), path);
    }
    ground.is_clean();
}

#[test]
fn things_that_do_not_exist_are_the_callers_fault() {
    let ground = Ground::new(NEVER);
    ground.policy("bind = ['/']\n");
    for (job, code, path) in [
        (r#"{"argv":["true"],"bundle":"cobol"}"#, "bundle:!exists", "bundle"),
        (r#"{"argv":["true"],"image":"/no/such/image"}"#, "image:!exists", "image"),
        (r#"{"argv":["true"],"mounts":[{"target":"/d","bind":"/no/such/place"}]}"#, "mount:!exists", "mounts[0].bind"),
    ] {
        assert_eq!(ground.job(job).verdict(), verdict(2, code, path), "{job}");
    }
    assert_eq!(ground.run(&["kill", "nobody"]).verdict(), verdict(2, "run:!exists", "id"));
    let answer = ground.run(&["run", "--job", "/no/such/job.json"]);
    assert_eq!(answer.verdict(), verdict(2, "job:unreadable", "job"));
    ground.is_clean();
}

#[test]
fn programs_that_cannot_be_meant_are_named() {
    let ground = Ground::new(NEVER);
    let one = "x".repeat(128 * 1024);
    let many: Vec<&str> = std::iter::repeat_n(&one[..100_000], 60).collect();
    let env: std::collections::BTreeMap<String, &str> =
        many.iter().enumerate().map(|(n, text)| (format!("V{n}"), *text)).collect();
    for (job, path) in [
        (json!({}), "argv"),
        (json!({"argv": []}), "argv"),
        (json!({"argv": [""]}), "argv[0]"),
        (json!({"argv": ["a\u{0}b"]}), "argv[0]"),
        (json!({"argv": ["true", one]}), "argv[1]"),
        (json!({"argv": many}), "argv"),
        (json!({"argv": ["true"], "env": env}), "env"),
        (json!({"argv": ["true"], "env": {"A": one}}), "env.A"),
        (json!({"argv": ["true"], "env": {"A=B": "x"}}), "env.A=B"),
        (json!({"argv": ["true"], "env": {"": "x"}}), "env."),
    ] {
        malformed(&ground, job.to_string(), path);
    }
    ground.is_clean();
}

#[test]
fn bytes_that_are_no_document_are_told_apart() {
    let ground = Ground::new(NEVER);
    let said = |job: &[u8], word: &str| {
        let answer = ground.job(job);
        assert_eq!(answer.verdict(), verdict(2, "job:malformed", "job"));
        let message = answer.error()["message"].to_string();
        assert!(message.contains(word), "{message}");
    };
    said(b"", "EOF");
    said(b"{\"argv\":[\"true\"]} x", "follows");
    said(b"{\"argv\":[\"true\"]}\n{\"argv\":[\"true\"]}", "follows");
    said(b"{\"id\":\"\xff\xfe\",\"argv\":[\"true\"]}", "UTF-8");
    malformed(&ground, r#"{"argv":["true""#, "argv");
    malformed(&ground, r#"{"argv":["true"],"argv":["false"]}"#, "argv");
    malformed(&ground, r#"{"argv":["true"],"env":{"A":"1","B":"2","A":"3"}}"#, "env");
    malformed(&ground, r#"{"argv":["true"],"files":{"a":"1","a":"2"}}"#, "files");
    malformed(&ground, r#"{"argv":["true"],"limits":{"wall":1,"wall":2}}"#, "limits.wall");
    ground.is_clean();
}

#[test]
fn depth_and_size_are_bounded() {
    let ground = Ground::new(NEVER);
    malformed(&ground, "[".repeat(100_000), "job");
    malformed(&ground, format!(r#"{{"argv":{}"#, "[".repeat(100_000)), "argv[0]");
    malformed(&ground, format!(r#"{{"labels":{}"#, r#"{"a":"#.repeat(100_000)), "labels.a");
    let most: usize = 64 << 20;
    let job = |size: usize| {
        let around = r#"{"stdin":"","argv":[]}"#.len();
        format!(r#"{{"stdin":"{}","argv":[]}}"#, "x".repeat(size - around))
    };
    let path = ground.write("large.json", &job(most + 1));
    let large = path.to_str().expect("text");
    assert_eq!(ground.run(&["run", "--job", large]).verdict(), verdict(2, "job:too_large", "job"));
    // What just fits is read to its end, where the mistake is.
    ground.write("large.json", &job(most));
    assert_eq!(ground.run(&["run", "--job", large]).verdict(), verdict(2, "job:malformed", "argv"));
    assert_eq!(ground.run(&["run", "--job", "/dev/zero"]).verdict(), verdict(2, "job:too_large", "job"));
    ground.is_clean();
}

#[test]
fn words_are_judged_by_the_same_grammar() {
    let ground = Ground::new(NEVER);
    for (words, code, path) in [
        (&["--wall=0"][..], "job:malformed", "limits.wall"),
        (&["--memory=-1"], "job:malformed", "limits.memory"),
        (&["--memory=lots"], "job:malformed", "limits.memory"),
        (&["--cpus=none"], "job:malformed", "limits.cpus"),
        (&["--cwd=work"], "job:malformed", "cwd"),
        (&["--env=A"], "usage", "env"),
        (&["--bind=/etc"], "usage", "bind"),
        (&["--bind=/no/such/place:/d"], "usage", "bind"),
        (&["--tmpfs=/d:1MiB", "--tmpfs=/d:2MiB"], "job:malformed", "mounts[1].target"),
        (&["--rlimit=cpu=1"], "job:malformed", "limits.rlimits"),
        (&["--io=/dev/vda"], "usage", "io"),
    ] {
        let all: Vec<&str> = ["run", "--json"].iter().chain(words).chain(&["--", "true"]).copied().collect();
        assert_eq!(ground.run(&all).verdict(), verdict(2, code, path), "{words:?}");
    }
    // Flags go over the document.
    let answer = ground.fed(&["run", "--job", "-", "--wall=0"], r#"{"argv":["true"],"limits":{"wall":1}}"#);
    assert_eq!(answer.verdict(), verdict(2, "job:malformed", "limits.wall"));
    ground.is_clean();
}

#[test]
fn wrong_usage_is_a_document_for_programs() {
    let ground = Ground::new(NEVER);
    for words in [
        &["run", "--json", "--nonsense"][..],
        &["run", "--nonsense", "--json"],
        &["run", "--job"],
        &["run", "--job=x.json", "--wall"],
        &["list", "--json", "--all"],
        &["bundle", "--job", "x.json"],
    ] {
        let answer = ground.run(words);
        let error = answer.error();
        assert_eq!((answer.code, error["code"].as_str()), (Some(2), Some("usage")), "{words:?}");
    }
    // A flag behind the program's name is the program's, not ours.
    let answer = ground.run(&["run", "--nonsense", "--", "sh", "--json"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (Some(125), ""));
    ground.is_clean();
}

#[test]
fn a_bundle_is_refused_like_a_run() {
    let ground = Ground::new(NEVER);
    let out = ground.at("out");
    let out = out.to_str().expect("text");
    let answer = ground.fed(&["bundle", "--job", "-", "--out", out], r#"{"argv":["true"],"limits":{"wall":0}}"#);
    assert_eq!(answer.verdict(), verdict(2, "job:malformed", "limits.wall"));
    assert!(!ground.at("out").exists(), "nothing is written of what is refused");
    ground.write("file", "");
    for place in [ground.at(""), ground.at("file"), ground.at("out/deeper")] {
        let answer = ground.fed(&["bundle", "--job", "-", "--out", place.to_str().expect("text")], r#"{"argv":["true"]}"#);
        assert_eq!(answer.verdict(), verdict(2, "usage", "out"), "{}", place.display());
    }
    ground.is_clean();
}
