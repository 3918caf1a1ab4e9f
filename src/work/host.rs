//! This host as a run needs it: where cells go, which runtime starts them, and the facts that a plan weighs.

use super::faults;
use super::taken::Taken;
use crate::model::facts::{Facts, ImageFacts, Layout};
use crate::model::fault::Fault;
use crate::model::job::{ImageRef, Job, MountSource};
use crate::model::limits::IoLimit;
use crate::model::policy::Policy;
use crate::os::cgroup::{self, Trees};
use crate::os::prime::{self, Primer};
use crate::os::{files, limit, probe, sys};
use crate::rules::rootfs;
use crate::runtime::driver::{self, Runtime};
use crate::runtime::replica::Replica;
use crate::runtime::version;
use crate::store::home::Home;
use std::collections::BTreeMap;
use std::path::Path;

/// What does not depend on the job.
#[derive(Debug)]
pub struct Host {
    pub trees: Trees,
    /// The group below which cells live, relative to each cgroup mount.
    pub parent: String,
    pub runtime: Runtime,
    facts: Facts,
}

/// Looks at the host.
///
/// # Errors
/// exit 3: not root, no control groups, no usable parent group, no runtime or one too old.
pub fn look(home: &Home, policy: &Policy, runtime: Option<&str>) -> Result<Host, Fault> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Fault::host("host:permission", "runcell must be started by root")
            .hint("use sudo; programs themselves never run as root"));
    }
    let trees = trees()?;
    let parent = parent(&trees, policy)?;
    let runtime = find_runtime(home, policy, runtime, trees.layout)?;
    let controllers = trees.prepare(&parent).map_err(|e| faults::ours(&e))?;
    let swap_limit = swap_accounted(&trees) && controllers.contains("memory");
    let facts = Facts {
        layout: trees.layout,
        controllers,
        swap_limit,
        swap_bytes: probe::swap_bytes(),
        hard: limit::hard(),
        cpus: probe::cpus(),
        landlock_abi: sys::landlock_abi(),
        host_dirs: Vec::new(),
        host_etc: Vec::new(),
        seen: Default::default(),
        sources: Default::default(),
        devices: ceiling_devices(policy)?,
        image: ImageFacts::default(),
    };
    Ok(Host { trees, parent, runtime, facts })
}

/// The numbers of the block devices that the policy's ceilings name.
fn ceiling_devices(policy: &Policy) -> Result<BTreeMap<String, String>, Fault> {
    let number = |(n, io): (usize, &IoLimit)| {
        let number = files::block_device(Path::new(io.device.as_str())).map_err(|e| {
            Fault::host("policy:unusable", e.to_string())
                .at(format!("ceilings.io[{n}].device"))
                .hint("name a block device; lsblk lists them")
        })?;
        Ok((io.device.as_str().to_owned(), number))
    };
    policy.ceilings.io.iter().flatten().enumerate().map(number).collect()
}

/// The cgroup hierarchies.
///
/// # Errors
/// exit 3 where none is mounted.
pub fn trees() -> Result<Trees, Fault> {
    cgroup::here().ok_or_else(|| {
        Fault::host("cgroup:none", "no cgroup hierarchy is mounted").hint("mount -t cgroup2 cgroup2 /sys/fs/cgroup")
    })
}

/// Whether the memory controller counts swap: on v2 wherever swap is compiled in, on v1 only on request (swapaccount=1).
pub fn swap_accounted(trees: &Trees) -> bool {
    match trees.layout {
        Layout::V2 => Path::new("/proc/swaps").exists(),
        Layout::V1 => trees.group("/").dir("memory").is_some_and(|dir| dir.join("memory.memsw.limit_in_bytes").exists()),
    }
}

/// The name or path of the runtime that is to be used.
pub fn runtime_name<'a>(policy: &'a Policy, named: Option<&'a str>) -> &'a str {
    named.or(policy.runtime.path.as_deref()).unwrap_or("runc")
}

