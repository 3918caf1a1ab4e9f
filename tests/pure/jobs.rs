//! Whatever anybody sends as a job is planned, or refused with its place. Never a panic, never a fault of ours.

use crate::host::{facts, planned};
use crate::oci::oci;
use crate::runner;
use crate::schema::ours;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use runcell::model::document;
use runcell::model::facts::Layout;
use runcell::model::fault::Whose;
use runcell::model::policy::Policy;
use runcell::rules::spec::{self, Place};
use runcell::work::schema::Document;
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::collections::BTreeMap;

const FIELDS: &[&str] = &[
    "id", "bundle", "image", "argv", "env", "cwd", "user", "stdin", "files", "mounts", "collect", "network", "limits", "labels",
    "text", "base64", "file", "mode", "target", "bind", "tmpfs", "writable", "wall", "memory", "io", "device", "rlimits",
    "bogus",
];

/// Texts that mean something somewhere in a job.
const MEANT: &[&str] = &[
    "",
    "host",
    "none",
    "python",
    "/",
    "/data",
    "/host/data",
    "/sandbox/x",
    "/proc/1",
    "a/../b",
    "..",
    "0755",
    "64MiB",
    "250ms",
    "1000:1000",
    "0-3",
    "**",
    "eA==",
    "/dev/vda",
    "[",
    "x\0y",
];

/// Those, and any others.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![proptest::sample::select(MEANT).prop_map(str::to_owned), ".{0,12}"]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let name = prop_oneof![3 => proptest::sample::select(FIELDS).prop_map(str::to_owned), 1 => ".{0,6}"];
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(name, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// One of its own kind, and where it is wild now and then anything.
fn mostly(own: impl Strategy<Value = Value> + 'static, wild: bool) -> BoxedStrategy<Value> {
    if wild { prop_oneof![6 => own, 1 => any_json()].boxed() } else { own.boxed() }
}

/// A name of its own kind, and where it is wild any text.
fn name(own: &'static str, wild: bool) -> BoxedStrategy<String> {
    if wild { prop_oneof![2 => own, 1 => text()].boxed() } else { own.boxed() }
}

/// A number that makes sense, and where it is wild any.
fn number(sensible: std::ops::Range<u64>, wild: bool) -> BoxedStrategy<u64> {
    if wild { prop_oneof![2 => sensible, 1 => any::<u64>()].boxed() } else { sensible.boxed() }
}

fn content(wild: bool) -> BoxedStrategy<Value> {
    let own = prop_oneof![
        ".{0,9}".prop_map(Value::from),
        Just(json!({"base64": "AAE=", "mode": "0700"})),
        Just(json!({"file": "/host/in.csv"})),
    ];
    mostly(own, wild)
}

fn mount() -> impl Strategy<Value = Value> {
    let target = prop_oneof![
        8 => Just("/data"),
        8 => Just("/data/in"),
        8 => Just("/sandbox/x"),
        8 => Just("/tmp"),
        1 => Just("/proc"),
        1 => Just("/usr/x"),
    ];
    let source = prop_oneof![
        4 => Just(json!({"bind": "/host/data"})),
        4 => Just(json!({"bind": "/host/out", "writable": true})),
        4 => Just(json!({"tmpfs": "1MiB"})),
        1 => Just(json!({"bind": "/etc"})),
    ];
    (target, source).prop_map(|(target, mut mount)| {
        mount["target"] = target.into();
        mount
    })
}

fn limits(wild: bool) -> impl Strategy<Value = Value> {
    let n = |sensible| number(sensible, wild);
    let one = prop_oneof![
        n(1..100).prop_map(|n| json!({"wall": n})),
        Just(json!({"cpu": "5s", "grace": 0})),
        n(6 << 20..1 << 34).prop_map(|n| json!({"memory": n})),
        n(1..4_000_000).prop_map(|n| json!({"pids": n})),
        (0.01f64..10.0).prop_map(|n| json!({"cpus": n})),
        n(1..10_000).prop_map(|n| json!({"cpu_weight": n})),
        if wild { "[0-9,-]{0,6}" } else { "[0-7](,[0-7]|-7)?" }.prop_map(|set| json!({"cpuset": set})),
        n(1 << 17..1 << 20).prop_map(|n| json!({"open_files": n, "inodes": n, "stack": n, "sandbox": n, "output": n})),
        n(1..1 << 40).prop_map(|n| json!({"io": [{"device": "/dev/vda", "rbps": n, "wiops": 1}]})),
        any::<u64>().prop_map(|n| json!({"rlimits": {"as": n, "core": 0}})),
    ];
    vec(one, 0..4).prop_map(|all| {
        let fields = all.into_iter().flat_map(|one| one.as_object().cloned().unwrap_or_default());
        Value::Object(fields.collect())
    })
}

fn job(wild: bool) -> impl Strategy<Value = Value> {
    let argv = vec(name("[a-zü/ .-]{1,9}", wild), 1..4).prop_map(|all| json!(all));
    let env = btree_map(name("[A-Z]{1,4}", wild), name("[^\0]{0,9}", wild), 0..3).prop_map(|map| json!(map));
    let files = btree_map(name("[a-z]{1,3}(\\.[a-z])?", wild), content(wild), 0..4);
    let files = files.prop_map(|map| Value::Object(map.into_iter().collect()));
    let field = |name: &'static str, own: BoxedStrategy<Value>| {
        let value = prop_oneof![3 => mostly(own, wild).prop_map(Some), 2 => Just(None)];
        value.prop_map(move |value| value.map(|value| (name.to_owned(), value))).boxed()
    };
    let words = |words: &'static [&'static str]| proptest::sample::select(words).prop_map(Value::from).boxed();
    let fields = [
        mostly(argv, wild).prop_map(|argv| Some(("argv".to_owned(), argv))).boxed(),
        field("id", "[a-z]{1,9}".prop_map(Value::from).boxed()),
        field("bundle", words(&["python", "shell", "c-gcc", "default"])),
        field("image", words(&["host", "host", "/srv/image"])),
        field("env", env.boxed()),
        field("cwd", words(&["/sandbox", "/tmp", "/", "/data", "/proc/self/fd/7"])),
        field("user", words(&["0:0", "1000", "65533:65533"])),
        field("stdin", content(wild)),
        field("files", files.boxed()),
        field("mounts", vec(mount(), 0..3).prop_map(Value::from).boxed()),
        field("collect", Just(json!(["**"])).boxed()),
        field("network", words(&["none", "none", "host"])),
        field("limits", limits(wild).boxed()),
        field("labels", Just(json!({"a": "b"})).boxed()),
    ];
    Vec::from(fields).prop_map(|fields| Value::Object(fields.into_iter().flatten().collect::<Map<_, _>>()))
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_of_jobs_panic(bytes in vec(any::<u8>(), 0..400)) {
        if let Err(fault) = document::job(&bytes) {
            prop_assert_eq!((fault.whose, fault.path.is_some()), (Whose::Caller, true));
        }
    }

    #[test]
    fn no_damage_to_a_job_makes_its_reader_panic(
        damage in vec((any::<proptest::sample::Index>(), any::<u8>(), 0..3u8), 1..8)
    ) {
        let mut bytes = include_bytes!("../golden/everything.job.json").to_vec();
        for (at, byte, how) in damage {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        if let Err(fault) = document::job(&bytes) {
            prop_assert_eq!((fault.whose, fault.path.is_some()), (Whose::Caller, true));
        }
    }

    #[test]
    fn no_text_makes_the_reader_of_policies_panic(text in "(\\[[a-z.]{0,9}\\]|[a-z_]{1,8} = .{0,9}|\n){0,12}") {
        if let Ok(policy) = toml::from_str::<Policy>(&text) {
            prop_assert!(policy.ids.first >= 65_536, "host root is never mapped");
        }
    }
}

