//! Leftovers of runs that nobody owns any more, made by hand at each half-way point.

use crate::ground::{Ground, RUNCELL, answer};
use assert_cmd::Command;
use serde_json::json;

const RUN: &str = "01J8ZQ4X8M2V7K3W9T5R1N6C0D";
/// Slot 0 of the default range.
const SLOT: &str = "1073741824";

/// A state directory with one stale run in it: this record, and the id range in quarantine if it says so.
fn abandoned(record: Option<&str>) -> Ground {
    let ground = Ground::new("exit 1");
    assert_eq!(ground.run(&["list", "--json"]).document(), json!([]), "makes the directories");
    std::fs::create_dir_all(ground.root().join("runs").join(RUN).join("bundle/rootfs/etc")).expect("our own directory");
    if let Some(record) = record {
        ground.write(&format!("root/runs/{RUN}/record.json"), record);
        ground.write(&format!("root/ids/{SLOT}"), RUN);
        std::fs::create_dir(ground.root().join("runtime").join(RUN)).expect("our own directory");
    }
    ground
}

fn record(slot: &str) -> String {
    format!(
        r#"{{"run":"{RUN}","id":"j","state":"running","supervisor":{{"pid":1,"start_ticks":0}},"argv0":"true",
            "cgroup":"/runcell-test-stale-{}/{RUN}","first_id":{slot}}}"#,
        std::process::id()
    )
}

#[test]
fn gc_removes_it_from_any_half_way_point() {
    for record in [None, Some(record(SLOT))] {
        let ground = abandoned(record.as_deref());
        let swept = ground.run(&["gc"]);
        assert_eq!((swept.code, &swept.document()["removed"]), (Some(0), &json!([RUN])), "{swept:?}");
        ground.is_clean();
    }
}

#[test]
fn a_run_that_makes_no_sense_is_removed_but_its_ids_stay_in_quarantine() {
    for record in ["", "{", "{\"run\":1}", &record("4000000000"), &record("null")] {
        let ground = abandoned(Some(record));
        let swept = ground.run(&["gc"]);
        assert_eq!((swept.code, &swept.document()["removed"]), (Some(0), &json!([RUN])), "{record}: {swept:?}");
        assert_eq!(std::fs::read_to_string(ground.root().join("ids").join(SLOT)).expect("there"), RUN, "{record}");
    }
}

#[test]
fn each_start_sweeps_in_passing() {
    let ground = abandoned(Some(&record(SLOT)));
    assert_eq!(ground.job(r#"{"argv":["true"]}"#).code, Some(4), "the runtime fails");
    ground.is_clean();
}

#[test]
fn kill_demolishes_what_has_no_supervisor() {
    for name in ["j", RUN] {
        let ground = abandoned(Some(&record(SLOT)));
        let killed = ground.run(&["kill", name]);
        assert_eq!((killed.code, killed.document()), (Some(0), json!({"killed": [RUN]})), "{killed:?}");
        ground.is_clean();
    }
}

/// `sudo runcell kill RUN`, `timeout 9 runcell kill RUN` and the like bear the run's name too, and are no part of it.
#[test]
fn whoever_only_names_a_run_survives_its_end() {
    let ground = abandoned(Some(&record(SLOT)));
    let mut command = Command::new("timeout");
    command.arg("60").arg(RUNCELL).args(["kill", RUN]).args(ground.bound());
    let killed = answer(command);
    assert_eq!((killed.code, killed.document()), (Some(0), json!({"killed": [RUN]})), "{killed:?}");
    ground.is_clean();
}

#[test]
fn what_is_not_a_run_is_left_alone() {
    let ground = abandoned(None);
    std::fs::create_dir(ground.root().join("runs/lost+found")).expect("our own directory");
    std::os::unix::fs::symlink("/etc", ground.root().join("runs/01J8ZQ4X8M2V7K3W9T5R1N6C0E")).expect("our own directory");
    ground.run(&["gc"]);
    assert!(ground.root().join("runs/lost+found").is_dir());
    assert!(std::path::Path::new("/etc/passwd").exists(), "links are not followed");
}
