//! What jobs need of the OCI runtime.

use super::advisories::{self, Advisory};
use crate::model::facts::Layout;
use crate::model::finding::Finding;
use crate::model::health::{Health, Runtime};

/// Package managers by the words of os-release's ID and ID_LIKE: to install, and to upgrade.
const MANAGERS: &[(&str, &str, &str)] = &[
    ("debian", "apt-get update && apt-get install -y", "apt-get update && apt-get install -y --only-upgrade"),
    ("ubuntu", "apt-get update && apt-get install -y", "apt-get update && apt-get install -y --only-upgrade"),
    ("fedora", "dnf install -y", "dnf upgrade -y"),
    ("rhel", "dnf install -y", "dnf upgrade -y"),
    ("suse", "zypper install -y", "zypper update -y"),
    ("alpine", "apk add", "apk add -u"),
    ("arch", "pacman -S --noconfirm", "pacman -Syu --noconfirm"),
];

fn manager(system: &str) -> Option<(&'static str, &'static str)> {
    let words = |id: &str| system.split_ascii_whitespace().any(|w| w == id);
    MANAGERS.iter().find(|(id, ..)| words(id)).map(|(_, install, upgrade)| (*install, *upgrade))
}

/// Where the makers' own binaries are.
fn upstream(runtime: &str) -> Option<String> {
    let newest = advisories::newest(runtime)?;
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let url = match runtime {
        "crun" => format!("https://github.com/containers/crun/releases/download/{newest}/crun-{newest}-linux-{machine}"),
        _ => format!("https://github.com/opencontainers/runc/releases/download/v{newest}/runc.{machine}"),
    };
    // The first of the directories in which runtimes are looked for.
    Some(format!("curl -fLo /usr/local/sbin/{runtime} {url} && chmod 755 /usr/local/sbin/{runtime}"))
}

pub fn present(h: &Health) -> Vec<Finding> {
    let name = "runtime";
    let r = match &h.runtime {
        Ok(runtime) => runtime,
        Err(why) => {
            // A name that we do not know is more likely a slip than a package.
            let package = advisories::newest(&h.runtime_name).map(|_| h.runtime_name.as_str());
            let install = package.and_then(|p| Some(format!("{} {p}", manager(&h.system)?.0)));
            let repair =
                install.or_else(|| upstream(package?)).unwrap_or_else(|| "--runtime runc, or runtime.path in the policy".into());
            return vec![Finding::fail(name, why, "an OCI runtime starts every cell").repair(repair)];
        }
    };
    let found = format!("{} {} at {}", r.name, r.version, r.path);
    let mut findings = vec![match (&r.below, h.cgroups.as_ref().map(|c| c.layout)) {
        (Some(least), _) => Finding::fail(name, found, format!("the policy demands at least {least}")).repair(newer(h, r)),
        (None, Some(Layout::V1)) if !r.legacy_cgroups => {
            Finding::fail(name, found, "it does not work on hosts with cgroup v1 controllers")
                .repair("--runtime runc; or boot with systemd.unified_cgroup_hierarchy=1 cgroup_no_v1=all")
        }
        _ => Finding::ok(name, found),
    }];
    if r.loose {
        findings.push(
            Finding::warn(
                "runtime_owner",
                format!("others than root may change {}", r.path),
                "whoever does is root at the next job",
            )
            .repair(format!("chown root:root {0} && chmod go-w {0}", r.path)),
        );
    }
    findings
}

/// The commands that bring a newer one.
fn newer(h: &Health, r: &Runtime) -> String {
    let upgrade = manager(&h.system).map(|(_, upgrade)| format!("{upgrade} {}", r.name));
    match (upgrade, upstream(&r.name)) {
        (Some(upgrade), Some(upstream)) => format!("{upgrade}; if that brings none: {upstream}"),
        (upgrade, upstream) => upgrade.or(upstream).unwrap_or_else(|| format!("install a newer {}", r.name)),
    }
}

pub fn known_faults(h: &Health) -> Vec<Finding> {
    let name = "runtime_faults";
    let Ok(r) = &h.runtime else { return Vec::new() };
    let row = |a: &&Advisory| {
        Finding::warn(name, format!("{} {}: {}", r.name, r.version, a.id), format!("{}; here {}", a.what, a.defence))
            .repair(newer(h, r))
    };
    let mut findings: Vec<Finding> = advisories::open(&r.name, &r.version, r.build.as_deref()).iter().map(row).collect();
    if advisories::abandoned(&r.name, &r.version) {
        let why = "its makers repair this line no more; your distribution may still, without raising the version";
        findings.push(Finding::warn(name, format!("{} {}: end of life", r.name, r.version), why).repair(newer(h, r)));
    }
    findings.extend(overrun(h, r));
    if findings.is_empty() {
        findings.push(Finding::ok(name, "none is known"));
    }
    findings
}

