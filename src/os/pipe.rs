//! Pipes between a program and us.

use super::error::{At, OsResult};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchown, pipe2};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Room that a stream's pipe gets: 64 KiB is the default, 1 MiB moves three times the bytes a second with less CPU (measured).
const ROOM: i32 = 1 << 20;

/// Both ends.
#[derive(Debug)]
pub struct Pipe {
    pub read: OwnedFd,
    pub write: OwnedFd,
}

/// A pipe that belongs to `uid`: the program may then open /dev/stdout, which leads to the pipe's inode, anew.
///
/// # Errors
/// EMFILE and the like.
pub fn make(uid: u32, gid: u32) -> OsResult<Pipe> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).at("make", "a pipe")?;
    fchown(&read, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).at("chown", "a pipe")?;
    Ok(roomy(Pipe { read, write }))
}

/// A pipe of our own, of the usual size.
///
/// # Errors
/// EMFILE and the like.
pub fn plain() -> OsResult<Pipe> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).at("make", "a pipe")?;
    Ok(Pipe { read, write })
}

/// Puts so much into an empty pipe at once, whether somebody reads already or not; that nobody ever will is not told.
///
/// # Errors
/// EPERM where it is larger than pipes may be, 1 MiB without CAP_SYS_RESOURCE (fs.pipe-max-size, pipe(7)).
pub fn fill(pipe: &OwnedFd, bytes: &[u8]) -> OsResult<()> {
    let room = fcntl(pipe, FcntlArg::F_GETPIPE_SZ).at("look at", "a pipe")?;
    let needed = i32::try_from(bytes.len()).map_err(io::Error::other).at("fill", "a pipe")?;
    if needed > room {
        fcntl(pipe, FcntlArg::F_SETPIPE_SZ(needed)).at("make room in", "a pipe")?;
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        match write(pipe, rest).at("fill", "a pipe")? {
            Some(n) => rest = &rest[n..],
            None => break,
        }
    }
    Ok(())
}

fn roomy(pipe: Pipe) -> Pipe {
    // Beyond fs.pipe-user-pages-soft the kernel refuses; the default size works as well, only slower.
    let _ = fcntl(&pipe.write, FcntlArg::F_SETPIPE_SZ(ROOM));
    pipe
}

/// Only ever for descriptors whose open file description is ours alone.
///
/// # Errors
/// EBADF.
pub fn nonblocking(fd: &impl AsFd) -> OsResult<()> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).at("look at", "a pipe")?;
    fcntl(fd, FcntlArg::F_SETFL(OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK)).map(drop).at("set non-blocking", "a pipe")
}

/// Keeps a pipe's inode, with its owner, and is neither reader nor writer: when both ends are closed what was in it is gone
/// (measured: an end opened after that finds it empty).
#[derive(Debug)]
pub struct Anchor(OwnedFd);

impl Anchor {
    /// # Errors
    /// EMFILE and the like.
    pub fn of(end: &impl AsRawFd) -> OsResult<Self> {
        opened(end, OFlag::O_PATH).map(Self)
    }

    /// A reading end alone, at which there is nothing to be read but the end.
    ///
    /// # Errors
    /// as of [`Self::open`].
    pub fn reader(&self) -> OsResult<OwnedFd> {
        opened(&self.0, OFlag::O_RDONLY)
    }

    /// Both ends anew. To be called when nobody has one of the old any more.
    ///
    /// # Errors
    /// EACCES without CAP_DAC_OVERRIDE.
    pub fn open(&self) -> OsResult<Pipe> {
        // Neither waits for the other, as a FIFO's would (fifo(7)): this is a pipe.
        let (read, write) = (opened(&self.0, OFlag::O_RDONLY)?, opened(&self.0, OFlag::O_WRONLY)?);
        Ok(roomy(Pipe { read, write }))
    }
}

/// A new writing end of a pipe whose reading end this is.
///
/// # Errors
/// EACCES without CAP_DAC_OVERRIDE.
pub fn writer(read: &impl AsRawFd) -> OsResult<OwnedFd> {
    opened(read, OFlag::O_WRONLY)
}

fn opened(pipe: &impl AsRawFd, flags: OFlag) -> OsResult<OwnedFd> {
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    nix::fcntl::open(path.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty()).at("open", "a pipe")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchored_pipe_is_new_when_it_is_opened_again() {
        let pipe = make(nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()).expect("a pipe");
        let (anchor, owner) = (Anchor::of(&pipe.read).expect("anchored"), nix::sys::stat::fstat(&pipe.read).expect("stat"));
        nix::unistd::write(&pipe.write, b"old").expect("write");
        drop(pipe);
        for _ in 0..2 {
            let again = anchor.open().expect("opened");
            assert_eq!(nix::sys::stat::fstat(&again.read).expect("stat").st_ino, owner.st_ino);
            nonblocking(&again.read).expect("set");
            let mut buf = [0; 8];
            assert_eq!(read(&again.read, &mut buf).expect("read"), Chunk::Later, "nothing old");
            nix::unistd::write(&again.write, b"new").expect("write");
            assert_eq!(read(&again.read, &mut buf).expect("read"), Chunk::Bytes(3));
            let Pipe { read: reader, write } = again;
            drop(write);
            assert_eq!(read(&reader, &mut buf).expect("read"), Chunk::End, "the last writer's end is the end");
            let more = writer(&reader).expect("opened");
            assert_eq!(read(&reader, &mut buf).expect("read"), Chunk::Later, "and until there is another");
            drop((reader, more));
            assert_eq!(read(anchor.reader().expect("opened"), &mut buf).expect("read"), Chunk::End, "nobody writes");
        }
    }
}
