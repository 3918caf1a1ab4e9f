//! What jobs need of control groups.

use crate::model::facts::Layout;
use crate::model::finding::Finding;
use crate::model::health::{Cgroups, Health};

const UNIFY: &str = "boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all";

pub fn layout(h: &Health) -> Vec<Finding> {
    let name = "cgroups";
    let Some(c) = &h.cgroups else {
        return vec![
            Finding::fail(name, "no hierarchy is mounted", "limits are enforced by control groups")
                .repair("mount -t cgroup2 cgroup2 /sys/fs/cgroup"),
        ];
    };
    let at = c.unified.as_deref().unwrap_or_default();
    let mut findings = vec![match (c.layout, &c.unified) {
        (Layout::V2, _) => Finding::ok(name, format!("unified (v2) at {at}")),
        (Layout::V1, unified) => {
            let kind = if unified.is_some() { "hybrid" } else { "legacy (v1)" };
            let why = "limits hold, but a v1 group cannot be killed in one stroke and tells less of itself; runtimes give v1 up";
            Finding::warn(name, format!("{kind}: controllers in v1 hierarchies"), why).repair(UNIFY)
        }
    }];
    let closed = |place: &String| {
        Finding::fail("cgroup_mount", format!("{place} is read-only"), "every cell needs a group of its own")
            .repair(format!("mount -o remount,rw {place}"))
    };
    findings.extend(c.read_only.iter().map(closed));
    findings
}

pub fn parent(h: &Health) -> Vec<Finding> {
    let name = "cgroup_parent";
    let Some(c) = &h.cgroups else { return Vec::new() };
    vec![match &c.parent {
        Ok(parent) if c.parent_is_named => Finding::ok(name, format!("{parent}, from the policy")),
        Ok(parent) if c.layout == Layout::V1 => Finding::ok(name, format!("{parent}, in each hierarchy")),
        Ok(parent) if parent == "/runcell" => Finding::ok(name, format!("{parent}: no service manager rules the tree")),
        Ok(parent) => Finding::ok(name, format!("{parent}, below what was delegated to us")),
        Err(why) => {
            Finding::fail(name, "none", format!("{why}; groups that we made elsewhere it would take for its own")).repair(
                format!("systemd-run --quiet --scope -p Delegate=yes {} …; for a service: Delegate=yes in its unit", h.ourselves),
            )
        }
    }]
}

/// A controller by its names on v2 and v1, the finding's name, and the limits that need it.
struct Controller {
    v2: &'static str,
    v1: &'static str,
    name: &'static str,
    limits: &'static str,
    /// Whether every job has such a limit.
    always: bool,
}

const CONTROLLERS: &[Controller] = &[
    Controller { v2: "memory", v1: "memory", name: "controller_memory", limits: "memory and swap", always: true },
    Controller { v2: "pids", v1: "pids", name: "controller_pids", limits: "pids", always: true },
    Controller { v2: "cpu", v1: "cpu", name: "controller_cpu", limits: "cpus and cpu_weight", always: false },
    Controller { v2: "cpuset", v1: "cpuset", name: "controller_cpuset", limits: "cpuset", always: false },
    Controller { v2: "io", v1: "blkio", name: "controller_io", limits: "io", always: false },
];

pub fn controllers(h: &Health) -> Vec<Finding> {
    // Without a parent there is no way to follow; that is told once.
    let Some(c) = h.cgroups.as_ref().filter(|c| c.parent.is_ok()) else { return Vec::new() };
    let judge = |row: &Controller| {
        let lacks = match c.layout {
            Layout::V2 => unified(c, row.v2),
            Layout::V1 => legacy(c, row.v1),
        };
        let Some(Lack { found, repair }) = lacks else { return Finding::ok(row.name, "can be had by cells") };
        let why = format!("limits.{} cannot be enforced without it", row.limits);
        match row.always && !h.policy.best_effort {
            true => Finding::fail(row.name, found, format!("{why}, and every job has them")).repair(repair),
            false => Finding::warn(row.name, found, why).repair(repair),
        }
    };
    CONTROLLERS.iter().map(judge).collect()
}

struct Lack {
    found: String,
    repair: String,
}

