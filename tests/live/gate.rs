//! Whether live tests run here. A skipped test is heard; a rig that promised must deliver.

use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Run,
    Skip(String),
}

pub(crate) fn gate(live: &str, lacks: &[String]) -> Gate {
    match (live, lacks) {
        ("must", [lack, ..]) => panic!("this rig promised a full host, yet: {lack}"),
        ("must" | "want", []) => Gate::Run,
        ("want", lacks) => Gate::Skip(lacks.join("; ")),
        _ => Gate::Skip("set LIVE=want to touch real containers".into()),
    }
}

/// The verdict for this process; what it runs on is told once.
pub(crate) fn ours() -> &'static Gate {
    static OURS: OnceLock<Gate> = OnceLock::new();
    OURS.get_or_init(|| {
        let live = std::env::var("LIVE").unwrap_or_default();
        let lacks = if matches!(live.as_str(), "want" | "must") { lacks() } else { Vec::new() };
        let gate = gate(&live, &lacks);
        if gate == Gate::Run {
            let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            let layout = if unified() { "unified cgroup v2" } else { "cgroup v1 controllers" };
            let rounds = super::harness::rounds(100);
            say(&format!("live: Linux {}, {layout}, {}, repetitions at {rounds} %", kernel.trim(), runtime()));
        }
        gate
    })
}

/// Says it for real: libtest hides what the print macros say.
pub(crate) fn say(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

pub(crate) fn runtime() -> String {
    std::env::var("RUNCELL_TEST_RUNTIME").unwrap_or_else(|_| "runc".into())
}

/// Whether all controllers are in one hierarchy.
pub(crate) fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn lacks() -> Vec<String> {
    let found = |program: &str| {
        let dirs = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", ""];
        dirs.iter().any(|dir| Path::new(dir).join(program).is_file())
    };
    let runtime = runtime();
    let needs = [
        (nix::unistd::geteuid().is_root(), "not root".to_owned()),
        (found(&runtime), format!("there is no runtime {runtime}")),
        (unified() || Path::new("/sys/fs/cgroup/memory").exists(), "no memory controller below /sys/fs/cgroup".into()),
        (Path::new("/proc/self/ns/user").exists(), "no user namespaces".into()),
        (Path::new("/usr/bin/python3").exists(), "no /usr/bin/python3 (apt-get install python3)".into()),
        (Path::new("/usr/bin/gcc").exists(), "no /usr/bin/gcc (apt-get install gcc libc6-dev)".into()),
        (found("busybox"), "no busybox (apt-get install busybox-static)".into()),
        (found("git"), "no git (apt-get install git)".into()),
    ];
    needs.into_iter().filter(|(there, _)| !there).map(|(_, lack)| lack).collect()
}

#[test]
fn a_rig_that_promised_must_deliver() {
    let lack = || vec!["no runc".to_owned()];
    assert_eq!(gate("must", &[]), Gate::Run);
    assert_eq!(gate("want", &[]), Gate::Run);
    assert_eq!(gate("want", &lack()), Gate::Skip("no runc".into()));
    assert!(matches!(gate("", &[]), Gate::Skip(why) if why.contains("LIVE=want")));
    assert!(std::panic::catch_unwind(|| gate("must", &lack())).is_err());
}
