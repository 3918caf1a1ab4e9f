//! What cores there are, and which of them are taken first.

use super::ceilings;
use crate::model::cores::{Core, Pin, Placement};
use std::collections::{BTreeMap, BTreeSet};

/// The physical cores all of whose threads are online and `allowed`, from files of /sys/devices/system by their names there
/// (Documentation/ABI/stable/sysfs-devices-system-cpu). Where the kernel tells no siblings a thread is a core.
pub fn topology(files: &BTreeMap<String, String>, allowed: &[u32]) -> Vec<Core> {
    let list = |name: &str| files.get(name).and_then(|text| ceilings::cores(text.trim()));
    let allowed: BTreeSet<u32> = allowed.iter().copied().collect();
    let online = list("cpu/online").map_or_else(|| allowed.clone(), |cpus| cpus.into_iter().collect());
    let mut nodes = BTreeMap::new();
    for (name, text) in files {
        let node = name.strip_prefix("node/node").and_then(|rest| rest.strip_suffix("/cpulist")?.parse::<u32>().ok());
        if let (Some(node), Some(cpus)) = (node, ceilings::cores(text.trim())) {
            nodes.extend(cpus.into_iter().map(|cpu| (cpu, node)));
        }
    }
    let number = |cpu: u32, file: &str| files.get(&format!("cpu/cpu{cpu}/{file}"))?.trim().parse::<u64>().ok();
    let siblings = |cpu: u32| {
        let told = ["core_cpus_list", "thread_siblings_list"].iter().find_map(|f| list(&format!("cpu/cpu{cpu}/topology/{f}")));
        told.filter(|all| all.contains(&cpu)).unwrap_or(vec![cpu])
    };
    let mut seen = BTreeSet::new();
    let mut cores = Vec::new();
    for cpu in &online {
        let mut threads: Vec<u32> = siblings(*cpu).into_iter().filter(|cpu| online.contains(cpu)).collect();
        threads.sort_unstable();
        if seen.insert(threads.clone()) && threads.iter().all(|thread| allowed.contains(thread)) {
            let strength = number(*cpu, "cpu_capacity").or_else(|| number(*cpu, "cpufreq/cpuinfo_max_freq")).unwrap_or(0);
            cores.push(Core { threads, node: nodes.get(cpu).copied().unwrap_or(0), strength });
        }
    }
    cores
}

/// The cores in groups that lie close together, the best group first: those of each node, then all. Within a group those of
/// the same strength follow one another, the strongest first, and last of them the core of cpu 0, which the kernel itself
/// likes best.
pub fn groups(cores: &[Core]) -> Vec<Vec<Core>> {
    let sorted = |cores: Vec<&Core>| {
        let mut cores: Vec<Core> = cores.into_iter().cloned().collect();
        cores.sort_by_key(|core| (std::cmp::Reverse(core.strength), core.threads.contains(&0), core.threads.clone()));
        cores
    };
    let nodes: BTreeSet<u32> = cores.iter().map(|core| core.node).collect();
    let mut groups: Vec<Vec<Core>> =
        nodes.iter().map(|node| sorted(cores.iter().filter(|core| core.node == *node).collect())).collect();
    // Nodes without cpu 0 first, as above; they are in the order of their numbers.
    groups.sort_by_key(|group| group.iter().any(|core| core.threads.contains(&0)));
    if groups.len() > 1 {
        groups.push(sorted(cores.iter().collect()));
    }
    groups
}

/// Where a program runs that has these cores.
pub fn placement(cores: &[Core], pin: Pin, nodes: usize) -> Placement {
    let mut placement = Placement::default();
    for core in cores {
        let own = if pin == Pin::Exclusive { 1 } else { core.threads.len() };
        placement.cpus.extend(core.threads.iter().take(own));
        placement.idle.extend(core.threads.iter().skip(own));
    }
    placement.cpus.sort_unstable();
    placement.idle.sort_unstable();
    let node = cores.first().map(|core| core.node);
    placement.node = node.filter(|node| nodes > 1 && cores.iter().all(|core| core.node == *node));
    placement
}

