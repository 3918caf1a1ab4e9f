//! Plan -> OCI runtime configuration (<https://github.com/opencontainers/runtime-spec>), over the baseline that lies as data
//! in `bundles/baseline/config.json`.
//!
//! Two renderings of one plan: [`cell`] starts init, which waits for its job, finds the host's parts of its root mounted
//! already (`work/prepare.rs`), and leaves the limits to be written at dispatch;
//! [`standalone`] has the program in init's place and all limits inside, for any OCI runtime by hand.

use super::fallback;
use crate::model::fault::Fault;
use crate::model::job::Network;
use crate::model::limits::{Limits, Rlimit};
use crate::model::plan::{Plan, PlannedMount, Root, Shape};
use crate::model::policy::IDS_PER_CELL;
use oci_spec::OciSpecError;
use oci_spec::runtime::{
    Capabilities, Capability, Linux, LinuxBlockIoBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxCpuBuilder,
    LinuxIdMappingBuilder, LinuxMemoryBuilder, LinuxNamespaceType, LinuxPidsBuilder, LinuxResources, LinuxThrottleDeviceBuilder,
    Mount, MountBuilder, PosixRlimitBuilder, PosixRlimitType, ProcessBuilder, RootBuilder, Spec, SpecBuilder, User, UserBuilder,
};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The configuration that all cells share; data, so that an auditor reads it without reading Rust.
const BASELINE: &str = include_str!("../../bundles/baseline/config.json");

/// What the baseline says. It is not read as a [`Spec`]: among what oci-spec would look for in one is a list of cpus that it judges by
/// a regular expression, and the engine's tables are half of what a static program must relocate at each start (ARCHITECTURE.md).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Baseline {
    oci_version: String,
    process: BaselineProcess,
    hostname: String,
    mounts: Vec<Mount>,
    linux: Linux,
}

/// Its process, of which the rest is the job's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BaselineProcess {
    terminal: bool,
    user: User,
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    capabilities: LinuxCapabilities,
    no_new_privileges: bool,
}

impl Baseline {
    fn spec(self) -> Result<Spec, OciSpecError> {
        let Self { oci_version, process, hostname, mounts, linux } = self;
        let process = ProcessBuilder::default()
            .terminal(process.terminal)
            .user(process.user)
            .args(process.args)
            .env(process.env)
            .cwd(process.cwd)
            .capabilities(process.capabilities)
            .no_new_privileges(process.no_new_privileges)
            .build()?;
        let spec = SpecBuilder::default().version(oci_version).process(process).hostname(hostname).mounts(mounts).linux(linux);
        let mut spec = spec.build()?;
        spec.set_annotations(None); // oci-spec's default is an empty table
        Ok(spec)
    }
}

/// Where init lies inside the cell. Below /dev, which is no part of the image, so that no image is ever modified.
pub const INIT: &str = "/dev/.runcell/init";

/// Init's own soft limits are ordinary: an unlimited stack would change the memory layout of every program (mmap_base in
/// the kernel's mm/util.c).
const SOFT: [(Rlimit, u64); 3] = [(Rlimit::Nofile, 1024), (Rlimit::Stack, 8 << 20), (Rlimit::Core, 0)];

/// What is known only once a run has its place on the host.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// The first of the cell's 65,536 host ids.
    pub first_id: u32,
    /// Relative to each cgroup mount, such as `/runcell/01J…`.
    pub cgroup: &'a str,
    /// The root filesystem, absolute or relative to the bundle.
    pub rootfs: &'a str,
    /// runcell's own binary on the host.
    pub init: &'a str,
    /// What is to be bound at /dev (`rules/devices.rs`), init in it, in place of a tmpfs of the cell's own.
    pub devices: Option<&'a str>,
    /// Where the sources of bind mounts are to be taken from instead, by source: id-mapped copies in our mount namespace.
    pub staged: BTreeMap<String, String>,
    /// A host directory to be bound at /sandbox in place of its tmpfs (standalone bundles with files).
    pub sandbox: Option<&'a str>,
}

