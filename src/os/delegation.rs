//! What the groups on the way to the cells have and hand down, read without touching any.

use super::cgroup;
use super::files;
use crate::model::health::Group;
use std::path::Path;

/// The unified groups from the mount point down to `parent`, as far as they exist.
pub fn way(mount: &Path, parent: &str) -> Vec<Group> {
    let names = parent.split('/').filter(|name| !name.is_empty());
    let paths = std::iter::once("/".to_owned()).chain(names.scan(String::new(), |path, name| {
        path.push('/');
        path.push_str(name);
        Some(path.clone())
    }));
    paths.map_while(|path| group(mount, path)).collect()
}

fn group(mount: &Path, path: String) -> Option<Group> {
    let dir = mount.join(path.trim_start_matches('/'));
    dir.is_dir().then(|| Group {
        controllers: cgroup::listed(&dir.join("cgroup.controllers")),
        handed: cgroup::listed(&dir.join("cgroup.subtree_control")),
        busy: cgroup::busy(&dir),
        // "max" is no number.
        pids_max: files::text(&dir.join("pids.max")).ok().and_then(|text| text.parse().ok()),
        path,
    })
}

/// Groups that were removed and that the kernel still holds, because something is charged to them (cgroup-v2.rst, cgroup.stat).
pub fn dying(mount: &Path) -> Option<u64> {
    let stat = files::text(&mount.join("cgroup.stat")).ok()?;
    stat.lines().find_map(|line| line.strip_prefix("nr_dying_descendants ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_ends_where_no_group_is() {
        let dir = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("a/b")).expect("mkdir");
        for (file, text) in [
            ("cgroup.controllers", "cpu memory\n"),
            ("a/cgroup.controllers", "memory\n"),
            ("a/cgroup.subtree_control", "\n"),
            ("a/cgroup.type", "domain\n"),
            ("a/cgroup.procs", "12\n"),
            ("a/pids.max", "100\n"),
            ("a/b/pids.max", "max\n"),
            ("cgroup.stat", "nr_descendants 3\nnr_dying_descendants 7\n"),
        ] {
            std::fs::write(at(file), text).expect("write");
        }
        let way = way(dir.path(), "/a/b/runcell");
        let seen: Vec<_> = way.iter().map(|g| (g.path.as_str(), g.controllers.len(), g.busy, g.pids_max)).collect();
        assert_eq!(seen, [("/", 2, false, None), ("/a", 1, true, Some(100)), ("/a/b", 0, false, None)]);
        assert_eq!((dying(dir.path()), dying(&at("a"))), (Some(7), None));
    }
}
