//! What jobs need of the policy, the state directory, the ids and ourselves.

use crate::model::finding::Finding;
use crate::model::health::{Health, PolicyFile};
use crate::model::policy::IDS_PER_CELL;

pub fn policy(h: &Health) -> Vec<Finding> {
    let name = "policy";
    let PolicyFile { path, read, loose, .. } = &h.policy;
    let mut findings = vec![match read {
        Ok(true) => Finding::ok(name, path),
        Ok(false) => Finding::ok(name, format!("none at {path}: defaults hold")),
        Err(complaint) => {
            let found = Finding::fail(name, path, format!("{}; nothing runs under a policy in doubt", complaint.why));
            complaint.hint.iter().fold(found, |found, hint| found.repair(hint))
        }
    }];
    if let (Some((what, repair)), Ok(_)) = (loose, read) {
        let why =
            "whoever can change the policy can have host directories bound into a cell and choose the runtime that root starts";
        findings.push(Finding::warn("policy_owner", what, why).repair(repair));
    }
    findings
}

/// Room below which nothing works, and below which it soon will not: bytes, inodes.
const ROOM_LEAST: (u64, u64) = (1 << 20, 100);
const ROOM_AMPLE: (u64, u64) = (256 << 20, 10_000);

pub fn state(h: &Health) -> Vec<Finding> {
    let name = "state";
    let home = &h.home;
    let bytes = home.free_bytes.unwrap_or(u64::MAX);
    let inodes = home.free_inodes.unwrap_or(u64::MAX);
    let figure = |n: Option<u64>, unit: &str, shift: u32| n.map_or(String::new(), |n| format!(", {} {unit} free", n >> shift));
    let room = figure(home.free_bytes, "MiB", 20) + &figure(home.free_inodes, "inodes", 0);
    let found = format!("{} on {}{room}", home.path, home.filesystem);
    let elsewhere = "name another place: --root DIR, or root in the policy";
    let why = "runs, their logs and leases lie there";
    let mut findings = vec![match () {
        () if home.read_only => Finding::fail(name, format!("{found}, read-only"), why).repair(elsewhere),
        () if bytes < ROOM_LEAST.0 || inodes < ROOM_LEAST.1 => {
            Finding::fail(name, found, why).repair(format!("{} gc; else {elsewhere}", h.ourselves))
        }
        () if bytes < ROOM_AMPLE.0 || inodes < ROOM_AMPLE.1 => {
            Finding::warn(name, found, why).repair(format!("{} gc; else {elsewhere}", h.ourselves))
        }
        () => Finding::ok(name, found),
    }];
    if !home.closed.is_empty() {
        let dirs = home.closed.join(" ");
        findings.push(
            Finding::fail(
                "state_reach",
                format!("closed to others: {dirs}"),
                "the runtime reaches a cell's files with the cell's ids",
            )
            .repair(format!("chmod o+x {dirs}; or {elsewhere}")),
        );
    }
    findings
}

pub fn leftovers(h: &Health) -> Vec<Finding> {
    let (runs, slots) = ("stale_runs", "quarantined_ids");
    let left = &h.leftovers;
    if let Some(why) = &left.unseen {
        return vec![Finding::ok(runs, format!("not looked at: {why}"))];
    }
    let mut findings = vec![match left.stale_runs {
        0 => Finding::ok(runs, "none"),
        n => Finding::warn(runs, n.to_string(), "runs that nobody owns any more, with their groups, files and id ranges")
            .repair(format!("{} gc", h.ourselves)),
    }];
    let count = left.orphaned_slots.len();
    findings.push(match count {
        0 => Finding::ok(slots, "none whose run is gone"),
        n => Finding::warn(
            slots,
            format!("{n} whose run is gone"),
            format!("no gc frees them; the number of a file is the first of {IDS_PER_CELL} ids: make sure by ps -eo uid,gid,pid,args that no process has any"),
        )
        .repair(format!("truncate -s 0 {}", left.orphaned_slots.iter().take(20).cloned().collect::<Vec<_>>().join(" "))),
    });
    findings
}

