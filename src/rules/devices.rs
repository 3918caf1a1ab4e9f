//! What a cell has at /dev: a tree that all cells share, over whose empty files the host's devices are bound, and init.
//!
//! A runtime makes each cell a /dev of its own: a tmpfs, a file and a bind for each device, links; 0.7 ms of runc's cpu time in all
//! (measured, 120 interleaved runs of runc 1.1.5). It leaves alone one that is a bind mount, as here (needsSetupDev,
//! libcontainer/rootfs_linux.go).

use crate::model::plan::Entry;

/// Those that the OCI runtime specification has in every container ("Default Devices", config-linux.md), but /dev/console.
pub const NODES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
/// Where init lies, below /dev.
pub const INIT: &str = ".runcell/init";
/// What holds init, and the mount points of what is each cell's own.
/// With the modes that theirs are to have: some runtimes give a tmpfs that of what it covers, whatever its options say (runc 1.1: measured).
const DIRECTORIES: [(&str, u32); 3] = [("/.runcell", 0o755), ("/pts", 0o755), ("/shm", 0o1777)];
/// "Dev symbolic links", runtime-linux.md.
const LINKS: [(&str, &str); 5] = [
    ("/fd", "/proc/self/fd"),
    ("/ptmx", "pts/ptmx"),
    ("/stderr", "/proc/self/fd/2"),
    ("/stdin", "/proc/self/fd/0"),
    ("/stdout", "/proc/self/fd/1"),
];

/// The tree's entries, by paths as within /dev, parents first.
pub fn entries() -> Vec<Entry> {
    let directory = |(path, mode): (&str, u32)| Entry::Directory { path: path.to_owned(), mode };
    let file = |name: &str| Entry::File { path: format!("/{name}"), content: String::new() };
    let link = |(path, to): (&str, &str)| Entry::Symlink { path: path.to_owned(), to: to.to_owned() };
    let files = NODES.into_iter().chain([INIT]);
    DIRECTORIES.map(directory).into_iter().chain(files.map(file)).chain(LINKS.map(link)).collect()
}
