//! Exit 3: this host cannot, or its policy will not. Nothing is started.

use crate::ground::{Answer, Ground, RUNCELL, answer, bare, verdict};
use assert_cmd::Command;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

const NEVER: &str = r#">"$(dirname "$0")/started"; exit 1"#;
const TRUE: &str = r#"{"argv":["true"]}"#;

/// The operator must be told what to do.
fn hinted(answer: &Answer) -> bool {
    answer.error()["hint"].as_str().is_some_and(|hint| !hint.is_empty())
}

#[test]
fn the_policy_refuses_what_it_does_not_allow() {
    let ground = Ground::new(NEVER);
    let (image, data) = (ground.at("image"), ground.at("data"));
    std::fs::create_dir(&image).and(std::fs::create_dir(&data)).expect("our own directory");
    let file = ground.write("file", "x");
    ground.policy(&format!("images = []\nfiles = []\nbind = ['{}']", data.display()));
    for (field, value, path) in [
        ("mounts", json!([{"target": "/d", "bind": "/etc"}]), "mounts[0].bind"),
        (
            "mounts",
            json!([{"target": "/a", "bind": data}, {"target": "/b", "bind": data, "writable": true}]),
            "mounts[1].writable",
        ),
        ("network", json!("host"), "network"),
        ("image", json!(image), "image"),
        ("files", json!({"a": {"file": file}}), "files.a"),
        ("stdin", json!({"file": file}), "stdin"),
    ] {
        let mut job = json!({"argv": ["true"]});
        job[field] = value;
        let answer = ground.job(job.to_string());
        assert_eq!(answer.verdict(), verdict(3, "policy:refused", path), "{job}");
        assert!(hinted(&answer), "{answer:?}");
    }
    ground.is_clean();
    assert!(!ground.at("started").exists());
}

#[test]
fn ceilings_refuse_where_the_policy_says_so() {
    let ground = Ground::new(NEVER);
    ground.policy(
        "over = 'refuse'\n[ceilings]\nmemory = '64MiB'\nwall = '1s'\npids = 8\ncpus = 0.5\ncpuset = '0'\nrlimits = { as = 9 }\n",
    );
    for (limits, path) in [
        (json!({"memory": "65MiB"}), "limits.memory"),
        (json!({"wall": "2s"}), "limits.wall"),
        (json!({"pids": 9}), "limits.pids"),
        (json!({"cpus": 1}), "limits.cpus"),
        (json!({"rlimits": {"as": 10}}), "limits.rlimits"),
    ] {
        let answer = ground.job(json!({"argv": ["true"], "limits": limits}).to_string());
        assert_eq!(answer.verdict(), verdict(3, "policy:ceiling", path), "{limits}");
        assert!(hinted(&answer), "{answer:?}");
    }
    ground.is_clean();
    // A job that asks for none of it is run with the ceilings, so that the runtime is asked at last.
    assert_eq!(ground.job(TRUE).code, Some(4));
    ground.policy("[ceilings]\nsandbox = 0\n");
    assert_eq!(ground.job(TRUE).verdict(), verdict(3, "policy:unusable", "ceilings.sandbox"));
    ground.policy("[ceilings]\nio = [{ device = '/dev/null', rbps = 1 }]\n");
    assert_eq!(ground.job(TRUE).verdict(), verdict(3, "policy:unusable", "ceilings.io[0].device"));
}