pub fn ids(h: &Health) -> Vec<Finding> {
    let name = "ids";
    let ids = &h.ids;
    let found = format!("{} to {} ({} cells)", ids.first, u64::from(ids.first) + u64::from(ids.count) - 1, ids.slots);
    let suggest = match ids.free {
        Some((first, count)) => format!("in the policy: [ids] first = {first}, count = {count}"),
        None => "in the policy: another [ids] first and count".to_owned(),
    };
    if !ids.ours {
        let why = "our own user namespace lacks them, so that no cell can have them; it takes the host's, or one with more ids";
        return vec![Finding::fail(name, format!("{found}, not ours to give"), why).repair(suggest)];
    }
    vec![match ids.overlaps.as_slice() {
        [] => Finding::ok(name, format!("{found}, no account has any")),
        [(place, line), rest @ ..] => {
            let more = if rest.is_empty() { String::new() } else { format!(", and {} more lines", rest.len()) };
            let why = "programs in cells would own that account's files and could signal its processes";
            Finding::warn(name, format!("{found}, overlaps with {place} ({line}){more}"), why).repair(suggest)
        }
    }]
}

pub fn binary(h: &Health) -> Vec<Finding> {
    let name = "binary";
    let path = &h.binary.path;
    vec![match h.binary.executable {
        true => Finding::ok(name, path),
        false => Finding::fail(
            name,
            format!("others may not execute {path}"),
            "it is the init of every cell, and started there with a cell's ids",
        )
        .repair(format!("chmod o+x {path}")),
    }]
}

/// What bounds the number of cells: the sysctl, how many of it one cell takes, and the value to set.
const SHARED: &[(&str, Per, &str)] = &[
    ("kernel.pid_max", Per::Processes, "4194304"),
    ("kernel.threads-max", Per::Processes, "4194304"),
    ("user.max_user_namespaces", Per::Cell, "65536"),
    ("user.max_mnt_namespaces", Per::Cell, "65536"),
    ("user.max_pid_namespaces", Per::Cell, "65536"),
    ("user.max_net_namespaces", Per::Cell, "65536"),
    ("user.max_ipc_namespaces", Per::Cell, "65536"),
    ("user.max_uts_namespaces", Per::Cell, "65536"),
    ("user.max_cgroup_namespaces", Per::Cell, "65536"),
];

#[derive(Clone, Copy)]
enum Per {
    Cell,
    /// Each cell may have as many as its pids limit.
    Processes,
}

