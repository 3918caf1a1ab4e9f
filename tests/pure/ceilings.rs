//! No limit is ever above its ceiling, whatever is asked for and whatever the policy says.

use crate::runner;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use runcell::model::limits::{Asked, IoLimit, Limits, Rlimit};
use runcell::model::policy::Over;
use runcell::model::quantity::{Bytes, Span};
use runcell::model::unique::Unique;
use runcell::rules::ceilings;
use serde_json::json;
use std::cell::Cell;
use std::collections::BTreeMap;

fn maybe<T: std::fmt::Debug + Clone + 'static>(of: impl Strategy<Value = T> + 'static) -> BoxedStrategy<Option<T>> {
    proptest::option::weighted(0.4, of).boxed()
}

fn span() -> BoxedStrategy<Option<Span>> {
    maybe((1u64..1 << 42).prop_map(Span::from_nanos))
}

fn size(least: u64) -> BoxedStrategy<Option<Bytes>> {
    maybe((least..1 << 30).prop_map(Bytes))
}

fn cores() -> BoxedStrategy<Option<String>> {
    maybe(prop_oneof!["[0-7]", "[0-3]-[4-7]", "[0-7],[0-7]"])
}

fn rates() -> BoxedStrategy<Option<Vec<IoLimit>>> {
    let device = prop_oneof![Just("/dev/vda"), Just("/dev/root"), Just("/dev/vdb")];
    let one = (device, size(1), size(1), 1u64..1 << 30).prop_map(|(device, rbps, wbps, riops)| IoLimit {
        device: device.to_owned().try_into().expect("below /dev"),
        rbps,
        wbps,
        riops: Some(riops),
        wiops: None,
    });
    maybe(vec(one, 0..3))
}

fn asked() -> impl Strategy<Value = Asked> {
    let names = prop_oneof![Just(Rlimit::As), Just(Rlimit::Core), Just(Rlimit::Memlock), Just(Rlimit::Data)];
    let rlimits = maybe(btree_map(names, any::<u64>(), 0..3));
    let times = (span(), span(), span());
    let sizes = (size(6 << 20), size(0), size(1), size(1), size(1), size(128 << 10));
    let counts = (maybe(1u64..1 << 22), maybe(1u64..10_000), maybe(16u64..1 << 40), maybe(3u64..1 << 20));
    (times, sizes, counts, maybe(0.01f64..64.0), cores(), rates(), rlimits).prop_map(|(t, s, n, cpus, cpuset, io, rlimits)| {
        Asked {
            wall: t.0,
            cpu: t.1,
            grace: t.2.map(|g| Span::from_nanos(g.nanos() >> 1)),
            memory: s.0,
            swap: s.1,
            output: s.2,
            sandbox: s.3,
            file_size: s.4,
            stack: s.5,
            pids: n.0,
            cpu_weight: n.1,
            inodes: n.2,
            open_files: n.3,
            cpus,
            cpuset,
            io,
            rlimits: rlimits.map(Unique),
        }
    })
}

/// `/dev/root` is another name of `/dev/vda`.
fn devices() -> BTreeMap<String, String> {
    let of = |name: &str, number: &str| (name.to_owned(), number.to_owned());
    [of("/dev/vda", "254:0"), of("/dev/root", "254:0"), of("/dev/vdb", "254:16")].into()
}