#[test]
fn a_runtime_must_be_there_and_make_sense() {
    let ground = Ground::new(NEVER);
    let with = |runtime: &str| {
        let mut command = bare(&["run", "--job", "-", "--runtime", runtime]);
        let (root, policy) = (ground.root(), ground.at("policy.toml"));
        command.arg("--root").arg(root).arg("--policy").arg(policy).write_stdin(TRUE);
        answer(command)
    };
    for missing in ["/no/such/runc", "no-such-runc", "./runtime", "../runc", "/etc"] {
        let answer = with(missing);
        assert_eq!(answer.verdict(), verdict(3, "runtime:!exists", "runtime"), "{missing}");
        assert!(hinted(&answer), "{answer:?}");
    }
    let odd = ground.at("odd");
    let odd_name = odd.to_str().expect("text");
    for (name, script) in [
        ("says nothing", "#!/bin/sh\n"),
        ("says something else", "#!/bin/sh\necho 'GNU bash, version five'\n"),
        ("has no interpreter", "#!/no/such/sh\n"),
        ("says it in no text", "#!/bin/sh\nprintf '\\377\\377'\n"),
    ] {
        ground.script(&odd, script);
        assert_eq!(with(odd_name).verdict(), verdict(3, "runtime:unusable", "runtime"), "{name}");
    }
    std::fs::set_permissions(&odd, std::fs::Permissions::from_mode(0o644)).expect("our own file");
    assert_eq!(with(odd_name).verdict(), verdict(3, "runtime:unusable", "runtime"), "no exec bit");
    ground.is_clean();
}

#[test]
fn a_runtime_that_never_tells_its_version_is_not_waited_for() {
    let ground = Ground::new(NEVER);
    ground.script(&ground.runtime(), "#!/bin/sh\nexec sleep 1000\n");
    assert_eq!(ground.job(TRUE).verdict(), verdict(3, "runtime:unusable", "runtime"));
    ground.is_clean();
}

#[test]
fn an_old_runtime_is_refused_by_the_policy() {
    let ground = Ground::new(NEVER);
    for (least, refused) in [("1.2.4", true), ("1.10", true), ("2", true), ("1.2.3", false), ("1.2", false), ("0.9.9", false)] {
        ground.policy(&format!("runtime.min_version = '{least}'"));
        let answer = ground.job(TRUE);
        match refused {
            true => assert_eq!(answer.verdict(), verdict(3, "runtime:too_old", "runtime"), "{least}"),
            // It is asked, and does its worst.
            false => assert_eq!(answer.code, Some(4), "{least}"),
        }
    }
    ground.is_clean();
}

#[test]
fn an_upgraded_runtime_is_asked_again() {
    let ground = Ground::new(NEVER);
    ground.policy("runtime.min_version = '1.2.0'");
    assert_eq!(ground.job(TRUE).code, Some(4));
    ground.script(&ground.runtime(), "#!/bin/sh\necho 'runc version 1.1.9'\n");
    assert_eq!(ground.job(TRUE).verdict(), verdict(3, "runtime:too_old", "runtime"));
}

#[test]
fn a_policy_that_makes_no_sense_refuses_everything() {
    let ground = Ground::new(NEVER);
    for text in [
        "netwrk_host = true",
        "network_host = 'yes'",
        "over = 'shrug'",
        "[ceilings]\nmemory = -1",
        "[ceilings]\nmemry = 1",
        "ids = { first = 0, count = 65536 }",
        "ids = { first = 65536, count = 1 }",
        "bind = ['relative']",
        "bind = ['/a/../b']",
        "setup_timeout = 'soon'",
        "this is not TOML",
        "network_host = true\nnetwork_host = true",
    ] {
        ground.write("policy.toml", text);
        let answer = ground.job(TRUE);
        assert_eq!(answer.verdict(), verdict(3, "policy:unusable", "policy"), "{text}");
        assert!(hinted(&answer), "{answer:?}");
    }
    std::fs::write(ground.at("policy.toml"), b"# \xff").expect("our own file");
    assert_eq!(ground.job(TRUE).verdict(), verdict(3, "policy:unusable", "policy"), "not UTF-8");
    ground.policy("");
    std::fs::set_permissions(ground.at("policy.toml"), std::fs::Permissions::from_mode(0o666)).expect("our own file");
    assert_eq!(ground.job(TRUE).verdict(), verdict(3, "policy:unusable", "policy"), "everybody may write it");
    std::fs::remove_file(ground.at("policy.toml")).expect("our own file");
    assert_eq!(ground.job(TRUE).verdict(), verdict(3, "policy:unusable", "policy"), "named but missing");
    assert_eq!(ground.run(&["list"]).verdict(), verdict(3, "policy:unusable", "policy"), "other commands need it too");
}