/// What root needs to install packages (dpkg, adduser), each held in the cell's user namespace alone: nothing of it reaches the
/// kernel's settings, mounts or network. Init has them too, so that it can end what has become another user.
const BUILDER: [Capability; 8] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setuid,
];

/// What makes a fault of the baseline ours.
fn ours(e: impl std::fmt::Display) -> Fault {
    Fault::ours("bundle:baseline", format!("the baseline configuration cannot be used: {e}"))
}

/// The configuration of a cell whose init waits for its job; for so many seconds, if `wait` says so.
///
/// # Errors
/// exit 4 if the baseline is broken.
pub fn cell(shape: &Shape, place: &Place<'_>, wait: Option<u64>) -> Result<Spec, Fault> {
    let mut spec = common(shape, place)?;
    let mounts = spec.mounts_mut().get_or_insert_with(Vec::new);
    let at = mounts.iter().position(|m| m.destination().as_os_str() == "/dev").ok_or_else(|| ours("it has no /dev"))?;
    match place.devices {
        // With all that is mounted below it. As it is sealed already: whatever restricts its file system is locked in the cell's user
        // namespace, and a runtime that leaves one of that out where it says the rest again is refused (mount_namespaces(7)).
        Some(devices) => mounts[at] = shown("rbind", devices, "/dev", &["ro", "nosuid", "nodev", "noexec"]).map_err(ours)?,
        // After the /dev tmpfs, else that would hide it (measured).
        None => mounts.insert(at + 1, bind(place.init, INIT, &["ro", "nosuid", "nodev"]).map_err(ours)?),
    }
    if let Some(process) = spec.process_mut() {
        let args = [INIT.to_owned(), "init".to_owned()].into_iter().chain(wait.map(|seconds| seconds.to_string()));
        process.set_args(Some(args.collect()));
        // Init has no capability to raise a hard limit, and the job's own limits are only known at dispatch.
        let open = |(name, hard): (&Rlimit, &u64)| {
            let soft = SOFT.iter().find(|(n, _)| n == name).map_or(*hard, |(_, soft)| *soft.min(hard));
            PosixRlimitBuilder::default().typ(oci_rlimit(*name)).soft(soft).hard(*hard).build()
        };
        process.set_rlimits(Some(shape.hard.iter().map(open).collect::<Result<_, _>>().map_err(ours)?));
        process.set_oom_score_adj(Some(0));
    }
    Ok(spec)
}

/// The configuration of the job itself, for a runtime that nobody supervises.
///
/// # Errors
/// exit 4 if the baseline is broken.
pub fn standalone(plan: &Plan, place: &Place<'_>, devices: &BTreeMap<String, String>) -> Result<Spec, Fault> {
    let mut spec = common(&plan.shape, place)?;
    if let Root::Skeleton { binds, .. } = &plan.shape.root {
        let show = |(source, target): &(String, String)| bind(source, target, &["ro", "nosuid", "nodev"]);
        let shown = binds.iter().map(show).collect::<Result<Vec<_>, _>>().map_err(ours)?;
        spec.mounts_mut().get_or_insert_with(Vec::new).splice(0..0, shown);
    }
    if let Some(process) = spec.process_mut() {
        process.set_args(Some(fallback::spelled_out(&plan.fill.argv, &plan.fill.fallbacks)));
        process.set_env(Some(plan.fill.env.clone()));
        process.set_cwd(plan.fill.cwd.as_str().into());
        let rlimit = |(name, value): &(Rlimit, u64)| {
            PosixRlimitBuilder::default().typ(oci_rlimit(*name)).hard(*value).soft(*value).build()
        };
        process.set_rlimits(Some(plan.fill.rlimits.iter().map(rlimit).collect::<Result<_, _>>().map_err(ours)?));
    }
    let resources = spec.linux_mut().as_mut().map(|l| l.resources_mut().get_or_insert_with(LinuxResources::default));
    if let Some(resources) = resources {
        limit(resources, &plan.limits, devices).map_err(ours)?;
    }
    Ok(spec)
}

