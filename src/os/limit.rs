//! Resource limits of processes (setrlimit(2)).

use super::files;
use crate::model::limits::Rlimit;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

const ALL: [Rlimit; 12] = [
    Rlimit::Core,
    Rlimit::Data,
    Rlimit::As,
    Rlimit::Memlock,
    Rlimit::Msgqueue,
    Rlimit::Sigpending,
    Rlimit::Rtprio,
    Rlimit::Nice,
    Rlimit::Locks,
    Rlimit::Fsize,
    Rlimit::Nofile,
    Rlimit::Stack,
];

/// Sets this process's limit, soft and hard alike.
///
/// # Errors
/// EPERM where it is above the hard limit and we have no CAP_SYS_RESOURCE.
pub fn set(name: Rlimit, value: u64) -> io::Result<()> {
    Ok(setrlimit(resource(name), value, value)?)
}

/// The highest limits that we can give to others: everything with CAP_SYS_RESOURCE (open files at most fs.nr_open), else our own.
pub fn hard() -> BTreeMap<Rlimit, u64> {
    use caps::{CapSet, Capability, has_cap};
    let mighty = has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE).unwrap_or(false);
    let open_files = || files::text(Path::new("/proc/sys/fs/nr_open")).ok().and_then(|n| n.parse().ok()).unwrap_or(1 << 20);
    let top = |name| match name {
        Rlimit::Nofile if mighty => open_files(),
        // Priorities are the host's: a cell gets no more of them than we have, whatever we may do.
        _ if mighty && !matches!(name, Rlimit::Rtprio | Rlimit::Nice) => u64::MAX,
        name => getrlimit(resource(name)).map_or(0, |(_, hard)| hard),
    };
    ALL.into_iter().map(|name| (name, top(name))).collect()
}

fn resource(name: Rlimit) -> Resource {
    match name {
        Rlimit::Core => Resource::RLIMIT_CORE,
        Rlimit::Data => Resource::RLIMIT_DATA,
        Rlimit::As => Resource::RLIMIT_AS,
        Rlimit::Memlock => Resource::RLIMIT_MEMLOCK,
        Rlimit::Msgqueue => Resource::RLIMIT_MSGQUEUE,
        Rlimit::Sigpending => Resource::RLIMIT_SIGPENDING,
        Rlimit::Rtprio => Resource::RLIMIT_RTPRIO,
        Rlimit::Nice => Resource::RLIMIT_NICE,
        Rlimit::Locks => Resource::RLIMIT_LOCKS,
        Rlimit::Fsize => Resource::RLIMIT_FSIZE,
        Rlimit::Nofile => Resource::RLIMIT_NOFILE,
        Rlimit::Stack => Resource::RLIMIT_STACK,
    }
}
