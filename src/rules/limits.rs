//! The limits table: one row a limit that the kernel's control groups enforce, for both layouts.
//!
//! v2 files are documented in Documentation/admin-guide/cgroup-v2.rst, v1 files in Documentation/admin-guide/cgroup-v1/.

use crate::model::facts::{Facts, Layout};
use crate::model::fault::Fault;
use crate::model::limits::{IoLimit, Limits};
use crate::model::plan::CgroupWrite;
use std::collections::BTreeMap;

/// How often the cpu controller refills a group's quota: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

type Values = Vec<(&'static str, String)>;

struct Row {
    limit: &'static str,
    /// The controller's name on v2, and on v1.
    controller: (&'static str, &'static str),
    asked: fn(&Limits) -> bool,
    v2: fn(&Limits, &Facts) -> Values,
    v1: fn(&Limits, &Facts) -> Values,
}

const ROWS: &[Row] = &[
    Row {
        limit: "memory",
        controller: ("memory", "memory"),
        asked: |_| true,
        // Not oom.group = 1: it would kill init as well, and with it the report and the files.
        v2: |l, _| vec![("memory.max", l.memory.0.to_string()), ("memory.oom.group", "0".into())],
        v1: |l, _| vec![("memory.limit_in_bytes", l.memory.0.to_string())],
    },
    Row {
        limit: "swap",
        controller: ("memory", "memory"),
        asked: |_| true,
        v2: |l, f| if f.swap_limit { vec![("memory.swap.max", l.swap.0.to_string())] } else { vec![] },
        // memsw counts both together, and must not be below memory: hence its place after it.
        v1: |l, f| match f.swap_limit {
            true => vec![("memory.memsw.limit_in_bytes", l.memory.0.saturating_add(l.swap.0).to_string())],
            false => vec![],
        },
    },
    Row {
        limit: "pids",
        controller: ("pids", "pids"),
        asked: |_| true,
        // Init is one of them.
        v2: |l, _| vec![("pids.max", (l.pids + 1).to_string())],
        v1: |l, _| vec![("pids.max", (l.pids + 1).to_string())],
    },
    Row {
        limit: "cpus",
        controller: ("cpu", "cpu"),
        asked: |l| l.cpus.is_some(),
        v2: |l, _| l.cpus.map(|c| ("cpu.max", format!("{} {CPU_PERIOD_US}", quota(c)))).into_iter().collect(),
        v1: |l, _| {
            let row = |c| [("cpu.cfs_period_us", CPU_PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota(c).to_string())];
            l.cpus.map(row).into_iter().flatten().collect()
        },
    },
    Row {
        limit: "cpu_weight",
        controller: ("cpu", "cpu"),
        asked: |l| l.cpu_weight.is_some(),
        v2: |l, _| l.cpu_weight.map(|w| ("cpu.weight", w.to_string())).into_iter().collect(),
        // 100 on v2 is what 1024 is on v1; v1's least is 2.
        v1: |l, _| l.cpu_weight.map(|w| ("cpu.shares", (w * 1024 / 100).max(2).to_string())).into_iter().collect(),
    },
    Row {
        limit: "cpuset",
        controller: ("cpuset", "cpuset"),
        asked: |l| l.cpuset.is_some(),
        v2: |l, _| l.cpuset.clone().map(|c| ("cpuset.cpus", c)).into_iter().collect(),
        v1: |l, _| l.cpuset.clone().map(|c| ("cpuset.cpus", c)).into_iter().collect(),
    },
    Row {
        limit: "io",
        controller: ("io", "blkio"),
        asked: |l| !l.io.is_empty(),
        v2: |l, f| l.io.iter().map(|io| ("io.max", io_max(io, f))).collect(),
        v1: |l, f| l.io.iter().flat_map(|io| throttle(io, f)).collect(),
    },
];

/// The kernel refuses quotas below 1 ms.
fn quota(cpus: f64) -> u64 {
    ((cpus * CPU_PERIOD_US as f64) as u64).max(1_000)
}

fn number<'a>(io: &IoLimit, facts: &'a Facts) -> &'a str {
    facts.devices.get(io.device.as_str()).map_or("", String::as_str)
}

fn figures(io: &IoLimit) -> [(&'static str, &'static str, Option<u64>); 4] {
    [
        ("rbps", "blkio.throttle.read_bps_device", io.rbps.map(|b| b.0)),
        ("wbps", "blkio.throttle.write_bps_device", io.wbps.map(|b| b.0)),
        ("riops", "blkio.throttle.read_iops_device", io.riops),
        ("wiops", "blkio.throttle.write_iops_device", io.wiops),
    ]
}

fn io_max(io: &IoLimit, facts: &Facts) -> String {
    let given = figures(io).into_iter().filter_map(|(key, _, value)| value.map(|v| format!(" {key}={v}")));
    given.fold(number(io, facts).to_owned(), |line, one| line + &one)
}

fn throttle(io: &IoLimit, facts: &Facts) -> Values {
    let device = number(io, facts);
    figures(io).into_iter().filter_map(|(_, file, value)| value.map(|v| (file, format!("{device} {v}")))).collect()
}