fn legacy(c: &Cgroups, controller: &str) -> Option<Lack> {
    let dir = format!("/sys/fs/cgroup/{controller}");
    (!c.legacy.contains(controller)).then(|| Lack {
        found: "has no hierarchy".into(),
        repair: format!("mkdir -p {dir} && mount -t cgroup -o {controller} cgroup {dir}"),
    })
}

/// Follows a controller from the root down to the cells' parent, as a run would hand it down.
fn unified(c: &Cgroups, controller: &str) -> Option<Lack> {
    let mount = c.unified.as_deref().unwrap_or("/sys/fs/cgroup");
    let parent = c.parent.as_deref().unwrap_or("/");
    let depth = parent.split('/').filter(|name| !name.is_empty()).count();
    for (n, group) in c.way.iter().enumerate() {
        let file = format!("{mount}{}/cgroup.subtree_control", group.path.trim_end_matches('/'));
        if group.handed.contains(controller) {
            continue;
        }
        if !group.controllers.contains(controller) {
            let used = c.legacy.contains(controller).then_some(UNIFY.to_owned());
            let kernel =
                || format!("boot with cgroup_enable={controller}, without cgroup_disable={controller}, on a kernel that has it");
            return Some(match n {
                0 => Lack { found: "is not in the unified hierarchy".into(), repair: used.unwrap_or_else(kernel) },
                _ => Lack {
                    found: format!("does not reach {}", group.path),
                    repair: format!(
                        "echo +{controller} > {mount}{}/cgroup.subtree_control",
                        c.way[n - 1].path.trim_end_matches('/')
                    ),
                },
            });
        }
        // Processes in the group just above the parent are moved out of the way; any others are not ours.
        if group.busy && n + 1 != depth {
            let found = format!("is not handed down by {}, which has processes of its own", group.path);
            let repair = match n == depth {
                true => format!("in the policy: [cgroup] parent = \"{parent}/runcell\""),
                false => format!("move its processes into a group below it, then: echo +{controller} > {file}"),
            };
            return Some(Lack { found, repair });
        }
    }
    None
}

pub fn swap(h: &Health) -> Vec<Finding> {
    let name = "swap";
    let Some(c) = &h.cgroups else { return Vec::new() };
    let why = "a job that may swap has more than its memory limit; limits.swap cannot be enforced, and every job has it";
    vec![match (h.swap_bytes, c.swap) {
        (0, _) => Finding::ok(name, "this host has none"),
        (bytes, true) => Finding::ok(name, format!("{} MiB, accounted for", bytes >> 20)),
        (bytes, false) => {
            let found = format!("{} MiB, not accounted for", bytes >> 20);
            let make = if h.policy.best_effort { Finding::warn } else { Finding::fail };
            make(name, found, why).repair("swapoff -a; or boot with swapaccount=1")
        }
    }]
}

/// More removed groups than this are a leak rather than a delay.
const DYING_MOST: u64 = 1000;

pub fn dying(h: &Health) -> Vec<Finding> {
    let name = "dying_groups";
    match h.cgroups.as_ref().and_then(|c| c.dying) {
        None => Vec::new(),
        Some(n) if n <= DYING_MOST => vec![Finding::ok(name, n.to_string())],
        Some(n) => vec![
            Finding::warn(
                name,
                n.to_string(),
                "removed groups to which pages are still charged; they cost memory and slow the kernel's accounting",
            )
            .repair("sync && echo 3 > /proc/sys/vm/drop_caches"),
        ],
    }
}