#[test]
fn a_job_is_planned_or_refused_by_its_path() {
    let policy: Policy =
        toml::from_str("bind = ['/host']\nbind_writable = ['/host/out']\n[ceilings]\nmemory = '1GiB'\n").expect("fine");
    let (job_schema, oci_schema) = (ours(Document::Job), oci());
    let (read, made, refused) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let place = Place {
        first_id: 65_536,
        cgroup: "/c",
        rootfs: "rootfs",
        init: "/init",
        devices: None,
        staged: BTreeMap::new(),
        sandbox: Some("/s"),
    };
    let check = |job: Value| {
        let bytes = job.to_string().into_bytes();
        if document::job(&bytes).is_ok() {
            read.set(read.get() + 1);
            prop_assert!(job_schema.is_valid(&job), "the schema refuses what is read");
        }
        for layout in [Layout::V1, Layout::V2] {
            match planned(&bytes, &policy, layout) {
                Ok(plan) => {
                    made.set(made.get() + 1);
                    prop_assert!(plan.limits.memory.0 <= 1 << 30 && !plan.fill.argv.is_empty());
                    let devices = facts(layout).devices;
                    let cell = spec::cell(&plan.shape, &place, None).expect("the baseline is usable");
                    let alone = spec::standalone(&plan, &place, &devices).expect("the baseline is usable");
                    for spec in [cell, alone] {
                        let config = serde_json::to_value(spec).expect("JSON");
                        prop_assert!(oci_schema.is_valid(&config), "{}", config);
                    }
                }
                Err(fault) => {
                    refused.set(refused.get() + 1);
                    prop_assert!(fault.whose != Whose::Ours, "{:?}", fault);
                    prop_assert!(fault.path.as_ref().is_some_and(|p| !p.is_empty()), "{:?}", fault);
                }
            }
        }
        Ok(())
    };
    runner(600).run(&prop_oneof![job(false), job(true)], check).unwrap_or_else(|e| panic!("{e}"));
    let seen = (read.get(), made.get(), refused.get());
    assert!(seen.0 > 150 && seen.1 > 100 && seen.2 > 100, "the jobs are too much alike: {seen:?}");
}