/// What is to be written into the cell's groups, and by what every limit is enforced.
///
/// # Errors
/// exit 3 where this host cannot enforce a limit and `best_effort` is false; names the controller and the repair.
pub fn enforce(
    limits: &Limits,
    facts: &Facts,
    best_effort: bool,
) -> Result<(Vec<CgroupWrite>, BTreeMap<&'static str, &'static str>), Fault> {
    let mut writes = Vec::new();
    let mut enforced: BTreeMap<&str, &str> = elsewhere(limits).into_iter().collect();
    for row in ROWS.iter().filter(|row| (row.asked)(limits)) {
        let (controller, label) = match facts.layout {
            Layout::V2 => (row.controller.0, "cgroup2"),
            Layout::V1 => (row.controller.1, "cgroup1"),
        };
        let how = match row.limit {
            // No swap on this host: a limit on it holds by itself.
            "swap" if facts.swap_bytes == 0 => "host",
            "swap" if !facts.swap_limit => "none",
            _ if !facts.controllers.contains(controller) => "none",
            _ => label,
        };
        if how == "none" && !best_effort {
            return Err(lacking(row.limit, controller, facts.layout));
        }
        enforced.insert(row.limit, how);
        if how == label || (how == "host" && facts.swap_limit && facts.controllers.contains(controller)) {
            let values = if facts.layout == Layout::V2 { (row.v2)(limits, facts) } else { (row.v1)(limits, facts) };
            let row = |(file, value)| CgroupWrite { limit: row.limit, controller, file, value };
            writes.extend(values.into_iter().map(row));
        }
    }
    Ok((writes, enforced))
}

/// Limits that need no control group.
fn elsewhere(l: &Limits) -> Vec<(&'static str, &'static str)> {
    let rlimits: &[&str] = if l.rlimits.is_empty() { &[] } else { &["rlimits"] };
    let cpu: &[&str] = if l.cpu.is_some() { &["cpu"] } else { &[] };
    let by = |how: &'static str| move |name: &&'static str| (*name, how);
    let supervisor = ["wall", "grace", "output"];
    let tmpfs = ["sandbox", "inodes"];
    let rlimit = ["file_size", "open_files", "stack"];
    supervisor
        .iter()
        .chain(cpu)
        .map(by("supervisor"))
        .chain(tmpfs.iter().map(by("tmpfs")))
        .chain(rlimit.iter().chain(rlimits).map(by("rlimit")))
        .collect()
}

fn lacking(limit: &str, controller: &str, layout: Layout) -> Fault {
    let hint = match (layout, limit) {
        (_, "swap") => "turn swap off (swapoff -a), boot with swapaccount=1, or run with --best-effort".to_owned(),
        (Layout::V2, _) => format!(
            "hand the controller down: echo +{controller} > /sys/fs/cgroup/cgroup.subtree_control (and in each group down to runcell's parent); \
             under systemd start with: systemd-run --scope -p Delegate=yes runcell …; or run with --best-effort"
        ),
        (Layout::V1, _) => {
            format!("mount it: mount -t cgroup -o {controller} cgroup /sys/fs/cgroup/{controller}; or run with --best-effort")
        }
    };
    Fault::host(
        "cgroup:controller",
        format!("limits.{limit} needs the cgroup controller {controller:?}, which this host does not give us"),
    )
    .at(format!("limits.{limit}"))
    .hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limits::Asked;
    use crate::rules::plan::tests::facts;

    fn limits(json: &str) -> Limits {
        serde_json::from_str::<Asked>(json).expect(json).complete()
    }

    fn written(writes: &[CgroupWrite]) -> Vec<(&str, &str)> {
        writes.iter().map(|w| (w.file, w.value.as_str())).collect()
    }

    #[test]
    fn one_table_serves_both_layouts() {
        let l = limits(
            r#"{"memory":"64MiB","pids":10,"cpus":0.5,"cpu_weight":200,"cpuset":"0","io":[{"device":"/dev/vda","rbps":1024,"wiops":5}]}"#,
        );
        let (v2, enforced) = enforce(&l, &facts(Layout::V2), false).expect("v2");
        assert_eq!(
            written(&v2),
            [
                ("memory.max", "67108864"),
                ("memory.oom.group", "0"),
                ("memory.swap.max", "0"),
                ("pids.max", "11"),
                ("cpu.max", "50000 100000"),
                ("cpu.weight", "200"),
                ("cpuset.cpus", "0"),
                ("io.max", "254:0 rbps=1024 wiops=5"),
            ]
        );
        assert_eq!((enforced["memory"], enforced["wall"], enforced["sandbox"]), ("cgroup2", "supervisor", "tmpfs"));
        let (v1, enforced) = enforce(&l, &facts(Layout::V1), false).expect("v1");
        assert_eq!(
            written(&v1),
            [
                ("memory.limit_in_bytes", "67108864"),
                ("memory.memsw.limit_in_bytes", "67108864"),
                ("pids.max", "11"),
                ("cpu.cfs_period_us", "100000"),
                ("cpu.cfs_quota_us", "50000"),
                ("cpu.shares", "2048"),
                ("cpuset.cpus", "0"),
                ("blkio.throttle.read_bps_device", "254:0 1024"),
                ("blkio.throttle.write_iops_device", "254:0 5"),
            ]
        );
        assert_eq!(enforced["io"], "cgroup1");
    }

    #[test]
    fn what_cannot_be_enforced_is_refused_or_said() {
        let mut poor = facts(Layout::V2);
        poor.controllers.remove("pids");
        let fault = enforce(&limits("{}"), &poor, false).expect_err("strict");
        assert_eq!((fault.code, fault.path.as_deref()), ("cgroup:controller", Some("limits.pids")));
        assert!(fault.hint.expect("a hint").contains("+pids"));
        let (writes, enforced) = enforce(&limits("{}"), &poor, true).expect("best effort");
        assert_eq!(enforced["pids"], "none");
        assert!(writes.iter().all(|w| w.limit != "pids"));
    }

    #[test]
    fn swap_needs_no_limit_where_there_is_none() {
        let mut host = facts(Layout::V1);
        (host.swap_limit, host.swap_bytes) = (false, 0);
        assert_eq!(enforce(&limits("{}"), &host, false).expect("no swap").1["swap"], "host");
        host.swap_bytes = 1;
        assert!(enforce(&limits("{}"), &host, false).is_err());
    }
}
