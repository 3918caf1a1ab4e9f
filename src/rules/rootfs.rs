//! What the root of a cell looks like: a skeleton of directories and small files, and what is mounted over it.

use crate::model::facts::{EntryKind, Facts, HostDir};
use crate::model::fault::Fault;
use crate::model::job::{ImageRef, Mount, MountSource, Network};
use crate::model::plan::{Entry, ImageRoot, Root};
use std::collections::BTreeSet;

/// Mount points that every cell has.
const ALWAYS: [&str; 4] = ["/proc", "/dev", "/sandbox", "/tmp"];
/// Directories that programs expect, besides those.
const EXPECTED: [&str; 7] = ["/etc", "/home", "/root", "/run", "/var", "/opt", "/mnt"];
/// Places that a job's mounts may not take.
const RESERVED: [&str; 3] = ["/proc", "/dev", "/sys"];

/// Entries of the host's /etc that programs below /usr read; none of them holds a secret.
pub const HOST_ETC: &[&str] = &[
    "/etc/alternatives",
    "/etc/fonts",
    "/etc/java-11-openjdk",
    "/etc/java-17-openjdk",
    "/etc/java-21-openjdk",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/maven",
    "/etc/mime.types",
    "/etc/perl",
    "/etc/protocols",
    "/etc/python3",
    "/etc/python3.11",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/timezone",
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nsandbox:x:1000:1000:sandbox:/sandbox:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nsandbox:x:1000:\nnogroup:x:65534:\n";
const HOSTS: &str = "127.0.0.1 localhost cell\n::1 localhost ip6-localhost\n";
const NSSWITCH: &str =
    "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n";

/// Directories are made once, parents first.
#[derive(Default)]
struct Skeleton {
    entries: Vec<Entry>,
    made: BTreeSet<String>,
}

impl Skeleton {
    fn directory(&mut self, path: &str, mode: u32) {
        for (at, _) in path.match_indices('/').skip(1) {
            self.one(&path[..at], mode);
        }
        self.one(path, mode);
    }

    fn one(&mut self, path: &str, mode: u32) {
        // Some runtimes give a tmpfs the mode of what it covers, whatever its options say (runc 1.1: measured).
        let mode = if path == "/tmp" { 0o1777 } else { mode };
        if path != "/" && self.made.insert(path.to_owned()) {
            self.entries.push(Entry::Directory { path: path.to_owned(), mode });
        }
    }

    fn file(&mut self, path: &str, content: &str) {
        if let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            self.directory(parent, 0o755);
        }
        if self.made.insert(path.to_owned()) {
            self.entries.push(Entry::File { path: path.to_owned(), content: content.to_owned() });
        }
    }

    fn mount_point(&mut self, path: &str, kind: EntryKind) {
        match kind {
            EntryKind::Directory { .. } => self.directory(path, 0o755),
            _ => self.file(path, ""),
        }
    }
}

/// The kind of thing that is mounted.
fn kind(mount: &Mount, facts: &Facts) -> EntryKind {
    match &mount.source {
        MountSource::Tmpfs { .. } => EntryKind::Directory { mode: 0o755 },
        MountSource::Bind { source, .. } => {
            facts.sources.get(source.as_str()).copied().unwrap_or(EntryKind::Directory { mode: 0o755 })
        }
    }
}

/// Targets that collide with each other or with what the cell needs for itself.
///
/// # Errors
/// exit 2, naming the mount.
pub fn check_targets(mounts: &[Mount]) -> Result<(), Fault> {
    let malformed = |n: usize, why: String| Fault::caller("job:malformed", why).at(format!("mounts[{n}].target"));
    for (n, mount) in mounts.iter().enumerate() {
        let target = &mount.target;
        if target.as_str() == "/" || RESERVED.iter().any(|r| target.is_within(r)) {
            return Err(malformed(n, format!("mount target {target} is the cell's own"))
                .hint("choose a target outside /, /proc, /dev and /sys"));
        }
        if mounts[..n].iter().any(|m| m.target == *target) {
            return Err(malformed(n, format!("mount target {target} is named twice")));
        }
        let covers = |outer: &&Mount| outer.target != *target && target.is_within(outer.target.as_str());
        if let Some(outer) = mounts.iter().find(|m| covers(m) && matches!(m.source, MountSource::Bind { .. })) {
            return Err(malformed(n, format!("mount target {target} lies within the bind mount {}", outer.target))
                .hint("a mount point would have to be made on the host; bind both beside each other"));
        }
    }
    Ok(())
}

