//! Lines of a descriptor, read no further than they are wanted.

use std::io;
use std::os::fd::AsFd;

/// One read; at most this much is held beyond the line that is being read.
const READ: usize = 64 * 1024;

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Line(Vec<u8>),
    /// It was longer than allowed; none of it is kept.
    TooLong,
}

/// What has been read and not yet taken.
#[derive(Debug)]
pub struct Lines {
    buf: Vec<u8>,
    /// Up to here it has been taken.
    taken: usize,
    /// Up to here there is no line's end.
    searched: usize,
    most: usize,
    /// The rest of a line that is too long is still to come.
    skipping: bool,
    ended: bool,
}

impl Lines {
    /// `most`: the longest line, in bytes.
    pub fn new(most: usize) -> Self {
        Self { buf: Vec::new(), taken: 0, searched: 0, most, skipping: false, ended: false }
    }

    /// Whether nothing more will come.
    pub fn ended(&self) -> bool {
        self.ended && self.taken == self.buf.len() && !self.skipping
    }

    /// Whether to read on would bring something.
    pub fn open(&self) -> bool {
        !self.ended
    }

    /// Reads once, for a descriptor that poll has called readable.
    ///
    /// # Errors
    /// of read.
    pub fn fill(&mut self, fd: impl AsFd) -> io::Result<()> {
        self.buf.drain(..self.taken);
        self.searched -= self.taken;
        self.taken = 0;
        if self.buf.len() < READ && self.buf.capacity() > 16 * READ {
            self.buf.shrink_to(READ); // one long line is no reason to keep its room for ever
        }
        let held = self.buf.len();
        self.buf.resize(held + READ, 0);
        let read = nix::unistd::read(fd, &mut self.buf[held..]);
        self.buf.truncate(held + read.unwrap_or(0));
        match read {
            Ok(0) => self.ended = true,
            Ok(_) | Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    /// The next line, if all of it is here. The last one may lack its end.
    pub fn take(&mut self) -> Option<Piece> {
        let Some(length) = self.buf[self.searched..].iter().position(|b| *b == b'\n') else {
            self.searched = self.buf.len();
            return self.unfinished();
        };
        let end = self.searched + length;
        let line = &self.buf[self.taken..end];
        let piece = if self.skipping || line.len() > self.most { Piece::TooLong } else { Piece::Line(line.to_vec()) };
        self.skipping = false;
        self.taken = end + 1;
        self.searched = self.taken;
        Some(piece)
    }

    fn unfinished(&mut self) -> Option<Piece> {
        let length = self.buf.len() - self.taken;
        if self.skipping || length > self.most {
            self.skipping = !self.ended;
            self.taken = self.buf.len();
            return self.ended.then_some(Piece::TooLong);
        }
        if !self.ended || length == 0 {
            return None;
        }
        let line = self.buf.split_off(self.taken);
        self.searched = self.taken;
        Some(Piece::Line(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// All lines of some bytes, written in pieces of this size.
    fn lines(bytes: &[u8], step: usize, most: usize) -> Vec<Option<String>> {
        let (r, mut w) = io::pipe().expect("pipe");
        let (mut lines, mut found) = (Lines::new(most), Vec::new());
        let mut all = |lines: &mut Lines| {
            while let Some(piece) = lines.take() {
                found.push(match piece {
                    Piece::Line(line) => Some(String::from_utf8(line).expect("text")),
                    Piece::TooLong => None,
                });
            }
        };
        for piece in bytes.chunks(step) {
            w.write_all(piece).expect("write");
            lines.fill(&r).expect("read");
            all(&mut lines);
        }
        drop(w);
        lines.fill(&r).expect("read");
        all(&mut lines);
        assert!(lines.ended() && lines.take().is_none());
        found
    }

    fn some(words: &[&str]) -> Vec<Option<String>> {
        words.iter().map(|w| (!w.starts_with('!')).then(|| (*w).to_owned())).collect()
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        for step in [1, 2, 3, 7, 100] {
            assert_eq!(lines(b"one\n\nthree\nlast", step, 9), some(&["one", "", "three", "last"]));
            assert_eq!(lines(b"a\nb\n", step, 9), some(&["a", "b"]));
            assert_eq!(lines(b"123\n1234\n12345678901\nok\n", step, 3), some(&["123", "!", "!", "ok"]));
            assert_eq!(lines(b"ok\n1234567", step, 3), some(&["ok", "!"]));
        }
        assert_eq!(lines(b"", 1, 3), some(&[]));
    }

    #[test]
    fn a_long_line_leaves_no_room_behind() {
        let mut lines = Lines::new(4 << 20);
        let (r, w) = io::pipe().expect("pipe");
        let writer = std::thread::spawn(move || (&w).write_all(&[vec![b'x'; 3 << 20], b"\ny\n".to_vec()].concat()));
        let mut long = None;
        while long.is_none() {
            lines.fill(&r).expect("read");
            long = lines.take();
        }
        assert!(matches!(long, Some(Piece::Line(line)) if line.len() == 3 << 20));
        writer.join().expect("no panic").expect("written");
        while lines.open() {
            lines.fill(&r).expect("read");
        }
        assert_eq!(lines.take(), Some(Piece::Line(b"y".to_vec())));
        assert!(lines.buf.capacity() < 1 << 20, "{}", lines.buf.capacity());
    }
}
