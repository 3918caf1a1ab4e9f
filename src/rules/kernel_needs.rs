//! What jobs need of the kernel and of who starts us.

use super::advisories;
use crate::model::finding::Finding;
use crate::model::health::{Health, Trial};

/// Kernels by what they brought that cells use; below the first none works (close_range(2) with CLOEXEC: 5.11).
const LEAST: [u32; 2] = [5, 11];
/// mount_setattr(2) and id-mapped mounts: 5.12; Landlock: 5.13; cgroup.kill: 5.14.
const WHOLE: [u32; 2] = [5, 14];
/// memory.peak can be reset, so that it tells of the program alone; Landlock scopes signals (ABI 6).
const BEST: [u32; 2] = [6, 12];
/// Overlays take id-mapped layers.
const MAPPED_LAYERS: [u32; 2] = [5, 19];

fn version(release: &str) -> [u32; 2] {
    let [major, minor, ..] = advisories::ordered(release);
    [major, minor]
}

pub fn kernel(h: &Health) -> Vec<Finding> {
    let (name, found) = ("kernel", h.kernel.as_str());
    vec![match version(found) {
        v if v < LEAST => Finding::fail(name, found, "cells need Linux 5.11 (close_range), and better 5.14").repair(upgrade(h)),
        v if v < WHOLE => Finding::warn(
            name,
            found,
            "5.12 has id-mapped mounts, 5.13 Landlock, 5.14 cgroup.kill, which no flood of forks outruns",
        )
        .repair(upgrade(h)),
        v if v < BEST => Finding::ok(name, found).because("from 6.12 on a cell's memory peak is told more exactly"),
        _ => Finding::ok(name, found),
    }]
}

fn upgrade(h: &Health) -> &'static str {
    let table = [
        ("ubuntu", "apt-get update && apt-get install --install-recommends linux-generic && reboot"),
        (
            "debian",
            "apt-get update && apt-get install -t $(. /etc/os-release; echo $VERSION_CODENAME)-backports \
             linux-image-$(dpkg --print-architecture) && reboot",
        ),
        ("fedora", "dnf upgrade kernel && reboot"),
        ("rhel", "dnf upgrade kernel && reboot"),
    ];
    let words = |id: &str| h.system.split_ascii_whitespace().any(|w| w == id);
    table.iter().find(|(id, _)| words(id)).map_or("install a newer kernel and reboot", |(_, command)| command)
}

pub fn privilege(h: &Health) -> Vec<Finding> {
    let name = "privilege";
    vec![match (h.privilege.root, h.privilege.missing.as_slice()) {
        (false, _) => {
            Finding::fail(name, "not root", "runcell maps ids and makes mounts and groups as root; programs never run as root")
                .repair(format!("sudo {} doctor", h.ourselves))
        }
        (true, []) => Finding::ok(name, "root with all capabilities that are needed"),
        (true, missing) => Finding::fail(
            name,
            format!("root without {}", missing.join(", ")),
            "somebody has taken these from us, most likely a container or a service unit",
        )
        .repair("start it outside; or in a container with --privileged, or in a unit without CapabilityBoundingSet="),
    }]
}

pub fn hard_limits(h: &Health) -> Vec<Finding> {
    // Where we can lift them, and where they are high enough, there is nothing to tell.
    let row = |(letter, ours, needed): &(char, u64, u64)| {
        let ample = if *letter == 'n' { "1048576" } else { "unlimited" };
        Finding::fail(
            "hard_limits",
            format!("ulimit -H{letter}: {ours} (needed: {needed})"),
            "programs inherit it, and are to have more",
        )
        .repair(format!(
            "ulimit -H{letter} {ample}, by who starts us and has CAP_SYS_RESOURCE; for a systemd unit: Limit…=infinity"
        ))
    };
    h.low_limits.iter().map(row).collect()
}

pub fn user_namespaces(h: &Health) -> Vec<Finding> {
    let name = "user_namespaces";
    let most = h.settings.get("user.max_user_namespaces").map_or("?", String::as_str);
    vec![match &h.user_namespace {
        Trial::Works => Finding::ok(name, format!("made one with the first id range (of at most {most})")),
        // Whoever is not root is told so elsewhere.
        Trial::Untried(why) if most != "0" => Finding::ok(name, format!("at most {most}; not tried: {why}")),
        Trial::Untried(why) | Trial::Fails(why) => {
            Finding::fail(name, format!("{why} (of at most {most})"), "every cell has a user namespace of its own")
                .repair("sysctl -w user.max_user_namespaces=65536")
        }
    }]
}

