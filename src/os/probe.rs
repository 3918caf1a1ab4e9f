//! Questions to the host, each answered by looking.

use super::files;
use crate::model::facts::{EntryKind, HostDir};
use std::collections::BTreeMap;
use std::path::Path;

/// Directories of a system that the `host` image shows.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32"];

/// What the host has of them: on merged-/usr systems most are symlinks into /usr.
pub fn host_dirs() -> Vec<HostDir> {
    let look = |path: &str| match files::kind(Path::new(path))? {
        EntryKind::Directory { .. } => Some(HostDir::Directory(path.into())),
        EntryKind::Symlink => {
            let to = std::fs::read_link(path).ok()?.into_os_string().into_string().ok()?;
            Some(HostDir::Symlink { path: path.into(), to })
        }
        _ => None,
    };
    SYSTEM.into_iter().filter_map(look).collect()
}

/// Which of these paths exist, symlinks followed, and what makes each the same one ([`files::identity`]).
pub fn existing(paths: &[&str]) -> Vec<(String, EntryKind, String)> {
    let look = |path: &&str| {
        let meta = std::fs::metadata(path).ok()?;
        let kind = if meta.is_dir() { EntryKind::Directory { mode: 0o755 } } else { EntryKind::File };
        Some(((*path).to_owned(), kind, files::same(&meta)))
    };
    paths.iter().filter_map(look).collect()
}

/// `6.12.3` and the like (uname(2)).
pub fn kernel() -> String {
    nix::sys::utsname::uname().map_or_else(|_| "unknown".into(), |u| u.release().to_string_lossy().into_owned())
}

/// Values of sysctls, those that exist; a dot in a name is a slash in its path. `proc` is /proc outside of tests.
pub fn settings(proc: &Path, names: &[&str]) -> BTreeMap<String, String> {
    let value = |name: &&str| Some(((*name).to_owned(), files::text(&proc.join("sys").join(name.replace('.', "/"))).ok()?));
    names.iter().filter_map(value).collect()
}

/// The words of ID and ID_LIKE in os-release(5). `etc` is /etc outside of tests.
pub fn system(etc: &Path) -> String {
    let text = files::text(&etc.join("os-release")).unwrap_or_default();
    let value = |line: &str| Some(line.strip_prefix("ID=").or(line.strip_prefix("ID_LIKE="))?.trim_matches('"').to_owned());
    text.lines().filter_map(value).collect::<Vec<_>>().join(" ")
}

/// Capabilities that a run needs and that we do not have.
pub fn missing_capabilities() -> Vec<String> {
    use caps::Capability::{CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SYS_ADMIN};
    // Mounts and namespaces; id maps; pipes that the program owns; signals to foreign ids.
    let needed = [CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_KILL];
    needed.into_iter().filter(|c| !has(*c)).map(|c| c.to_string()).collect()
}

fn has(capability: caps::Capability) -> bool {
    caps::has_cap(None, caps::CapSet::Effective, capability).unwrap_or(false)
}

/// Our hard limit of a resource if we cannot lift it; programs cannot have more.
pub fn fixed_limit(resource: nix::sys::resource::Resource) -> Option<u64> {
    let hard = nix::sys::resource::getrlimit(resource).ok()?.1;
    (!has(caps::Capability::CAP_SYS_RESOURCE)).then_some(hard)
}

/// Bytes of swap (sysinfo(2): /proc/meminfo counts all memory anew at each read, 30 µs; measured).
pub fn swap_bytes() -> u64 {
    nix::sys::sysinfo::sysinfo().map_or(0, |told| told.swap_total())
}

/// Cores that we may run on.
pub fn cpus() -> u32 {
    // Not std's available_parallelism: that reads the quotas of our own groups, which do not bind the cell's.
    let ours = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0));
    let count = |set: nix::sched::CpuSet| (0..nix::sched::CpuSet::count()).filter(|n| set.is_set(*n).unwrap_or(false)).count();
    ours.map_or(1, |set| count(set).max(1) as u32)
}

/// 80 random bits and more, from the kernel.
///
/// # Errors
/// of reading /dev/urandom.
pub fn random() -> super::error::OsResult<u128> {
    let bytes = files::read_some(Path::new("/dev/urandom"), 16)?;
    Ok(bytes.iter().fold(0, |n, b| (n << 8) | u128::from(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_as_much_as_meminfo_says() {
        let meminfo = files::text(Path::new("/proc/meminfo")).expect("meminfo");
        let kib = meminfo.lines().find_map(|line| line.strip_prefix("SwapTotal:")?.trim().strip_suffix(" kB")).expect("a line");
        assert_eq!(swap_bytes(), kib.trim().parse::<u64>().expect("a number") * 1024);
    }

    #[test]
    fn sysctls_and_the_system_are_read_below_a_root() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::create_dir_all(dir.path().join("sys/kernel")).expect("mkdir");
        std::fs::write(dir.path().join("sys/kernel/pid_max"), "32768\n").expect("write");
        let found = settings(dir.path(), &["kernel.pid_max", "kernel.none"]);
        assert_eq!(found, [("kernel.pid_max".to_owned(), "32768".to_owned())].into());
        assert_eq!(system(dir.path()), "");
        std::fs::write(dir.path().join("os-release"), "NAME=\"U\"\nID=ubuntu\nID_LIKE=\"debian\"\n").expect("write");
        assert_eq!(system(dir.path()), "ubuntu debian");
    }

    #[test]
    fn every_linux_has_a_usr() {
        assert!(host_dirs().contains(&HostDir::Directory("/usr".into())));
    }
}
