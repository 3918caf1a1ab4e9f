//! What is answered without any run: schemas, bundles, and the silence of an init that is no init.

use crate::ground::{Ground, answer, bare};
use crate::oci::oci;
use serde_json::{Value, json};
use std::path::Path;

#[test]
fn schemas_are_the_committed_ones() {
    for name in ["job", "outcome", "policy"] {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/schema/{name}.json"));
        let golden: Value = serde_json::from_slice(&std::fs::read(golden).expect("committed")).expect("JSON");
        let answer = answer(bare(&["schema", name]));
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""));
        assert_eq!(answer.document(), golden, "{name}");
    }
    assert_eq!(answer(bare(&["schema", "plan"])).code, Some(125));
}

#[test]
fn a_bundle_is_written_and_valid_and_nothing_runs() {
    let ground = Ground::new("exit 1");
    let out = ground.at("out");
    let job = json!({
        "argv": ["python3", "main.py"],
        "files": {"main.py": "print(1)\n", "a/b.sh": {"text": "", "mode": "0700"}},
        "limits": {"memory": "64MiB", "cpus": 0.5},
    });
    let answer = ground.fed(&["bundle", "--job", "-", "--out", out.to_str().expect("text")], job.to_string());
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{answer:?}");
    assert_eq!(answer.document()["bundle"], json!(out));
    let config = std::fs::read(out.join("config.json")).expect("written");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    let wrong: Vec<String> = oci().iter_errors(&config).map(|e| e.to_string()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
    assert_eq!(config["process"]["args"], job["argv"]);
    assert_eq!(config["linux"]["resources"]["memory"]["limit"], 64 << 20);
    use std::os::unix::fs::MetadataExt;
    let main = std::fs::metadata(out.join("sandbox/main.py")).expect("delivered");
    let owner = answer.document()["first_id"].as_u64().expect("a number") + 1000;
    assert_eq!((u64::from(main.uid()), main.mode() & 0o7777, main.len()), (owner, 0o644, 9));
    assert_eq!(std::fs::metadata(out.join("sandbox/a/b.sh")).expect("delivered").mode() & 0o7777, 0o700);
    assert!(out.join("rootfs/etc/passwd").is_file());
    ground.is_clean();
}

#[test]
fn the_doctor_finds_what_a_run_would_stumble_over() {
    let ground = Ground::new("exit 1");
    let told = ground.run(&["doctor", "--json"]).document();
    let findings = told["findings"].as_array().expect("a list").clone();
    assert!(findings.len() >= 10, "{told}");
    let failing = |told: &Value| -> Vec<String> {
        let all = told["findings"].as_array().into_iter().flatten().filter(|f| f["state"] == "fail");
        all.map(|f| f["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    std::fs::remove_file(ground.runtime()).expect("our own");
    let answer = ground.run(&["doctor", "--json"]);
    let now = failing(&answer.document());
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(3), ""));
    let new: Vec<&String> = now.iter().filter(|name| !failing(&told).contains(name)).collect();
    assert_eq!(new, ["runtime"], "{}", answer.stdout);
    let lines = ground.run(&["doctor"]);
    assert!(lines.code == Some(3) && lines.stdout.contains("no job can run"), "{lines:?}");
    ground.is_clean();
}

/// It ends by killing all that it may signal, so it must not begin where that is the host.
#[test]
fn init_does_nothing_outside_a_cell() {
    let answer = answer(bare(&["init"]));
    assert_eq!((answer.code, answer.stdout.as_str(), answer.stderr.as_str()), (Some(1), "", ""));
}
