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
    /// Whether its containers' processes are moved to their groups, for which there is a lock (`os/prime.rs`), not born there
    /// (CLONE_INTO_CGROUP, clone3(2)).
    pub moves: bool,
    /// Whether it is started from a read-only view of its binary. So that a container cannot overwrite that through
    /// /proc/self/exe (CVE-2019-5736), a runtime makes itself such a view, or a sealed copy, at each start, and executes itself
    /// once more from there; one that finds itself on a read-only mount has no need to.
    pub viewed: bool,
    /// Whether it takes a sealed copy of itself, in memory, for such a view too: whoever starts many cells has it executed from
    /// one ([`super::replica`]).
    pub sealed: bool,
    /// What its environment has where every cpu is busy with one of its kind: one that divides its work among cpus, or cleans up
    /// behind itself, is no sooner done for it then. (Four at a time on two cpus: 113 starts a second instead of 109, 15.5 ms of cpu
    /// time each instead of 16.3. A single one takes a fifth longer; runc 1.1.5.)
    pub crowded: &'static [&'static str],
    /// Whether it reads its configuration once, from beginning to end, and opens nothing of the bundle before: it can be called
    /// before there is one then, and finds a pipe in its place (`runtime/call.rs`).
    pub early: bool,
    /// Whether a /dev that is one bind mount is left as it is, devices and all (`rules/devices.rs`). crun 1.8.1 cannot open them
    /// (EACCES on /dev/null, measured).
    pub devices: bool,
}

/// For a program in Go that ends within moments (`runtime`, "Environment Variables").
const GO: &[&str] = &["GOMAXPROCS=1", "GOGC=off"];

pub const RUNTIMES: &[Quirks] = &[
    // Asks its own, later half for a mark in the environment, too, which only itself can set (runc 1.1.5).
    Quirks {
        name: "runc",
        legacy_cgroups: true,
        flags: &[],
        moves: true,
        viewed: false,
        sealed: true,
        crowded: GO,
        early: true,
        devices: true,
    },
    // crun refuses hybrid hosts, and asks systemd for groups unless told not to. To execute itself again takes it as long as to
    // start at all, as it loads a dozen libraries each time: 2.9 against 1.6 ms (crun 1.8.1, `--version`).
    Quirks {
        name: "crun",
        legacy_cgroups: false,
        flags: &["--cgroup-manager", "cgroupfs"],
        moves: false,
        viewed: true,
        sealed: false,
        crowded: &[],
        early: true,
        devices: false,
    },
    Quirks {
        name: "youki",
        legacy_cgroups: true,
        flags: &[],
        moves: true,
        viewed: false,
        sealed: false,
        crowded: &[],
        early: false,
        devices: false,
    },
];

/// The row of a runtime; an unknown one is taken to be as runc is, but for what only looking into it could tell.
pub fn of(name: &str) -> Quirks {
    RUNTIMES.iter().find(|q| q.name == name).copied().unwrap_or(Quirks {
        sealed: false,
        crowded: &[],
        early: false,
        devices: false,
        ..RUNTIMES[0]
    })
}
