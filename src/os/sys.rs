//! The only `unsafe` of the house. Each block argues why it is sound; everything leaves here as an owned, safe value.
#![allow(unsafe_code)]

use nix::libc;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn cvt(ret: libc::c_long) -> io::Result<libc::c_long> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// Makes a function the program's beginning, where std's is none (`#![no_main]`). What it returns is the process's exit code.
#[macro_export]
macro_rules! entry {
    ($begin:path) => {
        // SAFETY: the C runtime calls the one symbol of this name, once, when libc and Rust's standard library can be used
        // (the latter has argv from `.init_array`). A panic that would leave it aborts, as of any function of this kind.
        #[unsafe(no_mangle)]
        extern "C" fn main() -> std::ffi::c_int {
            $begin()
        }
    };
}

// A program at a random address writes addresses into two dozen pages of its own data before it does anything else: as many page
// faults (0.1 ms of a warm run when they were 53). Here the kernel makes these pages present in one call (MADV_POPULATE_WRITE,
// madvise(2), Linux 5.14), and whatever it answers the C runtime's own beginning follows. It is written in assembly as no code of
// Rust may run before that.
// SAFETY: the range is this program's own data, from the table of what libc calls first, which is in its first page, to its end. The
// call changes no content. Registers and stack are as the kernel has left them but for rax, rcx, rsi, rdi, r8 and r11, which mean
// nothing at a program's beginning (System V ABI for AMD64, 3.4.1); rdx does, and is put back.
#[cfg(first_instructions)]
std::arch::global_asm!(
    ".pushsection .text.runcell_start, \"ax\", @progbits",
    ".globl runcell_start",
    ".hidden __init_array_start",
    ".hidden _end",
    "runcell_start:",
    "mov r8, rdx",
    "lea rdi, [rip + __init_array_start]",
    "and rdi, -4096",
    "lea rsi, [rip + _end]",
    "sub rsi, rdi",
    "mov edx, {populate}",
    "mov eax, {madvise}",
    "syscall",
    "mov rdx, r8",
    "jmp _start",
    ".popsection",
    populate = const libc::MADV_POPULATE_WRITE,
    madvise = const libc::SYS_madvise,
);

/// A static program of glibc's asks where its file lies (readlink of /proc/self/exe, 40 µs of a warm run), for the libraries that it
/// might load at run time. This one loads none. (glibc's elf/dl-origin.c: -1 stands for a place that is not known. A glibc that asks
/// by another name has its answer from its own.)
#[cfg(first_instructions)]
// SAFETY: nobody else defines this name, as the linker would say; nothing of Rust's or libc's needs to be ready for it.
#[unsafe(no_mangle)]
extern "C" fn _dl_get_origin() -> *mut c_char {
    std::ptr::without_provenance_mut(usize::MAX)
}

/// Opens /dev/null in the place of each standard descriptor that our caller has closed, lest a file of ours get its number.
pub fn fill_standard_descriptors() {
    for fd in 0..3 {
        // SAFETY: both calls take integers and a string that ends, and touch no memory of ours. The lowest number that is free is
        // this one.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) < 0 && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) != fd {
                libc::abort();
            }
        }
    }
}

