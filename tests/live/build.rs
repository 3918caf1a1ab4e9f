//! Images built stage by stage: what is run and what is not, failures, crashes, builders side by side, and computations in git.

use super::harness::{Host, command, live, on_the_host, until};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;

/// A directory with a recipe of busybox and these stages.
fn recipe(host: &Host, stages: &[&str]) -> PathBuf {
    let dir = host.dir("work").join("env");
    let all: String = stages.iter().map(|stage| format!("[[stage]]\n{stage}\n")).collect();
    std::fs::create_dir_all(&dir).expect("ours");
    std::fs::write(dir.join("recipe.toml"), format!("[base.busybox]\n{all}")).expect("ours");
    dir
}

/// Builds `work/env` to an answer.
#[track_caller]
fn build(host: &Host) -> Value {
    let (code, out, err) = host.words(&["image", "build", "env", "--json"]);
    assert_eq!(code, 0, "{out}{err}");
    serde_json::from_str(&out).expect("one document")
}

#[track_caller]
fn run(host: &Host, image: &str, script: &str) -> String {
    let ran = host.run(json!({"image": image, "argv": ["sh", "-c", script]}));
    ran.is("ok").stdout().to_owned()
}

const FIVE: [&str; 5] = [
    "run = 'echo one > /one; mkdir -p /d/e; echo x > /d/e/f'",
    "run = 'cat given > /two'\nfiles = { given = { text = 'two', mode = '0600' } }",
    "run = ['/bin/sh', '-c', 'rm /one; rm -r /d; mkdir /d; echo y > /d/g']",
    "run = 'echo $A > /four'\nenv = { A = 'four' }",
    "run = 'ln /four /five; ln -s four /link; chmod 4755 /five'",
];

#[test]
fn a_stage_is_run_once_and_only_what_comes_after_a_change_again() {
    on_the_host(|host| {
        recipe(host, &FIVE[..4]);
        let first = build(host);
        assert_eq!((&first["ran"], &first["failed"]), (&json!(5), &json!(null)), "{first}");
        let again = build(host);
        assert_eq!((&again["ran"], &again["image"]), (&json!(0), &first["image"]), "{again}");
        recipe(host, &FIVE);
        let appended = build(host);
        assert_eq!((&appended["ran"], &appended["stages"][5]["state"]), (&json!(1), &json!("done")), "{appended}");
        let holds = "cat /two /d/g /four /five; ls /d /one 2>&1; readlink /link; stat -c '%a %h %u' /five";
        let found = run(host, "env", holds);
        assert_eq!(found, "twoy\nfour\nfour\nls: /one: No such file or directory\n/d:\ng\nfour\n4755 2 0\n");
        let (code, out, err) = host.words(&["image", "verify", "env"]);
        assert_eq!(code, 0, "{out}{err}");
        let edited = FIVE[0].replace("echo one", "echo uno");
        recipe(host, &[&edited, FIVE[1], FIVE[2], FIVE[3], FIVE[4]]);
        let all = build(host);
        assert_eq!((&all["ran"], &all["stages"][0]["state"]), (&json!(5), &json!("known")), "{all}");
        assert_eq!(run(host, "env", "cat /two"), "two");
        assert_ne!(all["stages"][1]["layer"], first["stages"][1]["layer"]);
    });
}

#[test]
fn a_stage_that_writes_nothing_is_no_layer() {
    on_the_host(|host| {
        recipe(host, &["run = 'true'", "run = 'echo x > /x'", "run = 'cat /x > /dev/null; echo gone > /tmp/t; echo > s'"]);
        build(host);
        let (_, out, _) = host.words(&["image", "inspect", "env"]);
        let image: Value = serde_json::from_str(&out).expect("a document");
        assert_eq!(image["layers"].as_array().expect("a list").len(), 2, "{image}");
        assert_eq!(run(host, "env", "cat /x; ls /tmp /sandbox"), "x\n/sandbox:\n\n/tmp:\n");
    });
}