pub fn favordynmods(h: &Health) -> Vec<Finding> {
    let name = "favordynmods";
    let Some((c, at)) = h.cgroups.as_ref().and_then(|c| Some((c, c.unified.as_deref()?))) else { return Vec::new() };
    if c.options.split(',').any(|o| o == "favordynmods") {
        return vec![Finding::ok(name, "on")];
    }
    // A remount says all options anew; mount(8) must be given no device, or it drops those that hold.
    let kept: Vec<&str> = c.options.split(',').filter(|o| !matches!(*o, "rw" | "ro" | "")).collect();
    let options = kept.into_iter().chain(["favordynmods"]).collect::<Vec<_>>().join(",");
    let found = Finding::ok(name, "off")
        .because("on, no cell waits some 10 ms to join its group, while every fork on the host costs a little more");
    vec![match c.layout {
        Layout::V2 => found.repair(format!("mount -o remount,{options} none {at}")),
        Layout::V1 => found.repair("boot with cgroup_favordynmods=true (since Linux 6.7)"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::State;
    use crate::model::health::Group;

    fn group(path: &str, controllers: &str, handed: &str, busy: bool) -> Group {
        let set = |words: &str| words.split_ascii_whitespace().map(str::to_owned).collect();
        Group { path: path.into(), controllers: set(controllers), handed: set(handed), busy, pids_max: None }
    }

    fn with(change: impl FnOnce(&mut Cgroups)) -> Health {
        let mut h = Health::well();
        change(h.cgroups.as_mut().expect("has them"));
        h
    }

    fn memory(h: &Health) -> Finding {
        controllers(h).into_iter().find(|f| f.name == "controller_memory").expect("judged")
    }

    #[test]
    fn a_controller_is_followed_down_to_the_cells() {
        let all = "cpu cpuset io memory pids";
        let way = |way: Vec<Group>| {
            memory(&with(|c| {
                c.parent = Ok("/a/runcell".into());
                c.way = way;
            }))
        };
        assert_eq!(way(vec![group("/", all, "", false)]).state, State::Ok, "we hand it down");
        assert_eq!(way(vec![group("/", all, all, false), group("/a", all, "", true)]).state, State::Ok, "we move out of the way");
        let gone = way(vec![group("/", "cpu pids", "cpu", false)]);
        assert!(gone.state == State::Fail && gone.repair.expect("a repair").contains("cgroup_enable=memory"));
        let kept = way(vec![group("/", all, all, false), group("/a", "cpu", "", false)]);
        assert_eq!(kept.repair.as_deref(), Some("echo +memory > /sys/fs/cgroup/cgroup.subtree_control"));
        let full = way(vec![group("/", all, all, false), group("/a", all, all, true), group("/a/runcell", all, "", true)]);
        assert_eq!(full.repair.as_deref(), Some("in the policy: [cgroup] parent = \"/a/runcell/runcell\""));
    }

    #[test]
    fn a_busy_group_that_is_not_ours_blocks_the_way() {
        let h = with(|c| {
            c.parent = Ok("/a/b/c".into());
            c.way = vec![group("/", "memory", "memory", false), group("/a", "memory", "", true)];
        });
        let found = memory(&h);
        assert!(found.state == State::Fail && found.found.contains("/a"), "{found:?}");
    }

    #[test]
    fn v1_controllers_need_a_hierarchy_each_and_best_effort_forgives() {
        let mut h = with(|c| {
            c.layout = Layout::V1;
            c.legacy = ["memory".to_owned()].into();
        });
        let states = |h: &Health| controllers(h).iter().map(|f| f.state).collect::<Vec<_>>();
        assert_eq!(states(&h), [State::Ok, State::Fail, State::Warn, State::Warn, State::Warn]);
        assert_eq!(
            controllers(&h)[4].repair.as_deref(),
            Some("mkdir -p /sys/fs/cgroup/blkio && mount -t cgroup -o blkio cgroup /sys/fs/cgroup/blkio")
        );
        h.policy.best_effort = true;
        assert_eq!(states(&h)[1], State::Warn);
    }

    #[test]
    fn no_delegation_no_groups_no_swap_accounting() {
        let h = with(|c| c.parent = Err("systemd has it".into()));
        assert!(parent(&h)[0].repair.as_deref().is_some_and(|r| r.starts_with("systemd-run")) && controllers(&h).is_empty());
        let mut h = with(|c| {
            c.swap = false;
            c.read_only = vec!["/sys/fs/cgroup".into()];
            c.dying = Some(5000);
        });
        h.swap_bytes = 1 << 30;
        assert_eq!((layout(&h)[1].state, swap(&h)[0].state, dying(&h)[0].state), (State::Fail, State::Fail, State::Warn));
        h.cgroups = None;
        assert_eq!(layout(&h)[0].state, State::Fail);
        assert!(parent(&h).is_empty() && controllers(&h).is_empty() && swap(&h).is_empty());
    }

    #[test]
    fn a_remount_keeps_the_options_that_hold() {
        let h = with(|c| c.options = "rw,nsdelegate,memory_recursiveprot".into());
        let repair = favordynmods(&h)[0].repair.clone().expect("better");
        assert_eq!(repair, "mount -o remount,nsdelegate,memory_recursiveprot,favordynmods none /sys/fs/cgroup");
    }
}
