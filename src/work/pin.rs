//! Cores of a program's own: leased from all other runcells of the same state directory, and how quiet they were.

use super::faults;
use super::host::Host;
use crate::model::cores::{Core, Pin, Placement, Quality};
use crate::model::fault::Fault;
use crate::model::plan::{CgroupWrite, Plan};
use crate::os::cgroup::Group;
use crate::os::error::At;
use crate::os::lease::Lease;
use crate::os::{counters, files, topology};
use crate::rules::cores::{self as rules, groups, placement};
use crate::store::cores;
use crate::store::home::Home;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A tick of /proc/stat: 1/100 s on every architecture that we run on (USER_HZ).
const TICK_NS: u64 = 10_000_000;

/// Cores that are ours as long as this lives.
#[derive(Debug)]
pub struct Pinned {
    pub placement: Placement,
    leases: Vec<Lease>,
}

impl Pinned {
    /// Has a plan's cell kept to them, where control groups can: the program itself could leave what it is only set to.
    ///
    /// # Errors
    /// exit 2 where the job says itself where it runs.
    pub fn keep(&self, plan: &mut Plan, host: &Host) -> Result<(), Fault> {
        if plan.limits.cpuset.is_some() {
            let why = "limits.cpuset, of the job or the policy, and cores of its own exclude each other";
            return Err(Fault::caller("cores:cpuset", why).at("limits.cpuset").hint("leave one of them out"));
        }
        if host.has("cpuset") {
            let value = rules::list(&self.placement.cpus);
            plan.cgroup.push(CgroupWrite { limit: "cpuset", controller: "cpuset", file: "cpuset.cpus", value });
        }
        Ok(())
    }

    /// For who is to hold them as well.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.leases.iter().map(|lease| lease.file().as_fd())
    }
}

/// Leases so many cores, close together if they can be.
///
/// # Errors
/// exit 3 where there are not as many that nobody else has.
pub fn lease(home: &Home, pin: Pin, count: usize) -> Result<Pinned, Fault> {
    let os = |e| faults::ours(&e);
    let allowed = topology::allowed().at("ask for", "our cpus").map_err(os)?;
    let all = rules::topology(&topology::files(Path::new("/sys/devices/system")), &allowed);
    let Some(taken) = cores::take(home, &groups(&all), count).map_err(os)? else {
        return Err(Fault::host("cores:busy", format!("{count} whole cores are not free; {} are ours to use at all", all.len()))
            .at("pin")
            .hint("wait for others to end, or ask for fewer: --jobs, --cores"));
    };
    let nodes = all.iter().map(|core| core.node).collect::<std::collections::BTreeSet<_>>().len();
    let (taken, leases): (Vec<Core>, Vec<Lease>) = taken.into_iter().unzip();
    Ok(Pinned { placement: placement(&taken, pin, nodes), leases })
}

/// Looks at what may disturb a program, from before it runs until it has ended.
#[derive(Debug)]
pub struct Gauge {
    placement: Placement,
    governor: Option<String>,
    /// Opened early: who watches a program cannot open them any more.
    heat: Vec<File>,
    heat_before: Option<u64>,
    stolen_before: Option<u64>,
    busy_before: Option<u64>,
    high_before: Option<u64>,
    swapless: bool,
}

impl Gauge {
    /// Begins.
    pub fn begin(placement: &Placement, group: &Group, swapless: bool) -> Self {
        let cpu = |cpu: u32, file: &str| PathBuf::from(format!("/sys/devices/system/cpu/cpu{cpu}/{file}"));
        let mut governors: Vec<Option<String>> =
            placement.cpus.iter().map(|c| files::text(&cpu(*c, "cpufreq/scaling_governor")).ok()).collect();
        governors.dedup();
        let heat = |c: &u32| File::open(cpu(*c, "thermal_throttle/core_throttle_count")).ok();
        let heat: Option<Vec<File>> = placement.cpus.iter().map(heat).collect();
        let stat = stat();
        let mut gauge = Self {
            placement: placement.clone(),
            governor: if governors.len() == 1 { governors.pop().flatten() } else { None },
            heat: heat.unwrap_or_default(),
            heat_before: None,
            stolen_before: rules::ticks(&stat, &placement.cpus).map(|(_, stolen)| stolen),
            busy_before: rules::ticks(&stat, &placement.idle).map(|(busy, _)| busy),
            high_before: counters::high_events(group),
            swapless,
        };
        gauge.heat_before = gauge.heat();
        gauge
    }

    fn heat(&self) -> Option<u64> {
        let count = |file: &File| {
            let mut text = [0; 32];
            let n = file.read_at(&mut text, 0).ok()?; // from the beginning: it is counted anew
            std::str::from_utf8(&text[..n]).ok()?.trim().parse::<u64>().ok()
        };
        let counts: Option<Vec<u64>> = self.heat.iter().map(count).collect();
        counts.filter(|counts| !counts.is_empty()).map(|counts| counts.iter().sum())
    }

    /// Ends: while the cell's group is still there.
    pub fn end(&self, group: &Group, throttled_ns: Option<u64>) -> Quality {
        let stat = stat();
        let since = |before: Option<u64>, now: Option<u64>| Some(now?.saturating_sub(before?));
        let stolen = rules::ticks(&stat, &self.placement.cpus).map(|(_, stolen)| stolen);
        let busy = rules::ticks(&stat, &self.placement.idle).map(|(busy, _)| busy);
        Quality {
            throttled_ns,
            heat_throttles: since(self.heat_before, self.heat()),
            stolen_ns: since(self.stolen_before, stolen).map(|ticks| ticks * TICK_NS),
            siblings_busy_ns: since(self.busy_before, busy)
                .map(|ticks| ticks * TICK_NS)
                .filter(|_| !self.placement.idle.is_empty()),
            swap_peak_bytes: if self.swapless { Some(0) } else { counters::swap_peak(group) },
            memory_high_events: since(self.high_before, counters::high_events(group)),
            governor: self.governor.clone(),
        }
    }
}

fn stat() -> String {
    files::text(Path::new("/proc/stat")).unwrap_or_default()
}
