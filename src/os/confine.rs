//! Confinement of ourselves and of the program: capabilities, Landlock, seccomp.

use super::sys;
use caps::{CapSet, Capability, CapsHashSet};
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use std::io;
use std::path::Path;

/// Beyond this ABI the crate knows no rights; older kernels get what they have.
const NEWEST: ABI = ABI::V6;

/// Rules for a program, ready to be put on by it.
#[derive(Debug)]
pub struct Rules(RulesetCreated);

impl Rules {
    /// Binds this thread and all that it becomes or makes.
    ///
    /// # Errors
    /// of the system call. Without Landlock in the kernel it does nothing and says `Ok(false)`.
    pub fn enforce(&self) -> io::Result<bool> {
        let status = self.0.try_clone()?.restrict_self().map_err(io::Error::other)?;
        Ok(status.ruleset != RulesetStatus::NotEnforced)
    }
}

/// Read and execute everywhere, write below `writable` alone. Signals and abstract sockets stay within where the kernel can
/// scope them (ABI 6), which keeps a program from init.
///
/// # Errors
/// of the ruleset's system calls.
pub fn program(writable: &[String]) -> io::Result<Rules> {
    let all = AccessFs::from_all(NEWEST);
    let devices = AccessFs::WriteFile | AccessFs::IoctlDev | AccessFs::from_read(NEWEST);
    let mut ruleset = rule(nothing(true)?, "/", AccessFs::from_read(NEWEST))?;
    for place in ["/dev", "/proc"] {
        ruleset = rule(ruleset, place, devices)?;
    }
    for place in writable.iter().map(String::as_str).chain(["/dev/shm"]) {
        ruleset = rule(ruleset, place, all)?;
    }
    Ok(Rules(ruleset))
}

/// A ruleset that forbids every access to files; with `scoped`, signals and abstract sockets to whoever is not under it as well.
fn nothing(scoped: bool) -> io::Result<RulesetCreated> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(NEWEST));
    let ruleset = if scoped { ruleset.and_then(|r| r.scope(Scope::AbstractUnixSocket | Scope::Signal)) } else { ruleset };
    ruleset.and_then(|r| r.create()).map_err(io::Error::other)
}

fn rule(ruleset: RulesetCreated, place: impl AsRef<Path>, access: landlock::BitFlags<AccessFs>) -> io::Result<RulesetCreated> {
    let fd = PathFd::new(place.as_ref()).map_err(io::Error::other)?;
    // A single file takes no directory rights; best effort drops those that do not apply.
    ruleset.add_rule(PathBeneath::new(fd, access)).map_err(io::Error::other)
}

/// Our own filesystem rights once a job's words are about to be read: all below `ours`, nothing elsewhere but reading /proc.
///
/// # Errors
/// of the ruleset's system calls.
pub fn supervisor(ours: &[&Path]) -> io::Result<()> {
    let all = AccessFs::from_all(NEWEST);
    let mut ruleset = rule(nothing(false)?, "/proc", AccessFs::from_read(NEWEST))?;
    for place in ours.iter().filter(|p| p.exists()) {
        ruleset = rule(ruleset, place, all)?;
    }
    ruleset.restrict_self().map_err(io::Error::other)?;
    Ok(())
}

/// Keeps of root's capabilities only what ends a cell: signalling foreign ids. Files below our own directories are ours by uid.
///
/// # Errors
/// of capset.
pub fn drop_capabilities() -> io::Result<()> {
    keep(&[Capability::CAP_KILL, Capability::CAP_DAC_OVERRIDE])
}

fn keep(capabilities: &[Capability]) -> io::Result<()> {
    let kept: CapsHashSet = capabilities.iter().copied().collect();
    caps::set(None, CapSet::Effective, &kept).map_err(io::Error::other)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(io::Error::other)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(io::Error::other)
}

/// Confines a process that reads foreign bytes: it reads below `source`, writes below `bench`, reaches nothing else, and of
/// root's capabilities keeps those that give files their owners, modes and attributes.
///
/// # Errors
/// of Landlock or capset.
pub fn unpacker(source: Option<&Path>, bench: &Path) -> io::Result<()> {
    let mut ruleset = rule(nothing(true)?, bench, AccessFs::from_all(NEWEST))?;
    if let Some(source) = source {
        ruleset = rule(ruleset, source, AccessFs::from_read(NEWEST))?;
    }
    ruleset.restrict_self().map_err(io::Error::other)?;
    keep(&[
        Capability::CAP_CHOWN,
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_FOWNER,
        Capability::CAP_FSETID,
        Capability::CAP_SETFCAP,
    ])
}

/// Installs a compiled seccomp program, given as the kernel reads it. Sets no_new_privs, as the kernel demands it.
///
/// # Errors
/// of seccomp(2), and EINVAL for bytes that are no program; the program must not run then.
pub fn install(filter: &[u8]) -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    sys::seccomp(filter)
}
