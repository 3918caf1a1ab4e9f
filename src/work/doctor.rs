//! The doctor: gathers what this host is like, and has the rules judge it. Looks and changes nothing; it works for whoever
//! asks, and says what it could not see.

use super::{host, settings};
use crate::model::facts::Layout;
use crate::model::finding::Diagnosis;
use crate::model::health::{
    Binary, Cgroups, Complaint, Cpu, Health, Ids, Leftovers, Place, PolicyFile, Privilege, Runtime, Trial,
};
use crate::model::limits::Limits;
use crate::model::policy::{IDS_PER_CELL, IdRange, Policy};
use crate::os::error::OsResult;
use crate::os::{accounts, delegation, files, mount, probe, space, sys, weakness};
use crate::rules::{findings, kernel_needs};
use crate::runtime::{driver, quirks, version};
use crate::store::home::Home;
use crate::store::ids;
use crate::store::runs::{self, Found};
use nix::sys::resource::Resource;
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Looks at the host as a run with these words would find it. A policy that cannot be used is a finding; defaults stand in.
pub fn doctor(policy: Option<&Path>, root: Option<&Path>, runtime: Option<&str>) -> Diagnosis {
    let (file, allowed) = policy_file(policy);
    let home = Home::at(settings::root(root, &allowed));
    let is_root = nix::unistd::geteuid().is_root();
    let mountinfo = files::text(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let sys = Path::new("/sys");
    let first = mount::Ids { inside: 0, outside: allowed.ids.first, count: IDS_PER_CELL };
    let user_namespace = tried(is_root, || mount::try_user_namespace(first));
    let id_mapped = id_mapped(&home, &allowed, user_namespace == Trial::Works, first);
    let health = Health {
        ourselves: ourselves(policy, root),
        privilege: Privilege { root: is_root, missing: probe::missing_capabilities() },
        kernel: probe::kernel(),
        system: probe::system(Path::new("/etc")),
        settings: probe::settings(Path::new("/proc"), kernel_needs::SYSCTLS),
        low_limits: low_limits(),
        landlock_abi: sys::landlock_abi(),
        security_modules: files::text(&sys.join("kernel/security/lsm")).ok().filter(|list| !list.is_empty()),
        user_namespace,
        overlay: overlay(is_root),
        id_mapped,
        cpu: Cpu { cores: probe::cpus(), weak: weakness::unmitigated(sys), smt: weakness::smt(sys) },
        cgroups: cgroups(&allowed, &mountinfo),
        swap_bytes: probe::swap_bytes(),
        runtime_name: host::runtime_name(&allowed, runtime).to_owned(),
        runtime: found(&allowed, runtime),
        policy: file,
        home: place(home.root(), &mountinfo),
        leftovers: leftovers(&home),
        ids: id_range(allowed.ids),
        binary: binary(),
        pids_per_cell: allowed.ceilings.pids.unwrap_or(u64::MAX).min(Limits::default().pids) + 1,
    };
    findings::diagnose(&health)
}

fn ourselves(policy: Option<&Path>, root: Option<&Path>) -> String {
    let word = |flag: &str, path: Option<&Path>| path.map_or(String::new(), |p| format!(" {flag} {}", p.display()));
    format!("runcell{}{}", word("--policy", policy), word("--root", root))
}

fn policy_file(named: Option<&Path>) -> (PolicyFile, Policy) {
    let path = named.unwrap_or(Path::new(settings::POLICY));
    let (read, policy) = match settings::policy(named) {
        Ok(policy) => (Ok(path.exists()), policy),
        Err(fault) => (Err(Complaint { why: fault.message, hint: fault.hint }), Policy::default()),
    };
    let file = PolicyFile { path: path.display().to_string(), read, loose: loose(path), best_effort: policy.best_effort };
    (file, policy)
}

/// What lets others than root change a file: itself, or the directory it is in. With the command against it.
fn loose(path: &Path) -> Option<(String, String)> {
    let real = path.canonicalize().ok()?;
    let judge = |place: &Path| {
        let meta = std::fs::metadata(place).ok()?;
        let place = place.display();
        // In a directory with the sticky bit nobody replaces the files of others.
        let others = if meta.is_dir() && meta.mode() & 0o1000 != 0 { 0 } else { meta.mode() & 0o022 };
        match (meta.uid(), others) {
            (0, 0) => None,
            (0, _) => Some((format!("others than root may write {place}"), format!("chmod go-w {place}"))),
            (uid, _) => Some((format!("{place} belongs to uid {uid}"), format!("chown root:root {place}"))),
        }
    };
    judge(&real).or_else(|| judge(real.parent()?))
}

/// What an ordinary job is given of limits that a hard limit of ours may forbid.
fn low_limits() -> Vec<(char, u64, u64)> {
    let l = Limits::default();
    let rows = [
        ('c', Resource::RLIMIT_CORE, 1), // see rules::plan
        ('f', Resource::RLIMIT_FSIZE, l.file_size.0),
        ('n', Resource::RLIMIT_NOFILE, l.open_files),
        ('s', Resource::RLIMIT_STACK, l.stack.0),
    ];
    let low = |(letter, resource, needed)| Some((letter, probe::fixed_limit(resource).filter(|hard| *hard < needed)?, needed));
    rows.into_iter().filter_map(low).collect()
}

fn tried(able: bool, attempt: impl FnOnce() -> io::Result<()>) -> Trial {
    match able {
        false => Trial::Untried("only root can".into()),
        true => attempt().map_or_else(|e| Trial::Fails(words(&e)), |()| Trial::Works),
    }
}

/// An error without its number.
fn words(e: &io::Error) -> String {
    e.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}

fn overlay(is_root: bool) -> Trial {
    let listed = files::text(Path::new("/proc/filesystems")).is_ok_and(|text| text.lines().any(|l| l.ends_with("\toverlay")));
    if listed { Trial::Works } else { tried(is_root, || sys::knows_filesystem(c"overlay")) }
}

/// One place of each filesystem from which jobs may have something mounted. Without a user namespace there is no map to try.
fn id_mapped(home: &Home, policy: &Policy, able: bool, ids: mount::Ids) -> Vec<(String, Trial)> {
    let allowed = policy.bind.iter().chain(&policy.images).map(|p| p.as_path().to_owned());
    let places = allowed.chain([PathBuf::from("/"), space::existing(home.root()).to_owned()]);
    let mut seen = BTreeSet::new();
    let fresh = places.filter(|place| std::fs::metadata(place).is_ok_and(|meta| meta.is_dir() && seen.insert(meta.dev())));
    fresh.map(|place| (place.display().to_string(), tried(able, || mount::try_id_map(&place, ids)))).collect()
}

fn cgroups(policy: &Policy, mountinfo: &str) -> Option<Cgroups> {
    let trees = host::trees().ok()?;
    let parent = host::parent(&trees, policy).map_err(|fault| fault.message);
    let unified = trees.unified().map(|tree| tree.mount.clone());
    let way = match (&unified, trees.layout) {
        (Some(mount), Layout::V2) => delegation::way(mount, parent.as_deref().unwrap_or("/")),
        _ => Vec::new(),
    };
    let read_only = trees.trees.iter().filter(|t| space::free(&t.mount).is_ok_and(|s| s.read_only));
    Some(Cgroups {
        layout: trees.layout,
        parent_is_named: policy.cgroup.parent.is_some(),
        options: unified.as_ref().and_then(|at| space::mount(mountinfo, at)).map(|m| m.options).unwrap_or_default(),
        read_only: read_only.map(|t| t.mount.display().to_string()).collect(),
        legacy: trees.trees.iter().flat_map(|t| t.controllers.iter().cloned()).collect(),
        dying: unified.as_deref().and_then(delegation::dying),
        swap: host::swap_accounted(&trees),
        unified: unified.map(|at| at.display().to_string()),
        parent,
        way,
    })
}

fn found(policy: &Policy, named: Option<&str>) -> Result<Runtime, String> {
    let name = host::runtime_name(policy, named);
    let binary = driver::find(name).ok_or_else(|| format!("there is no OCI runtime {name:?}"))?;
    // Asked and not remembered: a doctor looks for itself.
    let version = version::ask(&binary).map_err(|e| e.to_string())?;
    let least = policy.runtime.min_version.as_deref();
    Ok(Runtime {
        path: binary.display().to_string(),
        below: least.filter(|least| version.numbers() < version::numbers(least)).map(str::to_owned),
        legacy_cgroups: quirks::of(&version.name).legacy_cgroups,
        loose: loose(&binary).is_some(),
        name: version.name,
        version: version.version,
        build: version.build,
    })
}

fn place(root: &Path, mountinfo: &str) -> Place {
    let there = space::existing(root);
    let room: OsResult<space::Space> = space::free(there);
    Place {
        path: root.display().to_string(),
        filesystem: space::mount(mountinfo, there).map_or_else(|| "an unknown filesystem".to_owned(), |m| m.kind),
        read_only: room.as_ref().is_ok_and(|r| r.read_only),
        free_bytes: room.as_ref().ok().map(|r| r.bytes),
        free_inodes: room.ok().and_then(|r| r.inodes),
        closed: settings::closed(root).map(|dir| dir.display().to_string()).collect(),
    }
}

fn leftovers(home: &Home) -> Leftovers {
    let look = || -> OsResult<Leftovers> {
        // One claim at a time, and let go at once: a look must not be taken for an owner.
        let stale = |dir| matches!(runs::claim(dir), Ok(Some(Found::Stale(_))));
        let stale_runs = runs::names(home)?.into_iter().filter(|dir| stale(dir.clone())).count();
        let orphaned_slots = ids::orphaned(home)?.iter().map(|path| path.display().to_string()).collect();
        Ok(Leftovers { stale_runs, orphaned_slots, unseen: None })
    };
    match look() {
        Ok(left) => left,
        // Nothing has run yet.
        Err(e) if e.source.kind() == io::ErrorKind::NotFound => Leftovers::default(),
        Err(e) => Leftovers { unseen: Some(e.to_string()), ..Leftovers::default() },
    }
}

fn id_range(range: IdRange) -> Ids {
    let IdRange { first, count } = range;
    let claims = accounts::claims(Path::new("/etc"));
    Ids {
        first,
        count,
        slots: range.slots(),
        overlaps: claims.iter().filter(|c| c.overlaps(first, count)).map(|c| (c.place.clone(), c.line.clone())).collect(),
        ours: accounts::has(Path::new("/proc"), first, count),
        free: accounts::unclaimed(&claims, count, IDS_PER_CELL),
    }
}

fn binary() -> Binary {
    let path = std::env::current_exe().unwrap_or_default();
    let executable = std::fs::metadata(&path).is_ok_and(|meta| meta.mode() & 0o001 != 0);
    Binary { path: path.display().to_string(), executable }
}
