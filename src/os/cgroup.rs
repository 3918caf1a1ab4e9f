//! Control groups: which trees there are, our place in them, and one cell's group in all of them.
//!
//! Theory of operation. On a unified host one directory holds everything; on legacy and hybrid hosts each controller has a
//! tree of its own, and a cell is a directory of the same name in each. The runtime makes what is missing and moves the
//! container in; we write the limits, read the counters, and remove the directories once the cell is proven empty.
//! rmdir succeeds only on an empty group, so it is the proof.

use super::clock;
use super::error::{At, OsError, OsResult};
use super::{files, mounted};
use crate::model::facts::Layout;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// Controllers that cells use, by their names on v2 and v1.
const WANTED: [&str; 7] = ["cpu", "cpuset", "io", "memory", "pids", "cpuacct", "blkio"];
/// What neither limits nor counts, and must stay: the devices that a cell may open are those of its group (v1).
const RULES: &str = "devices";

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    pub mount: PathBuf,
    /// Empty for the unified hierarchy, whose controllers vary by group.
    pub controllers: Vec<String>,
    pub unified: bool,
}

/// All hierarchies of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trees {
    pub layout: Layout,
    pub trees: Vec<Tree>,
}

/// The one hierarchy of a host that has all controllers in it, mounted where everybody has it; else `None`. It spares a look at
/// the mount table, of which each line costs the kernel 5 µs (measured), and hosts with containers have hundreds.
pub fn usual() -> Option<Trees> {
    let mount = Path::new("/sys/fs/cgroup");
    if statfs(mount).ok()?.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return None;
    }
    // What is here is in no hierarchy of v1, wherever that may be mounted.
    let here = listed(&mount.join("cgroup.controllers"));
    let all = ["cpu", "cpuset", "io", "memory", "pids"].iter().all(|name| here.contains(*name));
    let tree = Tree { mount: mount.into(), controllers: Vec::new(), unified: true };
    all.then(|| Trees { layout: Layout::V2, trees: vec![tree] })
}

/// The hierarchies of this host, by the shortest look that is enough.
pub fn here() -> Option<Trees> {
    usual().or_else(told).or_else(|| trees(&files::text(Path::new("/proc/self/mountinfo")).ok()?))
}

/// What the kernel tells of the hierarchies when it is asked for nothing else; `None` where it cannot be.
fn told() -> Option<Trees> {
    let found = mounted::hierarchies().ok()?;
    gathered(found.into_iter().map(|h| (h.mount, h.unified, h.options)))
}

/// Reads the hierarchies from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
pub fn trees(mountinfo: &str) -> Option<Trees> {
    let hierarchy = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let mount = left.split(' ').nth(4)?;
        let mut right = right.split(' ');
        let unified = match right.next()? {
            "cgroup2" => true,
            "cgroup" => false,
            _ => return None,
        };
        Some((mount.into(), unified, right.nth(1).unwrap_or_default().to_owned()))
    };
    gathered(mountinfo.lines().filter_map(hierarchy))
}

/// Each hierarchy once, of its mount, whether it is the unified one, and its options.
fn gathered(mounted: impl Iterator<Item = (PathBuf, bool, String)>) -> Option<Trees> {
    let mut trees: Vec<Tree> = Vec::new();
    for (mount, unified, options) in mounted {
        let named = options.split(',').filter(|o| !unified && *o != "rw" && *o != "ro").map(str::to_owned);
        let controllers: Vec<String> = named.collect();
        if !trees.iter().any(|t| t.unified == unified && t.controllers == controllers) {
            trees.push(Tree { mount, controllers, unified });
        }
    }
    // Groups are removed in this order. What comes after the removal of one with memory in it holds the lock of all removals, for half
    // a millisecond and more (memcg_offline_kmem, Linux 6.18).
    trees.sort_by_key(|tree| tree.controllers.iter().any(|controller| controller == "memory"));
    let legacy = trees.iter().any(|t| t.controllers.iter().any(|c| WANTED.contains(&c.as_str())));
    let layout = if legacy { Layout::V1 } else { Layout::V2 };
    (!trees.is_empty()).then_some(Trees { layout, trees })
}

