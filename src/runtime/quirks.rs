//! What differs between runtimes, one row a runtime; a new one is a new row.

/// How a runtime's command line departs from runc's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// The first word of its `--version`.
    pub name: &'static str,
    /// Whether it starts cells on hosts whose controllers are in v1 hierarchies.
    pub legacy_cgroups: bool,
    /// Flags before the subcommand that it needs.
    pub flags: &'static [&'static str],
}

pub const RUNTIMES: &[Quirks] = &[
    Quirks { name: "runc", legacy_cgroups: true, flags: &[] },
    // crun refuses hybrid hosts, and asks systemd for groups unless told not to.
    Quirks { name: "crun", legacy_cgroups: false, flags: &["--cgroup-manager", "cgroupfs"] },
    Quirks { name: "youki", legacy_cgroups: true, flags: &[] },
];

/// The row of a runtime; an unknown one is taken to be as runc is.
pub fn of(name: &str) -> Quirks {
    RUNTIMES.iter().find(|q| q.name == name).copied().unwrap_or(RUNTIMES[0])
}