/// Plans the root filesystem.
///
/// # Errors
/// exit 2 where a mount target cannot be had in this image.
pub fn plan(image: &ImageRef, network: Network, mounts: &[Mount], facts: &Facts) -> Result<Root, Fault> {
    check_targets(mounts)?;
    match image {
        ImageRef::Host => host(network, mounts, facts),
        ImageRef::Directory(directory) => {
            Ok(Root::Image { image: ImageRoot::Directory(directory.clone()), entries: over_image(mounts, facts)? })
        }
        ImageRef::Named(_) | ImageRef::Digest(_) => {
            Ok(Root::Image { image: ImageRoot::Layers(facts.image.layers.clone()), entries: over_image(mounts, facts)? })
        }
    }
}

fn host(network: Network, mounts: &[Mount], facts: &Facts) -> Result<Root, Fault> {
    let mut skeleton = Skeleton::default();
    let mut binds = Vec::new();
    for dir in &facts.host_dirs {
        match dir {
            HostDir::Directory(path) => {
                skeleton.directory(path, 0o755);
                binds.push((path.clone(), path.clone()));
            }
            HostDir::Symlink { path, to } => {
                skeleton.made.insert(path.clone());
                skeleton.entries.push(Entry::Symlink { path: path.clone(), to: to.clone() });
            }
        }
    }
    let own: BTreeSet<String> = skeleton.made.clone();
    ALWAYS.iter().chain(&EXPECTED).for_each(|dir| skeleton.directory(dir, 0o755));
    skeleton.entries.push(Entry::Symlink { path: "/var/tmp".into(), to: "/tmp".into() });
    for (path, content) in
        [("/etc/passwd", PASSWD), ("/etc/group", GROUP), ("/etc/hosts", HOSTS), ("/etc/nsswitch.conf", NSSWITCH)]
    {
        skeleton.file(path, content);
    }
    skeleton.file("/etc/hostname", "cell\n");
    skeleton.file("/etc/resolv.conf", "");
    if network == Network::Host {
        binds.push(("/etc/resolv.conf".into(), "/etc/resolv.conf".into()));
    }
    for (path, kind) in &facts.host_etc {
        skeleton.mount_point(path, *kind);
        binds.push((path.clone(), path.clone()));
    }
    for (n, mount) in mounts.iter().enumerate() {
        if let Some(dir) = own.iter().find(|dir| mount.target.is_within(dir)) {
            return Err(Fault::caller(
                "job:malformed",
                format!("mount target {} lies in the host's read-only {dir}", mount.target),
            )
            .at(format!("mounts[{n}].target"))
            .hint("choose a target such as /data or /mnt/data"));
        }
        if !in_tmpfs(mount) {
            skeleton.mount_point(mount.target.as_str(), kind(mount, facts));
        }
    }
    Ok(Root::Skeleton { entries: skeleton.entries, binds })
}

/// Within /sandbox and /tmp the runtime makes the mount point, in a tmpfs of the cell's own.
fn in_tmpfs(mount: &Mount) -> bool {
    ["/sandbox", "/tmp"].iter().any(|t| mount.target.as_str() != *t && mount.target.is_within(t))
}