#[test]
fn a_stage_that_fails_is_named_and_those_before_it_stay() {
    on_the_host(|host| {
        recipe(host, &["run = 'echo a > /a'", "run = 'echo told; echo why >&2; cat /none; echo never'", "run = 'true'"]);
        let failed = build(host);
        assert_eq!((&failed["image"], &failed["failed"]["place"]), (&json!(null), &json!("stage[1]")), "{failed}");
        let outcome = &failed["failed"]["outcome"];
        assert_eq!((&outcome["verdict"], &outcome["stdout"]["text"]), (&json!("nonzero"), &json!("told\n")));
        let (code, _, err) = host.words(&["image", "build", "env"]);
        assert_eq!(code, 1, "{err}");
        for word in ["stage[0]: known", "told\nwhy\n", "stage[1] failed: the program exited with code 1"] {
            assert!(err.contains(word), "{word:?} in {err}");
        }
        recipe(host, &["run = 'echo a > /a'", "run = 'cat /a > /b'", "run = 'true'"]);
        assert_eq!(build(host)["ran"], 2);
        recipe(host, &["run = 'sleep 60'\nlimits = { wall = '200ms' }"]);
        assert_eq!(build(host)["failed"]["outcome"]["verdict"], "wall_time");
        recipe(host, &["run = 'true'\nnetwork = 'host'"]);
        let (code, out, _) = host.words(&["image", "build", "env", "--json"]);
        assert_eq!(code, 3, "the policy does not let it: {out}");
    });
}

#[test]
fn what_is_for_every_time_is_done_at_each_run_and_by_no_stage() {
    on_the_host(|host| {
        recipe(
            host,
            &["run = 'echo a > /a'", "run = 'echo each $(grep -c : /proc/net/dev); export E=$(cat /a)'\neverytime = true"],
        );
        assert_eq!(build(host)["ran"], 2);
        for _ in 0..2 {
            assert_eq!(run(host, "env", "echo $E"), "each 1\na\n");
        }
        recipe(host, &["run = 'echo a > /a'", "run = 'echo other'\neverytime = true"]);
        assert_eq!(build(host)["ran"], 0);
        assert_eq!(run(host, "env", "true"), "other\n");
        std::fs::write(host.dir("work/env/recipe.toml"), "from = 'env'\nenv = { A = 'b' }\n[[stage]]\nrun = 'echo b > /b'\n")
            .expect("ours");
        let (code, out, err) = host.words(&["image", "build", "env", "--name", "on-top:1", "--json"]);
        assert_eq!(code, 0, "{out}{err}");
        assert_eq!(run(host, "on-top:1", "cat /a /b; echo $A"), "other\na\nb\nb\n");
        let root = host.dir("work/tree");
        std::fs::create_dir_all(root.join("bin")).expect("ours");
        std::fs::copy("/usr/bin/busybox", root.join("bin/sh")).expect("the gate has looked");
        let text = format!("from = '{}'\n[[stage]]\nrun = 'echo c > /c'\n", root.display());
        std::fs::write(host.dir("work/env/recipe.toml"), text).expect("ours");
        assert_eq!(build(host)["ran"], 1);
        assert_eq!(build(host)["ran"], 0);
        assert_eq!(run(host, "env", "read c < /c; echo $c"), "c\n");
        assert!(!root.join("c").exists());
    });
}

#[test]
fn of_two_builders_of_one_stage_one_works() {
    on_the_host(|host| {
        recipe(host, &["run = 'sleep 1; echo a > /a'", "run = 'sleep 1; echo b > /b'"]);
        let words = ["image", "build", "env", "--json"];
        let started: Vec<_> = (0..3).map(|_| host.start(host.runcell(&words))).collect();
        let built: Vec<Value> = started
            .into_iter()
            .map(|one| {
                let (code, out, err) = one.ended();
                assert_eq!(code, 0, "{out}{err}");
                serde_json::from_str(&out).expect("one document")
            })
            .collect();
        let ran: u64 = built.iter().map(|b| b["ran"].as_u64().expect("a number")).sum();
        assert_eq!(ran, 3, "base and two stages, once each: {built:?}");
        assert!(built.iter().all(|b| b["image"] == built[0]["image"] && b["image"].is_string()));
    });
}

