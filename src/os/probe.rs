//! Questions to the host, each answered by looking.

use super::files;
use crate::model::facts::{EntryKind, HostDir};
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

/// Which of these paths exist, symlinks followed.
pub fn existing(paths: &[&str]) -> Vec<(String, EntryKind)> {
    let look = |path: &&str| {
        let meta = std::fs::metadata(path).ok()?;
        let kind = if meta.is_dir() { EntryKind::Directory { mode: 0o755 } } else { EntryKind::File };
        Some(((*path).to_owned(), kind))
    };
    paths.iter().filter_map(look).collect()
}

/// `6.12.3` and the like (uname(2)).
pub fn kernel() -> String {
    nix::sys::utsname::uname().map_or_else(|_| "unknown".into(), |u| u.release().to_string_lossy().into_owned())
}

/// Bytes of swap, from /proc/meminfo.
pub fn swap_bytes(meminfo: &str) -> u64 {
    let kib =
        meminfo.lines().find_map(|line| line.strip_prefix("SwapTotal:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Cores that we may run on.
pub fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
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
    fn swap_is_read_from_meminfo() {
        assert_eq!(swap_bytes("MemTotal: 9 kB\nSwapTotal:       2048 kB\n"), 2 << 20);
        assert_eq!(swap_bytes("MemTotal: 9 kB\n"), 0);
    }

    #[test]
    fn every_linux_has_a_usr() {
        assert!(host_dirs().contains(&HostDir::Directory("/usr".into())));
    }
}