/// Has a write to a pipe that nobody reads fail with EPIPE, in place of SIGPIPE.
pub fn ignore_broken_pipes() {
    // SAFETY: no handler of ours is installed; ignoring a signal that exists cannot fail (signal(2)).
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Which side of a fork we are on.
pub enum Fork {
    Child,
    Parent(libc::pid_t),
}

/// fork(2). The child must only call what is safe after a fork: in a process with one thread that is everything,
/// otherwise async-signal-safe functions alone.
pub fn fork() -> io::Result<Fork> {
    // SAFETY: fork itself touches no memory of ours; all callers keep to the rule above: they have one thread, or make system
    // calls on values prepared before.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// How much there is of such a stack; what is not touched is not there.
const STACK: usize = 256 << 10;
/// The lowest part of it cannot be touched at all. A page, or several smaller ones.
const GUARD: usize = 64 << 10;

/// Runs `act` in a child that shares our memory, on a stack of its own, and comes back once that has executed a program or ended:
/// clone(2) with CLONE_VM and CLONE_VFORK, as posix_spawn(3) starts its programs. Nothing is copied, and what the child leaves in
/// memory is ours; its descriptors, directory, signal mask, limits and rules are its own. What belongs to the memory belongs to
/// both, as being dumpable does. If `act` returns, the child exits.
///
/// # Errors
/// of clone.
pub fn lend<F: FnMut()>(stack: &mut Stack, act: &mut F) -> io::Result<libc::pid_t> {
    extern "C" fn enter<F: FnMut()>(act: *mut c_void) -> c_int {
        // SAFETY: this is the pointer that is made below of a unique reference, of the same type, which lives until clone has
        // returned; and that it does only when this process is through with it. A panic ends the process here.
        (unsafe { &mut *act.cast::<F>() })();
        127
    }
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack is mapped, and ours alone until the child no longer runs on it, as CLONE_VFORK keeps us waiting for just
    // that. No thread of ours runs meanwhile that could see memory change: the caller has one thread (init).
    cvt(unsafe { libc::clone(enter::<F>, stack.top(), flags, (&raw mut *act).cast()) }.into()).map(|pid| pid as libc::pid_t)
}

/// A stack for [`lend`].
#[derive(Debug)]
pub struct Stack(*mut c_void);

impl Stack {
    /// # Errors
    /// of mmap.
    pub fn new() -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, where the kernel likes.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), STACK, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self(base);
        // SAFETY: the lower part of our own mapping.
        cvt(unsafe { libc::mprotect(base, GUARD, libc::PROT_NONE) }.into())?;
        Ok(stack)
    }

    /// It grows down from its end, which is aligned as a page is.
    fn top(&self) -> *mut c_void {
        self.0.wrapping_byte_add(STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping, whole; nobody runs on it any more.
        unsafe { libc::munmap(self.0, STACK) };
    }
}

/// Strings as execve(2) takes them, made beforehand.
pub struct Strings {
    pointers: Vec<*const c_char>,
    /// What they point to.
    _strings: Vec<CString>,
}

impl Strings {
    /// # Errors
    /// EINVAL for one with a NUL in it.
    pub fn new(all: &[impl AsRef<str>]) -> io::Result<Self> {
        let invalid = |_| io::Error::from_raw_os_error(libc::EINVAL);
        let strings = all.iter().map(|s| CString::new(s.as_ref())).collect::<Result<Vec<_>, _>>().map_err(invalid)?;
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Ok(Self { pointers, _strings: strings })
    }
}

/// execve(2), which comes back only to say why not. Allocates nothing.
pub fn execve(path: &CStr, argv: &Strings, env: &Strings) -> io::Error {
    // SAFETY: a C string and two arrays of such that end with a null pointer; all of it lives through the call.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Starts a program in `dir`, in a process group of its own, with no signal blocked and SIGPIPE
/// at its default, and with `fds` as its descriptors from 0 on: posix_spawn(3). Its child shares our memory until it executes, so that nothing
/// is copied. The numbers of `fds` must be above their places.
///
/// # Errors
/// ENOENT and the like of execve.
pub fn spawn(program: &Path, argv: &Strings, env: &Strings, dir: &Path, fds: &[OwnedFd]) -> io::Result<libc::pid_t> {
    let (program, dir) = (c_path(program)?, c_path(dir)?);
    let done = |error: c_int| if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) };
    let mut actions = Actions::new()?;
    for (place, fd) in (0..).zip(fds) {
        // SAFETY: what was initialised, and integers.
        done(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut actions.0, fd.as_raw_fd(), place) })?;
    }
    // SAFETY: what was initialised, and a C string, which is copied.
    done(unsafe { libc::posix_spawn_file_actions_addchdir_np(&raw mut actions.0, dir.as_ptr()) })?;
    let attributes = Attributes::new()?;
    let mut pid = 0;
    // SAFETY: C strings, arrays of such that end with a null pointer, and what was initialised; all of it lives through the call, which
    // comes back when the child has executed the program or ended.
    done(unsafe {
        let (argv, env) = (argv.pointers.as_ptr().cast(), env.pointers.as_ptr().cast());
        libc::posix_spawn(&raw mut pid, program.as_ptr(), &raw const actions.0, &raw const attributes.0, argv, env)
    })?;
    Ok(pid)
}