pub fn landlock(h: &Health) -> Vec<Finding> {
    let name = "landlock";
    let modules = h.security_modules.as_deref().unwrap_or_default();
    vec![match h.landlock_abi {
        Some(abi) if abi < 6 => Finding::ok(name, format!("ABI {abi}")).because(
            "from ABI 6 on (Linux 6.12) signals and abstract sockets are confined as well; until then seccomp and namespaces are",
        ),
        Some(abi) => Finding::ok(name, format!("ABI {abi}")),
        None => {
            Finding::warn(name, "none", "one of the walls around programs is missing: what they may write is up to mounts alone")
                .repair(match modules {
                    "" => "boot a kernel that has CONFIG_SECURITY_LANDLOCK=y and add landlock to its lsm= parameter".to_owned(),
                    some => format!("boot with lsm=landlock,{some}"),
                })
        }
    }]
}

pub fn seccomp(h: &Health) -> Vec<Finding> {
    let name = "seccomp";
    let needed = ["kill_process", "errno", "allow"];
    vec![match h.settings.get("kernel.seccomp.actions_avail") {
        None => Finding::fail(name, "none", "a program without its filter must not run")
            .repair("boot a kernel with CONFIG_SECCOMP_FILTER=y"),
        Some(has) => match needed.iter().find(|action| !has.split_ascii_whitespace().any(|w| w == **action)) {
            Some(missing) => Finding::fail(name, format!("no action {missing} (only {has})"), "the filters use it")
                .repair("boot a kernel since 4.14 with CONFIG_SECCOMP_FILTER=y"),
            None => Finding::ok(name, "filters with all actions that are used"),
        },
    }]
}

pub fn id_mapped_mounts(h: &Health) -> Vec<Finding> {
    let name = "id_mapped_mounts";
    let places =
        |of: fn(&Trial) -> bool| -> Vec<&str> { h.id_mapped.iter().filter(|(_, t)| of(t)).map(|(p, _)| p.as_str()).collect() };
    let works = places(|t| *t == Trial::Works);
    let fails: Vec<String> = h
        .id_mapped
        .iter()
        .filter_map(|(p, t)| if let Trial::Fails(why) = t { Some(format!("{p} ({why})")) } else { None })
        .collect();
    let why = "images and bind mounts from there work, but their files seem to belong to nobody, and private ones cannot be read";
    vec![match (works.as_slice(), fails.as_slice()) {
        (_, [_, ..]) => Finding::warn(name, format!("not for {}", fails.join(", ")), why)
            .repair("keep them on ext4, xfs, btrfs or tmpfs, with a kernel since 5.12 (tmpfs: 6.3)"),
        ([], []) => Finding::ok(name, "not tried: that takes root and a user namespace"),
        _ => Finding::ok(name, format!("work for {}", works.join(", "))),
    }]
}

pub fn overlay(h: &Health) -> Vec<Finding> {
    let name = "overlay";
    let why = "only jobs with an image directory need it; image \"host\" does not";
    vec![match &h.overlay {
        Trial::Works if version(&h.kernel) < MAPPED_LAYERS => {
            Finding::warn(name, "not over id-mapped layers", format!("{why}; such layers need Linux 5.19")).repair(upgrade(h))
        }
        Trial::Works => Finding::ok(name, "available"),
        Trial::Untried(why) => Finding::ok(name, format!("not tried: {why}")),
        Trial::Fails(error) => Finding::warn(name, format!("none: {error}"), why).repair("modprobe overlay"),
    }]
}

pub fn cpu(h: &Health) -> Vec<Finding> {
    let name = "cpu";
    let cores = format!("{} cores", h.cpu.cores);
    if h.cpu.weak.is_empty() {
        return vec![Finding::ok(name, format!("{cores}; the kernel knows of no weakness without a mitigation"))];
    }
    let names: Vec<&str> = h.cpu.weak.iter().map(|(name, _)| name.as_str()).collect();
    let why = "a program may be able to read memory of other cells or of the host through the processor";
    let found = Finding::warn(name, format!("{cores}; open: {}", names.join(", ")), why);
    let threads = h.cpu.smt && h.cpu.weak.iter().any(|(_, words)| words.contains("SMT"));
    vec![match threads {
        true => found.repair("echo off > /sys/devices/system/cpu/smt/control"),
        false => found.repair("install newer microcode and kernel; inside a virtual machine it is its host that needs them"),
    }]
}