impl Trees {
    /// The tree of v2, on unified and hybrid hosts.
    pub fn unified(&self) -> Option<&Tree> {
        self.trees.iter().find(|t| t.unified)
    }

    /// The list of threads of our own group, in one tree alone, from `/proc/self/cgroup`; the unified one where there is one.
    pub fn ours(&self, cgroup: &str) -> Option<PathBuf> {
        let place = |line: &str| {
            let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
            let named = |t: &&Tree| t.controllers.iter().any(|c| controllers.split(',').any(|name| name == c));
            let tree = if controllers.is_empty() { self.unified() } else { self.trees.iter().find(named) }?;
            let list = if tree.unified { "cgroup.threads" } else { "tasks" };
            Some((!tree.unified, tree.mount.join(group.trim_start_matches('/')).join(list)))
        };
        cgroup.lines().filter_map(place).min().map(|(_, path)| path)
    }

    /// Our own group in the unified hierarchy, from `/proc/self/cgroup`.
    fn own(cgroup: &str) -> Option<&str> {
        cgroup.lines().find_map(|line| line.strip_prefix("0::"))
    }

    /// The group below which cells go: the nearest one around us that was delegated to us, else `/runcell` on a host where no
    /// systemd manages the tree. What our own groups are, and whether there is one, is asked where it counts.
    ///
    /// # Errors
    /// `Err` is the sentence that tells why there is no such place.
    pub fn parent(&self, cgroup: impl Fn() -> String, systemd: impl Fn() -> bool) -> Result<String, String> {
        let Some(tree) = self.unified().filter(|_| self.layout == Layout::V2) else { return Ok("/runcell".into()) };
        let cgroup = cgroup();
        let own = Self::own(&cgroup).unwrap_or("/");
        let mut place = own;
        loop {
            if delegated(&tree.mount, place) {
                return Ok(join(place, "runcell"));
            }
            match place.rsplit_once('/') {
                Some((up, name)) if !name.is_empty() => place = if up.is_empty() { "/" } else { up },
                _ => break,
            }
        }
        match systemd() {
            false => Ok("/runcell".into()),
            true => Err(format!("systemd manages the cgroup tree and has delegated no part of it to us (we are in {own})")),
        }
    }

    /// Makes the parent group with every controller handed down to its children, and says which those are.
    ///
    /// # Errors
    /// of mkdir; a controller that cannot be handed down is simply not among the answer.
    pub fn prepare(&self, parent: &str) -> OsResult<BTreeSet<String>> {
        match self.layout {
            Layout::V1 => Ok(self.trees.iter().flat_map(|t| t.controllers.iter().cloned()).collect()),
            Layout::V2 => {
                let mount = self.unified().map_or(Path::new("/sys/fs/cgroup"), |t| &t.mount);
                hand_down(mount, parent)
            }
        }
    }

    /// The cell's group of that name in every tree; nothing is made yet.
    pub fn group(&self, name: &str) -> Group {
        let dir = |t: &Tree| (t.clone(), t.mount.join(name.trim_start_matches('/')));
        Group { layout: self.layout, dirs: self.trees.iter().map(dir).collect() }
    }
}

fn join(place: &str, name: &str) -> String {
    format!("{}/{name}", place.trim_end_matches('/'))
}

/// systemd marks what it delegates; a root that has a cgroup.type is not the real root but a container's, and ours.
fn delegated(mount: &Path, place: &str) -> bool {
    let dir = mount.join(place.trim_start_matches('/'));
    let marked = |name| super::sys::xattr(&dir, name).as_deref() == Some(b"1");
    marked(c"user.delegate") || marked(c"trusted.delegate") || (place == "/" && dir.join("cgroup.type").exists())
}

/// The words of a file such as cgroup.controllers; none where it cannot be read.
pub fn listed(file: &Path) -> BTreeSet<String> {
    files::text(file).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect()
}