#[test]
fn the_environment_names_policy_and_root_and_flags_win() {
    let ground = Ground::new(NEVER);
    let listed = |policy: &str, root: &str, flags: &[String]| {
        let mut command = bare(&["list", "--json"]);
        answer(std::mem::replace(
            command.args(flags).env("RUNCELL_POLICY", policy).env("RUNCELL_ROOT", root),
            Command::new(RUNCELL),
        ))
    };
    let (policy, root) = (ground.at("policy.toml"), ground.at("elsewhere"));
    let (policy, root) = (policy.to_str().expect("text"), root.to_str().expect("text"));
    assert_eq!(listed("/no/such/policy", root, &[]).verdict(), verdict(3, "policy:unusable", "policy"));
    assert_eq!(listed(policy, root, &[]).document(), json!([]));
    assert!(ground.at("elsewhere/runs").is_dir() && !ground.root().exists());
    let flags = &ground.bound()[..4];
    assert_eq!(listed("/no/such/policy", "/proc/no", flags).document(), json!([]));
    assert!(ground.root().join("runs").is_dir());
}

#[test]
fn a_root_that_cells_cannot_reach_is_refused() {
    let ground = Ground::new(NEVER);
    let closed = ground.at("closed");
    std::fs::create_dir(&closed).expect("our own directory");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("our own directory");
    let mut command = bare(&["run", "--job", "-", "--policy"]);
    command.arg(ground.at("policy.toml")).arg("--root").arg(closed.join("root")).write_stdin(TRUE);
    let answer = answer(command);
    assert_eq!(answer.verdict(), verdict(3, "root:unreachable", "root"));
    assert!(answer.error()["hint"].as_str().is_some_and(|h| h.contains("chmod o+x")), "{answer:?}");
}

#[test]
fn bundles_of_the_operator_must_make_sense() {
    let ground = Ground::new(NEVER);
    std::fs::create_dir_all(ground.at("bundles/odd")).expect("our own directory");
    ground.write("bundles/odd/bundle.toml", "argvv = ['true']");
    ground.policy(&format!("bundles = ['{}']", ground.at("bundles").display()));
    let answer = ground.job(r#"{"bundle":"odd"}"#);
    assert_eq!(answer.verdict(), verdict(3, "bundle:unusable", "bundle"));
    assert!(answer.error()["message"].as_str().is_some_and(|m| m.contains("argvv")), "{answer:?}");
}

#[test]
fn quarantined_ids_are_not_given_out() {
    let ground = Ground::new(NEVER);
    ground.policy("ids = { first = 1900544000, count = 65536 }");
    // A slot file that names a run is in quarantine, though nobody holds it.
    std::fs::create_dir_all(ground.root().join("ids")).expect("our own directory");
    ground.write("root/ids/1900544000", "01J8ZQ4X8M2V7K3W9T5R1N6C0D");
    let answer = ground.job(TRUE);
    assert_eq!(answer.verdict(), verdict(3, "ids:exhausted", "ids"));
    assert!(hinted(&answer), "{answer:?}");
    ground.write("root/ids/1900544000", "");
    ground.is_clean();
}

#[test]
fn only_root_may_start_cells() {
    let ground = Ground::new(NEVER);
    // A checkout may lie where nobody else gets; a copy of the binary does not.
    let copy = ground.at("runcell");
    std::fs::copy(RUNCELL, &copy).expect("our own directory");
    std::fs::create_dir(ground.root()).expect("our own directory");
    std::os::unix::fs::chown(ground.root(), Some(65_534), Some(65_534)).expect("the tests are run as root");
    #[allow(clippy::disallowed_methods)] // no group and nothing inherited matters here
    let mut command = std::process::Command::new(copy);
    std::os::unix::process::CommandExt::uid(&mut command, 65_534);
    let mut command = Command::from_std(command);
    command.arg("run").args(ground.bound()).args(["--json", "--", "true"]);
    let answer = answer(command);
    assert_eq!(answer.verdict(), verdict(3, "host:permission", ""));
    assert!(hinted(&answer), "{answer:?}");
}