fn common(shape: &Shape, place: &Place<'_>) -> Result<Spec, Fault> {
    let baseline: Baseline = serde_json::from_str(BASELINE).map_err(ours)?;
    let mut spec = baseline.spec().map_err(ours)?;
    build(&mut spec, shape, place).map_err(ours)?;
    Ok(spec)
}

fn build(spec: &mut Spec, shape: &Shape, place: &Place<'_>) -> Result<(), OciSpecError> {
    if shape.builds
        && let Some(process) = spec.process_mut()
    {
        let set: Capabilities = BUILDER.into_iter().collect();
        let all = LinuxCapabilitiesBuilder::default().bounding(set.clone()).permitted(set.clone()).effective(set);
        process.set_capabilities(Some(all.inheritable(Capabilities::new()).ambient(Capabilities::new()).build()?));
    }
    spec.set_root(Some(RootBuilder::default().path(place.rootfs).readonly(!shape.writable_root).build()?));
    let mut mounts = spec.mounts_mut().take().unwrap_or_default();
    mounts.push(tmpfs("/dev/shm", shape.shm_bytes, shape.inodes, "1777", shape, true)?);
    let replaced = |target: &str| shape.mounts.iter().any(|m| target_of(m) == target);
    match place.sandbox {
        Some(dir) => mounts.push(bind(dir, "/sandbox", &["rw", "nosuid", "nodev"])?),
        None if replaced("/sandbox") => {}
        None => mounts.push(tmpfs("/sandbox", shape.sandbox_bytes, shape.inodes, "0755", shape, false)?),
    }
    if !replaced("/tmp") {
        mounts.push(tmpfs("/tmp", shape.sandbox_bytes, shape.inodes, "1777", shape, false)?);
    }
    for mount in &shape.mounts {
        mounts.push(match mount {
            PlannedMount::Tmpfs { target, bytes, inodes } => tmpfs(target.as_str(), *bytes, *inodes, "0755", shape, false)?,
            PlannedMount::Bind { source, target, writable } => {
                let from = place.staged.get(source.as_str()).map_or(source.as_str(), String::as_str);
                bind(from, target.as_str(), &[if *writable { "rw" } else { "ro" }, "nosuid", "nodev"])?
            }
        });
    }
    spec.set_mounts(Some(mounts));
    if let Some(process) = spec.process_mut() {
        process.set_user(UserBuilder::default().uid(shape.user.uid).gid(shape.user.gid).build()?);
    }
    if let Some(linux) = spec.linux_mut() {
        let ids = LinuxIdMappingBuilder::default().container_id(0u32).host_id(place.first_id).size(IDS_PER_CELL).build()?;
        linux.set_uid_mappings(Some(vec![ids]));
        linux.set_gid_mappings(Some(vec![ids]));
        linux.set_cgroups_path(Some(place.cgroup.into()));
        if shape.network == Network::Host
            && let Some(namespaces) = linux.namespaces_mut()
        {
            namespaces.retain(|n| n.typ() != LinuxNamespaceType::Network);
        }
    }
    Ok(())
}

fn target_of(mount: &PlannedMount) -> &str {
    match mount {
        PlannedMount::Tmpfs { target, .. } | PlannedMount::Bind { target, .. } => target.as_str(),
    }
}

fn bind(source: &str, target: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    shown("bind", source, target, options)
}

fn shown(how: &str, source: &str, target: &str, options: &[&str]) -> Result<Mount, OciSpecError> {
    let all: Vec<String> = [how].iter().chain(options).map(|o| (*o).to_owned()).collect();
    MountBuilder::default().destination(target).typ("bind").source(source).options(all).build()
}

