//! Mounts of a run: all in a mount namespace of its own, so that none can outlive it.

use super::error::{At, OsResult};
use super::sys;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Leaves the host's mount namespace for a private copy; mounts made from here on are seen by us and our children alone.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN.
pub fn private_namespace() -> OsResult<()> {
    unshare(CloneFlags::CLONE_NEWNS).at("unshare", "the mount namespace")?;
    let none: Option<&str> = None;
    // Slave and not private: what the operator mounts later on the host still arrives, nothing goes the other way.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).at("make private", "/")
}

/// Where an overlay takes what is written: two directories on one mount.
#[derive(Clone, Copy, Debug)]
pub struct Upper<'a> {
    pub upper: &'a Path,
    pub work: &'a Path,
    /// As whom the overlay works in them: the host id that an id-mapped mount shows as their owner. Files that an id-mapped mount
    /// is to take need a maker whom its map knows, and host root is in none: without this the whole becomes read-only (measured).
    pub owner: Option<u32>,
}

/// An overlay of directories, the topmost first; none of them is ever written. Without an `upper` the whole cannot be either.
///
/// Layers are named by descriptors: however deep they lie, 127 of them fit into the one page that mount(2) takes (tried with
/// Linux 6.18). A layer's own markers for redirection are not followed: it may come from a stranger.
///
/// # Errors
/// ENODEV without overlayfs; EINVAL where a directory cannot be a layer.
pub fn overlay(layers: &[&Path], upper: Option<Upper<'_>>, target: &Path) -> OsResult<()> {
    let open = |path: &Path| source(path);
    let lowers = layers.iter().map(|layer| open(layer)).collect::<OsResult<Vec<File>>>()?;
    let name = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut options =
        format!("redirect_dir=nofollow,metacopy=off,lowerdir={}", lowers.iter().map(name).collect::<Vec<_>>().join(":"));
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let uppers = upper.map(|u| Ok((open(u.upper)?, open(u.work)?))).transpose()?;
    match &uppers {
        None => flags |= MsFlags::MS_RDONLY,
        Some((upper, work)) => options += &format!(",upperdir={},workdir={}", name(upper), name(work)),
    }
    let mount =
        || mount(Some("overlay"), target, Some("overlay"), flags, Some(options.as_str())).at("mount an overlay at", target);
    match upper.and_then(|u| u.owner) {
        None => mount(),
        Some(id) => with_files_of(id, mount)?,
    }
}

/// Does something with new files belonging to `id`, and all capabilities as before: overlayfs remembers both from its mount on.
fn with_files_of<T>(id: u32, act: impl FnOnce() -> T) -> OsResult<T> {
    use caps::CapSet;
    use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
    let ours = caps::read(None, CapSet::Effective).map_err(io::Error::other).at("read", "our capabilities")?;
    // The kernel forgets what is to come with our parent's death where these ids change (commit_creds; measured).
    let death = nix::sys::prctl::get_pdeathsig().ok().flatten();
    let (uid, gid) = (setfsuid(Uid::from_raw(id)), setfsgid(Gid::from_raw(id)));
    // Leaving uid 0 takes those away that concern files (capabilities(7), "Effect of user ID changes").
    let raised = caps::set(None, CapSet::Effective, &ours).map_err(io::Error::other).at("raise", "our capabilities");
    let done = raised.map(|()| act());
    setfsuid(uid);
    setfsgid(gid);
    nix::sys::prctl::set_pdeathsig(death).map_err(io::Error::from).at("restore", "what our parent's death means")?;
    done
}

/// A tmpfs of our own, bounded in bytes and inodes; what is in it counts as memory of whoever wrote it.
///
/// # Errors
/// of mount(2).
pub fn tmpfs(target: &Path, bytes: u64, inodes: u64) -> OsResult<()> {
    let options = format!("size={bytes},nr_inodes={inodes},mode=0755");
    mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))
        .at("mount a tmpfs at", target)
}

/// Makes a directory a mount of its own, so that what is mounted below goes with it.
///
/// # Errors
/// of mount(2).
pub fn over_itself(dir: &Path) -> OsResult<()> {
    let none: Option<&str> = None;
    mount(Some(dir), dir, none, MsFlags::MS_BIND, none).at("bind over itself", dir)
}

/// Binds a host file at `target`, which must exist, as it is: a device, as a cell opens it by its own group's rules.
///
/// # Errors
/// of mount(2).
pub fn bind(source: &Path, target: &Path) -> OsResult<()> {
    let none: Option<&str> = None;
    mount(Some(source), target, none, MsFlags::MS_BIND, none).at("bind to its place in the cell", source)
}

/// Shows a host file or directory at `target`, which must exist: read-only, without set-uid and devices, and without what is
/// mounted below it. Symlinks of the host's own are followed. By mount(2), as mount_setattr(2) came with Linux 5.12 only.
///
/// # Errors
/// of the two mount calls.
pub fn show(source: &Path, target: &Path) -> OsResult<()> {
    bind(source, target)?;
    restrict(target, MsFlags::empty())
}

/// Makes a bind mount read-only, without set-uid, devices and programs of its own; what is mounted below it stays as it is.
///
/// # Errors
/// of mount(2).
pub fn seal(target: &Path) -> OsResult<()> {
    restrict(target, MsFlags::MS_NOEXEC)
}

fn restrict(target: &Path, more: MsFlags) -> OsResult<()> {
    let none: Option<&str> = None;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(none, target, none, flags | more, none).at("restrict the mount at", target)
}