/// What a child does between its birth and its program.
struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Self> {
        let mut actions = std::mem::MaybeUninit::uninit();
        // SAFETY: memory for one; it is initialised where the call says so.
        match unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) } {
            // SAFETY: as above.
            0 => Ok(Self(unsafe { actions.assume_init() })),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: it was initialised.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

/// SIGPIPE, which Rust's runtime ignores, and both signals that glibc keeps to itself and has children of posix_spawn(3) ignore, which
/// every program below would inherit (measured: glibc 2.36). It would not put those into a set, so here are their bits.
const OURS: libc::c_ulong = 1 << (libc::SIGPIPE - 1) | 1 << 31 | 1 << 32;

/// What a child is: the leader of a process group, without what Rust's runtime and we have done to signals.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut attributes = std::mem::MaybeUninit::uninit();
        let flags = libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        let (mut none, mut pipe) = (std::mem::MaybeUninit::uninit(), std::mem::MaybeUninit::uninit());
        // SAFETY: memory for one of each; the first call initialises the attributes, or says that it has not, the others the sets, which
        // they cannot fail to, of which the first word has the lowest 64 signals, and set what takes values. Group 0 is the child's own.
        unsafe {
            match libc::posix_spawnattr_init(attributes.as_mut_ptr()) {
                0 => {}
                error => return Err(io::Error::from_raw_os_error(error)),
            }
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigemptyset(pipe.as_mut_ptr());
            pipe.as_mut_ptr().cast::<libc::c_ulong>().write(OURS);
            libc::posix_spawnattr_setflags(attributes.as_mut_ptr(), flags as libc::c_short);
            libc::posix_spawnattr_setpgroup(attributes.as_mut_ptr(), 0);
            libc::posix_spawnattr_setsigmask(attributes.as_mut_ptr(), none.as_ptr());
            libc::posix_spawnattr_setsigdefault(attributes.as_mut_ptr(), pipe.as_ptr());
            Ok(Self(attributes.assume_init()))
        }
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: it was initialised.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}

/// Ends this process at once, without destructors or buffers: for children of [`fork`], and for init.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// pidfd_open(2).
pub fn pidfd_open(pid: libc::pid_t) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers by value and touches no memory of ours.
    let raw = cvt(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just made this descriptor and nobody else knows its number; a descriptor always fits in c_int.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as RawFd) })
}

/// pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo means "as kill(2) would"; the other arguments are integers, the descriptor is alive.
    cvt(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) }).map(drop)
}

/// Takes over a descriptor that this process inherited at a known number (the runtime's `--preserve-fds`).
///
/// # Errors
/// EBADF where there is none.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes and returns integers.
    cvt(libc::c_long::from(unsafe { libc::fcntl(number, libc::F_GETFD) }))?;
    // SAFETY: the descriptor is open, and init calls this once for it at its very start, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Owns a descriptor that a call has just returned as a bare number.
///
/// # Errors
/// EBADF where it is not open.
pub fn owned(fresh: RawFd) -> io::Result<OwnedFd> {
    inherited(fresh)
}

