//! What runs may leave, looked for in every place where the kernel and we keep something of a run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every trace of these runs, as lines to read.
pub(crate) fn of(root: &Path, runs: &BTreeSet<String>) -> Vec<String> {
    let named = |text: &str| runs.iter().any(|run| text.contains(run.as_str()));
    let mut left = Vec::new();
    left.extend(names(&root.join("runs")).into_iter().map(|n| format!("run directory {n}")));
    left.extend(cells(root).into_iter().map(|n| format!("waiting cell {n}")));
    left.extend(names(&root.join("runtime")).into_iter().map(|n| format!("runtime state {n}")));
    for slot in names(&root.join("ids")) {
        let owner = fs::read_to_string(root.join("ids").join(&slot)).unwrap_or_default();
        left.extend((!owner.is_empty()).then(|| format!("id range {slot} still marked for {owner}")));
    }
    left.extend(groups().into_iter().filter(|g| named(&g.to_string_lossy())).map(|g| format!("group {}", g.display())));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = |line: &&str| line.split(' ').nth(1).is_some_and(|at| Path::new(at).starts_with(root)) || named(line);
    left.extend(mounts.lines().filter(below).map(|line| format!("mount {line}")));
    for (pid, cgroup, cmdline) in processes() {
        if named(&cgroup) || named(&cmdline) || cmdline.contains(&*root.to_string_lossy()) {
            left.push(format!("process {pid} {cmdline:?} in {cgroup:?}"));
        }
    }
    left
}

/// Cells that wait, by run.
pub(crate) fn cells(root: &Path) -> Vec<String> {
    let shapes = names(&root.join("cells"));
    let all = shapes.iter().flat_map(|shape| names(&root.join("cells").join(shape)));
    all.filter_map(|name| name.split_once('-').map(|(run, _)| run.to_owned())).collect()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

/// Every directory of every control group hierarchy.
pub(crate) fn groups() -> Vec<PathBuf> {
    let (mut all, mut todo) = (Vec::new(), vec![PathBuf::from("/sys/fs/cgroup")]);
    while let Some(dir) = todo.pop() {
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        todo.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
        all.push(dir);
    }
    all
}

/// Whether a `sleep` runs in a run's cell: programs that sleep have done before that what they were to do.
pub(crate) fn asleep(run: &str) -> bool {
    processes().iter().any(|(_, groups, line)| groups.contains(run) && line.starts_with("sleep "))
}

/// Everything that is not a zombie, or about to be one: pid, control groups, command line. A dying process leaves its group, which
/// may be removed then, a moment before it is a zombie (seen: no memory and so no command line, a group called deleted).
pub(crate) fn processes() -> Vec<(i32, String, String)> {
    let pids = names(Path::new("/proc")).into_iter().filter_map(|n| n.parse::<i32>().ok());
    let read = |pid: i32, file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
    let look = |pid| {
        let stat = String::from_utf8_lossy(&read(pid, "stat")?).into_owned();
        if stat.rsplit_once(") ")?.1.starts_with(['Z', 'X']) {
            return None;
        }
        let cmdline = String::from_utf8_lossy(&read(pid, "cmdline")?).replace('\0', " ");
        let groups = String::from_utf8_lossy(&read(pid, "cgroup")?).into_owned();
        let dying = cmdline.is_empty() && groups.contains(" (deleted)");
        (!dying).then_some((pid, groups, cmdline))
    };
    pids.filter_map(look).collect()
}
