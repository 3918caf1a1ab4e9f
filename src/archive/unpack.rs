//! A layer as it comes, compressed or not, into a tree: all digests are made on the way.
//!
//! Theory of operation: one thread reads, hashes, decompresses and hashes again; the other applies. Between them is a channel of
//! buffers that go round, so that memory is bounded and neither waits for a disk that the other uses.

use super::compression::{self, Compression, Opened};
use super::layer::{Applied, Bounds, apply};
use super::refusal::{mismatch, reading};
use super::verified::Tallied;
use crate::model::fault::Fault;
use crate::model::reference::Digest;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

const BUFFER: usize = 256 * 1024;
/// Buffers on their way: 4 MiB.
const BUFFERS: usize = 16;

/// A layer in its tree, with what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    pub applied: Applied,
    /// Of the uncompressed archive.
    pub diff_id: Digest,
    /// Of the bytes as they came.
    pub blob: Digest,
    /// As they came, in bytes.
    pub size: u64,
    pub compression: Compression,
}

/// Unpacks a layer into an empty directory (`layer::apply`) and reads `blob` to its end.
///
/// # Errors
/// `archive:mismatch` if the uncompressed bytes are not those of `diff_id`; those of `compression::open` and of `layer::apply`. On
/// `Err` the directory has anything; the caller removes it.
pub fn unpack(
    blob: impl Read + Send,
    diff_id: Option<&Digest>,
    tree: BorrowedFd<'_>,
    listing: impl Write,
    bounds: &Bounds,
) -> Result<Unpacked, Fault> {
    std::thread::scope(|scope| {
        let (full, received) = sync_channel(BUFFERS);
        let (empty, returned) = channel();
        let reader = scope.spawn(move || decompress(blob, &full, &returned));
        let applied = apply(Pumped { received, empty, current: Vec::new(), at: 0 }, tree, listing, bounds);
        // A panic of the other thread is ours, and goes on here.
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // The reader's own fault has come through the channel, or ended it before anything was sent.
        let (applied, read) = match (applied, read) {
            (_, Err(fault)) | (Err(fault), Ok(_)) => return Err(fault),
            (Ok(_), Ok(None)) => return Err(Fault::ours("archive:pump", "a layer was applied before all of it was read")),
            (Ok(applied), Ok(Some(read))) => (applied, read),
        };
        match diff_id {
            Some(expected) if *expected != read.diff_id => Err(mismatch(format!(
                "the layer is {} when uncompressed; the image's configuration says {expected}",
                read.diff_id
            ))
            .hint("copy or download it again")),
            _ => Ok(Unpacked { applied, diff_id: read.diff_id, blob: read.blob, size: read.size, compression: read.compression }),
        }
    })
}

struct Sums {
    diff_id: Digest,
    blob: Digest,
    size: u64,
    compression: Compression,
}

/// Sends the uncompressed bytes until there are no more; `None` if nobody wants the rest.
fn decompress(
    blob: impl Read + Send,
    full: &SyncSender<io::Result<Vec<u8>>>,
    returned: &Receiver<Vec<u8>>,
) -> Result<Option<Sums>, Fault> {
    let mut blob = Tallied::new(blob);
    let Some((diff_id, compression)) = pass_on(compression::open(&mut blob)?, full, returned)? else { return Ok(None) };
    io::copy(&mut blob, &mut io::sink()).map_err(reading)?;
    let (blob, size) = blob.sum();
    Ok(Some(Sums { diff_id, blob, size, compression }))
}

fn pass_on(
    opened: Opened<'_>,
    full: &SyncSender<io::Result<Vec<u8>>>,
    returned: &Receiver<Vec<u8>>,
) -> Result<Option<(Digest, Compression)>, Fault> {
    let mut content = Tallied::new(opened.content);
    loop {
        let mut buffer = returned.try_recv().unwrap_or_default();
        buffer.resize(BUFFER, 0);
        match fill(&mut content, &mut buffer) {
            Ok(0) => break,
            Ok(n) => buffer.truncate(n),
            // The receiver has it as what ends its stream.
            Err(e) => {
                let fault = reading(e);
                let _ = full.send(Err(io::Error::new(io::ErrorKind::InvalidData, fault.clone())));
                return Err(fault);
            }
        }
        if full.send(Ok(buffer)).is_err() {
            return Ok(None);
        }
    }
    Ok(Some((content.sum().0, opened.compression)))
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match from.read(&mut buffer[n..]) {
            Ok(0) => break,
            Ok(more) => n += more,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

/// What the other thread sends.
struct Pumped {
    received: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

impl Read for Pumped {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.current.len() && !into.is_empty() {
            // The sender is gone: that is the end, or its fault is the one that counts.
            let Ok(next) = self.received.recv() else { return Ok(0) };
            // Nor does it matter whether the sender still wants buffers.
            let _ = self.empty.send(std::mem::replace(&mut self.current, next?));
            self.at = 0;
        }
        let n = into.len().min(self.current.len() - self.at);
        into[..n].copy_from_slice(&self.current[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