/// What lies in a directory of the store, by name.
fn shelf(host: &Host, name: &str) -> Vec<String> {
    let entries = std::fs::read_dir(host.root().join("store").join(name)).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_builder_that_is_killed_leaves_its_finished_stages_and_nothing_else() {
    live(|host| {
        let two = ["run = 'echo a > /a'", "run = 'echo b > /b'"];
        recipe(host, &[two[0], two[1], "run = 'echo half > /half; sleep 600'"]);
        let mut child = host.runcell(&["image", "build", "env", "--json"]);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let half = || shelf(host, "bench").iter().any(|b| host.root().join("store/bench").join(b).join("upper/half").exists());
        until("the third stage writes", half);
        host.note_runs();
        child.kill().expect("ours");
        child.wait().expect("ours");
        until("its run is over", || shelf(host, "../runs").is_empty());
        let (code, out, err) = host.words(&["gc"]);
        assert_eq!(code, 0, "{out}{err}");
        assert_eq!(shelf(host, "bench"), Vec::<String>::new());
        assert_eq!(shelf(host, "stages").len(), 3, "{:?}", shelf(host, "stages"));
        assert_eq!(shelf(host, "layers").len(), 3);
        recipe(host, &[two[0], two[1], "run = 'cat /a /b > /c'"]);
        assert_eq!(build(host)["ran"], 1);
        assert_eq!(run(host, "env", "cat /c; ls /half 2>/dev/null; true"), "a\nb\n");
    });
}

#[test]
fn a_builder_that_is_told_to_stop_stops() {
    live(|host| {
        recipe(host, &["run = 'echo half > /half; sleep 600'"]);
        let started = host.start(host.runcell(&["image", "build", "env", "--json"]));
        until("the stage runs", || !shelf(host, "../runs").is_empty() && shelf(host, "stages").len() == 2);
        started.signal(nix::sys::signal::Signal::SIGTERM);
        let (code, out, err) = started.ended();
        assert_eq!(code, 0, "{out}{err}");
        let built: Value = serde_json::from_str(&out).expect("one document");
        assert_eq!(built["failed"]["outcome"]["verdict"], "cancelled", "{built}");
        assert_eq!(shelf(host, "bench"), Vec::<String>::new());
    });
}

/// What installing packages takes: owners, modes, other users. Nothing of it is there when a job runs.
#[test]
fn a_stage_is_root_among_its_own_ids() {
    live(|host| {
        let script = "mkdir /own; echo x > /own/f; chown 7:8 /own/f; chmod 4755 /own/f; chown -R 33:33 /own/.; chown 7 /own/f; \
                      echo somebody::1234:1234::/:/bin/sh >> /etc/passwd; su somebody -s /bin/sh -c 'id -u > /tmp/id'; cat /tmp/id > /id; \
                      sleep 77 & su somebody -s /bin/sh -c 'sleep 78' & grep Cap /proc/self/status > /held; \
                      mount -t tmpfs x /own && exit 9; mknod /own/null c 1 3 && exit 9; echo 1 > /proc/sys/net/ipv4/ip_forward && exit 9; :";
        recipe(host, &[&format!("run = {}", json!(script))]);
        let built = build(host);
        assert_eq!(built["failed"], json!(null), "{built}");
        let told = run(
            host,
            "env",
            "stat -c '%u:%g %a' /own /own/f; cat /id; grep -c CapEff:.*[1-9a-f] /held; grep -c Cap.*:.*[1-9a-f] /proc/self/status; chown 5 /tmp 2>&1; :",
        );
        assert!(told.starts_with("33:33 755\n7:33 755\n1234\n1\n0\n") && told.contains("not permitted"), "{told}");
        host.is_clean();
    });
}

#[test]
fn a_stage_that_fills_the_disk_is_stopped_before_it_is_full() {
    live(|host| {
        let dir = recipe(
            host,
            &["run = 'dd if=/dev/zero of=/big bs=1M count=60; sleep 60'\nlimits = { file_size = '1GiB', wall = '90s' }"],
        );
        let store = host.dir("small");
        host.policy(&format!("store = {store:?}\n[import]\nkeep_free = '16MiB'\n"));
        std::fs::create_dir_all(&store).expect("ours");
        // A store of 64 MiB, which is gone with the mount namespace of this one build.
        let script = r#"mount -t tmpfs -o size=64m small "$0" && exec "$@""#;
        let build = host.runcell(&["image", "build", dir.to_str().expect("ours"), "--json"]);
        let mut small = command("unshare");
        small.args(["--mount", "sh", "-c", script]).arg(&store).arg(build.get_program()).args(build.get_args());
        let done = small.stdin(Stdio::null()).output().expect("unshare is there");
        let out = String::from_utf8_lossy(&done.stdout);
        let answer: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"));
        assert_eq!((done.status.code(), &answer["error"]["code"]), (Some(3), &json!("store:full")), "{out}");
        assert!(answer["error"]["message"].as_str().is_some_and(|m| m.starts_with("stage[0]")), "{out}");
        host.is_clean();
    });
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    live(|host| {
        let dir = recipe(host, &["rum = 'true'"]);
        let refused = |code: i32| -> Value {
            let (got, out, err) = host.words(&["image", "build", "env", "--json"]);
            assert_eq!(got, code, "{out}{err}");
            serde_json::from_str::<Value>(&out).expect("one document")["error"].clone()
        };
        assert_eq!(refused(2)["path"], "stage[0].rum");
        recipe(host, &["run = 'true'\nfiles = { a = { file = 'none' } }"]);
        assert_eq!(refused(2)["path"], "stage[0].files.a");
        std::fs::write(dir.join("secret"), "x").expect("ours");
        std::os::unix::fs::symlink("secret", dir.join("link")).expect("ours");
        recipe(host, &["run = 'true'\nfiles = { a = { file = 'link' } }"]);
        assert_eq!(refused(2)["path"], "stage[0].files.a");
        std::fs::write(dir.join("recipe.toml"), "from = 'no-such:1'\n").expect("ours");
        assert_eq!((&refused(2)["code"], &refused(2)["path"]), (&json!("image:!exists"), &json!("from")));
        std::fs::write(dir.join("recipe.toml"), "[base.busybox]\npath = '/bin/true'\n").expect("ours");
        assert_eq!(refused(3)["code"], "base:busybox");
        std::fs::remove_file(dir.join("recipe.toml")).expect("ours");
        assert_eq!(refused(2)["code"], "build:!exists");
    });
}

/// git in a directory, as its owner.
fn git(dir: &std::path::Path, words: &[&str]) -> String {
    let identity =
        ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false"];
    let output = command("git").arg("-C").arg(dir).args(identity).args(words).output().expect("git is there");
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

const SETUP: &str = r#"#!/bin/sh
# How this computation gets what it needs.
PREFIX=/opt
greet() { echo "$1 from $PREFIX"; }

next_stage && mkdir -p $PREFIX

next_stage && {
  greet "it's stage two" > $PREFIX/two   # next_stage && no
  cat > $PREFIX/three <<END
next_stage && $(greet body)
END
}

everytime && {
  greet each
}

next_stage && cp "$COMPDIR/data" $PREFIX/data
"#;

#[test]
fn a_computation_has_an_environment_for_each_of_its_commits() {
    on_the_host(|host| {
        recipe(host, &["run = 'mkdir /opt'"]);
        build(host);
        let dir = host.dir("work/sum");
        let gfs = host.dir("gfs");
        for one in [&dir, &gfs] {
            std::fs::create_dir(one).expect("ours");
        }
        std::fs::write(dir.join("docker.conf"), "# where it begins\nimage: env\nmaintainer: me\n").expect("ours");
        std::fs::write(dir.join("docker-setup.sh"), SETUP).expect("ours");
        std::fs::write(dir.join("data"), "1\n").expect("ours");
        let sum = |code: i32| -> Value {
            let (got, out, err) = host.words(&["image", "build", "sum", "--json"]);
            assert_eq!(got, code, "{out}{err}");
            serde_json::from_str(&out).expect("one document")
        };
        assert_eq!(sum(2)["error"]["code"], "computation:!git");
        git(&dir, &["init", "-q"]);
        git(&dir, &["add", "."]);
        git(&dir, &["commit", "-qm", "one"]);
        let one = git(&dir, &["rev-parse", "HEAD"]);
        let first = sum(0);
        assert_eq!((&first["ran"], &first["commit"]), (&json!(3), &json!(one)), "{first}");
        assert_eq!(first["notices"], json!(["docker.conf: the key maintainer means nothing here"]));
        assert_eq!(first["stages"][1]["place"], "docker-setup.sh:8");
        assert_eq!(sum(0)["ran"], 0);
        let holds = "cat /opt/two /opt/three /opt/data; ls /computation 2>/dev/null; true";
        let set_up = "it's stage two from /opt\nnext_stage && body from /opt\n";
        assert_eq!(run(host, "sum", holds), format!("each from /opt\n{set_up}1\n"));

        // Another content of the directory changes what saw it, and that alone; each commit keeps its own.
        std::fs::write(dir.join("data"), "2\n").expect("ours");
        let dirty = sum(0);
        assert_eq!((&dirty["ran"], &dirty["commit"]), (&json!(1), &json!(format!("{one}-dirty"))), "{dirty}");
        git(&dir, &["commit", "-qam", "two"]);
        let two = git(&dir, &["rev-parse", "HEAD"]);
        let second = sum(0);
        assert_eq!(second["commit"], json!(two), "{second}");
        let (_, out, _) = host.words(&["image", "list", "--json"]);
        let listed: Value = serde_json::from_str(&out).expect("a document");
        for (commit, data) in [(&one, "1\n"), (&two, "2\n")] {
            let name = format!("sum:{}", &commit[..12]);
            let serves = |image: &&Value| image["labels"]["runcell.commit"] == json!(commit);
            let image = listed.as_array().expect("a list").iter().find(serves).expect("an image for each commit");
            assert!(image["names"].as_array().expect("a list").contains(&json!(name)), "{image}");
            assert!(run(host, &name, "cat /opt/data").ends_with(data), "{name}");
        }
        let (_, table, _) = host.words(&["image", "list"]);
        assert!(table.contains(&one) && table.contains(&two), "{table}");

        // Its directory and the file store at run time.
        let places = format!("bind = ['{0}', '{1}']\nbind_writable = ['{1}']", dir.display(), gfs.display());
        host.policy(&places);
        let (dir, gfs) = (dir.to_str().expect("ours"), gfs.to_str().expect("ours"));
        let words = ["run", "-q", "--image", "sum", "--compdir", dir, "--gfsdir", gfs];
        let script = "cat $COMPDIR/data; touch $COMPDIR/x 2>/dev/null || echo no; echo kept > $GFSDIR/f 2>/dev/null || echo no";
        let (_, out, err) = host.words(&[&words[..], &["--", "sh", "-c", script]].concat());
        assert_eq!(out, "each from /opt\n2\nno\nno\n", "{err}");
        std::os::unix::fs::chown(gfs, Some(1000), Some(1000)).expect("ours");
        let (_, out, err) = host.words(&[&words[..], &["--gfs-writable", "--", "sh", "-c", script]].concat());
        assert_eq!(out, "each from /opt\n2\nno\n", "{err}");
        assert_eq!(std::fs::read_to_string(host.dir("gfs/f")).expect("written"), "kept\n");
    });
}

/// git takes the names of programs from a repository's configuration; root must not run them for a stranger.
#[test]
fn a_strangers_repository_runs_nothing_with_our_rights() {
    on_the_host(|host| {
        recipe(host, &[]);
        build(host);
        let dir = host.dir("work/theirs");
        std::fs::create_dir(&dir).expect("ours");
        std::fs::write(dir.join("docker.conf"), "image env\n").expect("ours");
        std::fs::write(dir.join("docker-setup.sh"), "next_stage && echo x > /x\n").expect("ours");
        std::fs::write(dir.join("f"), "1").expect("ours");
        std::fs::write(dir.join(".gitattributes"), "f filter=spy\n").expect("ours");
        git(&dir, &["init", "-q"]);
        git(&dir, &["add", "."]);
        git(&dir, &["commit", "-qm", "one"]);
        let spy = host.dir("spy");
        std::fs::create_dir(&spy).expect("ours");
        std::fs::set_permissions(&spy, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("ours");
        let program = format!("sh -c 'id -u >> {}/ran; cat'", spy.display());
        git(&dir, &["config", "filter.spy.clean", &program]);
        std::fs::write(dir.join("f"), "2").expect("ours");
        let give = command("chown").args(["-R", "12345:12345"]).arg(&dir).status().expect("runs");
        assert!(give.success());
        let (code, out, err) = host.words(&["image", "build", "theirs", "--json"]);
        assert_eq!(code, 0, "{out}{err}");
        let built: Value = serde_json::from_str(&out).expect("one document");
        assert!(built["commit"].as_str().expect("a commit").ends_with("-dirty"), "{built}");
        let ran = std::fs::read_to_string(spy.join("ran")).unwrap_or_default();
        assert!(ran.lines().all(|uid| uid == "12345"), "{ran}");
    });
}

/// What is expected of an outcome, field by field; what is not named may be anything.
fn holds(expected: &Value, got: &Value, at: &str) {
    match (expected, got) {
        (Value::Object(fields), Value::Object(_)) => {
            fields.iter().for_each(|(name, value)| holds(value, &got[name], &format!("{at}.{name}")));
        }
        _ => assert_eq!(expected, got, "{at}"),
    }
}

/// The shipped bundle that needs no network; the others are made and tried by scripts/bundles.
#[test]
fn the_busybox_bundle_does_what_it_says() {
    live(|host| {
        let bundle = concat!(env!("CARGO_MANIFEST_DIR"), "/bundles/busybox");
        let (code, out, err) = host.words(&["image", "build", bundle]);
        assert_eq!(code, 0, "{out}{err}");
        let file = |name: &str| std::fs::read_to_string(format!("{bundle}/{name}")).expect("shipped");
        let job: Value = serde_json::from_str(&file("job.json")).expect("JSON");
        let outcome: Value = serde_json::from_str(&host.run(job).json).expect("JSON");
        holds(&serde_json::from_str(&file("expected.json")).expect("JSON"), &outcome, "outcome");
    });
}