fn hand_down(mount: &Path, parent: &str) -> OsResult<BTreeSet<String>> {
    let target = mount.join(parent.trim_start_matches('/'));
    let given = listed(&target.join("cgroup.subtree_control"));
    let mut dir = mount.to_owned();
    // The common case: an earlier run has done it all.
    if !given.is_empty() && given == wanted(&dir.join("cgroup.controllers")) {
        return Ok(given);
    }
    let parts: Vec<&str> = parent.split('/').filter(|p| !p.is_empty()).collect();
    for depth in 0..=parts.len() {
        if depth > 0 {
            dir = dir.join(parts[depth - 1]);
            files::dir(&dir, 0o755)?;
        }
        let missing: Vec<String> =
            wanted(&dir.join("cgroup.controllers")).difference(&listed(&dir.join("cgroup.subtree_control"))).cloned().collect();
        // A group with processes of its own cannot hand down memory or io, and must not be asked for the rest: cpu, cpuset and
        // pids would turn it into a threaded domain, which has no memory for good (cgroup-v2.rst, "Threads"; measured). If it is
        // the group that was delegated to us, the one above our own, the processes are ours to move into a leaf.
        if missing.is_empty() || (busy(&dir) && (depth + 1 != parts.len() || move_to_leaf(&dir).is_err())) {
            continue;
        }
        for controller in missing {
            let _ = files::set(&dir.join("cgroup.subtree_control"), &format!("+{controller}"));
        }
    }
    Ok(listed(&target.join("cgroup.subtree_control")))
}

/// Whether processes sit in the group itself; the real root, which has no type, may have them.
pub fn busy(dir: &Path) -> bool {
    dir.join("cgroup.type").exists() && files::text(&dir.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty())
}

fn wanted(file: &Path) -> BTreeSet<String> {
    listed(file).into_iter().filter(|c| WANTED.contains(&c.as_str())).collect()
}

/// Moves every process of a group into its child `supervisor`; new ones may appear meanwhile, so it is done until none is left.
fn move_to_leaf(dir: &Path) -> OsResult<()> {
    let leaf = dir.join("supervisor");
    files::dir(&leaf, 0o755)?;
    for _ in 0..100 {
        let pids = files::text(&dir.join("cgroup.procs"))?;
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids.lines() {
            match files::set(&leaf.join("cgroup.procs"), pid) {
                Err(e) if e.errno() == libc::ESRCH => {} // it has ended meanwhile
                other => other?,
            }
        }
    }
    Err(io::Error::from(io::ErrorKind::TimedOut)).at("empty the group", dir)
}

/// One cell's group: a directory in every tree.
#[derive(Clone, Debug)]
pub struct Group {
    pub layout: Layout,
    dirs: Vec<(Tree, PathBuf)>,
}

impl Group {
    /// The directory where a controller's files are.
    pub fn dir(&self, controller: &str) -> Option<&Path> {
        let has = |t: &Tree| if self.layout == Layout::V2 { t.unified } else { t.controllers.iter().any(|c| c == controller) };
        self.dirs.iter().find(|(t, _)| has(t)).map(|(_, dir)| dir.as_path())
    }