/// Closes every descriptor from `first` on but these (close_range(2)), for a child of [`fork`] that must keep nothing of its parent's.
pub fn close_all_but(mut first: u32, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    numbers.sort_unstable();
    for number in numbers.into_iter().chain([u32::MAX]) {
        if first < number {
            let last = number.saturating_sub(1);
            // SAFETY: takes integers. What is closed belongs to values that this child never touches again, as it ends by
            // `exit_now`, which runs no destructors.
            cvt(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        first = first.max(number.saturating_add(1));
    }
    Ok(())
}

/// Marks all descriptors from `first` on close-on-exec, so that none is inherited beyond those handed down on purpose.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    // SAFETY: takes integers; sets a flag and closes nothing.
    cvt(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// dup2(2) onto a standard stream of the child that is about to execute.
pub fn place(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: takes two integers; whoever owned `number` before is a standard stream, which Rust never closes by itself.
    cvt(libc::c_long::from(unsafe { libc::dup2(fd.as_raw_fd(), number) })).map(drop)
}

/// Default dispositions for signals that a caller had ignored, which execve would pass on; but SIGPIPE stays ignored.
pub fn default_signals() {
    for number in (1..32).filter(|number| *number != libc::SIGPIPE) {
        // SAFETY: SIG_DFL installs no handler; KILL and STOP answer EINVAL, which is as good.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// The default disposition for SIGPIPE, which Rust's runtime ignores, and a program would inherit that.
pub fn default_sigpipe() {
    // SAFETY: SIG_DFL installs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// The clone of the mount that `place` lies in, detached and with `place` as its root: open_tree(2) with OPEN_TREE_CLONE.
pub fn open_tree(place: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: the path is an empty C string, the descriptor is alive, the rest are integers.
    let raw = cvt(unsafe { libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags) })?;
    // SAFETY: freshly made by the kernel for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as RawFd) })
}

/// mount_setattr(2) on a detached mount: no set-uid, no devices; read-only and id-mapped by a user namespace if wanted.
pub fn restrict_mount(tree: BorrowedFd<'_>, userns: Option<BorrowedFd<'_>>, read_only: bool) -> io::Result<()> {
    let read_only = if read_only { libc::MOUNT_ATTR_RDONLY } else { 0 };
    let idmap = if userns.is_some() { libc::MOUNT_ATTR_IDMAP } else { 0 };
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | read_only | idmap,
        attr_clr: 0,
        propagation: 0,
        userns_fd: userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH;
    // SAFETY: the path is an empty C string, `attr` lives through the call and its true size is passed.
    cvt(unsafe {
        libc::syscall(libc::SYS_mount_setattr, tree.as_raw_fd(), c"".as_ptr(), flags, &attr, size_of::<libc::mount_attr>())
    })
    .map(drop)
}

/// move_mount(2): attaches a detached mount.
pub fn attach(tree: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    let target = c_path(target)?;
    // SAFETY: both paths are NUL-terminated and live through the call.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    cvt(ret).map(drop)
}

/// Has the kernel keep the first `length` bytes of a file in memory in pages of `huge` bytes: madvise(2) with MADV_COLLAPSE, Linux
/// 6.1, which does what it can at once, whatever is set for huge pages. `huge` is a power of two, and `length` a multiple of it.
///
/// # Errors
/// EINVAL before that, or where `length` is 0 or no such multiple; ENOMEM, EBUSY where it finds no such page just now.
pub fn collapse(file: BorrowedFd<'_>, length: usize, huge: usize) -> io::Result<()> {
    const MADV_COLLAPSE: libc::c_int = 25; // not in every libc's header yet
    let (reserved, none) = (length + huge, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: the kernel chooses the place, and nobody can read or write there.
    let reservation = unsafe { libc::mmap(std::ptr::null_mut(), reserved, libc::PROT_NONE, none, -1, 0) };
    if reservation == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let (place, flags) = (reservation.wrapping_byte_add(reservation.align_offset(huge)), libc::MAP_SHARED | libc::MAP_FIXED);
    // SAFETY: `length` bytes from there on lie within the reservation, which nothing else uses.
    let mapped = unsafe { libc::mmap(place, length, libc::PROT_READ, flags, file.as_raw_fd(), 0) } != libc::MAP_FAILED;
    // SAFETY: the advice changes no content; without the mapping it finds the reservation, and is refused.
    let done = cvt(unsafe { libc::madvise(place, length, MADV_COLLAPSE) }.into());
    // SAFETY: the reservation with all that lies in it is ours, and nobody has a reference into it.
    unsafe { libc::munmap(reservation, reserved) };
    done.and(if mapped { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) })
}

/// Whether the kernel knows a filesystem, loading its module if need be: fsopen(2), whose context is dropped at once.
///
/// # Errors
/// ENODEV where it does not, EPERM without CAP_SYS_ADMIN, ENOSYS before Linux 5.2.
pub fn knows_filesystem(name: &std::ffi::CStr) -> io::Result<()> {
    const FSOPEN_CLOEXEC: libc::c_uint = 1;
    // SAFETY: the name is NUL-terminated and only read; the rest is an integer.
    let raw = cvt(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) })?;
    // SAFETY: freshly made by the kernel for us alone.
    drop(unsafe { OwnedFd::from_raw_fd(raw as RawFd) });
    Ok(())
}

/// The Landlock ABI of the running kernel; `None` without Landlock (landlock_create_ruleset(2)).
pub fn landlock_abi() -> Option<u32> {
    const VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<libc::c_void>();
    // SAFETY: with the VERSION flag a null attribute of size 0 is what the call expects.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, VERSION) };
    u32::try_from(abi).ok().filter(|abi| *abi > 0)
}

/// seccomp(2) with SECCOMP_SET_MODE_FILTER for this thread. `program` is an array of `struct sock_filter`.
///
/// # Errors
/// EINVAL for what is no program; EACCES without no_new_privs.
pub fn seccomp(program: &[u8]) -> io::Result<()> {
    let instruction = |b: &[u8; 8]| libc::sock_filter {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
    };
    let (whole, rest) = program.as_chunks();
    if !rest.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut filter: Vec<libc::sock_filter> = whole.iter().map(instruction).collect();
    let invalid = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let len = libc::c_ushort::try_from(filter.len()).map_err(invalid)?;
    let fprog = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: `filter` lives through the call and has `len` instructions, which the kernel copies and checks.
    cvt(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &fprog) }).map(drop)
}

/// recvmsg(2) of one packet with its descriptors, all close-on-exec. Returns the packet's true length, which is above
/// `buf.len()` if it did not fit, and the sender's pid as this pid namespace sees it.
pub fn receive(
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
    flags: libc::c_int,
) -> io::Result<(usize, Vec<OwnedFd>, Option<libc::pid_t>)> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
    let mut iov = [IoSliceMut::new(buf)];
    let mut space = nix::cmsg_space!([RawFd; 8], UnixCredentials);
    let flags = MsgFlags::from_bits_truncate(flags) | MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_TRUNC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    let (mut fds, mut pid) = (Vec::new(), None);
    for control in message.cmsgs()? {
        match control {
            // SAFETY: the kernel has just installed these descriptors for this message; nobody else owns them.
            ControlMessageOwned::ScmRights(raw) => fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })),
            ControlMessageOwned::ScmCredentials(who) => pid = Some(who.pid()),
            _ => {}
        }
    }
    Ok((message.bytes, fds, pid))
}