/// How host ids look through an id-mapped mount: `inside` (on disk) appears as `outside`, for `count` ids.
#[derive(Clone, Copy, Debug)]
pub struct Ids {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

/// Opens a host path to be mounted from, without following a symlink anywhere in it (CVE-2021-30465, CVE-2024-45310).
///
/// # Errors
/// ELOOP where there is one.
pub fn source(path: &Path) -> OsResult<File> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let root = File::open("/").at("open", "/")?;
    openat2(root.as_fd(), path, how).map(File::from).at("open without following symlinks", path)
}

/// Opens a directory below another, following no symlink and leaving neither the tree nor its mount.
///
/// # Errors
/// ELOOP, EXDEV where the way leads elsewhere; ENOTDIR.
pub fn beneath(root: BorrowedFd<'_>, path: &Path) -> OsResult<File> {
    let only = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC).resolve(only);
    openat2(root, path, how).map(File::from).at("open", path)
}

/// Mounts `source` at `target` with its owners mapped, so that a cell finds them as its own and the host keeps its own.
/// Where the filesystem cannot be id-mapped the mount is plain; `Ok(false)` says so.
///
/// # Errors
/// of the mount calls.
pub fn stage(source: &File, target: &Path, uids: Ids, gids: Ids, read_only: bool) -> OsResult<bool> {
    let userns = user_namespace(uids, gids).at("make a user namespace for", target)?;
    let tree = sys::open_tree(source.as_fd()).at("clone the mount for", target)?;
    // EINVAL: not this filesystem, or not on this kernel (mount_setattr(2)); EPERM: it is id-mapped already.
    let mapped = sys::restrict_mount(tree.as_fd(), Some(userns.as_fd()), read_only).is_ok();
    if !mapped {
        sys::restrict_mount(tree.as_fd(), None, read_only).at("restrict the mount for", target)?;
    }
    sys::attach(tree.as_fd(), target).at("attach a mount at", target)?;
    Ok(mapped)
}

/// A program as nobody can write to it, in no namespace, to be executed by its descriptor. `None` where it is no ELF file: a
/// script's interpreter could not open it any more.
///
/// # Errors
/// ENOSYS before Linux 5.12, EPERM without CAP_SYS_ADMIN.
pub fn view_of_program(path: &Path) -> OsResult<Option<OwnedFd>> {
    let view = || -> io::Result<Option<OwnedFd>> {
        let program = File::open(path)?;
        let mut magic = [0; 4];
        if program.read_exact_at(&mut magic, 0).is_err() || magic != *b"\x7fELF" {
            return Ok(None);
        }
        let tree = sys::open_tree(program.as_fd())?;
        sys::restrict_mount(tree.as_fd(), None, true)?;
        Ok(Some(tree))
    };
    view().at("make a view of", path)
}

/// Takes a mount of ours out of our namespace; whoever has cloned it keeps it.
///
/// # Errors
/// EINVAL where nothing is mounted.
pub fn detach(target: &Path) -> OsResult<()> {
    umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).at("detach", target)
}

/// Whether a user namespace with this map of users and groups can be made; nothing of it stays.
///
/// # Errors
/// EUSERS above user.max_user_namespaces, EPERM where our own namespace does not have these ids or we are not root.
pub fn try_user_namespace(ids: Ids) -> io::Result<()> {
    user_namespace(ids, ids).map(drop)
}

/// Whether the filesystem of a directory can be id-mapped. The mount that is tried is never attached, so nothing of it stays.
///
/// # Errors
/// EINVAL: not this filesystem, or not on this kernel (mount_setattr(2)); EPERM: it is id-mapped already.
pub fn try_id_map(dir: &Path, ids: Ids) -> io::Result<()> {
    let userns = user_namespace(ids, ids)?;
    let tree = sys::open_tree(File::open(dir)?.as_fd())?;
    sys::restrict_mount(tree.as_fd(), Some(userns.as_fd()), true)
}

/// A user namespace without processes, as id-mapped mounts want one: a child enters it, and its map is written from here.
fn user_namespace(uids: Ids, gids: Ids) -> io::Result<OwnedFd> {
    let (mut ready, told) = io::pipe()?;
    let (done, finish) = io::pipe()?;
    let pid = match sys::fork()? {
        sys::Fork::Child => {
            drop((ready, finish));
            // One byte: 0, or why not. Then the child must go at once, or wait until the parent has what it wants or is gone.
            let errno = unshare(CloneFlags::CLONE_NEWUSER).err().map_or(0, |e| e as i32);
            if (&told).write_all(&[errno as u8]).is_ok() && errno == 0 {
                let _ = (&done).read(&mut [0u8]);
            }
            sys::exit_now(0)
        }
        sys::Fork::Parent(pid) => pid,
    };
    drop((told, done));
    let made = (|| {
        let mut errno = [0u8];
        ready.read_exact(&mut errno)?;
        match i32::from(errno[0]) {
            0 => {}
            // The limit of user namespaces; told apart here from a full disk (older kernels said EUSERS themselves, unshare(2)).
            libc::ENOSPC => return Err(io::Error::from_raw_os_error(libc::EUSERS)),
            other => return Err(io::Error::from_raw_os_error(other)),
        }
        let at = |file: &str| format!("/proc/{pid}/{file}");
        let line = |ids: Ids| format!("{} {} {}\n", ids.inside, ids.outside, ids.count);
        std::fs::write(at("uid_map"), line(uids))?;
        std::fs::write(at("gid_map"), line(gids))?;
        Ok(OwnedFd::from(File::open(at("ns/user"))?))
    })();
    drop(finish);
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None)?;
    made
}