/// Every limit that is above its ceiling.
fn above(l: &Limits, top: &Asked) -> Vec<&'static str> {
    fn over<T: PartialOrd>(value: T, top: Option<T>) -> bool {
        top.is_some_and(|top| value > top)
    }
    /// Absent is unlimited.
    fn over_optional<T: PartialOrd>(value: Option<T>, top: Option<T>) -> bool {
        top.is_some_and(|top| value.is_none_or(|value| value > top))
    }
    let number = |io: &IoLimit| devices()[io.device.as_str()].clone();
    let io_over = |top: &IoLimit| {
        let mut same = l.io.iter().filter(|io| number(io) == number(top)).peekable();
        same.peek().is_none()
            || same.any(|io| {
                over_optional(io.rbps, top.rbps) || over_optional(io.wbps, top.wbps) || over_optional(io.riops, top.riops)
            })
    };
    let set = |text: &Option<String>| text.as_deref().and_then(ceilings::cores);
    let cores_over =
        set(&top.cpuset).is_some_and(|top| set(&l.cpuset).is_none_or(|own| own.iter().any(|core| !top.contains(core))));
    let rlimit_over = |(name, top): (&Rlimit, &u64)| l.rlimits.get(name).is_some_and(|value| value > top);
    let rows = [
        ("wall", over(l.wall, top.wall)),
        ("cpu", over_optional(l.cpu, top.cpu)),
        ("grace", over(l.grace, top.grace)),
        ("memory", over(l.memory, top.memory)),
        ("swap", over(l.swap, top.swap)),
        ("pids", over(l.pids, top.pids)),
        ("cpus", over_optional(l.cpus, top.cpus)),
        ("cpu_weight", over_optional(l.cpu_weight, top.cpu_weight)),
        ("output", over(l.output, top.output)),
        ("sandbox", over(l.sandbox, top.sandbox)),
        ("inodes", over(l.inodes, top.inodes)),
        ("file_size", over(l.file_size, top.file_size)),
        ("open_files", over(l.open_files, top.open_files)),
        ("stack", over(l.stack, top.stack)),
        ("io", top.io.iter().flatten().any(io_over)),
        ("cpuset", cores_over),
        ("rlimits", top.rlimits.iter().flat_map(|r| r.iter()).any(rlimit_over)),
    ];
    rows.into_iter().filter(|(_, above)| *above).map(|(name, _)| name).collect()
}

#[test]
fn no_limit_is_ever_above_its_ceiling() {
    let (held, refused) = (Cell::new(0), Cell::new(0));
    let check = |(want, top, over): (Asked, Asked, Over)| {
        match ceilings::effective(want.clone(), &top, over, &devices()) {
            Ok(limits) => {
                held.set(held.get() + 1);
                prop_assert_eq!(above(&limits, &top), Vec::<&str>::new());
                if over == Over::Refuse {
                    // Nothing that was asked for has been taken away in silence.
                    let (memory, wall, pids) = (want.memory, want.wall, want.pids);
                    prop_assert!(memory.is_none_or(|m| m == limits.memory), "memory");
                    prop_assert!(wall.is_none_or(|w| w == limits.wall), "wall");
                    prop_assert!(pids.is_none_or(|p| p == limits.pids), "pids");
                }
            }
            Err(fault) => {
                refused.set(refused.get() + 1);
                prop_assert!(fault.path.is_some_and(|p| p.starts_with("limits.") || p.starts_with("ceilings.")));
            }
        }
        Ok(())
    };
    let over = prop_oneof![3 => Just(Over::Clamp), 1 => Just(Over::Refuse)];
    runner(3000).run(&(asked(), asked(), over), check).unwrap_or_else(|e| panic!("{e}"));
    assert!(held.get() > 300 && refused.get() > 100, "{} held, {} refused", held.get(), refused.get());
}

#[test]
fn the_check_of_ceilings_sees_each_of_them() {
    let json = json!({"wall": 1, "cpu": 1, "grace": 0, "memory": 1, "swap": 0, "pids": 1, "cpus": 0.5, "cpu_weight": 1, "cpuset": "0",
        "output": 1, "sandbox": 1, "inodes": 1, "file_size": 1, "open_files": 1, "stack": 1, "rlimits": {"as": 1},
        "io": [{"device": "/dev/root", "riops": 1}]});
    let top: Asked = serde_json::from_value(json.clone()).expect("limits");
    let mut free = Limits { swap: Bytes(1), ..Limits::default() };
    free.rlimits.insert(Rlimit::As, 2);
    free.io = vec![IoLimit { device: "/dev/vda".to_owned().try_into().expect("a device"), ..IoLimit::default() }];
    assert_eq!(above(&free, &top).len(), json.as_object().expect("an object").len());
}