/// struct mnt_id_req in its first form (linux/mount.h).
#[repr(C)]
struct MountRequest {
    size: u32,
    spare: u32,
    id: u64,
    param: u64,
}

impl MountRequest {
    fn new(id: u64, param: u64) -> Self {
        Self { size: size_of::<Self>() as u32, spare: 0, id, param }
    }
}

/// The numbers of all mounts below our root directory (listmount(2), Linux 6.8).
///
/// # Errors
/// ENOSYS on older kernels.
pub fn list_mounts() -> io::Result<Vec<u64>> {
    const SYS_LISTMOUNT: libc::c_long = 458; // on every architecture
    const ALL: u64 = u64::MAX;
    let mut all = Vec::new();
    loop {
        let (request, before) = (MountRequest::new(ALL, all.last().copied().unwrap_or(0)), all.len());
        all.resize(before + 256, 0u64);
        // SAFETY: both live through the call, which reads the request's size and writes at most 256 numbers behind `before`.
        let n = cvt(unsafe { libc::syscall(SYS_LISTMOUNT, &request, all[before..].as_mut_ptr(), 256usize, 0) })?;
        all.truncate(before + n as usize);
        if n < 256 {
            return Ok(all);
        }
    }
}

/// What the kernel tells of a mount, as it has written it (statmount(2), Linux 6.8); at most 2 KiB. `wanted` are STATMOUNT_ bits.
///
/// # Errors
/// ENOENT where there is none of this number; EOVERFLOW where it is more; ENOSYS on older kernels.
pub fn stat_mount(id: u64, wanted: u64) -> io::Result<Vec<u8>> {
    const SYS_STATMOUNT: libc::c_long = 457; // on every architecture
    let (request, mut answer) = (MountRequest::new(id, wanted), [0u8; 2048]);
    // SAFETY: both live through the call, which reads the request's size and writes at most `answer.len()` bytes into `answer`.
    cvt(unsafe { libc::syscall(SYS_STATMOUNT, &request, answer.as_mut_ptr(), answer.len(), 0) })?;
    // Its length comes first.
    let [a, b, c, d, ..] = answer;
    let length = u32::from_ne_bytes([a, b, c, d]) as usize;
    Ok(answer[..length.min(answer.len())].to_vec())
}

