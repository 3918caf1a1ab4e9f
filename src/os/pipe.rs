//! Pipes between a program and us.

use super::error::{At, OsResult};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Gid, Uid, fchown, pipe2};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Room that a stream's pipe gets: 64 KiB is the default, 1 MiB moves three times the bytes a second with less CPU (measured).
const ROOM: i32 = 1 << 20;

/// A pipe whose reading end is ours and non-blocking.
#[derive(Debug)]
pub struct Pipe {
    pub read: OwnedFd,
    pub write: OwnedFd,
}

/// A pipe that belongs to `uid`: the program may then open /dev/stdout, which leads to the pipe's inode, anew.
///
/// # Errors
/// EMFILE and the like.
pub fn from_program(uid: u32, gid: u32) -> OsResult<Pipe> {
    make(uid, gid).and_then(|pipe| {
        nonblocking(&pipe.read)?;
        Ok(pipe)
    })
}

/// The same the other way: our end is the writing one.
///
/// # Errors
/// EMFILE and the like.
pub fn to_program(uid: u32, gid: u32) -> OsResult<Pipe> {
    make(uid, gid).and_then(|pipe| {
        nonblocking(&pipe.write)?;
        Ok(pipe)
    })
}

fn make(uid: u32, gid: u32) -> OsResult<Pipe> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).at("make", "a pipe")?;
    fchown(&read, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).at("chown", "a pipe")?;
    // Beyond fs.pipe-user-pages-soft the kernel refuses; the default size works as well, only slower.
    let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(ROOM));
    Ok(Pipe { read, write })
}

/// Only ever for descriptors whose open file description is ours alone.
fn nonblocking(fd: &impl AsFd) -> OsResult<()> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).at("look at", "a pipe")?;
    fcntl(fd, FcntlArg::F_SETFL(OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK)).map(drop).at("set non-blocking", "a pipe")
}

/// What one read brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunk {
    Bytes(usize),
    /// Nothing now.
    Later,
    End,
}

/// One read(2).
///
/// # Errors
/// other than EAGAIN and EINTR.
pub fn read(fd: impl AsFd, buf: &mut [u8]) -> io::Result<Chunk> {
    match nix::unistd::read(fd, buf) {
        Ok(0) => Ok(Chunk::End),
        Ok(n) => Ok(Chunk::Bytes(n)),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(Chunk::Later),
        Err(e) => Err(e.into()),
    }
}

/// One write(2): how many bytes went; `None` when nobody reads any more.
///
/// # Errors
/// other than EAGAIN, EINTR (0 bytes) and EPIPE (`None`).
pub fn write(fd: impl AsFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    match nix::unistd::write(fd, bytes) {
        Ok(n) => Ok(Some(n)),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => Ok(Some(0)),
        Err(nix::errno::Errno::EPIPE) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