    /// The cell's directory in each tree, made or not.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        self.dirs.iter().map(|(_, dir)| dir.as_path())
    }

    fn unified(&self) -> Option<&Path> {
        self.dirs.iter().find(|(t, _)| t.unified).map(|(_, dir)| dir.as_path())
    }

    /// Makes the group in the tree of one controller, and what is missing above it.
    ///
    /// # Errors
    /// of mkdir.
    pub fn make(&self, controller: &str) -> OsResult<()> {
        let dir = self.dir(controller).ok_or_else(|| no_tree(controller))?;
        std::fs::create_dir_all(dir).at("make the group", dir)
    }

    /// Writes one limit.
    ///
    /// # Errors
    /// the kernel's own: EINVAL, ERANGE, EBUSY, or ENOENT where the controller has no such file.
    pub fn set(&self, controller: &str, file: &str, value: &str) -> OsResult<()> {
        let dir = self.dir(controller).ok_or_else(|| no_tree(controller))?;
        files::set(&dir.join(file), value)
    }

    /// Processes in one of the cell's directories: of a cell that is up all are in each.
    pub fn members(&self) -> BTreeSet<i32> {
        let dir = self.dir("pids").or_else(|| self.dirs.first().map(|(_, dir)| dir.as_path()));
        let text = dir.and_then(|dir| files::text(&dir.join("cgroup.procs")).ok()).unwrap_or_default();
        text.lines().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Processes in any of the cell's directories.
    pub fn processes(&self) -> BTreeSet<i32> {
        let read = |dir: &Path| files::text(&dir.join("cgroup.procs")).unwrap_or_default();
        let all: Vec<String> = self.dirs.iter().map(|(_, dir)| read(dir)).collect();
        all.iter().flat_map(|text| text.lines()).filter_map(|pid| pid.parse().ok()).filter(|pid| *pid > 0).collect()
    }

    /// Has the cell leave the trees that do nothing for it (freezer, systemd's own, perf_event and the like), for the group above:
    /// of a cell that waits there is time for that now, and to remove a group later costs its job 25 µs (measured). What cannot
    /// be left is removed at the end like the rest.
    pub fn shed(&self) {
        let needed = |name: &String| name == RULES || WANTED.contains(&name.as_str());
        let idle = self.dirs.iter().filter(|(tree, _)| !tree.unified && !tree.controllers.iter().any(needed));
        for (dir, above) in idle.filter_map(|(_, dir)| Some((dir, dir.parent()?))) {
            let inside = files::text(&dir.join("cgroup.procs")).unwrap_or_default();
            if inside.lines().all(|pid| files::set(&above.join("cgroup.procs"), pid).is_ok()) {
                let _ = remove_dir(dir);
            }
        }
    }

    /// SIGKILL to everything inside: cgroup.kill where the unified tree has it (5.14), which cannot be outrun by forks and
    /// reaches frozen groups; process by process elsewhere, thawed first.
    pub fn kill(&self) {
        if self.unified().is_some_and(|dir| files::set(&dir.join("cgroup.kill"), "1").is_ok()) && self.processes().is_empty() {
            return;
        }
        if let Some(freezer) = self.dirs.iter().find(|(t, _)| t.controllers.iter().any(|c| c == "freezer")).map(|(_, dir)| dir) {
            let _ = files::set(&freezer.join("freezer.state"), "THAWED");
        }
        for pid in self.processes() {
            if let Ok(fd) = super::sys::pidfd_open(pid) {
                use std::os::fd::AsFd;
                // Between reading the list and here the pid may have passed to another process: only who is still listed dies.
                if self.processes().contains(&pid) {
                    let _ = super::sys::pidfd_send_signal(fd.as_fd(), libc::SIGKILL);
                }
            }
        }
    }

    /// Removes the group everywhere, which succeeds only when it is empty; waits for that until the deadline.
    ///
    /// # Errors
    /// EBUSY where something is still alive at the deadline.
    pub fn remove(&self, deadline_ns: u64) -> OsResult<()> {
        let mut wait_ms = 1;
        loop {
            // Each time, whoever waits for this cpu has it: the kernel's thread that ends a grace period, which those wait for who take
            // mounts down, for one. Where the kernel preempts nobody (PREEMPT_NONE) it would have it when we sleep.
            let remove = |(_, dir): &(Tree, PathBuf)| remove_dir(dir).inspect(|()| std::thread::yield_now());
            match self.dirs.iter().try_for_each(remove) {
                Err(e) if e.errno() == libc::EBUSY && clock::now_ns() < deadline_ns => {
                    // Deaths are asynchronous, and v1 tells nobody when a group becomes empty: look again, ever more slowly.
                    let _ = super::watch::any::<()>(&[], Some(clock::now_ns() + wait_ms * 1_000_000));
                    wait_ms = (wait_ms * 2).min(50);
                }
                other => return other,
            }
        }
    }

    /// Whether any directory of the group exists.
    pub fn exists(&self) -> bool {
        self.dirs.iter().any(|(_, dir)| dir.exists())
    }
}