/// set_mempolicy(2) with MPOL_PREFERRED for one node of at most 1,024.
///
/// # Errors
/// ENOSYS on kernels without NUMA; EINVAL for a node that is none.
pub fn prefer_memory_of(node: u32) -> io::Result<()> {
    const MPOL_PREFERRED: libc::c_int = 1;
    let mut mask = [0u64; 16];
    let word = mask.get_mut(node as usize / 64).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    *word = 1 << (node % 64);
    // SAFETY: the mask lives through the call, which reads at most the number of bits that is passed less one.
    cvt(unsafe { libc::syscall(libc::SYS_set_mempolicy, MPOL_PREFERRED, mask.as_ptr(), 1024) }).map(drop)
}

/// Value of an extended attribute, or `None` where there is none (getxattr(2)).
pub fn xattr(path: &Path, name: &std::ffi::CStr) -> Option<Vec<u8>> {
    let path = c_path(path).ok()?;
    let mut value = vec![0u8; 64];
    // SAFETY: both strings are NUL-terminated; the kernel writes at most `value.len()` bytes into `value`.
    let n = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(n).ok()?);
    Some(value)
}

/// Sets an extended attribute of an open file (fsetxattr(2)), new or not.
pub fn set_xattr(fd: BorrowedFd<'_>, name: &std::ffi::CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated; the kernel reads exactly `value.len()` bytes of `value`.
    let done = unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    cvt(done.into()).map(drop)
}

/// Value of an extended attribute of an open file (fgetxattr(2)); ENODATA where there is none. The kernel's own bound on a
/// value, 64 KiB, is the most that is allocated.
pub fn get_xattr(fd: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<Vec<u8>> {
    sized(|buffer, most| {
        // SAFETY: the name is NUL-terminated; the kernel writes at most `most` bytes behind `buffer`, as `sized` promises.
        unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), buffer.cast(), most) }
    })
}

/// Removes an extended attribute of an open file (fremovexattr(2)).
pub fn remove_xattr(fd: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<()> {
    // SAFETY: the name is NUL-terminated and lives through the call; the descriptor is open.
    let done = unsafe { libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) };
    cvt(done.into()).map(drop)
}

/// Names of an open file's extended attributes, each ended by NUL (flistxattr(2)).
pub fn list_xattrs(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    sized(|buffer, most| {
        // SAFETY: the kernel writes at most `most` bytes behind `buffer`, as `sized` promises.
        unsafe { libc::flistxattr(fd.as_raw_fd(), buffer.cast(), most) }
    })
}

/// What a call writes that says its length: into 256 bytes, and if that is too little (ERANGE) into 64 KiB, the kernel's bound
/// (XATTR_SIZE_MAX, XATTR_LIST_MAX). The call gets a buffer and its length.
fn sized(call: impl Fn(*mut u8, usize) -> libc::ssize_t) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    for most in [256, 65536] {
        value.resize(most, 0u8);
        let n = call(value.as_mut_ptr(), most);
        if n < 0 && most == 256 && io::Error::last_os_error().raw_os_error() == Some(libc::ERANGE) {
            continue;
        }
        value.truncate(usize::try_from(cvt(n as libc::c_long)?).unwrap_or(0));
        break;
    }
    Ok(value)
}
