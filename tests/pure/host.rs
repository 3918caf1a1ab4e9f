//! An imagined host: what plans are made for where nothing real is looked at.

use runcell::model::document;
use runcell::model::facts::{EntryKind, Facts, HostDir, ImageFacts, Layout};
use runcell::model::fault::Fault;
use runcell::model::names::BundleName;
use runcell::model::plan::Plan;
use runcell::model::policy::Policy;
use runcell::rules::{merge, plan};
use runcell::work::settings;

const DIRECTORY: EntryKind = EntryKind::Directory { mode: 0o755 };

/// A well-equipped host with everything that the golden jobs name.
pub(crate) fn facts(layout: Layout) -> Facts {
    let controllers: &[&str] = match layout {
        Layout::V2 => &["cpu", "cpuset", "io", "memory", "pids"],
        Layout::V1 => &["cpu", "cpuset", "blkio", "memory", "pids", "cpuacct"],
    };
    let link = |path: &str| HostDir::Symlink { path: path.into(), to: format!("usr{path}") };
    let entries = [
        ("/proc", EntryKind::Directory { mode: 0o555 }),
        ("/dev", DIRECTORY),
        ("/tmp", EntryKind::Directory { mode: 0o1777 }),
        ("/data", EntryKind::Directory { mode: 0o700 }),
        ("/etc", DIRECTORY),
        ("/etc/app.conf", EntryKind::File),
    ];
    Facts {
        hard: [(runcell::model::limits::Rlimit::Nofile, 1 << 20), (runcell::model::limits::Rlimit::Stack, u64::MAX)].into(),
        layout,
        controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
        swap_limit: true,
        swap_bytes: 0,
        cpus: 8,
        landlock_abi: Some(6),
        host_dirs: vec![HostDir::Directory("/usr".into()), link("/bin"), link("/sbin"), link("/lib"), link("/lib64")],
        host_etc: vec![("/etc/alternatives".into(), DIRECTORY), ("/etc/ld.so.cache".into(), EntryKind::File)],
        seen: Default::default(),
        sources: [("/host/data", DIRECTORY), ("/host/out", DIRECTORY), ("/host/app.conf", EntryKind::File)]
            .map(|(path, kind)| (path.to_owned(), kind))
            .into(),
        devices: [("/dev/vda".to_owned(), "254:0".to_owned())].into(),
        image: ImageFacts { entries: entries.map(|(path, kind)| (path.to_owned(), kind)).into(), ..ImageFacts::default() },
    }
}

/// A job's document all the way to its plan, as a run goes it.
pub(crate) fn planned(job: &[u8], policy: &Policy, layout: Layout) -> Result<Plan, Fault> {
    let job = document::job(job)?;
    let bundle = job.bundle.clone().unwrap_or_else(|| BundleName::try_from("default".to_owned()).expect("a name"));
    let job = merge::merge(job, settings::template(&bundle, policy)?);
    plan::plan(job, bundle, policy, &facts(layout), false)
}
