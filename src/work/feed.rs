//! What the program reads: always a pipe, never a descriptor of the caller's, so that no terminal and no host file can be
//! reached through it. An empty stdin is an empty pipe: the host's /dev/null could not be opened anew by its name
//! /dev/stdin, as it lies outside of what Landlock shows (measured: EACCES).

use crate::model::fault::Fault;
use crate::model::job::Content;
use crate::os::files;
use crate::os::pipe::{self, Chunk};
use crate::os::watch::For;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const CHUNK: usize = 64 * 1024;

#[derive(Debug)]
enum Source<'a> {
    Held,
    File(File),
    Caller(BorrowedFd<'a>),
}

/// Moves bytes from a source into the program's stdin as it takes them.
#[derive(Debug)]
pub struct Feed<'a> {
    source: Source<'a>,
    pipe: Option<OwnedFd>,
    pending: Vec<u8>,
    at: usize,
}

/// What feeds a program's stdin, whose writing end does not block; without one there is nothing to be said.
///
/// # Errors
/// exit 2 where the named file cannot be read.
pub fn open<'a>(stdin: Option<Content>, inherit: Option<BorrowedFd<'a>>, pipe: Option<OwnedFd>) -> Result<Feed<'a>, Fault> {
    let (source, pending) = match (stdin, inherit) {
        (Some(Content::Bytes(bytes)), _) => (Source::Held, bytes),
        (Some(Content::File(path)), _) => {
            let file = files::open_regular(path.as_path()).map_err(|e| {
                Fault::caller("file:unreadable", e.to_string())
                    .at("stdin.file")
                    .hint("name a regular file, without symlinks in its path")
            })?;
            (Source::File(file), Vec::new())
        }
        (None, Some(fd)) => (Source::Caller(fd), Vec::new()),
        (None, None) => (Source::Held, Vec::new()),
    };
    let mut feed = Feed { source, pipe, pending, at: 0 };
    if !matches!(feed.source, Source::Caller(_)) {
        feed.push(); // what fits goes at once; most stdins are all in the pipe before the program starts
    }
    Ok(feed)
}

impl Feed<'_> {
    /// What to poll for; `None` when all is said.
    pub fn waits(&self) -> Option<(BorrowedFd<'_>, For)> {
        let pipe = self.pipe.as_ref()?;
        match &self.source {
            Source::Caller(fd) if self.at == self.pending.len() => Some((*fd, For::Read)),
            _ => Some((pipe.as_fd(), For::Write)),
        }
    }

    /// Moves what can be moved without waiting.
    pub fn push(&mut self) {
        while let Some(pipe) = &self.pipe {
            if self.at == self.pending.len() && !refill(&mut self.source, &mut self.pending, &mut self.at) {
                self.pipe = None; // the end of the source is the end of stdin
                return;
            }
            match pipe::write(pipe, &self.pending[self.at..]) {
                Ok(Some(0)) => return,
                Ok(Some(n)) => self.at += n,
                // The program has closed its stdin: nothing more is wanted, which is its right.
                Ok(None) | Err(_) => self.pipe = None,
            }
            if matches!(self.source, Source::Caller(_)) {
                return; // reading the caller again might block: poll first
            }
        }
    }

    /// Stops feeding.
    pub fn close(&mut self) {
        self.pipe = None;
    }
}

/// The next piece. `false`: the source has ended.
fn refill(source: &mut Source<'_>, pending: &mut Vec<u8>, at: &mut usize) -> bool {
    let fd = match &*source {
        Source::Held => return false,
        Source::File(file) => file.as_fd(),
        Source::Caller(fd) => *fd,
    };
    pending.resize(CHUNK, 0);
    *at = 0;
    match pipe::read(fd, pending) {
        Ok(Chunk::Bytes(n)) => {
            pending.truncate(n);
            true
        }
        Ok(Chunk::Later) => {
            pending.clear();
            true
        }
        Ok(Chunk::End) | Err(_) => {
            pending.clear();
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_inputs_wait_for_the_program_and_a_closed_stdin_is_no_error() {
        let pipe = || {
            let pipe = pipe::make(nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()).expect("a pipe");
            pipe::nonblocking(&pipe.write).and_then(|()| pipe::nonblocking(&pipe.read)).expect("set");
            (pipe.read, pipe.write)
        };
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        let (read, write) = pipe();
        let mut feed = open(Some(Content::Bytes(bytes.clone())), None, Some(write)).expect("opens");
        assert!(feed.waits().is_some(), "a pipe does not hold all of it");
        let (mut got, mut buf) = (Vec::new(), vec![0; 70_000]);
        while got.len() < bytes.len() {
            let Chunk::Bytes(n) = pipe::read(&read, &mut buf).expect("read") else { panic!("early end") };
            got.extend_from_slice(&buf[..n]);
            feed.push();
        }
        assert!(got == bytes && feed.waits().is_none());
        let (read, write) = pipe();
        let mut feed = open(Some(Content::Bytes(bytes)), None, Some(write)).expect("opens");
        drop(read);
        feed.push();
        assert!(feed.waits().is_none());
    }
}