/// Rows of one sysctl each: its name, and what its value means.
type Setting = (&'static str, fn(&str) -> Finding);

const SETTINGS: &[Setting] = &[
    ("kernel.core_pattern", |v| {
        match v.strip_prefix('|') {
        Some(program) => Finding::warn(
            "core_pattern",
            format!("piped to {}", program.split_ascii_whitespace().next().unwrap_or_default()),
            "the host runs this as root for every crash; cells have RLIMIT_CORE=1, at which the kernel starts it for none of theirs, \
             as long as no job raises limits.rlimits.core",
        )
        .repair("sysctl -w kernel.core_pattern=core"),
        None => Finding::ok("core_pattern", format!("{v:?}, not piped to a program")),
    }
    }),
    ("kernel.io_uring_disabled", |v| {
        Finding::ok("io_uring", format!("kernel.io_uring_disabled={v}"))
            .because("programs are refused it by their filters in any case")
    }),
    ("dev.tty.legacy_tiocsti", |v| match v {
        "0" => Finding::ok("tiocsti", "off"),
        _ => Finding::ok("tiocsti", "on: input can be pushed into a terminal")
            .because("cells have none, so it is not they who could")
            .repair("sysctl -w dev.tty.legacy_tiocsti=0"),
    }),
    ("fs.protected_hardlinks", |v| links("hardlinks", "fs.protected_hardlinks", v)),
    ("fs.protected_symlinks", |v| links("symlinks", "fs.protected_symlinks", v)),
];

fn links(name: &'static str, key: &str, value: &str) -> Finding {
    match value {
        "0" => Finding::warn(name, "unprotected", "users of the host can lead programs of root astray in /tmp and the like")
            .repair(format!("sysctl -w {key}=1")),
        _ => Finding::ok(name, "protected"),
    }
}

/// The sysctls that any row looks at.
pub const SYSCTLS: &[&str] = &[
    "kernel.core_pattern",
    "kernel.io_uring_disabled",
    "dev.tty.legacy_tiocsti",
    "fs.protected_hardlinks",
    "fs.protected_symlinks",
    "kernel.seccomp.actions_avail",
    "kernel.pid_max",
    "kernel.threads-max",
    "user.max_user_namespaces",
    "user.max_mnt_namespaces",
    "user.max_pid_namespaces",
    "user.max_net_namespaces",
    "user.max_ipc_namespaces",
    "user.max_uts_namespaces",
    "user.max_cgroup_namespaces",
];

pub fn settings(h: &Health) -> Vec<Finding> {
    SETTINGS.iter().filter_map(|(key, judge)| h.settings.get(*key).map(|value| judge(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::State;

    fn with(change: impl FnOnce(&mut Health)) -> Health {
        let mut h = Health::well();
        change(&mut h);
        h
    }

    #[test]
    fn kernels_are_told_apart_by_what_they_lack() {
        for (release, state) in [
            ("5.10.0-28-amd64", State::Fail),
            ("5.13.19", State::Warn),
            ("5.14.0-362.el9", State::Ok),
            ("6.1.0-18-amd64", State::Ok),
            ("10.0", State::Ok),
            ("unknown", State::Fail),
        ] {
            assert_eq!(kernel(&with(|h| h.kernel = release.into()))[0].state, state, "{release}");
        }
        assert!(kernel(&with(|h| h.kernel = "6.1.0".into()))[0].why.is_some());
        assert_eq!(overlay(&with(|h| h.kernel = "5.15.0".into()))[0].state, State::Warn);
    }

    #[test]
    fn a_sysctl_is_one_row() {
        let set = |key: &str, value: &str| settings(&with(|h| drop(h.settings.insert(key.into(), value.into()))));
        let piped = set("kernel.core_pattern", "|/usr/share/apport/apport -p%p").remove(0);
        assert_eq!((piped.state, piped.found.as_str()), (State::Warn, "piped to /usr/share/apport/apport"));
        assert!(
            set("fs.protected_hardlinks", "0").iter().any(|f| f.repair.as_deref() == Some("sysctl -w fs.protected_hardlinks=1"))
        );
        assert!(SETTINGS.iter().all(|(key, _)| SYSCTLS.contains(key)), "what is judged is also read");
    }

    #[test]
    fn missing_walls_and_namespaces_are_told() {
        let none = with(|h| {
            h.landlock_abi = None;
            h.security_modules = Some("capability,yama".into());
            h.settings.remove("kernel.seccomp.actions_avail");
            h.user_namespace = Trial::Fails("Too many users".into());
            h.id_mapped.push(("/srv".into(), Trial::Fails("Invalid argument".into())));
            h.overlay = Trial::Fails("No such device".into());
        });
        assert_eq!(landlock(&none)[0].repair.as_deref(), Some("boot with lsm=landlock,capability,yama"));
        assert_eq!((seccomp(&none)[0].state, user_namespaces(&none)[0].state), (State::Fail, State::Fail));
        assert_eq!(id_mapped_mounts(&none)[0].found, "not for /srv (Invalid argument)");
        assert_eq!(overlay(&none)[0].repair.as_deref(), Some("modprobe overlay"));
        assert!(privilege(&with(|h| h.privilege.missing = vec!["CAP_KILL".into()]))[0].found.contains("CAP_KILL"));
    }

    #[test]
    fn two_threads_of_one_core_are_switched_off_where_that_helps() {
        let weak = |words: &str, smt| {
            with(|h| h.cpu = crate::model::health::Cpu { cores: 2, weak: vec![("mds".into(), words.into())], smt })
        };
        let repair = |h: &Health| cpu(h).remove(0).repair.expect("a repair");
        assert!(repair(&weak("Mitigation: Clear CPU buffers; SMT vulnerable", true)).starts_with("echo off"));
        assert!(repair(&weak("Vulnerable", true)).contains("microcode"));
    }
}
