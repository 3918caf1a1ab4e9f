//! A host's health: what was found, before anybody judges it. What could not be looked at says so and why.

use super::facts::Layout;
use std::collections::{BTreeMap, BTreeSet};

/// Something that was really tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    Works,
    /// The kernel's answer.
    Fails(String),
    /// Why it was not tried.
    Untried(String),
}

#[derive(Clone, Debug)]
pub struct Health {
    /// How we were called, as far as it matters for a command about the same host: `runcell --root /srv/cells`.
    pub ourselves: String,
    pub privilege: Privilege,
    /// As uname(2) tells it, such as `6.1.0-18-amd64`.
    pub kernel: String,
    /// The words of ID and ID_LIKE in os-release(5), such as `ubuntu debian`.
    pub system: String,
    /// Values of sysctls by their names.
    pub settings: BTreeMap<String, String>,
    /// Resource limits below what an ordinary job is given, and that we cannot lift: ulimit's letter, ours, what is needed.
    pub low_limits: Vec<(char, u64, u64)>,
    pub landlock_abi: Option<u32>,
    /// The kernel's security modules, as /sys/kernel/security/lsm lists them.
    pub security_modules: Option<String>,
    pub user_namespace: Trial,
    pub overlay: Trial,
    /// Whether these places can be id-mapped.
    pub id_mapped: Vec<(String, Trial)>,
    pub cpu: Cpu,
    /// `None` where no hierarchy is mounted.
    pub cgroups: Option<Cgroups>,
    pub swap_bytes: u64,
    /// Which runtime was looked for.
    pub runtime_name: String,
    pub runtime: Result<Runtime, String>,
    pub policy: PolicyFile,
    pub home: Place,
    pub leftovers: Leftovers,
    pub ids: Ids,
    pub binary: Binary,
    /// The most processes that an ordinary job may have, init included.
    pub pids_per_cell: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privilege {
    pub root: bool,
    /// Capabilities that a run needs and that we do not have.
    pub missing: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    pub cores: u32,
    /// Weaknesses that the kernel does not mitigate, by name, with its words (/sys/devices/system/cpu/vulnerabilities).
    pub weak: Vec<(String, String)>,
    /// Whether two hardware threads share a core.
    pub smt: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    pub layout: Layout,
    /// The group for cells, or why there is none.
    pub parent: Result<String, String>,
    /// Whether the policy named it.
    pub parent_is_named: bool,
    /// Where the unified hierarchy is mounted, if it is.
    pub unified: Option<String>,
    /// Its mount options (of the superblock).
    pub options: String,
    /// Mount points that are read-only.
    pub read_only: Vec<String>,
    /// Controllers with a hierarchy of their own.
    pub legacy: BTreeSet<String>,
    /// The unified groups from the mount point down to the parent, as far as they exist.
    pub way: Vec<Group>,
    /// Removed groups that the kernel still holds.
    pub dying: Option<u64>,
    /// Whether swap is accounted.
    pub swap: bool,
}

/// One group of the unified hierarchy on the way to the cells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Relative to the mount.
    pub path: String,
    /// What it has.
    pub controllers: BTreeSet<String>,
    /// What it hands down.
    pub handed: BTreeSet<String>,
    /// Whether processes sit in it, and it is not the real root.
    pub busy: bool,
    pub pids_max: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    pub path: String,
    /// `runc`, `crun`, …
    pub name: String,
    pub version: String,
    /// What the packager calls this build, where it says.
    pub build: Option<String>,
    /// Whether it works with v1 controllers.
    pub legacy_cgroups: bool,
    /// Whether others than root could replace or change it.
    pub loose: bool,
    /// The policy's `runtime.min_version`, if it is older than that.
    pub below: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    pub path: String,
    /// `Ok(false)`: there is none, defaults hold.
    pub read: Result<bool, Complaint>,
    /// What in its ownership or permissions lets others than root change it, with the command against it.
    pub loose: Option<(String, String)>,
    /// Whether jobs run with limits that cannot be enforced.
    pub best_effort: bool,
}