fn tmpfs(target: &str, bytes: u64, inodes: u64, mode: &str, shape: &Shape, noexec: bool) -> Result<Mount, OciSpecError> {
    let mut options: Vec<String> = ["nosuid", "nodev"].map(str::to_owned).into();
    options.extend(noexec.then(|| "noexec".to_owned()));
    options.extend([format!("mode={mode}"), format!("size={bytes}"), format!("nr_inodes={inodes}")]);
    options.extend([format!("uid={}", shape.user.uid), format!("gid={}", shape.user.gid)]);
    MountBuilder::default().destination(target).typ("tmpfs").source("tmpfs").options(options).build()
}

fn limit(resources: &mut LinuxResources, limits: &Limits, devices: &BTreeMap<String, String>) -> Result<(), OciSpecError> {
    let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let memory = signed(limits.memory.0);
    resources.set_memory(Some(
        LinuxMemoryBuilder::default().limit(memory).swap(memory.saturating_add(signed(limits.swap.0))).build()?,
    ));
    resources.set_pids(Some(LinuxPidsBuilder::default().limit(signed(limits.pids)).build()?));
    if limits.cpus.is_some() || limits.cpu_weight.is_some() || limits.cpuset.is_some() {
        let mut cpu = LinuxCpuBuilder::default();
        if let Some(cpus) = limits.cpus {
            cpu = cpu.period(100_000u64).quota((cpus * 100_000.0) as i64);
        }
        if let Some(weight) = limits.cpu_weight {
            cpu = cpu.shares((weight * 1024 / 100).max(2));
        }
        if let Some(cores) = &limits.cpuset {
            cpu = cpu.cpus(cores.clone());
        }
        resources.set_cpu(Some(cpu.build()?));
    }
    if !limits.io.is_empty() {
        resources.set_block_io(Some(block_io(limits, devices)?));
    }
    Ok(())
}

fn block_io(limits: &Limits, devices: &BTreeMap<String, String>) -> Result<oci_spec::runtime::LinuxBlockIo, OciSpecError> {
    let rates = |of: fn(&crate::model::limits::IoLimit) -> Option<u64>| {
        let one = |io: &crate::model::limits::IoLimit| {
            let number = devices.get(io.device.as_str())?;
            let (major, minor) = number.split_once(':')?;
            Some((major.parse::<i64>().ok()?, minor.parse::<i64>().ok()?, of(io)?))
        };
        let build = |(major, minor, rate)| LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(rate).build();
        limits.io.iter().filter_map(one).map(build).collect::<Result<Vec<_>, _>>()
    };
    LinuxBlockIoBuilder::default()
        .throttle_read_bps_device(rates(|io| io.rbps.map(|b| b.0))?)
        .throttle_write_bps_device(rates(|io| io.wbps.map(|b| b.0))?)
        .throttle_read_iops_device(rates(|io| io.riops)?)
        .throttle_write_iops_device(rates(|io| io.wiops)?)
        .build()
}

fn oci_rlimit(name: Rlimit) -> PosixRlimitType {
    match name {
        Rlimit::Core => PosixRlimitType::RlimitCore,
        Rlimit::Data => PosixRlimitType::RlimitData,
        Rlimit::As => PosixRlimitType::RlimitAs,
        Rlimit::Memlock => PosixRlimitType::RlimitMemlock,
        Rlimit::Msgqueue => PosixRlimitType::RlimitMsgqueue,
        Rlimit::Sigpending => PosixRlimitType::RlimitSigpending,
        Rlimit::Rtprio => PosixRlimitType::RlimitRtprio,
        Rlimit::Nice => PosixRlimitType::RlimitNice,
        Rlimit::Locks => PosixRlimitType::RlimitLocks,
        Rlimit::Fsize => PosixRlimitType::RlimitFsize,
        Rlimit::Nofile => PosixRlimitType::RlimitNofile,
        Rlimit::Stack => PosixRlimitType::RlimitStack,
    }
}
