//! The program's two output streams: their beginning kept, the rest counted.

use crate::model::outcome::Stream;
use crate::os::pipe::{self, Chunk};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One read; a pipe of 1 MiB is emptied in few of them.
const READ: usize = 256 * 1024;
/// The first ones: most programs say little, and each page of a buffer that is touched costs a fault.
const FIRST: usize = 4096;

/// One captured stream.
#[derive(Debug)]
pub struct Capture<'a> {
    pipe: Option<OwnedFd>,
    kept: Vec<u8>,
    limit: u64,
    total: u64,
    /// In the human form, where it goes as it comes, and how much has gone.
    live: Option<(BorrowedFd<'a>, usize)>,
}

impl<'a> Capture<'a> {
    pub fn new(pipe: OwnedFd, limit: u64, live: Option<BorrowedFd<'a>>) -> Self {
        Self { pipe: Some(pipe), kept: Vec::new(), limit, total: 0, live: live.map(|fd| (fd, 0)) }
    }

    /// What to poll for reading; `None` after the end.
    pub fn source(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Where bytes are waiting to go.
    pub fn sink(&self) -> Option<BorrowedFd<'a>> {
        self.live.filter(|(_, gone)| *gone < self.kept.len()).map(|(fd, _)| fd)
    }

    /// Reads what is there. `Ok(true)`: it is more than the limit now.
    ///
    /// # Errors
    /// of read.
    pub fn read(&mut self, buf: &mut Vec<u8>) -> io::Result<bool> {
        buf.resize(buf.len().max(FIRST), 0);
        let Some(pipe) = &self.pipe else { return Ok(false) };
        match pipe::read(pipe, buf)? {
            Chunk::Later => {}
            Chunk::End => self.pipe = None,
            Chunk::Bytes(n) => {
                let room = usize::try_from(self.limit).unwrap_or(usize::MAX).saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&buf[..n.min(room)]);
                self.total += n as u64;
                if n == buf.len() {
                    buf.resize(READ, 0);
                }
            }
        }
        Ok(self.total > self.limit)
    }

    /// Lets some bytes go; for a descriptor that poll has called writable, so that PIPE_BUF bytes do not block (pipe(7)).
    pub fn write_some(&mut self) {
        let Some((fd, gone)) = &mut self.live else { return };
        let end = self.kept.len().min(*gone + libc::PIPE_BUF);
        match pipe::write(*fd, &self.kept[*gone..end]) {
            Ok(Some(n)) => *gone += n,
            // Nobody reads our output any more; the job goes on, as its outcome may still be wanted.
            Ok(None) | Err(_) => self.live = None,
        }
    }

    /// The stream as it goes into the outcome; whatever has not gone live yet goes now, however long its reader takes:
    /// the cell is over.
    pub fn finish(mut self) -> Stream {
        while self.sink().is_some() {
            self.write_some();
        }
        Stream::new(self.kept, self.total)
    }

    /// Gives up what may still be in the pipe.
    pub fn close(&mut self) {
        self.pipe = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_kept_and_the_rest_counted() {
        let pipe = pipe::make(nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()).expect("pipe");
        pipe::nonblocking(&pipe.read).expect("set");
        let mut capture = Capture::new(pipe.read, 4, None);
        let mut buf = Vec::new();
        assert!(!capture.read(&mut buf).expect("nothing yet"));
        nix::unistd::write(&pipe.write, b"abcd").expect("write");
        assert!(!capture.read(&mut buf).expect("at the limit"));
        nix::unistd::write(&pipe.write, b"ef").expect("write");
        assert!(capture.read(&mut buf).expect("above the limit"));
        drop(pipe.write);
        assert!(capture.read(&mut buf).is_ok() && capture.source().is_none());
        let stream = capture.finish();
        assert_eq!((stream.text.as_deref(), stream.bytes, stream.truncated), (Some("abcd"), 6, true));
    }
}