/// Why something of the operator's cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    pub why: String,
    pub hint: Option<String>,
}

/// The state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub path: String,
    /// The filesystem it lies on (or will, once it is made).
    pub filesystem: String,
    pub read_only: bool,
    pub free_bytes: Option<u64>,
    /// `None` where the filesystem does not count them.
    pub free_inodes: Option<u64>,
    /// Directories above it that are closed to the ids of cells.
    pub closed: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Runs without an owner.
    pub stale_runs: usize,
    /// Slot files of id ranges in quarantine whose run is gone.
    pub orphaned_slots: Vec<String>,
    /// Why nothing is known.
    pub unseen: Option<String>,
}

/// The ids that the policy has for cells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    pub first: u32,
    pub count: u32,
    pub slots: u32,
    /// Accounts of the host within the range: file and line number, and the line.
    pub overlaps: Vec<(String, String)>,
    /// Whether our own user namespace has all of them.
    pub ours: bool,
    /// A range of the same kind that no account uses, if there is one.
    pub free: Option<(u32, u32)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    pub path: String,
    /// Whether others may execute it, as the init of a cell must be.
    pub executable: bool,
}

#[cfg(test)]
impl Health {
    /// An imaginary host with which nothing is wrong.
    pub(crate) fn well() -> Self {
        let words = |text: &str| text.split_ascii_whitespace().map(str::to_owned).collect::<BTreeSet<String>>();
        let all = words("cpu cpuset io memory pids");
        let group = |path: &str| Group { path: path.into(), controllers: all.clone(), handed: all.clone(), ..Group::default() };
        Self {
            ourselves: "runcell".into(),
            privilege: Privilege { root: true, missing: Vec::new() },
            kernel: "6.12.3".into(),
            system: "debian".into(),
            settings: [
                ("kernel.pid_max", "4194304"),
                ("kernel.core_pattern", "core"),
                ("kernel.seccomp.actions_avail", "kill_process kill_thread trap errno user_notif trace log allow"),
                ("user.max_user_namespaces", "50000"),
                ("fs.protected_hardlinks", "1"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
            low_limits: Vec::new(),
            landlock_abi: Some(6),
            security_modules: Some("landlock,yama".into()),
            user_namespace: Trial::Works,
            overlay: Trial::Works,
            id_mapped: vec![("/run".into(), Trial::Works)],
            cpu: Cpu { cores: 2, weak: Vec::new(), smt: false },
            cgroups: Some(Cgroups {
                layout: Layout::V2,
                parent: Ok("/runcell".into()),
                parent_is_named: false,
                unified: Some("/sys/fs/cgroup".into()),
                options: "rw,favordynmods".into(),
                read_only: Vec::new(),
                legacy: BTreeSet::new(),
                way: vec![group("/"), group("/runcell")],
                dying: Some(0),
                swap: true,
            }),
            swap_bytes: 0,
            runtime_name: "runc".into(),
            runtime: Ok(Runtime {
                path: "/usr/bin/runc".into(),
                name: "runc".into(),
                version: "1.5.2".into(),
                build: None,
                legacy_cgroups: true,
                loose: false,
                below: None,
            }),
            policy: PolicyFile { path: "/etc/runcell/policy.toml".into(), read: Ok(false), loose: None, best_effort: false },
            home: Place {
                path: "/run/runcell".into(),
                filesystem: "tmpfs".into(),
                read_only: false,
                free_bytes: Some(1 << 30),
                free_inodes: Some(1 << 20),
                closed: Vec::new(),
            },
            leftovers: Leftovers::default(),
            ids: Ids {
                first: 1 << 30,
                count: 1 << 28,
                slots: 4096,
                overlaps: Vec::new(),
                ours: true,
                free: Some((1_342_177_280, 1 << 28)),
            },
            binary: Binary { path: "/usr/bin/runcell".into(), executable: true },
            pids_per_cell: 129,
        }
    }
}
