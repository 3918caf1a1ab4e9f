//! Runtimes that misbehave, in all the ways that were thought of. Each is a fault of ours (exit 4) within the set-up time,
//! with the runtime's own words, and leaves nothing.

use crate::ground::{Answer, Ground, RUNCELL, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runcell::os::clock;
use serde_json::Value;
use std::process::{Child, Stdio};

const TRUE: &str = r#"{"argv":["true"]}"#;

/// One run under such a runtime; checks what must hold for every one of them.
fn run(behaviour: &str, policy: &str) -> (Answer, String, String) {
    let ground = Ground::new(behaviour);
    ground.policy(policy);
    let answer = ground.job(TRUE);
    ground.is_clean();
    let error = answer.error();
    let text = |field: &str| error[field].as_str().unwrap_or_default().to_owned();
    assert_eq!(answer.code, Some(4), "{answer:?}");
    (answer, text("code"), text("message"))
}

#[test]
fn its_errors_become_our_codes_with_its_own_words() {
    for (said, code) in [
        ("unable to apply cgroup configuration: no space left on device", "runtime:cgroup"),
        ("error mounting \\\"/x\\\" to rootfs at \\\"/y\\\": invalid argument", "runtime:mount"),
        ("nsexec[7]: failed to unshare remaining namespaces", "runtime:namespace"),
        ("error loading seccomp filter into kernel", "runtime:seccomp"),
        ("the moon is in the wrong house", "runtime:failed"),
    ] {
        let log =
            format!("{{\"level\":\"warning\",\"msg\":\"mount is odd\"}}\n{{\"level\":\"error\",\"msg\":\"{said}\"}}\nnot json\n");
        let (answer, got, message) = run(&format!("cat >\"$log\" <<'END'\n{log}END\necho noise; exit 1"), "");
        assert_eq!(got, code, "{answer:?}");
        assert!(message.contains(&said.replace("\\\"", "\"")), "{message}");
        assert!(!message.contains("odd") && !message.contains("noise"), "{message}");
    }
}

#[test]
fn without_a_log_its_console_is_quoted() {
    let (_, code, message) = run("echo 'panic: runtime error' >&2; exit 2", "");
    assert_eq!(code, "runtime:failed");
    assert!(message.contains("panic: runtime error"), "{message}");
    let (_, code, message) = run("printf '\\377\\376\\n' >&2; exit 2", "");
    assert!(code == "runtime:failed" && message.contains('\u{fffd}'), "{message}");
}

#[test]
fn success_without_a_cell_is_no_success() {
    for behaviour in ["exit 0", "echo 'all fine'; exit 0"] {
        let (_, code, message) = run(behaviour, "");
        assert!(code == "runtime:failed" && message.contains("init ended before it was ready"), "{message}");
    }
}

#[test]
fn a_runtime_that_kills_itself_has_failed() {
    for signal in ["KILL", "SEGV", "TERM"] {
        let (_, code, message) = run(&format!("kill -{signal} $$; sleep 1000"), "");
        assert!(code == "runtime:failed" && message.contains("could not start"), "{signal}: {message}");
    }
}

#[test]
fn a_runtime_that_hangs_is_ended_in_time() {
    for behaviour in [
        "exec sleep 1000",
        "trap '' TERM INT HUP; while :; do sleep 1; done",
        "sleep 1000 & sleep 1000 & wait",
        "kill -STOP $$",
        // Gone, but somebody still holds the cell's socket.
        "sleep 1000 & exit 0",
    ] {
        let began = clock::now_ns();
        let (_, code, message) = run(behaviour, "setup_timeout = '400ms'");
        let took = (clock::now_ns() - began) / 1_000_000;
        assert!(code == "runtime:timeout" && message.contains("set-up deadline"), "{behaviour}: {code}: {message}");
        assert!((400..20_000).contains(&took), "{behaviour}: {took} ms");
    }
}

#[test]
fn a_torrent_of_words_is_cut() {
    let many = "head -c 5000000 /dev/zero | tr '\\0' x";
    let (answer, code, message) = run(&format!("{many} >&2; {many}; exit 1"), "");
    assert!(code == "runtime:failed" && message.contains("xxx"), "{code}");
    assert!(answer.stdout.len() < 6000, "{} bytes", answer.stdout.len());
    let log = format!("{{ printf '{{\"level\":\"error\",\"msg\":\"'; {many}; printf '\"}}\\n'; }} >\"$log\"; exit 1");
    assert!(run(&log, "").0.stdout.len() < 6000);
    let (answer, code, _) = run(&format!("{many} >&2; exec sleep 1000"), "setup_timeout = '2s'");
    assert!(code == "runtime:timeout" && answer.stdout.len() < 6000, "{code}");
}

#[test]
fn one_that_was_called_in_vain_is_ended() {
    let ground =
        Ground::new("echo $$ >\"$(dirname \"$0\")/asked\"; cat \"$bundle/config.json\" >\"$(dirname \"$0\")/got\"; sleep 1000");
    let at = |name: &str| ground.at(name).canonicalize().expect("made").display().to_string();
    std::fs::create_dir(ground.at("real")).expect("ours");
    std::os::unix::fs::symlink(at("real"), ground.at("link")).expect("ours");
    ground.policy(&format!("bind = ['{}']", at(".")));
    // What only the mounting finds out, when the runtime is at work on its own beginning.
    let source = format!("{}/link", at("."));
    let job = serde_json::json!({"argv": ["true"], "mounts": [{"target": "/mnt/x", "bind": source}]});
    let answer = ground.job(job.to_string());
    assert_eq!((answer.code, answer.error()["code"].as_str()), (Some(2), Some("mount:unreachable")), "{answer:?}");
    ground.is_clean();
    let got = std::fs::read_to_string(ground.at("got")).unwrap_or_default();
    assert!(got.is_empty(), "it was given a configuration: {got}");
}

/// What a runtime has made before it fails: groups in every tree, a process in the cell that no process group reaches,
/// state of its own.
const HALF_WAY: &str = r#"
parent=$(sed -n 's/.*"cgroupsPath": "\(.*\)".*/\1/p' "$bundle/config.json")
mkdir "$state/$id"
echo '{}' >"$state/$id/state.json"
setsid sleep 1000 </dev/null >/dev/null 2>&1 3>&- &
if [ -e /sys/fs/cgroup/cgroup.procs ]; then trees=/sys/fs/cgroup; else trees=$(echo /sys/fs/cgroup/*); fi
for tree in $trees; do
  case $tree in */cpuset) continue ;; esac # takes no process before it has been given cores
  mkdir -p "$tree$parent/inner"
  echo $! >"$tree$parent/cgroup.procs"
done
"#;

#[test]
fn what_it_had_begun_is_undone() {
    let (_, code, _) = run(&format!("{HALF_WAY}\necho 'half-way' >&2; exit 1"), "");
    assert_eq!(code, "runtime:failed");
    let (_, code, _) = run(&format!("{HALF_WAY}\nexec sleep 1000"), "setup_timeout = '2s'");
    assert_eq!(code, "runtime:timeout");
}

/// The command in the background, its runtime hanging in the middle of a start.
fn hanging(ground: &Ground) -> Child {
    #[allow(clippy::disallowed_methods)] // no group and nothing inherited matters here
    let mut command = std::process::Command::new(RUNCELL);
    command.arg("run").args(ground.bound()).args(["--json", "--id", "r-17", "--", "true"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    until(|| ground.at("asked").exists());
    assert!(ground.at("asked").exists(), "the runtime was never asked");
    child
}

const ASKED: &str = r#">"$(dirname "$0")/asked"; sleep 1000 & wait"#;

fn outcome(child: Child) -> (Option<i32>, Value) {
    let output = child.wait_with_output().expect("ends");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), serde_json::from_slice(&output.stdout).expect("one document"))
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("pids are small"))
}