fn no_tree(controller: &str) -> OsError {
    OsError { doing: "find the cgroup tree of", on: controller.into(), source: io::ErrorKind::NotFound.into() }
}

/// Children first: a runtime may have made some.
fn remove_dir(dir: &Path) -> OsResult<()> {
    match std::fs::remove_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if matches!(e.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY)) => {
            for entry in std::fs::read_dir(dir).at("list", dir)?.flatten() {
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    remove_dir(&entry.path())?;
                }
            }
            std::fs::remove_dir(dir).at("remove the group", dir)
        }
        other => other.at("remove the group", dir),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_hosts_count_as_v1_and_unified_ones_as_v2() {
        let hybrid = trees(HYBRID).expect("trees");
        assert_eq!((hybrid.layout, hybrid.trees.len()), (Layout::V1, 4));
        let v2 = trees("24 20 0:21 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n").expect("trees");
        assert_eq!((v2.layout, v2.trees[0].unified), (Layout::V2, true));
        assert!(trees("1 0 8:1 / / rw - ext4 /dev/sda rw\n").is_none());
    }

    #[test]
    fn the_short_look_tells_what_the_mount_table_tells_or_nothing() {
        let table = trees(&files::text(Path::new("/proc/self/mountinfo")).expect("mountinfo"));
        let legacy = table.as_ref().is_some_and(|trees| trees.layout == Layout::V1);
        assert!(usual().is_none() || (usual() == table && !legacy), "{:?} is not {table:?}", usual());
        assert!(told().is_none() || told() == table, "{:?} is not {table:?}", told());
    }

    fn fake(root: &Path) -> Trees {
        trees(&format!("24 20 0:21 / {} rw - cgroup2 cgroup2 rw\n", root.display())).expect("trees")
    }

    #[test]
    fn our_own_group_is_looked_for_in_the_unified_tree_first() {
        let ours = "4:memory:/a\n1:name=systemd:/\n0::/b\n";
        let hybrid = trees(HYBRID).expect("trees");
        assert_eq!(hybrid.ours(ours).expect("listed"), Path::new("/sys/fs/cgroup/unified/b/cgroup.threads"));
        let legacy = trees(HYBRID.rsplit_once("34 ").expect("the last line").0).expect("trees");
        assert_eq!(legacy.ours(ours).expect("listed"), Path::new("/sys/fs/cgroup/memory/a/tasks"));
        assert_eq!(legacy.ours("9:pids:/\n"), None);
    }

    #[test]
    fn cells_go_where_nobody_else_rules() {
        let dir = tempfile::tempdir().expect("tempdir");
        let trees = fake(dir.path());
        let scope = || "0::/user.slice/a.scope\n".to_owned();
        assert_eq!(trees.parent(scope, || false), Ok("/runcell".into()));
        assert!(trees.parent(scope, || true).is_err());
        std::fs::write(dir.path().join("cgroup.type"), "domain\n").expect("write");
        assert_eq!(trees.parent(|| "0::/\n".into(), || true), Ok("/runcell".into()), "a container's own root");
    }

    #[test]
    fn limits_go_into_the_cells_own_directory() {
        let dir = tempfile::tempdir().expect("tempdir");
        let group = fake(dir.path()).group("/runcell/one");
        std::fs::create_dir_all(dir.path().join("runcell/one")).expect("made");
        std::fs::write(dir.path().join("runcell/one/pids.max"), "").expect("write");
        group.set("pids", "pids.max", "7").expect("written");
        assert_eq!(files::text(&dir.path().join("runcell/one/pids.max")).expect("read"), "7");
        assert!(group.set("pids", "no.such", "7").is_err());
    }
}
