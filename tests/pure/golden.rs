//! Jobs and the configurations that are made of them, committed beside each other: whoever moves one sees it in the diff.
//! `BLESS=1 cargo test --test pure` writes them anew.

use crate::host::{facts, planned};
use crate::oci::oci;
use runcell::model::facts::Layout;
use runcell::model::job::Content;
use runcell::model::paths::RelPath;
use runcell::model::plan::{Plan, PlannedMount};
use runcell::model::policy::Policy;
use runcell::rules::spec::{self, Place};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where golden files are.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Compares with a committed file, or writes it where BLESS is set.
pub(crate) fn expect(path: &Path, made: &Value) {
    let text = serde_json::to_string_pretty(made).expect("a value is JSON") + "\n";
    if std::env::var_os("BLESS").is_some_and(|v| v == "1") {
        std::fs::write(path, text).expect("golden files can be written");
        return;
    }
    let name = path.display();
    let committed = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{name}: {e}; BLESS=1 writes it"));
    let differs = committed.lines().zip(text.lines()).position(|(was, is)| was != is);
    if committed != text {
        let line = differs.unwrap_or_else(|| committed.lines().count().min(text.lines().count()));
        let at = |text: &str| text.lines().nth(line).unwrap_or("(the end)").to_owned();
        panic!("{name}, line {}: it was\n{}\nand is now\n{}\nBLESS=1 accepts that", line + 1, at(&committed), at(&text));
    }
}

struct Case {
    name: String,
    plan: Plan,
    policy: Policy,
}

fn cases() -> Vec<Case> {
    let entries = std::fs::read_dir(directory()).expect("tests/golden").flatten();
    let mut names: Vec<String> =
        entries.filter_map(|e| Some(e.file_name().to_str()?.strip_suffix(".job.json")?.to_owned())).collect();
    names.sort();
    names.into_iter().map(case).collect()
}

fn case(name: String) -> Case {
    let at = |kind: &str| directory().join(format!("{name}.{kind}"));
    let job = std::fs::read(at("job.json")).expect("listed");
    let policy = std::fs::read_to_string(at("policy.toml")).unwrap_or_default();
    let policy: Policy = toml::from_str(&policy).unwrap_or_else(|e| panic!("{name}: {e}"));
    let plan = planned(&job, &policy, Layout::V2).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    let other = planned(&job, &policy, Layout::V1).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    assert_eq!((&plan.shape, &plan.fill), (&other.shape, &other.fill), "{name}: only limits may depend on the layout");
    Case { name, plan, policy }
}

/// Both configurations of a case: of the waiting cell, and of the bundle that stands alone.
fn configurations(case: &Case) -> [(&'static str, Value); 2] {
    let binds = case.plan.shape.mounts.iter().enumerate().filter_map(|(n, mount)| match mount {
        PlannedMount::Bind { source, .. } => Some((source.as_str().to_owned(), format!("/run/runcell/runs/RUN/staged/{n}"))),
        PlannedMount::Tmpfs { .. } => None,
    });
    let place = Place {
        first_id: case.policy.ids.slot(0),
        cgroup: "/runcell/RUN",
        rootfs: "/run/runcell/runs/RUN/bundle/rootfs",
        init: "/usr/local/bin/runcell",
        devices: (!case.plan.shape.writable_root).then_some("/run/runcell/skeletons/DEV"),
        staged: binds.collect(),
        sandbox: None,
    };
    let files: &[(RelPath, u32, Content)] = &case.plan.fill.files;
    let alone = Place {
        rootfs: "rootfs",
        init: "",
        devices: None,
        staged: BTreeMap::new(),
        sandbox: (!files.is_empty()).then_some("/bundle/sandbox"),
        ..place.clone()
    };
    let cell = spec::cell(&case.plan.shape, &place, None).expect("the baseline is usable");
    let bundle = spec::standalone(&case.plan, &alone, &facts(Layout::V2).devices).expect("the baseline is usable");
    let value = |spec| serde_json::to_value(spec).expect("a specification is JSON");
    [("cell", value(&cell)), ("bundle", value(&bundle))]
}

#[test]
fn configurations_have_not_moved_and_are_valid() {
    let cases = cases();
    assert!(cases.len() >= 7, "{} cases", cases.len());
    let schema = oci();
    for case in &cases {
        for (kind, made) in configurations(case) {
            let name = format!("{}.{kind}.config.json", case.name);
            let wrong: Vec<String> = schema.iter_errors(&made).map(|e| format!("{}: {e}", e.instance_path())).collect();
            assert!(wrong.is_empty(), "{name} is no OCI configuration: {}", wrong.join("; "));
            expect(&directory().join(name), &made);
        }
    }
}

/// What no blessing may take away.
#[test]
fn no_configuration_gives_more_than_the_threat_model_allows() {
    for case in cases() {
        for (kind, made) in configurations(&case) {
            let name = format!("{} {kind}", case.name);
            let at = |pointer: &str| made.pointer(pointer).unwrap_or(&Value::Null);
            let capabilities = at("/process/capabilities").as_object().expect("named, so that no default applies");
            assert!(capabilities.len() == 5 && capabilities.values().all(|set| set == &Value::Array(vec![])), "{name}");
            assert_eq!(at("/process/noNewPrivileges"), true, "{name}");
            assert_eq!(at("/root/readonly"), true, "{name}");
            for ids in ["/linux/uidMappings", "/linux/gidMappings"] {
                let expected = serde_json::json!([{"containerID": 0, "hostID": case.policy.ids.slot(0), "size": 65536}]);
                assert_eq!(at(ids), &expected, "{name}");
            }
            let namespaces: Vec<&str> =
                at("/linux/namespaces").as_array().expect("a list").iter().filter_map(|n| n["type"].as_str()).collect();
            for needed in ["user", "mount", "pid", "ipc", "uts", "cgroup"] {
                assert!(namespaces.contains(&needed), "{name}: {needed}");
            }
            assert!(namespaces.contains(&"network") || case.policy.network_host, "{name}");
            for mount in at("/mounts").as_array().expect("a list") {
                let options: Vec<&str> = mount["options"].as_array().expect("options").iter().filter_map(Value::as_str).collect();
                let target = mount["destination"].as_str().expect("a path");
                assert!(options.contains(&"nosuid"), "{name}: {target}");
                assert!(options.contains(&"nodev") || target.starts_with("/dev"), "{name}: {target}");
                assert!(!target.starts_with("/sys") && mount["type"] != "sysfs" && mount["type"] != "cgroup2", "{name}");
                let bounded = |what: &str| options.iter().any(|o| o.starts_with(what));
                assert!(mount["type"] != "tmpfs" || (bounded("size=") && bounded("nr_inodes=")), "{name}: {target}");
            }
        }
    }
}