/// Mount points to be laid over a directory image, with the modes of what they cover.
fn over_image(mounts: &[Mount], facts: &Facts) -> Result<Vec<Entry>, Fault> {
    let mut skeleton = Skeleton::default();
    let directory = EntryKind::Directory { mode: 0o755 };
    let fixed = ALWAYS.iter().map(|path| (None, (*path).to_owned(), directory));
    let asked = mounts.iter().enumerate().filter(|(_, m)| !in_tmpfs(m));
    let asked = asked.map(|(n, m)| (Some(n), m.target.as_str().to_owned(), kind(m, facts)));
    for (n, path, kind) in fixed.chain(asked) {
        let place = n.map_or("image".to_owned(), |n| format!("mounts[{n}].target"));
        for (at, _) in path.match_indices('/').skip(1).chain([(path.len(), "")]) {
            let part = &path[..at];
            let whole = at == path.len();
            match facts.image.entries.get(part) {
                Some(EntryKind::Directory { mode }) if !whole || matches!(kind, EntryKind::Directory { .. }) => {
                    skeleton.one(part, *mode);
                }
                None if whole => skeleton.mount_point(part, kind),
                None => skeleton.one(part, 0o755),
                Some(EntryKind::File) if whole && kind == EntryKind::File => skeleton.file(part, ""),
                // CVE-2026-41579 and its like: a runtime that follows such a link mounts over the wrong place.
                Some(EntryKind::Symlink) => {
                    return Err(Fault::caller(
                        "image:unusable",
                        format!("{part} is a symlink in the image, where something must be mounted"),
                    )
                    .at(place)
                    .hint("name the real path, or use an image where it is a directory"));
                }
                Some(_) => {
                    return Err(Fault::caller(
                        "image:unusable",
                        format!("{part} in the image is not what is to be mounted there"),
                    )
                    .at(place)
                    .hint("a directory is mounted on a directory, a file on a file"));
                }
            }
        }
    }
    Ok(skeleton.entries)
}

/// Every path in a directory image that [`plan`] wants to know about.
pub fn interesting(mounts: &[Mount]) -> Vec<String> {
    let targets = mounts.iter().map(|m| m.target.as_str());
    let all = ALWAYS.iter().copied().chain(targets);
    let prefixes = |path: &str| path.match_indices('/').skip(1).map(|(at, _)| path[..at].to_owned()).collect::<Vec<_>>();
    let mut found: Vec<String> = all.flat_map(|path| prefixes(path).into_iter().chain([path.to_owned()])).collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::facts::Layout;
    use crate::model::job::Job;
    use crate::rules::plan::tests::facts;

    fn mounts(json: &str) -> Vec<Mount> {
        serde_json::from_str::<Job>(&format!("{{\"mounts\":{json}}}")).expect(json).mounts
    }

    #[test]
    fn targets_do_not_collide() {
        for bad in [
            r#"[{"target":"/","tmpfs":1}]"#,
            r#"[{"target":"/proc/x","tmpfs":1}]"#,
            r#"[{"target":"/dev","tmpfs":1}]"#,
            r#"[{"target":"/d","tmpfs":1},{"target":"/d","bind":"/x"}]"#,
            r#"[{"target":"/d","bind":"/x"},{"target":"/d/e","tmpfs":1}]"#,
        ] {
            assert!(check_targets(&mounts(bad)).is_err(), "{bad}");
        }
        assert!(check_targets(&mounts(r#"[{"target":"/d","tmpfs":1},{"target":"/d/e","bind":"/x"}]"#)).is_ok());
    }

    #[test]
    fn an_image_with_a_link_for_a_mount_point_is_refused() {
        let mut f = facts(Layout::V2);
        f.image.entries.insert("/dev".into(), EntryKind::Symlink);
        let fault = over_image(&[], &f).expect_err("refused");
        assert_eq!((fault.code, fault.path.as_deref()), ("image:unusable", Some("image")));
        let mut f = facts(Layout::V2);
        f.image.entries.insert("/lib".into(), EntryKind::Symlink);
        let fault = over_image(&mounts(r#"[{"target":"/lib/x","tmpfs":1}]"#), &f).expect_err("refused");
        assert_eq!(fault.path.as_deref(), Some("mounts[0].target"));
    }

    #[test]
    fn the_host_image_shows_usr_and_an_etc_of_its_own() {
        let Root::Skeleton { entries, binds } =
            host(Network::None, &mounts(r#"[{"target":"/data/in","tmpfs":1}]"#), &facts(Layout::V2)).expect("fine")
        else {
            panic!("a skeleton")
        };
        assert!(binds.contains(&("/usr".into(), "/usr".into())));
        assert!(binds.iter().all(|(source, _)| source != "/etc" && source != "/etc/shadow"));
        assert!(entries.contains(&Entry::Symlink { path: "/bin".into(), to: "usr/bin".into() }));
        assert!(entries.contains(&Entry::Directory { path: "/data/in".into(), mode: 0o755 }));
        assert!(host(Network::None, &mounts(r#"[{"target":"/usr/x","tmpfs":1}]"#), &facts(Layout::V2)).is_err());
    }
}