/// How many cells can be full at one time, by what is scarcest.
pub fn capacity(h: &Health) -> Vec<Finding> {
    let name = "capacity";
    let per_cell = h.pids_per_cell.max(1);
    let per = |per: Per| if matches!(per, Per::Processes) { per_cell } else { 1 };
    let shared = SHARED.iter().filter_map(|(key, each, better)| {
        let value: u64 = h.settings.get(*key)?.parse().ok()?;
        Some((value / per(*each), format!("{key} = {value}"), format!("sysctl -w {key}={better}")))
    });
    let mount = h.cgroups.as_ref().and_then(|c| c.unified.as_deref()).unwrap_or_default();
    let groups = h.cgroups.iter().flat_map(|c| &c.way).filter_map(|g| {
        let file = format!("{mount}{}/pids.max", g.path.trim_end_matches('/'));
        g.pids_max.map(|most| {
            (most / per_cell, format!("{file} = {most}"), format!("echo max > {file}; for a systemd unit: TasksMax=infinity"))
        })
    });
    let slots = (u64::from(h.ids.slots), "the policy's ids".to_owned(), "in the policy: [ids] with a larger count".to_owned());
    let scarcest = shared.chain(groups).chain([slots]).min_by_key(|(cells, ..)| *cells);
    let Some((cells, by, repair)) = scarcest else { return Vec::new() };
    let found = format!("{cells} cells of {per_cell} processes at once, by {by}");
    vec![match cells {
        0 => Finding::fail(name, found, "not one job fits").repair(repair),
        n if n < u64::from(h.cpu.cores) => Finding::warn(name, found, "fewer than there are cores").repair(repair),
        _ => Finding::ok(name, found),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::State;
    use crate::model::health::Complaint;

    fn with(change: impl FnOnce(&mut Health)) -> Health {
        let mut h = Health::well();
        change(&mut h);
        h
    }

    #[test]
    fn the_scarcest_thing_bounds_the_cells() {
        let set = |key: &str, value: &str| with(|h| drop(h.settings.insert(key.into(), value.into())));
        let judged = |h: &Health| capacity(h).remove(0);
        assert!(
            judged(&set("kernel.pid_max", "32768")).found.starts_with("254 cells of 129 processes"),
            "{:?}",
            judged(&set("kernel.pid_max", "32768"))
        );
        assert_eq!(judged(&set("user.max_net_namespaces", "0")).state, State::Fail);
        assert_eq!(judged(&set("user.max_net_namespaces", "1")).state, State::Warn);
        let group = with(|h| h.cgroups.as_mut().expect("has them").way[0].pids_max = Some(200));
        assert!(judged(&group).repair.is_some_and(|r| r.contains("TasksMax")));
    }

    #[test]
    fn a_line_that_claims_our_ids_is_named() {
        let h = with(|h| {
            h.ids.overlaps = vec![("/etc/subuid:2".into(), "bob:1073741824:65536".into()), ("/etc/passwd:9".into(), "x".into())];
        });
        let found = ids(&h).remove(0);
        assert!(
            found.state == State::Warn
                && found.found.ends_with("overlaps with /etc/subuid:2 (bob:1073741824:65536), and 1 more lines")
        );
        assert_eq!(found.repair.as_deref(), Some("in the policy: [ids] first = 1342177280, count = 268435456"));
        assert_eq!(ids(&with(|h| h.ids.ours = false))[0].state, State::Fail);
    }

    #[test]
    fn a_full_closed_or_read_only_state_directory_is_told() {
        let state_of = |change: fn(&mut Health)| state(&with(change)).iter().map(|f| f.state).collect::<Vec<_>>();
        assert_eq!(state_of(|h| h.home.free_bytes = Some(1000)), [State::Fail]);
        assert_eq!(state_of(|h| h.home.free_inodes = Some(5000)), [State::Warn]);
        assert_eq!(state_of(|h| h.home.free_inodes = None), [State::Ok]);
        assert_eq!(state_of(|h| h.home.read_only = true), [State::Fail]);
        assert_eq!(state_of(|h| h.home.closed = vec!["/root".into()]), [State::Ok, State::Fail]);
    }

    #[test]
    fn what_is_left_over_names_its_broom() {
        let h = with(|h| {
            h.leftovers.stale_runs = 3;
            h.leftovers.orphaned_slots = vec!["/run/runcell/ids/65536".into()];
        });
        let repairs: Vec<_> = leftovers(&h).into_iter().filter_map(|f| f.repair).collect();
        assert_eq!(repairs, ["runcell gc", "truncate -s 0 /run/runcell/ids/65536"]);
        let unseen = with(|h| h.leftovers.unseen = Some("permission denied".into()));
        assert_eq!(leftovers(&unseen).len(), 1);
    }

    #[test]
    fn a_policy_in_doubt_stops_everything_and_a_loose_one_is_told() {
        let bad = with(|h| h.policy.read = Err(Complaint { why: "a typo".into(), hint: Some("see the schema".into()) }));
        assert_eq!((policy(&bad)[0].state, policy(&bad)[0].repair.as_deref()), (State::Fail, Some("see the schema")));
        let loose = with(|h| h.policy.loose = Some(("bob owns it".into(), "chown root".into())));
        assert_eq!(policy(&loose).iter().map(|f| f.state).collect::<Vec<_>>(), [State::Ok, State::Warn]);
        assert_eq!(binary(&with(|h| h.binary.executable = false))[0].state, State::Fail);
    }
}