#[test]
fn a_run_is_cancelled_while_its_cell_is_made() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let ground = Ground::new(ASKED);
        let child = hanging(&ground);
        kill(pid(&child), signal).expect("it lives");
        let (code, outcome) = outcome(child);
        assert_eq!((code, outcome["verdict"].as_str()), (Some(0), Some("cancelled")), "{signal}: {outcome}");
        assert_eq!((outcome["cleanup"].as_str(), &outcome["exit_code"]), (Some("complete"), &Value::Null), "{outcome}");
        ground.is_clean();
    }
}

#[test]
fn others_see_such_a_run_and_can_stop_it() {
    let ground = Ground::new(ASKED);
    let child = hanging(&ground);
    let listed = ground.run(&["list", "--json"]).document();
    let seen = (listed[0]["id"].as_str(), listed[0]["live"].as_bool(), listed[0]["state"].as_str());
    assert_eq!(seen, (Some("r-17"), Some(true), Some("preparing")), "{listed}");
    let swept = ground.run(&["gc"]).document();
    assert_eq!(
        (swept["live"].as_array().map(Vec::len), &swept["removed"]),
        (Some(1), &serde_json::json!([])),
        "gc takes no living run"
    );
    let killed = ground.run(&["kill", "r-17"]);
    assert_eq!((killed.code, &killed.document()["killed"][0]), (Some(0), &listed[0]["run"]), "{killed:?}");
    assert_eq!(outcome(child).1["verdict"], "cancelled");
    ground.is_clean();
}

#[test]
fn what_a_killed_supervisor_leaves_is_swept() {
    let ground = Ground::new(ASKED);
    let mut child = hanging(&ground);
    child.kill().expect("it lives");
    child.wait().expect("it ends");
    let listed = ground.run(&["list", "--json"]).document();
    assert_eq!((listed.as_array().map(Vec::len), listed[0]["live"].as_bool()), (Some(1), Some(false)), "{listed}");
    let named = ground.run(&["gc", "--dry-run"]).document();
    assert_eq!(named["removed"][0], listed[0]["run"]);
    assert_eq!(ground.run(&["list", "--json"]).document()[0]["run"], listed[0]["run"], "only named");
    assert!(!ground.processes().is_empty(), "the runtime has no lifeline: it hangs on");
    assert_eq!(ground.run(&["gc"]).document()["removed"][0], listed[0]["run"]);
    assert_eq!(ground.run(&["gc"]).document()["removed"], serde_json::json!([]), "twice is fine");
    ground.is_clean();
}
