//! A program's three streams as pipes, and what is kept of them so that the next program in the same cell has new ones.

use crate::os::error::{At, OsResult};
use crate::os::pipe::{self, Anchor, Pipe};
use std::os::fd::OwnedFd;

/// The program's ends, and ours, which do not block.
#[derive(Debug)]
pub(super) struct Pipes {
    pub program: [OwnedFd; 3],
    /// `None`: nothing is to be said to it.
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// What keeps the inodes of three pipes, with their owner, and nothing that was written into them.
#[derive(Debug)]
pub(super) struct Anchors {
    stdin: Anchor,
    /// Reading ends: the end of a stream is reached only when it is empty and nobody writes.
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Pipes {
    /// Pipes that belong to the program.
    ///
    /// # Errors
    /// EMFILE and the like.
    pub(super) fn make(uid: u32, gid: u32) -> OsResult<Self> {
        let (stdin, stdout, stderr) = (pipe::make(uid, gid)?, pipe::make(uid, gid)?, pipe::make(uid, gid)?);
        pipe::nonblocking(&stdin.write)?;
        pipe::nonblocking(&stdout.read)?;
        pipe::nonblocking(&stderr.read)?;
        let program = [stdin.read, stdout.write, stderr.write];
        Ok(Self { program, stdin: Some(stdin.write), stdout: stdout.read, stderr: stderr.read })
    }

    /// # Errors
    /// of open.
    pub(super) fn anchors(&self) -> OsResult<Anchors> {
        let twin = |end: &OwnedFd| end.try_clone().at("duplicate", "a pipe");
        Ok(Anchors { stdin: Anchor::of(&self.program[0])?, stdout: twin(&self.stdout)?, stderr: twin(&self.stderr)? })
    }
}

impl Anchors {
    /// The pipes once more, empty, and their owner the same: a supervisor that has given up its rights could not give them one.
    /// To be called when the outputs were read to their end and nobody has an end of stdin any more. `fed`: there is something to
    /// be said on stdin.
    ///
    /// # Errors
    /// of open.
    pub(super) fn pipes(&self, fed: bool) -> OsResult<Pipes> {
        let twin = |end: &OwnedFd| end.try_clone().at("duplicate", "a pipe");
        let (stdin, ours) = if fed {
            let Pipe { read, write } = self.stdin.open()?;
            pipe::nonblocking(&write)?;
            (read, Some(write))
        } else {
            (self.stdin.reader()?, None)
        };
        let program = [stdin, pipe::writer(&self.stdout)?, pipe::writer(&self.stderr)?];
        Ok(Pipes { program, stdin: ours, stdout: twin(&self.stdout)?, stderr: twin(&self.stderr)? })
    }
}
