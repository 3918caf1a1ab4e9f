//! One layer on its way from an archive into a tree: reading, decompressing and hashing in one thread, unpacking in another.

use sha2::{Digest as _, Sha256};
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// What travels at once; eight of them may wait, so that neither thread is held up by the other's bad moments.
const PIECE: usize = 512 * 1024;
const PIECES: usize = 8;

/// What was read, and of what digest it was: of the archive's uncompressed bytes.
pub struct Read256<T> {
    pub value: T,
    pub sha256: [u8; 32],
}

/// Has `take` read what `source` gives, to its end, while another thread reads ahead.
///
/// # Errors
/// of `take`, or else of the source, which `take` has seen as an error of its reader.
pub fn through<T, E: From<io::Error>>(
    source: impl Read + Send,
    take: impl FnOnce(&mut dyn Read) -> Result<T, E>,
) -> Result<Read256<T>, E> {
    let (sender, receiver) = sync_channel(PIECES);
    std::thread::scope(|scope| {
        let ahead = scope.spawn(move || read_ahead(source, &sender));
        let mut reader = Pieces { receiver, piece: Vec::new(), at: 0 };
        let taken = take(&mut reader);
        // Whoever stops early has an error; who does not has read all, padding included.
        let rest = if taken.is_ok() { io::copy(&mut reader, &mut io::sink()) } else { Ok(0) };
        drop(reader);
        let sha256 = ahead.join().unwrap_or_default();
        let value = taken?;
        rest?;
        Ok(Read256 { value, sha256 })
    })
}

fn read_ahead(mut source: impl Read, to: &SyncSender<io::Result<Vec<u8>>>) -> [u8; 32] {
    let mut hash = Sha256::new();
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = source.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        hash.update(&piece);
        let last = piece.is_empty() || read.is_err();
        // What came before an error is passed on before it.
        if !piece.is_empty() && to.send(Ok(piece)).is_err() {
            break;
        }
        if let Err(e) = read {
            let _ = to.send(Err(e));
        }
        if last {
            break;
        }
    }
    hash.finalize().into()
}

struct Pieces {
    receiver: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.piece, self.at) = (piece?, 0),
                Err(_) => return Ok(0),
            }
        }
        let n = into.len().min(self.piece.len() - self.at);
        into[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// A reader that keeps a copy of all that passes.
pub struct Tee<R, W> {
    pub from: R,
    pub copy: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.from.read(into)?;
        self.copy.write_all(&into[..n])?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_arrives_in_order_and_is_hashed_to_its_end() {
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let mut copy = Vec::new();
        let tee = Tee { from: &bytes[..], copy: &mut copy };
        let read = through(tee, |from| {
            let mut first = vec![0; 1_000_000];
            from.read_exact(&mut first).map(|()| first)
        })
        .expect("read");
        assert_eq!(read.value, bytes[..1_000_000]);
        assert_eq!(read.sha256, <[u8; 32]>::from(Sha256::digest(&bytes)));
        assert_eq!(copy, bytes);
    }

    #[test]
    fn an_error_comes_after_what_came_before_it() {
        struct Broken(u32);
        impl Read for Broken {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 > 3 { Err(io::Error::other("torn")) } else { Ok(into.len().min(1000)) }
            }
        }
        let mut all = Vec::new();
        let read = through(Broken(0), |from| from.read_to_end(&mut all));
        assert!(read.is_err_and(|e| e.to_string() == "torn"));
        assert_eq!(all.len(), 3000);
        let early = through(io::repeat(1), |_| Err::<(), _>(io::Error::other("enough")));
        assert!(early.is_err_and(|e| e.to_string() == "enough"), "an endless source is left");
    }
}