/// The group for cells: the policy's, or one that is ours.
///
/// # Errors
/// exit 3 where there is none.
pub fn parent(trees: &Trees, policy: &Policy) -> Result<String, Fault> {
    if let Some(parent) = &policy.cgroup.parent {
        return Ok(parent.as_str().trim_end_matches('/').to_owned());
    }
    let own = || files::text(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let systemd = || Path::new("/run/systemd/system").exists();
    trees.parent(own, systemd).map_err(|why| {
        Fault::host("cgroup:delegation", why)
            .hint("start it as: systemd-run --quiet --scope -p Delegate=yes runcell …; or name a delegated group as cgroup.parent in the policy")
    })
}

fn find_runtime(home: &Home, policy: &Policy, named: Option<&str>, layout: Layout) -> Result<Runtime, Fault> {
    let name = runtime_name(policy, named);
    let binary = driver::find(name).ok_or_else(|| {
        Fault::host("runtime:!exists", format!("there is no OCI runtime {name:?}"))
            .at("runtime")
            .hint("apt-get install runc, or name one by its absolute path in the policy (runtime.path) or with --runtime")
    })?;
    let runtime =
        Runtime::new(binary, |key| home.fact(key)).map_err(|e| Fault::host("runtime:unusable", e.to_string()).at("runtime"))?;
    if layout == Layout::V1 && !runtime.quirks.legacy_cgroups {
        return Err(Fault::host(
            "runtime:cgroup",
            format!("{} does not work on hosts with cgroup v1 controllers", runtime.quirks.name),
        )
        .at("runtime")
        .hint("use runc, or boot with systemd.unified_cgroup_hierarchy=1"));
    }
    if let Some(least) = policy.runtime.min_version.as_deref()
        && runtime.version.numbers() < version::numbers(least)
    {
        return Err(Fault::host(
            "runtime:too_old",
            format!("{} {} is older than the policy's {least}", runtime.version.name, runtime.version.version),
        )
        .at("runtime")
        .hint("upgrade it, or lower runtime.min_version in the policy"));
    }
    Ok(runtime)
}

impl Host {
    /// The same, its runtime executed from this copy, and knowing whether it is one of many.
    #[must_use]
    pub fn with(self, replica: Option<&Replica>, crowded: bool) -> Self {
        Self { runtime: Runtime { crowded, ..self.runtime.from_replica(replica) }, ..self }
    }

    /// Has the lock of all control groups kept ready while the runtime starts, if it is one that needs it.
    pub fn prime(&self) -> Option<Primer> {
        self.runtime.quirks.moves.then(|| prime::start(&self.trees))
    }

    /// Whether cells have this controller.
    pub fn has(&self, controller: &str) -> bool {
        self.facts.controllers.contains(controller)
    }

    /// Whether nothing can ever be in swap.
    pub fn swapless(&self) -> bool {
        self.facts.swap_bytes == 0
    }

    /// The facts with what this job names looked up; `image` is what it has of the store.
    ///
    /// # Errors
    /// exit 2 where a bind source, device or image does not exist or is of no usable kind.
    pub fn facts(&self, job: &Job, image: Option<&Taken>) -> Result<Facts, Fault> {
        let mut facts = self.facts.clone();
        for (n, mount) in job.mounts.iter().enumerate() {
            let MountSource::Bind { source, .. } = &mount.source else { continue };
            let kind = files::kind(source.as_path()).ok_or_else(|| {
                Fault::caller("mount:!exists", format!("the bind source {source} does not exist")).at(format!("mounts[{n}].bind"))
            })?;
            facts.sources.insert(source.as_str().to_owned(), kind);
        }
        for (n, io) in job.limits.io.iter().flatten().enumerate() {
            let number = files::block_device(Path::new(io.device.as_str())).map_err(|e| {
                Fault::caller("job:malformed", e.to_string())
                    .at(format!("limits.io[{n}].device"))
                    .hint("name a block device; lsblk lists them")
            })?;
            facts.devices.insert(io.device.as_str().to_owned(), number);
        }
        match (image, &job.image) {
            (Some(image), _) => facts.image = image.facts(job),
            (None, Some(ImageRef::Directory(dir))) => facts.image = image_facts(dir.as_path(), job)?,
            (None, _) => {
                facts.host_dirs = probe::host_dirs();
                for (path, kind, identity) in probe::existing(rootfs::HOST_ETC) {
                    facts.seen.insert(path.clone(), identity);
                    facts.host_etc.push((path, kind));
                }
            }
        }
        if let Some(set) = &job.limits.cpuset {
            let beyond = crate::rules::ceilings::cores(set).is_some_and(|cores| cores.iter().any(|c| *c >= facts.cpus));
            if beyond {
                return Err(Fault::host(
                    "cgroup:cpuset",
                    format!("limits.cpuset {set:?} names a core that this host does not have"),
                )
                .at("limits.cpuset")
                .hint(format!("this host has cores 0 to {}", facts.cpus.saturating_sub(1))));
            }
        }
        Ok(facts)
    }
}

fn image_facts(dir: &Path, job: &Job) -> Result<ImageFacts, Fault> {
    // The way to the image must hold no symlink either: what is judged here is what will be mounted.
    let usable = crate::os::mount::source(dir).is_ok_and(|f| f.metadata().is_ok_and(|m| m.is_dir()));
    if !usable {
        return Err(Fault::caller(
            "image:!exists",
            format!("the image {} is no directory reached without symlinks", dir.display()),
        )
        .at("image")
        .hint("name the real path of a root filesystem directory"));
    }
    let looked = rootfs::interesting(&job.mounts).into_iter().filter_map(|path| {
        let kind = files::kind(&dir.join(path.trim_start_matches('/')))?;
        Some((path, kind))
    });
    Ok(ImageFacts { entries: looked.collect(), ..ImageFacts::default() })
}