/// `0,1,4` as the kernel reads it.
pub fn list(cpus: &[u32]) -> String {
    cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// Time that some cpus have spent, in ticks of 10 ms (USER_HZ), from the lines of /proc/stat (proc_stat(5)): at work, and
/// withheld by a hypervisor. `None` where one of them is not told of.
pub fn ticks(stat: &str, cpus: &[u32]) -> Option<(u64, u64)> {
    let of = |cpu: &u32| {
        let name = format!("cpu{cpu}");
        let line = stat.lines().find(|line| line.split_ascii_whitespace().next() == Some(&name))?;
        let words: Vec<u64> = line.split_ascii_whitespace().skip(1).map_while(|w| w.parse().ok()).collect();
        // user, nice, system, irq and softirq; steal.
        let busy = [0, 1, 2, 5, 6].iter().map(|n| words.get(*n).copied()).sum::<Option<u64>>()?;
        Some((busy, words.get(7).copied()?))
    };
    cpus.iter().map(of).try_fold((0, 0), |(busy, stolen), one| one.map(|(b, s)| (busy + b, stolen + s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine as its files say: `name: content` a line.
    fn machine(text: &str) -> BTreeMap<String, String> {
        text.lines().filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_owned(), format!("{v}\n"))).collect()
    }

    const LAPTOP: &str = include_str!("../../tests/fixtures/cores/hybrid.txt");
    const SERVER: &str = include_str!("../../tests/fixtures/cores/numa-smt.txt");
    const HOLES: &str = include_str!("../../tests/fixtures/cores/offline.txt");

    fn threads(cores: &[Core]) -> Vec<&[u32]> {
        cores.iter().map(|core| core.threads.as_slice()).collect()
    }

    #[test]
    fn siblings_are_one_core_and_nodes_are_kept_apart() {
        let cores = topology(&machine(SERVER), &(0..16).collect::<Vec<_>>());
        assert_eq!(threads(&cores), [[0, 8], [1, 9], [2, 10], [3, 11], [4, 12], [5, 13], [6, 14], [7, 15]]);
        assert_eq!(cores.iter().map(|core| core.node).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 1, 1, 1]);
        let groups = groups(&cores);
        assert_eq!(threads(&groups[0]), [[4, 12], [5, 13], [6, 14], [7, 15]], "the node without cpu 0 comes first");
        assert_eq!(threads(&groups[1]), [[1, 9], [2, 10], [3, 11], [0, 8]]);
        assert_eq!(groups[2].len(), 8);
        let two = &groups[0][..2];
        assert_eq!(placement(two, Pin::Whole, 2), Placement { cpus: vec![4, 5, 12, 13], idle: vec![], node: Some(1) });
        assert_eq!(placement(two, Pin::Exclusive, 2), Placement { cpus: vec![4, 5], idle: vec![12, 13], node: Some(1) });
        assert_eq!(placement(&cores[3..5], Pin::Exclusive, 2).node, None, "they lie apart");
        assert_eq!(list(&placement(two, Pin::Whole, 2).cpus), "4,5,12,13");
    }

    #[test]
    fn a_core_that_is_not_all_ours_is_none() {
        assert_eq!(threads(&topology(&machine(SERVER), &[0, 1, 8])), [[0, 8]]);
        assert_eq!(topology(&machine(SERVER), &[]), []);
    }

    #[test]
    fn strong_cores_come_first() {
        let cores = topology(&machine(LAPTOP), &(0..8).collect::<Vec<_>>());
        assert_eq!(threads(&groups(&cores)[0]), [&[2, 3][..], &[0, 1], &[4], &[5], &[6], &[7]]);
        assert_eq!(placement(&cores, Pin::Exclusive, 1).node, None, "one node is none");
    }

    #[test]
    fn what_is_offline_is_left_out() {
        // cpu 1, the sibling of 0, and the whole core of 4 and 5 are off.
        let cores = topology(&machine(HOLES), &[0, 2, 3, 6, 7]);
        assert_eq!(threads(&cores), [&[0][..], &[2, 3], &[6, 7]]);
    }

    #[test]
    fn without_any_word_of_the_kernels_a_thread_is_a_core() {
        assert_eq!(threads(&topology(&BTreeMap::new(), &[0, 3])), [[0], [3]]);
    }

    #[test]
    fn time_is_summed_over_the_cpus() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 100 5 6 7 8 9 10\ncpu1 10 0 0 0 0 0 0 1 0 0\ncpu10 5 5 5 5 5 5 5 5 5 5\nintr 1\n";
        assert_eq!(ticks(stat, &[0]), Some((19, 8)));
        assert_eq!(ticks(stat, &[0, 1]), Some((29, 9)));
        assert_eq!(ticks(stat, &[]), Some((0, 0)));
        assert_eq!(ticks(stat, &[2]), None);
        assert_eq!(ticks("cpu0 1 2 3\n", &[0]), None, "a kernel before steal");
    }
}
