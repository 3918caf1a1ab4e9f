//! The machine's cpus: what the kernel tells of them, which of them are ours, and how a process is kept to some.

use super::{files, sys};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// What is read of each cpu, below its directory.
const OF_A_CPU: [&str; 4] =
    ["topology/core_cpus_list", "topology/thread_siblings_list", "cpu_capacity", "cpufreq/cpuinfo_max_freq"];

/// The files that tell what cores there are, by their names below `root`, /sys/devices/system outside of tests.
pub fn files(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut read = |name: String| {
        if let Ok(text) = files::text(&root.join(&name)) {
            found.insert(name, text);
        }
    };
    read("cpu/online".to_owned());
    for (dir, names) in [("cpu", &OF_A_CPU[..]), ("node", &["cpulist"])] {
        let numbered =
            |name: &str| name.strip_prefix(dir).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        let entries = std::fs::read_dir(root.join(dir)).into_iter().flatten().flatten();
        for entry in entries.filter_map(|e| e.file_name().into_string().ok()).filter(|name| numbered(name)) {
            names.iter().for_each(|name| read(format!("{dir}/{entry}/{name}")));
        }
    }
    found
}

/// The cpus that we may run on.
///
/// # Errors
/// EINVAL on a machine with more than 1,024.
pub fn allowed() -> io::Result<Vec<u32>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).map(|cpu| cpu as u32).collect())
}

/// Keeps this process, and what it becomes and starts, to these cpus.
///
/// # Errors
/// EINVAL where it may run on none of them.
pub fn keep_to(cpus: &[u32]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu as usize)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Has its memory come from this node as long as that has any.
///
/// # Errors
/// ENOSYS on kernels without NUMA.
pub fn prefer_node(node: u32) -> io::Result<()> {
    sys::prefer_memory_of(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_tells_of_its_cpus() {
        let allowed = allowed().expect("fewer than 1,024");
        assert!(!allowed.is_empty());
        let told = files(Path::new("/sys/devices/system"));
        assert!(told.is_empty() || told.contains_key("cpu/online"), "{told:?}");
        // A thread of the tests' own: it ends with the test.
        let first = allowed[0];
        keep_to(&[first]).expect("one of ours");
        assert_eq!(super::allowed().expect("as before"), [first]);
        assert!(keep_to(&[1023]).is_err() || allowed.contains(&1023));
    }
}