/// The kernel writes 8 bytes beyond what runc gives it when it asks for device rules (opencontainers/cgroups#69): from Linux
/// 6.17 until 7.2, against runc before 1.4.4 and 1.5.2, on v2 alone.
fn overrun(h: &Health, r: &Runtime) -> Option<Finding> {
    let [major, minor, ..] = advisories::ordered(&h.kernel);
    let version = advisories::ordered(&r.version);
    let unified = h.cgroups.as_ref().is_some_and(|c| c.layout == Layout::V2);
    let guarded = (version >= [1, 4, 4, u32::MAX] && version[1] == 4) || version >= [1, 5, 2, u32::MAX];
    let concerned = r.name == "runc" && unified && [major, minor] >= [6, 17] && [major, minor] < [7, 2] && !guarded;
    concerned.then(|| {
        let found = format!("runc {} on Linux {}: memory corruption, opencontainers/cgroups#69", r.version, h.kernel);
        let why = "this kernel, unless its distribution has repaired it, writes beyond a structure of this runc, which then may crash while it starts a cell";
        Finding::warn("runtime_faults", found, why).repair(newer(h, r))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::finding::State;

    fn with(change: impl FnOnce(&mut Runtime)) -> Health {
        let mut h = Health::well();
        change(h.runtime.as_mut().expect("has one"));
        h
    }

    #[test]
    fn no_runtime_is_installed_by_the_systems_own_means() {
        let mut h = Health::well();
        h.runtime = Err("there is none".into());
        for (system, begins) in [
            ("debian", "apt-get update && apt-get install -y runc"),
            ("rocky rhel centos fedora", "dnf install -y runc"),
            ("", "curl -fLo /usr/local/sbin/runc https://"),
        ] {
            h.system = system.into();
            let found = present(&h).remove(0);
            assert!(found.state == State::Fail && found.repair.as_deref().is_some_and(|r| r.starts_with(begins)), "{found:?}");
        }
        assert!(known_faults(&h).is_empty());
        h.runtime_name = "/opt/runk".into();
        assert!(present(&h)[0].repair.as_deref().is_some_and(|r| r.starts_with("--runtime runc")));
    }

    #[test]
    fn crun_does_not_do_v1() {
        let mut h = with(|r| {
            r.name = "crun".into();
            r.legacy_cgroups = false;
        });
        assert_eq!(present(&h)[0].state, State::Ok);
        h.cgroups.as_mut().expect("has them").layout = Layout::V1;
        assert_eq!(present(&h)[0].state, State::Fail);
    }

    #[test]
    fn old_ones_are_warned_of_and_never_refused_for_it() {
        let h = with(|r| {
            r.version = "1.1.5+ds1".into();
            r.loose = true;
        });
        assert_eq!(present(&h).iter().map(|f| f.state).collect::<Vec<_>>(), [State::Ok, State::Warn]);
        let faults = known_faults(&h);
        assert!(faults.len() > 3 && faults.iter().all(|f| f.state == State::Warn));
        assert!(faults.iter().any(|f| f.found.ends_with("end of life")));
        let below = with(|r| r.below = Some("9.9".into()));
        assert_eq!(present(&below)[0].state, State::Fail);
    }

    #[test]
    fn the_kernels_overrun_needs_all_three() {
        let warned = |kernel: &str, version: &str, layout| {
            let mut h = with(|r| r.version = version.into());
            h.kernel = kernel.into();
            h.cgroups.as_mut().expect("has them").layout = layout;
            known_faults(&h).iter().any(|f| f.found.contains("#69"))
        };
        assert!(warned("6.18.44", "1.5.1", Layout::V2) && warned("7.1.0", "1.4.3", Layout::V2));
        assert!(!warned("6.18.44", "1.5.2", Layout::V2) && !warned("6.18.44", "1.4.4", Layout::V2));
        assert!(
            !warned("6.12.1", "1.5.1", Layout::V2)
                && !warned("7.2.0", "1.5.1", Layout::V2)
                && !warned("6.18.0", "1.5.1", Layout::V1)
        );
    }
}
