//! Answers on their way to whoever listens: one after the other, each whole, none waited for longer than it takes.

use crate::os::pipe;
use crate::os::watch::For;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

/// One write to a file, which takes whatever it gets.
const PIECE: usize = 64 * 1024;

#[derive(Debug)]
enum Source {
    Text(Vec<u8>),
    /// A piece of a file, from this offset on.
    File(File, u64),
}

#[derive(Debug)]
struct Item<T> {
    source: Source,
    length: u64,
    gone: u64,
    tag: T,
}

/// Each answer bears a tag, which comes back when the answer is out.
#[derive(Debug)]
pub struct Outbox<'a, T> {
    out: BorrowedFd<'a>,
    items: VecDeque<Item<T>>,
    piece: usize,
    deserted: bool,
}

impl<'a, T> Outbox<'a, T> {
    pub fn new(out: BorrowedFd<'a>) -> Self {
        let file = nix::sys::stat::fstat(out).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
        // Whatever else it is: PIPE_BUF bytes do not block where poll has seen room (pipe(7)).
        Self { out, items: VecDeque::new(), piece: if file { PIECE } else { libc::PIPE_BUF }, deserted: false }
    }

    pub fn put(&mut self, text: Vec<u8>, tag: T) {
        self.add(text.len() as u64, Source::Text(text), tag);
    }

    pub fn put_file(&mut self, file: File, offset: u64, length: u64, tag: T) {
        self.add(length, Source::File(file, offset), tag);
    }

    fn add(&mut self, length: u64, source: Source, tag: T) {
        if !self.deserted {
            self.items.push_back(Item { source, length, gone: 0, tag });
        }
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether nobody listens any more.
    pub fn deserted(&self) -> bool {
        self.deserted
    }

    /// What to poll.
    pub fn source(&self) -> Option<(BorrowedFd<'a>, For)> {
        (!self.deserted).then_some((self.out, if self.items.is_empty() { For::Desertion } else { For::Write }))
    }

    /// Writes once, where poll has called for it; answers the tag of what is out with that.
    ///
    /// # Errors
    /// of read, and of write, other than that nobody listens.
    pub fn push(&mut self) -> io::Result<Option<T>> {
        let Some(item) = self.items.front_mut() else {
            self.desert(); // polled for that alone
            return Ok(None);
        };
        let left = usize::try_from(item.length - item.gone).unwrap_or(usize::MAX).min(self.piece);
        let mut piece = vec![0; left];
        match &item.source {
            Source::Text(text) => piece.copy_from_slice(&text[item.gone as usize..item.gone as usize + left]),
            Source::File(file, offset) => file.read_exact_at(&mut piece, offset + item.gone)?,
        }
        match pipe::write(self.out.as_fd(), &piece)? {
            None => self.desert(),
            Some(n) => item.gone += n as u64,
        }
        let out = self.items.front().is_some_and(|item| item.gone == item.length);
        Ok(if out { self.items.pop_front().map(|item| item.tag) } else { None })
    }

    fn desert(&mut self) {
        self.deserted = true;
        self.items.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn answers_go_out_whole_and_in_order() {
        let (mut r, w) = io::pipe().expect("pipe");
        let mut outbox = Outbox::new(w.as_fd());
        let mut file = tempfile::tempfile().expect("tempfile");
        let long = vec![b'x'; 10_000];
        file.write_all(&[b"head", &long[..], b"tail"].concat()).expect("write");
        outbox.put(b"a\n".to_vec(), 1);
        outbox.put_file(file, 4, 10_000, 2);
        let mut tags = Vec::new();
        while !outbox.is_empty() {
            assert_eq!(outbox.source().map(|(_, what)| what), Some(For::Write));
            tags.extend(outbox.push().expect("written"));
        }
        assert_eq!((tags, outbox.source().map(|(_, what)| what)), (vec![1, 2], Some(For::Desertion)));
        drop(w);
        let mut got = Vec::new();
        r.read_to_end(&mut got).expect("read");
        assert!(got == [b"a\n", &long[..]].concat());
    }

    #[test]
    fn a_listener_that_is_gone_is_noticed() {
        let (r, w) = io::pipe().expect("pipe");
        let mut outbox = Outbox::new(w.as_fd());
        outbox.put(b"a\n".to_vec(), 1);
        drop(r);
        assert_eq!(outbox.push().expect("no error"), None);
        outbox.put(b"b\n".to_vec(), 2);
        assert!(outbox.deserted() && outbox.is_empty() && outbox.source().is_none());
    }
}
